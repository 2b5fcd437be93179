/*
 * What one record of the journal means for the index. Part of recovery: see recover.c.
 */
#include "queue/recover_internal.h"

#include "base/metrics.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

int recover_doubt(struct recovery *rc, uint64_t id)
{
    return map_u64_put(&rc->doubts, id, rc);
}

void recover_remove(struct queue *q, struct entry *e)
{
    uint64_t ignored;                                /* its body's file is an orphan then */
    queue_forget(q, e, &ignored);
}

static uint32_t count_pending(const struct entry *e)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < e->rcpts; i++)
        n += e->states[i] == RCPT_PENDING;
    return n;
}

void recover_fill_entry(struct entry *e, const struct record *r)
{
    if (r->states.n > 0)
        memcpy(e->states, r->states.p, r->states.n);
    e->pending = count_pending(e);
    e->attempts = r->attempts;
    e->life = r->held ? LIFE_HELD : LIFE_WAITING;
    e->arrived_wall_ns = r->arrived_ns;
    e->body_size = r->body_size;
    e->body_in_file = r->body_in_file;
    e->due_mono_ns = r->has_due ? queue_due_mono(r->due_ns, r->time_ns) : clock_mono_ns();
}

static int apply_message(struct recovery *rc, struct segment *s, const struct segment_record *at, const struct record *r)
{
    struct queue *q = rc->queue;
    struct entry *old = index_get(&q->index, r->id);

    if (old != NULL)
        recover_remove(q, old);                        /* it says everything anew */
    struct entry *e = entry_new(r->id, r->rcpts);
    if (e == NULL)
        return -ENOMEM;
    recover_fill_entry(e, r);
    int result = e->pending == 0 ? -ENOENT : index_add(&q->index, e);
    if (result < 0) {
        free(e);
        return result == -ENOENT ? 0 : result;
    }
    s->live++;
    entry_place(e, s, at->offset, at->head.length);
    q->live_bytes += entry_record_size(e);
    metric_add(METRIC_queue_messages, 1);
    if (r->id > q->last_id)
        q->last_id = r->id;
    return 0;
}

static void apply_outcome(struct queue *q, struct entry *e, struct segment *s, uint64_t offset, const struct record *r)
{
    size_t cursor = 0;
    struct outcome o;

    while (record_outcome_next(r->payload, &cursor, &o))
        if (o.rcpt < e->rcpts && o.state != RCPT_PENDING)
            e->states[o.rcpt] = (uint8_t)o.state;
    e->pending = count_pending(e);
    e->attempts = r->attempts;
    e->last_segment = s;
    e->last_place = (uint32_t)(offset / RECORD_ALIGN);
    if (r->has_due)
        e->due_mono_ns = queue_due_mono(r->due_ns, r->time_ns);
    if (r->ended || e->pending == 0)
        recover_remove(q, e);
}

static void apply_state(struct queue *q, struct entry *e, uint8_t type, const struct record *r)
{
    switch ((enum record_type)type) {
    case RECORD_HELD:      e->life = LIFE_HELD; break;
    case RECORD_RELEASED:  e->life = LIFE_WAITING; break;
    case RECORD_DUE:       e->due_mono_ns = queue_due_mono(r->due_ns, r->time_ns); break;
    case RECORD_DISCARDED:
    case RECORD_ENDED:     recover_remove(q, e); break;
    case RECORD_ACCEPTED:
    case RECORD_MOVED:
    case RECORD_OUTCOME:
    case RECORD_REROUTED:
    case RECORD_ABANDONED:
    case RECORD_GAP:
    case RECORD_CLOSED:    break;
    }
}

int recover_apply_parsed(struct recovery *rc, struct segment *s, const struct segment_record *at, const struct record *r, bool doubtful)
{
    struct queue *q = rc->queue;
    uint8_t type = at->head.type;

    if (r->id == 0)
        return 0;                                    /* about no message */
    if (doubtful) {
        int result = recover_doubt(rc, r->id);
        if (result < 0)
            return result;
    } else if (type == RECORD_MOVED || type == RECORD_REROUTED || type == RECORD_ENDED) {
        (void)map_u64_remove(&rc->doubts, r->id);    /* an earlier start has written it again */
    }
    if (record_is_message(type))
        return apply_message(rc, s, at, r);
    struct entry *e = index_get(&q->index, r->id);
    if (e == NULL)
        return 0;                                    /* over already: its accept's segment has gone, or the accept was corrupt */
    if (type == RECORD_OUTCOME)
        apply_outcome(q, e, s, at->offset, r);
    else
        apply_state(q, e, type, r);
    return 0;
}

int recover_apply(struct recovery *rc, struct segment *s, const struct segment_record *at, const char *bytes, bool doubtful)
{
    struct record r;
    struct str payload = { bytes + RECORD_HEAD_SIZE, at->head.length };

    rc->out->records++;
    switch (record_parse(at->head.type, at->head.flags, payload, &r)) {
    case RECORD_OK:               return recover_apply_parsed(rc, s, at, &r, doubtful);
    case RECORD_BAD:              rc->out->bad_records++; return 0;
    case RECORD_UNKNOWN_CRITICAL: break;
    }
    return recover_complain(rc, -EPROTONOSUPPORT, s->name, "written by a newer version of nightmail, this one cannot read it");
}
