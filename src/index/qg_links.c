/* qg_links.c - which links a row has: the heuristic of graph_prune.h, and how one more link is fitted in. The essay is in
 * qg.c. */
#include "index/qg_internal.h"

#include <string.h>

#include "base/error.h"

/* Links of a row, and how many times nearer one must lead where there are so many (docs/design/004-qg.md, "A link must save"). */
#define ROOMY 32
#define ROOMY_ALPHA 1.05

static ki_alpha alpha_of(const ki_qg *g)
{
    double alpha = g->base.env->params[KI_QG_ALPHA];
    if (alpha < 1) alpha = g->at.degree < ROOMY ? 1 : ROOMY_ALPHA;
    return ki_alpha_of(g->base.env, alpha);
}

kith_status ki_qg_chooser_init(const ki_qg *g, ki_qg_chooser *c, kith_error *err)
{
    const ki_structure_env *env = g->base.env;
    const ki_codec *codec = env->codec;
    c->alpha = alpha_of(g);
    KI_TRY(codec->ops->scorer(codec, env->allocator, &c->ask, err));
    KI_TRY(ki_qg_point_init(g, &c->self, err));
    KI_TRY(ki_qg_point_init(g, &c->other, err));
    c->code = ki_alloc(env->allocator, KI_QG_CANDIDATES, codec->code_size);
    c->factor = ki_alloc(env->allocator, KI_QG_CANDIDATES * codec->n_factors, sizeof *c->factor);
    if (c->code && c->factor) return KITH_OK;
    return ki_fail_nomem(err, KI_QG_CANDIDATES * (codec->code_size + codec->n_factors * sizeof *c->factor));
}

void ki_qg_chooser_clear(const ki_qg *g, ki_qg_chooser *c)
{
    const kith_allocator *allocator = g->base.env->allocator;
    ki_scorer_free(c->ask);
    ki_qg_point_clear(g, &c->self);
    ki_qg_point_clear(g, &c->other);
    ki_free(allocator, c->code);
    ki_free(allocator, c->factor);
}

/* Copy the codes of near[n] side by side: they are compared many times. */
static void gather(const ki_qg *g, ki_qg_chooser *c, size_t n)
{
    const ki_codec *codec = g->base.env->codec;
    for (size_t i = 0; i < n; i++) {
        const char *code = (const char *)ki_qg_row(g, c->near[i].node) + g->at.factor;
        for (size_t b = 0; b < g->at.stride - g->at.factor; b += KI_CACHE_LINE) __builtin_prefetch(code + b);
    }
    for (size_t i = 0; i < n; i++) {
        ki_codes code = ki_qg_code(g, c->near[i].node);
        memcpy(c->code + i * codec->code_size, code.code, codec->code_size);
        if (codec->n_factors > 0)
            memcpy(c->factor + i * codec->n_factors, code.factor, codec->n_factors * sizeof(float));
    }
}

/* The distances of candidate `i` to candidates first.. of n, to c->dist[first..]. */
static void compare(const ki_qg *g, ki_qg_chooser *c, size_t i, size_t first, size_t n)
{
    const ki_codec *codec = g->base.env->codec;
    const uint8_t *code = c->code + i * codec->code_size;
    c->ask->ops->row(c->ask, code, c->factor + i * codec->n_factors, NULL);
    ki_codes rest = {c->code + first * codec->code_size, c->factor + first * codec->n_factors};
    c->ask->ops->score(c->ask, rest, NULL, n - first, INFINITY, c->dist + first);
}

/* Whether the row at `dist` may be a filler beside one `between` away from it. Of rows at one place one is enough. */
static int hides(const ki_qg *g, const ki_qg_chooser *c, float between, float dist)
{
    return ki_alpha_hides(c->alpha, between, dist) ||
           (g->base.env->metric == KITH_L2SQ && between == 0 && dist == 0);
}

