/* product_loops.h - the micro kernels of the tiled product, the same for every instruction set with vectors.
 *
 * A text that product_<isa>.c includes inside its target region, once it has defined
 *
 *     vec, LANES                       a register of float and its width
 *     MR, WIDTH                        a tile is MR rows x WIDTH registers, whole panels of columns
 *     vec_load(p), vec_store(p, v), vec_set1(x), vec_add, vec_min, vec_fma(a, b, c) = a * b + c
 *     vec_any_le(a, b)                 whether some lane of a is <= that of b
 *     vec_mask_le(a, b)                the lanes that are, as bits
 *     vec_lowest(v, i, value)          *value = the least lane of v; the least of (lane of i) + (its number) among equals
 *     ROW_PANELS                       panels side by side in product_row, enough to cover the latency of the FMA
 *     SMALL_COLS, SMALL_VECS           a tile of product_small: columns x registers of rows
 *     ivec, ivec_set1(i), ivec_load(p), ivec_store(p, v), vec_lt_select(a, b, i, j): j where a < b, else i
 *     gvec, gvec_load(p), gvec_fma(x, v, s) = x * v + s, gvec_mask_eq(v, x)     SMALL_COLS lanes
 *
 * A tile's accumulators are arrays of registers: all loops over them have constant bounds and are unrolled. Fewer rows
 * than MR are done by the next smaller variant; micro-panels are filled up with zeros, and what those rows
 * give is not looked at. Where a tile spans two panels and only one is left, that one is computed twice side by
 * side and its copy not looked at: the variants would cost more code than they save time. */

#define TILE_PANELS (WIDTH * LANES / KI_PANEL) /* 1 or 2 */
#define PANEL_VECS (KI_PANEL / LANES)

/* Whether the tile that begins at `panel` is short of its second panel. */
KI_INLINE int lacks_second(const ki_tiles *t, size_t panel)
{
    return TILE_PANELS == 2 && panel + 1 == t->panels;
}

/* Register w of a tile: which panel and which part of it. */
KI_INLINE size_t panel_of(const ki_tiles *t, size_t panel, const int w)
{
    return w < PANEL_VECS || lacks_second(t, panel) ? panel : panel + 1;
}

KI_INLINE void tile_start(const ki_tiles *t, size_t panel, const int rows, vec sum[MR][WIDTH])
{
    KI_UNROLL
    for (int w = 0; w < WIDTH; w++) {
        size_t column = panel_of(t, panel, w) * KI_PANEL + (size_t)(w % PANEL_VECS * LANES);
        if (t->start) {
            vec v = vec_load(t->start + column);
            KI_UNROLL
            for (int r = 0; r < rows; r++) sum[r][w] = v;
        } else {
            KI_UNROLL
            for (int r = 0; r < rows;
                 r++) { /* rows beyond t->rows have no place in c: they repeat the last */
                size_t row = (size_t)r < t->rows ? (size_t)r : t->rows - 1;
                sum[r][w] = vec_load(t->c + row * t->ldc + column);
            }
        }
    }
}

/* The chains of one tile. */
KI_INLINE void tile_run(const ki_tiles *t, size_t panel, const int rows, vec sum[MR][WIDTH])
{
    tile_start(t, panel, rows, sum);
    const float *a = t->a, *b0 = t->b + panel * t->b_stride;
    const float *b1 = t->b + panel_of(t, panel, WIDTH - 1) * t->b_stride;
    for (size_t d = t->k; d; d--, a += MR, b0 += KI_PANEL, b1 += KI_PANEL) {
        vec b[WIDTH];
        KI_UNROLL
        for (int w = 0; w < WIDTH; w++) b[w] = vec_load((w < PANEL_VECS ? b0 : b1) + w % PANEL_VECS * LANES);
        KI_UNROLL
        for (int r = 0; r < rows; r++) {
            vec x = vec_set1(a[r]);
            KI_UNROLL
            for (int w = 0; w < WIDTH; w++) sum[r][w] = vec_fma(x, b[w], sum[r][w]);
        }
    }
}

KI_INLINE vec tile_row_min(const vec sum[WIDTH])
{
    vec least = sum[0];
    KI_UNROLL
    for (int w = 1; w < WIDTH; w++) least = vec_min(least, sum[w]);
    return least;
}

