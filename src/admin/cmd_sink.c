/*
 * nightmail sink: a server that takes everything and keeps nothing (or files of it), for tests and for trying things out.
 *
 * It can wait, refuse, defer and hang up on demand, so that a client's manners can be seen.
 */
#include "admin/cli.h"
#include "admin/commands.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "run/file.h"
#include "run/loop.h"
#include "run/net.h"
#include "run/stream.h"
#include "smtp/command.h"
#include "smtp/data.h"
#include "smtp/reply.h"
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#define SINK_IDLE_NS     (300 * NS_PER_S)
#define SINK_MESSAGE_MAX (256 * 1024 * 1024)
#define SINK_RULES_MAX   32

/* What to do at a verb: "RCPT=550", "DATA=drop", "MAIL=wait:200ms"; CONNECT and DOT are moments too. */
enum sink_action { SINK_REPLY, SINK_DROP, SINK_WAIT };
struct sink_rule {
    char             moment[12];
    enum sink_action action;
    int              code;
    int64_t          wait_ns;
    uint64_t         every;              /* on every n-th occasion; 1: always */
    uint64_t         seen;
};

struct sink {
    struct net_addr      at;
    const char          *store, *helo;
    int                  store_dir;
    int                  listen_error;
    uint64_t             stop_after;     /* messages; 0: never */
    bool                 json, pipelining, eightbit;
    struct sink_rule     rules[SINK_RULES_MAX];
    size_t               rule_count;
    struct net_listener *listener;
    struct task_group    group;
    uint64_t             connections, messages, bytes, rcpts, refused;
    struct task         *main_task;
    bool                 done;
};

struct sink_session {
    struct sink   *sink;
    struct stream *stream;
    size_t         rcpts;
    bool           in_mail;
};

static void usage(FILE *to)
{
    fputs("usage: nightmail sink --listen IP:PORT [OPTION]...\n\n"
          "Accepts mail by SMTP and counts it, or keeps it in files. Stops at SIGINT or SIGTERM and prints what came.\n\n"
          "  -l, --listen IP:PORT     port 0 picks a free one; the address is printed first\n"
          "  -s, --store DIR          each message in a file of its own\n"
          "  -n, --stop-after N       stop when N messages have come\n"
          "      --at MOMENT=ACTION   what to do at CONNECT, HELO, EHLO, MAIL, RCPT, DATA, DOT, RSET, QUIT:\n"
          "                           a reply code (RCPT=550), drop (DATA=drop), wait:TIME (DOT=wait:200ms);\n"
          "                           with /N behind it on every N-th occasion only (RCPT=450/5)\n"
          "      --no-pipelining      do not offer PIPELINING\n"
          "      --no-8bitmime        do not offer 8BITMIME\n"
          "      --helo NAME          our name (sink.example)\n"
          "  -j, --json               the counts as one JSON object\n\n"
          "Exit: 0 stopped as asked, 64 wrong use, 69 cannot listen\n", to);
}

/* -- rules ------------------------------------------------------------------------------------------------------------------ */

/* Awaits for wait rules. 0 go on, or the code to refuse with, or -EPIPE to hang up. */
static int at_moment(struct sink *s, const char *moment)
{
    for (size_t i = 0; i < s->rule_count; i++) {
        struct sink_rule *rule = &s->rules[i];
        if (strcmp(rule->moment, moment) != 0 || ++rule->seen % rule->every != 0)
            continue;
        switch (rule->action) {
        case SINK_REPLY: return rule->code;
        case SINK_DROP:  return -EPIPE;
        case SINK_WAIT:
            if (task_sleep(rule->wait_ns) < 0)
                return -ECANCELED;
            break;
        }
    }
    return 0;
}

static bool parse_action(const char *text, struct sink_rule *rule)
{
    uint64_t code;
    if (strcmp(text, "drop") == 0) {
        rule->action = SINK_DROP;
        return true;
    }
    if (strncmp(text, "wait:", 5) == 0) {
        rule->action = SINK_WAIT;
        return cli_duration(text + 5, &rule->wait_ns);
    }
    rule->action = SINK_REPLY;
    if (!cli_number(text, 599, &code) || code < 400)
        return false;
    rule->code = (int)code;
    return true;
}

