/*
 * For tests in the simulated world: configurations, messages, and a mail server that says what a test wants it to say and
 * remembers what it heard. Included by the tests beside it and by tests/sim/.
 */
#ifndef OUTBOUND_TEST_SCENE_H
#define OUTBOUND_TEST_SCENE_H

#include "base/arena.h"
#include "base/buf.h"
#include "conf/conf.h"
#include "mail/address.h"
#include "queue/queue.h"
#include "run/file.h"
#include "run/net.h"
#include "run/sim.h"
#include "run/stream.h"
#include "run/task.h"
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SCENE_MAIL_RCPTS_MAX 3000
#define SCENE_MAILS_MAX      1200

/* -- configurations ------------------------------------------------------------------------------------------------------ */

static inline const char *scene_text(struct conf *c, const char *format, const char *a, const char *b)
{
    char text[512];
    snprintf(text, sizeof text, format, a, b);
    return str_z(&c->arena, str_of(text));
}

/* The defaults, in the directory `dir` of the simulated disk. One count, the caller's. */
static inline struct conf *scene_conf(const char *hostname, const char *dir)
{
    static const int64_t delays_s[] = { 60, 300, 900, 1800, 3600, 7200 };
    struct conf *c = calloc(1, sizeof *c);
    assert(c != NULL);
    c->refs = 1;
    arena_init(&c->arena, 1 << 20);
    map_str_init(&c->local_domains);
    map_str_init(&c->relay_domains);
    map_str_init(&c->local_delivery_by_domain);
    map_str_init(&c->outbound_tls_by_domain);
    map_str_init(&c->retry_by_domain);
    map_str_init(&c->users);
    map_str_init(&c->relay_recipients);
    c->hostname = scene_text(c, "%s%s", hostname, "");
    c->data_dir = scene_text(c, "%s/%s", dir, "data");
    c->mailbox = scene_text(c, "%s/mail/%s", dir, "{domain}/{user}");
    c->control_socket = c->control_group = c->submit_socket = c->postmaster = c->relay_host = c->source_address = c->users_file =
        c->relay_recipients_file = c->dns_trust_anchor = c->resolv_conf = c->path = c->tls_ciphers = c->outbound_tls_ca_file = "";
    c->refusals_file = c->relay_host_user = c->accounts_file = c->relay_host_oauth_token_url = c->oauth_introspection_url = "";
    c->tls_handshake_timeout_ns = c->tls_check_interval_ns = 60 * NS_PER_S;
    c->segment_size = 1 << 20;
    c->message_size_max = 50 << 20;
    c->recipients_max = 1000;
    c->sessions_max = 10000;
    c->sessions_per_client_max = 1000;
    c->errors_max = 20;
    c->messages_per_session_max = 10000;
    c->header_size_max = 1 << 20;
    c->received_max = 100;
    c->command_timeout_ns = 300 * NS_PER_S;
    c->data_timeout_ns = 180 * NS_PER_S;
    c->transaction_timeout_ns = c->delivery_timeout_ns = 7200 * NS_PER_S;
    c->shutdown_grace_ns = 30 * NS_PER_S;
    c->local_submit_max_per_hour = 1000;
    c->smtp_port = 25;
    c->deliveries_max = 500;
    c->site_connections_max = 20;
    c->connection_messages_max = 100;
    c->connection_idle_ns = 5 * NS_PER_S;
    c->connect_timeout_ns = 30 * NS_PER_S;
    c->greeting_timeout_ns = 300 * NS_PER_S;
    c->reply_timeout_ns = 300 * NS_PER_S;
    c->retry.count = sizeof delays_s / sizeof delays_s[0];
    c->retry.delays_ns = arena_array(&c->arena, c->retry.count, sizeof *c->retry.delays_ns);
    for (size_t i = 0; i < c->retry.count; i++)
        c->retry.delays_ns[i] = delays_s[i] * NS_PER_S;
    c->expire_ns = 5 * 86400 * NS_PER_S;
    c->bounce_expire_ns = 2 * 86400 * NS_PER_S;
    c->delay_warning_ns = 4 * 3600 * NS_PER_S;
    return c;
}

