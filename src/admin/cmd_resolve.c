/*
 * nightmail resolve: the whole way that mail to an address would go, and why: rewriting, aliases, the mailbox or the servers at the end.
 *
 * It reads the configuration as a starting server would, and decides by the same code (policy/expand.h); a running server may still have an
 * earlier configuration in force. The way is made into one JSON tree, and the text for people is made from that.
 */
#include "admin/cli.h"
#include "admin/commands.h"
#include "admin/control.h"
#include "base/cleanup.h"
#include "conf/conf.h"
#include "conf/tls_level.h"
#include "outbound/client_tls.h"
#include "outbound/mx.h"
#include "policy/access.h"
#include "policy/alias.h"
#include "policy/expand.h"
#include "policy/route.h"
#include "run/dns.h"
#include "run/file.h"
#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <string.h>
#include <sysexits.h>

#define ERRORS_MAX  (1024 * 1024)
#define MEMORY_MAX  (64u << 20)

struct resolve {
    const char      *conf_path, *text;
    bool             json, no_dns, stranger, sender;
    struct conf     *conf;               /* counted */
    struct arena     arena;
    struct expansion x;
    bool             dns;                /* started */
    json_t          *answer;             /* owned */
    int              code;
};

static void usage(FILE *to)
{
    fputs("usage: nightmail resolve [OPTION]... ADDRESS\n\n"
          "Shows the way that mail to ADDRESS would go by the configuration as it stands in its files, and why: rewriting, aliases,\n"
          "and the mailboxes and servers at the ends. Nothing is sent.\n\n"
          "  -c, --config FILE   default: $NIGHTMAIL_CONF, else " CLI_DEFAULT_CONF "\n"
          "  -j, --json          as one JSON object\n"
          "  -n, --no-dns        do not look up the mail servers of other domains\n"
          "      --sender        what becomes of ADDRESS as a sender instead\n"
          "      --stranger      for a client that may not send to anywhere\n\n"
          "Exit: 0 it goes somewhere, 64 wrong use, 67 nobody of that name, 75 DNS or a mailbox cannot be looked at now,\n"
          "77 a stranger may not send there, 78 the configuration is wrong, or aliases go in a circle\n", to);
}

static json_t *address_json(const struct address *addr)
{
    CLEANUP_BUF struct buf text;
    buf_init(&text, 4096);
    address_put(&text, addr);
    return control_string(buf_str(&text));
}

/* -- the ends ---------------------------------------------------------------------------------------------------------------- */

/* 0 it is there, or a negative errno. BLOCKS, which hurts nobody here. */
static int look(struct resolve *s, const struct address *addr, const char **out_path)
{
    int r = route_mailbox(&s->arena, s->conf, addr, out_path);
    if (r < 0)
        return r == -EINVAL ? -ENOENT : r;
    int dir = file_open_dir(*out_path);
    (void)file_close(dir);               /* only looked at; a negative one is ignored */
    return dir < 0 ? dir : 0;
}

static bool is_absent(int error) { return error == -ENOENT || error == -ENOTDIR || error == -ENAMETOOLONG; }

static void put_mailbox(struct resolve *s, const struct expand_node *n, json_t *out)
{
    const char *path = NULL;
    int r = look(s, &n->addr, &path);

    if (path != NULL)
        (void)json_object_set_new(out, "mailbox", control_string(str_of(path)));
    if (r < 0)
        (void)json_object_set_new(out, "note", json_string(is_absent(r) ? "made at the first delivery" : strerror(-r)));
}

/* Awaits DNS. */
static void put_servers(struct resolve *s, const struct route *route, json_t *out)
{
    struct mx_list list = { 0 };
    struct outcome failure;
    char ip[NET_ADDR_TEXT_MAX];
    json_t *servers;

    switch (mx_lookup(&s->arena, s->conf, route, &list, &failure)) {
    case MX_FOUND: break;
    case MX_FAILED:
        (void)json_object_set_new(out, "note", control_string(failure.text));
        s->code = failure.state == RCPT_PENDING ? EX_TEMPFAIL : EX_NOUSER;
        return;
    case MX_CANCELED: s->code = EX_TEMPFAIL; return;
    }
    servers = json_array();
    for (size_t i = 0; i < list.count; i++)
        (void)json_array_append_new(servers, json_pack("{s:o, s:s}", "host", control_string(list.items[i].host), "address",
                                                       net_addr_format(&list.items[i].addr, ip)));
    (void)json_object_set_new(out, "servers", servers);
}

