/*
 * Two whole servers and their clients in one simulated world, from a seed: what was acknowledged arrives.
 *
 *     world [--seed N | --seeds N] [--seconds N] [--first N] [--log]
 *
 * a.example and b.example are served by the program (inbound, queue, outbound), c.example by a server made to order, which is ill now and
 * then. Clients send messages of all sizes to users of theirs, of the other, of nobody. Depending on the seed connections break
 * at random bytes, servers stop and start again, operations of the disk fail, or the power fails: the run goes on from the image that the
 * disk is then, at a random operation of the log, with what was not synced dropped, torn or reordered.
 *
 * After the run (promise 2 of the design): each recipient of each acknowledged message was delivered to, or its sender has a DSN that names it,
 * and not both; exactly once when nothing broke or stopped. Of a message that was refused, nobody got anything; of one without an
 * answer, everybody or nobody. Every body is the one that was sent (SHA-256), and nobody got what was not addressed to him.
 *
 * In every fourth round of modes the servers speak TLS with each other.
 *
 * A failure prints the seed and the step of the world. Every tenth seed runs twice: its traces must be equal.
 */
#include "base/digest.h"
#include "base/log.h"
#include "run/tls_test_scene.h"
#include "servers.h"
#include <stdarg.h>
#include <time.h>

#define CLIENTS_MAX   6
#define MESSAGES_MAX  64
#define RCPTS_MAX     5
#define SIGHTINGS_MAX 4096
#define BODY_MAX      (200 * 1024)
#define PATIENCE_NS   (4 * 86400 * NS_PER_S) /* for a queue to empty; less than a message has until it expires */
#define CRASHES_MAX   3

enum mode { MODE_CALM, MODE_CUTS, MODE_POWER, MODE_RESTARTS, MODE_DISK, MODE_ALL, MODES };
static const char *const mode_names[MODES] = { "calm", "cuts", "power", "restarts", "disk", "all" };

enum fate { NEVER_SENT, REFUSED, UNKNOWN, ACCEPTED };
static const char *const fate_names[] = { "never sent", "refused", "unknown", "accepted" };

struct message {
    const char *sender; /* "" is the null sender */
    const char *rcpts[RCPTS_MAX];
    bool taken[RCPTS_MAX]; /* 250 at RCPT */
    unsigned rcpt_count;
    bool eightbit;
    struct buf text;
    uint8_t hash[DIGEST_SHA256_LEN];
    enum fate fate;
    char id[16];                     /* in the queue of the server that took it */
    uint64_t ops_at_dot, ops_at_ack; /* of the disk: before the last byte was sent, when the reply had come */
    unsigned life;                   /* of the world, between two power cuts, in which it was sent */
};

/* Somebody has a copy, or a DSN about one. */
struct sighting {
    unsigned message;
    unsigned rcpt; /* index */
    bool dsn;
};

static struct world {
    uint64_t seed;
    enum mode mode;
    unsigned life;
    struct server a, b;
    bool tls;         /* the servers have a certificate, and so speak TLS with each other */
    struct test_identity identity;
    struct fake c;
    bool ill;         /* c.example, in this moment of the run */
    unsigned clients; /* at work */
    bool trouble;     /* may begin: not once the queues only have to empty */
    struct message messages[MESSAGES_MAX];
    unsigned message_count;
    struct sighting sightings[SIGHTINGS_MAX];
    unsigned sighting_count;
    unsigned c_seen;    /* of its mails, those already looked at */
    const char *failed; /* NULL: all is well */
    char words[1024];
    uint64_t accepted, copies, dsns;
} w;

static bool log_wanted;

static void fail(const char *format, ...)
{
    va_list args;
    if (w.failed != NULL)
        return;
    va_start(args, format);
    vsnprintf(w.words, sizeof w.words, format, args);
    va_end(args);
    w.failed = w.words;
}

static bool chance(unsigned percent)
{
    return sim_random_below(100) < percent;
}

/* -- messages ---------------------------------------------------------------------------------------------------------------- */

static const char *const senders[] = { "u0@a.example", "u1@a.example", "u0@b.example", "s@c.example", "s@nowhere.example", "" };
static const char *const addresses[] = {
    "u0@a.example", "u1@a.example", "u2@a.example", "U2@a.example",     "u0@b.example", "u1@b.example", "u2@b.example",      "u3@b.example",
    "x@c.example",  "y@c.example",  "z@c.example",  "550.no@c.example", "no@a.example", "no@b.example", "x@nowhere.example",
};

