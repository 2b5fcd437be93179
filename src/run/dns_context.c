/*
 * The one libunbound of the process, with the one thread that it works in, and the pump: a thread of ours that reads its answers (so that
 * no loop has to live for it, and dns_start may come before the loops) and sees to it that there is one that hears.
 *
 * Libunbound can go deaf: when its thread finds no memory while it reads a question it loses its place in the pipe, and answers nothing
 * from then on. From outside that looks like a network without DNS. So when nothing comes back, the pump asks for something that libunbound
 * answers by itself; if that does not come back either, another context takes its place, and the questions to the old one end with an
 * error. The old one is deleted by a thread of its own, since its end waits for a thread that may not hear that either; then it stays
 * until the process ends, and there are never more than UNBURIED_MAX of those.
 */
#include "run/dns_context.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define CLASS_IN       1
#define CONFIG_MAX     (1024 * 1024)
#define TYPE_A         1
#define HEARS_WAIT_NS  (5 * NS_PER_S) /* for libunbound to begin, to show that it hears, or to end */
#define HEARS_TURN_MS  100
#define IN_DOUBT_MAX   256u /* questions while we do not know: the pipe to libunbound must not fill, or whoever asks would stand still */
#define UNBURIED_MAX   8u

struct context {
    struct ub_ctx *ub;
    bool hears;         /* the answer to the probe has come; only the pump looks */
    atomic_uint asking; /* threads inside ub_resolve_async() */
};

static struct {
    pthread_mutex_t lock;    /* for current and its number; held while a thread counts itself in, no longer */
    struct context *current; /* NULL: not started */
    atomic_uint number;      /* of current; never 0 */

    pthread_t pump;
    int wake_fd;
    atomic_bool stopping;
    atomic_bool in_doubt;
    atomic_uint asked_in_doubt;
    atomic_uint unburied;

    struct buf config;
    FILE *log;         /* what libunbound says; owned. It keeps one for the whole process, and closes it if it is there when a context is made */
    char *first_error; /* 256 bytes for the first thing it says while we start, else NULL */
} resolver = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* ---- asking ---- */

static struct context *take_current(unsigned *out_number)
{
    (void)pthread_mutex_lock(&resolver.lock);
    struct context *c = resolver.current;
    assert(c != NULL);
    (void)atomic_fetch_add(&c->asking, 1);
    *out_number = atomic_load(&resolver.number);
    (void)pthread_mutex_unlock(&resolver.lock);
    return c;
}

int dns_context_ask(const char *question, int type, void *arg, ub_callback_type on_result, unsigned *out_context)
{
    unsigned number;

    if (atomic_load(&resolver.in_doubt) && atomic_fetch_add(&resolver.asked_in_doubt, 1) >= IN_DOUBT_MAX)
        return -EAGAIN;
    struct context *c = take_current(&number);
    int r = ub_resolve_async(c->ub, question, type, CLASS_IN, arg, on_result, NULL);
    (void)atomic_fetch_sub(&c->asking, 1);
    if (r != UB_NOERROR)
        return r == UB_NOMEM ? -ENOMEM : -EAGAIN;
    *out_context = number;
    return 0;
}

unsigned dns_context_current(void)
{
    return atomic_load(&resolver.number);
}

void dns_context_doubt(void)
{
    if (!atomic_exchange(&resolver.in_doubt, true))
        (void)eventfd_write(resolver.wake_fd, 1);
}

static void on_probe(void *arg, int error, struct ub_result *result)
{
    struct context *c = arg;
    (void)error;
    c->hears = true;
    ub_resolve_free(result);
}

/* A question that libunbound answers by itself (RFC 6761, 6.3). 0 or its error. */
static int probe(struct context *c)
{
    c->hears = false;
    return ub_resolve_async(c->ub, "localhost.", TYPE_A, CLASS_IN, c, on_probe, NULL);
}

/* ---- what libunbound says ---- */

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

/* ---- making one ---- */

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
    const char *first = resolver.first_error;

    int r = ub_ctx_zone_remove(ctx, "no-such-zone.invalid");
    if (r == UB_NOERROR)
        return 0;
    return fail(out_error, r == UB_NOMEM ? -ENOMEM : -EINVAL, first != NULL && first[0] != '\0' ? first : ub_strerror(r));
}

