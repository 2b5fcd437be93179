/*
 * DNS queries by libunbound (dns_context.c): one request each, and what becomes of it.
 *
 * A query goes from its task to libunbound's thread; the answer comes back through the pump. The callback there only hands the result to
 * the waiting request and wakes its task, which takes the result apart on its own loop.
 *
 * A request has one owner at a time: libunbound from dns_query until its callback, then the task. A task that gives up (deadline,
 * cancellation) leaves its request behind with no waiter, and the callback frees it; ub_cancel() cannot be used, since it may come while
 * the callback is about to run. The answer is not lost: it is in libunbound's cache for the retry.
 *
 * Here it is noticed that nothing comes back; whether that is the network or libunbound itself the context finds out. When the context is
 * replaced, its requests end with an error.
 */
#include "base/cleanup.h"
#include "base/log.h"
#include "run/dns_context.h"
#include "run/dns_internal.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define CONFIG_MAX    (1024 * 1024)
#define QUESTION_MAX  (4 * 253 + 1) /* every octet written as \DDD */
#define UNDER_WAY_MAX 20000u        /* queries, abandoned ones included; beyond: DNS_SERVFAIL at once */
/* Whatever the caller's deadline; then DNS_SERVFAIL. libunbound by itself tries a dead server for minutes. */
#define WAIT_MAX_NS     (30 * NS_PER_S)
/* Libunbound is asked whether it still hears when so many in a row had no answer in time, or nothing has come for so long. */
#define DOUBT_MISSED   3u
#define DOUBT_QUIET_NS (2 * NS_PER_S)
#define FAILING        5u /* queries in a row without any answer: that is no longer one domain's trouble */
enum { RCODE_NOERROR = 0, RCODE_SERVFAIL = 2, RCODE_NXDOMAIN = 3 }; /* RFC 1035, 4.1.1 */

struct request {
    struct request *next, *prev; /* those under way */
    struct task *waiter;         /* NULL: abandoned */
    bool done;
    unsigned context;            /* which has it; 0: none yet */
    int error;                /* enum ub_ctx_err; result is valid if 0 */
    struct ub_result *result; /* owned */
};

