/*
 * The text of a message as it goes to one server: see text.h.
 */
#include "outbound/text.h"
#include "base/cleanup.h"
#include "mail/header.h"
#include <errno.h>
#include <stdlib.h>

#define CHUNK (32 * 1024)                /* bytes of the body per read */

/* Awaits. */
static int read_chunk(struct text *t, struct str *out)
{
    size_t got = 0;
    if (t->chunk == NULL && (t->chunk = malloc(CHUNK)) == NULL)
        return -ENOMEM;
    int r = queue_read_body(t->claim, t->offset, t->chunk, CHUNK, &got);
    if (r < 0)
        return r == -EBADMSG ? -EIO : r;                      /* damaged on our disk; -EBADMSG is what a server's reply can be */
    t->offset += got;
    t->ended = got < CHUNK;
    *out = (struct str){ t->chunk, got };
    return 0;
}

static void release_chunk(struct text *t)
{
    free(t->chunk);
    t->chunk = NULL;
}

/* Awaits: the first of the two passes. */
static int scan(struct text *t, enum text_taken taken, enum convert_verdict *out_verdict)
{
    struct str piece;
    if ((t->convert = convert_new()) == NULL)
        return -ENOMEM;
    while (!t->ended) {
        int r = task_canceled() ? -ECANCELED : read_chunk(t, &piece);
        if (r < 0)
            return r;
        convert_scan(t->convert, piece);
    }
    int r = convert_scan_end(t->convert, out_verdict);
    if (r < 0)
        return r;
    if (taken == TEXT_8BIT && !convert_is_binary(t->convert))
        *out_verdict = CONVERT_NOTHING;                       /* it was sent as binary, and is not */
    if (*out_verdict == CONVERT_POSSIBLE) {
        t->size = convert_size(t->convert);
    } else {
        convert_free(t->convert);
        t->convert = NULL;
    }
    release_chunk(t);                                         /* it may be long until the server wants the text */
    t->offset = 0;
    t->ended = false;
    return 0;
}

int text_open(struct text *t, struct claim *claim, enum text_taken taken, enum convert_verdict *out_verdict)
{
    *t = (struct text){ .claim = claim, .size = claim->body_size };
    buf_init(&t->converted, CONVERT_GROWTH_MAX * CHUNK + CONVERT_EXTRA_MAX);
    if ((taken == TEXT_7BIT && claim->env.body_8bit) || (taken != TEXT_BINARY && claim->env.body_binary))
        return scan(t, taken, out_verdict);
    *out_verdict = CONVERT_NOTHING;
    return 0;
}

int text_read(struct text *t, struct str *out)
{
    if (t->ended) {
        text_close(t);                                        /* and its last reply */
        return 0;
    }
    int r = read_chunk(t, out);
    if (r < 0)
        return r;
    if (t->convert == NULL)
        return 1;
    buf_clear(&t->converted);
    convert_write(t->convert, *out, &t->converted);
    if (t->ended)
        convert_write_end(t->convert, &t->converted);
    if (!buf_ok(&t->converted))
        return -ENOMEM;
    *out = buf_str(&t->converted);
    return 1;
}

void text_close(struct text *t)
{
    convert_free(t->convert);
    release_chunk(t);
    buf_free(&t->converted);
    *t = (struct text){ .ended = true };
}

int text_header_is_ascii(struct claim *claim, bool *out)
{
    CLEANUP_BUF struct buf header;
    size_t got = CHUNK;
    buf_init(&header, claim->body_size + CHUNK);
    while (got == CHUNK && header_end(buf_str(&header)) == header.n) {
        char *room = buf_room(&header, CHUNK);
        int r = room == NULL ? -ENOMEM : queue_read_body(claim, header.n, room, CHUNK, &got);
        if (r < 0)
            return r;
        buf_added(&header, got);
    }
    *out = !header_has_8bit(buf_str(&header));
    return 0;
}
