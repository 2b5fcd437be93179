/*
 * The log; the contract is in log.h.
 *
 * A line is made whole in one buffer on the stack and leaves with one write, so that it works without memory. A reader of
 * standard error that stands still (a stopped collector, a terminal) must not stop the server: it is waited for a moment
 * once, then lines are lost until it reads on, and their number is said. Thread-safe, except that log_redirect wants no other
 * thread to be logging; a sink must not log and must not await. Runs in every process.
 */
#include "base/log.h"
#include "base/calendar.h"
#include "base/clock.h"
#include "base/utf8.h"
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

enum { LOG_LINE_MAX = 4095 }; /* without the line end; with it a pipe that is ready takes it whole (PIPE_BUF) */
enum { STALL_WAIT_MS = 50 };

static const char *const level_names[] = { "debug", "info", "warn", "error" };

static _Atomic(enum log_level) level_least = LOG_INFO;

static struct {
    void (*_Atomic fn)(void *arg, enum log_level level, struct str line); /* NULL: standard error */
    void *_Atomic arg;                                                    /* borrowed */
} sink;

void log_level_set(enum log_level least)
{
    atomic_store_explicit(&level_least, least, memory_order_relaxed);
}

bool log_is_news(_Atomic int64_t *said_ns)
{
    int64_t before = atomic_load(said_ns), now = clock_mono_ns();

    if (before != 0 && now - before < LOG_NEWS_AGAIN_NS)
        return false;
    return atomic_compare_exchange_strong(said_ns, &before, now != 0 ? now : 1); /* else another thread says it */
}

bool log_level_on(enum log_level level)
{
    return level >= atomic_load_explicit(&level_least, memory_order_relaxed);
}

void log_redirect(void (*fn)(void *arg, enum log_level level, struct str line), void *arg)
{
    atomic_store(&sink.arg, arg);
    atomic_store(&sink.fn, fn);
}

/* What a terminal or a reader could take for something else than text: C1 controls, marks that turn the direction of
 * writing, separators of lines, and characters of no width. */
static bool is_deceptive(uint32_t c)
{
    return c < ' ' || (c >= 0x7f && c < 0xa0) || c == 0xad || c == 0x61c || (c >= 0x200b && c <= 0x200f) || (c >= 0x2028 && c <= 0x202e) ||
           (c >= 0x2060 && c <= 0x206f) || c == 0xfeff || (c >= 0xfff9 && c <= 0xfffb) || c >= 0xe0000;
}

static bool is_word(struct str v)
{
    for (size_t i = 0; i < v.n; i++)
        if (v.p[i] <= ' ' || v.p[i] > '~' || v.p[i] == '"' || v.p[i] == '\\' || v.p[i] == '=')
            return false;
    return v.n > 0;
}

/* One character of v as it stands within quotes, in one write, so that a full buffer cannot cut an escape in two. */
static size_t put_quoted(struct buf *out, struct str v)
{
    static const char hex[] = "0123456789abcdef";
    uint32_t c;
    size_t n = utf8_next(v, &c);

    if (n > 0 && c != '"' && c != '\\' && !is_deceptive(c)) {
        buf_put(out, v.p, n);
        return n;
    }
    uint8_t byte = (uint8_t)v.p[0];
    buf_put(out, (char[]){ '\\', 'x', hex[byte >> 4], hex[byte & 15] }, 4);
    return 1;
}

void log_put_value(struct buf *out, struct str v)
{
    if (is_word(v)) {
        buf_put_str(out, v);
        return;
    }
    buf_put_char(out, '"');
    while (v.n > 0 && buf_ok(out))
        v = str_from(v, put_quoted(out, v));
    buf_put_char(out, '"');
}

/* As much of v as fits, where a bare word does not fit whole. */
static void put_value_cut(struct buf *out, struct str v)
{
    if (v.n > out->max - out->n && is_word(v)) {
        buf_put_str(out, str_head(v, out->max - out->n));
        out->failed = true;
        return;
    }
    log_put_value(out, v);
}

static void put_field(struct buf *out, const struct log_field *field)
{
    buf_put_char(out, ' ');
    buf_put_z(out, field->key);
    buf_put_char(out, '=');
    if (!buf_ok(out))
        return;
    switch (field->type) {
    case LOG_FIELD_STR: put_value_cut(out, field->s); break;
    case LOG_FIELD_U64: buf_printf(out, "%" PRIu64, field->u); break;
    case LOG_FIELD_I64: buf_printf(out, "%" PRId64, field->i); break;
    }
}

/* Standard error. The lock is held over one poll, which waits at most once and shortly, and writes that do not wait. */
static struct {
    pthread_mutex_t lock;
    bool            stalled;
    uint64_t        lost; /* lines since it stalled */
} standard_error = { .lock = PTHREAD_MUTEX_INITIALIZER };

static bool can_write(void)
{
    struct pollfd ready = { .fd = STDERR_FILENO, .events = POLLOUT };
    int n;

    do
        n = poll(&ready, 1, standard_error.stalled ? 0 : STALL_WAIT_MS);
    while (n < 0 && errno == EINTR);
    standard_error.stalled = n == 0;
    return n != 0;
}

static void write_line(const struct buf *line)
{
    while (write(STDERR_FILENO, line->p, line->n) < 0 && errno == EINTR)
        continue;
}

static void write_lost(void)
{
    char memory[128];
    struct buf line;

    buf_init_fixed(&line, memory, sizeof memory);
    calendar_put_iso(&line, clock_wall_ns(), true);
    buf_printf(&line, " warn log-lost lines=%" PRIu64 "\n", standard_error.lost);
    write_line(&line);
    standard_error.lost = 0;
}

static void write_or_count(const struct buf *line)
{
    pthread_mutex_lock(&standard_error.lock);
    if (standard_error.lost > 0 && can_write())
        write_lost();
    if (can_write())
        write_line(line);
    else
        standard_error.lost++;
    pthread_mutex_unlock(&standard_error.lock);
}

static void emit(enum log_level level, struct buf *line)
{
    void (*fn)(void *, enum log_level, struct str) = atomic_load(&sink.fn);

    if (fn != NULL) {
        fn(atomic_load(&sink.arg), level, buf_str(line));
        return;
    }
    line->p[line->n++] = '\n'; /* log_fields keeps the room */
    write_or_count(line);
}

void log_fields(enum log_level level, const char *event, const struct log_field *fields)
{
    static const struct str cut = STR("...");
    char memory[LOG_LINE_MAX + 1];
    struct buf line;

    if (!log_level_on(level))
        return;
    int saved_errno = errno; /* a caller may log between its call and its look at errno */
    buf_init_fixed(&line, memory, LOG_LINE_MAX - cut.n);
    calendar_put_iso(&line, clock_wall_ns(), true);
    buf_printf(&line, " %s ", level_names[level]);
    put_value_cut(&line, str_of(event));
    for (; fields->key != NULL; fields++)
        put_field(&line, fields);
    if (!buf_ok(&line)) {
        for (size_t i = 0; i < cut.n; i++)
            memory[line.n++] = cut.p[i];
    }
    emit(level, &line);
    errno = saved_errno;
}
