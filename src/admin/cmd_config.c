/*
 * nightmail config check|show: is this file right, and what do all its values come to?
 */
#include "admin/cli.h"
#include "admin/commands.h"
#include "admin/secrets.h"
#include "base/cleanup.h"
#include "conf/conf.h"
#include "inbound/certificates.h"
#include "lookup/accounts.h"
#include "outbound/refusal_table.h"
#include "run/keeper.h"
#include <getopt.h>
#include <string.h>
#include <sysexits.h>

#define TEXT_MAX (1024 * 1024)

static void usage(FILE *to)
{
    fputs("usage: nightmail config check [-c FILE]\n"
          "       nightmail config show [-c FILE]\n\n"
          "check  reads the file and all it names, and says what is wrong with file and line\n"
          "show   prints every option with the value in force, defaults too\n\n"
          "  -c, --config FILE   default: $NIGHTMAIL_CONF, else " CLI_DEFAULT_CONF "\n\n"
          "Exit: 0 all is well, 64 wrong use, 78 the configuration is wrong\n", to);
}

static int load(const char *path, struct conf **out)
{
    CLEANUP_BUF struct buf error;
    buf_init(&error, TEXT_MAX);
    int r = cli_load_conf(path, out, &error);
    if (r == 0)
        return EX_OK;
    (void)fwrite(error.p, 1, error.n, stderr); /* lines */
    return EX_CONFIG;
}

/* What the server would say of the certificates at its start. */
static int check_certificates(const struct conf *conf)
{
    char error[256] = "no memory";
    struct tls_context *context;
    if (certificates_load(conf, &context, error) < 0) {
        fprintf(stderr, "%s: tls_certificate: %s\n", conf->path, error);
        return EX_CONFIG;
    }
    tls_unref(context);
    return EX_OK;
}

/* What the database says of the query. One that cannot be reached has not said that it is right. */
static int check_database(const struct conf *conf)
{
    struct keeper_source *source;
    char error[256];

    int r = lookup_accounts_new(conf, &source, error);
    if (r == 0) {
        r = lookup_accounts_check(source, error);
        keeper_source_unref(source);
    }
    if (r < 0)
        fprintf(stderr, "%s: %s: %s\n", conf->path, conf->accounts_sqlite[0] != '\0' ? "accounts_sqlite" : "accounts_pgsql", error);
    return r < 0 ? EX_CONFIG : EX_OK;
}

static int check_accounts(const struct conf *conf)
{
    if (conf->has_accounts && conf->accounts_file[0] == '\0')
        return check_database(conf);
    struct keeper_options options = { .accounts_file = conf->accounts_file };
    char error[256];
    if (keeper_start(&options, error) < 0) {
        fprintf(stderr, "%s: accounts_file: %s\n", conf->path, error);
        return EX_CONFIG;
    }
    keeper_stop();
    return EX_OK;
}

static int check_refusals(const struct conf *conf)
{
    CLEANUP_BUF struct buf error;
    buf_init(&error, TEXT_MAX);
    struct refusal_table *table = refusal_table_new(conf->refusals_file, conf->refusals_text, &error);
    (void)fwrite(error.p, 1, error.n, stderr);
    refusal_table_free(table);
    return table == NULL || error.n > 0 ? EX_CONFIG : EX_OK;
}

static void show(const struct conf *conf)
{
    CLEANUP_BUF struct buf text;
    buf_init(&text, TEXT_MAX);
    conf_show(conf, &text);
    (void)fwrite(text.p, 1, text.n, stdout);
}

int cmd_config(int argc, char **argv)
{
    static const struct option options[] = { { "config", required_argument, NULL, 'c' }, { "help", no_argument, NULL, 'h' }, { 0 } };
    const char *path = NULL;
    for (int c; (c = getopt_long(argc, argv, "c:h", options, NULL)) != -1;) {
        switch (c) {
        case 'c': path = optarg; break;
        case 'h': usage(stdout); return EX_OK;
        case '?': return cli_usage_error("config");
        }
    }
    if (optind + 1 != argc || (strcmp(argv[optind], "check") != 0 && strcmp(argv[optind], "show") != 0))
        return cli_usage_error("config");
    struct conf *conf;
    int code = load(cli_conf_path(path), &conf);
    if (code != EX_OK)
        return code;
    if (strcmp(argv[optind], "show") == 0)
        show(conf);
    else if ((code = check_certificates(conf)) == EX_OK && (code = check_accounts(conf)) == EX_OK && (code = check_refusals(conf)) == EX_OK) {
        secrets_check(conf);
        printf("%s: ok\n", conf->path);
    }
    conf_unref(conf);
    return code;
}
