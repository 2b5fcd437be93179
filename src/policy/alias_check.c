/*
 * The check of all aliases: each is expanded as if somebody had written to it. Pure.
 */
#include "policy/alias_check.h"
#include "base/cleanup.h"
#include "conf/scan.h"
#include "policy/access.h"
#include "policy/alias.h"
#include "policy/expand.h"
#include <string.h>

#define LOOP_TEXT_MAX 32768              /* EXPAND_DEPTH_MAX addresses of the longest */
#define ADDRESS_TEXT_MAX 1024            /* every character of a local part with a backslash, and a domain */
#define ANYBODY       "anybody"          /* stands for all whom "@domain" catches */

struct check {
    const struct conf *c;
    struct buf        *error;
    size_t             steps, errors;
    bool               circle_seen, circle_told;
    struct place       circle_at;        /* of the first alias that leads into one */
};

static bool full(const struct check *k) { return k->steps >= ALIAS_CHECK_STEPS_MAX || k->errors >= ALIAS_CHECK_ERRORS_MAX; }

static void tell(struct check *k, struct place at, const char *what, struct str about, const char *more)
{
    k->errors++;
    scan_error(k->error, at, "%s \"%" STR_FMT "\" %s", what, STR_ARG(about), more);
}

/* -- circles ----------------------------------------------------------------------------------------------------------------- */

static bool before(const struct conf_alias *a, const struct conf_alias *b)
{
    int by_file = strcmp(a->file, b->file);
    return by_file != 0 ? by_file < 0 : a->line < b->line;
}

/* Every alias of a circle leads into it, and others may. It is told of by the first of those that it goes through. */
static bool is_tellers_turn(const struct expansion *x)
{
    const struct conf_alias *first = x->nodes[0].alias, *closing = alias_of(x->c, &x->culprit);

    if (closing != first && !address_eq(&x->culprit, &x->nodes[0].addr))
        return false;
    for (size_t i = x->at; i != 0; i = x->nodes[i].parent)
        if (x->nodes[i].alias != NULL && before(x->nodes[i].alias, first))
            return false;
    return true;
}

static void tell_circle(struct check *k, const struct expansion *x)
{
    const struct conf_alias *first = x->nodes[0].alias;
    struct place at = { first->file, first->line };

    if (!k->circle_seen)
        k->circle_at = at;
    k->circle_seen = true;
    if (!is_tellers_turn(x))
        return;
    k->circle_told = true;
    CLEANUP_BUF struct buf way;
    buf_init(&way, LOOP_TEXT_MAX);
    expand_put_loop(&way, x);
    k->errors++;
    scan_error(k->error, at, "aliases go in a circle: %" STR_FMT, STR_ARG(buf_str(&way)));
}

/* -- one alias --------------------------------------------------------------------------------------------------------------- */

static const char *why_unknown(const struct conf *c, const struct address *addr)
{
    if (addr->domain.n == 0)
        return "is in no domain: with several local_domains, and hostname not among them, write name@domain";
    if (map_str_get(&c->virtual_domains, addr->domain) != NULL)
        return "is no alias, and its domain has no mailboxes";
    if (map_str_get(&c->relay_domains, addr->domain) != NULL)
        return "is not in relay_recipients_file";
    return "is neither a user nor an alias";
}

/* Those of its own targets; an alias among them tells for itself. */
static void tell_unknown(struct check *k, const struct expansion *x)
{
    const struct expand_node *root = &x->nodes[0];
    char memory[ADDRESS_TEXT_MAX];
    struct buf text;

    for (size_t i = 0; i < root->child_count && !full(k); i++) {
        const struct expand_node *n = &x->nodes[root->child + i];
        if (n->end != EXPAND_UNKNOWN)
            continue;
        buf_init_fixed(&text, memory, sizeof memory);
        address_put(&text, &n->addr);
        tell(k, (struct place){ n->target->file, n->target->line }, "the target", buf_str(&text), why_unknown(k->c, &n->addr));
    }
}

