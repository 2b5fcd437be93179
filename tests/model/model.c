/*
 * The model test: random conversations with the real session and the real queue, in the simulated world, beside a small
 * reference model of RFC 5321's state machine.
 *
 *     model [--seed N] [--steps N] [-v]
 *
 * Each step is a command, well-formed or not, in order or not, alone or pipelined, its bytes cut anywhere. The model knows
 * which kind of command it made and computes the reply without parsing anything; replies and the session's state must be
 * equal after every step, and each accepted message must come out of the queue as it was sent. A difference prints the seed, the
 * step and the end of the conversation; the same seed repeats it.
 */
#include "conf/test_scene.h"
#include "inbound/session_internal.h"
#include "run/sim.h"
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RCPTS_MAX      3
#define ERRORS_MAX     10
#define MESSAGES_MAX   4
#define RECEIVED_MAX   10
#define SIZE_MAX_BYTES (64 * 1024)
#define HEADER_MAX     1024
#define SUBMIT_MAX     3
#define STEPS_A_WORLD  50000             /* then a new world: its journal and its disk begin anew */
#define TRANSCRIPT     (64 * 1024)
#define GROUP_MAX      6
#define CHUNKS_MAX     6
#define EXPECTED_MAX   (GROUP_MAX + 2 * CHUNKS_MAX + RCPTS_MAX)

/* -- the model ------------------------------------------------------------------------------------------------------------ */

struct expected {
    int         code;
    const char *status;                  /* NULL: none; "": any */
};

struct model {
    bool        trusted, local, lmtp;
    const char *helo;                    /* NULL: not greeted */
    bool        esmtp;
    bool        open;                    /* in a transaction */
    const char *sender;
    bool        utf8;                    /* SMTPUTF8 */
    bool        binary;                  /* BODY=BINARYMIME */
    const char *rcpts[RCPTS_MAX];
    unsigned    rcpt_count, errors, messages, submitted;
    unsigned    rcpt_replies;            /* RCPT answered with 250, those that brought nobody new too */
    bool        closed;
};

static void model_reset(struct model *m)
{
    m->open = false;
    m->rcpt_count = 0;
    m->rcpt_replies = 0;
}

/* What every refusal does. */
static struct expected refused(struct model *m, int code, const char *status)
{
    if (code >= 500 && ++m->errors > ERRORS_MAX) {
        m->closed = true;
        return (struct expected){ 421, "4.7.0" };
    }
    return (struct expected){ code, status };
}

static struct expected farewell(struct model *m, int code, const char *status)
{
    m->closed = true;
    return (struct expected){ code, status };
}

/* -- the commands ----------------------------------------------------------------------------------------------------------- */

struct sample {
    const char *line;
    int         code;                    /* of the reply if it comes at the right time; 0: see kind */
    const char *status;
    const char *value;                   /* what is kept of it */
};

static const struct sample hellos[] = {
    { "EHLO tester.example",     250, NULL,    "tester.example" },
    { "ehlo [192.0.2.1]",        250, NULL,    "[192.0.2.1]"    },
    { "HELO tester.example",     250, NULL,    "tester.example" },
    { "HELO under_score",        250, NULL,    "under_score"    },
    { "EHLO",                    501, "5.5.4", NULL             },
    { "HELO",                    501, "5.5.4", NULL             },
    { "LHLO tester.example",     502, "5.5.1", NULL             },
};

static const struct sample lmtp_hellos[] = {
    { "LHLO tester.example",     250, NULL,    "tester.example" },
    { "lhlo [192.0.2.1]",        250, NULL,    "[192.0.2.1]"    },
    { "LHLO",                    501, "5.5.4", NULL             },
    { "EHLO tester.example",     500, "5.5.1", NULL             },
    { "HELO",                    500, "5.5.1", NULL             },
};

static const struct sample mails[] = {
    { "MAIL FROM:<a@tester.example>",                             250, "2.1.0", "a@tester.example"       },
    { "MAIL FROM:<a@tester.example>",                             250, "2.1.0", "a@tester.example"       },
    { "MAIL FROM:<b@tester.example> SIZE=1000",                   250, "2.1.0", "b@tester.example"       },
    { "mail from:<>",                                             250, "2.1.0", ""                       },
    { "MAIL FROM:<> BODY=7BIT",                                   250, "2.1.0", ""                       },
    { "MAIL FROM:<\"a b\"@tester.example>",                       250, "2.1.0", "\"a b\"@tester.example" },
    { "MAIL FROM:<@x.example,@y.example:a@tester.example>",       250, "2.1.0", "a@tester.example"       },
    { "MAIL FROM:<c@[192.0.2.7]> BODY=8BITMIME SIZE=65536",       250, "2.1.0", "c@[192.0.2.7]"          },
    { "MAIL FROM:<a@tester.example> SIZE=65537",                  552, "5.3.4", NULL                     },
    { "MAIL FROM:<a@tester.example> SIZE=99999999999999999999",   0,   "",      NULL                     },
    { "MAIL FROM:<a@tester.example> BODY=BINARYMIME",             250, "2.1.0", "a@tester.example"       },
    { "MAIL FROM:<a@tester.example> BODY=",                       501, "5.5.4", NULL                     },
    { "MAIL FROM:<a@tester.example> SIZE=1 SIZE=1",               501, "5.5.4", NULL                     },
    { "MAIL FROM:<a@tester.example> RET=FULL ENVID=QQ+2B1",       250, "2.1.0", "a@tester.example"       },
    { "MAIL FROM:<a@tester.example> RET=SOME",                    501, "5.5.4", NULL                     },
    { "MAIL FROM:<a@tester.example> X-FROB=1",                    555, "5.5.4", NULL                     },
    { "MAIL",                                                     501, "5.5.4", NULL                     },
    { "MAIL TO:<a@tester.example>",                               501, "5.5.4", NULL                     },
    { "MAIL FROM:<a@>",                                           501, "5.1.7", NULL                     },
    { "MAIL FROM:<\xc3\xbc@tester.example>",                      550, "5.6.7", NULL                     },
    { "MAIL FROM:<\xc3\xbc@tester.example> SMTPUTF8",             250, "2.1.0", "\xc3\xbc@tester.example" },
    { "MAIL FROM:<a@tester.example> SMTPUTF8=",                   501, "5.5.4", NULL                     },
};

