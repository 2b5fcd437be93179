/*
 * What queue_put() does bare, beside what the disk could do at most: the same bytes appended to a file that is written out already, with one
 * fdatasync for as many messages as the queue had in one batch.
 *
 *     journal DIRECTORY [--ms N]
 *
 * Prints a line for each case: waiting tasks, message size, messages/s of the queue, of the disk, messages in a batch, ratio. The two take
 * turns within a case. DIRECTORY must be there; a queue stays in it.
 */
#include "base/metrics.h"
#include "queue/queue.h"
#include "run/file.h"
#include "run/loop.h"
#include "run/offload.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILE_BYTES (UINT64_C(64) << 20)              /* of the disk's file, and a segment */
#define TURNS      3
#define TASKS_MAX  100
#define LARGE      65536u
#define CHUNK      (1u << 20)

static struct {
    const char *dir;
    int64_t     turn_ns;
} options = { .turn_ns = 500 * NS_PER_MS };

static char bytes[CHUNK];

/* ---- the queue ---- */

struct turn {
    struct queue *queue;
    uint32_t      size;
    int64_t       deadline_ns;
    uint64_t      puts;
    uint64_t      discarded;                         /* up to this id */
    struct task_group group;
};

static void fail(const char *what, int r)
{
    fprintf(stderr, "journal: %s: %s\n", what, strerror(-r));
    exit(1);
}

static void put(struct turn *t)
{
    struct recipient bob = { .addr = { .local = STR("bob"), .domain = STR("here.example") } };
    struct envelope env = { .id = queue_new_id(t->queue), .arrived_ns = clock_wall_ns(), .null_sender = true, .rcpts = &bob, .rcpt_count = 1 };
    struct body *body = body_new(t->queue, env.id);
    int r = body_append(body, (struct str){ bytes, t->size });

    if (r == 0)
        r = queue_put(t->queue, &env, body);
    body_free(body);
    if (r < 0)
        fail("queue_put", r);
    t->puts++;
}

static void putter(void *arg)
{
    struct turn *t = arg;
    while (clock_mono_ns() < t->deadline_ns)
        put(t);
}

/* Messages/s; of how many messages a batch was, and how many there were. */
static double queue_turn(struct queue *q, unsigned tasks, uint32_t size, double *batch, uint64_t *puts)
{
    struct turn t = { .queue = q, .size = size };
    int64_t began = clock_mono_ns(), syncs = metric_get(METRIC_journal_syncs);

    t.deadline_ns = began + options.turn_ns;
    task_group_init(&t.group);
    for (unsigned i = 0; i < tasks; i++)
        if (task_group_start(&t.group, "put", putter, &t) < 0)
            exit(1);
    (void)task_group_wait(&t.group, TASK_FOREVER);
    syncs = metric_get(METRIC_journal_syncs) - syncs;
    *puts = t.puts;
    *batch = (double)t.puts / (double)(syncs > 0 ? syncs : 1);
    return (double)t.puts * 1e9 / (double)(clock_mono_ns() - began);
}

static void discarder(void *arg)
{
    struct turn *t = arg;
    struct queue_item item;

    while (queue_list(t->queue, t->discarded, &item, 1) == 1) {
        t->discarded = item.id;
        (void)queue_discard(t->queue, item.id);
    }
}

/* Between the turns, so that segments are used again, as in a queue that is delivered from. */
static void empty_queue(struct queue *q)
{
    struct turn t = { .queue = q };

    task_group_init(&t.group);
    for (unsigned i = 0; i < TASKS_MAX; i++)
        if (task_group_start(&t.group, "discard", discarder, &t) < 0)
            exit(1);
    (void)task_group_wait(&t.group, TASK_FOREVER);
}

/* ---- the disk ---- */

static int disk_file(int dir)
{
    int file = file_open_at(dir, "disk", FILE_READ | FILE_WRITE | FILE_CREATE);
    int r = file < 0 ? file : file_allocate(file, FILE_BYTES);

    for (uint64_t at = 0; r == 0 && at < FILE_BYTES; at += CHUNK)
        r = file_write_at(file, bytes, CHUNK, at);
    if (r == 0)
        r = file_datasync(file);
    if (r < 0)
        fail("disk", r);
    return file;
}