/* Awaits DNS, where it was not told not to ask. */
static void put_way_out(struct resolve *s, const struct expand_node *n, json_t *out)
{
    struct route route;
    struct str text = STR("");

    if (route_for(&s->arena, s->conf, &n->addr, &route) < 0)
        return;
    switch (route.kind) {
    case ROUTE_LOCAL: put_mailbox(s, n, out); return;
    case ROUTE_LMTP_UNIX: (void)json_object_set_new(out, "lmtp", control_string(str_of(route.path))); return;
    case ROUTE_LMTP:
    case ROUTE_HOST:
    case ROUTE_HOP: text = str_printf(&s->arena, "%" STR_FMT ":%u", STR_ARG(route.host), route.port); break;
    case ROUTE_MX: text = route.domain; break;
    }
    (void)json_object_set_new(out, route.kind == ROUTE_MX ? "domain" : route.kind == ROUTE_HOST ? "relay_host" : "lmtp", control_string(text));
    if (route.kind == ROUTE_MX || route.kind == ROUTE_HOST)
        (void)json_object_set_new(out, "tls", json_string(tls_level_word(client_security_for(NULL, s->conf, &route).level)));
    if (n->end == EXPAND_REMOTE && access_rcpt(s->conf, false, &s->x.nodes[0].addr) == ACCESS_RELAY_DENIED)
        (void)json_object_set_new(out, "only_for", json_string("clients that may send to anywhere"));
    if (s->dns)
        put_servers(s, &route, out);
}

static void put_end(struct resolve *s, const struct expand_node *n, json_t *out)
{
    switch (n->end) {
    case EXPAND_LOCAL:
    case EXPAND_REMOTE: put_way_out(s, n, out); break;
    case EXPAND_UNKNOWN: s->code = EX_NOUSER; break;
    case EXPAND_DENIED: s->code = EX_NOPERM; break;
    case EXPAND_OPEN:
    case EXPAND_GOES_ON: break;
    }
}

/* -- the tree ---------------------------------------------------------------------------------------------------------------- */

static const char *end_word(enum expand_end end)
{
    switch (end) {
    case EXPAND_OPEN: return "open";
    case EXPAND_GOES_ON: return "goes on";
    case EXPAND_LOCAL: return "mailbox";
    case EXPAND_REMOTE: return "server";
    case EXPAND_UNKNOWN: return "unknown";
    case EXPAND_DENIED: return "denied";
    }
    return "";
}

/* By which table a node leads on. */
static const char *way_word(const struct resolve *s, const struct expand_node *n)
{
    if (n->child_count == 1 && s->x.nodes[n->child].rewritten)
        return "rewriting";
    return n->caught ? "catch-all" : n->alias == s->conf->postmaster_alias ? "option" : "alias";
}

/* Awaits DNS. */
static json_t *node_json(struct resolve *s, size_t i)
{
    const struct expand_node *n = &s->x.nodes[i];
    json_t *out = json_pack("{s:o, s:s}", "address", address_json(&n->addr), "end", end_word(n->end)), *to;

    if (n->alias == NULL || n->end != EXPAND_GOES_ON) {
        put_end(s, n, out);
        return out;
    }
    (void)json_object_set_new(out, "by", json_string(way_word(s, n)));
    (void)json_object_set_new(out, "key", control_string(n->alias->key));
    (void)json_object_set_new(out, "file", control_string(str_of(n->alias->file)));
    (void)json_object_set_new(out, "line", json_integer(n->alias->line));
    if (n->known_count > 0)
        (void)json_object_set_new(out, "known", json_integer((json_int_t)n->known_count));
    to = json_array();
    for (size_t k = 0; k < n->child_count; k++)
        (void)json_array_append_new(to, node_json(s, n->child + k));
    (void)json_object_set_new(out, "to", to);
    return out;
}

/* -- for people -------------------------------------------------------------------------------------------------------------- */

static const char *text_of(const json_t *o, const char *key)
{
    const char *text = json_string_value(json_object_get(o, key));
    return text != NULL ? text : "";
}

