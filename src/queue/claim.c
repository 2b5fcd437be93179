/*
 * The way out: claims, their bodies, and what came of them. The contract is in queue.h. Runs in the worker; claims are
 * taken on one loop, and may be settled on any.
 */
#include "queue/queue_internal.h"

#include "base/codec.h"
#include "base/log.h"
#include "base/metrics.h"
#include "run/file.h"
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Room in a claim's arena beyond its own record, for whoever delivers. */
#define CLAIM_ARENA_EXTRA (UINT64_C(4) << 20)
/* A wall clock may be set, and a machine may sleep: look at least so often. */
#define CLAIM_WAIT_MAX_NS (60 * NS_PER_S)
/* A record in one of the newest segments was written a moment ago: reading it is a copy from the page cache, some microseconds. */
#define CLAIM_CACHED_SEGMENTS 2
#define CLAIM_CACHED_SIZE     (128u * 1024)

struct claim_held *claim_held_of(struct claim *c)
{
    return CONTAINER_OF(c, struct claim_held, claim);
}

static void claim_free(struct claim_held *h)
{
    (void)file_close(h->file);
    arena_reset(&h->claim.arena);
    free(h);
}

static void step(struct entry *e, enum life_event event)
{
    enum life_state next;
    enum life_answer answer = life_step((enum life_state)e->life, event, &next);

    assert(answer == LIFE_STEP);
    e->life = (uint8_t)next;
}

/* ---- taking what is due ---- */

struct load_job {
    struct segment *segment;
    uint64_t        offset;
    uint32_t        length;
    void           *memory;
    int             result;
};

static void load_job(void *arg)
{
    struct load_job *job = arg;
    job->result = load_bytes(job->segment, job->offset, job->length, job->memory);
}

static bool surely_cached(const struct queue *q, const struct load_job *job)
{
    return job->segment->generation == q->journal.generation && job->length <= CLAIM_CACHED_SIZE &&
           job->segment->number + CLAIM_CACHED_SEGMENTS >= q->journal.next_number;
}

/* Awaits, unless it is a small read from the page cache. */
static int load(struct queue *q, struct load_job *job)
{
    int r = 0;

    if (surely_cached(q, job))
        load_job(job);
    else
        r = offload_run(q->disk_pool, load_job, job);
    return r < 0 ? r : job->result;
}

static void unpin(struct queue *q, struct segment *s)
{
    queue_lock(q);
    bool last = --s->pins == 0 && s->live == 0;
    queue_unlock(q);
    if (last)
        queue_maintain(q);
}

static int parse(struct claim_held *h)
{
    struct claim *c = &h->claim;
    struct entry *e = h->entry;

    c->id = e->id;
    c->attempts = e->attempts;
    c->body_size = e->body_size;
    c->due_ns = e->due_mono_ns;
    c->urged = e->urged;
    e->urged = false;
    enum envelope_result result = envelope_parse(&c->arena, h->record.envelope, &c->env);
    if (result == ENVELOPE_NO_MEMORY)
        return -ENOMEM;
    if (result != ENVELOPE_OK || c->env.rcpt_count != e->rcpts)
        return -EBADMSG;
    e->priority = (int8_t)c->env.priority;           /* after a start it was not known */
    c->states = arena_array(&c->arena, e->rcpts, sizeof *c->states);
    if (c->states == NULL)
        return -ENOMEM;
    for (uint32_t i = 0; i < e->rcpts; i++)
        c->states[i] = (enum rcpt_state)e->states[i];
    return 0;
}

/* Awaits. The record of an entry that is claimed already becomes a claim. */
static int open_claim(struct queue *q, struct entry *e, struct load_job *job, struct claim_held **out)
{
    struct claim_held *h = calloc(1, sizeof *h);
    if (h == NULL)
        return -ENOMEM;
    uint64_t size = record_size(job->length);

    h->entry = e;
    h->file = -1;
    h->claim.queue = q;
    arena_init(&h->claim.arena, 2 * size + (e->rcpts + UINT64_C(1)) * 512 + CLAIM_ARENA_EXTRA);
    job->memory = arena_alloc(&h->claim.arena, size);
    int r = job->memory == NULL ? -ENOMEM : load(q, job);
    if (r == 0)
        r = load_parse(e, job->length, job->segment->salt, job->memory, &h->record);
    if (r == 0)
        r = parse(h);
    if (r < 0) {
        claim_free(h);
        return r;
    }
    *out = h;
    return 0;
}

