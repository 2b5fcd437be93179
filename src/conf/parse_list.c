/*
 * Lists in files that the configuration names: users, recipients of relay domains, owners of sender addresses, aliases and rewrites. Part
 * of conf/parse.c.
 */
#include "conf/parse_internal.h"

#include "base/cleanup.h"
#include "conf/alias.h"
#include "mail/address.h"
#include "mail/domain.h"
#include <errno.h>
#include <string.h>

#define LIST_MAX (64u << 20)             /* of one list: some two million lines */
#define REFUSALS_MAX (1024 * 1024)

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

    int r = parse_read_text(path, LIST_MAX, &text);
    if (r < 0) {
        scan_error(l->error, parse_place(l, option), "%s: cannot read %s: %s", option, path, strerror(-r));
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
    struct alias_loader loader = { .c = c, .error = l->error, .read = parse_read_text };
    int r = 0;

    for (size_t i = 0; r == 0 && c->aliases_files[i] != NULL; i++)
        r = alias_load_file(&loader, c->aliases_files[i], parse_value_place(l, "aliases_files", i));
    if (r == 0 && c->recipient_rewrites_file[0] != '\0')
        r = alias_load_rewrites(&loader, &c->recipient_rewrites, c->recipient_rewrites_file, parse_place(l, "recipient_rewrites_file"));
    if (r == 0 && c->sender_rewrites_file[0] != '\0')
        r = alias_load_rewrites(&loader, &c->sender_rewrites, c->sender_rewrites_file, parse_place(l, "sender_rewrites_file"));
    return r;
}

/* What it says is outbound's to read (outbound/refusal.h); here it is only kept. */
static int load_refusals(struct loader *l)
{
    CLEANUP_BUF struct buf text = { .p = NULL };
    struct conf *c = l->c;

    if (c->refusals_file[0] == '\0')
        return 0;
    int r = parse_read_text(c->refusals_file, REFUSALS_MAX, &text);
    if (r < 0) {
        scan_error(l->error, parse_place(l, "refusals_file"), "refusals_file: cannot read %s: %s", c->refusals_file, strerror(-r));
        return r;
    }
    c->refusals_text = str_copy(&c->arena, buf_str(&text));
    return c->refusals_text.p == NULL && text.n > 0 ? -ENOMEM : 0;
}

int parse_lists(struct loader *l)
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
    if (r == 0)
        r = load_refusals(l);
    return r;
}