enum end { END_COPY, END_DSN };

/* What becomes of a recipient that was accepted, by whichever server. */
static enum end end_of(const char *rcpt)
{
    return strstr(rcpt, "no") == NULL ? END_COPY : END_DSN;
}

static bool sees_dsns(const char *sender)
{
    return sender[0] != '\0' && strstr(sender, "nowhere") == NULL;
}

static void put_text(struct message *m, unsigned number)
{
    size_t size = chance(10) ? 60000 + sim_random_below(BODY_MAX - 60000) : sim_random_below(chance(30) ? 8000 : 600);
    buf_init(&m->text, BODY_MAX * 2);
    buf_printf(&m->text, "X-World: %u\r\nSubject: message %u\r\n\r\n", number, number);
    m->eightbit = chance(15);
    while (m->text.n < size) {
        size_t line = sim_random_below(chance(5) ? 900 : 70);
        for (size_t i = 0; i < line; i++) {
            uint64_t r = sim_random();
            char c = r % 16 == 0 ? '.' : (char)(' ' + (r >> 8) % 95);
            buf_put_char(&m->text, m->eightbit && r % 7 == 0 ? (char)(0x80 | (r >> 8)) : c);
        }
        buf_put_z(&m->text, chance(3) ? "\r\n.\r\n" : "\r\n");
    }
    digest_sha256(buf_str(&m->text), m->hash);
}

static struct message *message_new(void)
{
    if (w.message_count == MESSAGES_MAX)
        return NULL;
    struct message *m = &w.messages[w.message_count];
    *m = (struct message){ .sender = senders[sim_random_below(sizeof senders / sizeof senders[0])], .life = w.life };
    put_text(m, w.message_count++);
    unsigned wanted = 1 + (unsigned)sim_random_below(RCPTS_MAX);
    for (unsigned i = 0; i < wanted; i++) {
        const char *rcpt = addresses[sim_random_below(sizeof addresses / sizeof addresses[0])];
        bool known = false;
        for (unsigned k = 0; k < m->rcpt_count; k++)
            known |= strcasecmp(m->rcpts[k], rcpt) == 0;
        if (!known)
            m->rcpts[m->rcpt_count++] = rcpt;
    }
    return m;
}

/* -- clients ----------------------------------------------------------------------------------------------------------------------- */

static void put_commands(const struct message *m, struct buf *out)
{
    buf_printf(out, "MAIL FROM:<%s>%s\r\n", m->sender, m->eightbit ? " BODY=8BITMIME" : "");
    for (unsigned i = 0; i < m->rcpt_count; i++)
        buf_printf(out, "RCPT TO:<%s>\r\n", m->rcpts[i]);
    buf_put_z(out, "DATA\r\n");
}

/* Awaits. The code of DATA's reply, whether asked one by one or all at once; 0: gone. */
static int talk_envelope(struct talk *t, struct message *m)
{
    struct buf commands;
    struct str rest, line;
    bool pipelined = chance(50);
    int code = 0;
    buf_init(&commands, 8192);
    put_commands(m, &commands);
    if (pipelined && !talk_send(t, buf_str(&commands))) {
        buf_free(&commands);
        return 0;
    }
    rest = buf_str(&commands);
    for (unsigned i = 0; str_cut(rest, '\n', &line, &rest); i++) {
        if (!pipelined && !talk_send(t, (struct str){ line.p, line.n + 1 }))
            code = 0;
        else
            code = talk_reply(t);
        if (code == 0)
            break;
        if (i > 0 && i <= m->rcpt_count)
            m->taken[i - 1] = code == 250;
    }
    buf_free(&commands);
    return code;
}

static void put_wire(const struct message *m, struct buf *out)
{
    struct str rest = buf_str(&m->text), line;
    while (rest.n > 0) {
        str_cut(rest, '\n', &line, &rest);
        if (line.p[0] == '.')
            buf_put_char(out, '.');
        buf_put(out, line.p, line.n + 1);
    }
}

