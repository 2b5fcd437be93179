/*
 * Two whole servers among hostile peers in the simulated world, and honest mail beside them.
 *
 *     hostile [--seed N | --days N] [--first N] [--log]
 *
 * For some days clients send the servers anything at any pace (hostile_clients.h), while the servers have mail for next hops that answer
 * with anything, led there by DNS that lies (hostile_hops.h). Honest clients send mail all the while, to honest users and to the hostile
 * hops. In every fourth seed a server is stopped and started again in the middle of it.
 *
 * What must hold (DESIGN, section 2):
 *   - honest clients are served: no refusal, no connection lost; to honest users their mail comes at once, exactly once, as it was sent
 *   - each recipient of theirs at a hostile hop has exactly one end, and the sender has a DSN if and only if that is a failure
 *   - no attacker's mail goes further than the mailboxes of the servers, nothing is smuggled, nobody gets DSNs about mail he did not send
 *   - every log line is one line of printable text; no DSN has a control character, or a line that a hop made
 *   - sessions and deliveries end in their time, whatever the peer does; when the attackers have had theirs, no session is left
 *   - memory stays within what the sessions may have
 *
 * A failure prints the seed and the step of the world. Every tenth seed runs twice: the traces of one build must be equal.
 */
#include "hostile_clients.h"
#include "hostile_hops.h"
#include "base/metrics.h"
#include <malloc.h>
#include <time.h>

#define MESSAGES_MAX     400
#define RCPTS_MAX        4
#define ENDINGS_MAX      20000
#define USERS            2
#define ATTACKERS_MAX    300
#define DAYS_MAX         4                   /* of attacks; then the queues empty */
#define EXPIRE_NS        HOURS(24)
#define AT_ONCE_NS       (600 * NS_PER_S)    /* for mail to honest users */
#define PATIENCE_NS      (2 * EXPIRE_NS + HOURS(12))
#define FAREWELLS_NS     (10 * NS_PER_S)     /* behind a stopping server's grace */
#define HEAP_OF_SESSION  (700 * 1024)        /* with the network's pipes of both ends, and the attacker's own */
#define HEAP_OF_WORLD    ((size_t)96 << 20)  /* the disk among it */

struct message {
    struct server *at;          /* who took it */
    const char *sender;
    const char *rcpts[RCPTS_MAX];
    unsigned rcpt_count;
    struct buf text;
    char id[16];
    bool accepted, unknown;     /* 250 to the dot; no answer to it */
    int64_t accepted_ns;
    unsigned copies[RCPTS_MAX], dsns[RCPTS_MAX], delivered[RCPTS_MAX], bounced[RCPTS_MAX];
};

/* What the log says of a recipient. Whose message it was is known later: a mailbox may have it before the client has his reply. */
struct ending {
    const struct server *at;
    char id[16], rcpt[32];
    bool delivered;
    int64_t when_ns;
};

static struct world {
    uint64_t seed;
    bool restarts, log_shown;
    struct server a, b;
    struct fake c;
    struct task_group attackers;
    unsigned honest;            /* clients at work */
    int64_t attacks_end_ns;
    struct message messages[MESSAGES_MAX];
    unsigned message_count;
    struct ending endings[ENDINGS_MAX];
    unsigned ending_count;
    size_t heap_first;
    uint64_t days_ns, attacks;
} w;

static const char *const users[] = { "u0@a.example", "u1@a.example", "u0@b.example", "u1@b.example" };
static const char *const honest_rcpts[] = { "u0@a.example", "u1@a.example", "u0@b.example", "u1@b.example", "x@c.example" };
static const char *const hostile_rcpts[] = { "x@e0.example", "x@e1.example", "x@e2.example", "x@e3.example",   "x@e4.example",      "x@e5.example",
                                             "x@e6.example", "x@e7.example", "x@e9.example", "x@many.example", "x@[192.0.2.102]" };

static bool is_honest(const char *rcpt) { return strchr(rcpt, '[') == NULL && !is_hostile_name(str_of(rcpt)); }

/* -- the log ------------------------------------------------------------------------------------------------------------------------- */

