/*
 * Records as bytes; the contract is in record.h, the format in docs/journal.md. Pure: used by the worker and by the tools.
 */
#include "queue/record.h"
#include "base/codec.h"
#include <string.h>

enum { AT_CRC = 0, AT_PAYLOAD_CRC = 4, AT_LENGTH = 8, AT_BATCH = 12, AT_SEQUENCE = 16, AT_TYPE = 24, AT_FLAGS = 25, AT_INDEX = 28 };
enum { ENTRY_HEAD = 6, OUTCOME_HEAD = 12, OUTCOME_WORD_MAX = 255, PLACE_SIZE = 16, REGION_SIZE = 32, FILE_SIZE = 12 };

const char *record_type_name(uint8_t type)
{
    static const char *const names[] = {
        [RECORD_ACCEPTED] = "accepted",   [RECORD_OUTCOME] = "outcome",     [RECORD_HELD] = "held",           [RECORD_RELEASED] = "released",
        [RECORD_REROUTED] = "rerouted",   [RECORD_DISCARDED] = "discarded", [RECORD_ABANDONED] = "abandoned", [RECORD_MOVED] = "moved",
        [RECORD_GAP] = "gap",             [RECORD_DUE] = "due",             [RECORD_ENDED] = "ended",         [RECORD_CLOSED] = "closed",
    };
    return type < sizeof names / sizeof *names ? names[type] : NULL;
}

uint64_t record_size(uint64_t payload_length)
{
    return (RECORD_HEAD_SIZE + payload_length + RECORD_ALIGN - 1) / RECORD_ALIGN * RECORD_ALIGN;
}

static uint32_t head_crc(const unsigned char *head, uint32_t salt)
{
    return codec_crc32c(salt, head + AT_PAYLOAD_CRC, RECORD_HEAD_SIZE - AT_PAYLOAD_CRC);
}

void record_head_put(unsigned char out[RECORD_HEAD_SIZE], uint32_t salt, const struct record_head *head)
{
    memset(out, 0, RECORD_HEAD_SIZE);
    codec_set_u32(out + AT_PAYLOAD_CRC, head->payload_crc);
    codec_set_u32(out + AT_LENGTH, head->length);
    codec_set_u32(out + AT_BATCH, head->batch);
    codec_set_u64(out + AT_SEQUENCE, head->sequence);
    out[AT_TYPE] = head->type;
    out[AT_FLAGS] = head->flags;
    codec_set_u32(out + AT_INDEX, head->index);
    codec_set_u32(out + AT_CRC, head_crc(out, salt));
}

bool record_head_get(const unsigned char in[RECORD_HEAD_SIZE], uint32_t salt, struct record_head *out)
{
    /* Type and batch are never 0: a sector of zeros is no record, whatever the salt. */
    if (in[AT_TYPE] == 0 || codec_get_u32(in + AT_BATCH) == 0 || codec_get_u32(in + AT_CRC) != head_crc(in, salt))
        return false;
    *out = (struct record_head){
        .type = in[AT_TYPE],
        .flags = in[AT_FLAGS],
        .length = codec_get_u32(in + AT_LENGTH),
        .payload_crc = codec_get_u32(in + AT_PAYLOAD_CRC),
        .batch = codec_get_u32(in + AT_BATCH),
        .sequence = codec_get_u64(in + AT_SEQUENCE),
        .index = codec_get_u32(in + AT_INDEX),
    };
    return true;
}

bool record_payload_good(const struct record_head *head, const void *payload)
{
    return codec_crc32c(0, payload, head->length) == head->payload_crc;
}

