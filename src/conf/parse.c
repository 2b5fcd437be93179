/*
 * The configuration file and what it names, read into a snapshot.
 *
 * The text goes through our own first look (conf/scan.h), then through libconfuse, whose strings go through the table of
 * options; then the user lists are read and the whole is checked. Files are read by stdio here and nowhere else in conf/.
 * Runs in the supervisor (and in `nightmail config`): BLOCKS.
 */
#include "base/cleanup.h"
#include "base/url.h"
#include "conf/alias.h"
#include "conf/conf.h"
#include "conf/option.h"
#include "conf/scan.h"
#include "mail/address.h"
#include "mail/domain.h"
#include <confuse.h>
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define INCLUDE_DEPTH_MAX 10
#define BLOCKS_MAX        8                 /* kinds of them */
#define TEXT_MAX          (16u << 20)        /* of one configuration file */
#define LIST_MAX          (64u << 20)        /* of one user list: some two million lines */
#define ARENA_MAX         (512u << 20)
#define OPTIONS_MAX       128
#define SCOPE_MAX         255               /* characters: it must fit a challenge */

struct loader {
    struct conf *c;
    struct scan  scan;
    struct buf  *error;
    cfg_t       *cfg;
};

/* libconfuse's error callback gets no argument of ours. */
static _Thread_local struct loader *reporting;
static _Thread_local const char    *reporting_file;

/* -- text ------------------------------------------------------------------------------------------------------------ */

static int read_stdio(FILE *f, size_t max, struct buf *out)
{
    for (;;) {
        char *room = buf_room(out, 65536);
        if (room == NULL)
            return out->n + 65536 > max ? -EFBIG : -ENOMEM;
        size_t n = fread(room, 1, 65536, f);
        buf_added(out, n);
        if (n == 0)
            return ferror(f) ? -EIO : 0;
    }
}

static int read_text(const char *path, size_t max, struct buf *out)
{
    FILE *f = fopen(path, "re");
    if (f == NULL)
        return -errno;
    buf_init(out, max + 65536);
    errno = 0;
    int r = read_stdio(f, max, out);
    if (r == -EIO && errno != 0)
        r = -errno;      /* EISDIR says more */
    (void)fclose(f);     /* was only read */
    if (r < 0)
        buf_free(out);
    return r;
}

/* -- libconfuse ------------------------------------------------------------------------------------------------------ */

__attribute__((format(printf, 2, 0))) static void on_confuse_error(cfg_t *cfg, const char *format, va_list args)
{
    char text[512];

    vsnprintf(text, sizeof text, format, args);
    scan_error(reporting->error, (struct place){ reporting_file, (unsigned)cfg->line }, "%s", text);
}

/* All our values are strings for libconfuse; the table of options reads them. */
static void build_schema(cfg_opt_t schema[OPTIONS_MAX], cfg_opt_t inside[BLOCKS_MAX][SCAN_BLOCK_OPTIONS_MAX])
{
    size_t n = 0;
    cfg_opt_t end = CFG_END();

    _Static_assert(sizeof(cfg_opt_t) < 1024, "fits the stack");
    for (size_t i = 0; i < option_count; i++) {
        cfg_opt_t one = CFG_STR(options[i].name, NULL, CFGF_NODEFAULT);
        cfg_opt_t many = CFG_STR_LIST(options[i].name, NULL, CFGF_NODEFAULT);
        schema[n++] = option_is_list(&options[i]) ? many : one;
    }
    for (size_t i = 0; i < scan_block_count; i++) {
        size_t m = 0;
        for (; scan_blocks[i].options[m] != NULL; m++) {
            cfg_opt_t one = CFG_STR(scan_blocks[i].options[m], NULL, CFGF_NODEFAULT);
            inside[i][m] = one;
        }
        inside[i][m] = end;
        cfg_opt_t block = CFG_SEC(scan_blocks[i].name, inside[i], CFGF_MULTI | CFGF_TITLE);
        schema[n++] = block;
    }
    schema[n++] = end;
}

static int load_file(struct loader *l, const char *path, unsigned depth, struct place from);

static int load_included(struct loader *l, struct scan_item *first, unsigned depth)
{
    for (struct scan_item *i = first; i != NULL; i = i->next) {
        if (i->type != SCAN_INCLUDE || i->text.n == 0)
            continue;
        const char *path = option_path(l->c, i->text);
        if (path == NULL)
            return -ENOMEM;
        i->text.n = 0;       /* done: the walk of an outer file passes it again */
        int r = load_file(l, path, depth + 1, i->place);
        if (r < 0)
            return r;
    }
    return 0;
}

static int parse_text(struct loader *l, const char *path, struct buf *text, unsigned depth)
{
    struct scan_item **mark = l->scan.end;

    if (!scan_text(&l->scan, path, text->p, text->n))
        return -EINVAL;
    buf_put_char(text, '\n');        /* libconfuse 3.3 misses a comment's end at the end of the file */
    buf_put_char(text, '\0');
    if (!buf_ok(text))
        return -ENOMEM;
    reporting_file = path;
    if (cfg_parse_buf(l->cfg, text->p) != CFG_SUCCESS)
        return -EINVAL;
    return load_included(l, *mark, depth);
}

static int load_file(struct loader *l, const char *path, unsigned depth, struct place from)
{
    CLEANUP_BUF struct buf text = { .p = NULL };

    if (depth > INCLUDE_DEPTH_MAX) {
        scan_error(l->error, from, "includes are more than %d deep: does a file include itself?", INCLUDE_DEPTH_MAX);
        return -EINVAL;
    }
    int r = read_text(path, TEXT_MAX, &text);
    if (r < 0) {
        scan_error(l->error, from, "cannot read %s: %s", path, strerror(-r));
        return r;
    }
    return parse_text(l, path, &text, depth);
}

