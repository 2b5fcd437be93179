/*
 * What recovery leaves alone: the process before us died while the disk refused to save anything, so what it wrote last stands in the page
 * cache only. Until it is written again nothing may go that a power cut would bring back into use. On the simulated disk, whose failed
 * syncs forget; journal_crash finds such things by chance, here they are made.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/log.h"
#include "queue/queue_internal.h"
#include "run/file.h"
#include "run/sim.h"
#include <errno.h>
#include <string.h>

#define SYNC_NS  (5 * NS_PER_MS)
#define CUTS     32                                  /* surviving sets tried: nothing, everything, and others by chance */
#define IN_FILE  40000u                              /* a body of this size has a file of its own */
#define FAULTS   24                                  /* operations behind a failure that fail too, one after the other */

static struct queue_recovery recovery;

static struct queue *open_queue(void)
{
    struct queue_options options = { .dir = "/data", .segment_size = SEGMENT_SIZE_MIN };
    struct queue *q;
    char error[256];
    if (queue_open(&options, &q, &recovery, error) < 0)
        fail_msg("queue_open: %s", error);
    return q;
}

/* The process is gone: nothing more is written, nothing is closed in order. */
static void die(struct queue *q)
{
    q->options.read_only = true;
    queue_close(q);
}

static int put(struct queue *q, size_t size, uint64_t *out_id)
{
    static char text[IN_FILE];
    struct recipient bob = { .addr = { .local = STR("bob"), .domain = STR("here.example") } };
    struct envelope env = { .id = queue_new_id(q), .arrived_ns = clock_wall_ns(), .null_sender = true, .rcpts = &bob, .rcpt_count = 1 };
    struct body *body = body_new(q, env.id);
    memset(text, 'x', sizeof text);
    assert_int_equal(body_append(body, (struct str){ text, size }), 0);
    int r = queue_put(q, &env, body);
    body_free(body);
    *out_id = env.id;
    return r;
}

static struct claim *claim_now(struct queue *q)
{
    struct claim *c = NULL;
    assert_int_equal(queue_claim(q, task_deadline_in(NS_PER_S), &c), 0);
    return c;
}

static int settle(struct claim *c)
{
    return queue_settle(c, &(struct outcome){ .state = RCPT_DELIVERED }, 1, 0);
}

static bool is_there(struct queue *q, uint64_t id)
{
    struct queue_item item;
    return queue_list(q, id - 1, &item, 1) == 1 && item.id == id;
}

/* Delivered at once, until the segment that was the newest is full. */
static void fill_segment(struct queue *q)
{
    uint32_t before = q->journal.segment_count;
    while (q->journal.segment_count == before) {
        uint64_t id;
        assert_int_equal(put(q, 12000, &id), 0);
        assert_int_equal(settle(claim_now(q)), 0);
    }
}

static bool has_file(const char *folder, const char *name)
{
    CLEANUP_FILE int dir = file_open_dir(folder);
    CLEANUP_FILE int file = file_open_at(dir, name, FILE_READ);
    return file >= 0;
}

/* Opens the queue that each cut leaves of the disk as it was after so many operations. */
static void after_each_cut(struct sim_history *history, uint64_t ops, void (*check)(struct queue *q, uint64_t id), uint64_t id)
{
    for (uint64_t seed = 0; seed < CUTS; seed++) {
        uint64_t survivors;
        struct sim_disk *image = sim_history_crash(history, ops, seed, &survivors);
        sim_disk_mount(image);
        sim_disk_free(image);
        struct queue *q = open_queue();
        assert_int_equal(recovery.bad_records, 0);
        check(q, id);
        die(q);
    }
    sim_history_free(history);
}

/* ---- a message was being moved ---- */

static void check_there(struct queue *q, uint64_t id)
{
    assert_true(is_there(q, id));
}