static bool add_rule(struct sink *s, const char *text)
{
    static const char *const moments[] = { "CONNECT", "HELO", "EHLO", "MAIL", "RCPT", "DATA", "DOT", "RSET", "QUIT" };
    char copy[80], *action, *every;
    struct sink_rule rule = { .every = 1 };
    if (s->rule_count == SINK_RULES_MAX || strlen(text) >= sizeof(copy))
        return false;
    (void)strcpy(copy, text);
    if ((action = strchr(copy, '=')) == NULL)
        return false;
    *action++ = '\0';
    if ((every = strchr(action, '/')) != NULL) {
        *every++ = '\0';
        if (!cli_number(every, UINT32_MAX, &rule.every) || rule.every == 0)
            return false;
    }
    if (!parse_action(action, &rule))
        return false;
    for (size_t i = 0; i < sizeof(moments) / sizeof(moments[0]); i++) {
        if (strcasecmp(copy, moments[i]) != 0)
            continue;
        (void)strcpy(rule.moment, moments[i]);
        s->rules[s->rule_count++] = rule;
        return true;
    }
    return false;
}

/* -- a session ------------------------------------------------------------------------------------------------------------ */

static int say(struct sink_session *s, int code, const char *enhanced, const char *text)
{
    char bytes[1024];
    struct buf out;
    struct reply r = reply(code, enhanced, text);
    buf_init_fixed(&out, bytes, sizeof(bytes));
    reply_put(&out, &r);
    return stream_put(s->stream, buf_str(&out));
}

/* 0 when the command may go on; 1 when a rule has answered it; negative: the end. */
static int ruled(struct sink_session *s, const char *moment)
{
    int r = at_moment(s->sink, moment);
    if (r <= 0)
        return r;
    s->sink->refused++;
    int sent = say(s, r, r / 100 == 4 ? "4.0.0" : "5.0.0", "refused, as was asked for");
    if (sent < 0)
        return sent;
    return r == 421 ? -EPIPE : 1;
}

static int hello(struct sink_session *s, bool extended)
{
    char text[512];
    (void)snprintf(text, sizeof(text), "%s%s%s%s", s->sink->helo, extended && s->sink->pipelining ? "\nPIPELINING" : "",
                   extended && s->sink->eightbit ? "\n8BITMIME" : "", extended ? "\nENHANCEDSTATUSCODES" : "");
    return say(s, 250, NULL, text);
}

static int keep(struct sink *s, struct str message)
{
    char name[64];
    (void)snprintf(name, sizeof(name), "message-%06llu.eml", (unsigned long long)s->messages);
    CLEANUP_FILE int file = file_open_at(s->store_dir, name, FILE_WRITE | FILE_CREATE | FILE_TRUNCATE | FILE_APPEND);
    return file < 0 ? file : file_append(file, message.p, message.n);
}

static int end_of_text(struct sink_session *s, const struct buf *text, enum data_result result)
{
    s->in_mail = false;
    int r = ruled(s, "DOT");
    if (r != 0)
        return r < 0 ? r : 0;
    if (result != DATA_END)
        return say(s, 550, "5.6.11", "a bare CR or LF in the text");
    if (s->sink->store != NULL && (!buf_ok(text) || keep(s->sink, buf_str(text)) < 0))
        return say(s, 451, "4.3.0", "cannot keep it");
    s->sink->messages++;
    s->sink->rcpts += s->rcpts;
    r = say(s, 250, "2.0.0", "taken");
    if (s->sink->stop_after > 0 && s->sink->messages >= s->sink->stop_after) {
        s->sink->done = true;
        task_wake(s->sink->main_task);
    }
    return r;
}

static int text_of_message(struct sink_session *s)
{
    CLEANUP_BUF struct buf text;
    struct data_decoder decoder = { 0 };
    buf_init(&text, SINK_MESSAGE_MAX);
    int r = say(s, 354, NULL, "go on, end with a dot");
    while (r == 0) {
        size_t consumed;
        enum data_result result = data_decode(&decoder, stream_pending(s->stream), &consumed, s->sink->store != NULL ? &text : NULL);
        s->sink->bytes += consumed;
        stream_consume(s->stream, consumed);
        if (result != DATA_MORE)
            return end_of_text(s, &text, result);
        r = stream_flush(s->stream, task_deadline_in(SINK_IDLE_NS));
        if (r < 0)
            return r;
        ssize_t n = stream_fill(s->stream, task_deadline_in(SINK_IDLE_NS));
        r = n < 0 ? (int)n : n == 0 ? -EPIPE : 0;
    }
    return r;
}

