/*
 * run/sim: virtual time, helper threads in it, and that a seed says everything.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/clock.h"
#include "run/dns.h"
#include "run/file.h"
#include "run/loop.h"
#include "run/offload.h"
#include "run/sim.h"
#include "run/stream.h"
#include "run/tls.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define YEAR_NS (INT64_C(365) * 86400 * NS_PER_S)

static double real_seconds(void)
{
    struct timespec t;
    assert_int_equal(clock_gettime(CLOCK_MONOTONIC, &t), 0);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* ---- time ---- */

#define SLEEPERS 2000

static unsigned slept;

static void sleep_a_year(void *arg)
{
    int64_t before = clock_mono_ns(), wall = clock_wall_ns();
    (void)arg;
    assert_int_equal(task_sleep(YEAR_NS), 0);
    assert_int_equal(clock_mono_ns() - before, YEAR_NS);
    assert_int_equal(clock_wall_ns() - wall, YEAR_NS);
    slept++;
}

static void start_sleepers(void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < SLEEPERS; i++)
        assert_int_equal(task_start("sleeper", sleep_a_year, NULL), 0);
}

static void thousands_sleep_a_year_in_an_instant(void **state)
{
    double before = real_seconds();
    (void)state;
    slept = 0;
    sim_begin(&(struct sim_options){ .seed = 1 });
    assert_true(sim_active());
    assert_int_equal(clock_wall_ns(), INT64_C(1767225600) * NS_PER_S);
    assert_int_equal(sim_run(start_sleepers, NULL), 0);
    sim_end();
    assert_false(sim_active());
    assert_int_equal(slept, SLEEPERS);
    assert_true(real_seconds() - before < 300);               /* of a year: a bound for the slowest build on the busiest machine */
}

static void wait_for_nothing(void *arg)
{
    *(int *)arg = task_park(TASK_FOREVER);
}

static void waiting_forever_is_a_deadlock(void **state)
{
    int r = 0;
    (void)state;
    sim_begin(&(struct sim_options){ .seed = 1 });
    assert_int_equal(sim_run(wait_for_nothing, &r), -EDEADLK);
    assert_int_equal(r, -ECANCELED);
    sim_end();
}

/* ---- helper threads ---- */

#define SYNC_NS (5 * NS_PER_MS)

struct work {
    struct offload *pool;
    struct task    *waiter;
    int             file;
    unsigned        done;
    int64_t         began_ns, ended_ns, task_ran_ns;
};

static void sync_twice(void *arg)
{
    struct work *w = arg;
    assert_null(task_self());
    w->began_ns = clock_mono_ns();
    assert_int_equal(file_write_at(w->file, "x", 1, 0), 0);
    assert_int_equal(file_datasync(w->file), 0);
    assert_int_equal(file_datasync(w->file), 0);
    w->ended_ns = clock_mono_ns();
    w->done++;
    if (w->waiter != NULL)
        task_wake(w->waiter);
}

static void look_meanwhile(void *arg)
{
    struct work *w = arg;
    assert_int_equal(task_sleep(SYNC_NS), 0);
    w->task_ran_ns = clock_mono_ns();
    assert_int_equal(w->done, 0);                                          /* it is in the middle of its syncs */
}

static void run_work(void *arg)
{
    struct work *w = arg;
    int root = file_open_dir("/");
    w->file = file_open_at(root, "f", FILE_WRITE | FILE_CREATE);
    w->pool = offload_new("work", 1, 10);
    assert_int_equal(task_start("meanwhile", look_meanwhile, w), 0);
    assert_int_equal(offload_run(w->pool, sync_twice, w), 0);
    assert_int_equal(clock_mono_ns(), w->ended_ns);
    assert_int_equal(w->ended_ns - w->began_ns, 2 * SYNC_NS);
    assert_true(w->began_ns < w->task_ran_ns && w->task_ran_ns < w->ended_ns);

    /* A pool of one thread does one job after the other. */
    w->done = 0;
    w->waiter = task_self();
    int64_t before = clock_mono_ns();
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(offload_post(w->pool, sync_twice, w), 0);
    while (w->done < 3)
        assert_int_equal(task_park(TASK_FOREVER), 0);
    assert_true(clock_mono_ns() - before >= 6 * SYNC_NS);

    /* Freeing it waits for what is under way. */
    w->waiter = NULL;
    assert_int_equal(offload_post(w->pool, sync_twice, w), 0);
    offload_free(w->pool);
    assert_int_equal(w->done, 4);
    assert_int_equal(file_close(w->file), 0);
    assert_int_equal(file_close(root), 0);
}