static void say(int depth, const char *before, const char *text, const char *behind)
{
    printf("%*s%s", 2 * depth, "", before);
    cli_print_safe(stdout, str_of(text));
    printf("%s", behind);
}

static void print_servers(int depth, const json_t *node)
{
    const json_t *server;
    size_t i;

    json_array_foreach(json_object_get(node, "servers"), i, server) {
        say(depth, "", text_of(server, "host"), " ");
        say(0, "", text_of(server, "address"), "\n");
    }
}

/* The words for each kind of end, and the member of the node that names it. */
static const struct { const char *member, *words; } ends[] = {
    { "mailbox",    "goes to the mailbox " },
    { "lmtp",       "goes by LMTP to " },
    { "relay_host", "goes to the relay host " },
    { "domain",     "goes to the mail servers of " },
};

static void print_end(int depth, const json_t *node)
{
    const char *tls = text_of(node, "tls"), *note = text_of(node, "note"), *only_for = text_of(node, "only_for");
    bool denied = strcmp(text_of(node, "end"), "denied") == 0;
    size_t i = 0, count = sizeof ends / sizeof ends[0];

    while (i < count && json_object_get(node, ends[i].member) == NULL)
        i++;
    if (i < count)
        say(depth, ends[i].words, text_of(node, ends[i].member), "");
    else
        say(depth, "is refused: ", denied ? "not our domain, and the client is not one of ours" : "no such user here", "");
    if (tls[0] != '\0')
        say(0, ", TLS: ", tls, "");
    if (note[0] != '\0')
        say(0, " (", note, ")");
    if (only_for[0] != '\0')
        say(0, ", only for ", only_for, "");
    putchar('\n');
    print_servers(depth + 1, node);
}

static void print_node(int depth, const json_t *node)
{
    const json_t *child, *known = json_object_get(node, "known");
    size_t i;

    say(depth, "", text_of(node, "address"), "\n");
    if (json_object_get(node, "to") == NULL) {
        print_end(depth + 1, node);
        return;
    }
    say(depth + 1, "by the ", text_of(node, "by"), " ");
    say(0, "", text_of(node, "key"), " (");
    say(0, "", text_of(node, "file"), "");
    if (json_integer_value(json_object_get(node, "line")) > 0)
        printf(":%lld", (long long)json_integer_value(json_object_get(node, "line")));
    puts("):");
    json_array_foreach(json_object_get(node, "to"), i, child)
        print_node(depth + 1, child);
    if (known != NULL)
        printf("%*sand %lld more that stand here already\n", 2 * (depth + 1), "", (long long)json_integer_value(known));
}

static void print_answer(const struct resolve *s)
{
    if (s->json) {
        CLEANUP_FREE char *text = json_dumps(s->answer, JSON_COMPACT);
        if (text != NULL)
            puts(text);
    } else {
        print_node(0, s->answer);
    }
}

/* -- the way ----------------------------------------------------------------------------------------------------------------- */

/* EX_OK: it is known. */
static int follow(struct resolve *s)
{
    CLEANUP_BUF struct buf way;
    enum expand_result result;

    buf_init(&way, ERRORS_MAX);
    while ((result = expand_step(&s->x)) == EXPAND_LOOK) {
        const char *path = "";
        int r = look(s, expand_asked(&s->x), &path);
        if (r < 0 && !is_absent(r))
            return cli_fail("resolve", EX_TEMPFAIL, "%s: %s", path, strerror(-r));
        expand_answer(&s->x, r == 0);
    }
    expand_put_loop(&way, &s->x);
    switch (result) {
    case EXPAND_LOOP: return cli_fail("resolve", EX_CONFIG, "aliases go in a circle: %" STR_FMT, STR_ARG(buf_str(&way)));
    case EXPAND_TOO_DEEP: return cli_fail("resolve", EX_CONFIG, "an alias leads through too many others: %" STR_FMT, STR_ARG(buf_str(&way)));
    case EXPAND_TOO_MANY: return cli_fail("resolve", EX_CONFIG, "an alias has more recipients than alias_recipients_max");
    case EXPAND_NO_MEMORY: return cli_fail("resolve", EX_OSERR, "no memory");
    case EXPAND_DONE:
    case EXPAND_LOOK: break;
    }
    return EX_OK;
}

