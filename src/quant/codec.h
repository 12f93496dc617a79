/* codec.h - how a structure keeps its rows: the second of the three ideas (structure, codec, refinement).
 *
 * A codec turns a vector into a code of fixed size and scores codes against a query. Structures (flat,
 * inverted lists, graphs, trees) never look inside a code: they move codes about and ask a scorer.
 *
 * Bits. The codec of rows of bits (KITH_HAMMING) has encode_bits, decode_bits and query_bits instead of encode, decode
 * and query; all else is the same, so structures that only move codes and ask scorers serve bits too.
 *
 * The front door brings every metric to one of three before a codec sees it: L2SQ, DOT (COSINE is DOT on unit
 * vectors) and L1. Distances are smaller-is-nearer: DOT gives -(q . x).
 *
 * Residuals. A structure may encode a row relative to an origin (the centroid of its cell). The scorer is
 * then told the origin of the codes that it is about to score (rebase). Codecs that profit keep float32
 * factors beside the code: for PQ on residuals r = x - c with reconstruction y, and any o that all cells share,
 * |q - c - y|^2 = |q - c|^2 - 2 (q - o).y + (|y|^2 + 2 (c - o).y) the last term depends on the row alone: kept as a factor,
 * the tables of -2 (q - o).y serve all cells of a query. o lies in the middle of the origins (quant/center.h), which codecs learn
 * by `origins`.
 *
 * Blocks. A codec whose scorer looks tables up in registers wants byte j of 32 rows side by side. It sets
 * codec->block to KI_BLOCK_ROWS when it is made (code_size <= KI_BLOCK_MAX_CODE, n_factors <= KI_BLOCK_MAX_FACTORS), and
 * then
 *   - encode, decode and ki_scorer_ops.row speak of single codes, byte after byte, as without blocks: the structures
 *     that can (ki_structure_part.blocks: Flat, IVF) interleave and take apart, by quant/layout.h, which draws the layout;
 *   - score and check get `codes` at the beginning of a block, in that layout, factors interleaved likewise; the last
 *     block may be read to its end, its rows beyond n hold anything (any bytes: nothing there was checked);
 *   - the last `together` bytes of a code stay together (0: none), for what only few rows of a block are asked for;
 *   - score with rows NULL is the fast case. With rows, which are ascending, score whole blocks and pick, or single rows.
 * A codec without a good single-row scorer is refused in structures that look at rows one by one (graphs, trees). One that
 * has one sets `either`: block is set to 0 for such structures before the codec is used.
 */
#ifndef KI_QUANT_CODEC_H
#define KI_QUANT_CODEC_H

#include <kith/metric.h>
#include <kith/run.h>

#define KI_BLOCK_ROWS 32

typedef struct ki_codec ki_codec;
typedef struct ki_scorer ki_scorer;

/* Rows as a codec keeps them, in two parallel arrays (in blocks: quant/layout.h). */
typedef struct ki_codes {
    const uint8_t *code; /* [n][code_size] */
    const float *factor; /* [n][n_factors], NULL when n_factors is 0 */
} ki_codes;

/* Where rows are counted from: row i from origins[which[i]], or from 0 when origins is NULL. */
typedef struct ki_origins {
    const float *origins;  /* [..][dim] */
    const uint32_t *which; /* [n] */
} ki_origins;

struct ki_store_writer;
struct ki_store;

