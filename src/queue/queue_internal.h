/*
 * What the files of queue/ share: the queue's struct, and the helpers between them.
 *
 * Locks: queue.lock is around the index, the segments' lists and the list of quiet waiters; the committer and the journal have
 * their own. Under queue.lock the journal's may be taken, never the other way; nobody waits or touches a file under any of them.
 * queue.lock and the committer's are never held together.
 */
#ifndef QUEUE_QUEUE_INTERNAL_H
#define QUEUE_QUEUE_INTERNAL_H

#include "base/cleanup.h"
#include "queue/commit.h"
#include "queue/index.h"
#include "queue/journal.h"
#include "queue/queue.h"
#include "queue/record.h"

/* Between a failed read of a message that is due and the next try. */
#define QUEUE_READ_RETRY_NS (300 * NS_PER_S)

struct quiet_waiter {
    struct task         *task;
    struct quiet_waiter *next;
};

struct queue {
    struct queue_options options;                    /* with defaults filled in; dir is not kept */
    struct journal       journal;
    _Atomic int64_t      prepare_said_ns;            /* log_is_news() of a spare that cannot be made */
    struct commit        commit;
    struct offload      *commit_pool, *disk_pool;    /* owned */
    int                  lock_file;                  /* owned; -1 in a read-only queue, and where the caller holds the lock */
    pthread_mutex_t      lock;
    struct index         index;
    uint64_t             live_bytes;                 /* of the records of all messages */
    size_t               arriving;                   /* entries that are not durable yet */
    unsigned             putting;                    /* calls of queue_put between their choice of a queue and their end */
    struct queue *_Atomic second;                    /* owned: where all that arrives goes, once this one was let go of (drain.c) */
    struct task         *claimer;
    struct quiet_waiter *quiet_waiters;
    _Atomic uint64_t     last_id;
    _Atomic uint64_t     arriving_bytes;             /* of bodies in memory */
    _Atomic int64_t      floor_checked_ns;           /* monotonic */
    _Atomic bool         below_floor;
    /* Maintenance, see compact.c: */
    bool                 maintaining;                /* a job is posted or running */
    bool                 maintain_again;
    unsigned             moves;                      /* records on their way */
    unsigned             jobs;                       /* posted to the disk pool by start_job, not ended */
    struct task         *closer;
    struct transfer     *transfers;                  /* open ones */
    bool                 closing;
    bool                 doubtful;                   /* what recovery doubted is not written again yet: nothing may be retired */
    uint64_t            *doubts;                     /* owned: the messages it is about; 0: done with */
    size_t               doubt_count;
};

static inline void queue_lock(struct queue *q) { pthread_mutex_lock(&q->lock); }
static inline void queue_unlock(struct queue *q) { pthread_mutex_unlock(&q->lock); }

/* Put the entry where its state says in the order of due times, and wake the claimer for it. queue.lock is held. */
void queue_schedule(struct queue *q, struct entry *e);
/* The monotonic time for a wall time written at recorded_ns: never further away than it was then, should the clock have been set back. */
int64_t queue_due_mono(int64_t due_wall_ns, int64_t recorded_wall_ns);
int64_t queue_due_wall(const struct entry *e);

/* The end of a message: out of the index, its body's file gone, its segment perhaps empty. The record that says so is durable. queue.lock
 * is held; *out_unlink is what the caller hands to queue_unlink_body after unlocking (0: nothing). */
void queue_forget(struct queue *q, struct entry *e, uint64_t *out_unlink);
void queue_unlink_body(struct queue *q, uint64_t id);

/* Awaits (queue.lock held, and held again afterwards) a change of what is moving. -ECANCELED. */
int  queue_wait_quiet(struct queue *q);
void queue_wake_quiet(struct queue *q);              /* queue.lock is held */
/* The entry, when nobody else writes about it. Awaits (queue.lock held, and held again afterwards): it may be another one, or gone, then. */
int  queue_find_quiet(struct queue *q, uint64_t id, struct entry **out);

/* Awaits the end of what is on its way: jobs, moves, puts. No new ones are begun by the queue itself. */
void queue_wait_jobs(struct queue *q);

/* drain.c: where things go now */
struct queue *queue_in_force(struct queue *q);
/* operate.c: as queue_discard, but it has not ended: it is in another queue. Awaits. */
int  queue_end_here(struct queue *q, uint64_t id);
/* recover_apply.c: what a record of an accept or a move says of an entry. */
struct record;
void recover_fill_entry(struct entry *e, const struct record *r);

