/*
 * Writes the corpora of the journal's fuzzers: a queue works in the simulated world, what it wrote is taken from the simulated disk.
 *
 *     make_journal DIRECTORY        into DIRECTORY/record and DIRECTORY/journal, which must be there
 *
 * The same program writes the same files. The forms are those of fuzz_record.c and fuzz_journal.c.
 */
#include "base/cleanup.h"
#include "base/codec.h"
#include "base/log.h"
#include "queue/queue_internal.h"
#include "queue/segment.h"
#include "run/file.h"
#include "run/sim.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BODY_INLINE_MAX 2048
#define SEGMENTS_MAX    8
#define DAMAGES_MAX     7
#define NEXT_GENERATION 8
#define SECOND          0x80000000u                   /* a damage of the second segment */

static const char *top;

/* ---- a queue at work ---- */

static struct queue *open_queue(void)
{
    struct queue_options options = {
        .dir = "/data", .segment_size = SEGMENT_SIZE_MIN, .body_inline_max = BODY_INLINE_MAX, .message_size_max = 1 << 20
    };
    struct queue_recovery recovery;
    struct queue *q;
    char error[256];
    int r = queue_open(&options, &q, &recovery, error);

    assert(r == 0);
    return q;
}

/* Killed: nothing more is written, nothing says that all had been synced. */
static void queue_kill(struct queue *q)
{
    q->options.read_only = true;
    queue_close(q);
}

static struct recipient bob = { .addr = { .local = STR("bob"), .domain = STR("here.example") } };

static int put(struct queue *q, struct envelope *env, size_t size)
{
    static const char text[4096] = "Subject: one\r\n\r\nand the text\r\n";
    struct body *body = body_new(q, env->id = queue_new_id(q));

    env->arrived_ns = clock_wall_ns();
    assert(body != NULL && size <= sizeof text && body_append(body, (struct str){ text, size }) == 0);
    int r = queue_put(q, env, body);
    body_free(body);
    return r;
}

static uint64_t put_one(struct queue *q, size_t size)
{
    struct envelope env = { .null_sender = true, .rcpts = &bob, .rcpt_count = 1 };
    assert(put(q, &env, size) == 0);
    return env.id;
}

static void put_three(struct queue *q)
{
    struct recipient list[3] = { bob, bob, bob };
    struct envelope env = { .sender = bob.addr, .rcpts = list, .rcpt_count = 3 };

    list[1].addr.local = STR("ann \"the other\"");
    list[1].original = STR("rfc822;ann@there.example");
    list[2].notify = NOTIFY_FAILURE | NOTIFY_DELAY;
    list[2].rewritten_from = (struct address){ .local = STR("chris"), .domain = STR("elsewhere.example") };
    env.client_ip = STR("192.0.2.1"), env.client_name = STR("client.example"), env.helo = STR("client"), env.protocol = STR("ESMTP");
    env.login = STR("chris"), env.envid = STR("an id"), env.ret = RET_HDRS, env.body_8bit = env.smtputf8 = true;
    env.hold_until_ns = 1, env.priority = -2;
    assert(put(q, &env, 300) == 0);
}

static struct claim *claim(struct queue *q)
{
    struct claim *c;
    assert(queue_claim(q, task_deadline_in(10 * NS_PER_S), &c) == 0);
    return c;
}

/* The first that is pending ends so, the others are deferred. */
static void settle(struct queue *q, enum rcpt_state first)
{
    struct claim *c = claim(q);
    struct outcome o[3];
    size_t count = 0;

    for (uint32_t i = 0; i < c->env.rcpt_count; i++)
        if (c->states[i] == RCPT_PENDING)
            o[count++] = (struct outcome){ .rcpt = i, .status = STR("4.2.1"), .remote = STR("mx.here.example"), .text = STR("451 later") };
    o[0].state = first;
    assert(queue_settle(c, o, count, clock_wall_ns() + NS_PER_S) == 0);
}

/* ---- what it leaves ---- */

static void one(void)
{
    struct queue *q = open_queue();
    (void)put_one(q, 100);
    queue_kill(q);
}

static void settled(void)
{
    struct queue *q = open_queue();
    put_three(q);
    settle(q, RCPT_DELIVERED);
    settle(q, RCPT_PENDING);
    settle(q, RCPT_FAILED);
    queue_close(q);
}

