/* qg_internal.h - what the files of the QG family share; the essay is in qg.c. */
#ifndef KI_INDEX_QG_INTERNAL_H
#define KI_INDEX_QG_INTERNAL_H

#include "base/bitset.h"
#include "index/family.h"
#include "index/graph_prune.h"
#include "math/hadamard.h"

/* The parameters, in the order of the table. */
enum { KI_QG_EF, KI_QG_SPARE, KI_QG_REACH, KI_QG_SCAN_BELOW, KI_QG_EF_CONSTRUCTION, KI_QG_ALPHA };

/* A link is the number of a row; its top bit marks a filler: one that the selection would leave out, kept because the
 * room is there. KI_GRAPH_NONE: no link. */
#define KI_QG_FILLER (UINT32_C(1) << 31)
#define KI_QG_NO_ADD 0x7c00 /* the factor of no link: infinity, so that no walk takes it */

#define KI_QG_DEGREE 128 /* links of a row at most */

/* Up to so many rows they come one by one, and no path is made but by choosing links, so that small graphs do not depend on how the
 * calls are cut. */
#define KI_QG_SINGLE 1024

/* Where things stand in a row: the neighbours' codes, their factors and numbers, then the row's own code. */
typedef struct ki_qg_layout {
    size_t degree, blocks, steps, bits;
    size_t add, mul, links, factor, code, stride; /* bytes */
} ki_qg_layout;

/* How vectors are turned before they are reduced to signs (qg_point.c). */
typedef struct ki_qg_turn {
    size_t dim, coded, planes; /* coded: components that a code keeps, planes bits of each */
    size_t width;    /* components as turned: no less than coded, and than dim unless there is a basis */
    size_t room;     /* floats that turning takes */
    float length;    /* what vectors are divided by */
    float *mean;     /* [dim], taken from vectors before; NULL: not trained */
    uint16_t *basis; /* [coded][dim] half floats: principal components; NULL: all components are kept */
    int8_t *panels;  /* the same as kernels take them (panel_dot_s8), in steps of `step`; exists with basis */
    float *step;     /* [coded] */
    ki_hadamard *rotation; /* of width components, from the seed */
} ki_qg_turn;

/* The entries: rows that every walk looks at first, as neighbours of the mean. */
typedef struct ki_qg_root {
    uint32_t *node; /* [n] */
    uint8_t *codes; /* blocks, as in a row */
    uint16_t *add, *mul;
    size_t n, n_sample,
        room;          /* n_sample: the first ones, rows at equal distances; then those no link leads to */
    uint64_t made_for; /* rows in use when the sample was taken */
} ki_qg_root;

typedef struct ki_qg_remover ki_qg_remover;

typedef struct ki_qg {
    ki_structure base;
    ki_qg_layout at;
    ki_qg_turn turn;
    ki_qg_root root;
    const uint8_t *rows; /* [n_slots][stride] */
    uint8_t *own_rows;   /* the same where they are ours */
    uint64_t *used;      /* [room] bits: slots that stand in the graph, of equal rows one */
    uint32_t *next;      /* [room] the next slot of the same vector, in a ring; NULL: no two are equal */
    uint32_t *prev;      /* the ring backwards; exists with next */
    uint32_t *twins; /* [n_twins] rows of the graph by hashes of their codes; NULL: made by the next add */
    size_t n_twins;  /* a power of two */
    size_t n_slots, n_used, room; /* n_used: of those in the graph */
    ki_qg_remover *remover;       /* between prepare_remove and remove */
    float *turned;                /* [room][width] while rows are added: rows as turned, or NULL */
    uint64_t *is_turned;          /* [room] bits: of these */
} ki_qg;

static inline const uint8_t *ki_qg_row(const ki_qg *g, uint32_t slot)
{
    return g->rows + (size_t)slot * g->at.stride;
}
static inline uint8_t *ki_qg_own_row(ki_qg *g, uint32_t slot)
{
    return g->own_rows + (size_t)slot * g->at.stride;
}
static inline uint32_t *ki_qg_own_links(ki_qg *g, uint32_t slot)
{
    return (uint32_t *)(void *)(ki_qg_own_row(g, slot) + g->at.links);
}
static inline const uint32_t *ki_qg_links(const ki_qg *g, uint32_t slot)
{
    return (const uint32_t *)(const void *)(ki_qg_row(g, slot) + g->at.links);
}
static inline const uint16_t *ki_qg_add(const ki_qg *g, uint32_t slot)
{
    return (const uint16_t *)(const void *)(ki_qg_row(g, slot) + g->at.add);
}
static inline const uint16_t *ki_qg_mul(const ki_qg *g, uint32_t slot)
{
    return (const uint16_t *)(const void *)(ki_qg_row(g, slot) + g->at.mul);
}
/* The row's own vector, as its codec keeps it. */
static inline ki_codes ki_qg_code(const ki_qg *g, uint32_t slot)
{
    const uint8_t *row = ki_qg_row(g, slot);
    return (ki_codes){row + g->at.code, (const float *)(const void *)(row + g->at.factor)};
}
static inline uint32_t ki_qg_to(uint32_t link)
{
    return link & ~KI_QG_FILLER;
}

