/*
 * Messages that leave and come: once each, whatever was cut off in between. On the real disk; what a kill leaves is put there by hand.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "queue/ledger.h"
#include "queue/queue_internal.h"
#include "queue/transfer.h"
#include "run/file.h"
#include "run/loop.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME  "0123456789abcdef0123456789abcdef"

static char here[256], there[256];

static struct queue *open_at(const char *dir)
{
    struct queue_options options = { .dir = dir, .segment_size = 256 * 1024, .unsafe_file_system = true };
    struct queue *q;
    char error[256];

    if (queue_open(&options, &q, NULL, error) < 0)
        fail_msg("queue_open: %s", error);
    return q;
}

static uint64_t put(struct queue *q, size_t size, bool held)
{
    static char text[200000];
    struct recipient list[2] = { { .addr = { .local = STR("bob"), .domain = STR("b.example") } },
                                 { .addr = { .local = STR("carol"), .domain = STR("c.example") } } };
    struct envelope env = { .id = queue_new_id(q), .arrived_ns = clock_wall_ns(), .null_sender = true, .rcpts = list, .rcpt_count = 2, .login = STR("ann") };
    struct body *body = body_new(q, env.id);

    memset(text, 'x', sizeof text);
    assert_int_equal(body_append(body, (struct str){ text, size }), 0);
    assert_int_equal((held ? queue_put_held : queue_put)(q, &env, body), 0);
    body_free(body);
    return env.id;
}

static struct claim *claim(struct queue *q, uint64_t id)
{
    struct claim *c = NULL;
    assert_int_equal(queue_claim_one(q, id, &c), 0);
    return c;
}

static void defer_first(struct queue *q, uint64_t id)
{
    struct outcome o[2] = { { .rcpt = 0, .state = RCPT_DELIVERED }, { .rcpt = 1, .status = STR("4.2.1"), .text = STR("451 later") } };
    assert_int_equal(queue_settle(claim(q, id), o, 2, clock_wall_ns() + 3600 * NS_PER_S), 0);
}

static struct transfer *open_transfer(struct queue *q, enum transfer_way way)
{
    struct transfer *t = NULL;
    assert_int_equal(transfer_open(q, STR(NAME), way, &t), 0);
    return t;
}

/* Its bytes, and those of a body that is apart. */
static void pack(struct claim *c, struct buf *packed, struct buf *body)
{
    size_t n = 0;

    buf_init(packed, 1 << 24);
    buf_init(body, 1 << 24);
    assert_int_equal(transfer_pack(c, packed), 0);
    if (!transfer_body_apart(c))
        return;
    char *p = buf_room(body, c->body_size);
    assert_int_equal(queue_read_body(c, 0, p, c->body_size, &n), 0);
    buf_added(body, n);
}

static int bring(struct queue *q, uint64_t id, struct buf *packed, struct buf *text, struct newcomer **out)
{
    struct body *body = text->n > 0 ? body_new(q, id) : NULL;

    if (body != NULL)
        assert_int_equal(body_append(body, buf_str(text)), 0);
    int r = transfer_bring(q, id, buf_str(packed), body, out);
    body_free(body);
    return r;
}

static void check_arrived(struct queue *q, uint64_t id, enum message_state state, uint64_t size)
{
    struct queue_details d;
    struct arena arena;

    arena_init(&arena, 1 << 22);
    assert_int_equal(queue_show(q, id, &arena, &d), 0);
    assert_true(d.item.state == state && d.item.size == size && d.item.attempts == 1 && d.item.rcpts_pending == 1);
    assert_true(d.env.id == id && str_eq(d.env.login, STR("ann")) && d.states[0] == RCPT_DELIVERED);
    assert_true(str_eq(d.last[1].text, STR("451 later")));
    arena_reset(&arena);
}

