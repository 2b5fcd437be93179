/*
 * nightmail load: many sessions that send messages as fast as they may, and what it came to.
 *
 * One task a session; the messages of all come from one counter. The latency of a message is from its MAIL to the reply to
 * its final dot, the connection's beginning included in the first one of each connection.
 */
#include "admin/cli.h"
#include "admin/commands.h"
#include "admin/talk.h"
#include "base/cleanup.h"
#include "run/loop.h"
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#define SESSIONS_MAX 20000
#define MESSAGES_MAX (100 * 1000 * 1000)
#define PROGRESS_NS  (500 * NS_PER_MS)

struct load {
    /* what was asked for */
    struct net_addr to;
    const char     *from, *rcpt, *helo;
    uint64_t        sessions, messages, size, per_connection, rate;
    int64_t         timeout_ns;
    bool            json;
    /* how it goes; all on one loop */
    struct arena    arena;
    struct address  sender, recipient;
    struct buf      message;
    uint64_t        taken, accepted, refused, broken, connections;
    int64_t         started_ns, ended_ns;
    int64_t        *latencies_ns;        /* of accepted messages */
    char            first_trouble[512];
    struct task_group group;
};

static void usage(FILE *to)
{
    fputs("usage: nightmail load --server IP[:PORT] [OPTION]...\n\n"
          "Sends messages from many sessions and prints throughput and latency.\n\n"
          "  -s, --server IP[:PORT]     where to (port 25)\n"
          "  -f, --from ADDRESS         sender (load@load.example)\n"
          "  -t, --to ADDRESS           recipient (postmaster@localhost)\n"
          "  -c, --sessions N           at a time (10)\n"
          "  -m, --messages N           in all (1000)\n"
          "  -l, --size BYTES           of each message (4KiB)\n"
          "  -p, --per-connection N     messages on one connection; 0: no limit (0)\n"
          "  -r, --rate N               messages a second at most, all sessions together; 0: no limit (0)\n"
          "      --helo NAME            (load.example)\n"
          "      --timeout TIME         for each reply (60s)\n"
          "  -j, --json                 the result as one JSON object\n\n"
          "Exit: 0 all were accepted, 69 some were not, 64 wrong use\n", to);
}

/* -- a session ------------------------------------------------------------------------------------------------------------ */

static void note_trouble(struct load *l, const char *what, struct str words)
{
    if (l->first_trouble[0] == '\0')
        (void)snprintf(l->first_trouble, sizeof(l->first_trouble), "%s: %.*s", what, (int)(words.n < 400 ? words.n : 400), words.p);
}

/* The next message's number, at its time where there is a rate. False when all are taken. */
static bool take(struct load *l)
{
    if (l->taken >= l->messages)
        return false;
    uint64_t n = l->taken++;
    if (l->rate > 0)
        (void)task_sleep_until(l->started_ns + (int64_t)(n * (uint64_t)NS_PER_S / l->rate));
    return true;
}

static bool send_one(struct load *l, struct talk *t, int64_t since_ns)
{
    struct talk_mail mail = { .sender = l->sender, .rcpts = &l->recipient, .rcpt_count = 1, .message = buf_str(&l->message) };
    int code = 0;
    enum talk_stage stage;
    int r = talk_mail(t, &mail, &code, &stage);
    if (r < 0) {
        l->broken++;
        note_trouble(l, "broken", str_of(talk_error(t, r)));
        return false;
    }
    if (stage != TALK_TEXT || t->reply.code / 100 != 2) {
        l->refused++;
        note_trouble(l, "refused", str_of(talk_refusal(t)));
        return t->reply.code != 421;
    }
    l->latencies_ns[l->accepted++] = clock_mono_ns() - since_ns;
    return true;
}

static bool begin(struct load *l, struct talk *t)
{
    talk_init(t, l->timeout_ns, NULL, NULL);
    int r = talk_connect(t, &l->to);
    if (r == 0 && t->reply.code != 220)
        r = -ECONNREFUSED;
    if (r == 0)
        r = talk_hello(t, l->helo);
    if (r == 0 && t->reply.code / 100 == 2) {
        l->connections++;
        return true;
    }
    l->broken++;
    note_trouble(l, "no session", str_of(talk_error(t, r)));
    talk_close(t);
    return false;
}