/* "... info delivered id=abc to=x@c.example ..." */
static void note_outcome(struct str line)
{
    struct str time, level, event, id, to;
    str_cut(line, ' ', &time, &line);
    str_cut(line, ' ', &level, &line);
    str_cut(line, ' ', &event, &line);
    bool delivered = str_eq(event, STR("delivered"));
    if (!delivered && !str_eq(event, STR("bounced")) && !str_eq(event, STR("failed")))
        return;
    str_cut(line, ' ', &id, &line);
    str_cut(line, ' ', &to, &line);
    if (w.ending_count == ENDINGS_MAX) {
        fail("too many endings");
        return;
    }
    struct ending *e = &w.endings[w.ending_count++];
    *e = (struct ending){ .at = task_owner(), .delivered = delivered, .when_ns = clock_mono_ns() };
    snprintf(e->id, sizeof e->id, "%.*s", (int)id.n - 3, id.p + 3);
    snprintf(e->rcpt, sizeof e->rcpt, "%.*s", (int)to.n - 3, to.p + 3);
}

static void watch_log(void *arg, enum log_level level, struct str line)
{
    (void)arg;
    for (size_t i = 0; i < line.n; i++)
        if ((unsigned char)line.p[i] < ' ' || line.p[i] == 0x7f)
            fail("a log line has byte %02x: %.*s", (unsigned char)line.p[i], STR_ARG(line));
    if (w.log_shown)
        printf("%.*s\n", STR_ARG(line));
    if (level == LOG_INFO)
        note_outcome(line);
}

/* -- honest clients ---------------------------------------------------------------------------------------------------------------------- */

static struct message *message_new(void)
{
    if (w.message_count == MESSAGES_MAX)
        return NULL;
    struct message *m = &w.messages[w.message_count];
    *m = (struct message){ .sender = ONE_OF(users) };
    for (size_t wanted = 1 + below(RCPTS_MAX), kind = below(3); m->rcpt_count < wanted;) {
        const char *rcpt = kind == 0 || (kind == 1 && chance(50)) ? ONE_OF(honest_rcpts) : ONE_OF(hostile_rcpts);
        bool known = false;
        for (unsigned k = 0; k < m->rcpt_count; k++)
            known |= strcmp(m->rcpts[k], rcpt) == 0;
        if (!known)
            m->rcpts[m->rcpt_count++] = rcpt;
    }
    size_t size = chance(10) ? below(150000) : below(2000);
    buf_init(&m->text, 1 << 20);
    buf_printf(&m->text, "X-World: %u\r\nSubject: honest\r\n\r\n", w.message_count++);
    while (m->text.n < size) {
        put_run(&m->text, (char)('a' + below(26)), 1 + below(100));
        buf_put_z(&m->text, "\r\n");
    }
    return m;
}

/* Awaits. The code of the last reply; 0: gone. */
static int talk_message(struct talk *t, struct message *m)
{
    char line[256];
    snprintf(line, sizeof line, "MAIL FROM:<%s>", m->sender);
    int code = talk_say(t, line);
    for (unsigned i = 0; i < m->rcpt_count && code == 250; i++) {
        snprintf(line, sizeof line, "RCPT TO:<%s>", m->rcpts[i]);
        code = talk_say(t, line);
    }
    if (code != 250 || (code = talk_say(t, "DATA")) != 354)
        return code;
    if (!talk_send(t, buf_str(&m->text)))
        return 0;
    m->unknown = true;
    code = talk_send(t, STR(".\r\n")) ? talk_reply(t) : 0;
    m->unknown = code == 0;
    m->accepted = code == 250;
    if (m->accepted)
        snprintf(m->id, sizeof m->id, "%s", t->last + strlen("250 2.0.0 Queued as "));
    m->accepted_ns = clock_mono_ns();
    return code;
}

static void send_honestly(void)
{
    struct message *m = message_new();
    for (unsigned tries = 0; m != NULL && !m->accepted && !m->unknown && tries < 50; tries++) {
        struct talk t;
        m->at = chance(70) ? &w.a : &w.b;
        int code = talk_open(&t, m->at == &w.a ? "192.0.2.1" : "192.0.2.2");
        if (code == 220)
            code = talk_say(&t, "EHLO client.example");
        if (code == 250)
            code = talk_message(&t, m);
        if (code == 250)
            (void)talk_say(&t, "QUIT");
        talk_close(&t);
        if (code != 250 && !w.restarts)
            fail("an honest client was answered with %d: %s", code, code != 0 ? t.last : "");
        if (code != 250)
            (void)task_sleep(30 * NS_PER_S);
    }
}