static inline void scene_local_domain(struct conf *c, const char *domain)
{
    int r = map_str_put(&c->local_domains, str_copy(&c->arena, str_of(domain)), c);
    assert(r == 0);
    (void)r;
}

/* With users named, a mailbox is made when its first message comes. */
static inline void scene_user(struct conf *c, const char *user)
{
    c->have_users_file = true;
    int r = map_str_put(&c->users, str_copy(&c->arena, str_of(user)), c);
    assert(r == 0);
    (void)r;
}

static inline void scene_trust(struct conf *c, const char *network)
{
    struct ip_range *ranges = arena_array(&c->arena, c->trusted_network_count + 1, sizeof *ranges);
    bool ok = ranges != NULL && ip_range_parse(str_of(network), &ranges[c->trusted_network_count]);
    assert(ok);
    (void)ok;
    if (c->trusted_network_count > 0)
        memcpy(ranges, c->trusted_networks, c->trusted_network_count * sizeof *ranges);
    c->trusted_networks = ranges;
    c->trusted_network_count++;
}

static inline void scene_listen(struct conf *c, const char *address)
{
    c->listeners = arena_array(&c->arena, 1, sizeof *c->listeners);
    c->listeners[0] = (struct conf_listener){ .address = str_copy(&c->arena, str_of(address)), .name = STR("smtp") };
    c->listener_count = 1;
}

/* The one listener offers STARTTLS then. */
static inline void scene_certificate(struct conf *c, const char *certificate, const char *key)
{
    c->certificates = arena_array(&c->arena, 1, sizeof *c->certificates);
    c->certificates[0] = (struct conf_certificate){ .name = "scene", .certificate_file = certificate, .key_file = key };
    c->certificate_count = 1;
    for (size_t i = 0; i < c->listener_count; i++)
        c->listeners[i].tls = CONF_TLS_STARTTLS;
    c->outbound_tls = CONF_CLIENT_TLS_MAY;
}

/* -- the queue ------------------------------------------------------------------------------------------------------------- */

/* Makes path and what is above it. BLOCKS; nothing is synced but the names. */
static inline void scene_mkdir(const char *path)
{
    int dir = file_open_dir(".");
    char part[256];
    assert(dir >= 0);
    for (struct str rest = str_of(path), name; str_cut(rest, '/', &name, &rest), name.n > 0;) {
        snprintf(part, sizeof part, "%" STR_FMT, STR_ARG(name));
        int r = file_mkdir_at(dir, part);
        assert(r == 0 || r == -EEXIST);
        if (r == 0)
            (void)file_sync(dir);
        r = file_open_dir_at(dir, part);
        assert(r >= 0);
        (void)file_close(dir);
        dir = r;
    }
    (void)file_close(dir);
}

static inline struct queue *scene_queue(const struct conf *c)
{
    struct queue *q = NULL;
    struct queue_recovery found;
    char error[256] = "";
    struct queue_options options = { .dir = c->data_dir, .segment_size = c->segment_size, .message_size_max = c->message_size_max + 16384 };
    char parent[256];
    struct str path = str_of(c->data_dir);
    snprintf(parent, sizeof parent, "%" STR_FMT, STR_ARG(str_head(path, (size_t)str_find_last(path, '/'))));
    scene_mkdir(parent);
    int r = queue_open(&options, &q, &found, error);
    if (r < 0)
        fprintf(stderr, "queue_open %s: %d %s\n", c->data_dir, r, error);
    assert(r == 0);
    return q;
}

struct scene_message {
    const char *sender; /* "": the null sender */
    const char *rcpts;  /* separated by commas */
    struct str text;
    bool eightbit, binary;
    const char *envid, *original; /* NULL: none; original of every recipient */
    uint8_t notify;               /* of every recipient */
    bool smtputf8;
    int64_t hold_ns, by_ns;       /* from now; 0: none */
    uint8_t by_mode;
    int priority;
    bool requiretls, tls_optional;
};

