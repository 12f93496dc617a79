/* budget.c - an allocator that keeps a contract: never more than so many bytes at a time. */
#include "engine/budget.h"

/* In front of each block, so that freeing knows its size; as wide as blocks are aligned. */
#define HEAD 64

static void *take(void *ctx, size_t size, size_t align)
{
    ki_budget *b = ctx;
    size_t whole;
    (void)align; /* ki_alloc aligns to 64 at least, and nobody asks for more */
    if (!ki_add_fits(size, HEAD, &whole)) return NULL;
    uint64_t used = __atomic_add_fetch(&b->used, whole, __ATOMIC_RELAXED);
    unsigned char *block = used <= b->most ? ki_alloc(b->under, whole, 1) : NULL;
    if (!block) {
        __atomic_sub_fetch(&b->used, whole, __ATOMIC_RELAXED);
        return NULL;
    }
    uint64_t peak = __atomic_load_n(&b->peak, __ATOMIC_RELAXED);
    while (used > peak &&
           !__atomic_compare_exchange_n(&b->peak, &peak, used, 1, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    }
    *(size_t *)(void *)block = whole;
    return block + HEAD;
}

static void give_back(void *ctx, void *block)
{
    ki_budget *b = ctx;
    unsigned char *head = (unsigned char *)block - HEAD;
    __atomic_sub_fetch(&b->used, *(size_t *)(void *)head, __ATOMIC_RELAXED);
    ki_free(b->under, head);
}

void ki_budget_init(ki_budget *budget, uint64_t most, const kith_allocator *under)
{
    *budget = (ki_budget){.allocator = {budget, take, give_back}, .under = under, .most = most};
}

uint64_t ki_budget_left(const kith_collection *c)
{
    if (!c->budget) return UINT64_MAX;
    uint64_t used = __atomic_load_n(&c->budget->used, __ATOMIC_RELAXED);
    return used < c->budget->most ? c->budget->most - used : 0;
}

int ki_budget_fits(const kith_collection *c, double bytes)
{
    return !c->budget || 2 * bytes <= (double)ki_budget_left(c);
}
