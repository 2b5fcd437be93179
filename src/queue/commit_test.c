/*
 * Group commit on the simulated disk: who shares a sync, what a failed one does to whom, and where the next segment begins. What was
 * written is read back from the disk, by verify.h.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "queue/commit.h"
#include "queue/verify.h"
#include "run/file.h"
#include "run/sim.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define SYNC_NS  (5 * NS_PER_MS)
#define MANY     100
#define SEEN_MAX 512

/* ---- a journal of its own, and tasks that commit ---- */

struct scene {
    struct journal  journal;
    struct commit   commit;
    struct offload *pool;
    unsigned        sealed;
};

struct writer {
    struct scene        *scene;
    struct commit_ticket ticket;
    int                  result;
    bool                 ended;
};

static void on_sealed(void *arg)
{
    struct scene *s = arg;
    s->sealed++;
}

static void begin(struct scene *s)
{
    *s = (struct scene){ .sealed = 0 };
    CLEANUP_FILE int root = file_open_dir("/");
    assert_int_equal(file_mkdir_at(root, "data"), 0);
    assert_int_equal(journal_open(&s->journal, file_open_dir("/data"), false), 0);
    s->journal.segment_size = SEGMENT_SIZE_MIN;
    s->journal.generation = 1;
    assert_int_equal(commit_init(&s->commit, &s->journal), 0);
    s->pool = offload_new("commit", 1, 4);
    assert_non_null(s->pool);
    s->commit.pool = s->pool;
    s->commit.sealed = on_sealed;
    s->commit.arg = s;
}

static void end(struct scene *s)
{
    assert_int_equal(commit_wait_idle(&s->commit), 0);
    offload_free(s->pool);
    commit_free(&s->commit);
    journal_close(&s->journal);
}

static int commit_one(struct scene *s, enum record_type type, size_t size)
{
    static char bytes[SEGMENT_SIZE_MIN];
    struct commit_ticket t = { .type = type, .pieces = { { bytes, size } } };
    return commit_record(&s->commit, &t);
}

static void write_one(void *arg)
{
    struct writer *w = arg;
    w->result = commit_record(&w->scene->commit, &w->ticket);
    w->ended = true;
}

static void start(struct task_group *g, struct scene *s, struct writer *w, struct commit_ticket ticket)
{
    static char bytes[SEGMENT_SIZE_MIN];
    *w = (struct writer){ .scene = s, .ticket = ticket };
    if (w->ticket.pieces[0].p == NULL)
        w->ticket.pieces[0].p = bytes;
    assert_int_equal(task_group_start(g, "write", write_one, w), 0);
}

/* ---- what stands on the disk ---- */

struct seen {
    struct {
        char               segment[SEGMENT_NAME_SIZE];
        struct record_head head;
        uint64_t           offset;
        struct record_region region;
    } records[SEEN_MAX];
    unsigned count;
};

static void note(void *arg, const struct verify_record *r)
{
    struct seen *seen = arg;
    assert_true(seen->count < SEEN_MAX);
    snprintf(seen->records[seen->count].segment, SEGMENT_NAME_SIZE, "%s", r->segment);
    seen->records[seen->count].head = *r->head;
    seen->records[seen->count].offset = r->offset;
    if (r->record != NULL)
        seen->records[seen->count].region = r->record->region;
    seen->count++;
}

static struct seen *look(void)
{
    static struct seen seen;
    struct verify_report report;
    seen.count = 0;
    assert_int_equal(verify_records("/data", note, &seen, &report), 0);
    return &seen;
}

static unsigned count_syncs(uint64_t from)
{
    unsigned n = 0;
    for (uint64_t i = from; i < sim_disk_ops(); i++)
        n += sim_disk_op(i) == SIM_OP_DATASYNC;
    return n;
}

/* ---- the tests ---- */

