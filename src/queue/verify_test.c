/*
 * verify sees what is wrong with a directory: damage is planted in a real one, at places that record.h and segment.h name. And it sees
 * nothing wrong where nothing is: on a directory that changes while it is read.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "queue/verify.h"
#include "base/cleanup.h"
#include "base/codec.h"
#include "queue/queue.h"
#include "queue/sidecar.h"
#include "run/loop.h"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MESSAGES 5
#define BIG      (200 * 1024)

static char dir[256];
static uint64_t big_id;                  /* the message whose body is a file */

static struct queue *open_queue(void)
{
    struct queue_options options = { .dir = dir, .segment_size = 256 * 1024, .unsafe_file_system = true };
    struct queue_recovery recovery;
    struct queue *q;
    char error[256];
    if (queue_open(&options, &q, &recovery, error) < 0)
        fail_msg("queue_open: %s", error);
    return q;
}

static uint64_t put(struct queue *q, size_t size)
{
    static char bytes[BIG];
    uint64_t id = queue_new_id(q);
    struct recipient bob = { .addr = { .local = STR("bob"), .domain = STR("here.example") } };
    struct envelope env = { .id = id, .arrived_ns = clock_wall_ns(), .null_sender = true, .rcpts = &bob, .rcpt_count = 1 };
    struct body *body = body_new(q, id);
    memset(bytes, 'x', sizeof bytes);
    assert_int_equal(body_append(body, (struct str){ bytes, size }), 0);
    assert_int_equal(queue_put(q, &env, body), 0);
    body_free(body);
    return id;
}

/* Each message its own batch, since each put awaits its commit; the last batch is the mark of an orderly end. */
static void fill(void *arg)
{
    (void)arg;
    struct queue *q = open_queue();
    for (size_t i = 0; i < MESSAGES; i++)
        put(q, 1000);
    big_id = put(q, BIG);
    queue_close(q);
}

static void run(void (*fn)(void *))
{
    assert_int_equal(loop_run(1, fn, NULL), 0);
}

static int make_directory(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "%s/nightmail-verify-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    if (mkdtemp(dir) == NULL)
        return -1;
    strcat(dir, "/data");
    run(fill);
    return 0;
}

static int remove_directory(void **state)
{
    char command[512];
    (void)state;
    *strrchr(dir, '/') = '\0';
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    return system(command) == 0 ? 0 : -1;
}

static void count_words(void *arg, const char *words)
{
    size_t *n = arg;
    assert_true(strlen(words) > 10);
    (*n)++;
}

/* What verify says, and that it says it in words exactly if something is wrong. */
static struct verify_report verify(void)
{
    struct verify_report r;
    size_t said = 0;
    assert_int_equal(verify_all(dir, count_words, &said, &r), 0);
    assert_true((said > 0) == (r.bad_headers + r.bad_records + r.bad_bodies + r.bad_sidecars + r.newer > 0));
    return r;
}

/* The one segment's, or the one body's, path. */
static const char *path_of(const char *folder, const char *name)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/%s/%s", dir, folder, name);
    return path;
}

static const char *segment_path(void)
{
    char name[SEGMENT_NAME_SIZE];
    segment_name(name, 1, 1);
    return path_of("journal", name);
}

static const char *body_path(void)
{
    char name[CODEC_ID_LEN + 1];
    codec_id_format(big_id, name);
    return path_of("body", name);
}

static void flip(const char *path, uint64_t offset)
{
    unsigned char byte;
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, (off_t)offset), 1);
    byte ^= 0x10;
    assert_int_equal(pwrite(fd, &byte, 1, (off_t)offset), 1);
    close(fd);
}

struct place {
    size_t   wanted, seen;               /* the n-th accept */
    uint64_t offset;
};

static void find_accept(void *arg, const struct verify_record *r)
{
    struct place *p = arg;
    if (r->head->type == RECORD_ACCEPTED && p->seen++ == p->wanted)
        p->offset = r->offset;
}

/* Where the n-th accepted record begins. */
static uint64_t accept_at(size_t n)
{
    struct place p = { .wanted = n };
    struct verify_report r;
    assert_int_equal(verify_records(dir, find_accept, &p, &r), 0);
    assert_true(p.offset > 0);
    return p.offset;
}