/* code 250: a user of ours; 551: only the trusted may */
static const struct sample rcpts[] = {
    { "RCPT TO:<bob@here.example>",                   250, "2.1.5", "bob@here.example"          },
    { "rcpt to:<bob@here.example>",                   250, "2.1.5", "bob@here.example"          },
    { "RCPT TO:<bob@HERE.example>",                   250, "2.1.5", "bob@here.example"          },
    { "RCPT TO:<alice@here.example>",                 250, "2.1.5", "alice@here.example"        },
    { "RCPT TO:<postmaster@here.example>",            250, "2.1.5", "postmaster@here.example"   },
    { "RCPT TO:<postmaster>",                         250, "2.1.5", "postmaster"                },
    { "RCPT TO:<@relay.example:alice@here.example>",  250, "2.1.5", "alice@here.example"        },
    { "RCPT TO:<x@elsewhere.example>",                551, "",      "x@elsewhere.example"       },
    { "RCPT TO:<y@elsewhere.example>",                551, "",      "y@elsewhere.example"       },
    { "RCPT TO:<z@[192.0.2.9]>",                      551, "",      "z@[192.0.2.9]"             },
    { "RCPT TO:<\xc3\xbc@elsewhere.example>",         553, "5.6.7", "\xc3\xbc@elsewhere.example" },
    { "RCPT TO:<\"q q\"@elsewhere.example>",          551, "",      "\"q q\"@elsewhere.example" },
    { "RCPT TO:<nobody@here.example>",                550, "5.1.1", NULL                        },
    { "RCPT TO:<bob%elsewhere.example@here.example>", 550, "5.1.1", NULL                        },
    { "RCPT TO:<bob@here.example> NOTIFY=NEVER",      250, "2.1.5", "bob@here.example"          },
    { "RCPT TO:<bob@here.example> NOTIFY=NEVER,DELAY", 501, "5.5.4", NULL                       },
    { "RCPT TO:<bob@here.example> FROB",              555, "5.5.4", NULL                        },
    { "RCPT TO:<>",                                   501, "5.1.3", NULL                        },
    { "RCPT TO:<bob>",                                501, "5.1.3", NULL                        },
    { "RCPT",                                         501, "5.5.4", NULL                        },
    { "RCPT FROM:<bob@here.example>",                 501, "5.5.4", NULL                        },
};

/* At any time, and nothing changes. */
static const struct sample others[] = {
    { "NOOP",            250, "2.0.0", NULL },
    { "noop it is",      250, "2.0.0", NULL },
    { "HELP",            214, "2.0.0", NULL },
    { "HELP MAIL",       214, "2.0.0", NULL },
    { "VRFY bob",        252, "2.0.0", NULL },
    { "VRFY",            501, "5.5.4", NULL },
    { "EXPN staff",      502, "5.5.1", "550" },      /* no alias of ours, for those who may ask */
    { "STARTTLS",        502, "5.5.1", NULL },
    { "AUTH PLAIN AAAA", 502, "5.5.1", NULL },
    { "ETRN x",          502, "5.5.1", NULL },
    { "QUIT now",        501, "5.5.4", NULL },
    { "RSET now",        501, "5.5.4", NULL },
    { "DATA now",        501, "5.5.4", NULL },
    { "FROB",            500, "5.5.2", NULL },
    { "",                500, "5.5.2", NULL },
    { ".",               500, "5.5.2", NULL },
    { "MAILFROM:<a@b>",  500, "5.5.2", NULL },
    { "NOOP\nRSET",      500, "5.5.2", NULL },   /* a bare LF ends nothing */
    { "RSET\rRSET",      500, "5.5.2", NULL },
    { "\xff\x01",        500, "5.5.2", NULL },
};

/* Likewise, each with its six octets. */
static const struct sample chunks[] = {
    { "BDAT 6 FIRST\r\nQUIT",       501, "5.5.4", NULL },
    { "BDAT 6 LAST x\r\nRSET",      501, "5.5.4", NULL },
    { "BDAT LAST",                  421, "4.5.4", NULL },
    { "BDAT",                       421, "4.5.4", NULL },
    { "BDAT 131073 LAST",           421, "4.3.4", NULL },   /* more than is read away */
    { "BDAT 18446744073709551615",  421, "4.3.4", NULL },
};

