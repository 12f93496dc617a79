/* project_pca.c - points of space that lie near a plane: two components say nearly all. */
#include <stdio.h>

#include <kith/pca.h>

int main(void)
{
    enum { N = 200, DIM = 3, OUT = 2 };
    static float x[N][DIM], y[N][OUT], back[N][DIM];
    for (size_t i = 0; i < N; i++) { /* z = x + 2 y + 5, and a little noise */
        x[i][0] = (float)(i * 37 % 101) / 10;
        x[i][1] = (float)(i * 53 % 89) / 10;
        x[i][2] = x[i][0] + 2 * x[i][1] + 5 + (float)(i % 3) / 100;
    }

    kith_error err;
    kith_pca *pca;
    kith_status status = kith_pca_train(&x[0][0], N, DIM, OUT, 0, NULL, NULL, &pca, &err);
    if (status == KITH_UNSUPPORTED) { /* a build without LAPACK */
        printf("%s\n", err.message);
        return 0;
    }
    if (status != KITH_OK || kith_pca_apply(pca, &x[0][0], N, NULL, &y[0][0], &err) != KITH_OK ||
        kith_pca_reverse(pca, &y[0][0], N, NULL, &back[0][0], &err) != KITH_OK) {
        fprintf(stderr, "%s\n", err.message);
        kith_pca_free(pca);
        return 1;
    }
    double worst = 0;
    for (size_t i = 0; i < N; i++)
        for (size_t d = 0; d < DIM; d++) {
            double lost = (double)(x[i][d] - back[i][d]);
            if (lost < 0) lost = -lost;
            if (lost > worst) worst = lost;
        }
    printf("variance along the two components: %.2f and %.2f\n", (double)kith_pca_variances(pca)[0],
           (double)kith_pca_variances(pca)[1]);
    printf("a point comes back within %.4f\n", worst);
    kith_pca_free(pca);
    return worst < 0.05 ? 0 : 1;
}
