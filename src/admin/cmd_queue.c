/*
 * nightmail queue: what waits, where it is and why; and the operator's hands on it. Talks to the server by its control socket.
 *
 * What is given by ids is done at once. What is given by a filter is shown first, and done with --yes only.
 */
#include "admin/cli.h"
#include "admin/commands.h"
#include "admin/control.h"
#include "admin/filter.h"
#include "admin/queue_print.h"
#include "admin/transfer_client.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "conf/conf.h"
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#define PAGE              500
#define PROGRESS_AFTER_NS (1 * NS_PER_S)

enum format { FORMAT_TEXT, FORMAT_JSON, FORMAT_POSTQUEUE };

struct verb {
    const char *name;
    const char *done;                        /* "3 messages ..."; NULL: it changes nothing */
};

struct job {
    const struct verb     *verb;
    char                 **arguments;        /* ids; those of a filter are in filter */
    int                    argument_count;
    struct buf             filter;           /* text; empty: none */
    enum format            format;
    bool                   yes;
    const char            *reason, *to, *via, *file;   /* NULL: not given */
    const char            *socket;
    struct control_client *client;
    int                    code;
    int64_t                began_ns;
    int64_t                looked, found, changed, unreadable, total, bytes;
    bool                   progress_shown;
};

static const struct verb verbs[] = {
    { "list",    NULL           },
    { "show",    NULL           },
    { "retry",   "made due now" },
    { "hold",    "held"         },
    { "release", "released"     },
    { "delete",  "deleted"      },
    { "bounce",  "returned"     },
    { "reroute", "rerouted"     },
    { "export",  "exported"     },
    { "import",  NULL           },
};

static void usage(FILE *to)
{
    fputs("usage: nightmail queue list [OPTION]... [FILTER]\n"
          "       nightmail queue show|retry|hold|release|delete|bounce|reroute [OPTION]... ID...|FILTER\n"
          "       nightmail queue export --file PATH [OPTION]... FILTER\n"
          "       nightmail queue import --file PATH [OPTION]...\n\n"
          "list     the messages in the queue, oldest first\n"
          "show     envelope, recipients, and what the other servers said last\n"
          "retry    deliver now\n"
          "hold     deliver no more until it is released\n"
          "release  the end of hold\n"
          "delete   end it without a bounce; the record stays in the journal\n"
          "bounce   return it to its sender\n"
          "reroute  send it elsewhere, or to another recipient; with a filter, for those recipients that it means\n"
          "export   move what a FILTER means out of the queue, into a file\n"
          "import   take in the messages of such a file, each once\n\n"
          "  -y, --yes           change what the filter means; without it that is only shown\n"
          "  -r, --reason TEXT   what the sender is told by bounce\n"
          "  -t, --to ADDRESS    to whom reroute sends it; *@DOMAIN keeps what is before the @\n"
          "  -v, --via HOST[:PORT]  where reroute sends it; \"\" takes that back\n"
          "  -o, --file PATH     of export and import\n"
          "  -f, --format NAME   text, json (one object a line) or postqueue (as `postqueue -p` shows it)\n"
          "  -j, --json          --format=json\n"
          "  -c, --config FILE   finds the control socket (default: $NIGHTMAIL_CONF, else " CLI_DEFAULT_CONF ")\n"
          "  -s, --socket PATH   the control socket itself\n\n"
          "FILTER: FIELD=VALUE ..., with = != < <= > >=, * and ?, \"quotes\", and, or, not, ( ):\n"
          "  'to=*@gmail.com age>1h (code=4.7.* or text=\"*rate limit*\") not login=ann'\n"
          "Fields: " FILTER_FIELDS "\n\n"
          "Exit: 0 done, 1 some messages could not be changed, 64 wrong use, 69 no server answers, 74 the output cannot be\n"
          "written, 77 only operators may, 78 bad configuration\n", to);
}

/* -- requests -------------------------------------------------------------------------------------------------------------- */