/* One entry of a payload; false at its end, and *torn if it ends in the middle of an entry. */
static bool entry_next(struct str payload, size_t *cursor, uint16_t *tag, struct str *value, bool *torn)
{
    struct str rest = str_from(payload, *cursor);

    *torn = false;
    if (rest.n == 0)
        return false;
    if (rest.n < ENTRY_HEAD || codec_get_u32(rest.p + 2) > rest.n - ENTRY_HEAD) {
        *torn = true;
        return false;
    }
    *tag = codec_get_u16(rest.p);
    *value = (struct str){ rest.p + ENTRY_HEAD, codec_get_u32(rest.p + 2) };
    *cursor += ENTRY_HEAD + value->n;
    return true;
}

static bool outcome_get(struct str v, struct outcome *out)
{
    if (v.n < OUTCOME_HEAD)
        return false;
    size_t status = codec_get_u16(v.p + 6), remote = codec_get_u16(v.p + 8), text = codec_get_u16(v.p + 10);
    uint8_t state = (uint8_t)v.p[4];
    if (v.n != OUTCOME_HEAD + status + remote + text || state > RCPT_DISCARDED)
        return false;
    const char *words = v.p + OUTCOME_HEAD;
    *out = (struct outcome){
        .rcpt = codec_get_u32(v.p),
        .state = (enum rcpt_state)state,
        .status = { words, status },
        .remote = { words + status, remote },
        .text = { words + status + remote, text },
    };
    return true;
}

static bool states_good(struct str v)
{
    for (size_t i = 0; i < v.n; i++)
        if ((uint8_t)v.p[i] > RCPT_DISCARDED)
            return false;
    return true;
}

static bool get_body_file(struct str v, struct record *out)
{
    if (v.n != FILE_SIZE)
        return false;
    out->body_in_file = out->has_body = true;
    out->body_size = codec_get_u64(v.p);
    out->body_crc = codec_get_u32(v.p + 8);
    return true;
}

static bool get_place(struct str v, struct record_place *out)
{
    if (v.n != PLACE_SIZE)
        return false;
    *out = (struct record_place){ codec_get_u32(v.p), codec_get_u32(v.p + 4), codec_get_u64(v.p + 8) };
    return true;
}

static bool get_region(struct str v, struct record_region *out)
{
    if (v.n != REGION_SIZE)
        return false;
    *out = (struct record_region){
        .generation = codec_get_u32(v.p),
        .segment = codec_get_u32(v.p + 4),
        .from = codec_get_u64(v.p + 8),
        .first_sequence = codec_get_u64(v.p + 16),
        .last_sequence = codec_get_u64(v.p + 24),
    };
    return true;
}

static bool get_u32(struct str v, uint32_t *out)
{
    if (v.n != sizeof *out)
        return false;
    *out = codec_get_u32(v.p);
    return true;
}

static bool get_u64(struct str v, void *out)
{
    if (v.n != sizeof(uint64_t))
        return false;
    uint64_t u = codec_get_u64(v.p);
    memcpy(out, &u, sizeof u);
    return true;
}

static bool flag(struct str v, bool *out)
{
    *out = true;
    return v.n == 0;
}

/* One entry into the record; false for a tag that we do not know. */
static bool take_known(struct record *r, uint16_t tag, struct str v, bool *good)
{
    struct outcome ignored;

    *good = true;
    switch ((enum record_tag)tag) {
    case RECORD_TAG_ID:        *good = get_u64(v, &r->id); return true;
    case RECORD_TAG_TIME:      *good = get_u64(v, &r->time_ns); return true;
    case RECORD_TAG_ENVELOPE:  r->envelope = v; return true;
    case RECORD_TAG_RCPTS:     *good = get_u32(v, &r->rcpts); return true;
    case RECORD_TAG_BODY:      *good = !r->has_body; r->body = v; r->body_size = v.n; r->has_body = true; return true;
    case RECORD_TAG_BODY_FILE: *good = !r->has_body && get_body_file(v, r); return true;
    case RECORD_TAG_STATES:    *good = states_good(v); r->states = v; return true;
    case RECORD_TAG_ATTEMPTS:  *good = get_u32(v, &r->attempts); return true;
    case RECORD_TAG_DUE:       *good = get_u64(v, &r->due_ns); r->has_due = true; return true;
    case RECORD_TAG_ARRIVED:   *good = get_u64(v, &r->arrived_ns); return true;
    case RECORD_TAG_PREVIOUS:  *good = get_place(v, &r->previous); return true;
    case RECORD_TAG_OUTCOME:   *good = outcome_get(v, &ignored); return true;
    case RECORD_TAG_HELD:      *good = flag(v, &r->held); return true;
    case RECORD_TAG_REGION:    *good = get_region(v, &r->region); return true;
    case RECORD_TAG_ENDED:     *good = flag(v, &r->ended); return true;
    }
    return false;
}