static int on_mail(struct sink_session *s)
{
    if (s->in_mail)
        return say(s, 503, "5.5.1", "there is a sender already");
    s->in_mail = true;
    s->rcpts = 0;
    return say(s, 250, "2.1.0", "ok");
}

static int on_rcpt(struct sink_session *s)
{
    if (!s->in_mail)
        return say(s, 503, "5.5.1", "MAIL first");
    s->rcpts++;
    return say(s, 250, "2.1.5", "ok");
}

static int on_data(struct sink_session *s)
{
    if (!s->in_mail || s->rcpts == 0)
        return say(s, s->in_mail ? 554 : 503, "5.5.1", "no recipients");
    return text_of_message(s);
}

static int on_line(struct sink_session *s, struct str line)
{
    struct smtp_line parsed;
    smtp_parse_line(line, &parsed);
    int r = ruled(s, smtp_verb_name(parsed.verb));
    if (r != 0)
        return r < 0 ? r : 0;
    switch ((int)parsed.verb) {
    case VERB_EHLO: s->in_mail = false; return hello(s, true);
    case VERB_HELO: s->in_mail = false; return hello(s, false);
    case VERB_MAIL: return on_mail(s);
    case VERB_RCPT: return on_rcpt(s);
    case VERB_DATA: return on_data(s);
    case VERB_RSET: s->in_mail = false; return say(s, 250, "2.0.0", "ok");
    case VERB_NOOP: return say(s, 250, "2.0.0", "ok");
    case VERB_QUIT: (void)say(s, 221, "2.0.0", "bye"); return -EPIPE;
    }
    return say(s, 502, "5.5.1", "a sink does not do that");
}

/* The next line, without CRLF, is handled where it stands; replies go out when nothing more is pending. */
static int next_line(struct sink_session *s)
{
    for (;;) {
        struct str pending = stream_pending(s->stream);
        ssize_t lf = str_find(pending, '\n');
        if (lf >= 0) {
            char copy[SMTP_LINE_MAX];
            struct str line = str_head(str_head(pending, (size_t)lf), sizeof(copy));
            if (line.n > 0 && line.p[line.n - 1] == '\r')
                line.n--;
            memcpy(copy, line.p, line.n);
            stream_consume(s->stream, (size_t)lf + 1);
            return on_line(s, (struct str){ copy, line.n });
        }
        int r = stream_flush(s->stream, task_deadline_in(SINK_IDLE_NS));
        if (r < 0)
            return r;
        ssize_t n = stream_fill(s->stream, task_deadline_in(SINK_IDLE_NS));
        if (n <= 0)
            return n == 0 ? -EPIPE : (int)n;
    }
}

static void session_task(void *arg)
{
    struct sink_session s = *(struct sink_session *)arg;
    free(arg);
    int r = ruled(&s, "CONNECT");
    if (r == 0)
        r = say(&s, 220, NULL, s.sink->helo);
    while (r == 0)
        r = next_line(&s);
    task_shield_begin();                                      /* what was said is sent, also when the sink stops after it */
    (void)stream_flush(s.stream, task_deadline_in(NS_PER_S));
    task_shield_end();
    stream_close(s.stream);
}

/* -- the whole -------------------------------------------------------------------------------------------------------------- */

static void listen_task(void *arg)
{
    struct sink *s = arg;
    for (;;) {
        struct stream *stream;
        struct net_addr peer;
        int r = net_accept(s->listener, TASK_FOREVER, &stream, &peer);
        if (r == -ECANCELED)
            return;
        struct sink_session *session = r == 0 ? malloc(sizeof(*session)) : NULL;
        if (session == NULL) {
            if (r == 0)
                stream_close(stream);
            (void)task_sleep(10 * NS_PER_MS);
            continue;
        }
        *session = (struct sink_session){ .sink = s, .stream = stream };
        s->connections++;
        if (task_group_start(&s->group, "sink session", session_task, session) < 0) {
            stream_close(stream);
            free(session);
        }
    }
}

