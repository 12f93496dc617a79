/* report_errors.c - a call that can fail returns a status; the error says which argument was wrong and why. */
#include <stdio.h>

#include <kith/metric.h>
#include <kith/status.h>

int main(void)
{
    kith_metric metric;
    kith_error err;
    kith_status status = kith_metric_parse("manhatten", &metric, &err);
    printf("%s (%s): %s\n", kith_status_name(status), kith_status_text(status), err.message);

    /* The error is optional: the status alone is enough to act on. */
    if (kith_metric_parse("cosine", &metric, NULL) != KITH_OK) return 1;
    return status == KITH_INVALID ? 0 : 1;
}
