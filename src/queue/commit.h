/*
 * Group commit: many records, one fdatasync.
 *
 * A caller hands in a ticket and waits. One job at a time on a thread of its own takes all tickets handed in so far, writes
 * their records as one batch, syncs once, and wakes them all; what comes meanwhile is the next batch. So under load the
 * cost of a sync is shared, and an idle server answers after one sync.
 *
 * No delay is added where syncs are quick, or where it does not pay. But sessions that were answered together send their next messages together, a
 * moment later; a batch that begins without them makes them wait for a whole sync more, and they are in the other half the next time, for
 * ever: ten sessions on a disk with syncs of 5 ms get ten messages through in two syncs. So where one takes a millisecond and more, some
 * batches wait for as many as were on their way in the last two, up to half a sync, and some do not, and what let more through is kept
 * for a while. (Waiting loses where the sessions need longer for a message than the disk for a sync: then they work while it syncs.)
 *
 * Promise: a ticket ends with 0 only if its record is on stable storage. If a write or sync fails, the segment is closed for
 * good (the kernel may have dropped the pages). Tickets that may fail get the error, and the region they were written to is named in
 * an `abandoned` record, which goes first in the next batch until it is durable. Tickets that must not fail are written again
 * in the next segment, with a second between tries as long as the disk refuses everything.
 */
#ifndef QUEUE_COMMIT_H
#define QUEUE_COMMIT_H

#include "queue/journal.h"
#include "queue/patience.h"
#include "queue/record.h"
#include "run/offload.h"
#include "run/task.h"

struct commit_ticket {
    /* The caller's: */
    enum record_type type;
    struct str       pieces[2];                      /* the payload; stays where it is until the ticket has ended */
    bool             must;                           /* written again after a failure */
    bool             reserved;                       /* may use the room kept for what frees room */
    void           (*done)(struct commit_ticket *t); /* called on the committer's thread, instead of waking a task; may free the ticket */
    /* Results: */
    int              result;
    struct segment  *segment;                        /* where the record is. For accepted and moved, its live count has one for it */
    uint64_t         offset;
    uint32_t         length;                         /* of the payload */
    /* The committer's: */
    struct commit_ticket *prev, *next;
    uint32_t         payload_crc, failures;
    struct task     *task;
    bool             ended, queued;
};

#define COMMIT_ABANDONED_MAX 256

struct commit {
    struct journal  *journal;
    struct offload  *pool;                           /* borrowed; one thread */
    const _Atomic uint64_t *last_id;                 /* for segment headers */
    void           (*sealed)(void *arg);             /* a segment is full or failed: time to look for spares and for what can be retired */
    void            *arg;
    pthread_mutex_t  lock;
    struct commit_ticket *first, *last;              /* handed in, not taken yet */
    size_t           waiting;                        /* so many */
    bool             running;
    struct task     *idle_waiter;
    /* Of the running job: */
    struct segment  *active;                         /* NULL: none yet, or the last one failed */
    unsigned char   *buffer;                         /* owned */
    int64_t          sync_ns;                        /* how long they take, a running mean */
    int64_t          synced_ns;                      /* when the last batch was */
    size_t           expected;                       /* tickets in it, and waiting then */
    struct patience  patience;
    struct record_region abandoned[COMMIT_ABANDONED_MAX];   /* not durably named yet */
    size_t           abandoned_count;
};

int  commit_init(struct commit *c, struct journal *j);
void commit_free(struct commit *c);                              /* no ticket may be in it */

/* The longest payload that a segment takes. */
uint64_t commit_payload_max(const struct journal *j);

void commit_submit(struct commit *c, struct commit_ticket *t);
/* Awaits the ticket's end, whatever the caller's cancellation; only one that must not fail, has failed and is waiting for a better
 * disk is given up with -ECANCELED then. */
int  commit_wait(struct commit *c, struct commit_ticket *t);
/* Both. */
int  commit_record(struct commit *c, struct commit_ticket *t);

/* BLOCKS: takes and writes everything handed in, in the caller's thread. For start-up and shutdown, when nobody else commits. */
void commit_run(struct commit *c);
void commit_close(struct commit *c);                             /* BLOCKS: what is left to say at an orderly end */
int  commit_wait_idle(struct commit *c);                         /* awaits the end of the running job */

#endif
