#include "index/spec.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "index/family.h"

#define KI_TRANSFORM(symbol) extern const ki_transform_part symbol;
#define KI_STRUCTURE(symbol) extern const ki_structure_part symbol;
#define KI_CODEC(symbol) extern const ki_codec_part symbol;
#define KI_REFINEMENT(symbol) extern const ki_refinement_part symbol;
#include "index/families.def"

static const ki_transform_part *const transforms[] = {
#define KI_TRANSFORM(symbol) &symbol,
#include "index/families.def"
};
static const ki_structure_part *const structures[] = {
#define KI_STRUCTURE(symbol) &symbol,
#include "index/families.def"
};
static const ki_codec_part *const codecs[] = {
#define KI_CODEC(symbol) &symbol,
#include "index/families.def"
};
static const ki_refinement_part *const refinements[] = {
#define KI_REFINEMENT(symbol) &symbol,
#include "index/families.def"
};

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* What a spec that names no structure, or no codec, means. */
#define DEFAULT_STRUCTURE (structures[0])
#define DEFAULT_CODEC (codecs[0])
#define FINGERPRINT_BLOCK 16 /* bits of a table, of fingerprints without a structure: BMIH4, BMIH8 */

const kith_family_info *const *kith_families(size_t *n)
{
    static const kith_family_info *const infos[] = {
#define KI_TRANSFORM(symbol) &symbol.part.info,
#define KI_STRUCTURE(symbol) &symbol.part.info,
#define KI_CODEC(symbol) &symbol.part.info,
#define KI_REFINEMENT(symbol) &symbol.part.info,
#include "index/families.def"
    };
    if (n) *n = COUNT(infos);
    return infos;
}

/* ---- Matching one part against one pattern ---- */

/* A piece of the spec between commas. */
typedef struct piece {
    const char *text;
    size_t size, at; /* at: its position in the spec */
} piece;

/* A number of at most 18 digits, without leading zeros. 0: no number here. */
static size_t read_number(const char *text, size_t size, uint64_t *value)
{
    size_t digits = 0;
    uint64_t number = 0;
    while (digits < size && digits < 18 && isdigit((unsigned char)text[digits]))
        number = number * 10 + (uint64_t)(text[digits++] - '0');
    if (digits == 0 || (digits > 1 && text[0] == '0')) return 0;
    if (digits < size && isdigit((unsigned char)text[digits])) return 0;
    *value = number;
    return digits;
}

/* Whether what is left of a piece goes on as the bracket at `pattern` does. */
static int opens(const char *pattern, const char *text, size_t left)
{
    size_t literal = strcspn(pattern + 1, "<]");
    if (left == 0 || literal > left || strncmp(text, pattern + 1, literal) != 0) return 0;
    return literal > 0 || isdigit((unsigned char)*text);
}

/* Match a piece against a pattern. args[] get the numbers, where[] their positions. A tail in brackets is
 * there or not, each by itself; what it would hold keeps its initial value then. */
static int match(const ki_part *part, piece p, uint64_t *args, size_t *where)
{
    const char *pattern = part->info.pattern;
    size_t i = 0, arg = 0;
    for (size_t a = 0; a < KI_SPEC_ARGS; a++) {
        args[a] = part->args[a].name ? part->args[a].initial : 0;
        where[a] = p.at;
    }
    while (*pattern) {
        if (*pattern == '[') {
            if (!opens(pattern, p.text + i, p.size - i)) /* the tail is left out */
                for (; *pattern != ']'; pattern++) arg += *pattern == '<';
            pattern++;
        } else if (*pattern == ']') {
            pattern++;
        } else if (*pattern == '<') {
            size_t digits = read_number(p.text + i, p.size - i, &args[arg]);
            if (digits == 0) return 0;
            where[arg++] = p.at + i;
            i += digits;
            pattern = strchr(pattern, '>') + 1;
        } else {
            if (i == p.size || p.text[i] != *pattern) return 0;
            i++;
            pattern++;
        }
    }
    return i == p.size;
}

