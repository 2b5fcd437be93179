/*
 * Fields of one name, counted as a header passes by in pieces, with the first one's value if it is short, or with all values: for headers
 * that nobody keeps. Pure.
 */
#ifndef MAIL_FIELD_WATCH_H
#define MAIL_FIELD_WATCH_H

#include "base/buf.h"
#include "base/str.h"

#define FIELD_WATCH_VALUE_MAX 15

/* Zeroed, with its name, at the beginning of a header. */
struct field_watch {
    const char *name;                    /* in lower case */
    uint32_t    count;                   /* fields of that name whose colon has come */
    uint8_t     matched;                 /* how much of the name stands on this line so far */
    uint8_t     place;                   /* where in a field we are; field_watch.c knows */
    bool        too_long;                /* the value, or there is more than one word in it */
    bool        word_over;
    uint8_t     value_n;
    char        value[FIELD_WATCH_VALUE_MAX];
    struct buf *values;                  /* NULL, or where each value is put as one line, unfolded, its LF before it; the buffer has the limit */
};

/* text: the next bytes of the header, lines ended by CRLF. */
void field_watch(struct field_watch *w, struct str text);

/* The only field of that name holds one word, this one in any case. To be asked when the header is over. */
bool field_watch_is(const struct field_watch *w, struct str word);

#endif
