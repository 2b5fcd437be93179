/*
 * For tests/sim/hostile.c: clients that send any bytes at any pace.
 *
 * Most begin with a conversation as it should be, so that they come far, and then change, cut, hurry or slow it. What they hear is looked at:
 * replies are lines of printable text. Whoever keeps a session busy without a message, and without an end, must be sent away in time.
 */
#ifndef SIM_HOSTILE_CLIENTS_H
#define SIM_HOSTILE_CLIENTS_H

#include "hostile.h"

#define ATTACK_BYTES_MAX ((size_t)3 << 20)   /* more than a server reads of a message that is too big */
#define ATTACK_SLACK_NS  (60 * NS_PER_S)     /* a farewell, and the network's time */

struct attacker {
    struct stream *stream;
    const char    *server;
    int64_t        begun_ns;
    int64_t        given_ns;      /* how long a session without a message may last */
    size_t         column;        /* of the reply's line that comes */
    char           last;          /* its last byte */
};

/* -- what is said ----------------------------------------------------------------------------------------------------------------- */

static const char *const attack_names[] = { "evil.example", "[203.0.113.9]", "a.example", "mx.a.example", "-", "x y z", "localhost", "" };
static const char *const attack_senders[] = { "", "victim@c.example", "u0@a.example", "x@e0.example", "\"a b\"@b.example", "a@b@c", "@", "u0" };
static const char *const attack_params[] = {
    "", "", "", "", " SIZE=10", " SIZE=99999999999999999999", " BODY=8BITMIME", " SMTPUTF8", " RET=FULL ENVID=+0D+0AX-Injected:", " AUTH=<>",
    " BODY=BINARYMIME", " REQUIRETLS", " MT-PRIORITY=9", " SIZE=1 SIZE=1", " XYZ=1", " BODY=", " RET=HDRS",
};
static const char *const attack_rcpts[] = {
    "u0@a.example", "u1@a.example", "u0@b.example", "u1@b.example", "x@c.example", "x%c.example@a.example", "@a.example:x@c.example",
    "c.example!x@a.example", "\"x@c.example\"@a.example", "nobody@a.example", "postmaster", "u0@[192.0.2.1]", "x@e0.example", "u0@a.example.",
    "U0@A.EXAMPLE", "u0+x@b.example", "", "x@c.example@a.example", "\"u0\"@a.example", "x@c.example>,<u0@a.example",
};
static const char *const attack_others[] = {
    "NOOP", "RSET", "VRFY u0", "EXPN all", "HELP", "ETRN a.example", "AUTH PLAIN AHgAeA==", "AUTH LOGIN", "XCLIENT ADDR=127.0.0.1 LOGIN=u0",
    "XFORWARD NAME=x", "STARTTLS", "LHLO x", "HELO x", "EHLO again.example", "TURN", "GET / HTTP/1.1", "\x16\x03\x01\x02", "QUIT", "DATA", "*",
};
static const char *const attack_fields[] = {
    "Subject: x", "Received: from x by y; z", "Content-Type: multipart/mixed; boundary=x", " folded", "From: a@b", ":", "Bcc: x@c.example",
    "X\x01: y", "Return-Path: <x@c.example>", "Resent-To: x@c.example", "To: \x80\x81",
};
static const char *const attack_ends[] = { "\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\n", "\r", "\n\r", "\r\r\n" };

static void put_text(struct buf *out, bool dotted)
{
    size_t fields = chance(5) ? 150 + below(100) : below(12), lines = chance(4) ? below(2000) : below(30);
    for (size_t i = 0; i < fields; i++)
        buf_printf(out, "%s\r\n", ONE_OF(attack_fields));
    if (chance(1))
        put_run(out, 'h', below(chance(20) ? ATTACK_BYTES_MAX : 200000));
    buf_put_z(out, chance(95) ? "\r\n" : "");
    for (size_t i = 0; i < lines; i++) {
        if (chance(10))
            buf_put_z(out, dotted ? ".." : ".");
        put_run(out, (char)(' ' + below(95)), chance(2) ? below(5000) : below(80));
        buf_put_z(out, chance(98) ? "\r\n" : ONE_OF(attack_ends));
    }
}