/* -- values ---------------------------------------------------------------------------------------------------------- */

static const struct scan_item *find_item(const struct loader *l, int type, const char *name, struct str block)
{
    for (const struct scan_item *i = l->scan.first; i != NULL; i = i->next)
        if ((int)i->type == type && str_eq(i->text, str_of(name)) && str_eq(i->block, block))
            return i;
    return NULL;
}

static struct place place_of(const struct loader *l, const char *option)
{
    const struct scan_item *i = find_item(l, SCAN_OPTION, option, STR(""));
    return i == NULL ? (struct place){ l->c->path, 0 } : i->place;
}

static struct place place_of_value(const struct loader *l, const char *option, size_t index)
{
    const struct scan_item *i = find_item(l, SCAN_OPTION, option, STR(""));

    for (const struct scan_item *v = i; v != NULL && v->next != NULL && v->next->type == SCAN_VALUE; v = v->next)
        if (index-- == 0)
            return v->next->place;
    return i == NULL ? (struct place){ l->c->path, 0 } : i->place;
}

static size_t count_values(const struct loader *l, const char *option)
{
    const struct scan_item *i = find_item(l, SCAN_OPTION, option, STR(""));
    size_t count = 0;

    while (i != NULL && i->next != NULL && i->next->type == SCAN_VALUE) {
        i = i->next;
        count++;
    }
    return count;
}

static int set_given(struct loader *l, const struct option *o, cfg_opt_t *opt)
{
    size_t count = cfg_opt_size(opt), bad;
    char why_text[256];
    struct buf why;
    struct str *values = arena_array(&l->c->arena, count + 1, sizeof *values);

    if (values == NULL)
        return -ENOMEM;
    if (count != count_values(l, o->name)) {     /* our first look and libconfuse do not agree: neither is believed */
        scan_error(l->error, place_of(l, o->name), "%s can be read in two ways: put its values in quotes", o->name);
        return -EINVAL;
    }
    for (size_t i = 0; i < count; i++)
        values[i] = str_of(cfg_opt_getnstr(opt, (unsigned)i));
    buf_init_fixed(&why, why_text, sizeof why_text);
    if (option_set(l->c, o, values, count, &why, &bad))
        return 0;
    if (count == 0)
        scan_error(l->error, place_of(l, o->name), "%s %" STR_FMT, o->name, STR_ARG(buf_str(&why)));
    else
        scan_error(l->error, place_of_value(l, o->name, bad), "%s: \"%" STR_FMT "\" %" STR_FMT, o->name, STR_ARG(values[bad]),
                   STR_ARG(buf_str(&why)));
    return -EINVAL;
}

/* All of them, so that one look shows all that is wrong. */
static int set_options(struct loader *l)
{
    char why_text[256];
    struct buf why;
    int result = 0;

    for (size_t i = 0; i < option_count; i++) {
        const struct option *o = &options[i];
        l->c->given[i] = find_item(l, SCAN_OPTION, o->name, STR("")) != NULL;
        if (l->c->given[i]) {
            int r = set_given(l, o, cfg_getopt(l->cfg, o->name));
            result = r < 0 ? r : result;
            continue;
        }
        buf_init_fixed(&why, why_text, sizeof why_text);
        if (o->fallback != NULL && !option_set_fallback(l->c, o, &why))
            return -ENOMEM;      /* our own defaults are right */
    }
    return result;
}

/* "ip:port" as run/net.h will read it. */
static bool address_is_listenable(struct str address)
{
    struct str ip = address, rest;
    struct ip_range range;
    uint64_t port;
    size_t colon = address.n;

    while (colon > 0 && address.p[colon - 1] != ':')
        colon--;
    if (colon == 0 || !str_to_u64(str_from(address, colon), 65535, &port))
        return false;
    ip = str_head(address, colon - 1);
    bool bracketed = ip.n >= 2 && ip.p[0] == '[' && ip.p[ip.n - 1] == ']';
    if (bracketed)
        ip = str_from(str_head(ip, ip.n - 1), 1);
    if (str_cut(ip, '/', &ip, &rest) || !ip_range_parse(ip, &range))
        return false;
    return bracketed == (range.len == 16);
}

/* A value in a block, and where it stands; NULL if it is not given. */
static const char *block_value(struct loader *l, const char *kind, cfg_t *block, const char *option, struct place *out_place)
{
    struct str inside = str_printf(&l->c->arena, "%s %s", kind, cfg_title(block));
    const struct scan_item *i = find_item(l, SCAN_OPTION, option, inside);

    *out_place = i != NULL ? i->place : find_item(l, SCAN_BLOCK, cfg_title(block), str_of(kind))->place;
    return i == NULL ? NULL : cfg_getstr(block, option);
}

static bool set_listener_path(struct loader *l, struct str path, struct place at, struct conf_listener *out)
{
    out->path = option_path(l->c, path);
    if (out->path == NULL)
        return scan_error(l->error, at, "no memory");
    if (path.n == 0 || strlen(out->path) > CONF_SOCKET_PATH_MAX)
        return scan_error(l->error, at, "address: \"unix:%s\" has no path that a socket can have: 1 to %d characters", out->path,
                          CONF_SOCKET_PATH_MAX);
    out->address = str_printf(&l->c->arena, "unix:%s", out->path);
    return true;
}

