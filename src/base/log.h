/*
 * The log: one line an event, `time level event key=value ...`, to standard error or to a sink that a test puts in.
 *
 * Values pass one encoder that cannot emit a control character: plain words stand bare, anything else in double quotes
 * with \xHH for controls, quotes and backslashes. A line is written with one write(2), so lines of threads do not mix.
 * Lines over 4 KiB are cut and end in "...". While standard error takes nothing, lines are lost and counted.
 *
 *     log_event(LOG_INFO, "accepted", LOG_STR("id", id), LOG_U64("size", size));
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include "base/buf.h"
#include "base/str.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

struct log_field {
    const char *key;                             /* NULL ends the list */
    enum { LOG_FIELD_STR, LOG_FIELD_U64, LOG_FIELD_I64 } type;
    union {
        struct str s;
        uint64_t   u;
        int64_t    i;
    };
};

#define LOG_STR(k, v) { .key = (k), .type = LOG_FIELD_STR, .s = (v) }
#define LOG_Z(k, v)   { .key = (k), .type = LOG_FIELD_STR, .s = str_of(v) }
#define LOG_U64(k, v) { .key = (k), .type = LOG_FIELD_U64, .u = (uint64_t)(v) }
#define LOG_I64(k, v) { .key = (k), .type = LOG_FIELD_I64, .i = (int64_t)(v) }

#define log_event(level, event, ...) log_fields((level), (event), (const struct log_field[]){ __VA_ARGS__ __VA_OPT__(,) { .key = NULL } })

void log_fields(enum log_level level, const char *event, const struct log_field *fields);
void log_level_set(enum log_level least);        /* LOG_INFO at start */
bool log_level_on(enum log_level level);

/* True at first, and again a minute after it last was: a trouble that stays, or comes and goes, is told of and does not fill the log. *said_ns
 * is 0 at first, and one for each trouble. Thread-safe. */
bool log_is_news(_Atomic int64_t *said_ns);
#define LOG_NEWS_AGAIN_NS ((int64_t)60 * 1000000000)

/* Send finished lines (without the line end) to fn instead; NULL restores standard error. */
void log_redirect(void (*fn)(void *arg, enum log_level level, struct str line), void *arg);

/* The encoder alone: v as it stands after `key=`. For everything we generate into a log or show on a terminal. */
void log_put_value(struct buf *out, struct str v);

#endif
