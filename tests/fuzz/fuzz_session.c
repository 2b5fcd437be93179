/*
 * Fuzzes a whole session: a stranger's bytes, the real session, the real queue, in the simulated world.
 *
 * An input is a byte of options and then what the client sends:
 *     bits 0-1  who it is: a stranger, a trusted network, a local user by the submit socket, somebody who must log in
 *     bit 2     its bytes arrive one by one
 *     bit 3     it leaves without QUIT in the end, else it waits for our end
 *     bit 4     it speaks before it is greeted
 *     bit 5     it is asked to wait for its turn (enforce_sync)
 *     bit 6     it speaks LMTP, if it is a stranger or trusted
 * The byte 0x1e is not sent: there the client stops and reads what has come.
 *
 * Whatever it sends: each reply is one (RFC 5321, 4.2), the session ends by itself, and the queue holds exactly the messages whose 250 was
 * written, each with a sound envelope and a text that cannot be read as two (no bare CR or LF, no NUL); those of a login have an author.
 */
#include "base/log.h"
#include "base/rate.h"
#include "conf/test_scene.h"
#include "inbound/session_internal.h"
#include "mail/header.h"
#include "run/file.h"
#include "run/sim.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define PAUSE      0x1e
#define BUFFER     (64 * 1024)
#define LISTED_MAX 64

#define ACCOUNTS "alice@here.example:$5$rounds=1000$saltsalt$1E80wIeNUk6Tw.cvgykgsGLDhE7YCS/mO7gtCEoKze9:" \
                 "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=\n"

enum { STRANGER, TRUSTED, LOCAL, PERSON };
enum { WHO = 3, ONE_BY_ONE = 4, HANGS_UP = 8, TALKS_EARLY = 16, ITS_TURN = 32, LMTP = 64 };

struct talk {
    const uint8_t        *data;
    size_t                size;
    uint8_t               options;
    struct session_shared shared;
    struct session       *session;
    struct stream        *client;
    struct task          *self;
    bool                  ended;
    unsigned              kept;          /* messages that were answered with 250 */
};

/* ---- what comes back ---- */

static void check_line(struct str line)
{
    assert(line.n >= 5 && line.n <= 2048 && line.p[line.n - 2] == '\r');
    assert(line.p[0] >= '2' && line.p[0] <= '5' && char_is_digit(line.p[1]) && char_is_digit(line.p[2]));
    assert(line.p[3] == ' ' || line.p[3] == '-');
    for (size_t i = 3; i + 2 < line.n; i++)
        assert(line.p[i] >= 0x20 && line.p[i] < 0x7f);
}

static void take_replies(struct talk *t)
{
    struct str line, rest = stream_pending(t->client);
    size_t taken = 0;

    for (; str_find(rest, '\n') >= 0; taken += line.n) {
        line = str_head(rest, (size_t)str_find(rest, '\n') + 1);
        rest = str_from(rest, line.n);
        check_line(line);
        t->kept += str_starts(line, STR("250 2.0.0 Queued as"));
    }
    stream_consume(t->client, taken);
}

/* All that is there, and all that is to come if `to_the_end`. False: the session has gone. */
static bool listen_to(struct talk *t, bool to_the_end)
{
    ssize_t n;

    while ((n = stream_fill(t->client, to_the_end ? TASK_FOREVER : task_deadline_in(NS_PER_MS))) > 0)
        take_replies(t);
    return n == -ETIMEDOUT;
}

static bool is_greeted(struct talk *t)
{
    bool there = stream_fill(t->client, TASK_FOREVER) > 0;

    take_replies(t);
    return there;
}

/* ---- what is said ---- */

static void say(struct talk *t)
{
    size_t piece = t->options & ONE_BY_ONE ? 1 : SIZE_MAX;

    for (size_t at = 0; at < t->size;) {
        const uint8_t *p = t->data + at, *pause = memchr(p, PAUSE, t->size - at);
        size_t n = pause != NULL ? (size_t)(pause - p) : t->size - at;
        if (n > piece)
            n = piece;
        if (n > 0 && (stream_put(t->client, (struct str){ (const char *)p, n }) < 0 || stream_flush(t->client, TASK_FOREVER) < 0))
            return;                      /* it has gone, and its last words are still to be read */
        at += n;
        bool pauses = at < t->size && t->data[at] == PAUSE;
        at += pauses;
        if ((pauses || piece == 1) && !listen_to(t, false))
            return;
    }
}

static void serve(void *arg)
{
    struct talk *t = arg;

    session_talk(t->session);
    session_free(t->session);
    t->ended = true;
    task_wake(t->self);
}

static bool is_lmtp(const struct talk *t) { return (t->options & LMTP) && (t->options & WHO) < LOCAL; }

static void hold_session(struct talk *t)
{
    struct session_client client = { .uid = 1000, .local = (t->options & WHO) == LOCAL };
    struct stream *server;
    bool parsed = net_addr_parse((t->options & WHO) == TRUSTED ? STR("192.0.2.1") : STR("198.51.100.1"), 1025, &client.addr);

    assert(parsed);
    if ((t->options & WHO) == PERSON)
        client.terms = (struct conf_terms){ .service = CONF_SERVICE_SUBMISSION, .auth_allow_cleartext = true };
    else if (is_lmtp(t))
        client.terms = (struct conf_terms){ .service = CONF_SERVICE_LMTP };
    int r = stream_pair(BUFFER, &t->client, &server);
    assert(r == 0);
    t->session = session_new(&t->shared, server, &client);
    assert(t->session != NULL);
    r = task_start("session", serve, t);
    assert(r == 0);
    if ((t->options & TALKS_EARLY) || is_greeted(t))
        say(t);
    if (!(t->options & HANGS_UP))
        (void)listen_to(t, true);        /* at the latest its own patience ends it */
    else
        (void)listen_to(t, false);
    stream_close(t->client);
    while (!t->ended)
        (void)task_park(TASK_FOREVER);
}

