/*
 * Group commit; the contract is in commit.h. Runs in the worker: tickets come from any loop, batches are written by one
 * job at a time.
 */
#include "queue/commit.h"
#include "base/clock.h"
#include "base/codec.h"
#include "base/log.h"
#include "base/metrics.h"
#include "run/file.h"
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BUFFER_SIZE      (1024u * 1024)              /* a batch is written in pieces of this */
#define RETRY_PAUSE_NS   NS_PER_S
#define GATHER_FROM_NS   NS_PER_MS                    /* syncs that are quicker are waited for by nobody long enough */
#define GATHER_SYNC_MAX  (50 * NS_PER_MS)             /* a disk that hung for half a minute is no reason to wait for seconds afterwards */
#define GATHER_LOOKS     16                          /* in the time of a sync */
#define GATHER_QUIET     2                           /* looks without anybody new: those who are missing do not come */
#define REGION_RECORD    72u                         /* the size of an `abandoned` record */

struct ticket_list {
    struct commit_ticket *first, *last;
};

/* One batch on its way to one segment. */
struct batch {
    struct segment    *segment;
    struct ticket_list tickets;                      /* in it, in order */
    size_t             count;                        /* of them */
    uint64_t           from;                         /* where it begins */
    uint64_t           first_sequence;
    uint32_t           records;
    uint64_t           written;                      /* up to here the bytes were handed to the file */
    size_t             fill;                         /* bytes in the buffer, to go behind them */
    int                error;                        /* the first */
};

int commit_init(struct commit *c, struct journal *j)
{
    *c = (struct commit){ .journal = j, .buffer = malloc(BUFFER_SIZE) };
    if (c->buffer == NULL)
        return -ENOMEM;
    pthread_mutex_init(&c->lock, NULL);
    return 0;
}

void commit_free(struct commit *c)
{
    assert(c->first == NULL && !c->running);
    free(c->buffer);
    pthread_mutex_destroy(&c->lock);
}

uint64_t commit_payload_max(const struct journal *j)
{
    return j->segment_size / 2 - SEGMENT_HEADER_SIZE - RECORD_HEAD_SIZE - REGION_RECORD;
}

/* ---- tickets ---- */

static void list_append(struct ticket_list *l, struct commit_ticket *t)
{
    t->prev = l->last;
    t->next = NULL;
    if (l->last == NULL)
        l->first = t;
    else
        l->last->next = t;
    l->last = t;
}

static struct commit_ticket *list_take_first(struct ticket_list *l)
{
    struct commit_ticket *t = l->first;

    l->first = t->next;
    if (l->first == NULL)
        l->last = NULL;
    else
        l->first->prev = NULL;
    return t;
}

/* a and then b, as b; a is empty afterwards. */
static void list_prepend(struct ticket_list *b, struct ticket_list *a)
{
    if (a->first == NULL)
        return;
    a->last->next = b->first;
    if (b->first == NULL)
        b->last = a->last;
    else
        b->first->prev = a->last;
    b->first = a->first;
    *a = (struct ticket_list){ 0 };
}

static void job(void *arg);

static void post(struct commit *c)
{
    if (offload_post(c->pool, job, c) == 0)
        return;
    pthread_mutex_lock(&c->lock);                    /* the waiters try again after a second */
    c->running = false;
    pthread_mutex_unlock(&c->lock);
}

static void kick(struct commit *c)
{
    pthread_mutex_lock(&c->lock);
    bool start = !c->running && c->first != NULL && c->pool != NULL;
    if (start)
        c->running = true;
    pthread_mutex_unlock(&c->lock);
    if (start)
        post(c);
}