/* --- store -------------------------------------------------------------------------------------------------------*/

KI_INLINE void store_rows(const ki_tiles *t, const int rows)
{
    for (size_t panel = 0; panel < t->panels; panel += TILE_PANELS) {
        vec sum[MR][WIDTH];
        tile_run(t, panel, rows, sum);
        KI_UNROLL
        for (int r = 0; r < rows; r++) {
            if ((size_t)r >= t->rows) continue;
            float *c = t->c + (size_t)r * t->ldc + panel * KI_PANEL;
            KI_UNROLL
            for (int w = 0; w < WIDTH; w++)
                if (w < PANEL_VECS || !lacks_second(t, panel)) vec_store(c + w * LANES, sum[r][w]);
        }
    }
}

/* --- argmin ------------------------------------------------------------------------------------------------------
 * The running minimum of each lane and its column are kept apart for all lanes of a row, without a branch: six
 * operations a row and register pair. A test "is anything in this tile better than the row's best" would be cheaper
 * when it is hardly ever true, but among the first hundred tiles it mostly is, for one of the rows, and mispredicted. */

typedef struct lanes_best {
    float value[MR][LANES];
    uint32_t column[MR][LANES]; /* of the register's first lane */
} lanes_best;

KI_INLINE void argmin_rows(const ki_tiles *t, const int rows, uint32_t first, float *best, uint32_t *index)
{
    lanes_best lanes;
    for (int r = 0; r < rows; r++) {
        vec_store(lanes.value[r], vec_set1(INFINITY));
        ivec_store(lanes.column[r], ivec_set1(0));
    }
    for (size_t panel = 0; panel < t->panels; panel += TILE_PANELS) {
        vec sum[MR][WIDTH];
        tile_run(t, panel, rows, sum);
        KI_UNROLL
        for (int r = 0; r < rows; r++) {
            vec lowest = vec_load(lanes.value[r]);
            ivec column = ivec_load(lanes.column[r]);
            KI_UNROLL
            for (int w = 0; w < WIDTH; w++) {
                column =
                    vec_lt_select(sum[r][w], lowest, column, ivec_set1((int)(panel * KI_PANEL) + w * LANES));
                lowest = vec_min(sum[r][w], lowest);
            }
            vec_store(lanes.value[r], lowest);
            ivec_store(lanes.column[r], column);
        }
    }
    for (size_t r = 0; r < t->rows; r++) {
        float value;
        uint32_t column = vec_lowest(vec_load(lanes.value[r]), ivec_load(lanes.column[r]), &value);
        if (value < best[r]) best[r] = value, index[r] = first + column;
    }
}

/* --- below ---------------------------------------------------------------------------------------------------------*/

KI_INLINE void below_tile(const ki_tiles *t, size_t panel, const float values[MR][WIDTH * LANES],
                          uint32_t first, const float *limit, ki_tile_visit visit, void *ctx)
{
    for (size_t r = 0; r < t->rows; r++) {
        vec most = vec_set1(limit[r]);
        uint32_t mask = 0;
        for (int w = 0; w < WIDTH; w++)
            if (w < PANEL_VECS || !lacks_second(t, panel))
                mask |= vec_mask_le(vec_load(values[r] + w * LANES), most) << (w * LANES);
        if (mask) visit(ctx, r, first + (uint32_t)(panel * KI_PANEL), values[r], mask);
    }
}

KI_INLINE void below_rows(const ki_tiles *t, const int rows, uint32_t first, const float *add,
                          const float *limit, ki_tile_visit visit, void *ctx)
{
    for (size_t panel = 0; panel < t->panels; panel += TILE_PANELS) {
        vec sum[MR][WIDTH];
        tile_run(t, panel, rows, sum);
        int found = 0;
        KI_UNROLL
        for (int r = 0; r < rows; r++) {
            if ((size_t)r >= t->rows) continue;
            vec plus = vec_set1(add[r]); /* rounding is monotonic: min and then add is add and then min */
            found |= vec_any_le(vec_add(tile_row_min(sum[r]), plus), vec_set1(limit[r]));
        }
        if (!found) continue;
        float values[MR][WIDTH * LANES];
        KI_UNROLL
        for (int r = 0; r < rows; r++) {
            vec plus = vec_set1((size_t)r < t->rows ? add[r] : 0);
            KI_UNROLL
            for (int w = 0; w < WIDTH; w++) vec_store(values[r] + w * LANES, vec_add(sum[r][w], plus));
        }
        below_tile(t, panel, values, first, limit, visit, ctx);
    }
}

