/* qg.c - a quantized graph: a row a vertex holds all that a step of a walk reads, in one piece.
 *
 * The idea. What a walk through a graph waits for is memory: HNSW reads the links of a vertex, then a vector at a random
 * place for each neighbour. Here the row of a vertex holds its own vector, the numbers of its R neighbours, and a code of
 * a bit a component of each, so a step is one random read of some lines that lie side by side. The distances to all
 * neighbours are estimated in registers, by look-ups; the true distance is taken of the rows that the walk looks at, and
 * only of these. They are what a query returns: nothing is left to be ranked again.
 *
 * Papers. Y. Gou, J. Gao, Y. Xu, C. Long, "SymphonyQG: towards symphonious integration of quantization and graph for
 * approximate nearest neighbor search", SIGMOD 2025: the row, the codes, the search. J. Gao, C. Long, "RaBitQ: quantizing
 * high-dimensional vectors with a theoretical error bound for approximate nearest neighbor search", SIGMOD 2024: the
 * code and its estimate (qg_point.c). Our ways apart from them:
 *   - The vector in a row is what the codec makes of it: with SQ8 bytes stay exact in a quarter of the room. Two half
 *     floats a link instead of three floats. 960 bytes where SymphonyQG has 1,536 (128 components, 32 links).
 *   - Codes are of principal components, with two bits each where half as many do.
 *   - The next row is chosen, and all of it fetched, before this one is looked at, so that the reads of one step run
 *     under the arithmetic of the other. The price is that a row is chosen one step before all that is known by then has
 *     entered the pool.
 *   - A row enters the pool once: what was in it is marked. Estimates beyond the worst of a full pool are not marked,
 *     so a better estimate, from another neighbour, can still bring the row in.
 *   - The graph is made by insertion, each row by a walk through the graph as it is, in batches as HNSW's (hnsw_build.c); a
 *     link back is fitted in at once (qg_links.c), so rows can be added and removed at any time.
 *   - Links that the heuristic leaves out fill a row up: its room is read in any case. They are marked as fillers, have no
 *     links back, and give way first. One is left out where another leads alpha times nearer to its end (robust pruning,
 *     Subramanya et al. 2019), 1.05 times in rows of 32 links and more: rows that few lead to are found more often.
 *   - Walks begin at the root, a row of the mean of all with some hundreds of neighbours (qg_root.c). Rows that no path
 *     leads to stand there too, or hang on one another where they are many: so every row is reached, which check proves.
 *   - Under the dot product rows are linked by it as well. Links by |x - y|^2, or by that of rows made equally long by one more
 *     component (Bachrach et al., "Speeding up the Xbox recommender system", RecSys 2014), find far less: recall@10 at ef 50 was
 *     0.39 and 0.47 instead of 0.85 (30,000 rows of 32 components, lengths exp(0.5 N(0, 1)) times a normal row's).
 *   - Equal rows are one vertex with a ring of slots (qg_rings.c). They are known by a hash: under the dot product a row is not
 *     near its copy. The table is made by the first add after opening or removing, which reads every vector once.
 *
 * Layout of a row: codes of 16 neighbours at a time (kernels.def, qg_near), the half floats `add` and `mul` of each, the
 * links, the vector's own factors and code. To the next line of the cache where that costs little.
 *
 * Invariants:
 *   Q1  slots in use stand in exactly one ring each; all vectors of a ring are equal, one slot of it stands in the graph
 *   Q2  links lead from rows in the graph to others there, none twice; used places come first; the factor `add` of places
 *       without a link is infinity, so that no walk takes them
 *   Q3  entries are rows in the graph, the sample first, which is empty only where the graph is
 *   Q4  from the entries every row in the graph is reached
 *   Q5  codes are such as the codec can score; float32 rows are finite
 *
 * Cost:        add     a walk with ef_construction; some ef_construction x R distances of selection, some 32 for each link
 *                      back; a call of many rows looks through all links once (Q4), one of few proves what it changed
 *              search  some ef + 5 rows read
 *              remove  a pass over all links; rows that lost some choose again: remove many rows by one call
 *              memory  R (bits / 8 + 8) + code_size bytes a row; 8 more a row once two are equal, 8 to 16 where rows were added
 *              open    every link is looked at once, mapped or not
 * Sections:    "qg" (record), "qg.mean", "qg.entries", "qg.entry_codes", "qg.entry_add", "qg.entry_mul", "qg.rows"; where
 *              fewer components are coded than there are "qg.basis", where two rows are equal "qg.next" and "qg.nodes".
 */
