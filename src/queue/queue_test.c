/*
 * The queue on the real disk, in a directory of its own: in and out, by one's hand and after closing.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "queue/queue_internal.h"
#include "base/cleanup.h"
#include "run/file_internal.h"
#include "run/loop.h"
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char dir[256];
static struct queue_options options;
static struct queue_recovery recovery;

static void dir_make(void)
{
    snprintf(dir, sizeof dir, "%s/nightmail-queue-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    assert_non_null(mkdtemp(dir));
    strcat(dir, "/data");
    options = (struct queue_options){ .dir = dir, .segment_size = 256 * 1024, .unsafe_file_system = true };
}

static void dir_remove(void)
{
    char command[512];
    *strrchr(dir, '/') = '\0';
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    assert_int_equal(system(command), 0);
}

/* A shell's words about the files of a closed queue. */
static void check_files(const char *words)
{
    char command[512];
    snprintf(command, sizeof command, "cd '%s' && %s", dir, words);
    assert_int_equal(system(command), 0);
}

static struct queue *open_queue(void)
{
    struct queue *q;
    char error[256];
    int r = queue_open(&options, &q, &recovery, error);
    if (r < 0)
        fail_msg("queue_open: %s", error);
    return q;
}

static bool small;                                   /* of bodies in arrival */

typedef int put_fn(struct queue *q, const struct envelope *env, struct body *body);

/* A message whose body is a pattern of its size. */
static int put_by(put_fn *put, struct queue *q, size_t size, size_t rcpts, uint64_t *out_id)
{
    struct recipient list[8] = { 0 };
    uint64_t id = queue_new_id(q);
    struct body *body = body_new(q, id);
    if (small)
        body_keep_small(body);
    char chunk[1000];
    for (size_t i = 0; i < rcpts; i++)
        list[i] = (struct recipient){ .addr = { .local = STR("bob"), .domain = STR("here.example") } };
    struct envelope env = { .id = id, .arrived_ns = clock_wall_ns(), .null_sender = true, .rcpts = list, .rcpt_count = rcpts };
    for (size_t at = 0; at < size; at += sizeof chunk) {
        for (size_t i = 0; i < sizeof chunk; i++)
            chunk[i] = (char)('a' + (at + i) * 7 % 25);
        int r = body_append(body, (struct str){ chunk, size - at < sizeof chunk ? size - at : sizeof chunk });
        assert_int_equal(r, 0);
    }
    assert_int_equal(body_size(body), size);
    int r = put(q, &env, body);
    body_free(body);
    if (out_id)
        *out_id = id;
    return r;
}

static int put_rcpts(struct queue *q, size_t size, size_t rcpts, uint64_t *out_id) { return put_by(queue_put, q, size, rcpts, out_id); }

static void check_body(struct claim *c)
{
    char chunk[777];
    size_t got;
    for (uint64_t at = 0; at < c->body_size; at += got) {
        assert_int_equal(queue_read_body(c, at, chunk, sizeof chunk, &got), 0);
        assert_true(got > 0);
        for (size_t i = 0; i < got; i++)
            assert_int_equal(chunk[i], (char)('a' + (at + i) * 7 % 25));
    }
    assert_int_equal(queue_read_body(c, c->body_size, chunk, 1, &got), 0);
    assert_int_equal(got, 0);
}

static struct claim *claim_now(struct queue *q)
{
    struct claim *c = NULL;
    int r = queue_claim(q, task_deadline_in(5 * NS_PER_S), &c);
    assert_int_equal(r, 0);
    return c;
}

static void in_and_out(void *arg)
{
    static const size_t sizes[] = { 0, 1, 4096, 63999, 64 * 1024, 64 * 1024 + 1, 300 * 1024, 16000, 16384, 16385 };
    (void)arg;
    struct queue *q = open_queue();
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        uint64_t id;
        assert_int_equal(put_rcpts(q, sizes[i], 1, &id), 0);
        assert_int_equal(queue_count(q), 1);
        struct claim *c = claim_now(q);
        assert_true(c->id == id && c->body_size == sizes[i] && c->env.id == id);
        assert_int_equal(c->env.rcpt_count, 1);
        check_body(c);
        struct outcome o = { .rcpt = 0, .state = RCPT_DELIVERED, .status = STR("2.0.0") };
        assert_int_equal(queue_settle(c, &o, 1, 0), 0);
        assert_int_equal(queue_count(q), 0);
    }
    queue_close(q);
    q = open_queue();
    assert_int_equal(queue_count(q), 0);
    assert_int_equal(recovery.bad_records, 0);
    queue_close(q);
}

