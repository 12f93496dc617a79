#include "index/graph_back.h"

#include "base/error.h"
#include "base/select.h"

void ki_back_clear(ki_back *back, const kith_allocator *allocator)
{
    ki_free(allocator, back->keys);
    ki_free(allocator, back->source);
    ki_free(allocator, back->group);
    *back = (ki_back){0};
}

kith_status ki_back_reserve(ki_back *back, size_t n, const kith_allocator *allocator, kith_error *err)
{
    if (n <= back->room) return KITH_OK;
    size_t room = ki_grown(back->room, n);
    ki_back grown = {.keys = ki_alloc(allocator, room, sizeof *grown.keys),
                     .source = ki_alloc(allocator, room, sizeof *grown.source),
                     .group = ki_alloc(allocator, room + 1, sizeof *grown.group),
                     .room = room};
    if (!grown.keys || !grown.source || !grown.group) {
        ki_back_clear(&grown, allocator);
        return ki_fail_nomem(err, room * (sizeof *grown.keys + 2 * sizeof *grown.source));
    }
    ki_back_clear(back, allocator);
    *back = grown;
    return KITH_OK;
}

void ki_back_add(ki_back *back, int level, const uint32_t *links, size_t degree, uint32_t node)
{
    for (size_t i = 0; i < degree && links[i] != KI_GRAPH_NONE; i++, back->n++) {
        back->keys[back->n] =
            (uint64_t)level << KI_BACK_LEVEL_SHIFT | (uint64_t)links[i] << KI_BACK_NODE_SHIFT | back->n;
        back->source[back->n] = node;
    }
}

void ki_back_sort(ki_back *back)
{
    ki_keys_sort(back->keys, back->n);
    back->n_groups = 0;
    for (size_t i = 0; i < back->n; i++)
        if (i == 0 || back->keys[i] >> KI_BACK_NODE_SHIFT != back->keys[i - 1] >> KI_BACK_NODE_SHIFT)
            back->group[back->n_groups++] = (uint32_t)i;
    back->group[back->n_groups] = (uint32_t)back->n;
}