static bool leads_nowhere(const struct expansion *x)
{
    for (size_t i = 0; i < x->count; i++)
        if (x->nodes[i].end == EXPAND_LOCAL || x->nodes[i].end == EXPAND_REMOTE)
            return false;
    return true;
}

/* False without memory. *out_nowhere, which may be NULL, says that it leads to nobody at all: then nothing is told of it. */
static bool check_at(struct check *k, const struct conf_alias *alias, const struct address *as, bool *out_nowhere)
{
    struct place at = { alias->file, alias->line };
    struct expansion x;
    enum expand_result r;

    expand_begin_alias(&x, k->c, alias, as);
    while ((r = expand_step(&x)) == EXPAND_LOOK)
        expand_answer(&x, true);
    k->steps += x.count;
    switch (r) {
    case EXPAND_DONE:
        if (out_nowhere != NULL && leads_nowhere(&x))
            *out_nowhere = true;
        else
            tell_unknown(k, &x);
        break;
    case EXPAND_LOOP: tell_circle(k, &x); break;
    case EXPAND_TOO_DEEP: tell(k, at, "the alias", alias->key, "leads through too many others"); break;
    case EXPAND_TOO_MANY: tell(k, at, "the alias", alias->key, "has more recipients than alias_recipients_max"); break;
    case EXPAND_LOOK:
    case EXPAND_NO_MEMORY: break;
    }
    expand_free(&x);
    return r != EXPAND_NO_MEMORY;
}

/* Local names among the targets mean another in each domain. */
static bool depends_on_domain(const struct conf_alias *alias)
{
    for (size_t i = 0; i < alias->target_count; i++)
        if (alias->targets[i].addr.domain.n == 0)
            return true;
    return false;
}

/* Where none of its targets is anybody the alias is none either, which is no fault as long as it is one somewhere. */
static bool check_everywhere(struct check *k, const struct conf_alias *alias)
{
    struct address as = { .local = alias->key }, nowhere = { .local = STR("") };
    bool somewhere = false;
    size_t cursor = 0, errors = k->errors;
    void *value;

    while (!full(k) && k->errors == errors && map_str_next(&k->c->local_domains, &cursor, &as.domain, &value)) {
        bool here_not = false;
        if (access_lookup(&k->c->aliases, as.local, as.domain) != NULL)     /* that one says more */
            continue;
        if (!check_at(k, alias, &as, &here_not))
            return false;
        if (here_not)
            nowhere = as;
        somewhere = somewhere || !here_not;
        if (!depends_on_domain(alias))
            break;
    }
    return somewhere || nowhere.local.n == 0 || check_at(k, alias, &nowhere, NULL);
}

static bool check_alias(struct check *k, const struct conf_alias *alias)
{
    ssize_t at = str_find_last(alias->key, '@');

    if (at < 0)
        return check_everywhere(k, alias);
    struct address as = { .local = at == 0 ? STR(ANYBODY) : str_head(alias->key, (size_t)at), .domain = str_from(alias->key, (size_t)at + 1) };
    return check_at(k, alias, &as, NULL);
}

/* -- all --------------------------------------------------------------------------------------------------------------------- */

bool alias_check(const struct conf *c, struct buf *error)
{
    struct check k = { .c = c, .error = error };
    bool ok = c->postmaster_alias == NULL || check_everywhere(&k, c->postmaster_alias);

    for (const struct conf_alias *a = c->alias_first; ok && a != NULL && !full(&k); a = a->next)
        ok = check_alias(&k, a);
    if (!ok)
        scan_error(error, (struct place){ c->path, 0 }, "no memory to follow the aliases");
    else if (k.circle_seen && !k.circle_told && k.errors == 0) {
        k.errors++;
        scan_error(error, k.circle_at, "this alias leads into a circle of aliases");
    }
    return ok && k.errors == 0;
}