/* Awaits: from 354 on. False: the connection is good for nothing more. */
static bool talk_text(struct talk *t, struct message *m)
{
    struct buf wire;
    buf_init(&wire, BODY_MAX * 4);
    put_wire(m, &wire);
    bool abandoned = chance(4);
    struct str text = str_head(buf_str(&wire), abandoned ? sim_random_below(wire.n) : wire.n);
    m->fate = REFUSED;
    bool sent = talk_send(t, text);
    buf_free(&wire);
    if (!sent || abandoned)
        return false;
    m->ops_at_dot = sim_disk_ops();
    m->fate = UNKNOWN;
    int code = talk_send(t, STR(".\r\n")) ? talk_reply(t) : 0;
    m->ops_at_ack = sim_disk_ops();
    if (code == 250)
        m->fate = ACCEPTED, snprintf(m->id, sizeof m->id, "%s", t->last + strlen("250 2.0.0 Queued as "));
    else if (code != 0)
        m->fate = w.mode == MODE_ALL ? UNKNOWN : REFUSED; /* after a failed sync, the power may fail before it is on record as abandoned */
    if (code != 0 && code != 250 && code / 100 != 4)
        fail("message %u: the dot was answered with %s", (unsigned)(m - w.messages), t->last);
    return code != 0;
}

/* Awaits. False: the connection is good for nothing more. */
static bool talk_message(struct talk *t)
{
    struct message *m = message_new();
    if (m == NULL)
        return false;
    m->fate = REFUSED;
    int code = talk_envelope(t, m);
    if (code == 354)
        return talk_text(t, m);
    return code != 0 && talk_say(t, "RSET") == 250;
}

static void client_task(void *arg)
{
    (void)arg;
    unsigned connections = 1 + (unsigned)sim_random_below(3);
    while (connections-- > 0) {
        struct talk t;
        (void)task_sleep((int64_t)sim_random_below(3 * NS_PER_S));
        if (talk_open(&t, chance(50) ? "192.0.2.1" : "192.0.2.2") == 220 && talk_say(&t, "EHLO client.example") == 250) {
            unsigned messages = 1 + (unsigned)sim_random_below(4);
            while (messages-- > 0 && talk_message(&t))
                ;
            if (messages == UINT32_MAX && chance(80))
                (void)talk_say(&t, "QUIT");
        }
        talk_close(&t);
    }
    w.clients--;
}

/* -- trouble ----------------------------------------------------------------------------------------------------------------------- */

static const char *say_ill(struct fake *f, enum fake_stage stage, struct str line)
{
    static const char *const words[] = { "451 4.3.0 ill\r\n", "421 4.3.2 ill\r\n", FAKE_CUT, "450-4.2.1 very\r\n450 4.2.1 ill\r\n",
                                         "999 what\r\n" };
    (void)f, (void)line;
    return w.ill && chance(20) && stage != AT_QUIT ? words[sim_random_below(sizeof words / sizeof words[0])] : NULL;
}

static bool refuse_some(void *arg, const struct net_addr *from, const struct net_addr *to)
{
    (void)arg, (void)from, (void)to;
    return w.trouble && w.mode != MODE_CALM && chance(5);
}

static void restart(struct server *s)
{
    server_stop(s);
    s->conf->shutdown_grace_ns = (int64_t)sim_random_below(3) * NS_PER_S;            /* next time */
    (void)task_sleep((int64_t)sim_random_below(2 * NS_PER_S));
    while (server_start(s) < 0)
        (void)task_sleep(NS_PER_S);
}

/* One after another: the order in which arguments are evaluated is the compiler's, and the trace must not be. */
static void fail_disk(void)
{
    uint64_t in = sim_random_below(50);
    int error = chance(50) ? EIO : ENOSPC;
    bool from_then_on = chance(20);
    sim_disk_fail(sim_disk_ops() + in, error, from_then_on);
}

static void trouble_task(void *arg)
{
    (void)arg;
    while (w.trouble) {
        (void)task_sleep((int64_t)sim_random_below(NS_PER_S));
        w.ill = chance(50);
        if (w.mode == MODE_CUTS || w.mode == MODE_ALL)
            sim_net_cut_after(sim_random_below(chance(50) ? 400 : 50000));
        if ((w.mode == MODE_DISK || w.mode == MODE_ALL) && chance(50))
            fail_disk();
        if (chance(20))
            sim_disk_heal();
        if ((w.mode == MODE_RESTARTS || w.mode == MODE_ALL) && chance(10)) {
            sim_disk_heal();
            restart(chance(50) ? &w.a : &w.b);
        }
    }
    w.ill = false;
    sim_disk_heal();
    sim_net_cut_after(UINT64_MAX);
}

