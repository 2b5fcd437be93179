/*
 * outbound/ as a whole: a queue, the scheduler, deliveries, sites and bounces, with servers made to order, in virtual time.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/codec.h"
#include "base/log.h"
#include "base/metrics.h"
#include "outbound/outbound.h"
#include "outbound/test_scene.h"

#define MESSAGE "Subject: hello\r\n\r\nOne line.\r\n"
#define DAY     (86400 * NS_PER_S)
#define FAKES   3

static const char zone[] = "a.example. 300 IN MX 10 mx.a.example.\n"
                           "mx.a.example. 300 IN A 192.0.2.1\n"
                           "b.example. 300 IN MX 10 mx.b.example.\n"
                           "mx.b.example. 300 IN A 192.0.2.2\n"
                           "c.example. 300 IN MX 10 mx.c.example.\n"
                           "mx.c.example. 300 IN A 192.0.2.3\n"
                           "two.example. 300 IN MX 10 mx.a.example.\n"
                           "two.example. 300 IN MX 20 mx.b.example.\n"
                           "*.wide.example. 300 IN MX 10 mx.a.example.\n"
                           "*.mute.example. 300 IN MX 10 mx.b.example.\n"
                           "six.example. 300 IN MX 10 mx.six.example.\n"
                           "mx.six.example. 300 IN AAAA 2001:db8::6\n"
                           "mx.six.example. 300 IN A 192.0.2.1\n"
                           "*.dead2.example. 300 IN MX 10 mx.dead.example.\n"
                           "dead.example. 300 IN MX 10 mx.dead.example.\n"
                           "mx.dead.example. 300 IN A 192.0.2.99\n";

/* The server us.example, whose users are ann and bob, and three others at 192.0.2.1, .2, .3: fakes[0] takes a.example's mail, and so on. */
static struct world {
    struct conf *conf;
    struct queue *q;
    struct outbound *out;
    struct fake fakes[FAKES];
    unsigned connects; /* tried, by anybody */
} w;

static bool count_connect(void *arg, const struct net_addr *from, const struct net_addr *to)
{
    (void)arg, (void)from, (void)to;
    w.connects++;
    return false;
}

static void configure(void)
{
    w.conf = scene_conf("us.example", "us");
    scene_local_domain(w.conf, "us.example");
    scene_user(w.conf, "ann");
    scene_user(w.conf, "bob");
    conf_set_current(w.conf);
}

static void begin(void)
{
    static const char *const addresses[FAKES] = { "192.0.2.1:25", "192.0.2.2:25", "192.0.2.3:25" };
    assert_int_equal(sim_dns_zone(zone), 0);
    sim_net_refuse(count_connect, NULL);
    configure();
    w.q = scene_queue(w.conf);
    for (unsigned i = 0; i < FAKES; i++)
        fake_begin(&w.fakes[i], addresses[i]);
}

static void start(void)
{
    assert_int_equal(outbound_start(w.q, &w.out), 0);
}

static void stop(int64_t grace_ns)
{
    outbound_stop(w.out, task_deadline_in(grace_ns));
    w.out = NULL;
}

/* As a process that ends and another that begins. */
static void start_again(void)
{
    queue_close(w.q);
    w.q = scene_queue(w.conf);
    start();
}

static void end(void)
{
    if (w.out != NULL)
        stop(NS_PER_S);
    for (unsigned i = 0; i < FAKES; i++)
        fake_end(&w.fakes[i]);
    queue_close(w.q);
    conf_set_current(NULL);
}

static void put(const char *sender, const char *rcpts)
{
    (void)scene_put(w.q, &(struct scene_message){ sender, rcpts, STR(MESSAGE) });
}

/* Awaits an empty queue. The time it took. */
static int64_t drain(int64_t at_most_ns)
{
    int64_t began = clock_mono_ns(), deadline = task_deadline_in(at_most_ns);
    while (queue_count(w.q) > 0 && clock_mono_ns() < deadline)
        (void)task_sleep(at_most_ns < DAY ? 10 * NS_PER_MS : 5 * NS_PER_S);
    assert_int_equal(queue_count(w.q), 0);
    return clock_mono_ns() - began;
}

static unsigned mails_of(const char *user)
{
    char path[128];
    snprintf(path, sizeof path, "us/mail/us.example/%s/new", user);
    return scene_list(path, NULL);
}

/* The only file in ann's mailbox holds the words. */
static void check_bounce(const char *words)
{
    struct scene_names names;
    struct buf text;
    assert_int_equal(scene_list("us/mail/us.example/ann/new", &names), 1);
    scene_read("us/mail/us.example/ann/new", names.names[0], &text);
    if (str_find_str(buf_str(&text), str_of(words)) < 0)
        print_error("not in the bounce: %s\n%.*s\n", words, (int)text.n, text.p);
    assert_true(str_find_str(buf_str(&text), str_of(words)) >= 0);
    assert_true(str_starts(buf_str(&text), STR("Return-Path: <>\n")));
    buf_free(&text);
}

static void check_not_in_bounce(const char *words)
{
    struct scene_names names;
    struct buf text;
    assert_int_equal(scene_list("us/mail/us.example/ann/new", &names), 1);
    scene_read("us/mail/us.example/ann/new", names.names[0], &text);
    assert_true(str_find_str(buf_str(&text), str_of(words)) < 0);
    buf_free(&text);
}

/* -- partial success ---------------------------------------------------------------------------------------------------------------- */

static void many_domains(void *arg)
{
    (void)arg;
    begin();
    w.fakes[2].words[AT_CONNECT] = FAKE_CUT; /* c.example is ill for now */
    start();
    put("ann@us.example",
        "x@a.example,y@a.example,550.no@a.example,z@b.example,450.later@b.example,c@c.example,bob@us.example,nobody@absent.example");
    (void)task_sleep(30 * NS_PER_S);
    assert_int_equal(w.fakes[0].mail_count, 1);
    assert_string_equal(w.fakes[0].mails[0].rcpts, "<x@a.example>,<y@a.example>");
    assert_int_equal(fake_count(&w.fakes[1], "z@b.example"), 1);
    assert_int_equal(mails_of("bob"), 1);
    check_bounce("<550.no@a.example>");
    check_bounce("<nobody@absent.example>"); /* one DSN for both */
    assert_int_equal(queue_count(w.q), 1);

    w.fakes[2].words[AT_CONNECT] = NULL;
    w.fakes[1].words[AT_RCPT] = "250 2.1.5 now\r\n";
    int64_t took = drain(2 * 60 * NS_PER_S);
    assert_true(took > 20 * NS_PER_S);
    assert_int_equal(fake_count(&w.fakes[1], "450.later@b.example"), 1);
    assert_int_equal(fake_count(&w.fakes[2], "c@c.example"), 1);
    assert_int_equal(fake_count(&w.fakes[1], "z@b.example"), 1); /* nobody twice */
    assert_int_equal(w.fakes[0].mail_count, 1);
    assert_int_equal(mails_of("bob"), 1);
    assert_int_equal(mails_of("ann"), 1);
    end();
}

static void put_at_each(struct buf *rcpts, const char *domain, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        buf_printf(rcpts, "%su@d%u.%s", rcpts->n > 0 ? "," : "", i, domain);
}

/* As many as one message may have. */
static void a_thousand_routes(void *arg)
{
    (void)arg;
    struct buf rcpts;
    char path[64];
    buf_init(&rcpts, 1 << 16);
    put_at_each(&rcpts, "wide.example", 1000);
    buf_put_char(&rcpts, '\0');
    begin();
    w.conf->connection_messages_max = 1; /* a thousand kept connections are for another test, and cost a sanitizer 1 MiB each */
    start();
    put("ann@us.example", rcpts.p);
    (void)drain(50 * NS_PER_S);
    assert_int_equal(w.fakes[0].mail_count, 1000);
    for (int i = 0; i < 1000; i++) {
        snprintf(path, sizeof path, "<u@d%d.wide.example>", i);
        unsigned found = 0;
        for (unsigned k = 0; k < w.fakes[0].mail_count; k++)
            found += strcmp(w.fakes[0].mails[k].rcpts, path) == 0;
        assert_int_equal(found, 1);
    }
    buf_free(&rcpts);
    end();
}

/* Servers that never answer do not keep the others of a message waiting, however many there are of each. */
static void some_routes_are_mute(void *arg)
{
    (void)arg;
    struct buf rcpts;
    buf_init(&rcpts, 1 << 16);
    put_at_each(&rcpts, "mute.example", 19);
    put_at_each(&rcpts, "wide.example", 200);
    buf_put_char(&rcpts, '\0');
    begin();
    w.fakes[1].words[AT_CONNECT] = FAKE_SILENT;
    start();
    put("ann@us.example", rcpts.p);
    (void)task_sleep(50 * NS_PER_S);
    assert_int_equal(w.fakes[0].mail_count, 200);
    w.fakes[1].words[AT_CONNECT] = NULL;
    (void)drain(20 * 60 * NS_PER_S);
    assert_int_equal(w.fakes[0].mail_count, 200);
    assert_int_equal(w.fakes[1].mail_count, 19);
    buf_free(&rcpts);
    end();
}

