/*
 * What operators ask and do: hold, release, retry, discard, list, show. The contract is in queue.h. Runs in the worker.
 */
#include "queue/queue_internal.h"

#include "base/metrics.h"
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct operation {
    enum life_event  event;
    enum record_type type;
};

int queue_find_quiet(struct queue *q, uint64_t id, struct entry **out)
{
    for (;;) {
        struct entry *e = index_get(&q->index, id);
        if (e == NULL)
            return -ENOENT;
        bool busy = e->moving || (e->writing && e->life != LIFE_CLAIMED && e->life != LIFE_TAKEN);
        if (!busy) {
            *out = e;
            return 0;
        }
        int r = queue_wait_quiet(q);
        if (r < 0)
            return r;
    }
}

/* May it be done now? 1: yes, and the entry is kept from others; 0: it is so already. queue.lock is held. */
static int begin(struct queue *q, uint64_t id, enum life_event event, struct entry **out, enum life_state *next)
{
    struct entry *e;
    int r = queue_find_quiet(q, id, &e);

    if (r < 0)
        return r;
    switch (life_step((enum life_state)e->life, event, next)) {
    case LIFE_NOTHING: return 0;
    case LIFE_BUSY:    return -EBUSY;
    case LIFE_ABSENT:  return -ENOENT;
    case LIFE_NEVER:   assert(!"an operator's event fits every state"); break;
    case LIFE_STEP:    break;
    }
    e->writing = true;
    queue_schedule(q, e);
    *out = e;
    return 1;
}

static void build(const struct entry *e, const struct operation *op, struct buf *out)
{
    int64_t now = clock_wall_ns();

    record_put_u64(out, RECORD_TAG_ID, e->id);
    record_put_u64(out, RECORD_TAG_TIME, (uint64_t)now);
    if (op->type == RECORD_DUE)
        record_put_u64(out, RECORD_TAG_DUE, (uint64_t)now);
}

static void end(struct queue *q, struct entry *e, const struct operation *op, enum life_state next, int result)
{
    uint64_t unlink_id = 0;
    bool empty = false;

    queue_lock(q);
    e->writing = false;
    if (result == 0)
        e->life = (uint8_t)next;
    if (result == 0 && op->event == EVENT_RETRY) {
        e->due_mono_ns = clock_mono_ns();
        e->urged = true;
    }
    if (e->life == LIFE_OVER) {
        struct segment *s = e->segment;
        if (op->type == RECORD_DISCARDED)
            metric_add(METRIC_rcpts_discarded, e->pending);
        queue_forget(q, e, &unlink_id);
        empty = s->live == 0 && s->sealed;
    } else {
        queue_schedule(q, e);
    }
    queue_wake_quiet(q);
    queue_unlock(q);
    queue_unlink_body(q, unlink_id);
    if (empty)
        queue_maintain(q);
}

static int operate(struct queue *q, uint64_t id, const struct operation *op)
{
    char memory[64];
    struct buf payload;
    struct entry *e;
    enum life_state next;

    if (q->options.read_only)
        return -EROFS;
    queue_lock(q);
    int r = begin(q, id, op->event, &e, &next);
    queue_unlock(q);
    if (r <= 0)
        return r;
    buf_init_fixed(&payload, memory, sizeof memory);
    build(e, op, &payload);
    assert(buf_ok(&payload));
    struct commit_ticket ticket = { .type = op->type, .pieces = { buf_str(&payload) }, .must = true };
    r = commit_record(&q->commit, &ticket);
    end(q, e, op, next, r);
    return r;
}

int queue_hold(struct queue *q, uint64_t id)
{
    return operate(q, id, &(struct operation){ EVENT_HOLD, RECORD_HELD });
}

int queue_release(struct queue *q, uint64_t id)
{
    return operate(q, id, &(struct operation){ EVENT_RELEASE, RECORD_RELEASED });
}

int queue_retry(struct queue *q, uint64_t id)
{
    return operate(q, id, &(struct operation){ EVENT_RETRY, RECORD_DUE });
}

int queue_discard(struct queue *q, uint64_t id)
{
    return operate(q, id, &(struct operation){ EVENT_DISCARD, RECORD_DISCARDED });
}

int queue_end_here(struct queue *q, uint64_t id)
{
    return operate(q, id, &(struct operation){ EVENT_DISCARD, RECORD_ENDED });
}

/* ---- looking ---- */

static enum message_state state_of(const struct entry *e)
{
    switch ((enum life_state)e->life) {
    case LIFE_CLAIMED:
    case LIFE_TAKEN:   return MESSAGE_CLAIMED;
    case LIFE_HELD:    return MESSAGE_HELD;
    case LIFE_ARRIVING:
    case LIFE_WAITING:
    case LIFE_OVER:    break;
    }
    return MESSAGE_WAITING;
}

static struct queue_item item_of(const struct entry *e)
{
    return (struct queue_item){
        .id = e->id,
        .state = state_of(e),
        .attempts = e->attempts,
        .rcpts_pending = e->pending,
        .rcpts_total = e->rcpts,
        .arrived_wall_ns = e->arrived_wall_ns,
        .due_wall_ns = queue_due_wall(e),
        .size = e->body_size,
    };
}