/* The first comes alone and the others, which came during its sync, share the next one. */
static void many_share_a_sync(void *arg)
{
    (void)arg;
    struct scene s;
    struct task_group g;
    static struct writer writers[MANY];
    begin(&s);
    assert_int_equal(commit_one(&s, RECORD_CLOSED, 0), 0);
    uint64_t ops = sim_disk_ops();
    int64_t began = clock_mono_ns();
    task_group_init(&g);
    for (int i = 0; i < MANY; i++)
        start(&g, &s, &writers[i], (struct commit_ticket){ .type = RECORD_CLOSED, .pieces = { { NULL, (size_t)i } } });
    assert_int_equal(task_group_wait(&g, TASK_FOREVER), 0);
    for (int i = 0; i < MANY; i++)
        assert_int_equal(writers[i].result, 0);
    assert_true(count_syncs(ops) <= 2);
    assert_true(clock_mono_ns() - began < 3 * SYNC_NS);
    struct seen *seen = look();
    assert_int_equal(seen->count, 1 + MANY);
    for (unsigned i = 1; i < seen->count; i++)
        assert_int_equal(seen->records[i].head.sequence, seen->records[i - 1].head.sequence + 1);
    assert_true(seen->records[MANY].head.batch <= 3);
    end(&s);
}

/* No timer, no delay: an idle journal answers after one sync. */
static void one_waits_for_one_sync(void *arg)
{
    (void)arg;
    struct scene s;
    begin(&s);
    assert_int_equal(commit_one(&s, RECORD_CLOSED, 0), 0);
    for (int i = 0; i < 5; i++) {
        int64_t began = clock_mono_ns();
        uint64_t ops = sim_disk_ops();
        assert_int_equal(commit_one(&s, RECORD_CLOSED, 100), 0);
        assert_int_equal(count_syncs(ops), 1);
        assert_true(clock_mono_ns() - began >= SYNC_NS && clock_mono_ns() - began < SYNC_NS + NS_PER_MS);
    }
    end(&s);
}

/* ---- sessions that come again and again ---- */

struct crowd {
    struct scene *scene;
    int64_t       think_ns;                          /* between an answer and the next message */
    int           times;
};

static void come_again(void *arg)
{
    const struct crowd *c = arg;
    for (int i = 0; i < c->times; i++) {
        assert_int_equal(commit_one(c->scene, RECORD_CLOSED, 0), 0);
        (void)task_sleep(c->think_ns + (int64_t)clock_random_below((uint64_t)c->think_ns / 4 + 1));
    }
}

/* In how many nanoseconds all of theirs are durable. */
static int64_t run_crowd(unsigned sessions, int64_t think_ns)
{
    struct scene s;
    struct task_group g;
    begin(&s);
    s.journal.segment_size = UINT64_C(1) << 20;
    assert_int_equal(commit_one(&s, RECORD_CLOSED, 0), 0);
    struct crowd c = { &s, think_ns, 500 };
    int64_t began = clock_mono_ns();
    task_group_init(&g);
    for (unsigned i = 0; i < sessions; i++)
        assert_int_equal(task_group_start(&g, "session", come_again, &c), 0);
    assert_int_equal(task_group_wait(&g, TASK_FOREVER), 0);
    int64_t took = clock_mono_ns() - began;
    end(&s);
    return took;
}

/* Who begins without those that were answered with it makes them wait for two syncs each time. */
static void those_who_come_again_share_a_sync(void *arg)
{
    (void)arg;
    assert_in_range(run_crowd(10, 300 * NS_PER_US), 500 * SYNC_NS, 500 * SYNC_NS * 14 / 10);
}

/* They need longer than the disk: in two halves they work and wait by turns, all together they would work, and then wait. */
static void nobody_waits_for_the_slow(void *arg)
{
    (void)arg;
    assert_in_range(run_crowd(10, 4 * NS_PER_MS), 500 * SYNC_NS, 500 * (2 * SYNC_NS) * 11 / 10);
}

static void nobody_waits_for_nobody(void *arg)
{
    (void)arg;
    assert_in_range(run_crowd(1, 300 * NS_PER_US), 500 * SYNC_NS, 500 * (SYNC_NS + 400 * NS_PER_US));
}

