/* budget.h - max_bytes: what a handle may hold in memory, kept by the allocator that everything of it uses. */
#ifndef KI_ENGINE_BUDGET_H
#define KI_ENGINE_BUDGET_H

#include "engine/engine.h"

/* An allocator that answers NULL beyond a number of bytes; `under` gives them. It must outlive what was made with it. */
typedef struct ki_budget {
    kith_allocator allocator;
    const kith_allocator *under;
    uint64_t most, used, peak; /* used and peak: changed by threads of a pool, too */
} ki_budget;

void ki_budget_init(ki_budget *budget, uint64_t most, const kith_allocator *under);

/* Bytes that the handle may still take; UINT64_MAX without a budget. */
uint64_t ki_budget_left(const kith_collection *c);

/* Whether that many bytes may be taken, for what is worth having only if it leaves room for the rest: half of it. */
int ki_budget_fits(const kith_collection *c, double bytes);

#endif