/* A server that takes two recipients at a time, and says so. */
struct narrow {
    const char *full;  /* to the third */
    const char *again; /* to MAIL of any but a connection's first transaction; NULL: as usual */
    unsigned connections;
    unsigned rcpts;    /* of this transaction */
};

static const char *say_full(struct fake *f, enum fake_stage stage, struct str line)
{
    struct narrow *n = f->say_arg;
    (void)line;
    if (stage == AT_MAIL)
        n->rcpts = 0;
    if (stage == AT_MAIL && f->transactions > 1)
        return n->again;
    return stage == AT_RCPT && n->rcpts++ >= 2 ? n->full : NULL;
}

static void too_many_recipients(void *arg)
{
    struct narrow *n = arg;
    char who[] = "a@a.example";
    begin();
    w.fakes[0].say = say_full;
    w.fakes[0].say_arg = n;
    start();
    put("ann@us.example", "a@a.example,b@a.example,550.no@a.example,c@a.example,d@a.example,e@a.example");
    assert_true(drain(10 * NS_PER_S) < 5 * NS_PER_S);
    assert_int_equal(w.fakes[0].mail_count, 3);
    assert_int_equal(w.fakes[0].connections, n->connections);
    for (; who[0] <= 'e'; who[0]++)
        assert_int_equal(fake_count(&w.fakes[0], who), 1);
    check_bounce("<550.no@a.example>");
    end();
}

/* A DSN must be of a size that can be kept and sent, however many have failed. */
static void many_failures(void *arg)
{
    (void)arg;
    struct buf rcpts;
    buf_init(&rcpts, 1 << 17);
    for (unsigned i = 0; i < 2500; i++)
        buf_printf(&rcpts, "%s550.u%u@a.example", i > 0 ? "," : "", i);
    buf_put_char(&rcpts, '\0');
    begin();
    start();
    put("ann@us.example", rcpts.p);
    (void)drain(30 * NS_PER_S);
    assert_int_equal(mails_of("ann"), 3);
    buf_free(&rcpts);
    end();
}

/* Its body is gone from the disk: nobody can get it any more, and the sender hears that all the same. */
static void an_unreadable_message(void *arg)
{
    (void)arg;
    struct scene_names names;
    struct buf text;
    buf_init(&text, 1 << 20);
    buf_put_z(&text, MESSAGE);
    while (text.n < 300 * 1024)
        buf_put_z(&text, "more of it\r\n");
    begin();
    (void)scene_put(w.q, &(struct scene_message){ "ann@us.example", "550.no@a.example,bob@us.example", buf_str(&text) });
    assert_int_equal(scene_list("us/data/body", &names), 1);
    int dir = file_open_dir("us/data/body");
    assert_int_equal(file_unlink_at(dir, names.names[0]), 0);
    (void)file_close(dir);
    start();
    (void)task_sleep(10 * NS_PER_S);
    check_bounce("<550.no@a.example>");
    (void)drain(6 * DAY);
    assert_int_equal(mails_of("ann"), 2);
    assert_int_equal(mails_of("bob"), 0);
    buf_free(&text);
    end();
}

/* -- servers of a destination --------------------------------------------------------------------------------------------------------- */

static void the_next_mx(void *arg)
{
    (void)arg;
    static const char *const greetings[] = { "554 5.7.1 go away\r\n", "421 4.3.2 full\r\n", FAKE_CUT, "garbage\r\n", "250 odd\r\n" };
    begin();
    start();
    for (unsigned i = 0; i < sizeof greetings / sizeof greetings[0]; i++) {
        w.fakes[0].words[AT_CONNECT] = greetings[i];
        put("ann@us.example", "x@two.example");
        (void)drain(30 * NS_PER_S);
        assert_int_equal(w.fakes[1].mail_count, i + 1);
        (void)task_sleep(60 * NS_PER_S); /* no connection is kept */
    }
    fake_end(&w.fakes[0]); /* nobody listens there */
    put("ann@us.example", "x@two.example");
    (void)drain(30 * NS_PER_S);
    assert_int_equal(w.fakes[1].mail_count, sizeof greetings / sizeof greetings[0] + 1);
    assert_int_equal(mails_of("ann"), 0);
    end();
}

static void ourselves(void *arg)
{
    (void)arg;
    begin();
    w.fakes[0].words[AT_CONNECT] = "220 us.example ESMTP\r\n";
    start();
    put("ann@us.example", "x@a.example");
    (void)drain(30 * NS_PER_S);
    check_bounce("Status: 5.4.6");
    end();
}

/* We are a backup that the DNS knows by another name than the one we greet with: as long as the primary is away, mail waits. */
static void ourselves_as_backup(void *arg)
{
    (void)arg;
    begin();
    w.fakes[0].words[AT_CONNECT] = FAKE_CUT;
    w.fakes[1].words[AT_CONNECT] = "220 us.example ESMTP\r\n";
    start();
    put("ann@us.example", "x@two.example");
    (void)task_sleep(30 * NS_PER_S);
    assert_int_equal(queue_count(w.q), 1);
    assert_int_equal(mails_of("ann"), 0);
    w.fakes[0].words[AT_CONNECT] = NULL;
    (void)drain(120 * NS_PER_S);
    assert_int_equal(fake_count(&w.fakes[0], "x@two.example"), 1);
    end();
}

/* Each recipient's end is counted once. */
static void counts(void *arg)
{
    (void)arg;
    begin();
    start();
    int64_t delivered = metric_get(METRIC_rcpts_delivered), bounced = metric_get(METRIC_rcpts_bounced);
    put("ann@us.example", "x@a.example,bob@us.example,550.no@a.example");
    (void)drain(30 * NS_PER_S);
    assert_int_equal(metric_get(METRIC_rcpts_delivered) - delivered, 3);   /* the DSN too */
    assert_int_equal(metric_get(METRIC_rcpts_bounced) - bounced, 1);
    end();
}

static void a_relay_host(void *arg)
{
    (void)arg;
    begin();
    w.conf->relay_host = "[192.0.2.3]:25";
    start();
    put("ann@us.example", "x@a.example,y@absent.example,bob@us.example");
    (void)drain(30 * NS_PER_S);
    assert_int_equal(w.fakes[2].mail_count, 1);
    assert_string_equal(w.fakes[2].mails[0].rcpts, "<x@a.example>,<y@absent.example>");
    assert_int_equal(mails_of("bob"), 1);
    end();
}

/* -- LMTP ---------------------------------------------------------------------------------------------------------------------------- */

/* fakes[2] is the server of the mailboxes of box.example and crate.example, at an address or the path of a socket. */
static void begin_with_lmtp(const char *where)
{
    static const char *const domains[] = { "box.example", "crate.example" };
    struct buf why;
    char text[64], why_bytes[256];
    begin();
    fake_end(&w.fakes[2]);
    w.fakes[2].lmtp = true;
    fake_begin(&w.fakes[2], where);
    for (unsigned i = 0; i < 2; i++) {
        struct conf_delivery *d = arena_alloc(&w.conf->arena, sizeof *d);
        buf_init_fixed(&why, why_bytes, sizeof why_bytes);
        snprintf(text, sizeof text, strchr(where, ':') != NULL ? "lmtp:[192.0.2.3]:24" : "lmtp:unix:%s", where);
        assert_true(delivery_parse(w.conf, str_of(text), d, &why));
        scene_local_domain(w.conf, domains[i]);
        assert_int_equal(map_str_put(&w.conf->local_delivery_by_domain, str_of(domains[i]), d), 0);
    }
    start();
}

/* One transaction for both domains; each recipient meets an end of its own, and the DSNs say which. */
static void lmtp(void *arg)
{
    begin_with_lmtp(arg);
    struct fake *f = &w.fakes[2];
    (void)scene_put(w.q, &(struct scene_message){ "ann@us.example",
                                                  "u@box.example,d552.full@box.example,d452.slow@crate.example,550.no@box.example,bob@us.example",
                                                  STR(MESSAGE), .notify = NOTIFY_SUCCESS | NOTIFY_FAILURE });
    (void)task_sleep(5 * NS_PER_S);
    assert_int_equal(f->mail_count, 1);
    assert_string_equal(f->mails[0].rcpts, "<u@box.example>");
    assert_int_equal(mails_of("bob"), 1);
    check_bounce("Final-Recipient: rfc822; u@box.example\nAction: delivered\nStatus: 2.0.0\n");
    check_bounce("Final-Recipient: rfc822; d552.full@box.example\nAction: failed\nStatus: 5.2.2\n");
    check_bounce("Final-Recipient: rfc822; 550.no@box.example\nAction: failed\nStatus: 5.1.1\n");
    check_not_in_bounce("slow@crate.example");
    assert_int_equal(queue_count(w.q), 1);

    f->words[AT_DOT] = "250 2.0.0 there is room again\r\n";
    (void)drain(2 * 60 * NS_PER_S);
    assert_int_equal(fake_count(f, "u@box.example"), 1);
    assert_int_equal(fake_count(f, "d452.slow@crate.example"), 1);
    assert_int_equal(fake_count(f, "d552.full@box.example"), 0);
    end();
}