/* Which of the known tags were seen is kept in a mask, one bit a tag; only outcomes repeat. */
static enum record_result take(struct record *r, uint16_t tag, struct str v, uint32_t *seen)
{
    bool good;

    if (!take_known(r, tag, v, &good))
        return tag & RECORD_TAG_CRITICAL ? RECORD_UNKNOWN_CRITICAL : RECORD_OK;
    uint32_t bit = 1u << (tag & ~RECORD_TAG_CRITICAL);
    if (!good || (*seen & bit && tag != RECORD_TAG_OUTCOME))
        return RECORD_BAD;
    *seen |= bit;
    return RECORD_OK;
}

static bool seen_all(uint32_t seen, uint32_t needed)
{
    return (seen & needed) == needed;
}

#define BIT(tag) (1u << ((tag) & ~RECORD_TAG_CRITICAL))

/* What a record of this type cannot be without. */
static bool complete(uint8_t type, const struct record *r, uint32_t seen)
{
    switch ((enum record_type)type) {
    case RECORD_ACCEPTED:
    case RECORD_MOVED:
    case RECORD_REROUTED:
        return seen_all(seen, BIT(RECORD_TAG_ID) | BIT(RECORD_TAG_ENVELOPE) | BIT(RECORD_TAG_RCPTS)) && r->has_body && r->rcpts > 0 &&
               r->rcpts <= r->envelope.n && /* each has an entry there: who reads a record allocates no more than it is long */
               (r->states.n == 0 || r->states.n == r->rcpts);
    case RECORD_OUTCOME:
    case RECORD_HELD:
    case RECORD_RELEASED:
    case RECORD_DISCARDED:
    case RECORD_ENDED:
        return seen_all(seen, BIT(RECORD_TAG_ID));
    case RECORD_DUE:
        return seen_all(seen, BIT(RECORD_TAG_ID) | BIT(RECORD_TAG_DUE));
    case RECORD_ABANDONED:
        return seen_all(seen, BIT(RECORD_TAG_REGION));
    case RECORD_GAP:
    case RECORD_CLOSED:
        return true;
    }
    return true;                                     /* a newer program's */
}

/* The end of a body of which only the beginning is at hand, or nothing. */
static bool is_body_beyond(struct str rest, size_t missing)
{
    return missing > 0 && rest.n >= ENTRY_HEAD && codec_get_u16(rest.p) == RECORD_TAG_BODY &&
           codec_get_u32(rest.p + 2) == rest.n - ENTRY_HEAD + missing;
}

enum record_result record_parse_front(uint8_t type, uint8_t flags, struct str front, uint32_t length, struct record *out)
{
    struct record r = { .payload = front };
    size_t cursor = 0;
    uint32_t seen = 0;
    uint16_t tag;
    struct str value;
    bool torn;

    if (record_type_name(type) == NULL && flags & RECORD_FLAG_CRITICAL)
        return RECORD_UNKNOWN_CRITICAL;
    while (entry_next(front, &cursor, &tag, &value, &torn)) {
        enum record_result result = take(&r, tag, value, &seen);
        if (result != RECORD_OK)
            return result;
    }
    if (torn && is_body_beyond(str_from(front, cursor), length - front.n)) {
        torn = r.has_body;
        r.has_body = true;
        r.body_size = codec_get_u32(front.p + cursor + 2);
    } else if (front.n < length) {
        return RECORD_BAD;
    }
    if (torn || !complete(type, &r, seen))
        return RECORD_BAD;
    *out = r;
    return RECORD_OK;
}

