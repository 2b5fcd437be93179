/*
 * inbound/certificates: new files are taken without dropping a session, broken ones leave those before in force with one alarm. With
 * real sessions, in the simulated world.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/log.h"
#include "inbound/certificates.h"
#include "run/tls_test_scene.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define SERVER "192.0.2.1:465"
#define SOON   task_deadline_in(60 * NS_PER_S)
#include "inbound/test_scene.h"

#define CONF                                                                                                                                \
    "listen a { address = \"" SERVER "\" tls = implicit }\ncommand_timeout = 2h\ntls_check_interval = 60s\n"                                \
    "tls_certificate a { certificate = \"/a.pem\" key = \"/a.key\" }\n"

static unsigned alarms, loads;

static void count_lines(void *arg, enum log_level level, struct str line)
{
    (void)arg;
    alarms += level == LOG_ERROR && str_find_str(line, STR(" certificates-refused ")) >= 0;
    loads += str_find_str(line, STR(" certificates-loaded ")) >= 0;
}

static void run(task_fn *fn)
{
    alarms = loads = 0;
    scene_conf(CONF, "");
    log_redirect(count_lines, NULL);
    sim_begin(&(struct sim_options){ .seed = 5, .latency_max_ns = NS_PER_MS, .sync_ns = NS_PER_MS });
    assert_int_equal(sim_run(fn, NULL), 0);
    sim_end();
    log_redirect(NULL, NULL);
    conf_set_current(NULL);
}

/* -- a client ---------------------------------------------------------------------------------------------------------------- */

/* A session that trusts only this certificate; NULL when another is shown. */
static struct stream *visit(const struct test_identity *expected)
{
    struct tls_context *context;
    struct stream *s;
    char error[256];

    test_identity_write(expected, "/", "expected.pem", NULL);
    assert_int_equal(tls_client_new(&(struct tls_client_options){ .verify = true, .ca_file = "/expected.pem" }, &context, error), 0);
    s = scene_connect(SERVER, NULL);
    int r = stream_tls_connect(s, context, "mx.here.example", SOON);
    tls_unref(context);
    if (r == 0)
        assert_int_equal(hear(s), 220);
    else
        stream_close(s);
    return r == 0 ? s : NULL;
}

static bool shows(const struct test_identity *expected)
{
    struct stream *s = visit(expected);

    stream_close(s);
    return s != NULL;
}

static bool still_talks(struct stream *s)
{
    return say(s, "NOOP\r\n") == 250;
}

static void put_text(const char *name, const char *text)
{
    BIO *bio = BIO_new_mem_buf(text, -1);

    test_write_bio(bio, "/", name);
}

/* -- tests ------------------------------------------------------------------------------------------------------------------- */

static struct test_identity first, second, third;

static void replaced(void *arg)
{
    char error[256];

    (void)arg;
    test_identity_write(&first, "/", "a.pem", "a.key");
    assert_int_equal(scene_start(error), 0);
    struct stream *old = visit(&first);
    assert_non_null(old);
    assert_false(shows(&second));

    test_identity_write(&second, "/", "a.pem", "a.key");
    (void)task_sleep(61 * NS_PER_S);
    assert_true(shows(&second));
    assert_true(still_talks(old));
    assert_int_equal(loads, 1);

    /* The certificate is there before its key. */
    test_identity_write(&third, "/", "a.pem", NULL);
    (void)task_sleep(200 * NS_PER_S);
    assert_true(shows(&second));
    assert_int_equal(alarms, 1);
    test_identity_write(&third, "/", "a.pem", "a.key");
    (void)task_sleep(61 * NS_PER_S);
    assert_true(shows(&third));
    assert_int_equal(loads, 2);

    put_text("a.pem", "rubbish");
    (void)task_sleep(61 * NS_PER_S);
    put_text("a.key", "more of it");
    (void)task_sleep(200 * NS_PER_S);
    assert_true(shows(&third));
    assert_int_equal(alarms, 2);
    assert_true(still_talks(old));
    (void)task_sleep(3600 * NS_PER_S);
    assert_int_equal(loads, 2);
    assert_int_equal(alarms, 2);
    stream_close(old);
    scene_stop();
}

static void new_files_are_taken(void **state)
{
    (void)state;
    run(replaced);
}

/* SIGHUP waits for no interval, and takes a configuration with other files. */
static void told(void *arg)
{
    char error[256];

    (void)arg;
    test_identity_write(&first, "/", "a.pem", "a.key");
    test_identity_write(&second, "/", "b.pem", "b.key");
    assert_int_equal(scene_start(error), 0);
    (void)task_sleep(NS_PER_S);
    inbound_reload_certificates(inbound);
    (void)task_sleep(NS_PER_S);
    assert_int_equal(loads, 1);
    scene_conf(CONF, "tls_certificate 0 { certificate = \"/b.pem\" key = \"/b.key\" }\ntls_min_protocol = TLSv1.3");
    inbound_reload_certificates(inbound);
    (void)task_sleep(NS_PER_S);
    assert_int_equal(loads, 2);
    assert_true(shows(&first));              /* the first of those that have the name */
    scene_conf(CONF, "tls_certificate 0 { certificate = \"/gone.pem\" key = \"/b.key\" }");
    inbound_reload_certificates(inbound);
    (void)task_sleep(NS_PER_S);
    assert_int_equal(alarms, 1);
    assert_true(shows(&first));
    scene_stop();
}

static void a_reload_takes_them_at_once(void **state)
{
    (void)state;
    run(told);
}

static void broken_at_the_start(void *arg)
{
    char error[256] = "";

    (void)arg;
    put_text("a.pem", "rubbish");
    assert_int_equal(scene_start(error), -EINVAL);
    assert_non_null(strstr(error, "/a.pem: no certificate in it"));
    queue_close(queue);
}

static void a_start_needs_them_whole(void **state)
{
    (void)state;
    run(broken_at_the_start);
}

static int begin(void **state)
{
    (void)state;
    first = test_identity_new("first", "DNS:mx.here.example", false, NULL);
    second = test_identity_new("second", "DNS:mx.here.example", true, NULL);
    third = test_identity_new("third", "DNS:mx.here.example", false, NULL);
    return 0;
}

static int end(void **state)
{
    (void)state;
    test_identity_free(&first);
    test_identity_free(&second);
    test_identity_free(&third);
    return 0;
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(new_files_are_taken),
        cmocka_unit_test(a_reload_takes_them_at_once),
        cmocka_unit_test(a_start_needs_them_whole),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
