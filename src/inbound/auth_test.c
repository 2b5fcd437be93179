/*
 * Logins in the simulated world: a flood of them, how long failures take, silence and a server's end in the middle of an exchange, and
 * messages of logins that come in chunks.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "run/file.h"
#include "run/keeper.h"
#include <string.h>

#define SERVER "192.0.2.1:587"
#define SOON   task_deadline_in(600 * NS_PER_S)
#include "inbound/test_scene.h"

#define RIGHT  "AUTH PLAIN AGFsaWNlQGhlcmUuZXhhbXBsZQBwZW5jaWw=\r\n"        /* alice@here.example, pencil */
#define WRONG  "AUTH PLAIN AGFsaWNlQGhlcmUuZXhhbXBsZQBQZW5jaWw=\r\n"
#define ALICE  "alice@here.example:$5$rounds=1000$saltsalt$1E80wIeNUk6Tw.cvgykgsGLDhE7YCS/mO7gtCEoKze9\n"

#define CONF                                                                                                                                \
    "accounts_file = /accounts\nlisten a { address = \"" SERVER "\" service = submission auth_allow_cleartext = yes }\n"                     \
    "command_timeout = 20s\n"

static void start(unsigned waiting_max)
{
    struct keeper_options accounts = { .accounts_file = "/accounts", .checks_at_a_time = 1, .checks_waiting_max = waiting_max };
    char error[256];
    CLEANUP_FILE int root = file_open_dir("/");
    CLEANUP_FILE int file = file_open_at(root, "accounts", FILE_WRITE | FILE_CREATE | FILE_TRUNCATE);

    assert_int_equal(file_write_at(file, ALICE, strlen(ALICE), 0), 0);
    if (keeper_start(&accounts, error) < 0 || scene_start(error) < 0)
        fail_msg("%s", error);
}

static void stop(void)
{
    scene_stop();
    keeper_stop();
}

static void run_at(int64_t latency_ns, const char *conf, task_fn *fn)
{
    scene_conf(CONF, conf);
    sim_begin(&(struct sim_options){ .seed = 3, .latency_max_ns = latency_ns, .split = latency_ns > 0, .sync_ns = NS_PER_MS });
    assert_int_equal(sim_run(fn, NULL), 0);
    sim_end();
    conf_set_current(NULL);
}

static void run(const char *conf, task_fn *fn) { run_at(NS_PER_MS, conf, fn); }

static struct stream *greeted(void) { return scene_greeted(SERVER, "198.51.100.1"); }

/* -- tests ------------------------------------------------------------------------------------------------------------------- */

static unsigned said_454, said_535, said_other;

static void guesses(void *arg)
{
    struct stream *s = greeted();

    (void)arg;
    int code = say(s, WRONG);
    said_454 += code == 454;
    said_535 += code == 535;
    said_other += code != 454 && code != 535;
    stream_close(s);
}

static void with_a_flood(void *arg)
{
    (void)arg;
    start(3);
    said_454 = said_535 = said_other = 0;
    for (int i = 0; i < 50; i++)
        assert_int_equal(task_start("guesses", guesses, NULL), 0);
    while (said_454 + said_535 + said_other < 50)
        assert_int_equal(task_sleep(NS_PER_S), 0);
    assert_true(said_454 > 0 && said_535 > 0 && said_other == 0);
    struct stream *s = greeted();                /* and when it is over, all is as before */
    assert_int_equal(say(s, RIGHT), 235);
    stream_close(s);
    stop();
}

static void a_flood_is_told_to_come_later(void **state)
{
    (void)state;
    run_at(0, "", with_a_flood);         /* all at the same instant */
}

/* Two seconds, four, and after the third, six seconds later, it is over. */
static void with_failures(void *arg)
{
    static const struct { int code; int64_t seconds; } steps[] = { { 535, 2 }, { 535, 4 }, { 421, 6 } };

    (void)arg;
    start(100);
    struct stream *s = greeted();
    for (size_t i = 0; i < 3; i++) {
        int64_t began = clock_mono_ns();
        assert_int_equal(say(s, WRONG), steps[i].code);
        assert_int_equal((clock_mono_ns() - began) / NS_PER_S, steps[i].seconds);
    }
    assert_int_equal(hear(s), 0);
    stream_close(s);
    stop();
}

