/* repair.h - forging an index file: with its checksums made right again after an edit, it is the structure checks
 * that stand in the way. */
#ifndef KI_TEST_REPAIR_H
#define KI_TEST_REPAIR_H

#include <stddef.h>

/* Recompute the checksums of all sections whose place is inside the file, of the directory and of the header. */
void test_repair_checksums(void *file, size_t bytes);

#endif
