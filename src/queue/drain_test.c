/*
 * Two workers at one directory: one lets go, with bodies in arrival, the other takes it, and then what the first still accepted.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "queue/queue_internal.h"
#include "base/cleanup.h"
#include "run/file.h"
#include "run/loop.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char dir[256];
static struct queue_options options;
static struct queue_recovery recovery;

static void dir_make(void)
{
    snprintf(dir, sizeof dir, "%s/nightmail-drain-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    assert_non_null(mkdtemp(dir));
    options = (struct queue_options){ .dir = dir, .segment_size = 256 * 1024, .unsafe_file_system = true, .locked = true };
}

static void shell(const char *words)
{
    char command[512];
    snprintf(command, sizeof command, "cd '%s' && %s", dir, words);
    assert_int_equal(system(command), 0);
}

static void dir_remove(void)
{
    shell("rm -rf \"$PWD\"");
}

static struct queue *open_queue(bool beside)
{
    struct queue *q;
    char error[256];
    options.beside = beside;
    int r = queue_open(&options, &q, &recovery, error);
    if (r < 0)
        fail_msg("queue_open: %s", error);
    return q;
}

struct arriving {
    struct body *body;
    uint64_t     id;
};

static void append(struct body *b, size_t from, size_t to)
{
    char c;
    for (size_t at = from; at < to; at++) {
        c = (char)('a' + at * 7 % 25);
        assert_int_equal(body_append(b, (struct str){ &c, 1 }), 0);
    }
}

static struct arriving begin(struct queue *q, size_t size)
{
    struct arriving a = { .id = queue_new_id(q) };
    a.body = body_new(q, a.id);
    append(a.body, 0, size);
    return a;
}

static uint64_t end(struct queue *q, struct arriving a, int (*put)(struct queue *q, const struct envelope *env, struct body *body))
{
    struct recipient rcpt = { .addr = { .local = STR("bob"), .domain = STR("here.example") } };
    struct envelope env = { .id = a.id, .arrived_ns = clock_wall_ns(), .null_sender = true, .rcpts = &rcpt, .rcpt_count = 1 };
    assert_int_equal(put(q, &env, a.body), 0);
    body_free(a.body);
    return a.id;
}

/* The next one that is due, whole. */
static uint64_t deliver(struct queue *q)
{
    struct claim *c;
    char chunk[4096];
    size_t got;
    assert_int_equal(queue_claim(q, task_deadline_in(5 * NS_PER_S), &c), 0);
    uint64_t id = c->id;
    for (uint64_t at = 0; at < c->body_size; at += got) {
        assert_int_equal(queue_read_body(c, at, chunk, sizeof chunk, &got), 0);
        assert_true(got > 0);
        for (size_t i = 0; i < got; i++)
            assert_int_equal(chunk[i], (char)('a' + (at + i) * 7 % 25));
    }
    assert_int_equal(queue_settle(c, &(struct outcome){ .state = RCPT_DELIVERED }, 1, 0), 0);
    return id;
}

static void let_go(struct queue *q)
{
    char error[256];
    if (queue_drain(q, dir, error) < 0)
        fail_msg("queue_drain: %s", error);
}

static bool is_among(uint64_t id, const uint64_t *ids, size_t n)
{
    size_t found = 0;
    for (size_t i = 0; i < n; i++)
        found += ids[i] == id;
    return found == 1;
}

