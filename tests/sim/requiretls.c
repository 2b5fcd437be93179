/*
 * REQUIRETLS (RFC 8689) through three whole servers: from a.example by b.example, its relay host, to c.example. What is missing on the last
 * way is different in each play; the message arrives under TLS all the way, or comes back as its header, and is never seen in the clear.
 *
 *     requiretls [-v]
 */
#include "base/log.h"
#include "run/tls_test_scene.h"
#include "servers.h"

#define SECRET "Subject: secret\r\n\r\nfor your eyes only\r\n"
#define ZONE                                                                                                                               \
    "a.example. 300 IN MX 10 mx.a.example.\nmx.a.example. 300 IN A 192.0.2.1\n"                                                            \
    "b.example. 300 IN MX 10 mx.b.example.\nmx.b.example. 300 IN A 192.0.2.2\n"                                                            \
    "c.example. 300 IN MX 10 mx.c.example.\nmx.c.example. 300 IN A 192.0.2.3\n"
#define BETTER "c.example. 300 IN MX 5 off.c.example.\noff.c.example. 300 IN A 192.0.2.4\n"

static const struct play {
    const char *name;
    bool plain;            /* asked for nothing */
    bool unsigned_mx;      /* no DNSSEC for c.example */
    bool no_tls, no_promise, another_name; /* c.example's server */
    bool better;           /* another, which offers no TLS, stands before it */
    bool home_in_clear;    /* a.example's server has no TLS: the way of the bounce */
    const char *status;    /* of the bounce; NULL: it arrives */
    unsigned promises;     /* REQUIRETLS was said so often */
} plays[] = {
    { "all the way",           .promises = 2 },
    { "the second server can", .better = true, .promises = 2 },
    { "no DNSSEC",             .unsigned_mx = true,  .status = "5.7.30", .promises = 2 },
    { "no TLS",                .no_tls = true,       .status = "5.7.10", .promises = 2 },
    { "no REQUIRETLS",         .no_promise = true,   .status = "5.7.30", .promises = 2 },
    { "another's certificate", .another_name = true, .status = "5.7.10", .promises = 2 },
    { "a bounce in the clear", .no_tls = true, .home_in_clear = true, .status = "5.7.10", .promises = 1 },
    { "nothing asked for",     .plain = true, .no_tls = true },
};

static struct world {
    const struct play *p;
    struct server a, b, c;
    struct fake off;
    struct test_identity ca, identity, other;
    unsigned promises, leaks;
    bool verbose;
    const char *failed;
} w;

static void watch_log(void *arg, enum log_level level, struct str line)
{
    (void)arg, (void)level;
    if (w.verbose)
        printf("  %.*s\n", (int)line.n, line.p);
    w.promises += str_find_str(line, STR("we_say=\"MAIL FROM:")) >= 0 && str_find_str(line, STR(" REQUIRETLS")) >= 0;
}

static unsigned in_mailbox(const char *path, const char *words, struct buf *out)
{
    struct scene_names files;
    unsigned count = scene_list(path, &files);
    if (count != 1)
        return 0;
    scene_read(path, files.names[0], out);
    bool has = str_find_str(buf_str(out), str_of(words)) >= 0;
    return has ? 1 : 0;
}

static void check_arrived(void)
{
    struct buf text = { 0 };
    if (in_mailbox("c/mail/c.example/u0/new", "for your eyes only", &text) != 1)
        w.failed = "it did not arrive";
    else if (!w.p->plain && str_find_str(buf_str(&text), STR("by mx.c.example with ESMTPS ")) < 0)
        w.failed = "it arrived in the clear";
    buf_free(&text);
}

static void check_bounced(void)
{
    struct buf text = { 0 };
    char status[64];
    snprintf(status, sizeof status, "\nStatus: %s\n", w.p->status);
    if (scene_list("c/mail/c.example/u0/new", NULL) > 0 || w.off.mail_count > 0)
        w.failed = "it arrived";
    else if (in_mailbox("a/mail/a.example/u0/new", status, &text) != 1)
        w.failed = "it did not come back so";
    else if (str_find_str(buf_str(&text), STR("for your eyes only")) >= 0)
        w.failed = "its text came back";
    else if (str_find_str(buf_str(&text), STR("Subject: secret")) < 0)
        w.failed = "its header did not come back";
    buf_free(&text);
}

