/* power.h - a disk that loses power.
 *
 * What SQLite (through a VFS) and the engine (through a kith_io, and renameat2 wrapped by the linker) do to the files of one folder
 * is done and written down: writes, truncations, syncs; names made, moved and removed; syncs of folders. Out of that are
 * made the folders that a power failure at any moment may leave behind:
 *
 *     what was written before the file's last sync is there
 *     of what was written since, any subset may be there, in pieces of 512 bytes or a page
 *     names are as of the last sync of their folder, or of any moment since
 *
 * which is less than file systems promise, and all that POSIX does. */
#ifndef KI_TEST_POWER_H
#define KI_TEST_POWER_H

#include <stddef.h>
#include <stdint.h>

#include <kith/io.h>

/* Make the VFS SQLite's default one: once, before any collection is opened. */
void power_install(void);

/* The table for segment files. */
const kith_io *power_io(void);

/* Begin to write down what happens to files below `folder`; what is in them now is on the disk. */
void power_record(const char *folder);

/* Write down that something was begun, or acknowledged to the user. */
void power_note(int what);

/* End of recording: what follows is not written down. */
void power_stop(void);

/* How much was written down; moment t is before entry t. */
size_t power_moments(void);

/* Whether entry t is a sync, of a file or of a folder. */
int power_is_sync(size_t t);

/* Of the notes made before moment t the last one whose number is `what` modulo `modulus`; -1: none. */
int power_noted(size_t t, int what, int modulus);

/* What of the things not synced is there. */
typedef enum power_loss {
    POWER_NOTHING,    /* nothing */
    POWER_EVERYTHING, /* all of it: the process was killed, the machine went on */
    POWER_PREFIX,     /* what was done first */
    POWER_SUBSET,     /* any of it, in any order */
    POWER_TORN_512,   /* any pieces of 512 bytes */
    POWER_TORN_4096,  /* any pieces of 4,096 bytes */
    POWER_LOSSES,
    POWER_LIES = POWER_LOSSES /* nothing, and no file was synced when the disk said so */
} power_loss;

/* Make `folder`, whose files are removed first, what a power failure at moment t may have left. Cheap when no moment is before
 * the last call's. */
void power_image(size_t t, power_loss loss, uint64_t seed, const char *folder);

/* Forget what was written down. */
void power_clear(void);

#endif