/* It could not be read: later, perhaps. The message stays in the queue, where an operator sees it. */
static void postpone(struct queue *q, struct entry *e, int error)
{
    char id[CODEC_ID_LEN + 1];

    codec_id_format(e->id, id);
    log_event(LOG_ERROR, "queue-unreadable", LOG_Z("id", id), LOG_Z("error", strerror(-error)));
    queue_lock(q);
    step(e, EVENT_UNCLAIM);
    e->due_mono_ns = task_deadline_in(QUEUE_READ_RETRY_NS);
    queue_schedule(q, e);
    queue_unlock(q);
}

/* Claimed, and pinned as long as it is read. queue.lock is held. */
static void take(struct queue *q, struct entry *e, struct load_job *job)
{
    step(e, EVENT_CLAIM);
    queue_schedule(q, e);
    e->segment->pins++;
    *job = (struct load_job){ .segment = e->segment, .offset = (uint64_t)e->place * RECORD_ALIGN, .length = e->length };
}

/* The entry that is due, claimed, and where it is read; or NULL, and when to look again. */
static struct entry *take_due(struct queue *q, struct load_job *job, int64_t *look_again_ns)
{
    struct entry *e = NULL;
    int64_t now = clock_mono_ns();

    queue_lock(q);
    q->claimer = NULL;
    struct heap_node *top = heap_top(&q->index.due);
    if (top != NULL && top->key <= now) {
        e = CONTAINER_OF(top, struct entry, node);
        take(q, e, job);
    } else {
        q->claimer = task_self();
        *look_again_ns = top == NULL ? INDEX_NEVER : top->key;
    }
    queue_unlock(q);
    return e;
}

static int wait_due(struct queue *q, int64_t look_again_ns, int64_t deadline_ns)
{
    int64_t until = task_deadline_in(CLAIM_WAIT_MAX_NS);

    if (look_again_ns < until)
        until = look_again_ns;
    if (deadline_ns <= until)
        until = deadline_ns;
    int r = task_park(until);
    queue_lock(q);
    q->claimer = NULL;
    queue_unlock(q);
    return r == -ETIMEDOUT && until != deadline_ns ? 0 : r;
}

int queue_claim(struct queue *q, int64_t deadline_ns, struct claim **out)
{
    if (q->options.read_only)
        return -EROFS;
    for (;;) {
        struct load_job job;
        struct claim_held *h = NULL;
        int64_t look_again_ns = INDEX_NEVER;
        if (task_canceled())
            return -ECANCELED;
        struct entry *e = take_due(q, &job, &look_again_ns);
        if (e == NULL) {
            int r = wait_due(q, look_again_ns, deadline_ns);
            if (r < 0)
                return r;
            continue;
        }
        int r = open_claim(q, e, &job, &h);
        unpin(q, job.segment);
        if (r == 0) {
            *out = &h->claim;
            return 0;
        }
        postpone(q, e, r);
    }
}

static void release(struct queue *q, struct entry *e, enum life_event event, int64_t due_mono_ns);

/* Claims it, whenever it is due. */
static int take_one(struct queue *q, uint64_t id, struct load_job *job, struct entry **out)
{
    struct entry *e;
    enum life_state next;
    int r = queue_find_quiet(q, id, &e);

    if (r < 0)
        return r;
    switch (life_step((enum life_state)e->life, EVENT_CLAIM, &next)) {
    case LIFE_BUSY:    return -EBUSY;
    case LIFE_ABSENT:  return -ENOENT;
    case LIFE_NOTHING:
    case LIFE_NEVER:   assert(!"a claim fits every state"); break;
    case LIFE_STEP:    break;
    }
    e->life = (uint8_t)next;
    queue_schedule(q, e);
    e->segment->pins++;
    *job = (struct load_job){ .segment = e->segment, .offset = (uint64_t)e->place * RECORD_ALIGN, .length = e->length };
    *out = e;
    return 0;
}

