/*
 * A segment as bytes (docs/journal.md): the header block, and the records behind it found again after whatever happened.
 * Pure; recovery, the tools and the fuzzer share it.
 *
 * What may be believed rests on one rule of the writer: batch n+1 of a segment is written only after batch n was synced.
 * So wherever a record of a later batch stands, everything of earlier batches had been on the disk, and a bad record among
 * them is corruption: it is stepped over and counted. In the last batch a bad record is where a crash tore the write: the
 * segment ends before it.
 */
#ifndef QUEUE_SEGMENT_H
#define QUEUE_SEGMENT_H

#include "queue/record.h"

#define SEGMENT_HEADER_SIZE    4096u
#define SEGMENT_FORMAT_VERSION 1u
#define SEGMENT_NAME_SIZE      32u
#define SEGMENT_SIZE_MIN       (64u * 1024)
#define SEGMENT_SIZE_MAX       (UINT64_C(4) << 30)

struct segment_header {
    uint32_t version, generation, number;
    uint32_t salt;                                   /* random for each use of the file */
    uint64_t first_sequence;                         /* no record in it has a lower one */
    int64_t  created_ns;
    uint64_t id_floor;                               /* ids up to this had been given out */
};

void segment_name(char out[SEGMENT_NAME_SIZE], uint32_t generation, uint32_t number);     /* "0000000a-00000001.seg" */
bool segment_name_parse(const char *name, uint32_t *generation, uint32_t *number);

void segment_header_put(unsigned char out[SEGMENT_HEADER_SIZE], const struct segment_header *h);
enum segment_header_result { SEGMENT_HEADER_OK, SEGMENT_HEADER_BAD, SEGMENT_HEADER_NEWER };
enum segment_header_result segment_header_get(const unsigned char in[SEGMENT_HEADER_SIZE], struct segment_header *out);

struct segment_record {
    struct record_head head;
    uint64_t           offset;                       /* of the head, in the file */
};

struct segment_scan {
    struct segment_record *records;                  /* owned; in order, those of the torn end left out */
    size_t                 count;
    size_t                 last_batch;               /* index of the last batch's first record; count if nothing of it is left */
    uint64_t               end;                      /* behind the last record */
    uint64_t               bad_records;              /* stepped over: at least so many */
    bool                   torn;                     /* something stood behind the end that was meant to be a record of the last batch */
};

/* bytes: the whole file, header included. 0 or -ENOMEM. */
int  segment_scan(struct str bytes, const struct segment_header *header, struct segment_scan *out);
void segment_scan_free(struct segment_scan *scan);

#endif