/* The next sync fails. Who may fail hears of it; who must not is written again, in another segment, behind the name of what does not count. */
static void a_failed_sync(void *arg)
{
    (void)arg;
    struct scene s;
    struct task_group g;
    static struct writer may, must, after;
    begin(&s);
    assert_int_equal(commit_one(&s, RECORD_CLOSED, 0), 0);
    struct segment *first = s.commit.active;
    task_group_init(&g);
    sim_disk_fail(sim_disk_ops() + 1, EIO, false);   /* behind the write */
    start(&g, &s, &may, (struct commit_ticket){ .type = RECORD_ACCEPTED, .pieces = { { NULL, 100 } } });
    start(&g, &s, &must, (struct commit_ticket){ .type = RECORD_OUTCOME, .pieces = { { NULL, 200 } }, .must = true });
    assert_int_equal(task_group_wait(&g, TASK_FOREVER), 0);
    assert_int_equal(may.result, -EIO);
    assert_int_equal(must.result, 0);
    assert_true(first->sealed && first->condemned && first->live == 0);
    assert_true(must.ticket.segment != first && must.ticket.segment == s.commit.active);
    assert_int_equal(s.sealed, 3);                   /* the first was obtained, and sealed, and the next obtained */

    struct seen *seen = look();
    const struct record_region *region = NULL;
    for (unsigned i = 0; i < seen->count; i++)
        if (seen->records[i].head.type == RECORD_ABANDONED) {
            assert_null(region);                     /* named once */
            region = &seen->records[i].region;
            assert_int_equal(seen->records[i].head.index, 0);
            assert_int_equal(seen->records[i].offset, SEGMENT_HEADER_SIZE);
            assert_true(seen->records[i].head.flags & RECORD_FLAG_CRITICAL);
            assert_int_equal(seen->records[i + 1].head.type, RECORD_OUTCOME);
            assert_int_equal(seen->records[i + 1].offset, must.ticket.offset);
        }
    assert_non_null(region);
    assert_true(region->generation == 1 && region->segment == first->number && region->from == first->end);
    assert_int_equal(region->first_sequence, 2);

    start(&g, &s, &after, (struct commit_ticket){ .type = RECORD_ACCEPTED, .pieces = { { NULL, 100 } } });
    assert_int_equal(task_group_wait(&g, TASK_FOREVER), 0);
    assert_true(after.result == 0 && after.ticket.segment == must.ticket.segment && after.ticket.segment->live == 1);
    end(&s);
}

/* Like the sync, the write: part of it may be on the disk. */
static void a_failed_write(void *arg)
{
    (void)arg;
    struct scene s;
    begin(&s);
    assert_int_equal(commit_one(&s, RECORD_CLOSED, 0), 0);
    uint32_t first = s.commit.active->number;
    sim_disk_fail(sim_disk_ops(), ENOSPC, false);
    assert_int_equal(commit_one(&s, RECORD_ACCEPTED, 100), -ENOSPC);
    assert_int_equal(commit_one(&s, RECORD_ACCEPTED, 100), 0);
    struct seen *seen = look();
    assert_int_equal(seen->records[seen->count - 2].head.type, RECORD_ABANDONED);
    assert_int_equal(seen->records[seen->count - 2].region.segment, first);
    end(&s);
}

/* The disk refuses everything: who may fail hears it at once, who must not waits until the disk has come to itself. */
static void a_disk_that_refuses(void *arg)
{
    (void)arg;
    struct scene s;
    struct task_group g;
    static struct writer may[3], must[2];
    begin(&s);
    assert_int_equal(commit_one(&s, RECORD_CLOSED, 0), 0);
    task_group_init(&g);
    sim_disk_fail_kind(SIM_OP_DATASYNC, EIO);
    for (int i = 0; i < 3; i++)
        start(&g, &s, &may[i], (struct commit_ticket){ .type = RECORD_ACCEPTED, .pieces = { { NULL, 100 } } });
    for (int i = 0; i < 2; i++)
        start(&g, &s, &must[i], (struct commit_ticket){ .type = RECORD_OUTCOME, .pieces = { { NULL, 200 } }, .must = true });
    assert_int_equal(task_sleep(500 * NS_PER_MS), 0);
    for (int i = 0; i < 3; i++)
        assert_true(may[i].ended && may[i].result == -EIO);
    assert_int_equal(task_sleep(60 * NS_PER_S), 0);
    assert_true(!must[0].ended && !must[1].ended);
    sim_disk_heal();
    assert_int_equal(task_sleep(3 * NS_PER_S), 0);
    for (int i = 0; i < 2; i++)
        assert_true(must[i].ended && must[i].result == 0 && must[i].ticket.failures > 0);
    assert_int_equal(task_group_wait(&g, TASK_FOREVER), 0);
    struct seen *seen = look();
    assert_true(seen->count >= 3 && seen->records[seen->count - 3].head.type == RECORD_ABANDONED);
    assert_int_equal(s.commit.abandoned_count, 0);
    end(&s);
}

