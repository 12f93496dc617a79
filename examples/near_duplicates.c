/* near_duplicates.c - of four texts two are nearly the same, whatever their capitals and punctuation. */
#include <stdio.h>
#include <string.h>

#include <kith/text.h>

int main(void)
{
    static const char *const text[] = {
        "The quick brown fox jumps over the lazy dog, and the dog sleeps on.",
        "Nearest neighbours are found by their distance to a query.",
        "THE QUICK BROWN FOX jumps over the lazy dog -- and the dog sleeps on and on!",
        "Nothing in common with the others, this one.",
    };
    enum { N = sizeof text / sizeof *text };
    size_t size[N];
    for (size_t i = 0; i < N; i++) size[i] = strlen(text[i]);
    kith_texts *texts = NULL;
    kith_pairs pairs = {0};
    kith_error err;
    if (kith_texts_create(NULL, &texts, &err) != KITH_OK ||
        kith_texts_add(texts, N, text, size, NULL, &err) != KITH_OK ||
        kith_texts_pairs(texts, NULL, NULL, &pairs, &err) != KITH_OK)
        fprintf(stderr, "%s\n", err.message);
    for (size_t i = 0; i < pairs.n; i++)
        printf("texts %u and %u: Jaccard %.2f\n", pairs.items[i].a, pairs.items[i].b,
               pairs.items[i].similarity);
    int failed = pairs.n != 1 || pairs.items[0].a != 0 || pairs.items[0].b != 2;
    kith_pairs_clear(&pairs);
    kith_texts_free(texts);
    return failed;
}
