/*
 * outbound/schedule: sites in turn, one probe to the dead, room and who is parked, calls; limits of all; site_key beside it.
 */
#include "outbound/schedule.h"
#include "base/clock.h"
#include "outbound/site_key.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define S NS_PER_S

struct scene {
    struct arena         arena;
    struct refusals      table;
    struct schedule     *s;
    struct schedule_item items[3000];
    size_t               used;
    int64_t              now;
};

static const struct schedule_settings small = {
    .sites_max = 4, .site_messages_max = 10, .messages_max = 1000, .inside_max = 1000, .pace = { .connections_max = 5 },
};
static const struct schedule_result taken = { .kind = SCHEDULE_TAKEN }, unreached = { .kind = SCHEDULE_UNREACHED };

static struct scene *begin(const struct schedule_settings *settings)
{
    struct scene *w = calloc(1, sizeof *w);
    struct buf error;

    assert_non_null(w);
    arena_init(&w->arena, 1 << 20);
    refusals_init(&w->table, &w->arena);
    buf_init(&error, 1000);
    assert_int_equal(refusals_load(&w->table, "t", STR("greylist 450 * wait=5m grey\nrate 4** * in %\nconnections 421 *"), &error), 0);
    buf_free(&error);
    w->s = schedule_new(settings, &w->table);
    assert_non_null(w->s);
    w->now = 1000 * S;
    return w;
}

static void end(struct scene *w)
{
    schedule_free(w->s);
    arena_reset(&w->arena);
    free(w);
}

static struct schedule_parked offer(struct scene *w, const char *site, const char *sender)
{
    struct schedule_offer o = { .site = str_of(site), .sender = str_of(sender), .band = TURNS_NORMAL, .cost = 1 };
    struct schedule_parked parked;

    assert_int_equal(schedule_offer(w->s, &o, &w->items[w->used++], w->now, &parked), 0);
    return parked;
}

static struct schedule_item *next(struct scene *w)
{
    int64_t again;
    return schedule_next(w->s, w->now, &again);
}

static void finish(struct scene *w, struct schedule_item *item, const struct schedule_result *result)
{
    (void)schedule_end(w->s, item, result, w->now);
}

/* It answers well, a few times. */
static void prove(struct scene *w, const char *site)
{
    for (int i = 0; i < 10; i++) {
        assert_null(offer(w, site, "x").item);
        finish(w, next(w), &taken);
    }
}

static void nothing_to_do(void **state)
{
    struct scene *w = begin(&small);
    struct schedule_parked parked;
    struct schedule_call call;
    int64_t again = 0;

    (void)state;
    assert_null(schedule_next(w->s, w->now, &again));
    assert_int_equal(again, PACE_NEVER);
    assert_false(schedule_shed(w->s, w->now, &parked));
    assert_false(schedule_calls(w->s, &call));
    schedule_answered(w->s, 17, true);
    schedule_remove(w->s, &w->items[0], w->now);
    assert_int_equal(schedule_number(w->s, STR("a")), 0);
    end(w);
    schedule_free(NULL);
}

static void one_goes_ahead_and_sites_take_turns(void **state)
{
    struct scene *w = begin(&small);

    (void)state;
    prove(w, "a");
    prove(w, "b");
    size_t first = w->used;
    for (int i = 0; i < 4; i++) {
        (void)offer(w, "a", "x");
        (void)offer(w, "b", "x");
    }
    (void)offer(w, "c", "x");
    (void)offer(w, "c", "x");
    unsigned at_c = 0, at_a = 0;
    for (int i = 0; i < 5; i++) {                             /* five of nine: each site has had one at least, and c one at most */
        struct schedule_item *item = next(w);
        at_c += item == &w->items[first + 8] || item == &w->items[first + 9];
        at_a += item == &w->items[first] || item == &w->items[first + 2] || item == &w->items[first + 4];
        finish(w, item, &(struct schedule_result){ .kind = SCHEDULE_NOT_TRIED });
    }
    assert_in_range(at_c, 1, 2);
    assert_in_range(at_a, 1, 3);
    end(w);
}