/* One connection; false when there is nothing left to send. The caller has taken a message for it. */
static bool connection(struct load *l)
{
    struct talk t;
    int64_t since = clock_mono_ns();
    if (!begin(l, &t))
        return take(l);
    for (uint64_t n = 1;; n++) {
        bool in_step = send_one(l, &t, since);
        if (!in_step || (l->per_connection > 0 && n >= l->per_connection)) {
            if (in_step)
                talk_quit(&t);
            talk_close(&t);
            return take(l);
        }
        if (!take(l)) {
            talk_quit(&t);
            return false;
        }
        since = clock_mono_ns();
    }
}

static void session_task(void *arg)
{
    struct load *l = arg;
    if (!take(l))
        return;
    while (connection(l) && !task_canceled())
        ;
}

/* -- the whole -------------------------------------------------------------------------------------------------------------- */

static int compose(struct load *l)
{
    arena_init(&l->arena, 64 * 1024);
    if (!address_parse(&l->arena, str_of(l->from), &l->sender) || !address_parse(&l->arena, str_of(l->rcpt), &l->recipient))
        return cli_fail("load", EX_USAGE, "a bad address");
    l->latencies_ns = calloc(l->messages, sizeof(*l->latencies_ns));
    buf_init(&l->message, l->size + 4096);
    buf_printf(&l->message, "From: <%s>\r\nTo: <%s>\r\nSubject: load\r\nMessage-ID: <load@%s>\r\n\r\n", l->from, l->rcpt, l->helo);
    static const char line[] = "The quick brown fox jumps over the lazy dog, and again, and so it goes on\r\n";
    while (l->message.n < l->size && buf_ok(&l->message)) {
        size_t left = l->size - l->message.n;
        size_t n = left < sizeof(line) - 1 ? left : sizeof(line) - 1;
        buf_put(&l->message, n == sizeof(line) - 1 ? line : line + sizeof(line) - 1 - n, n);
    }
    return l->latencies_ns != NULL && buf_ok(&l->message) ? EX_OK : cli_fail("load", EX_OSERR, "out of memory");
}

static void progress_line(const struct load *l)
{
    double seconds = (double)(clock_mono_ns() - l->started_ns) / (double)NS_PER_S;
    fprintf(stderr, "\r%llu of %llu accepted, %.0f/s, %llu refused, %llu broken   ", (unsigned long long)l->accepted,
            (unsigned long long)l->messages, (double)l->accepted / (seconds > 0 ? seconds : 1), (unsigned long long)l->refused,
            (unsigned long long)l->broken);
}

static void load_task(void *arg)
{
    struct load *l = arg;
    bool live = isatty(STDERR_FILENO) && !l->json;
    task_group_init(&l->group);
    l->started_ns = clock_mono_ns();
    for (uint64_t i = 0; i < l->sessions; i++)
        if (task_group_start(&l->group, "load session", session_task, l) < 0)
            break;
    while (task_group_wait(&l->group, task_deadline_in(PROGRESS_NS)) == -ETIMEDOUT)
        if (live)
            progress_line(l);
    l->ended_ns = clock_mono_ns();
    if (live)
        fputs("\r\033[K", stderr);
}