/* Its move is seen, and nobody knows that it was saved. Its old segment looks empty, and has the only record that is on the disk. */
static void a_move_in_doubt(void *arg)
{
    (void)arg;
    struct queue *q = open_queue();
    uint64_t id;
    assert_int_equal(put(q, 1000, &id), 0);
    assert_int_equal(queue_hold(q, id), 0);
    fill_segment(q);
    sim_disk_fail_kind(SIM_OP_DATASYNC, EIO);
    queue_lock(q);
    assert_int_equal(compact_move(q, index_get(&q->index, id)), 0);
    queue_unlock(q);
    assert_int_equal(commit_wait_idle(&q->commit), 0);
    die(q);

    q = open_queue();
    assert_true(q->doubtful && is_there(q, id));
    assert_int_equal(task_sleep(NS_PER_S), 0);
    assert_int_equal(journal_oldest(&q->journal)->live, 0);
    assert_true(has_file("/data/journal", "00000001-00000001.seg"));
    struct sim_history *history = sim_disk_history();
    uint64_t ops = sim_disk_ops();

    sim_disk_heal();
    queue_maintain(q);
    assert_int_equal(task_sleep(NS_PER_S), 0);
    assert_false(q->doubtful);
    assert_false(has_file("/data/journal", "00000001-00000001.seg"));
    die(q);
    after_each_cut(history, ops, check_there, id);
}

/* ---- a message with a file was being settled ---- */

static void settle_in_vain(void *arg)
{
    assert_int_equal(settle(arg), -ECANCELED);
}

/* It may have come back; then its body has, too. */
static void check_body(struct queue *q, uint64_t id)
{
    size_t got;
    char last;
    if (!is_there(q, id))
        return;
    struct claim *c = claim_now(q);
    assert_int_equal(queue_read_body(c, IN_FILE - 1, &last, 1, &got), 0);
    assert_true(got == 1 && last == 'x');
    queue_unclaim(c);
}

/* It seems to be over, and its body to be nobody's. */
static void a_settle_in_doubt(void *arg)
{
    (void)arg;
    struct queue *q = open_queue();
    struct task_group g;
    char name[SEGMENT_NAME_SIZE];
    uint64_t id;
    assert_int_equal(put(q, IN_FILE, &id), 0);
    body_name(name, id);
    sim_disk_fail_kind(SIM_OP_DATASYNC, EIO);
    task_group_init(&g);
    assert_int_equal(task_group_start(&g, "settle", settle_in_vain, claim_now(q)), 0);
    assert_int_equal(task_sleep(NS_PER_S), 0);
    task_group_cancel(&g);
    assert_int_equal(task_group_wait(&g, TASK_FOREVER), 0);
    die(q);

    q = open_queue();
    assert_true(q->doubtful && !is_there(q, id));
    assert_int_equal(task_sleep(NS_PER_S), 0);
    assert_int_equal(recovery.orphan_bodies, 0);
    assert_true(has_file("/data/body", name));
    struct sim_history *history = sim_disk_history();
    uint64_t ops = sim_disk_ops();
    die(q);
    after_each_cut(history, ops, check_body, id);
}

/* ---- what is abandoned, twice ---- */

struct tried {
    uint64_t id;
    int      result;
};

/* One fails; so does the operation `first` behind that, and the operation `second` of the next one. The third must succeed. */
static size_t three_tries(struct queue *q, uint64_t first, uint64_t second, struct tried tries[3])
{
    size_t abandoned = 0;
    sim_disk_fail(sim_disk_ops() + 1, EIO, false);
    sim_disk_fail(sim_disk_ops() + 1 + first, EIO, false);
    for (int i = 0; i < 3; i++) {
        if (i == 1)
            sim_disk_fail(sim_disk_ops() + second, EIO, false);
        if (i == 2)
            sim_disk_heal();
        tries[i].result = put(q, 1000, &tries[i].id);
        assert_int_equal(commit_wait_idle(&q->commit), 0);
        if (q->commit.abandoned_count > abandoned)
            abandoned = q->commit.abandoned_count;
    }
    assert_int_equal(tries[0].result, -EIO);
    assert_int_equal(tries[2].result, 0);
    return abandoned;
}

static void check_tries(const struct sim_disk *image, const struct tried tries[3])
{
    sim_disk_mount(image);
    struct queue *q = open_queue();
    for (int i = 0; i < 3; i++)
        assert_int_equal(is_there(q, tries[i].id), tries[i].result == 0);
    die(q);
}

struct faults {
    uint64_t first, second;
    size_t   abandoned;                              /* at most at a time */
};