static void a_dead_site_gets_one_probe(void **state)
{
    struct scene *w = begin(&small);
    struct schedule_parked parked;
    struct schedule_call call;
    int64_t again;
    unsigned shed = 0;

    (void)state;
    for (int i = 0; i < 10; i++)
        assert_null(offer(w, "a", "x").item);
    struct schedule_item *probe = next(w);
    assert_non_null(probe);
    assert_null(next(w));
    finish(w, probe, &unreached);
    while (schedule_shed(w->s, w->now, &parked))
        shed++;
    assert_int_equal(shed, 8);                                /* one is left, to be the next probe */
    assert_int_equal(schedule_count(w->s), 1);
    assert_non_null(offer(w, "a", "y").item);
    assert_null(schedule_next(w->s, w->now, &again));
    assert_int_equal(again, w->now + 30 * S);
    w->now = again;
    finish(w, next(w), &unreached);
    assert_true(schedule_calls(w->s, &call));                 /* for the one after */
    assert_int_equal(call.count, 1);
    assert_null(offer(w, "a", "x").item);
    schedule_answered(w->s, call.site, true);
    assert_null(schedule_next(w->s, w->now, &again));
    assert_int_equal(again, w->now + 60 * S);
    w->now = again;
    finish(w, next(w), &taken);
    assert_true(schedule_calls(w->s, &call));                 /* it is back: all of them */
    assert_int_equal(call.count, 10);
    assert_int_equal(call.site, schedule_number(w->s, STR("a")));
    end(w);
}

static void room_is_limited_and_a_newcomer_has_some(void **state)
{
    struct scene *w = begin(&small);
    struct schedule_parked parked;

    (void)state;
    for (int i = 0; i < 10; i++)
        assert_null(offer(w, "a", "bulk").item);
    parked = offer(w, "a", "bulk");
    assert_ptr_equal(parked.item, &w->items[10]);
    assert_true(parked.until_ns > w->now + 900 * S && parked.until_ns <= w->now + 1800 * S);
    parked = offer(w, "a", "reset");
    assert_ptr_equal(parked.item, &w->items[9]);
    assert_null(w->items[9].site);
    assert_ptr_equal(next(w), &w->items[0]);                  /* its first turn was not over; the newcomer is next behind it */
    assert_int_equal(schedule_count(w->s), 9);
    finish(w, &w->items[0], &taken);
    end(w);
}

static void whoever_has_others_parked_goes_behind_them(void **state)
{
    struct scene *w = begin(&small);
    struct schedule_offer o = { .site = STR("a"), .sender = STR("bulk"), .behind = true };
    struct schedule_parked parked;
    struct schedule_call call;

    (void)state;
    assert_int_equal(schedule_offer(w->s, &o, &w->items[0], w->now, &parked), 0);
    assert_ptr_equal(parked.item, &w->items[0]);
    assert_true(schedule_calls(w->s, &call));                 /* and if nobody had called them, that does */
    assert_int_equal(call.site, parked.site);
    schedule_answered(w->s, call.site, false);
    assert_false(schedule_calls(w->s, &call));
    end(w);
}

static void many_sites_have_little_room_each(void **state)
{
    static const struct schedule_settings crowded = {
        .sites_max = 2000, .site_messages_max = 100, .messages_max = 400, .inside_max = 1000, .pace = { .connections_max = 5 },
    };
    struct scene *w = begin(&crowded);
    char site[20];

    (void)state;
    for (int i = 0; i < 3000; i++) {
        (void)snprintf(site, sizeof site, "s%d", i % 3 == 0 ? 0 : i % 300);
        (void)offer(w, site, "x");
    }
    assert_in_range(schedule_count(w->s), 400, 400 + 4 * 201);
    end(w);
}

