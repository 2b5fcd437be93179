/*
 * DNS queries by libunbound: one context per process, with the one thread that libunbound works in.
 *
 * A query goes from its task to libunbound's thread; the answer comes back through a pipe that a thread of ours, the pump, reads
 * (so that no loop has to live for it, and dns_start may come before the loops). The callback there only hands the result to the
 * waiting request and wakes its task, which takes the result apart on its own loop.
 *
 * A request has one owner at a time: libunbound from dns_query until its callback, then the task. A task that gives up (deadline,
 * cancellation) leaves its request behind with no waiter, and the callback frees it; ub_cancel() cannot be used, since it may come while
 * the callback is about to run. The answer is not lost: it is in libunbound's cache for the retry.
 */
#include "base/cleanup.h"
#include "base/log.h"
#include "run/dns_internal.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unbound.h>
#include <unistd.h>

#define CLASS_IN      1
#define CONFIG_MAX    (1024 * 1024)
#define QUESTION_MAX  (4 * 253 + 1) /* every octet written as \DDD */
#define UNDER_WAY_MAX 20000u        /* queries, abandoned ones included; beyond: DNS_SERVFAIL at once */
/* Whatever the caller's deadline; then DNS_SERVFAIL. libunbound by itself tries a dead server for minutes. */
#define WAIT_MAX_NS    (30 * NS_PER_S)
#define THREAD_WAIT_NS (5 * NS_PER_S) /* for libunbound to begin */
enum { RCODE_NOERROR = 0, RCODE_NXDOMAIN = 3 }; /* RFC 1035, 4.1.1 */

struct request {
    struct request *next, *prev; /* those under way */
    struct task *waiter;         /* NULL: abandoned */
    bool done;
    int error;                /* enum ub_ctx_err; result is valid if 0 */
    struct ub_result *result; /* owned */
};

static struct {
    struct ub_ctx *ctx; /* NULL: not started */
    pthread_t pump;
    int stop_fd;
    FILE *log;         /* what libunbound says; owned */
    char *first_error; /* 256 bytes for the first thing it says while we start, else NULL */

    pthread_mutex_t lock; /* for the requests; taken by loops, the pump and nobody for long */
    struct request *under_way;
    size_t count;
    bool full_said;
} resolver = { .lock = PTHREAD_MUTEX_INITIALIZER };

static struct dns_ops other; /* .query is NULL: libunbound */

void dns_replace(const struct dns_ops *ops)
{
    other = ops != NULL ? *ops : (struct dns_ops){ 0 };
}

/* ---- requests ---- */

static void unlink_request(struct request *q)
{
    if (q->prev != NULL)
        q->prev->next = q->next;
    else
        resolver.under_way = q->next;
    if (q->next != NULL)
        q->next->prev = q->prev;
    resolver.count--;
}

static void free_request(struct request *q)
{
    ub_resolve_free(q->result);
    free(q);
}

/* Said once, and again only after half of them have gone. Under the lock. */
static bool too_many_under_way(void)
{
    if (resolver.count < UNDER_WAY_MAX / 2)
        resolver.full_said = false;
    if (resolver.count < UNDER_WAY_MAX)
        return false;
    if (!resolver.full_said)
        log_event(LOG_WARN, "dns-queries-full", LOG_U64("limit", UNDER_WAY_MAX));
    resolver.full_said = true;
    return true;
}

/* 0, -ENOMEM, or -EAGAIN at the limit. */
static int begin_request(struct request **out)
{
    struct request *q = calloc(1, sizeof *q);
    if (q == NULL)
        return -ENOMEM;
    q->waiter = task_self();

    (void)pthread_mutex_lock(&resolver.lock);
    bool full = too_many_under_way();
    if (!full) {
        q->next = resolver.under_way;
        if (q->next != NULL)
            q->next->prev = q;
        resolver.under_way = q;
        resolver.count++;
    }
    (void)pthread_mutex_unlock(&resolver.lock);
    if (full) {
        free(q);
        return -EAGAIN;
    }
    *out = q;
    return 0;
}

/* libunbound never took it. */
static void withdraw_request(struct request *q)
{
    (void)pthread_mutex_lock(&resolver.lock);
    unlink_request(q);
    (void)pthread_mutex_unlock(&resolver.lock);
    free_request(q);
}

static bool request_done(struct request *q)
{
    (void)pthread_mutex_lock(&resolver.lock);
    bool done = q->done;
    (void)pthread_mutex_unlock(&resolver.lock);
    return done;
}

/* False: it was done after all. True: it belongs to the callback now. */
static bool abandon_request(struct request *q)
{
    (void)pthread_mutex_lock(&resolver.lock);
    bool done = q->done;
    if (!done)
        q->waiter = NULL;
    (void)pthread_mutex_unlock(&resolver.lock);
    return !done;
}