static bool set_listener_address(struct loader *l, cfg_t *block, struct conf_listener *out)
{
    struct place at;
    const char *address = block_value(l, "listen", block, "address", &at);

    if (address == NULL)
        return scan_error(l->error, at, "listen \"%s\" needs an address", cfg_title(block));
    if (str_starts(str_of(address), STR("unix:")))
        return set_listener_path(l, str_from(str_of(address), 5), at, out);
    if (!address_is_listenable(str_of(address)))
        return scan_error(l->error, at, "address: \"%s\" is not an IP address with a port, like \"192.0.2.1:25\" or \"[::]:25\"", address);
    out->address = str_copy(&l->c->arena, str_of(address));
    return true;
}

static bool set_listener_tls(struct loader *l, cfg_t *block, struct conf_listener *out)
{
    struct place at;
    const char *word = block_value(l, "listen", block, "tls", &at);
    unsigned value;

    if (word == NULL) {
        out->tls = l->c->certificate_count > 0 && out->path == NULL ? CONF_TLS_STARTTLS : CONF_TLS_NONE;
        return true;
    }
    if (!option_word(CONF_TLS_WORDS, str_of(word), &value))
        return scan_error(l->error, at, "tls: \"%s\" is none of " CONF_TLS_WORDS, word);
    out->tls = (enum conf_tls)value;
    if (out->tls != CONF_TLS_NONE && l->c->certificate_count == 0)
        return scan_error(l->error, at, "tls: %s needs a tls_certificate", word);
    if (out->tls != CONF_TLS_NONE && out->path != NULL)
        return scan_error(l->error, at, "tls: a Unix socket has none");
    return true;
}

static bool set_listener_bool(struct loader *l, cfg_t *block, const char *option, bool *out)
{
    struct place at;
    const char *word = block_value(l, "listen", block, option, &at);

    return word == NULL || option_bool(str_of(word), out) || scan_error(l->error, at, "%s: \"%s\" is neither yes nor no", option, word);
}

/* "DSN CHUNKING": words in one string, as all values in blocks are one. */
static bool set_extensions_off(struct loader *l, const char *kind, cfg_t *block, uint32_t *out)
{
    struct place at;
    const char *words = block_value(l, kind, block, "extensions_off", &at);
    struct str word, rest = str_of(words);
    uint32_t off = 0;
    unsigned value;

    while ((rest = str_trim(rest)).n > 0) {
        str_cut(rest, ' ', &word, &rest);
        if (!option_word(CONF_EXTENSION_WORDS, word, &value))
            return scan_error(l->error, at, "extensions_off: \"%" STR_FMT "\" is none of " CONF_EXTENSION_WORDS, STR_ARG(word));
        off |= UINT32_C(1) << value;
    }
    *out = off;
    return true;
}

static int set_client_network(struct loader *l, cfg_t *block, struct conf_client_network *out)
{
    struct place at;
    const char *network = block_value(l, "client_network", block, "network", &at);

    if (network == NULL || !ip_range_parse(str_of(network), &out->network)) {
        scan_error(l->error, at, "client_network \"%s\" needs a network: 192.0.2.0/24, 2001:db8::/32, with zeros behind the prefix", cfg_title(block));
        return -EINVAL;
    }
    if (!set_extensions_off(l, "client_network", block, &out->extensions_off))
        return -EINVAL;
    out->name = str_copy(&l->c->arena, str_of(cfg_title(block)));
    return out->name.p == NULL ? -ENOMEM : 0;
}

static int set_client_networks(struct loader *l)
{
    size_t count = cfg_size(l->cfg, "client_network");

    l->c->client_networks = arena_array(&l->c->arena, count + 1, sizeof *l->c->client_networks);
    if (l->c->client_networks == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < count; i++) {
        int r = set_client_network(l, cfg_getnsec(l->cfg, "client_network", (unsigned)i), &l->c->client_networks[i]);
        if (r < 0)
            return r;
        l->c->client_network_count++;
    }
    return 0;
}

static bool set_listener_terms(struct loader *l, cfg_t *block, struct conf_listener *out)
{
    struct conf_terms *t = &out->terms;
    struct place at;
    const char *word = block_value(l, "listen", block, "service", &at);
    unsigned value = CONF_SERVICE_SMTP;

    if (word != NULL && !option_word(CONF_SERVICE_WORDS, str_of(word), &value))
        return scan_error(l->error, at, "service: \"%s\" is none of " CONF_SERVICE_WORDS, word);
    t->service = (enum conf_service)value;
    if (!set_listener_bool(l, block, "auth_allow_cleartext", &t->auth_allow_cleartext) ||
        !set_listener_bool(l, block, "hide_client", &t->hide_client) || !set_listener_bool(l, block, "proxy_protocol", &t->proxy_protocol) ||
        !set_extensions_off(l, "listen", block, &t->extensions_off))
        return false;
    if (out->path != NULL && t->service != CONF_SERVICE_LMTP)
        return scan_error(l->error, at,
                          "service: only LMTP comes by a Unix socket of one's own; programs here hand over mail by the submit_socket");
    if (t->service == CONF_SERVICE_LMTP && str_ends_nocase(out->address, STR(":25")))
        return scan_error(l->error, at, "service: LMTP must not be spoken at port 25 (RFC 2033, 5)");
    if (t->proxy_protocol && l->c->proxy_network_count == 0)
        return scan_error(l->error, at, "proxy_protocol: needs proxy_networks: which proxies may say who their clients are?");
    if (t->proxy_protocol && out->path != NULL)
        return scan_error(l->error, at, "proxy_protocol: a Unix socket has none");
    if (t->service != CONF_SERVICE_SUBMISSION)
        return true;
    if (!l->c->has_accounts && !l->c->has_oauth)
        return scan_error(l->error, at, "service: submission needs an accounts_file, accounts in a database, or an oauth_introspection_url: who may log in?");
    if (out->tls == CONF_TLS_NONE && !t->auth_allow_cleartext)
        return scan_error(l->error, at, "service: submission needs a tls_certificate, or auth_allow_cleartext = yes: passwords are taken under TLS only");
    return true;
}