static void the_oldest_quiet_site_is_forgotten_for_a_new_one(void **state)
{
    struct scene *w = begin(&small);
    struct schedule_parked parked;

    (void)state;
    for (int i = 0; i < 5; i++) {
        prove(w, &"a\0b\0c\0d\0e"[2 * i]);
        w->now += S;
    }
    assert_int_equal(schedule_sites(w->s), 4);
    assert_null(schedule_pace(w->s, STR("a")));
    assert_non_null(schedule_pace(w->s, STR("e")));
    for (int i = 1; i < 5; i++)
        assert_null(offer(w, &"a\0b\0c\0d\0e"[2 * i], "x").item);
    parked = offer(w, "f", "x");                              /* all are busy */
    assert_non_null(parked.item);
    assert_int_equal(parked.site, 0);
    assert_true(parked.until_ns <= w->now + 61 * S);
    end(w);
}

static void quiet_sites_are_forgotten_in_time(void **state)
{
    struct scene *w = begin(&small);

    (void)state;
    prove(w, "a");
    w->now += 3600 * S;
    assert_null(next(w));
    assert_int_equal(schedule_sites(w->s), 0);
    end(w);
}

static void what_it_means_for_the_message(void **state)
{
    struct scene *w = begin(&small);
    const struct schedule_result grey = { SCHEDULE_REFUSED, 450, STR(""), STR("grey") };
    const struct schedule_result slow = { SCHEDULE_REFUSED, 450, STR(""), STR("in 90 s") };
    const struct schedule_result many = { SCHEDULE_REFUSED, 421, STR(""), STR("") }, no = { SCHEDULE_REFUSED, 550, STR(""), STR("") };

    (void)state;
    for (int i = 0; i < 4; i++)
        (void)offer(w, "a", "x");
    assert_int_equal(schedule_end(w->s, next(w), &grey, w->now), w->now + 300 * S);
    assert_int_equal(schedule_end(w->s, next(w), &no, w->now), 0);
    assert_int_equal(schedule_pace(w->s, STR("a"))->rest_until_ns, 0);
    assert_int_equal(schedule_end(w->s, next(w), &slow, w->now), w->now + 90 * S);
    assert_null(next(w));
    w->now += 90 * S;
    assert_int_equal(schedule_end(w->s, next(w), &many, w->now), 0);
    end(w);
}

static void taken_back_by_an_operator(void **state)
{
    struct scene *w = begin(&small);

    (void)state;
    (void)offer(w, "a", "x");
    schedule_remove(w->s, &w->items[0], w->now);
    assert_int_equal(schedule_count(w->s), 0);
    assert_null(next(w));
    (void)offer(w, "a", "x");
    assert_non_null(next(w));
    schedule_remove(w->s, &w->items[1], w->now);              /* too late: it is being tried */
    finish(w, &w->items[1], &taken);
    end(w);
}

/* -- the key ---------------------------------------------------------------------------------------------------------------- */

static void key(char out[SITE_KEY_LEN_MAX], const struct str *hosts, size_t count)
{
    struct buf b;
    buf_init_fixed(&b, out, SITE_KEY_LEN_MAX - 1);
    site_key_put(&b, STR("192.0.2.1"), NULL, hosts, count);
    assert_true(buf_ok(&b));
    out[b.n] = '\0';
}

static void a_key_is_of_the_set(void **state)
{
    const struct str set[] = { STR("mx1.b.example"), STR("mx2.b.example") };
    const struct str same[] = { STR("MX2.b.Example."), STR("mx1.b.example"), STR("mx1.B.example") };
    const struct str other[] = { STR("mx1.b.example"), STR("mx3.b.example") }, glued[] = { STR("mx1.b.examplemx2.b.example") };
    char a[SITE_KEY_LEN_MAX], b[SITE_KEY_LEN_MAX];
    struct str many[200];
    char names[200][300];

    (void)state;
    key(a, set, 2);
    key(b, same, 3);
    assert_string_equal(a, b);
    assert_true(str_starts(str_of(a), STR("192.0.2.1 mx:mx1.b.example+1:")));
    key(b, other, 2);
    assert_string_not_equal(a, b);
    key(b, glued, 1);
    assert_string_not_equal(a, b);
    for (int i = 0; i < 200; i++) {
        int n = snprintf(names[i], sizeof names[i], "%0299d", i);
        many[i] = (struct str){ names[i], (size_t)n };
    }
    key(a, many, 200);
    const struct str empty = STR("");
    key(a, &empty, 1);
}