/* Awaits. On an error the request is no longer ours. */
static int await_request(struct request *q, int64_t deadline_ns)
{
    while (!request_done(q)) {
        int r = task_park(deadline_ns);
        if (r < 0 && abandon_request(q))
            return r;
    }
    return 0;
}

/* libunbound's callback, on the pump. The task is woken under the lock: once it is released the task may be gone. */
static void on_result(void *arg, int error, struct ub_result *result)
{
    struct request *q = arg;

    (void)pthread_mutex_lock(&resolver.lock);
    unlink_request(q);
    q->error = error;
    q->result = result;
    q->done = true;
    bool abandoned = q->waiter == NULL;
    if (!abandoned)
        task_wake(q->waiter);
    (void)pthread_mutex_unlock(&resolver.lock);
    if (abandoned)
        free_request(q);
}

/* ---- from libunbound's result to ours ---- */

static enum dns_status status_of(const struct ub_result *result, size_t records)
{
    if (result->bogus)
        return DNS_BOGUS;
    if (result->nxdomain || result->rcode == RCODE_NXDOMAIN)
        return DNS_NO_NAME;
    if (result->rcode != RCODE_NOERROR)
        return DNS_SERVFAIL;
    if (!result->havedata)
        return DNS_NO_DATA;
    /* There were records and none could be read: not the same as none, which would make the domain itself its MX (RFC 5321, 5.1). */
    return records > 0 ? DNS_FOUND : DNS_SERVFAIL;
}

static size_t count_records(const struct ub_result *result)
{
    size_t n = 0;
    while (result->havedata && n < DNS_RECORDS_MAX && result->data[n] != NULL)
        n++;
    return n;
}

/* Those that can be read; the others are dropped. 0 or -ENOMEM. */
static int read_records(struct arena *arena, enum dns_type type, const struct ub_result *result, struct dns_answer *answer)
{
    size_t n = count_records(result);
    if (n == 0)
        return 0;
    answer->records = arena_array(arena, n, sizeof *answer->records);
    if (answer->records == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < n; i++) {
        size_t length = result->len[i] > 0 ? (size_t)result->len[i] : 0;
        int r = dns_parse_rdata(arena, type, (const uint8_t *)result->data[i], length, &answer->records[answer->count]);
        if (r == -ENOMEM)
            return r;
        if (r == 0)
            answer->count++;
    }
    return 0;
}

/* libunbound names it only if there were CNAMEs. A name we would not print stays the one asked for. */
static int read_canonical(struct arena *arena, const struct ub_result *result, struct str name, struct str *out)
{
    int r = dns_name_clean(arena, result->canonname != NULL ? str_of(result->canonname) : name, out);
    if (r == -EINVAL)
        r = dns_name_clean(arena, name, out);
    return r;
}

static int read_result(struct arena *arena, struct str name, enum dns_type type, const struct ub_result *result, struct dns_answer *out)
{
    struct dns_answer answer = { 0 };

    if (!result->bogus && result->rcode == RCODE_NOERROR) {
        int r = read_records(arena, type, result, &answer);
        if (r < 0)
            return r;
    }
    int r = read_canonical(arena, result, name, &answer.canonical);
    if (r < 0)
        return r;
    answer.status = status_of(result, answer.count);
    answer.secure = result->secure && answer.status != DNS_SERVFAIL;
    answer.ttl_s = result->ttl > 0 ? (uint32_t)result->ttl : 0;
    *out = answer;
    return 0;
}

/* ---- the query ---- */

/* The name as libunbound reads it, with every octet that is not plain as \DDD (RFC 1035, 5.1). */
static void format_question(struct str name, char out[QUESTION_MAX])
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyz0123456789-_.";
    size_t used = 0;

    for (size_t i = 0; i < name.n; i++) {
        unsigned c = (unsigned char)name.p[i];
        if (c != '\0' && strchr(plain, (int)c) != NULL)
            out[used++] = (char)c;
        else
            used += (size_t)snprintf(out + used, QUESTION_MAX - used, "\\%03u", c);
    }
    out[used] = '\0';
    if (used == 0)
        memcpy(out, ".", 2);
}

static struct dns_answer answer_without_records(enum dns_status status, struct str name)
{
    return (struct dns_answer){ .status = status, .canonical = name };
}

/* Hands the question to libunbound: 0, or its error. */
static int ask(struct str name, enum dns_type type, struct request *q)
{
    char question[QUESTION_MAX];

    format_question(name, question);
    return ub_resolve_async(resolver.ctx, question, (int)type, CLASS_IN, q, on_result, NULL);
}