/* Awaits. The id. */
static inline uint64_t scene_put(struct queue *q, const struct scene_message *m)
{
    struct arena a;
    arena_init(&a, 4 << 20);
    struct envelope env = { .id = queue_new_id(q),
                            .arrived_ns = clock_wall_ns(),
                            .null_sender = m->sender[0] == '\0',
                            .size = m->text.n,
                            .body_8bit = m->eightbit,
                            .body_binary = m->binary,
                            .smtputf8 = m->smtputf8,
                            .envid = str_of(m->envid),
                            .protocol = STR("ESMTP"),
                            .by_mode = m->by_mode,
                            .priority = m->priority,
                            .requiretls = m->requiretls,
                            .tls_optional = m->tls_optional };
    env.hold_until_ns = m->hold_ns > 0 ? env.arrived_ns + m->hold_ns : 0;
    env.deliver_by_ns = m->by_mode != 0 ? env.arrived_ns + m->by_ns : 0;
    bool ok = env.null_sender || address_parse_with(&a, str_of(m->sender), ADDRESS_UTF8, &env.sender);
    assert(ok);
    env.rcpts = arena_array(&a, SCENE_MAIL_RCPTS_MAX, sizeof *env.rcpts);
    for (struct str rest = str_of(m->rcpts), one; rest.n > 0;) {
        str_cut(rest, ',', &one, &rest);
        assert(env.rcpt_count < SCENE_MAIL_RCPTS_MAX);
        struct recipient *rcpt = &env.rcpts[env.rcpt_count++];
        ok = address_parse_with(&a, one, ADDRESS_UTF8, &rcpt->addr);
        assert(ok);
        rcpt->original = str_of(m->original);
        rcpt->notify = m->notify;
    }
    struct body *body = body_new(q, env.id);
    assert(body != NULL);
    int r = body_append(body, m->text);
    assert(r == 0);
    r = queue_put(q, &env, body);
    assert(r == 0);
    (void)r, (void)ok;
    body_free(body);
    arena_reset(&a);
    return env.id;
}

/* -- the disk ---------------------------------------------------------------------------------------------------------------- */

struct scene_names {
    char names[64][256];
    unsigned count; /* also of those beyond the room */
};

static inline int scene_name(void *arg, const char *name)
{
    struct scene_names *n = arg;
    if (n->count < sizeof n->names / sizeof n->names[0])
        snprintf(n->names[n->count], sizeof n->names[0], "%s", name);
    n->count++;
    return 0;
}

/* BLOCKS. No directory is an empty one. */
static inline unsigned scene_list(const char *path, struct scene_names *out)
{
    struct scene_names own;
    out = out != NULL ? out : &own;
    out->count = 0;
    int dir = file_open_dir(path);
    if (dir >= 0)
        (void)file_list(dir, scene_name, out);
    (void)file_close(dir);
    return out->count;
}

/* BLOCKS. A whole file, into a buffer that it initialises. */
static inline void scene_read(const char *path, const char *name, struct buf *out)
{
    int dir = file_open_dir(path);
    buf_init(out, 256 << 20);
    int r = file_read_whole_at(dir, name, 256 << 20, out);
    assert(r == 0);
    (void)r;
    (void)file_close(dir);
}

/* -- a mail server made to order ------------------------------------------------------------------------------------------------ */

/* AT_DOT also at the last BDAT; AT_BDAT at the others. */
enum fake_stage { AT_CONNECT, AT_EHLO, AT_HELO, AT_MAIL, AT_RCPT, AT_DATA, AT_BDAT, AT_DOT, AT_RSET, AT_QUIT, AT_OTHER, FAKE_STAGES };

/* What to say instead of a reply: close the connection; say nothing, and wait until the client goes. Any other text is sent as
 * it is, and behind one that begins with 421 or 221 the connection is closed. */
#define FAKE_CUT    ""
#define FAKE_SILENT "(silence)"

struct fake_mail {
    char *sender;    /* owned, as are the next: "<a@b.example> SIZE=3", as written behind MAIL FROM: */
    char *rcpts;     /* "<c@d.example>,<e@f.example>": the accepted ones */
    struct buf wire; /* between 354 and the end, dots as they came, the last CRLF.CRLF not included */
    unsigned connection;
    uint64_t disk_ops; /* of the simulated disk, when it was taken */
};