static void held_from_the_beginning(void *arg)
{
    struct queue_item items[3];
    uint64_t id[2];

    (void)arg;
    struct queue *q = open_queue();
    assert_int_equal(put_by(queue_put_held, q, 100, 1, &id[0]), 0);
    assert_int_equal(put_by(queue_put_held, q, 300000, 1, &id[1]), 0);
    for (int round = 0; round < 2; round++) {
        struct claim *none;
        assert_int_equal(queue_claim(q, task_deadline_in(50 * NS_PER_MS), &none), -ETIMEDOUT);
        assert_int_equal(queue_list(q, 0, items, 3), 2);
        assert_true(items[0].state == MESSAGE_HELD && items[1].state == MESSAGE_HELD);
        queue_close(q);
        q = open_queue();
    }
    assert_int_equal(queue_discard(q, id[0]), 0);
    assert_int_equal(queue_release(q, id[1]), 0);
    struct claim *c = claim_now(q);
    assert_true(c->id == id[1] && c->body_size == 300000);
    check_body(c);
    assert_int_equal(queue_settle(c, &(struct outcome){ .state = RCPT_DELIVERED }, 1, 0), 0);
    assert_int_equal(queue_count(q), 0);
    queue_close(q);
}

/* A held one in an operator's hands, and given back: nothing of it moves it out of hold, not even a move of its record. */
static void claimed_by_name(void *arg)
{
    struct queue_item item;
    struct claim *c, *again;
    uint64_t id, held;

    (void)arg;
    struct queue *q = open_queue();
    assert_int_equal(queue_claim_one(q, 1, &c), -ENOENT);
    assert_int_equal(put_by(queue_put_held, q, 5000, 2, &held), 0);
    assert_int_equal(queue_claim_one(q, held, &c), 0);
    assert_true(c->id == held && c->body_size == 5000);
    check_body(c);
    assert_int_equal(queue_list(q, 0, &item, 1), 1);
    assert_int_equal(item.state, MESSAGE_CLAIMED);
    assert_int_equal(queue_claim_one(q, held, &again), -EBUSY);
    assert_int_equal(queue_release(q, held), -EBUSY);
    assert_int_equal(queue_discard(q, held), -EBUSY);
    for (int i = 0; i < 200; i++) {                  /* its segment is emptied meanwhile */
        assert_int_equal(put_rcpts(q, 40000, 1, &id), 0);
        assert_int_equal(queue_claim_one(q, id, &again), 0);
        assert_int_equal(queue_settle(again, &(struct outcome){ .state = RCPT_DELIVERED }, 1, 0), 0);
    }
    assert_int_equal(queue_settle(c, &(struct outcome){ .rcpt = 1, .state = RCPT_BOUNCED }, 1, clock_wall_ns()), 0);
    for (int round = 0; round < 2; round++) {
        assert_int_equal(queue_list(q, 0, &item, 1), 1);
        assert_true(item.id == held && item.state == MESSAGE_HELD && item.rcpts_pending == 1);
        assert_int_equal(queue_claim(q, task_deadline_in(50 * NS_PER_MS), &again), -ETIMEDOUT);
        assert_int_equal(queue_claim_one(q, held, &c), 0);
        queue_unclaim(c);
        queue_close(q);
        q = open_queue();
    }
    assert_int_equal(put_rcpts(q, 10, 1, &id), 0);
    assert_int_equal(queue_claim_one(q, id, &c), 0);
    assert_int_equal(queue_settle(c, &(struct outcome){ .state = RCPT_PENDING }, 1, clock_wall_ns() + 3600 * NS_PER_S), 0);
    assert_int_equal(queue_claim_one(q, id, &c), 0);
    queue_give_back(c);                              /* and due no sooner */
    assert_int_equal(queue_claim(q, task_deadline_in(50 * NS_PER_MS), &again), -ETIMEDOUT);
    assert_int_equal(queue_discard(q, id), 0);
    assert_int_equal(queue_claim_one(q, held, &c), 0);
    assert_int_equal(queue_settle(c, &(struct outcome){ .rcpt = 0, .state = RCPT_BOUNCED }, 1, 0), 0);
    assert_int_equal(queue_count(q), 0);
    queue_close(q);
    q = open_queue();
    assert_int_equal(queue_count(q), 0);
    queue_close(q);
}

