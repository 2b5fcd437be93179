/*
 * Reclaim: segments whose messages are over become spares, oldest first; the few messages that linger in the oldest one are
 * written again at the newest end, so that it becomes free too.
 *
 * One maintenance job at a time: it retires what can be retired, sees that a spare is there, starts some moves when the
 * journal has grown beyond twice what lives in it (so every byte is copied about once at most) or when space is short, and writes the
 * sidecar of a segment that was sealed.
 *
 * Oldest first is what keeps a settle as long as the accept it settles: the settle stands in the same or a newer segment, and no
 * newer segment goes before an older one has gone durably. Runs in the worker, on the disk pool.
 */
#include "queue/queue_internal.h"

#include "base/log.h"
#include "queue/sidecar.h"
#include "queue/whole.h"
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SEGMENTS_SLACK 4                             /* journals up to twice the live bytes and so many segments are left alone */
#define MOVES_MAX      64                            /* records on their way at a time */
#define MOVE_BYTES_MAX (512u * 1024)                 /* and so many bytes, so that a put does not wait long behind them */

struct move {
    struct commit_ticket ticket;                     /* first */
    struct queue        *queue;
    struct entry        *entry;
    /* Of the entry, as it was when the move began: it may be claimed and given back meanwhile. */
    int64_t              due_wall_ns;
    bool                 held;
    struct buf           payload;                    /* owned */
    struct arena         arena;                      /* of the record it is made from */
};

static void move_free(struct move *m)
{
    buf_free(&m->payload);
    arena_reset(&m->arena);
    free(m);
}

/* ---- one message, written again ---- */

static int build(struct move *m, const struct record *record, const struct outcome *last)
{
    const struct entry *e = m->entry;
    uint64_t max = commit_payload_max(&m->queue->journal);
    const struct whole whole = {
        .id = e->id,
        .arrived_ns = record->arrived_ns,
        .due_wall_ns = m->due_wall_ns,
        .attempts = e->attempts,
        .rcpts = e->rcpts,
        .states = e->states,
        .held = m->held,
        .envelope = record->envelope,
        .before = record->payload,
        .last = last,
        .body_in_file = record->body_in_file,
        .body_size = record->body_size,
        .body_crc = record->body_crc,
    };

    buf_init(&m->payload, max);
    int r = whole_put(&m->payload, &whole, clock_wall_ns(), max);
    if (r < 0)
        return r;
    m->ticket.pieces[0] = buf_str(&m->payload);
    m->ticket.pieces[1] = record->body_in_file ? (struct str){ 0 } : record->body;
    return 0;
}

/* The entry does not change its place or state while it is moving, so it is read without the lock. */
static int load(struct move *m)
{
    struct entry *e = m->entry;
    struct record record;
    void *memory = arena_alloc(&m->arena, entry_record_size(e));
    struct outcome *last = arena_array(&m->arena, e->rcpts, sizeof *last);

    if (arena_failed(&m->arena))
        return -ENOMEM;
    int r = load_bytes(e->segment, (uint64_t)e->place * RECORD_ALIGN, e->length, memory);
    if (r == 0)
        r = load_parse(e, e->length, e->segment->salt, memory, &record);
    if (r < 0)
        return r;
    for (uint32_t i = 0; i < e->rcpts; i++)
        last[i].rcpt = i;
    const struct segment *from = e->last_segment != NULL ? e->last_segment : e->segment;
    uint64_t at = (uint64_t)(e->last_segment != NULL ? e->last_place : e->place) * RECORD_ALIGN;
    int64_t newest_ns;
    r = load_outcomes(m->queue, from, at, &m->arena, last, e->rcpts, &newest_ns);
    if (r < 0)                                       /* the words are lost, the message is not */
        memset(last, 0, e->rcpts * sizeof *last);
    return build(m, &record, last);
}

void queue_change_place(struct queue *q, struct entry *e, const struct commit_ticket *t)
{
    q->live_bytes -= entry_record_size(e);
    e->segment->live--;
    entry_unplace(e);
    e->last_segment = NULL;
    entry_place(e, t->segment, t->offset, t->length);
    q->live_bytes += entry_record_size(e);
}

/* On the committer's thread. */
static void moved(struct commit_ticket *t)
{
    struct move *m = (struct move *)t;
    struct queue *q = m->queue;

    queue_lock(q);
    if (t->result == 0)
        queue_change_place(q, m->entry, t);
    m->entry->moving = false;
    bool again = --q->moves == 0 && t->result == 0;
    queue_wake_quiet(q);
    if (q->closer != NULL && q->moves == 0)
        task_wake(q->closer);
    queue_unlock(q);
    move_free(m);
    if (again)
        queue_maintain(q);                           /* the segment may be empty now, or there is more to move */
}

int compact_move(struct queue *q, struct entry *e)
{
    struct move *m = calloc(1, sizeof *m);
    int r = m == NULL ? -ENOMEM : 0;

    if (r == 0) {
        *m = (struct move){ .ticket = { .type = RECORD_MOVED, .reserved = true, .done = moved }, .queue = q, .entry = e };
        m->due_wall_ns = queue_due_wall(e);
        m->held = e->life == LIFE_HELD || e->life == LIFE_TAKEN;
        arena_init(&m->arena, SIZE_MAX);
        e->moving = true;
        q->moves++;
        queue_unlock(q);
        r = load(m);
        if (r == 0)
            commit_submit(&q->commit, &m->ticket);
        queue_lock(q);
    }
    if (r == 0)
        return 0;
    if (m != NULL) {
        e->moving = false;
        q->moves--;
        queue_wake_quiet(q);
        move_free(m);
    }
    return r;
}