void commit_submit(struct commit *c, struct commit_ticket *t)
{
    uint64_t length = t->pieces[0].n + t->pieces[1].n;

    assert(length <= commit_payload_max(c->journal));
    t->length = (uint32_t)length;
    t->payload_crc = codec_crc32c(codec_crc32c(0, t->pieces[0].p, t->pieces[0].n), t->pieces[1].p, t->pieces[1].n);
    t->failures = 0;
    t->ended = false;
    t->task = t->done == NULL ? task_self() : NULL;
    pthread_mutex_lock(&c->lock);
    struct ticket_list waiting = { c->first, c->last };
    list_append(&waiting, t);
    t->queued = true;
    c->first = waiting.first;
    c->last = waiting.last;
    c->waiting++;
    pthread_mutex_unlock(&c->lock);
    kick(c);
}

/* Out of the list again; the lock is held. */
static void withdraw(struct commit *c, struct commit_ticket *t)
{
    if (t->prev == NULL)
        c->first = t->next;
    else
        t->prev->next = t->next;
    if (t->next == NULL)
        c->last = t->prev;
    else
        t->next->prev = t->prev;
    t->queued = false;
    c->waiting--;
}

/* Has it ended, one way or the other? The lock makes sure that the committer has done with a ticket that ended. */
static bool ended(struct commit *c, struct commit_ticket *t)
{
    pthread_mutex_lock(&c->lock);
    if (!t->ended && t->queued && t->failures > 0 && task_canceled()) {
        withdraw(c, t);
        t->result = -ECANCELED;
        t->ended = true;
    }
    bool result = t->ended;
    pthread_mutex_unlock(&c->lock);
    return result;
}

int commit_wait(struct commit *c, struct commit_ticket *t)
{
    task_shield_begin();
    while (!ended(c, t))
        if (task_park(task_deadline_in(RETRY_PAUSE_NS)) == -ETIMEDOUT)
            kick(c);
    task_shield_end();
    return t->result;
}

int commit_record(struct commit *c, struct commit_ticket *t)
{
    commit_submit(c, t);
    return commit_wait(c, t);
}

/* All of these have the same result. Those with a function are given back, to be called without the lock. */
static void end_tickets(struct commit *c, struct ticket_list *tickets, int result, struct ticket_list *calls)
{
    pthread_mutex_lock(&c->lock);
    while (tickets->first != NULL) {
        struct commit_ticket *t = list_take_first(tickets);
        t->result = result;
        t->ended = true;
        if (t->done != NULL)
            list_append(calls, t);
        else if (t->task != NULL)
            task_wake(t->task);                      /* under the lock: it may end as soon as it sees `ended` */
    }
    pthread_mutex_unlock(&c->lock);
}

static void finish(struct commit *c, struct ticket_list *tickets, int result)
{
    struct ticket_list calls = { 0 };

    end_tickets(c, tickets, result, &calls);
    while (calls.first != NULL) {
        struct commit_ticket *t = list_take_first(&calls);
        t->done(t);
    }
}

/* ---- a batch ---- */

static void flush(struct commit *c, struct batch *b)
{
    if (b->error == 0 && b->fill > 0)
        b->error = file_write_at(b->segment->file, c->buffer, b->fill, b->written);
    b->written += b->fill;
    b->fill = 0;
}

static void add_bytes(struct commit *c, struct batch *b, const void *p, size_t n)
{
    const unsigned char *from = p;

    while (n > 0) {
        if (b->fill == BUFFER_SIZE)
            flush(c, b);
        size_t part = n < BUFFER_SIZE - b->fill ? n : BUFFER_SIZE - b->fill;
        memcpy(c->buffer + b->fill, from, part);
        b->fill += part;
        from += part;
        n -= part;
    }
}

static uint8_t flags_of(enum record_type type)
{
    /* Who does not know these would bring back what is over. */
    return type == RECORD_ENDED || type == RECORD_ABANDONED || type == RECORD_DISCARDED || type == RECORD_REROUTED ? RECORD_FLAG_CRITICAL : 0;
}