/* Its last recipient goes elsewhere, over a hop of its own; the first is not to get it any more. */
static int reroute_one(struct queue *q, uint64_t id)
{
    struct claim *c;

    assert_int_equal(queue_claim_one(q, id, &c), 0);
    uint32_t last = (uint32_t)c->env.rcpt_count - 1;
    c->env.rcpts[last].rewritten_from = c->env.rcpts[last].addr;
    c->env.rcpts[last].addr = (struct address){ .local = STR("carol"), .domain = STR("c.example") };
    c->env.rcpts[last].next_hop = STR("[192.0.2.1]:26");
    if (last > 0)
        c->states[0] = RCPT_DISCARDED;
    return queue_reroute(c, &c->env, c->states);
}

static void check_rerouted(struct queue *q, uint64_t id, enum message_state state, uint32_t attempts)
{
    struct queue_details d;
    struct arena arena;

    arena_init(&arena, 8 << 20);
    assert_int_equal(queue_show(q, id, &arena, &d), 0);
    uint32_t last = (uint32_t)d.env.rcpt_count - 1;
    assert_true(d.item.state == state && d.item.attempts == attempts && d.item.rcpts_pending == (last > 0 ? last : 1));
    assert_true(str_eq(d.env.rcpts[last].addr.local, STR("carol")) && str_eq(d.env.rcpts[last].rewritten_from.local, STR("bob")));
    assert_true(str_eq(d.env.rcpts[last].next_hop, STR("[192.0.2.1]:26")) && d.states[last] == RCPT_PENDING);
    assert_true(str_eq(d.last[last].text, attempts > 0 ? STR("451 later") : STR("")));
    assert_true(last == 0 || d.states[0] == RCPT_DISCARDED);
    arena_reset(&arena);
}

/* Held or waiting, small or with a body in a file, tried or not: it is what it was, and goes another way; after a restart too. */
static void rerouted(void *arg)
{
    uint64_t held, tried, large, ended;
    struct claim *c;

    (void)arg;
    struct queue *q = open_queue();
    assert_int_equal(put_by(queue_put_held, q, 5000, 3, &held), 0);
    assert_int_equal(put_rcpts(q, 5000, 2, &tried), 0);
    assert_int_equal(put_rcpts(q, 500000, 1, &large), 0);
    assert_int_equal(put_rcpts(q, 10, 1, &ended), 0);
    assert_int_equal(queue_claim_one(q, tried, &c), 0);
    struct outcome later = { .rcpt = 1, .status = STR("4.2.1"), .text = STR("451 later") };
    assert_int_equal(queue_settle(c, &later, 1, clock_wall_ns() + 3600 * NS_PER_S), 0);
    assert_int_equal(reroute_one(q, held), 0);
    assert_int_equal(reroute_one(q, tried), 0);
    assert_int_equal(reroute_one(q, large), 0);
    assert_int_equal(reroute_one(q, ended), 0);
    assert_int_equal(queue_discard(q, ended), 0);
    for (int round = 0; round < 3; round++) {        /* the last time with all of them moved as well */
        check_rerouted(q, held, MESSAGE_HELD, 0);
        check_rerouted(q, tried, MESSAGE_WAITING, 1);
        check_rerouted(q, large, MESSAGE_WAITING, 0);
        assert_int_equal(queue_count(q), 3);
        for (int i = 0; round == 1 && i < 200; i++) {
            uint64_t id;
            assert_int_equal(put_rcpts(q, 40000, 1, &id), 0);
            assert_int_equal(queue_discard(q, id), 0);
        }
        queue_close(q);
        q = open_queue();
    }
    for (int i = 0; i < 2; i++) {                    /* both are due at once */
        c = claim_now(q);
        check_body(c);
        assert_int_equal(queue_settle(c, &(struct outcome){ .rcpt = c->id == tried, .state = RCPT_DELIVERED }, 1, 0), 0);
    }
    assert_int_equal(queue_claim_one(q, held, &c), 0);
    check_body(c);
    queue_give_back(c);
    assert_int_equal(queue_discard(q, held), 0);
    queue_close(q);
    check_files("[ -z \"$(ls body)\" ]");
}