/* Octets that are as many as was said, or not. */
static void put_chunk(struct buf *out, bool last)
{
    static const char *const lies[] = { "0", "18446744073709551615", "-1", "99999999999999999999", "1e3", "", "4294967296", "1048577" };
    struct buf text;
    buf_init(&text, ATTACK_BYTES_MAX);
    put_text(&text, false);
    if (chance(85))
        buf_printf(out, "BDAT %zu%s\r\n", text.n, last ? " LAST" : "");
    else
        buf_printf(out, "BDAT %s%s\r\n", ONE_OF(lies), last ? " LAST" : "");
    buf_put_str(out, str_head(buf_str(&text), chance(90) ? text.n : below(text.n + 1)));
    buf_free(&text);
}

static void put_transaction(struct buf *out)
{
    size_t rcpts = chance(5) ? 100 + below(1500) : 1 + below(5), chunks = chance(30) ? 1 + below(chance(10) ? 300 : 4) : 0;
    buf_printf(out, "MAIL FROM:<%s>%s\r\n", ONE_OF(attack_senders), ONE_OF(attack_params));
    for (size_t i = 0; i < rcpts; i++)
        buf_printf(out, "RCPT TO:<%s>%s\r\n", chance(60) ? attack_rcpts[below(4)] : ONE_OF(attack_rcpts), chance(10) ? " NOTIFY=FAILURE,DELAY" : "");
    while (chance(15))
        buf_printf(out, "%s\r\n", ONE_OF(attack_others));
    for (size_t i = 1; i < chunks; i++)
        put_chunk(out, false);
    if (chunks > 0) {
        put_chunk(out, true);
        return;
    }
    buf_put_z(out, "DATA\r\n");
    put_text(out, true);
    buf_put_z(out, chance(90) ? ".\r\n" : "\n.\n");
}

static void put_dialogue(struct buf *out)
{
    if (chance(90))
        buf_printf(out, "EHLO %s\r\n", chance(80) ? attack_names[0] : chance(50) ? ONE_OF(attack_names) : hostile_words());
    for (size_t i = 1 + below(3); i > 0; i--)
        put_transaction(out);
    buf_put_z(out, chance(50) ? "QUIT\r\n" : "");
}

/* A text that a server with an end of its own takes for two messages. */
static void put_smuggling(struct buf *out)
{
    static const char *const ends[] = { "\n.\n",   "\n.\r\n",   "\r\n.\n", "\r.\r", "\r\n.\r", "\r\n\0.\r\n", "\n\n.\r\n", "\r\r\n.\r\r\n", "\r\n.\r\r\n",
                                        "\r\n.\0\r\n", "\n.\r", "\r.\r\n", "\r\n.\n\r\n" };
    static const size_t lengths[] = { 3, 4, 4, 3, 4, 6, 5, 7, 6, 6, 3, 4, 6 };
    size_t i = below(sizeof ends / sizeof ends[0]);
    buf_put_z(out, "EHLO evil.example\r\nMAIL FROM:<x@e0.example>\r\nRCPT TO:<u0@a.example>\r\nDATA\r\nSubject: x\r\n\r\ntext");
    buf_put(out, ends[i], lengths[i]);
    buf_put_z(out, "MAIL FROM:<smuggled@a.example>\r\nRCPT TO:<u0@a.example>\r\nDATA\r\nSubject: smuggled\r\n\r\n.\r\nQUIT\r\n");
}

static void change_once(struct buf *b)
{
    struct buf all;
    size_t at = below(b->n + 1), n = below(chance(70) ? 20 : 3000);
    struct str head = str_head(buf_str(b), at), tail = str_from(buf_str(b), at);
    buf_init(&all, ATTACK_BYTES_MAX);
    buf_put_str(&all, head);
    switch (below(9)) {
    case 0: put_noise(&all, 1), tail = str_from(tail, 1); break;
    case 1: tail = str_from(tail, n); break;
    case 2: buf_put_str(&all, str_head(tail, n)); break;
    case 3: put_noise(&all, n); break;
    case 4: put_run(&all, (char)sim_random(), chance(3) ? below(ATTACK_BYTES_MAX) : below(4000)); break;
    case 5: buf_put_z(&all, hostile_words()); break;
    case 6: buf_put_z(&all, ONE_OF(attack_ends)); break;
    case 7: tail = (struct str){ NULL, 0 }; break;
    case 8: buf_put_str(&all, str_from(tail, n)), tail = str_head(tail, n); break;
    }
    buf_put_str(&all, tail);
    buf_free(b);
    *b = all;
    b->failed = false;
}

