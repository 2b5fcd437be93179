/*
 * outbound/turns: who is next, however much others have waiting; who has to leave when there is no room; and parking, which has turns too.
 */
#include "outbound/parking.h"
#include "outbound/turns.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

struct letter {
    struct turn turn;
    char        sender;
};

static struct letter letters[2000];
static size_t used;

/* The answer of turns_add; who was displaced into *out, if anybody asks. */
static int add(struct turns *t, char sender, enum turns_band band, uint32_t cost, struct letter **out)
{
    struct letter *l = &letters[used++];
    struct turn *displaced = NULL;

    *l = (struct letter){ .sender = sender };
    int r = turns_add(t, &l->turn, band, (struct str){ &l->sender, 1 }, cost, &displaced);
    if (out != NULL)
        *out = displaced == NULL ? NULL : CONTAINER_OF(displaced, struct letter, turn);
    return r;
}

static void add_many(struct turns *t, char sender, enum turns_band band, uint32_t cost, int count)
{
    for (int i = 0; i < count; i++)
        assert_int_equal(add(t, sender, band, cost, NULL), 0);
}

static char next(struct turns *t)
{
    struct turn *turn = turns_next(t);
    return turn == NULL ? '-' : CONTAINER_OF(turn, struct letter, turn)->sender;
}

static void drain(struct turns *t)
{
    while (turns_next(t) != NULL)
        ;
    turns_free(t);
    used = 0;
}

static unsigned count_of(struct turns *t, char sender, int choices)
{
    unsigned n = 0;
    for (int i = 0; i < choices; i++)
        n += next(t) == sender;
    return n;
}

static void nobody_is_in_line(void **state)
{
    struct turns t;

    (void)state;
    turns_init(&t, 10);
    assert_int_equal(next(&t), '-');
    turns_remove(&t, &letters[0].turn);
    drain(&t);
}

static void many_wait_and_each_has_its_turn(void **state)
{
    struct turns t;

    (void)state;
    turns_init(&t, 1000);
    add_many(&t, 'a', TURNS_NORMAL, 1, 800);
    add_many(&t, 'b', TURNS_NORMAL, 1, 100);
    assert_in_range(count_of(&t, 'b', 160), 64, 96);
    drain(&t);
}

static void large_messages_cost_turns(void **state)
{
    struct turns t;

    (void)state;
    turns_init(&t, 1000);
    add_many(&t, 'a', TURNS_NORMAL, 64, 100);
    add_many(&t, 'b', TURNS_NORMAL, 1, 700);
    assert_in_range(count_of(&t, 'a', 650), 8, 13);
    drain(&t);
}

static void a_single_message_goes_ahead(void **state)
{
    struct turns t;

    (void)state;
    turns_init(&t, 1000);
    add_many(&t, 'a', TURNS_NORMAL, 1, 500);
    for (int i = 0; i < 40; i++)
        assert_int_equal(next(&t), 'a');
    assert_int_equal(add(&t, 'p', TURNS_NORMAL, 1, NULL), 0);
    assert_int_equal(next(&t), 'p');
    drain(&t);
}

/* One who always comes when the last one has gone has no more than its share. */
static void to_come_again_and_again_does_not_pay(void **state)
{
    struct turns t;
    unsigned mine = 0;

    (void)state;
    turns_init(&t, 1000);
    add_many(&t, 'a', TURNS_NORMAL, 1, 500);
    assert_int_equal(add(&t, 'x', TURNS_NORMAL, 16, NULL), 0);
    for (int i = 0; i < 300; i++) {
        if (next(&t) != 'x')
            continue;
        mine++;
        assert_int_equal(add(&t, 'x', TURNS_NORMAL, 16, NULL), 0);
    }
    assert_in_range(mine, 10, 25);                            /* 16 of a's cost as much as one of these */
    drain(&t);
}

static void bands_go_first_and_none_starves(void **state)
{
    struct turns t;
    unsigned counts[128] = { 0 };

    (void)state;
    turns_init(&t, 2000);
    add_many(&t, 'u', TURNS_URGENT, 1, 500);
    add_many(&t, 'n', TURNS_NORMAL, 1, 500);
    add_many(&t, 'b', TURNS_BULK, 1, 500);
    for (int i = 0; i < 320; i++)
        counts[(unsigned char)next(&t)]++;
    assert_int_equal(counts['u'], 280);
    assert_int_equal(counts['n'], 20);
    assert_int_equal(counts['b'], 20);
    drain(&t);
}