/* What does not fit is as it was. */
static void rerouted_in_vain(void *arg)
{
    uint64_t id;
    struct claim *c;
    static char name[60000];

    (void)arg;
    memset(name, 'x', sizeof name);
    struct queue *q = open_queue();
    assert_int_equal(put_by(queue_put_held, q, 60000, 1, &id), 0);
    assert_int_equal(queue_claim_one(q, id, &c), 0);
    c->env.login = (struct str){ name, sizeof name };
    c->env.helo = c->env.login;
    assert_int_equal(queue_reroute(c, &c->env, c->states), -EMSGSIZE);
    assert_int_equal(queue_claim_one(q, id, &c), 0);
    assert_true(c->env.login.n == 0 && str_eq(c->env.rcpts[0].addr.local, STR("bob")));
    check_body(c);
    queue_give_back(c);
    struct queue_item item;
    assert_int_equal(queue_list(q, 0, &item, 1), 1);
    assert_int_equal(item.state, MESSAGE_HELD);
    queue_close(q);
}

static void survives_closing(void *arg)
{
    (void)arg;
    uint64_t id[4];
    struct queue *q = open_queue();
    assert_int_equal(put_rcpts(q, 5000, 3, &id[0]), 0);
    assert_int_equal(put_rcpts(q, 500000, 1, &id[1]), 0);
    assert_int_equal(put_rcpts(q, 10, 1, &id[2]), 0);
    assert_int_equal(put_rcpts(q, 10, 1, &id[3]), 0);
    assert_int_equal(queue_hold(q, id[2]), 0);
    assert_int_equal(queue_discard(q, id[3]), 0);
    assert_int_equal(queue_discard(q, id[3]), -ENOENT);
    struct claim *c = claim_now(q);
    assert_true(c->id == id[0]);
    assert_int_equal(queue_hold(q, id[0]), -EBUSY);
    struct outcome o[] = {
        { .rcpt = 1, .state = RCPT_DELIVERED, .status = STR("2.0.0"), .remote = STR("mx.b.example"), .text = STR("250 ok") },
        { .rcpt = 2, .state = RCPT_PENDING, .status = STR("4.2.1"), .text = STR("451 later") },
    };
    assert_int_equal(queue_settle(c, o, 2, clock_wall_ns() + 3600 * NS_PER_S), 0);
    queue_close(q);

    q = open_queue();
    assert_int_equal(queue_count(q), 3);
    struct queue_item items[5];
    assert_int_equal(queue_list(q, 0, items, 5), 3);
    assert_true(items[0].id == id[0] && items[0].rcpts_pending == 2 && items[0].attempts == 1);
    assert_true(items[2].id == id[2] && items[2].state == MESSAGE_HELD);
    struct arena arena;
    struct queue_details d;
    arena_init(&arena, 1 << 20);
    assert_int_equal(queue_show(q, id[0], &arena, &d), 0);
    assert_int_equal(d.states[1], RCPT_DELIVERED);
    assert_true(str_eq(d.last[2].text, STR("451 later")) && str_eq(d.last[1].remote, STR("mx.b.example")) && d.last[0].status.n == 0);
    arena_reset(&arena);
    c = claim_now(q);
    assert_true(c->id == id[1]);
    check_body(c);
    queue_unclaim(c);
    assert_int_equal(queue_retry(q, id[0]), 0);
    c = claim_now(q);
    if (c->id == id[1]) {
        struct outcome done = { .rcpt = 0, .state = RCPT_BOUNCED };
        assert_int_equal(queue_settle(c, &done, 1, 0), 0);
        c = claim_now(q);
    }
    assert_true(c->id == id[0]);
    assert_int_equal(c->states[1], RCPT_DELIVERED);
    check_body(c);
    queue_unclaim(c);
    queue_close(q);
}

