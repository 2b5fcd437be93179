/*
 * For tests/sim/hostile.c: next hops that say anything, at any pace, and DNS that leads to them.
 *
 * Asked of whoever connects here: to have left within `given_ns` of the last MAIL that was read here, whatever is said or not said.
 */
#ifndef SIM_HOSTILE_HOPS_H
#define SIM_HOSTILE_HOPS_H

#include "hostile.h"

#define HOP_STAYS_NS HOURS(30)

struct hops {
    struct net_listener *listeners[4];
    struct task_group tasks;
    int64_t given_ns;
    unsigned open, connections;
};

static struct hops hops;

struct hop {
    struct stream *stream;
    struct buf line;
    int64_t since_ns; /* the last MAIL, or the beginning */
    bool mail_seen;
    int64_t think_ns; /* before each reply: just in time, again and again */
    bool loose;       /* replies were said ahead: what it does is no longer known here */
    bool in_text;
    uint64_t octets;  /* of a BDAT, still to come */
};

/* -- saying ---------------------------------------------------------------------------------------------------------------------------- */

/* What it had said before it left may be read here for hours; with more of that than the stream holds, nobody knows. */
static bool hop_is_left(struct hop *h)
{
    ssize_t n;
    do
        n = stream_fill(h->stream, clock_mono_ns());
    while (n > 0);
    return n != -ETIMEDOUT;
}

static void check_hop(struct hop *h)
{
    int64_t given_ns = h->mail_seen ? hops.given_ns : 2 * hops.given_ns;     /* the second is for a MAIL that nobody has read */
    if (!h->loose && clock_mono_ns() - h->since_ns > given_ns && !hop_is_left(h))
        fail("a delivery stays with a hostile server for %lld s", (long long)((clock_mono_ns() - h->since_ns) / NS_PER_S));
}

static void hop_see_mail(struct hop *h)
{
    h->mail_seen = true;
    h->since_ns = clock_mono_ns();
}

/* Awaits. False: it left. */
static bool hop_say(struct hop *h, struct str bytes)
{
    int64_t deadline = task_deadline_in(HOURS(1));
    check_hop(h);
    stream_write_deadline(h->stream, deadline);
    return stream_put(h->stream, bytes) == 0 && stream_flush(h->stream, deadline) == 0;
}

static bool hop_say_z(struct hop *h, const char *z) { return hop_say(h, str_of(z)); }

static bool hop_trickle(struct hop *h, struct str bytes, int64_t pause_ns)
{
    for (size_t i = 0; i < bytes.n; i++)
        if (!hop_say(h, (struct str){ bytes.p + i, 1 }) || task_sleep(pause_ns) < 0)
            return false;
    return true;
}

/* Without an end, but for the peer's. */
static void hop_repeat(struct hop *h, const char *words, int64_t pause_ns)
{
    int64_t until = task_deadline_in(HOP_STAYS_NS);
    while (clock_mono_ns() < until && hop_say_z(h, words) && task_sleep(pause_ns > 0 ? pause_ns : NS_PER_MS) == 0)
        ;
}

static void hop_hold(struct hop *h)
{
    int64_t until = task_deadline_in(HOP_STAYS_NS);
    while (clock_mono_ns() < until && !task_canceled()) {
        ssize_t n = stream_fill(h->stream, task_deadline_in(HOURS(1)));
        if (n != -ETIMEDOUT && n <= 0)
            return;
        stream_discard_pending(h->stream);
        check_hop(h);
    }
}

static int64_t some_pause(void)
{
    static const int64_t pauses[] = { 0, NS_PER_MS, NS_PER_S, 60 * NS_PER_S, 290 * NS_PER_S };
    return ONE_OF(pauses);
}

/* Replies to commands that were not sent. */
static bool hop_say_ahead(struct hop *h)
{
    h->loose = true;
    for (size_t i = below(200); i > 0; i--)
        if (!hop_say_z(h, chance(70) ? "250 2.0.0 ok\r\n" : "354 go\r\n"))
            return false;
    return true;
}

static bool hop_say_half(struct hop *h)
{
    return hop_say_z(h, "250 half a re") && chance(50) && task_sleep(up_to(HOURS(1))) == 0 && hop_say_z(h, "ply\r\n");
}