static void configure(void)
{
    const struct play *p = w.p;
    server_init(&w.a, "mx.a.example", "a", "a.example", "192.0.2.1");
    server_init(&w.b, "mx.b.example", "b", "b.example", "192.0.2.2");
    server_init(&w.c, "mx.c.example", "c", "c.example", "192.0.2.3");
    scene_user(w.a.conf, "u0");
    scene_user(w.c.conf, "u0");
    scene_trust(w.b.conf, "192.0.2.1/32");
    w.a.conf->relay_host = "mx.b.example";
    w.a.conf->relay_host_tls = w.a.conf->outbound_tls = w.b.conf->outbound_tls = CONF_CLIENT_TLS_MAY;
    w.a.conf->outbound_tls_ca_file = w.b.conf->outbound_tls_ca_file = "/ca.pem";
    if (!p->home_in_clear)
        scene_certificate(w.a.conf, "/world.pem", "/world.key");
    scene_certificate(w.b.conf, "/world.pem", "/world.key");
    if (!p->no_tls)
        scene_certificate(w.c.conf, p->another_name ? "/other.pem" : "/world.pem", p->another_name ? "/other.key" : "/world.key");
    if (p->no_promise)
        w.c.conf->listeners[0].terms.extensions_off = UINT32_C(1) << CONF_REQUIRETLS;
    sim_dns_secure("a.example");
    if (!p->unsigned_mx)
        sim_dns_secure("c.example");
}

static void play_task(void *arg)
{
    (void)arg;
    test_identity_write(&w.ca, "/", "ca.pem", NULL);
    test_identity_write(&w.identity, "/", "world.pem", "world.key");
    test_identity_write(&w.other, "/", "other.pem", "other.key");
    if (w.p->better)
        fake_begin(&w.off, "192.0.2.4:25");
    if (server_start(&w.a) < 0 || server_start(&w.b) < 0 || server_start(&w.c) < 0) {
        w.failed = "a server did not start";
        return;
    }
    (void)scene_put(w.a.queue, &(struct scene_message){ "u0@a.example", "u0@c.example", STR(SECRET), .requiretls = !w.p->plain });
    int64_t deadline = task_deadline_in(600 * NS_PER_S);
    while (queue_count(w.a.queue) + queue_count(w.b.queue) + queue_count(w.c.queue) > 0 && clock_mono_ns() < deadline)
        (void)task_sleep(NS_PER_S);
    if (clock_mono_ns() >= deadline)
        w.failed = "it is still on its way";
    server_stop(&w.a);
    server_stop(&w.b);
    server_stop(&w.c);
    if (w.p->better)
        fake_end(&w.off);
    if (w.failed == NULL && w.p->status == NULL)
        check_arrived();
    else if (w.failed == NULL)
        check_bounced();
}

static bool play(const struct play *p, bool verbose)
{
    w = (struct world){ .p = p, .verbose = verbose };
    sim_begin(&(struct sim_options){ .seed = 3, .latency_min_ns = NS_PER_MS, .latency_max_ns = 20 * NS_PER_MS });
    w.ca = test_identity_new("Test CA", NULL, false, NULL);
    w.identity = test_identity_new("world", "DNS:mx.a.example,DNS:mx.b.example,DNS:mx.c.example", false, &w.ca);
    w.other = test_identity_new("other", "DNS:other.example", false, &w.ca);
    (void)sim_dns_zone(p->better ? ZONE BETTER : ZONE);
    configure();
    if (sim_run(play_task, NULL) < 0)
        w.failed = "the world stands still";
    if (w.failed == NULL && w.promises != p->promises)
        w.failed = "REQUIRETLS was said too often or not often enough";
    server_free(&w.a);
    server_free(&w.b);
    server_free(&w.c);
    test_identity_free(&w.ca);
    test_identity_free(&w.identity);
    test_identity_free(&w.other);
    conf_replace_current(NULL);
    fake_forget(&w.off);
    sim_end();
    if (w.failed != NULL)
        printf("requiretls: %s: %s (said %u times)\n", p->name, w.failed, w.promises);
    return w.failed == NULL;
}

int main(int argc, char **argv)
{
    size_t count = sizeof plays / sizeof plays[0], failed = 0;
    bool verbose = argc > 1 && strcmp(argv[1], "-v") == 0;
    setvbuf(stdout, NULL, _IOLBF, 0);
    log_level_set(LOG_DEBUG);
    log_redirect(watch_log, NULL);
    for (size_t i = 0; i < count; i++)
        failed += !play(&plays[i], verbose);
    printf("requiretls: %zu plays, %zu failed\n", count, failed);
    return failed > 0;
}
