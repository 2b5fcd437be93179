/*
 * outbound/retry: delays in turn, jitter within a tenth, one last attempt at the expiry.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "outbound/retry.h"

#define MINUTE (60 * NS_PER_S)
#define START  (1000 * MINUTE)

static int64_t delays[] = { MINUTE, 5 * MINUTE, 60 * MINUTE };
static const struct conf conf = {
    .retry = { .delays_ns = delays, .count = 3 }, .expire_ns = 600 * MINUTE, .bounce_expire_ns = 200 * MINUTE,
};
static const struct envelope letter = { .arrived_ns = START }, bounce = { .arrived_ns = START, .null_sender = true };

static const struct {
    uint32_t attempts;
    int64_t  delay_ns;
} cases[] = {
    { 1, MINUTE }, { 2, 5 * MINUTE }, { 3, 60 * MINUTE }, { 4, 60 * MINUTE }, { 4000000000u, 60 * MINUTE },
};

static void delays_come_in_turn_with_a_tenth_of_jitter(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int64_t least = INT64_MAX, most = 0;
        for (int n = 0; n < 1000; n++) {
            int64_t delay = retry_next(&conf, &letter, STR("b.example"), cases[i].attempts, START) - START;
            least = delay < least ? delay : least;
            most = delay > most ? delay : most;
        }
        assert_true(least >= cases[i].delay_ns * 9 / 10 && most <= cases[i].delay_ns * 11 / 10);
        assert_true(least < cases[i].delay_ns && most > cases[i].delay_ns);
    }
}

static void a_domain_may_have_its_own(void **state)
{
    static int64_t slow[] = { 30 * MINUTE };
    static struct conf_retry its = { .delays_ns = slow, .count = 1 };
    static const struct { const char *domain; int64_t delay_ns; } rows[] = {
        { "slow.example", 30 * MINUTE }, { "a.slow.example", MINUTE },        { "b.below.example", 30 * MINUTE },
        { "below.example", MINUTE },     { "c.b.below.example", 30 * MINUTE }, { "", MINUTE },
    };
    struct conf some = conf;
    (void)state;
    map_str_init(&some.retry_by_domain);
    assert_int_equal(map_str_put(&some.retry_by_domain, STR("slow.example"), &its), 0);
    assert_int_equal(map_str_put(&some.retry_by_domain, STR(".below.example"), &its), 0);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        int64_t delay = retry_next(&some, &letter, str_of(rows[i].domain), 1, START) - START;
        assert_true(delay >= rows[i].delay_ns * 9 / 10 && delay <= rows[i].delay_ns * 11 / 10);
    }
    map_str_free(&some.retry_by_domain);
}

static void the_last_attempt_is_at_the_expiry(void **state)
{
    (void)state;
    int64_t end = START + conf.expire_ns;
    assert_int_equal(retry_next(&conf, &letter, STR("b.example"), 3, end - MINUTE), end);
    assert_false(retry_is_over(&conf, &letter, end - 1));
    assert_true(retry_is_over(&conf, &letter, end));
}

static void bounces_are_given_up_earlier(void **state)
{
    (void)state;
    assert_true(retry_is_over(&conf, &bounce, START + conf.bounce_expire_ns));
    assert_false(retry_is_over(&conf, &letter, START + conf.bounce_expire_ns));
}

static void a_held_message_begins_at_its_release(void **state)
{
    struct envelope held = { .arrived_ns = START, .hold_until_ns = START + 500 * MINUTE };
    struct envelope past = { .arrived_ns = START, .hold_until_ns = START - MINUTE };

    (void)state;
    assert_int_equal(retry_end(&conf, &held), START + 1100 * MINUTE);
    assert_int_equal(retry_end(&conf, &past), START + 600 * MINUTE);
}

static void one_attempt_is_at_the_senders_time(void **state)
{
    struct envelope urgent = { .arrived_ns = START, .deliver_by_ns = START + 2 * MINUTE };

    (void)state;
    assert_int_equal(retry_next(&conf, &urgent, STR("b.example"), 2, START + MINUTE), START + 2 * MINUTE);
    assert_true(retry_next(&conf, &urgent, STR("b.example"), 2, START + 2 * MINUTE) > START + 6 * MINUTE);
    assert_false(retry_is_late(&urgent, START + 2 * MINUTE - 1));
    assert_true(retry_is_late(&urgent, START + 2 * MINUTE));
    assert_false(retry_is_late(&letter, INT64_MAX));
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(delays_come_in_turn_with_a_tenth_of_jitter),
        cmocka_unit_test(a_domain_may_have_its_own), cmocka_unit_test(the_last_attempt_is_at_the_expiry),
        cmocka_unit_test(bounces_are_given_up_earlier),
        cmocka_unit_test(a_held_message_begins_at_its_release),
        cmocka_unit_test(one_attempt_is_at_the_senders_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