static struct {
    pthread_mutex_t lock; /* for the requests; taken by loops, the pump and nobody for long */
    struct request *under_way;
    size_t count;
    bool full_said;
    unsigned missed;  /* in a row, by their deadlines */
    bool closed;      /* names outside are not answered, and that is no trouble */
    unsigned failed;  /* in a row, by their deadlines or by libunbound's word */
    _Atomic int64_t failing_said_ns;
    int64_t heard_ns; /* when something last came back, or there was nothing to come */
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

/* Under the lock. */
static bool nothing_comes_back(void)
{
    if (resolver.count == 0)
        resolver.heard_ns = clock_mono_ns();
    return resolver.missed >= DOUBT_MISSED || clock_mono_ns() - resolver.heard_ns > DOUBT_QUIET_NS;
}

void dns_heard(void)
{
    (void)pthread_mutex_lock(&resolver.lock);
    resolver.missed = 0;
    resolver.heard_ns = clock_mono_ns();
    (void)pthread_mutex_unlock(&resolver.lock);
}

/* 0, -ENOMEM, or -EAGAIN at the limit. */
static int begin_request(struct request **out)
{
    struct request *q = calloc(1, sizeof *q);
    if (q == NULL)
        return -ENOMEM;
    q->waiter = task_self();

    (void)pthread_mutex_lock(&resolver.lock);
    bool full = too_many_under_way(), doubtful = nothing_comes_back();
    if (!full) {
        q->next = resolver.under_way;
        if (q->next != NULL)
            q->next->prev = q;
        resolver.under_way = q;
        resolver.count++;
    }
    (void)pthread_mutex_unlock(&resolver.lock);
    if (doubtful)
        dns_context_doubt();
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

/* Under the lock. */
static void note_failure(bool failed)
{
    resolver.failed = failed ? resolver.failed + 1 : 0;
    if (resolver.failed >= FAILING && !resolver.closed && log_is_news(&resolver.failing_said_ns))
        log_event(LOG_WARN, "dns-failing", LOG_U64("queries", resolver.failed), LOG_Z("text", "no query is answered any more"));
}

static void note_missed(void)
{
    (void)pthread_mutex_lock(&resolver.lock);
    note_failure(true);
    bool doubtful = ++resolver.missed >= DOUBT_MISSED;
    (void)pthread_mutex_unlock(&resolver.lock);
    if (doubtful)
        dns_context_doubt();
}

/* Awaits. On an error the request is no longer ours. */
static int await_request(struct request *q, int64_t deadline_ns)
{
    while (!request_done(q)) {
        int r = task_park(deadline_ns);
        if (r < 0 && abandon_request(q)) {
            if (r == -ETIMEDOUT)
                note_missed();
            return r;
        }
    }
    return 0;
}

/* Under the lock. The task is woken under it: once it is released the task may be gone. True: nobody waits, and the caller frees it. */
static bool finish_request(struct request *q, int error, struct ub_result *result)
{
    unlink_request(q);
    q->error = error;
    q->result = result;
    q->done = true;
    if (q->waiter == NULL)
        return true;
    task_wake(q->waiter);
    return false;
}

/* libunbound's callback, on the pump. */
static void on_result(void *arg, int error, struct ub_result *result)
{
    struct request *q = arg;

    (void)pthread_mutex_lock(&resolver.lock);
    resolver.missed = 0;
    resolver.heard_ns = clock_mono_ns();
    note_failure(error != UB_NOERROR || (result->rcode == RCODE_SERVFAIL && !result->bogus));
    bool abandoned = finish_request(q, error, result);
    (void)pthread_mutex_unlock(&resolver.lock);
    if (abandoned)
        free_request(q);
}

void dns_context_gone(unsigned context)
{
    (void)pthread_mutex_lock(&resolver.lock);
    for (struct request *q = resolver.under_way, *next; q != NULL; q = next) {
        next = q->next;
        if (q->context == context && finish_request(q, UB_PIPE, NULL))
            free_request(q);
    }
    (void)pthread_mutex_unlock(&resolver.lock);
}

/* From now on dns_context_gone() finds it; if the context went while we asked, nobody else will end it. */
static void note_context(struct request *q, unsigned context)
{
    (void)pthread_mutex_lock(&resolver.lock);
    q->context = context;
    if (!q->done && context != dns_context_current())
        (void)finish_request(q, UB_PIPE, NULL); /* we are its waiter */
    (void)pthread_mutex_unlock(&resolver.lock);
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

/* Hands the question to libunbound: 0, -ENOMEM, -EAGAIN. */
static int ask(struct str name, enum dns_type type, struct request *q)
{
    char question[QUESTION_MAX];
    unsigned context;

    format_question(name, question);
    int r = dns_context_ask(question, (int)type, q, on_result, &context);
    if (r == 0)
        note_context(q, context);
    return r;
}

static int query_libunbound(struct arena *arena, struct str name, enum dns_type type, int64_t deadline_ns, struct dns_answer *out)
{
    struct request *q;
    int64_t wait_until = task_deadline_in(WAIT_MAX_NS);

    int r = begin_request(&q);
    if (r == 0 && (r = ask(name, type, q)) < 0)
        withdraw_request(q);
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

static int start(const struct dns_options *options, char out_error[256])
{
    CLEANUP_BUF struct buf config;

    buf_init(&config, CONFIG_MAX);
    int r = dns_zone_config(options, &config, out_error);
    resolver.closed = dns_is_closed(options);
    return r < 0 ? r : dns_context_start(buf_str(&config), out_error);
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
    int r = pthread_create(&thread, NULL, start_thread, &job);
    if (r != 0) {
        (void)snprintf(out_error, 256, "DNS: %s", strerror(r));
        return -r;
    }
    (void)pthread_join(thread, NULL);
    return job.result;
}

void dns_stop(void)
{
    dns_context_stop(); /* it forgets the queries under way without a word; they are freed here */
    for (struct request *q; (q = resolver.under_way) != NULL;) {
        assert(q->waiter == NULL);
        unlink_request(q);
        free_request(q);
    }
    resolver.missed = resolver.failed = 0;
}
