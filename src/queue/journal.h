/*
 * The journal's segments on disk: names, header blocks, which is the oldest, which comes next, what is spare.
 *
 * A file is allocated to its full size before it is used, and written out too while batches are small (an overwrite with fdatasync
 * took 152 us on the disk we measured, an unwritten extent 245 us, a growing file 350 us); before wide batches, writing everything
 * twice would cost more of the disk than it saves. Used segments keep their blocks: they become spares under
 * another name, and a spare becomes a segment by a new header with a new salt, a sync, a rename and a sync of the directory, in
 * this order. So under a segment's name there is always a header that belongs to it.
 *
 * Order: generation, then number. Segments are appended at the newest end and retired at the oldest only, one after the
 * other, each durably before the next. This is what makes a settle live as long as the accept it settles: it stands in the
 * same segment or a later one.
 *
 * Everything here but the lists BLOCKS: offload, or start-up.
 */
#ifndef QUEUE_JOURNAL_H
#define QUEUE_JOURNAL_H

#include "queue/segment.h"
#include <pthread.h>
#include <stdatomic.h>

#define JOURNAL_SPARES_MAX 3u

struct entry;

struct segment {
    uint32_t         generation, number, salt;
    int              file;                           /* owned; open for reading and, if it is ours, writing */
    uint64_t         size, end;                      /* end: where the next record goes; the committer's alone until sealed */
    uint32_t         batch;                          /* of the newest batch in it */
    _Atomic uint32_t live;                           /* messages whose accept or move stands here, or is just being written */
    _Atomic bool     sealed;                         /* nothing is written to it any more */
    bool             condemned;                      /* a sync failed: the file is not used again */
    bool             renamed;                        /* retired, but the directory could not be synced yet */
    bool             sidecar_wanted;                 /* all of it was surely synced, unless it is condemned, and no sidecar says it yet */
    char             name[SEGMENT_NAME_SIZE];        /* of the file now */
    /* Under the queue's lock: */
    uint32_t         pins;                           /* readers that need this and all newer segments to stay */
    uint64_t         live_bytes;
    struct entry    *entries;                        /* list of the messages here */
    /* Under the journal's lock: */
    struct segment  *newer;
};

/*
 * A directory in which several threads make names and sync them. A sync that fails may have forgotten the names of others too, and the
 * error is told once: so it counts for everybody whose name was made before it and not synced yet.
 */
struct synced_dir {
    int              file;                           /* owned */
    _Atomic uint32_t failures;
};

struct journal {
    int             dir;                             /* owned */
    struct synced_dir segments, bodies;
    uint64_t        segment_size, free_floor;
    uint32_t        generation;                      /* ours */
    _Atomic uint32_t next_number;                    /* the committer gives them out; claims look how new a segment is */
    uint32_t        next_spare;
    uint64_t        next_sequence;                   /* the committer's */
    uint64_t        retired_bytes;
    pthread_mutex_t lock;                            /* the list and the spares; nothing is waited for under it */
    struct segment *oldest, *newest;                 /* owned */
    uint32_t        segment_count;
    uint32_t        spares[JOURNAL_SPARES_MAX];      /* their numbers; the files are of full size and synced */
    uint32_t        spare_count;
    _Atomic uint32_t batch_bytes;                    /* a running mean of what is written per sync */
    _Atomic bool    short_of_space;                  /* the last try to make a spare met ENOSPC or the floor */
};

#define JOURNAL_SEGMENTS_NAME "journal"
#define JOURNAL_BODIES_NAME   "body"

/* Opens or makes the directories, durably. The generation is set by recovery. */
int  journal_make(int dir);                                       /* does no more than make them */
int  journal_open(struct journal *j, int dir, bool read_only);   /* takes dir over on success */
void journal_close(struct journal *j);

/* A segment found by recovery joins the list at the newest end. 0 or -ENOMEM (the file stays the caller's then). */
int journal_adopt(struct journal *j, const struct segment_header *header, int file, uint64_t size, struct segment **out);

/* The next segment of our generation, ready for records and durable as a name. reserved: may go below the floor. */
int journal_extend(struct journal *j, uint64_t id_floor, bool reserved, struct segment **out);

/* Have at least one spare; sets short_of_space by what comes of it. */
int journal_prepare(struct journal *j);

/* The oldest segment, which is sealed and needed by nobody, becomes a spare or goes. On error it stays the oldest; call again. */
int journal_retire_oldest(struct journal *j);

/* Before a name is made or changed, and then to make it durable. */
uint32_t synced_dir_begin(struct synced_dir *d);
int      synced_dir_sync(struct synced_dir *d, uint32_t begun);

struct segment *journal_oldest(struct journal *j);
struct segment *journal_find(struct journal *j, uint32_t generation, uint32_t number);   /* NULL if it is gone */
uint64_t        journal_bytes(struct journal *j);                                        /* of all segments */

/* Under the journal's directory: spare file names, for recovery's inventory. */
bool journal_spare_parse(const char *name, uint32_t *number);
int  journal_adopt_spare(struct journal *j, uint32_t number);     /* keeps it if it was a segment once and fits, else removes it */

#endif
