/*
 * Very many messages through a small disk: segments are used again, memory and latency stay as they were.
 *
 *     soak DIRECTORY MESSAGES [SEGMENT_MIB]
 *
 * DIRECTORY stands on a small file system (tests/bench/soak makes one). Tasks put messages of many sizes, others take them and settle them as
 * a busy server does: most at once, one in fifty later, one in a thousand is held and released, sent another way or discarded by an
 * operator. Once in each tenth of the way the queue is closed and opened again. Each tenth says what it took; at the end nothing is left, and
 * the last tenths must look like those before. Exit: 0 so it was; 1 not.
 */
#include "queue/queue.h"
#include "run/loop.h"
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define PUTTERS      50
#define TENTHS       10
#define LATER_NS     (200 * NS_PER_MS)
#define WAITING_MAX  2000                            /* who puts waits for who takes */
#define SAMPLES      100000
#define LARGE        (200 * 1024)                    /* a file of its own */

struct tenth {
    double   seconds, p50_ms, p99_ms, memory_mib, disk_mib;
};

static struct {
    const char   *dir;
    uint64_t      messages, put, segment_mib;
    uint64_t      stop_at;                           /* of this tenth */
    struct queue *queue;
    char          body[LARGE];
    float         samples[SAMPLES];
    size_t        sampled;
    uint64_t      full;                              /* the disk was full, and it was put later */
    uint64_t      bytes;                             /* of bodies */
} soak;

static void must(const char *what, int r)
{
    if (r >= 0)
        return;
    fprintf(stderr, "soak: %s: %s\n", what, strerror(-r));
    exit(1);
}

static size_t size_of(uint64_t number)
{
    static const size_t sizes[] = { 300, 1000, 2000, 4000, 4000, 8000, 20000 };
    return number % 500 == 0 ? LARGE : sizes[number % (sizeof sizes / sizeof sizes[0])];
}

static void open_queue(void)
{
    struct queue_options options = { .dir = soak.dir, .segment_size = soak.segment_mib << 20, .unsafe_file_system = true };
    char error[256];

    if (queue_open(&options, &soak.queue, NULL, error) < 0) {
        fprintf(stderr, "soak: %s\n", error);
        exit(1);
    }
}

/* ---- the way in ---- */

static int put_one(uint64_t number)
{
    struct recipient rcpt = { .addr = { .local = STR("bob"), .domain = STR("b.example") } };
    struct envelope env = { .id = queue_new_id(soak.queue), .arrived_ns = clock_wall_ns(), .null_sender = true, .rcpts = &rcpt, .rcpt_count = 1 };
    struct body *body = body_new(soak.queue, env.id);
    int r = body == NULL ? -ENOMEM : body_append(body, (struct str){ soak.body, size_of(number) });

    if (r == 0)
        r = queue_put(soak.queue, &env, body);
    body_free(body);
    return r;
}

static void putter(void *arg)
{
    (void)arg;
    while (soak.put < soak.stop_at) {
        uint64_t number = soak.put++;
        while (queue_count(soak.queue) > WAITING_MAX)
            (void)task_sleep(NS_PER_MS);
        int64_t began = clock_mono_ns();
        int r;
        while ((r = put_one(number)) == -ENOSPC) {
            soak.full++;
            (void)task_sleep(10 * NS_PER_MS);
            began = clock_mono_ns();
        }
        must("put", r);
        soak.bytes += size_of(number);
        if (soak.sampled < SAMPLES)
            soak.samples[soak.sampled++] = (float)(clock_mono_ns() - began) / 1e6f;
    }
}

/* ---- the way out ---- */

static int by_hand(uint64_t id, unsigned what)
{
    struct claim *c;

    if (what == 0)
        return queue_discard(soak.queue, id);
    int r = what == 1 ? queue_hold(soak.queue, id) : queue_claim_one(soak.queue, id, &c);
    if (r < 0)
        return r;
    if (what == 1)
        return queue_release(soak.queue, id);
    c->env.rcpts[0].next_hop = STR("relay.example");
    return queue_reroute(c, &c->env, c->states);
}

/* One in fifty is put off the first time, one in a thousand is an operator's affair. */
static void settle_task(void *arg)
{
    struct claim *c = arg;
    uint64_t id = c->id;
    bool later = c->attempts == 0 && id % 50 == 0, hand = later && id % 1000 == 0;
    struct outcome o = { .state = later ? RCPT_PENDING : RCPT_DELIVERED, .status = STR("2.0.0"), .remote = STR("mx.b.example"), .text = STR("250 ok") };

    must("settle", queue_settle(c, &o, 1, clock_wall_ns() + LATER_NS));
    int r = hand ? by_hand(id, (unsigned)(id / 1000 % 3)) : 0;
    if (r == -ENOSPC || r == -EBUSY || r == -ENOENT)
        r = 0;                                       /* as it was: no room, or its time had come */
    must("by hand", r);
}