static int set_listener(struct loader *l, cfg_t *block, struct conf_listener *out)
{
    if (!set_listener_address(l, block, out) || !set_listener_tls(l, block, out) || !set_listener_terms(l, block, out))
        return -EINVAL;
    out->name = str_copy(&l->c->arena, str_of(cfg_title(block)));
    return arena_failed(&l->c->arena) ? -ENOMEM : 0;
}

static int set_certificate(struct loader *l, cfg_t *block, struct conf_certificate *out)
{
    static const char *const names[] = { "certificate", "key" };
    const char *paths[2];

    for (size_t i = 0; i < 2; i++) {
        struct place at;
        const char *path = block_value(l, "tls_certificate", block, names[i], &at);
        if (path == NULL || path[0] == '\0') {
            scan_error(l->error, at, "tls_certificate \"%s\" needs a %s: the path of a file", cfg_title(block), names[i]);
            return -EINVAL;
        }
        paths[i] = option_path(l->c, str_of(path));
    }
    out->name = str_z(&l->c->arena, str_of(cfg_title(block)));
    out->certificate_file = paths[0];
    out->key_file = paths[1];
    return arena_failed(&l->c->arena) ? -ENOMEM : 0;
}

static int set_certificates(struct loader *l)
{
    size_t count = cfg_size(l->cfg, "tls_certificate");

    l->c->certificates = arena_array(&l->c->arena, count + 1, sizeof *l->c->certificates);
    if (l->c->certificates == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < count; i++) {
        int r = set_certificate(l, cfg_getnsec(l->cfg, "tls_certificate", (unsigned)i), &l->c->certificates[i]);
        if (r < 0)
            return r;
        l->c->certificate_count++;
    }
    return 0;
}

static int set_listeners(struct loader *l)
{
    size_t count = cfg_size(l->cfg, "listen");

    l->c->listeners = arena_array(&l->c->arena, count + 1, sizeof *l->c->listeners);
    if (l->c->listeners == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < count; i++) {
        int r = set_listener(l, cfg_getnsec(l->cfg, "listen", (unsigned)i), &l->c->listeners[i]);
        if (r < 0)
            return r;
        l->c->listener_count++;
    }
    return 0;
}

static bool was_given(const struct conf *c, const char *option)
{
    return c->given[option_find(str_of(option)) - options];
}

/* 0: none is said. */
static uint64_t relay_host_port(const struct conf *c)
{
    struct str whole = str_of(c->relay_host);
    ssize_t colon = str_find_last(whole, ':');
    uint64_t port = 0;

    return colon >= 0 && str_to_u64(str_from(whole, (size_t)colon + 1), 65535, &port) ? port : 0;
}

/* Defaults that hang on other values. */
static int set_derived(struct loader *l)
{
    struct conf *c = l->c;
    struct arena *a = &c->arena;

    if (c->control_socket == NULL)
        c->control_socket = str_printf(a, "%s/control", c->data_dir).p;
    if (c->submit_socket == NULL)
        c->submit_socket = str_printf(a, "%s/submit", c->data_dir).p;
    if (c->mailbox == NULL)
        c->mailbox = str_printf(a, "%s/mail/{domain}/{user}", c->data_dir).p;
    /* A password is for the relay host and for nobody who says that he is it. */
    bool secret = c->relay_host_user[0] != '\0' && !c->relay_host_auth_allow_cleartext;
    if (!was_given(c, "relay_host_tls"))
        c->relay_host_tls = secret ? CONF_CLIENT_TLS_VERIFY : c->outbound_tls;
    if (!was_given(c, "relay_host_tls_implicit"))
        c->relay_host_tls_implicit = relay_host_port(c) == 465;   /* RFC 8314, 3.3: submissions */
    if (c->resolv_conf == NULL)
        c->resolv_conf = c->dns_forwarders[0] == NULL && c->dns_zone_files[0] == NULL ? "/etc/resolv.conf" : "";
    return arena_failed(a) ? -ENOMEM : 0;
}

/* -- user lists -------------------------------------------------------------------------------------------------------- */

/* What an operator may call a user: local parts that could be read as a route are refused, as they are at RCPT. */
static bool usable_local(struct str local)
{
    for (size_t i = 0; i < local.n; i++)
        if (strchr("@%!", local.p[i]) != NULL)
            return false;
    return local.n > 0;
}

static const char *add_user(struct conf *c, struct str line)
{
    struct address addr;

    if (!address_parse_with(&c->arena, line, ADDRESS_BARE | ADDRESS_UTF8, &addr) || !usable_local(addr.local))
        return "is neither \"user\" nor \"user@domain\"";
    if (addr.domain.n > 0 && map_str_get(&c->local_domains, addr.domain) == NULL)
        return "is in a domain that is not among local_domains";
    struct str key = conf_key(&c->arena, addr.local, addr.domain);
    return key.p == NULL || map_str_put(&c->users, key, c) < 0 ? "no memory" : NULL;
}

