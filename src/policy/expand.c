/*
 * Expansion: nodes in an array, followed in the order in which they came. Pure.
 */
#include "policy/expand.h"
#include "policy/access.h"
#include "policy/alias.h"
#include <assert.h>
#include <stdint.h>
#include <string.h>

#define ARENA_BASE     (256 * 1024)
#define ARENA_PER_NODE 1024              /* the node, its place in the arrays before, its key */
#define NODES_FACTOR   4                 /* so many addresses on the way to each at its end, on average */

static size_t nodes_max(const struct conf *c)
{
    return (size_t)c->alias_recipients_max * NODES_FACTOR + EXPAND_DEPTH_MAX;
}

/* -- nodes ------------------------------------------------------------------------------------------------------------------- */

static struct expand_node *add_node(struct expansion *x, const struct expand_node *node)
{
    if (x->count == x->capacity) {
        size_t capacity = x->capacity == 0 ? 4 : x->capacity * 2;
        struct expand_node *nodes = arena_array(&x->arena, capacity, sizeof *nodes);
        if (nodes == NULL)
            return NULL;
        if (x->count > 0)
            memcpy(nodes, x->nodes, x->count * sizeof *nodes);
        x->nodes = nodes;
        x->capacity = capacity;
    }
    x->nodes[x->count] = *node;
    x->ends++;
    return &x->nodes[x->count++];
}

void expand_begin(struct expansion *x, const struct conf *c, bool trusted, const struct address *rcpt)
{
    *x = (struct expansion){ .c = c };
    arena_init(&x->arena, ARENA_BASE + nodes_max(c) * ARENA_PER_NODE);
    map_str_init(&x->seen);
    (void)add_node(x, &(struct expand_node){ .addr = *rcpt, .trusted = trusted });   /* without memory there is none, and the first step says so */
}

void expand_begin_alias(struct expansion *x, const struct conf *c, const struct conf_alias *alias, const struct address *rcpt)
{
    expand_begin(x, c, true, rcpt);
    if (x->count > 0)
        x->nodes[0].alias = alias;
}

void expand_free(struct expansion *x)
{
    map_str_free(&x->seen);
    arena_reset(&x->arena);
}

/* Of a node's address, *out 0: it has none yet. */
static bool find_seen(struct expansion *x, const struct address *addr, size_t *out)
{
    struct arena_mark before = arena_mark(&x->arena);
    struct str key = address_key(&x->arena, addr);

    if (key.p == NULL)
        return false;
    *out = (size_t)(uintptr_t)map_str_get(&x->seen, key);
    arena_rewind(&x->arena, before);
    return true;
}

/* The first node of an address counts. */
static bool remember(struct expansion *x, size_t node)
{
    struct str key = address_key(&x->arena, &x->nodes[node].addr);

    return key.p != NULL && (map_str_get(&x->seen, key) != NULL || map_str_put(&x->seen, key, (void *)(uintptr_t)(node + 1)) == 0);
}

/* -- circles ----------------------------------------------------------------------------------------------------------------- */

/* Whether the way to the node that is being followed, it itself included, comes through the node, or by the alias. */
static bool came_through(const struct expansion *x, size_t node, const struct conf_alias *alias)
{
    for (size_t i = x->at;; i = x->nodes[i].parent) {
        if (i == node || (alias != NULL && x->nodes[i].alias == alias))
            return true;
        if (i == 0)
            return false;
    }
}

static enum expand_result circle(struct expansion *x, const struct address *culprit)
{
    x->culprit = *culprit;
    return EXPAND_LOOP;
}

static void put_way(struct buf *out, const struct expansion *x, size_t node)
{
    /* From the end to the beginning it is known, and at most EXPAND_DEPTH_MAX long; shown the other way round. */
    size_t way[EXPAND_DEPTH_MAX + 2], n = 0;

    for (size_t i = node;; i = x->nodes[i].parent) {
        way[n++] = i;
        if (i == 0)
            break;
    }
    while (n > 0) {
        address_put(out, &x->nodes[way[--n]].addr);
        buf_put_z(out, n > 0 ? " -> " : "");
    }
}

void expand_put_loop(struct buf *out, const struct expansion *x)
{
    if (x->at >= x->count)
        return;
    put_way(out, x, x->at);
    if (x->culprit.local.n > 0) {
        buf_put_z(out, " -> ");
        address_put(out, &x->culprit);
    }
}

/* -- steps ------------------------------------------------------------------------------------------------------------------- */

static enum expand_result add_child(struct expansion *x, const struct expand_node *child)
{
    const struct expand_node *n = &x->nodes[x->at];
    struct expand_node made = *child;

    made.parent = x->at;
    made.depth = n->depth + 1;
    made.trusted = true;
    if (made.depth > EXPAND_DEPTH_MAX)
        return EXPAND_TOO_DEEP;
    if (x->count >= nodes_max(x->c))
        return EXPAND_TOO_MANY;
    if (add_node(x, &made) == NULL || (!made.final && !remember(x, x->count - 1)))
        return EXPAND_NO_MEMORY;
    x->nodes[x->at].child_count++;       /* not by n: the array may have moved */
    return EXPAND_DONE;
}

