/*
 * Loops: starts and wakes over threads, descriptors, signals, the watchdog, and running one after another.
 */
#include "run/loop.h"
#include "base/log.h"
#include "base/metrics.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <setjmp.h>
#include <cmocka.h>

#if defined SAN_THREAD || defined TASKS_THREADS
#define STORM 200
#else
#define STORM 2000
#endif

static struct {
    int results[8];
} seen;

static void run(unsigned loops, task_fn *fn)
{
    memset(&seen, 0, sizeof seen);
    assert_int_equal(loop_run(loops, fn, NULL), 0);
}

/* loop_run can be called again, with other counts, and ends when the last task does, wherever that is. */

static atomic_int visited;

static void visits(void *arg)
{
    if (loop_index() == (unsigned)(size_t)arg)
        atomic_fetch_add(&visited, 1);
    (void)task_sleep(NS_PER_MS);
}

static void visits_all(void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < loop_count(); i++)
        if (loop_start_on(i, "visit", visits, (void *)(size_t)i) < 0)
            seen.results[0]++;
}

static void loops_run_one_after_another(void **state)
{
    (void)state;
    for (unsigned loops = 1; loops <= 4; loops++) {
        atomic_store(&visited, 0);
        run(loops, visits_all);
        assert_int_equal(atomic_load(&visited), loops);
        assert_int_equal(seen.results[0], 0);
    }
    run(0, visits_all);
}

/* Each of these starts the next on the other loop. */

static atomic_int generations;

static void begets(void *arg)
{
    size_t left = (size_t)arg;
    atomic_fetch_add(&generations, 1);
    if (left > 0 && loop_start_on(1 - loop_index(), "child", begets, (void *)(left - 1)) < 0)
        seen.results[0]++;
}

static void begets_generations(void *arg)
{
    (void)arg;
    for (int i = 0; i < 10; i++)
        begets((void *)(size_t)STORM);
}

static void tasks_start_over_loops(void **state)
{
    (void)state;
    atomic_store(&generations, 0);
    run(2, begets_generations);
    assert_int_equal(seen.results[0], 0);
    assert_int_equal(atomic_load(&generations), 10 * (STORM + 1));
}

/* Pairs of tasks on two loops that wake each other: a turn each, so a lost wake would stop the test. */

#define PAIRS 20

static struct pair {
    struct task *_Atomic ends[2];
    atomic_int           turn;
} pairs[PAIRS];

static void plays(struct pair *p, int me)
{
    atomic_store(&p->ends[me], task_self());
    while (atomic_load(&p->ends[1 - me]) == NULL)
        if (task_sleep(NS_PER_MS / 10) < 0)
            return;
    for (int i = 0; i < STORM; i++) {
        while (atomic_load(&p->turn) % 2 != me)
            if (task_park(TASK_FOREVER) < 0)
                return;
        struct task *other = atomic_load(&p->ends[1 - me]);
        bool         last = me == 1 && i == STORM - 1;
        atomic_fetch_add(&p->turn, 1);
        if (!last)                   /* the other has ended or does so now */
            task_wake(other);
    }
}

static void plays_white(void *arg) { plays(arg, 0); }
static void plays_black(void *arg) { plays(arg, 1); }

static void starts_pairs(void *arg)
{
    (void)arg;
    memset(pairs, 0, sizeof pairs);
    for (int i = 0; i < PAIRS; i++) {
        seen.results[0] |= loop_start_on(0, "white", plays_white, &pairs[i]);
        seen.results[0] |= loop_start_on(1, "black", plays_black, &pairs[i]);
    }
}

static void no_wake_is_lost_between_loops(void **state)
{
    (void)state;
    run(2, starts_pairs);
    assert_int_equal(seen.results[0], 0);
    for (int i = 0; i < PAIRS; i++)
        assert_int_equal(atomic_load(&pairs[i].turn), 2 * STORM);
}

/* A thread that is none of ours wakes again and again; the task ends while its last wakes are still on the way. */

static atomic_int wakes_given;

static void *wakes_often(void *arg)
{
    for (int i = 0; i < STORM; i++) {
        atomic_fetch_add(&wakes_given, 1);
        task_wake(arg);
    }
    return NULL;
}

static void is_woken_often(void *arg)
{
    pthread_t wakers[2];
    (void)arg;
    atomic_store(&wakes_given, 0);
    for (int i = 0; i < 2; i++)
        if (pthread_create(&wakers[i], NULL, wakes_often, task_self()) != 0)
            abort();
    while (atomic_load(&wakes_given) < 2 * STORM)
        if (task_park(TASK_FOREVER) == 0)
            seen.results[0]++;
    for (int i = 0; i < 2; i++)
        (void)pthread_join(wakers[i], NULL);
}

static void wakes_come_from_any_thread(void **state)
{
    (void)state;
    for (int i = 0; i < 10; i++) {
        run(1, is_woken_often);
        assert_in_range(seen.results[0], 0, 2 * STORM);   /* they may all have come before it parked */
    }
}

/* Starts to one loop have a limit in flight. */

static atomic_int arrived;