static void signal_task(void *arg)
{
    struct sink *s = arg;
    if (loop_signal_wait(TASK_FOREVER) < 0)
        return;
    s->done = true;
    task_wake(s->main_task);
}

static void sink_task(void *arg)
{
    struct sink *s = arg;
    static const int signals[] = { SIGINT, SIGTERM };
    struct net_addr at;
    char text[NET_ADDR_TEXT_MAX];
    s->main_task = task_self();
    task_group_init(&s->group);
    net_listener_addr(s->listener, &at);
    printf("listening on %s\n", net_addr_format(&at, text));
    (void)fflush(stdout);
    if (loop_signals(signals, 2) == 0 && task_group_start(&s->group, "signals", signal_task, s) == 0 &&
        task_group_start(&s->group, "sink", listen_task, s) == 0)
        while (!s->done && task_park(TASK_FOREVER) == 0)
            ;
    task_group_cancel(&s->group);
    (void)task_group_wait(&s->group, TASK_FOREVER);
    net_listener_close(s->listener);
}

static void report(const struct sink *s)
{
    unsigned long long n[] = { s->connections, s->messages, s->rcpts, s->bytes, s->refused };
    if (s->json)
        printf("{\"connections\": %llu, \"messages\": %llu, \"recipients\": %llu, \"bytes\": %llu, \"refused\": %llu}\n", n[0], n[1], n[2],
               n[3], n[4]);
    else
        printf("%llu connections, %llu messages to %llu recipients, %llu bytes, %llu commands refused\n", n[0], n[1], n[2], n[3], n[4]);
}

static bool set_option(struct sink *s, int option, const char *value)
{
    switch (option) {
    case 'l': return net_addr_parse(str_of(value), 25, &s->at);
    case 's': s->store = value; return true;
    case 'n': return cli_number(value, UINT64_MAX, &s->stop_after);
    case 'A': return add_rule(s, value);
    case 'P': s->pipelining = false; return true;
    case '8': s->eightbit = false; return true;
    case 'H': s->helo = value; return strlen(value) < 256;
    case 'j': s->json = true; return true;
    }
    return false;
}

static void start_task(void *arg)
{
    struct sink *s = arg;
    int r = net_listen(&s->at, false, &s->listener);
    if (r < 0) {
        s->listen_error = r;
        return;
    }
    sink_task(s);
}

int cmd_sink(int argc, char **argv)
{
    static const struct option options[] = {
        { "listen", required_argument, NULL, 'l' }, { "store", required_argument, NULL, 's' },   { "stop-after", required_argument, NULL, 'n' },
        { "at", required_argument, NULL, 'A' },     { "no-pipelining", no_argument, NULL, 'P' }, { "no-8bitmime", no_argument, NULL, '8' },
        { "helo", required_argument, NULL, 'H' },   { "json", no_argument, NULL, 'j' },
        { "help", no_argument, NULL, 'h' },         { 0 },
    };
    struct sink s = { .helo = "sink.example", .pipelining = true, .eightbit = true, .store_dir = -1 };
    for (int c; (c = getopt_long(argc, argv, "l:s:n:jh", options, NULL)) != -1;) {
        if (c == 'h') {
            usage(stdout);
            return EX_OK;
        }
        if (c == '?' || !set_option(&s, c, optarg))
            return c == '?' ? cli_usage_error("sink") : cli_fail("sink", EX_USAGE, "bad value '%s'", optarg);
    }
    if (optind != argc || s.at.any.sa_family == AF_UNSPEC)
        return cli_usage_error("sink");
    if (s.store != NULL && (s.store_dir = file_open_dir(s.store)) < 0)
        return cli_fail("sink", EX_CANTCREAT, "%s: %s", s.store, strerror(-s.store_dir));
    int code = cli_run_task("sink", start_task, &s);
    if (code == EX_OK && s.listen_error < 0)
        return cli_fail("sink", EX_UNAVAILABLE, "cannot listen: %s", strerror(-s.listen_error));
    report(&s);
    return code;
}