static void one_recipient_settled(void)
{
    struct queue *q = open_queue();
    (void)put_one(q, 50);
    settle(q, RCPT_PENDING);
    settle(q, RCPT_BOUNCED);
    queue_close(q);
}

static void operators(void)
{
    struct queue *q = open_queue();
    uint64_t id = put_one(q, 0), other = put_one(q, 20);
    assert(queue_hold(q, id) == 0 && queue_release(q, id) == 0 && queue_hold(q, id) == 0);
    assert(queue_retry(q, other) == 0 && queue_discard(q, other) == 0);
    queue_close(q);
}

static void body_in_a_file(void)
{
    struct queue *q = open_queue();
    (void)put_one(q, 4096);
    (void)put_one(q, 4000);
    queue_close(q);
}

/* A kill leaves the last batch in doubt: the next start writes it again. */
static void moved(void)
{
    struct queue *q = open_queue();
    put_three(q);
    settle(q, RCPT_DELIVERED);
    queue_kill(q);
    queue_close(open_queue());
}

static void two_generations(void)
{
    struct queue *q = open_queue();
    put_three(q);
    settle(q, RCPT_DELIVERED);
    queue_close(q);
    q = open_queue();
    settle(q, RCPT_BOUNCED);
    (void)put_one(q, 30);
    queue_kill(q);
}

static void ended(void)
{
    struct queue *q = open_queue();
    (void)put_one(q, 10);
    settle(q, RCPT_DELIVERED);
    queue_kill(q);
    queue_close(open_queue());
}

static void abandoned(void)
{
    struct queue *q = open_queue();
    struct envelope env = { .null_sender = true, .rcpts = &bob, .rcpt_count = 1 };
    (void)put_one(q, 100);
    sim_disk_fail_kind(SIM_OP_DATASYNC, EIO);
    assert(put(q, &env, 200) < 0);
    sim_disk_heal();
    (void)put_one(q, 300);
    queue_kill(q);
}

static const struct {
    const char *name;
    void      (*work)(void);
    uint32_t    damages[DAMAGES_MAX];                /* bits, from the first record on; 0: no more */
} scenes[] = {
    { "one", one, { 0 } },
    { "settled", settled, { 0 } },
    { "one-recipient-settled", one_recipient_settled, { 0 } },
    { "operators", operators, { 0 } },
    { "body-in-a-file", body_in_a_file, { 0 } },
    { "moved", moved, { 0 } },
    { "two-generations", two_generations, { 0 } },
    { "ended", ended, { 0 } },
    { "abandoned", abandoned, { 0 } },
    { "damaged-payload", operators, { 8 * 100 } },
    { "damaged-head", operators, { 8 * 16 } },
    { "damaged-payloads", settled, { 8 * 64, 8 * 640, 8 * 900 } },
    { "damaged-abandoned", abandoned, { SECOND | 8 * 40 } },
    { "damaged-generations", two_generations, { SECOND | 8 * 80, 8 * 33, 8 * 900 } },
};

/* ---- to real files ---- */

struct found {
    char     names[SEGMENTS_MAX][SEGMENT_NAME_SIZE];
    unsigned count;
};

static int note(void *arg, const char *name)
{
    struct found *f = arg;
    uint32_t generation, number;

    if (!segment_name_parse(name, &generation, &number))
        return 0;
    assert(f->count < SEGMENTS_MAX);
    snprintf(f->names[f->count++], SEGMENT_NAME_SIZE, "%s", name);
    return 0;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(a, b);
}

static void save(const char *folder, const char *name, struct str bytes)
{
    char path[512];

    snprintf(path, sizeof path, "%s/%s/%s", top, folder, name);
    FILE *f = fopen(path, "wb");
    if (f == NULL || fwrite(bytes.p, 1, bytes.n, f) != bytes.n || fclose(f) != 0) {
        perror(path);
        exit(1);
    }
}