static int query_libunbound(struct arena *arena, struct str name, enum dns_type type, int64_t deadline_ns, struct dns_answer *out)
{
    struct request *q;
    int64_t wait_until = task_deadline_in(WAIT_MAX_NS);

    assert(resolver.ctx != NULL);
    int r = begin_request(&q);
    if (r == 0 && (r = ask(name, type, q)) != UB_NOERROR) {
        withdraw_request(q);
        r = r == UB_NOMEM ? -ENOMEM : -EAGAIN;
    }
    if (r == 0)
        r = await_request(q, wait_until < deadline_ns ? wait_until : deadline_ns);
    if (r == -EAGAIN || (r == -ETIMEDOUT && wait_until < deadline_ns)) {
        *out = answer_without_records(DNS_SERVFAIL, name);
        return 0;
    }
    if (r < 0)
        return r;
    if (q->error != UB_NOERROR)
        *out = answer_without_records(DNS_SERVFAIL, name);
    else
        r = read_result(arena, name, type, q->result, out);
    free_request(q);
    return r;
}

int dns_query(struct arena *arena, struct str name, enum dns_type type, int64_t deadline_ns, struct dns_answer *out)
{
    struct str clean;

    int r = dns_name_clean(arena, name, &clean);
    if (r == -EINVAL) {
        *out = answer_without_records(DNS_NO_NAME, STR(""));
        return 0;
    }
    if (r < 0)
        return r;
    if (other.query != NULL)
        return other.query(other.self, arena, clean, type, deadline_ns, out);
    return query_libunbound(arena, clean, type, deadline_ns, out);
}

/* ---- start and stop ---- */

static void *pump(void *arg)
{
    struct pollfd answers = { .fd = ub_fd(resolver.ctx), .events = POLLIN };
    struct pollfd stop = { .fd = resolver.stop_fd, .events = POLLIN };
    struct pollfd fds[] = { answers, stop };

    (void)arg;
    for (;;) {
        if (poll(fds, 2, -1) < 0)
            continue; /* EINTR; anything else would be our mistake */
        if (fds[1].revents != 0)
            return NULL;
        int r = ub_process(resolver.ctx);
        if (r != UB_NOERROR)
            log_event(LOG_ERROR, "dns", LOG_Z("error", ub_strerror(r)));
    }
}

static int start_pump(void)
{
    sigset_t all, before;

    resolver.stop_fd = eventfd(0, EFD_CLOEXEC);
    if (resolver.stop_fd < 0)
        return -errno;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are for the loops */
    int r = pthread_create(&resolver.pump, NULL, pump, NULL);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (r != 0)
        (void)close(resolver.stop_fd);
    return -r;
}

/* "[1795444133] libunbound[6128:0] error: parse error a.zone 11:6: ...": without what stands before the words. */
static ssize_t on_libunbound_says(void *arg, const char *text, size_t n)
{
    struct str line = { text, n };
    ssize_t at;

    (void)arg;
    while (line.n > 0 && line.p[line.n - 1] == '\n')
        line.n--;
    if ((at = str_find_str(line, STR("libunbound["))) >= 0)
        line = str_from(line, (size_t)at);
    if ((at = str_find_str(line, STR("] "))) >= 0)
        line = str_from(line, (size_t)at + 2);
    if (str_starts(line, STR("error: ")))
        line = str_from(line, sizeof "error: " - 1);
    if (resolver.first_error == NULL)
        log_event(LOG_WARN, "dns", LOG_STR("says", line));
    else if (resolver.first_error[0] == '\0')
        (void)snprintf(resolver.first_error, 256, "%" STR_FMT, STR_ARG(line));
    return (ssize_t)n;
}

static int fail(char out_error[256], int r, const char *why)
{
    (void)snprintf(out_error, 256, "DNS: %s", why);
    return r;
}

/* libunbound reads its configuration from a file only; this one has no name. */
static int configure(struct ub_ctx *ctx, struct str config)
{
    char path[64];
    int fd = memfd_create("resolver.conf", MFD_CLOEXEC);

    if (fd < 0)
        return UB_READFILE;
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int r = write(fd, config.p, config.n) == (ssize_t)config.n ? ub_ctx_config(ctx, path) : UB_READFILE;
    (void)close(fd);
    return r;
}

/* Everything that libunbound would do at the first query, so that its errors come now: removing a zone that is not there. */
static int finalize(struct ub_ctx *ctx, char out_error[256])
{
    char first[256] = "";

    resolver.first_error = first;
    int r = ub_ctx_zone_remove(ctx, "no-such-zone.invalid");
    resolver.first_error = NULL;
    return r == UB_NOERROR ? 0 : fail(out_error, r == UB_NOMEM ? -ENOMEM : -EINVAL, first[0] != '\0' ? first : ub_strerror(r));
}

