/*
 * Fuzzes recovery: one or two segments are put on the simulated disk, a queue is opened on them, used a little, closed and opened again.
 * Whatever they hold, what the first start found is what the second finds, but for what was done between them.
 *
 * An input is, little-endian (make_journal.c writes such ones):
 *     u8   bits 0-2: how many damages; bit 3: the second segment is of the next generation; bit 4: the records' checksums are left alone
 *     u32  where in the bytes the second segment's records begin; none if beyond the end
 *     u32  for each damage: the bit of the bytes to turn, when the checksums stand
 *     the bytes of the records of both
 * Heads get the checksums they need, or nothing would ever be found behind a change.
 */
#include "base/cleanup.h"
#include "base/codec.h"
#include "base/log.h"
#include "queue/queue.h"
#include "queue/segment.h"
#include "queue/verify.h"
#include "run/file.h"
#include "run/sim.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define SALT     0x5a175a17u
#define ROOM     (SEGMENT_SIZE_MIN - SEGMENT_HEADER_SIZE)
#define LIST_MAX 256u
#define CLAIMS   4
#define BODY_MAX 4096u

enum { DAMAGES = 7, NEXT_GENERATION = 8, AS_IT_IS = 16, AT_LENGTH = 8, AT_SEQUENCE = 16, AT_TYPE = 24 };

struct image {
    unsigned char         bytes[SEGMENT_SIZE_MIN];
    struct segment_header header;
};

struct input {
    struct image images[2];
    unsigned     count;
};

/* ---- the input becomes segments ---- */

static void put_checksums(unsigned char *p, size_t size, uint32_t salt)
{
    struct record_head head;

    for (size_t at = 0; size - at >= RECORD_HEAD_SIZE;) {
        uint64_t length = codec_get_u32(p + at + AT_LENGTH);
        if (p[at + AT_TYPE] == 0 || record_size(length) > size - at) {
            at += RECORD_ALIGN;
            continue;
        }
        head = (struct record_head){
            .type = p[at + AT_TYPE],
            .flags = p[at + AT_TYPE + 1],
            .length = (uint32_t)length,
            .payload_crc = codec_crc32c(0, p + at + RECORD_HEAD_SIZE, length),
            .batch = codec_get_u32(p + at + 12),
            .index = codec_get_u32(p + at + 28),
            .sequence = codec_get_u64(p + at + AT_SEQUENCE),
        };
        record_head_put(p + at, salt, &head);
        at += record_size(length);
    }
}

static void fill_image(struct image *im, uint32_t generation, uint32_t number, const uint8_t *p, size_t n, bool as_it_is)
{
    unsigned char *records = im->bytes + SEGMENT_HEADER_SIZE;

    if (n > ROOM)
        n = ROOM;
    memset(im, 0, sizeof *im);
    memcpy(records, p, n);
    im->header = (struct segment_header){
        .version = SEGMENT_FORMAT_VERSION, .generation = generation, .number = number, .salt = SALT + number, .created_ns = 1, .id_floor = 1
    };
    im->header.first_sequence = codec_get_u64(records + AT_SEQUENCE);
    if (!as_it_is)
        put_checksums(records, ROOM, im->header.salt);
    segment_header_put(im->bytes, &im->header);
}

static bool read_input(struct input *in, const uint8_t *data, size_t size)
{
    if (size < 5)
        return false;
    unsigned damages = data[0] & DAMAGES;
    size_t begin = 5 + damages * 4, split = codec_get_u32(data + 1);
    if (size < begin)
        return false;
    const uint8_t *p = data + begin;
    size_t n = size - begin;
    bool as_it_is = data[0] & AS_IT_IS;
    in->count = split < n ? 2 : 1;
    fill_image(&in->images[0], 1, 1, p, in->count == 2 ? split : n, as_it_is);
    if (in->count == 2)
        fill_image(&in->images[1], data[0] & NEXT_GENERATION ? 2 : 1, 2, p + split, n - split, as_it_is);
    for (unsigned i = 0; i < damages; i++) {
        uint32_t bit = codec_get_u32(data + 5 + i * 4);
        struct image *im = &in->images[in->count == 2 ? bit >> 31 : 0];
        im->bytes[SEGMENT_HEADER_SIZE + (bit & 0x7fffffff) / 8 % ROOM] ^= (unsigned char)(1u << bit % 8);
    }
    return true;
}

/* ---- and a directory ---- */

static void write_file(int dir, const char *name, const void *p, size_t n)
{
    CLEANUP_FILE int file = file_open_at(dir, name, FILE_WRITE | FILE_CREATE);
    assert(file >= 0 && file_write_at(file, p, n, 0) == 0);
}

/* Some of the bodies that are said to be in files are there. */
static void write_body(int bodies, const struct record *r)
{
    static const char zeros[BODY_MAX];
    char name[CODEC_ID_LEN + 1];

    if (!r->body_in_file || r->body_size > BODY_MAX || r->id % 2 == 0)
        return;
    codec_id_format(r->id, name);
    write_file(bodies, name, zeros, r->body_size);
}