/* -- what came of it ------------------------------------------------------------------------------------------------------------------ */

static bool number_behind(struct str text, const char *field, unsigned *out)
{
    struct str line, rest;
    uint64_t n;
    ssize_t at = str_find_str(text, str_of(field));
    if (at < 0)
        return false;
    str_cut(str_from(text, (size_t)at + strlen(field)), '\r', &line, &rest);
    if (!str_to_u64(line, MESSAGES_MAX - 1, &n) || n >= w.message_count)
        return false;
    *out = (unsigned)n;
    return true;
}

static void see(unsigned message, struct str rcpt, bool dsn)
{
    const struct message *m = &w.messages[message];
    for (unsigned i = 0; i < m->rcpt_count; i++) {
        if (!str_eq(rcpt, str_of(m->rcpts[i])))
            continue;
        if (!m->taken[i])
            fail("message %u was seen for %s, which was not accepted", message, m->rcpts[i]);
        if (w.sighting_count == SIGHTINGS_MAX) {
            fail("too much was seen");
            return;
        }
        w.sightings[w.sighting_count++] = (struct sighting){ message, i, dsn };
        return;
    }
    fail("message %u was seen for %.*s, to whom it was not sent", message, STR_ARG(rcpt));
}

static void see_dsn(struct str text, struct str owner)
{
    unsigned number;
    struct str line;
    if (!number_behind(text, "\r\nX-World: ", &number)) {
        fail("a DSN about no message of ours");
        return;
    }
    if (!str_eq(owner, str_of(w.messages[number].sender)))
        fail("%.*s got a DSN about message %u of %s", STR_ARG(owner), number, w.messages[number].sender);
    for (ssize_t at; (at = str_find_str(text, STR("\r\nFinal-Recipient: rfc822; "))) >= 0;) {
        text = str_from(text, (size_t)at + 27);
        str_cut(text, '\r', &line, &text);
        see(number, line, true);
    }
}

/* text begins with whatever the servers put before the message. */
static void see_copy(struct str text, struct str rcpt)
{
    uint8_t hash[DIGEST_SHA256_LEN];
    unsigned number;
    ssize_t at = str_find_str(text, STR("\nX-World: "));
    if (at < 0 || !number_behind(text, "\nX-World: ", &number)) {
        fail("%.*s got something that nobody sent", STR_ARG(rcpt));
        return;
    }
    digest_sha256(str_from(text, (size_t)at + 1), hash);
    if (memcmp(hash, w.messages[number].hash, sizeof hash) != 0)
        fail("the copy of message %u for %.*s is not what was sent", number, STR_ARG(rcpt));
    see(number, rcpt, false);
}

static void see_file(const char *domain, const char *user, struct str text)
{
    struct str sender, rcpt, rest = text;
    char owner[128];
    str_cut(rest, '\r', &sender, &rest);
    str_cut(rest, '\r', &rcpt, &rest);
    assert(str_starts(sender, STR("Return-Path: ")) && str_starts(rcpt, STR("\nDelivered-To: ")));
    snprintf(owner, sizeof owner, "%s@%s", user, domain);
    rcpt = str_from(rcpt, 15);
    if (!str_eq_nocase(rcpt, str_of(owner)))
        fail("%s holds mail for %.*s", owner, STR_ARG(rcpt));
    if (str_eq(sender, STR("Return-Path: <>")) && str_find_str(text, STR("multipart/report")) > 0)
        see_dsn(text, rcpt);
    else
        see_copy(text, rcpt);
}

/* A Maildir's file, with the line ends that the message travelled with. */
static void read_mail(const char *path, const char *name, struct buf *out)
{
    struct buf file;
    struct str rest, line;
    scene_read(path, name, &file);
    buf_init(out, 256 << 20);
    if (str_find(buf_str(&file), '\r') >= 0)
        fail("%s/%s has a CR", path, name);
    for (rest = buf_str(&file); rest.n > 0;) {
        bool whole = str_cut(rest, '\n', &line, &rest);
        buf_put_str(out, line);
        buf_put_z(out, whole ? "\r\n" : "");
    }
    buf_free(&file);
}

