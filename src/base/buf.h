/*
 * Growing byte buffers with a limit and a sticky error.
 *
 * Many small writes, one check: after the limit or an empty heap the buffer remembers that it failed, keeps what it had,
 * and ignores further writes. Integers are little-endian.
 */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include "base/str.h"
#include <stdarg.h>

struct buf {
    char  *p;          /* owned, unless fixed */
    size_t n;          /* bytes in use */
    size_t cap;
    size_t max;        /* never grows beyond this */
    bool   failed;
    bool   fixed;      /* the memory is the caller's */
};

void buf_init(struct buf *b, size_t max);                      /* allocates nothing yet */
void buf_init_fixed(struct buf *b, void *memory, size_t size); /* never allocates */
void buf_free(struct buf *b);                                  /* gives the memory back; the buffer is empty and usable */
void buf_clear(struct buf *b);                                 /* empties it and forgets a failure; keeps the memory */
bool buf_ok(const struct buf *b);
struct str buf_str(const struct buf *b);                       /* valid until the next write */

/* Room for n more bytes behind the end, to be filled and then claimed with buf_added; NULL (and failed) if there is none. */
char *buf_room(struct buf *b, size_t n);
void  buf_added(struct buf *b, size_t n);
void  buf_drop_front(struct buf *b, size_t n);                 /* removes the first n bytes (moves the rest) */
void  buf_truncate(struct buf *b, size_t n);                   /* keeps the first n bytes */

void buf_put(struct buf *b, const void *p, size_t n);
void buf_put_str(struct buf *b, struct str s);
void buf_put_z(struct buf *b, const char *z);
void buf_put_char(struct buf *b, char c);
void buf_put_u8(struct buf *b, uint8_t v);
void buf_put_u16(struct buf *b, uint16_t v);
void buf_put_u32(struct buf *b, uint32_t v);
void buf_put_u64(struct buf *b, uint64_t v);
void buf_printf(struct buf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
void buf_vprintf(struct buf *b, const char *format, va_list args);

#endif