#include "index/qg_internal.h"

#include <kith/pca.h>

#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/run.h"

#define PREFIX "qg"

#define LEAST_BITS 128 /* of a code, unless told otherwise: with fewer, estimates are too rough to walk by */
#define ENOUGH 0.9     /* of the variance */
#define NEARLY_ALL 0.915 /* of it: components have two bits then (docs/design/004-qg.md) */
#define LEAST_ROWS 16    /* to learn the mean from */

static const kith_param_info params[] = {
    [KI_QG_EF] = {"ef", KITH_PARAM_INT, KITH_AT_SEARCH, 1, 1 << 20, 100,
                  "rows that a walk keeps (never fewer than k); more is slower and finds more"},
    [KI_QG_SPARE] = {"spare", KITH_PARAM_FLOAT, KITH_AT_SEARCH, -1, 16, -1,
                     "rows beyond ef, as a multiple of it, whose true distance is taken at the end; -1: 1 "
                     "where codes have "
                     "fewer than half as many bits as vectors have components, else 0; rows of uneven length "
                     "under the dot product take 3"},
    [KI_QG_REACH] =
        {"reach", KITH_PARAM_FLOAT, KITH_AT_SEARCH, 0, 16, 0,
         "rows are looked at whose estimated distance is farther than the k-th found by this share of "
         "it; 0: however far"},
    [KI_QG_SCAN_BELOW] = {"scan_below", KITH_PARAM_INT, KITH_AT_SEARCH, 0, 1000, 10,
                          "all rows are compared where there are no more than this many times ef; 0: never"},
    [KI_QG_EF_CONSTRUCTION] = {"ef_construction", KITH_PARAM_INT, KITH_AT_BUILD, 16, 512, 128,
                               "rows that a walk keeps while rows are added; more builds slower and better"},
    [KI_QG_ALPHA] =
        {"alpha", KITH_PARAM_FLOAT, KITH_AT_BUILD, 0, 4, 0,
         "a link is the first to give way where another leads this many times nearer to its end; below 1: "
         "1.05 where rows have 32 links and more, else 1"},
};

/* ---- Create and free ---- */

static size_t up(size_t n, size_t unit)
{
    return (n + unit - 1) / unit * unit;
}

static void lay_out(ki_qg_layout *at, size_t degree, size_t bits, const ki_codec *codec)
{
    at->degree = degree;
    at->blocks = degree / KI_QG_BLOCK;
    at->bits = bits;
    at->steps = bits / KI_QG_STEP;
    at->add = degree * bits / 8;
    at->mul = at->add + degree * sizeof(uint16_t);
    at->links = at->mul + degree * sizeof(uint16_t);
    at->factor = at->links + degree * sizeof(uint32_t);
    at->code = at->factor + codec->n_factors * sizeof(float);
    size_t bytes = up(at->code + codec->code_size, sizeof(float)), lines = up(bytes, KI_CACHE_LINE);
    at->stride = lines - bytes <= bytes / 12 ? lines : bytes;
}

/* Bits of a code that keeps all components. */
static size_t bits_of_all(size_t dim)
{
    size_t bits = up(dim < LEAST_BITS ? LEAST_BITS : dim, KI_QG_STEP);
    return bits < KI_QG_STEP * KI_QG_STEPS ? bits : KI_QG_STEP * KI_QG_STEPS;
}