static int prepare(struct ub_ctx *ctx, char out_error[256])
{
    (void)ub_ctx_debugout(ctx, resolver.log);
    int r = configure(ctx, buf_str(&resolver.config));
    if (r == UB_NOERROR)
        r = ub_ctx_async(ctx, 1);
    if (r != UB_NOERROR)
        return fail(out_error, -EINVAL, ub_strerror(r));
    return finalize(ctx, out_error);
}

/*
 * Libunbound starts its thread at the first question, and if that thread finds no memory or descriptors it ends with a line in the log:
 * nobody would be answered until the next start. So the first question is asked now.
 */
static int await_thread(struct context *c, char out_error[256])
{
    int64_t until = clock_mono_ns() + HEARS_WAIT_NS;

    int r = probe(c);
    while (r == UB_NOERROR && !c->hears && clock_mono_ns() < until) {
        struct pollfd answers = { .fd = ub_fd(c->ub), .events = POLLIN };
        if (poll(&answers, 1, HEARS_TURN_MS) > 0)
            r = ub_process(c->ub);
    }
    return c->hears ? 0 : fail(out_error, -EAGAIN, r != UB_NOERROR ? ub_strerror(r) : "libunbound's thread does not start");
}

/* ---- its end ---- */

static void *bury(void *arg)
{
    struct context *c = arg;

    while (atomic_load(&c->asking) > 0)
        (void)poll(NULL, 0, HEARS_TURN_MS);
    ub_ctx_delete(c->ub);
    free(c);
    (void)atomic_fetch_sub(&resolver.unburied, 1);
    return NULL;
}

/* Not a thread, not even now: it stays, as one that does not hear would. */
static bool start_burial(struct context *c, pthread_t *out)
{
    sigset_t all, before;

    (void)atomic_fetch_add(&resolver.unburied, 1);
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    int r = pthread_create(out, NULL, bury, c);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return r == 0;
}

static void bury_aside(struct context *c)
{
    pthread_t thread;
    if (start_burial(c, &thread))
        (void)pthread_detach(thread);
}

static int join_for(pthread_t thread, int64_t ns)
{
#ifdef SAN_THREAD                                              /* whose runtime sees no other join with a limit */
    int64_t until_ns = clock_wall_ns() + ns;
    struct timespec until = { .tv_sec = until_ns / NS_PER_S, .tv_nsec = until_ns % NS_PER_S };
    return pthread_timedjoin_np(thread, NULL, &until);
#else
    int64_t until_ns = clock_mono_ns() + ns;
    struct timespec until = { .tv_sec = until_ns / NS_PER_S, .tv_nsec = until_ns % NS_PER_S };
    return pthread_clockjoin_np(thread, NULL, CLOCK_MONOTONIC, &until);
#endif
}

/* For a while only: one that does not hear does not end. */
static void bury_now(struct context *c)
{
    pthread_t thread;

    if (start_burial(c, &thread) && join_for(thread, HEARS_WAIT_NS) != 0)
        (void)pthread_detach(thread);
}

/* 0 and a context that hears. */
static int make_context(struct context **out, char out_error[256])
{
    struct context *c = calloc(1, sizeof *c);

    if (c == NULL)
        return fail(out_error, -ENOMEM, "no memory");
    c->ub = ub_ctx_create();
    if (c->ub == NULL) {
        free(c);
        return fail(out_error, -ENOMEM, "no memory, or no descriptors");
    }
    int r = prepare(c->ub, out_error);
    if (r == 0)
        r = await_thread(c, out_error);
    if (r < 0) {
        (void)ub_ctx_debugout(c->ub, NULL);
        bury_now(c);
        return r;
    }
    *out = c;
    return 0;
}

/* ---- the pump ---- */

static void put_in_place(struct context *c)
{
    (void)pthread_mutex_lock(&resolver.lock);
    resolver.current = c;
    unsigned before = atomic_fetch_add(&resolver.number, 1);
    (void)pthread_mutex_unlock(&resolver.lock);
    dns_context_gone(before);
}

static void end_doubt(void)
{
    dns_heard();
    atomic_store(&resolver.asked_in_doubt, 0);
    atomic_store(&resolver.in_doubt, false);
}

/* False: not now. */
static bool replace_context(void)
{
    struct context *old = resolver.current, *fresh;
    char error[256] = "too many that did not end";

    int r = -EAGAIN;
    (void)ub_ctx_debugout(old->ub, NULL); /* or ub_ctx_create() would close it */
    if (atomic_load(&resolver.unburied) < UNBURIED_MAX)
        r = make_context(&fresh, error);
    if (r < 0) {
        (void)ub_ctx_debugout(old->ub, resolver.log);
        log_event(LOG_ERROR, "dns-deaf", LOG_Z("error", error), LOG_Z("text", "libunbound answers nothing, and cannot be replaced yet"));
        return false;
    }
    log_event(LOG_ERROR, "dns-deaf", LOG_Z("text", "libunbound answered nothing, and was replaced"));
    put_in_place(fresh);
    bury_aside(old);
    return true;
}