static void add_record(struct commit *c, struct batch *b, enum record_type type, const struct str pieces[2], uint32_t crc)
{
    static const unsigned char zeros[RECORD_ALIGN];
    unsigned char bytes[RECORD_HEAD_SIZE];
    struct record_head head = {
        .type = (uint8_t)type,
        .flags = flags_of(type),
        .length = (uint32_t)(pieces[0].n + pieces[1].n),
        .payload_crc = crc,
        .batch = b->segment->batch,
        .index = b->records++,
        .sequence = c->journal->next_sequence++,
    };
    uint64_t size = record_size(head.length);

    record_head_put(bytes, b->segment->salt, &head);
    add_bytes(c, b, bytes, sizeof bytes);
    add_bytes(c, b, pieces[0].p, pieces[0].n);
    add_bytes(c, b, pieces[1].p, pieces[1].n);
    add_bytes(c, b, zeros, size - RECORD_HEAD_SIZE - head.length);
    b->segment->end += size;
}

static void add_ticket(struct commit *c, struct batch *b, struct commit_ticket *t)
{
    t->segment = b->segment;
    t->offset = b->segment->end;
    if (record_is_message((uint8_t)t->type))
        b->segment->live++;                          /* before it can be durable, so that the segment is not taken for empty */
    add_record(c, b, t->type, t->pieces, t->payload_crc);
    list_append(&b->tickets, t);
    b->count++;
}

static void add_abandoned(struct commit *c, struct batch *b)
{
    for (size_t i = 0; i < c->abandoned_count; i++) {
        char memory[REGION_RECORD];
        struct buf payload;
        buf_init_fixed(&payload, memory, sizeof memory);
        record_put_region(&payload, &c->abandoned[i]);
        struct str pieces[2] = { buf_str(&payload), { 0 } };
        add_record(c, b, RECORD_ABANDONED, pieces, codec_crc32c(0, pieces[0].p, pieces[0].n));
    }
}

/* Room at the end of a segment that only those get who will free some, once no further segment can be had. */
static uint64_t usable(const struct commit *c, const struct segment *s, const struct commit_ticket *t)
{
    bool kept = c->journal->short_of_space && !t->must && !t->reserved;
    return kept ? s->size - s->size / 4 : s->size;
}

/* A message that fails must be named as abandoned; when no more names can be kept, only the other records go on. */
static bool may_fail_here(const struct commit *c, const struct commit_ticket *t)
{
    return c->abandoned_count < COMMIT_ABANDONED_MAX || t->must;
}

static bool fits(const struct commit *c, const struct segment *s, const struct commit_ticket *t)
{
    return may_fail_here(c, t) && s->end + record_size(t->length) <= usable(c, s, t);
}

static void seal(struct commit *c)
{
    c->active->sealed = true;
    c->active = NULL;
    if (c->sealed != NULL)
        c->sealed(c->arg);
}

static bool has_room(const struct commit *c, const struct commit_ticket *t)
{
    uint64_t before = c->abandoned_count * REGION_RECORD;
    return c->active != NULL && c->active->end + before + record_size(t->length) <= usable(c, c->active, t);
}

/* A segment with room for this ticket and for what must stand before it. */
static int obtain_segment(struct commit *c, const struct commit_ticket *t)
{
    struct segment *next;

    if (!may_fail_here(c, t))
        return -EIO;
    if (has_room(c, t))
        return 0;
    int r = journal_extend(c->journal, c->last_id == NULL ? 0 : *c->last_id, t->must || t->reserved, &next);
    if (r < 0)
        return r;
    if (c->active != NULL)
        c->active->sealed = true;
    c->active = next;
    if (c->sealed != NULL)
        c->sealed(c->arg);
    return has_room(c, t) ? 0 : -ENOSPC;
}

static void begin(struct commit *c, struct batch *b)
{
    *b = (struct batch){
        .segment = c->active,
        .from = c->active->end,
        .written = c->active->end,
        .first_sequence = c->journal->next_sequence,
    };
    c->active->batch++;
    add_abandoned(c, b);
}

/* The first that must go again, the rest get the error; all were in a batch that failed, or could not be begun. */
static void split(struct ticket_list *from, struct ticket_list *again, struct ticket_list *lost)
{
    while (from->first != NULL) {
        struct commit_ticket *t = list_take_first(from);
        t->failures++;
        list_append(t->must ? again : lost, t);
    }
}