struct disk {
    int      file;
    uint64_t at;
    unsigned batch;                                  /* messages with one sync */
    uint64_t record;                                 /* bytes of one */
    double   rate;
};

/* In pieces, as the committer writes. */
static int write_batch(struct disk *d)
{
    uint64_t left = d->batch * d->record;
    int r = 0;

    if (d->at + left > FILE_BYTES)
        d->at = 0;
    for (uint64_t n; left > 0 && r == 0; left -= n, d->at += n) {
        n = left < CHUNK ? left : CHUNK;
        r = file_write_at(d->file, bytes, n, d->at);
    }
    return r < 0 ? r : file_datasync(d->file);
}

/* On a thread of its own: it blocks. */
static void disk_turn(void *arg)
{
    struct disk *d = arg;
    int64_t began = clock_mono_ns();
    uint64_t messages = 0;

    for (; clock_mono_ns() - began < options.turn_ns; messages += d->batch) {
        int r = write_batch(d);
        if (r < 0)
            fail("disk", r);
    }
    d->rate = (double)messages * 1e9 / (double)(clock_mono_ns() - began);
}

/* ---- both ---- */

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double values[TURNS])
{
    qsort(values, TURNS, sizeof values[0], by_value);
    return values[TURNS / 2];
}

static void compare(struct queue *q, struct offload *pool, struct disk *d, unsigned tasks, uint32_t size)
{
    double queue[TURNS], disk[TURNS], batch = 1;
    uint64_t puts;

    (void)queue_turn(q, tasks, size, &batch, &puts);        /* to warm up */
    empty_queue(q);
    for (int i = 0; i < TURNS; i++) {
        int64_t written = metric_get(METRIC_journal_bytes);
        queue[i] = queue_turn(q, tasks, size, &batch, &puts);
        written = metric_get(METRIC_journal_bytes) - written;
        d->batch = batch < 1 ? 1 : (unsigned)(batch + 0.5);
        d->record = (uint64_t)written / puts;
        empty_queue(q);
        (void)offload_run(pool, disk_turn, d);
        disk[i] = d->rate;
    }
    double of_queue = median(queue), of_disk = median(disk);
    printf("%5u %7u %10.0f %10.0f %7.1f %6.2f\n", tasks, size, of_queue, of_disk, batch, of_queue / of_disk);
    fflush(stdout);
}

static void all(void *arg)
{
    static const unsigned tasks[] = { 1, 10, TASKS_MAX };
    static const uint32_t sizes[] = { 4096, LARGE };
    struct disk *d = arg;
    struct offload *pool = offload_new("disk", 1, 1);
    char path[4096], error[256];

    snprintf(path, sizeof path, "%s/queue", options.dir);
    struct queue_options o = { .dir = path, .segment_size = FILE_BYTES };
    struct queue_recovery recovery;
    struct queue *q;
    if (queue_open(&o, &q, &recovery, error) < 0) {
        fprintf(stderr, "journal: %s\n", error);
        exit(1);
    }
    printf("%5s %7s %10s %10s %7s %6s\n", "tasks", "bytes", "queue/s", "disk/s", "batch", "ratio");
    for (unsigned s = 0; s < 2; s++)
        for (unsigned t = 0; t < 3; t++)
            compare(q, pool, d, tasks[t], sizes[s]);
    queue_close(q);
    offload_free(pool);
}

static void options_parse(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--ms") == 0 && i + 1 < argc)
            options.turn_ns = strtoll(argv[++i], NULL, 10) * NS_PER_MS;
        else if (options.dir == NULL && argv[i][0] != '-')
            options.dir = argv[i];
        else
            options.turn_ns = 0;
    }
    if (options.dir == NULL || options.turn_ns <= 0) {
        fprintf(stderr, "usage: journal DIRECTORY [--ms N]\n");
        exit(64);
    }
}

int main(int argc, char **argv)
{
    options_parse(argc, argv);
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (char)('a' + i * 7 % 25);
    int dir = file_open_dir(options.dir);
    if (dir < 0)
        fail(options.dir, dir);
    struct disk disk = { .file = disk_file(dir) };
    int r = loop_run(1, all, &disk);
    (void)file_close(disk.file);
    (void)file_unlink_at(dir, "disk");
    (void)file_close(dir);
    return r < 0;
}