static kith_status check_args(const ki_part *part, const uint64_t *args, const size_t *where, kith_error *err)
{
    for (size_t a = 0; a < KI_SPEC_ARGS && part->args[a].name; a++) {
        const ki_spec_arg *arg = &part->args[a];
        if (args[a] < arg->low || args[a] > arg->high)
            return ki_fail(err, KITH_INVALID, "spec: %s of %s is %llu at position %zu, allowed %llu..%llu",
                           arg->name, part->info.pattern, (unsigned long long)args[a], where[a],
                           (unsigned long long)arg->low, (unsigned long long)arg->high);
    }
    return KITH_OK;
}

/* ---- Canonical text ---- */

static void append(char *text, const char *more)
{
    size_t used = strlen(text);
    snprintf(text + used, KI_SPEC_SIZE - used, "%s", more);
}

/* A part with its numbers; a tail whose numbers have their initial values is left out. */
static void append_part(char *text, const ki_part *part, const uint64_t *args)
{
    size_t arg = 0;
    if (text[0]) append(text, ",");
    for (const char *p = part->info.pattern; *p; p++) {
        char piece_text[24] = {*p, 0};
        if (*p == '[') {
            int plain = 1;
            size_t a = arg;
            for (const char *q = p; *q != ']'; q++) {
                if (*q != '<') continue;
                plain = plain && args[a] == part->args[a].initial;
                a++;
            }
            if (!plain) continue;
            arg = a;
            p = strchr(p, ']');
            continue;
        }
        if (*p == ']') continue;
        if (*p == '<') {
            snprintf(piece_text, sizeof piece_text, "%llu", (unsigned long long)args[arg++]);
            p = strchr(p, '>');
        }
        append(text, piece_text);
    }
}

void ki_spec_rename(ki_spec *spec)
{
    spec->canonical[0] = 0;
    if (spec->transform) append_part(spec->canonical, &spec->transform->part, spec->transform_args);
    /* `PQ16` is Flat with that codec, `Flat` is Flat with Flat: the structure's name is said only if it has to
     * be, the codec's only if the structure is not the default. */
    if (spec->structure != DEFAULT_STRUCTURE)
        append_part(spec->canonical, &spec->structure->part, spec->structure_args);
    if (!spec->structure->codec) append_part(spec->canonical, &spec->codec->part, spec->codec_args);
    if (spec->refinement) append_part(spec->canonical, &spec->refinement->part, spec->refinement_args);
}

/* ---- The parser ---- */

enum { TRANSFORM, STRUCTURE, CODEC, REFINEMENT, N_KINDS };
static const char *const kind_names[N_KINDS] = {"transform", "structure", "codec", "refinement"};
static const size_t kind_counts[N_KINDS] = {COUNT(transforms), COUNT(structures), COUNT(codecs),
                                            COUNT(refinements)};

static const ki_part *part_of(int kind, size_t i)
{
    switch (kind) {
    case TRANSFORM: return &transforms[i]->part;
    case STRUCTURE: return &structures[i]->part;
    case CODEC: return &codecs[i]->part;
    default: return &refinements[i]->part;
    }
}

/* The part of one kind that a piece names, or NULL. */
static const ki_part *find_part(int kind, piece p, uint64_t *args, size_t *where, size_t *number)
{
    for (size_t i = 0; i < kind_counts[kind]; i++) {
        const ki_part *part = part_of(kind, i);
        if (!match(part, p, args, where)) continue;
        *number = i;
        return part;
    }
    return NULL;
}

/* All patterns of the kinds from `kind` on, for a message; dots at the end where there is no room for more. */
static void list_patterns(int kind, char *text, size_t size)
{
    size_t n, used = 0;
    const kith_family_info *const *infos = kith_families(&n);
    size_t first = 0;
    for (int k = 0; k < kind; k++) first += kind_counts[k];
    text[0] = 0;
    for (size_t i = first; i < n && used < size; i++)
        used += (size_t)snprintf(text + used, size - used, "%s%s", i > first ? ", " : "", infos[i]->pattern);
    if (used >= size) strcpy(text + size - sizeof "...", "...");
}

/* The pattern of which a piece is all but the number, or NULL. */
static const char *without_number(int kind, piece p)
{
    for (; kind < N_KINDS; kind++)
        for (size_t i = 0; i < kind_counts[kind]; i++) {
            const char *pattern = part_of(kind, i)->info.pattern;
            if (p.size > 0 && strncmp(pattern, p.text, p.size) == 0 && pattern[p.size] == '<') return pattern;
        }
    return NULL;
}

