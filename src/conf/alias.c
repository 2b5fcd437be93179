/*
 * The tables of aliases and rewritings. A file is walked token by token (conf/alias_scan.h); an entry is made when its targets are known.
 */
#include "conf/alias.h"
#include "base/cleanup.h"
#include "conf/alias_scan.h"
#include "conf/option.h"
#include "mail/domain.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define TARGETS_BYTES_MAX ((size_t)ALIAS_TARGETS_MAX * sizeof(struct conf_target))

/* One file, and the lists that it includes are walked with the same targets. */
struct walk {
    struct alias_loader *l;
    const char          *path;
    struct map_str      *table;
    bool                 rewrites;
    struct buf           targets;        /* of struct conf_target; of the entry that is being read */
    struct str           key;            /* .p NULL: none is being read */
    unsigned             line;           /* of the key */
};

static int refuse(struct walk *w, unsigned line, struct str culprit, const char *why)
{
    scan_error(w->l->error, (struct place){ w->path, line }, "\"%" STR_FMT "\" %s", STR_ARG(culprit), why);
    return -EINVAL;
}

/* -- targets ----------------------------------------------------------------------------------------------------------------- */

static bool is_ours(const struct conf *c, struct str domain)
{
    return map_str_get(&c->local_domains, domain) != NULL || map_str_get(&c->virtual_domains, domain) != NULL ||
           map_str_get(&c->relay_domains, domain) != NULL;
}

/* A local part that could be read as a route is nobody's name, as at RCPT. */
static bool usable_local(struct str local)
{
    return str_find(local, '@') < 0 && str_find(local, '%') < 0 && str_find(local, '!') < 0;
}

/* A word in quotes as a whole, as "|command" and ":include:/path" may be written, without them. */
static struct str unquoted(struct str text)
{
    bool quoted = text.n >= 2 && text.p[0] == '"' && text.p[text.n - 1] == '"';
    return quoted ? str_head(str_from(text, 1), text.n - 2) : text;
}

/* NULL: it may be an address. */
static const char *why_not(struct str text)
{
    if (text.n == 0)
        return "is empty";
    if (text.p[0] == '|')
        return "is a command: none is ever run here";
    if (text.p[0] == '/' && str_find(text, '@') < 0)
        return "is a file: mail goes to mailboxes and other servers only";
    if (text.p[0] == '@')
        return "is a whole domain: recipient_rewrites_file can move one to another, an alias names addresses";
    return NULL;
}

static int add_target(struct walk *w, const struct conf_target *t)
{
    if (w->l->target_count >= ALIAS_TARGETS_MAX) {
        scan_error(w->l->error, (struct place){ t->file, t->line }, "more than %u targets in all", ALIAS_TARGETS_MAX);
        return -EINVAL;
    }
    w->l->target_count++;
    buf_put(&w->targets, t, sizeof *t);
    return buf_ok(&w->targets) ? 0 : -ENOMEM;
}

static int take_address(struct walk *w, const struct alias_token *token)
{
    struct conf *c = w->l->c;
    struct conf_target t = { .final = token->text.p[0] == '\\', .file = w->path, .line = token->line };
    struct str text = t.final ? str_from(token->text, 1) : token->text;

    const char *why = why_not(unquoted(text));
    if (why != NULL)
        return refuse(w, token->line, token->text, why);
    if (!address_parse_with(&c->arena, text, ADDRESS_BARE | ADDRESS_UTF8, &t.addr))
        return arena_failed(&c->arena) ? -ENOMEM : refuse(w, token->line, token->text, "is neither an address nor a local name nor :include:/path");
    /* Elsewhere it would need a message that is marked for it (RFC 6531, 3.2), and most are not. */
    if (t.addr.utf8 && t.addr.domain.n > 0 && !is_ours(c, t.addr.domain))
        return refuse(w, token->line, token->text, "is not ASCII: only users of ours may be called so");
    return add_target(w, &t);
}

