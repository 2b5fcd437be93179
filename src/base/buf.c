/*
 * Byte buffers; the contract is in buf.h. A write either fits whole or changes nothing but the failure mark. Not
 * thread-safe; runs in every process.
 */
#include "base/buf.h"
#include "base/codec.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CAPACITY_FIRST = 64 };

void buf_init(struct buf *b, size_t max)
{
    *b = (struct buf){ .max = max };
}

void buf_init_fixed(struct buf *b, void *memory, size_t size)
{
    *b = (struct buf){ .p = memory, .cap = size, .max = size, .fixed = true };
}

void buf_free(struct buf *b)
{
    if (!b->fixed) {
        free(b->p);
        b->p = NULL;
        b->cap = 0;
    }
    buf_clear(b);
}

void buf_clear(struct buf *b)
{
    b->n = 0;
    b->failed = false;
}

bool buf_ok(const struct buf *b)
{
    return !b->failed;
}

struct str buf_str(const struct buf *b)
{
    return b->p == NULL ? STR("") : (struct str){ b->p, b->n };
}

static bool grow_to(struct buf *b, size_t need)
{
    size_t cap = b->cap == 0 ? CAPACITY_FIRST : b->cap;

    if (b->fixed || need > b->max)
        return false;
    while (cap < need)
        if (__builtin_mul_overflow(cap, 2, &cap))
            cap = need;
    if (cap > b->max)
        cap = b->max;
    char *p = realloc(b->p, cap);
    if (p == NULL)
        return false;
    b->p = p;
    b->cap = cap;
    return true;
}

char *buf_room(struct buf *b, size_t n)
{
    size_t need;

    if (b->failed)
        return NULL;
    if (__builtin_add_overflow(b->n, n, &need)) {
        b->failed = true;
        return NULL;
    }
    /* Room for nothing is still an address, so that NULL keeps its one meaning. */
    if ((need > b->cap || b->p == NULL) && !grow_to(b, need)) {
        b->failed = true;
        return NULL;
    }
    return b->p + b->n;
}

void buf_added(struct buf *b, size_t n)
{
    assert(n <= b->cap - b->n);
    b->n += n;
}

void buf_drop_front(struct buf *b, size_t n)
{
    assert(n <= b->n);
    if (n == 0)
        return;
    b->n -= n;
    memmove(b->p, b->p + n, b->n);
}

void buf_truncate(struct buf *b, size_t n)
{
    assert(n <= b->n);
    b->n = n;
}

void buf_put(struct buf *b, const void *p, size_t n)
{
    if (n == 0)
        return;
    char *room = buf_room(b, n);
    if (room == NULL)
        return;
    memcpy(room, p, n);
    b->n += n;
}

void buf_put_str(struct buf *b, struct str s)
{
    buf_put(b, s.p, s.n);
}

void buf_put_z(struct buf *b, const char *z)
{
    buf_put_str(b, str_of(z));
}

void buf_put_char(struct buf *b, char c)
{
    buf_put(b, &c, 1);
}

void buf_put_u8(struct buf *b, uint8_t v)
{
    buf_put(b, &v, sizeof v);
}

void buf_put_u16(struct buf *b, uint16_t v)
{
    char bytes[sizeof v];

    codec_set_u16(bytes, v);
    buf_put(b, bytes, sizeof bytes);
}

void buf_put_u32(struct buf *b, uint32_t v)
{
    char bytes[sizeof v];

    codec_set_u32(bytes, v);
    buf_put(b, bytes, sizeof bytes);
}

void buf_put_u64(struct buf *b, uint64_t v)
{
    char bytes[sizeof v];

    codec_set_u64(bytes, v);
    buf_put(b, bytes, sizeof bytes);
}

void buf_printf(struct buf *b, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    buf_vprintf(b, format, args);
    va_end(args);
}

/* The text is made in place where it fits with its NUL; what is exactly as long as the room needs a detour for the NUL. */
static void put_formatted(struct buf *b, size_t n, const char *format, va_list args)
{
    char *room = buf_room(b, n);

    if (room == NULL)
        return;
    if (n < b->cap - b->n) {
        (void)vsnprintf(room, n + 1, format, args);
        b->n += n;
        return;
    }
    char *text = malloc(n + 1);
    if (text == NULL) {
        b->failed = true;
        return;
    }
    (void)vsnprintf(text, n + 1, format, args);
    buf_put(b, text, n);
    free(text);
}

void buf_vprintf(struct buf *b, const char *format, va_list args)
{
    va_list again;

    if (b->failed)
        return;
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    assert(n >= 0); /* only a wrong format or a result beyond INT_MAX */
    put_formatted(b, (size_t)n, format, again);
    va_end(again);
}