size_t queue_list(struct queue *q, uint64_t after, struct queue_item *out, size_t max)
{
    enum { STEP = 64 };
    struct entry *entries[STEP];
    size_t n = 0;

    queue_lock(q);
    while (n < max) {
        size_t wanted = max - n < STEP ? max - n : STEP;
        size_t found = index_after(&q->index, after, entries, wanted);
        for (size_t i = 0; i < found; i++)
            if (entries[i]->life != LIFE_ARRIVING)
                out[n++] = item_of(entries[i]);
        if (found < wanted)
            break;
        after = entries[found - 1]->id;
    }
    queue_unlock(q);
    return n;
}

/* A message as it was at one moment, and where its records stand. Its segment is pinned, and with it all newer ones. */
struct show_job {
    struct queue         *queue;
    struct arena         *arena;
    uint8_t              *states;
    struct queue_details  details;
    int                   result;
    struct entry          entry;                     /* a copy; last, since its own states, which are not copied, would follow */
};

static int read_details(struct show_job *job)
{
    const struct entry *e = &job->entry;
    struct queue_details *d = &job->details;
    struct record record;
    void *memory = arena_alloc(job->arena, entry_record_size(e));

    d->states = arena_array(job->arena, e->rcpts, sizeof *d->states);
    d->last = arena_array(job->arena, e->rcpts, sizeof *d->last);
    if (arena_failed(job->arena))
        return -ENOMEM;
    int r = load_bytes(e->segment, (uint64_t)e->place * RECORD_ALIGN, e->length, memory);
    if (r == 0)
        r = load_parse(e, e->length, e->segment->salt, memory, &record);
    if (r < 0)
        return r;
    /* analyze clang-analyzer-core.CallAndMessage: load_parse() has filled it */
    enum envelope_result result = envelope_parse(job->arena, record.envelope, &d->env);
    if (result != ENVELOPE_OK || d->env.rcpt_count != e->rcpts)
        return result == ENVELOPE_NO_MEMORY ? -ENOMEM : -EBADMSG;
    for (uint32_t i = 0; i < e->rcpts; i++) {
        d->states[i] = (enum rcpt_state)job->states[i];
        d->last[i].rcpt = i;
    }
    const struct segment *from = e->last_segment != NULL ? e->last_segment : e->segment;
    uint64_t at = (uint64_t)(e->last_segment != NULL ? e->last_place : e->place) * RECORD_ALIGN;
    return load_outcomes(job->queue, from, at, job->arena, d->last, e->rcpts, &d->changed_wall_ns);
}

static void show_job(void *arg)
{
    struct show_job *job = arg;
    job->result = read_details(job);
}

static int begin_show(struct queue *q, uint64_t id, struct show_job *job)
{
    int r = 0;

    queue_lock(q);
    struct entry *e = index_get(&q->index, id);
    if (e == NULL || e->life == LIFE_ARRIVING)
        r = -ENOENT;
    else if ((job->states = arena_alloc(job->arena, e->rcpts)) == NULL)
        r = -ENOMEM;
    if (r == 0) {
        job->entry = *e;
        job->details.item = item_of(e);
        memcpy(job->states, e->states, e->rcpts);
        e->segment->pins++;
    }
    queue_unlock(q);
    return r;
}

static void end_show(struct queue *q, struct segment *s)
{
    queue_lock(q);
    bool last = --s->pins == 0 && s->live == 0;
    queue_unlock(q);
    if (last)
        queue_maintain(q);
}

int queue_show(struct queue *q, uint64_t id, struct arena *arena, struct queue_details *out)
{
    struct show_job job = { .queue = q, .arena = arena };
    int r = begin_show(q, id, &job);

    if (r < 0)
        return r;
    r = offload_run(q->disk_pool, show_job, &job);
    end_show(q, job.entry.segment);
    if (r == 0)
        r = job.result;
    if (r < 0)
        return r;
    *out = job.details;
    return 0;
}

/* ---- looking at many ---- */

#define LOOK_MEMORY_MAX (64 * 1024 * 1024)

struct look_job {
    struct show_job *jobs;
    size_t           n;
    queue_look_fn   *look;
    void            *arg;
};

static void look_job(void *arg)
{
    const struct look_job *job = arg;
    struct arena arena;                              /* of one message at a time */

    arena_init(&arena, LOOK_MEMORY_MAX);
    for (size_t i = 0; i < job->n; i++) {
        struct show_job *one = &job->jobs[i];
        one->arena = &arena;
        if (one->result == 0)
            one->result = read_details(one);
        job->look(job->arg, i, one->result == 0 ? &one->details : NULL, one->result);
        arena_reset(&arena);
    }
}

int queue_look(struct queue *q, const uint64_t *ids, size_t n, queue_look_fn *look, void *arg)
{
    struct arena arena;

    assert(n <= QUEUE_LOOK_MAX);
    arena_init(&arena, LOOK_MEMORY_MAX);
    struct look_job job = { .jobs = arena_array(&arena, n, sizeof *job.jobs), .n = n, .look = look, .arg = arg };
    if (job.jobs == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < n; i++) {
        job.jobs[i] = (struct show_job){ .queue = q, .arena = &arena };
        job.jobs[i].result = begin_show(q, ids[i], &job.jobs[i]);
    }
    int r = offload_run(q->disk_pool, look_job, &job);
    for (size_t i = 0; i < n; i++)
        if (job.jobs[i].entry.segment != NULL)       /* it was there */
            end_show(q, job.jobs[i].entry.segment);
    arena_reset(&arena);
    return r;
}
