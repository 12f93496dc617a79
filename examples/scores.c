/* scores.c - distances are for machines, smaller is nearer; scores are for people, larger is better. */
#include <stdio.h>

#include <kith/metric.h>

int main(void)
{
    const float distances[] = {0.0f, 0.25f, 1.0f};
    static const kith_metric metrics[] = {KITH_L2SQ, KITH_DOT, KITH_COSINE, KITH_L1};
    for (size_t m = 0; m < sizeof metrics / sizeof *metrics; m++) {
        printf("%-8s", kith_metric_name(metrics[m]));
        for (size_t i = 0; i < 3; i++)
            printf("  distance %.2f = score %5.2f", (double)distances[i],
                   (double)kith_metric_score(metrics[m], distances[i], 0));
        putchar('\n');
    }
    return kith_metric_score(KITH_L2SQ, 0, 0) == 1 ? 0 : 1;
}
