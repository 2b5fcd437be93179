/*
 * Gathered work: what is ready at the same time goes in one call on a helper thread, because together it costs less than one by one: files to
 * be synced in one directory, say.
 *
 * Nothing waits for company. Who finds room for a further turn begins one; what comes meanwhile is taken together by the turn that is free
 * next. Two turns, so that one works while the other waits for the disk; more where the waits are long, for then threads cost nothing.
 */
#ifndef RUN_GATHER_H
#define RUN_GATHER_H

#include "run/offload.h"

#define GATHER_MAX 32u                   /* items in one turn */

struct gather;

/* One turn: works on all of them, BLOCKS, and returns how long one wait of the kind that it is about took (0: there was none). */
typedef int64_t gather_fn(void *const items[], size_t count);

/* The pool is borrowed, must outlive it, and bounds the turns at a time: turns_max of its threads at most. wait_ns: a further turn for each
 * of these that a wait lasts. NULL without memory. */
struct gather *gather_new(struct offload *pool, gather_fn *fn, unsigned turns_max, int64_t wait_ns);
void           gather_free(struct gather *g);    /* when the pool has ended, and so every turn; NULL is fine */

/* Awaits the turn that the item goes with, whatever the caller's cancellation. The item may be on the caller's stack. From any loop. */
void gather_run(struct gather *g, void *item);

#endif