static void see_mailboxes(const struct server *s, const char *domain)
{
    char path[256];
    static struct scene_names users, files;
    snprintf(path, sizeof path, "%s/mail/%s", s->dir, domain);
    (void)scene_list(path, &users);
    for (unsigned i = 0; i < users.count; i++) {
        snprintf(path, sizeof path, "%s/mail/%s/%s/new", s->dir, domain, users.names[i]);
        if (scene_list(path, &files) > sizeof files.names / sizeof files.names[0])
            fail("too many files in %s", path);
        for (unsigned k = 0; k < files.count && w.failed == NULL; k++) {
            struct buf text;
            read_mail(path, files.names[k], &text);
            see_file(domain, users.names[i], buf_str(&text));
            buf_free(&text);
        }
    }
}

/* Dots as they came: taken off again. */
static void unstuff(struct str wire, struct buf *out)
{
    struct str line;
    while (wire.n > 0) {
        bool whole = str_cut(wire, '\n', &line, &wire);
        buf_put_str(out, line.n > 0 && line.p[0] == '.' ? str_from(line, 1) : line);
        if (whole)
            buf_put_char(out, '\n');
    }
}

/* What c.example took until the disk had done so many operations; the rest was in a time that has not been. */
static void see_c(uint64_t until_ops)
{
    for (; w.c_seen < w.c.mail_count; w.c_seen++) {
        const struct fake_mail *mail = &w.c.mails[w.c_seen];
        struct buf text;
        struct str one, rest = str_of(mail->rcpts);
        if (mail->disk_ops > until_ops)
            continue;
        buf_init(&text, BODY_MAX * 4);
        unstuff(buf_str(&mail->wire), &text);
        while (rest.n > 0) {
            str_cut(rest, ',', &one, &rest);
            struct str rcpt = str_head(str_from(one, 1), one.n - 2);
            if (str_starts(str_of(mail->sender), STR("<>")) && str_find_str(buf_str(&text), STR("multipart/report")) > 0)
                see_dsn(buf_str(&text), rcpt);
            else
                see_copy(buf_str(&text), rcpt);
        }
        buf_free(&text);
    }
}

/* -- the verdict --------------------------------------------------------------------------------------------------------------------------- */

static void count(unsigned message, unsigned rcpt, unsigned *out_copies, unsigned *out_dsns)
{
    *out_copies = *out_dsns = 0;
    for (unsigned i = 0; i < w.sighting_count; i++)
        if (w.sightings[i].message == message && w.sightings[i].rcpt == rcpt)
            ++*(w.sightings[i].dsn ? out_dsns : out_copies);
}

/* Whether something may have come twice: a connection that broke between the dot and its reply, a server that died before it could note. */
static bool may_be_doubled(void)
{
    return w.mode != MODE_CALM;
}

static void judge_rcpt(unsigned number, unsigned i, bool owed)
{
    const struct message *m = &w.messages[number];
    unsigned copies, dsns, expected;
    count(number, i, &copies, &dsns);
    w.copies += copies, w.dsns += dsns;
    if (copies > 0 && dsns > 0)
        fail("message %u for %s was delivered and bounced", number, m->rcpts[i]);
    bool dsn = end_of(m->rcpts[i]) == END_DSN;
    unsigned seen = dsn ? dsns : copies, other = dsn ? copies : dsns;
    expected = owed && m->taken[i] && (!dsn || sees_dsns(m->sender)) ? 1 : 0;
    if (other > 0)
        fail("message %u for %s ended the wrong way", number, m->rcpts[i]);
    if (seen < expected)
        fail("message %u %s (%s, from <%s>, life %u) for %s is lost", number, m->id, fate_names[m->fate], m->sender, m->life, m->rcpts[i]);
    if (seen > expected && (expected == 0 || !may_be_doubled()))
        fail("message %u (%s, from <%s>, life %u) for %s was seen %u times", number, fate_names[m->fate], m->sender, m->life, m->rcpts[i],
             seen);
}

static void judge(void)
{
    for (unsigned n = 0; n < w.message_count && w.failed == NULL; n++) {
        const struct message *m = &w.messages[n];
        bool owed = m->fate == ACCEPTED;
        w.accepted += owed;
        if (m->fate == UNKNOWN)
            for (unsigned i = 0; i < w.sighting_count; i++)
                owed |= w.sightings[i].message == n; /* of all, or of nobody */
        for (unsigned i = 0; i < m->rcpt_count; i++)
            judge_rcpt(n, i, owed);
    }
}

