/*
 * The queue: the one durable thing.
 *
 * queue_put() returns 0 only when envelope and body are on stable storage; from then on every recipient ends in exactly one
 * of delivered, bounced, failed without a DSN, or discarded by an operator (DESIGN.md, promise 2), across kill -9 and power
 * cuts. Every change of state is a record in the journal (docs/journal.md); memory holds an index of what lives.
 *
 * One queue per data directory; any loop may put, one loop (the scheduler's) claims. Runs in the worker.
 */
#ifndef QUEUE_QUEUE_H
#define QUEUE_QUEUE_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/str.h"
#include "mail/envelope.h"
#include "run/task.h"

struct queue;

struct queue_options {
    const char *dir;                     /* the data directory; made if its parent is there */
    uint64_t    segment_size;            /* bytes; 0: 64 MiB; at least 64 KiB. body_inline_max is lowered to a quarter of it */
    uint32_t    body_inline_max;         /* bodies up to this go into the record; 0: 128 KiB */
    uint64_t    body_memory_max;         /* all arriving bodies together; 0: 64 MiB. Beyond it bodies stream to files at once */
    uint64_t    message_size_max;        /* 0: 50 MiB */
    uint64_t    free_floor;              /* bytes to leave free on the disk: below, queue_put says -ENOSPC; 0: none */
    bool        unsafe_file_system;      /* allow tmpfs and network file systems */
    bool        read_only;               /* look only: no lock, no repair, no writing */
    bool        locked;                  /* by queue_lock_dir, in this process or in its parent, for as long as the queue is open */
    bool        beside;                  /* a draining worker lives: bodies that no record names may be its */
    bool        second;                  /* queue_drain's: gives out ids that no other queue does */
    bool        scan_all;                /* read every segment, whatever its sidecar says: for tests, and to measure */
};

/* What recovery found, for one log line and for tests. */
struct queue_recovery {
    uint64_t segments, records, messages, bytes;
    uint64_t sidecars;                   /* so many of the segments did not have to be scanned */
    uint64_t torn_tails;                 /* segments whose tail was cut at a torn batch: normal after a crash */
    uint64_t bad_records;                /* in the middle: corruption, skipped, reported */
    uint64_t abandoned;                  /* accept records not revived because their sync had failed */
    uint64_t orphan_bodies;              /* body files that no record names, removed */
};

/* BLOCKS. Makes the directory if need be and takes its lock, ahead of queue_open: *out_lock (file_close) holds it in this process and in
 * those that it forks, until the last of them has closed it or ended. Errors are queue_open's. */
int  queue_lock_dir(const struct queue_options *options, int *out_lock, char error[256]);

/* The directories in it, which queue_open makes too: for who may not any more when he opens it. BLOCKS. */
int  queue_make_dirs(const struct queue_options *options, char error[256]);

/* BLOCKS (start-up, or by offload). error gets the reason in words. -EWOULDBLOCK: another server holds the lock; -ENOTSUP: the
 * file system is refused. */
int  queue_open(const struct queue_options *options, struct queue **out, struct queue_recovery *out_recovery, char error[256]);
/* Awaits what is being committed, then frees. No claim may be out and no put under way. */
void queue_close(struct queue *q);

/*
 * Two workers at a time: one has the queue, the one before it lets go and drains its sessions (docs/processes.md, "Generations").
 */
/* Awaits. What arrives from here on, and what is arriving, goes to a queue of its own in the directory (dir, as at queue_open), and the
 * rest of it is free for another process. No claim may be out, and none may follow. On error nothing has changed. */
int queue_drain(struct queue *q, const char *dir, char error[256]);
/* Awaits. Takes over what was left there by a process that has ended. What could not be taken stays where it is, for another call: then
 * the error. -EWOULDBLOCK: that process lives. At a start, before the first claim. */
int queue_take_over(struct queue *q, const char *dir, size_t *out_taken);

/* A new message's id: never used before in this directory, increasing. Known before the body arrives, so that Received can carry it. */
uint64_t queue_new_id(struct queue *q);

/*
 * Bodies in arrival. Up to body_inline_max in memory, then a file of their own.
 */
struct body;
struct body *body_new(struct queue *q, uint64_t id);                    /* NULL without memory */
int      body_append(struct body *b, struct str bytes);                 /* awaits when it spills; -EMSGSIZE, -ENOSPC, -EIO, ...; sticky */
void     body_keep_small(struct body *b);                               /* before the first byte: it holds 16 KiB of memory at most */
uint64_t body_size(const struct body *b);
void     body_free(struct body *b);                                     /* without a queue_put before: the bytes are gone. NULL is fine */

/* Awaits the commit. 0: durable, and due at once (or at env->hold_until_ns). Otherwise nothing of it will be delivered by this
 * queue: -ENOSPC, -EIO, -ENOMEM, -ECANCELED (only before the record was appended; afterwards the commit is awaited). The body
 * stays the caller's (body_free in both cases). */
int queue_put(struct queue *q, const struct envelope *env, struct body *body);

/* The same, but it is held from the beginning, until an operator releases or discards it. */
int queue_put_held(struct queue *q, const struct envelope *env, struct body *body);

/*
 * Delivery. A claim is one due message in one task's hands; nobody else gets it until it is settled.
 */
enum rcpt_state {
    RCPT_PENDING,                        /* not tried, or deferred */
    RCPT_DELIVERED,
    RCPT_BOUNCED,                        /* a DSN is in the queue */
    RCPT_FAILED,                         /* failed without a DSN: null sender or NOTIFY=NEVER */
    RCPT_DISCARDED,                      /* by an operator */
};

