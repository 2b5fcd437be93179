/*
 * The way in of transfers: messages of another node. The contract is in transfer.h. Runs in the worker.
 */
#include "queue/transfer_internal.h"

#include "base/log.h"
#include "base/metrics.h"
#include "queue/whole.h"
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MEMORY_MAX (UINT64_C(64) << 20)              /* of an envelope and its outcomes */

/* In the index, as one that arrives: nobody sees it; its record is durable. */
struct newcomer {
    struct entry  *entry;
    enum life_event as;
    int64_t        due_mono_ns;
    struct commit_ticket ticket;
};

/* ---- ids ---- */

int transfer_expect(struct transfer *t, const uint64_t *numbers, size_t n, uint64_t *out_ids)
{
    struct ledger_entry entries[TRANSFER_AT_A_TIME];
    size_t expected = 0;

    assert(n <= TRANSFER_AT_A_TIME);
    for (size_t i = 0; i < n; i++) {
        if (numbers[i] > TRANSFER_NUMBER_MAX)
            return -EINVAL;
        out_ids[i] = map_u64_get(&t->known, numbers[i]) != NULL ? 0 : queue_new_id(t->queue);
        if (out_ids[i] != 0)
            entries[expected++] = (struct ledger_entry){ .kind = LEDGER_EXPECTED, .number = numbers[i], .id = out_ids[i] };
    }
    return transfer_append(t, entries, expected);
}

/* ---- a message ---- */

struct bringing {
    struct queue   *queue;
    uint64_t        id;
    struct arena    arena;
    struct record   record;
    struct envelope env;
    uint8_t        *states;
    struct outcome *last;
    uint32_t        pending;
    struct buf      envelope, payload;               /* owned */
};

static bool read_states(struct bringing *b)
{
    for (uint32_t i = 0; i < b->record.rcpts; i++) {
        b->states[i] = b->record.states.n > 0 ? (uint8_t)b->record.states.p[i] : RCPT_PENDING;
        b->pending += b->states[i] == RCPT_PENDING;
    }
    return b->pending > 0;
}

static void read_words(struct bringing *b)
{
    size_t cursor = 0;
    struct outcome o;

    while (record_outcome_next(b->record.payload, &cursor, &o))
        if (o.rcpt < b->record.rcpts)
            b->last[o.rcpt] = o;
    for (uint32_t i = 0; i < b->record.rcpts; i++)
        b->last[i].rcpt = i;
}

static int read_packed(struct bringing *b, struct str packed)
{
    if (record_parse(RECORD_MOVED, 0, packed, &b->record) != RECORD_OK)
        return -EBADMSG;
    enum envelope_result result = envelope_parse(&b->arena, b->record.envelope, &b->env);
    if (result != ENVELOPE_OK || b->env.rcpt_count != b->record.rcpts)
        return result == ENVELOPE_NO_MEMORY ? -ENOMEM : -EBADMSG;
    b->states = arena_alloc(&b->arena, b->record.rcpts);
    b->last = arena_array(&b->arena, b->record.rcpts, sizeof *b->last);
    if (arena_failed(&b->arena))
        return -ENOMEM;
    read_words(b);
    return read_states(b) ? 0 : -EBADMSG;
}

/* Awaits: the record, under the new id. */
static int build(struct bringing *b, struct body *body, int64_t now)
{
    uint64_t max = commit_payload_max(&b->queue->journal);

    b->env.id = b->id;
    envelope_put(&b->envelope, &b->env);
    if (!buf_ok(&b->envelope))
        return b->envelope.n > max / 2 ? -EMSGSIZE : -ENOMEM;
    const struct whole whole = {
        .id = b->id,
        .arrived_ns = b->record.arrived_ns,
        .due_wall_ns = b->record.has_due ? b->record.due_ns : now,
        .attempts = b->record.attempts,
        .rcpts = b->record.rcpts,
        .states = b->states,
        .held = b->record.held,
        .envelope = buf_str(&b->envelope),
        .before = b->record.payload,
        .last = b->last,
        .body_in_file = body_in_file(body),
        .body_size = body_size(body),
        .body_crc = body_crc(body),
    };
    return whole_put(&b->payload, &whole, now, max);
}