/* -- a run -------------------------------------------------------------------------------------------------------------------------------------- */

/* After a power cut they may be gone; what is to be seen here is not whether a server starts without them. */
static void write_certificates(void)
{
    if (w.tls)
        test_identity_write(&w.identity, "/", "world.pem", "world.key");
}

static void servers_start(void)
{
    write_certificates();
    fake_begin(&w.c, "192.0.2.3:25");
    if (server_start(&w.a) < 0 || server_start(&w.b) < 0)
        fail("a server did not start");
}

static void servers_stop(void)
{
    server_stop(&w.a);
    server_stop(&w.b);
    fake_end(&w.c);
}

static void clients_start(void)
{
    unsigned wanted = 1 + (unsigned)sim_random_below(CLIENTS_MAX);
    w.trouble = w.mode != MODE_CALM;
    w.ill = true;
    for (unsigned i = 0; i < wanted; i++)
        if (task_start("client", client_task, NULL) == 0)
            w.clients++;
}

/* One life of the world: up to the power cut, or to the end. */
static void run_clients(void *arg)
{
    struct task_group trouble;
    int64_t *stop_after = arg;
    servers_start();
    clients_start();
    task_group_init(&trouble);
    (void)task_group_start(&trouble, "trouble", trouble_task, NULL);
    while (w.clients > 0)
        (void)task_sleep(100 * NS_PER_MS);
    w.trouble = w.ill = false;
    (void)task_group_wait(&trouble, TASK_FOREVER);
    if (*stop_after >= 0) {
        (void)task_sleep(*stop_after);
    } else {
        int64_t deadline = task_deadline_in(PATIENCE_NS);
        while (queue_count(w.a.queue) + queue_count(w.b.queue) > 0 && clock_mono_ns() < deadline)
            (void)task_sleep(NS_PER_S);
        if (queue_count(w.a.queue) + queue_count(w.b.queue) > 0)
            fail("%zu and %zu messages are in the queues still", queue_count(w.a.queue), queue_count(w.b.queue));
    }
    servers_stop();
}

/* What happened until the disk had done so many operations, has happened; the rest has not. */
static void forget_after(uint64_t at)
{
    for (unsigned i = 0; i < w.message_count; i++) {
        struct message *m = &w.messages[i];
        if (m->life != w.life || m->fate == REFUSED)
            continue;
        if (m->fate == ACCEPTED && m->ops_at_ack > at)
            m->fate = UNKNOWN;
        if (m->fate == UNKNOWN && m->ops_at_dot > at)
            m->fate = NEVER_SENT;
    }
}

static void power_cut(void)
{
    uint64_t ops = sim_disk_ops(), at = sim_random_below(ops + 1);
    struct sim_disk *image = sim_disk_crash(at, sim_random(), NULL);
    forget_after(at);
    see_c(at);
    sim_disk_mount(image);
    sim_disk_free(image);
    w.life++;
}

static void begin_world(void)
{
    sim_begin(&(struct sim_options){ .seed = w.seed,
                                     .latency_min_ns = (int64_t)(w.seed % 7) * NS_PER_MS,
                                     .latency_max_ns = (int64_t)(1 + w.seed % 7 + w.seed % 31 * 5) * NS_PER_MS,
                                     .split = w.seed % 3 != 0,
                                     .sync_ns = (int64_t)(w.seed % 5) * 3 * NS_PER_MS });
    (void)sim_dns_zone("a.example. 300 IN MX 10 mx.a.example.\nmx.a.example. 300 IN A 192.0.2.1\n"
                       "b.example. 300 IN MX 10 mx.b.example.\nmx.b.example. 300 IN A 192.0.2.2\n"
                       "c.example. 300 IN MX 5 off.c.example.\noff.c.example. 300 IN A 192.0.2.9\n"
                       "c.example. 300 IN MX 10 mx.c.example.\nmx.c.example. 300 IN A 192.0.2.3\n");
    sim_net_refuse(refuse_some, NULL);
    server_init(&w.a, "mx.a.example", "a", "a.example", "192.0.2.1");
    server_init(&w.b, "mx.b.example", "b", "b.example", "192.0.2.2");
    w.a.conf->segment_size = w.b.conf->segment_size = 256 * 1024;
    for (unsigned i = 0; i < 4; i++) {
        char user[4];
        snprintf(user, sizeof user, "u%u", i);
        scene_user(w.a.conf, user);
        scene_user(w.b.conf, user);
    }
    w.c.say = say_ill;
    w.tls = w.seed / MODES % 4 == 3;
    if (w.tls) {
        w.identity = test_identity_new("world", "DNS:mx.a.example,DNS:mx.b.example", false, NULL);
        scene_certificate(w.a.conf, "/world.pem", "/world.key");
        scene_certificate(w.b.conf, "/world.pem", "/world.key");
    }
}