static const char *add_relay_recipient(struct conf *c, struct str line)
{
    struct address addr = { .local = STR("") };

    if (line.p[0] == '@') {
        if (!domain_to_ascii(&c->arena, str_from(line, 1), &addr.domain))
            return "is neither \"user@domain\" nor \"@domain\"";
    } else if (!address_parse_with(&c->arena, line, ADDRESS_UTF8, &addr)) {
        return "is neither \"user@domain\" nor \"@domain\"";
    }
    if (map_str_get(&c->relay_domains, addr.domain) == NULL)
        return "is in a domain that is not among relay_domains";
    struct str key = conf_key(&c->arena, addr.local, addr.domain);
    return key.p == NULL || map_str_put(&c->relay_recipients, key, c) < 0 ? "no memory" : NULL;
}

/* An address or an @domain as a key. .p NULL: it is neither, or there is no memory. */
static struct str sender_key(struct conf *c, struct str text)
{
    struct address addr = { .local = STR("") };
    bool ok = text.p[0] == '@' ? domain_to_ascii(&c->arena, str_from(text, 1), &addr.domain) : address_parse_with(&c->arena, text, ADDRESS_UTF8, &addr);

    return ok ? str_printf(&c->arena, "%" STR_FMT "@%" STR_FMT, STR_ARG(str_lower(&c->arena, addr.local)), STR_ARG(addr.domain)) : (struct str){ NULL, 0 };
}

/* Up to the next blank; *rest is trimmed. */
static struct str take_word(struct str *rest)
{
    size_t n = 0;

    while (n < rest->n && rest->p[n] != ' ' && rest->p[n] != '\t')
        n++;
    struct str word = str_head(*rest, n);
    *rest = str_trim(str_from(*rest, n));
    return word;
}

static const char *add_sender_logins(struct conf *c, struct str line)
{
    struct conf_owners *owners = arena_alloc(&c->arena, sizeof *owners);
    struct str rest = line, key = sender_key(c, take_word(&rest));

    if (key.p == NULL)
        return "is neither \"user@domain login ...\" nor \"@domain login ...\"";
    if (rest.n == 0)
        return "names no login";
    if (map_str_get(&c->sender_logins, key) != NULL)
        return "names an address that stands here already";
    struct str *logins = arena_array(&c->arena, rest.n / 2 + 1, sizeof *logins);
    if (owners == NULL || logins == NULL)
        return "no memory";
    while (rest.n > 0)
        logins[owners->count++] = str_copy(&c->arena, take_word(&rest));
    owners->logins = logins;
    return arena_failed(&c->arena) || map_str_put(&c->sender_logins, key, owners) < 0 ? "no memory" : NULL;
}

/* A list: one entry a line, # begins a comment. */
static int load_list(struct loader *l, const char *option, const char *path, const char *(*each)(struct conf *c, struct str line))
{
    CLEANUP_BUF struct buf text = { .p = NULL };

    int r = read_text(path, LIST_MAX, &text);
    if (r < 0) {
        scan_error(l->error, place_of(l, option), "%s: cannot read %s: %s", option, path, strerror(-r));
        return r;
    }
    struct str rest = buf_str(&text), line, comment;
    for (unsigned number = 1; rest.n > 0; number++) {
        str_cut(rest, '\n', &line, &rest);
        str_cut(line, '#', &line, &comment);
        if (line.n > 0 && line.p[line.n - 1] == '\r')
            line.n--;
        line = str_trim(line);
        const char *why = line.n == 0 ? NULL : each(l->c, line);
        if (why != NULL) {
            scan_error(l->error, (struct place){ path, number }, "\"%" STR_FMT "\" %s", STR_ARG(line), why);
            return -EINVAL;
        }
    }
    return 0;
}

static int load_aliases(struct loader *l)
{
    struct conf *c = l->c;
    struct alias_loader loader = { .c = c, .error = l->error, .read = read_text };
    int r = 0;

    for (size_t i = 0; r == 0 && c->aliases_files[i] != NULL; i++)
        r = alias_load_file(&loader, c->aliases_files[i], place_of_value(l, "aliases_files", i));
    if (r == 0 && c->recipient_rewrites_file[0] != '\0')
        r = alias_load_rewrites(&loader, &c->recipient_rewrites, c->recipient_rewrites_file, place_of(l, "recipient_rewrites_file"));
    if (r == 0 && c->sender_rewrites_file[0] != '\0')
        r = alias_load_rewrites(&loader, &c->sender_rewrites, c->sender_rewrites_file, place_of(l, "sender_rewrites_file"));
    return r;
}

static int load_lists(struct loader *l)
{
    struct conf *c = l->c;
    int r = 0;

    c->have_users_file = c->users_file[0] != '\0';
    if (c->have_users_file)
        r = load_list(l, "users_file", c->users_file, add_user);
    if (r == 0 && c->relay_recipients_file[0] != '\0')
        r = load_list(l, "relay_recipients_file", c->relay_recipients_file, add_relay_recipient);
    if (r == 0 && c->sender_logins_file[0] != '\0')
        r = load_list(l, "sender_logins_file", c->sender_logins_file, add_sender_logins);
    if (r == 0)
        r = load_aliases(l);
    return r;
}

/* -- the whole ------------------------------------------------------------------------------------------------------- */

/* A domain is served in one way. */
static bool check_apart(struct loader *l, const char *option, const struct map_str *domains, const char *other, const struct map_str *others,
                        const char *question)
{
    size_t cursor = 0;
    struct str domain;
    void *value;

    while (map_str_next(domains, &cursor, &domain, &value))
        if (map_str_get(others, domain) != NULL)
            return scan_error(l->error, place_of(l, option), "\"%" STR_FMT "\" is in %s too: %s", STR_ARG(domain), other, question);
    return true;
}

