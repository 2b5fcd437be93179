/*
 * What a million waiting messages cost: the queue's start, its memory, the next due message, acceptance, and an operator who looks.
 *
 *     start fill DIRECTORY 1000000 1000 tried killed       fills it (tests/bench/start.c)
 *     scale DIRECTORY PROGRAM [--check]                     opens it and measures; PROGRAM is nightmail, which looks at it from outside
 *
 * DIRECTORY.empty is made for comparison: acceptance there and here takes turns. The control socket is served by the loop on which a task
 * ticks each millisecond, so the longest pause between two ticks is how long others had to wait while the operator looked; on a machine that
 * does other things too, what counts of it is what this thread has worked. --check: exit 1 if a figure is not as good as promised
 * (docs/why/scale.md); with fewer than MANY messages what they cost is less than what the measurement is good for, and is not checked.
 */
#include "admin/control.h"
#include "queue/queue.h"
#include "run/loop.h"
#include "run/offload.h"
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#define PUTTERS   100
#define BODY      4096
#define TURN_NS   (300 * NS_PER_MS)
#define TURNS     25
#define CLAIMS    20000
#define MANY      500000
#define TICK_NS   NS_PER_MS
#define OPTIONS   { .dir = dir, .unsafe_file_system = true }

static struct {
    const char   *dir, *program;
    bool          check, failed, stop;
    struct queue *full, *empty;
    uint64_t      messages;
    int64_t       longest_ns;                        /* between two ticks */
    int64_t       longest_busy_ns;                   /* of these, so long the processor was ours */
    char          body[BODY];
} bench;

static void promise(bool kept, const char *what)
{
    if (kept || !bench.check)
        return;
    fprintf(stderr, "scale: not as promised: %s\n", what);
    bench.failed = true;
}

static void must(const char *what, int r)
{
    if (r >= 0)
        return;
    fprintf(stderr, "scale: %s: %s\n", what, strerror(-r));
    exit(1);
}

static double seconds(int64_t ns)
{
    return (double)ns / 1e9;
}

static int64_t busy_ns(void)
{
    struct rusage used;
    (void)getrusage(RUSAGE_THREAD, &used);
    return (used.ru_utime.tv_sec + used.ru_stime.tv_sec) * NS_PER_S + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) * 1000;
}

static long memory_mib(void)
{
    struct rusage used;
    (void)getrusage(RUSAGE_SELF, &used);
    return used.ru_maxrss / 1024;
}

static struct queue *open_queue(const char *dir)
{
    struct queue_recovery found;
    struct queue *q;
    char error[256];
    struct queue_options options = OPTIONS;
    int64_t began = clock_mono_ns();

    if (queue_open(&options, &q, &found, error) < 0) {
        fprintf(stderr, "scale: %s\n", error);
        exit(1);
    }
    double took = seconds(clock_mono_ns() - began);
    long memory = memory_mib();
    printf("%s: ready in %.2f s, %" PRIu64 " messages, %" PRIu64 " of %" PRIu64 " segments by sidecar, %ld MiB in all\n", dir, took,
           found.messages, found.sidecars, found.segments, memory);
    bench.messages = found.messages > bench.messages ? found.messages : bench.messages;
    promise(took <= 2, "ready in 2 s");
    promise(memory <= 256, "256 MiB of memory");
    return q;
}

/* ---- acceptance ---- */

struct turn {
    struct queue *queue;
    int64_t       deadline_ns, due_wall_ns;
    uint64_t      puts;
};

static void put(struct turn *t)
{
    struct recipient rcpt = { .addr = { .local = STR("bob"), .domain = STR("new.example") } };
    struct envelope env = { .id = queue_new_id(t->queue), .arrived_ns = clock_wall_ns(), .null_sender = true, .rcpts = &rcpt, .rcpt_count = 1 };
    struct body *body = body_new(t->queue, env.id);

    env.hold_until_ns = t->due_wall_ns;
    int r = body == NULL ? -ENOMEM : body_append(body, (struct str){ bench.body, sizeof bench.body });
    if (r == 0)
        r = queue_put(t->queue, &env, body);
    body_free(body);
    must("put", r);
    t->puts++;
}

static void putter(void *arg)
{
    struct turn *t = arg;

    while (clock_mono_ns() < t->deadline_ns)
        put(t);
}

/* A second. They wait until tomorrow, as the others. */
static double accept_for_a_turn(struct queue *q)
{
    struct turn t = { .queue = q, .deadline_ns = clock_mono_ns() + TURN_NS, .due_wall_ns = clock_wall_ns() + 86400 * NS_PER_S };
    struct task_group group;
    int64_t began = clock_mono_ns();

    task_group_init(&group);
    for (int i = 0; i < PUTTERS; i++)
        must("task", task_group_start(&group, "put", putter, &t));
    (void)task_group_wait(&group, TASK_FOREVER);
    return (double)t.puts / seconds(clock_mono_ns() - began);
}

static int by_value(const void *pa, const void *pb)
{
    double a = *(const double *)pa, b = *(const double *)pb;
    return a < b ? -1 : a > b;
}

