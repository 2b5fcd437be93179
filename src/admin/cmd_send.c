/*
 * nightmail send: one message by SMTP, the conversation shown as it happens.
 */
#include "admin/cli.h"
#include "admin/commands.h"
#include "admin/message.h"
#include "admin/talk.h"
#include "base/cleanup.h"
#include "mail/header.h"
#include "outbound/mx.h"
#include "run/dns.h"
#include "run/file.h"
#include "run/keeper.h"
#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#define RCPTS_MAX   1000
#define FILES_MAX   50
#define HEADERS_MAX 50
#define MESSAGE_MAX (1024u * 1024 * 1024)

enum send_tls { SEND_PLAIN, SEND_STARTTLS, SEND_TLS };

struct send {
    const char         *server, *from, *helo, *subject, *body, *body_file, *data_file, *ca_file, *dns_server, *auth_user, *password_file;
    const char         *to[RCPTS_MAX];
    size_t              to_count;
    const char         *headers[HEADERS_MAX + 1];
    size_t              header_count;
    const char         *attach[FILES_MAX];
    size_t              attach_count;
    const char         *zone_files[8];
    size_t              zone_count;
    uint64_t            port, chunk;
    bool                binary;
    int64_t             timeout_ns;
    enum send_tls       tls;
    bool                verify, auth_cleartext, json, quiet, colour;

    struct arena        arena;
    struct address      sender, rcpts[RCPTS_MAX];
    int                 codes[RCPTS_MAX];
    struct buf          file_bytes[FILES_MAX];
    struct buf          message;
    struct tls_context *context;
    bool                login_failed;
    json_t             *conversation;
    int                 exit_code;
};

static void usage(FILE *to)
{
    fputs("usage: nightmail send --to ADDRESS [OPTION]...\n\n"
          "Sends one message by SMTP and shows the conversation as it happens, with the time since its start.\n\n"
          "  -t, --to ADDRESS          a recipient; may be repeated\n"
          "  -f, --from ADDRESS        the sender (nobody@ our name); \"\" is the null sender\n"
          "  -s, --server HOST[:PORT]  where to; without it, the first recipient's MX is looked up\n"
          "  -p, --port N              25\n"
          "      --subject TEXT        UTF-8\n"
          "  -b, --body TEXT           the text; without it and without --body-file and --data a line is made up\n"
          "      --body-file FILE      - is standard input\n"
          "  -H, --header 'NAME: VALUE'  may be repeated\n"
          "  -a, --attach FILE         may be repeated\n"
          "      --data FILE           the whole message as it is; - is standard input\n"
          "      --chunk SIZE          by BDAT, in chunks of that size, instead of DATA\n"
          "      --binary              the bytes of --data as they are, by BDAT with BODY=BINARYMIME\n"
          "      --helo NAME           our name (this machine's)\n"
          "      --starttls            STARTTLS before the message\n"
          "      --tls                 TLS from the beginning\n"
          "      --verify              the certificate must be right, chain and name\n"
          "      --ca FILE             trusted certificates, for --verify\n"
          "      --auth-user LOGIN     log in first\n"
          "      --password-file FILE  with the password in the first line of this file\n"
          "      --auth-allow-cleartext  show the password without TLS too\n"
          "      --dns IP[@PORT]       the DNS server for MX (default: /etc/resolv.conf)\n"
          "      --zone-file ORIGIN=FILE  answer DNS from this file; may be repeated\n"
          "      --timeout TIME        for each reply (60s)\n"
          "  -j, --json                the whole conversation as one JSON object\n"
          "  -q, --quiet               show nothing but errors\n\n"
          "Exit: 0 accepted for all, 64 wrong use, 66 no such file, 67 a recipient was refused, 68 no such host, 69 the message\n"
          "was refused, 75 try again later (4xx, or no connection), 76 the conversation broke, 77 the login was refused\n", to);
}

/* -- showing -------------------------------------------------------------------------------------------------------------- */

static void show_line(void *arg, enum talk_side side, struct str line, int64_t elapsed_ns)
{
    static const char *const arrows[] = { "  ", "->", "<-" }, *const names[] = { "note", "client", "server" };
    static const char *const colours[] = { "\033[2m", "\033[36m", "\033[32m" };
    struct send *s = arg;
    double seconds = (double)(elapsed_ns / NS_PER_US) / 1e6;
    if (s->json) {
        json_t *text = json_stringn(line.p, line.n);
        if (text == NULL)
            text = json_string("(not UTF-8)");
        (void)json_array_append_new(s->conversation, json_pack("{s:f, s:s, s:o}", "seconds", seconds, "by", names[side], "line", text));
        return;
    }
    if (s->quiet)
        return;
    printf("%8.3f %s%s ", seconds, s->colour ? colours[side] : "", arrows[side]);
    cli_print_safe(stdout, line);
    printf("%s\n", s->colour ? "\033[0m" : "");
    (void)fflush(stdout);
}