static struct expected model_hello(struct model *m, const struct sample *s)
{
    if (s->code != 250)
        return refused(m, s->code, s->status);
    m->helo = s->value;
    m->esmtp = s->line[0] != 'H';
    model_reset(m);
    return (struct expected){ 250, NULL };
}

static struct expected model_mail(struct model *m, const struct sample *s)
{
    if (m->helo == NULL || m->open)
        return refused(m, 503, "5.5.1");
    if (s->code == 0)                            /* larger than 64 bits: too big or unreadable, both are right */
        return refused(m, 552, "");
    if (s->code != 250)
        return refused(m, s->code, s->status);
    if (m->messages >= MESSAGES_MAX)
        return farewell(m, 421, "4.7.0");
    m->open = true;
    m->sender = s->value;
    m->utf8 = strstr(s->line, "SMTPUTF8") != NULL;
    m->binary = strstr(s->line, "BINARYMIME") != NULL;
    return (struct expected){ s->code, s->status };
}

static bool has_rcpt(const struct model *m, const char *value)
{
    for (unsigned i = 0; i < m->rcpt_count; i++)
        if (strcmp(m->rcpts[i], value) == 0)
            return true;
    return false;
}

/* One that may come: is it welcome? */
static struct expected model_recipient(struct model *m, const struct sample *s)
{
    if (s->value != NULL && has_rcpt(m, s->value))
        return (struct expected){ 250, "2.1.5" };
    if (m->rcpt_count >= RCPTS_MAX)
        return refused(m, 452, "4.5.3");
    if ((s->code == 551 || s->code == 553) && !m->trusted)
        return refused(m, 550, "5.7.1");
    if (s->code == 550)
        return refused(m, s->code, s->status);
    m->rcpts[m->rcpt_count++] = s->value;
    return (struct expected){ 250, "2.1.5" };
}

static struct expected model_rcpt(struct model *m, const struct sample *s)
{
    if (!m->open)
        return refused(m, 503, "5.5.1");
    if (s->code == 501 || s->code == 555)
        return refused(m, s->code, s->status);
    if (s->code == 553 && !m->utf8)
        return refused(m, 553, s->status);
    if (m->lmtp && m->rcpt_replies >= RCPTS_MAX)
        return refused(m, 452, "4.5.3");
    struct expected e = model_recipient(m, s);
    m->rcpt_replies += e.code == 250;
    return e;
}

static struct expected model_data(struct model *m)
{
    if (!m->open)
        return refused(m, 503, "5.5.1");
    if (m->rcpt_count == 0)
        return refused(m, m->lmtp ? 503 : 554, "5.5.1");
    if (m->binary)
        return refused(m, 503, "5.5.1");
    if (m->local && !m->lmtp && ++m->submitted > SUBMIT_MAX)
        return refused(m, 450, "4.7.1");
    return (struct expected){ 354, NULL };
}

/* Of a BDAT that is no chunk of a message. */
static struct expected model_stray_chunk(struct model *m, const struct sample *s)
{
    return s->code == 421 ? farewell(m, 421, s->status) : refused(m, s->code, s->status);
}

static bool may_send(const struct model *m) { return m->helo != NULL && m->open && m->rcpt_count > 0; }

static struct expected model_body(struct model *m, struct expected verdict)
{
    model_reset(m);
    if (verdict.code != 250)
        return verdict.code == 421 ? farewell(m, 421, verdict.status) : refused(m, verdict.code, verdict.status);
    m->messages++;
    m->errors = 0;
    return verdict;
}

/* -- a conversation ------------------------------------------------------------------------------------------------------------ */

struct talk {
    struct session_shared shared;
    struct session       *session;
    struct stream        *client;        /* our end; NULL: closed */
    struct model          model;
    bool                  ended;         /* the session's task */
    struct task          *self;
    /* commands that are not sent yet, and what must come */
    struct buf            wire;
    struct expected       expected[EXPECTED_MAX];
    unsigned              expected_count;
    /* the message last sent */
    struct buf            message;       /* as it must come out */
    bool                  eight;
    bool                  stuffed;       /* it goes by DATA: dots are doubled */
    struct buf            line, transcript;
};

static uint64_t seed, steps_wanted = 100000, step;
static bool     verbose;

static uint64_t below(uint64_t bound) { return sim_random_below(bound); }

__attribute__((noreturn, format(printf, 2, 3))) static void wrong(struct talk *t, const char *format, ...)
{
    va_list args;

    fprintf(stderr, "%.*s\nmodel: seed %" PRIu64 ", step %" PRIu64 ": ", (int)t->transcript.n, t->transcript.p, seed, step);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fprintf(stderr, "\nrepeat it with: model --seed %" PRIu64 " --steps %" PRIu64 "\n0 passed, 1 failed\n", seed, step + 1);
    exit(1);
}

