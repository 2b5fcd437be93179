/*
 * Records read back from the journal. Runs in the worker: in disk jobs, and for a small read that is surely in the page
 * cache directly on a loop (see claim.c).
 */
#include "queue/queue_internal.h"
#include "run/file.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* More outcome records than any message has attempts in its life; a longer chain is a damaged one. */
#define CHAIN_MAX 10000

int load_bytes(struct segment *s, uint64_t offset, uint32_t length, void *memory)
{
    size_t n;
    int r = file_read_at(s->file, memory, record_size(length), offset, &n);

    if (r < 0)
        return r;
    return n < record_size(length) ? -EBADMSG : 0;
}

static int parse(uint32_t salt, const unsigned char *memory, uint32_t length, struct record_head *head, struct record *out)
{
    if (!record_head_get(memory, salt, head) || head->length != length || !record_payload_good(head, memory + RECORD_HEAD_SIZE))
        return -EBADMSG;
    struct str payload = { (const char *)memory + RECORD_HEAD_SIZE, length };
    return record_parse(head->type, head->flags, payload, out) == RECORD_OK ? 0 : -EBADMSG;
}

int load_parse(const struct entry *e, uint32_t length, uint32_t salt, const void *memory, struct record *out)
{
    struct record_head head;
    int r = parse(salt, memory, length, &head, out);

    if (r < 0)
        return r;
    bool right = record_is_message(head.type) && out->id == e->id && out->rcpts == e->rcpts;
    return right ? 0 : -EBADMSG;
}

/* A record whose length is not known: its head, then all of it, in the arena. */
static int load_at(struct segment *s, uint64_t offset, struct arena *arena, struct record_head *head, struct record *out)
{
    unsigned char bytes[RECORD_HEAD_SIZE];
    int r = load_bytes(s, offset, 0, bytes);

    if (r < 0)
        return r;
    if (!record_head_get(bytes, s->salt, head))
        return -EBADMSG;
    void *memory = arena_alloc(arena, record_size(head->length));
    if (memory == NULL)
        return -ENOMEM;
    r = load_bytes(s, offset, head->length, memory);
    return r < 0 ? r : parse(s->salt, memory, head->length, head, out);
}

/* Newest first: what is there already is newer. */
static void take_outcomes(const struct record *r, struct outcome *last, uint32_t rcpts)
{
    size_t cursor = 0;
    struct outcome o;

    while (record_outcome_next(r->payload, &cursor, &o))
        if (o.rcpt < rcpts && last[o.rcpt].status.p == NULL)
            last[o.rcpt] = o;
}

int load_outcomes(struct queue *q, const struct segment *s, uint64_t offset, struct arena *arena, struct outcome *last, uint32_t rcpts,
                  int64_t *out_newest_ns)
{
    for (int i = 0; s != NULL && i < CHAIN_MAX; i++) {
        struct record_head head;
        struct record record;
        int r = load_at((struct segment *)s, offset, arena, &head, &record);
        if (r < 0)
            return r;
        if (i == 0)
            *out_newest_ns = record.time_ns;
        take_outcomes(&record, last, rcpts);
        /* A move has everything that was before it. */
        if (head.type != RECORD_OUTCOME || record.previous.generation == 0)
            break;
        s = journal_find(&q->journal, record.previous.generation, record.previous.segment);
        offset = record.previous.offset;
    }
    return 0;
}