static void a_known_provider_is_the_key(void **state)
{
    struct refusal_provider google = { .name = STR("google") };
    const struct str host = STR("aspmx.l.google.com");
    char text[SITE_KEY_LEN_MAX];
    struct buf b;

    (void)state;
    buf_init_fixed(&b, text, sizeof text);
    site_key_put(&b, STR("2001:db8::1"), &google, &host, 1);
    assert_true(str_eq(buf_str(&b), STR("2001:db8::1 provider:google")));
}

/* Of what may be under way in all, those that nobody knows good of have half. */
static void many_dead_sites_leave_room(void **state)
{
    static const struct schedule_settings few = {
        .sites_max = 100, .site_messages_max = 10, .messages_max = 1000, .inside_max = 10, .pace = { .connections_max = 20 },
    };
    struct scene *w = begin(&few);
    struct schedule_item *inside[20];
    char site[20];
    size_t n = 0;

    (void)state;
    prove(w, "good");
    for (unsigned i = 0; i < 20; i++) {
        (void)snprintf(site, sizeof site, "s%u", i);
        (void)offer(w, site, "x");
    }
    while ((inside[n] = next(w)) != NULL)
        n++;
    assert_int_equal(n, 5);
    (void)offer(w, "good", "x");
    inside[n] = next(w);
    assert_non_null(inside[n]);
    finish(w, inside[n], &taken);
    finish(w, inside[--n], &unreached);
    inside[n] = next(w);                                      /* another one has its place */
    assert_non_null(inside[n]);
    for (n++; n > 0 && inside[n - 1] != NULL; n--)
        finish(w, inside[n - 1], &taken);
    while ((inside[0] = next(w)) != NULL)
        finish(w, inside[0], &taken);
    end(w);
}

/* And no site has more than is left beside it. */
static void a_slow_site_leaves_room(void **state)
{
    static const struct schedule_settings few = {
        .sites_max = 100, .site_messages_max = 100, .messages_max = 1000, .inside_max = 10, .pace = { .connections_max = 20 },
    };
    struct scene *w = begin(&few);
    struct schedule_item *inside[40];
    size_t n = 0;

    (void)state;
    prove(w, "slow");
    prove(w, "good");
    for (unsigned i = 0; i < 20; i++)
        (void)offer(w, "slow", "x");
    while ((inside[n] = next(w)) != NULL)
        n++;
    assert_true(n >= 4 && n <= 5);
    for (unsigned i = 0; i < 20; i++)
        (void)offer(w, "good", "x");
    inside[n] = next(w);
    assert_non_null(inside[n]);
    for (n++; n > 0; n--)
        finish(w, inside[n - 1], &taken);
    while ((inside[0] = next(w)) != NULL)
        finish(w, inside[0], &taken);
    end(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_to_do),
        cmocka_unit_test(one_goes_ahead_and_sites_take_turns),
        cmocka_unit_test(a_dead_site_gets_one_probe),
        cmocka_unit_test(room_is_limited_and_a_newcomer_has_some),
        cmocka_unit_test(whoever_has_others_parked_goes_behind_them),
        cmocka_unit_test(many_sites_have_little_room_each),
        cmocka_unit_test(the_oldest_quiet_site_is_forgotten_for_a_new_one),
        cmocka_unit_test(quiet_sites_are_forgotten_in_time),
        cmocka_unit_test(what_it_means_for_the_message),
        cmocka_unit_test(taken_back_by_an_operator),
        cmocka_unit_test(many_dead_sites_leave_room),
        cmocka_unit_test(a_slow_site_leaves_room),
        cmocka_unit_test(a_key_is_of_the_set),
        cmocka_unit_test(a_known_provider_is_the_key),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
