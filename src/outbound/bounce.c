/*
 * A message that an operator returns: see bounce.h. The queue sees a delivery like any other, in which every recipient failed for good.
 */
#include "outbound/bounce.h"
#include "base/clock.h"
#include "base/utf8.h"
#include "outbound/deliver.h"
#include "outbound/dsn.h"
#include <errno.h>

#define STATUS "5.0.0"               /* RFC 3463, 3.1: undefined; no code says that a person has decided it */

static bool is_reason(struct str reason)
{
    if (reason.n == 0 || reason.n > BOUNCE_REASON_MAX || !utf8_valid(reason))
        return false;
    for (size_t i = 0; i < reason.n; i++)
        if ((unsigned char)reason.p[i] < ' ' || reason.p[i] == 0x7f)
            return false;
    return true;
}

static size_t fail_pending(const struct claim *c, struct str reason, struct outcome *outcomes)
{
    size_t count = 0;

    for (uint32_t i = 0; i < c->env.rcpt_count; i++)
        if (c->states[i] == RCPT_PENDING)
            outcomes[count++] = (struct outcome){ .rcpt = i, .state = RCPT_BOUNCED, .status = STR(STATUS), .text = reason };
    return count;
}

/* Awaits. *out_told is how many, from the first, are told of or need not be; 0 when that is all of them. */
static int tell_sender(struct claim *c, struct outcome *outcomes, size_t count, size_t *out_told)
{
    struct conf *conf = conf_current();
    int r = 0;
    size_t told = 0;

    while (told < count) {
        size_t n = count - told < DSN_RCPTS ? count - told : DSN_RCPTS;
        struct dsn dsn = { .conf = conf, .claim = c, .outcomes = outcomes + told, .count = n, .now_wall_ns = clock_wall_ns() };
        uint64_t dsn_id;
        r = dsn_send(&dsn, &dsn_id);
        if (r < 0)
            break;
        for (size_t i = 0; i < n; i++)
            deliver_log(c, &outcomes[told + i], dsn_id);
        told += n;
    }
    conf_unref(conf);
    *out_told = told;
    return r;
}

/* Awaits; gives the claim back. */
static int return_claimed(struct claim *c, struct str reason)
{
    struct outcome *outcomes = arena_array(&c->arena, c->env.rcpt_count, sizeof *outcomes);
    size_t told = 0;
    int r = -ENOMEM;

    if (outcomes != NULL)
        r = tell_sender(c, outcomes, fail_pending(c, reason, outcomes), &told);
    if (told == 0) {
        queue_give_back(c);
        return r;
    }
    /* Some may be pending still; the others' time has come, unless the sender has set a later one (RFC 4865). */
    int64_t now = clock_wall_ns();
    int settled = queue_settle(c, outcomes, told, c->env.hold_until_ns > now ? c->env.hold_until_ns : now);
    return r < 0 ? r : settled;
}

int bounce_message(struct queue *q, uint64_t id, struct str reason)
{
    struct claim *c;

    if (!is_reason(reason))
        return -EINVAL;
    int r = queue_claim_one(q, id, &c);
    if (r < 0)
        return r;
    task_shield_begin();                                     /* between the DSN and the settling there is no stopping */
    r = return_claimed(c, reason);
    task_shield_end();
    return r;
}