typedef struct ki_codec_ops {
    const char *name; /* for messages: "f32", "pq" */

    void (*free)(ki_codec *codec);

    /* What the residuals to come are counted from, origins[n][dim]; called before train. NULL: of no interest. */
    void (*origins)(ki_codec *codec, const float *origins, size_t n);

    /* Learn from x[n][dim] (residuals already, where the structure works on residuals). NULL: needs none. */
    kith_status (*train)(ki_codec *codec, const float *x, size_t n, uint64_t seed, const kith_run *run,
                         kith_error *err);

    /* x[n][dim] to code[n][code_size] and factor[n][n_factors]. */
    kith_status (*encode)(const ki_codec *codec, const float *x, size_t n, ki_origins from,
                          const kith_run *run, uint8_t *code, float *factor, kith_error *err);

    /* One row back: out[dim]. origin NULL: 0. */
    void (*decode)(const ki_codec *codec, const uint8_t *code, const float *factor, const float *origin,
                   float *out);

    /* The same for rows of bits, [n][kith_bit_bytes(dim)], by codecs of such; NULL in the others. */
    void (*encode_bits)(const ki_codec *codec, const uint8_t *bits, size_t n, uint8_t *code);
    void (*decode_bits)(const ki_codec *codec, const uint8_t *code, uint8_t *out);

    kith_status (*scorer)(const ki_codec *codec, const kith_allocator *allocator, ki_scorer **scorer,
                          kith_error *err);

    /* What was learned, as sections named `prefix` + "." + something: a file may hold two codecs, one of the
     * structure and one of the refinement. load is called on a codec just made with the arguments of the spec;
     * it copies what it reads and leaves the codec trained (or as it was, on failure). NULL both: nothing is
     * learned. */
    kith_status (*save)(const ki_codec *codec, const char *prefix, struct ki_store_writer *writer,
                        kith_error *err);
    kith_status (*load)(ki_codec *codec, const char *prefix, struct ki_store *store, kith_error *err);

    /* Whether n codes from outside may be scored and decoded: KITH_OK or KITH_CORRUPT naming the row. deep 0:
     * only what memory safety needs, called at each open (codes beyond a table); deep 1: all that can be said
     * (finite numbers), called by kith_index_check. NULL: every string of bytes is a code. */
    kith_status (*check)(const ki_codec *codec, ki_codes codes, size_t n, int deep, kith_error *err);
} ki_codec_ops;

struct ki_codec {
    const ki_codec_ops *ops;
    const kith_allocator *allocator;
    size_t dim;
    kith_metric metric; /* L2SQ, DOT, L1 or HAMMING */
    int residual;       /* rows come with origins */
    int trained;
    int exact;        /* scores are true distances */
    size_t code_size; /* bytes a row */
    size_t n_factors; /* float32 a row */
    size_t block;     /* 0: row after row; KI_BLOCK_ROWS: see Blocks above */
    size_t together;  /* bytes at the end of a code, in blocks */
    int either;       /* block may be taken back */
    int bounded;      /* scorers have `bound` */
};

typedef struct ki_scorer_ops {
    void (*free)(ki_scorer *scorer);

    /* The query of the following scores: query[dim], copied where it is needed. */
    void (*query)(ki_scorer *scorer, const float *query);

    /* The same for a query of bits, by codecs of such. */
    void (*query_bits)(ki_scorer *scorer, const uint8_t *query);

    /* A stored row as the query (graph building). origin as in encode. */
    void (*row)(ki_scorer *scorer, const uint8_t *code, const float *factor, const float *origin);

    /* The origin of the codes to come and the distance of the query to it under the codec's metric, which under L2SQ
     * may be as rough as a product makes it far from zero: codecs measure it themselves. Only for residual codecs; NULL in
     * the others. Cheap: called once a cell. */
    void (*rebase)(ki_scorer *scorer, const float *origin, float distance);

    /* Codes 0..n-1 of the list after the one that is scored from here on, to be fetched meanwhile; n 0: there is none. NULL: of
     * no interest, the structure fetches what lies in front. */
    void (*next)(ki_scorer *scorer, ki_codes codes, size_t n);

    /* out[i] = distance to row rows[i] (rows NULL: row i), i < n. Entries that are certainly beyond `worst`
     * may be left at +INFINITY. */
    void (*score)(ki_scorer *scorer, ki_codes codes, const uint32_t *rows, size_t n, float worst, float *out);

    /* The same with lower bounds instead of distances, which hold with high probability; a refinement asks for them. NULL:
     * the codec knows none. */
    void (*bound)(ki_scorer *scorer, ki_codes codes, const uint32_t *rows, size_t n, float worst, float *out);
} ki_scorer_ops;