static void lmtp_keeps_its_connection(void *arg)
{
    begin_with_lmtp(arg);
    for (unsigned i = 0; i < 5; i++) {
        put("ann@us.example", i % 2 == 0 ? "u@box.example" : "u@crate.example,v@box.example");
        (void)drain(10 * NS_PER_S);
    }
    assert_int_equal(w.fakes[2].mail_count, 5);
    assert_int_equal(w.fakes[2].connections, 1);
    end();
}

/* A server that is away is no reason to bounce, whether it cannot be reached or is none of LMTP. */
static void lmtp_server_away(void *arg)
{
    begin_with_lmtp(arg);
    fake_end(&w.fakes[2]);
    put("ann@us.example", "u@box.example");
    (void)task_sleep(30 * NS_PER_S);
    w.fakes[2].lmtp = false;
    fake_begin(&w.fakes[2], arg);
    (void)task_sleep(10 * 60 * NS_PER_S);
    assert_int_equal(queue_count(w.q), 1);
    assert_int_equal(mails_of("ann"), 0);
    w.fakes[2].lmtp = true;
    (void)drain(3600 * NS_PER_S);
    assert_int_equal(w.fakes[2].mail_count, 1);
    end();
}

/* -- time -------------------------------------------------------------------------------------------------------------------------------- */

struct visits {
    int64_t times_ns[256];
    unsigned count;
};

static const char *note_visit(struct fake *f, enum fake_stage stage, struct str line)
{
    struct visits *v = f->say_arg;
    (void)line;
    if (stage == AT_MAIL && v->count < sizeof v->times_ns / sizeof v->times_ns[0])
        v->times_ns[v->count++] = clock_wall_ns();
    return NULL;
}

static void five_days(void *arg)
{
    (void)arg;
    static const int64_t delays_s[] = { 60, 300, 900, 1800, 3600, 7200 };
    struct visits v = { .count = 0 };
    begin();
    w.fakes[0].say = note_visit;
    w.fakes[0].say_arg = &v;
    start();
    put("ann@us.example", "450.full@a.example");
    int64_t began = clock_wall_ns();
    (void)drain(6 * DAY);
    assert_true(v.count > 60 && v.count < 75);
    for (unsigned i = 1; i + 1 < v.count; i++) {
        int64_t delay = delays_s[i - 1 < 6 ? i - 1 : 5] * NS_PER_S, waited = v.times_ns[i] - v.times_ns[i - 1];
        assert_true(waited >= delay * 9 / 10 && waited <= delay * 11 / 10 + 2 * NS_PER_S);
    }
    /* One last attempt at the end, and then the sender is told. */
    int64_t last = v.times_ns[v.count - 1] - began;
    assert_true(last >= 5 * DAY && last < 5 * DAY + 2 * NS_PER_S);
    check_bounce("Status: 4.4.7");
    check_bounce("450 4.1.1 as you wish");
    end();
}

/* RFC 3461: who offers DSN gets what was asked for and answers for it; of those who do not, we tell ourselves. */
static void a_receipt_is_asked_for(void *arg)
{
    (void)arg;
    begin();
    w.fakes[0].words[AT_EHLO] = "250-fake.example\r\n250-DSN\r\n250 PIPELINING\r\n";
    start();
    (void)scene_put(w.q, &(struct scene_message){ "ann@us.example", "x@a.example,y@b.example,bob@us.example", STR(MESSAGE), .envid = "QQ=1",
                                                  .original = "rfc822;z@old.example", .notify = NOTIFY_SUCCESS });
    (void)drain(60 * NS_PER_S);
    assert_int_equal(w.fakes[0].mail_count, 1);
    assert_string_equal(w.fakes[0].mails[0].sender, "<ann@us.example> ENVID=QQ+3D1");
    assert_string_equal(w.fakes[0].mails[0].rcpts, "<x@a.example> NOTIFY=SUCCESS ORCPT=rfc822;z@old.example");
    assert_string_equal(w.fakes[1].mails[0].rcpts, "<y@b.example>");
    check_bounce("Final-Recipient: rfc822; y@b.example\nAction: relayed\n");
    check_bounce("Final-Recipient: rfc822; bob@us.example\nAction: delivered\n");
    check_bounce("Original-Envelope-Id: QQ=1\n");
    check_not_in_bounce("x@a.example");
    end();
}

/* One warning, at the first attempt after delay_warning; and none to those who did not ask. */
static void a_delay_is_told_once(void *arg)
{
    (void)arg;
    begin();
    w.conf->expire_ns = DAY;
    start();
    put("bob@us.example", "450.full@a.example");
    (void)scene_put(w.q, &(struct scene_message){ "ann@us.example", "450.full@a.example", STR(MESSAGE), .notify = NOTIFY_DELAY });
    (void)drain(2 * DAY);
    assert_int_equal(mails_of("bob"), 1);                              /* that it was given up */
    check_bounce("Action: delayed\n");
    check_bounce("450 4.1.1 as you wish");
    end();
}

/* -- what the sender asked for beyond delivery --------------------------------------------------------------------------------------- */

#define HOUR (3600 * NS_PER_S)

/* RFC 4865: not before its time, in which a restart lies; then as any mail. */
static void held_for_its_sender(void *arg)
{
    (void)arg;
    begin();
    w.fakes[0].words[AT_EHLO] = "250-fake.example\r\n250-FUTURERELEASE 604800 2099-01-01T00:00:00Z\r\n250 PIPELINING\r\n";
    start();
    (void)scene_put(w.q, &(struct scene_message){ "ann@us.example", "x@a.example", STR(MESSAGE), .hold_ns = 10 * HOUR });
    (void)task_sleep(HOUR);
    stop(NS_PER_S);
    queue_close(w.q);
    w.q = scene_queue(w.conf);
    start();
    (void)task_sleep(8 * HOUR);
    assert_int_equal(w.connects, 0);
    int64_t waited = drain(2 * HOUR);
    assert_true(waited >= 59 * 60 * NS_PER_S && waited < 61 * 60 * NS_PER_S);
    assert_string_equal(w.fakes[0].mails[0].sender, "<ann@us.example>");       /* it is time: nothing more to ask for */
    end();
}

/* One that an operator lets go early is held by the next server that can; and its expiry counts from its release. */
static void held_by_the_next_server(void *arg)
{
    (void)arg;
    begin();
    w.fakes[0].words[AT_EHLO] = "250-fake.example\r\n250-FUTURERELEASE 604800 2099-01-01T00:00:00Z\r\n250 PIPELINING\r\n";
    w.conf->expire_ns = HOUR;
    start();
    uint64_t id = scene_put(w.q, &(struct scene_message){ "ann@us.example", "x@a.example", STR(MESSAGE), .hold_ns = 10 * HOUR });
    assert_int_equal(queue_retry(w.q, id), 0);
    (void)drain(60 * NS_PER_S);
    assert_true(str_starts(str_of(w.fakes[0].mails[0].sender), STR("<ann@us.example> HOLDUNTIL=20")));
    w.fakes[1].words[AT_MAIL] = "450 4.3.0 later\r\n";
    (void)scene_put(w.q, &(struct scene_message){ "ann@us.example", "x@b.example", STR(MESSAGE), .hold_ns = 10 * HOUR });
    (void)task_sleep(10 * HOUR + HOUR / 2);
    assert_int_equal(queue_count(w.q), 1);
    (void)drain(HOUR);
    check_bounce("Status: 4.4.7");
    end();
}