/* The scorer's query becomes a row. */
static inline void ki_qg_ask(const ki_qg *g, ki_scorer *scorer, uint32_t slot)
{
    ki_codes code = ki_qg_code(g, slot);
    scorer->ops->row(scorer, code.code, code.factor, NULL);
}
static inline float ki_qg_distance(const ki_qg *g, ki_scorer *scorer, uint32_t slot)
{
    float dist;
    scorer->ops->score(scorer, ki_qg_code(g, slot), NULL, 1, INFINITY, &dist);
    return dist < INFINITY ? dist : INFINITY;
}

/* ---- qg_rings.c: equal rows ---- */

kith_status ki_qg_rings_reserve(ki_qg *g, kith_error *err); /* make them, of room slots */
int ki_qg_equal(const ki_qg *g, uint32_t a, uint32_t b);
/* A table for n rows of the graph, which holds those that are there. */
kith_status ki_qg_twins_reserve(ki_qg *g, size_t n, kith_error *err);
void ki_qg_twins_forget(ki_qg *g);
/* The row of the same vector; KI_GRAPH_NONE: there was none, from now on it is this one. */
uint32_t ki_qg_twin(ki_qg *g, uint32_t slot);
void ki_qg_join(ki_qg *g, uint32_t node, uint32_t slot);
/* A slot leaves its ring: another of the same vector, or KI_GRAPH_NONE. */
uint32_t ki_qg_leave(ki_qg *g, uint32_t slot);
/* Whether a slot of a ring may be returned, and all that may. */
int ki_qg_allowed(const ki_qg *g, const ki_query *query, uint32_t node);
void ki_qg_offer(const ki_qg *g, ki_query *query, float dist, uint32_t node);
/* Q1: rows in use stand in rings with one slot each in the graph. */
kith_status ki_qg_rings_prove(const ki_qg *g, const ki_rows *rows, kith_error *err);

/* ---- qg_point.c: turned vectors, codes of links ---- */

kith_status ki_qg_turn_init(ki_qg_turn *turn, size_t dim, size_t coded, size_t planes, uint64_t seed,
                            int reduced, const kith_allocator *allocator, kith_error *err);
void ki_qg_turn_clear(ki_qg_turn *turn, const kith_allocator *allocator);
/* Once the basis is known; scratch[dim]: the mean, which comes later, will do. */
void ki_qg_turn_use_basis(ki_qg_turn *turn, const ki_kernels *kernels, float *scratch);

/* A vector as it is and as it is turned. */
typedef struct ki_qg_point {
    float *x; /* [dim] */
    float *z; /* [width], and room to turn it */
} ki_qg_point;

kith_status ki_qg_point_init(const ki_qg *g, ki_qg_point *point, kith_error *err);
void ki_qg_point_clear(const ki_qg *g, ki_qg_point *point);
/* x[dim] to z[width]; z has room for ki_qg_turn.room floats. */
void ki_qg_turn_vector(const ki_qg *g, const float *x, float *z);
void ki_qg_point_load(const ki_qg *g, ki_qg_point *point, uint32_t slot);
void ki_qg_point_mean(const ki_qg *g, ki_qg_point *point);

/* Write the code and the factors of `to`, as a neighbour of `from`, to a place. */
void ki_qg_link(const ki_qg *g, const ki_qg_point *from, const ki_qg_point *to, size_t place, uint8_t *codes,
                uint16_t *add, uint16_t *mul);
/* Make a place of a row be a link, and no link. */
void ki_qg_put(ki_qg *g, uint32_t slot, const ki_qg_point *from, const ki_qg_point *to, size_t place,
               uint32_t link);
void ki_qg_unput(ki_qg *g, uint32_t slot, size_t place);

/* Take a link out; the last one moves to its place. */
void ki_qg_take_out(ki_qg *g, uint32_t slot, size_t place);
/* An empty row: all zeros, no links. */
void ki_qg_erase(ki_qg *g, uint32_t slot);

/* The query as codes see it. table[steps * KI_QG_STEP_TABLE], z[room]. */
void ki_qg_ask_codes(const ki_qg *g, const float *query, float *z, uint8_t *table, ki_qg_query *out);

/* ---- qg_search.c: the walk ---- */

typedef struct ki_qg_walker {
    ki_scorer *scorer; /* first: ki_scratch_make */
    ki_qg_query query;
    float *z;
    uint8_t *table;
    float *pool;                        /* [n] estimates, ascending */
    uint32_t *node;                     /* [n] theirs; the top bit: it was expanded, or is about to be */
    size_t n, limit, width, room, next; /* width: so many of the first are expanded */
    float bound, slack;                 /* estimates beyond bound are not followed */
    uint64_t *marks;                    /* bits: was in the pool */
    uint32_t *marked;
    size_t nodes, n_marked, marked_room;
    float *dist; /* [most of degree and entries] */
    uint32_t *place;
    size_t near_room;
    ki_near *met; /* expanded rows and their true distances, or NULL */
    size_t n_met, met_room;
    uint64_t entered, expanded; /* rows that were in the pool, that were looked at */
} ki_qg_walker;

