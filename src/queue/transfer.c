/*
 * Transfers: which are open, their ledgers, and the way out. The contract is in transfer.h; the way in is in transfer_in.c. Runs in the worker.
 */
#include "queue/transfer_internal.h"

#include "queue/whole.h"
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- open and closed ---- */

static bool name_good(struct str name)
{
    for (size_t i = 0; i < name.n; i++)
        if (!char_is_digit(name.p[i]) && (name.p[i] < 'a' || name.p[i] > 'f'))
            return false;
    return name.n == TRANSFER_NAME_LEN;
}

static bool enlist(struct queue *q, struct transfer *t)
{
    queue_lock(q);
    struct transfer *other = q->transfers;
    while (other != NULL && strcmp(other->file_name, t->file_name) != 0)
        other = other->next;
    if (other == NULL) {
        t->next = q->transfers;
        q->transfers = t;
    }
    queue_unlock(q);
    return other == NULL;
}

static void delist(struct queue *q, struct transfer *t)
{
    queue_lock(q);
    struct transfer **place = &q->transfers;
    while (*place != t)
        place = &(*place)->next;
    *place = t->next;
    queue_unlock(q);
}

static int note_entry(void *arg, const struct ledger_entry *e)
{
    struct transfer *t = arg;

    switch (e->kind) {
    case LEDGER_GONE:     return map_u64_put(&t->known, e->id, t);
    case LEDGER_CAME:     return map_u64_put(&t->known, e->number, t);
    case LEDGER_EXPECTED: break;
    }
    return 0;
}

static void open_job(void *arg)
{
    struct transfer *t = arg;

    t->result = ledger_open(t->queue->journal.dir, t->file_name, &t->ledger);
    if (t->result == 0)
        t->result = ledger_read(&t->ledger, note_entry, t);
}

int transfer_open(struct queue *q, struct str name, enum transfer_way way, struct transfer **out)
{
    if (!name_good(name))
        return -EINVAL;
    if (q->options.read_only)
        return -EROFS;
    struct transfer *t = calloc(1, sizeof *t);
    if (t == NULL)
        return -ENOMEM;
    t->queue = q;
    t->ledger.file = -1;
    map_u64_init(&t->known);
    snprintf(t->file_name, sizeof t->file_name, "%.*s.%s", (int)name.n, name.p, way == TRANSFER_OUT ? "out" : "in");
    if (!enlist(q, t)) {
        free(t);
        return -EBUSY;
    }
    int r = offload_run(q->disk_pool, open_job, t);
    if (r == 0)
        r = t->result;
    if (r < 0) {
        transfer_close(t);
        return r;
    }
    *out = t;
    return 0;
}

void transfer_close(struct transfer *t)
{
    if (t == NULL)
        return;
    delist(t->queue, t);
    ledger_close(&t->ledger);
    map_u64_free(&t->known);
    free(t);
}

/* ---- the ledger ---- */

struct append_job {
    struct transfer           *transfer;
    const struct ledger_entry *entries;
    size_t                     n;
    int                        result;
};

static void append_job(void *arg)
{
    struct append_job *job = arg;
    job->result = ledger_append(&job->transfer->ledger, job->entries, job->n);
}

int transfer_append(struct transfer *t, const struct ledger_entry *entries, size_t n)
{
    struct append_job job = { .transfer = t, .entries = entries, .n = n };

    if (n == 0)
        return 0;
    if (t->unsure)
        return -EIO;                                 /* what stands at its end is not known: a new start, or opening it again, tells */
    int r = offload_run(t->queue->disk_pool, append_job, &job);
    if (r == 0)
        r = job.result;
    t->unsure = r == -EUCLEAN;
    for (size_t i = 0; r == 0 && i < n; i++)
        (void)note_entry(t, &entries[i]);            /* without memory it is asked for, or brought, once more: the next opening knows */
    return r;
}

/* ---- out ---- */

bool transfer_body_apart(const struct claim *c)
{
    return claim_held_of((struct claim *)c)->record.body_in_file;
}

int transfer_pack(struct claim *c, struct buf *out)
{
    struct claim_held *h = claim_held_of(c);
    const struct entry *e = h->entry;

    claim_begin_writing(c);                          /* it stays where it is while it is read */
    struct outcome *last = claim_words(c);
    if (last == NULL)
        return -ENOMEM;
    const struct whole whole = {
        .id = e->id,
        .arrived_ns = h->record.arrived_ns,
        .due_wall_ns = queue_due_wall(e),
        .attempts = e->attempts,
        .rcpts = e->rcpts,
        .states = e->states,
        .held = e->life == LIFE_TAKEN,
        .envelope = h->record.envelope,
        .before = h->record.payload,
        .last = last,
        .body_in_file = h->record.body_in_file,
        .body_size = h->record.body_size,
        .body_crc = h->record.body_crc,
    };
    int r = whole_put(out, &whole, clock_wall_ns(), commit_payload_max(&c->queue->journal));
    if (r == 0 && !h->record.body_in_file)
        buf_put_str(out, h->record.body);
    if (r == 0 && !buf_ok(out))
        r = -ENOMEM;
    return r;
}

