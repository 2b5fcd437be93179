/*
 * A binary heap of intrusive nodes: the smallest key first, equal keys in order of insertion where the caller puts a
 * sequence number into the key. Push, pop, remove and change are O(log n). Not thread-safe.
 */
#ifndef BASE_HEAP_H
#define BASE_HEAP_H

#include <stddef.h>
#include <stdint.h>

#define HEAP_OUTSIDE UINT32_MAX

struct heap_node {
    int64_t  key;
    uint32_t position;               /* HEAP_OUTSIDE while in no heap; heap_node_init sets it */
};

struct heap {
    struct heap_node **nodes;        /* owned array of borrowed nodes */
    size_t             count, capacity;
};

void heap_init(struct heap *h);
void heap_free(struct heap *h);
void heap_node_init(struct heap_node *node);
int  heap_push(struct heap *h, struct heap_node *node, int64_t key);   /* -ENOMEM, node untouched */
struct heap_node *heap_top(const struct heap *h);                      /* NULL if empty */
struct heap_node *heap_pop(struct heap *h);                            /* NULL if empty */
void heap_remove(struct heap *h, struct heap_node *node);              /* nothing if it is in no heap */
void heap_change(struct heap *h, struct heap_node *node, int64_t key); /* the node must be in h */

/* The struct that holds a member, from the member's address. */
#define CONTAINER_OF(pointer, type, member) ((type *)(void *)((char *)(pointer) - offsetof(type, member)))

#endif