/* A reply as no server should write it. */
static void put_bad_reply(struct buf *out)
{
    static const char *const wrong[] = {
        "999 what\r\n", "000 what\r\n", "25\r\n", "2500 x\r\n", "abc\r\n", "\r\n", "250\r\n", "250\n", "354 go on\r\n", "220 again\r\n", "221 bye\r\n",
        "421 4.3.2 later\r\n", "450 4.2.1 later\r\n", "452 4.5.3 too many\r\n", "552 too many\r\n", "503 5.5.1 what\r\n", "500 5.5.1 what\r\n",
        "250-a\r\n550 b\r\n", "250-a\r\n250 b\r\n250 c\r\n", "550-5.1.1 a\r\n550-X-Injected: yes\r\n550 5.1.1 b\r\n", "+OK\r\n", "* OK IMAP\r\n",
        "150 wait\r\n", "334 VXNlcm5hbWU6\r\n", "235 2.7.0 welcome\r\n", "HTTP/1.1 200 OK\r\n\r\n",
    };
    switch (below(6)) {
    case 0:
        buf_put_z(out, "550 5.1.1 ");
        put_run(out, 'x', below(chance(20) ? 1 << 20 : 5000));
        buf_put_z(out, "\r\n");
        break;
    case 1:
        for (size_t i = 90 + below(30); i > 0; i--)
            buf_printf(out, "550-5.1.1 %zu\r\n", i);
        buf_put_z(out, "550 5.1.1 end\r\n");
        break;
    case 2:
        put_noise(out, below(3000));
        break;
    case 3: case 4:
        buf_printf(out, "%s%s\r\n", chance(70) ? "550 5.1.1 " : chance(50) ? "550-5.1.1 " : "450 4.1.1 ", hostile_words());
        break;
    case 5:
        buf_put_z(out, ONE_OF(wrong));
        break;
    }
}

static bool hop_say_badly(struct hop *h)
{
    struct buf text;
    h->loose = true;                                     /* some are two */
    buf_init(&text, 2 << 20);
    put_bad_reply(&text);
    bool on = hop_say(h, buf_str(&text));
    buf_free(&text);
    return on;
}

/* Something instead of a reply. False: the connection is over. */
static bool hop_misbehave(struct hop *h)
{
    switch (below(12)) {
    case 0: hop_repeat(h, "250-more\r\n", some_pause()); return false;
    case 1: hop_repeat(h, "250 no line end ", some_pause()); return false;
    case 2: hop_hold(h); return false;
    case 3: return false;
    case 4: return hop_say_half(h);
    case 5: return hop_say_ahead(h);
    case 6: return hop_trickle(h, STR("250 2.0.0 a reply, but slowly\r\n"), some_pause());
    default: return hop_say_badly(h);
    }
}

/* -- a conversation ---------------------------------------------------------------------------------------------------------------------- */

static const char *const hop_hellos[] = {
    "250-hop\r\n250-PIPELINING\r\n250-SIZE 0\r\n250-8BITMIME\r\n250 ENHANCEDSTATUSCODES\r\n", "250 hop\r\n", "250-hop\r\n250-PIPELINING\r\n250 CHUNKING\r\n",
    "250-hop\r\n250-SIZE 1\r\n250 8BITMIME\r\n", "250-hop\r\n250-SIZE 99999999999999999999999\r\n250 PIPELINING\r\n", "250-hop\r\n250 LIMITS RCPTMAX=1 MAILMAX=1\r\n",
    "250-hop\r\n250 LIMITS RCPTMAX=0 MAILMAX=0\r\n", "250-hop\r\n250-STARTTLS\r\n250 PIPELINING\r\n", "250-hop\r\n250-DSN\r\n250-SMTPUTF8\r\n250 DELIVERBY -1\r\n",
    "250-hop\r\n250-\x1b[31m\r\n250 AUTH PLAIN LOGIN \xff\r\n", "502 no EHLO\r\n", "250-hop\r\n250-CHUNKING\r\n250-BINARYMIME\r\n250 PIPELINING\r\n",
};

static bool hop_usual(struct hop *h, struct str line)
{
    if (str_starts_nocase(line, STR("EHLO")))
        return hop_say_z(h, ONE_OF(hop_hellos));
    if (str_starts_nocase(line, STR("STARTTLS")))
        return hop_say_z(h, chance(50) ? "220 go\r\n" : "220 go\r\n250 injected\r\n") && hop_misbehave(h);
    if (str_starts_nocase(line, STR("DATA"))) {
        h->in_text = true;
        return hop_say_z(h, "354 go on\r\n");
    }
    if (str_starts_nocase(line, STR("BDAT ")) && chance(20))
        return hop_say_z(h, "500 5.5.1 BDAT?\r\n");
    if (str_starts_nocase(line, STR("QUIT")))
        return hop_say_z(h, "221 2.0.0 bye\r\n") && false;
    return hop_say_z(h, "250 2.0.0 ok\r\n");
}