static void syncs_take_time_and_others_go_on(void **state)
{
    struct work w = { 0 };
    (void)state;
    sim_begin(&(struct sim_options){ .seed = 1, .sync_ns = SYNC_NS });
    assert_int_equal(sim_run(run_work, &w), 0);
    sim_end();
}

static void write_during_sync(void *arg)
{
    struct work *w = arg;
    assert_int_equal(task_sleep(SYNC_NS / 2), 0);
    assert_int_equal(file_write_at(w->file, "B", 1, 512), 0);
}

static void sync_once(void *arg)
{
    struct work *w = arg;
    assert_int_equal(file_datasync(w->file), 0);
}

static void run_write_during_sync(void *arg)
{
    struct work *w = arg;
    int root = file_open_dir("/");
    w->file = file_open_at(root, "f", FILE_WRITE | FILE_CREATE);
    w->pool = offload_new("work", 1, 10);
    assert_int_equal(file_allocate(w->file, 1024), 0);
    assert_int_equal(file_sync(w->file), 0);
    assert_int_equal(file_sync(root), 0);
    assert_int_equal(file_write_at(w->file, "A", 1, 0), 0);
    assert_int_equal(task_start("writer", write_during_sync, w), 0);
    assert_int_equal(offload_run(w->pool, sync_once, w), 0);
    offload_free(w->pool);

    char     bytes[1024];
    size_t   n;
    struct sim_disk *d = sim_disk_crash(sim_disk_ops(), 0, NULL);
    sim_disk_mount(d);
    sim_disk_free(d);
    root = file_open_dir("/");
    int f = file_open_at(root, "f", FILE_READ);
    assert_int_equal(file_read_at(f, bytes, sizeof bytes, 0, &n), 0);
    assert_int_equal(bytes[0], 'A');
    assert_int_equal(bytes[512], 0);
}

static void a_sync_covers_what_was_written_before_it_began(void **state)
{
    struct work w = { 0 };
    (void)state;
    sim_begin(&(struct sim_options){ .seed = 1, .sync_ns = SYNC_NS });
    assert_int_equal(sim_run(run_write_during_sync, &w), 0);
    sim_end();
}

/* ---- the same again ---- */

#define CLIENTS 20

static struct net_addr at;

static void serve_one(void *arg)
{
    struct stream *s = arg;
    uint8_t random;
    while (stream_fill(s, TASK_FOREVER) > 0) {
        clock_random(&random, 1);
        assert_int_equal(task_sleep(random * NS_PER_US), 0);
        if (stream_put(s, stream_pending(s)) < 0 || stream_flush(s, task_deadline_in(NS_PER_S)) < 0)
            break;
        stream_consume(s, stream_pending(s).n);
    }
    stream_close(s);
}

static void one_client(void *arg)
{
    struct stream *s;
    struct arena arena;
    struct dns_answer answer;
    char bytes[5000] = { 0 };
    size_t got = 0;
    (void)arg;
    arena_init(&arena, 100000);
    assert_int_equal(dns_query(&arena, STR("MX.Example."), DNS_A, TASK_FOREVER, &answer), 0);
    assert_int_equal(answer.status, DNS_FOUND);
    arena_reset(&arena);
    if (net_connect(&at, NULL, TASK_FOREVER, &s) < 0)
        return;
    size_t n = 1 + sim_random_below(sizeof bytes - 1);
    if (stream_put(s, (struct str){ bytes, n }) == 0 && stream_flush(s, TASK_FOREVER) == 0)
        for (ssize_t r; got < n && (r = stream_fill(s, TASK_FOREVER)) > 0; got += (size_t)r)
            stream_consume(s, (size_t)r);
    stream_close(s);
}