struct fake {
    /* What it says */
    const char *words[FAKE_STAGES]; /* NULL: the usual; at RCPT, "450.bob@d.example" gets a reply with that code */
    const char *(*say)(struct fake *f, enum fake_stage stage, struct str line); /* asked first; NULL: as words says */
    void *say_arg;
    bool chunking;        /* CHUNKING and BINARYMIME are announced, likewise */
    bool no_pipelining;   /* not announced, if EHLO's words are the usual ones */
    bool lmtp;            /* LHLO is AT_EHLO; AT_DOT is said for each recipient that was accepted, "452" to "<d452.bob@d.example>" */
    uint64_t cut_in_text; /* bytes of a message's text after which it closes; 0: never */
    int64_t think_ns;     /* before each reply */
    /* What it saw */
    struct buf transcript; /* the commands, each with its LF */
    struct fake_mail mails[SCENE_MAILS_MAX];
    unsigned mail_count; /* those answered with 2xx */
    unsigned connections, open, open_max;
    unsigned ahead_max;    /* commands that had arrived, unanswered, at a time */
    unsigned connection;   /* the number of the one that is speaking; from 1 */
    unsigned transactions; /* MAIL commands on it, this one included */
    /* Its own */
    struct net_listener *listener;
    struct task_group tasks;
};

struct fake_session {
    struct fake *f;
    struct stream *stream;
    unsigned number, transactions;
    struct buf rcpts, sender, chunks;
    bool stray;          /* a BDAT for nobody */
    bool over;
};

static inline unsigned fake_lines(struct str pending)
{
    unsigned n = 0;
    for (size_t i = 0; i < pending.n; i++)
        n += pending.p[i] == '\n';
    return n;
}

static inline const char *fake_usual(struct fake *f, enum fake_stage stage, struct str line)
{
    static char text[128];
    switch (stage) {
    case AT_CONNECT: return "220 fake.example ESMTP\r\n";
    case AT_EHLO:
        if (f->chunking)
            return f->no_pipelining ? "250-fake.example\r\n250-CHUNKING\r\n250-BINARYMIME\r\n250 8BITMIME\r\n"
                                    : "250-fake.example\r\n250-PIPELINING\r\n250-CHUNKING\r\n250-SIZE 0\r\n250-binarymime\r\n250 8BITMIME\r\n";
        return f->no_pipelining ? "250-fake.example\r\n250-SIZE\r\n250 8BITMIME\r\n"
                                : "250-fake.example\r\n250-PIPELINING\r\n250-SIZE 0\r\n250-8BITMIME\r\n250 ENHANCEDSTATUSCODES\r\n";
    case AT_HELO: return "250 fake.example\r\n";
    case AT_MAIL: return "250 2.1.0 ok\r\n";
    case AT_RCPT: {
        ssize_t at = str_find(line, '<');
        unsigned code = at < 0 ? 0 : (unsigned)strtoul(line.p + at + 1, NULL, 10);
        if (code < 200)
            return "250 2.1.5 ok\r\n";
        snprintf(text, sizeof text, "%u %u.1.1 as you wish\r\n", code, code / 100);
        return text;
    }
    case AT_DATA: return "354 go on\r\n";
    case AT_BDAT: return "250 2.0.0 go on\r\n";
    case AT_DOT: {
        unsigned code = f->lmtp && str_starts(line, STR("<d")) ? (unsigned)strtoul(line.p + 2, NULL, 10) : 0;
        if (code < 200)
            return "250 2.0.0 taken\r\n";
        snprintf(text, sizeof text, "%u %u.2.2 as you wish\r\n", code, code / 100);
        return text;
    }
    case AT_RSET: return "250 2.0.0 ok\r\n";
    case AT_QUIT: return "221 2.0.0 bye\r\n";
    case AT_OTHER:
    case FAKE_STAGES: break;
    }
    return "500 5.5.1 what?\r\n";
}

