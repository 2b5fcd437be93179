/*
 * nightmail sites: the destinations as the running server sees them: how much each bears now, what waits for it, and why.
 */
#include "admin/cli.h"
#include "admin/commands.h"
#include "admin/control.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "conf/conf.h"
#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#define ERRORS_MAX (64 * 1024)

struct show {
    const char *socket;
    bool        json, all;
    uint64_t    shown;
    int         code;
};

static void usage(FILE *to)
{
    fputs("usage: nightmail sites [OPTION]...\n\n"
          "Shows the destinations of the running server: those with mail under way or waiting, or that are dead or at rest.\n"
          "A destination is the set of servers that receive for it, seen from our address: domains at one provider share one.\n\n"
          "  -a, --all           the quiet ones too\n"
          "  -j, --json          one object a line\n"
          "  -c, --config FILE   finds the control socket (default: $NIGHTMAIL_CONF, else " CLI_DEFAULT_CONF ")\n"
          "  -s, --socket PATH   the control socket itself\n\n"
          "State: well; new (nothing is known yet: one goes ahead); dead (one probe when its rest is over); rests (it asked for that)\n\n"
          "Exit: 0 shown, 69 no server runs, 77 operators only\n", to);
}

static int64_t number(const json_t *site, const char *name) { return json_integer_value(json_object_get(site, name)); }

static bool is_busy(const json_t *site)
{
    const char *state = json_string_value(json_object_get(site, "state"));
    return number(site, "deliveries") > 0 || number(site, "waiting") > 0 || json_is_true(json_object_get(site, "parked")) ||
           number(site, "rests_s") > 0 || (state != NULL && strcmp(state, "dead") == 0);
}

static void print_text(const json_t *site)
{
    const char *name = json_string_value(json_object_get(site, "site")), *state = json_string_value(json_object_get(site, "state"));
    const char *words = json_string_value(json_object_get(site, "words"));
    char pace[40] = "";

    if (number(site, "per_hour") > 0)
        snprintf(pace, sizeof pace, "%lld/h", (long long)number(site, "per_hour"));
    printf("%-6s %4lld of %-4lld %10s %8lld%s ", state, (long long)number(site, "deliveries"), (long long)number(site, "deliveries_max"), pace,
           (long long)number(site, "waiting"), json_is_true(json_object_get(site, "parked")) ? "+" : " ");
    cli_print_safe(stdout, str_of(name != NULL ? name : ""));
    if (number(site, "rests_s") > 0)
        printf("  rests %llds", (long long)number(site, "rests_s"));
    if (json_is_true(json_object_get(site, "ipv4")))
        printf("  by IPv4");
    printf("\n");
    if (words != NULL && words[0] != '\0') {
        printf("       ");
        cli_print_safe(stdout, str_of(words));
        printf("\n");
    }
}

static void print_one(struct show *s, const json_t *site)
{
    if (!s->all && !is_busy(site))
        return;
    if (s->json) {
        char *line = json_dumps(site, JSON_COMPACT | JSON_PRESERVE_ORDER);
        if (line != NULL)
            printf("%s\n", line);
        free(line);
        return;
    }
    if (s->shown++ == 0)
        printf("%-6s %12s %10s %8s  %s\n", "STATE", "DELIVERIES", "RATE", "WAITING", "SITE");
    print_text(site);
}

/* Awaits. Where the next page begins; 0: it was the last. */
static int64_t page(struct show *s, struct control_client *client, int64_t cursor)
{
    json_t *answer = NULL;
    const json_t *site;
    size_t i;
    int64_t next = 0;

    int r = control_request(client, json_pack("{s:s, s:I}", "do", "sites", "cursor", (json_int_t)cursor), &answer);
    if (r < 0) {
        s->code = cli_fail("sites", EX_UNAVAILABLE, "the server has gone: %s", strerror(-r));
        return 0;
    }
    const json_t *sites = json_object_get(answer, "sites");
    json_array_foreach(sites, i, site)
        print_one(s, site);
    next = number(answer, "next");
    json_decref(answer);
    return next;
}

static void sites_task(void *arg)
{
    struct show *s = arg;
    struct control_client *client;
    int64_t cursor = 0;
    int r = control_connect(s->socket, &client);

    if (r < 0) {
        s->code = cli_fail("sites", r == -EACCES ? EX_NOPERM : EX_UNAVAILABLE, "no server answers at %s: %s", s->socket, strerror(-r));
        return;
    }
    do
        cursor = page(s, client, cursor);
    while (cursor > 0);
    control_disconnect(client);
}

static int run(struct show *s, const char *conf_path)
{
    CLEANUP_BUF struct buf error;
    struct conf *conf = NULL;
    int code = EX_OK;

    buf_init(&error, ERRORS_MAX);
    if (s->socket == NULL) {
        if (conf_load(cli_conf_path(conf_path), &conf, &error) < 0) {
            (void)fwrite(error.p, 1, error.n, stderr);        /* lines */
            return EX_CONFIG;
        }
        s->socket = conf->control_socket;
    }
    if (s->socket[0] == '\0')
        code = cli_fail("sites", EX_CONFIG, "the configuration has no control_socket");
    if (code == EX_OK)
        code = cli_run_task("sites", sites_task, s);
    conf_unref(conf);
    return code != EX_OK ? code : s->code;
}

int cmd_sites(int argc, char **argv)
{
    static const struct option options[] = { { "config", required_argument, NULL, 'c' }, { "socket", required_argument, NULL, 's' },
                                             { "json", no_argument, NULL, 'j' },         { "all", no_argument, NULL, 'a' },
                                             { "help", no_argument, NULL, 'h' },         { 0 } };
    struct show s = { 0 };
    const char *conf_path = NULL;

    for (int c; (c = getopt_long(argc, argv, "c:s:jah", options, NULL)) != -1;) {
        switch (c) {
        case 'c': conf_path = optarg; break;
        case 's': s.socket = optarg; break;
        case 'j': s.json = true; break;
        case 'a': s.all = true; break;
        case 'h': usage(stdout); return EX_OK;
        case '?': return cli_usage_error("sites");
        }
    }
    return optind < argc ? cli_usage_error("sites") : run(&s, conf_path);
}
