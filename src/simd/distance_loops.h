/* distance_loops.h - the loops of the distance kernels, the same for every instruction set with vectors.
 *
 * A text that distance_<isa>.c includes inside its target region, once it has defined
 *
 *     vec, LANES                 a register of float and its width
 *     vec_zero(), vec_load(p), vec_load_head(p, n)       n < LANES floats and zeros behind them; reads nothing else
 *     vec_add(a, b), vec_l2sq(sum, a, b), vec_dot(sum, a, b), vec_l1(sum, a, b)      sum plus one more term per lane
 *     vec_reduce(v), vec_reduce4(v, out)                 the sum of the lanes, in one fixed tree for both
 *
 * A row has two partial sums: even registers go to the first, odd ones to the second, the incomplete last one to
 * the second. That, and the fixed tree, is the order of summation of every kernel here, be it called for one
 * row or for four side by side, which is what fills the pipeline: 4 rows x 2 sums cover the latency of the FMA. */

#define AHEAD_BYTES 2048
#define PREFETCH_BYTES 1024 /* of each row to come; beyond that the hardware has seen the pattern */

typedef enum op { OP_L2SQ, OP_DOT, OP_L1 } op;

KI_INLINE vec step(const op o, vec sum, vec a, vec b)
{
    return o == OP_L2SQ ? vec_l2sq(sum, a, b) : o == OP_DOT ? vec_dot(sum, a, b) : vec_l1(sum, a, b);
}

/* The terms of one register of a query and of each row; `squares` of the rows too, unless it is NULL. */
KI_INLINE void terms(const op o, const int rows, vec q, const vec x[4], vec sum[4], vec *squares)
{
    KI_UNROLL
    for (int r = 0; r < rows; r++) {
        sum[r] = step(o, sum[r], q, x[r]);
        if (squares) squares[r] = vec_dot(squares[r], x[r], x[r]);
    }
}

/* One query against `rows` (1 or 4, constant) rows; `squares` NULL or the sums of squares of the rows. */
KI_INLINE void sums(const op o, const int rows, const float *q, const float *const x[], size_t dim,
                    vec total[], vec *squares)
{
    vec even[4], odd[4], even_squares[4], odd_squares[4], v[4];
    KI_UNROLL
    for (int r = 0; r < rows; r++) even[r] = odd[r] = even_squares[r] = odd_squares[r] = vec_zero();
    size_t d = 0;
    for (; d + 2 * LANES <= dim; d += 2 * LANES) {
        KI_UNROLL
        for (int r = 0; r < rows; r++) v[r] = vec_load(x[r] + d);
        terms(o, rows, vec_load(q + d), v, even, squares ? even_squares : NULL);
        KI_UNROLL
        for (int r = 0; r < rows; r++) v[r] = vec_load(x[r] + d + LANES);
        terms(o, rows, vec_load(q + d + LANES), v, odd, squares ? odd_squares : NULL);
    }
    if (d + LANES <= dim) {
        KI_UNROLL
        for (int r = 0; r < rows; r++) v[r] = vec_load(x[r] + d);
        terms(o, rows, vec_load(q + d), v, even, squares ? even_squares : NULL);
        d += LANES;
    }
    if (d < dim) {
        KI_UNROLL
        for (int r = 0; r < rows; r++) v[r] = vec_load_head(x[r] + d, dim - d);
        terms(o, rows, vec_load_head(q + d, dim - d), v, odd, squares ? odd_squares : NULL);
    }
    KI_UNROLL
    for (int r = 0; r < rows; r++) {
        total[r] = vec_add(even[r], odd[r]);
        if (squares) squares[r] = vec_add(even_squares[r], odd_squares[r]);
    }
}

KI_INLINE float one(const op o, const float *a, const float *b, size_t dim)
{
    vec total[1];
    sums(o, 1, a, &b, dim, total, NULL);
    return vec_reduce(total[0]);
}

static float l2sq_f32(const float *a, const float *b, size_t dim)
{
    return one(OP_L2SQ, a, b, dim);
}

static float dot_f32(const float *a, const float *b, size_t dim)
{
    return one(OP_DOT, a, b, dim);
}

static float l1_f32(const float *a, const float *b, size_t dim)
{
    return one(OP_L1, a, b, dim);
}

static float norm2_f32(const float *a, size_t dim)
{
    return one(OP_DOT, a, a, dim);
}

/* Four rows, out[4]. For COSINE see cosine4. */
KI_INLINE void four(const op o, const float *q, const float *const x[4], size_t dim, const int negate,
                    float *out)
{
    vec total[4];
    sums(o, 4, q, x, dim, total, NULL);
    vec_reduce4(total, out);
    if (negate)
        for (int r = 0; r < 4; r++) out[r] = -out[r];
}

KI_INLINE void cosine4(const float *q, float q_norm2, const float *const x[4], size_t dim, float *out)
{
    float dot[4], norm2[4];
    vec total[4], squares[4];
    sums(OP_DOT, 4, q, x, dim, total, squares);
    vec_reduce4(total, dot);
    vec_reduce4(squares, norm2);
    for (int r = 0; r < 4; r++) out[r] = ki_cosine_of(dot[r], q_norm2, norm2[r]);
}

KI_INLINE float cosine1(const float *q, float q_norm2, const float *x, size_t dim)
{
    vec total[1], squares[1];
    sums(OP_DOT, 1, q, &x, dim, total, squares);
    return ki_cosine_of(vec_reduce(total[0]), q_norm2, vec_reduce(squares[0]));
}

static float cosine_f32(const float *a, const float *b, size_t dim)
{
    return cosine1(a, norm2_f32(a, dim), b, dim);
}