static bool check_domains(struct loader *l)
{
    struct conf *c = l->c;

    return check_apart(l, "relay_domains", &c->relay_domains, "local_domains", &c->local_domains, "is its mail kept here or passed on?") &&
           check_apart(l, "virtual_domains", &c->virtual_domains, "local_domains", &c->local_domains, "has it mailboxes or only aliases?") &&
           check_apart(l, "virtual_domains", &c->virtual_domains, "relay_domains", &c->relay_domains, "has it only aliases or is it passed on?");
}

/* Each must be one that a local part may hold, and that is no route and no letter of names. */
static bool check_delimiter(struct loader *l)
{
    const char *d = l->c->recipient_delimiter;

    if (d[strspn(d, "+-_=#~^*$&/?|")] == '\0')
        return true;
    return scan_error(l->error, place_of(l, "recipient_delimiter"), "recipient_delimiter: \"%s\" is not made of + - _ = # ~ ^ * $ & / ? |", d);
}

/* Its mail is taken whatever the list says (RFC 5321, 4.5.1). */
static bool has_postmaster(struct conf *c, struct str domain)
{
    struct str name = STR("postmaster"), full = str_printf(&c->arena, "postmaster@%" STR_FMT, STR_ARG(domain));

    return c->postmaster[0] != '\0' || map_str_get(&c->users, name) != NULL || map_str_get(&c->users, full) != NULL ||
           map_str_get(&c->aliases, name) != NULL || map_str_get(&c->aliases, full) != NULL;
}

/* Whether a mailbox exists is the LMTP server's knowledge: what we take for others than its users becomes bounces, to forged senders
 * mostly. */
static bool check_lmtp(struct loader *l, struct str domain, const struct conf_delivery *d)
{
    struct conf *c = l->c;
    const char *option = d == &c->local_delivery ? "local_delivery" : "local_delivery_by_domain";

    if (d->kind == CONF_DELIVERY_MAILDIR)
        return true;
    if (!c->have_users_file)
        return scan_error(l->error, place_of(l, option), "%s: LMTP needs users_file: whom may we take mail for?", option);
    if (domain.n > 0 && !has_postmaster(c, domain))
        return scan_error(l->error, place_of(l, option),
                          "%s: mail for postmaster@%" STR_FMT " is always taken, and LMTP needs to know for whom: set postmaster, "
                          "or name him in users_file", option, STR_ARG(domain));
    return true;
}

static bool check_delivery(struct loader *l)
{
    struct conf *c = l->c;
    size_t cursor = 0;
    struct str domain;
    void *value;

    while (map_str_next(&c->local_delivery_by_domain, &cursor, &domain, &value))
        if (map_str_get(&c->local_domains, domain) == NULL)
            return scan_error(l->error, place_of(l, "local_delivery_by_domain"),
                              "local_delivery_by_domain: \"%" STR_FMT "\" is not among local_domains", STR_ARG(domain));
    for (cursor = 0; map_str_next(&c->local_domains, &cursor, &domain, &value);)
        if (!check_lmtp(l, domain, delivery_of(c, domain)))
            return false;
    return check_lmtp(l, STR(""), &c->local_delivery);
}

static bool check_mailbox(struct loader *l)
{
    const char *m = l->c->mailbox;

    if (strstr(m, "{user}") == NULL)
        return scan_error(l->error, place_of(l, "mailbox"), "mailbox: all users would share \"%s\": it needs {user}", m);
    if (l->c->local_domains.used > 1 && !l->c->have_users_file && strstr(m, "{domain}") == NULL)
        return scan_error(l->error, place_of(l, "mailbox"), "mailbox: with several local_domains and no users_file, \"%s\" needs {domain}", m);
    return true;
}

static bool check_postmaster(struct loader *l)
{
    struct conf *c = l->c;
    struct place at = place_of(l, "postmaster");
    struct conf_alias *entry = arena_alloc(&c->arena, sizeof *entry);
    struct conf_target *target = arena_alloc(&c->arena, sizeof *target);

    if (c->postmaster[0] == '\0')
        return true;
    if (entry == NULL || target == NULL)
        return scan_error(l->error, at, "no memory");
    *target = (struct conf_target){ .file = at.file, .line = at.line };
    if (!address_parse(&c->arena, str_of(c->postmaster), &target->addr))
        return scan_error(l->error, at, "postmaster: \"%s\" is not a mail address", c->postmaster);
    *entry = (struct conf_alias){ .key = STR("postmaster"), .targets = target, .target_count = 1, .file = at.file, .line = at.line };
    c->postmaster_alias = entry;
    return true;
}

static bool is_ip(struct str text)
{
    struct ip_range range;
    return ip_range_parse(text, &range) && range.bits == range.len * 8 && str_find(text, '/') < 0;
}

/* "host", "host:port", "[ip]", "[ip]:port", as policy/route.c takes it apart. An address without brackets would be looked up as a name. */
static bool check_relay_host(struct loader *l)
{
    struct str whole = str_of(l->c->relay_host), host = whole, port = STR(""), ip, domain;
    uint64_t number;
    bool colon, ok;

    if (whole.n == 0)
        return true;
    if (whole.p[0] == '[') {
        ok = str_cut(str_from(whole, 1), ']', &ip, &port);
        ok = ok && is_ip(str_starts_nocase(ip, STR("IPv6:")) ? str_from(ip, 5) : ip);
        colon = port.n > 0;
        ok = ok && (!colon || port.p[0] == ':');
        port = colon ? str_from(port, 1) : port;
    } else {
        colon = str_cut(whole, ':', &host, &port);
        ok = !is_ip(host) && domain_to_ascii(&l->c->arena, host, &domain);
    }
    if (ok && (!colon || (str_to_u64(port, 65535, &number) && number > 0)))
        return true;
    return scan_error(l->error, place_of(l, "relay_host"), "relay_host: \"%s\" is not \"host\", \"host:port\", \"[ip]\" or \"[ip]:port\"",
                      l->c->relay_host);
}

