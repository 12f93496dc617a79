/* texts_state.h - what texts.c and texts_pairs.c share. */
#ifndef KI_TEXT_TEXTS_STATE_H
#define KI_TEXT_TEXTS_STATE_H

#include <kith/text.h>

struct kith_texts {
    kith_texts_options options;
    const kith_allocator *allocator;
    uint64_t *tokens; /* the sets, one after the other */
    size_t tokens_room;
    uint64_t *starts; /* [n + 1] */
    size_t n, starts_room;
    size_t counted;
};

#endif