/* -- the message ------------------------------------------------------------------------------------------------------------ */

static int read_input(const char *path, struct buf *out)
{
    if (strcmp(path, "-") != 0) {
        int r = file_read_whole(path, MESSAGE_MAX, out);
        return r < 0 ? cli_fail("send", EX_NOINPUT, "%s: %s", path, strerror(-r)) : EX_OK;
    }
    for (size_t n = 1; n > 0 && buf_ok(out);) {
        char *room = buf_room(out, 64 * 1024);
        n = room != NULL ? fread(room, 1, 64 * 1024, stdin) : 0;
        buf_added(out, n);
    }
    return buf_ok(out) ? EX_OK : cli_fail("send", EX_DATAERR, "the message is too large");
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

static int compose(struct send *s)
{
    struct message_file files[FILES_MAX];
    for (size_t i = 0; i < s->attach_count; i++) {
        buf_init(&s->file_bytes[i], MESSAGE_MAX);
        int code = read_input(s->attach[i], &s->file_bytes[i]);
        if (code != EX_OK)
            return code;
        files[i] = (struct message_file){ base_name(s->attach[i]), buf_str(&s->file_bytes[i]) };
    }
    CLEANUP_BUF struct buf text;
    buf_init(&text, MESSAGE_MAX);
    if (s->body_file != NULL) {
        int code = read_input(s->body_file, &text);
        if (code != EX_OK)
            return code;
    } else {
        buf_put_z(&text, s->body != NULL ? s->body : "This message was sent by nightmail send.");
        buf_put_char(&text, '\n');
    }
    struct address nobody = { .local = STR("nobody"), .domain = str_of(s->helo) };    /* the null sender's message has an author too */
    struct message_parts parts = {
        .from = s->from[0] != '\0' ? s->sender : nobody, .to = s->rcpts, .to_count = s->to_count, .subject = str_of(s->subject), .text = buf_str(&text),
        .headers = s->headers, .files = files, .file_count = s->attach_count, .host = s->helo,
    };
    if (!message_put(&s->message, &parts, clock_wall_ns()))
        return cli_fail("send", EX_USAGE, "a --header is not 'NAME: VALUE'");
    return buf_ok(&s->message) ? EX_OK : cli_fail("send", EX_OSERR, "the message is too large");
}

static int take_data(struct send *s)
{
    CLEANUP_BUF struct buf raw;
    buf_init(&raw, MESSAGE_MAX);
    int code = read_input(s->data_file, &raw);
    if (code == EX_OK && s->binary)
        buf_put_str(&s->message, buf_str(&raw));
    else if (code == EX_OK)
        message_put_crlf(&s->message, buf_str(&raw));
    return code;
}

static int prepare(struct send *s)
{
    char name[256] = "localhost";
    arena_init(&s->arena, 4 * 1024 * 1024);
    buf_init(&s->message, MESSAGE_MAX);
    if (s->helo == NULL) {
        (void)gethostname(name, sizeof(name) - 1);
        s->helo = str_z(&s->arena, str_of(name));
    }
    if (s->from == NULL) {
        struct str from = str_printf(&s->arena, "nobody@%s", s->helo);
        s->from = str_z(&s->arena, from);
    }
    if (s->from[0] != '\0' && !address_parse_with(&s->arena, str_of(s->from), ADDRESS_UTF8, &s->sender))
        return cli_fail("send", EX_USAGE, "'%s' is no address", s->from);
    for (size_t i = 0; i < s->to_count; i++)
        if (!address_parse_with(&s->arena, str_of(s->to[i]), ADDRESS_UTF8 | ADDRESS_BARE, &s->rcpts[i]))
            return cli_fail("send", EX_USAGE, "'%s' is no address", s->to[i]);
    if (s->server == NULL && s->rcpts[0].domain.n == 0)
        return cli_fail("send", EX_USAGE, "'%s' has no domain to find a server by: add --server, or the domain", s->to[0]);
    return s->data_file != NULL ? take_data(s) : compose(s);
}

/* -- where to -------------------------------------------------------------------------------------------------------------- */

static int start_dns(struct send *s)
{
    const char *forwarders[] = { s->dns_server, NULL };
    struct dns_options options = {
        .forwarders = s->dns_server != NULL ? forwarders : NULL,
        .zone_files = s->zone_count > 0 ? s->zone_files : NULL,
        .resolv_conf = s->dns_server == NULL && s->zone_count == 0 ? "/etc/resolv.conf" : NULL,
    };
    char error[256];
    int r = dns_start(&options, error);
    return r < 0 ? cli_fail("send", EX_OSERR, "DNS: %s", error) : EX_OK;
}

/* "host", "host:port", "ip", "[ip]:port" */
static void split_server(struct send *s, struct route *route)
{
    struct str host = str_of(s->server);
    uint64_t port;
    ssize_t colon = str_find_last(host, ':');
    route->kind = ROUTE_HOST;
    route->port = (uint16_t)s->port;
    if (colon > 0 && str_to_u64(str_from(host, (size_t)colon + 1), 65535, &port)) {
        route->port = (uint16_t)port;
        host = str_head(host, (size_t)colon);
    }
    route->host = host;
}

static int look_up(struct send *s, struct mx_list *out)
{
    struct route route = { .kind = ROUTE_MX };
    struct conf conf = { .hostname = s->helo, .smtp_port = (uint16_t)s->port };
    struct outcome failure;
    if (s->server != NULL)
        split_server(s, &route);
    else
        route.domain = s->rcpts[0].domain;
    int code = start_dns(s);
    if (code != EX_OK)
        return code;
    enum mx_status status = mx_lookup(&s->arena, &conf, &route, out, &failure);
    dns_stop();
    if (status == MX_FOUND)
        return EX_OK;
    return cli_fail("send", failure.state == RCPT_BOUNCED || s->server != NULL ? EX_NOHOST : EX_TEMPFAIL, "%" STR_FMT, STR_ARG(failure.text));
}

static int find_server(struct send *s, struct mx_list *out)
{
    struct net_addr addr;
    if (s->server == NULL || !net_addr_parse(str_of(s->server), (uint16_t)s->port, &addr))
        return look_up(s, out);
    out->items = arena_array(&s->arena, 1, sizeof(*out->items));
    if (out->items == NULL)
        return cli_fail("send", EX_OSERR, "out of memory");
    out->items[0] = (struct mx_address){ .addr = addr, .host = str_of(s->server) };
    out->count = 1;
    return EX_OK;
}

/* -- the conversation -------------------------------------------------------------------------------------------------------- */

/* Negative with the reason printed: EX_NOPERM. */
static int log_in(struct send *s, struct talk *t)
{
    char password[KEEPER_PASSWORD_MAX + 1] = "", error[256] = "";
    int r = keeper_credential(s->password_file, password);
    if (r < 0)
        snprintf(error, sizeof(error), "%s: %s", s->password_file, r == -EINVAL ? "no password in its first line" : strerror(-r));
    else
        r = talk_login(t, str_of(s->auth_user), str_of(password), s->auth_cleartext, error);
    explicit_bzero(password, sizeof(password));
    if (error[0] == '\0')
        return r;
    s->login_failed = true;
    (void)cli_fail("send", 0, "cannot log in: %s", error);
    return -EACCES;
}

static int connect_one(struct send *s, struct talk *t, const struct mx_address *at)
{
    const char *name = str_z(&s->arena, at->host);
    talk_init(t, s->timeout_ns, show_line, s);
    int r = s->tls == SEND_TLS ? talk_connect_tls(t, &at->addr, s->context, name) : talk_connect(t, &at->addr);
    if (r == 0 && t->reply.code == 220)
        r = talk_hello(t, s->helo);
    if (r == 0 && s->tls == SEND_STARTTLS && t->reply.code / 100 == 2) {
        r = talk_starttls(t, s->context, name);
        if (r == 0)
            r = talk_hello(t, s->helo);
    }
    return r == 0 && s->auth_user != NULL && t->reply.code / 100 == 2 ? log_in(s, t) : r;
}

static int code_for_reply(int code)
{
    return code / 100 == 2 ? EX_OK : code / 100 == 4 ? EX_TEMPFAIL : EX_UNAVAILABLE;
}

static int result_of(struct send *s, const struct talk *t, enum talk_stage stage)
{
    int code = code_for_reply(t->reply.code);
    if (stage != TALK_TEXT && code == EX_OK)
        code = EX_UNAVAILABLE;
    for (size_t i = 0; i < s->to_count && (stage == TALK_RCPT || code == EX_OK); i++)
        if (s->codes[i] / 100 != 2)
            return s->codes[i] / 100 == 4 ? EX_TEMPFAIL : EX_NOUSER;
    return code;
}

static int converse(struct send *s, const struct mx_list *list)
{
    struct talk t;
    struct talk_mail mail = {
        .sender = s->sender, .rcpts = s->rcpts, .rcpt_count = s->to_count, .message = buf_str(&s->message),
    };
    mail.binary = s->binary;
    mail.chunk = s->chunk > 0 ? (size_t)s->chunk : s->binary ? mail.message.n + 1 : 0;
    mail.utf8 = header_has_8bit(mail.message);
    for (size_t i = 0; i < mail.message.n && !mail.eightbit; i++)
        mail.eightbit = (unsigned char)mail.message.p[i] >= 0x80;
    int r = -EHOSTUNREACH;
    for (size_t i = 0; i < list->count; i++) {
        r = connect_one(s, &t, &list->items[i]);
        if (s->login_failed || (r == 0 && t.reply.code / 100 == 2))
            break;
        if (r < 0)
            (void)cli_fail("send", 0, "%s%s", r == -EPROTO ? "TLS: " : "", talk_error(&t, r));
        if (i + 1 < list->count)
            talk_close(&t);
    }
    /* analyze uninitvar: without an error there was a reply */
    int code = s->login_failed ? EX_NOPERM : r < 0 ? (r == -EPROTO || r == -EBADMSG || r == -EPROTONOSUPPORT ? EX_PROTOCOL : EX_TEMPFAIL) : code_for_reply(t.reply.code);
    if (code == EX_OK) {
        enum talk_stage stage;
        r = talk_mail(&t, &mail, s->codes, &stage);
        code = r < 0 ? cli_fail("send", EX_PROTOCOL, "%s", talk_error(&t, r)) : result_of(s, &t, stage);
    }
    if (s->quiet && r == 0 && code != EX_OK)
        (void)cli_fail("send", code, "the server said %s", talk_refusal(&t));
    if (r == 0 || s->login_failed)
        talk_quit(&t);
    talk_close(&t);
    return code;
}

static void send_task(void *arg)
{
    struct send *s = arg;
    struct mx_list list = { 0 };
    s->exit_code = find_server(s, &list);
    if (s->exit_code == EX_OK)
        s->exit_code = converse(s, &list);
}

/* -- the command ------------------------------------------------------------------------------------------------------------ */

static int make_context(struct send *s)
{
    if (s->tls == SEND_PLAIN)
        return EX_OK;
    char error[256];
    struct tls_client_options options = { .verify = s->verify, .ca_file = s->ca_file };
    return tls_client_new(&options, &s->context, error) < 0 ? cli_fail("send", EX_CONFIG, "TLS: %s", error) : EX_OK;
}

static bool append(const char **list, size_t *count, size_t max, const char *value)
{
    if (*count == max)
        return false;
    list[(*count)++] = value;
    return true;
}

enum {
    OPT_SUBJECT = 256, OPT_BODY_FILE, OPT_DATA, OPT_CHUNK, OPT_BINARY, OPT_HELO, OPT_STARTTLS, OPT_TLS, OPT_VERIFY,
    OPT_CA, OPT_USER, OPT_PASSWORD, OPT_CLEARTEXT, OPT_DNS, OPT_ZONE, OPT_TIMEOUT,
};

static bool set_option(struct send *s, int option, const char *value)
{
    switch (option) {
    case 't':           return append(s->to, &s->to_count, RCPTS_MAX, value);
    case 'f':           s->from = value; return true;
    case 's':           s->server = value; return true;
    case 'p':           return cli_number(value, 65535, &s->port) && s->port > 0;
    case 'b':           s->body = value; return true;
    case 'H':           return append(s->headers, &s->header_count, HEADERS_MAX, value);
    case 'a':           return append(s->attach, &s->attach_count, FILES_MAX, value);
    case 'j':           s->json = true; return true;
    case 'q':           s->quiet = true; return true;
    case OPT_SUBJECT:   s->subject = value; return true;
    case OPT_BODY_FILE: s->body_file = value; return true;
    case OPT_DATA:      s->data_file = value; return true;
    case OPT_CHUNK:     return cli_size(value, &s->chunk) && s->chunk > 0;
    case OPT_BINARY:    s->binary = true; return true;
    case OPT_HELO:      s->helo = value; return strlen(value) < 256;
    case OPT_STARTTLS:  s->tls = SEND_STARTTLS; return true;
    case OPT_TLS:       s->tls = SEND_TLS; return true;
    case OPT_VERIFY:    s->verify = true; return true;
    case OPT_CA:        s->ca_file = value; return true;
    case OPT_USER:      s->auth_user = value; return true;
    case OPT_PASSWORD:  s->password_file = value; return true;
    case OPT_CLEARTEXT: s->auth_cleartext = true; return true;
    case OPT_DNS:       s->dns_server = value; return true;
    case OPT_ZONE:      return append(s->zone_files, &s->zone_count, 7, value);
    case OPT_TIMEOUT:   return cli_duration(value, &s->timeout_ns);
    }
    return false;
}

static void print_json(struct send *s)
{
    json_t *codes = json_object();
    for (size_t i = 0; i < s->to_count; i++)
        (void)json_object_set_new(codes, s->to[i], json_integer(s->codes[i]));
    json_t *all = json_pack("{s:b, s:i, s:o, s:o}", "accepted", s->exit_code == EX_OK, "exit", s->exit_code, "recipients", codes,
                            "conversation", s->conversation);
    CLEANUP_FREE char *text = json_dumps(all, JSON_COMPACT | JSON_REAL_PRECISION(7));
    if (text != NULL)
        puts(text);
    json_decref(all);
}

static void release(struct send *s)
{
    tls_unref(s->context);
    buf_free(&s->message);
    for (size_t i = 0; i < s->attach_count; i++)
        buf_free(&s->file_bytes[i]);
    arena_reset(&s->arena);
    free(s);
}

static int run(struct send *s)
{
    int code = prepare(s);
    if (code == EX_OK)
        code = make_context(s);
    if (code != EX_OK)
        return code;
    if (s->json)
        s->conversation = json_array();
    code = cli_run_task("send", send_task, s);
    if (code == EX_OK && s->json)
        print_json(s);
    return code == EX_OK ? s->exit_code : code;
}

int cmd_send(int argc, char **argv)
{
    static const struct option options[] = {
        { "to", required_argument, NULL, 't' },            { "from", required_argument, NULL, 'f' },
        { "server", required_argument, NULL, 's' },        { "port", required_argument, NULL, 'p' },
        { "subject", required_argument, NULL, OPT_SUBJECT }, { "body", required_argument, NULL, 'b' },
        { "body-file", required_argument, NULL, OPT_BODY_FILE }, { "header", required_argument, NULL, 'H' },
        { "attach", required_argument, NULL, 'a' },        { "data", required_argument, NULL, OPT_DATA },
        { "chunk", required_argument, NULL, OPT_CHUNK },   { "binary", no_argument, NULL, OPT_BINARY },
        { "helo", required_argument, NULL, OPT_HELO },     { "starttls", no_argument, NULL, OPT_STARTTLS },
        { "tls", no_argument, NULL, OPT_TLS },             { "verify", no_argument, NULL, OPT_VERIFY },
        { "ca", required_argument, NULL, OPT_CA },         { "dns", required_argument, NULL, OPT_DNS },
        { "auth-user", required_argument, NULL, OPT_USER }, { "password-file", required_argument, NULL, OPT_PASSWORD },
        { "auth-allow-cleartext", no_argument, NULL, OPT_CLEARTEXT },
        { "zone-file", required_argument, NULL, OPT_ZONE }, { "timeout", required_argument, NULL, OPT_TIMEOUT },
        { "json", no_argument, NULL, 'j' },                { "quiet", no_argument, NULL, 'q' },
        { "help", no_argument, NULL, 'h' },                { 0 },
    };
    struct send *s = calloc(1, sizeof(*s));
    if (s == NULL)
        return EX_OSERR;
    *s = (struct send){ .subject = "a test by nightmail send", .port = 25, .timeout_ns = 60 * NS_PER_S, .colour = cli_colour(stdout) };
    int code = -1;
    for (int c; code < 0 && (c = getopt_long(argc, argv, "t:f:s:p:b:H:a:jqh", options, NULL)) != -1;) {
        if (c == 'h') {
            usage(stdout);
            code = EX_OK;
        } else if (c == '?') {
            code = cli_usage_error("send");
        } else if (!set_option(s, c, optarg)) {
            code = cli_fail("send", EX_USAGE, "bad value '%s'", optarg);
        }
    }
    if (code < 0 && (s->auth_user == NULL) != (s->password_file == NULL))
        code = cli_fail("send", EX_USAGE, "--auth-user and --password-file need each other");
    if (code < 0)
        code = optind != argc || s->to_count == 0 ? cli_usage_error("send") : run(s);
    release(s);
    return code;
}
