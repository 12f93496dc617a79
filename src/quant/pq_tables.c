/* Product quantisation: the tables of a query, and the scan that adds them up.
 *
 * Tables come from the packed codebooks by one product of a row and a matrix, m * 2^bits * width multiply-adds,
 * microseconds: cheap enough that symmetric distances (SDC) need no stored table of centroid against centroid: the
 * tables of a code are those of its reconstruction. */
#include "quant/pq_internal.h"

#include <stdint.h>

/* books[] gives |q - c|^2 - |q - middle|^2. */
static void l2sq_table(const kith_pq *pq, size_t j, const float *query, float *table)
{
    ki_product_row(pq->books[j], query, table);
    float add = pq->kernels->l2sq_f32(query, pq->middle + j * pq->width, pq->width);
    for (size_t c = 0; c < pq->ks; c++) {
        float value = table[c] + add;
        table[c] = value < 0 ? 0 : value;
    }
}

void ki_pq_tables(const kith_pq *pq, const float *query, float *tables)
{
    for (size_t j = 0; j < pq->m; j++) {
        const float *segment = query + j * pq->width;
        float *table = tables + j * pq->ks;
        if (pq->metric == KITH_L2SQ)
            l2sq_table(pq, j, segment, table);
        else if (pq->metric == KITH_DOT)
            ki_product_row(pq->dots[j], segment, table);
        else
            pq->kernels->l1_f32_rows(segment, pq->codebooks + j * pq->ks * pq->width, pq->ks, pq->width,
                                     table);
    }
}

void ki_pq_dot_tables(const kith_pq *pq, const float *query, float *tables)
{
    for (size_t j = 0; j < pq->m; j++)
        ki_product_row(pq->dots[j], query + j * pq->width, tables + j * pq->ks);
}

void ki_pq_scan(const kith_pq *pq, const float *tables, const uint8_t *codes, const uint32_t *rows, size_t n,
                float bias, float *out)
{
    const ki_kernels *kernels = pq->kernels;
    if (pq->bits == 8) {
        if (rows)
            kernels->pq_gather8(tables, pq->m, codes, pq->code_size, rows, n, bias, out);
        else
            kernels->pq_scan8(tables, pq->m, codes, n, bias, out);
        return;
    }
    if (pq->bits > 8 && !rows && (uintptr_t)codes % sizeof(uint16_t) == 0) {
        kernels->pq_scan16(tables, pq->m, pq->ks, (const uint16_t *)(const void *)codes, n, bias, out);
        return;
    }
    uint16_t numbers[KI_PQ_WIDE];
    size_t chunk = KI_PQ_WIDE / pq->m;
    for (size_t i = 0; i < n; i += chunk) {
        size_t count = n - i < chunk ? n - i : chunk;
        const uint8_t *from = rows ? codes : codes + i * pq->code_size;
        ki_pq_unpack(pq, from, rows ? rows + i : NULL, count, numbers);
        kernels->pq_scan16(tables, pq->m, pq->ks, numbers, count, bias, out + i);
    }
}
