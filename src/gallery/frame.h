/* frame.h - messages between the program and its decoder processes.
 *
 * A frame is a header of 20 bytes, a text (why something failed, else nothing) and a body. Both sides run on
 * one machine and were forked from one program, so numbers are in the machine's own order. A decoder that
 * was taken over by the picture it decodes can write anything: the reader believes nothing that the header
 * says until it is within bounds, and allocates nothing larger than the caller allowed.
 */
#ifndef KI_GALLERY_FRAME_H
#define KI_GALLERY_FRAME_H

#include <kith/allocator.h>
#include <kith/status.h>

#define KI_FRAME_MAGIC 0x4652414du
#define KI_FRAME_MAX_TEXT 480 /* fits kith_error.message with room for a prefix */

enum { KI_FRAME_SETUP = 1, KI_FRAME_READY = 2, KI_FRAME_TASK = 3, KI_FRAME_REPLY = 4 };

typedef struct ki_frame_header {
    uint32_t magic;
    uint32_t kind;
    uint32_t status; /* a kith_status */
    uint32_t text_size;
    uint32_t body_size;
} ki_frame_header;

_Static_assert(sizeof(ki_frame_header) == 20, "no padding between processes");

/* KITH_OK, or KITH_CORRUPT: not a frame, of another kind, or larger than max_body. */
kith_status ki_frame_check(const ki_frame_header *header, uint32_t kind, size_t max_body, kith_error *err);

/* Collects a frame from pieces of any size. */
typedef struct ki_frame_reader {
    uint32_t kind; /* the only kind expected */
    size_t max_body;
    const kith_allocator *allocator;
    ki_frame_header header;
    uint8_t *bytes; /* the text, a zero, the body */
    size_t got;     /* bytes so far, header included */
} ki_frame_reader;

void ki_frame_reader_init(ki_frame_reader *reader, uint32_t kind, size_t max_body,
                          const kith_allocator *allocator);
void ki_frame_reader_clear(ki_frame_reader *reader);

/* Where the next bytes go and how many are wanted; 0 when the frame is complete. */
size_t ki_frame_wanted(const ki_frame_reader *reader, void **into);

/* `n` bytes have been put there, 1 <= n <= wanted.
 * Errors:   KITH_CORRUPT, KITH_NOMEM; the reader can then only be cleared. */
kith_status ki_frame_took(ki_frame_reader *reader, size_t n, kith_error *err);

/* Of a complete frame. The text is zero-terminated and holds no control characters. */
const char *ki_frame_text(const ki_frame_reader *reader);
const uint8_t *ki_frame_body(const ki_frame_reader *reader);

#endif