/* Secrets stand in files of their own, which only the keeper opens. NULL: no memory, or an error line was written. */
static const char *secret_file(struct loader *l, const char *option, struct str value)
{
    if (str_starts(value, STR("file:")) && value.n > 5)
        return option_path(l->c, str_from(value, 5));
    scan_error(l->error, place_of(l, option), "%s: write \"file:/path\"; the password is that file's first line", option);
    return NULL;
}

/* An endpoint is asked with secrets: under TLS, or on this machine. */
static bool check_url(struct loader *l, const char *option, const char *url)
{
    struct url u;

    if (!url_parse(str_of(url), &u))
        return scan_error(l->error, place_of(l, option), "%s: \"%s\" is not a URL like \"https://host/path\"", option, url);
    return url_is_private(&u) || scan_error(l->error, place_of(l, option), "%s: write https: only on this machine http is private", option);
}

/* scope-token *( SP scope-token ) (RFC 6749, 3.3), or "". */
static bool check_scope(struct loader *l, const char *option, const char *scope)
{
    if (strlen(scope) > SCOPE_MAX)
        return scan_error(l->error, place_of(l, option), "%s: longer than %d characters", option, SCOPE_MAX);
    for (const char *p = scope; *p != '\0'; p++)
        if (*p < ' ' || *p > '~' || *p == '"' || *p == '\\')
            return scan_error(l->error, place_of(l, option), "%s: \"%s\" is not made of printable words", option, scope);
    return true;
}

/* A client's name and its secret, where there are any. */
static bool check_oauth_client(struct loader *l, const char *id_option, const char *id, const char *secret_option, const char *secret, const char **out_file)
{
    if (secret[0] == '\0')
        return true;
    if (id[0] == '\0')
        return scan_error(l->error, place_of(l, secret_option), "%s needs %s", secret_option, id_option);
    *out_file = secret_file(l, secret_option, str_of(secret));
    return *out_file != NULL;
}

static bool check_relay_host_oauth(struct loader *l)
{
    struct conf *c = l->c;

    if (c->relay_host_oauth_token_url[0] == '\0') {
        bool more = c->relay_host_oauth_client_id[0] != '\0' || c->relay_host_oauth_refresh_token[0] != '\0' || c->relay_host_oauth_client_secret[0] != '\0';
        return !more || scan_error(l->error, place_of(l, "relay_host_oauth_client_id"), "relay_host_oauth_client_id and its like need relay_host_oauth_token_url");
    }
    if (c->relay_host_oauth_client_id[0] == '\0' || c->relay_host_oauth_refresh_token[0] == '\0')
        return scan_error(l->error, place_of(l, "relay_host_oauth_token_url"),
                          "relay_host_oauth_token_url needs relay_host_oauth_client_id and relay_host_oauth_refresh_token");
    c->relay_host_oauth_refresh_token_file = secret_file(l, "relay_host_oauth_refresh_token", str_of(c->relay_host_oauth_refresh_token));
    return c->relay_host_oauth_refresh_token_file != NULL && check_url(l, "relay_host_oauth_token_url", c->relay_host_oauth_token_url) &&
           check_scope(l, "relay_host_oauth_scope", c->relay_host_oauth_scope) &&
           check_oauth_client(l, "relay_host_oauth_client_id", c->relay_host_oauth_client_id, "relay_host_oauth_client_secret",
                              c->relay_host_oauth_client_secret, &c->relay_host_oauth_client_secret_file);
}

static bool check_relay_host_user(struct loader *l)
{
    struct conf *c = l->c;
    struct str password = str_of(c->relay_host_password);

    bool token = c->relay_host_oauth_token_url[0] != '\0';

    if (!check_relay_host_oauth(l))
        return false;
    if (c->relay_host_user[0] == '\0' && password.n == 0 && !token)
        return true;
    if (token && password.n > 0)
        return scan_error(l->error, place_of(l, "relay_host_password"), "of relay_host_password and relay_host_oauth_token_url only one can be");
    if (token && c->relay_host_user[0] == '\0')
        return scan_error(l->error, place_of(l, "relay_host_oauth_token_url"), "relay_host_oauth_token_url needs relay_host_user");
    if (!token && (c->relay_host_user[0] == '\0' || password.n == 0))
        return scan_error(l->error, place_of(l, password.n == 0 ? "relay_host_user" : "relay_host_password"),
                          "relay_host_user and relay_host_password need each other");
    if (token)
        return true;
    c->relay_host_password_file = secret_file(l, "relay_host_password", password);
    return c->relay_host_password_file != NULL;
}

