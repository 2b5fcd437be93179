/*
 * What the files of recovery share: one run, from the list of files to the index. The story is in recover.c.
 */
#ifndef QUEUE_RECOVER_INTERNAL_H
#define QUEUE_RECOVER_INTERNAL_H

#include "base/map.h"
#include "queue/queue_internal.h"

struct found {
    uint32_t generation, number;
};

/* The last batch of the segment read last. */
struct held_back {
    struct segment        *segment;                  /* NULL: none */
    struct segment_record *records;                  /* owned */
    size_t                 count;
    char                  *bytes;                    /* owned; from the first record's offset on */
    bool                   sound;                    /* nothing in the segment is damaged or torn */
};

struct recovery {
    struct queue          *queue;
    struct queue_recovery *out;
    char                  *error;
    struct found          *found;                    /* owned */
    size_t                 found_count, found_capacity;
    char                  *bytes;                    /* owned: the segment being read */
    size_t                 bytes_capacity;
    struct held_back       held;
    struct map_u64         doubts;                   /* ids; the value says nothing */
};

/* recover.c: the reason in words, for who opens the queue; gives r. */
int  recover_complain(struct recovery *rc, int r, const char *what, const char *why);

/* recover_apply.c. bytes: where the record's head is in memory. doubtful: it may not be on the disk. Errors: -ENOMEM, -EPROTONOSUPPORT. */
int  recover_apply(struct recovery *rc, struct segment *s, const struct segment_record *at, const char *bytes, bool doubtful);
int  recover_apply_parsed(struct recovery *rc, struct segment *s, const struct segment_record *at, const struct record *r, bool doubtful);
int  recover_doubt(struct recovery *rc, uint64_t id);            /* -ENOMEM */
void recover_remove(struct queue *q, struct entry *e);           /* the message is over */

/* recover_bodies.c, when all segments are read: the files there are, then each message once. */
int  recover_bodies(struct recovery *rc);
void recover_finish(struct recovery *rc);

/* recover_doubts.c: the list stays with the queue. */
int  recover_keep_doubts(struct recovery *rc);

#endif
