#include "engine/recent.h"

#include <assert.h>
#include <string.h>

enum {
    RING = 2 << 20, /* bytes kept; arbitrary: the payloads of some ten thousand rows */
    LONGEST = 4096, /* of one */
    SETS = 16384,   /* of PLACES entries each */
    PLACES = 4      /* that a row may be found at */
};

/* Bytes have the number at which they were put, counted from the first: those of the last RING are in the ring. */
typedef struct entry {
    int64_t key; /* 0: none */
    uint64_t begin;
    uint32_t size;
    ki_recent_kind kind;
} entry;

struct ki_recent {
    uint64_t version, stamp; /* the state that all of it is of */
    uint64_t first, end;     /* of the bytes that count */
    entry entries[SETS][PLACES];
    unsigned char ring[RING];
};

static int is_there(const struct ki_recent *r, const entry *e)
{
    return e->key != 0 && e->begin >= r->first && r->end - e->begin <= RING;
}

static entry *set_of(struct ki_recent *r, ki_recent_kind kind, int64_t key)
{
    uint64_t mixed = (2 * (uint64_t)key + kind) * 0x9e3779b97f4a7c15u;
    return r->entries[mixed >> 50]; /* 14 bits: SETS */
}
static_assert(SETS == 1 << (64 - 50), "the hash is as wide as the table");

/* Whether there is something to be asked in the state that is open; what is of another one is forgotten. */
static int is_current(kith_collection *c)
{
    struct ki_recent *r = c->recent;
    if (!r || c->mode == KI_BATCH) return 0;
    if (r->version != c->state.version || r->stamp != c->state.stamp) {
        r->version = c->state.version;
        r->stamp = c->state.stamp;
        r->first = r->end;
    }
    return 1;
}

int ki_recent_get(kith_collection *c, ki_recent_kind kind, int64_t key, const void **bytes, size_t *size)
{
    if (!is_current(c)) return 0;
    const entry *set = set_of(c->recent, kind, key);
    for (size_t i = 0; i < PLACES; i++) {
        const entry *e = &set[i];
        if (e->key != key || e->kind != kind || !is_there(c->recent, e)) continue;
        *bytes = c->recent->ring + e->begin % RING;
        *size = e->size;
        return 1;
    }
    return 0;
}

void ki_recent_put(kith_collection *c, ki_recent_kind kind, int64_t key, const void *bytes, size_t size)
{
    if (size > LONGEST || c->mode == KI_BATCH || c->budget) return;
    if (!c->recent) c->recent = ki_alloc_zero(c->allocator, 1, sizeof *c->recent);
    struct ki_recent *r = c->recent;
    if (!r || !is_current(c)) return;
    entry *set = set_of(r, kind, key), *oldest = &set[0];
    for (size_t i = 1; i < PLACES; i++)
        if (set[i].begin < oldest->begin) oldest = &set[i];
    if (r->end % RING + size > RING) r->end += RING - r->end % RING; /* in one piece */
    *oldest = (entry){key, r->end, (uint32_t)size, kind};
    if (size > 0) memcpy(r->ring + r->end % RING, bytes, size);
    r->end += size;
}

void ki_recent_free(kith_collection *c)
{
    ki_free(c->allocator, c->recent);
    c->recent = NULL;
}