static void acceptance(void)
{
    double here[TURNS], there[TURNS], ratio[TURNS];

    for (int i = 0; i < TURNS; i++) {
        there[i] = accept_for_a_turn(bench.empty);
        here[i] = accept_for_a_turn(bench.full);
        ratio[i] = here[i] / there[i];
    }
    qsort(here, TURNS, sizeof *here, by_value);
    qsort(there, TURNS, sizeof *there, by_value);
    qsort(ratio, TURNS, sizeof *ratio, by_value);
    printf("accepted, %d tasks, %d bytes: %.0f/s (%.0f to %.0f); beside an empty queue's %.0f/s: %.1f %% (%.1f to %.1f)\n", PUTTERS, BODY,
           here[TURNS / 2], here[0], here[TURNS - 1], there[TURNS / 2], 100 * ratio[TURNS / 2], 100 * ratio[0], 100 * ratio[TURNS - 1]);
    promise(bench.messages < MANY || ratio[TURNS / 2] >= 0.95, "accepts at 95 % of an empty queue's rate");
}

/* ---- the next due message ---- */

static void next_due(void)
{
    struct turn t = { .queue = bench.full, .due_wall_ns = clock_wall_ns() };
    struct claim *c;

    for (int i = 0; i < 100; i++)
        put(&t);
    int64_t began = clock_mono_ns(), busy = busy_ns();
    for (int i = 0; i < CLAIMS; i++) {
        must("claim", queue_claim(bench.full, TASK_FOREVER, &c));
        queue_unclaim(c);
    }
    double us = seconds(clock_mono_ns() - began) * 1e6 / CLAIMS, work_us = seconds(busy_ns() - busy) * 1e6 / CLAIMS;
    printf("next due message: %.2f us (%.2f us of work), its record read and given back\n", us, work_us);
    promise(work_us < 10, "the next due message in under 10 us");
}

/* ---- an operator ---- */

struct look {
    const char *words;
    double      first_s, all_s;
    uint64_t    lines;
};

static void run_client(void *arg)
{
    struct look *look = arg;
    char command[1024], line[1024];
    int64_t began = clock_mono_ns();

    snprintf(command, sizeof command, "%s queue -s %s/control %s", bench.program, bench.dir, look->words);
    FILE *from = popen(command, "r");
    if (from == NULL)
        return;
    while (fgets(line, sizeof line, from) != NULL)
        if (look->lines++ == 0)
            look->first_s = seconds(clock_mono_ns() - began);
    if (pclose(from) != 0)
        look->lines = 0;
    look->all_s = seconds(clock_mono_ns() - began);
}

static void ticker(void *arg)
{
    (void)arg;
    while (!bench.stop) {
        int64_t before = clock_mono_ns(), busy_before = busy_ns();
        (void)task_sleep(TICK_NS);
        int64_t took = clock_mono_ns() - before - TICK_NS, busy = busy_ns() - busy_before;
        bench.longest_ns = took > bench.longest_ns ? took : bench.longest_ns;
        bench.longest_busy_ns = busy > bench.longest_busy_ns ? busy : bench.longest_busy_ns;
    }
}

static void look_at(struct offload *pool, const char *words, double first_max_s)
{
    struct look look = { .words = words };

    bench.longest_ns = bench.longest_busy_ns = 0;
    must("client", offload_run(pool, run_client, &look));
    printf("queue %s: first line after %.3f s, all %" PRIu64 " after %.2f s; nobody waited for more than %.1f ms (%.1f ms of work)\n", words,
           look.first_s, look.lines, look.all_s, (double)bench.longest_ns / 1e6, (double)bench.longest_busy_ns / 1e6);
    promise(look.lines > 0 && look.first_s <= first_max_s, "the first line within a second");
    promise(bench.longest_busy_ns <= 50 * NS_PER_MS, "no pause of more than 50 ms");
}

static void operators(void)
{
    struct offload *pool = offload_new("client", 1, 1);
    struct control *control;
    struct net_listener *listener;
    struct task_group group;
    char path[512];

    snprintf(path, sizeof path, "%s/control", bench.dir);
    must("control", control_bind(path, "", &listener));
    must("control", control_start(listener, bench.full, -1, &control));
    task_group_init(&group);
    must("task", task_group_start(&group, "tick", ticker, NULL));
    look_at(pool, "list", 1);
    look_at(pool, "list 'age>1m to=*@elsewhere.example'", 1);
    look_at(pool, "list 'code=4.2.* sender=sender-5????@*'", 1);
    look_at(pool, "list 'state=held'", 1);                         /* none: from the index alone */
    look_at(pool, "list 'to=nobody@nowhere.example'", 60);         /* none: each record is read */
    look_at(pool, "hold --yes 'sender=sender-77???@*'", 60);
    look_at(pool, "release --yes 'state=held'", 60);
    bench.stop = true;
    (void)task_group_wait(&group, TASK_FOREVER);
    control_stop(control);
    offload_free(pool);
}

static void measure(void *arg)
{
    (void)arg;
    next_due();
    acceptance();
    operators();
    printf("memory at the end: %ld MiB\n", memory_mib());
    queue_close(bench.empty);
    queue_close(bench.full);
}

int main(int argc, char **argv)
{
    char empty[512];

    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc < 3) {
        fprintf(stderr, "usage: scale DIRECTORY PROGRAM [--check]\n");
        return 64;
    }
    bench.dir = argv[1];
    bench.program = argv[2];
    bench.check = argc > 3 && strcmp(argv[3], "--check") == 0;
    memset(bench.body, 'x', sizeof bench.body);
    bench.full = open_queue(bench.dir);
    snprintf(empty, sizeof empty, "%s.empty", bench.dir);
    bench.empty = open_queue(empty);
    if (loop_run(1, measure, NULL) < 0)
        return 1;
    return bench.failed;
}