/* Many times the journal's size goes through it, and one message lingers, delivered to one of its recipients. */
static void reclaims(void *arg)
{
    (void)arg;
    uint64_t lingering;
    struct queue *q = open_queue();
    assert_int_equal(put_rcpts(q, 3000, 3, &lingering), 0);
    struct outcome delivered = { .rcpt = 1, .state = RCPT_DELIVERED };
    assert_int_equal(queue_settle(claim_now(q), &delivered, 1, clock_wall_ns() + 3600 * NS_PER_S), 0);
    assert_int_equal(queue_hold(q, lingering), 0);
    for (int i = 0; i < 200; i++) {
        assert_int_equal(put_rcpts(q, 40000, 1, NULL), 0);
        struct claim *c = claim_now(q);
        struct outcome o = { .rcpt = 0, .state = RCPT_DELIVERED };
        assert_int_equal(queue_settle(c, &o, 1, 0), 0);
    }
    queue_close(q);
    q = open_queue();
    assert_true(recovery.segments <= 8);
    assert_int_equal(queue_count(q), 1);
    struct queue_item item;
    assert_int_equal(queue_list(q, 0, &item, 1), 1);
    assert_true(item.id == lingering && item.state == MESSAGE_HELD && item.rcpts_pending == 2);
    assert_int_equal(queue_release(q, lingering), 0);
    assert_int_equal(queue_retry(q, lingering), 0);
    struct claim *c = claim_now(q);
    assert_true(c->id == lingering && c->env.rcpt_count == 3 && c->attempts == 1);
    assert_true(c->states[0] == RCPT_PENDING && c->states[1] == RCPT_DELIVERED && c->states[2] == RCPT_PENDING);
    check_body(c);
    queue_unclaim(c);
    queue_close(q);
}

static int count_files(void)
{
    int n = 0;
    DIR *d = opendir("/proc/self/fd");
    while (readdir(d) != NULL)
        n++;
    closedir(d);
    return n;
}

static void read_first(void *arg)
{
    char chunk[1000];
    size_t got;
    assert_int_equal(queue_read_body(arg, 0, chunk, sizeof chunk, &got), 0);
    assert_int_equal(got, sizeof chunk);
}

/* The parts of a message that go to several destinations read its body side by side: one file is opened, or all are closed. */
static void reads_side_by_side(void *arg)
{
    (void)arg;
    struct queue *q = open_queue();
    assert_int_equal(put_rcpts(q, 100000, 1, NULL), 0);
    int before = count_files();
    for (int i = 0; i < 2000; i++) {
        struct claim *c = claim_now(q);
        struct task_group readers;
        task_group_init(&readers);
        for (int k = 0; k < 8; k++)
            assert_int_equal(task_group_start(&readers, "reader", read_first, c), 0);
        assert_int_equal(task_group_wait(&readers, TASK_FOREVER), 0);
        queue_unclaim(c);
    }
    assert_true(count_files() <= before + 2);        /* the journal has its own at any moment */
    queue_close(q);
}

/* A body in a file of its own is there until the last recipient has it, after a restart too; then it is gone. */
static void body_until_the_last(void *arg)
{
    (void)arg;
    struct queue *q = open_queue();
    assert_int_equal(put_rcpts(q, 300 * 1024, 3, NULL), 0);
    for (uint32_t i = 0; i < 3; i++) {
        struct claim *c = claim_now(q);
        assert_int_equal(c->states[i], RCPT_PENDING);
        check_body(c);
        struct outcome delivered = { .rcpt = i, .state = RCPT_DELIVERED };
        assert_int_equal(queue_settle(c, &delivered, 1, clock_wall_ns()), 0);
        if (i == 1) {
            queue_close(q);
            q = open_queue();
            assert_true(recovery.bad_records == 0 && recovery.orphan_bodies == 0);
        }
    }
    assert_int_equal(queue_count(q), 0);
    queue_close(q);
    check_files("test -z \"$(ls body)\"");
}