/* RFC 2852: who knows of the time is told what is left of it. */
static void a_time_is_handed_on(void *arg)
{
    (void)arg;
    begin();
    w.fakes[0].words[AT_EHLO] = "250-fake.example\r\n250-DELIVERBY 60\r\n250-MT-PRIORITY\r\n250 PIPELINING\r\n";
    start();
    (void)task_sleep(NS_PER_S);
    stop(NS_PER_S);
    (void)scene_put(w.q, &(struct scene_message){ "ann@us.example", "x@a.example", STR(MESSAGE), .by_ns = HOUR, .by_mode = 'R', .priority = -3 });
    (void)scene_put(w.q, &(struct scene_message){ "", "y@a.example", STR(MESSAGE), .by_ns = -5 * NS_PER_S, .by_mode = 'N' | ENVELOPE_BY_TRACE });
    (void)scene_put(w.q, &(struct scene_message){ "ann@us.example", "z@a.example", STR(MESSAGE), .by_ns = HOUR + 30 * NS_PER_S, .by_mode = 'R',
                                                  .notify = NOTIFY_FAILURE });
    (void)task_sleep(HOUR - 120 * NS_PER_S);
    w.fakes[0].think_ns = 0;
    start();
    (void)drain(60 * NS_PER_S);
    assert_int_equal(w.fakes[0].mail_count, 3);
    for (unsigned i = 0; i < 3; i++) {
        const char *sender = w.fakes[0].mails[i].sender;
        bool ok = strcmp(sender, "<ann@us.example> MT-PRIORITY=-3 BY=119;R") == 0 || strcmp(sender, "<ann@us.example> MT-PRIORITY=-3 BY=120;R") == 0 ||
                  strcmp(sender, "<> BY=-3486;NT") == 0 || strcmp(sender, "<> BY=-3485;NT") == 0 || strcmp(sender, "<ann@us.example> BY=149;R") == 0 ||
                  strcmp(sender, "<ann@us.example> BY=150;R") == 0;
        if (!ok)
            fail_msg("%s", sender);
    }
    assert_int_equal(mails_of("ann"), 0);
    end();
}

/* Too late is worse than never: what must come back in time is not tried when the time is over, nor where nobody knows of it. */
static const char *busy_for_a_time(struct fake *f, enum fake_stage stage, struct str line)
{
    (void)line;
    return stage == AT_MAIL && clock_wall_ns() < *(const int64_t *)f->say_arg ? "450 4.3.0 later\r\n" : NULL;
}

/* It is not even tried when its time is over, though the server would take it now. */
static void back_in_time(void *arg)
{
    int64_t until = clock_wall_ns() + 20 * 60 * NS_PER_S;

    (void)arg;
    begin();
    w.fakes[0].words[AT_EHLO] = "250-fake.example\r\n250-DELIVERBY\r\n250 PIPELINING\r\n";
    w.fakes[0].say = busy_for_a_time;
    w.fakes[0].say_arg = &until;
    start();
    (void)scene_put(w.q, &(struct scene_message){ "ann@us.example", "x@a.example", STR(MESSAGE), .by_ns = 20 * 60 * NS_PER_S, .by_mode = 'R' });
    int64_t waited = drain(HOUR);
    assert_true(waited >= 20 * 60 * NS_PER_S && waited < 20 * 60 * NS_PER_S + 30 * NS_PER_S);
    assert_int_equal(w.fakes[0].mail_count, 0);
    check_bounce("Action: failed\nStatus: 5.4.7\n");
    end();
}

static void back_at_once(void *arg)
{
    (void)arg;
    begin();
    start();
    (void)scene_put(w.q, &(struct scene_message){ "ann@us.example", "x@a.example", STR(MESSAGE), .by_ns = HOUR, .by_mode = 'R' });
    (void)drain(60 * NS_PER_S);
    assert_int_equal(w.fakes[0].mail_count, 0);
    check_bounce("Action: failed\nStatus: 5.3.3\n");
    end();
}

static void back_from_a_slow_server(void *arg)
{
    (void)arg;
    begin();
    w.fakes[0].words[AT_EHLO] = "250-fake.example\r\n250-DELIVERBY 7200\r\n250 PIPELINING\r\n";
    start();
    (void)scene_put(w.q, &(struct scene_message){ "ann@us.example", "x@a.example", STR(MESSAGE), .by_ns = HOUR, .by_mode = 'R' });
    (void)drain(60 * NS_PER_S);
    assert_int_equal(w.fakes[0].mail_count, 0);
    check_bounce("Status: 5.4.7\n");
    end();
}

/* With N the sender hears once that the time is over, and the message goes on being tried; a trace tells of the relay. */
static void late_is_told_once(void *arg)
{
    (void)arg;
    begin();
    w.conf->expire_ns = DAY;
    w.fakes[0].words[AT_MAIL] = "450 4.3.0 later\r\n";
    start();
    (void)scene_put(w.q, &(struct scene_message){ "ann@us.example", "x@a.example", STR(MESSAGE), .by_ns = 20 * 60 * NS_PER_S, .by_mode = 'N' });
    (void)scene_put(w.q, &(struct scene_message){ "bob@us.example", "x@a.example", STR(MESSAGE), .by_ns = HOUR, .by_mode = 'N', .notify = NOTIFY_NEVER });
    (void)task_sleep(20 * 60 * NS_PER_S - NS_PER_S);
    assert_int_equal(mails_of("ann"), 0);
    (void)task_sleep(12 * HOUR);
    check_bounce("Action: delayed\n");
    assert_int_equal(mails_of("ann"), 1);
    w.fakes[0].words[AT_MAIL] = NULL;
    (void)drain(4 * HOUR);
    assert_int_equal(w.fakes[0].mail_count, 2);
    assert_int_equal(mails_of("bob"), 0);
    end();
}

static void a_relay_is_told(void *arg)
{
    (void)arg;
    begin();
    start();
    (void)scene_put(w.q, &(struct scene_message){ "ann@us.example", "x@a.example", STR(MESSAGE), .by_ns = HOUR, .by_mode = 'N' });
    (void)drain(60 * NS_PER_S);
    check_bounce("Action: relayed\n");
    end();
}

/* RFC 9422: so many recipients in a transaction, so many transactions in a session, and nobody is lost between them. */
static void within_the_servers_limits(void *arg)
{
    (void)arg;
    begin();
    w.fakes[0].words[AT_EHLO] = "250-fake.example\r\n250-LIMITS FOO=1 RCPTMAX=2 MAILMAX=2 RCPTDOMAINMAX=1\r\n250 PIPELINING\r\n";
    start();
    put("ann@us.example", "a@a.example,550.b@a.example,550.c@a.example,550.d@a.example,e@a.example,f@a.example,g@a.example");
    (void)drain(60 * NS_PER_S);
    assert_int_equal(w.fakes[0].mail_count, 3);
    assert_int_equal(w.fakes[0].connections, 2);
    assert_string_equal(w.fakes[0].mails[0].rcpts, "<a@a.example>");
    assert_string_equal(w.fakes[0].mails[1].rcpts, "<e@a.example>,<f@a.example>");
    assert_string_equal(w.fakes[0].mails[2].rcpts, "<g@a.example>");
    check_bounce("<550.c@a.example>");
    end();
}

/* What refuses the message refuses it for those of the next transactions too. */
static void limits_of_a_server_that_refuses(void *arg)
{
    (void)arg;
    begin();
    w.fakes[0].words[AT_EHLO] = "250-fake.example\r\n250-LIMITS RCPTMAX=1\r\n250 PIPELINING\r\n";
    w.fakes[0].words[AT_MAIL] = "550 5.7.1 not from you\r\n";
    start();
    put("ann@us.example", "x@a.example,y@a.example,z@a.example");
    (void)drain(60 * NS_PER_S);
    assert_int_equal(w.fakes[0].transactions, 1);
    check_bounce("<z@a.example>");
    end();
}

/* RFC 8689: where nothing vouches for the servers' names it comes back, as its header only; what asks for less is not touched by that. */
static void tls_that_nobody_vouches_for(void *arg)
{
    (void)arg;
    begin();
    start();
    (void)scene_put(w.q, &(struct scene_message){ "ann@us.example", "x@a.example", STR(MESSAGE), .requiretls = true });
    (void)scene_put(w.q, &(struct scene_message){ "bob@us.example", "bob@us.example", STR(MESSAGE), .requiretls = true });
    (void)drain(60 * NS_PER_S);
    assert_int_equal(w.connects, 0);
    check_bounce("Status: 5.7.30\n");
    check_not_in_bounce("One line.");
    assert_int_equal(mails_of("bob"), 1);
    put("ann@us.example", "x@a.example");
    (void)drain(60 * NS_PER_S);
    assert_int_equal(w.fakes[0].mail_count, 1);
    end();
}

/* To the relay host: its certificate must be right, and a site that is good enough for others stays up for them. */
static void tls_to_a_relay_host(void *arg)
{
    (void)arg;
    begin();
    w.conf->relay_host = "mx.a.example";
    w.conf->expire_ns = DAY;
    start();
    (void)scene_put(w.q, &(struct scene_message){ "ann@us.example", "x@b.example", STR(MESSAGE), .requiretls = true });
    (void)task_sleep(10 * NS_PER_S);
    put("ann@us.example", "y@b.example");
    (void)task_sleep(10 * NS_PER_S);
    assert_int_equal(fake_count(&w.fakes[0], "y@b.example"), 1);
    (void)drain(2 * DAY);
    assert_int_equal(fake_count(&w.fakes[0], "x@b.example"), 0);
    assert_int_equal(mails_of("ann"), 1);
    end();
}