/* Awaits one line of a text or a command; false: gone. */
static bool hop_line(struct hop *h)
{
    buf_clear(&h->line);
    for (;;) {
        struct str pending = stream_pending(h->stream);
        if (h->octets > 0) {
            size_t n = pending.n < h->octets ? pending.n : (size_t)h->octets;
            stream_consume(h->stream, n);
            h->octets -= n;
            pending = stream_pending(h->stream);
        }
        ssize_t lf = h->octets > 0 ? -1 : str_find(pending, '\n');
        if (lf >= 0) {
            buf_put(&h->line, pending.p, (size_t)lf);
            stream_consume(h->stream, (size_t)lf + 1);
            return true;
        }
        if (pending.n == STREAM_INPUT_MAX)
            return false;
        ssize_t n = stream_fill(h->stream, task_deadline_in(HOURS(1)));
        if (n == -ETIMEDOUT)
            check_hop(h);
        else if (n <= 0)
            return false;
    }
}

static bool hop_answer(struct hop *h, unsigned ill)
{
    struct str line = buf_str(&h->line);
    if (h->in_text) {
        if (!str_eq(line, STR(".\r")))
            return true;
        h->in_text = false;
        if (task_sleep(h->think_ns) < 0)
            return false;
        return chance(ill) ? hop_misbehave(h) : hop_say_z(h, chance(70) ? "250 2.0.0 taken\r\n" : "554 5.7.1 no\r\n");
    }
    if (str_starts_nocase(line, STR("MAIL")))
        hop_see_mail(h);
    if (str_starts_nocase(line, STR("BDAT ")))
        h->octets = strtoull(line.p + 5, NULL, 10);      /* the line ends in CR */
    if (task_sleep(h->think_ns) < 0)
        return false;
    return chance(ill) ? hop_misbehave(h) : hop_usual(h, line);
}

static void hop_converse(struct hop *h)
{
    unsigned ill = (unsigned)below(40);
    h->think_ns = chance(20) ? 200 * NS_PER_S + up_to(95 * NS_PER_S) : 0;
    bool on = chance(ill) ? hop_misbehave(h) : hop_say_z(h, chance(90) ? "220 hop ESMTP\r\n" : "220 mx.a.example ESMTP\r\n");
    while (on && hop_line(h))
        on = hop_answer(h, ill);
}

/* All that it will ever say, at once; then it listens. */
static void hop_volley(struct hop *h)
{
    h->loose = true;
    if (hop_say_z(h, "220 hop\r\n250-hop\r\n250 PIPELINING\r\n250 a\r\n250 b\r\n354 c\r\n250 d\r\n250 e\r\n250 f\r\n354 g\r\n"))
        hop_hold(h);
}

/* It takes the envelope, and reads none of the text. */
static void hop_deaf(struct hop *h)
{
    static const char *const words[] = { "220 hop\r\n", "250 hop\r\n", "250 ok\r\n", "250 ok\r\n", "354 go on\r\n" };
    bool on = true;
    for (size_t i = 0; on && i < sizeof words / sizeof words[0]; i++) {
        on = hop_say_z(h, words[i]) && hop_line(h);
        if (on && str_starts(buf_str(&h->line), STR("MAIL")))
            hop_see_mail(h);
    }
    if (on)
        (void)task_sleep(up_to(HOURS(8)));
}

static void hop_task(void *arg)
{
    struct hop h = { .stream = arg, .since_ns = clock_mono_ns() };
    buf_init(&h.line, 1 << 20);
    hops.open++;
    hops.connections++;
    switch (below(10)) {
    case 0: hop_volley(&h); break;
    case 1: hop_deaf(&h); break;
    case 2: while (hop_misbehave(&h) && chance(80)) ; break;
    default: hop_converse(&h); break;
    }
    if (chance(20))
        (void)task_sleep(up_to(HOURS(1)));
    hops.open--;
    stream_close(h.stream);
    buf_free(&h.line);
}

static void hop_accept_task(void *arg)
{
    struct stream *stream;
    struct net_addr peer;
    while (net_accept(arg, TASK_FOREVER, &stream, &peer) == 0)
        if (task_group_start(&hops.tasks, "hop", hop_task, stream) < 0)
            stream_close(stream);
}

static void hops_begin(int64_t given_ns)
{
    hops = (struct hops){ .given_ns = given_ns };
    task_group_init(&hops.tasks);
    for (size_t i = 0; i < sizeof hops.listeners / sizeof hops.listeners[0]; i++) {
        char text[32];
        struct net_addr at;
        snprintf(text, sizeof text, "192.0.2.%zu", 101 + i);
        bool ok = net_addr_parse(str_of(text), 25, &at) && net_listen(&at, false, &hops.listeners[i]) == 0 &&
                  task_group_start(&hops.tasks, "hop accept", hop_accept_task, hops.listeners[i]) == 0;
        assert(ok);
        (void)ok;
    }
}

