/*
 * Records of the journal as bytes (docs/journal.md): the frame around each, and the tag-length-value payload in it. Pure.
 *
 * A frame has two checksums. The head's is seeded with the segment's salt, so a frame left over from an earlier use of the
 * segment is never taken for a new one, and a stranger's body cannot imitate a frame: he does not know the salt. The payload's
 * stands in the head, so it is covered too, and can be computed before the segment is known. A head that is good says
 * where the next record is, whatever happened to the payload.
 */
#ifndef QUEUE_RECORD_H
#define QUEUE_RECORD_H

#include "base/buf.h"
#include "base/str.h"
#include "queue/queue.h"

#define RECORD_HEAD_SIZE 32u
#define RECORD_ALIGN     8u

/* Numbers are for ever: never change one, never use one again. */
enum record_type {
    RECORD_ACCEPTED  = 1,   /* a message, durable from here on */
    RECORD_OUTCOME   = 2,   /* what an attempt gave, for each recipient that was tried */
    RECORD_HELD      = 3,
    RECORD_RELEASED  = 4,
    RECORD_REROUTED  = 5,   /* by an operator: as moved, and its recipients are others or go another way */
    RECORD_DISCARDED = 6,   /* by an operator: every recipient that was pending */
    RECORD_ABANDONED = 7,   /* the end of a segment whose sync failed: nothing there counts */
    RECORD_MOVED     = 8,   /* a message with its state, copied forward so that its old segment can be used again */
    RECORD_GAP       = 9,   /* reserved: a reader was too slow */
    RECORD_DUE       = 10,  /* an operator's new due time */
    RECORD_ENDED     = 11,  /* the message is over (written again at start, where the first record of it was in doubt) */
    RECORD_CLOSED    = 12,  /* an orderly shutdown: everything before it had been synced */
};
const char *record_type_name(uint8_t type);          /* "accepted"; NULL if unknown */

/* Does it have a whole message in it, so that no record before it is needed? */
static inline bool record_is_message(uint8_t type)
{
    return type == RECORD_ACCEPTED || type == RECORD_MOVED || type == RECORD_REROUTED;
}

/* A reader that does not know the type of a record with this flag must not go on. */
#define RECORD_FLAG_CRITICAL 0x01u

struct record_head {
    uint8_t  type, flags;
    uint32_t length;                                 /* of the payload, padding not counted */
    uint32_t payload_crc;
    uint32_t batch;                                  /* of the segment, from 1: what was written with one sync */
    uint32_t index;                                  /* in its batch, from 0: tells whether the batch's beginning is there */
    uint64_t sequence;                               /* of the directory, strictly increasing; without a gap inside a segment */
};

/* Head and payload and padding, together a multiple of RECORD_ALIGN. */
uint64_t record_size(uint64_t payload_length);

void record_head_put(unsigned char out[RECORD_HEAD_SIZE], uint32_t salt, const struct record_head *head);
/* False, out untouched, unless the checksum says that this is a head of a segment with that salt. */
bool record_head_get(const unsigned char in[RECORD_HEAD_SIZE], uint32_t salt, struct record_head *out);
bool record_payload_good(const struct record_head *head, const void *payload);