static int enter(const struct bringing *b, const struct body *body, struct entry **out)
{
    struct entry *e = entry_new(b->id, b->record.rcpts);

    if (e == NULL)
        return -ENOMEM;
    e->life = LIFE_ARRIVING;
    e->priority = (int8_t)b->env.priority;
    e->arrived_wall_ns = b->record.arrived_ns;
    e->body_size = body_size(body);
    e->body_in_file = body_in_file(body);
    e->attempts = b->record.attempts;
    e->pending = b->pending;
    memcpy(e->states, b->states, b->record.rcpts);
    queue_lock(b->queue);
    int r = index_add(&b->queue->index, e);
    b->queue->arriving += r == 0;
    queue_unlock(b->queue);
    if (r == 0)
        *out = e;
    else
        free(e);
    return r;
}

static void leave(struct queue *q, struct entry *e)
{
    uint64_t ignored;

    queue_lock(q);
    q->arriving--;
    queue_forget(q, e, &ignored);
    queue_unlock(q);
}

/* Awaits. */
static int commit_message(struct bringing *b, struct body *body, struct newcomer *out)
{
    int64_t now = clock_wall_ns();
    int r = build(b, body, now);

    if (r == 0)
        r = enter(b, body, &out->entry);
    if (r < 0)
        return r;
    out->ticket = (struct commit_ticket){ .type = RECORD_MOVED, .pieces = { buf_str(&b->payload), body_in_memory(body) } };
    r = commit_record(&b->queue->commit, &out->ticket);
    if (r < 0) {
        leave(b->queue, out->entry);
        return r;
    }
    body_taken(body);
    out->as = b->record.held ? EVENT_ACCEPTED_HELD : EVENT_ACCEPTED;
    out->due_mono_ns = b->record.has_due ? queue_due_mono(b->record.due_ns, now) : clock_mono_ns();
    return 0;
}

/* Awaits: the body that is in the record. */
static int body_of_record(const struct bringing *b, struct body **out)
{
    struct body *body = body_new(b->queue, b->id);
    int r = body == NULL ? -ENOMEM : body_append(body, b->record.body);

    if (r == 0)
        *out = body;
    else
        body_free(body);
    return r;
}

static int bring(struct bringing *b, struct str packed, struct body *apart, struct newcomer *out)
{
    struct body *body = apart;
    int r = queue_check_floor(b->queue);

    if (r == 0)
        r = read_packed(b, packed);
    if (r == 0 && b->record.body_in_file != (apart != NULL))
        r = -EBADMSG;
    if (r == 0 && apart == NULL)
        r = body_of_record(b, &body);
    if (r == 0)
        r = body_finish(body);
    if (r == 0 && apart != NULL && (body_size(body) != b->record.body_size || body_crc(body) != b->record.body_crc))
        r = -EBADMSG;                                /* it is not what was accepted there */
    if (r == 0)
        r = commit_message(b, body, out);
    if (apart == NULL)
        body_free(body);
    return r;
}

int transfer_bring(struct queue *q, uint64_t id, struct str packed, struct body *body, struct newcomer **out)
{
    struct bringing b = { .queue = q, .id = id };
    struct newcomer *n = calloc(1, sizeof *n);
    uint64_t max = commit_payload_max(&q->journal);

    if (n == NULL)
        return -ENOMEM;
    arena_init(&b.arena, MEMORY_MAX);
    buf_init(&b.envelope, max);
    buf_init(&b.payload, max);
    int r = bring(&b, packed, body, n);
    buf_free(&b.envelope);
    buf_free(&b.payload);
    arena_reset(&b.arena);
    if (r == 0)
        *out = n;
    else
        free(n);
    return r;
}

/* ---- into the queue ---- */

static void appear(struct queue *q, struct newcomer *n)
{
    struct entry *e = n->entry;
    enum life_state next;

    queue_lock(q);
    q->arriving--;
    (void)life_step((enum life_state)e->life, n->as, &next);
    e->life = (uint8_t)next;
    entry_place(e, n->ticket.segment, n->ticket.offset, n->ticket.length);
    q->live_bytes += entry_record_size(e);
    e->due_mono_ns = n->due_mono_ns;
    queue_schedule(q, e);
    queue_unlock(q);
    metric_add(METRIC_queue_messages, 1);
    free(n);
}

