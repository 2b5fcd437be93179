/*
 * How long a start takes with many messages in the queue.
 *
 *     start fill DIRECTORY MESSAGES BODY_BYTES [tried] [killed]     a queue of so many messages that wait until tomorrow
 *     start time DIRECTORY [scan]                                   opens it once and prints how long that took; scan: without sidecars
 *
 * `tried` gives each message an attempt that put it off, as most messages of a long queue have had; `killed` ends like kill -9 does,
 * without an orderly end. The messages are put through queue_put(), by as many tasks as a busy server has sessions.
 */
#include "queue/queue.h"
#include "run/loop.h"
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define PUTTERS  1000
#define A_DAY_NS (86400 * NS_PER_S)

static struct {
    const char   *dir;
    struct queue *queue;
    uint64_t      messages, body_size;
    bool          tried, killed, scan;
    uint64_t      put;
    char         *body;
    bool          failed;
} bench;

static void fail(const char *what, int r)
{
    fprintf(stderr, "start: %s: %s\n", what, strerror(-r));
    bench.failed = true;
}

static int put_one(uint64_t number)
{
    char local[32];
    uint64_t id = queue_new_id(bench.queue);
    struct recipient rcpt = { .addr = { .local = STR("somebody"), .domain = STR("elsewhere.example") } };
    struct envelope env = { .id = id, .arrived_ns = clock_wall_ns(), .rcpts = &rcpt, .rcpt_count = 1 };

    snprintf(local, sizeof local, "sender-%" PRIu64, number);
    env.sender = (struct address){ .local = str_of(local), .domain = STR("here.example") };
    env.hold_until_ns = bench.tried ? 0 : clock_wall_ns() + A_DAY_NS;
    struct body *body = body_new(bench.queue, id);
    int r = body == NULL ? -ENOMEM : body_append(body, (struct str){ bench.body, bench.body_size });
    if (r == 0)
        r = queue_put(bench.queue, &env, body);
    body_free(body);
    return r;
}

static void putter(void *arg)
{
    (void)arg;
    while (bench.put < bench.messages && !bench.failed) {
        int r = put_one(bench.put++);
        if (r < 0)
            fail("put", r);
    }
}

static void put_off(void *arg)
{
    struct claim *c = arg;
    struct outcome outcome = {
        .state = RCPT_PENDING, .status = STR("4.2.1"), .remote = STR("mx.elsewhere.example [192.0.2.1]"), .text = STR("450 4.2.1 Try again later"),
    };
    int r = queue_settle(c, &outcome, 1, clock_wall_ns() + A_DAY_NS);
    if (r < 0)
        fail("settle", r);
}

static void attempts(struct task_group *group)
{
    for (uint64_t i = 0; i < bench.messages && !bench.failed; i++) {
        struct claim *c;
        int r = queue_claim(bench.queue, TASK_FOREVER, &c);
        if (r == 0)
            r = task_group_start(group, "put-off", put_off, c);
        if (r < 0)
            fail("claim", r);
        if (i % PUTTERS == PUTTERS - 1)
            (void)task_group_wait(group, TASK_FOREVER);
    }
}

static void fill(void *arg)
{
    struct task_group group;
    (void)arg;
    task_group_init(&group);
    for (unsigned i = 0; i < PUTTERS; i++)
        (void)task_group_start(&group, "put", putter, NULL);
    (void)task_group_wait(&group, TASK_FOREVER);
    if (bench.tried)
        attempts(&group);
    (void)task_group_wait(&group, TASK_FOREVER);
    if (bench.killed)
        (void)raise(SIGKILL);
    queue_close(bench.queue);
}

static int open_queue(struct queue_recovery *recovery)
{
    char error[256];
    struct queue_options options = { .dir = bench.dir, .unsafe_file_system = true, .scan_all = bench.scan };
    int r = queue_open(&options, &bench.queue, recovery, error);

    if (r < 0)
        fprintf(stderr, "start: %s\n", error);
    return r;
}

static int fill_queue(int argc, char **argv)
{
    struct queue_recovery recovery;

    bench.messages = strtoull(argv[3], NULL, 10);
    bench.body_size = strtoull(argv[4], NULL, 10);
    for (int i = 5; i < argc; i++) {
        bench.tried |= strcmp(argv[i], "tried") == 0;
        bench.killed |= strcmp(argv[i], "killed") == 0;
    }
    bench.body = malloc(bench.body_size + 1);
    if (bench.body == NULL || open_queue(&recovery) < 0)
        return 1;
    memset(bench.body, 'x', bench.body_size);
    int r = loop_run(1, fill, NULL);
    free(bench.body);
    return r < 0 || bench.failed;
}

/* Closed in a task, when the first maintenance has ended. */
static void close_it(void *arg)
{
    (void)arg;
    queue_close(bench.queue);
}

static int time_start(int argc, char **argv)
{
    struct queue_recovery found;
    struct rusage used;

    /* Seconds on a machine that does nothing else are nearer to the processor's than to the clock's. */
    bench.scan = argc > 3 && strcmp(argv[3], "scan") == 0;
    int64_t begun_ns = clock_mono_ns();
    if (open_queue(&found) < 0)
        return 1;
    int64_t took_ns = clock_mono_ns() - begun_ns;
    (void)getrusage(RUSAGE_SELF, &used);
    double cpu = (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) + (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
    printf("ready in %.2f s (%.2f s of CPU): %" PRIu64 " messages, %" PRIu64 " records, %" PRIu64 " segments (%" PRIu64 " by sidecar), %.0f MB of records; %ld MiB of memory\n",
           (double)took_ns / 1e9, cpu, found.messages, found.records, found.segments, found.sidecars, (double)found.bytes / 1e6, used.ru_maxrss / 1024);
    return loop_run(1, close_it, NULL) < 0;
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    bench.dir = argc > 2 ? argv[2] : NULL;
    if (argc >= 5 && strcmp(argv[1], "fill") == 0)
        return fill_queue(argc, argv);
    if (argc >= 3 && strcmp(argv[1], "time") == 0)
        return time_start(argc, argv);
    fprintf(stderr, "usage: start fill DIRECTORY MESSAGES BODY_BYTES [tried] [killed]\n       start time DIRECTORY [scan]\n");
    return 64;
}
