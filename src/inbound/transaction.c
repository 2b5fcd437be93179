/*
 * A mail transaction's memory.
 */
#include "inbound/transaction.h"
#include <errno.h>
#include <string.h>

#define ARENA_BASE     (64 * 1024)       /* the sender, and the arguments of one command that is refused in the end */
#define ARENA_PER_RCPT 2048              /* an address, its ORCPT, its place in the array and in the arrays before */

void transaction_init(struct transaction *t, uint32_t recipients_max)
{
    memset(t, 0, sizeof *t);
    arena_init(&t->arena, ARENA_BASE + (size_t)recipients_max * ARENA_PER_RCPT);
}

void transaction_reset(struct transaction *t)
{
    struct arena arena = t->arena;

    receiving_free(&t->text);
    arena_reset(&arena);
    memset(t, 0, sizeof *t);
    t->arena = arena;
}

bool transaction_has(const struct transaction *t, const struct address *rcpt)
{
    for (size_t i = 0; i < t->rcpt_count; i++) {
        const struct recipient *r = &t->rcpts[i];
        bool rewritten = r->rewritten_from.local.n > 0;
        if (address_eq(rewritten ? &r->rewritten_from : &r->addr, rcpt))
            return true;
    }
    return false;
}

int transaction_add(struct transaction *t, const struct recipient *rcpt)
{
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
    t->rcpts[t->rcpt_count++] = *rcpt;
    return 0;
}