kith_status ki_qg_walker_init(const ki_qg *g, ki_qg_walker *walker, kith_error *err);
void ki_qg_walker_clear(const ki_qg *g, ki_qg_walker *walker);
/* Room for pools of `limit` among `nodes` rows. */
kith_status ki_qg_walker_reserve(const ki_qg *g, ki_qg_walker *walker, size_t nodes, size_t limit,
                                 kith_error *err);
/* Room for walks from a root that may have so many entries more by then. */
kith_status ki_qg_walker_expect(const ki_qg *g, ki_qg_walker *walker, size_t entries, kith_error *err);
/* Walk to a vector with a pool of `limit` >= ef, of which the first ef are expanded. query: gets what is met, and at the end
 * the rest of the pool; may be NULL. */
void ki_qg_walk(const ki_qg *g, ki_qg_walker *walker, const float *vector, size_t ef, size_t limit,
                ki_query *query);

kith_status ki_qg_scratch_create(const ki_structure *structure, ki_scratch **scratch, kith_error *err);
void ki_qg_scratch_free(const ki_structure *structure, ki_scratch *scratch);
kith_status ki_qg_prepare(const ki_structure *structure, ki_scratch *scratch, size_t k,
                          const double *settings, kith_error *err);
void ki_qg_search(const ki_structure *structure, ki_scratch *scratch, ki_query *query);

/* ---- qg_links.c: which links a row has ---- */

#define KI_QG_CANDIDATES 1024 /* that one row is linked from at most */

/* One thread's memory for choosing links. */
typedef struct ki_qg_chooser {
    ki_scorer *ask;
    ki_alpha alpha;
    ki_qg_point self, other;
    uint8_t *code; /* [KI_QG_CANDIDATES] codes side by side */
    float *factor;
    ki_near near[KI_QG_CANDIDATES];
    float dist[KI_QG_CANDIDATES];
    uint8_t hidden[KI_QG_CANDIDATES];
    uint64_t *lost; /* links given up for others: from << 32 | to, where the caller wants to know; or NULL */
    size_t n_lost;
} ki_qg_chooser;

kith_status ki_qg_chooser_init(const ki_qg *g, ki_qg_chooser *chooser, kith_error *err);
void ki_qg_chooser_clear(const ki_qg *g, ki_qg_chooser *chooser);

/* The links of a row from candidates near[n], sorted, none of them the row itself. */
void ki_qg_choose(ki_qg *g, ki_qg_chooser *chooser, uint32_t slot, size_t n);
/* Offer a row one more link. */
void ki_qg_offer_link(ki_qg *g, ki_qg_chooser *chooser, uint32_t slot, uint32_t other);

/* ---- qg_build.c, qg_remove.c ---- */

kith_status ki_qg_add_rows(ki_structure *structure, const ki_input *input, const uint32_t *slots,
                           uint32_t first_slot, size_t n_slots, const kith_run *run, kith_error *err);
kith_status ki_qg_prepare_remove(ki_structure *structure, const ki_rows *rows, kith_error *err);
void ki_qg_remove(ki_structure *structure, const uint32_t *slots, size_t n);
/* Take slots out, between prepare_remove and remover_free (slots NULL: first_slot, ...). */
void ki_qg_drop(ki_qg *g, const uint32_t *slots, uint32_t first_slot, size_t n);
void ki_qg_remover_free(ki_qg *g);

/* ---- qg_root.c ---- */

kith_status ki_qg_root_reserve(ki_qg *g, size_t n, kith_error *err);
void ki_qg_root_clear(ki_qg *g);
/* Whether the sample is to be taken anew with so many rows: they have become more by a quarter. */
int ki_qg_root_is_due(const ki_qg *g, size_t rows);
/* Take it anew where it is due, or always. from, to: scratch. */
void ki_qg_root_sample(ki_qg *g, ki_qg_point *from, ki_qg_point *to, int always);
void ki_qg_root_forget_orphans(ki_qg *g);
/* Mark all rows that can be reached from one. */
void ki_qg_root_follow(const ki_qg *g, uint32_t slot, uint64_t *seen, uint32_t *stack);
/* One more entry that is no part of the sample. mean, to: scratch. */
void ki_qg_root_enter(ki_qg *g, ki_qg_point *mean, ki_qg_point *to, uint32_t slot);
/* Have the rows that no path leads to reached. seen: bits of n_slots, twice; stack[n_slots]: scratch. */
void ki_qg_root_orphans(ki_qg *g, ki_qg_point *from, ki_qg_point *to, uint64_t *seen, uint32_t *stack);

#endif
