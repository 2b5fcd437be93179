/*
 * Arenas: memory that goes all at once.
 *
 * Everything of one transaction lives in its arena, everything of a session in the session's. An arena has a limit; at
 * the limit, or when the heap is empty, arena_alloc returns NULL and arena_failed() stays true until the next reset, so
 * that a caller may make several allocations and check once.
 */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H

#include <stdbool.h>
#include <stddef.h>

struct arena_block;

struct arena {
    struct arena_block *blocks;      /* owned; newest first */
    size_t              used;        /* bytes handed out, rounding included */
    size_t              limit;
    bool                failed;
};

/* How far an arena was filled. Good until the arena is reset, or rewound to an earlier mark. */
struct arena_mark {
    struct arena_block *first, *second;
    size_t              fill, used;
    bool                failed;
};

void  arena_init(struct arena *a, size_t limit);               /* allocates nothing yet */
void *arena_alloc(struct arena *a, size_t n);                  /* zeroed, aligned for any type; NULL at the limit */
void *arena_array(struct arena *a, size_t count, size_t size); /* the same with a checked product */
bool  arena_failed(const struct arena *a);
void  arena_reset(struct arena *a);                            /* frees everything; the arena can be used again */
void  arena_wipe(struct arena *a);                             /* the same, and nothing of it is left in memory */

struct arena_mark arena_mark(const struct arena *a);
void  arena_rewind(struct arena *a, struct arena_mark to);     /* frees what was allocated since, and forgets a failure since */

#endif