static void note(struct talk *t, const char *who, struct str bytes)
{
    if (t->transcript.n > TRANSCRIPT / 2)
        buf_drop_front(&t->transcript, TRANSCRIPT / 4);
    buf_printf(&t->transcript, "%s ", who);
    for (size_t i = 0; i < bytes.n && i < 300; i++) {
        unsigned char c = (unsigned char)bytes.p[i];
        if (c >= ' ' && c < 127)
            buf_put_char(&t->transcript, (char)c);
        else
            buf_printf(&t->transcript, c == '\n' ? "\\n\n   " : "\\x%02x", c);
    }
    buf_put_char(&t->transcript, '\n');
}

/* In pieces, some of them with a turn for the session in between. */
static void send_wire(struct talk *t)
{
    struct str rest = buf_str(&t->wire);

    note(t, "C:", rest);
    while (rest.n > 0) {
        size_t n = below(2) ? rest.n : 1 + below(rest.n);
        if (stream_put(t->client, str_head(rest, n)) < 0 || stream_flush(t->client, TASK_FOREVER) < 0)
            break;                       /* it has said 421 and gone: the replies tell */
        rest = str_from(rest, n);
        if (rest.n > 0 && below(2))
            (void)task_yield();
    }
    buf_clear(&t->wire);
}

/* One line of a reply, without CRLF, in t->line. False at the end of input. */
static bool read_line(struct talk *t)
{
    for (;;) {
        struct str pending = stream_pending(t->client);
        const char *lf = pending.n > 0 ? memchr(pending.p, '\n', pending.n) : NULL;
        if (lf != NULL) {
            size_t n = (size_t)(lf - pending.p) + 1;
            buf_clear(&t->line);
            buf_put(&t->line, pending.p, n);
            stream_consume(t->client, n);
            note(t, "S:", buf_str(&t->line));
            if (n < 2 || t->line.p[n - 2] != '\r')
                wrong(t, "a reply line without CRLF");
            buf_truncate(&t->line, n - 2);
            return true;
        }
        ssize_t n = stream_fill(t->client, TASK_FOREVER);
        if (n <= 0)
            return false;
    }
}

static void expect_reply(struct talk *t, const struct expected *e)
{
    char status[16] = "", last;

    do {
        if (!read_line(t))
            wrong(t, "wanted %d, and the connection ended", e->code);
        if (t->line.n < 4)
            wrong(t, "a short reply");
        last = t->line.p[3];
        buf_put_char(&t->line, '\0');
        if (atoi(t->line.p) != e->code && !(e->code == 552 && e->status[0] == '\0' && atoi(t->line.p) == 501))
            wrong(t, "wanted %d %s, came %s", e->code, e->status == NULL ? "" : e->status, t->line.p);
        if (sscanf(t->line.p + 4, "%15[0-9.]", status) != 1 || strchr(status, '.') == NULL)
            status[0] = '\0';
        if (e->status != NULL && e->status[0] != '\0' && strcmp(status, e->status) != 0)
            wrong(t, "wanted %d %s, came %s", e->code, e->status, t->line.p);
    } while (last == '-');
}

/* What becomes of a whole text, which LMTP says for each recipient (RFC 2033, 4.2); but a last reply comes once. */
static void expect_verdict(struct talk *t, struct expected verdict)
{
    unsigned times = t->model.lmtp ? t->model.rcpt_replies : 1;
    struct expected e = model_body(&t->model, verdict);

    if (e.code == 421)
        times = 1;
    while (times-- > 0)
        t->expected[t->expected_count++] = e;
}

static void expect_end(struct talk *t)
{
    if (read_line(t))
        wrong(t, "wanted the end of the connection");
}

static void compare_state(struct talk *t)
{
    const struct session *s = t->session;
    const struct model *m = &t->model;

    if (m->closed)
        return;
    if (strcmp(s->helo, m->helo == NULL ? "" : m->helo) != 0)
        wrong(t, "state: helo is %s", s->helo);
    if (m->helo != NULL && s->esmtp != m->esmtp)
        wrong(t, "state: esmtp is %d", s->esmtp);
    if (s->transaction.open != m->open || s->transaction.rcpt_count != m->rcpt_count)
        wrong(t, "state: open is %d with %zu recipients, not %d with %u", s->transaction.open, s->transaction.rcpt_count, m->open, m->rcpt_count);
    if (s->errors != m->errors || s->messages != m->messages)
        wrong(t, "state: %u errors and %u messages, not %u and %u", s->errors, s->messages, m->errors, m->messages);
}

/* Sends what was collected and looks at all replies. */
static void exchange(struct talk *t)
{
    if (t->expected_count == 0)
        return;
    send_wire(t);
    for (unsigned i = 0; i < t->expected_count; i++)
        expect_reply(t, &t->expected[i]);
    t->expected_count = 0;
    compare_state(t);
    if (t->model.closed)
        expect_end(t);
}

/* -- the queue ---------------------------------------------------------------------------------------------------------------- */

static void compare_address(struct talk *t, const struct address *addr, const char *wanted)
{
    char bytes[512];
    struct buf text;

    buf_init_fixed(&text, bytes, sizeof bytes);
    address_put(&text, addr);
    if (!str_eq(buf_str(&text), str_of(wanted)))
        wrong(t, "queue: address is %.*s, not %s", (int)text.n, text.p, wanted);
}