static void arrives(void *arg)
{
    (void)arg;
    atomic_fetch_add(&arrived, 1);
}

static pthread_barrier_t barrier;

static void blocks_its_loop(void *arg)
{
    (void)arg;
    (void)pthread_barrier_wait(&barrier);
    (void)pthread_barrier_wait(&barrier);
}

static void floods(void *arg)
{
    (void)arg;
    (void)loop_start_on(1, "blocks", blocks_its_loop, NULL);
    (void)pthread_barrier_wait(&barrier);
    while (seen.results[0] < 5000 && (seen.results[1] = loop_start_on(1, "arrives", arrives, NULL)) == 0)
        seen.results[0]++;
    (void)pthread_barrier_wait(&barrier);
}

static void a_flood_of_starts_is_refused(void **state)
{
    (void)state;
    (void)pthread_barrier_init(&barrier, NULL, 2);
    atomic_store(&arrived, 0);
#if defined SAN_THREAD || defined TASKS_THREADS
    task_limit_set(500);
#endif
    run(2, floods);
    task_limit_set(250000);
    assert_int_equal(seen.results[1], -EAGAIN);
    assert_int_equal(atomic_load(&arrived), seen.results[0]);
    (void)pthread_barrier_destroy(&barrier);
}

/* Descriptors. */

static void make_pipe(struct loop_fd ends[2])
{
    int fds[2];
    if (pipe2(fds, O_NONBLOCK | O_CLOEXEC) < 0)
        abort();
    loop_fd_init(&ends[0], fds[0]);
    loop_fd_init(&ends[1], fds[1]);
}

static void close_both(struct loop_fd ends[2])
{
    for (int i = 0; i < 2; i++) {
        loop_fd_forget(&ends[i]);
        if (ends[i].fd >= 0)
            (void)close(ends[i].fd);
    }
}

/* Carries bytes through a pipe, in pieces of sizes that meet its end in all ways. */

#define CARRIED (4 * 1024 * 1024)

static void writes_all(void *arg)
{
    static unsigned char bytes[70001];
    struct loop_fd      *f = arg;
    for (size_t sent = 0; sent < CARRIED;) {
        size_t want = 1 + sent % sizeof bytes;
        if (want > CARRIED - sent)
            want = CARRIED - sent;
        for (size_t i = 0; i < want; i++)
            bytes[i] = (unsigned char)((sent + i) * 7 >> 3);
        ssize_t n = write(f->fd, bytes, want);
        if (n > 0)
            sent += (size_t)n;
        else if (loop_fd_wait_writable(f, task_deadline_in(5 * NS_PER_S)) < 0)
            break;
    }
    loop_fd_forget(f);
    (void)close(f->fd);
    f->fd = -1;
}

static void reads_all(void *arg)
{
    static unsigned char bytes[33333];
    struct loop_fd       ends[2];
    size_t               got = 0;
    (void)arg;
    make_pipe(ends);
    (void)task_start("writes", writes_all, &ends[1]);
    for (;;) {
        ssize_t n = read(ends[0].fd, bytes, sizeof bytes);
        if (n == 0)
            break;
        if (n < 0) {
            seen.results[1]++;
            if (loop_fd_wait_readable(&ends[0], task_deadline_in(5 * NS_PER_S)) < 0)
                break;
            continue;
        }
        for (ssize_t i = 0; i < n; i++, got++)
            seen.results[2] += bytes[i] != (unsigned char)(got * 7 >> 3);
    }
    seen.results[0] = (int)got;
    close_both(ends);
}

static void a_pipe_carries_all_bytes(void **state)
{
    (void)state;
    run(1, reads_all);
    assert_int_equal(seen.results[0], CARRIED);
    assert_true(seen.results[1] > 0);
    assert_int_equal(seen.results[2], 0);
}

static void waits_in_all_ways(void *arg)
{
    struct loop_fd ends[2];
    char           byte = 'x';
    (void)arg;
    make_pipe(ends);
    seen.results[0] = loop_fd_wait_readable(&ends[0], task_deadline_in(NS_PER_MS));
    seen.results[1] = loop_fd_wait_writable(&ends[1], TASK_FOREVER);          /* empty: at once */
    if (write(ends[1].fd, &byte, 1) != 1)
        abort();
    seen.results[2] = loop_fd_wait_readable(&ends[0], TASK_FOREVER);
    seen.results[3] = loop_fd_wait_readable(&ends[0], task_deadline_in(NS_PER_MS));   /* consumed, although a byte is there: no new edge */
    if (write(ends[1].fd, &byte, 1) != 1)
        abort();
    (void)task_sleep(NS_PER_MS);                                              /* the edge comes while nobody waits */
    seen.results[4] = loop_fd_wait_readable(&ends[0], TASK_FOREVER);
    loop_fd_forget(&ends[1]);
    (void)close(ends[1].fd);
    ends[1].fd = -1;
    seen.results[5] = loop_fd_wait_readable(&ends[0], TASK_FOREVER);          /* the end is an event */
    close_both(ends);
    loop_fd_init(&ends[0], -1);
    seen.results[6] = loop_fd_wait_readable(&ends[0], TASK_FOREVER);
}