static void server_and_clients(void *arg)
{
    struct net_listener *l;
    struct task_group clients;
    struct stream *s;
    (void)arg;
    assert_true(net_addr_parse(STR("192.0.2.1:25"), 0, &at));
    assert_int_equal(sim_dns_zone("mx.example. 300 IN A 192.0.2.1\n"), 0);
    assert_int_equal(net_listen(&at, false, &l), 0);
    task_group_init(&clients);
    for (unsigned i = 0; i < CLIENTS; i++)
        assert_int_equal(task_group_start(&clients, "client", one_client, NULL), 0);
    while (net_accept(l, task_deadline_in(NS_PER_S), &s, NULL) == 0)
        assert_int_equal(task_start("server", serve_one, s), 0);
    assert_int_equal(task_group_wait(&clients, TASK_FOREVER), 0);
    net_listener_close(l);
    int root = file_open_dir("/");
    int f = file_open_at(root, "f", FILE_WRITE | FILE_CREATE);
    assert_int_equal(file_write_at(f, "x", 1, sim_random_below(10000)), 0);
    assert_int_equal(file_sync(f), 0);
}

static uint64_t story(uint64_t seed, uint64_t *out_steps)
{
    sim_begin(&(struct sim_options){
        .seed = seed,
        .latency_min_ns = NS_PER_MS,
        .latency_max_ns = 20 * NS_PER_MS,
        .split = true,
        .sync_ns = NS_PER_MS,
    });
    assert_int_equal(sim_run(server_and_clients, NULL), 0);
    uint64_t hash = sim_trace_hash();
    *out_steps = sim_step();
    sim_end();
    return hash;
}

static void one_seed_is_one_story(void **state)
{
    uint64_t steps[3];
    (void)state;
    uint64_t first = story(7, &steps[0]), again = story(7, &steps[1]), other = story(8, &steps[2]);
    print_message("seed 7: %016llx after %llu steps\n", (unsigned long long)first, (unsigned long long)steps[0]);
    assert_int_equal(first, again);
    assert_int_equal(steps[0], steps[1]);
    assert_int_not_equal(first, other);
}

/* ---- TLS ---- */

/* Of mx.example, by itself, from November 2026 on; of no use outside this file. */
static const char key_pem[] =
    "-----BEGIN PRIVATE KEY-----\n"
    "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgn7aEwI1pNvGa9m8u\n"
    "8PNgITlU5tvRdjbA0FF21VejvDehRANCAASLeONoPsKUs5r4pEb+DcWYsonW7Hkw\n"
    "eiOE64HAmBMAX5PeTIqwGJAPbwD+MfkNH83saycwCnLurJB4DjEOGXSd\n"
    "-----END PRIVATE KEY-----\n";
static const char cert_pem[] =
    "-----BEGIN CERTIFICATE-----\n"
    "MIIBlzCCAT6gAwIBAgIUdtVrqXNLfTTeSGUfpaKDahmLl2MwCgYIKoZIzj0EAwIw\n"
    "FTETMBEGA1UEAwwKbXguZXhhbXBsZTAgFw0yNjExMjMxNTAzNTNaGA8yMTI2MTAz\n"
    "MDE1MDM1M1owFTETMBEGA1UEAwwKbXguZXhhbXBsZTBZMBMGByqGSM49AgEGCCqG\n"
    "SM49AwEHA0IABIt442g+wpSzmvikRv4NxZiyidbseTB6I4TrgcCYEwBfk95MirAY\n"
    "kA9vAP4x+Q0fzexrJzAKcu6skHgOMQ4ZdJ2jajBoMB0GA1UdDgQWBBRHmpEArlml\n"
    "KDm1ziuw2ih9ZbUiKzAfBgNVHSMEGDAWgBRHmpEArlmlKDm1ziuw2ih9ZbUiKzAP\n"
    "BgNVHRMBAf8EBTADAQH/MBUGA1UdEQQOMAyCCm14LmV4YW1wbGUwCgYIKoZIzj0E\n"
    "AwIDRwAwRAIgQ8rWvoIFdBdirR7/qn9huYr3S78yHXPcNtmLeN4t5HkCID5MXC93\n"
    "ORuY+m/qGutUmvbdf5TFPGR1K3pyMjPGeNec\n"
    "-----END CERTIFICATE-----\n";