static enum expand_result follow_target(struct expansion *x, const struct conf_target *target)
{
    struct expand_node *n = &x->nodes[x->at];
    struct expand_node child = { .addr = alias_target(x->c, n->alias, target, &n->addr), .target = target };
    const struct conf_alias *next = alias_of(x->c, &child.addr);
    size_t seen;

    /* "bob: bob, carol" is bob's mailbox, and carol. */
    child.final = target->final || next == n->alias || address_eq(&child.addr, &n->addr);
    if (child.final)
        return add_child(x, &child);
    if (!find_seen(x, &child.addr, &seen))
        return EXPAND_NO_MEMORY;
    if ((seen > 0 && came_through(x, seen - 1, NULL)) || (next != NULL && came_through(x, SIZE_MAX, next)))
        return circle(x, &child.addr);
    if (seen > 0) {
        n->known_count++;
        return EXPAND_DONE;
    }
    return add_child(x, &child);
}

static enum expand_result go_on(struct expansion *x, const struct conf_alias *alias)
{
    struct expand_node *n = &x->nodes[x->at];
    enum expand_result r = remember(x, x->at) ? EXPAND_DONE : EXPAND_NO_MEMORY;

    n->alias = alias;
    n->end = EXPAND_GOES_ON;
    n->child = x->count;
    x->ends--;
    for (size_t i = 0; r == EXPAND_DONE && i < alias->target_count; i++)
        r = follow_target(x, &alias->targets[i]);
    return r;
}

/* Once, and first of all. Whoever may come to us may come to where our table moves him. */
static enum expand_result rewrite(struct expansion *x, const struct conf_alias *by, const struct address *to)
{
    struct expand_node *n = &x->nodes[0];
    bool trusted = n->trusted || alias_is_ours(x->c, &n->addr);

    n->alias = by;
    n->end = EXPAND_GOES_ON;
    n->child = 1;
    x->ends--;
    enum expand_result r = add_child(x, &(struct expand_node){ .addr = *to, .target = &by->targets[0], .rewritten = true });
    if (r == EXPAND_DONE)
        x->nodes[1].trusted = trusted;
    return r;
}

static enum expand_result end_at(struct expansion *x, enum expand_end end)
{
    struct expand_node *n = &x->nodes[x->at];

    /* Only postmaster has a mailbox of a virtual domain: the one of us all. */
    if (end == EXPAND_LOCAL && map_str_get(&x->c->virtual_domains, n->addr.domain) != NULL)
        n->addr.domain = STR("");
    n->end = end;
    return EXPAND_DONE;
}

static enum expand_result follow_nobody(struct expansion *x)
{
    struct expand_node *n = &x->nodes[x->at];
    const struct conf_alias *all = n->final ? NULL : alias_catch_all(x->c, &n->addr);

    if (all == NULL || (x->at > 0 && x->nodes[n->parent].alias == all))
        return end_at(x, EXPAND_UNKNOWN);
    if (came_through(x, SIZE_MAX, all)) {
        struct address first = alias_target(x->c, all, &all->targets[0], &n->addr);
        return circle(x, &first);
    }
    n->caught = true;
    return go_on(x, all);
}

static enum expand_result follow(struct expansion *x)
{
    struct expand_node *n = &x->nodes[x->at];
    struct address to;

    if (n->alias != NULL)                /* expand_begin_alias */
        return go_on(x, n->alias);
    const struct conf_alias *a = x->at == 0 ? alias_rewrite(&x->c->recipient_rewrites, &n->addr, &to) : NULL;
    if (a != NULL)
        return rewrite(x, a, &to);
    a = n->final ? NULL : alias_of(x->c, &n->addr);
    if (a != NULL)
        return go_on(x, a);
    switch (access_rcpt(x->c, n->trusted, &n->addr)) {
    case ACCESS_LOCAL: return end_at(x, EXPAND_LOCAL);
    case ACCESS_RELAY: return end_at(x, EXPAND_REMOTE);
    case ACCESS_RELAY_DENIED: return end_at(x, EXPAND_DENIED);
    case ACCESS_UNKNOWN_USER: return follow_nobody(x);
    case ACCESS_LOCAL_IF_MAILBOX: break;
    }
    switch (n->mailbox) {
    case EXPAND_THERE: return end_at(x, EXPAND_LOCAL);
    case EXPAND_ABSENT: return follow_nobody(x);
    case EXPAND_UNASKED: break;
    }
    return EXPAND_LOOK;
}

enum expand_result expand_step(struct expansion *x)
{
    if (x->count == 0)
        return EXPAND_NO_MEMORY;
    for (; x->at < x->count; x->at++) {
        enum expand_result r = follow(x);
        if (r != EXPAND_DONE)
            return r;
    }
    return x->ends > x->c->alias_recipients_max && x->count > 1 ? EXPAND_TOO_MANY : EXPAND_DONE;
}

const struct address *expand_asked(const struct expansion *x)
{
    assert(x->at < x->count);
    return &x->nodes[x->at].addr;
}

void expand_answer(struct expansion *x, bool there_is_one)
{
    assert(x->at < x->count);
    x->nodes[x->at].mailbox = there_is_one ? EXPAND_THERE : EXPAND_ABSENT;
}