/* -- what a server offers, and does not know ----------------------------------------------------------------------------------------- */

static const char *know_no_bdat(struct fake *f, enum fake_stage stage, struct str line)
{
    (void)f;
    return stage == AT_DOT && str_find_str(line, STR("LAST")) >= 0 ? "502 5.5.1 BDAT? never heard\r\n" : NULL;
}

/* BDAT is offered, and not known: the text goes by DATA then, at once, on a new connection; and so does the next message's. */
static void by_data_after_all(void *arg)
{
    (void)arg;
    begin();
    w.fakes[0].chunking = true;
    w.fakes[0].say = know_no_bdat;
    start();
    put("ann@us.example", "a@a.example,550.b@a.example,c@a.example");
    (void)drain(30 * NS_PER_S);
    assert_int_equal(w.fakes[0].mail_count, 1);
    assert_string_equal(w.fakes[0].mails[0].rcpts, "<a@a.example>,<c@a.example>");
    assert_int_equal(w.fakes[0].connections, 2);
    (void)task_sleep(600 * NS_PER_S);
    put("ann@us.example", "d@a.example");
    (void)drain(30 * NS_PER_S);
    assert_int_equal(w.fakes[0].mail_count, 2);
    assert_int_equal(w.fakes[0].connections, 3);
    check_bounce("<550.b@a.example>");
    end();
}

#define UTF8_EHLO "250-x\r\n250-8BITMIME\r\n250 SMTPUTF8\r\n"

/* The better server has no SMTPUTF8: what has no ASCII form goes to the next, and all else to the better one as ever. */
static void utf8_by_the_next_mx(void *arg)
{
    (void)arg;
    begin();
    w.fakes[1].words[AT_EHLO] = UTF8_EHLO;
    start();
    (void)scene_put(w.q, &(struct scene_message){ "ann@us.example", "j\xc3\xbcrg@two.example,b@two.example", STR(MESSAGE), .smtputf8 = true });
    (void)drain(30 * NS_PER_S);
    assert_int_equal(fake_count(&w.fakes[1], "j\xc3\xbcrg@two.example"), 1);
    assert_int_equal(w.fakes[0].mail_count, 0);
    (void)task_sleep(10 * NS_PER_S);                          /* the connection is not kept longer */
    (void)scene_put(w.q, &(struct scene_message){ "ann@us.example", "c@two.example", STR(MESSAGE), .smtputf8 = true });
    (void)drain(30 * NS_PER_S);
    assert_int_equal(fake_count(&w.fakes[0], "c@two.example"), 1);
    assert_int_equal(mails_of("ann"), 0);
    end();
}

/* None of them has it: it comes back, and who can be reached in ASCII is. */
static void utf8_by_none(void *arg)
{
    (void)arg;
    begin();
    start();
    (void)scene_put(w.q, &(struct scene_message){ "ann@us.example", "j\xc3\xbcrg@two.example,b@two.example", STR(MESSAGE), .smtputf8 = true });
    (void)drain(30 * NS_PER_S);
    assert_int_equal(w.fakes[0].connections, 1);
    assert_int_equal(w.fakes[1].connections, 1);
    assert_int_equal(fake_count(&w.fakes[0], "b@two.example"), 1);
    check_bounce("Status: 5.6.7\n");
    end();
}

/* The only one that has it does not answer now: too early to give up. */
static void utf8_by_one_that_is_away(void *arg)
{
    (void)arg;
    begin();
    w.fakes[1].words[AT_CONNECT] = "421 4.3.2 not now\r\n";
    start();
    (void)scene_put(w.q, &(struct scene_message){ "ann@us.example", "j\xc3\xbcrg@two.example", STR(MESSAGE), .smtputf8 = true });
    (void)task_sleep(30 * NS_PER_S);
    assert_int_equal(queue_count(w.q), 1);
    w.fakes[1].words[AT_CONNECT] = NULL;
    w.fakes[1].words[AT_EHLO] = UTF8_EHLO;
    (void)drain(HOUR);
    assert_int_equal(fake_count(&w.fakes[1], "j\xc3\xbcrg@two.example"), 1);
    assert_int_equal(mails_of("ann"), 0);
    end();
}

/* Every reply is in time, and there is no end of them. */
static void a_server_that_takes_its_time(void *arg)
{
    (void)arg;
    begin();
    w.fakes[0].no_pipelining = true;
    w.fakes[0].think_ns = 250 * NS_PER_S;
    w.conf->delivery_timeout_ns = HOUR;
    w.conf->expire_ns = DAY;
    start();
    struct buf rcpts;
    buf_init(&rcpts, 1 << 20);
    for (unsigned i = 0; i < 30; i++)
        buf_printf(&rcpts, "%su%u@a.example", i > 0 ? "," : "", i);
    buf_put_char(&rcpts, '\0');
    put("ann@us.example", rcpts.p);
    buf_free(&rcpts);
    (void)task_sleep(HOUR + 20 * 60 * NS_PER_S);
    assert_int_equal(w.fakes[0].connections, 2);
    assert_int_equal(w.fakes[0].mail_count, 0);
    assert_int_equal(queue_count(w.q), 1);
    end();
}

/* "TLS-Required: No": in plain text where all the world is asked for more, unless it came with REQUIRETLS or the operator has named the domain; and the
 * connection is not for others. */
static void tls_is_optional(void *arg)
{
    static enum conf_client_tls encrypt = CONF_CLIENT_TLS_ENCRYPT;
    (void)arg;
    begin();
    w.conf->outbound_tls = encrypt;
    assert_int_equal(map_str_put(&w.conf->outbound_tls_by_domain, STR("b.example"), &encrypt), 0);
    w.conf->connection_idle_ns = 60 * NS_PER_S;
    start();
    (void)scene_put(w.q, &(struct scene_message){ "ann@us.example", "x@a.example", STR(MESSAGE), .tls_optional = true });
    (void)drain(10 * NS_PER_S);
    assert_int_equal(fake_count(&w.fakes[0], "x@a.example"), 1);
    put("ann@us.example", "y@a.example");
    (void)task_sleep(10 * NS_PER_S);
    assert_int_equal(w.fakes[0].mail_count, 1);
    assert_int_equal(queue_count(w.q), 1);
    (void)scene_put(w.q, &(struct scene_message){ "ann@us.example", "w@a.example", STR(MESSAGE), .tls_optional = true });
    (void)task_sleep(10 * NS_PER_S);
    assert_int_equal(fake_count(&w.fakes[0], "w@a.example"), 1);                /* down for others only */
    (void)scene_put(w.q, &(struct scene_message){ "ann@us.example", "z@a.example", STR(MESSAGE), .tls_optional = true, .requiretls = true });
    (void)task_sleep(150 * NS_PER_S);
    assert_int_equal(w.fakes[0].mail_count, 2);
    check_bounce("Status: 5.7.30\n");
    (void)scene_put(w.q, &(struct scene_message){ "ann@us.example", "x@b.example", STR(MESSAGE), .tls_optional = true });
    (void)task_sleep(10 * NS_PER_S);
    assert_int_equal(w.fakes[1].mail_count, 0);
    end();
}

/* Two domains may share servers and so connections, and one of them have a policy. */
static void a_plain_connection_is_not_for_all(void *arg)
{
    static enum conf_client_tls encrypt = CONF_CLIENT_TLS_ENCRYPT;
    (void)arg;
    begin();
    w.conf->connection_idle_ns = 60 * NS_PER_S;
    start();
    put("ann@us.example", "x@a.example");
    (void)drain(10 * NS_PER_S);
    assert_int_equal(fake_count(&w.fakes[0], "x@a.example"), 1);
    assert_int_equal(map_str_put(&w.conf->outbound_tls_by_domain, STR("a.example"), &encrypt), 0);
    put("ann@us.example", "y@a.example");
    (void)task_sleep(10 * NS_PER_S);
    assert_int_equal(w.fakes[0].mail_count, 1);
    assert_int_equal(queue_count(w.q), 1);
    end();
}

/* RFC 8689, 5: what is told of such a message goes under the same promise where there is one, and is not lost where there is none. */
static void a_bounce_goes_without_the_promise(void *arg)
{
    (void)arg;
    begin();
    start();
    (void)scene_put(w.q, &(struct scene_message){ "sender@b.example", "x@a.example", STR(MESSAGE), .requiretls = true });
    (void)drain(30 * NS_PER_S);
    assert_int_equal(w.fakes[0].mail_count, 0);
    assert_int_equal(fake_count(&w.fakes[1], "sender@b.example"), 1);
    assert_true(str_find_str(buf_str(&w.fakes[1].mails[0].wire), STR("Status: 5.7.30")) > 0);
    end();
}

