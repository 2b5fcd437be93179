/*
 * Arenas: a list of blocks, each filled from its front.
 *
 * Blocks start at 1 KiB and double up to 64 KiB, so that a small session stays small and a large one asks the heap
 * rarely; what does not fit in the next block gets one of its own. In the address sanitizer's build each allocation is a
 * block of exactly its size, so that one written beyond its end is seen. Not thread-safe; runs in every process.
 */
#include "base/arena.h"
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK_FIRST = 1024, BLOCK_LARGEST = 64 * 1024, ALIGNMENT = _Alignof(max_align_t) };

struct arena_block {
    struct arena_block *next; /* owned; older */
    size_t room;              /* bytes in data */
    size_t fill;
    _Alignas(max_align_t) char data[];
};

void arena_init(struct arena *a, size_t limit)
{
    *a = (struct arena){ .limit = limit };
}

#ifdef SAN_ADDRESS
static size_t room_of_next(const struct arena *a, size_t n)
{
    (void)a;
    return n;
}
#else
static size_t room_of_next(const struct arena *a, size_t n)
{
    size_t size = BLOCK_FIRST;

    if (a->blocks != NULL)
        size = 2 * (a->blocks->room + sizeof(struct arena_block));
    if (size > BLOCK_LARGEST)
        size = BLOCK_LARGEST;
    size_t room = size - sizeof(struct arena_block);
    return n > room ? n : room;
}
#endif

/* A block with room for n bytes, in the list: in front, or behind a block that has more left than this one will. */
static struct arena_block *block_add(struct arena *a, size_t n)
{
    size_t size, room = room_of_next(a, n);

    if (__builtin_add_overflow(sizeof(struct arena_block), room, &size))
        return NULL;
    struct arena_block *block = calloc(1, size);
    if (block == NULL)
        return NULL;
    block->room = room;
    struct arena_block **place = &a->blocks;
    if (a->blocks != NULL && a->blocks->room - a->blocks->fill > room - n)
        place = &a->blocks->next;
    block->next = *place;
    *place = block;
    return block;
}

static void *take(struct arena *a, size_t n, size_t rounded)
{
    struct arena_block *block = a->blocks;

    if (block == NULL || block->room - block->fill < rounded)
        block = block_add(a, n);
    if (block == NULL)
        return NULL;
    void *p = block->data + block->fill;
    block->fill = block->room - block->fill < rounded ? block->room : block->fill + rounded;
    return p;
}

void *arena_alloc(struct arena *a, size_t n)
{
    size_t rounded, used;

    if (n == 0)
        n = 1; /* NULL means failure and nothing else */
    if (!__builtin_add_overflow(n, ALIGNMENT - 1, &rounded)) {
        rounded -= rounded % ALIGNMENT;
        if (!__builtin_add_overflow(a->used, rounded, &used) && used <= a->limit) {
            void *p = take(a, n, rounded);
            if (p != NULL) {
                a->used = used;
                return p;
            }
        }
    }
    a->failed = true;
    return NULL;
}

void *arena_array(struct arena *a, size_t count, size_t size)
{
    size_t n;

    if (__builtin_mul_overflow(count, size, &n)) {
        a->failed = true;
        return NULL;
    }
    return arena_alloc(a, n);
}

bool arena_failed(const struct arena *a)
{
    return a->failed;
}

static void drop(struct arena_block **place)
{
    struct arena_block *block = *place;

    *place = block->next;
    free(block);
}

void arena_reset(struct arena *a)
{
    while (a->blocks != NULL)
        drop(&a->blocks);
    a->used = 0;
    a->failed = false;
}

void arena_wipe(struct arena *a)
{
    for (struct arena_block *block = a->blocks; block != NULL; block = block->next)
        explicit_bzero(block->data, block->room);
    arena_reset(a);
}

struct arena_mark arena_mark(const struct arena *a)
{
    const struct arena_block *first = a->blocks;

    return (struct arena_mark){
        .first = a->blocks,
        .second = first == NULL ? NULL : first->next,
        .fill = first == NULL ? 0 : first->fill,
        .used = a->used,
        .failed = a->failed,
    };
}

/* Later blocks stand in front of the one that was first then, or right behind it. */
void arena_rewind(struct arena *a, struct arena_mark to)
{
    while (a->blocks != to.first)
        drop(&a->blocks);
    if (to.first != NULL) {
        while (to.first->next != to.second)
            drop(&to.first->next);
        memset(to.first->data + to.fill, 0, to.first->fill - to.fill);
        to.first->fill = to.fill;
    }
    a->used = to.used;
    a->failed = to.failed;
}
