/*
 * The index: what lives, in memory. By id in order, by due time, and by segment.
 *
 * A message with one recipient costs 128 bytes here, 16 to 32 in the order of ids and 8 to 16 in the heap: a million of
 * them stay below 256 MiB (index_test.c counts). Nothing here waits or locks; the queue's lock is around all of it.
 */
#ifndef QUEUE_INDEX_H
#define QUEUE_INDEX_H

#include "base/heap.h"
#include "queue/journal.h"
#include "queue/life.h"

#define INDEX_NEVER INT64_MAX                         /* the due time of what cannot be claimed */
#define INDEX_UNSURE (INT64_MAX - 1)                  /* and of what was settled, perhaps: only the next start can tell */

/* Where a record stands; segments stay as long as they have messages, see journal.h. */
struct entry {
    uint64_t         id;
    struct heap_node node;                           /* key: due_mono_ns, or INDEX_NEVER while it cannot be claimed */
    int64_t          due_mono_ns;                    /* the monotonic clock: a wall clock that is set moves no retry */
    int64_t          arrived_wall_ns;
    uint64_t         body_size;
    struct segment  *segment;                        /* of the accept, or the last move */
    struct segment  *last_segment;                   /* of the newest outcome since; NULL: none */
    struct entry    *prev, *next;                    /* in the segment's list */
    uint32_t         place, length;                  /* of the accept: offset / RECORD_ALIGN, and of the payload */
    uint32_t         last_place;
    uint32_t         attempts;
    uint32_t         rcpts, pending;
    uint8_t          life;                           /* enum life_state */
    int8_t           priority;                       /* of the envelope (RFC 6710), once it has been seen: after a start, at the first claim */
    bool             writing;                        /* a record about it is on its way to the disk */
    bool             moving;                         /* so is a copy of it; whoever wants to write about it waits */
    bool             urged;                          /* by an operator, since the last claim */
    bool             body_in_file;
    bool             body_seen;                      /* recovery's: the file is there */
    uint8_t          states[];                       /* enum rcpt_state of each */
};

struct index_chunk;

struct index {
    struct index_chunk **chunks;                     /* owned; in order of id */
    size_t               chunk_count, chunk_capacity;
    size_t               count;
    struct heap          due;
};

void          index_init(struct index *ix);
void          index_free(struct index *ix);                          /* and all entries */
struct entry *entry_new(uint64_t id, uint32_t rcpts);                /* all pending, never due; NULL without memory */

/* Both orders, by id and by due time; it takes the entry over. -ENOMEM; -EEXIST. */
int           index_add(struct index *ix, struct entry *e);
struct entry *index_get(const struct index *ix, uint64_t id);        /* NULL if absent */
void          index_remove(struct index *ix, struct entry *e);       /* the entry is the caller's again */
size_t        index_after(const struct index *ix, uint64_t after, struct entry **out, size_t max);   /* ids above after, in order */

/* Say where the entry's accept is: in the segment's list, counted in its live_bytes. The live count is the committer's and recovery's. */
void entry_place(struct entry *e, struct segment *s, uint64_t offset, uint32_t length);
void entry_unplace(struct entry *e);
uint64_t entry_record_size(const struct entry *e);

#endif
