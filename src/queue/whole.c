/*
 * Writes what whole.h says. Pure; used by the worker.
 */
#include "queue/whole.h"
#include <errno.h>

#define BODY_HEAD_MAX 64                             /* more than the head of a body, or the name of its file, takes */
#define OUTCOME_EXTRA 32                             /* likewise of an outcome beside its words */

static void put_states(struct buf *out, const struct whole *w)
{
    record_put_str(out, RECORD_TAG_STATES, (struct str){ (const char *)w->states, w->rcpts });
    record_put_u32(out, RECORD_TAG_ATTEMPTS, w->attempts);
    record_put_u64(out, RECORD_TAG_DUE, (uint64_t)w->due_wall_ns);
    if (w->held)
        record_put_str(out, RECORD_TAG_HELD, (struct str){ 0 });
}

static void put_outcomes(struct buf *out, const struct whole *w, uint64_t room)
{
    for (uint32_t i = 0; i < w->rcpts; i++) {
        const struct outcome *o = &w->last[i];
        uint64_t size = o->status.n + o->remote.n + o->text.n + OUTCOME_EXTRA;
        if (o->status.p != NULL && out->n + size <= room)
            record_put_outcome(out, o);
    }
}

int whole_put(struct buf *out, const struct whole *w, int64_t now_wall_ns, uint64_t max)
{
    uint64_t body = w->body_in_file ? 0 : w->body_size;

    record_put_u64(out, RECORD_TAG_ID, w->id);
    record_put_u64(out, RECORD_TAG_TIME, (uint64_t)now_wall_ns);
    record_put_u64(out, RECORD_TAG_ARRIVED, (uint64_t)w->arrived_ns);
    record_put_u32(out, RECORD_TAG_RCPTS, w->rcpts);
    put_states(out, w);
    record_put_str(out, RECORD_TAG_ENVELOPE, w->envelope);
    record_put_unknown(out, w->before);
    if (out->n + body + BODY_HEAD_MAX < max)
        put_outcomes(out, w, max - body - BODY_HEAD_MAX);
    if (w->body_in_file)
        record_put_body_file(out, w->body_size, w->body_crc);
    else
        record_put_body_head(out, w->body_size);
    if (!buf_ok(out))
        return -ENOMEM;
    return out->n + body > max ? -EMSGSIZE : 0;
}