/* RFC 6710: of those that wait the more urgent go first, the less urgent last. */
static void the_urgent_go_first(void *arg)
{
    static const struct {
        const char *rcpt;
        int         priority;
    } mails[] = { { "zero@a.example", 0 }, { "low@a.example", -5 }, { "high@a.example", 4 }, { "higher@a.example", 9 }, { "late@a.example", 0 } };
    static const char *const order[] = { "<higher@a.example>", "<high@a.example>", "<zero@a.example>", "<late@a.example>", "<low@a.example>" };
    (void)arg;
    begin();
    w.conf->deliveries_max = 1;
    for (size_t i = 0; i < sizeof mails / sizeof mails[0]; i++)
        (void)scene_put(w.q, &(struct scene_message){ "ann@us.example", mails[i].rcpt, STR(MESSAGE), .priority = mails[i].priority });
    start();
    (void)drain(30 * NS_PER_S);
    for (size_t i = 0; i < sizeof order / sizeof order[0]; i++)
        assert_string_equal(w.fakes[0].mails[i].rcpts, order[i]);
    end();
}

/* What an operator must look after is named by its queue id. */
static void trouble_line(void *arg, enum log_level level, struct str line)
{
    struct buf *kept = arg;
    if (level == LOG_ERROR) {
        buf_put_str(kept, line);
        buf_put_char(kept, '\n');
    }
}

static void trouble_is_named(void *arg)
{
    (void)arg;
    char id[CODEC_ID_LEN + 1], dsn[64];
    CLEANUP_BUF struct buf log;
    buf_init(&log, 1 << 20);
    begin();
    codec_id_format(scene_put(w.q, &(struct scene_message){ "ann@us.example", "550.no@a.example", STR(MESSAGE) }), id);
    log_redirect(trouble_line, &log);
    sim_disk_fail(sim_disk_ops(), EIO, true);
    start();
    (void)task_sleep(5 * NS_PER_S);
    sim_disk_heal();
    log_redirect(NULL, NULL);
    snprintf(dsn, sizeof dsn, " error dsn-not-kept id=%s errno=", id);
    assert_true(str_find_str(buf_str(&log), str_of(dsn)) > 0);
    end();
}

static void bounces_have_an_end(void *arg)
{
    (void)arg;
    begin();
    start();
    put("", "550.no@a.example");                     /* a bounce that bounces */
    put("550.sender@a.example", "550.no@b.example"); /* its DSN bounces */
    put("450.sender@a.example", "550.no@b.example"); /* its DSN waits, for two days */
    (void)task_sleep(60 * NS_PER_S);
    assert_int_equal(queue_count(w.q), 1);
    int64_t took = drain(3 * DAY);
    assert_true(took > 2 * DAY - 120 * NS_PER_S);
    for (unsigned i = 0; i < FAKES; i++)
        assert_int_equal(w.fakes[i].mail_count, 0);
    assert_int_equal(mails_of("ann"), 0);
    assert_int_equal(mails_of("postmaster"), 0);
    end();
}

/* -- sites ---------------------------------------------------------------------------------------------------------------------------------- */

static void a_dead_site(void *arg)
{
    (void)arg;
    begin();
    for (int i = 0; i < 50; i++)
        put("ann@us.example", "x@dead.example");
    start();
    (void)task_sleep(50 * NS_PER_S);
    assert_int_equal(queue_count(w.q), 50);
    assert_int_equal(w.connects, 2); /* two probes, half a minute apart, not one attempt per message */
    unsigned before = w.connects;
    (void)task_sleep(DAY);
    assert_true(w.connects - before < 24 * 2 + 10);
    end();
}

/* A domain that turns out to be at a dead site, of a message that has expired, beside one that is taken. */
static void dead_when_it_is_found_out(void *arg)
{
    (void)arg;
    begin();
    w.conf->expire_ns = 1;
    w.fakes[0].think_ns = NS_PER_S;
    start();
    put("", "x@dead.example");
    (void)task_sleep(5 * NS_PER_S);
    for (int i = 0; i < 20; i++) {
        char rcpts[100];
        snprintf(rcpts, sizeof rcpts, "x@a.example,y@d%d.dead2.example,z@e%d.dead2.example,bob@us.example", i, i);
        put("ann@us.example", rcpts);
        (void)task_sleep(20 * NS_PER_S);
    }
    (void)task_sleep(60 * NS_PER_S);
    assert_int_equal(fake_count(&w.fakes[0], "x@a.example"), 20);
    assert_int_equal(mails_of("bob"), 20);
    assert_true(mails_of("ann") >= 20);
    end();
}

/* Three times as many messages as may be delivered at a time, to a server that never says a word, hold nobody else up. */
static void a_silent_site(void *arg)
{
    (void)arg;
    begin();
    w.fakes[0].words[AT_CONNECT] = FAKE_SILENT;
    w.conf->deliveries_max = 100;
    start();
    for (int i = 0; i < 300; i++)
        put("ann@us.example", "x@a.example");
    (void)task_sleep(NS_PER_S);
    put("ann@us.example", "y@b.example,bob@us.example");
    (void)task_sleep(10 * NS_PER_S);
    assert_int_equal(fake_count(&w.fakes[1], "y@b.example"), 1);
    assert_int_equal(mails_of("bob"), 1);
    assert_int_equal(queue_count(w.q), 300);
    end();
}

static void limits_of_a_site(void *arg)
{
    (void)arg;
    begin();
    w.conf->site_connections_max = 3;
    w.conf->connection_messages_max = 10;
    w.fakes[0].think_ns = 20 * NS_PER_MS;
    for (int i = 0; i < 100; i++)
        put("ann@us.example", i % 2 == 0 ? "x@a.example" : "y@b.example");
    start();
    (void)drain(600 * NS_PER_S);
    assert_int_equal(w.fakes[0].mail_count, 50);
    assert_int_equal(w.fakes[1].mail_count, 50);
    for (int i = 0; i < 2; i++) {
        unsigned per_connection[64] = { 0 };
        assert_true(w.fakes[i].open_max > 1 && w.fakes[i].open_max <= 3);
        assert_true(w.fakes[i].connections >= 5 && w.fakes[i].connections <= 12);
        for (unsigned k = 0; k < w.fakes[i].mail_count; k++)
            assert_true(++per_connection[w.fakes[i].mails[k].connection % 64] <= 10);
    }
    (void)task_sleep(10 * NS_PER_S);
    assert_int_equal(w.fakes[0].open, 0); /* kept for a while, then closed with QUIT */
    assert_true(str_ends_nocase(buf_str(&w.fakes[0].transcript), STR("QUIT\n")));
    end();
}

/* Many domains at one provider are one destination, with one limit; and its connections are for all of them. */
static void domains_share_a_site(void *arg)
{
    struct buf rcpts;
    (void)arg;
    buf_init(&rcpts, 1 << 16);
    put_at_each(&rcpts, "wide.example", 60);
    buf_put_char(&rcpts, '\0');
    begin();
    w.conf->site_connections_max = 3;
    w.fakes[0].think_ns = 20 * NS_PER_MS;
    start();
    put("ann@us.example", rcpts.p);
    for (int i = 0; i < 40; i++) {
        char to[40];
        snprintf(to, sizeof to, "x@e%d.wide.example", i);
        put("ann@us.example", to);
    }
    (void)drain(600 * NS_PER_S);
    assert_int_equal(w.fakes[0].mail_count, 100);
    assert_true(w.fakes[0].open_max > 1 && w.fakes[0].open_max <= 3);
    assert_true(w.fakes[0].connections <= 6);
    buf_free(&rcpts);
    end();
}

/* The table of refusals that one asked by is gone when its answer comes. */
static void a_reload_in_between(void *arg)
{
    (void)arg;
    begin();
    sim_dns_latency(2 * NS_PER_S, 2 * NS_PER_S);
    start();
    put("ann@us.example", "x@a.example,y@b.example");
    for (int i = 0; i < 12; i++) {
        (void)task_sleep(NS_PER_S);
        configure();
        put("ann@us.example", "bob@us.example");              /* by which the reload is seen */
    }
    (void)drain(600 * NS_PER_S);
    assert_int_equal(fake_count(&w.fakes[0], "x@a.example"), 1);
    assert_int_equal(fake_count(&w.fakes[1], "y@b.example"), 1);
    end();
}

static bool find_site(const char *part, struct outbound_site *out)
{
    size_t cursor = 0;
    while (outbound_each_site(&cursor, out))
        if (str_find_str(str_of(out->site), str_of(part)) >= 0)
            return true;
    return false;
}