static void compare_envelope(struct talk *t, const struct claim *c)
{
    const struct model *m = &t->model;

    compare_address(t, &c->env.sender, m->sender);
    if (c->env.null_sender != (m->sender[0] == '\0') || c->env.rcpt_count != m->rcpt_count)
        wrong(t, "queue: null sender %d, %zu recipients, not %u", c->env.null_sender, c->env.rcpt_count, m->rcpt_count);
    for (unsigned i = 0; i < m->rcpt_count; i++)
        compare_address(t, &c->env.rcpts[i].addr, m->rcpts[i]);
    if (!str_eq(c->env.helo, str_of(m->helo)) || c->env.body_8bit != t->eight || c->env.body_binary != m->binary || c->env.smtputf8 != m->utf8)
        wrong(t, "queue: helo %.*s, 8bit %d, binary %d, utf8 %d", (int)c->env.helo.n, c->env.helo.p, c->env.body_8bit, c->env.body_binary,
              c->env.smtputf8);
    if (m->local != (c->env.login.n > 0) || m->local == (c->env.client_ip.n > 0))
        wrong(t, "queue: login %.*s", (int)c->env.login.n, c->env.login.p);
}

/* Behind our own Received field. */
static void compare_body(struct talk *t, struct claim *c)
{
    char *body = malloc(c->body_size + 1);
    size_t n = 0, at = 0;

    assert(body != NULL);
    if (queue_read_body(c, 0, body, c->body_size, &n) < 0 || n != c->body_size)
        wrong(t, "queue: cannot read the body");
    if (n < 9 || memcmp(body, "Received:", 9) != 0)
        wrong(t, "queue: no trace field");
    do {
        const char *lf = memchr(body + at, '\n', n - at);
        if (lf == NULL)
            wrong(t, "queue: the trace field has no end");
        at = (size_t)(lf - body) + 1;
    } while (at < n && (body[at] == ' ' || body[at] == '\t'));
    if (n - at != t->message.n || memcmp(body + at, t->message.p, n - at) != 0)
        wrong(t, "queue: the body is not what was sent: %zu bytes, not %zu", n - at, t->message.n);
    free(body);
}

/* The message is there, is the one that was sent, and is taken out; or none is there. */
static void compare_queue(struct talk *t, bool accepted)
{
    struct outcome outcomes[RCPTS_MAX];
    struct claim *c;

    if (queue_count(t->shared.queue) != (accepted ? 1 : 0))
        wrong(t, "queue: holds %zu", queue_count(t->shared.queue));
    if (!accepted)
        return;
    if (queue_claim(t->shared.queue, task_deadline_in(NS_PER_S), &c) < 0)
        wrong(t, "queue: nothing is due");
    compare_envelope(t, c);
    compare_body(t, c);
    size_t count = c->env.rcpt_count;
    for (size_t i = 0; i < count; i++)
        outcomes[i] = (struct outcome){ .rcpt = (uint32_t)i, .state = RCPT_DELIVERED };
    if (queue_settle(c, outcomes, count, 0) < 0)
        wrong(t, "queue: cannot settle");
}

/* -- messages ---------------------------------------------------------------------------------------------------------------- */

/* Both what is sent and what must arrive. */
static void put_text(struct talk *t, const char *line)
{
    if (line[0] == '.' && t->stuffed)
        buf_put_char(&t->wire, '.');
    buf_printf(&t->wire, "%s\r\n", line);
    buf_printf(&t->message, "%s\r\n", line);
}

static void put_lines(struct talk *t, unsigned count, const char *line)
{
    for (unsigned i = 0; i < count; i++)
        put_text(t, line);
}

static const char long_line[] = "This line is made to be long enough that a thousand of its kind are more than anybody wants to read at all.";

/* A message of a random kind, and the verdict on it. */
static struct expected make_message(struct talk *t)
{
    static const char *const lines[] = { "", ".", "..", ".dot", "text", "Received: not in the header", " folded", "\xc3\xbc", "RSET", "a.", ". " };
    struct expected verdict = { 250, "2.0.0" };
    uint64_t kind = below(100);

    buf_clear(&t->message);
    if (kind < 4) {
        put_lines(t, RECEIVED_MAX + 1, "Received: from a by b");
        verdict = (struct expected){ 554, "5.4.6" };
    } else if (kind < 8) {
        put_lines(t, RECEIVED_MAX, "received: from a by b");
    } else if (kind < 12) {
        put_lines(t, HEADER_MAX / 100 + 1, long_line);
        verdict = (struct expected){ 552, "5.3.4" };
    } else if (kind < 20) {
        buf_put_str(&t->wire, kind < 15 ? STR("a\nb\r\n") : kind < 18 ? STR("a\rb\r\n") : STR("a\0b\r\n"));
        verdict = (struct expected){ 550, "5.6.11" };
    } else if (kind == 20) {
        put_text(t, "");
        put_lines(t, SIZE_MAX_BYTES / 100, long_line);
        verdict = (struct expected){ 552, "5.3.4" };
    } else if (kind < 25) {              /* the limits of a header are none for a body */
        put_text(t, "");
        put_lines(t, HEADER_MAX / 50, kind < 23 ? long_line : "Received: in the body");
    } else if (kind < 60) {
        put_text(t, "Subject: x");
    }
    if (kind >= 20 || kind < 8)
        put_text(t, "");
    for (uint64_t n = below(8); n > 0; n--)
        put_text(t, lines[below(sizeof lines / sizeof lines[0])]);
    t->eight = t->message.n > 0 && memchr(t->message.p, '\xc3', t->message.n) != NULL;
    return verdict;
}