/* One byte of a message's record is damaged. Its body's file looks like nobody's, and may be all that is left of it. */
static void damage_keeps_bodies(void *arg)
{
    (void)arg;
    struct queue *q = open_queue();
    assert_int_equal(put_rcpts(q, 300 * 1024, 1, NULL), 0);
    queue_close(q);
    check_files("sed -i s/here.example/hexe.example/ journal/*.seg && rm journal/*.idx");
    q = open_queue();
    assert_int_equal(recovery.bad_records, 1);
    assert_int_equal(queue_count(q), 0);
    queue_close(q);
    check_files("test \"$(ls body | wc -l)\" = 1");
}

/* With its sidecar, damage in a segment is not met at the start: the message is there, and cannot be read. */
struct looked {
    size_t   count;
    int      errors[QUEUE_LOOK_MAX];
    uint64_t ids[QUEUE_LOOK_MAX];
};

static void note_look(void *arg, size_t i, const struct queue_details *details, int error)
{
    struct looked *looked = arg;

    assert(i == looked->count && (error == 0) == (details != NULL));
    looked->errors[i] = error;
    looked->ids[looked->count++] = details != NULL ? details->env.id : 0;
}

static void many_are_looked_at(void *arg)
{
    uint64_t ids[QUEUE_LOOK_MAX];
    struct looked looked = { 0 };

    (void)arg;
    struct queue *q = open_queue();
    for (size_t i = 0; i < QUEUE_LOOK_MAX; i++)
        assert_int_equal(put_rcpts(q, i % 3 * 50000, 1 + i % 8, &ids[i]), 0);
    assert_int_equal(queue_discard(q, ids[7]), 0);
    assert_int_equal(queue_look(q, ids, QUEUE_LOOK_MAX, note_look, &looked), 0);
    assert_int_equal(looked.count, QUEUE_LOOK_MAX);
    for (size_t i = 0; i < QUEUE_LOOK_MAX; i++)
        assert_true(i == 7 ? looked.errors[i] == -ENOENT : looked.ids[i] == ids[i]);
    looked.count = 0;
    assert_int_equal(queue_look(q, ids, 0, note_look, &looked), 0);
    assert_int_equal(looked.count, 0);
    queue_close(q);
}

static void damage_is_met_later(void *arg)
{
    struct looked looked = { 0 };

    (void)arg;
    struct queue_item item;
    struct claim *c;
    struct queue *q = open_queue();
    assert_int_equal(put_rcpts(q, 1000, 1, NULL), 0);
    queue_close(q);
    check_files("sed -i s/here.example/hexe.example/ journal/*.seg");
    q = open_queue();
    assert_int_equal(recovery.sidecars, 1);
    assert_int_equal(queue_claim(q, task_deadline_in(50 * NS_PER_MS), &c), -ETIMEDOUT);
    assert_int_equal(queue_list(q, 0, &item, 1), 1);
    assert_int_equal(queue_claim_one(q, item.id, &c), -EBADMSG);
    assert_int_equal(queue_look(q, (uint64_t[]){ item.id, item.id + 1 }, 2, note_look, &looked), 0);
    assert_true(looked.count == 2 && looked.errors[0] == -EBADMSG && looked.errors[1] == -ENOENT);
    assert_int_equal(queue_hold(q, item.id), 0);
    assert_int_equal(queue_claim_one(q, item.id, &c), -EBADMSG);
    assert_true(queue_list(q, 0, &item, 1) == 1 && item.state == MESSAGE_HELD);
    queue_close(q);
}

/* The clock was wrong by years when a message came, and was set back: ids go on from there all the same, for they name bodies and
 * files in mailboxes. */
static void ids_never_come_again(void *arg)
{
    (void)arg;
    static const size_t sizes[] = { 100, 300 * 1024 };
    struct queue *q = open_queue();
    uint64_t future = queue_new_id(q) + (UINT64_C(1) << 60);
    struct recipient bob = { .addr = { .local = STR("bob"), .domain = STR("here.example") } };
    for (size_t i = 0; i < 2; i++) {
        char *text = calloc(1, sizes[i]);
        struct body *body = body_new(q, future += 10);
        struct envelope env = { .id = future, .arrived_ns = clock_wall_ns(), .null_sender = true, .rcpts = &bob, .rcpt_count = 1 };
        assert_int_equal(body_append(body, (struct str){ text, sizes[i] }), 0);
        assert_int_equal(queue_put(q, &env, body), 0);
        body_free(body);
        free(text);
        queue_close(q);
        q = open_queue();
        assert_true(queue_new_id(q) > future);
    }
    queue_close(q);
}