/* Of a rewriting: an address, or "@domain" to keep the name. */
static int take_rewriting(struct walk *w, const struct alias_token *token)
{
    struct conf *c = w->l->c;
    struct conf_target t = { .addr.local = STR(""), .file = w->path, .line = token->line };
    bool ok = token->text.p[0] == '@' ? domain_to_ascii(&c->arena, str_from(token->text, 1), &t.addr.domain)
                                      : address_parse_with(&c->arena, token->text, ADDRESS_IDN, &t.addr);

    if (!ok)
        return arena_failed(&c->arena) ? -ENOMEM : refuse(w, token->line, token->text, "is neither \"user@domain\" nor \"@domain\"");
    if (w->targets.n > 0)
        return refuse(w, token->line, token->text, "is a second target: an address is rewritten to one");
    return add_target(w, &t);
}

/* -- lists ------------------------------------------------------------------------------------------------------------------- */

static int take_target(struct walk *w, const struct alias_token *token, unsigned depth);

static int walk_list(struct walk *w, struct str text, unsigned depth)
{
    struct alias_scan scan;
    int r = 0;

    alias_scan_init(&scan, text, true);
    for (;;) {
        struct alias_token token = alias_scan_next(&scan);
        if (token.type == ALIAS_END || r < 0)
            return r;
        if (token.type == ALIAS_FAULT) {
            scan_error(w->l->error, (struct place){ w->path, token.line }, "%" STR_FMT, STR_ARG(token.text));
            return -EINVAL;
        }
        r = take_target(w, &token, depth);
    }
}

/* Paths are seen from the folder of the configuration, as everywhere. */
static int include(struct walk *w, const struct alias_token *token, struct str path_text, unsigned depth)
{
    CLEANUP_BUF struct buf text = { .p = NULL };
    struct place at = { w->path, token->line };
    const char *outer = w->path, *path = option_path(w->l->c, path_text);

    if (path == NULL)
        return -ENOMEM;
    if (depth >= ALIAS_INCLUDE_MAX) {
        scan_error(w->l->error, at, "lists are more than %d deep: does a list include itself?", ALIAS_INCLUDE_MAX);
        return -EINVAL;
    }
    int r = path_text.n == 0 ? -ENOENT : w->l->read(path, ALIAS_FILE_MAX, &text);
    if (r < 0) {
        scan_error(w->l->error, at, "cannot read the list %s: %s", path, strerror(-r));
        return r;
    }
    w->path = path;
    r = walk_list(w, buf_str(&text), depth + 1);
    w->path = outer;
    return r;
}

static int take_target(struct walk *w, const struct alias_token *token, unsigned depth)
{
    struct str inside = unquoted(token->text);

    if (w->rewrites)
        return take_rewriting(w, token);
    if (str_starts_nocase(inside, STR(":include:")))
        return include(w, token, str_trim(str_from(inside, 9)), depth);
    return take_address(w, token);
}

/* -- names ------------------------------------------------------------------------------------------------------------------- */

static int read_key(struct walk *w, struct str text, struct address *out)
{
    struct conf *c = w->l->c;
    struct address addr = { .local = STR("") };
    unsigned form = w->rewrites ? ADDRESS_UTF8 : ADDRESS_BARE | ADDRESS_UTF8;
    bool ok = text.p[0] == '@' ? domain_to_ascii(&c->arena, str_from(text, 1), &addr.domain) : address_parse_with(&c->arena, text, form, &addr);

    if (!ok && arena_failed(&c->arena))
        return -ENOMEM;
    if (!ok || !usable_local(addr.local))
        return refuse(w, w->line, text, w->rewrites ? "is neither \"user@domain\" nor \"@domain\"" : "is none of \"user\", \"user@domain\" and \"@domain\"");
    if (!w->rewrites && addr.domain.n > 0 && !is_ours(c, addr.domain))
        return refuse(w, w->line, text, "is in a domain that is not among local_domains, virtual_domains or relay_domains");
    *out = addr;
    return 0;
}

