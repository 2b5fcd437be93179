/*
 * The options as a table: name, kind, default, limits; and their values as text, both ways. Pure.
 *
 * A new option is a field in conf.h, a row here and an entry in nightmail.conf(5).
 */
#ifndef CONF_OPTION_H
#define CONF_OPTION_H

#include "conf/conf.h"

enum option_kind {
    OPTION_TEXT,
    OPTION_HOST,         /* a domain */
    OPTION_PATH,         /* made absolute from the configuration file's folder */
    OPTION_SIZE,         /* bytes, KiB, MiB, GiB */
    OPTION_SIZE_U32,     /* the same, the field has 32 bits */
    OPTION_TIME,         /* ms, s, m, h, d */
    OPTION_COUNT,
    OPTION_PORT,
    OPTION_BOOL,
    OPTION_LEVEL,
    OPTION_WORD,         /* one of a few: the field, an enum, gets its place in option.words */
    OPTION_IP,           /* an address, or "" */
    OPTION_DELIVERY,
    OPTION_TIMES,        /* the rest are lists */
    OPTION_NETWORKS,
    OPTION_DOMAINS,
    OPTION_SERVERS,      /* of DNS: "ip" or "ip@port" */
    OPTION_PORTS,        /* as text */
    OPTION_ZONES,        /* a path or "origin=path" */
    OPTION_DELIVERIES,   /* "domain=delivery" */
    OPTION_TLS_LEVELS,   /* "domain=level" */
    OPTION_RETRIES,      /* "domain=time time ..." */
    OPTION_PATHS,
};

struct option {
    const char      *name;
    enum option_kind kind;
    size_t           offset;             /* of the field in struct conf */
    size_t           count_offset;       /* of its count, for OPTION_NETWORKS */
    const char      *fallback;           /* as it stands in a file, list items separated by spaces; NULL: parse.c works it out or asks for it */
    uint64_t         min, max;           /* of numbers; times in ns */
    const char      *words;              /* of OPTION_WORD, separated by spaces */
};

extern const struct option options[];
extern const size_t        option_count;

bool option_is_list(const struct option *o);
const struct option *option_find(struct str name);       /* NULL if there is none */

/* Sets the field from the values. False with a reason (a sentence without its place) in why, the index of the culprit in *bad. */
bool option_set(struct conf *c, const struct option *o, const struct str *values, size_t count, struct buf *why, size_t *bad);
bool option_set_fallback(struct conf *c, const struct option *o, struct buf *why);

/* The value in the syntax of the file. */
void option_put(struct buf *out, const struct conf *c, const struct option *o);

bool option_bool(struct str v, bool *out);                /* yes, no and their like; false, out untouched, for any other */

/* Which of the words (separated by spaces) it is. False: none of them. */
bool option_word(const char *words, struct str v, unsigned *out);

/* A string in double quotes, as libconfuse reads it back. */
void option_put_quoted(struct buf *out, struct str s);

/* A path in the configuration, seen from the folder of the file c->path. NULL without memory. */
const char *option_path(struct conf *c, struct str path);

#endif
