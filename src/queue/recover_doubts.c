/*
 * What may stand in the page cache only, of a series whose last sync nobody saw: it is written again, in our own series, before
 * anything is built on it. Part of recovery (see recover.c), and of the maintenance after it.
 */
#include "queue/recover_internal.h"

#include <errno.h>
#include <stdlib.h>

#define DOUBTS_MAX 4096                               /* records on their way at a time; a batch seldom has so many */

int recover_keep_doubts(struct recovery *rc)
{
    struct queue *q = rc->queue;
    size_t cursor = 0;
    uint64_t id;
    void *value;

    if (rc->doubts.used == 0)
        return 0;
    q->doubts = calloc(rc->doubts.used, sizeof *q->doubts);
    if (q->doubts == NULL)
        return -ENOMEM;
    while (map_u64_next(&rc->doubts, &cursor, &id, &value))
        q->doubts[q->doubt_count++] = id;
    q->doubtful = true;
    return 0;
}

struct ended {
    struct commit_ticket ticket;                     /* first */
    struct queue        *queue;
    size_t               doubt;
    char                 payload[16];
};

static void ended_written(struct commit_ticket *t)
{
    struct ended *e = (struct ended *)t;
    struct queue *q = e->queue;
    bool written = t->result == 0;

    queue_lock(q);
    if (written)
        q->doubts[e->doubt] = 0;
    q->moves--;
    if (q->closer != NULL && q->moves == 0)
        task_wake(q->closer);
    queue_unlock(q);
    free(e);
    if (written)
        queue_maintain(q);
}

static void write_ended(struct queue *q, size_t doubt_index)
{
    struct buf payload;
    struct ended *e = calloc(1, sizeof *e);

    if (e == NULL)
        return;                                      /* tried again */
    buf_init_fixed(&payload, e->payload, sizeof e->payload);
    record_put_u64(&payload, RECORD_TAG_ID, q->doubts[doubt_index]);
    e->ticket = (struct commit_ticket){ .type = RECORD_ENDED, .pieces = { buf_str(&payload) }, .reserved = true, .done = ended_written };
    e->queue = q;
    e->doubt = doubt_index;
    q->moves++;
    queue_unlock(q);
    commit_submit(&q->commit, &e->ticket);
    queue_lock(q);
}

/* What is alive must stand in our own series; what is over must be called so. queue.lock is held. */
static bool is_settled(struct queue *q, size_t i)
{
    if (q->doubts[i] == 0)
        return true;
    const struct entry *e = index_get(&q->index, q->doubts[i]);
    return e != NULL && e->segment != NULL && e->segment->generation == q->journal.generation;
}

static void settle_doubt(struct queue *q, size_t i)
{
    struct entry *e = index_get(&q->index, q->doubts[i]);

    if (e == NULL)
        write_ended(q, i);
    else if (!e->moving && !e->writing)
        (void)compact_move(q, e);                    /* tried again if it could not be begun */
}

void recover_check_doubts(struct queue *q)
{
    bool left = false;

    queue_lock(q);
    for (size_t i = 0; i < q->doubt_count; i++)
        left |= !is_settled(q, i);
    q->doubtful = left;
    queue_unlock(q);
}

void recover_settle_doubts(struct queue *q)
{
    queue_lock(q);
    for (size_t i = 0; i < q->doubt_count && q->moves < DOUBTS_MAX; i++)
        if (!is_settled(q, i))
            settle_doubt(q, i);
    queue_unlock(q);
}
