/*
 * Two workers at a time: the one that lets go of the queue, and the one that takes over what it still accepted.
 *
 * Who lets go writes nothing more to the directory's journal. What its sessions still bring goes to a queue of its own, in the
 * directory DRAIN_NAME beside: a journal, a lock and bodies of the same kind, with the same promise. Ids there have a bit that those
 * elsewhere do not have, so no two are the same. The lock there says whether its process lives.
 *
 * Taking over is done message by message: its record is written to our journal, then it is ended there, and only then can it be claimed
 * here. A crash between the two leaves it in both: then the next call finds it here, untouched (queue_open and this before the first
 * claim), and ends it there. So nothing is lost, and nothing is delivered twice.
 *
 * Runs in the worker, on loop 0.
 */
#include "queue/queue_internal.h"

#include "base/log.h"
#include "base/metrics.h"
#include "run/file.h"
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DRAIN_NAME        "drain"
#define DRAIN_SEGMENT_MAX (UINT64_C(8) << 20)        /* what comes while sessions end is not much */
#define TAKERS            16                         /* messages on their way at a time, so that they share syncs */
#define RETRY_NS          (20 * NS_PER_MS)           /* a full pool empties by itself */

struct queue *queue_in_force(struct queue *q)
{
    struct queue *second = q->second;
    return second == NULL ? q : second;
}

/* ---- the queue beside ---- */

struct open_job {
    struct queue_options options;
    struct queue        *queue;
    char                *error;
    int                  result;
};

static void open_job(void *arg)
{
    struct open_job *job = arg;
    job->result = queue_open(&job->options, &job->queue, NULL, job->error);
}

/* Awaits. */
static int open_beside(struct queue *q, const char *dir, struct queue **out, char error[256])
{
    char path[4096];
    struct open_job job = { .options = q->options, .error = error };

    if (snprintf(path, sizeof path, "%s/" DRAIN_NAME, dir) >= (int)sizeof path)
        return -ENAMETOOLONG;
    job.options.dir = path;
    job.options.locked = job.options.beside = false;
    job.options.second = true;
    if (job.options.segment_size > DRAIN_SEGMENT_MAX)
        job.options.segment_size = DRAIN_SEGMENT_MAX;
    int r = offload_run(q->disk_pool, open_job, &job);
    if (r == 0)
        r = job.result;
    if (r == 0)
        *out = job.queue;
    return r;
}

/* ---- letting go ---- */

static void seal_job(void *arg)
{
    struct queue *q = arg;

    commit_close(&q->commit);
    compact_close(q);
}

/* Awaits. */
static void seal(struct queue *q)
{
    while (offload_run(q->commit_pool, seal_job, q) < 0)
        (void)task_sleep(RETRY_NS);
}

int queue_drain(struct queue *q, const char *dir, char error[256])
{
    struct queue *second = NULL;

    assert(q->claimer == NULL && q->second == NULL && !q->options.read_only);
    snprintf(error, 256, "no memory");
    int r = open_beside(q, dir, &second, error);
    if (r < 0)
        return r;
    queue_lock(q);
    q->second = second;
    queue_unlock(q);
    task_shield_begin();
    queue_wait_jobs(q);
    (void)commit_wait_idle(&q->commit);
    seal(q);
    task_shield_end();
    return 0;
}

/* ---- taking over ---- */

struct take_over {
    struct queue *to, *from;
    uint64_t      after;                             /* ids up to this one are somebody's */
    size_t        taken;
    int           result;                            /* the first error */
};

/* One message on its way. */
struct taking {
    struct take_over *over;
    struct entry     *there, *here;                  /* here is NULL if it had come already */
    uint64_t          id;
    enum life_state   life;                          /* what it will be */
    struct arena      arena;
    unsigned char    *bytes;                         /* the record */
    struct record     record;
    struct record_head head;
    int               result;
};

/* The record, and a second name for the body's file. */
static void fetch_job(void *arg)
{
    struct taking *t = arg;
    struct queue *from = t->over->from, *to = t->over->to;
    const struct entry *e = t->there;
    char name[SEGMENT_NAME_SIZE];

    t->result = load_bytes(e->segment, (uint64_t)e->place * RECORD_ALIGN, e->length, t->bytes);
    if (t->result == 0)
        t->result = load_parse(e, e->length, e->segment->salt, t->bytes, &t->record);
    if (t->result < 0 || !t->record.body_in_file)
        return;
    body_name(name, t->id);
    uint32_t begun = synced_dir_begin(&to->journal.bodies);
    t->result = file_link_at(from->journal.bodies.file, name, to->journal.bodies.file, name);
    if (t->result == 0 || t->result == -EEXIST)
        t->result = synced_dir_sync(&to->journal.bodies, begun);
}

