/* codec_pq.h - what the codecs of product-quantised rows share: one that scans by float32 tables (codec_pq.c), one by look-ups
 * in registers (codec_pqfs.c). They differ in layout and scorer only. */
#ifndef KI_QUANT_CODEC_PQ_H
#define KI_QUANT_CODEC_PQ_H

#include "quant/codec.h"

/* The arguments of ki_codec_pq_create, and the operations. */
kith_status ki_pq_codec_make(const ki_codec_ops *ops, size_t dim, size_t m, size_t bits, kith_metric metric,
                             int residual, size_t iterations, const kith_allocator *allocator,
                             ki_codec **codec, kith_error *err);
const struct kith_pq *ki_pq_codec_pq(const ki_codec *codec);

/* Operations. */
void ki_pq_codec_free(ki_codec *codec);
kith_status ki_pq_codec_train(ki_codec *codec, const float *x, size_t n, uint64_t seed, const kith_run *run,
                              kith_error *err);
kith_status ki_pq_codec_encode(const ki_codec *codec, const float *x, size_t n, ki_origins from,
                               const kith_run *run, uint8_t *code, float *factor, kith_error *err);
void ki_pq_codec_decode(const ki_codec *codec, const uint8_t *code, const float *factor, const float *origin,
                        float *out);
kith_status ki_pq_codec_save(const ki_codec *codec, const char *prefix, struct ki_store_writer *writer,
                             kith_error *err);
kith_status ki_pq_codec_load(ki_codec *codec, const char *prefix, struct ki_store *store, kith_error *err);

void ki_pq_codec_origins(ki_codec *codec, const float *origins, size_t n);

/* The tables of a query, [m][ks]: of whole rows, or the part of those of residuals that serves all cells. centred[dim]: scratch. */
void ki_pq_codec_tables(const ki_codec *codec, const float *query, float *centred, float *tables);

/* The squared length of a query, and its distance to an origin that scores are to be added to: under L2SQ measured where the given
 * one is rough. */
float ki_pq_codec_length2(const ki_codec *codec, const float *query);
float ki_pq_codec_distance(const ki_codec *codec, const float *query, float length2, const float *origin,
                           float distance);

#endif