/* Lay out codes of so many bits: at train and load, when that is known. */
static kith_status set_up(ki_qg *g, size_t bits, size_t planes, int reduced, kith_error *err)
{
    const ki_structure_env *env = g->base.env;
    lay_out(&g->at, (size_t)env->args[0], bits, env->codec);
    ki_qg_turn_clear(&g->turn, env->allocator);
    return ki_qg_turn_init(&g->turn, env->dim, bits / planes, planes, env->seed, reduced, env->allocator,
                           err);
}

static kith_status qg_create(const ki_structure_env *env, ki_structure **structure, kith_error *err)
{
    *structure = NULL;
    size_t degree = (size_t)env->args[0], bits = (size_t)env->args[1];
    if (degree % KI_QG_BLOCK != 0)
        return ki_fail(err, KITH_INVALID, "R is %zu, allowed multiples of %d", degree, KI_QG_BLOCK);
    if (bits % KI_QG_STEP != 0)
        return ki_fail(err, KITH_INVALID, "b is %zu, allowed multiples of %d", bits, KI_QG_STEP);
    ki_qg *g = ki_alloc_zero(env->allocator, 1, sizeof *g);
    if (!g) return ki_fail_nomem(err, sizeof *g);
    g->base.env = env;
    *structure = &g->base;
    return KITH_OK;
}

static void qg_free(ki_structure *structure)
{
    ki_qg *g = (ki_qg *)structure;
    const kith_allocator *allocator = structure->env->allocator;
    ki_qg_remover_free(g);
    ki_qg_root_clear(g);
    ki_qg_turn_clear(&g->turn, allocator);
    ki_free(allocator, g->own_rows);
    ki_free(allocator, g->used);
    ki_free(allocator, g->next);
    ki_free(allocator, g->prev);
    ki_qg_twins_forget(g);
    ki_free(allocator, g);
}

/* ---- Train ---- */

#define TRAIN_ROWS 65536

/* The mean, and the mean distance to it. */
static void learn_mean(ki_qg *g, const float *x, size_t n)
{
    size_t dim = g->turn.dim;
    double spread = 0;
    for (size_t d = 0; d < dim; d++) {
        double sum = 0;
        for (size_t i = 0; i < n; i++) sum += (double)x[i * dim + d];
        g->turn.mean[d] = (float)(sum / (double)n);
    }
    for (size_t i = 0; i < n; i++) {
        double norm2 = 0;
        for (size_t d = 0; d < dim; d++) {
            double off = (double)x[i * dim + d] - (double)g->turn.mean[d];
            norm2 += off * off;
        }
        spread += norm2 / (double)n;
    }
    g->turn.length = (float)fmin(fmax(sqrt(spread), 1e-15), 1e15);
}

/* How many principal components hold nearly all of the variance; all of them where they are not known. A multiple of
 * KI_QG_STEP. */
static size_t components_that_do(const kith_pca *pca, size_t dim)
{
    const float *variance = pca ? kith_pca_variances(pca) : NULL;
    size_t n = pca ? kith_pca_dim_out(pca) : 0, enough = 0;
    double all = 0, held = 0;
    for (size_t i = 0; i < n; i++) all += (double)variance[i];
    while (enough < n && held < ENOUGH * all) held += (double)variance[enough++];
    return up(pca ? enough : dim, KI_QG_STEP);
}

/* Whether half as many components as there are bits do, with two bits each. */
static int two_each(const kith_pca *pca, size_t dim, size_t bits)
{
    double all = 0, held = 0;
    size_t n = pca ? kith_pca_dim_out(pca) : 0;
    if (bits % (2 * KI_QG_STEP) != 0) return 0;
    for (size_t i = 0; i < n; i++) {
        all += (double)kith_pca_variances(pca)[i];
        held += i < bits / 2 ? (double)kith_pca_variances(pca)[i] : 0;
    }
    return bits / 2 >= dim || (pca && held >= NEARLY_ALL * all);
}

/* How many bits, of which components. Without LAPACK, and of very many components, there are no principal ones: codes are
 * then of the first components as turned, which are as good as any others. */
