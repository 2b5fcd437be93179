/*
 * nightmail queue: what waits, where it is and why; and the operator's hands on it. Talks to the server by its control socket.
 */
#include "admin/cli.h"
#include "admin/commands.h"
#include "admin/control.h"
#include "base/cleanup.h"
#include "conf/conf.h"
#include "mail/date.h"
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#define PAGE 500

struct job {
    const char            *verb;
    char                 **ids;
    int                    id_count;
    bool                   json;
    const char            *socket;
    struct control_client *client;
    int                    code;
};

static void usage(FILE *to)
{
    fputs("usage: nightmail queue list [OPTION]...\n"
          "       nightmail queue show|retry|hold|release|delete [OPTION]... ID...\n\n"
          "list     every message in the queue, oldest first\n"
          "show     envelope, recipients, and what the other servers said last\n"
          "retry    deliver now\n"
          "hold     deliver no more until it is released\n"
          "release  the end of hold\n"
          "delete   end it without a bounce; the record stays in the journal\n\n"
          "  -c, --config FILE   finds the control socket (default: $NIGHTMAIL_CONF, else " CLI_DEFAULT_CONF ")\n"
          "  -s, --socket PATH   the control socket itself\n"
          "  -j, --json          one JSON object a line\n\n"
          "Exit: 0 done, 1 some messages could not be changed, 64 wrong use, 69 no server answers,\n"
          "77 only operators may, 78 bad configuration\n", to);
}

/* -- printing ---------------------------------------------------------------------------------------------------------------- */

static int64_t number(const json_t *object, const char *key)
{
    return (int64_t)json_integer_value(json_object_get(object, key));
}

static const char *text(const json_t *object, const char *key)
{
    const char *value = json_string_value(json_object_get(object, key));
    return value != NULL ? value : "";
}

static void print_json(const json_t *object)
{
    CLEANUP_FREE char *line = json_dumps(object, JSON_COMPACT);
    if (line != NULL)
        puts(line);
}

static void print_item(const json_t *item)
{
    char age_bytes[64], size_bytes[64];
    struct buf age, size;
    buf_init_fixed(&age, age_bytes, sizeof(age_bytes));
    buf_init_fixed(&size, size_bytes, sizeof(size_bytes));
    cli_put_duration(&age, clock_wall_ns() - number(item, "arrived_ns"));
    cli_put_size(&size, (uint64_t)number(item, "size"));
    printf("%s  %-10s  %3lld of %lld to go  %10" STR_FMT "  age %" STR_FMT "  attempts %lld\n", text(item, "id"), text(item, "state"),
           (long long)number(item, "pending"), (long long)number(item, "recipients"), STR_ARG(buf_str(&size)), STR_ARG(buf_str(&age)),
           (long long)number(item, "attempts"));
}

static void print_safe_line(const char *head, const char *value)
{
    if (value[0] == '\0')
        return;
    fputs(head, stdout);
    cli_print_safe(stdout, str_of(value));
    putchar('\n');
}

static void print_details(const json_t *answer)
{
    size_t i;
    const json_t *rcpt;
    print_item(json_object_get(answer, "item"));
    printf("  from <");
    cli_print_safe(stdout, str_of(text(answer, "from")));
    printf(">\n");
    print_safe_line("  client ", text(answer, "client"));
    print_safe_line("  helo   ", text(answer, "helo"));
    print_safe_line("  login  ", text(answer, "login"));
    json_array_foreach(json_object_get(answer, "recipients"), i, rcpt) {
        printf("  to <");
        cli_print_safe(stdout, str_of(text(rcpt, "to")));
        printf(">  %s\n", text(rcpt, "state"));
        print_safe_line("     for  ", text(rcpt, "named"));
        print_safe_line("     by   ", text(rcpt, "remote"));
        print_safe_line("     said ", text(rcpt, "text"));
    }
}

/* -- requests -------------------------------------------------------------------------------------------------------------- */

/* Awaits. NULL after it has said why on standard error. */
static json_t *ask(struct job *job, json_t *request, const char *about)
{
    json_t *answer = NULL;
    int r = control_request(job->client, request, &answer);
    if (r < 0) {
        job->code = cli_fail("queue", EX_UNAVAILABLE, "the server went away: %s", strerror(-r));
        return NULL;
    }
    if (json_is_true(json_object_get(answer, "ok")))
        return answer;
    job->code = cli_fail("queue", 1, "%s%s%s", about, about[0] != '\0' ? ": " : "", text(answer, "error"));
    json_decref(answer);
    return NULL;
}