/* Its record is the ledger's business; this says so in the journal too. */
static void end_task(void *arg)
{
    struct claim *c = arg;
    struct outcome *outcomes = arena_array(&c->arena, c->env.rcpt_count, sizeof *outcomes);
    size_t n = 0;

    if (outcomes == NULL) {
        claim_end(c, EVENT_UNCLAIM, INDEX_UNSURE);
        return;
    }
    for (uint32_t i = 0; i < c->env.rcpt_count; i++)
        if (c->states[i] == RCPT_PENDING)
            outcomes[n++] = (struct outcome){ .rcpt = i, .state = RCPT_DISCARDED, .text = STR("exported") };
    (void)queue_settle(c, outcomes, n, 0);
}

static void end_all(struct claim **claims, size_t n)
{
    struct task_group group;

    task_group_init(&group);
    for (size_t i = 0; i < n; i++)
        if (task_group_start(&group, "let go", end_task, claims[i]) < 0)
            end_task(claims[i]);
    (void)task_group_wait(&group, TASK_FOREVER);
}

static void keep_all(struct claim **claims, size_t n, bool unsure)
{
    for (size_t i = 0; i < n; i++) {
        if (unsure)
            claim_end(claims[i], EVENT_UNCLAIM, INDEX_UNSURE);
        else
            queue_give_back(claims[i]);
    }
}

int transfer_let_go(struct transfer *t, struct claim **claims, size_t n)
{
    struct ledger_entry entries[TRANSFER_AT_A_TIME];

    assert(n <= TRANSFER_AT_A_TIME);
    for (size_t i = 0; i < n; i++)
        entries[i] = (struct ledger_entry){ .kind = LEDGER_GONE, .id = claims[i]->id };
    task_shield_begin();
    int r = transfer_append(t, entries, n);
    if (r == 0)
        end_all(claims, n);
    else
        keep_all(claims, n, r == -EUCLEAN);
    task_shield_end();
    return r;
}

int transfer_ask_gone(struct transfer *t, const uint64_t *ids, size_t n, bool *out_gone)
{
    if (t->unsure)
        return -EIO;
    for (size_t i = 0; i < n; i++)
        out_gone[i] = map_u64_get(&t->known, ids[i]) != NULL;
    return 0;
}

static bool any_is_here(struct transfer *t)
{
    struct queue *q = t->queue;
    size_t cursor = 0;
    uint64_t id;
    void *ignored;
    bool here = false;

    queue_lock(q);
    while (!here && map_u64_next(&t->known, &cursor, &id, &ignored))
        here = index_get(&q->index, id) != NULL;
    queue_unlock(q);
    return here;
}

static void remove_job(void *arg)
{
    struct transfer *t = arg;
    t->result = ledger_remove(t->queue->journal.dir, t->file_name);
}

int transfer_forget(struct transfer *t)
{
    int r = any_is_here(t) || t->unsure ? -EBUSY : offload_run(t->queue->disk_pool, remove_job, t);

    if (r == 0)
        r = t->result;
    transfer_close(t);
    return r;
}

/* ---- at a start ---- */

static int end_gone(void *arg, const struct ledger_entry *e)
{
    struct recovery *rc = arg;
    struct entry *entry = e->kind == LEDGER_GONE ? index_get(&rc->queue->index, e->id) : NULL;

    if (entry == NULL)
        return 0;
    recover_remove(rc->queue, entry);
    return recover_doubt(rc, e->id);                 /* its end is written before anything else happens */
}

static int recover_one(void *arg, const char *name)
{
    struct recovery *rc = arg;
    struct ledger ledger;

    if (!str_ends_nocase(str_of(name), STR(".out")))
        return 0;
    int r = ledger_open(rc->queue->journal.dir, name, &ledger);
    if (r < 0)
        return r;
    r = ledger_read(&ledger, end_gone, rc);
    ledger_close(&ledger);
    return r;
}

int transfer_recover_out(struct recovery *rc)
{
    if (rc->queue->options.read_only)
        return 0;
    int r = ledger_list(rc->queue->journal.dir, recover_one, rc);
    return r < 0 ? recover_complain(rc, r, "transfer", strerror(-r)) : 0;
}