static kith_status learn_basis(ki_qg *g, const float *x, size_t n, const kith_run *run, kith_error *err)
{
    const ki_structure_env *env = g->base.env;
    size_t said = (size_t)env->args[1], bits = said > 0 ? said : bits_of_all(env->dim);
    kith_pca *pca = NULL;
    if (bits < 2 * env->dim && env->dim <= KI_QG_STEP * KI_QG_STEPS) {
        kith_status status = kith_pca_train(x, n, env->dim, env->dim, 0, env->allocator, run, &pca, err);
        if (status != KITH_OK && status != KITH_UNSUPPORTED) return status;
    }
    size_t enough = 2 * components_that_do(pca, env->dim);
    if (said == 0 && enough < bits) bits = enough < LEAST_BITS ? LEAST_BITS : enough;
    size_t planes = two_each(pca, env->dim, bits) ? 2 : 1, coded = bits / planes;
    kith_status status = set_up(g, bits, planes, pca && coded < env->dim, err);
    if (status == KITH_OK && g->turn.basis) {
        env->kernels->f32_to_f16(kith_pca_components(pca), coded * env->dim, g->turn.basis);
        ki_qg_turn_use_basis(&g->turn, env->kernels, g->turn.mean);
    }
    kith_pca_free(pca);
    return status;
}

static kith_status qg_train(ki_structure *structure, const ki_input *input, const kith_run *run,
                            kith_error *err)
{
    ki_qg *g = (ki_qg *)structure;
    const ki_structure_env *env = structure->env;
    if (input->n < LEAST_ROWS)
        return ki_fail(err, KITH_INVALID, "n is %zu, a quantized graph takes %d rows and more", input->n,
                       LEAST_ROWS);
    KI_TRY(ki_run_check(run, err));
    KI_TRY(ki_input_train_codec(env, input, run, err));
    float *sample;
    const float *x;
    size_t n;
    KI_TRY(ki_input_sample(input, TRAIN_ROWS, env->seed, env->allocator, &sample, &x, &n, err));
    kith_status status = learn_basis(g, x, n, run, err);
    if (status == KITH_OK) learn_mean(g, x, n);
    ki_free(env->allocator, sample);
    return status;
}

static void qg_decode(const ki_structure *structure, uint32_t slot, float *out)
{
    const ki_qg *g = (const ki_qg *)structure;
    const ki_codec *codec = structure->env->codec;
    ki_codes code = ki_qg_code(g, slot);
    codec->ops->decode(codec, code.code, code.factor, NULL, out);
}

/* ---- Check ---- */

/* Q2 of one row. */
static kith_status prove_links(const ki_qg *g, uint32_t slot, int used, kith_error *err)
{
    const uint32_t *links = ki_qg_links(g, slot);
    const uint16_t *add = ki_qg_add(g, slot);
    size_t n = used ? ki_graph_degree(links, g->at.degree) : 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t to = ki_qg_to(links[i]);
        if (to >= g->n_slots || !ki_bits_get(g->used, to) || to == slot)
            return ki_fail(err, KITH_CORRUPT, "Q2: row %u is linked to %u", slot, to);
    }
    for (size_t i = n; i < g->at.degree; i++)
        if (links[i] != KI_GRAPH_NONE || add[i] != KI_QG_NO_ADD)
            return ki_fail(err, KITH_CORRUPT, "Q2: row %u has a link behind its last", slot);
    return KITH_OK;
}

