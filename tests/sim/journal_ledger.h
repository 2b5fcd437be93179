/*
 * The ledger of a crash test: what was asked of the queue, and what was answered, each with the number of disk operations that
 * had happened by then. From it follows what a queue recovered from a crash at any operation must, may and must not hold.
 *
 * A fact has a begin (the question) and an ack (the answer). At a crash: acknowledged means it must be so; begun means it
 * may be so; else it must not. After a recovery the ledger is resolved: what was found is acknowledged from then on, and
 * what was not found must not come later.
 */
#ifndef TESTS_SIM_JOURNAL_LEDGER_H
#define TESTS_SIM_JOURNAL_LEDGER_H

#include "queue/queue.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NEVER      UINT64_MAX
#define RCPTS_MAX  6
#define EVENTS_MAX 24

struct fact {
    uint64_t begin, ack;
    int      value;
};

struct facts {
    struct fact list[EVENTS_MAX];
    unsigned    count;
};

struct message {
    uint64_t     id;
    unsigned     number;                             /* in its sender's address */
    uint32_t     crc;
    uint64_t     size;
    unsigned     rcpts;
    struct fact  put;                                /* begin NEVER: not handed in yet */
    uint64_t     failed;                             /* the moment (of ledger.moment) of an error; NEVER */
    uint64_t     absent_from;                        /* it must not be there any more; NEVER */
    struct fact  end[RCPTS_MAX];                     /* value: enum rcpt_state */
    struct facts attempts, held, way;                /* way: of its first recipient, value: number of the hop; 0: as usual */
    int          way_seen;                           /* a check's */
    bool         seen;                               /* a check's */
};

struct ledger {
    struct message *messages;
    unsigned        count, capacity;
    uint64_t        moment;                          /* counts questions and answers, to order them */
};

static inline void ledger_copy(struct ledger *to, const struct ledger *from)
{
    *to = *from;
    to->capacity = from->count;
    to->messages = malloc((from->count + 1) * sizeof *to->messages);
    memcpy(to->messages, from->messages, from->count * sizeof *to->messages);
}

static inline void ledger_free(struct ledger *l)
{
    free(l->messages);
    *l = (struct ledger){ 0 };
}

static inline struct message *ledger_add(struct ledger *l)
{
    if (l->count == l->capacity) {
        l->capacity = l->capacity == 0 ? 64 : 2 * l->capacity;
        l->messages = realloc(l->messages, l->capacity * sizeof *l->messages);
    }
    struct message *m = &l->messages[l->count++];
    memset(m, 0, sizeof *m);
    m->number = l->count - 1;
    m->put = (struct fact){ NEVER, NEVER, 0 };
    m->failed = m->absent_from = NEVER;
    for (unsigned i = 0; i < RCPTS_MAX; i++)
        m->end[i] = (struct fact){ NEVER, NEVER, 0 };
    return m;
}

static inline struct message *ledger_find(const struct ledger *l, uint64_t id)
{
    for (unsigned i = l->count; i-- > 0;)
        if (l->messages[i].id == id)
            return &l->messages[i];
    return NULL;
}

static inline unsigned facts_begin(struct facts *f, uint64_t at, int value)
{
    if (f->count == EVENTS_MAX)
        abort();                                     /* a workload that does too much to one message */
    f->list[f->count] = (struct fact){ at, NEVER, value };
    return f->count++;
}

/* An answer to a question that was asked at `asked`: whatever failed before it is abandoned durably by now. */
static inline void ledger_acked(struct ledger *l, uint64_t asked, uint64_t at)
{
    for (unsigned i = 0; i < l->count; i++) {
        struct message *m = &l->messages[i];
        if (m->failed != NEVER && m->failed < asked && m->absent_from == NEVER)
            m->absent_from = at;
    }
}

/* ---- at a crash ---- */

enum expected { MUST_NOT, MAY, MUST };

static inline enum expected fact_at(const struct fact *f, uint64_t at)
{
    return f->begin == NEVER || f->begin > at ? MUST_NOT : f->ack > at ? MAY : MUST;
}

