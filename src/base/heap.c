/*
 * A binary heap of intrusive nodes; the contract is in heap.h. Each node knows its place, so that removing one does not
 * search. Runs in every process.
 */
#include "base/heap.h"
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

enum { CAPACITY_FIRST = 16 };

void heap_init(struct heap *h)
{
    *h = (struct heap){ 0 };
}

void heap_free(struct heap *h)
{
    for (size_t i = 0; i < h->count; i++)
        h->nodes[i]->position = HEAP_OUTSIDE;
    free(h->nodes);
    heap_init(h);
}

void heap_node_init(struct heap_node *node)
{
    *node = (struct heap_node){ .position = HEAP_OUTSIDE };
}

static void place(struct heap *h, size_t at, struct heap_node *node)
{
    h->nodes[at] = node;
    node->position = (uint32_t)at;
}

static void sift_up(struct heap *h, size_t at)
{
    struct heap_node *node = h->nodes[at];

    while (at > 0 && h->nodes[(at - 1) / 2]->key > node->key) {
        place(h, at, h->nodes[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    place(h, at, node);
}

static void sift_down(struct heap *h, size_t at)
{
    struct heap_node *node = h->nodes[at];

    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= h->count)
            break;
        if (child + 1 < h->count && h->nodes[child + 1]->key < h->nodes[child]->key)
            child++;
        if (h->nodes[child]->key >= node->key)
            break;
        place(h, at, h->nodes[child]);
        at = child;
    }
    place(h, at, node);
}

static int grow(struct heap *h)
{
    size_t capacity = h->capacity == 0 ? CAPACITY_FIRST : 2 * h->capacity;

    if (capacity > HEAP_OUTSIDE)
        return -ENOMEM;
    struct heap_node **nodes = reallocarray(h->nodes, capacity, sizeof *nodes);
    if (nodes == NULL)
        return -ENOMEM;
    h->nodes = nodes;
    h->capacity = capacity;
    return 0;
}

int heap_push(struct heap *h, struct heap_node *node, int64_t key)
{
    assert(node->position == HEAP_OUTSIDE);
    if (h->count == h->capacity) {
        int r = grow(h);
        if (r < 0)
            return r;
    }
    node->key = key;
    place(h, h->count++, node);
    sift_up(h, node->position);
    return 0;
}

struct heap_node *heap_top(const struct heap *h)
{
    return h->count == 0 ? NULL : h->nodes[0];
}

struct heap_node *heap_pop(struct heap *h)
{
    struct heap_node *node = heap_top(h);

    if (node != NULL)
        heap_remove(h, node);
    return node;
}

/* The node stands where it did before its key changed; put it where it belongs. */
static void settle(struct heap *h, struct heap_node *node)
{
    sift_up(h, node->position);
    sift_down(h, node->position);
}

void heap_remove(struct heap *h, struct heap_node *node)
{
    if (node->position == HEAP_OUTSIDE)
        return;
    size_t at = node->position;
    assert(at < h->count && h->nodes[at] == node);
    struct heap_node *last = h->nodes[--h->count];
    if (last != node) {
        place(h, at, last);
        settle(h, last);
    }
    node->position = HEAP_OUTSIDE;
}

void heap_change(struct heap *h, struct heap_node *node, int64_t key)
{
    assert(node->position < h->count && h->nodes[node->position] == node);
    node->key = key;
    settle(h, node);
}