static kith_status refuse(int kind, piece p, kith_error *err)
{
    const char *pattern = without_number(kind, p);
    if (pattern)
        return ki_fail(err, KITH_INVALID, "spec: \"%.*s\" at position %zu lacks its number: %s", (int)p.size,
                       p.text, p.at, pattern);
    char allowed[400];
    list_patterns(kind, allowed, sizeof allowed);
    return ki_fail(err, KITH_INVALID, "spec: \"%.*s\" at position %zu is no %s%s; allowed: %s",
                   p.size > 60 ? 60 : (int)p.size, p.text, p.at,
                   kind == N_KINDS ? "part that may come here" : kind_names[kind],
                   kind < REFINEMENT ? " or later part" : "", allowed[0] ? allowed : "nothing more");
}

/* The next piece of the spec; spaces around it are passed over. */
static piece next_piece(const char *text, size_t *at)
{
    while (text[*at] == ' ') (*at)++;
    piece p = {text + *at, strcspn(text + *at, ","), *at};
    *at += p.size;
    while (p.size > 0 && p.text[p.size - 1] == ' ') p.size--;
    return p;
}

kith_status ki_spec_parse(const char *text, ki_spec *spec, kith_error *err)
{
    if (!text) return ki_fail(err, KITH_INVALID, "spec is NULL");
    memset(spec, 0, sizeof *spec);
    spec->structure = DEFAULT_STRUCTURE;
    spec->codec = DEFAULT_CODEC;
    int kind = TRANSFORM; /* the earliest that may come next: parts stand in order, each may be left out */
    size_t at = 0;
    for (;;) {
        piece p = next_piece(text, &at);
        uint64_t args[KI_SPEC_ARGS];
        size_t where[KI_SPEC_ARGS], number = 0;
        const ki_part *part = NULL;
        int found = kind;
        for (; found < N_KINDS && !part; found++) part = find_part(found, p, args, where, &number);
        if (!part) return refuse(kind, p, err);
        KI_TRY(check_args(part, args, where, err));
        found--;
        if (found == TRANSFORM) {
            spec->transform = transforms[number];
            memcpy(spec->transform_args, args, sizeof args);
        } else if (found == STRUCTURE) {
            spec->structure = structures[number];
            memcpy(spec->structure_args, args, sizeof args);
            if (spec->structure->codec) { /* no choice of a codec */
                spec->codec = spec->structure->codec;
                memcpy(spec->codec_args, args, sizeof args);
                found = CODEC;
            }
        } else if (found == CODEC) {
            spec->codec = codecs[number];
            memcpy(spec->codec_args, args, sizeof args);
        } else {
            spec->refinement = refinements[number];
            memcpy(spec->refinement_args, args, sizeof args);
        }
        kind = found + 1;
        if (text[at] == 0) break;
        at++;
    }
    int fingerprint = spec->transform && spec->transform->fingerprint;
    if (fingerprint && spec->structure == DEFAULT_STRUCTURE && kind == STRUCTURE) {
        /* Fingerprints alone: blocks of 16 bits, as Manku et al. have them. */
        spec->structure = &ki_structure_bmih;
        spec->structure_args[0] = spec->transform_args[0] / FINGERPRINT_BLOCK;
        spec->codec = spec->structure->codec;
    }
    if (spec->refinement && spec->codec->exact && (!spec->transform || fingerprint))
        return ki_fail(err, KITH_INVALID, "spec: %s needs no refinement, its codes are exact",
                       spec->codec->part.info.pattern);
    if (spec->refinement && spec->codec->fine >= spec->refinement->fine && !spec->transform)
        return ki_fail(err, KITH_INVALID, "spec: %s is no better copy than %s",
                       spec->refinement->part.info.pattern, spec->codec->part.info.pattern);
    ki_spec_rename(spec);
    return KITH_OK;
}

/* ---- Parameters ---- */

size_t ki_spec_codec_params(const ki_spec *spec)
{
    return spec->structure->part.info.n_params;
}

