/*
 * nightmail upgrade: asks the running server to let the program that is on the disk now take over, and waits until it serves.
 */
#include "admin/cli.h"
#include "admin/commands.h"
#include "admin/control.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "conf/conf.h"
#include <errno.h>
#include <getopt.h>
#include <string.h>
#include <sysexits.h>

#define ERRORS_MAX   (64 * 1024)
#define LOOK_NS      (100 * NS_PER_MS)
#define SPARE_NS     (30 * NS_PER_S)             /* beyond shutdown_grace, which the deliveries under way may take */

struct upgrade {
    const char *socket;
    int64_t     wait_ns;
    int         code;
};

static void usage(FILE *to)
{
    fputs("usage: nightmail upgrade [-c FILE]\n\n"
          "Lets the nightmail program that is on the disk now take over the running server: no connection is refused or cut.\n"
          "Waits until it serves, and prints its version.\n\n"
          "  -c, --config FILE   default: $NIGHTMAIL_CONF, else " CLI_DEFAULT_CONF "\n\n"
          "Exit: 0 the new one serves, 69 no server runs, 75 the one before goes on, and its log says why\n", to);
}

/* Awaits. The worker that answers, 0: none; negative errno: there is no server. Its version into out. */
static int64_t ask(const char *socket, const char *request, char out[32])
{
    struct control_client *client;
    json_t *answer = NULL;
    int64_t pid = 0;

    int r = control_connect(socket, &client);
    if (r < 0)
        return r;
    r = control_request(client, json_pack("{s:s}", "do", request), &answer);
    if (r == 0) {
        pid = json_integer_value(json_object_get(answer, "pid"));
        const char *version = json_string_value(json_object_get(answer, "version"));
        snprintf(out, 32, "%s", version != NULL ? version : "");
    }
    json_decref(answer);
    control_disconnect(client);
    return pid;
}

static void upgrade(void *arg)
{
    struct upgrade *u = arg;
    char version[32] = "";
    int64_t deadline = task_deadline_in(u->wait_ns), now;

    int64_t before = ask(u->socket, "server.upgrade", version);
    if (before <= 0) {
        u->code = cli_fail("upgrade", EX_UNAVAILABLE, "no server answers at %s: %s", u->socket, strerror(before < 0 ? (int)-before : EPROTO));
        return;
    }
    do {
        (void)task_sleep(LOOK_NS);
        now = ask(u->socket, "server.status", version);
    } while ((now <= 0 || now == before) && clock_mono_ns() < deadline);
    if (now <= 0 || now == before)
        u->code = cli_fail("upgrade", EX_TEMPFAIL, "the program that ran before goes on: the server's log says why");
    else
        printf("nightmail %s serves\n", version);
}

static int run(const char *conf_path)
{
    CLEANUP_BUF struct buf error;
    struct conf *conf;

    buf_init(&error, ERRORS_MAX);
    if (cli_load_conf(conf_path, &conf, &error) < 0)
        return cli_fail("upgrade", EX_CONFIG, "%.*s", (int)error.n, error.p);
    struct upgrade u = { .socket = conf->control_socket, .wait_ns = conf->shutdown_grace_ns + SPARE_NS, .code = EX_OK };
    int code = conf->control_socket[0] == '\0' ? cli_fail("upgrade", EX_CONFIG, "there is no control_socket: send SIGUSR2 to the server instead")
                                               : cli_run_task("upgrade", upgrade, &u);
    conf_unref(conf);
    return code != EX_OK ? code : u.code;
}

int cmd_upgrade(int argc, char **argv)
{
    static const struct option options[] = { { "config", required_argument, NULL, 'c' }, { "help", no_argument, NULL, 'h' }, { 0 } };
    const char *given = NULL;

    for (int c; (c = getopt_long(argc, argv, "c:h", options, NULL)) != -1;) {
        switch (c) {
        case 'c': given = optarg; break;
        case 'h': usage(stdout); return EX_OK;
        case '?': return cli_usage_error("upgrade");
        }
    }
    return optind != argc ? cli_usage_error("upgrade") : run(cli_conf_path(given));
}