static int prepare(struct ub_ctx *ctx, struct str config, char out_error[256])
{
    static const cookie_io_functions_t says = { .write = on_libunbound_says };

    resolver.log = fopencookie(NULL, "w", says);
    if (resolver.log == NULL)
        return fail(out_error, -ENOMEM, "no memory");
    (void)setvbuf(resolver.log, NULL, _IOLBF, 0); /* a line is an event */
    (void)ub_ctx_debugout(ctx, resolver.log);
    int r = configure(ctx, config);
    if (r == UB_NOERROR)
        r = ub_ctx_async(ctx, 1);
    if (r != UB_NOERROR)
        return fail(out_error, -EINVAL, ub_strerror(r));
    return finalize(ctx, out_error);
}

static void on_first_answer(void *arg, int error, struct ub_result *result)
{
    (void)error;
    *(bool *)arg = true;
    ub_resolve_free(result);
}

/*
 * libunbound starts its thread at the first question, and if that thread finds no memory or descriptors it ends with a line in the log:
 * nobody would be answered until the next start. So the first question is asked now, one that libunbound answers by itself (RFC 6761, 6.3).
 */
static int await_thread(struct ub_ctx *ctx, char out_error[256])
{
    static bool answered;                        /* static: it may be told of later than we wait */
    int64_t     until = clock_mono_ns() + THREAD_WAIT_NS;

    answered = false;
    int r = ub_resolve_async(ctx, "localhost.", DNS_A, CLASS_IN, &answered, on_first_answer, NULL);
    while (r == UB_NOERROR && !answered && clock_mono_ns() < until) {
        struct pollfd answers = { .fd = ub_fd(ctx), .events = POLLIN };
        if (poll(&answers, 1, 100) > 0)
            r = ub_process(ctx);
    }
    return answered ? 0 : fail(out_error, -EAGAIN, r != UB_NOERROR ? ub_strerror(r) : "libunbound's thread does not start");
}

/* The log goes first: libunbound keeps one for the whole process, and would write to it after it is closed. */
static void delete_context(struct ub_ctx *ctx)
{
    (void)ub_ctx_debugout(ctx, NULL);
    ub_ctx_delete(ctx);
    if (resolver.log != NULL)
        (void)fclose(resolver.log);
    resolver.log = NULL;
}

static int start(const struct dns_options *options, char out_error[256])
{
    CLEANUP_BUF struct buf config;

    buf_init(&config, CONFIG_MAX);
    int r = dns_zone_config(options, &config, out_error);
    if (r < 0)
        return r;
    struct ub_ctx *ctx = ub_ctx_create();
    if (ctx == NULL)
        return fail(out_error, -ENOMEM, "no memory, or no descriptors");
    r = prepare(ctx, buf_str(&config), out_error);
    if (r < 0) {
        delete_context(ctx);
        return r;
    }
    r = await_thread(ctx, out_error);
    if (r < 0)                                   /* the context stays: its end would wait for that thread, and this process ends */
        return r;
    resolver.ctx = ctx;
    r = start_pump();
    if (r < 0) {
        delete_context(ctx);
        resolver.ctx = NULL;
        return fail(out_error, r, strerror(-r));
    }
    return 0;
}

struct start_job {
    const struct dns_options *options;
    char                     *out_error;
    int                       result;
};

static void *start_thread(void *arg)
{
    struct start_job *job = arg;
    job->result = start(job->options, job->out_error);
    return NULL;
}

/* libunbound reads zone files with some hundred KiB of stack, and the caller may be a task: a thread has room. */
int dns_start(const struct dns_options *options, char out_error[256])
{
    struct start_job job = { .options = options, .out_error = out_error };
    pthread_t thread;

    if (other.query != NULL)
        return 0;
    assert(resolver.ctx == NULL);
    int r = pthread_create(&thread, NULL, start_thread, &job);
    if (r != 0)
        return fail(out_error, -r, strerror(r));
    (void)pthread_join(thread, NULL);
    return job.result;
}

void dns_stop(void)
{
    if (resolver.ctx == NULL)
        return;
    (void)eventfd_write(resolver.stop_fd, 1);
    (void)pthread_join(resolver.pump, NULL);
    (void)close(resolver.stop_fd);
    delete_context(resolver.ctx); /* it forgets the queries under way without a word; they are freed here */
    resolver.ctx = NULL;
    for (struct request *q; (q = resolver.under_way) != NULL;) {
        assert(q->waiter == NULL);
        unlink_request(q);
        free_request(q);
    }
}
