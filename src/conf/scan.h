/*
 * A first look at a configuration's text, before libconfuse: finds what libconfuse would swallow (a word that stands
 * twice, ${...}, an unquoted # inside a word, controls), unknown words, and where each value stands. Pure.
 */
#ifndef CONF_SCAN_H
#define CONF_SCAN_H

#include "base/arena.h"
#include "base/buf.h"

struct place {
    const char *file;
    unsigned    line;                    /* 0: nowhere in a file */
};

/* A statement, or a value of it; values follow their statement in the list. */
struct scan_item {
    struct scan_item *next;
    enum { SCAN_OPTION, SCAN_VALUE, SCAN_BLOCK, SCAN_INCLUDE } type;
    struct str   text;                   /* the option's name, the block's title, the included path; empty for a value */
    struct str   block;                  /* "listen public": the block it stands in; empty at the top; of a block itself its kind, "listen" */
    struct place place;
};

/* A kind of block, and the options that may stand in it. */
#define SCAN_BLOCK_OPTIONS_MAX 12
struct scan_block {
    const char *name;
    const char *options[SCAN_BLOCK_OPTIONS_MAX];   /* NULL-ended */
};
extern const struct scan_block scan_blocks[];
extern const size_t            scan_block_count;

struct scan {
    struct arena     *arena;
    struct buf       *error;             /* lines "file:line: ..." */
    struct scan_item *first, **end;
};

void scan_init(struct scan *s, struct arena *a, struct buf *error);

/* Appends the statements of one file. Include statements are replaced by spaces in text, for libconfuse to pass over. False:
 * an error line was written. */
bool scan_text(struct scan *s, const char *file, char *text, size_t n);

/* "file:line: " and the message, one line. Always false. */
bool scan_error(struct buf *error, struct place at, const char *format, ...) __attribute__((format(printf, 3, 4)));

#endif