void ki_qg_choose(ki_qg *g, ki_qg_chooser *c, uint32_t slot, size_t n)
{
    size_t kept = 0, degree = g->at.degree;
    ki_qg_point_load(g, &c->self, slot);
    gather(g, c, n);
    memset(c->hidden, 0, n);
    /* Each row that is kept hides those behind it that are nearer to it than to this one, alpha times. */
    for (size_t i = 0; i < n && kept < degree; i++) {
        if (c->hidden[i]) continue;
        kept++;
        if (i + 1 == n) break;
        compare(g, c, i, i + 1, n);
        for (size_t j = i + 1; j < n; j++) c->hidden[j] |= (uint8_t)hides(g, c, c->dist[j], c->near[j].dist);
    }
    size_t place = 0, fillers = degree - kept;
    for (size_t i = 0; i < n && place < degree; i++) {
        if (c->hidden[i] && (fillers == 0 || fillers-- == 0)) continue;
        ki_qg_point_load(g, &c->other, c->near[i].node);
        ki_qg_put(g, slot, &c->self, &c->other, place++, c->near[i].node | (c->hidden[i] ? KI_QG_FILLER : 0));
    }
    while (place < degree) ki_qg_unput(g, slot, place++);
}

/* The place whose link gives way to a new one at `dist`, whether that is a filler or not: an empty one, the farthest
 * filler, the farthest of all; degree: the new one is what gives way. near[], hidden[]: the links as they are. */
static size_t victim(const ki_qg_chooser *c, size_t n, size_t degree, float dist, int filler)
{
    if (n < degree) return n;
    size_t filled = degree, farthest = degree;
    for (size_t i = 0; i < n; i++) {
        if (c->hidden[i] && (filled == degree || c->near[i].dist > c->near[filled].dist)) filled = i;
        if (farthest == degree || c->near[i].dist > c->near[farthest].dist) farthest = i;
    }
    if (filled != degree) return filler && !(dist < c->near[filled].dist) ? degree : filled;
    return filler || !(dist < c->near[farthest].dist) ? degree : farthest;
}

void ki_qg_offer_link(ki_qg *g, ki_qg_chooser *c, uint32_t slot, uint32_t other)
{
    uint32_t *links = ki_qg_own_links(g, slot);
    size_t n = 0, degree = g->at.degree;
    for (; n < degree && links[n] != KI_GRAPH_NONE; n++) {
        if (ki_qg_to(links[n]) == other) return;
        c->near[n].node = ki_qg_to(links[n]);
        c->hidden[n] = (links[n] & KI_QG_FILLER) != 0;
    }
    c->near[n].node = other;
    gather(g, c, n + 1);
    ki_qg_ask(g, c->ask, slot);
    c->ask->ops->score(c->ask, (ki_codes){c->code, c->factor}, NULL, n + 1, INFINITY, c->dist);
    for (size_t i = 0; i <= n; i++) c->near[i].dist = c->dist[i];
    compare(g, c, n, 0, n);
    float dist = c->near[n].dist;
    int hidden = 0;
    for (size_t i = 0; i < n; i++)
        if (!c->hidden[i] && c->near[i].dist <= dist) hidden |= hides(g, c, c->dist[i], dist);
    for (size_t i = 0; i < n && !hidden; i++)
        if (c->near[i].dist > dist && !c->hidden[i] &&
            ki_alpha_hides(c->alpha, c->dist[i], c->near[i].dist)) {
            c->hidden[i] = 1;
            links[i] |= KI_QG_FILLER;
        }
    size_t place = victim(c, n, degree, dist, hidden);
    if (place == degree) return;
    if (c->lost && n == degree) c->lost[c->n_lost++] = (uint64_t)slot << 32 | ki_qg_to(links[place]);
    ki_qg_point_load(g, &c->self, slot);
    ki_qg_point_load(g, &c->other, other);
    ki_qg_put(g, slot, &c->self, &c->other, place, other | (hidden ? KI_QG_FILLER : 0));
}
