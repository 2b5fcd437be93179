/*
 * The index: both orders against a plain array, whatever comes and goes; and what a million messages cost.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "queue/index.h"
#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#define IDS     5000u
#define STEPS   60000u
#define MILLION 1000000u

static uint64_t state;

static uint64_t random_below(uint64_t bound)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (state >> 33) % bound;
}

struct model {
    struct index  ix;
    struct entry *there[IDS];                        /* by id - 1 */
    size_t        count;
};

static void check_order(const struct model *m)
{
    uint64_t after = 0;
    size_t count = 0;
    struct entry *out[7];

    for (size_t n; (n = index_after(&m->ix, after, out, 7)) > 0; count += n)
        for (size_t i = 0; i < n; i++) {
            assert_true(out[i]->id > after);
            assert_ptr_equal(out[i], m->there[out[i]->id - 1]);
            after = out[i]->id;
        }
    assert_int_equal(count, m->count);
    assert_int_equal(m->ix.count, m->count);
}

static void check_top(const struct model *m)
{
    const struct heap_node *top = heap_top(&m->ix.due);
    for (size_t i = 0; i < IDS; i++)
        assert_true(m->there[i] == NULL || m->there[i]->node.key >= top->key);
}

static void add(struct model *m, uint64_t id)
{
    struct entry *e = entry_new(id, 1 + (uint32_t)(id % 3));
    assert_non_null(e);
    int r = index_add(&m->ix, e);
    assert_int_equal(r, m->there[id - 1] == NULL ? 0 : -EEXIST);
    if (r < 0) {
        free(e);
        return;
    }
    heap_change(&m->ix.due, &e->node, (int64_t)random_below(1000));
    m->there[id - 1] = e;
    m->count++;
}

static void take(struct model *m, uint64_t id)
{
    struct entry *e = index_get(&m->ix, id);
    assert_ptr_equal(e, m->there[id - 1]);
    if (e == NULL)
        return;
    index_remove(&m->ix, e);
    free(e);
    m->there[id - 1] = NULL;
    m->count--;
}

/* Grows, shrinks to almost nothing, and grows again. */
static void as_an_array_does(void **unused)
{
    (void)unused;
    static struct model m;
    state = 7;
    index_init(&m.ix);
    for (unsigned i = 0; i < STEPS; i++) {
        bool shrinking = i / (STEPS / 6) % 2 == 1;
        uint64_t id = 1 + random_below(IDS);
        if (random_below(10) < (shrinking ? 1 : 7))
            add(&m, id);
        else
            take(&m, id);
        if (i % 1000 == 0) {
            check_order(&m);
            check_top(&m);
        }
    }
    check_order(&m);
    assert_null(index_get(&m.ix, IDS + 1));
    index_free(&m.ix);
}

/* A few stay, here and there, until the last: places that are nearly empty come together. */
static void thins_out(void **unused)
{
    (void)unused;
    static struct model m;
    index_init(&m.ix);
    for (uint64_t id = 1; id <= IDS; id++)
        add(&m, id);
    for (unsigned step = 2; step <= 4096; step *= 2) {
        for (uint64_t id = 1; id <= IDS; id++)
            if (id % step != 0 && m.there[id - 1] != NULL)
                take(&m, id);
        check_order(&m);
    }
    for (uint64_t id = IDS; id > 0; id--) {
        if (m.there[id - 1] == NULL)
            add(&m, id);
        if (id % 500 == 0)
            check_order(&m);
    }
    for (uint64_t id = IDS; id > 0; id--) {
        take(&m, id);
        if (id % 500 == 0)
            check_order(&m);
    }
    index_free(&m.ix);
}

static void the_next_that_is_due(void **unused)
{
    (void)unused;
    static const int64_t due[] = { 30, 10, INDEX_NEVER, 20, INDEX_UNSURE };
    static const uint64_t expected[] = { 2, 4, 1, 5, 3 };
    struct index ix;
    index_init(&ix);
    for (size_t i = 0; i < 5; i++) {
        struct entry *e = entry_new(i + 1, 1);
        assert_int_equal(index_add(&ix, e), 0);
        assert_true(e->node.key == INDEX_NEVER);     /* until it is scheduled */
        heap_change(&ix.due, &e->node, due[i]);
    }
    for (size_t i = 0; i < 5; i++) {
        struct entry *e = CONTAINER_OF(heap_top(&ix.due), struct entry, node);
        assert_int_equal(e->id, expected[i]);
        index_remove(&ix, e);
        free(e);
    }
    index_free(&ix);
}

static size_t bytes_in_use(void)
{
    struct mallinfo2 m = mallinfo2();
    return m.uordblks + m.hblkhd;
}

/* DESIGN.md, 5: a million messages with one recipient each in at most 256 MiB, as the allocator counts. */
static void a_million(void **unused)
{
    (void)unused;
    struct index ix;
    size_t before = bytes_in_use();
    index_init(&ix);
    for (uint64_t i = 0; i < MILLION; i++) {
        struct entry *e = entry_new((i << 20) + 1, 1);
        assert_non_null(e);
        assert_int_equal(index_add(&ix, e), 0);
        heap_change(&ix.due, &e->node, (int64_t)(i * 7919 % MILLION));
    }
    size_t bytes = bytes_in_use() - before;
    print_message("a message with one recipient: %.1f bytes\n", (double)bytes / MILLION);
#if !defined(SAN_ADDRESS) && !defined(SAN_THREAD)    /* their allocators do not say */
    assert_true(bytes >= MILLION * sizeof(struct entry));
    assert_true(bytes <= (size_t)256 << 20);
#endif
    assert_int_equal(index_get(&ix, ((uint64_t)(MILLION / 2) << 20) + 1)->rcpts, 1);
    index_free(&ix);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_an_array_does),
        cmocka_unit_test(thins_out),
        cmocka_unit_test(the_next_that_is_due),
        cmocka_unit_test(a_million),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