/* While in doubt, again and again: whether the question has come back, or never will. *until_ns is 0 when none is asked. */
static void resolve_doubt(int64_t *until_ns)
{
    if (*until_ns == 0) {
        *until_ns = clock_mono_ns() + HEARS_WAIT_NS;
        (void)probe(resolver.current); /* an error is no answer */
        return;
    }
    if (!resolver.current->hears && clock_mono_ns() < *until_ns)
        return;
    bool hears = resolver.current->hears || replace_context();
    *until_ns = hears ? 0 : clock_mono_ns() + HEARS_WAIT_NS;
    if (hears)
        end_doubt();
}

static void *pump(void *arg)
{
    int64_t until_ns = 0;

    (void)arg;
    while (!atomic_load(&resolver.stopping)) {
        bool doubt = atomic_load(&resolver.in_doubt);
        struct pollfd fds[] = { { .fd = ub_fd(resolver.current->ub), .events = POLLIN }, { .fd = resolver.wake_fd, .events = POLLIN } };
        eventfd_t woken;

        if (poll(fds, 2, doubt ? HEARS_TURN_MS : -1) < 0)
            continue; /* EINTR; anything else would be our mistake */
        if (fds[1].revents != 0)
            (void)eventfd_read(resolver.wake_fd, &woken);
        int r = fds[0].revents != 0 ? ub_process(resolver.current->ub) : UB_NOERROR;
        if (r != UB_NOERROR)
            log_event(LOG_ERROR, "dns", LOG_Z("error", ub_strerror(r)));
        if (doubt)
            resolve_doubt(&until_ns);
    }
    return NULL;
}

static int start_pump(void)
{
    sigset_t all, before;

    resolver.wake_fd = eventfd(0, EFD_CLOEXEC);
    if (resolver.wake_fd < 0)
        return -errno;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are for the loops */
    int r = pthread_create(&resolver.pump, NULL, pump, NULL);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (r != 0)
        (void)close(resolver.wake_fd);
    return -r;
}

/* ---- start and stop ---- */

static void forget_config(void)
{
    if (resolver.log != NULL)
        (void)fclose(resolver.log);
    resolver.log = NULL;
    buf_free(&resolver.config);
}

static int begin(char out_error[256])
{
    struct context *c;

    int r = make_context(&c, out_error);
    if (r < 0)
        return r;
    resolver.current = c;
    (void)atomic_fetch_add(&resolver.number, 1);
    r = start_pump();
    if (r == 0)
        return 0;
    resolver.current = NULL;
    (void)ub_ctx_debugout(c->ub, NULL);
    bury_now(c);
    return fail(out_error, r, strerror(-r));
}

int dns_context_start(struct str config, char out_error[256])
{
    static const cookie_io_functions_t says = { .write = on_libunbound_says };
    char first[256] = "";

    assert(resolver.current == NULL);
    buf_init(&resolver.config, CONFIG_MAX);
    buf_put_str(&resolver.config, config);
    resolver.log = fopencookie(NULL, "w", says);
    if (!buf_ok(&resolver.config) || resolver.log == NULL)
        return forget_config(), fail(out_error, -ENOMEM, "no memory");
    (void)setvbuf(resolver.log, NULL, _IOLBF, 0); /* a line is an event */
    atomic_store(&resolver.stopping, false);
    resolver.first_error = first;
    int r = begin(out_error);
    resolver.first_error = NULL;
    if (r < 0)
        forget_config();
    return r;
}

/* The log goes first: libunbound would write to it after it is closed. */
void dns_context_stop(void)
{
    struct context *c = resolver.current;

    if (c == NULL)
        return;
    atomic_store(&resolver.stopping, true);
    (void)eventfd_write(resolver.wake_fd, 1);
    (void)pthread_join(resolver.pump, NULL);
    (void)close(resolver.wake_fd);
    c = resolver.current; /* it may have been replaced meanwhile */
    resolver.current = NULL;
    (void)ub_ctx_debugout(c->ub, NULL);
    bury_now(c);
    forget_config();
    atomic_store(&resolver.in_doubt, false);
    atomic_store(&resolver.asked_in_doubt, 0);
}