static void put_file(const char *name, const char *text)
{
    int root = file_open_dir("/");
    int f = file_open_at(root, name, FILE_WRITE | FILE_CREATE);
    assert_int_equal(file_write_at(f, text, strlen(text), 0), 0);
    assert_int_equal(file_close(f), 0);
    assert_int_equal(file_close(root), 0);
}

static void tls_serve(void *arg)
{
    struct tls_pair pair = { "/cert.pem", "/key.pem" };
    struct tls_context *context;
    struct stream *s;
    char error[256];
    assert_int_equal(tls_server_new(&(struct tls_server_options){ .pairs = &pair, .count = 1 }, &context, error), 0);
    assert_int_equal(net_accept(arg, TASK_FOREVER, &s, NULL), 0);
    if (stream_tls_accept(s, context, TASK_FOREVER) == 0 && stream_fill(s, TASK_FOREVER) > 0) {
        assert_int_equal(stream_put(s, stream_pending(s)), 0);
        (void)stream_shutdown(s, TASK_FOREVER);
    }
    stream_close(s);
    tls_unref(context);
}

static void tls_meet(void *arg)
{
    struct tls_context *context;
    struct net_listener *l;
    struct stream *s;
    char error[256];
    put_file("cert.pem", cert_pem);
    put_file("key.pem", key_pem);
    assert_true(net_addr_parse(STR("192.0.2.1:25"), 0, &at));
    assert_int_equal(net_listen(&at, false, &l), 0);
    assert_int_equal(task_start("server", tls_serve, l), 0);
    assert_int_equal(tls_client_new(&(struct tls_client_options){ .verify = true, .ca_file = "/cert.pem" }, &context, error), 0);
    assert_int_equal(net_connect(&at, NULL, TASK_FOREVER, &s), 0);
    int r = stream_tls_connect(s, context, "mx.example", TASK_FOREVER);
    assert_int_equal(r, *(bool *)arg ? 0 : -EPROTO);
    if (r == 0) {
        assert_int_equal(stream_put(s, STR("hello")), 0);
        assert_int_equal(stream_flush(s, TASK_FOREVER), 0);
        assert_int_equal(stream_fill(s, TASK_FOREVER), 5);
        assert_true(str_eq(stream_pending(s), STR("hello")));
    }
    stream_close(s);
    tls_unref(context);
    assert_int_equal(task_sleep(NS_PER_S), 0);
    net_listener_close(l);
}

static uint64_t tls_story(bool valid)
{
    int64_t wall_ns = valid ? INT64_C(1800000000) * NS_PER_S : 0;          /* 2027; else the world's first day, before the certificate's */
    sim_begin(&(struct sim_options){ .seed = 9, .start_wall_ns = wall_ns, .latency_max_ns = 9 * NS_PER_MS, .split = true });
    assert_int_equal(sim_run(tls_meet, &valid), 0);
    uint64_t hash = sim_trace_hash();
    sim_end();
    return hash;
}

static void tls_is_of_the_seed_and_of_the_virtual_date(void **state)
{
    (void)state;
    (void)tls_story(false);
    uint64_t first = tls_story(true), again = tls_story(true);
    print_message("seed 9: %016llx\n", (unsigned long long)first);
    assert_int_equal(first, again);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(thousands_sleep_a_year_in_an_instant),
        cmocka_unit_test(waiting_forever_is_a_deadlock),
        cmocka_unit_test(syncs_take_time_and_others_go_on),
        cmocka_unit_test(a_sync_covers_what_was_written_before_it_began),
        cmocka_unit_test(one_seed_is_one_story),
        cmocka_unit_test(tls_is_of_the_seed_and_of_the_virtual_date),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