/* A job on the disk pool that queue_close waits for; false, not run, when the pool is full. job_ended is the last thing it calls. */
bool queue_start_job(struct queue *q, void (*fn)(void *arg), void *arg);
void queue_job_ended(struct queue *q);

/* body.c */
void body_name(char out[SEGMENT_NAME_SIZE], uint64_t id);
/* Awaits. What came is complete and, if it is in a file, durable. */
int  body_finish(struct body *b);
struct str body_in_memory(const struct body *b);     /* empty if it is in a file */
bool     body_in_file(const struct body *b);
uint32_t body_crc(const struct body *b);
uint64_t body_id(const struct body *b);
/* Awaits. Its file, if it has one, goes where the queue q has its own. */
int  body_rehome(struct body *b, struct queue *q);
void     body_taken(struct body *b);                 /* the file belongs to the message now */
/* -ENOSPC while the disk has less than the floor. Awaits now and then. */
int  queue_check_floor(struct queue *q);

/* load.c: a record read back. memory is the caller's, of record_size(length) bytes. */
int  load_bytes(struct segment *s, uint64_t offset, uint32_t length, void *memory);             /* BLOCKS */
/* The entry's accept or move, parsed; views into memory. length and salt are of the record that was read: the entry may have been moved
 * since. Negative errno; -EBADMSG: it is damaged. */
int  load_parse(const struct entry *e, uint32_t length, uint32_t salt, const void *memory, struct record *out);
/* The last outcome of each recipient, from the newest record back: fills last[] (e->rcpts, zeroed) with views into the arena, and says
 * when the newest was made. BLOCKS. */
int  load_outcomes(struct queue *q, const struct segment *s, uint64_t offset, struct arena *arena, struct outcome *last, uint32_t rcpts,
                   int64_t *out_newest_ns);

/* claim.c: what else a claim is. */
struct claim_held {
    struct claim    claim;                           /* what the claimer sees; first */
    struct entry   *entry;                           /* stays in the index as long as it is claimed */
    struct record   record;                          /* views into the claim's arena */
    int             file;                            /* of the body; owned; -1: not open, or inline */
    uint32_t        crc;                             /* of what was read of the file so far, in order */
    uint64_t        crc_at;
    int             error;                           /* of a settle: only the next start can tell whether its record is there */
};
struct claim_held *claim_held_of(struct claim *c);
/* Awaits. No move is under way, and none may begin until the claim ends: it would copy the state from before. */
void claim_begin_writing(struct claim *c);
/* Gives it back, and frees it: over, or waiting or held again, due then. */
void claim_end(struct claim *c, enum life_event event, int64_t due_mono_ns);

/* reroute.c: the last outcome of each recipient, in its arena. Awaits. Without the words of the servers a message is as good: they are
 * missing then. NULL without memory. */
struct outcome *claim_words(struct claim *c);

/* transfer*.c, at a start: what has left for another node is ended; what has come is written down. BLOCK. */
struct recovery;
int  transfer_recover_out(struct recovery *rc);
int  transfer_recover_in(struct queue *q);

/* compact.c */
/* Durable in its new place: the old one does not count any more. queue.lock is held. */
void queue_change_place(struct queue *q, struct entry *e, const struct commit_ticket *t);
void queue_maintain(struct queue *q);                /* look, in a job, for segments to retire, spares to make, messages to move */
/* Write the message again with its state, in the newest segment. The entry must not be writing or moving; queue.lock is held and
 * released meanwhile. done(q) is called for each at its end. -ENOMEM, -EIO, ... if it could not be read. BLOCKS. */
int  compact_move(struct queue *q, struct entry *e);
void compact_close(struct queue *q);                 /* at an orderly end: the sidecars that were not made yet. BLOCKS */

/* recover*.c. BLOCKS. */
int  recover_run(struct queue *q, struct queue_recovery *out, char error[256]);
/* Hand to the committer again what only the last batch of an unfinished series says. BLOCKS. */
void recover_settle_doubts(struct queue *q);
void recover_check_doubts(struct queue *q);          /* clears q->doubtful if nothing is left to be written */
/* Files of bodies that no message has go. BLOCKS. */
int  recover_orphans(struct queue *q, struct queue_recovery *out);

#endif