static void hands_over(void *arg)
{
    uint64_t before[2], after[4];
    size_t taken;
    (void)arg;
    struct queue *old = open_queue(false);
    before[0] = end(old, begin(old, 100), queue_put);
    before[1] = end(old, begin(old, 200000), queue_put);
    struct arriving small = begin(old, 10), big = begin(old, 200000);
    let_go(old);
    struct queue *new = open_queue(true);
    assert_int_equal(recovery.messages, 2);
    assert_int_equal(recovery.orphan_bodies, 0);         /* the big one is somebody's */
    append(big.body, 200000, 300000);
    after[0] = end(old, small, queue_put);
    after[1] = end(old, big, queue_put);
    after[2] = end(old, begin(old, 5000), queue_put_held);
    after[3] = end(old, begin(old, 200000), queue_put);
    assert_int_equal(queue_take_over(new, dir, &taken), -EWOULDBLOCK);
    assert_int_equal(taken, 0);
    assert_true(is_among(deliver(new), before, 2) && is_among(deliver(new), before, 2));
    assert_int_equal(queue_count(new), 0);
    queue_close(old);
    assert_int_equal(queue_take_over(new, dir, &taken), 0);
    assert_int_equal(taken, 4);
    assert_int_equal(queue_count(new), 4);
    struct queue_item items[4];
    assert_int_equal(queue_list(new, 0, items, 4), 4);
    for (int i = 0; i < 4; i++)
        assert_true((items[i].state == MESSAGE_HELD) == (items[i].id == after[2]));
    assert_int_equal(queue_release(new, after[2]), 0);
    for (int i = 0; i < 4; i++) {
        uint64_t id = deliver(new);
        assert_true(is_among(id, after, 4));
    }
    assert_int_equal(queue_take_over(new, dir, &taken), 0);
    assert_int_equal(taken, 0);
    queue_close(new);
    shell("test -z \"$(find body drain/body -type f)\"");
    new = open_queue(false);
    assert_int_equal(queue_count(new), 0);
    queue_close(new);
}

static void test_hands_over(void **state)
{
    (void)state;
    dir_make();
    assert_int_equal(loop_run(1, hands_over, NULL), 0);
    dir_remove();
}

/* Killed when the messages were written here and not yet ended there: the next one finds them in both. */
static void killed_between(void *arg)
{
    size_t taken;
    (void)arg;
    struct queue *old = open_queue(false);
    let_go(old);
    uint64_t ids[] = { end(old, begin(old, 10), queue_put), end(old, begin(old, 200000), queue_put) };
    queue_close(old);
    shell("cp -a drain kept");
    struct queue *new = open_queue(false);
    assert_int_equal(queue_take_over(new, dir, &taken), 0);
    assert_int_equal(taken, 2);
    queue_close(new);
    shell("rm -r drain && mv kept drain");
    new = open_queue(false);
    assert_int_equal(queue_count(new), 2);
    assert_int_equal(queue_take_over(new, dir, &taken), 0);
    assert_int_equal(queue_count(new), 2);
    assert_true(is_among(deliver(new), ids, 2) && is_among(deliver(new), ids, 2));
    queue_close(new);
    new = open_queue(false);
    assert_int_equal(queue_take_over(new, dir, &taken), 0);
    assert_int_equal(taken, 0);
    assert_int_equal(queue_count(new), 0);
    queue_close(new);
}

static void test_killed_between(void **state)
{
    (void)state;
    dir_make();
    assert_int_equal(loop_run(1, killed_between, NULL), 0);
    dir_remove();
}

/* The ids of the one and of the other never meet, even in one millisecond. */
static void ids_apart(void *arg)
{
    (void)arg;
    struct queue *old = open_queue(false);
    let_go(old);
    struct queue *new = open_queue(true);
    for (int i = 0; i < 100000; i++) {
        uint64_t a = queue_new_id(old), b = queue_new_id(new);
        assert_true((a & 0x80000) != 0 && (b & 0x80000) == 0);
    }
    queue_close(old);
    queue_close(new);
}

static void test_ids_apart(void **state)
{
    (void)state;
    dir_make();
    assert_int_equal(loop_run(1, ids_apart, NULL), 0);
    dir_remove();
}

/* What cannot be had stays with whoever has it. */
static void no_room(void *arg)
{
    char error[256];
    (void)arg;
    struct queue *q = open_queue(false);
    shell("touch drain");
    assert_true(queue_drain(q, dir, error) < 0);
    uint64_t id = end(q, begin(q, 10), queue_put);
    assert_int_equal(deliver(q), id);
    queue_close(q);
}

static void test_no_room(void **state)
{
    (void)state;
    dir_make();
    assert_int_equal(loop_run(1, no_room, NULL), 0);
    dir_remove();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hands_over),
        cmocka_unit_test(test_killed_between),
        cmocka_unit_test(test_ids_apart),
        cmocka_unit_test(test_no_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