int queue_claim_one(struct queue *q, uint64_t id, struct claim **out)
{
    struct load_job job;
    struct claim_held *h;
    struct entry *e;

    if (q->options.read_only)
        return -EROFS;
    queue_lock(q);
    int r = take_one(q, id, &job, &e);
    queue_unlock(q);
    if (r < 0)
        return r;
    r = open_claim(q, e, &job, &h);
    unpin(q, job.segment);
    if (r < 0) {
        release(q, e, EVENT_UNCLAIM, e->due_mono_ns);
        return r;
    }
    *out = &h->claim;
    return 0;
}

int queue_claim_waiting(struct queue *q, uint64_t id, struct claim **out)
{
    struct load_job job;
    struct claim_held *h = NULL;

    if (q->options.read_only)
        return -EROFS;
    queue_lock(q);
    struct entry *e = index_get(&q->index, id);
    bool absent = e == NULL || e->life == LIFE_ARRIVING || e->life == LIFE_HELD;
    bool can = !absent && e->life == LIFE_WAITING && !e->writing && e->due_mono_ns < INDEX_UNSURE;
    if (can)
        take(q, e, &job);
    queue_unlock(q);
    if (!can)
        return absent ? -ENOENT : -EBUSY;
    int r = open_claim(q, e, &job, &h);
    unpin(q, job.segment);
    if (r < 0) {
        postpone(q, e, r);
        return r;
    }
    *out = &h->claim;
    return 0;
}

/* ---- the body ---- */

struct read_job {
    struct claim_held *held;
    uint64_t           offset;
    void              *p;
    size_t             n, got;
    int                result;
};

/* Of two tasks that begin to read at the same time, both may have opened it: one file stays. */
static int keep_file(struct claim_held *h, int file)
{
    struct queue *q = h->claim.queue;
    int too_many = -1;

    queue_lock(q);
    if (h->file < 0)
        h->file = file;
    else
        too_many = file;
    int kept = h->file;
    queue_unlock(q);
    (void)file_close(too_many);                      /* only opened */
    return kept;
}

static int open_body(struct claim_held *h)
{
    char name[SEGMENT_NAME_SIZE];

    queue_lock(h->claim.queue);
    int file = h->file;
    queue_unlock(h->claim.queue);
    if (file >= 0)
        return file;
    body_name(name, h->claim.id);
    file = file_open_at(h->claim.queue->journal.bodies.file, name, FILE_READ);
    return file < 0 ? file : keep_file(h, file);
}

static void read_job(void *arg)
{
    struct read_job *job = arg;
    int file = open_body(job->held);

    job->result = file < 0 ? file : file_read_at(file, job->p, job->n, job->offset, &job->got);
}

/* Who reads from the beginning to the end learns at the end, before he could finish a delivery, whether it is what was accepted. */
static int check_read(struct claim_held *h, const struct read_job *job)
{
    if (job->got < job->n)
        return -EBADMSG;                             /* the file is shorter than the record says */
    if (job->offset == 0)
        h->crc = 0, h->crc_at = 0;
    if (job->offset != h->crc_at)
        return 0;
    h->crc = codec_crc32c(h->crc, job->p, job->got);
    h->crc_at += job->got;
    return h->crc_at == h->claim.body_size && h->crc != h->record.body_crc ? -EBADMSG : 0;
}