struct claim {
    uint64_t         id;
    struct envelope  env;                /* of all recipients, as accepted */
    enum rcpt_state *states;             /* env.rcpt_count of them; a delivery looks at RCPT_PENDING only */
    uint32_t         attempts;           /* so far */
    uint64_t         body_size;
    int64_t          due_ns;             /* monotonic; when it was due, or, claimed by its id, will be */
    bool             urged;              /* by queue_retry: somebody wants it tried now */
    struct arena     arena;              /* env and states live in it; the claimer may use it too */
    struct queue    *queue;
};

/* Awaits the next due message. Only one task may wait here at a time. */
int queue_claim(struct queue *q, int64_t deadline_ns, struct claim **out);

/* That message, due or not. Given back with recipients pending, one that was held is held again. Awaits. -ENOENT; -EBUSY: another task
 * has it; -EBADMSG, -EIO: it cannot be read. */
int queue_claim_one(struct queue *q, uint64_t id, struct claim **out);

/* Awaits that message, due or not. -ENOENT: there is none, or it is held; -EBUSY: somebody has it. */
int queue_claim_waiting(struct queue *q, uint64_t id, struct claim **out);

/* A part of the body; awaits for bodies in files. *out_read is short only at the end. */
int queue_read_body(struct claim *c, uint64_t offset, void *p, size_t n, size_t *out_read);

struct outcome {
    uint32_t        rcpt;                /* index in env.rcpts */
    enum rcpt_state state;               /* RCPT_PENDING: deferred */
    struct str      status;              /* enhanced code "4.2.1"; "" if none */
    struct str      remote;              /* the host that said it, "mx.b.example [192.0.2.1]"; "" for ourselves */
    struct str      text;                /* its own words, raw; cut at QUEUE_OUTCOME_TEXT_MAX */
    unsigned        code;                /* of the remote's reply; 0: our own words. Not recorded, nor are the next */
    bool            dsn_handed_on;       /* it promised the DSNs that were asked for (RFC 3461, 5.2.2) */
    bool            by_handed_on;        /* it knows by when to deliver (RFC 2852, 4.1) */
    bool            in_mailbox;          /* delivered by the remote itself, as LMTP servers do, not passed on */
};
#define QUEUE_OUTCOME_TEXT_MAX 1024

/* Awaits until the outcomes are durable (a failed sync is repeated on another segment until it succeeds or the queue closes), gives
 * the claim back and frees it. Recipients without an outcome stay as they were. next_due_wall_ns is for those still pending. */
int  queue_settle(struct claim *c, const struct outcome *outcomes, size_t count, int64_t next_due_wall_ns);
/* Likewise for some of the recipients, while others are still being tried: the claim stays. One at a time; somebody is pending after it,
 * and queue_settle follows, perhaps without an outcome of its own. All of them together are one attempt. */
int  queue_settle_part(struct claim *c, const struct outcome *outcomes, size_t count, int64_t next_due_wall_ns);
void queue_unclaim(struct claim *c);     /* not tried after all (shutdown): due again at once, nothing is recorded; frees it */
void queue_postpone(struct claim *c, int64_t ns);    /* likewise, but due after a while */
void queue_give_back(struct claim *c);   /* likewise, and due when it was before: of queue_claim_one, which takes what is to wait */

/* Of queue_claim_one, likewise: with these recipients, as many as before in the same order, and these states from now on; due now, or held
 * if it was. A pending recipient must be left. Awaits until it is durable, gives the claim back in any case and frees it. On failure
 * all is as before: -EMSGSIZE: the envelope is too long now; -ENOSPC, -EIO, -ENOMEM. */
int  queue_reroute(struct claim *c, const struct envelope *env, const enum rcpt_state *states);

/*
 * Operators. Each awaits until its record is durable. -ENOENT: no such message; -EBUSY: it is being delivered right now.
 */
int queue_hold(struct queue *q, uint64_t id);
int queue_release(struct queue *q, uint64_t id);
int queue_retry(struct queue *q, uint64_t id);           /* due now */
int queue_discard(struct queue *q, uint64_t id);         /* every pending recipient ends as RCPT_DISCARDED; no DSN */

enum message_state { MESSAGE_WAITING, MESSAGE_CLAIMED, MESSAGE_HELD };
struct queue_item {
    uint64_t           id;
    enum message_state state;
    uint32_t           attempts, rcpts_pending, rcpts_total;
    int64_t            arrived_wall_ns, due_wall_ns;
    uint64_t           size;
};
/* Up to max items with ids above after, in order of id. Does not wait. */
size_t queue_list(struct queue *q, uint64_t after, struct queue_item *out, size_t max);
size_t queue_count(struct queue *q);

/* Everything known about one message: its envelope and the last outcome of each recipient, in the arena. Awaits. -ENOENT. */
struct queue_details {
    struct queue_item item;
    struct envelope   env;
    enum rcpt_state  *states;
    struct outcome   *last;              /* env.rcpt_count; status and text empty: never tried */
    int64_t           changed_wall_ns;   /* when the newest record was made: of the last attempt, or the accept, or a move since */
};
int queue_show(struct queue *q, uint64_t id, struct arena *arena, struct queue_details *out);

/* The same of many, for questions that take their time: for each of the n ids, in order, look() runs where the records are read, on a
 * helper thread. With an error (as of queue_show) details is NULL. Awaits. -EAGAIN or -ENOMEM: none of them was looked at. */
#define QUEUE_LOOK_MAX 64
typedef void queue_look_fn(void *arg, size_t i, const struct queue_details *details, int error);
int queue_look(struct queue *q, const uint64_t *ids, size_t n, queue_look_fn *look, void *arg);

#endif