static void honest_task(void *arg)
{
    (void)arg;
    while (clock_mono_ns() < w.attacks_end_ns) {
        (void)task_sleep(up_to(HOURS(3)));
        send_honestly();
    }
    w.honest--;
}

/* -- the attackers' days ------------------------------------------------------------------------------------------------------------------ */

static void attacker_task(void *arg)
{
    (void)arg;
    attack(w.a.conf->transaction_timeout_ns);
}

static void check_heap(void)
{
#ifndef SAN_ADDRESS
    struct mallinfo2 now = mallinfo2();
    size_t sessions = (size_t)metric_get(METRIC_sessions_open) + hops.open + w.attackers.count;
    size_t used = now.uordblks + now.hblkhd - w.heap_first;
    if (now.uordblks + now.hblkhd > w.heap_first && used > HEAP_OF_WORLD + sessions * HEAP_OF_SESSION)
        fail("%zu KiB of memory with %zu sessions", used / 1024, sessions);
#endif
}

static void storm(void)
{
    while (clock_mono_ns() < w.attacks_end_ns) {
        (void)task_sleep(up_to(HOURS(1)));
        for (size_t i = chance(20) ? below(60) : below(6); i > 0 && w.attackers.count < ATTACKERS_MAX; i--)
            w.attacks += task_group_start(&w.attackers, "attacker", attacker_task, NULL) == 0;
        check_heap();
    }
}

/* With everybody at it. */
static void restart(struct server *s)
{
    int64_t begun_ns = clock_mono_ns();
    server_stop(s);
    if (clock_mono_ns() - begun_ns > s->conf->shutdown_grace_ns + FAREWELLS_NS)
        fail("%s took %lld s to stop", s->host, (long long)((clock_mono_ns() - begun_ns) / NS_PER_S));
    (void)task_sleep(up_to(60 * NS_PER_S));
    if (server_start(s) < 0)
        fail("%s did not start again", s->host);
}

static void restarts_task(void *arg)
{
    (void)arg;
    while (clock_mono_ns() < w.attacks_end_ns) {
        (void)task_sleep(HOURS(1) + up_to(HOURS(20)));
        if (clock_mono_ns() < w.attacks_end_ns)
            restart(chance(70) ? &w.a : &w.b);
    }
    w.honest--;
}

static void drain(void)
{
    int64_t deadline = task_deadline_in(PATIENCE_NS);
    while (queue_count(w.a.queue) + queue_count(w.b.queue) > 0 && clock_mono_ns() < deadline)
        (void)task_sleep(300 * NS_PER_S);
    if (queue_count(w.a.queue) + queue_count(w.b.queue) > 0)
        fail("%zu and %zu messages are in the queues still", queue_count(w.a.queue), queue_count(w.b.queue));
}

static void live(void *arg)
{
    (void)arg;
    int64_t begun_ns = clock_mono_ns();
    fake_begin(&w.c, "192.0.2.3:25");
    hops_begin(w.a.conf->delivery_timeout_ns + ATTACK_SLACK_NS);
    task_group_init(&w.attackers);
    if (server_start(&w.a) < 0 || server_start(&w.b) < 0)
        fail("a server did not start");
    w.attacks_end_ns = task_deadline_in(HOURS(12) + up_to(HOURS(24) * DAYS_MAX));
    for (unsigned i = 0; i < 3; i++)
        w.honest += task_start("honest client", honest_task, NULL) == 0;
    if (w.restarts)
        w.honest += task_start("restarts", restarts_task, NULL) == 0;
    storm();
    (void)task_sleep(w.a.conf->transaction_timeout_ns + HOURS(1));
    while (w.honest > 0)
        (void)task_sleep(60 * NS_PER_S);
    (void)task_sleep(600 * NS_PER_S);
    drain();
    (void)task_sleep(60 * NS_PER_S);
    if (metric_get(METRIC_sessions_open) > 0)
        fail("%lld sessions have outlived their time", (long long)metric_get(METRIC_sessions_open));
    task_group_cancel(&w.attackers);
    (void)task_group_wait(&w.attackers, TASK_FOREVER);
    server_stop(&w.a);
    server_stop(&w.b);
    fake_end(&w.c);
    hops_end();
    w.days_ns = (uint64_t)(clock_mono_ns() - begun_ns);
}

