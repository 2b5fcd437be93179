/*
 * Messages and the files of their bodies, once the journal is read: which message lacks its file, which file is nobody's. Part of
 * recovery: see recover.c.
 */
#include "queue/recover_internal.h"

#include "base/codec.h"
#include "base/log.h"
#include "run/file.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct body_list {
    struct queue *queue;
    uint64_t     *orphans;                           /* owned */
    size_t        count, capacity;
};

static int note_body(void *arg, const char *name)
{
    struct body_list *l = arg;
    uint64_t id;

    if (!codec_id_parse(str_of(name), &id))
        return 0;                                    /* not ours */
    if (id > l->queue->last_id)
        l->queue->last_id = id;
    struct entry *e = index_get(&l->queue->index, id);
    if (e != NULL && e->body_in_file) {
        e->body_seen = true;
        return 0;
    }
    if (l->count == l->capacity) {
        size_t capacity = l->capacity == 0 ? 64 : 2 * l->capacity;
        uint64_t *grown = reallocarray(l->orphans, capacity, sizeof *grown);
        if (grown == NULL)
            return -ENOMEM;
        l->orphans = grown;
        l->capacity = capacity;
    }
    l->orphans[l->count++] = id;
    return 0;
}

/* A message without its body. In the doubtful batch it was refused, and its file removed, before the name of its abandoned
 * record could be written; it does not come back. Anywhere else it is damage: it stays, to be seen. */
static void miss_body(struct recovery *rc, struct entry *e)
{
    char id[CODEC_ID_LEN + 1];

    if (map_u64_get(&rc->doubts, e->id) != NULL && e->attempts == 0) {
        rc->out->abandoned++;
        recover_remove(rc->queue, e);
        return;
    }
    codec_id_format(e->id, id);
    log_event(LOG_ERROR, "queue-body-missing", LOG_Z("id", id));
    rc->out->bad_records++;
}

int recover_bodies(struct recovery *rc)
{
    struct queue *q = rc->queue;
    struct body_list list = { .queue = q };
    int r = file_list(q->journal.bodies.file, note_body, &list);

    free(list.orphans);
    return r < 0 ? recover_complain(rc, r, JOURNAL_BODIES_NAME, strerror(-r)) : 0;
}

/* Each message once, when all is known about it: in the order of due times, if its body is there. To move it there with each record took a
 * fifth of a start. */
void recover_finish(struct recovery *rc)
{
    struct queue *q = rc->queue;
    struct entry *some[64];
    uint64_t after = 0;
    size_t n;

    while ((n = index_after(&q->index, after, some, sizeof some / sizeof *some)) > 0) {
        after = some[n - 1]->id;
        for (size_t i = 0; i < n; i++) {
            queue_schedule(q, some[i]);
            if (some[i]->body_in_file && !some[i]->body_seen)
                miss_body(rc, some[i]);
        }
    }
}

int recover_orphans(struct queue *q, struct queue_recovery *out)
{
    struct body_list list = { .queue = q };

    /* After damage, a file that seems to be nobody's may be all that is left of a message. */
    if (out->bad_records > 0 || q->doubtful)
        return 0;
    int r = file_list(q->journal.bodies.file, note_body, &list);
    for (size_t i = 0; i < list.count && r == 0; i++) {
        char name[SEGMENT_NAME_SIZE];
        body_name(name, list.orphans[i]);
        r = file_unlink_at(q->journal.bodies.file, name);
        out->orphan_bodies += r == 0;
    }
    free(list.orphans);
    return r;
}