static int64_t number(const json_t *object, const char *key)
{
    return queue_print_number(object, key);
}

static const char *text(const json_t *object, const char *key)
{
    return queue_print_text(object, key);
}

/* Awaits. NULL when the server is not there any more, which is said. */
static json_t *request(struct job *job, json_t *request)
{
    json_t *answer = NULL;
    int r = control_request(job->client, request, &answer);
    if (r < 0)
        job->code = cli_fail("queue", EX_UNAVAILABLE, "the server went away: %s", strerror(-r));
    return r < 0 ? NULL : answer;
}

/* Awaits. NULL after it has said why on standard error. */
static json_t *ask(struct job *job, json_t *wish, const char *about)
{
    json_t *answer = request(job, wish);
    if (answer == NULL || json_is_true(json_object_get(answer, "ok")))
        return answer;
    job->code = cli_fail("queue", 1, "%s%s%s", about, about[0] != '\0' ? ": " : "", text(answer, "error"));
    json_decref(answer);
    return NULL;
}

static void add_text(json_t *wish, const char *key, const char *value)
{
    if (value != NULL)
        (void)json_object_set_new(wish, key, control_string(str_of(value)));
}

static json_t *with_details(const struct job *job, json_t *wish)
{
    add_text(wish, "reason", job->reason);
    add_text(wish, "to", job->to);
    add_text(wish, "via", job->via);
    return wish;
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

/* -- messages by id ---------------------------------------------------------------------------------------------------------- */

static bool is_verb(const struct job *job, const char *name)
{
    return strcmp(job->verb->name, name) == 0;
}

static void one(struct job *job, const char *id)
{
    char name[32];
    (void)snprintf(name, sizeof(name), "queue.%s", job->verb->name);
    json_t *answer = ask(job, with_details(job, json_pack("{s:s, s:s}", "do", name, "id", id)), id);
    if (answer == NULL)
        return;
    if (!ask_for_the_others(job, answer, id)) {
        json_decref(answer);
        return;
    }
    if (job->format == FORMAT_JSON)
        queue_print_json(answer);
    else if (is_verb(job, "show"))
        queue_print_details(answer);
    json_decref(answer);
}

/* -- messages by filter ------------------------------------------------------------------------------------------------------ */

static void show_progress(struct job *job)
{
    if (!isatty(STDERR_FILENO) || clock_mono_ns() - job->began_ns < PROGRESS_AFTER_NS)
        return;
    fprintf(stderr, "\r%lld of %lld looked at, %lld found\033[K", (long long)job->looked, (long long)job->total, (long long)job->found);
    job->progress_shown = true;
}

static void clear_progress(struct job *job)
{
    if (job->progress_shown)
        fputs("\r\033[K", stderr);
    job->progress_shown = false;
}

/* Awaits. Its envelope, unless it was delivered meanwhile. False when nothing more can be asked. */
static bool print_whole(struct job *job, const char *id)
{
    json_t *answer = request(job, json_pack("{s:s, s:s}", "do", "queue.show", "id", id));
    if (answer == NULL)
        return false;
    bool good = json_is_true(json_object_get(answer, "ok"));
    if (!good && strcmp(text(answer, "error"), CONTROL_NO_MESSAGE) != 0)
        job->code = cli_fail("queue", 1, "%s: %s", id, text(answer, "error"));
    good = good && ask_for_the_others(job, answer, id);
    if (good && job->format == FORMAT_JSON)
        queue_print_json(answer);
    else if (good && job->format == FORMAT_POSTQUEUE)
        queue_print_postqueue(answer);
    else if (good)
        queue_print_details(answer);
    json_decref(answer);
    return job->code != EX_UNAVAILABLE;
}

/* What is changed is counted, unless it could not be; what is only shown is printed. */
static bool take_item(struct job *job, const json_t *item, bool acting)
{
    const char *error = text(item, "error");

    if (job->found++ == 0 && job->format == FORMAT_POSTQUEUE && !acting)
        queue_print_postqueue_head();
    job->bytes += number(item, "size");
    if (error[0] != '\0')
        job->code = cli_fail("queue", 1, "%s: %s", text(item, "id"), error);
    else
        job->changed++;
    if (!acting && (is_verb(job, "show") || job->format == FORMAT_POSTQUEUE))
        return print_whole(job, text(item, "id"));
    if (job->format == FORMAT_JSON)
        queue_print_json(item);
    else if (!acting)
        queue_print_item(item);
    return true;
}

static bool take_page(struct job *job, const json_t *answer, bool acting)
{
    const json_t *items = json_object_get(answer, "items"), *item;
    size_t i;

    job->looked += number(answer, "looked");
    job->unreadable += number(answer, "unreadable");
    job->total = number(answer, "total");
    if (json_array_size(items) > 0)
        clear_progress(job);
    json_array_foreach(items, i, item)
        if (!take_item(job, item, acting))
            return false;
    if (fflush(stdout) != 0 || ferror(stdout)) {              /* `| head` has seen enough */
        job->code = EX_IOERR;
        return false;
    }
    show_progress(job);
    return true;
}

/* Awaits. True at the end of the queue. */
static bool go_through(struct job *job, bool acting)
{
    char after[32] = "0000000000000", until[32] = "", name[32];

    (void)snprintf(name, sizeof(name), "queue.%s", acting ? job->verb->name : "list");
    for (bool done = false; !done;) {
        json_t *wish = json_pack("{s:s, s:s, s:s, s:i}", "do", name, "after", after, "until", until, "max", PAGE);
        if (job->filter.n > 0)
            (void)json_object_set_new(wish, "filter", control_string(buf_str(&job->filter)));
        json_t *answer = ask(job, with_details(job, wish), "");
        if (answer == NULL)
            return false;
        done = json_is_true(json_object_get(answer, "done"));
        (void)snprintf(after, sizeof(after), "%s", text(answer, "after"));
        (void)snprintf(until, sizeof(until), "%s", text(answer, "until"));
        bool good = take_page(job, answer, acting);
        json_decref(answer);
        if (!good)
            return false;
    }
    return true;
}

static const char *messages(int64_t n)
{
    return n == 1 ? "message" : "messages";
}

static void print_end(struct job *job, bool acting)
{
    FILE *to = job->format == FORMAT_TEXT ? stdout : stderr;

    if (job->unreadable > 0)
        job->code = cli_fail("queue", 1, "%lld %s could not be read, and were left alone", (long long)job->unreadable, messages(job->unreadable));
    if (job->format == FORMAT_POSTQUEUE && !acting)
        queue_print_postqueue_end(job->bytes, job->found);
    if (acting)
        fprintf(to, "%lld %s %s\n", (long long)job->changed, messages(job->changed), job->verb->done);
    else if (job->verb->done != NULL)
        fprintf(to, "%lld %s would be %s: --yes does it\n", (long long)job->found, messages(job->found), job->verb->done);
    else if (job->format == FORMAT_TEXT && is_verb(job, "list"))
        fprintf(to, "%lld %s\n", (long long)job->found, messages(job->found));
}

static void many(struct job *job)
{
    bool acting = job->yes && job->verb->done != NULL;

    job->began_ns = clock_mono_ns();
    bool whole = go_through(job, acting);
    clear_progress(job);
    if (whole)
        print_end(job, acting);
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
    if (is_verb(job, "import"))
        job->code = transfer_import(job->client, job->file);
    else if (is_verb(job, "export") && job->yes)
        job->code = transfer_export(job->client, job->file, buf_str(&job->filter));
    else if (job->filter.n > 0 || is_verb(job, "list"))
        many(job);
    else
        for (int i = 0; i < job->argument_count && job->code != EX_UNAVAILABLE; i++)
            one(job, job->arguments[i]);
    control_disconnect(job->client);
}

/* -- the command ------------------------------------------------------------------------------------------------------------ */

static const struct verb *verb_of(const char *name)
{
    for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
        if (strcmp(name, verbs[i].name) == 0)
            return &verbs[i];
    return NULL;
}

static bool read_format(const char *name, enum format *out)
{
    static const char *const names[] = { [FORMAT_TEXT] = "text", [FORMAT_JSON] = "json", [FORMAT_POSTQUEUE] = "postqueue" };

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(name, names[i]) != 0)
            continue;
        *out = (enum format)i;
        return true;
    }
    return false;
}