static void sound(void **state)
{
    (void)state;
    struct verify_report r = verify();
    assert_int_equal(r.segments, 1);
    assert_int_equal(r.records, MESSAGES + 2);       /* the big one, and the mark at the end */
    assert_int_equal(r.bodies, 1);
    assert_int_equal(r.sidecars, 1);
    assert_int_equal(r.bad_headers + r.bad_records + r.bad_bodies + r.bad_sidecars + r.torn_sidecars + r.torn_tails + r.newer, 0);
}

static void damaged_record(void **state)
{
    (void)state;
    static const uint64_t places[] = {
        0,                               /* the head's checksum */
        8,                               /* its length: what follows is found again */
        RECORD_HEAD_SIZE + 3,            /* the payload */
        RECORD_HEAD_SIZE + 900,          /* the text in it */
    };
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        uint64_t at = accept_at(2) + places[i];
        flip(segment_path(), at);
        struct verify_report r = verify();
        assert_int_equal(r.bad_records, 1);
        assert_int_equal(r.records, MESSAGES + 1);
        assert_int_equal(r.torn_tails, 0);
        flip(segment_path(), at);
    }
    assert_int_equal(verify().bad_records, 0);
}

/* One that a start would pass over is no damage; one that it would believe, though it says something else, is. */
static void other_sidecar(void **state)
{
    (void)state;
    char name[SEGMENT_NAME_SIZE];
    unsigned char block[SIDECAR_HEADER_SIZE];
    sidecar_name(name, 1, 1);
    const char *path = path_of("journal", name);
    flip(path, SIDECAR_HEADER_SIZE + 3);
    struct verify_report r = verify();
    assert_int_equal(r.torn_sidecars, 1);
    assert_int_equal(r.sidecars + r.bad_sidecars, 0);
    flip(path, SIDECAR_HEADER_SIZE + 3);
    int fd = open(path, O_RDWR);
    assert_int_equal(pread(fd, block, sizeof block, 0), sizeof block);
    block[56]--;                                     /* it knows of one record less */
    codec_set_u32(block + 68, codec_crc32c(0, block, 68));
    assert_int_equal(pwrite(fd, block, sizeof block, 0), sizeof block);
    close(fd);
    r = verify();
    assert_int_equal(r.bad_sidecars, 1);
    assert_int_equal(r.torn_sidecars + r.bad_records, 0);
}

static void damaged_header(void **state)
{
    (void)state;
    flip(segment_path(), 20);
    assert_int_equal(verify().bad_headers, 1);
    assert_int_equal(verify().segments, 0);
    flip(segment_path(), 20);
}

static void newer_version(void **state)
{
    (void)state;
    unsigned char block[SEGMENT_HEADER_SIZE];
    int fd = open(segment_path(), O_RDWR);
    assert_int_equal(pread(fd, block, sizeof block, 0), sizeof block);
    codec_set_u32(block + 8, SEGMENT_FORMAT_VERSION + 1);
    codec_set_u32(block + sizeof block - 4, codec_crc32c(0, block, sizeof block - 4));
    assert_int_equal(pwrite(fd, block, sizeof block, 0), sizeof block);
    close(fd);
    struct verify_report r = verify();
    assert_int_equal(r.newer, 1);
    assert_int_equal(r.bad_headers, 0);
}

static void damaged_body(void **state)
{
    (void)state;
    flip(body_path(), BIG / 2);
    assert_int_equal(verify().bad_bodies, 1);
    flip(body_path(), BIG / 2);
    assert_int_equal(verify().bad_bodies, 0);
    assert_int_equal(truncate(body_path(), BIG - 1), 0);
    assert_int_equal(verify().bad_bodies, 1);
    assert_int_equal(unlink(body_path()), 0);
    struct verify_report r = verify();
    assert_int_equal(r.bad_bodies, 1);
    assert_int_equal(r.bad_records, 0);
}

/* Cut in its last batch: a torn tail, and no damage. Cut further up, the segment just ends earlier: nothing in it can tell, but the sidecar
 * does not fit it any more. Cut in the header: there is none. */