static void end_session(struct talk *t)
{
    stream_close(t->client);
    t->client = NULL;
    t->model.closed = true;
    while (!t->ended)
        (void)task_park(TASK_FOREVER);
}

/* After 354. */
static void send_message(struct talk *t)
{
    t->stuffed = true;
    struct expected verdict = make_message(t);

    if (below(100) == 0) {               /* gone in the middle */
        send_wire(t);
        end_session(t);
        compare_queue(t, false);
        return;
    }
    if (below(200) == 0) {               /* silent in the middle */
        send_wire(t);
        t->expected[0] = model_body(&t->model, (struct expected){ 421, "4.4.2" });
        t->expected_count = 1;
        exchange(t);
        compare_queue(t, false);
        return;
    }
    struct model before = t->model;
    buf_put_z(&t->wire, ".\r\n");
    expect_verdict(t, verdict);
    exchange(t);
    struct model after = t->model;
    t->model = before;
    compare_queue(t, verdict.code == 250);
    t->model = after;
}

/* -- in chunks ------------------------------------------------------------------------------------------------------------------ */

static bool is_received(struct str text, size_t at)
{
    return (at == 0 || text.p[at - 1] == '\n') && str_eq_nocase(str_head(str_from(text, at), 9), STR("received:"));
}

/* What a look at the text so far finds wrong with it; code 0: nothing. */
static struct expected judge(struct str text, bool whole, bool binary)
{
    ssize_t empty = str_starts(text, STR("\r\n")) ? 0 : str_find_str(text, STR("\r\n\r\n"));
    size_t header = empty < 0 ? text.n : (size_t)empty + (empty == 0 ? 2 : 4), received = 0;

    for (size_t i = 0; i < (binary ? header : text.n); i++) {
        bool bare_lf = text.p[i] == '\n' && (i == 0 || text.p[i - 1] != '\r');
        bool bare_cr = text.p[i] == '\r' && (i + 1 < text.n ? text.p[i + 1] != '\n' : whole);
        if (bare_lf || bare_cr || text.p[i] == '\0')
            return (struct expected){ 550, "5.6.11" };
    }
    for (size_t i = 0; i < header; i++)
        received += is_received(text, i);
    if (received > RECEIVED_MAX)
        return (struct expected){ 554, "5.4.6" };
    return (struct expected){ header > HEADER_MAX || text.n > SIZE_MAX_BYTES ? 552 : 0, "5.3.4" };
}

/* A message as for DATA, or bytes of any kind behind a header. */
static void make_text(struct talk *t)
{
    size_t before = t->wire.n;

    t->stuffed = false;
    (void)make_message(t);
    if (t->model.binary && below(2)) {
        buf_put_z(&t->wire, "\r\n");
        for (uint64_t n = below(200); n > 0; n--)
            buf_put_char(&t->wire, below(4) ? (char)below(256) : "\r\n.\0"[below(4)]);
    }
    buf_clear(&t->message);
    buf_put_str(&t->message, str_from(buf_str(&t->wire), before));
    buf_truncate(&t->wire, before);
    t->eight = false;
    for (size_t i = 0; i < t->message.n; i++)
        t->eight |= (unsigned char)t->message.p[i] >= 0x80;
}

/* Between two chunks. False: the transaction is over. */
static bool interrupt(struct talk *t)
{
    static const struct sample between[] = {
        { "NOOP",                         250, "2.0.0", NULL },
        { "VRFY bob",                     252, "2.0.0", NULL },
        { "DATA",                         503, "5.5.1", NULL },
        { "MAIL FROM:<>",                 503, "5.5.1", NULL },
        { "RCPT TO:<alice@here.example>", 503, "5.5.1", NULL },
        { "BDAT 6 FIRST\r\nQUIT",         501, "5.5.4", NULL },
        { "RSET",                         250, "2.0.0", NULL },
    };
    const struct sample *s = &between[below(sizeof between / sizeof between[0])];
    bool reset = str_eq(str_of(s->line), STR("RSET"));

    if (reset)
        model_reset(&t->model);
    buf_printf(&t->wire, "%s\r\n", s->line);
    t->expected[t->expected_count++] = s->code >= 500 ? refused(&t->model, s->code, s->status) : (struct expected){ s->code, s->status };
    return !reset && !t->model.closed;
}

/* One more chunk, n octets of the message from `at` on. *trouble is that of the chunks before. */
static void add_chunk(struct talk *t, size_t at, size_t n, bool last, struct expected *trouble)
{
    struct expected e = { 250, "2.0.0" };

    buf_printf(&t->wire, "BDAT %zu%s\r\n", n, last ? below(2) ? " LAST" : " last" : "");
    buf_put(&t->wire, t->message.p + at, n);
    if (trouble->code == 0)
        *trouble = judge(str_head(buf_str(&t->message), at + n), last, t->model.binary);
    if (last) {
        expect_verdict(t, trouble->code == 0 ? e : *trouble);
        return;
    }
    if (trouble->code != 0)
        e = refused(&t->model, trouble->code, trouble->status);
    t->expected[t->expected_count++] = e;
}