static void fail_batch(struct commit *c, struct batch *b, struct ticket_list *todo)
{
    struct ticket_list again = { 0 }, lost = { 0 };

    log_event(LOG_ERROR, "journal-failed", LOG_Z("segment", b->segment->name), LOG_Z("error", strerror(-b->error)));
    metric_add(METRIC_journal_sync_failures, 1);
    b->segment->condemned = true;
    if (c->abandoned_count < COMMIT_ABANDONED_MAX)   /* else there is no message in it, and the rest is written again */
        c->abandoned[c->abandoned_count++] = (struct record_region){
            .generation = b->segment->generation,
            .segment = b->segment->number,
            .from = b->from,
            .first_sequence = b->first_sequence,
            .last_sequence = c->journal->next_sequence - 1,
        };
    b->segment->end = b->from;
    for (struct commit_ticket *t = b->tickets.first; t != NULL; t = t->next)
        if (record_is_message((uint8_t)t->type))
            b->segment->live--;
    seal(c);
    split(&b->tickets, &again, &lost);
    list_prepend(todo, &again);
    finish(c, &lost, b->error);
}

/* The last few count. A segment is no larger than 4 GiB: places in it fit 32 bits. */
static uint32_t mean_of(uint32_t before, uint64_t bytes)
{
    return (uint32_t)((7 * (uint64_t)before + bytes) / 8);
}

static size_t count_waiting(struct commit *c)
{
    pthread_mutex_lock(&c->lock);
    size_t count = c->waiting;
    pthread_mutex_unlock(&c->lock);
    return count;
}

static int sync_batch(struct commit *c, const struct batch *b)
{
    int64_t began = clock_mono_ns();
    int r = file_datasync(b->segment->file);

    c->synced_ns = clock_mono_ns();
    int64_t took = c->synced_ns - began < GATHER_SYNC_MAX ? c->synced_ns - began : GATHER_SYNC_MAX;
    c->sync_ns = (3 * c->sync_ns + took) / 4;
    c->expected = b->count + count_waiting(c);
    patience_learn(&c->patience, b->count, c->synced_ns);
    return r;
}

static void write_batch(struct commit *c, struct ticket_list *todo, int *error)
{
    struct batch b;

    begin(c, &b);
    while (todo->first != NULL && fits(c, b.segment, todo->first))
        add_ticket(c, &b, list_take_first(todo));
    flush(c, &b);
    if (b.error == 0)
        b.error = sync_batch(c, &b);
    metric_add(METRIC_journal_syncs, 1);
    *error = b.error;
    if (b.error < 0) {
        fail_batch(c, &b, todo);
        return;
    }
    metric_add(METRIC_journal_bytes, (int64_t)(b.segment->end - b.from));
    c->journal->batch_bytes = mean_of(c->journal->batch_bytes, b.segment->end - b.from);
    c->abandoned_count = 0;
    finish(c, &b.tickets, 0);
}

/* Nothing can be written now: what may fail fails, the rest stays for the next try. */
static void give_up(struct commit *c, struct ticket_list *todo, int error)
{
    struct ticket_list again = { 0 }, lost = { 0 };

    split(todo, &again, &lost);
    *todo = again;
    finish(c, &lost, error);
}

/* The first ticket cannot have a segment. If others can (room is kept for those that free some), only those like it fail. */
static void refuse(struct commit *c, struct ticket_list *todo, int error)
{
    struct ticket_list rest = { 0 }, lost = { 0 };

    while (todo->first != NULL) {
        struct commit_ticket *t = list_take_first(todo);
        bool can = c->active != NULL && fits(c, c->active, t);
        list_append(can || t->must ? &rest : &lost, t);
    }
    *todo = rest;
    finish(c, &lost, error);
}