/* Tags of a payload. Numbers are for ever. */
#define RECORD_TAG_CRITICAL 0x8000u
enum record_tag {
    RECORD_TAG_ID        = 0x0001 | RECORD_TAG_CRITICAL,   /* u64 */
    RECORD_TAG_TIME      = 0x0002,                         /* i64, wall clock, when the record was made */
    RECORD_TAG_ENVELOPE  = 0x0003 | RECORD_TAG_CRITICAL,   /* mail/envelope.h */
    RECORD_TAG_RCPTS     = 0x0004 | RECORD_TAG_CRITICAL,   /* u32, how many recipients the envelope has */
    RECORD_TAG_BODY      = 0x0005 | RECORD_TAG_CRITICAL,   /* the bytes; stands last */
    RECORD_TAG_BODY_FILE = 0x0006 | RECORD_TAG_CRITICAL,   /* u64 size, u32 CRC-32C of body/<id> */
    RECORD_TAG_STATES    = 0x0007 | RECORD_TAG_CRITICAL,   /* u8 each, enum rcpt_state; absent: all pending */
    RECORD_TAG_ATTEMPTS  = 0x0008,                         /* u32, so far, this one included */
    RECORD_TAG_DUE       = 0x0009,                         /* i64, wall clock */
    RECORD_TAG_ARRIVED   = 0x000a,                         /* i64, wall clock */
    RECORD_TAG_PREVIOUS  = 0x000b,                         /* u32 generation, u32 segment, u64 offset: the outcome record before this one */
    RECORD_TAG_OUTCOME   = 0x000c | RECORD_TAG_CRITICAL,   /* u32 rcpt, u8 state, u8 0, u16 status, u16 remote, u16 text, then the three; repeated */
    RECORD_TAG_HELD      = 0x000d | RECORD_TAG_CRITICAL,   /* empty */
    RECORD_TAG_REGION    = 0x000e | RECORD_TAG_CRITICAL,   /* u32 generation, u32 segment, u64 from, u64 first and u64 last sequence */
    RECORD_TAG_ENDED     = 0x000f | RECORD_TAG_CRITICAL,   /* empty: no recipient is pending any more */
};

struct record_place {
    uint32_t generation, segment;                    /* generation 0: nowhere */
    uint64_t offset;
};

struct record_region {
    uint32_t generation, segment;
    uint64_t from;                                   /* up to the end of the segment */
    uint64_t first_sequence, last_sequence;
};

/* A payload taken apart; strings are views into it. */
struct record {
    uint64_t             id;
    int64_t              time_ns, due_ns, arrived_ns;
    struct str           envelope, body, states;
    uint32_t             rcpts, attempts;
    bool                 has_due, has_body, body_in_file, held, ended;
    uint64_t             body_size;                  /* inline or in the file */
    uint32_t             body_crc;                   /* in the file only */
    struct record_place  previous;
    struct record_region region;
    struct str           payload;
};

enum record_result {
    RECORD_OK,
    RECORD_BAD,                                      /* torn, twice, or without what its type needs: never written by us */
    RECORD_UNKNOWN_CRITICAL,                         /* written by a newer program */
};
enum record_result record_parse(uint8_t type, uint8_t flags, struct str payload, struct record *out);
/* The same of the front of a payload of so many bytes, without the body's: its size is in the record, and no view of it. RECORD_BAD too if
 * the front ends before the body begins. */
enum record_result record_parse_front(uint8_t type, uint8_t flags, struct str front, uint32_t length, struct record *out);

/* The outcomes of a payload that record_parse took, one after another; start with *cursor = 0. */
bool record_outcome_next(struct str payload, size_t *cursor, struct outcome *out);

/* Writers. Body bytes are not copied: record_put_body_head writes tag and length, the bytes follow as a piece of their own. */
void record_put_u32(struct buf *out, enum record_tag tag, uint32_t v);
void record_put_u64(struct buf *out, enum record_tag tag, uint64_t v);
void record_put_str(struct buf *out, enum record_tag tag, struct str v);
void record_put_body_head(struct buf *out, size_t n);
void record_put_body_file(struct buf *out, uint64_t size, uint32_t crc);
void record_put_place(struct buf *out, enum record_tag tag, const struct record_place *place);
void record_put_region(struct buf *out, const struct record_region *region);
void record_put_outcome(struct buf *out, const struct outcome *o);      /* text is cut at QUEUE_OUTCOME_TEXT_MAX, the others at 255 */
/* The entries of another payload whose tags we do not know: an older program hands on what a newer one wrote. */
void record_put_unknown(struct buf *out, struct str payload);

#endif
