/*
 * For tests/sim/hostile.c and its peers: the verdict of a run, and chance. Everything comes from the world's seed.
 */
#ifndef SIM_HOSTILE_H
#define SIM_HOSTILE_H

#include "servers.h"
#include <stdarg.h>

#define HOURS(n) ((int64_t)(n) * 3600 * NS_PER_S)

/* The first thing that was wrong; "": nothing. */
static char hostile_failed[1024];

__attribute__((format(printf, 1, 2))) static void fail(const char *format, ...)
{
    va_list args;
    if (hostile_failed[0] != '\0')
        return;
    va_start(args, format);
    vsnprintf(hostile_failed, sizeof hostile_failed, format, args);
    va_end(args);
}

static inline bool chance(unsigned percent) { return sim_random_below(100) < percent; }

static inline size_t below(size_t bound) { return (size_t)sim_random_below(bound); }

static inline int64_t up_to(int64_t ns) { return (int64_t)sim_random_below((uint64_t)ns + 1); }

#define ONE_OF(array) ((array)[below(sizeof(array) / sizeof((array)[0]))])

static inline void put_noise(struct buf *out, size_t n)
{
    for (size_t i = 0; i < n; i++)
        buf_put_char(out, (char)sim_random());
}

static inline void put_run(struct buf *out, char c, size_t n)
{
    for (size_t i = 0; i < n; i++)
        buf_put_char(out, c);
}

/* What would like to be more than one line, or a terminal's command, in a log, a reply or a DSN. Some of it is cut off by its own CRLF. */
static inline const char *hostile_words(void)
{
    static const char *const words[] = {
        "\x1b[31mred\x1b]0;title\x07", "a\rX-Injected: yes", "a\nX-Injected: yes", "\r\n\r\nX-Injected: yes", "\x7f\x08\x08\x08", "\xc2\x9b" "31m",
        "\xe2\x80\xae" "gnp.exe", "\xff\xfe\xc0\x80", "\" level=error event=\"x", "%s%n%x", "--boundary\r\nX-Injected: yes", "\tX-Injected: yes",
        "=?utf-8?q?=0D=0AX-Injected:_yes?=", "a\vb\fc", "2.0.0 5.0.0 4.0.0", "<script>", "../../etc/passwd",
    };
    return ONE_OF(words);
}

#endif