/* ---- what was kept ---- */

static void check_text(struct claim *c)
{
    char *text = malloc(c->body_size + 1);
    size_t n = 0;

    assert(text != NULL && queue_read_body(c, 0, text, c->body_size, &n) == 0 && n == c->body_size);
    assert(n >= 10 && memcmp(text, "Received: ", 10) == 0);
    /* Text in chunks ends anywhere, and what was said to be binary holds anything, behind its header (RFC 3030). */
    size_t strict = c->env.body_binary ? header_end((struct str){ text, n }) : n;
    for (size_t i = 0; i < strict; i++) {
        assert(text[i] != '\0');
        assert((text[i] == '\n') == (i > 0 && text[i - 1] == '\r'));
    }
    struct header_field field;
    struct str message = { text, n };
    assert(c->env.login.n == 0 || str_starts(c->env.login, STR("uid:")) ||
           (header_find(message, STR("Date"), &field) && header_find(message, STR("From"), &field) && header_find(message, STR("Message-ID"), &field)));
    free(text);
}

static void check_queue(struct talk *t)
{
    struct claim *c;
    unsigned found = 0;

    while (queue_claim(t->shared.queue, task_deadline_in(NS_PER_MS), &c) == 0) {
        assert(c->env.rcpt_count > 0 && c->env.null_sender == (c->env.sender.local.n == 0));
        check_text(c);
        struct outcome all[100];
        assert(c->env.rcpt_count <= 100);
        for (uint32_t i = 0; i < c->env.rcpt_count; i++)
            all[i] = (struct outcome){ .rcpt = i, .state = RCPT_DELIVERED, .status = STR("2.0.0"), .text = STR("taken") };
        assert(queue_settle(c, all, c->env.rcpt_count, 0) == 0);
        found++;
    }
    /* Who hangs up may miss the 250 of what was kept (RFC 5321, 4.5.3.2.6 tells him to send it again). */
    if (is_lmtp(t))
        assert(found <= t->kept || (t->options & HANGS_UP));         /* each recipient is answered for */
    else
        assert(t->options & HANGS_UP ? found >= t->kept : found == t->kept);
}

static void start_keeper(void)
{
    struct keeper_options options = { .accounts_file = "/accounts" };
    char error[256];
    CLEANUP_FILE int root = file_open_dir("/");
    CLEANUP_FILE int file = file_open_at(root, "accounts", FILE_WRITE | FILE_CREATE);

    assert(root >= 0 && file >= 0 && file_write_at(file, ACCOUNTS, sizeof ACCOUNTS - 1, 0) == 0);
    int r = keeper_start(&options, error);
    assert(r == 0);
}

static void world(void *arg)
{
    struct talk *t = arg;
    struct submit_limit submit;
    struct queue_recovery found;
    struct queue_options options = { .dir = "/data", .segment_size = 1 << 16, .message_size_max = 128 * 1024, .unsafe_file_system = true };
    char error[256];

    submit_limit_init(&submit);
    t->self = task_self();
    t->shared = (struct session_shared){ .submit = &submit, .stop_deadline_ns = TASK_FOREVER };
    t->shared.files = offload_new("files", 1, 100);
    t->shared.rates = rate_new(100);
    if ((t->options & WHO) == PERSON)
        start_keeper();
    assert(t->shared.files != NULL && t->shared.rates != NULL && queue_open(&options, &t->shared.queue, &found, error) == 0);
    hold_session(t);
    check_queue(t);
    queue_close(t->shared.queue);
    offload_free(t->shared.files);
    rate_free(t->shared.rates);
    keeper_stop();
    submit_limit_free(&submit);
}

/* ---- ---- */

static void quiet(void *arg, enum log_level level, struct str line)
{
    (void)arg, (void)level, (void)line;
}

#define CONF                                                                                                                               \
    "hostname = mx.here.example\nlocal_domains = {here.example}\nrecipients_max = 100\nmessage_size_max = 64KiB\n"                         \
    "errors_max = 1000\ntrusted_networks = {192.0.2.0/24}\nusers_file = /dev/null\nheader_size_max = 4KiB\n"                              \
    "xclient_networks = {192.0.2.0/24}\nxforward_networks = {192.0.2.0/24}\n"                                                            \
    "accounts_file = /accounts\nscram = yes\nauth_failures_max = 100\nauth_failure_delay = 0\n"

static struct conf *make_conf(const char *text)
{
    struct conf *c = conf_of(text);

    conf_add_user(c, "bob");
    return c;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct conf *patient, *strict;

    if (strict == NULL) {
        log_redirect(quiet, NULL);
        patient = make_conf(CONF "enforce_sync = no\n");
        strict = make_conf(CONF "enforce_sync = yes\n");
    }
    if (size == 0)
        return -1;
    struct talk t = { .data = data + 1, .size = size - 1, .options = data[0] };
    conf_set_current(conf_ref(t.options & ITS_TURN ? strict : patient));
    sim_begin(&(struct sim_options){ .seed = 1, .disk_forgets = true });
    int r = sim_run(world, &t);
    sim_end();
    assert(r == 0);
    return 0;
}
