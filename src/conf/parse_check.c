/*
 * Whether the values of a configuration fit together, and what follows from them only together. Part of conf/parse.c.
 */
#include "conf/parse_internal.h"

#include "base/url.h"
#include "conf/ip_range.h"
#include "conf/option.h"
#include "mail/address.h"
#include "mail/domain.h"
#include <string.h>

#define SCOPE_MAX 255                    /* characters: it must fit a challenge */

/* A domain is served in one way. */
static bool check_apart(struct loader *l, const char *option, const struct map_str *domains, const char *other, const struct map_str *others,
                        const char *question)
{
    size_t cursor = 0;
    struct str domain;
    void *value;

    while (map_str_next(domains, &cursor, &domain, &value))
        if (map_str_get(others, domain) != NULL)
            return scan_error(l->error, parse_place(l, option), "\"%" STR_FMT "\" is in %s too: %s", STR_ARG(domain), other, question);
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
    return scan_error(l->error, parse_place(l, "recipient_delimiter"), "recipient_delimiter: \"%s\" is not made of + - _ = # ~ ^ * $ & / ? |", d);
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
        return scan_error(l->error, parse_place(l, option), "%s: LMTP needs users_file: whom may we take mail for?", option);
    if (domain.n > 0 && !has_postmaster(c, domain))
        return scan_error(l->error, parse_place(l, option),
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
            return scan_error(l->error, parse_place(l, "local_delivery_by_domain"),
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
        return scan_error(l->error, parse_place(l, "mailbox"), "mailbox: all users would share \"%s\": it needs {user}", m);
    if (l->c->local_domains.used > 1 && !l->c->have_users_file && strstr(m, "{domain}") == NULL)
        return scan_error(l->error, parse_place(l, "mailbox"), "mailbox: with several local_domains and no users_file, \"%s\" needs {domain}", m);
    return true;
}

static bool check_postmaster(struct loader *l)
{
    struct conf *c = l->c;
    struct place at = parse_place(l, "postmaster");
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

/* As policy/route.c takes it apart. An address without brackets would be looked up as a name. */
bool conf_is_next_hop(struct arena *a, struct str whole)
{
    struct str host = whole, port = STR(""), ip, domain;
    uint64_t number;
    bool colon, ok;

    if (whole.n == 0)
        return false;
    if (whole.p[0] == '[') {
        ok = str_cut(str_from(whole, 1), ']', &ip, &port);
        ok = ok && is_ip(str_starts_nocase(ip, STR("IPv6:")) ? str_from(ip, 5) : ip);
        colon = port.n > 0;
        ok = ok && (!colon || port.p[0] == ':');
        port = colon ? str_from(port, 1) : port;
    } else {
        colon = str_cut(whole, ':', &host, &port);
        ok = !is_ip(host) && domain_to_ascii(a, host, &domain);
    }
    return ok && (!colon || (str_to_u64(port, 65535, &number) && number > 0));
}

static bool check_relay_host(struct loader *l)
{
    struct str host = str_of(l->c->relay_host);

    return host.n == 0 || conf_is_next_hop(&l->c->arena, host) ||
           scan_error(l->error, parse_place(l, "relay_host"), "relay_host: \"%s\" is not \"host\", \"host:port\", \"[ip]\" or \"[ip]:port\"",
                      l->c->relay_host);
}

/* Secrets stand in files of their own, which only the keeper opens. NULL: no memory, or an error line was written. */
static const char *secret_file(struct loader *l, const char *option, struct str value)
{
    if (str_starts(value, STR("file:")) && value.n > 5)
        return option_path(l->c, str_from(value, 5));
    scan_error(l->error, parse_place(l, option), "%s: write \"file:/path\"; the password is that file's first line", option);
    return NULL;
}

/* An endpoint is asked with secrets: under TLS, or on this machine. */
static bool check_url(struct loader *l, const char *option, const char *url)
{
    struct url u;

    if (!url_parse(str_of(url), &u))
        return scan_error(l->error, parse_place(l, option), "%s: \"%s\" is not a URL like \"https://host/path\"", option, url);
    return url_is_private(&u) || scan_error(l->error, parse_place(l, option), "%s: write https: only on this machine http is private", option);
}

/* scope-token *( SP scope-token ) (RFC 6749, 3.3), or "". */
static bool check_scope(struct loader *l, const char *option, const char *scope)
{
    if (strlen(scope) > SCOPE_MAX)
        return scan_error(l->error, parse_place(l, option), "%s: longer than %d characters", option, SCOPE_MAX);
    for (const char *p = scope; *p != '\0'; p++)
        if (*p < ' ' || *p > '~' || *p == '"' || *p == '\\')
            return scan_error(l->error, parse_place(l, option), "%s: \"%s\" is not made of printable words", option, scope);
    return true;
}

/* A client's name and its secret, where there are any. */
static bool check_oauth_client(struct loader *l, const char *id_option, const char *id, const char *secret_option, const char *secret, const char **out_file)
{
    if (secret[0] == '\0')
        return true;
    if (id[0] == '\0')
        return scan_error(l->error, parse_place(l, secret_option), "%s needs %s", secret_option, id_option);
    *out_file = secret_file(l, secret_option, str_of(secret));
    return *out_file != NULL;
}

static bool check_relay_host_oauth(struct loader *l)
{
    struct conf *c = l->c;

    if (c->relay_host_oauth_token_url[0] == '\0') {
        bool more = c->relay_host_oauth_client_id[0] != '\0' || c->relay_host_oauth_refresh_token[0] != '\0' || c->relay_host_oauth_client_secret[0] != '\0';
        return !more || scan_error(l->error, parse_place(l, "relay_host_oauth_client_id"), "relay_host_oauth_client_id and its like need relay_host_oauth_token_url");
    }
    if (c->relay_host_oauth_client_id[0] == '\0' || c->relay_host_oauth_refresh_token[0] == '\0')
        return scan_error(l->error, parse_place(l, "relay_host_oauth_token_url"),
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
        return scan_error(l->error, parse_place(l, "relay_host_password"), "of relay_host_password and relay_host_oauth_token_url only one can be");
    if (token && c->relay_host_user[0] == '\0')
        return scan_error(l->error, parse_place(l, "relay_host_oauth_token_url"), "relay_host_oauth_token_url needs relay_host_user");
    if (!token && (c->relay_host_user[0] == '\0' || password.n == 0))
        return scan_error(l->error, parse_place(l, password.n == 0 ? "relay_host_user" : "relay_host_password"),
                          "relay_host_user and relay_host_password need each other");
    if (token)
        return true;
    c->relay_host_password_file = secret_file(l, "relay_host_password", password);
    return c->relay_host_password_file != NULL;
}

/* Before the listeners, likewise. */
bool parse_oauth(struct loader *l)
{
    struct conf *c = l->c;

    c->has_oauth = c->oauth_introspection_url[0] != '\0';
    if (!c->has_oauth)
        return c->oauth_client_id[0] == '\0' || scan_error(l->error, parse_place(l, "oauth_client_id"), "oauth_client_id needs oauth_introspection_url");
    if (c->oauth_login_claim[0] == '\0')
        return scan_error(l->error, parse_place(l, "oauth_login_claim"), "oauth_login_claim: whose token it is must stand somewhere in the answer");
    if (c->oauth_client_id[0] != '\0' && c->oauth_client_secret[0] == '\0')
        return scan_error(l->error, parse_place(l, "oauth_client_id"), "oauth_client_id needs oauth_client_secret");
    return check_url(l, "oauth_introspection_url", c->oauth_introspection_url) && check_scope(l, "oauth_scope", c->oauth_scope) &&
           check_oauth_client(l, "oauth_client_id", c->oauth_client_id, "oauth_client_secret", c->oauth_client_secret, &c->oauth_client_secret_file);
}

/* Before the listeners: they ask whether there are any. */
bool parse_accounts(struct loader *l)
{
    struct conf *c = l->c;
    bool sqlite = c->accounts_sqlite[0] != '\0', pgsql = c->accounts_pgsql[0] != '\0', query = c->accounts_query[0] != '\0';
    const char *database = sqlite ? "accounts_sqlite" : "accounts_pgsql";

    c->has_accounts = sqlite || pgsql || c->accounts_file[0] != '\0';
    if ((c->accounts_file[0] != '\0') + sqlite + pgsql > 1)
        return scan_error(l->error, parse_place(l, database), "of accounts_file, accounts_sqlite and accounts_pgsql only one can be");
    if ((sqlite || pgsql) != query)
        return scan_error(l->error, parse_place(l, query ? "accounts_query" : database),
                          query ? "accounts_query needs accounts_sqlite or accounts_pgsql" : "%s needs accounts_query", database);
    if (c->accounts_pgsql_password[0] == '\0')
        return true;
    if (!pgsql)
        return scan_error(l->error, parse_place(l, "accounts_pgsql_password"), "accounts_pgsql_password needs accounts_pgsql");
    c->accounts_pgsql_password_file = secret_file(l, "accounts_pgsql_password", str_of(c->accounts_pgsql_password));
    return c->accounts_pgsql_password_file != NULL;
}

bool parse_check(struct loader *l)
{
    struct conf *c = l->c;
    bool ok = true;

    if (c->hostname == NULL)
        ok = scan_error(l->error, (struct place){ c->path, 0 }, "hostname is missing: the name of this server, as in its DNS entry");
    /* A backup that takes mail for users it does not know makes bounces to forged senders later. */
    if (c->relay_domains.used > 0 && c->relay_recipients_file[0] == '\0')
        ok = scan_error(l->error, parse_place(l, "relay_domains"),
                        "relay_domains needs relay_recipients_file: the users of those domains, or @domain to take all");
    return check_domains(l) && check_delivery(l) && check_delimiter(l) && check_mailbox(l) && check_postmaster(l) && check_relay_host(l) &&
           check_relay_host_user(l) && ok;
}
