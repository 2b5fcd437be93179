/*
 * A mail transaction's memory.
 */
#include "inbound/transaction.h"
#include <errno.h>
#include <stdint.h>
#include <string.h>

#define ARENA_BASE     (64 * 1024)       /* the sender, and the arguments of one command that is refused in the end */
#define ARENA_PER_RCPT 3072              /* an address, its ORCPT, its keys, its place in the array and in the arrays before */

void transaction_init(struct transaction *t, uint32_t rcpts_max)
{
    memset(t, 0, sizeof *t);
    arena_init(&t->arena, ARENA_BASE + (size_t)rcpts_max * ARENA_PER_RCPT);
    map_str_init(&t->rcpt_keys);
    map_str_init(&t->named);
}

void transaction_reset(struct transaction *t)
{
    struct arena arena = t->arena;

    receiving_free(&t->text);
    map_str_free(&t->rcpt_keys);
    map_str_free(&t->named);
    arena_reset(&arena);
    memset(t, 0, sizeof *t);
    t->arena = arena;
    map_str_init(&t->rcpt_keys);
    map_str_init(&t->named);
}

bool transaction_was_named(struct transaction *t, const struct address *rcpt)
{
    struct arena_mark before = arena_mark(&t->arena);
    struct str key = address_key(&t->arena, rcpt);
    bool was = key.p != NULL && map_str_get(&t->named, key) != NULL;

    arena_rewind(&t->arena, before);
    return was;
}

int transaction_name(struct transaction *t, const struct address *rcpt)
{
    struct arena_mark before = arena_mark(&t->arena);
    struct str key = address_key(&t->arena, rcpt);

    if (key.p != NULL && str_eq(key, t->last_key)) {         /* one copy, as a message may have a thousand */
        arena_rewind(&t->arena, before);
        key = t->last_key;
    }
    return key.p == NULL ? -ENOMEM : map_str_put(&t->named, key, t);
}

int transaction_add(struct transaction *t, const struct recipient *rcpt, struct str key)
{
    if (map_str_get(&t->rcpt_keys, key) != NULL)
        return 0;
    if (t->rcpt_count == t->rcpt_capacity) {
        size_t capacity = t->rcpt_capacity == 0 ? 4 : t->rcpt_capacity * 2;
        struct recipient *rcpts = arena_array(&t->arena, capacity, sizeof *rcpts);
        if (rcpts == NULL)
            return -ENOMEM;
        if (t->rcpt_count > 0)
            memcpy(rcpts, t->rcpts, t->rcpt_count * sizeof *rcpts);
        t->rcpts = rcpts;
        t->rcpt_capacity = capacity;
    }
    if (map_str_put(&t->rcpt_keys, key, (void *)(uintptr_t)(t->rcpt_count + 1)) < 0)
        return -ENOMEM;
    t->rcpts[t->rcpt_count++] = *rcpt;
    t->last_key = key;
    return 0;
}

struct transaction_mark transaction_mark(const struct transaction *t)
{
    return (struct transaction_mark){ t->rcpts, t->rcpt_count, t->rcpt_capacity };
}

void transaction_take_back(struct transaction *t, struct transaction_mark to)
{
    size_t cursor = 0;
    struct str key;
    void *value;

    while (map_str_next(&t->rcpt_keys, &cursor, &key, &value))
        if ((uintptr_t)value > to.rcpt_count)
            (void)map_str_remove(&t->rcpt_keys, key);
    t->rcpts = to.rcpts;                 /* an array that grew since goes with the arena's rest */
    t->rcpt_count = to.rcpt_count;
    t->rcpt_capacity = to.rcpt_capacity;
    t->last_key = STR("");
}