/* No id has one of these in it. */
static bool is_filter(int count, char **arguments)
{
    for (int i = 0; i < count; i++)
        if (strpbrk(arguments[i], "=!<>()") != NULL)
            return true;
    return false;
}

/* What is left of the command line: a verb, and ids or the words of a filter. */
static bool read_arguments(struct job *job, int count, char **arguments)
{
    if (count == 0 || (job->verb = verb_of(arguments[0])) == NULL)
        return false;
    job->arguments = arguments + 1;
    job->argument_count = count - 1;
    if ((job->reason != NULL && !is_verb(job, "bounce")) || is_verb(job, "reroute") != (job->to != NULL || job->via != NULL))
        return false;
    if ((job->file != NULL) != (is_verb(job, "export") || is_verb(job, "import")))
        return false;
    if (is_verb(job, "list") || is_verb(job, "export") || is_filter(job->argument_count, job->arguments))
        for (int i = 0; i < job->argument_count; i++)
            buf_printf(&job->filter, "%s%s", i > 0 ? " " : "", job->arguments[i]);
    if (is_verb(job, "import"))
        return job->argument_count == 0;
    return buf_ok(&job->filter) && (job->argument_count > 0 || is_verb(job, "list"));
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

static int run(struct job *job, const char *conf_path)
{
    int code = job->socket == NULL ? find_socket(job, conf_path) : EX_OK;
    if (code != EX_OK)
        return code;
    code = cli_run_task("queue", queue_task, job);
    conf_set_current(NULL);
    return code != EX_OK ? code : job->code;
}

int cmd_queue(int argc, char **argv)
{
    static const struct option options[] = {
        { "config", required_argument, NULL, 'c' }, { "socket", required_argument, NULL, 's' }, { "format", required_argument, NULL, 'f' },
        { "json", no_argument, NULL, 'j' },         { "yes", no_argument, NULL, 'y' },          { "reason", required_argument, NULL, 'r' },
        { "file", required_argument, NULL, 'o' },   { "to", required_argument, NULL, 't' },     { "via", required_argument, NULL, 'v' },    { "help", no_argument, NULL, 'h' },
        { 0 },
    };
    struct job job = { 0 };
    const char *conf_path = NULL;
    for (int c; (c = getopt_long(argc, argv, "c:s:f:r:o:t:v:jyh", options, NULL)) != -1;) {
        switch (c) {
        case 'c': conf_path = optarg; break;
        case 's': job.socket = optarg; break;
        case 'j': job.format = FORMAT_JSON; break;
        case 'y': job.yes = true; break;
        case 'r': job.reason = optarg; break;
        case 'o': job.file = optarg; break;
        case 't': job.to = optarg; break;
        case 'v': job.via = optarg; break;
        case 'h': usage(stdout); return EX_OK;
        case '?': return cli_usage_error("queue");
        case 'f':
            if (!read_format(optarg, &job.format))
                return cli_usage_error("queue");
            break;
        }
    }
    buf_init(&job.filter, FILTER_TEXT_MAX);
    int code = read_arguments(&job, argc - optind, argv + optind) ? run(&job, conf_path) : cli_usage_error("queue");
    buf_free(&job.filter);
    return code;
}

int cmd_mailq(int argc, char **argv)
{
    char name[] = "queue", format[] = "--format=postqueue", verb[] = "list";
    char *arguments[] = { name, format, verb, NULL };

    (void)argv;
    return argc > 1 ? cli_fail("mailq", EX_USAGE, "it takes no arguments: `nightmail queue --help`") : cmd_queue(3, arguments);
}