/* -- what came of it ------------------------------------------------------------------------------------------------------------------- */

static struct message *message_in(struct str text)
{
    uint64_t n;
    struct str line, rest;
    ssize_t at = str_find_str(text, STR("\nX-World: "));
    if (at < 0)
        return NULL;
    str_cut(str_from(text, (size_t)at + strlen("\nX-World: ")), '\r', &line, &rest);
    return str_to_u64(line, MESSAGES_MAX, &n) && n < w.message_count ? &w.messages[n] : NULL;
}

static void see_copy(struct message *m, struct str text, struct str rcpt)
{
    if (text.n < m->text.n || !str_eq(str_from(text, text.n - m->text.n), buf_str(&m->text)))
        fail("the copy of message %u for %.*s is not what was sent", (unsigned)(m - w.messages), STR_ARG(rcpt));
    for (unsigned i = 0; i < m->rcpt_count; i++)
        if (str_eq(rcpt, str_of(m->rcpts[i]))) {
            m->copies[i]++;
            return;
        }
    fail("%.*s got message %u, which was not sent to him", STR_ARG(rcpt), (unsigned)(m - w.messages));
}

static void see_dsn(struct str text, struct str owner)
{
    struct message *m = message_in(text);
    struct str line, rest = text;
    for (size_t i = 0; i < text.n; i++)
        if ((unsigned char)text.p[i] >= 0x7f || ((unsigned char)text.p[i] < ' ' && strchr("\r\n\t", text.p[i]) == NULL))
            fail("a DSN has byte %02x", (unsigned char)text.p[i]);
    if (str_find_str(text, STR("\nX-Injected")) >= 0)
        fail("a DSN has a line that a hop made");
    if (m == NULL || !str_eq(owner, str_of(m->sender))) {
        fail("%.*s got a DSN about a message that he did not send", STR_ARG(owner));
        return;
    }
    for (ssize_t at; (at = str_find_str(rest, STR("\r\nFinal-Recipient: rfc822; "))) >= 0;) {
        rest = str_from(rest, (size_t)at + strlen("\r\nFinal-Recipient: rfc822; "));
        str_cut(rest, '\r', &line, &rest);
        bool failed = str_starts(rest, STR("\nAction: failed"));
        for (unsigned i = 0; i < m->rcpt_count; i++)
            m->dsns[i] += failed && str_eq(line, str_of(m->rcpts[i]));
    }
}

/* An attacker's mail may lie in a mailbox: that is what mailboxes are for. */
static void see_mail(struct str text, struct str owner)
{
    struct message *m = message_in(text);
    if (str_starts(text, STR("Return-Path: <smuggled@")))
        fail("%.*s got a message that was smuggled", STR_ARG(owner));
    if (str_starts(text, STR("Return-Path: <>")) && str_find_str(text, STR("Content-Type: multipart/report")) > 0)
        see_dsn(text, owner);
    else if (m != NULL)
        see_copy(m, text, owner);
}

struct mailbox {
    const char *path, *owner;
};

static int see_file(void *arg, const char *name)
{
    const struct mailbox *box = arg;
    struct buf file, text;
    struct str rest, line;
    scene_read(box->path, name, &file);
    buf_init(&text, 64 << 20);
    for (rest = buf_str(&file); rest.n > 0;) {
        bool whole = str_cut(rest, '\n', &line, &rest);
        buf_put_str(&text, line);
        buf_put_z(&text, whole ? "\r\n" : "");
    }
    see_mail(buf_str(&text), str_of(box->owner));
    buf_free(&file);
    buf_free(&text);
    return 0;
}

static void see_mailboxes(void)
{
    for (size_t i = 0; i < sizeof users / sizeof users[0]; i++) {
        char path[128];
        char server = users[i][3];
        snprintf(path, sizeof path, "%c/mail/%c.example/u%c/new", server, server, users[i][1]);
        struct mailbox box = { path, users[i] };
        int dir = file_open_dir(path);
        if (dir >= 0)
            (void)file_list(dir, see_file, &box);
        (void)file_close(dir);
    }
}