static void failures_take_longer_each_time(void **state)
{
    (void)state;
    run("", with_failures);
}

static void with_silence(void *arg)
{
    (void)arg;
    start(100);
    struct stream *s = greeted();
    assert_int_equal(say(s, "AUTH LOGIN\r\n"), 334);
    int64_t began = clock_mono_ns();
    assert_int_equal(hear(s), 421);
    assert_true(clock_mono_ns() - began > 19 * NS_PER_S && clock_mono_ns() - began < 21 * NS_PER_S);
    stream_close(s);
    s = greeted();
    assert_int_equal(say(s, "AUTH LOGIN\r\n"), 334);
    stream_close(s);                             /* gone in the middle */
    assert_int_equal(task_sleep(NS_PER_S), 0);
    stop();
}

static void silence_in_an_exchange_ends_it(void **state)
{
    (void)state;
    run("", with_silence);
}

static void stops_soon(void *arg)
{
    (void)arg;
    stop();
}

/* One waits for its password's check, one is asked for more, one is being delayed. */
static void with_an_end(void *arg)
{
    (void)arg;
    start(100);
    struct stream *asked = greeted(), *delayed = greeted();
    assert_int_equal(say(asked, "AUTH LOGIN\r\n"), 334);
    assert_int_equal(stream_put(delayed, STR(WRONG)), 0);
    assert_int_equal(stream_flush(delayed, SOON), 0);
    assert_int_equal(task_sleep(NS_PER_S), 0);
    int64_t began = clock_mono_ns();
    assert_int_equal(task_start("stops", stops_soon, NULL), 0);
    assert_int_equal(hear(asked), 421);
    int code = hear(delayed);
    assert_true(code == 535 || code == 421);
    assert_true(clock_mono_ns() - began < NS_PER_S);
    stream_close(asked);
    stream_close(delayed);
}

static void a_stop_waits_for_no_login(void **state)
{
    (void)state;
    run("auth_failure_delay = 1m", with_an_end);
}

/* RFC 3030: the header of a login's message is looked at as a whole, wherever its chunks end. */
static void with_chunks(void *arg)
{
    (void)arg;
    start(100);
    struct stream *s = greeted();
    assert_int_equal(say(s, "BDAT 5\r\nhello"), 530);
    assert_int_equal(say(s, RIGHT), 235);
    assert_int_equal(say(s, "MAIL FROM:<alice@here.example>\r\n"), 250);
    assert_int_equal(say(s, "RCPT TO:<postmaster>\r\n"), 250);
    assert_int_equal(say(s, "BDAT 8\r\nFrom: al"), 250);
    assert_int_equal(say(s, "BDAT 13\r\nice@here.exam"), 250);
    assert_int_equal(say(s, "BDAT 7 LAST\r\nple\r\n\r\n"), 250);
    assert_int_equal(say(s, "MAIL FROM:<alice@here.example>\r\n"), 250);
    assert_int_equal(say(s, "RCPT TO:<postmaster>\r\n"), 250);
    assert_int_equal(say(s, "BDAT 10\r\nFrom: bob@"), 250);
    assert_int_equal(say(s, "BDAT 20\r\nhere.example\r\n\r\ntext"), 550);
    assert_int_equal(say(s, "BDAT 4\r\nmore"), 550);
    assert_int_equal(say(s, "BDAT 0 LAST\r\n"), 550);
    assert_int_equal(queue_count(queue), 1);
    stream_close(s);
    stop();
}

static void chunks_of_a_login(void **state)
{
    (void)state;
    run("", with_chunks);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_flood_is_told_to_come_later),  cmocka_unit_test(failures_take_longer_each_time),
        cmocka_unit_test(silence_in_an_exchange_ends_it), cmocka_unit_test(a_stop_waits_for_no_login),
        cmocka_unit_test(chunks_of_a_login),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
