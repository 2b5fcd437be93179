/*
 * Stacks for tasks: TASK_STACK_SIZE bytes of address space above a guard, so that running off the end stops the process
 * instead of writing into a neighbour.
 *
 * The guard is MADV_GUARD_INSTALL where the kernel has it (Linux 6.13): it splits no mapping. Stacks are cut from slabs of 64, a
 * mapping each, so that the number of stacks is bound by memory and not by vm.max_map_count, in whatever order they are given
 * back. (One mapping a stack stopped at 65,000 of them: neighbours that have been touched do not merge.) Elsewhere the guard is
 * mprotect, which costs two mappings a stack; stack_count_max() says what vm.max_map_count then allows.
 */
#ifndef RUN_STACK_H
#define RUN_STACK_H

#include <stddef.h>
#include <stdint.h>

struct stack_slab;

struct stack {
    char              *low;          /* lowest usable byte; the guard lies below */
    size_t             size;
    struct stack_slab *slab;
    unsigned           valgrind_id;
};

/* Stacks given back and kept for the next task of the same loop; the last one given is the first one taken, since its pages are in
 * the processor's cache. Beyond this number their pages go back to the system. */
#define STACK_CACHE_MAX 128

struct stack_cache {
    struct stack stacks[STACK_CACHE_MAX];
    unsigned     count;
};

int      stack_take(struct stack_cache *cache, struct stack *out);       /* -ENOMEM */
void     stack_give(struct stack_cache *cache, struct stack *s);
void     stack_cache_free(struct stack_cache *cache);                    /* of those in it; the cache may be used again */
void     stack_trim(const struct stack *s);                              /* of the running task: gives back the pages below the stack pointer */
unsigned stack_count_max(void);                                          /* UINT32_MAX where mappings do not bound it */

#endif