/* Killed afterwards, and the power cut: who had been refused does not come back, for the third batch names them all. */
static void refused_again_and_again(void *arg)
{
    struct faults *f = arg;
    struct tried tries[3];
    uint64_t id, survivors;
    struct queue *q = open_queue();
    assert_int_equal(put(q, 1000, &id), 0);
    assert_int_equal(task_sleep(NS_PER_S), 0);       /* a spare is there */
    f->abandoned = three_tries(q, f->first, f->second, tries);
    die(q);
    struct sim_history *history = sim_disk_history();
    uint64_t ops = sim_disk_ops();
    struct sim_disk *live = sim_disk_copy();
    check_tries(live, tries);
    sim_disk_free(live);
    for (uint64_t seed = 0; seed < 4; seed++) {
        struct sim_disk *image = sim_history_crash(history, ops, seed, &survivors);
        check_tries(image, tries);
        sim_disk_free(image);
    }
    sim_history_free(history);
}

/* ---- spares ---- */

/* Only what was a segment once had surely been written out to its end. */
static const struct {
    const char *name;
    uint64_t    size;
    bool        header, damaged, kept;
} spares[] = {
    /* name            size                  header  damaged kept  */
    { "spare-00000011", 0,                    false,  false,  false },   /* its maker died before it had room */
    { "spare-00000012", SEGMENT_SIZE_MIN,     false,  false,  false },   /* and here before it was written out, perhaps */
    { "spare-00000013", SEGMENT_SIZE_MIN / 2, true,   false,  false },
    { "spare-00000014", SEGMENT_SIZE_MIN * 2, true,   false,  false },   /* segment_size was another then */
    { "spare-00000015", SEGMENT_SIZE_MIN,     true,   true,   false },
    { "spare-00000016", SEGMENT_SIZE_MIN,     true,   false,  true  },
};
#define SPARES (sizeof spares / sizeof *spares)

static void make_spare(int dir, size_t i)
{
    unsigned char block[SEGMENT_HEADER_SIZE];
    struct segment_header header = { .version = SEGMENT_FORMAT_VERSION, .generation = 1, .number = (uint32_t)i + 1, .first_sequence = 1 };
    CLEANUP_FILE int file = file_open_at(dir, spares[i].name, FILE_READ | FILE_WRITE | FILE_CREATE);
    assert_true(file >= 0);
    if (spares[i].size > 0)
        assert_int_equal(file_allocate(file, spares[i].size), 0);
    segment_header_put(block, &header);
    block[SEGMENT_HEADER_SIZE - 1] ^= spares[i].damaged;
    block[8] ^= spares[i].damaged;
    if (spares[i].header)
        assert_int_equal(file_write_at(file, block, sizeof block, 0), 0);
}

static void spares_of_unknown_past(void *arg)
{
    (void)arg;
    die(open_queue());
    CLEANUP_FILE int dir = file_open_dir("/data/journal");
    for (size_t i = 0; i < SPARES; i++)
        make_spare(dir, i);
    struct queue *q = open_queue();
    for (size_t i = 0; i < SPARES; i++)
        assert_int_equal(has_file("/data/journal", spares[i].name), spares[i].kept);
    die(q);
}

/* ---- */

static void say_nothing(void *arg, enum log_level level, struct str line)
{
    (void)arg;
    (void)level;
    (void)line;
}

static void play(task_fn *fn, void *arg)
{
    sim_begin(&(struct sim_options){ .seed = 3, .sync_ns = SYNC_NS });
    assert_int_equal(sim_run(fn, arg), 0);
    sim_end();
}

static void test_a_move_in_doubt(void **state) { (void)state; play(a_move_in_doubt, NULL); }
static void test_a_settle_in_doubt(void **state) { (void)state; play(a_settle_in_doubt, NULL); }
static void test_spares_of_unknown_past(void **state) { (void)state; play(spares_of_unknown_past, NULL); }

static void test_refused_again_and_again(void **state)
{
    size_t most = 0;

    (void)state;
    for (uint64_t i = 0; i < FAULTS * FAULTS; i++) {
        struct faults f = { .first = i % FAULTS, .second = i / FAULTS };
        play(refused_again_and_again, &f);
        most = f.abandoned > most ? f.abandoned : most;
    }
    assert_int_equal(most, 2);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_move_in_doubt),
        cmocka_unit_test(test_a_settle_in_doubt),
        cmocka_unit_test(test_refused_again_and_again),
        cmocka_unit_test(test_spares_of_unknown_past),
    };
    log_redirect(say_nothing, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