/* One input of each type of record in a scene. Gives the length of all. */
static size_t save_records(size_t scene, const unsigned char *segment, uint32_t *generation)
{
    struct segment_header header;
    struct segment_scan scan;
    struct buf out;
    char name[128];

    assert(segment_header_get(segment, &header) == SEGMENT_HEADER_OK);
    assert(segment_scan((struct str){ (const char *)segment, SEGMENT_SIZE_MIN }, &header, &scan) == 0);
    buf_init(&out, SEGMENT_SIZE_MIN);
    for (size_t i = 0; i < scan.count; i++) {
        const struct record_head *head = &scan.records[i].head;
        buf_clear(&out);
        buf_put_u8(&out, head->type);
        buf_put_u8(&out, head->flags);
        buf_put(&out, segment + scan.records[i].offset + RECORD_HEAD_SIZE, head->length);
        snprintf(name, sizeof name, "%s-%s", scenes[scene].name, record_type_name(head->type));
        if (scenes[scene].damages[0] == 0)           /* else it is another scene's */
            save("record", name, buf_str(&out));
    }
    buf_free(&out);
    *generation = header.generation;
    size_t n = scan.end - SEGMENT_HEADER_SIZE;
    segment_scan_free(&scan);
    return n;
}

static void save_scene(size_t scene, const struct found *f, int dir)
{
    static unsigned char segment[SEGMENT_SIZE_MIN];
    uint32_t generations[2] = { 0 }, split = UINT32_MAX, count = 0;
    struct buf records, out;

    buf_init(&records, 4 * SEGMENT_SIZE_MIN);
    buf_init(&out, 4 * SEGMENT_SIZE_MIN);
    for (unsigned i = 0; i < f->count && i < 2; i++) {
        size_t got;
        CLEANUP_FILE int file = file_open_at(dir, f->names[i], FILE_READ);
        assert(file >= 0 && file_read_at(file, segment, sizeof segment, 0, &got) == 0 && got == sizeof segment);
        size_t n = save_records(scene, segment, &generations[i]);
        if (i == 1)
            split = (uint32_t)records.n;
        buf_put(&records, segment + SEGMENT_HEADER_SIZE, n);
    }
    while (count < DAMAGES_MAX && scenes[scene].damages[count] != 0)
        count++;
    buf_put_u8(&out, (uint8_t)(count | (generations[1] > generations[0] ? NEXT_GENERATION : 0)));
    buf_put_u32(&out, split);
    for (uint32_t i = 0; i < count; i++)
        buf_put_u32(&out, scenes[scene].damages[i]);
    buf_put_str(&out, buf_str(&records));
    assert(buf_ok(&records) && buf_ok(&out));
    save("journal", scenes[scene].name, buf_str(&out));
    buf_free(&records);
    buf_free(&out);
}

static void play(void *arg)
{
    size_t scene = *(size_t *)arg;
    struct found f = { .count = 0 };

    scenes[scene].work();
    CLEANUP_FILE int dir = file_open_dir("/data/journal");
    assert(dir >= 0 && file_list(dir, note, &f) == 0);
    qsort(f.names, f.count, sizeof f.names[0], by_name);
    save_scene(scene, &f, dir);
}

/* What a newer program might write. */
static void save_unknown(void)
{
    struct buf b;

    buf_init(&b, 1024);
    buf_put_u8(&b, RECORD_HELD);
    buf_put_u8(&b, 0);
    record_put_u64(&b, RECORD_TAG_ID, 7);
    record_put_str(&b, (enum record_tag)0x0123, STR("what is this"));
    save("record", "unknown-tag", buf_str(&b));
    record_put_u32(&b, (enum record_tag)0x8123, 1);
    save("record", "unknown-critical-tag", buf_str(&b));
    b.p[0] = 99;
    b.p[1] = RECORD_FLAG_CRITICAL;
    save("record", "unknown-critical-type", buf_str(&b));
    buf_truncate(&b, 11);
    b.p[0] = RECORD_HELD;
    save("record", "truncated", buf_str(&b));
    buf_free(&b);
}

static void quiet(void *arg, enum log_level level, struct str line)
{
    (void)arg, (void)level, (void)line;
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: make_journal DIRECTORY\n");
        return 64;
    }
    top = argv[1];
    log_redirect(quiet, NULL);
    for (size_t i = 0; i < sizeof scenes / sizeof *scenes; i++) {
        sim_begin(&(struct sim_options){ .seed = i + 1 });
        int r = sim_run(play, &i);
        assert(r == 0);
        sim_end();
    }
    save_unknown();
    return 0;
}