/* ---- maintenance ---- */

/* Can the oldest segment go? Only the newest is written to, and only this job takes segments away. */
static bool can_retire(struct queue *q, const struct segment *s)
{
    queue_lock(q);
    bool can = s != NULL && s->sealed && s->live == 0 && s->pins == 0 && s->entries == NULL && !q->doubtful;
    queue_unlock(q);
    return can;
}

static int retire(struct queue *q)
{
    int r = 0;

    while (r == 0 && can_retire(q, journal_oldest(&q->journal)))
        r = journal_retire_oldest(&q->journal);
    if (r < 0)
        log_event(LOG_ERROR, "journal-retire", LOG_Z("error", strerror(-r)));
    return r;
}

static void prepare(struct queue *q)
{
    int r = journal_prepare(&q->journal);

    if (r < 0 && log_is_news(&q->prepare_said_ns))   /* on the brink of a full disk there is a spare now and then */
        log_event(LOG_WARN, "journal-prepare", LOG_Z("error", strerror(-r)));
}

static bool too_big(struct queue *q)
{
    uint64_t bytes = journal_bytes(&q->journal);

    queue_lock(q);
    bool big = bytes > 2 * q->live_bytes + SEGMENTS_SLACK * q->journal.segment_size;
    queue_unlock(q);
    return big;
}

/* The next in the list that may be moved now. What was settled, perhaps, may not: its copy would say that it was not. queue.lock is held. */
static struct entry *next_movable(struct entry *e)
{
    while (e != NULL && (e->moving || e->writing || e->due_mono_ns == INDEX_UNSURE))
        e = e->next;
    return e;
}

static void start_moves(struct queue *q, struct segment *s)
{
    uint64_t bytes = 0;
    unsigned count = 0;

    queue_lock(q);
    struct entry *e = next_movable(s->entries);
    while (e != NULL && count < MOVES_MAX && bytes < MOVE_BYTES_MAX) {
        uint64_t size = entry_record_size(e), id = e->id;
        int r = compact_move(q, e);
        if (r < 0) {
            log_event(LOG_ERROR, "journal-move", LOG_U64("id", id), LOG_Z("error", strerror(-r)));
            break;                                   /* tried again when something else changes */
        }
        count++;
        bytes += size;
        e = next_movable(s->entries);                /* the list changed while the lock was away */
    }
    queue_unlock(q);
}

/* Moves are made when the journal is big; or when space is short and what lives in the oldest segment is little. */
static void compact(struct queue *q)
{
    struct segment *s = journal_oldest(&q->journal);

    queue_lock(q);
    bool can = s != NULL && s->sealed && q->moves == 0 && !q->closing && s->entries != NULL && !q->doubtful;
    bool little = s != NULL && s->live_bytes < q->journal.segment_size / 8;
    queue_unlock(q);
    if (can && (too_big(q) || (q->journal.short_of_space && little)))
        start_moves(q, s);
}

static void make_sidecar(struct queue *q, struct segment *s)
{
    int r = sidecar_make(&q->journal, s);

    s->sidecar_wanted = false;                       /* once, whatever came of it: the next start can try again */
    if (r < 0 && r != -ENOTSUP)
        log_event(LOG_WARN, "journal-sidecar", LOG_Z("segment", s->name), LOG_Z("error", strerror(-r)));
}

/* The oldest segment, of this generation or later ones, that is sealed without a sidecar. Only this job takes segments away. */
static struct segment *without_sidecar(struct journal *j, uint32_t generation)
{
    pthread_mutex_lock(&j->lock);
    struct segment *s = j->oldest;
    while (s != NULL && !(s->sealed && s->sidecar_wanted && !s->condemned && s->generation >= generation))
        s = s->newer;
    pthread_mutex_unlock(&j->lock);
    return s;
}

/* One at a time, so that spares do not wait for many. Not while space is short: others need what is left. True if there may be more. */
static bool add_sidecar(struct queue *q, uint32_t generation)
{
    struct segment *s = q->journal.short_of_space ? NULL : without_sidecar(&q->journal, generation);

    if (s != NULL)
        make_sidecar(q, s);
    return s != NULL;
}

/* Only our own, so that nobody waits for those of a long life without sidecars. */
void compact_close(struct queue *q)
{
    if (q->commit.active != NULL)
        q->commit.active->sealed = true;
    while (add_sidecar(q, q->journal.generation))
        continue;
}

static void maintain_job(void *arg)
{
    struct queue *q = arg;
    bool again;

    do {
        if (q->doubtful)
            recover_check_doubts(q);
        if (q->doubtful && q->moves == 0)
            recover_settle_doubts(q);
        (void)retire(q);
        prepare(q);
        compact(q);
        bool more = add_sidecar(q, 0);
        queue_lock(q);
        again = (q->maintain_again || more) && !q->closing;
        q->maintain_again = false;
        q->maintaining = again;
        queue_unlock(q);
    } while (again);
    queue_job_ended(q);
}

void queue_maintain(struct queue *q)
{
    queue_lock(q);
    bool start = !q->maintaining && !q->closing && q->disk_pool != NULL;
    if (start)
        q->maintaining = true;
    else
        q->maintain_again = true;
    queue_unlock(q);
    if (start && !queue_start_job(q, maintain_job, q)) {
        queue_lock(q);
        q->maintaining = false;                      /* the pool is full; the next occasion will do */
        queue_unlock(q);
    }
}
