/*
 * Sidecars: what recovery wants to know of a sealed segment, in a small file beside it (docs/journal.md, "Sidecars").
 *
 * A sidecar is a cache of what a scan of its segment gives, and nothing more: one entry for each record that changes the index, without
 * envelopes, bodies and words; what began and ended in the same segment is left out. So a start reads some bytes a message instead of
 * the message. One that is missing, torn, or of another use of the segment is passed over, and the segment is scanned.
 *
 * Only a segment of which every record had surely been synced gets one, and only if there is nothing else to say about it: no damage, no
 * torn tail, no abandoned record. So all rules about doubtful ends (recover.c) concern scanned segments only.
 *
 * The bytes are pure; what touches files BLOCKS. Runs in the worker, on the disk pool and at a start; and in the tools.
 */
#ifndef QUEUE_SIDECAR_H
#define QUEUE_SIDECAR_H

#include "queue/segment.h"

struct journal;
struct segment;

/* Who takes more from a record into the index than the entries say raises this: older sidecars are scans then. */
#define SIDECAR_FORMAT_VERSION 1u
#define SIDECAR_HEADER_SIZE    72u
#define SIDECAR_ENTRY_SIZE     64u
#define SIDECAR_NEW_NAME       "sidecar-new"         /* while it is written; there is one writer */

void sidecar_name(char out[SEGMENT_NAME_SIZE], uint32_t generation, uint32_t number);     /* "0000000a-00000001.idx" */
bool sidecar_name_parse(const char *name, uint32_t *generation, uint32_t *number);

/* segment: its bytes up to scan->end at least. 0; -ENOTSUP: no sidecar can say it all; -ENOMEM. */
int sidecar_build(struct str segment, const struct segment_header *header, const struct segment_scan *scan, struct buf *out);

struct sidecar {
    uint64_t   end;                                  /* of the segment: behind its last record */
    uint64_t   last_sequence, last_id;
    uint32_t   records;                              /* of the segment */
    struct str entries;                              /* a view of the bytes */
};

/* False unless it is whole, and of just this use of a segment whose file is segment_size bytes long. */
bool sidecar_parse(struct str bytes, const struct segment_header *header, uint64_t segment_size, struct sidecar *out);

/* The entries one after another, start with *cursor = 0. What the index takes from a record is in out; of the head type and length are set.
 * For an outcome, payload has the outcomes without their words. */
bool sidecar_next(const struct sidecar *sc, size_t *cursor, struct segment_record *at, struct record *out);

/* Of a sealed segment; whatever was there is replaced. -ENOTSUP, -ENOSPC (or below the floor), -EIO, ...: then there is none. */
int  sidecar_make(struct journal *j, const struct segment *s);
/* bytes is initialized by it, and the caller's to free. 0; -ENOENT; -EBADMSG: not good for this segment; ... */
int  sidecar_read(int dir, const struct segment_header *header, uint64_t segment_size, struct buf *bytes, struct sidecar *out);
void sidecar_remove(int dir, uint32_t generation, uint32_t number);
void sidecar_remove_strays(int dir);                 /* of segments that have gone, and one that was never finished */

#endif