/* Awaits. Says what is to be said; the reply's first digit, 0 if there was none and the session is over. */
static inline int fake_answer(struct fake_session *s, enum fake_stage stage, struct str line)
{
    struct fake *f = s->f;
    f->connection = s->number;
    f->transactions = s->transactions;
    const char *words = f->say != NULL ? f->say(f, stage, line) : NULL;
    if (words == NULL)
        words = f->words[stage];
    if (words == NULL && (((stage == AT_DATA || s->stray) && s->rcpts.n == 0) || (stage == AT_RCPT && s->sender.n == 0)))
        words = "503 5.5.1 out of order\r\n";
    if (words == NULL)
        words = fake_usual(f, stage, line);
    if (f->think_ns > 0 && task_sleep(f->think_ns) < 0)
        s->over = true;
    if (strcmp(words, FAKE_SILENT) == 0) {
        ssize_t n;
        while ((n = stream_fill(s->stream, TASK_FOREVER)) > 0)
            stream_discard_pending(s->stream);
        s->over = true;
    }
    if (words[0] == '\0' || s->over) {
        s->over = true;
        return 0;
    }
    int first = words[0] - '0';
    s->over = str_starts(str_of(words), STR("421")) || str_starts(str_of(words), STR("221"));
    if (stream_put(s->stream, str_of(words)) < 0 || stream_flush(s->stream, task_deadline_in(60 * NS_PER_S)) < 0)
        s->over = true;
    if (s->over)
        (void)stream_shutdown(s->stream, task_deadline_in(NS_PER_S));
    return first;
}

/* Awaits a line, without its CRLF, in *out (owned by the caller). False: the client is gone. */
static inline bool fake_line(struct fake_session *s, struct buf *out)
{
    buf_clear(out);
    for (;;) {
        struct str pending = stream_pending(s->stream);
        ssize_t lf = str_find(pending, '\n');
        if (lf >= 0) {
            unsigned ahead = fake_lines(pending);
            if (ahead > s->f->ahead_max)
                s->f->ahead_max = ahead;
            assert(lf > 0 && pending.p[lf - 1] == '\r');
            buf_put(out, pending.p, (size_t)lf - 1);
            stream_consume(s->stream, (size_t)lf + 1);
            return true;
        }
        if (stream_fill(s->stream, TASK_FOREVER) <= 0)
            return false;
    }
}

/* Awaits the text up to its end. False: the client is gone, or was cut. */
static inline bool fake_text(struct fake_session *s, struct buf *wire)
{
    for (;;) {
        struct str pending = stream_pending(s->stream);
        size_t had = wire->n;
        if (pending.n > 0) {
            buf_put_str(wire, pending);
            if (s->f->cut_in_text > 0 && wire->n >= s->f->cut_in_text)
                return false;
            ssize_t end = wire->n >= 3 && memcmp(wire->p, ".\r\n", 3) == 0 ? 0 : -1;
            size_t from = had > 4 ? had - 4 : 0;
            ssize_t found = end < 0 ? str_find_str(str_from(buf_str(wire), from), STR("\r\n.\r\n")) : -1;
            if (end == 0 || found >= 0) {
                size_t whole = end == 0 ? 3 : from + (size_t)found + 5, keep = end == 0 ? 0 : whole - 3;
                stream_consume(s->stream, whole - had);
                buf_truncate(wire, keep);
                return true;
            }
            stream_consume(s->stream, pending.n);
        }
        if (stream_fill(s->stream, TASK_FOREVER) <= 0)
            return false;
    }
}

static inline char *fake_keep(struct buf *b)
{
    char *p = strndup(b->n > 0 ? b->p : "", b->n);
    assert(p != NULL);
    return p;
}

/* A reply for each of s->rcpts (RFC 2033, 4.2), which are afterwards those whose mail was taken. */
static inline bool fake_verdicts(struct fake_session *s)
{
    struct buf taken;
    buf_init(&taken, 1 << 20);
    for (struct str rest = buf_str(&s->rcpts), one; rest.n > 0 && !s->over;) {
        str_cut(rest, ',', &one, &rest);
        if (fake_answer(s, AT_DOT, one) == 2)
            buf_printf(&taken, "%s%" STR_FMT, taken.n > 0 ? "," : "", STR_ARG(one));
    }
    buf_clear(&s->rcpts);
    buf_put_str(&s->rcpts, buf_str(&taken));
    buf_free(&taken);
    return s->rcpts.n > 0;
}

