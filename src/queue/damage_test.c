/*
 * What a start makes of files that are not as they were left: each is told of, nothing of it is taken for mail, and what may be all that is
 * left of a message stays. On the simulated disk.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/log.h"
#include "queue/queue_internal.h"
#include "queue/segment.h"
#include "run/file.h"
#include "run/sim.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define IN_FILE 200000u                              /* a body of this size has a file of its own */

static struct queue_recovery recovery;
static char error[256];

static int open_queue(struct queue **out)
{
    struct queue_options options = { .dir = "/data", .segment_size = SEGMENT_SIZE_MIN, .scan_all = true };
    return queue_open(&options, out, &recovery, error);
}

static void put(struct queue *q, size_t size)
{
    static char text[IN_FILE];
    struct recipient bob = { .addr = { .local = STR("bob"), .domain = STR("here.example") } };
    struct envelope env = { .id = queue_new_id(q), .null_sender = true, .rcpts = &bob, .rcpt_count = 1, .size = size };
    struct body *body = body_new(q, env.id);
    memset(text, 'x', sizeof text);
    assert_int_equal(body_append(body, (struct str){ text, size }), 0);
    assert_int_equal(queue_put(q, &env, body), 0);
    body_free(body);
}

/* A queue with one message, closed. */
static void leave_one(size_t size)
{
    struct queue *q;
    assert_int_equal(open_queue(&q), 0);
    put(q, size);
    queue_close(q);
}

/* -- the files -------------------------------------------------------------------------------------------------------------------- */

static int remember_name(void *arg, const char *name)
{
    if (strstr(name, ".idx") == NULL && strstr(name, "spare") == NULL)
        snprintf(arg, SEGMENT_NAME_SIZE, "%s", name);
    return 0;
}

/* The newest, or only, file of a folder. */
static int open_only(const char *folder, char name[SEGMENT_NAME_SIZE], unsigned flags)
{
    CLEANUP_FILE int dir = file_open_dir(folder);
    assert_int_equal(file_list(dir, remember_name, name), 0);
    int file = file_open_at(dir, name, flags);
    assert_true(file >= 0);
    return file;
}

static void change_header(void (*change)(struct segment_header *h))
{
    unsigned char bytes[SEGMENT_HEADER_SIZE];
    char name[SEGMENT_NAME_SIZE];
    struct segment_header h;
    size_t got;
    CLEANUP_FILE int file = open_only("/data/journal", name, FILE_READ | FILE_WRITE);

    assert_int_equal(file_read_at(file, bytes, sizeof bytes, 0, &got), 0);
    assert_int_equal(got, sizeof bytes);
    assert_int_equal(segment_header_get(bytes, &h), SEGMENT_HEADER_OK);
    change(&h);
    segment_header_put(bytes, &h);
    assert_int_equal(file_write_at(file, bytes, sizeof bytes, 0), 0);
}

static void of_a_newer_program(struct segment_header *h) { h->version++; }
static void used_again(struct segment_header *h) { h->number++; }
static void of_before(struct segment_header *h) { h->number--; }

/* -- the cases -------------------------------------------------------------------------------------------------------------------- */

static void check_start(uint64_t bad_records, size_t messages)
{
    struct queue *q;
    if (open_queue(&q) < 0)
        fail_msg("queue_open: %s", error);
    assert_int_equal(recovery.bad_records, bad_records);
    assert_int_equal(queue_count(q), messages);
    put(q, 10);                                      /* and it goes on */
    assert_int_equal(queue_count(q), messages + 1);
    queue_close(q);
    assert_int_equal(open_queue(&q), 0);
    assert_int_equal(queue_count(q), messages + 1);
    queue_close(q);
}

/* What it says may mean anything: it is not for us to write beside it. */
static void a_newer_format(void *arg)
{
    struct queue *q;
    (void)arg;
    leave_one(10);
    change_header(of_a_newer_program);
    assert_int_equal(open_queue(&q), -EPROTONOSUPPORT);
    assert_non_null(strstr(error, "newer format"));
}

static void a_header_of_noise(void *arg)
{
    char name[SEGMENT_NAME_SIZE];
    (void)arg;
    leave_one(10);
    int file = open_only("/data/journal", name, FILE_WRITE);
    assert_int_equal(file_write_at(file, "noise", 5, 100), 0);
    (void)file_close(file);
    check_start(1, 0);
}

static void half_a_header(void *arg)
{
    char name[SEGMENT_NAME_SIZE];
    (void)arg;
    leave_one(10);
    (void)file_close(open_only("/data/journal", name, FILE_WRITE | FILE_TRUNCATE));
    check_start(1, 0);
}

/* The disk has kept a name that the file had before: it is no use of it, and no damage. */
static void an_old_name(void *arg)
{
    (void)arg;
    leave_one(10);
    change_header(used_again);
    check_start(0, 0);
}

static void another_files_name(void *arg)
{
    (void)arg;
    leave_one(10);
    change_header(of_before);
    check_start(1, 0);
}

/* The message stays to be seen; its sender hears of it when it is delivered in vain. */
static void no_body(void *arg)
{
    char name[SEGMENT_NAME_SIZE];
    (void)arg;
    leave_one(IN_FILE);
    (void)file_close(open_only("/data/body", name, FILE_READ));
    CLEANUP_FILE int dir = file_open_dir("/data/body");
    assert_int_equal(file_unlink_at(dir, name), 0);
    check_start(1, 1);
}

static void quiet(void *arg, enum log_level level, struct str line) { (void)arg, (void)level, (void)line; }

#define TEST(name)                                                                                                                         \
    static void test_##name(void **state)                                                                                                  \
    {                                                                                                                                      \
        (void)state;                                                                                                                       \
        sim_begin(&(struct sim_options){ .seed = 1 });                                                                                     \
        assert_int_equal(sim_run(name, NULL), 0);                                                                                          \
        sim_end();                                                                                                                         \
    }

TEST(a_newer_format)
TEST(a_header_of_noise)
TEST(half_a_header)
TEST(an_old_name)
TEST(another_files_name)
TEST(no_body)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_newer_format), cmocka_unit_test(test_a_header_of_noise),    cmocka_unit_test(test_half_a_header),
        cmocka_unit_test(test_an_old_name),    cmocka_unit_test(test_another_files_name),   cmocka_unit_test(test_no_body),
    };
    log_redirect(quiet, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
