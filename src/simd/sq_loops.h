/* sq_loops.h - the walk over rows of the kernels for half floats and small whole numbers.
 *
 * A text that sq_<isa>.c includes, inside its target region, once it has defined NAME(x) and for one row each
 *
 *     NAME(f16_row)(op, q, code, dim)                the distance; op is a constant
 *     NAME(sq8_dot)(query, code, dim)                int32_t, the sum of products
 *     NAME(sq4_dot)(query, code, half)               half = (dim + 1) / 2, the bytes of a row
 *     NAME(sq8_l1_row)(a, step, code, dim), NAME(sq4_l1_row)(a, step, code, half) */

/* Rows that are fetched before they are needed. A row of 128 bytes takes some 3 ns, one from RAM 100 and more: at eight
 * rows of two or three lines the line buffers of a core are full. */
#ifndef KI_SQ_AHEAD
#define KI_SQ_AHEAD 8
KI_INLINE const uint8_t *sq_code(const void *base, size_t stride_bytes, const uint32_t *rows, size_t i)
{
    return (const uint8_t *)base + (rows ? rows[i] : i) * stride_bytes;
}
KI_INLINE void sq_fetch(const uint8_t *code, size_t bytes)
{
    if (bytes > 1024) bytes = 1024;
    for (size_t b = 0; b < bytes; b += 64) __builtin_prefetch(code + b, 0, 3);
    __builtin_prefetch(code + bytes - 1, 0, 3);
}
KI_INLINE float sq_tail(const ki_sq_query *q, const uint8_t *code)
{
    float tail;
    memcpy(&tail, code + q->tail, sizeof tail);
    return tail;
}
#endif

#define SQ_WALK(value)                                                                      \
    do {                                                                                    \
        for (size_t i = 0; i < KI_SQ_AHEAD && i < n; i++)                                   \
            sq_fetch(sq_code(base, stride_bytes, rows, i), stride_bytes);                   \
        for (size_t i = 0; i < n; i++) {                                                    \
            const uint8_t *code = sq_code(base, stride_bytes, rows, i);                     \
            if (i + KI_SQ_AHEAD < n)                                                        \
                sq_fetch(sq_code(base, stride_bytes, rows, i + KI_SQ_AHEAD), stride_bytes); \
            out[i] = (value);                                                               \
        }                                                                                   \
    } while (0)

#define F16(name, op)                                                                                   \
    static void NAME(name)(const float *q, const void *base, size_t stride_bytes, const uint32_t *rows, \
                           size_t n, size_t dim, float *out)                                            \
    {                                                                                                   \
        SQ_WALK(NAME(f16_row)(op, q, (const uint16_t *)(const void *)code, dim));                       \
    }
F16(l2sq_f16, OP_L2SQ)
F16(negdot_f16, OP_DOT)
F16(l1_f16, OP_L1)
#undef F16

#define SCORE(name, dot, bytes)                                                         \
    static void NAME(name)(const ki_sq_query *q, const void *base, size_t stride_bytes, \
                           const uint32_t *rows, size_t n, size_t dim, float *out)      \
    {                                                                                   \
        const ki_sq_query query = *q;                                                   \
        if (query.tail)                                                                 \
            SQ_WALK(query.bias + query.scale * (float)NAME(dot)(&query, code, bytes) +  \
                    sq_tail(&query, code));                                             \
        else                                                                            \
            SQ_WALK(query.bias + query.scale * (float)NAME(dot)(&query, code, bytes));  \
    }
SCORE(sq8_score, sq8_dot, dim)
SCORE(sq4_score, sq4_dot, (dim + 1) / 2)
#undef SCORE

#define L1(name, row, bytes)                                                                         \
    static void NAME(name)(const float *a, const float *step, const void *base, size_t stride_bytes, \
                           const uint32_t *rows, size_t n, size_t dim, float *out)                   \
    {                                                                                                \
        SQ_WALK(NAME(row)(a, step, code, bytes));                                                    \
    }
L1(sq8_l1, sq8_l1_row, dim)
L1(sq4_l1, sq4_l1_row, (dim + 1) / 2)
#undef L1
#undef SQ_WALK

static void NAME(enter)(ki_kernels *table)
{
    table->l2sq_f16 = NAME(l2sq_f16);
    table->negdot_f16 = NAME(negdot_f16);
    table->l1_f16 = NAME(l1_f16);
    table->sq8_score = NAME(sq8_score);
    table->sq4_score = NAME(sq4_score);
    table->sq8_l1 = NAME(sq8_l1);
    table->sq4_l1 = NAME(sq4_l1);
}