/* Awaits. The entry is kept from being moved meanwhile. */
static int fetch(struct taking *t)
{
    t->bytes = arena_alloc(&t->arena, entry_record_size(t->there));
    if (t->bytes == NULL)
        return -ENOMEM;
    int r = offload_run(t->over->to->disk_pool, fetch_job, t);
    if (r == 0)
        r = t->result;
    if (r == 0)
        (void)record_head_get(t->bytes, t->there->segment->salt, &t->head);
    return r;
}

/* In the index before it is on the disk; nobody sees it yet. */
static int enter(struct taking *t)
{
    struct queue *to = t->over->to;
    struct entry *e = entry_new(t->id, t->record.rcpts);

    if (e == NULL)
        return -ENOMEM;
    recover_fill_entry(e, &t->record);
    t->life = (enum life_state)e->life;
    e->life = LIFE_ARRIVING;
    queue_lock(to);
    int r = index_add(&to->index, e);
    to->arriving += r == 0;
    queue_unlock(to);
    if (r < 0)
        free(e);
    t->here = r < 0 ? NULL : e;
    return r == -EEXIST ? 0 : r;
}

static void leave(struct taking *t)
{
    struct queue *to = t->over->to;
    uint64_t ignored;                                /* the file is the next call's */

    queue_lock(to);
    to->arriving--;
    queue_forget(to, t->here, &ignored);
    queue_unlock(to);
}

static void appear(struct taking *t, const struct commit_ticket *ticket)
{
    struct queue *to = t->over->to;
    struct entry *e = t->here;

    queue_lock(to);
    to->arriving--;
    e->life = (uint8_t)t->life;
    entry_place(e, ticket->segment, ticket->offset, ticket->length);
    to->live_bytes += entry_record_size(e);
    queue_schedule(to, e);
    queue_unlock(to);
    metric_add(METRIC_queue_messages, 1);
}

/* Awaits. Written here, ended there, then seen. */
static int move(struct taking *t)
{
    struct commit_ticket ticket = {
        .type = (enum record_type)t->head.type,
        .pieces = { { (const char *)t->bytes + RECORD_HEAD_SIZE, t->head.length } },
    };
    int r = t->here == NULL ? 0 : commit_record(&t->over->to->commit, &ticket);
    bool written = r == 0 && t->here != NULL;

    if (r == 0)
        r = queue_end_here(t->over->from, t->id);
    if (r == 0 && written)
        appear(t, &ticket);
    if (r < 0 && t->here != NULL)
        leave(t);
    if (r < 0 && written)
        ticket.segment->live--;
    return r;
}

static void release(struct taking *t)
{
    struct queue *from = t->over->from;

    queue_lock(from);
    t->there->writing = false;
    queue_wake_quiet(from);
    queue_unlock(from);
}

/* Awaits: it may be on its way within that queue. False: it is gone. */
static bool keep(struct taking *t)
{
    struct queue *from = t->over->from;

    queue_lock(from);
    while ((t->there = index_get(&from->index, t->id)) != NULL && (t->there->moving || t->there->writing))
        (void)queue_wait_quiet(from);
    if (t->there != NULL)
        t->there->writing = true;
    queue_unlock(from);
    return t->there != NULL;
}

/* Awaits. */
static int take(struct take_over *over, uint64_t id)
{
    struct taking t = { .over = over, .id = id };

    if (!keep(&t))
        return 0;
    arena_init(&t.arena, SIZE_MAX);
    int r = fetch(&t);
    if (r == 0)
        r = enter(&t);
    release(&t);
    if (r == 0)
        r = move(&t);
    arena_reset(&t.arena);
    if (r < 0)
        log_event(LOG_ERROR, "take-over", LOG_U64("id", id), LOG_Z("error", strerror(-r)));
    return r;
}

static void taker(void *arg)
{
    struct take_over *over = arg;
    struct queue_item item;

    while (queue_list(over->from, over->after, &item, 1) == 1) {
        over->after = item.id;
        int r = take(over, item.id);
        if (r == 0)
            over->taken++;
        else if (over->result == 0)
            over->result = r;
    }
}

static int take_all(struct take_over *over)
{
    struct task_group takers;

    task_group_init(&takers);
    for (int i = 0; i < TAKERS; i++)
        (void)task_group_start(&takers, "take-over", taker, over);   /* fewer do it too */
    (void)task_group_wait(&takers, TASK_FOREVER);
    taker(over);                                                    /* if there was none */
    return over->result;
}

int queue_take_over(struct queue *q, const char *dir, size_t *out_taken)
{
    struct take_over over = { .to = q };
    struct file_info info;
    char error[256];

    *out_taken = 0;
    if (file_info_at(q->journal.dir, DRAIN_NAME, &info) == -ENOENT)
        return 0;
    int r = open_beside(q, dir, &over.from, error);
    if (r < 0)
        return r;
    task_shield_begin();
    r = take_all(&over);
    queue_close(over.from);
    task_shield_end();
    *out_taken = over.taken;
    return r;
}