/* Q1 and Q3, and Q2 as far as memory safety needs. */
static kith_status prove_graph(const ki_qg *g, const ki_rows *rows, kith_error *err)
{
    const ki_qg_root *root = &g->root;
    if (g->n_slots != rows->n_slots)
        return ki_fail(err, KITH_CORRUPT, "Q1: %zu slots, not %zu", g->n_slots, rows->n_slots);
    KI_TRY(ki_qg_rings_prove(g, rows, err));
    for (size_t i = 0; i < g->n_slots; i++) KI_TRY(prove_links(g, (uint32_t)i, ki_bits_get(g->used, i), err));
    if (root->n_sample > root->n || (root->n_sample == 0 && g->n_used > 0))
        return ki_fail(err, KITH_CORRUPT, "Q3: %zu of %zu entries are a sample", root->n_sample, root->n);
    for (size_t i = 0; i < up(root->n, KI_QG_BLOCK); i++) {
        uint32_t node = root->node[i];
        if (i < root->n ? node >= g->n_slots || !ki_bits_get(g->used, node)
                        : node != KI_GRAPH_NONE || root->add[i] != KI_QG_NO_ADD)
            return ki_fail(err, KITH_CORRUPT, "Q3: entry %zu is row %u", i, node);
    }
    return KITH_OK;
}

static kith_status prove_codes(const ki_qg *g, const ki_rows *rows, int deep, kith_error *err)
{
    const ki_codec *codec = g->base.env->codec;
    kith_status status = KITH_OK;
    for (size_t i = 0; i < g->n_slots && codec->ops->check && status == KITH_OK; i++)
        if (ki_rows_used(rows, (uint32_t)i))
            status = codec->ops->check(codec, ki_qg_code(g, (uint32_t)i), 1, deep, err);
    if (status == KITH_CORRUPT) ki_error_prefix(err, "Q5");
    return status;
}

/* No row is linked twice to another. */
static kith_status prove_distinct(const ki_qg *g, kith_error *err)
{
    for (size_t i = 0; i < g->n_slots; i++) {
        const uint32_t *links = ki_qg_links(g, (uint32_t)i);
        size_t n = ki_graph_degree(links, g->at.degree);
        for (size_t a = 0; a < n; a++)
            for (size_t b = 0; b < a; b++)
                if (ki_qg_to(links[a]) == ki_qg_to(links[b]))
                    return ki_fail(err, KITH_CORRUPT, "Q2: row %zu is linked twice to %u", i,
                                   ki_qg_to(links[a]));
    }
    return KITH_OK;
}

/* Q4: all rows are reached from the entries. */
static kith_status prove_reached(const ki_qg *g, kith_error *err)
{
    const kith_allocator *allocator = g->base.env->allocator;
    uint64_t *seen = ki_alloc_zero(allocator, ki_bits_words(g->n_slots), sizeof *seen);
    uint32_t *stack = ki_alloc(allocator, g->n_slots, sizeof *stack);
    kith_status status = seen && stack ? KITH_OK : ki_fail_nomem(err, g->n_slots * sizeof *stack);
    for (size_t i = 0; i < g->root.n && status == KITH_OK; i++)
        ki_qg_root_follow(g, g->root.node[i], seen, stack);
    for (size_t i = 0; i < g->n_slots && status == KITH_OK; i++)
        if (ki_bits_get(g->used, i) && !ki_bits_get(seen, i))
            status = ki_fail(err, KITH_CORRUPT, "Q4: no path leads to row %zu", i);
    ki_free(allocator, seen);
    ki_free(allocator, stack);
    return status;
}

static kith_status qg_check(const ki_structure *structure, const ki_rows *rows, kith_error *err)
{
    const ki_qg *g = (const ki_qg *)structure;
    KI_TRY(prove_graph(g, rows, err));
    KI_TRY(prove_distinct(g, err));
    KI_TRY(prove_reached(g, err));
    for (size_t i = 0; i < g->n_slots && g->next; i++)
        if (!ki_qg_equal(g, (uint32_t)i, g->next[i]))
            return ki_fail(err, KITH_CORRUPT, "Q1: rows %zu and %u share a ring, and are not equal", i,
                           g->next[i]);
    return prove_codes(g, rows, 1, err);
}

/* ---- Save and load ---- */