static void truncated_segment(void **state)
{
    (void)state;
    uint64_t last = accept_at(MESSAGES);             /* the big one's; the mark is behind it */
    assert_int_equal(truncate(segment_path(), (off_t)(last + RECORD_HEAD_SIZE + 5)), 0);
    struct verify_report r = verify();
    assert_int_equal(r.records, MESSAGES);
    assert_int_equal(r.bad_headers + r.bad_records + r.bad_bodies, 0);
    assert_int_equal(r.torn_sidecars, 1);
    assert_int_equal(truncate(segment_path(), SEGMENT_HEADER_SIZE - 1), 0);
    assert_int_equal(verify().bad_headers, 1);
    assert_int_equal(truncate(segment_path(), 0), 0);
    assert_int_equal(verify().bad_headers, 1);
}

/* The last batch has several records, and the first is damaged: a crash tore it, and the rest of it does not count either. */
static void torn_tail(void **state)
{
    (void)state;
    unsigned char head_bytes[RECORD_HEAD_SIZE], block[SEGMENT_HEADER_SIZE];
    struct segment_header header;
    struct record_head head;
    int fd = open(segment_path(), O_RDWR);
    assert_int_equal(pread(fd, block, sizeof block, 0), sizeof block);
    assert_int_equal(segment_header_get(block, &header), SEGMENT_HEADER_OK);
    uint64_t at = accept_at(MESSAGES), mark;
    assert_int_equal(pread(fd, head_bytes, sizeof head_bytes, (off_t)at), sizeof head_bytes);
    assert_true(record_head_get(head_bytes, header.salt, &head));
    /* The mark, written as if it had shared its batch with the message before it. */
    mark = at + record_size(head.length);
    uint32_t batch = head.batch;
    assert_int_equal(pread(fd, head_bytes, sizeof head_bytes, (off_t)mark), sizeof head_bytes);
    assert_true(record_head_get(head_bytes, header.salt, &head));
    assert_int_equal(head.type, RECORD_CLOSED);
    head.batch = batch;
    head.index = 1;
    record_head_put(head_bytes, header.salt, &head);
    assert_int_equal(pwrite(fd, head_bytes, sizeof head_bytes, (off_t)mark), sizeof head_bytes);
    close(fd);
    assert_int_equal(verify().records, MESSAGES + 2);
    flip(segment_path(), at + RECORD_HEAD_SIZE + 5);
    struct verify_report r = verify();
    assert_int_equal(r.torn_tails, 1);
    assert_int_equal(r.bad_records, 0);
    assert_int_equal(r.records, MESSAGES);
}

/* Messages come and go, bodies with them, and segments are used again: between the looks, and by the disk's helper threads during them. */
static void changes(void *arg)
{
    (void)arg;
    struct queue *q = open_queue();
    for (size_t i = 0; i < 60; i++) {
        struct claim *c;
        put(q, i % 3 == 0 ? BIG : 20000);
        assert_int_equal(queue_claim(q, task_deadline_in(5 * NS_PER_S), &c), 0);
        struct outcome o = { .state = RCPT_DELIVERED, .status = STR("2.0.0") };
        assert_int_equal(queue_settle(c, &o, 1, 0), 0);
        if (i % 10 == 9) {
            struct verify_report r = verify();
            assert_int_equal(r.bad_headers + r.bad_records + r.bad_bodies + r.newer, 0);
            assert_true(r.records > 0);
        }
    }
    queue_close(q);
}

static void live_directory(void **state)
{
    (void)state;
    run(changes);
    assert_int_equal(verify().bad_records, 0);
}

static void no_directory(void **state)
{
    (void)state;
    struct verify_report r;
    assert_true(verify_all("/nonexistent/data", NULL, NULL, &r) < 0);
}

#define IN_DIRECTORY(test) cmocka_unit_test_setup_teardown(test, make_directory, remove_directory)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_DIRECTORY(sound),          IN_DIRECTORY(damaged_record),    IN_DIRECTORY(damaged_header), IN_DIRECTORY(newer_version),
        IN_DIRECTORY(damaged_body),   IN_DIRECTORY(truncated_segment), IN_DIRECTORY(torn_tail),      IN_DIRECTORY(live_directory),
        IN_DIRECTORY(other_sidecar),
        cmocka_unit_test(no_directory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