enum record_result record_parse(uint8_t type, uint8_t flags, struct str payload, struct record *out)
{
    return record_parse_front(type, flags, payload, (uint32_t)payload.n, out);
}

bool record_outcome_next(struct str payload, size_t *cursor, struct outcome *out)
{
    uint16_t tag;
    struct str value;
    bool torn;

    while (entry_next(payload, cursor, &tag, &value, &torn))
        if (tag == RECORD_TAG_OUTCOME)
            return outcome_get(value, out);
    return false;
}

static void put_entry_head(struct buf *out, unsigned tag, size_t n)
{
    buf_put_u16(out, (uint16_t)tag);
    buf_put_u32(out, (uint32_t)n);
}

void record_put_u32(struct buf *out, enum record_tag tag, uint32_t v)
{
    put_entry_head(out, tag, sizeof v);
    buf_put_u32(out, v);
}

void record_put_u64(struct buf *out, enum record_tag tag, uint64_t v)
{
    put_entry_head(out, tag, sizeof v);
    buf_put_u64(out, v);
}

void record_put_str(struct buf *out, enum record_tag tag, struct str v)
{
    put_entry_head(out, tag, v.n);
    buf_put_str(out, v);
}

void record_put_body_head(struct buf *out, size_t n)
{
    put_entry_head(out, RECORD_TAG_BODY, n);
}

void record_put_body_file(struct buf *out, uint64_t size, uint32_t crc)
{
    put_entry_head(out, RECORD_TAG_BODY_FILE, FILE_SIZE);
    buf_put_u64(out, size);
    buf_put_u32(out, crc);
}

void record_put_place(struct buf *out, enum record_tag tag, const struct record_place *place)
{
    put_entry_head(out, tag, PLACE_SIZE);
    buf_put_u32(out, place->generation);
    buf_put_u32(out, place->segment);
    buf_put_u64(out, place->offset);
}

void record_put_region(struct buf *out, const struct record_region *region)
{
    put_entry_head(out, RECORD_TAG_REGION, REGION_SIZE);
    buf_put_u32(out, region->generation);
    buf_put_u32(out, region->segment);
    buf_put_u64(out, region->from);
    buf_put_u64(out, region->first_sequence);
    buf_put_u64(out, region->last_sequence);
}

void record_put_outcome(struct buf *out, const struct outcome *o)
{
    struct str status = str_head(o->status, OUTCOME_WORD_MAX);
    struct str remote = str_head(o->remote, OUTCOME_WORD_MAX);
    struct str text = str_head(o->text, QUEUE_OUTCOME_TEXT_MAX);

    put_entry_head(out, RECORD_TAG_OUTCOME, OUTCOME_HEAD + status.n + remote.n + text.n);
    buf_put_u32(out, o->rcpt);
    buf_put_u8(out, (uint8_t)o->state);
    buf_put_u8(out, 0);
    buf_put_u16(out, (uint16_t)status.n);
    buf_put_u16(out, (uint16_t)remote.n);
    buf_put_u16(out, (uint16_t)text.n);
    buf_put_str(out, status);
    buf_put_str(out, remote);
    buf_put_str(out, text);
}

void record_put_unknown(struct buf *out, struct str payload)
{
    struct record ignored = { 0 };
    size_t cursor = 0;
    uint16_t tag;
    struct str value;
    bool torn, good;

    while (entry_next(payload, &cursor, &tag, &value, &torn))
        if (!take_known(&ignored, tag, value, &good))
            record_put_str(out, (enum record_tag)tag, value);
}