struct ki_scorer {
    const ki_scorer_ops *ops;
    const ki_codec *codec;
    const kith_allocator *allocator;
};

/* float32 rows as they are: code_size = 4 * dim, 4-byte aligned; never residual. */
kith_status ki_codec_f32_create(size_t dim, kith_metric metric, const kith_allocator *allocator,
                                ki_codec **codec, kith_error *err);

/* The codes of that codec as the rows that they are, for structures that take the tiled product themselves; NULL for
 * any other codec. */
const float *ki_codec_f32_rows(const ki_codec *codec, ki_codes codes);

/* Half floats: code_size = 2 * dim, 2-byte aligned; never residual; components beyond 65504 are kept as that. */
kith_status ki_codec_f16_create(size_t dim, kith_metric metric, const kith_allocator *allocator,
                                ki_codec **codec, kith_error *err);

/* Whole numbers on a trained grid a component; bits 8: a byte each, 4: half a byte. Under L2SQ a float32 more a row, as
 * part of the code; no factors. Codes at any address. residual: not with L1 (KITH_UNSUPPORTED). Bytes as components are
 * kept exactly by 8 bits unless residual. Its section is PREFIX.ranges; of residuals under L2SQ PREFIX.cellranges and
 * PREFIX.center. Cost: training 10 passes over the sample; a score
 * is dim products of small integers. */
#define KI_SQ_MAX_DIM (1 << 20)
kith_status ki_codec_sq_create(size_t dim, size_t bits, kith_metric metric, int residual,
                               const kith_allocator *allocator, ki_codec **codec, kith_error *err);

/* Product quantisation, kith/pq.h. residual: see above; not with L1 (KITH_UNSUPPORTED: encode plainly). factor is one
 * float a row for residuals under L2SQ. The query of a residual scorer serves all cells: query, then rebase and score
 * for each. Its section is PREFIX.codebooks; with a factor .cellbooks, and .center. iterations 1.., of the k-means of a segment (25 is usual). */
kith_status ki_codec_pq_create(size_t dim, size_t m, size_t bits, kith_metric metric, int residual,
                               size_t iterations, const kith_allocator *allocator, ki_codec **codec,
                               kith_error *err);

/* The same with 4 bits a segment in blocks of rows, scanned by look-ups in registers: quant/codec_pqfs.c. Scores are those of
 * the codec above but for rounding, by at most half a step a segment: the widest range of a segment's table / 63, or
 * / (65535 / m) with m above 1,040. */
kith_status ki_codec_pqfs_create(size_t dim, size_t m, kith_metric metric, int residual, size_t iterations,
                                 const kith_allocator *allocator, ki_codec **codec, kith_error *err);

/* The quantiser inside, NULL for any other codec: for structures with a layout of their own. */
struct kith_pq;
const struct kith_pq *ki_codec_pq(const ki_codec *codec);

/* RaBitQ: signs of the components of rows rotated at random, or `bits` 1..8 a component, 8 bytes more a row as two
 * factors, and 2 with several bits; see the essay in codec_rabitq.c. L2SQ and DOT. epsilon > 0: how far a lower bound lies below the estimate,
 * in standard deviations of the error (1.9: 97 in 100 hold). Either layout. Its sections are PREFIX.signs, .center, .grid. */
#define KI_RABITQ_MAX_DIM 65536
kith_status ki_codec_rabitq_create(size_t dim, size_t bits, double epsilon, kith_metric metric, int residual,
                                   const kith_allocator *allocator, ki_codec **codec, kith_error *err);

/* Rows of `dim` bits as they are: distances are numbers of differing bits, exact in float32 below 2^24. */
kith_status ki_codec_bits_create(size_t dim, const kith_allocator *allocator, ki_codec **codec,
                                 kith_error *err);

static inline void ki_codec_free(ki_codec *codec)
{
    if (codec) codec->ops->free(codec);
}
static inline void ki_scorer_free(ki_scorer *scorer)
{
    if (scorer) scorer->ops->free(scorer);
}

#endif