static bool start_dns(struct resolve *s)
{
    char error[256];
    struct dns_options options = {
        .forwarders = s->conf->dns_forwarders,
        .zone_files = s->conf->dns_zone_files,
        .trust_anchor_file = s->conf->dns_trust_anchor[0] != '\0' ? s->conf->dns_trust_anchor : NULL,
        .resolv_conf = s->conf->resolv_conf[0] != '\0' ? s->conf->resolv_conf : NULL,
    };

    if (dns_start(&options, error) == 0)
        return true;
    s->code = cli_fail("resolve", EX_CONFIG, "DNS: %s", error);
    return false;
}

static void resolve_task(void *arg)
{
    struct resolve *s = arg;

    s->dns = !s->no_dns && start_dns(s);
    if (s->code == EX_OK)
        s->answer = node_json(s, 0);
    if (s->dns)
        dns_stop();
}

static int resolve_recipient(struct resolve *s, const struct address *addr)
{
    expand_begin(&s->x, s->conf, !s->stranger, addr);
    int code = follow(s);
    if (code == EX_OK)
        code = cli_run_task("resolve", resolve_task, s);
    if (code == EX_OK && s->answer != NULL)
        print_answer(s);
    json_decref(s->answer);
    expand_free(&s->x);
    return code == EX_OK ? s->code : code;
}

static int resolve_sender(struct resolve *s, const struct address *addr)
{
    struct address to = *addr;
    const struct conf_alias *by = alias_rewrite(&s->conf->sender_rewrites, addr, &to);
    json_t *out = json_pack("{s:o, s:o}", "address", address_json(addr), "sender", address_json(&to));

    if (s->json) {
        s->answer = out;
        print_answer(s);
    } else {
        say(0, "", text_of(out, "address"), "\n");
        if (by == NULL)
            puts("  stays as it is");
        else {
            say(1, "is rewritten to ", text_of(out, "sender"), "");
            printf(" (%s:%u)\n", by->file, by->line);
        }
    }
    json_decref(out);
    return EX_OK;
}

/* A bare name is completed as sendmail does it. */
static int resolve(struct resolve *s)
{
    CLEANUP_BUF struct buf error;
    struct address addr;

    buf_init(&error, ERRORS_MAX);
    if (conf_load(s->conf_path, &s->conf, &error) < 0) {         /* a circle elsewhere among the aliases is no hindrance here */
        (void)fwrite(error.p, 1, error.n, stderr); /* lines */
        return EX_CONFIG;
    }
    if (!address_parse_with(&s->arena, str_of(s->text), ADDRESS_BARE | ADDRESS_UTF8, &addr))
        return cli_fail("resolve", EX_USAGE, "%s: that is not a mail address", s->text);
    if (addr.domain.n == 0 && !address_is_postmaster(&addr))
        addr.domain = str_of(s->conf->hostname);
    conf_set_current(conf_ref(s->conf));
    int code = s->sender ? resolve_sender(s, &addr) : resolve_recipient(s, &addr);
    conf_set_current(NULL);
    return code;
}

enum { OPT_SENDER = 256, OPT_STRANGER };

int cmd_resolve(int argc, char **argv)
{
    static const struct option options[] = { { "config", required_argument, NULL, 'c' }, { "json", no_argument, NULL, 'j' },
                                             { "no-dns", no_argument, NULL, 'n' },       { "sender", no_argument, NULL, OPT_SENDER },
                                             { "stranger", no_argument, NULL, OPT_STRANGER }, { "help", no_argument, NULL, 'h' }, { 0 } };
    struct resolve s = { .code = EX_OK };
    const char *given = NULL;

    for (int c; (c = getopt_long(argc, argv, "c:jnh", options, NULL)) != -1;) {
        switch (c) {
        case 'c': given = optarg; break;
        case 'j': s.json = true; break;
        case 'n': s.no_dns = true; break;
        case OPT_SENDER: s.sender = true; break;
        case OPT_STRANGER: s.stranger = true; break;
        case 'h': usage(stdout); return EX_OK;
        case '?': return cli_usage_error("resolve");
        }
    }
    if (optind + 1 != argc)
        return cli_usage_error("resolve");
    s.text = argv[optind];
    s.conf_path = cli_conf_path(given);
    arena_init(&s.arena, MEMORY_MAX);
    int code = resolve(&s);
    conf_unref(s.conf);
    arena_reset(&s.arena);
    return code;
}
