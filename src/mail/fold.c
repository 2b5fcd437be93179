/*
 * Folding: lines are broken in front of spaces, which stay, so that unfolding gives back what was put.
 */
#include "mail/fold.h"
#include "mail/header.h"

#include <string.h>

void fold_begin(struct fold *f, struct buf *out, const char *name)
{
    *f = (struct fold){ .out = out, .column = strlen(name) + 1 };
    buf_put_z(out, name);
    buf_put_char(out, ':');
}

void fold_put(struct fold *f, struct str piece)
{
    if (piece.n == 0)
        return;
    if (piece.p[0] == ' ' && f->column > 1 && f->column + piece.n > HEADER_LINE_MAX) {
        buf_put_str(f->out, STR("\r\n"));
        f->column = 0;
    }
    for (;;) {
        struct str part = str_head(piece, FOLD_WORD_MAX);
        buf_put_str(f->out, part);
        f->column += part.n;
        piece = str_from(piece, part.n);
        if (piece.n == 0)
            return;
        buf_put_str(f->out, STR("\r\n "));
        f->column = 1;
    }
}

/* The spaces before the next word, and the word. */
static size_t next_piece(struct str text)
{
    size_t n = 0;

    while (n < text.n && text.p[n] == ' ')
        n++;
    while (n < text.n && text.p[n] != ' ')
        n++;
    return n;
}

void fold_put_text(struct fold *f, struct str text)
{
    text = str_trim(text);
    if (text.n == 0)
        return;
    /* The first word gets the space between the colon and it. */
    size_t n = next_piece(text);
    if (f->column > 1 && f->column + 1 + n > HEADER_LINE_MAX) {
        buf_put_str(f->out, STR("\r\n"));
        f->column = 0;
    }
    buf_put_char(f->out, ' ');
    f->column++;
    while (text.n > 0) {
        n = next_piece(text);
        fold_put(f, str_head(text, n));
        text = str_from(text, n);
    }
}

void fold_end(struct fold *f)
{
    buf_put_str(f->out, STR("\r\n"));
}
