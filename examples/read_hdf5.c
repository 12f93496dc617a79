/* read_hdf5.c - the queries of a file in ann-benchmarks' layout: read_hdf5 glove-100-angular.hdf5 */
#include <stdio.h>

#include <kith/hdf5.h>

int main(int argc, char **argv)
{
    const char *path = argc > 1 ? argv[1] : "no-such-file.hdf5";
    kith_dataset *queries = NULL;
    kith_metric metric = KITH_L2SQ;
    kith_error err;
    kith_status status = kith_hdf5_open(path, "test", NULL, &queries, &err);
    if (status != KITH_OK) {
        printf("%s: %s\n", kith_status_name(status), err.message);
        return argc > 1 || status != KITH_NOTFOUND; /* without an argument, that is what is to be seen */
    }
    if (kith_hdf5_metric(path, &metric, &err) != KITH_OK) printf("%s\n", err.message);
    printf("%llu queries of %zu dimensions, %s\n", (unsigned long long)kith_dataset_rows(queries),
           kith_dataset_dim(queries), kith_metric_name(metric));
    kith_dataset_close(queries);
    return 0;
}