static void one_travels(struct queue *from, struct transfer *out, struct queue *to, struct transfer *in, size_t size, bool held, uint64_t number)
{
    struct buf packed, body;
    struct newcomer *newcomer;
    uint64_t id = put(from, size, held), new_id, again;
    struct claim *c;

    defer_first(from, id);
    c = claim(from, id);
    pack(c, &packed, &body);
    assert_int_equal(queue_hold(from, id), -EBUSY);
    assert_int_equal(transfer_let_go(out, &c, 1), 0);
    assert_int_equal(queue_discard(from, id), -ENOENT);
    assert_int_equal(transfer_expect(in, &number, 1, &new_id), 0);
    assert_true(new_id > 0);
    size_t before = queue_count(to);
    assert_int_equal(bring(to, new_id, &packed, &body, &newcomer), 0);
    assert_int_equal(queue_count(to), before);       /* nobody sees it yet */
    assert_int_equal(queue_claim_one(to, new_id, &c), -ENOENT);
    assert_int_equal(transfer_let_in(in, &number, &newcomer, 1), 0);
    check_arrived(to, new_id, held ? MESSAGE_HELD : MESSAGE_WAITING, size);
    assert_int_equal(transfer_expect(in, &number, 1, &again), 0);
    assert_int_equal(again, 0);                      /* it has come */
    buf_free(&packed);
    buf_free(&body);
}

static void travels(void *arg)
{
    struct queue *a = open_at(here), *b = open_at(there);
    struct transfer *out = open_transfer(a, TRANSFER_OUT), *in = open_transfer(b, TRANSFER_IN), *second;

    (void)arg;
    assert_int_equal(transfer_open(a, STR(NAME), TRANSFER_OUT, &second), -EBUSY);
    assert_int_equal(transfer_open(a, STR("../../../../../../../../etc/pass"), TRANSFER_OUT, &second), -EINVAL);
    assert_int_equal(transfer_open(a, STR("0123456789ABCDEF0123456789abcdef"), TRANSFER_OUT, &second), -EINVAL);
    one_travels(a, out, b, in, 5000, false, 1);
    one_travels(a, out, b, in, 20, true, 2);
    one_travels(a, out, b, in, 150000, false, 3);
    transfer_close(out);
    transfer_close(in);
    queue_close(a);
    queue_close(b);
    a = open_at(here);
    b = open_at(there);
    assert_int_equal(queue_count(a), 0);
    assert_int_equal(queue_count(b), 3);
    in = open_transfer(b, TRANSFER_IN);
    uint64_t numbers[] = { 1, 2, 3, 4 }, ids[4];
    assert_int_equal(transfer_expect(in, numbers, 4, ids), 0);
    assert_true(ids[0] == 0 && ids[1] == 0 && ids[2] == 0 && ids[3] != 0);
    transfer_close(in);
    assert_int_equal(transfer_forget(open_transfer(a, TRANSFER_OUT)), 0);
    queue_close(a);
    queue_close(b);
}

static void add_to_ledger(const char *dir, const char *name, struct ledger_entry e)
{
    CLEANUP_FILE int data = file_open_dir(dir);
    struct ledger l;

    assert_int_equal(ledger_open(data, name, &l), 0);
    assert_int_equal(ledger_append(&l, &e, 1), 0);
    ledger_close(&l);
}

/* Killed between the ledger and the journal. */
static void let_go_by_halves(void *arg)
{
    struct queue *q = open_at(here);
    uint64_t gone = put(q, 100, false), stays = put(q, 150000, false);
    bool is_gone[2];

    (void)arg;
    queue_close(q);
    add_to_ledger(here, NAME ".out", (struct ledger_entry){ .kind = LEDGER_GONE, .id = gone });
    for (int round = 0; round < 2; round++) {
        q = open_at(here);
        assert_int_equal(queue_count(q), 1);
        struct transfer *t = open_transfer(q, TRANSFER_OUT);
        assert_int_equal(transfer_ask_gone(t, (uint64_t[]){ gone, stays }, 2, is_gone), 0);
        assert_true(is_gone[0] && !is_gone[1]);
        transfer_close(t);
        queue_close(q);
    }
    q = open_at(here);
    assert_int_equal(transfer_forget(open_transfer(q, TRANSFER_OUT)), 0);
    queue_close(q);
    q = open_at(here);
    assert_int_equal(queue_count(q), 1);             /* and it does not come back without its ledger */
    assert_int_equal(queue_discard(q, stays), 0);
    queue_close(q);
}