KI_INLINE void prefetch_row(const void *row, size_t bytes)
{
    if (bytes > PREFETCH_BYTES) bytes = PREFETCH_BYTES;
    for (size_t b = 0; b < bytes; b += 64) __builtin_prefetch((const char *)row + b, 0, 3);
}

/* The four rows after the next four of a scan. The hardware sees the stream as well, but stops at the end of each page of
 * 4 KiB and leaves a hole there: with this a scan of RAM goes from 82 to 96 % of read bandwidth at dim 128, from 62 to
 * 91 % for the cosine (bench/micro, 2026-11). Data that lies in L2 already pays up to a third for it. */
KI_INLINE void prefetch_ahead(const void *p, size_t bytes)
{
    if (bytes > AHEAD_BYTES) return; /* long rows: few holes, and the hardware is far enough ahead */
    for (size_t b = 0; b < bytes; b += 64) __builtin_prefetch((const char *)p + b, 0, 3);
}

#define ROWS(name, one_row, four_rows)                                                 \
    static void name(const float *q, const float *x, size_t n, size_t dim, float *out) \
    {                                                                                  \
        float q_norm2 = COSINE_NORM(q, dim);                                           \
        (void)q_norm2;                                                                 \
        size_t i = 0;                                                                  \
        for (; i + 4 <= n; i += 4, x += 4 * dim) {                                     \
            const float *row[4] = {x, x + dim, x + 2 * dim, x + 3 * dim};              \
            if (n - i > 12) prefetch_ahead(x + 8 * dim, 4 * dim * sizeof(float));      \
            four_rows;                                                                 \
        }                                                                              \
        for (; i < n; i++, x += dim) {                                                 \
            const float *row[1] = {x};                                                 \
            one_row;                                                                   \
        }                                                                              \
    }

#define GATHER(name, one_row, four_rows)                                                                    \
    static void name(const float *q, const void *base, size_t stride_bytes, const uint32_t *rows, size_t n, \
                     size_t dim, float *out)                                                                \
    {                                                                                                       \
        float q_norm2 = COSINE_NORM(q, dim);                                                                \
        (void)q_norm2;                                                                                      \
        size_t i = 0;                                                                                       \
        for (size_t ahead = 0; ahead < 4 && ahead < n; ahead++)                                             \
            prefetch_row(ki_row_at(base, stride_bytes, rows[ahead]), dim * sizeof(float));                  \
        for (; i + 4 <= n; i += 4) {                                                                        \
            const float *row[4];                                                                            \
            for (size_t r = 0; r < 4; r++) row[r] = ki_row_at(base, stride_bytes, rows[i + r]);             \
            for (size_t ahead = i + 4; ahead < i + 8 && ahead < n; ahead++)                                 \
                prefetch_row(ki_row_at(base, stride_bytes, rows[ahead]), dim * sizeof(float));              \
            four_rows;                                                                                      \
        }                                                                                                   \
        for (; i < n; i++) {                                                                                \
            const float *row[1] = {ki_row_at(base, stride_bytes, rows[i])};                                 \
            one_row;                                                                                        \
        }                                                                                                   \
    }

#define COSINE_NORM(q, dim) 0
ROWS(l2sq_f32_rows, out[i] = l2sq_f32(q, row[0], dim), four(OP_L2SQ, q, row, dim, 0, out + i))
ROWS(dot_f32_rows, out[i] = dot_f32(q, row[0], dim), four(OP_DOT, q, row, dim, 0, out + i))
ROWS(negdot_f32_rows, out[i] = -dot_f32(q, row[0], dim), four(OP_DOT, q, row, dim, 1, out + i))
ROWS(l1_f32_rows, out[i] = l1_f32(q, row[0], dim), four(OP_L1, q, row, dim, 0, out + i))
GATHER(l2sq_f32_gather, out[i] = l2sq_f32(q, row[0], dim), four(OP_L2SQ, q, row, dim, 0, out + i))
GATHER(negdot_f32_gather, out[i] = -dot_f32(q, row[0], dim), four(OP_DOT, q, row, dim, 1, out + i))
GATHER(l1_f32_gather, out[i] = l1_f32(q, row[0], dim), four(OP_L1, q, row, dim, 0, out + i))
#undef COSINE_NORM
#define COSINE_NORM(q, dim) norm2_f32(q, dim)
#define COSINE_ONE out[i] = cosine1(q, q_norm2, row[0], dim)
ROWS(cosine_f32_rows, COSINE_ONE, cosine4(q, q_norm2, row, dim, out + i))
GATHER(cosine_f32_gather, COSINE_ONE, cosine4(q, q_norm2, row, dim, out + i))

static void norm2_f32_rows(const float *x, size_t stride, size_t n, size_t dim, float *out)
{
    for (size_t i = 0; i < n; i++) out[i] = norm2_f32(x + i * stride, dim);
}

static void enter(ki_kernels *table)
{
    table->l2sq_f32 = l2sq_f32;
    table->dot_f32 = dot_f32;
    table->l1_f32 = l1_f32;
    table->cosine_f32 = cosine_f32;
    table->norm2_f32 = norm2_f32;
    table->l2sq_f32_rows = l2sq_f32_rows;
    table->dot_f32_rows = dot_f32_rows;
    table->negdot_f32_rows = negdot_f32_rows;
    table->l1_f32_rows = l1_f32_rows;
    table->cosine_f32_rows = cosine_f32_rows;
    table->norm2_f32_rows = norm2_f32_rows;
    table->l2sq_f32_gather = l2sq_f32_gather;
    table->negdot_f32_gather = negdot_f32_gather;
    table->l1_f32_gather = l1_f32_gather;
    table->cosine_f32_gather = cosine_f32_gather;
}