static void a_site_is_shown(void *arg)
{
    struct outbound_site site;
    (void)arg;
    begin();
    start();
    for (int i = 0; i < 5; i++)
        put("ann@us.example", "x@dead.example");
    put("ann@us.example", "x@a.example");
    (void)task_sleep(5 * NS_PER_S);
    assert_true(find_site("mx:mx.dead.example", &site));
    assert_int_equal(site.state, OUTBOUND_SITE_DEAD);
    assert_true(site.waiting == 1 && site.parked && site.inside == 0);
    assert_true(site.rests_ns > 20 * NS_PER_S && site.rests_ns < 30 * NS_PER_S);
    assert_string_equal(site.words, "cannot connect: Connection refused");
    assert_true(find_site("mx:mx.a.example", &site));
    assert_int_equal(site.state, OUTBOUND_SITE_WELL);
    assert_string_equal(site.words, "");
    assert_false(find_site("nowhere", &site));
    end();
    assert_false(find_site("mx:", &site));
}

/* Somebody asks: then it is tried, however long the site was to rest. */
static void a_retry_that_is_asked_for(void *arg)
{
    struct queue_item item;
    (void)arg;
    begin();
    start();
    put("ann@us.example", "x@dead.example");
    (void)task_sleep(5 * NS_PER_S);
    assert_int_equal(w.connects, 1);
    assert_int_equal(queue_list(w.q, 0, &item, 1), 1);
    assert_int_equal(queue_retry(w.q, item.id), 0);
    (void)task_sleep(NS_PER_S);
    assert_int_equal(w.connects, 2);
    assert_int_equal(queue_retry(w.q, item.id), 0);           /* not again and again */
    (void)task_sleep(NS_PER_S);
    assert_int_equal(w.connects, 2);
    end();
}

static const char *no_ipv6(struct fake *f, enum fake_stage stage, struct str line)
{
    (void)f, (void)line;
    return stage == AT_RCPT ? "450 4.7.25 our policy for IPv6 asks for a PTR record of [2001:db8::1]\r\n" : NULL;
}

static void ipv6_that_is_not_liked(void *arg)
{
    struct fake six;
    struct outbound_site site;
    (void)arg;
    memset(&six, 0, sizeof six);
    begin();
    fake_begin(&six, "[2001:db8::6]:25");
    six.say = no_ipv6;
    start();
    put("ann@us.example", "x@six.example");
    (void)task_sleep(10 * NS_PER_S);
    assert_int_equal(six.connections, 1);
    assert_true(find_site("mx.six.example", &site) && site.ipv4);
    put("ann@us.example", "y@six.example");                   /* at once, to where it is liked */
    (void)task_sleep(10 * NS_PER_S);
    assert_int_equal(fake_count(&w.fakes[0], "y@six.example"), 1);
    (void)drain(600 * NS_PER_S);
    assert_int_equal(fake_count(&w.fakes[0], "x@six.example"), 1);
    assert_int_equal(six.connections, 1);
    fake_end(&six);
    end();
    fake_forget(&six);
}

static const char *be_grey(struct fake *f, enum fake_stage stage, struct str line)
{
    struct visits *v = f->say_arg;
    (void)line;
    if (stage != AT_RCPT)
        return NULL;
    v->times_ns[v->count++] = clock_wall_ns();
    return v->count < 2 ? "450 4.2.0 Greylisted, try again in 240 seconds\r\n" : NULL;
}

/* The first retry would be after a minute, and in vain. */
static void greylisting_is_waited_for(void *arg)
{
    struct visits v = { .count = 0 };
    (void)arg;
    begin();
    w.fakes[0].say = be_grey;
    w.fakes[0].say_arg = &v;
    start();
    put("ann@us.example", "x@a.example");
    (void)drain(600 * NS_PER_S);
    assert_int_equal(v.count, 2);
    int64_t waited = v.times_ns[1] - v.times_ns[0];
    assert_true(waited >= 240 * NS_PER_S && waited < 260 * NS_PER_S);
    end();
}

static const char *only_two(struct fake *f, enum fake_stage stage, struct str line)
{
    (void)line;
    return stage == AT_MAIL && f->open > 2 ? "421 4.7.0 too many connections from your address\r\n" : NULL;
}

/* A limit that nobody told us of is learnt, and kept to. */
static void a_limit_is_learnt(void *arg)
{
    (void)arg;
    begin();
    w.fakes[0].say = only_two;
    w.fakes[0].think_ns = 20 * NS_PER_MS;
    w.conf->connection_idle_ns = 0;
    start();
    for (int i = 0; i < 300; i++)
        put("ann@us.example", "x@a.example");
    (void)drain(1200 * NS_PER_S);
    assert_int_equal(w.fakes[0].mail_count, 300);
    assert_true(w.fakes[0].open_max > 2 && w.fakes[0].open_max < 10);
    end();
}

static const char *cut_second(struct fake *f, enum fake_stage stage, struct str line)
{
    (void)line;
    return stage == AT_MAIL && f->transactions > 1 ? FAKE_CUT : NULL;
}

/* A server that gives up on idle clients: the next message takes another connection, at once. */
static void a_stale_connection(void *arg)
{
    (void)arg;
    begin();
    w.fakes[0].say = cut_second;
    start();
    for (int i = 0; i < 5; i++) {
        put("ann@us.example", "x@a.example");
        assert_true(drain(10 * NS_PER_S) < 2 * NS_PER_S);
        (void)task_sleep(2 * NS_PER_S);
    }
    assert_int_equal(w.fakes[0].mail_count, 5);
    assert_int_equal(w.fakes[0].connections, 5);
    end();
}

/* One that was made under another configuration is not used again; least of all for a message for which more is asked. */
static void a_connection_of_before(void *arg)
{
    (void)arg;
    begin();
    start();
    put("ann@us.example", "x@a.example");
    (void)drain(10 * NS_PER_S);
    configure();
    put("ann@us.example", "x@a.example");
    (void)drain(10 * NS_PER_S);
    assert_int_equal(w.fakes[0].mail_count, 2);
    assert_int_equal(w.fakes[0].connections, 2);
    configure();
    w.conf->outbound_tls = CONF_CLIENT_TLS_VERIFY;
    put("ann@us.example", "x@a.example");
    (void)task_sleep(10 * NS_PER_S);
    assert_int_equal(w.fakes[0].mail_count, 2);
    assert_int_equal(w.fakes[0].connections, 3);
    assert_int_equal(queue_count(w.q), 1);
    end();
}

/* One domain is worth more than its server can do; the others' mail goes as ever. */
static void a_level_by_domain(void *arg)
{
    static enum conf_client_tls encrypt = CONF_CLIENT_TLS_ENCRYPT;
    (void)arg;
    begin();
    assert_int_equal(map_str_put(&w.conf->outbound_tls_by_domain, STR("a.example"), &encrypt), 0);
    start();
    put("ann@us.example", "x@a.example,y@b.example");
    (void)task_sleep(10 * NS_PER_S);
    assert_int_equal(w.fakes[0].mail_count, 0);
    assert_int_equal(w.fakes[0].connections, 1);
    assert_int_equal(fake_count(&w.fakes[1], "y@b.example"), 1);
    assert_int_equal(queue_count(w.q), 1);
    end();
}

/* -- stopping -------------------------------------------------------------------------------------------------------------------------------- */

static void stopping(void *arg)
{
    (void)arg;
    begin();
    w.fakes[0].words[AT_DOT] = FAKE_SILENT;
    w.fakes[1].words[AT_CONNECT] = FAKE_SILENT;
    start();
    put("ann@us.example", "x@a.example,550.no@a.example,y@b.example,bob@us.example");
    put("ann@us.example", "y@b.example");
    (void)task_sleep(5 * NS_PER_S);
    int64_t began = clock_mono_ns();
    stop(3 * NS_PER_S);
    assert_true(clock_mono_ns() - began < 5 * NS_PER_S);
    assert_int_equal(queue_count(w.q), 3); /* and the DSN, which was known */
    assert_int_equal(mails_of("bob"), 1);

    w.fakes[0].words[AT_DOT] = w.fakes[1].words[AT_CONNECT] = NULL;
    start_again();
    (void)drain(2 * 60 * NS_PER_S);
    assert_int_equal(fake_count(&w.fakes[0], "x@a.example"), 1);
    assert_int_equal(fake_count(&w.fakes[1], "y@b.example"), 2);
    assert_int_equal(mails_of("bob"), 1);
    check_bounce("<550.no@a.example>");
    end();
}