static inline enum expected message_at(const struct message *m, uint64_t at)
{
    unsigned over = 0, perhaps_over = 0;

    if (m->absent_from <= at)
        return MUST_NOT;
    enum expected put = fact_at(&m->put, at);
    for (unsigned i = 0; i < m->rcpts; i++) {
        enum expected end = fact_at(&m->end[i], at);
        over += end == MUST;
        perhaps_over += end != MUST_NOT;
    }
    if (put == MUST_NOT || over == m->rcpts)
        return MUST_NOT;
    return put == MAY || perhaps_over == m->rcpts ? MAY : MUST;
}

static inline bool held_fits(const struct message *m, uint64_t at, bool held)
{
    bool last = false, fits = false;

    for (unsigned i = 0; i < m->held.count; i++) {
        const struct fact *f = &m->held.list[i];
        if (fact_at(f, at) == MUST)
            last = f->value, fits = false;
        else if (fact_at(f, at) == MAY)
            fits |= held == f->value;
    }
    return fits || held == last;
}

static inline bool way_fits(const struct message *m, uint64_t at, int way)
{
    int last = 0;
    bool fits = false;

    for (unsigned i = 0; i < m->way.count; i++) {
        const struct fact *f = &m->way.list[i];
        if (fact_at(f, at) == MUST)
            last = f->value, fits = false;
        else if (fact_at(f, at) == MAY)
            fits |= way == f->value;
    }
    return fits || way == last;
}

static inline bool attempts_fit(const struct message *m, uint64_t at, unsigned attempts)
{
    unsigned least = 0, most = 0;

    for (unsigned i = 0; i < m->attempts.count; i++) {
        least += fact_at(&m->attempts.list[i], at) == MUST;
        most += fact_at(&m->attempts.list[i], at) != MUST_NOT;
    }
    return attempts >= least && attempts <= most;
}

/* ---- after a crash ---- */

static inline void fact_rebase(struct fact *f, uint64_t at)
{
    if (f->begin == NEVER || f->begin > at) {
        *f = (struct fact){ NEVER, NEVER, 0 };
        return;
    }
    f->begin = 0;
    f->ack = f->ack <= at ? 0 : NEVER;
}

static inline void facts_rebase(struct facts *facts, uint64_t at)
{
    unsigned left = 0;

    for (unsigned i = 0; i < facts->count; i++) {
        fact_rebase(&facts->list[i], at);
        if (facts->list[i].begin != NEVER)
            facts->list[left++] = facts->list[i];
    }
    facts->count = left;
}

/* What was known at that operation becomes what is known at the start of a new history. */
static inline void ledger_rebase(struct ledger *l, uint64_t at)
{
    for (unsigned i = 0; i < l->count; i++) {
        struct message *m = &l->messages[i];
        if (m->absent_from != NEVER)
            m->absent_from = m->absent_from <= at ? 0 : NEVER;
        m->failed = NEVER;                           /* nobody will name it as abandoned now: found or not, it is resolved */
        fact_rebase(&m->put, at);
        for (unsigned k = 0; k < m->rcpts; k++)
            fact_rebase(&m->end[k], at);
        facts_rebase(&m->attempts, at);
        facts_rebase(&m->held, at);
        facts_rebase(&m->way, at);
    }
}

static inline void message_resolve_absent(struct message *m, uint64_t now)
{
    if (m->put.begin == 0 && m->absent_from == NEVER)
        m->absent_from = now;
}

static inline void message_resolve(struct message *m, uint64_t now, const uint8_t *states, unsigned attempts, bool held)
{
    unsigned counted = 0, left = 0;

    if (m->put.ack > now)
        m->put.ack = now;
    for (unsigned k = 0; k < m->rcpts; k++)
        if (m->end[k].ack == NEVER)
            m->end[k] = states[k] == RCPT_PENDING ? (struct fact){ NEVER, NEVER, 0 } : (struct fact){ 0, now, states[k] };
    for (unsigned i = 0; i < m->attempts.count; i++) {
        struct fact f = m->attempts.list[i];
        if (counted == attempts)
            break;
        counted++;
        if (f.ack == NEVER)
            f.ack = now;
        m->attempts.list[left++] = f;
    }
    m->attempts.count = left;
    unsigned last = facts_begin(&m->held, 0, held);
    m->held.list[last].ack = now;
    if (m->way.count > 0) {
        last = facts_begin(&m->way, 0, m->way_seen);
        m->way.list[last].ack = now;
    }
}

#endif