static inline void fake_data(struct fake_session *s)
{
    struct fake *f = s->f;
    if (fake_answer(s, AT_DATA, STR("DATA")) != 3)
        return;
    struct buf wire;
    buf_init(&wire, 256 << 20);
    if (!fake_text(s, &wire)) {
        s->over = true;
        buf_free(&wire);
        return;
    }
    /* It is taken before it is said: a client that hears nothing must think otherwise, and we must know better. */
    uint64_t disk_ops = sim_disk_ops();
    bool taken = f->lmtp ? fake_verdicts(s) : fake_answer(s, AT_DOT, buf_str(&wire)) == 2;
    if (taken) {
        assert(f->mail_count < SCENE_MAILS_MAX);
        f->mails[f->mail_count++] = (struct fake_mail){ fake_keep(&s->sender), fake_keep(&s->rcpts), wire, s->number, disk_ops };
    } else {
        buf_free(&wire);
    }
    buf_clear(&s->rcpts);
}

/* Awaits the octets of a BDAT. False: the client is gone, or was cut. */
static inline bool fake_octets(struct fake_session *s, uint64_t n)
{
    while (n > 0) {
        struct str part = str_head(stream_pending(s->stream), n);
        buf_put_str(&s->chunks, part);
        stream_consume(s->stream, part.n);
        n -= part.n;
        if (s->f->cut_in_text > 0 && s->chunks.n >= s->f->cut_in_text)
            return false;
        if (n > 0 && part.n == 0 && stream_fill(s->stream, TASK_FOREVER) <= 0)
            return false;
    }
    return true;
}

static inline void fake_bdat(struct fake_session *s, struct str args)
{
    struct fake *f = s->f;
    struct str size, last;
    uint64_t n = 0;
    str_cut(args, ' ', &size, &last);
    bool ok = str_to_u64(size, UINT32_MAX, &n) && (last.n == 0 || str_eq(last, STR("LAST")));
    assert(ok);
    if (!fake_octets(s, n)) {
        s->over = true;
        return;
    }
    uint64_t disk_ops = sim_disk_ops();
    s->stray = s->rcpts.n == 0;
    bool verdicts = f->lmtp && last.n > 0 && s->rcpts.n > 0;
    int said = verdicts ? (fake_verdicts(s) ? 2 : 0) : fake_answer(s, last.n > 0 ? AT_DOT : AT_BDAT, args);
    s->stray = false;
    if (last.n > 0 && said == 2) {
        assert(f->mail_count < SCENE_MAILS_MAX);
        f->mails[f->mail_count++] = (struct fake_mail){ fake_keep(&s->sender), fake_keep(&s->rcpts), s->chunks, s->number, disk_ops };
        buf_init(&s->chunks, 256 << 20);
    }
    if (last.n > 0 || said != 2) {
        buf_clear(&s->chunks);
        buf_clear(&s->rcpts);
    }
}

static inline void fake_command(struct fake_session *s, struct str line)
{
    static const struct {
        const char *verb;
        enum fake_stage stage;
    } verbs[] = {
        {"EHLO ",       AT_EHLO},
        { "LHLO ",      AT_EHLO},
        { "HELO ",      AT_HELO},
        { "MAIL FROM:", AT_MAIL},
        { "RCPT TO:",   AT_RCPT},
        { "DATA",       AT_DATA},
        { "BDAT ",      AT_BDAT},
        { "RSET",       AT_RSET},
        { "QUIT",       AT_QUIT},
    };
    enum fake_stage stage = AT_OTHER;
    struct str args = line;
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++) {
        if (!str_starts(line, str_of(verbs[i].verb)))
            continue;
        stage = verbs[i].stage;
        if (i < 3 && s->f->lmtp != str_starts(line, STR("LHLO"))) /* RFC 2033, 4.1: that the two are not mixed up */
            stage = AT_OTHER;
        args = str_from(line, strlen(verbs[i].verb));
    }
    if (stage == AT_DATA) {
        fake_data(s);
        return;
    }
    if (stage == AT_BDAT) {
        fake_bdat(s, args);
        return;
    }
    if (stage == AT_MAIL) {
        s->transactions++;
        buf_clear(&s->rcpts);
        buf_clear(&s->sender);
        buf_put_str(&s->sender, args);
    }
    int said = fake_answer(s, stage, line);
    if (stage == AT_MAIL && said != 2)
        buf_clear(&s->sender);
    if (stage == AT_RCPT && said == 2)
        buf_printf(&s->rcpts, "%s%" STR_FMT, s->rcpts.n > 0 ? "," : "", STR_ARG(args));
}

