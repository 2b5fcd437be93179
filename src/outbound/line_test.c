/*
 * outbound/line: nobody stands in it twice, whoever is parked is called, and whatever was forgotten comes in again.
 */
#include "outbound/line.h"
#include "base/clock.h"
#include "outbound/refusal_table.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define S NS_PER_S

static const struct schedule_settings narrow = {
    .sites_max = 3, .site_messages_max = 4, .messages_max = 1000, .inside_max = 100, .pace = { .connections_max = 2 },
};
static const struct schedule_result taken = { .kind = SCHEDULE_TAKEN }, unreached = { .kind = SCHEDULE_UNREACHED };

static struct scene {
    struct refusal_table *table;
    struct line          *line;
    int64_t               now, again, ask;
} w;

static void begin(void)
{
    struct buf error;
    buf_init(&error, 1000);
    w = (struct scene){ .table = refusal_table_new("", STR(""), &error), .now = 1000 * S };
    buf_free(&error);
    w.line = line_new(&narrow, &w.table->refusals);
    assert_non_null(w.line);
}

static void end(void)
{
    line_free(w.line);
    refusal_table_free(w.table);
}

static enum line_place offer(uint64_t id, uint64_t sender, const char *site)
{
    struct line_offer o = { .id = id, .route = 7, .sender = sender, .site = str_of(site), .band = TURNS_NORMAL, .cost = 1 };
    return line_offer(w.line, &o, w.now, &w.again);
}

static struct ticket *next(void) { return line_next(w.line, w.now, &w.ask); }

/* Those whose turns come until the line is empty, each taken at once; its length. */
static unsigned take_all(uint64_t *ids, unsigned most)
{
    unsigned n = 0;
    struct ticket *t;
    while ((t = next()) != NULL) {
        assert_true(n < most);
        ids[n++] = t->id;
        (void)line_end(w.line, t, &taken, w.now);
    }
    return n;
}

static void nobody_stands_twice(void **state)
{
    uint64_t ids[20];
    (void)state;
    begin();
    for (int round = 0; round < 3; round++)                   /* its due time comes again and again */
        for (uint64_t id = 1; id <= 10; id++)
            assert_int_equal(offer(id, 1, "a"), id <= 4 ? LINE_WAITS : LINE_PARKED);
    assert_int_equal(line_parked(w.line), 6);
    assert_int_equal(take_all(ids, 20), 10);
    for (uint64_t id = 1; id <= 10; id++)
        assert_int_equal(ids[id - 1], id);
    assert_int_equal(line_parked(w.line), 0);
    end();
}

static void one_under_way_is_there(void **state)
{
    (void)state;
    begin();
    assert_int_equal(offer(1, 1, "a"), LINE_WAITS);
    struct ticket *t = next();
    assert_int_equal(offer(1, 1, "a"), LINE_WAITS);
    assert_null(next());
    (void)line_end(w.line, t, &taken, w.now);
    assert_null(next());
    assert_int_equal(offer(1, 1, "b"), LINE_WAITS);           /* and now it may go elsewhere */
    t = next();
    assert_non_null(t);
    (void)line_end(w.line, t, &taken, w.now);
    end();
}

static void a_dead_site_says_so_and_calls(void **state)
{
    uint64_t ids[20];
    (void)state;
    begin();
    assert_int_equal(offer(1, 1, "a"), LINE_WAITS);
    (void)line_end(w.line, next(), &unreached, w.now);
    assert_int_equal(offer(2, 1, "a"), LINE_WAITS);           /* the next probe */
    for (uint64_t id = 3; id <= 9; id++)
        assert_int_equal(offer(id, 1, "a"), LINE_DEAD);
    assert_int_equal(offer(5, 1, "a"), LINE_DEAD);
    assert_null(next());
    assert_true(w.ask > w.now && w.ask <= w.now + 30 * S);
    w.now = w.ask;
    assert_int_equal(take_all(ids, 20), 8);                   /* the probe is taken, and all the others are called */
    assert_int_equal(ids[0], 2);
    end();
}

/* Whoever was parked at a site that had to make place comes in again when it is due. */
static void a_forgotten_site_keeps_nobody(void **state)
{
    uint64_t ids[20];
    char site[2] = "b";
    (void)state;
    begin();
    assert_int_equal(offer(1, 1, "a"), LINE_WAITS);
    (void)line_end(w.line, next(), &unreached, w.now);
    assert_int_equal(offer(2, 1, "a"), LINE_WAITS);
    assert_int_equal(offer(3, 1, "a"), LINE_DEAD);
    struct ticket *t = NULL;
    w.now += 40 * S;
    while ((t = next()) != NULL && t->id == 2)
        (void)line_end(w.line, t, &unreached, w.now);
    if (t != NULL)
        (void)line_end(w.line, t, &taken, w.now);
    for (; site[0] < 'h'; site[0]++) {                        /* others push it out, or find no place */
        (void)offer(100 + (uint64_t)site[0], 1, site);
        (void)take_all(ids, 20);
    }
    w.now += 3600 * S;
    (void)take_all(ids, 20);
    assert_int_not_equal(offer(3, 1, "a"), LINE_CROWDED);
    assert_true(take_all(ids, 20) >= 1);
    end();
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(nobody_stands_twice),
        cmocka_unit_test(one_under_way_is_there),
        cmocka_unit_test(a_dead_site_says_so_and_calls),
        cmocka_unit_test(a_forgotten_site_keeps_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