/* Two servers in one directory would write over each other's segments. */
static void one_at_a_time(void *arg)
{
    (void)arg;
    struct queue *q = open_queue(), *second;
    struct queue_options only_looking = options;
    char error[256];
    assert_int_equal(queue_open(&options, &second, NULL, error), -EWOULDBLOCK);
    assert_non_null(strstr(error, "in use"));
    only_looking.read_only = true;
    assert_int_equal(queue_open(&only_looking, &second, NULL, error), 0);
    queue_close(second);
    queue_close(q);
    queue_close(open_queue());
}

/* A server takes the lock before it does anything else, and its worker opens the queue under it. */
static void locked_beforehand(void *arg)
{
    (void)arg;
    struct queue_options under = options;
    struct queue *q, *second;
    char error[256];
    int lock, again;
    under.locked = true;
    assert_int_equal(queue_lock_dir(&options, &lock, error), 0);
    assert_int_equal(queue_lock_dir(&options, &again, error), -EWOULDBLOCK);
    assert_non_null(strstr(error, "in use"));
    for (int i = 0; i < 2; i++) {                    /* what it opens and closes leaves the lock alone */
        assert_int_equal(queue_open(&under, &q, NULL, error), 0);
        assert_int_equal(queue_open(&options, &second, NULL, error), -EWOULDBLOCK);
        queue_close(q);
        assert_int_equal(queue_open(&options, &second, NULL, error), -EWOULDBLOCK);
    }
    assert_int_equal(file_close(lock), 0);
    queue_close(open_queue());
}

static enum file_system fake_kind;

static int fake_open(const char *path)
{
    (void)path;
    return 7;
}

static int fake_success(int file)
{
    (void)file;
    return 0;
}

static int fake_mkdir_at(int at, const char *name)
{
    (void)at;
    (void)name;
    return -EEXIST;
}

static int fake_system_of(int file, enum file_system *out, uint64_t *out_free_bytes)
{
    (void)file;
    *out = fake_kind;
    *out_free_bytes = 1 << 30;
    return 0;
}

/* Behind the check, the disk is of no use: -EROFS. */
static int fake_open_at(int at, const char *name, unsigned flags)
{
    (void)at;
    (void)name;
    (void)flags;
    return -EROFS;
}

static void where_a_queue_may_be(void **state)
{
    static const struct file_ops fake = {
        .open_dir = fake_open, .open_at = fake_open_at, .close = fake_success,
        .mkdir_at = fake_mkdir_at, .sync = fake_success, .system_of = fake_system_of,
    };
    static const struct {
        enum file_system kind;
        bool             unsafe;
        int              result;
        const char      *said;
    } cases[] = {
        { FILE_SYSTEM_MEMORY,  false, -ENOTSUP, "in memory" },
        { FILE_SYSTEM_NETWORK, false, -ENOTSUP, "a network file system" },
        { FILE_SYSTEM_MEMORY,  true,  -EROFS,   ""          },
        { FILE_SYSTEM_NETWORK, true,  -EROFS,   ""          },
        { FILE_SYSTEM_LOCAL,   false, -EROFS,   ""          },
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct queue_options where = { .dir = "/data", .unsafe_file_system = cases[i].unsafe };
        struct queue *q;
        char error[256];
        fake_kind = cases[i].kind;
        file_replace(&fake);
        int r = queue_open(&where, &q, NULL, error);
        file_replace(NULL);
        assert_int_equal(r, cases[i].result);
        assert_non_null(strstr(error, cases[i].said));
    }
}

static void run(void (*fn)(void *))
{
    dir_make();
    assert_int_equal(loop_run(1, fn, NULL), 0);
    dir_remove();
}