/* What one server has taken is on record while another does not answer: a kill in between delivers nothing twice. */
static void a_kill_while_one_hangs(void *arg)
{
    const uint64_t *seed = arg;
    begin();
    w.fakes[1].words[AT_DOT] = FAKE_SILENT;
    start();
    put("ann@us.example", "x@a.example,550.no@c.example,y@b.example,bob@us.example");
    (void)task_sleep(2 * NS_PER_S);
    assert_int_equal(fake_count(&w.fakes[0], "x@a.example") + mails_of("bob"), 2);
    assert_int_equal(mails_of("ann"), 0);                   /* a failure waits a little for others */
    (void)task_sleep(10 * NS_PER_S);
    check_bounce("<550.no@c.example>");
    struct sim_disk *killed = sim_disk_crash(sim_disk_ops(), *seed, NULL);
    stop(0);
    queue_close(w.q);
    sim_disk_mount(killed);
    sim_disk_free(killed);
    w.fakes[1].words[AT_DOT] = NULL;
    w.q = scene_queue(w.conf);
    start();
    (void)drain(600 * NS_PER_S);
    assert_int_equal(fake_count(&w.fakes[0], "x@a.example"), 1);
    assert_int_equal(w.fakes[2].mail_count, 0);
    assert_int_equal(mails_of("bob"), 1);
    check_bounce("<550.no@c.example>");
    end();
}

/* At any moment: what the others have and what the queue has are together everything, and nothing is bounced. */
static void stopping_at_any_time(void *arg)
{
    (void)arg;
    begin();
    for (int i = 0; i < 60; i++) {
        put("ann@us.example", "x@a.example,y@b.example,bob@us.example");
        start_again();
        (void)task_sleep((int64_t)sim_random_below(400) * NS_PER_MS);
        stop((int64_t)sim_random_below(3) * 20 * NS_PER_MS);
    }
    start_again();
    (void)drain(600 * NS_PER_S);
    assert_true(fake_count(&w.fakes[0], "x@a.example") >= 60);
    assert_true(fake_count(&w.fakes[1], "y@b.example") >= 60);
    assert_int_equal(mails_of("bob"), 60);
    assert_int_equal(mails_of("ann"), 0);
    end();
}

static void in_world(task_fn *fn, void *arg)
{
    memset(&w, 0, sizeof w);
    sim_begin(&(struct sim_options){
        .seed = 5, .latency_min_ns = NS_PER_MS, .latency_max_ns = 20 * NS_PER_MS, .split = true, .sync_ns = 5 * NS_PER_MS });
    assert_int_equal(sim_run(fn, arg), 0);
    sim_end();
    for (unsigned i = 0; i < FAKES; i++)
        fake_forget(&w.fakes[i]);
}

#define TEST(name)                                                                                                                         \
    static void test_##name(void **state)                                                                                                  \
    {                                                                                                                                      \
        (void)state;                                                                                                                       \
        in_world(name, NULL);                                                                                                              \
    }
TEST(many_domains)
TEST(a_thousand_routes)
TEST(some_routes_are_mute)
TEST(many_failures)
TEST(an_unreadable_message)
TEST(the_next_mx)
TEST(ourselves)
TEST(ourselves_as_backup)
TEST(counts)
TEST(a_relay_host)
TEST(five_days)
TEST(bounces_have_an_end)
TEST(trouble_is_named)
TEST(a_receipt_is_asked_for)
TEST(a_delay_is_told_once)
TEST(held_for_its_sender)
TEST(held_by_the_next_server)
TEST(a_time_is_handed_on)
TEST(back_in_time)
TEST(back_at_once)
TEST(back_from_a_slow_server)
TEST(late_is_told_once)
TEST(a_relay_is_told)
TEST(tls_that_nobody_vouches_for)
TEST(tls_to_a_relay_host)
TEST(within_the_servers_limits)
TEST(limits_of_a_server_that_refuses)
TEST(a_dead_site)
TEST(a_silent_site)
TEST(dead_when_it_is_found_out)
TEST(domains_share_a_site)
TEST(a_reload_in_between)
TEST(a_site_is_shown)
TEST(a_retry_that_is_asked_for)
TEST(ipv6_that_is_not_liked)
TEST(greylisting_is_waited_for)
TEST(a_limit_is_learnt)
TEST(limits_of_a_site)
TEST(a_stale_connection)
TEST(a_connection_of_before)
TEST(a_level_by_domain)
TEST(by_data_after_all)
TEST(the_urgent_go_first)
TEST(utf8_by_the_next_mx)
TEST(utf8_by_none)
TEST(utf8_by_one_that_is_away)
TEST(a_server_that_takes_its_time)
TEST(tls_is_optional)
TEST(a_plain_connection_is_not_for_all)
TEST(a_bounce_goes_without_the_promise)
TEST(stopping)
TEST(stopping_at_any_time)

static void test_lmtp(void **state)
{
    static const char *const servers[] = { "192.0.2.3:24", "us/lmtp" };
    (void)state;
    for (size_t i = 0; i < sizeof servers / sizeof servers[0]; i++) {
        in_world(lmtp, (void *)(uintptr_t)servers[i]);
        in_world(lmtp_keeps_its_connection, (void *)(uintptr_t)servers[i]);
        in_world(lmtp_server_away, (void *)(uintptr_t)servers[i]);
    }
}

static void test_a_kill_while_one_hangs(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 5; seed++)
        in_world(a_kill_while_one_hangs, &seed);
}

/* Those whom one transaction does not hold go in the next one, now and not at the retry (RFC 5321, 4.5.3.1.10). */
static void test_too_many_recipients(void **state)
{
    (void)state;
    struct narrow rows[] = {
        { "452 4.5.3 too many recipients\r\n", NULL, 1 },
        { "452 too many recipients\r\n", NULL, 1 },
        { "552 5.5.3 too many recipients\r\n", NULL, 1 },
        { "452 4.5.3 too many recipients\r\n", "421 4.7.0 one is enough\r\n", 3 },
        { "452 4.5.3 too many recipients\r\n", FAKE_CUT, 3 },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        in_world(too_many_recipients, &rows[i]);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_many_domains),        cmocka_unit_test(test_a_thousand_routes),
        cmocka_unit_test(test_some_routes_are_mute),
        cmocka_unit_test(test_many_failures),
        cmocka_unit_test(test_an_unreadable_message), cmocka_unit_test(test_the_next_mx),
        cmocka_unit_test(test_ourselves),           cmocka_unit_test(test_a_relay_host),  cmocka_unit_test(test_five_days),
        cmocka_unit_test(test_bounces_have_an_end), cmocka_unit_test(test_a_dead_site),   cmocka_unit_test(test_limits_of_a_site),
        cmocka_unit_test(test_a_stale_connection),  cmocka_unit_test(test_a_connection_of_before),
        cmocka_unit_test(test_a_level_by_domain),
        cmocka_unit_test(test_by_data_after_all),
        cmocka_unit_test(test_the_urgent_go_first),
        cmocka_unit_test(test_utf8_by_the_next_mx),
        cmocka_unit_test(test_utf8_by_none),
        cmocka_unit_test(test_utf8_by_one_that_is_away),
        cmocka_unit_test(test_a_server_that_takes_its_time),
        cmocka_unit_test(test_tls_is_optional),  cmocka_unit_test(test_a_plain_connection_is_not_for_all),
        cmocka_unit_test(test_a_bounce_goes_without_the_promise),
        cmocka_unit_test(test_a_kill_while_one_hangs),
        cmocka_unit_test(test_domains_share_a_site),
        cmocka_unit_test(test_dead_when_it_is_found_out),
        cmocka_unit_test(test_a_reload_in_between), cmocka_unit_test(test_a_site_is_shown), cmocka_unit_test(test_a_retry_that_is_asked_for),
        cmocka_unit_test(test_ipv6_that_is_not_liked), cmocka_unit_test(test_greylisting_is_waited_for), cmocka_unit_test(test_a_limit_is_learnt),
        cmocka_unit_test(test_stopping),      cmocka_unit_test(test_stopping_at_any_time),
        cmocka_unit_test(test_a_silent_site), cmocka_unit_test(test_ourselves_as_backup), cmocka_unit_test(test_counts),
        cmocka_unit_test(test_trouble_is_named),    cmocka_unit_test(test_a_receipt_is_asked_for),
        cmocka_unit_test(test_a_delay_is_told_once),
        cmocka_unit_test(test_held_for_its_sender), cmocka_unit_test(test_held_by_the_next_server), cmocka_unit_test(test_a_time_is_handed_on),
        cmocka_unit_test(test_back_in_time),        cmocka_unit_test(test_back_at_once),  cmocka_unit_test(test_back_from_a_slow_server),
        cmocka_unit_test(test_late_is_told_once),   cmocka_unit_test(test_a_relay_is_told),
        cmocka_unit_test(test_tls_that_nobody_vouches_for), cmocka_unit_test(test_tls_to_a_relay_host),
        cmocka_unit_test(test_within_the_servers_limits),
        cmocka_unit_test(test_limits_of_a_server_that_refuses),
        cmocka_unit_test(test_too_many_recipients), cmocka_unit_test(test_lmtp),
    };
    log_level_set(getenv("NIGHTMAIL_TEST_LOG") != NULL ? LOG_DEBUG : LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