static void taker(void *arg)
{
    struct task_group group;
    struct claim *c;

    (void)arg;
    task_group_init(&group);
    while (soak.put < soak.stop_at || queue_count(soak.queue) > 0) {
        int r = queue_claim(soak.queue, task_deadline_in(100 * NS_PER_MS), &c);
        if (r == -ETIMEDOUT)
            continue;
        must("claim", r);
        must("task", task_group_start(&group, "settle", settle_task, c));
    }
    (void)task_group_wait(&group, TASK_FOREVER);
}

/* ---- tenths ---- */

static int by_value(const void *pa, const void *pb)
{
    float a = *(const float *)pa, b = *(const float *)pb;
    return a < b ? -1 : a > b;
}

static double resident_mib(void)
{
    unsigned long all, resident = 0;
    FILE *f = fopen("/proc/self/statm", "r");

    if (f == NULL || fscanf(f, "%lu %lu", &all, &resident) != 2)
        resident = 0;
    if (f != NULL)
        (void)fclose(f);
    return (double)resident * (double)sysconf(_SC_PAGESIZE) / (1 << 20);
}

static double disk_mib(void)
{
    struct statvfs fs;
    return statvfs(soak.dir, &fs) < 0 ? 0 : (double)(fs.f_blocks - fs.f_bfree) * (double)fs.f_frsize / (1 << 20);
}

static void run_tenth(struct tenth *t)
{
    struct task_group group;
    int64_t began = clock_mono_ns();

    soak.sampled = 0;
    open_queue();
    task_group_init(&group);
    must("task", task_group_start(&group, "take", taker, NULL));
    for (int i = 0; i < PUTTERS; i++)
        must("task", task_group_start(&group, "put", putter, NULL));
    (void)task_group_wait(&group, TASK_FOREVER);
    t->seconds = (double)(clock_mono_ns() - began) / 1e9;
    t->disk_mib = disk_mib();
    queue_close(soak.queue);
    t->memory_mib = resident_mib();
    qsort(soak.samples, soak.sampled, sizeof soak.samples[0], by_value);
    t->p50_ms = soak.samples[soak.sampled / 2];
    t->p99_ms = soak.samples[soak.sampled - 1 - soak.sampled / 100];
}

static struct tenth tenths[TENTHS];

static void run(void *arg)
{
    (void)arg;
    for (int i = 0; i < TENTHS; i++) {
        struct tenth *t = &tenths[i];
        soak.stop_at = soak.messages * (uint64_t)(i + 1) / TENTHS;
        uint64_t before = soak.put;
        run_tenth(t);
        printf("%" PRIu64 " messages, %.1f GB: %.0f/s, acceptance %.2f ms (99 %%: %.1f ms), memory %.0f MiB, disk %.0f MiB, %" PRIu64 " times full\n",
               soak.put, (double)soak.bytes / 1e9, (double)(soak.put - before) / t->seconds, t->p50_ms, t->p99_ms, t->memory_mib, t->disk_mib, soak.full);
    }
}

/* Beside the second tenth, when all that is kept for later has been made. Latency is the disk's and the neighbours' too. */
static bool is_flat(void)
{
    const struct tenth *first = &tenths[1];
    bool flat = true;

    for (int i = 2; i < TENTHS; i++) {
        flat &= tenths[i].memory_mib < first->memory_mib * 1.25 + 16;
        flat &= tenths[i].disk_mib < first->disk_mib * 1.5 + 64;
    }
    return flat && tenths[TENTHS - 1].p50_ms < 5 * first->p50_ms + 5;
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc < 3) {
        fprintf(stderr, "usage: soak DIRECTORY MESSAGES [SEGMENT_MIB]\n");
        return 64;
    }
    soak.dir = argv[1];
    soak.messages = strtoull(argv[2], NULL, 10);
    soak.segment_mib = argc > 3 ? strtoull(argv[3], NULL, 10) : 8;
    memset(soak.body, 'x', sizeof soak.body);
    if (loop_run(1, run, NULL) < 0)
        return 1;
    if (!is_flat())
        fprintf(stderr, "soak: the end does not look like the beginning\n");
    return !is_flat();
}
