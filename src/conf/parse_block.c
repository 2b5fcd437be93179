/*
 * Blocks of the configuration file: listen, client_network, tls_certificate. Part of conf/parse.c.
 */
#include "conf/parse_internal.h"

#include "conf/ip_range.h"
#include "conf/option.h"
#include <errno.h>
#include <string.h>

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
    const struct scan_item *i = parse_find(l, SCAN_OPTION, option, inside);

    *out_place = i != NULL ? i->place : parse_find(l, SCAN_BLOCK, cfg_title(block), str_of(kind))->place;
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

int parse_client_networks(struct loader *l)
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

int parse_certificates(struct loader *l)
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

int parse_listeners(struct loader *l)
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