/* c.example trusts nobody, and nobody but honest clients has mail for it. */
static void see_c(void)
{
    for (unsigned i = 0; i < w.c.mail_count; i++) {
        struct message *m = message_in(buf_str(&w.c.mails[i].wire));
        if (m == NULL || str_starts(str_of(w.c.mails[i].sender), STR("<>")))
            fail("c.example got mail of %s for %s, which no honest client sent", w.c.mails[i].sender, w.c.mails[i].rcpts);
        else
            see_copy(m, buf_str(&w.c.mails[i].wire), STR("x@c.example"));
    }
}

static bool is_all_honest(const struct message *m)
{
    for (unsigned i = 0; i < m->rcpt_count; i++)
        if (!is_honest(m->rcpts[i]))
            return false;
    return true;
}

static void count_endings(struct message *m)
{
    for (unsigned k = 0; k < w.ending_count; k++) {
        const struct ending *e = &w.endings[k];
        if (e->at != m->at || strcmp(e->id, m->id) != 0)
            continue;
        for (unsigned i = 0; i < m->rcpt_count; i++)
            if (strcmp(e->rcpt, m->rcpts[i]) == 0)
                ++*(e->delivered ? &m->delivered[i] : &m->bounced[i]);
        if (is_all_honest(m) && !w.restarts && e->when_ns - m->accepted_ns > AT_ONCE_NS)
            fail("message %u for %s was on its way for %lld s", (unsigned)(m - w.messages), e->rcpt, (long long)((e->when_ns - m->accepted_ns) / NS_PER_S));
    }
}

static void judge_rcpt(const struct message *m, unsigned i)
{
    unsigned number = (unsigned)(m - w.messages), ends = m->delivered[i] + m->bounced[i];
    if (ends != 1)
        fail("message %u (%s) for %s has %u ends", number, m->id, m->rcpts[i], ends);
    if (is_honest(m->rcpts[i]) && m->copies[i] != 1 && !(w.restarts && m->copies[i] > 1))
        fail("message %u (%s) for %s came %u times", number, m->id, m->rcpts[i], m->copies[i]);
    if (m->dsns[i] != m->bounced[i])
        fail("message %u (%s) for %s bounced %u times, and its sender has %u DSNs", number, m->id, m->rcpts[i], m->bounced[i], m->dsns[i]);
}

static void judge(void)
{
    for (unsigned n = 0; n < w.message_count; n++) {
        struct message *m = &w.messages[n];
        if (!m->accepted && !w.restarts)
            fail("message %u was not taken", n);
        if (m->accepted)
            count_endings(m);
        for (unsigned i = 0; m->accepted && i < m->rcpt_count; i++)
            judge_rcpt(m, i);
    }
}

/* -- a run ------------------------------------------------------------------------------------------------------------------------------ */

static void configure(struct server *s)
{
    for (unsigned i = 0; i < USERS; i++)
        scene_user(s->conf, i == 0 ? "u0" : "u1");
    s->conf->segment_size = 256 * 1024;
    s->conf->message_size_max = 1 << 20;
    s->conf->expire_ns = s->conf->bounce_expire_ns = EXPIRE_NS;
    s->conf->enforce_sync = chance(50);
    s->conf->data_rate_min = chance(50) ? 256 : 0;
    s->conf->client_connections_per_minute = chance(50) ? 300 : 0;
    s->conf->client_errors_per_hour = chance(50) ? 1000 : 0;
    s->conf->client_unknown_users_per_hour = chance(50) ? 200 : 0;
    s->conf->client_network_factor = 4;
    s->conf->delivery_timeout_ns = chance(50) ? HOURS(2) : 600 * NS_PER_S;
    s->conf->shutdown_grace_ns = (int64_t)below(3) * 30 * NS_PER_S;
    s->conf->outbound_tls = chance(50) ? CONF_CLIENT_TLS_MAY : CONF_CLIENT_TLS_NONE;
}

