/*
 * The text of an aliases file taken apart into names and targets, as aliases(5) of sendmail and Postfix has it. Pure.
 *
 *     alias = NAME ":" target { "," target }     a line that begins with a blank goes on where the one before ended
 *
 * A list (what :include: names) has targets only. A # at the beginning of a line or behind a blank begins a comment; a line's end
 * parts targets as a comma does. What a name or a target means is for conf/alias.c to say.
 */
#ifndef CONF_ALIAS_SCAN_H
#define CONF_ALIAS_SCAN_H

#include "base/str.h"

enum alias_token_type {
    ALIAS_END,
    ALIAS_NAME,                          /* of an alias; what follows are its targets */
    ALIAS_TARGET,
    ALIAS_FAULT,                         /* text says what is wrong; nothing can be read behind it */
};

struct alias_token {
    enum alias_token_type type;
    struct str            text;          /* as written, quotes too; a view */
    unsigned              line;
};

struct alias_scan {
    struct str rest;
    unsigned   line;
    bool       list;
    bool       at_start;                 /* of a line */
    bool       named;                    /* targets may come */
};

void               alias_scan_init(struct alias_scan *s, struct str text, bool list);
struct alias_token alias_scan_next(struct alias_scan *s);

#endif
