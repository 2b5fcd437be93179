/*
 * A message that an operator gives other recipients or another way: it is written again, whole, and the record before does not count
 * any more. The contract is in queue.h. Runs in the worker.
 */
#include "queue/queue_internal.h"

#include "base/metrics.h"
#include "queue/whole.h"
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

struct words {
    struct claim_held *held;
    struct outcome    *last;
    int                result;
};

static void load_words(void *arg)
{
    struct words *w = arg;
    const struct entry *e = w->held->entry;
    const struct segment *from = e->last_segment != NULL ? e->last_segment : e->segment;
    uint64_t at = (uint64_t)(e->last_segment != NULL ? e->last_place : e->place) * RECORD_ALIGN;
    int64_t newest_ns;

    w->result = load_outcomes(w->held->claim.queue, from, at, &w->held->claim.arena, w->last, e->rcpts, &newest_ns);
}

struct outcome *claim_words(struct claim *c)
{
    uint32_t rcpts = claim_held_of(c)->entry->rcpts;
    struct words w = { .held = claim_held_of(c), .last = arena_array(&c->arena, rcpts, sizeof *w.last) };

    if (w.last == NULL)
        return NULL;
    int r = offload_run(c->queue->disk_pool, load_words, &w);
    for (uint32_t i = 0; i < rcpts; i++) {
        if (r < 0 || w.result < 0)
            w.last[i] = (struct outcome){ 0 };
        w.last[i].rcpt = i;
    }
    return w.last;
}

struct rewrite {
    struct claim_held *held;
    struct outcome    *last;
    uint8_t           *states;
    struct buf         envelope, payload;            /* owned */
};

static int copy_states(struct rewrite *rw, const enum rcpt_state *states)
{
    uint32_t n = rw->held->entry->rcpts;

    rw->states = arena_alloc(&rw->held->claim.arena, n);
    if (rw->states == NULL)
        return -ENOMEM;
    for (uint32_t i = 0; i < n; i++)
        rw->states[i] = (uint8_t)states[i];
    return 0;
}

/* The entry does not change meanwhile: it is claimed, and not moving. */
static int build(struct rewrite *rw, const struct envelope *env, int64_t now_wall_ns)
{
    const struct claim_held *h = rw->held;
    const struct entry *e = h->entry;
    uint64_t max = commit_payload_max(&h->claim.queue->journal);

    envelope_put(&rw->envelope, env);
    if (!buf_ok(&rw->envelope))
        return rw->envelope.n > max / 2 ? -EMSGSIZE : -ENOMEM;
    const struct whole whole = {
        .id = e->id,
        .arrived_ns = h->record.arrived_ns,
        .due_wall_ns = now_wall_ns,
        .attempts = e->attempts,
        .rcpts = e->rcpts,
        .states = rw->states,
        .held = e->life == LIFE_TAKEN,
        .envelope = buf_str(&rw->envelope),
        .before = h->record.payload,
        .last = rw->last,
        .body_in_file = h->record.body_in_file,
        .body_size = h->record.body_size,
        .body_crc = h->record.body_crc,
    };
    return whole_put(&rw->payload, &whole, now_wall_ns, max);
}

static void apply(struct rewrite *rw, const struct commit_ticket *ticket)
{
    struct queue *q = rw->held->claim.queue;
    struct entry *e = rw->held->entry;
    const struct segment *before = e->segment;

    queue_lock(q);
    queue_change_place(q, e, ticket);
    bool empty = before->live == 0;
    for (uint32_t i = 0; i < e->rcpts; i++) {
        bool over = rw->states[i] != RCPT_PENDING && e->states[i] == RCPT_PENDING;
        e->pending -= over;
        e->states[i] = rw->states[i];
        metric_add(METRIC_rcpts_discarded, over);
    }
    assert(e->pending > 0);
    queue_unlock(q);
    if (empty)
        queue_maintain(q);
}

/* Awaits. */
static int rewrite(struct rewrite *rw, const struct envelope *env, const enum rcpt_state *states)
{
    struct queue *q = rw->held->claim.queue;

    rw->last = claim_words(&rw->held->claim);
    int r = rw->last == NULL ? -ENOMEM : copy_states(rw, states);
    if (r == 0)
        r = build(rw, env, clock_wall_ns());
    if (r < 0)
        return r;
    struct str body = rw->held->record.body_in_file ? (struct str){ 0 } : rw->held->record.body;
    struct commit_ticket ticket = { .type = RECORD_REROUTED, .pieces = { buf_str(&rw->payload), body }, .reserved = true };
    r = commit_record(&q->commit, &ticket);
    if (r == 0)
        apply(rw, &ticket);
    return r;
}

int queue_reroute(struct claim *c, const struct envelope *env, const enum rcpt_state *states)
{
    struct rewrite rw = { .held = claim_held_of(c) };
    uint64_t max = commit_payload_max(&c->queue->journal);

    assert(env->rcpt_count == rw.held->entry->rcpts);
    buf_init(&rw.envelope, max);
    buf_init(&rw.payload, max);
    claim_begin_writing(c);
    int r = rewrite(&rw, env, states);
    buf_free(&rw.envelope);
    buf_free(&rw.payload);
    claim_end(c, EVENT_UNCLAIM, r == 0 ? clock_mono_ns() : rw.held->entry->due_mono_ns);
    return r;
}