/* Write all of it, as far as the disk lets us. What is left in todo waits for a better disk. */
static void write_all(struct commit *c, struct ticket_list *todo)
{
    static const struct commit_ticket only_abandoned = { .must = true };
    int failures = 0, error = 0;

    while (todo->first != NULL || c->abandoned_count > 0) {
        const struct commit_ticket *next = todo->first != NULL ? todo->first : &only_abandoned;
        error = obtain_segment(c, next);
        if (error == 0)
            write_batch(c, todo, &error);
        else if (failures == 0)
            refuse(c, todo, error);
        if (error < 0 && ++failures == 2) {
            give_up(c, todo, error);
            return;
        }
    }
}

/* Takes what there is; false, and no longer running, if there is nothing. */
static bool take(struct commit *c, struct ticket_list *todo)
{
    pthread_mutex_lock(&c->lock);
    *todo = (struct ticket_list){ c->first, c->last };
    c->first = c->last = NULL;
    c->waiting = 0;
    for (struct commit_ticket *t = todo->first; t != NULL; t = t->next)
        t->queued = false;
    bool any = todo->first != NULL;
    if (!any) {
        c->running = false;
        if (c->idle_waiter != NULL)
            task_wake(c->idle_waiter);
    }
    pthread_mutex_unlock(&c->lock);
    return any;
}

/* Back to the front of those that wait, for a later try. */
static void put_back(struct commit *c, struct ticket_list *todo)
{
    pthread_mutex_lock(&c->lock);
    struct ticket_list waiting = { c->first, c->last };
    for (struct commit_ticket *t = todo->first; t != NULL; t = t->next, c->waiting++)
        t->queued = true;
    list_prepend(&waiting, todo);
    c->first = waiting.first;
    c->last = waiting.last;
    c->running = false;
    if (c->idle_waiter != NULL)
        task_wake(c->idle_waiter);
    pthread_mutex_unlock(&c->lock);
}

/* Up to half a sync after the last one, for as many as were on their way then. */
static void await_expected(struct commit *c)
{
    int64_t look_ns = c->sync_ns / GATHER_LOOKS, until = c->synced_ns + c->sync_ns / 2;
    size_t before = count_waiting(c), now = before;

    for (int quiet = 0; now < c->expected && quiet < GATHER_QUIET && clock_mono_ns() + look_ns <= until; before = now) {
        offload_pause(look_ns);
        now = count_waiting(c);
        quiet = now == before ? quiet + 1 : 0;
    }
}

/* See commit.h. */
static void gather(struct commit *c)
{
    if (c->sync_ns >= GATHER_FROM_NS && c->expected > 1 && c->patience.on)
        await_expected(c);
}

static void write_what_comes(struct commit *c, bool patient)
{
    struct ticket_list todo;

    for (;;) {
        if (patient)
            gather(c);
        if (!take(c, &todo))
            return;
        write_all(c, &todo);
        if (todo.first != NULL) {
            put_back(c, &todo);
            return;
        }
    }
}

static void job(void *arg) { write_what_comes(arg, true); }

void commit_run(struct commit *c)
{
    c->running = true;
    write_what_comes(c, false);
    struct ticket_list none = { 0 };
    if (!c->running && c->abandoned_count > 0)
        write_all(c, &none);
}

static void nothing(struct commit_ticket *t)
{
    (void)t;
}

/* The mark makes the batch before it one that surely had been synced. If it cannot be written, recovery only doubts more. */
void commit_close(struct commit *c)
{
    struct commit_ticket mark = { .type = RECORD_CLOSED, .reserved = true, .done = nothing };

    if (c->active == NULL && c->abandoned_count == 0)
        return;
    commit_submit(c, &mark);
    commit_run(c);
}

int commit_wait_idle(struct commit *c)
{
    for (;;) {
        pthread_mutex_lock(&c->lock);
        bool idle = !c->running;
        c->idle_waiter = idle ? NULL : task_self();
        pthread_mutex_unlock(&c->lock);
        if (idle)
            return 0;
        int r = task_park(TASK_FOREVER);
        if (r < 0)
            return r;
    }
}