static kith_status qg_save(const ki_structure *structure, size_t n_slots, ki_store_writer *writer,
                           kith_error *err)
{
    const ki_qg *g = (const ki_qg *)structure;
    const ki_qg_root *root = &g->root;
    size_t entries = up(root->n, KI_QG_BLOCK);
    ki_record record;
    ki_record_init(&record, structure->env->allocator);
    ki_record_put_u64(&record, "bits", g->at.bits);
    ki_record_put_u64(&record, "planes", g->turn.planes);
    ki_record_put_f64(&record, "length", (double)g->turn.length);
    ki_record_put_u64(&record, "entries", root->n);
    ki_record_put_u64(&record, "sample", root->n_sample);
    ki_record_put_u64(&record, "sampled", root->made_for);
    ki_record_put_u64(&record, "rings", g->next != NULL);
    kith_status status = ki_store_put_record(writer, PREFIX, &record, err);
    ki_record_clear(&record);
    if (status != KITH_OK) return status;
    KI_TRY(ki_store_put(writer, PREFIX ".mean", g->turn.mean, g->turn.dim, sizeof(float), err));
    if (g->turn.basis)
        KI_TRY(ki_store_put(writer, PREFIX ".basis", g->turn.basis, g->turn.coded * g->turn.dim,
                            sizeof *g->turn.basis, err));
    KI_TRY(ki_store_put(writer, PREFIX ".entries", root->node, entries, sizeof *root->node, err));
    KI_TRY(ki_store_put(writer, PREFIX ".entry_codes", root->codes, entries, g->at.bits / 8, err));
    KI_TRY(ki_store_put(writer, PREFIX ".entry_add", root->add, entries, sizeof *root->add, err));
    KI_TRY(ki_store_put(writer, PREFIX ".entry_mul", root->mul, entries, sizeof *root->mul, err));
    KI_TRY(ki_store_put(writer, PREFIX ".rows", g->rows, n_slots, g->at.stride, err));
    if (!g->next) return KITH_OK;
    KI_TRY(ki_store_put(writer, PREFIX ".next", g->next, n_slots, sizeof *g->next, err));
    return ki_store_put(writer, PREFIX ".nodes", g->used, ki_bits_words(n_slots), sizeof *g->used, err);
}

static kith_status load_root(ki_qg *g, ki_store *store, size_t entries, kith_error *err)
{
    ki_qg_root *root = &g->root;
    size_t n = up(entries, KI_QG_BLOCK);
    uint64_t count;
    KI_TRY(ki_store_count(store, PREFIX ".entries", sizeof *root->node, &count, err));
    if (count != n)
        return ki_fail(err, KITH_CORRUPT, "%s: %llu entries, not %zu", ki_store_path(store),
                       (unsigned long long)count, n);
    KI_TRY(ki_qg_root_reserve(g, n, err));
    KI_TRY(ki_store_load(store, PREFIX ".entries", n, sizeof *root->node, root->node, err));
    KI_TRY(ki_store_load(store, PREFIX ".entry_codes", n, g->at.bits / 8, root->codes, err));
    KI_TRY(ki_store_load(store, PREFIX ".entry_add", n, sizeof *root->add, root->add, err));
    KI_TRY(ki_store_load(store, PREFIX ".entry_mul", n, sizeof *root->mul, root->mul, err));
    root->n = entries;
    return KITH_OK;
}

/* Rings, the ways back in them too: so each slot is followed by one, and follows one. */
static kith_status load_rings(ki_qg *g, ki_store *store, const ki_rows *rows, kith_error *err)
{
    const kith_allocator *allocator = g->base.env->allocator;
    size_t n = rows->n_slots;
    g->next = ki_alloc(allocator, n, sizeof *g->next);
    g->prev = ki_alloc(allocator, n, sizeof *g->prev);
    if (!g->next || !g->prev) return ki_fail_nomem(err, 2 * n * sizeof *g->next);
    KI_TRY(ki_store_load(store, PREFIX ".next", n, sizeof *g->next, g->next, err));
    KI_TRY(ki_store_load(store, PREFIX ".nodes", ki_bits_words(n), sizeof *g->used, g->used, err));
    if (n % 64 && g->used[n / 64] >> n % 64)
        return ki_fail(err, KITH_CORRUPT, "%s: a slot behind the last is in the graph", ki_store_path(store));
    memset(g->prev, 0xff, n * sizeof *g->prev);
    for (size_t i = 0; i < n; i++) {
        if (g->next[i] >= n || g->prev[g->next[i]] != KI_GRAPH_NONE)
            return ki_fail(err, KITH_CORRUPT, "%s: Q1: row %zu is followed by %u", ki_store_path(store), i,
                           g->next[i]);
        g->prev[g->next[i]] = (uint32_t)i;
    }
    return KITH_OK;
}

