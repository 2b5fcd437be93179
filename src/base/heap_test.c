/*
 * The heap against a sorted list in mind: order, removal from the middle, changed keys.
 */
#include "base/heap.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { NODES = 500 };

static struct heap_node nodes[NODES];

/* Numerical Recipes' generator: the same disorder in every run. */
static uint32_t next_number(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

static void check(const struct heap *h)
{
    for (size_t i = 0; i < h->count; i++) {
        assert_int_equal(h->nodes[i]->position, i);
        if (i > 0)
            assert_true(h->nodes[(i - 1) / 2]->key <= h->nodes[i]->key);
    }
}

static void an_empty_one_gives_nothing(void **state)
{
    struct heap h;
    struct heap_node node;

    (void)state;
    heap_init(&h);
    heap_node_init(&node);
    assert_null(heap_top(&h));
    assert_null(heap_pop(&h));
    heap_remove(&h, &node); /* is in no heap */
    heap_free(&h);
}

static void keeps_the_extremes(void **state)
{
    static const int64_t keys[] = { 0, INT64_MAX, -1, INT64_MIN, 1 };
    struct heap h;

    (void)state;
    heap_init(&h);
    for (size_t i = 0; i < 5; i++) {
        heap_node_init(&nodes[i]);
        assert_int_equal(heap_push(&h, &nodes[i], keys[i]), 0);
    }
    static const size_t order[] = { 3, 2, 0, 4, 1 };
    for (size_t i = 0; i < 5; i++) {
        assert_ptr_equal(heap_top(&h), &nodes[order[i]]);
        assert_ptr_equal(heap_pop(&h), &nodes[order[i]]);
        assert_int_equal(nodes[order[i]].position, HEAP_OUTSIDE);
    }
    heap_free(&h);
}

static void survives_any_order(void **state)
{
    struct heap h;
    uint32_t seed = 1;
    size_t inside = 0;

    (void)state;
    heap_init(&h);
    for (size_t i = 0; i < NODES; i++)
        heap_node_init(&nodes[i]);
    for (int step = 0; step < 20000; step++) {
        struct heap_node *node = &nodes[next_number(&seed) % NODES];
        int64_t key = next_number(&seed) % 200; /* many equal ones */
        uint32_t what = next_number(&seed) % 4;
        if (node->position == HEAP_OUTSIDE) {
            assert_int_equal(heap_push(&h, node, key), 0);
            inside++;
        } else if (what == 0) {
            heap_remove(&h, node);
            assert_int_equal(node->position, HEAP_OUTSIDE);
            inside--;
        } else if (what == 1) {
            const struct heap_node *popped = heap_pop(&h);
            for (size_t i = 0; i < h.count; i++)
                assert_true(popped->key <= h.nodes[i]->key);
            inside--;
        } else {
            heap_change(&h, node, key);
        }
        assert_int_equal(h.count, inside);
        if (step % 16 == 0)
            check(&h);
    }
    for (int64_t last = INT64_MIN; inside > 0; inside--) {
        struct heap_node *node = heap_pop(&h);
        assert_true(node->key >= last);
        last = node->key;
    }
    heap_free(&h);
}

static void frees_its_nodes(void **state)
{
    struct heap h;
    struct heap_node node;

    (void)state;
    heap_init(&h);
    heap_node_init(&node);
    assert_int_equal(heap_push(&h, &node, 1), 0);
    heap_free(&h);
    assert_int_equal(node.position, HEAP_OUTSIDE);
    assert_int_equal(heap_push(&h, &node, 1), 0);
    heap_free(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_one_gives_nothing),
        cmocka_unit_test(keeps_the_extremes),
        cmocka_unit_test(survives_any_order),
        cmocka_unit_test(frees_its_nodes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