static void check_scan(const struct image *im, int bodies)
{
    struct segment_scan scan;
    struct record r;
    uint64_t end = SEGMENT_HEADER_SIZE, next = im->header.first_sequence;

    assert(segment_scan((struct str){ (const char *)im->bytes, sizeof im->bytes }, &im->header, &scan) == 0);
    for (size_t i = 0; i < scan.count; i++) {
        const struct record_head *head = &scan.records[i].head;
        const char *payload = (const char *)im->bytes + scan.records[i].offset + RECORD_HEAD_SIZE;
        assert(scan.records[i].offset >= end && scan.records[i].offset % RECORD_ALIGN == 0 && head->sequence >= next);
        assert(i == 0 || head->batch >= scan.records[i - 1].head.batch);
        end = scan.records[i].offset + record_size(head->length);
        next = head->sequence + 1;
        assert(end <= sizeof im->bytes && record_payload_good(head, payload));
        if (record_parse(head->type, head->flags, (struct str){ payload, head->length }, &r) == RECORD_OK)
            write_body(bodies, &r);
    }
    assert(scan.last_batch <= scan.count && scan.end == end);
    segment_scan_free(&scan);
}

static void write_directory(const struct input *in)
{
    char name[SEGMENT_NAME_SIZE];
    CLEANUP_FILE int root = file_open_dir("/");

    assert(file_mkdir_at(root, "data") == 0 && file_mkdir_at(root, "data/journal") == 0 && file_mkdir_at(root, "data/body") == 0);
    CLEANUP_FILE int journal = file_open_dir("/data/journal");
    CLEANUP_FILE int bodies = file_open_dir("/data/body");
    for (unsigned i = 0; i < in->count; i++) {
        const struct image *im = &in->images[i];
        segment_name(name, im->header.generation, im->header.number);
        write_file(journal, name, im->bytes, sizeof im->bytes);
        check_scan(im, bodies);
    }
}

/* ---- what a queue makes of it ---- */

static struct queue *open_queue(int *result)
{
    struct queue_options options = { .dir = "/data", .segment_size = SEGMENT_SIZE_MIN, .message_size_max = 1 << 20 };
    struct queue_recovery recovery;
    struct queue *q = NULL;
    char error[256];

    *result = queue_open(&options, &q, &recovery, error);
    if (q != NULL)
        assert(recovery.messages == queue_count(q));
    return q;
}

static void show(struct queue *q, const struct queue_item *item)
{
    struct queue_details d;
    struct arena arena;

    arena_init(&arena, 1 << 24);
    if (queue_show(q, item->id, &arena, &d) == 0)
        assert(d.env.rcpt_count == item->rcpts_total && d.item.id == item->id);
    arena_reset(&arena);
}

static void deliver(struct claim *c)
{
    char chunk[512];
    size_t got = 0;
    struct outcome o = { .state = c->id % 3 == 0 ? RCPT_PENDING : RCPT_DELIVERED, .status = STR("4.2.1"), .text = STR("as they said") };

    for (uint64_t at = 0; at < c->body_size; at += got)
        if (queue_read_body(c, at, chunk, sizeof chunk, &got) < 0)
            break;
    while (c->states[o.rcpt] != RCPT_PENDING)
        o.rcpt++;
    assert(queue_settle(c, &o, 1, clock_wall_ns() + 3600 * NS_PER_S) == 0);
}

static void use(struct queue *q, struct queue_item *items, size_t count)
{
    struct claim *c;

    for (size_t i = 0; i < count; i++)
        show(q, &items[i]);
    for (unsigned i = 0; i < CLAIMS && queue_claim(q, task_deadline_in(NS_PER_MS), &c) == 0; i++)
        deliver(c);
    for (size_t i = 0; i < count && i < CLAIMS; i++)
        (void)(i % 2 == 0 ? queue_hold(q, items[i].id) : queue_discard(q, items[i].id));
}

static void check_same(const struct queue_item *a, size_t a_count, const struct queue_item *b, size_t b_count)
{
    assert(a_count == b_count);
    for (size_t i = 0; i < a_count; i++) {
        assert(a[i].id == b[i].id && a[i].state == b[i].state && a[i].attempts == b[i].attempts && a[i].size == b[i].size);
        assert(a[i].rcpts_pending == b[i].rcpts_pending && a[i].rcpts_total == b[i].rcpts_total);
    }
}

static void recover(void *arg)
{
    static struct queue_item before[LIST_MAX], after[LIST_MAX];
    struct verify_report report;
    int r;

    write_directory(arg);
    (void)verify_all("/data", NULL, NULL, &report);
    struct queue *q = open_queue(&r);
    if (r == -EPROTONOSUPPORT)                       /* something critical that nobody knows */
        return;
    assert(r == 0);
    size_t count = queue_list(q, 0, before, LIST_MAX);
    use(q, before, count);
    count = queue_list(q, 0, before, LIST_MAX);
    queue_close(q);
    q = open_queue(&r);
    assert(r == 0);
    check_same(before, count, after, queue_list(q, 0, after, LIST_MAX));
    queue_close(q);
    (void)verify_all("/data", NULL, NULL, &report);
}

static void quiet(void *arg, enum log_level level, struct str line)
{
    (void)arg, (void)level, (void)line;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct input in;

    if (!read_input(&in, data, size))
        return 0;
    log_redirect(quiet, NULL);
    sim_begin(&(struct sim_options){ .seed = 1, .disk_forgets = true });
    assert(sim_run(recover, &in) == 0);
    sim_end();
    return 0;
}