/* Nobody has seen it; it ends as if an operator had ended it. Where it is not known whether it came, only the next start can say. */
static void withdraw(struct queue *q, struct newcomer *n, bool unsure)
{
    struct entry *e = n->entry;
    uint64_t id = e->id;

    n->due_mono_ns = unsure ? INDEX_UNSURE : INDEX_NEVER;
    n->as = EVENT_ACCEPTED;
    appear(q, n);
    if (!unsure)
        (void)queue_discard(q, id);
}

int transfer_let_in(struct transfer *t, const uint64_t *numbers, struct newcomer **newcomers, size_t n)
{
    struct ledger_entry entries[TRANSFER_AT_A_TIME];

    assert(n <= TRANSFER_AT_A_TIME);
    for (size_t i = 0; i < n; i++)
        entries[i] = (struct ledger_entry){ .kind = LEDGER_CAME, .number = numbers[i], .id = newcomers[i]->entry->id };
    task_shield_begin();
    int r = transfer_append(t, entries, n);
    for (size_t i = 0; i < n; i++) {
        if (r == 0)
            appear(t->queue, newcomers[i]);
        else
            withdraw(t->queue, newcomers[i], r == -EUCLEAN);
    }
    task_shield_end();
    return r;
}

/* ---- at a start ---- */

struct start {
    struct queue  *queue;
    struct ledger  ledger;
    struct map_u64 came;                             /* numbers */
    struct ledger_entry *missing;                    /* owned: those that came, of which it does not say so */
    size_t         count, capacity;
    bool           collecting;
};

static int keep_missing(struct start *s, const struct ledger_entry *e)
{
    if (s->count == s->capacity) {
        size_t capacity = s->capacity == 0 ? 64 : 2 * s->capacity;
        struct ledger_entry *more = realloc(s->missing, capacity * sizeof *more);
        if (more == NULL)
            return -ENOMEM;
        s->missing = more;
        s->capacity = capacity;
    }
    s->missing[s->count++] = (struct ledger_entry){ .kind = LEDGER_CAME, .number = e->number, .id = e->id };
    return 0;
}

/* Twice over: first what came as it says, then who came besides. */
static int follow(void *arg, const struct ledger_entry *e)
{
    struct start *s = arg;

    if (!s->collecting)
        return e->kind == LEDGER_CAME ? map_u64_put(&s->came, e->number, s) : 0;
    bool missing = e->kind == LEDGER_EXPECTED && map_u64_get(&s->came, e->number) == NULL && index_get(&s->queue->index, e->id) != NULL;
    return missing ? keep_missing(s, e) : 0;
}

/* Until it is written down that they came they do not go: they are held, in memory only, as if an operator had done it. */
static void hold_missing(struct start *s)
{
    for (size_t i = 0; i < s->count; i++) {
        struct entry *e = index_get(&s->queue->index, s->missing[i].id);
        e->life = LIFE_HELD;
        queue_schedule(s->queue, e);
    }
    log_event(LOG_ERROR, "transfer-unsure", LOG_U64("held", s->count), LOG_Z("text", "the disk refuses; they are held until the next start"));
}

static int recover_one(void *arg, const char *name)
{
    struct start s = { .queue = arg };

    if (!str_ends_nocase(str_of(name), STR(".in")))
        return 0;
    int r = ledger_open(s.queue->journal.dir, name, &s.ledger);
    if (r < 0)
        return r;
    map_u64_init(&s.came);
    r = ledger_read(&s.ledger, follow, &s);
    s.collecting = true;
    if (r == 0)
        r = ledger_read(&s.ledger, follow, &s);
    if (s.count > 0 && (r < 0 || s.queue->doubtful || ledger_append(&s.ledger, s.missing, s.count) < 0))
        hold_missing(&s);
    ledger_close(&s.ledger);
    map_u64_free(&s.came);
    free(s.missing);
    return r;
}

int transfer_recover_in(struct queue *q)
{
    return q->options.read_only ? 0 : ledger_list(q->journal.dir, recover_one, q);
}
