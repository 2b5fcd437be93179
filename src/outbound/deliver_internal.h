/*
 * What attempt.c, settle.c and deliver.c share: one attempt, and its parts.
 */
#ifndef OUTBOUND_DELIVER_INTERNAL_H
#define OUTBOUND_DELIVER_INTERNAL_H

#include "outbound/deliver.h"
#include "outbound/retry.h"
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

/* A pending recipient. */
struct target {
    struct route    route;
    struct outcome *outcome;
};

/* The recipients of one route. */
struct part {
    struct attempt   *attempt;
    struct route      route;
    uint64_t          hash;              /* of the route */
    struct outcome  **outcomes;          /* of by_route */
    size_t            count;
    struct ticket    *ticket;            /* it is under way; NULL */
    bool              begun;             /* its ticket has come */
};

/* How far an outcome is. */
enum stage { STAGE_OPEN, STAGE_KNOWN, STAGE_SETTLED };

/* One message in our hands: from its claim until that is given back. */
struct attempt {
    struct deliver_context *context;
    uint64_t                id;
    struct claim           *c;           /* NULL: it is being fetched */
    struct conf            *conf;        /* counted */
    bool                    due;         /* all its parts are, and were offered; else only those whose tickets come */
    /* In the claim's arena: */
    struct outcome         *outcomes;    /* one per pending recipient */
    struct outcome         *settling;    /* copies of those that go into one record */
    enum stage             *stages;      /* of the outcomes */
    struct target          *targets;     /* by route */
    struct outcome        **by_route;    /* those of the targets */
    size_t                  count;
    struct part            *parts;       /* by hash */
    size_t                  part_count;

    size_t                  open;        /* outcomes that are */
    int64_t                 first_known_ns;   /* of those that are known and not settled; 0: there are none */
    bool                    settled;     /* some are */
    bool                    deferred;    /* likewise, and pending still */
    int64_t                 retry_ns;    /* monotonic: the next try of those, the earliest */
    bool                    asked_late, tell_delay, tell_late;   /* once for the whole attempt */
    int64_t                 again_ns;    /* monotonic: when to offer again what was not tried; TASK_FOREVER: all was */
    int64_t                 not_before_ns;    /* monotonic: the least that the servers asked for that deferred; TASK_FOREVER: none did */

    struct ticket          *begun, **begun_end;  /* to be seen to */
    struct task_group       group;       /* of its parts */
    struct task            *runner;      /* NULL: no task yet */
    struct attempt         *idle_prev, *idle_next;
    int64_t                 idle_since_ns;    /* monotonic; 0: it is not in that list */
};

/* -- deliver.c: awaits. What becomes of a part whose ticket has come, up to its end; the ticket is gone then. */
void part_run(struct part *p);

/* -- attempt.c: a part has its outcomes; or it goes in line, perhaps for another site than before. */
void attempt_made_known(struct part *p);
bool attempt_knows(const struct part *p);
void attempt_offer(struct part *p);

/* -- settle.c: both await. Gives the time by which to look again; the last one gives the claim back. */
int64_t settle_known(struct attempt *at);
void    settle_last(struct attempt *at);
int64_t settle_until_end(const struct attempt *at);           /* so long, until it expires */
bool    settle_must_return(const struct envelope *env, int64_t now_wall_ns);      /* its sender's time is over, and it is to come back then */

#endif