int queue_read_body(struct claim *c, uint64_t offset, void *p, size_t n, size_t *out_read)
{
    struct claim_held *h = claim_held_of(c);

    if (offset >= c->body_size)
        n = 0;
    else if (n > c->body_size - offset)
        n = c->body_size - offset;
    if (!h->entry->body_in_file || n == 0) {
        if (n > 0)
            memcpy(p, h->record.body.p + offset, n);
        *out_read = n;
        return 0;
    }
    struct read_job job = { .held = h, .offset = offset, .p = p, .n = n };
    int r = offload_run(c->queue->disk_pool, read_job, &job);
    if (r == 0)
        r = job.result;
    if (r == 0)
        r = check_read(h, &job);
    if (r < 0)
        return r;
    *out_read = n;
    return 0;
}

/* ---- what came of it ---- */

struct settle {
    const struct outcome *outcomes;
    size_t                count, next;               /* next: the first that is in no record yet */
    int64_t               due_wall_ns;
    bool                  ended;                     /* with all of them, no recipient is pending */
};

static bool is_ended(const struct entry *e, const struct settle *s)
{
    uint32_t pending = e->pending;

    for (size_t i = 0; i < s->count; i++) {
        assert(s->outcomes[i].rcpt < e->rcpts && e->states[s->outcomes[i].rcpt] == RCPT_PENDING);
        pending -= s->outcomes[i].state != RCPT_PENDING;
    }
    return pending == 0;
}

/* As many of the outcomes as one record takes. The entry does not change meanwhile: it is claimed, and not moving. */
static void build_outcome(struct queue *q, const struct entry *e, struct settle *s, struct buf *out)
{
    record_put_u64(out, RECORD_TAG_ID, e->id);
    record_put_u64(out, RECORD_TAG_TIME, (uint64_t)clock_wall_ns());
    record_put_u32(out, RECORD_TAG_ATTEMPTS, e->attempts + 1);
    record_put_u64(out, RECORD_TAG_DUE, (uint64_t)s->due_wall_ns);
    const struct segment *before = e->last_segment != NULL ? e->last_segment : e->segment;
    uint32_t place = e->last_segment != NULL ? e->last_place : e->place;
    record_put_place(out, RECORD_TAG_PREVIOUS, &(struct record_place){ before->generation, before->number, (uint64_t)place * RECORD_ALIGN });
    size_t most = commit_payload_max(&q->journal) - 2048;
    while (s->next < s->count && out->n < most && !out->failed)
        record_put_outcome(out, &s->outcomes[s->next++]);
    if (s->next == s->count && s->ended) {
        buf_put_u16(out, (uint16_t)RECORD_TAG_ENDED);
        buf_put_u32(out, 0);
    }
}

static void apply_outcome(struct entry *e, const struct outcome *o)
{
    static const enum metric metrics[] = {
        [RCPT_PENDING] = METRIC_rcpts_deferred,     [RCPT_DELIVERED] = METRIC_rcpts_delivered, [RCPT_BOUNCED] = METRIC_rcpts_bounced,
        [RCPT_FAILED] = METRIC_rcpts_failed_silent, [RCPT_DISCARDED] = METRIC_rcpts_discarded,
    };

    metric_add(metrics[o->state], 1);
    if (o->state == RCPT_PENDING)
        return;
    e->states[o->rcpt] = (uint8_t)o->state;
    e->pending--;
}

void claim_begin_writing(struct claim *c)
{
    struct queue *q = c->queue;
    struct entry *e = claim_held_of(c)->entry;

    task_shield_begin();
    queue_lock(q);
    while (e->moving)
        (void)queue_wait_quiet(q);
    e->writing = true;
    queue_unlock(q);
    task_shield_end();
}

/* Awaits until one record of the outcomes is durable, and applies it. */
static int settle_some(struct queue *q, struct entry *e, struct settle *s)
{
    size_t first = s->next;
    CLEANUP_BUF struct buf payload;

    buf_init(&payload, commit_payload_max(&q->journal));
    build_outcome(q, e, s, &payload);
    if (!buf_ok(&payload)) {
        s->next = first;
        return -ENOMEM;
    }
    struct commit_ticket ticket = { .type = RECORD_OUTCOME, .pieces = { buf_str(&payload) }, .must = true };
    int r = commit_record(&q->commit, &ticket);
    if (r < 0)
        return r;
    queue_lock(q);
    for (size_t i = first; i < s->next; i++)
        apply_outcome(e, &s->outcomes[i]);
    e->last_segment = ticket.segment;
    e->last_place = (uint32_t)(ticket.offset / RECORD_ALIGN);
    queue_unlock(q);
    return 0;
}

