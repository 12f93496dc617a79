/* similar_sets.c - which of four sets are alike: exactly, and by MinHash signatures. */
#include <stdio.h>

#include <kith/minhash.h>
#include <kith/sets.h>

enum { SETS = 4, HASHES = 512 };

int main(void)
{
    static const uint64_t tokens[] = {'a', 'd', 'c', 'b', 'd', 'e', 'a', 'c', 'd'};
    static const uint64_t starts[SETS + 1] = {0, 2, 3, 6, 9};
    const kith_sets sets = {tokens, starts, SETS, NULL};
    static uint32_t signatures[SETS][HASHES];
    kith_minhash *minhash;
    kith_pairs pairs;
    kith_error err;
    if (kith_minhash_create(HASHES, 1, NULL, &minhash, &err) != KITH_OK ||
        kith_minhash_sign_sets(minhash, &sets, NULL, signatures[0], &err) != KITH_OK ||
        kith_sets_join(&sets, 0.1, NULL, NULL, &pairs, &err) != KITH_OK) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    for (size_t i = 0; i < pairs.n; i++) {
        const kith_pair *pair = &pairs.items[i];
        printf("sets %u and %u: Jaccard %.3f, estimated %.3f\n", pair->a, pair->b, pair->similarity,
               kith_minhash_similarity(signatures[pair->a], signatures[pair->b], HASHES));
    }
    int failed = pairs.n != 4; /* of six; {c} has nothing in common with two */
    kith_pairs_clear(&pairs);
    kith_minhash_free(minhash);
    return failed;
}