/* At the end of the program, one that waits for a better disk is given up; one that is on its way is not. */
static void cancelled(void *arg)
{
    (void)arg;
    struct scene s;
    struct task_group g;
    static struct writer on_its_way, waiting;
    begin(&s);
    assert_int_equal(commit_one(&s, RECORD_CLOSED, 0), 0);
    task_group_init(&g);
    start(&g, &s, &on_its_way, (struct commit_ticket){ .type = RECORD_ACCEPTED, .pieces = { { NULL, 100 } } });
    assert_int_equal(task_sleep(SYNC_NS / 2), 0);
    task_group_cancel(&g);
    assert_int_equal(task_group_wait(&g, TASK_FOREVER), 0);
    assert_int_equal(on_its_way.result, 0);

    task_group_init(&g);
    sim_disk_fail_kind(SIM_OP_DATASYNC, EIO);
    start(&g, &s, &waiting, (struct commit_ticket){ .type = RECORD_OUTCOME, .pieces = { { NULL, 100 } }, .must = true });
    assert_int_equal(task_sleep(3 * NS_PER_S), 0);
    assert_false(waiting.ended);
    task_group_cancel(&g);
    assert_int_equal(task_group_wait(&g, task_deadline_in(2 * NS_PER_S)), 0);
    assert_int_equal(waiting.result, -ECANCELED);
    sim_disk_heal();
    end(&s);
}

/* A record that does not fit goes to the next segment, whole; the one before is sealed, and counts the messages in it. */
static void the_next_segment(void *arg)
{
    (void)arg;
    struct scene s;
    begin(&s);
    size_t size = commit_payload_max(&s.journal);
    assert_true(size > SEGMENT_SIZE_MIN / 3);
    for (int i = 0; i < 6; i++)
        assert_int_equal(commit_one(&s, RECORD_ACCEPTED, size), 0);
    assert_int_equal(s.journal.segment_count, 3);
    uint32_t number = 0, live = 0;
    for (struct segment *g = s.journal.oldest; g != NULL; g = g->newer) {
        assert_int_equal(g->number, ++number);
        assert_int_equal(g->sealed, g != s.commit.active);
        assert_true(g->end <= g->size);
        live += g->live;
    }
    assert_int_equal(live, 6);
    struct seen *seen = look();
    assert_int_equal(seen->count, 6);
    for (unsigned i = 0; i < 6; i++) {
        assert_int_equal(seen->records[i].head.sequence, i + 1);
        assert_int_equal(seen->records[i].head.batch, i % 2 + 1);   /* a segment counts its own */
    }
    end(&s);
}

/* One batch does not stand in two segments: it is cut in two, each with a sync of its own. */
static void a_batch_over_two_segments(void *arg)
{
    (void)arg;
    struct scene s;
    struct task_group g;
    static struct writer writers[12];
    begin(&s);
    assert_int_equal(commit_one(&s, RECORD_CLOSED, 0), 0);
    task_group_init(&g);
    for (int i = 0; i < 12; i++)
        start(&g, &s, &writers[i], (struct commit_ticket){ .type = RECORD_ACCEPTED, .pieces = { { NULL, 10000 } } });
    assert_int_equal(task_group_wait(&g, TASK_FOREVER), 0);
    for (int i = 0; i < 12; i++)
        assert_int_equal(writers[i].result, 0);
    assert_true(s.journal.segment_count == 2 || s.journal.segment_count == 3);
    assert_int_equal(look()->count, 13);
    end(&s);
}

struct called {
    struct commit_ticket ticket;
    unsigned             calls;
};

static void on_done(struct commit_ticket *t)
{
    ((struct called *)t)->calls++;
}