/* --- a single row ------------------------------------------------------------------------------------------------*/

KI_INLINE void row_panels(const float *x, size_t k, const float *b, size_t b_stride, const float *start,
                          float *out, const int panels)
{
    vec sum[ROW_PANELS][PANEL_VECS];
    KI_UNROLL
    for (int p = 0; p < panels; p++) {
        KI_UNROLL
        for (int w = 0; w < PANEL_VECS; w++) sum[p][w] = vec_load(start + p * KI_PANEL + w * LANES);
    }
    for (size_t d = 0; d < k; d++, b += KI_PANEL) {
        vec v = vec_set1(x[d]);
        KI_UNROLL
        for (int p = 0; p < panels; p++) {
            KI_UNROLL
            for (int w = 0; w < PANEL_VECS; w++)
                sum[p][w] = vec_fma(v, vec_load(b + (size_t)p * b_stride + w * LANES), sum[p][w]);
        }
    }
    KI_UNROLL
    for (int p = 0; p < panels; p++) {
        KI_UNROLL
        for (int w = 0; w < PANEL_VECS; w++) vec_store(out + p * KI_PANEL + w * LANES, sum[p][w]);
    }
}

static void product_row(const float *x, size_t k, const float *b, size_t b_stride, size_t panels,
                        const float *start, float *out)
{
    size_t p = 0;
    for (; p + ROW_PANELS <= panels; p += ROW_PANELS)
        row_panels(x, k, b + p * b_stride, b_stride, start + p * KI_PANEL, out + p * KI_PANEL, ROW_PANELS);
    for (; p + ROW_PANELS / 2 <= panels; p += ROW_PANELS / 2)
        row_panels(x, k, b + p * b_stride, b_stride, start + p * KI_PANEL, out + p * KI_PANEL,
                   ROW_PANELS / 2);
    for (; p < panels; p++)
        row_panels(x, k, b + p * b_stride, b_stride, start + p * KI_PANEL, out + p * KI_PANEL, 1);
}

/* --- few components ------------------------------------------------------------------------------------------------
 * Rows in the lanes, columns broadcast, so that the search for the minimum goes across registers. Tracking every
 * column would cost three operations each beside its k multiply-adds; here a group of SMALL_COLS columns costs
 * SMALL_COLS - 1 minima and three operations. What is tracked is the group; the column in it is found at the end. */

/* One group against some rows: the least of its columns for each row. */
KI_INLINE void small_group(const float *xt, size_t k, const float *b, const float *start,
                           vec least[SMALL_VECS])
{
    vec v[SMALL_COLS][SMALL_VECS];
    KI_UNROLL
    for (int c = 0; c < SMALL_COLS; c++) {
        vec s = vec_set1(start[c]);
        KI_UNROLL
        for (int i = 0; i < SMALL_VECS; i++) v[c][i] = s;
    }
    KI_ROLLED
    for (size_t d = 0; d < k; d++, xt += KI_SMALL_ROWS, b += KI_PANEL) {
        vec x[SMALL_VECS];
        KI_UNROLL
        for (int i = 0; i < SMALL_VECS; i++) x[i] = vec_load(xt + i * LANES);
        KI_UNROLL
        for (int c = 0; c < SMALL_COLS; c++) {
            vec y = vec_set1(b[c]);
            KI_UNROLL
            for (int i = 0; i < SMALL_VECS; i++) v[c][i] = vec_fma(x[i], y, v[c][i]);
        }
    }
    KI_UNROLL
    for (int i = 0; i < SMALL_VECS; i++) {
        least[i] = vec_min(v[0][i], v[1][i]);
        KI_UNROLL
        for (int c = 2; c < SMALL_COLS; c += 2) least[i] = vec_min(least[i], vec_min(v[c][i], v[c + 1][i]));
    }
}

/* Which column of its best group gave a row its best value: the group's chains once more, for that row alone, four rows
 * side by side. index[4] holds the groups and is overwritten. */