/* Before the listeners, likewise. */
static bool set_oauth(struct loader *l)
{
    struct conf *c = l->c;

    c->has_oauth = c->oauth_introspection_url[0] != '\0';
    if (!c->has_oauth)
        return c->oauth_client_id[0] == '\0' || scan_error(l->error, place_of(l, "oauth_client_id"), "oauth_client_id needs oauth_introspection_url");
    if (c->oauth_login_claim[0] == '\0')
        return scan_error(l->error, place_of(l, "oauth_login_claim"), "oauth_login_claim: whose token it is must stand somewhere in the answer");
    if (c->oauth_client_id[0] != '\0' && c->oauth_client_secret[0] == '\0')
        return scan_error(l->error, place_of(l, "oauth_client_id"), "oauth_client_id needs oauth_client_secret");
    return check_url(l, "oauth_introspection_url", c->oauth_introspection_url) && check_scope(l, "oauth_scope", c->oauth_scope) &&
           check_oauth_client(l, "oauth_client_id", c->oauth_client_id, "oauth_client_secret", c->oauth_client_secret, &c->oauth_client_secret_file);
}

/* Before the listeners: they ask whether there are any. */
static bool set_accounts(struct loader *l)
{
    struct conf *c = l->c;
    bool sqlite = c->accounts_sqlite[0] != '\0', pgsql = c->accounts_pgsql[0] != '\0', query = c->accounts_query[0] != '\0';
    const char *database = sqlite ? "accounts_sqlite" : "accounts_pgsql";

    c->has_accounts = sqlite || pgsql || c->accounts_file[0] != '\0';
    if ((c->accounts_file[0] != '\0') + sqlite + pgsql > 1)
        return scan_error(l->error, place_of(l, database), "of accounts_file, accounts_sqlite and accounts_pgsql only one can be");
    if ((sqlite || pgsql) != query)
        return scan_error(l->error, place_of(l, query ? "accounts_query" : database),
                          query ? "accounts_query needs accounts_sqlite or accounts_pgsql" : "%s needs accounts_query", database);
    if (c->accounts_pgsql_password[0] == '\0')
        return true;
    if (!pgsql)
        return scan_error(l->error, place_of(l, "accounts_pgsql_password"), "accounts_pgsql_password needs accounts_pgsql");
    c->accounts_pgsql_password_file = secret_file(l, "accounts_pgsql_password", str_of(c->accounts_pgsql_password));
    return c->accounts_pgsql_password_file != NULL;
}

static bool check_whole(struct loader *l)
{
    struct conf *c = l->c;
    bool ok = true;

    if (c->hostname == NULL)
        ok = scan_error(l->error, (struct place){ c->path, 0 }, "hostname is missing: the name of this server, as in its DNS entry");
    /* A backup that takes mail for users it does not know makes bounces to forged senders later. */
    if (c->relay_domains.used > 0 && c->relay_recipients_file[0] == '\0')
        ok = scan_error(l->error, place_of(l, "relay_domains"),
                        "relay_domains needs relay_recipients_file: the users of those domains, or @domain to take all");
    return check_domains(l) && check_delivery(l) && check_delimiter(l) && check_mailbox(l) && check_postmaster(l) && check_relay_host(l) &&
           check_relay_host_user(l) && ok;
}

static int load_snapshot(struct loader *l)
{
    int r = load_file(l, l->c->path, 0, (struct place){ NULL, 0 });
    if (r == 0)
        r = set_options(l);
    if (r == 0 && (!set_accounts(l) || !set_oauth(l)))
        r = -EINVAL;
    if (r == 0)
        r = set_certificates(l);
    if (r == 0)
        r = set_listeners(l);
    if (r == 0)
        r = set_client_networks(l);
    if (r == 0)
        r = set_derived(l);
    if (r == 0)
        r = load_lists(l);
    if (r == 0 && !check_whole(l))
        r = -EINVAL;
    return r;
}

static struct conf *new_snapshot(const char *path)
{
    struct conf *c = calloc(1, sizeof *c);

    if (c == NULL)
        return NULL;
    c->refs = 1;
    arena_init(&c->arena, ARENA_MAX);
    map_str_init(&c->local_domains);
    map_str_init(&c->virtual_domains);
    map_str_init(&c->relay_domains);
    map_str_init(&c->local_delivery_by_domain);
    map_str_init(&c->outbound_tls_by_domain);
    map_str_init(&c->users);
    map_str_init(&c->relay_recipients);
    map_str_init(&c->sender_logins);
    map_str_init(&c->aliases);
    map_str_init(&c->recipient_rewrites);
    map_str_init(&c->sender_rewrites);
    c->path = str_z(&c->arena, str_of(path));
    c->given = arena_array(&c->arena, option_count, sizeof *c->given);
    if (!arena_failed(&c->arena))
        return c;
    conf_unref(c);
    return NULL;
}

int conf_load(const char *path, struct conf **out, struct buf *error)
{
    cfg_opt_t inside[BLOCKS_MAX][SCAN_BLOCK_OPTIONS_MAX];
    cfg_opt_t schema[OPTIONS_MAX];
    struct loader l = { .c = new_snapshot(path), .error = error };

    if (l.c == NULL)
        return -ENOMEM;
    assert(option_count + scan_block_count + 1 <= OPTIONS_MAX && scan_block_count <= BLOCKS_MAX);
    build_schema(schema, inside);
    l.cfg = cfg_init(schema, CFGF_NONE);
    if (l.cfg == NULL) {
        conf_unref(l.c);
        return -ENOMEM;
    }
    cfg_set_error_function(l.cfg, on_confuse_error);
    scan_init(&l.scan, &l.c->arena, error);
    reporting = &l;
    int r = load_snapshot(&l);
    cfg_free(l.cfg);
    if (r < 0) {
        if (r == -ENOMEM)
            scan_error(error, (struct place){ path, 0 }, "no memory");
        conf_unref(l.c);
        return r;
    }
    *out = l.c;
    return 0;
}
