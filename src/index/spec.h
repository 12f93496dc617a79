/* spec.h - spec strings: `[transform,]structure[,codec][,refinement]`, each part a pattern of words and numbers.
 *
 * A pattern is literal text with numbers in angle brackets and optional tails in square brackets, in their order:
 * "IVF<n>[_HKM<b>][_HNSW<M>]", "PQ<m>[x<b>]", "PStable<L>x<K>". The table of a part's numbers gives their ranges, and for those of
 * the tail what they are when it is left out.
 */
#ifndef KI_INDEX_SPEC_H
#define KI_INDEX_SPEC_H

#include <kith/index.h>

#define KI_SPEC_ARGS 3  /* numbers in one part */
#define KI_SPEC_SIZE 96 /* a canonical spec with its zero; the store has room for more */

typedef struct ki_spec_arg {
    const char *name; /* NULL ends the table */
    uint64_t low, high, initial;
} ki_spec_arg;

/* The part of a description that parser, parameter tables and kith_families() read. */
typedef struct ki_part {
    kith_family_info info; /* pattern, sentence, parameters */
    ki_spec_arg args[KI_SPEC_ARGS + 1];
} ki_part;

typedef struct ki_spec {
    const struct ki_transform_part *transform; /* NULL: none */
    const struct ki_structure_part *structure;
    const struct ki_codec_part *codec;
    const struct ki_refinement_part *refinement; /* NULL: none */
    uint64_t structure_args[KI_SPEC_ARGS], codec_args[KI_SPEC_ARGS], refinement_args[KI_SPEC_ARGS];
    uint64_t transform_args[KI_SPEC_ARGS];
    char canonical[KI_SPEC_SIZE];
} ki_spec;

/* Parse a spec.
 * Errors:   KITH_INVALID; the message names the part, its position in the string (from 0) and what is allowed. */
kith_status ki_spec_parse(const char *text, ki_spec *spec, kith_error *err);

/* The canonical text anew, after numbers were changed. */
void ki_spec_rename(ki_spec *spec);

/* Every parameter that an index of a spec takes: structure, codec, refinement and transform one after the other,
 * then the one that every index takes, target_recall. */
size_t ki_spec_param_count(const ki_spec *spec);
const kith_param_info *ki_spec_param(const ki_spec *spec, size_t i);

/* Where the parameters of the codec, of the refinement and of the transform begin among them. */
size_t ki_spec_codec_params(const ki_spec *spec);
size_t ki_spec_refinement_params(const ki_spec *spec);
size_t ki_spec_transform_params(const ki_spec *spec);

/* Where target_recall stands among them: last, of no part. */
size_t ki_spec_target_recall(const ki_spec *spec);

/* The position of a parameter by name, checked against its range.
 * Errors:   KITH_INVALID for an unknown name (the known ones are listed), a value out of range or not whole,
 *           or one that is set at another time than `when`. */
kith_status ki_spec_find(const ki_spec *spec, const char *name, double value, kith_param_when when,
                         size_t *position, kith_error *err);

/* Fill values[] with what each parameter is when nobody sets it. */
void ki_spec_initial(const ki_spec *spec, double *values);

#endif