static int begin_entry(struct walk *w, const struct alias_token *token)
{
    struct conf *c = w->l->c;
    struct address addr;

    w->line = token->line;
    int r = read_key(w, token->text, &addr);
    if (r < 0)
        return r;
    struct str key = conf_key(&c->arena, addr.local, addr.domain);
    if (key.p == NULL)
        return -ENOMEM;
    const struct conf_alias *before = map_str_get(w->table, key);
    if (before != NULL) {
        scan_error(w->l->error, (struct place){ w->path, token->line }, "\"%" STR_FMT "\" stands at %s:%u too", STR_ARG(token->text), before->file,
                   before->line);
        return -EINVAL;
    }
    if (w->table->used >= ALIAS_ENTRIES_MAX)
        return refuse(w, token->line, token->text, "is one too many");
    w->key = key;
    return 0;
}

/* Behind the last one. */
static void append(struct alias_loader *l, struct conf_alias *entry)
{
    if (l->last == NULL)
        l->c->alias_first = entry;
    else
        l->last->next = entry;
    l->last = entry;
}

static int end_entry(struct walk *w)
{
    struct arena *a = &w->l->c->arena;

    if (w->key.p == NULL)
        return 0;
    if (w->targets.n == 0)
        return refuse(w, w->line, w->key, "leads nowhere: it has no target");
    size_t count = w->targets.n / sizeof(struct conf_target);
    struct conf_alias *entry = arena_alloc(a, sizeof *entry);
    struct conf_target *targets = arena_array(a, count, sizeof *targets);
    if (entry == NULL || targets == NULL)
        return -ENOMEM;
    memcpy(targets, w->targets.p, w->targets.n);
    *entry = (struct conf_alias){ .key = w->key, .targets = targets, .target_count = count, .file = w->path, .line = w->line };
    w->key = (struct str){ NULL, 0 };
    buf_clear(&w->targets);
    if (!w->rewrites)
        append(w->l, entry);
    return map_str_put(w->table, entry->key, entry);
}

/* -- files ------------------------------------------------------------------------------------------------------------------- */

static int walk_file(struct walk *w, struct str text)
{
    struct alias_scan scan;
    int r = 0;

    alias_scan_init(&scan, text, false);
    while (r == 0) {
        struct alias_token token = alias_scan_next(&scan);
        switch (token.type) {
        case ALIAS_END: return end_entry(w);
        case ALIAS_NAME:
            r = end_entry(w);
            r = r < 0 ? r : begin_entry(w, &token);
            break;
        case ALIAS_TARGET: r = take_target(w, &token, 0); break;
        case ALIAS_FAULT:
            scan_error(w->l->error, (struct place){ w->path, token.line }, "%" STR_FMT, STR_ARG(token.text));
            return -EINVAL;
        }
    }
    return r;
}

static int load(struct walk *w, struct place at)
{
    CLEANUP_BUF struct buf text = { .p = NULL };

    int r = w->l->read(w->path, ALIAS_FILE_MAX, &text);
    if (r < 0) {
        scan_error(w->l->error, at, "cannot read %s: %s", w->path, strerror(-r));
        return r;
    }
    buf_init(&w->targets, TARGETS_BYTES_MAX + sizeof(struct conf_target));
    r = walk_file(w, buf_str(&text));
    buf_free(&w->targets);
    return r;
}

int alias_load_file(struct alias_loader *l, const char *path, struct place at)
{
    struct walk w = { .l = l, .path = path, .table = &l->c->aliases };
    return load(&w, at);
}

int alias_load_rewrites(struct alias_loader *l, struct map_str *table, const char *path, struct place at)
{
    struct walk w = { .l = l, .path = path, .table = table, .rewrites = true };
    return load(&w, at);
}