static int by_value(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

static double percentile_ms(const struct load *l, double share)
{
    if (l->accepted == 0)
        return 0;
    size_t at = (size_t)(share * (double)(l->accepted - 1) + 0.5);
    return (double)l->latencies_ns[at] / (double)NS_PER_MS;
}

static void report(const struct load *l)
{
    double seconds = (double)(l->ended_ns - l->started_ns) / (double)NS_PER_S;
    double rate = (double)l->accepted / (seconds > 0 ? seconds : 1);
    if (l->json) {
        printf("{\"accepted\": %llu, \"refused\": %llu, \"broken\": %llu, \"connections\": %llu, \"seconds\": %.3f, \"per_second\": %.1f, "
               "\"latency_ms\": {\"p50\": %.3f, \"p90\": %.3f, \"p99\": %.3f, \"max\": %.3f}}\n",
               (unsigned long long)l->accepted, (unsigned long long)l->refused, (unsigned long long)l->broken,
               (unsigned long long)l->connections, seconds, rate, percentile_ms(l, 0.5), percentile_ms(l, 0.9), percentile_ms(l, 0.99),
               percentile_ms(l, 1));
        return;
    }
    printf("%llu accepted, %llu refused, %llu broken on %llu connections in %.2f s: %.0f messages/s\n", (unsigned long long)l->accepted,
           (unsigned long long)l->refused, (unsigned long long)l->broken, (unsigned long long)l->connections, seconds, rate);
    printf("latency  median %.2f ms  90 %% %.2f ms  99 %% %.2f ms  longest %.2f ms\n", percentile_ms(l, 0.5), percentile_ms(l, 0.9),
           percentile_ms(l, 0.99), percentile_ms(l, 1));
    if (l->first_trouble[0] != '\0') {
        fputs("first trouble: ", stdout);
        cli_print_safe(stdout, str_of(l->first_trouble));
        putchar('\n');
    }
}

/* -- the command ------------------------------------------------------------------------------------------------------------ */

static bool set_option(struct load *l, int option, const char *value)
{
    switch (option) {
    case 's': return net_addr_parse(str_of(value), 25, &l->to);
    case 'f': l->from = value; return true;
    case 't': l->rcpt = value; return true;
    case 'c': return cli_number(value, SESSIONS_MAX, &l->sessions) && l->sessions > 0;
    case 'm': return cli_number(value, MESSAGES_MAX, &l->messages) && l->messages > 0;
    case 'l': return cli_size(value, &l->size) && l->size <= 1024u * 1024 * 1024;
    case 'p': return cli_number(value, MESSAGES_MAX, &l->per_connection);
    case 'r': return cli_number(value, MESSAGES_MAX, &l->rate);
    case 'H': l->helo = value; return strlen(value) < 256;
    case 'T': return cli_duration(value, &l->timeout_ns);
    case 'j': l->json = true; return true;
    }
    return false;
}

int cmd_load(int argc, char **argv)
{
    static const struct option options[] = {
        { "server", required_argument, NULL, 's' },   { "from", required_argument, NULL, 'f' },     { "to", required_argument, NULL, 't' },
        { "sessions", required_argument, NULL, 'c' }, { "messages", required_argument, NULL, 'm' }, { "size", required_argument, NULL, 'l' },
        { "per-connection", required_argument, NULL, 'p' }, { "rate", required_argument, NULL, 'r' }, { "helo", required_argument, NULL, 'H' },
        { "timeout", required_argument, NULL, 'T' },  { "json", no_argument, NULL, 'j' },           { "help", no_argument, NULL, 'h' }, { 0 },
    };
    struct load l = {
        .from = "load@load.example", .rcpt = "postmaster@localhost", .helo = "load.example", .sessions = 10, .messages = 1000, .size = 4096,
        .timeout_ns = 60 * NS_PER_S,
    };
    for (int c; (c = getopt_long(argc, argv, "s:f:t:c:m:l:p:r:jh", options, NULL)) != -1;) {
        if (c == 'h') {
            usage(stdout);
            return EX_OK;
        }
        if (c == '?' || !set_option(&l, c, optarg))
            return c == '?' ? cli_usage_error("load") : cli_fail("load", EX_USAGE, "bad value '%s'", optarg);
    }
    if (optind != argc || net_addr_port(&l.to) == 0)
        return cli_usage_error("load");
    int code = compose(&l);
    if (code == EX_OK)
        code = cli_run_task("load", load_task, &l);
    if (code == EX_OK) {
        qsort(l.latencies_ns, l.accepted, sizeof(*l.latencies_ns), by_value);
        report(&l);
        code = l.accepted == l.messages ? EX_OK : EX_UNAVAILABLE;
    }
    buf_free(&l.message);
    free(l.latencies_ns);
    arena_reset(&l.arena);
    return code;
}