static void begin_world(void)
{
    sim_begin(&(struct sim_options){ .seed = w.seed,
                                     .latency_min_ns = NS_PER_MS,
                                     .latency_max_ns = (int64_t)(2 + w.seed % 5 * 40) * NS_PER_MS,
                                     .split = w.seed % 3 != 0,
                                     .sync_ns = (int64_t)(w.seed % 4) * NS_PER_MS,
                                     .disk_forgets = true });
    (void)sim_dns_zone(SERVERS_ZONE "c.example. 300 IN MX 10 mx.c.example.\nmx.c.example. 300 IN A 192.0.2.3\n");
    hop_zone();
    sim_dns_lie(hop_lie, NULL);
    server_init(&w.a, "mx.a.example", "a", "a.example", "192.0.2.1");
    server_init(&w.b, "mx.b.example", "b", "b.example", "192.0.2.2");
    configure(&w.a);
    configure(&w.b);
    w.b.conf->delivery_timeout_ns = w.a.conf->delivery_timeout_ns;
}

static void end_world(void)
{
    server_free(&w.a);
    server_free(&w.b);
    conf_replace_current(NULL);
    fake_forget(&w.c);
    for (unsigned i = 0; i < w.message_count; i++)
        buf_free(&w.messages[i].text);
    sim_end();
}

/* True if all was well. */
static bool run_seed(uint64_t seed, bool log_shown, uint64_t *out_hash)
{
    struct mallinfo2 heap = mallinfo2();
    hostile_failed[0] = '\0';
    memset(&w, 0, sizeof w);
    w.seed = seed;
    w.restarts = seed % 4 == 3;
    w.log_shown = log_shown;
    w.heap_first = heap.uordblks + heap.hblkhd;
    begin_world();
    int r = sim_run(live, NULL);
    if (r < 0)
        fail("the world stands still (%d)", r);
    if (hostile_failed[0] == '\0') {
        see_c();
        see_mailboxes();
        judge();
    }
    *out_hash = sim_trace_hash();
    if (hostile_failed[0] != '\0')
        printf("FAILED: seed %llu%s, step %llu: %s\n", (unsigned long long)seed, w.restarts ? " (restarts)" : "", (unsigned long long)sim_step(),
               hostile_failed);
    end_world();
    return hostile_failed[0] == '\0';
}

struct sums {
    uint64_t seeds, failed, honest, attacks, hops, traces;
    uint64_t days_ns;
};

static void run_one(uint64_t seed, bool log_shown, struct sums *sums)
{
    uint64_t hash, again;
    bool ok = run_seed(seed, log_shown, &hash);
    sums->seeds++;
    sums->honest += w.message_count;
    sums->attacks += w.attacks;
    sums->hops += hops.connections;
    sums->days_ns += w.days_ns;
    sums->traces = sums->traces * 31 + hash;
    if (ok && seed % 10 == 0 && run_seed(seed, log_shown, &again) && again != hash) {
        printf("FAILED: seed %llu: two runs, two traces: %016llx %016llx\n", (unsigned long long)seed, (unsigned long long)hash,
               (unsigned long long)again);
        ok = false;
    }
    sums->failed += !ok;
}

int main(int argc, char **argv)
{
    uint64_t first = 1, days = 100, seeds = UINT64_MAX;
    struct sums sums = { 0 };
    bool log_shown = false;
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (int i = 1; i < argc; i++) {
        uint64_t value = i + 1 < argc ? strtoull(argv[i + 1], NULL, 10) : 0;
        if (strcmp(argv[i], "--log") == 0)
            log_shown = true;
        else if (strcmp(argv[i], "--seed") == 0)
            first = value, seeds = 1, i++;
        else if (strcmp(argv[i], "--first") == 0)
            first = value, i++;
        else if (strcmp(argv[i], "--days") == 0)
            days = value, i++;
        else
            return fprintf(stderr, "usage: hostile [--seed N | --days N] [--first N] [--log]\n"), 64;
    }
    log_level_set(LOG_DEBUG);
    log_redirect(watch_log, NULL);
    while (sums.seeds < seeds && sums.failed < 5 && sums.days_ns < days * (uint64_t)HOURS(24))
        run_one(first + sums.seeds, log_shown, &sums);
    printf("hostile: %llu days of %llu seeds, %llu attacks, %llu connections to hostile hops, %llu honest messages; traces %016llx; %llu failed\n",
           (unsigned long long)(sums.days_ns / (uint64_t)HOURS(24)), (unsigned long long)sums.seeds, (unsigned long long)sums.attacks,
           (unsigned long long)sums.hops, (unsigned long long)sums.honest, (unsigned long long)sums.traces, (unsigned long long)sums.failed);
    return sums.failed > 0;
}