/* Killed when it was durable, and before that was written down. */
static void came_by_halves(void *arg)
{
    struct queue *q = open_at(there);
    uint64_t came = put(q, 100, false), numbers[] = { 7, 8 }, ids[2];

    (void)arg;
    queue_close(q);
    add_to_ledger(there, NAME ".in", (struct ledger_entry){ .kind = LEDGER_EXPECTED, .number = 7, .id = came });
    add_to_ledger(there, NAME ".in", (struct ledger_entry){ .kind = LEDGER_EXPECTED, .number = 8, .id = came + 1 });
    q = open_at(there);
    assert_int_equal(queue_discard(q, came), 0);     /* delivered, say, and forgotten */
    queue_close(q);
    q = open_at(there);
    struct transfer *t = open_transfer(q, TRANSFER_IN);
    assert_int_equal(transfer_expect(t, numbers, 2, ids), 0);
    assert_true(ids[0] == 0 && ids[1] != 0);
    transfer_close(t);
    queue_close(q);
}

/* What is no message, or another's body, does not come. */
static void strange_ones_stay_out(void *arg)
{
    struct queue *q = open_at(here);
    uint64_t small = put(q, 1000, true), large = put(q, 150000, true);
    struct buf packed, body, packed_large, body_large;
    struct newcomer *newcomer;

    (void)arg;
    struct claim *a = claim(q, small), *b = claim(q, large);
    pack(a, &packed, &body);
    pack(b, &packed_large, &body_large);
    assert_int_equal(bring(q, queue_new_id(q), &packed, &body_large, &newcomer), -EBADMSG);
    assert_int_equal(bring(q, queue_new_id(q), &packed_large, &body, &newcomer), -EBADMSG);
    body_large.p[77] ^= 1;
    assert_int_equal(bring(q, queue_new_id(q), &packed_large, &body_large, &newcomer), -EBADMSG);
    packed.n -= 1;
    assert_int_equal(bring(q, queue_new_id(q), &packed, &body, &newcomer), -EBADMSG);
    packed.n = 0;
    assert_int_equal(bring(q, queue_new_id(q), &packed, &body, &newcomer), -EBADMSG);
    queue_give_back(a);
    queue_give_back(b);
    assert_int_equal(queue_count(q), 2);
    buf_free(&packed);
    buf_free(&body);
    buf_free(&packed_large);
    buf_free(&body_large);
    queue_close(q);
}

/* A torn entry at the end was never answered for, and is not in the way. */
static void torn_ledgers_go_on(void *arg)
{
    uint64_t number = 5, ids[2];
    struct queue *q = open_at(here);
    struct transfer *t = open_transfer(q, TRANSFER_IN);
    char command[600];

    (void)arg;
    assert_int_equal(transfer_expect(t, &number, 1, &ids[0]), 0);
    transfer_close(t);
    queue_close(q);
    snprintf(command, sizeof command, "printf 'torn entry' >>'%s/transfer/" NAME ".in'", here);
    assert_int_equal(system(command), 0);
    for (int round = 0; round < 2; round++) {
        q = open_at(here);
        t = open_transfer(q, TRANSFER_IN);
        assert_int_equal(transfer_expect(t, &number, 1, &ids[1]), 0);
        assert_true(ids[1] > ids[0]);
        transfer_close(t);
        queue_close(q);
    }
}

static void run(void (*fn)(void *))
{
    char folder[200], command[300];

    snprintf(folder, sizeof folder, "%s/nightmail-transfer-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    assert_non_null(mkdtemp(folder));
    snprintf(here, sizeof here, "%s/here", folder);
    snprintf(there, sizeof there, "%s/there", folder);
    assert_int_equal(loop_run(1, fn, NULL), 0);
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    assert_int_equal(system(command), 0);
}

static void test_travels(void **state) { (void)state; run(travels); }
static void test_let_go_by_halves(void **state) { (void)state; run(let_go_by_halves); }
static void test_came_by_halves(void **state) { (void)state; run(came_by_halves); }
static void test_strange_ones_stay_out(void **state) { (void)state; run(strange_ones_stay_out); }
static void test_torn_ledgers_go_on(void **state) { (void)state; run(torn_ledgers_go_on); }

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_travels),
        cmocka_unit_test(test_let_go_by_halves),
        cmocka_unit_test(test_came_by_halves),
        cmocka_unit_test(test_strange_ones_stay_out),
        cmocka_unit_test(test_torn_ledgers_go_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