struct fake_start {
    struct fake *f;
    struct stream *stream;
};

static inline void fake_session_task(void *arg)
{
    struct fake_start start = *(struct fake_start *)arg;
    free(arg);
    struct fake *f = start.f;
    struct fake_session s = { .f = f, .stream = start.stream, .number = ++f->connections };
    struct buf line;
    buf_init(&s.rcpts, 1 << 20);
    buf_init(&s.sender, 1 << 16);
    buf_init(&s.chunks, 256 << 20);
    buf_init(&line, 1 << 16);
    if (++f->open > f->open_max)
        f->open_max = f->open;
    (void)fake_answer(&s, AT_CONNECT, STR(""));
    while (!s.over && fake_line(&s, &line)) {
        buf_put_str(&f->transcript, buf_str(&line));
        buf_put_char(&f->transcript, '\n');
        fake_command(&s, buf_str(&line));
    }
    f->open--;
    stream_close(s.stream);
    buf_free(&s.rcpts);
    buf_free(&s.sender);
    buf_free(&s.chunks);
    buf_free(&line);
}

static inline void fake_accept_task(void *arg)
{
    struct fake *f = arg;
    struct fake_start start = { .f = f };
    struct net_addr peer;
    while (net_accept(f->listener, TASK_FOREVER, &start.stream, &peer) == 0) {
        struct fake_start *given = malloc(sizeof *given);
        assert(given != NULL);
        *given = start;
        int r = task_group_start(&f->tasks, "fake session", fake_session_task, given);
        assert(r == 0);
        (void)r;
    }
}

/* f zeroed but for what it is to say. */
static inline void fake_begin(struct fake *f, const char *address) /* or the path of a socket */
{
    struct net_addr at;
    bool is_path = !net_addr_parse(str_of(address), 25, &at);
    buf_free(&f->transcript);
    buf_init(&f->transcript, 64 << 20);
    task_group_init(&f->tasks);
    int r = is_path ? net_listen_unix(address, 0666, &f->listener) : net_listen(&at, false, &f->listener);
    assert(r == 0);
    r = task_group_start(&f->tasks, "fake", fake_accept_task, f);
    assert(r == 0);
    (void)r;
}

/* Awaits. What it saw stays. */
static inline void fake_end(struct fake *f)
{
    if (f->listener == NULL)
        return;
    task_group_cancel(&f->tasks);
    (void)task_group_wait(&f->tasks, TASK_FOREVER);
    net_listener_close(f->listener);
    f->listener = NULL;
}

static inline void fake_forget(struct fake *f)
{
    for (unsigned i = 0; i < f->mail_count; i++) {
        free(f->mails[i].sender);
        free(f->mails[i].rcpts);
        buf_free(&f->mails[i].wire);
    }
    f->mail_count = 0;
    buf_free(&f->transcript);
}

/* How often a recipient's path stands in the accepted mails. */
static inline unsigned fake_count(const struct fake *f, const char *rcpt)
{
    unsigned n = 0;
    char path[400];
    snprintf(path, sizeof path, "<%s>", rcpt);
    for (unsigned i = 0; i < f->mail_count; i++)
        for (struct str rest = str_of(f->mails[i].rcpts), one; rest.n > 0;) {
            str_cut(rest, ',', &one, &rest);
            n += str_eq(one, str_of(path));
        }
    return n;
}

#endif