/* Nobody waits; the function is called once, on the committer's thread. */
static void tickets_with_a_function(void *arg)
{
    (void)arg;
    struct scene s;
    static struct called good, bad;
    begin(&s);
    assert_int_equal(commit_one(&s, RECORD_CLOSED, 0), 0);
    good = bad = (struct called){ .ticket = { .type = RECORD_MOVED, .pieces = { STR("a move") }, .done = on_done } };
    commit_submit(&s.commit, &good.ticket);
    assert_int_equal(good.calls, 0);
    assert_int_equal(commit_wait_idle(&s.commit), 0);
    assert_true(good.calls == 1 && good.ticket.result == 0 && good.ticket.segment->live == 1);
    sim_disk_fail(sim_disk_ops(), EIO, false);
    commit_submit(&s.commit, &bad.ticket);
    assert_int_equal(commit_wait_idle(&s.commit), 0);
    assert_true(bad.calls == 1 && bad.ticket.result == -EIO && bad.ticket.segment->live == 1);
    end(&s);
}

/* An orderly end says what does not count, if nothing else has said it, and that all before it had been synced. */
static void an_orderly_end(void *arg)
{
    (void)arg;
    struct scene s;
    begin(&s);
    assert_int_equal(commit_one(&s, RECORD_ACCEPTED, 10), 0);
    sim_disk_fail_kind(SIM_OP_DATASYNC, EIO);
    assert_int_equal(commit_one(&s, RECORD_ACCEPTED, 20), -EIO);
    assert_int_equal(s.commit.abandoned_count, 1);
    sim_disk_heal();
    assert_int_equal(commit_wait_idle(&s.commit), 0);
    commit_close(&s.commit);
    struct seen *seen = look();
    assert_int_equal(seen->records[seen->count - 1].head.type, RECORD_CLOSED);
    assert_int_equal(seen->records[seen->count - 2].head.type, RECORD_ABANDONED);
    end(&s);
}

static void play(task_fn *fn)
{
    sim_begin(&(struct sim_options){ .seed = 3, .sync_ns = SYNC_NS });
    assert_int_equal(sim_run(fn, NULL), 0);
    sim_end();
}

#define IN_THE_SIMULATED_WORLD(name)                                                                                                       \
    static void test_##name(void **state)                                                                                                  \
    {                                                                                                                                      \
        (void)state;                                                                                                                       \
        play(name);                                                                                                                        \
    }

IN_THE_SIMULATED_WORLD(many_share_a_sync)
IN_THE_SIMULATED_WORLD(one_waits_for_one_sync)
IN_THE_SIMULATED_WORLD(those_who_come_again_share_a_sync)
IN_THE_SIMULATED_WORLD(nobody_waits_for_the_slow)
IN_THE_SIMULATED_WORLD(nobody_waits_for_nobody)
IN_THE_SIMULATED_WORLD(a_failed_sync)
IN_THE_SIMULATED_WORLD(a_failed_write)
IN_THE_SIMULATED_WORLD(a_disk_that_refuses)
IN_THE_SIMULATED_WORLD(cancelled)
IN_THE_SIMULATED_WORLD(the_next_segment)
IN_THE_SIMULATED_WORLD(a_batch_over_two_segments)
IN_THE_SIMULATED_WORLD(tickets_with_a_function)
IN_THE_SIMULATED_WORLD(an_orderly_end)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_many_share_a_sync),
        cmocka_unit_test(test_one_waits_for_one_sync),
        cmocka_unit_test(test_those_who_come_again_share_a_sync),
        cmocka_unit_test(test_nobody_waits_for_the_slow),
        cmocka_unit_test(test_nobody_waits_for_nobody),
        cmocka_unit_test(test_a_failed_sync),
        cmocka_unit_test(test_a_failed_write),
        cmocka_unit_test(test_a_disk_that_refuses),
        cmocka_unit_test(test_cancelled),
        cmocka_unit_test(test_the_next_segment),
        cmocka_unit_test(test_a_batch_over_two_segments),
        cmocka_unit_test(test_tickets_with_a_function),
        cmocka_unit_test(test_an_orderly_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