static kith_status load_rows(ki_qg *g, ki_store *store, int mapped, int rings, const ki_rows *rows,
                             kith_error *err)
{
    const kith_allocator *allocator = g->base.env->allocator;
    size_t n = rows->n_slots;
    if (mapped) {
        const void *data;
        KI_TRY(ki_store_array(store, PREFIX ".rows", n, g->at.stride, &data, err));
        g->rows = data;
    } else {
        uint64_t count; /* before anything is allocated: whether the file holds so much */
        KI_TRY(ki_store_count(store, PREFIX ".rows", g->at.stride, &count, err));
        if (count != n)
            return ki_fail(err, KITH_CORRUPT, "%s: %llu rows of links, not %zu", ki_store_path(store),
                           (unsigned long long)count, n);
        g->own_rows = ki_alloc(allocator, n, g->at.stride);
        if (!g->own_rows) return ki_fail_nomem(err, n * g->at.stride);
        g->rows = g->own_rows;
        KI_TRY(ki_store_load(store, PREFIX ".rows", n, g->at.stride, g->own_rows, err));
        g->room = n;
    }
    g->used = ki_alloc_zero(allocator, ki_bits_words(n), sizeof *g->used);
    if (!g->used) return ki_fail_nomem(err, ki_bits_words(n) * sizeof *g->used);
    for (size_t i = 0; i < n; i++)
        if (ki_rows_used(rows, (uint32_t)i)) ki_bits_set(g->used, i);
    if (rings) KI_TRY(load_rings(g, store, rows, err));
    g->n_slots = n;
    g->n_used = ki_bits_count(g->used, n);
    return KITH_OK;
}

/* The bits of codes, and what vectors are reduced by. */
static kith_status load_turn(ki_qg *g, ki_store *store, const ki_record_view *record, kith_error *err)
{
    const ki_structure_env *env = g->base.env;
    uint64_t said = (uint64_t)env->args[1], bits, planes, n = 0;
    KI_TRY(ki_record_get_u64(record, "bits", said > 0 ? said : KI_QG_STEP,
                             said > 0 ? said : KI_QG_STEP * KI_QG_STEPS, &bits, err));
    KI_TRY(ki_record_get_u64(record, "planes", 1, 2, &planes, err));
    uint64_t coded = bits / planes;
    int reduced = ki_store_has(store, PREFIX ".basis");
    if (bits % (planes * KI_QG_STEP) != 0 || (reduced && coded >= env->dim))
        return ki_fail(err, KITH_CORRUPT, "%s: codes of %llu bits, %llu of each component",
                       ki_store_path(store), (unsigned long long)bits, (unsigned long long)planes);
    if (reduced) {
        KI_TRY(ki_store_count(store, PREFIX ".basis", sizeof *g->turn.basis, &n, err));
        if (n != coded * env->dim)
            return ki_fail(err, KITH_CORRUPT, "%s: a basis of %llu numbers", ki_store_path(store),
                           (unsigned long long)n);
    }
    KI_TRY(set_up(g, (size_t)bits, (size_t)planes, reduced, err));
    if (!reduced) return KITH_OK;
    KI_TRY(ki_store_load(store, PREFIX ".basis", n, sizeof(uint16_t), g->turn.basis, err));
    for (size_t i = 0; i < n; i++)
        if ((g->turn.basis[i] & 0x7c00) == 0x7c00)
            return ki_fail(err, KITH_CORRUPT, "%s: the basis is not finite", ki_store_path(store));
    ki_qg_turn_use_basis(&g->turn, env->kernels, g->turn.mean);
    return KITH_OK;
}