/* Awaits. Memory comes back some time; what was delivered must be written down. */
static int settle_all(struct queue *q, struct entry *e, struct settle *s)
{
    int r;

    do {
        r = settle_some(q, e, s);
        if (r == -ENOMEM && task_sleep(NS_PER_S) < 0)
            return r;
    } while (r == -ENOMEM || (r == 0 && s->next < s->count));
    return r;
}

/* The message goes on its way: over, or waiting again. */
static void release(struct queue *q, struct entry *e, enum life_event event, int64_t due_mono_ns)
{
    uint64_t unlink_id = 0;
    bool empty = false;

    queue_lock(q);
    e->writing = false;
    step(e, event);
    e->attempts += event != EVENT_UNCLAIM;
    if (e->life == LIFE_OVER) {
        struct segment *s = e->segment;
        queue_forget(q, e, &unlink_id);
        empty = s->live == 0 && s->sealed;
    } else {
        e->due_mono_ns = due_mono_ns;
        queue_schedule(q, e);
    }
    queue_unlock(q);
    queue_unlink_body(q, unlink_id);
    if (empty)
        queue_maintain(q);
}

/* Awaits. It is being written about until release or end_writing. */
static int settle(struct claim_held *h, const struct outcome *outcomes, size_t count, int64_t next_due_wall_ns)
{
    struct queue *q = h->claim.queue;

    claim_begin_writing(&h->claim);
    struct settle s = { .outcomes = outcomes, .count = count, .due_wall_ns = next_due_wall_ns };
    s.ended = is_ended(h->entry, &s);
    if (h->error == 0 && count > 0)
        h->error = settle_all(q, h->entry, &s);
    return h->error;
}

static void end_writing(struct queue *q, struct entry *e)
{
    queue_lock(q);
    e->writing = false;
    queue_wake_quiet(q);
    queue_unlock(q);
}

int queue_settle_part(struct claim *c, const struct outcome *outcomes, size_t count, int64_t next_due_wall_ns)
{
    struct claim_held *h = claim_held_of(c);
    int r = settle(h, outcomes, count, next_due_wall_ns);

    assert(r < 0 || h->entry->pending > 0);
    for (size_t i = 0; r == 0 && i < count; i++)
        c->states[outcomes[i].rcpt] = outcomes[i].state;
    end_writing(c->queue, h->entry);
    return r;
}

void claim_end(struct claim *c, enum life_event event, int64_t due_mono_ns)
{
    struct claim_held *h = claim_held_of(c);

    release(c->queue, h->entry, event, due_mono_ns);
    claim_free(h);
}

int queue_settle(struct claim *c, const struct outcome *outcomes, size_t count, int64_t next_due_wall_ns)
{
    struct entry *e = claim_held_of(c)->entry;
    int64_t due_ns = queue_due_mono(next_due_wall_ns, clock_wall_ns());  /* now: the date may jump while we wait for the disk */

    int r = settle(claim_held_of(c), outcomes, count, next_due_wall_ns);
    if (r == 0)
        claim_end(c, e->pending == 0 ? EVENT_DONE : EVENT_DEFERRED, due_ns);
    else                                             /* the disk refuses, and we are told to stop: whether it is there, the next start will see */
        claim_end(c, EVENT_UNCLAIM, INDEX_UNSURE);
    return r;
}

void queue_unclaim(struct claim *c) { queue_postpone(c, 0); }

/* Nobody changes when it is due as long as it is claimed. */
void queue_give_back(struct claim *c) { claim_end(c, EVENT_UNCLAIM, claim_held_of(c)->entry->due_mono_ns); }

void queue_postpone(struct claim *c, int64_t ns) { claim_end(c, EVENT_UNCLAIM, task_deadline_in(ns)); }