static void list(struct job *job)
{
    char after[32] = "0000000000000";
    for (;;) {
        json_t *answer = ask(job, json_pack("{s:s, s:s, s:i}", "do", "queue.list", "after", after, "max", PAGE), "");
        if (answer == NULL)
            return;
        const json_t *items = json_object_get(answer, "items"), *item;
        size_t i, n = json_array_size(items);
        json_array_foreach(items, i, item) {
            if (job->json)
                print_json(item);
            else
                print_item(item);
            (void)snprintf(after, sizeof(after), "%s", text(item, "id"));
        }
        if (n == 0 && !job->json) {
            long long total = number(answer, "total");
            printf("%lld message%s\n", total, total == 1 ? "" : "s");
        }
        json_decref(answer);
        if (n == 0)
            return;
    }
}

/* Awaits the recipients that the first answer had no room for. False after it has said why. */
static bool ask_for_the_others(struct job *job, json_t *answer, const char *id)
{
    json_int_t next = json_integer_value(json_object_get(answer, "next"));

    while (next > 0) {
        json_t *more = ask(job, json_pack("{s:s, s:s, s:I}", "do", "queue.show", "id", id, "first", next), id);
        if (more == NULL)
            return false;
        next = json_integer_value(json_object_get(more, "next"));
        (void)json_array_extend(json_object_get(answer, "recipients"), json_object_get(more, "recipients"));
        json_decref(more);
    }
    (void)json_object_del(answer, "next");
    return true;
}

static void one(struct job *job, const char *id)
{
    char name[32];
    (void)snprintf(name, sizeof(name), "queue.%s", job->verb);
    json_t *answer = ask(job, json_pack("{s:s, s:s}", "do", name, "id", id), id);
    if (answer == NULL)
        return;
    if (!ask_for_the_others(job, answer, id)) {
        json_decref(answer);
        return;
    }
    if (job->json)
        print_json(answer);
    else if (strcmp(job->verb, "show") == 0)
        print_details(answer);
    json_decref(answer);
}

static void queue_task(void *arg)
{
    struct job *job = arg;
    int r = control_connect(job->socket, &job->client);
    if (r < 0) {
        if (r == -EACCES)
            job->code = cli_fail("queue", EX_NOPERM, "only operators may use %s: %s", job->socket, strerror(-r));
        else
            job->code = cli_fail("queue", EX_UNAVAILABLE, "no server answers at %s: %s", job->socket, strerror(-r));
        return;
    }
    if (strcmp(job->verb, "list") == 0)
        list(job);
    for (int i = 0; i < job->id_count && job->code != EX_UNAVAILABLE; i++)
        one(job, job->ids[i]);
    control_disconnect(job->client);
}

/* -- the command ------------------------------------------------------------------------------------------------------------ */

static bool known_verb(const char *verb)
{
    static const char *const verbs[] = { "list", "show", "retry", "hold", "release", "delete" };
    for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
        if (strcmp(verb, verbs[i]) == 0)
            return true;
    return false;
}

/* The socket that the configuration names. The snapshot stays alive to the end of the process: its string is in use. */
static int find_socket(struct job *job, const char *conf_path)
{
    struct conf *conf;
    CLEANUP_BUF struct buf error;
    buf_init(&error, 64 * 1024);
    if (conf_load(cli_conf_path(conf_path), &conf, &error) < 0) {
        (void)fwrite(error.p, 1, error.n, stderr); /* lines */
        return EX_CONFIG;
    }
    conf_set_current(conf);
    job->socket = conf->control_socket;
    return job->socket[0] != '\0' ? EX_OK : cli_fail("queue", EX_CONFIG, "the configuration has no control_socket");
}

int cmd_queue(int argc, char **argv)
{
    static const struct option options[] = {
        { "config", required_argument, NULL, 'c' }, { "socket", required_argument, NULL, 's' },
        { "json", no_argument, NULL, 'j' },         { "help", no_argument, NULL, 'h' },         { 0 },
    };
    struct job job = { 0 };
    const char *conf_path = NULL;
    for (int c; (c = getopt_long(argc, argv, "c:s:jh", options, NULL)) != -1;) {
        switch (c) {
        case 'c': conf_path = optarg; break;
        case 's': job.socket = optarg; break;
        case 'j': job.json = true; break;
        case 'h': usage(stdout); return EX_OK;
        case '?': return cli_usage_error("queue");
        }
    }
    if (optind == argc || !known_verb(argv[optind]))
        return cli_usage_error("queue");
    job.verb = argv[optind++];
    job.ids = argv + optind;
    job.id_count = argc - optind;
    if ((job.id_count == 0) != (strcmp(job.verb, "list") == 0))
        return cli_usage_error("queue");
    int code = job.socket == NULL ? find_socket(&job, conf_path) : EX_OK;
    if (code != EX_OK)
        return code;
    code = cli_run_task("queue", queue_task, &job);
    conf_set_current(NULL);
    return code != EX_OK ? code : job.code;
}