static void end_world(void)
{
    server_free(&w.a);
    server_free(&w.b);
    test_identity_free(&w.identity);
    conf_replace_current(NULL);
    fake_forget(&w.c);
    for (unsigned i = 0; i < w.message_count; i++)
        buf_free(&w.messages[i].text);
    sim_end();
}

/* True if all was well. */
static bool run_seed(uint64_t seed, uint64_t *out_hash)
{
    memset(&w, 0, sizeof w);
    w.seed = seed;
    w.mode = (enum mode)(seed % MODES);
    begin_world();
    bool power = w.mode == MODE_POWER || w.mode == MODE_ALL;
    unsigned crashes = power ? 1 + (unsigned)sim_random_below(CRASHES_MAX) : 0;
    int r = 0;
    for (unsigned i = 0; i < crashes && r == 0 && w.failed == NULL; i++) {
        int64_t stop_after = chance(50) ? 0 : (int64_t)sim_random_below(100 * NS_PER_S);
        r = sim_run(run_clients, &stop_after);
        power_cut();
    }
    int64_t never = -1;
    if (r == 0 && w.failed == NULL)
        r = sim_run(run_clients, &never);
    if (r < 0)
        fail("the world stands still (%d)", r);
    if (w.failed == NULL) {
        see_c(UINT64_MAX);
        see_mailboxes(&w.a, "a.example");
        see_mailboxes(&w.b, "b.example");
        judge();
    }
    *out_hash = sim_trace_hash();
    if (w.failed != NULL)
        printf("FAILED: seed %llu (%s), step %llu: %s\n", (unsigned long long)seed, mode_names[w.mode], (unsigned long long)sim_step(),
               w.failed);
    end_world();
    return w.failed == NULL;
}

static int64_t real_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * NS_PER_S + t.tv_nsec;
}

int main(int argc, char **argv)
{
    uint64_t first = 1, seeds = 60, failed = 0, done = 0, hash, again, accepted = 0, copies = 0, dsns = 0, whole = 0;
    int64_t until = INT64_MAX;
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (int i = 1; i < argc; i++) {
        uint64_t value = i + 1 < argc ? strtoull(argv[i + 1], NULL, 10) : 0;
        if (strcmp(argv[i], "--log") == 0)
            log_wanted = true;
        else if (strcmp(argv[i], "--seed") == 0)
            first = value, seeds = 1, i++;
        else if (strcmp(argv[i], "--seeds") == 0)
            seeds = value, i++;
        else if (strcmp(argv[i], "--first") == 0)
            first = value, i++;
        else if (strcmp(argv[i], "--seconds") == 0)
            until = real_ns() + (int64_t)value * NS_PER_S, seeds = UINT64_MAX - first, i++;
        else
            return fprintf(stderr, "usage: world [--seed N | --seeds N | --seconds N] [--first N] [--log]\n"), 64;
    }
    if (log_wanted)
        log_level_set(LOG_DEBUG);
    else
        servers_be_quiet();
    for (uint64_t seed = first; seed - first < seeds && failed < 5 && real_ns() < until; seed++, done++) {
        bool ok = run_seed(seed, &hash);
        accepted += w.accepted, copies += w.copies, dsns += w.dsns;
        whole = whole * 31 + hash;
        if (ok && seed % 10 == 0 && run_seed(seed, &again) && again != hash) {
            printf("FAILED: seed %llu: two runs, two traces: %016llx %016llx\n", (unsigned long long)seed, (unsigned long long)hash,
                   (unsigned long long)again);
            ok = false;
        }
        failed += !ok;
    }
    printf("world: %llu seeds, %llu messages accepted, %llu copies, %llu DSNs; traces %016llx; %llu failed\n", (unsigned long long)done,
           (unsigned long long)accepted, (unsigned long long)copies, (unsigned long long)dsns, (unsigned long long)whole,
           (unsigned long long)failed);
    return failed > 0;
}