size_t ki_spec_refinement_params(const ki_spec *spec)
{
    return ki_spec_codec_params(spec) + spec->codec->part.info.n_params;
}

size_t ki_spec_transform_params(const ki_spec *spec)
{
    return ki_spec_refinement_params(spec) + (spec->refinement ? spec->refinement->part.info.n_params : 0);
}

/* What every index takes, whatever its parts are. */
static const kith_param_info target_recall = {
    "target_recall",
    KITH_PARAM_FLOAT,
    KITH_AT_SEARCH,
    0,
    1,
    0,
    "mean recall that is wanted: sets the parameters that reach it, in an index that is calibrated; 0: off"};

size_t ki_spec_target_recall(const ki_spec *spec)
{
    return ki_spec_transform_params(spec) + (spec->transform ? spec->transform->part.info.n_params : 0);
}

size_t ki_spec_param_count(const ki_spec *spec)
{
    return ki_spec_target_recall(spec) + 1;
}

const kith_param_info *ki_spec_param(const ki_spec *spec, size_t i)
{
    if (i < ki_spec_codec_params(spec)) return &spec->structure->part.info.params[i];
    if (i < ki_spec_refinement_params(spec))
        return &spec->codec->part.info.params[i - ki_spec_codec_params(spec)];
    if (i < ki_spec_transform_params(spec))
        return &spec->refinement->part.info.params[i - ki_spec_refinement_params(spec)];
    if (i == ki_spec_target_recall(spec)) return &target_recall;
    return &spec->transform->part.info.params[i - ki_spec_transform_params(spec)];
}

void ki_spec_initial(const ki_spec *spec, double *values)
{
    for (size_t i = 0; i < ki_spec_param_count(spec); i++) values[i] = ki_spec_param(spec, i)->initial;
}

static kith_status unknown_name(const ki_spec *spec, const char *name, kith_param_when when, kith_error *err)
{
    char known[300];
    size_t used = 0;
    known[0] = 0;
    for (size_t i = 0; i < ki_spec_param_count(spec) && used < sizeof known; i++)
        if (ki_spec_param(spec, i)->when == when)
            used += (size_t)snprintf(known + used, sizeof known - used, "%s%s", used ? ", " : "",
                                     ki_spec_param(spec, i)->name);
    return ki_fail(err, KITH_INVALID, "%s has no parameter \"%.60s\"; at this time it takes: %s",
                   spec->canonical, name, known[0] ? known : "none");
}

kith_status ki_spec_find(const ki_spec *spec, const char *name, double value, kith_param_when when,
                         size_t *position, kith_error *err)
{
    if (!name) return ki_fail(err, KITH_INVALID, "the name of a parameter is NULL");
    for (size_t i = 0; i < ki_spec_param_count(spec); i++) {
        const kith_param_info *info = ki_spec_param(spec, i);
        if (strcmp(info->name, name) != 0) continue;
        if (info->when != when)
            return ki_fail(err, KITH_INVALID, "%s is set %s", name,
                           info->when == KITH_AT_BUILD ? "before training, not with a search"
                                                       : "with a search, not before training");
        if (!(value >= info->low && value <= info->high))
            return ki_fail(err, KITH_INVALID, "%s is %.12g, allowed %.12g..%.12g", name, value, info->low,
                           info->high);
        if (info->kind != KITH_PARAM_FLOAT && value != floor(value))
            return ki_fail(err, KITH_INVALID, "%s is %.12g, allowed are whole numbers %.12g..%.12g", name,
                           value, info->low, info->high);
        *position = i;
        return KITH_OK;
    }
    return unknown_name(spec, name, when, err);
}

kith_status kith_spec_params(const char *text, kith_param_info *infos, size_t *n, kith_error *err)
{
    if (!n) return ki_fail(err, KITH_INVALID, "n is NULL");
    ki_spec spec;
    KI_TRY(ki_spec_parse(text, &spec, err));
    size_t count = ki_spec_param_count(&spec);
    if (infos && *n < count)
        return ki_fail(err, KITH_INVALID, "n is %zu, %s has %zu parameters", *n, spec.canonical, count);
    for (size_t i = 0; infos && i < count; i++) infos[i] = *ki_spec_param(&spec, i);
    *n = count;
    return KITH_OK;
}