KI_INLINE void small_resolve(const float *x, size_t k, const float *b, size_t b_stride, const float *start,
                             const float *best, uint32_t *index)
{
    const size_t groups = KI_PANEL / SMALL_COLS;
    const float *at[4];
    gvec sum[4];
    KI_UNROLL
    for (int r = 0; r < 4; r++) {
        at[r] = b + index[r] / groups * b_stride + index[r] % groups * SMALL_COLS;
        sum[r] = gvec_load(start + (size_t)index[r] * SMALL_COLS);
    }
    for (size_t d = 0; d < k; d++) {
        KI_UNROLL
        for (int r = 0; r < 4; r++)
            sum[r] = gvec_fma(x[d * KI_SMALL_ROWS + (size_t)r], gvec_load(at[r] + d * KI_PANEL), sum[r]);
    }
    KI_UNROLL
    for (int r = 0; r < 4; r++) {
        uint32_t equal = gvec_mask_eq(sum[r], best[r]);
        index[r] =
            equal ? index[r] * SMALL_COLS + (uint32_t)__builtin_ctz(equal) : 0; /* 0: nothing was finite */
    }
}

KI_INLINE void small(const float *xt, const size_t k, const float *b, size_t b_stride, size_t panels,
                     const float *start, float *best, uint32_t *index)
{
    const size_t groups = KI_PANEL / SMALL_COLS;
    for (size_t rows = 0; rows < KI_SMALL_ROWS; rows += SMALL_VECS * LANES) {
        vec lowest[SMALL_VECS];
        ivec group[SMALL_VECS];
        KI_UNROLL
        for (int i = 0; i < SMALL_VECS; i++) lowest[i] = vec_set1(INFINITY), group[i] = ivec_set1(0);
        for (size_t g = 0; g < groups * panels; g++) {
            vec least[SMALL_VECS];
            small_group(xt + rows, k, b + g / groups * b_stride + g % groups * SMALL_COLS,
                        start + g * SMALL_COLS, least);
            ivec number = ivec_set1((int)g);
            KI_UNROLL
            for (int i = 0; i < SMALL_VECS; i++) {
                group[i] = vec_lt_select(least[i], lowest[i], group[i], number);
                lowest[i] = vec_min(least[i], lowest[i]);
            }
        }
        for (int i = 0; i < SMALL_VECS; i++) {
            vec_store(best + rows + i * LANES, lowest[i]);
            ivec_store(index + rows + i * LANES, group[i]);
        }
    }
    for (size_t r = 0; r < KI_SMALL_ROWS; r += 4)
        small_resolve(xt + r, k, b, b_stride, start, best + r, index + r);
}

/* The usual numbers of components get loops without a count. */
static void product_small(const float *xt, size_t k, const float *b, size_t b_stride, size_t panels,
                          const float *start, float *best, uint32_t *index)
{
    switch (k) {
    case 4: small(xt, 4, b, b_stride, panels, start, best, index); break;
    case 8: small(xt, 8, b, b_stride, panels, start, best, index); break;
    case 16: small(xt, 16, b, b_stride, panels, start, best, index); break;
    default: small(xt, k, b, b_stride, panels, start, best, index); break;
    }
}

/* --- The variants by number of rows ----------------------------------------------------------------------------------*/

#define BY_ROWS(call)          \
    if (t->rows > 2 * MR / 3)  \
        call(MR);              \
    else if (t->rows > MR / 3) \
        call(2 * MR / 3);      \
    else if (t->rows > 1)      \
        call(MR / 3);          \
    else                       \
        call(1)

static void product_store(const ki_tiles *t)
{
#define STORE(rows) store_rows(t, rows)
    BY_ROWS(STORE);
}

static void product_argmin(const ki_tiles *t, uint32_t first, float *best, uint32_t *index)
{
#define ARGMIN(rows) argmin_rows(t, rows, first, best, index)
    BY_ROWS(ARGMIN);
}

static void product_below(const ki_tiles *t, uint32_t first, const float *add, const float *limit,
                          ki_tile_visit visit, void *ctx)
{
#define BELOW(rows) below_rows(t, rows, first, add, limit, visit, ctx)
    BY_ROWS(BELOW);
}

static void enter(ki_kernels *table)
{
    table->product_mr = MR;
    table->product_store = product_store;
    table->product_argmin = product_argmin;
    table->product_below = product_below;
    table->product_row = product_row;
    table->product_small = product_small;
}