/* The octets stop coming. */
static void stop_in_chunk(struct talk *t)
{
    buf_put_z(&t->wire, "BDAT 9\r\nRSET\r\n");
    if (below(2) == 0) {
        send_wire(t);
        end_session(t);
        t->expected_count = 0;
        return;
    }
    t->expected[t->expected_count++] = model_body(&t->model, (struct expected){ 421, "4.4.2" });
    exchange(t);
}

/* All chunks of a message, some of them pipelined, to its end, whichever that is. True: it was taken. */
static bool send_chunks(struct talk *t)
{
    struct expected trouble = { 0, NULL };
    size_t at = 0;

    make_text(t);
    if (t->model.local && !t->model.lmtp && ++t->model.submitted > SUBMIT_MAX)
        trouble = (struct expected){ 450, "4.7.1" };
    for (unsigned count = 1; !t->model.closed; count++) {
        size_t rest = t->message.n - at;
        size_t n = count == CHUNKS_MAX || below(3) == 0 ? rest : below(rest + 1);
        bool last = n == rest && (count == CHUNKS_MAX || below(3) > 0);
        add_chunk(t, at, n, last, &trouble);
        at += n;
        if (last)
            return trouble.code == 0;
        if (!t->model.closed && below(100) == 0) {
            stop_in_chunk(t);
            return false;
        }
        if (below(2))
            exchange(t);
        if (!t->model.closed && below(8) == 0 && !interrupt(t))
            return false;
    }
    return false;
}

static void send_in_chunks(struct talk *t)
{
    struct model before = t->model;
    bool taken = send_chunks(t);

    if (t->client != NULL)
        exchange(t);
    struct model after = t->model;
    t->model = before;
    compare_queue(t, taken);
    t->model = after;
}

/* -- steps ------------------------------------------------------------------------------------------------------------------ */

static void add(struct talk *t, const char *line, struct expected e)
{
    buf_printf(&t->wire, "%s\r\n", line);
    t->expected[t->expected_count++] = e;
    if (verbose)
        fprintf(stderr, "%" PRIu64 " %s -> %d\n", step, line, e.code);
}

static void add_long_line(struct talk *t)
{
    char line[6001];
    size_t n = 2100 + below(sizeof line - 2101);

    memset(line, 'x', n);
    line[n] = '\0';
    add(t, line, refused(&t->model, 500, "5.5.2"));
}

#define PICK(table) (&(table)[below(sizeof(table) / sizeof((table)[0]))])

/* A command that fits, more often than not: else most conversations would end before they began. BDAT is a whole message at once, behind
 * what is pipelined already. */
static void add_command(struct talk *t)
{
    struct model *m = &t->model;
    const struct sample *s;
    uint64_t kind = below(100);

    if (kind < 40)
        kind = m->helo == NULL ? 40 : !m->open ? 50 : m->rcpt_count == 0 || below(2) ? 65 : 78 + below(8);
    if (kind < 45) {
        s = m->lmtp ? kind == 40 ? &lmtp_hellos[0] : PICK(lmtp_hellos) : kind == 40 ? &hellos[0] : PICK(hellos);
        add(t, s->line, model_hello(m, s));
    } else if (kind < 60) {
        s = PICK(mails);
        add(t, s->line, model_mail(m, s));
    } else if (kind < 78) {
        s = PICK(rcpts);
        add(t, s->line, model_rcpt(m, s));
    } else if (kind < 82) {
        add(t, "DATA", model_data(m));
    } else if (kind < 86 && !may_send(m)) {
        add(t, below(2) ? "BDAT 6\r\nQUIT" : "BDAT 6 LAST\r\nRSET", refused(m, 503, "5.5.1"));
    } else if (kind < 86) {
        send_in_chunks(t);
    } else if (kind < 89) {
        model_reset(m);
        add(t, "RSET", (struct expected){ 250, "2.0.0" });
    } else if (kind == 89) {
        add(t, "QUIT", farewell(m, 221, "2.0.0"));
    } else if (kind == 90) {
        add_long_line(t);
    } else if (kind == 91) {
        s = PICK(chunks);
        add(t, s->line, model_stray_chunk(m, s));
    } else {
        s = PICK(others);
        bool told = s->value != NULL && m->trusted && !m->lmtp;
        add(t, s->line, told ? refused(m, 550, "5.1.1") : refused(m, s->code, s->status));
    }
}

/* What a client may do besides: fall silent, leave, or end a line with LF alone. */
static void misbehave(struct talk *t)
{
    if (below(3) == 0) {
        end_session(t);
        return;
    }
    bool bare = below(2);
    buf_put_z(&t->wire, bare ? "NOOP\n" : "NO");
    t->expected[t->expected_count++] = farewell(&t->model, 421, bare ? "4.5.2" : "4.4.2");
    exchange(t);
}

static void one_step(struct talk *t)
{
    if (t->expected_count == 0 && below(500) == 0) {
        misbehave(t);
        return;
    }
    add_command(t);
    if (t->expected_count == 0)          /* a whole message went */
        return;
    struct expected last = t->expected[t->expected_count - 1];
    bool pipeline = t->model.esmtp && t->model.helo != NULL && t->expected_count < GROUP_MAX && below(3) > 0;
    if (pipeline && last.code != 354 && !t->model.closed)
        return;
    exchange(t);
    if (last.code == 354)
        send_message(t);
}

