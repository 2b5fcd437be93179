/*
 * Fuzzes queue/record: type, flags, payload. What can be parsed keeps its promises, survives being written again, and hands on what
 * nobody knows. The envelope in it is parsed too.
 */
#include "base/cleanup.h"
#include "mail/envelope.h"
#include "queue/record.h"

#include <assert.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool is_inside(struct str part, struct str whole)
{
    return part.n == 0 || (part.p >= whole.p && part.p + part.n <= whole.p + whole.n);
}

static void check_message(const struct record *r)
{
    assert(r->has_body && r->rcpts > 0 && r->rcpts <= r->envelope.n);
    assert(r->states.n == 0 || r->states.n == r->rcpts);
    assert(r->body_in_file ? r->body.n == 0 : r->body_size == r->body.n);
}

static size_t check_outcomes(struct str payload, struct buf *copy)
{
    size_t cursor = 0, count = 0;
    struct outcome o;

    for (; record_outcome_next(payload, &cursor, &o); count++) {
        assert(o.state <= RCPT_DISCARDED);
        assert(is_inside(o.status, payload) && is_inside(o.remote, payload) && is_inside(o.text, payload));
        record_put_outcome(copy, &o);
    }
    return count;
}

/* As a move writes it: everything known, and what is not. */
static void write_again(const struct record *r, struct buf *out)
{
    record_put_u64(out, RECORD_TAG_ID, r->id);
    record_put_u64(out, RECORD_TAG_TIME, (uint64_t)r->time_ns);
    record_put_u64(out, RECORD_TAG_ARRIVED, (uint64_t)r->arrived_ns);
    record_put_u32(out, RECORD_TAG_RCPTS, r->rcpts);
    record_put_u32(out, RECORD_TAG_ATTEMPTS, r->attempts);
    record_put_str(out, RECORD_TAG_STATES, r->states);
    if (r->has_due)
        record_put_u64(out, RECORD_TAG_DUE, (uint64_t)r->due_ns);
    if (r->held)
        record_put_str(out, RECORD_TAG_HELD, (struct str){ 0 });
    if (r->ended)
        record_put_str(out, RECORD_TAG_ENDED, (struct str){ 0 });
    record_put_place(out, RECORD_TAG_PREVIOUS, &r->previous);
    record_put_region(out, &r->region);
    record_put_str(out, RECORD_TAG_ENVELOPE, r->envelope);
    record_put_unknown(out, r->payload);
    if (r->body_in_file)
        record_put_body_file(out, r->body_size, r->body_crc);
    if (r->has_body && !r->body_in_file)
        record_put_str(out, RECORD_TAG_BODY, r->body);
}

static void check_same(const struct record *a, const struct record *b)
{
    assert(a->id == b->id && a->time_ns == b->time_ns && a->arrived_ns == b->arrived_ns && a->due_ns == b->due_ns);
    assert(str_eq(a->envelope, b->envelope) && str_eq(a->body, b->body) && str_eq(a->states, b->states));
    assert(a->rcpts == b->rcpts && a->attempts == b->attempts && a->has_due == b->has_due && a->has_body == b->has_body);
    assert(a->body_in_file == b->body_in_file && a->body_size == b->body_size && a->body_crc == b->body_crc);
    assert(a->held == b->held && a->ended == b->ended);
    assert(a->previous.generation == b->previous.generation && a->previous.offset == b->previous.offset);
    assert(a->region.from == b->region.from && a->region.last_sequence == b->region.last_sequence);
}

static void check_envelope(const struct record *r)
{
    struct arena arena;
    struct envelope env;

    arena_init(&arena, 1 << 24);
    if (envelope_parse(&arena, r->envelope, &env) == ENVELOPE_OK)
        assert(env.rcpt_count <= r->envelope.n);
    arena_reset(&arena);
}

static void check_record(uint8_t type, uint8_t flags, const struct record *r)
{
    CLEANUP_BUF struct buf out, unknown, unknown_again;
    struct record back;

    if (record_is_message(type))
        check_message(r);
    check_envelope(r);
    buf_init(&out, 1 << 22);
    buf_init(&unknown, 1 << 22);
    buf_init(&unknown_again, 1 << 22);
    write_again(r, &out);
    size_t outcomes = check_outcomes(r->payload, &out);
    assert(buf_ok(&out) && record_parse(type, flags, buf_str(&out), &back) == RECORD_OK);
    check_same(r, &back);
    record_put_unknown(&unknown, r->payload);
    record_put_unknown(&unknown_again, back.payload);
    assert(str_eq(buf_str(&unknown), buf_str(&unknown_again)));
    buf_clear(&out);
    assert(check_outcomes(back.payload, &out) == outcomes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct record r, front;

    if (size >= 2)
        (void)record_parse_front(data[0], data[1], (struct str){ (const char *)data + 2, size - 2 }, (uint32_t)size + data[1], &front);
    if (size >= 2 && record_parse(data[0], data[1], (struct str){ (const char *)data + 2, size - 2 }, &r) == RECORD_OK)
        check_record(data[0], data[1], &r);
    return 0;
}