static void readiness_is_an_edge_that_stays_until_consumed(void **state)
{
    static const int expected[] = { -ETIMEDOUT, 0, 0, -ETIMEDOUT, 0, 0, -EBADF };
    (void)state;
    run(1, waits_in_all_ways);
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++)
        assert_int_equal(seen.results[i], expected[i]);
}

/* Two tasks wait for the two directions of one socket; the peer closes. */

static struct loop_fd socket_end;

static void waits_to_read(void *arg)
{
    (void)arg;
    seen.results[0] = loop_fd_wait_readable(&socket_end, TASK_FOREVER);
}

static void waits_to_write(void *arg)
{
    (void)arg;
    while (write(socket_end.fd, "0123456789abcdef", 16) > 0)
        ;
    (void)loop_fd_wait_writable(&socket_end, 0);     /* the first edge, from registering, is older than the full buffer */
    while (write(socket_end.fd, "0123456789abcdef", 16) > 0)
        ;
    seen.results[1] = loop_fd_wait_writable(&socket_end, TASK_FOREVER);
    seen.results[2] = write(socket_end.fd, "x", 1) < 0 ? errno : 0;
}

static void closes_the_peer(void *arg)
{
    int fds[2];
    (void)arg;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) < 0)
        abort();
    loop_fd_init(&socket_end, fds[0]);
    struct task_group g;
    task_group_init(&g);
    (void)task_group_start(&g, "reads", waits_to_read, NULL);
    (void)task_group_start(&g, "writes", waits_to_write, NULL);
    (void)task_sleep(5 * NS_PER_MS);
    seen.results[3] = (int)g.count;
    (void)close(fds[1]);
    seen.results[4] = task_group_wait(&g, task_deadline_in(5 * NS_PER_S));
    loop_fd_forget(&socket_end);
    (void)close(fds[0]);
}

static void both_directions_wait_at_once(void **state)
{
    (void)state;
    (void)signal(SIGPIPE, SIG_IGN);
    run(1, closes_the_peer);
    assert_int_equal(seen.results[0], 0);
    assert_int_equal(seen.results[1], 0);
    assert_true(seen.results[2] == EPIPE || seen.results[2] == ECONNRESET);
    assert_int_equal(seen.results[3], 2);
    assert_int_equal(seen.results[4], 0);
}

/* Signals, which also stay pending while the last task ends. */

static void waits_for_signals(void *arg)
{
    static const int signos[] = { SIGTERM, SIGHUP };
    (void)arg;
    seen.results[0] = loop_signals(signos, 2);
    seen.results[1] = loop_signal_wait(task_deadline_in(NS_PER_MS));
    (void)kill(getpid(), SIGHUP);
    seen.results[2] = loop_signal_wait(TASK_FOREVER);
    (void)kill(getpid(), SIGTERM);
    (void)kill(getpid(), SIGHUP);
    seen.results[3] = loop_signal_wait(TASK_FOREVER) + loop_signal_wait(TASK_FOREVER);
    (void)kill(getpid(), SIGTERM);
}

static void signals_are_awaited(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        run(2, waits_for_signals);
        assert_int_equal(seen.results[0], 0);
        assert_int_equal(seen.results[1], -ETIMEDOUT);
        assert_int_equal(seen.results[2], SIGHUP);
        assert_int_equal(seen.results[3], SIGTERM + SIGHUP);
    }
}

/* A task that does not wait is named. */

static char slow_line[300];

static void keep_line(void *arg, enum log_level level, struct str line)
{
    (void)arg, (void)level;
    size_t n = line.n < sizeof slow_line - 1 ? line.n : sizeof slow_line - 1;
    memcpy(slow_line, line.p, n);
    slow_line[n] = '\0';
}

static void hogs(void *arg)
{
    (void)arg;
    int64_t until_ns = clock_mono_ns() + 70 * NS_PER_MS;
    while (clock_mono_ns() < until_ns)
        ;
}

static void starts_a_hog(void *arg)
{
    (void)arg;
    (void)task_start("the-hog", hogs, NULL);
}

static void a_slow_turn_is_logged_by_name(void **state)
{
    (void)state;
    int64_t before = metric_get(METRIC_loop_turns_slow);
    log_redirect(keep_line, NULL);
    run(1, starts_a_hog);
    log_redirect(NULL, NULL);
    assert_true(metric_get(METRIC_loop_turns_slow) > before);
    assert_non_null(strstr(slow_line, "the-hog"));
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(loops_run_one_after_another),
        cmocka_unit_test(tasks_start_over_loops),
        cmocka_unit_test(no_wake_is_lost_between_loops),
        cmocka_unit_test(wakes_come_from_any_thread),
        cmocka_unit_test(a_flood_of_starts_is_refused),
        cmocka_unit_test(a_pipe_carries_all_bytes),
        cmocka_unit_test(readiness_is_an_edge_that_stays_until_consumed),
        cmocka_unit_test(both_directions_wait_at_once),
        cmocka_unit_test(signals_are_awaited),
        cmocka_unit_test(a_slow_turn_is_logged_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