/* -- sessions ------------------------------------------------------------------------------------------------------------------ */

static void serve(void *arg)
{
    struct talk *t = arg;

    session_talk(t->session);
    session_free(t->session);
    t->session = NULL;
    t->ended = true;
    task_wake(t->self);
}

static void begin_session(struct talk *t)
{
    struct session_client client = { .uid = (unsigned)below(1u << 31) };
    struct stream *server;
    uint64_t who = below(3);

    t->model = (struct model){ .trusted = who > 0, .local = who == 2, .lmtp = below(3) == 0 };
    client.local = t->model.local;
    client.terms.service = t->model.lmtp ? CONF_SERVICE_LMTP : CONF_SERVICE_SMTP;
    bool parsed = net_addr_parse(t->model.trusted ? STR("192.0.2.1") : STR("198.51.100.1"), 1025, &client.addr);
    assert(parsed);
    int r = stream_pair(4096 + below(4096), &t->client, &server);   /* room for the replies to a group */
    assert(r == 0);
    t->session = session_new(&t->shared, server, &client);
    assert(t->session != NULL);
    t->ended = false;
    buf_clear(&t->transcript);
    buf_clear(&t->wire);
    t->expected_count = 0;
    r = task_start("session", serve, t);
    assert(r == 0);
    expect_reply(t, &(struct expected){ 220, NULL });
}

static void hold_sessions(struct talk *t, uint64_t until)
{
    while (step < until) {
        begin_session(t);
        for (; step < until && !t->model.closed; step++)
            one_step(t);
        if (t->client != NULL && !t->model.closed)
            exchange(t);                 /* what was pipelined and not sent */
        if (t->client != NULL)
            end_session(t);
    }
}

static void world(void *arg)
{
    struct talk *t = arg;
    struct submit_limit submit;
    struct queue_recovery found;
    char error[256];

    submit_limit_init(&submit);
    t->self = task_self();
    t->shared = (struct session_shared){ .submit = &submit, .stop_deadline_ns = TASK_FOREVER };
    t->shared.files = offload_new("files", 1, 100);
    assert(t->shared.files != NULL);
    struct queue_options options = { .dir = "/data", .segment_size = 1 << 20, .message_size_max = SIZE_MAX_BYTES + 16384, .unsafe_file_system = true };
    if (queue_open(&options, &t->shared.queue, &found, error) < 0)
        wrong(t, "queue_open: %s", error);
    uint64_t until = steps_wanted - step > STEPS_A_WORLD ? step + STEPS_A_WORLD : steps_wanted;
    hold_sessions(t, until);
    queue_close(t->shared.queue);
    offload_free(t->shared.files);
    submit_limit_free(&submit);
}

static struct conf *make_conf(void)
{
    static const char text[] = "hostname = mx.here.example\nlocal_domains = {here.example}\nrecipients_max = 100\n"
                               "trusted_networks = {192.0.2.0/24}\nusers_file = /dev/null\nenforce_sync = no\n";
    struct conf *c = conf_of(text);

    c->recipients_max = RCPTS_MAX;
    c->errors_max = ERRORS_MAX;
    c->messages_per_session_max = MESSAGES_MAX;
    c->received_max = RECEIVED_MAX;
    c->message_size_max = SIZE_MAX_BYTES;
    c->header_size_max = HEADER_MAX;
    c->local_submit_max_per_hour = SUBMIT_MAX;
    conf_add_user(c, "bob");
    conf_add_user(c, "alice");
    return c;
}

static void read_options(int argc, char **argv)
{
    seed = clock_random_below(1000000000);
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc)
            seed = strtoull(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--steps") == 0 && i + 1 < argc)
            steps_wanted = strtoull(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "-v") == 0)
            verbose = true;
        else {
            fputs("usage: model [--seed N] [--steps N] [-v]\n", stderr);
            exit(64);
        }
    }
}

int main(int argc, char **argv)
{
    struct talk t = { .ended = true };

    read_options(argc, argv);
    printf("model: seed %" PRIu64 "\n", seed);
    fflush(stdout);
    log_level_set(LOG_ERROR);
    buf_init(&t.wire, 1 << 20);
    buf_init(&t.message, 1 << 20);
    buf_init(&t.line, 8192);
    buf_init(&t.transcript, TRANSCRIPT);
    conf_set_current(make_conf());
    for (uint64_t n = 0; step < steps_wanted; n++) {
        sim_begin(&(struct sim_options){ .seed = seed + n * 1000000007, .latency_max_ns = NS_PER_MS, .sync_ns = NS_PER_MS, .disk_forgets = true });
        int r = sim_run(world, &t);
        if (r < 0)
            wrong(&t, "the world stopped: %s", strerror(-r));
        sim_end();
    }
    conf_set_current(NULL);
    buf_free(&t.wire);
    buf_free(&t.message);
    buf_free(&t.line);
    buf_free(&t.transcript);
    printf("model: %" PRIu64 " steps, replies and state equal\n1 passed, 0 failed\n", step);
    return 0;
}