/* -- how it is said ------------------------------------------------------------------------------------------------------------------ */

/* What a server says is text, whatever it was asked. */
static void check_heard(struct attacker *a, struct str heard)
{
    for (size_t i = 0; i < heard.n; i++) {
        char c = heard.p[i];
        bool ok = c == '\n' ? a->last == '\r' : a->last != '\r';
        if (a->column < 3)
            ok = ok && char_is_digit(c);
        else if (a->column == 3)
            ok = ok && (c == ' ' || c == '-');
        else
            ok = ok && (c == '\r' || c == '\n' || ((unsigned char)c >= ' ' && c != 0x7f));
        if (!ok)
            fail("a server said byte %02x in column %zu of a reply", (unsigned char)c, a->column);
        a->column = c == '\n' ? 0 : a->column + 1;
        a->last = c == '\n' ? 0 : c;
    }
}

/* Awaits. True: the server is still there; it said something, or the time is over. */
static bool hear(struct attacker *a, int64_t wait_ns)
{
    ssize_t n = stream_fill(a->stream, task_deadline_in(wait_ns));
    if (n > 0) {
        check_heard(a, stream_pending(a->stream));
        stream_discard_pending(a->stream);
    }
    return n > 0 || n == -ETIMEDOUT;
}

/* Awaits. False: the server is gone, or does not read. */
static bool say(struct attacker *a, struct str bytes)
{
    int64_t deadline = task_deadline_in(600 * NS_PER_S);
    stream_write_deadline(a->stream, deadline);
    return stream_put(a->stream, bytes) == 0 && stream_flush(a->stream, deadline) == 0;
}

static void say_in_step(struct attacker *a, struct str all)
{
    struct str line;
    while (all.n > 0) {
        bool whole = str_cut(all, '\n', &line, &all);
        if (!say(a, (struct str){ line.p, line.n + whole }) || !hear(a, line.n > 200 ? 0 : up_to(NS_PER_S)))
            return;
    }
}

static void say_in_pieces(struct attacker *a, struct str all, size_t most, int64_t pause_ns)
{
    while (all.n > 0) {
        struct str piece = str_head(all, 1 + below(most));
        all = str_from(all, piece.n);
        if (!say(a, piece) || !hear(a, up_to(pause_ns)))
            return;
    }
}

static void say_at_some_pace(struct attacker *a, struct str all)
{
    switch (below(5)) {
    case 0: (void)say(a, all); break;
    case 1: say_in_step(a, all); break;
    case 2: say_in_pieces(a, str_head(all, 3000), 1 + below(4), (int64_t)(1 + below(300)) * NS_PER_S); break;
    case 3: say_in_pieces(a, all, 1 + below(60000), up_to(10 * NS_PER_S)); break;
    case 4: say_in_step(a, str_head(all, below(400))), (void)say(a, str_from(all, 400)); break;
    }
}

/* Until the server hangs up, which it must. */
static void stay(struct attacker *a, int64_t most_ns)
{
    int64_t until = task_deadline_in(most_ns);
    while (clock_mono_ns() < until && !task_canceled())
        if (!hear(a, until - clock_mono_ns()))
            return;
}

/* -- the attacks --------------------------------------------------------------------------------------------------------------------------- */

static void attack_by_dialogue(struct attacker *a)
{
    struct buf all;
    buf_init(&all, ATTACK_BYTES_MAX);
    put_dialogue(&all);
    for (size_t i = chance(40) ? 0 : 1 + below(6); i > 0; i--)
        change_once(&all);
    if (chance(80))
        (void)hear(a, 10 * NS_PER_S);
    say_at_some_pace(a, str_head(buf_str(&all), chance(25) ? below(all.n + 1) : all.n));
    buf_free(&all);
}