/* Sidecars leave out what is over: so what the records say is tried without them, too. */
static void run_with_scans(void (*fn)(void *))
{
    dir_make();
    options.scan_all = true;
    assert_int_equal(loop_run(1, fn, NULL), 0);
    dir_remove();
}

static void test_in_and_out(void **state) { (void)state; run(in_and_out); }
static void test_small_bodies(void **state)
{
    (void)state;
    small = true;
    run(in_and_out);
    small = false;
}
static void test_held_from_the_beginning(void **state) { (void)state; run(held_from_the_beginning); run_with_scans(held_from_the_beginning); }
static void test_claimed_by_name(void **state) { (void)state; run(claimed_by_name); run_with_scans(claimed_by_name); }
static void test_rerouted(void **state) { (void)state; run(rerouted); run_with_scans(rerouted); }
static void test_rerouted_in_vain(void **state) { (void)state; run(rerouted_in_vain); }
static void test_many_are_looked_at(void **state) { (void)state; run(many_are_looked_at); }
static void test_survives_closing(void **state) { (void)state; run(survives_closing); run_with_scans(survives_closing); }
static void test_reclaims(void **state) { (void)state; run(reclaims); run_with_scans(reclaims); }
static void test_body_until_the_last(void **state) { (void)state; run(body_until_the_last); }
static void test_damage_keeps_bodies(void **state) { (void)state; run(damage_keeps_bodies); }
static void test_damage_is_met_later(void **state) { (void)state; run(damage_is_met_later); }
static void test_ids_never_come_again(void **state) { (void)state; run(ids_never_come_again); run_with_scans(ids_never_come_again); }
static void test_one_at_a_time(void **state) { (void)state; run(one_at_a_time); }
static void test_locked_beforehand(void **state) { (void)state; run(locked_beforehand); }
static void test_reads_side_by_side(void **state) { (void)state; run(reads_side_by_side); }

/* Whatever a record says, and wherever the clock was set to meanwhile. */
static void due_times(void **state)
{
    (void)state;
    int64_t wall = clock_wall_ns();
    const struct {
        int64_t due, recorded, least, most;          /* of the wait */
    } cases[] = {
        /* due                  recorded                  the wait */
        { wall + 50 * NS_PER_S, wall,                     40 * NS_PER_S, 50 * NS_PER_S },
        { wall + 50 * NS_PER_S, wall + 40 * NS_PER_S,     0,             10 * NS_PER_S },   /* the clock was set back */
        { wall + 50 * NS_PER_S, wall + 60 * NS_PER_S,     0,             0             },
        { wall - 50 * NS_PER_S, wall - 60 * NS_PER_S,     0,             0             },
        { INT64_MIN,            wall,                     0,             0             },
        { INT64_MIN,            INT64_MAX,                0,             0             },
        { INT64_MAX,            wall - 60 * NS_PER_S,     NS_PER_S,      INT64_MAX     },
        { INT64_MAX,            INT64_MIN,                NS_PER_S,      INT64_MAX     },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int64_t before = clock_mono_ns(), due = queue_due_mono(cases[i].due, cases[i].recorded);
        assert_true(due - before >= cases[i].least);
        assert_true(due - clock_mono_ns() <= cases[i].most);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_in_and_out),
        cmocka_unit_test(test_small_bodies),
        cmocka_unit_test(test_held_from_the_beginning),
        cmocka_unit_test(test_claimed_by_name),
        cmocka_unit_test(test_survives_closing),
        cmocka_unit_test(test_reclaims), cmocka_unit_test(test_rerouted), cmocka_unit_test(test_rerouted_in_vain),
        cmocka_unit_test(test_reads_side_by_side),
        cmocka_unit_test(test_body_until_the_last),
        cmocka_unit_test(test_damage_keeps_bodies),
        cmocka_unit_test(test_many_are_looked_at),
        cmocka_unit_test(test_damage_is_met_later),
        cmocka_unit_test(test_ids_never_come_again),
        cmocka_unit_test(test_one_at_a_time),
        cmocka_unit_test(test_locked_beforehand),
        cmocka_unit_test(due_times),
        cmocka_unit_test(where_a_queue_may_be),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