static kith_status qg_load(ki_structure *structure, ki_store *store, int mapped, const ki_rows *rows,
                           kith_error *err)
{
    ki_qg *g = (ki_qg *)structure;
    ki_record_view record;
    uint64_t entries, sample, sampled, rings;
    double length;
    KI_TRY(ki_store_record_open(store, PREFIX, &record, err));
    KI_TRY(load_turn(g, store, &record, err));
    KI_TRY(ki_record_get_f64(&record, "length", 1e-15, 1e15, &length, err));
    KI_TRY(ki_record_get_u64(&record, "entries", 0, rows->n, &entries, err));
    KI_TRY(ki_record_get_u64(&record, "sample", 0, entries, &sample, err));
    KI_TRY(ki_record_get_u64(&record, "sampled", 0, KI_GRAPH_NODES, &sampled, err));
    KI_TRY(ki_record_get_u64(&record, "rings", 0, 1, &rings, err));
    g->turn.length = (float)length;
    KI_TRY(ki_store_load(store, PREFIX ".mean", g->turn.dim, sizeof(float), g->turn.mean, err));
    if (!structure->env->kernels->finite_f32(g->turn.mean, g->turn.dim))
        return ki_fail(err, KITH_CORRUPT, "%s: the mean is not finite", ki_store_path(store));
    KI_TRY(load_root(g, store, (size_t)entries, err));
    KI_TRY(load_rows(g, store, mapped, (int)rings, rows, err));
    g->root.n_sample = (size_t)sample;
    g->root.made_for = sampled;
    kith_status status = prove_graph(g, rows, err);
    if (status == KITH_OK) status = prove_codes(g, rows, 0, err);
    if (status == KITH_CORRUPT) ki_error_prefix(err, "%s", ki_store_path(store));
    return status;
}

static uint64_t qg_bytes(const ki_structure *structure)
{
    const ki_qg *g = (const ki_qg *)structure;
    return (uint64_t)g->n_slots * (g->at.stride + (g->next ? 2 * sizeof *g->next : 0)) +
           ki_bits_words(g->n_slots) * sizeof *g->used + up(g->root.n, KI_QG_BLOCK) * (g->at.bits / 8 + 8) +
           g->turn.dim * sizeof(float) +
           (g->turn.basis ? g->turn.coded * g->turn.dim * (sizeof *g->turn.basis + 1) : 0) +
           (g->turn.rotation ? ki_hadamard_bytes(g->turn.rotation) : 0);
}

static const ki_structure_ops qg_ops = {
    .create = qg_create,
    .free = qg_free,
    .train = qg_train,
    .add = ki_qg_add_rows,
    .prepare_remove = ki_qg_prepare_remove,
    .remove = ki_qg_remove,
    .decode = qg_decode,
    .scratch_create = ki_qg_scratch_create,
    .scratch_free = ki_qg_scratch_free,
    .prepare = ki_qg_prepare,
    .search = ki_qg_search,
    .save = qg_save,
    .load = qg_load,
    .check = qg_check,
    .bytes = qg_bytes,
};

const ki_structure_part ki_structure_qg = {
    .part =
        {.info = {.pattern = "QG<R>[x<b>]",
                  .about =
                      "structure: a graph whose rows hold codes of b bits of their R neighbours; the fastest "
                      "single queries here, for b / 8 + 8 bytes a link (24 as a rule)",
                  .params = params,
                  .n_params = sizeof params / sizeof *params},
         .args = {{"R", KI_QG_BLOCK, KI_QG_DEGREE, 0}, {"b", 0, KI_QG_STEP *KI_QG_STEPS, 0}}},
    .main_param = "ef",
    .metrics = KI_METRIC_BIT(KITH_L2SQ) | KI_METRIC_BIT(KITH_DOT) | KI_METRIC_BIT(KITH_COSINE),
    .ops = &qg_ops,
};
