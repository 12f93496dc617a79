/* find_fingerprint.c - a document with one word changed is found by its SimHash among others. */
#include <stdio.h>

#include <kith/simhash.h>

enum { DOCUMENTS = 1000, WORDS = 400 };

int main(void)
{
    static uint64_t prints[DOCUMENTS], words[WORDS];
    uint64_t wanted;
    uint32_t rows[8], distances[8];
    size_t n = 0;
    kith_error err;
    kith_simhash_index *index = NULL;
    kith_status status = KITH_OK;
    for (size_t d = 0; status == KITH_OK && d < DOCUMENTS; d++) {
        for (size_t w = 0; w < WORDS; w++) words[w] = d * WORDS + w;
        status = kith_simhash(64, words, NULL, WORDS, &prints[d], &err);
    }
    for (size_t w = 0; w < WORDS; w++) words[w] = 123 * WORDS + w;
    words[7] = 1; /* the change */
    if (status == KITH_OK) status = kith_simhash(64, words, NULL, WORDS, &wanted, &err);
    if (status == KITH_OK)
        status = kith_simhash_index_create(prints, DOCUMENTS, 64, 6, 7, NULL, NULL, &index, &err);
    if (status == KITH_OK) status = kith_simhash_index_near(index, &wanted, 6, rows, distances, 8, &n, &err);
    if (status != KITH_OK) fprintf(stderr, "%s\n", err.message);
    for (size_t i = 0; i < n && i < 8; i++)
        printf("document %u differs in %u of 64 bits\n", rows[i], distances[i]);
    kith_simhash_index_free(index);
    return n != 1 || rows[0] != 123;
}