/* Awaits. */
static void hops_end(void)
{
    task_group_cancel(&hops.tasks);
    (void)task_group_wait(&hops.tasks, TASK_FOREVER);
    for (size_t i = 0; i < sizeof hops.listeners / sizeof hops.listeners[0]; i++)
        net_listener_close(hops.listeners[i]);
}

/* -- DNS that lies ------------------------------------------------------------------------------------------------------------------------------ */

#define HOP_ZONE                                                                                                                           \
    "e0.example. 300 IN MX 10 h0.e0.example.\nh0.e0.example. 300 IN A 192.0.2.101\n"                                                       \
    "e1.example. 300 IN MX 10 h1.e0.example.\ne1.example. 300 IN MX 10 h2.e0.example.\ne1.example. 300 IN MX 20 h3.e0.example.\n"          \
    "h1.e0.example. 300 IN A 192.0.2.102\nh2.e0.example. 300 IN A 192.0.2.103\nh3.e0.example. 300 IN A 192.0.2.104\n"                      \
    "e2.example. 300 IN A 192.0.2.103\n"                                                                                                   \
    "e3.example. 300 IN MX 10 mx.a.example.\ne4.example. 300 IN MX 10 us.e4.example.\nus.e4.example. 300 IN A 192.0.2.1\n"                 \
    "e5.example. 300 IN A 127.0.0.1\ne6.example. 300 IN MX 0 .\ne6.example. 300 IN MX 0 h0.e0.example.\n"                                  \
    "e7.example. 300 IN CNAME e8.example.\ne8.example. 300 IN CNAME e7.example.\n"                                                         \
    "e9.example. 300 IN MX 10 192.0.2.101.\ne9.example. 300 IN MX 10 nowhere.example.\ne9.example. 300 IN MX 65535 gone.e0.example.\n"

/* A domain of very many servers, each with very many addresses. */
static void hop_zone(void)
{
    struct buf zone;
    buf_init(&zone, 4 << 20);
    buf_put_z(&zone, HOP_ZONE);
    for (unsigned i = 0; i < 150; i++)
        buf_printf(&zone, "many.example. 300 IN MX %u m%u.many.example.\n", i / 10, i);
    for (unsigned i = 0; i < 1500; i++)
        buf_printf(&zone, "m%u.many.example. 300 IN A 192.0.2.%u\n", i % 30, 100 + i % 150);
    buf_put_char(&zone, '\0');
    int r = sim_dns_zone(zone.p);
    assert(r == 0);
    (void)r;
    buf_free(&zone);
}

static bool is_hostile_name(struct str name)
{
    return str_find_str(name, STR("many.example")) >= 0 || (name.n >= 10 && name.p[name.n - 10] == 'e' && str_ends_nocase(name, STR(".example")));
}

static void lie_about_records(struct arena *arena, enum dns_type type, struct dns_answer *a)
{
    static const char *const names[] = { "mx.a.example", "", "h0.e0.example", "localhost", "e7.example", "\x1b[31m.e0.example", "192.0.2.1", "a.b..c" };
    static const uint8_t ips[][4] = { { 192, 0, 2, 1 }, { 127, 0, 0, 1 }, { 0, 0, 0, 0 }, { 255, 255, 255, 255 }, { 192, 0, 2, 101 }, { 224, 0, 0, 1 } };
    a->count = chance(20) ? DNS_RECORDS_MAX : 1 + below(3);
    a->records = arena_array(arena, a->count, sizeof *a->records);
    assert(a->records != NULL);
    for (size_t i = 0; i < a->count; i++) {
        struct dns_record *r = &a->records[i];
        *r = (struct dns_record){ .preference = (uint16_t)(chance(50) ? 10 : sim_random()) };
        if (type == DNS_MX)
            r->name = str_of(ONE_OF(names));
        else
            memcpy(r->ip, ONE_OF(ips), 4);
    }
    a->status = DNS_FOUND;
    a->ttl_s = chance(50) ? 0 : 0x7fffffff;
}

static int64_t hop_lie(void *arg, struct arena *arena, struct str name, enum dns_type type, struct dns_answer *answer)
{
    static const enum dns_status statuses[] = { DNS_SERVFAIL, DNS_BOGUS, DNS_NO_DATA, DNS_SERVFAIL, DNS_NO_NAME, DNS_SERVFAIL };
    (void)arg;
    if (!is_hostile_name(name) || (type != DNS_MX && type != DNS_A && type != DNS_AAAA))
        return 0;
    if (chance(15)) {
        answer->status = ONE_OF(statuses);
        answer->count = 0;
    } else if (chance(15)) {
        lie_about_records(arena, type, answer);
    }
    return chance(15) ? up_to(120 * NS_PER_S) : 0;
}

#endif