static void attack_by_smuggling(struct attacker *a)
{
    struct buf all;
    buf_init(&all, 4096);
    put_smuggling(&all);
    (void)hear(a, 10 * NS_PER_S);
    if (chance(50))
        say_in_step(a, buf_str(&all));
    else
        say_in_pieces(a, buf_str(&all), 1 + below(30), up_to(NS_PER_S));
    buf_free(&all);
}

static void attack_by_noise(struct attacker *a)
{
    struct buf all;
    buf_init(&all, ATTACK_BYTES_MAX);
    if (chance(50))
        put_noise(&all, below(100000));
    else
        put_run(&all, (char)sim_random(), below(chance(5) ? ATTACK_BYTES_MAX : 100000));
    (void)hear(a, up_to(2 * NS_PER_S));
    say_at_some_pace(a, buf_str(&all));
    buf_free(&all);
}

/* Each word in time, and never a message: it must end all the same. */
static void attack_by_renewing(struct attacker *a)
{
    static const char *const words[] = { "NOOP\r\n", "BDAT 1\r\nx", "BDAT 0\r\n", "RCPT TO:<u0@a.example>\r\n", "x", "x\r\n", "RSET\r\n", "VRFY u0\r\n" };
    struct str word = str_of(ONE_OF(words));
    int64_t pause_ns = (int64_t)(1 + below(290)) * NS_PER_S;
    (void)hear(a, 10 * NS_PER_S);
    bool on = say(a, STR("EHLO evil.example\r\n")) && hear(a, 10 * NS_PER_S) && say(a, STR("MAIL FROM:<>\r\nRCPT TO:<u0@a.example>\r\n"));
    if (on && chance(30))
        on = say(a, STR("DATA\r\n"));
    while (on && !task_canceled()) {
        on = task_sleep(pause_ns) == 0 && hear(a, NS_PER_S);
        if (on && clock_mono_ns() - a->begun_ns > a->given_ns + ATTACK_SLACK_NS + 2 * pause_ns) {      /* it learns of its end a pause later */
            fail("a session that renews by %.*s every %lld s lives for %lld s", (int)word.n - 2, word.p, (long long)(pause_ns / NS_PER_S),
                 (long long)((clock_mono_ns() - a->begun_ns) / NS_PER_S));
            return;
        }
        on = on && say(a, word);
    }
}

static bool attacker_open(struct attacker *a, const char *from_ip, int64_t given_ns)
{
    struct net_addr to, from;
    *a = (struct attacker){ .server = chance(70) ? "192.0.2.1" : "192.0.2.2", .given_ns = given_ns };
    bool ok = net_addr_parse(str_of(a->server), 25, &to) && net_addr_parse(str_of(from_ip), 0, &from);
    assert(ok);
    (void)ok;
    a->begun_ns = clock_mono_ns();
    return net_connect(&to, &from, task_deadline_in(60 * NS_PER_S), &a->stream) == 0;
}

static void attack_by_connections(struct attacker *a, const char *from_ip)
{
    for (size_t i = below(400); i > 0 && !task_canceled(); i--) {
        stream_close(a->stream);
        a->stream = NULL;
        if (chance(10))
            (void)task_sleep(up_to(NS_PER_S));
        if (!attacker_open(a, from_ip, a->given_ns)) {
            a->stream = NULL;
            return;
        }
    }
}

/* One attacker's whole life. Awaits. */
static void attack(int64_t given_ns)
{
    struct attacker a;
    char ip[32];
    snprintf(ip, sizeof ip, "203.0.%zu.%zu", 113 + below(4), 1 + below(250));
    if (!attacker_open(&a, ip, given_ns))
        return;
    switch (below(10)) {
    case 0: attack_by_smuggling(&a); break;
    case 1: attack_by_noise(&a); break;
    case 2: attack_by_renewing(&a); break;
    case 3: attack_by_connections(&a, ip); break;
    case 4: break; /* says nothing at all */
    default: attack_by_dialogue(&a); break;
    }
    if (a.stream != NULL && chance(40))
        stay(&a, up_to(HOURS(5)));
    else if (a.stream != NULL && chance(30))
        (void)task_sleep(up_to(HOURS(5))); /* deaf */
    if (a.stream != NULL && chance(30))
        (void)stream_shutdown(a.stream, task_deadline_in(NS_PER_S));
    if (a.stream != NULL)
        stream_close(a.stream);
}

#endif