static void the_newest_of_the_longest_makes_room(void **state)
{
    struct turns t;
    struct letter *out;

    (void)state;
    turns_init(&t, 3);
    add_many(&t, 'a', TURNS_NORMAL, 1, 3);
    assert_int_equal(add(&t, 'a', TURNS_NORMAL, 1, &out), -EBUSY);
    assert_int_equal(add(&t, 'b', TURNS_NORMAL, 1, &out), 0);
    assert_ptr_equal(out, &letters[2]);
    assert_int_equal(add(&t, 'b', TURNS_NORMAL, 1, &out), -EBUSY);         /* that would only change who has more */
    assert_int_equal(add(&t, 'a', TURNS_URGENT, 1, &out), 0);              /* urgent for bulk: a line of its own */
    assert_ptr_equal(out, &letters[1]);
    assert_int_equal(add(&t, 'c', TURNS_NORMAL, 1, &out), -EBUSY);         /* all have one */
    assert_int_equal(add(&t, 'c', TURNS_URGENT, 1, &out), 0);              /* a lower band has as many */
    assert_int_equal(t.count, 3);
    drain(&t);
}

static void whoever_is_taken_back_leaves_the_line(void **state)
{
    struct turns t;

    (void)state;
    turns_init(&t, 10);
    add_many(&t, 'a', TURNS_NORMAL, 1, 3);
    turns_remove(&t, &letters[1].turn);
    turns_remove(&t, &letters[1].turn);
    turns_remove(&t, &letters[0].turn);
    turns_remove(&t, &letters[2].turn);
    assert_int_equal(next(&t), '-');
    assert_int_equal(add(&t, 'a', TURNS_NORMAL, 1, NULL), 0);
    assert_int_equal(next(&t), 'a');
    drain(&t);
}

static void names_of_any_length(void **state)
{
    struct turns t;
    struct turn turns[2] = { 0 }, *displaced;
    char name[400] = { 0 };

    (void)state;
    turns_init(&t, 10);
    assert_int_equal(turns_add(&t, &turns[0], TURNS_BULK, STR(""), 1, &displaced), 0);
    assert_int_equal(turns_add(&t, &turns[1], TURNS_BULK, (struct str){ name, sizeof name }, 1, &displaced), 0);
    assert_true(turns[0].flow != turns[1].flow);
    drain(&t);
}

static uint64_t take(struct parking *p, uint64_t site)
{
    struct parked who;
    uint64_t sender;
    if (!parking_take(p, site, &who, &sender))
        return 0;
    assert_int_equal(who.route, 100 * who.id);
    assert_int_equal(who.band, who.id % 3);
    assert_int_equal(who.cost, 1 + who.id % 63);
    return who.id;
}

static int park(struct parking *p, uint64_t site, uint64_t sender, uint64_t id)
{
    return parking_add(p, site, sender, &(struct parked){ id, 100 * id, id % 3, (uint8_t)(1 + id % 63) });
}

static void parked_senders_are_called_in_turn(void **state)
{
    struct parking p;

    (void)state;
    parking_init(&p);
    assert_int_equal(take(&p, 7), 0);
    for (unsigned i = 1; i <= 10; i++)
        assert_int_equal(park(&p, 7, i <= 8 ? 1 : 2, i), 0);
    assert_int_equal(park(&p, 8, 1, 11), 0);
    assert_true(parking_has_sender(&p, 7, 2) && !parking_has_sender(&p, 8, 2));
    assert_int_equal(take(&p, 7), 1);
    assert_int_equal(take(&p, 7), 9);
    assert_int_equal(take(&p, 7), 2);
    assert_int_equal(take(&p, 7), 10);                        /* the last of its sender, who goes */
    assert_false(parking_has_sender(&p, 7, 2));
    for (unsigned i = 3; i <= 8; i++)
        assert_int_equal(take(&p, 7), i);
    assert_false(parking_has(&p, 7));
    assert_int_equal(take(&p, 8), 11);
    parking_free(&p);
}

/* Chunks of them, taken and put in between. */
static void many_are_parked(void **state)
{
    struct parking p;
    uint64_t in = 0, out = 0;

    (void)state;
    parking_init(&p);
    for (unsigned round = 0; round < 50; round++) {
        for (unsigned i = 0; i < 2 * round; i++)
            assert_int_equal(park(&p, 7, 1, ++in), 0);
        for (unsigned i = 0; i < round; i++)
            assert_int_equal(take(&p, 7), ++out);
    }
    while (out < in)
        assert_int_equal(take(&p, 7), ++out);
    assert_false(parking_has(&p, 7));
    for (unsigned i = 0; i < 1000; i++)
        assert_int_equal(park(&p, i % 3, i % 7, i), 0);
    parking_forget(&p, 0);
    parking_forget(&p, 99);
    assert_false(parking_has(&p, 0));
    assert_true(parking_has(&p, 1));
    parking_free(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nobody_is_in_line),
        cmocka_unit_test(many_wait_and_each_has_its_turn),
        cmocka_unit_test(large_messages_cost_turns),
        cmocka_unit_test(a_single_message_goes_ahead),
        cmocka_unit_test(to_come_again_and_again_does_not_pay),
        cmocka_unit_test(bands_go_first_and_none_starves),
        cmocka_unit_test(the_newest_of_the_longest_makes_room),
        cmocka_unit_test(whoever_is_taken_back_leaves_the_line),
        cmocka_unit_test(names_of_any_length),
        cmocka_unit_test(parked_senders_are_called_in_turn),
        cmocka_unit_test(many_are_parked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
