/*
 * The whole way of an address: rewriting, aliases of aliases, catch-all, to the mailboxes and other servers at its ends. Pure.
 *
 * The caller asks for the next step until all is done; where a mailbox must be looked at, the expansion says so and is told. Every address on
 * the way is a node that knows where it came from and why, so that the way can be shown, and a circle named.
 *
 * Promises: an address is followed once, so a table of any shape costs no more than its size; an alias that names itself means the mailbox of
 * that name; a circle, a way too deep or too wide is an answer, and ends it.
 */
#ifndef POLICY_EXPAND_H
#define POLICY_EXPAND_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/map.h"
#include "conf/conf.h"
#include "mail/address.h"

#define EXPAND_DEPTH_MAX 50              /* aliases of aliases */

enum expand_end {
    EXPAND_OPEN,                         /* not looked at yet */
    EXPAND_GOES_ON,                      /* into its children */
    EXPAND_LOCAL,                        /* a mailbox of ours */
    EXPAND_REMOTE,                       /* another server's */
    EXPAND_UNKNOWN,                      /* nobody's */
    EXPAND_DENIED,                       /* another server's, and the client may not send there */
};

struct expand_node {
    struct address            addr;
    size_t                    parent;    /* of the first: itself */
    const struct conf_target *target;    /* by which it came from its parent; NULL of the first */
    const struct conf_alias  *alias;     /* that leads on from it; NULL: none */
    size_t                    child, child_count;    /* its children are neighbours */
    size_t                    known_count;           /* targets that stand elsewhere on the way already */
    unsigned                  depth;
    bool                      rewritten; /* by recipient_rewrites_file, not by an alias */
    bool                      caught;    /* by "@domain" */
    bool                      final;     /* not to be looked up: the alias names itself, or says \name */
    bool                      trusted;   /* may go anywhere: the client may, or our tables say so */
    enum { EXPAND_UNASKED, EXPAND_THERE, EXPAND_ABSENT } mailbox;
    enum expand_end           end;
};

enum expand_result {
    EXPAND_DONE,
    EXPAND_LOOK,                         /* is there a mailbox for expand_asked()? Tell by expand_answer, and step on */
    EXPAND_LOOP,                         /* expand_put_loop names it; likewise below */
    EXPAND_TOO_DEEP,
    EXPAND_TOO_MANY,                     /* more than alias_recipients_max */
    EXPAND_NO_MEMORY,
};

struct expansion {
    const struct conf  *c;
    struct arena        arena;           /* of the nodes, and of the keys of seen */
    struct map_str      seen;            /* address_key -> its node's index + 1 */
    struct expand_node *nodes;
    size_t              count, capacity, at;
    size_t              ends;            /* nodes that lead no further, as far as is known */
    struct address      culprit;         /* of EXPAND_LOOP: what is named again; its node would be a child of nodes[at] */
};

/* rcpt, and what c holds, must outlive it. First of all expand_begin; expand_free at the end, whatever came. */
void               expand_begin(struct expansion *x, const struct conf *c, bool trusted, const struct address *rcpt);
/* The same from an alias on, whatever the way to it: to check it. */
void               expand_begin_alias(struct expansion *x, const struct conf *c, const struct conf_alias *alias, const struct address *rcpt);
enum expand_result expand_step(struct expansion *x);
const struct address *expand_asked(const struct expansion *x);
void               expand_answer(struct expansion *x, bool there_is_one);
void               expand_free(struct expansion *x);

/* "a@x -> b@x -> a@x": the way to where it ended before its time. */
void               expand_put_loop(struct buf *out, const struct expansion *x);

#endif
