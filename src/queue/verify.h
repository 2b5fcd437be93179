/*
 * The journal for people: every record of a data directory, and whether all of it is sound. Only reads, takes no lock, and may be
 * used on a live directory or on a copy. BLOCKS; runs in the tools.
 */
#ifndef QUEUE_VERIFY_H
#define QUEUE_VERIFY_H

#include "queue/segment.h"

struct verify_report {
    uint64_t segments, records;
    uint64_t bad_headers;                /* segments whose header cannot be read */
    uint64_t bad_records;                /* damaged where they had been synced, or without sense */
    uint64_t torn_tails;                 /* a last write cut short by a crash, or being written right now: no damage */
    uint64_t newer;                      /* records or segments of a newer version */
    uint64_t bodies, bad_bodies;         /* files of messages that are not over yet */
    uint64_t sidecars, torn_sidecars;    /* beside sound segments; and those that a start passes over: no damage */
    uint64_t bad_sidecars;               /* they say something else than their segments */
};

struct verify_record {
    const char                  *segment;    /* file name */
    const struct record_head    *head;
    uint64_t                     offset;
    const struct record         *record;     /* NULL if the payload makes no sense */
};
typedef void verify_each_fn(void *arg, const struct verify_record *r);

/* Every record, oldest first. each may be NULL. A segment that is used again while we look is passed over. 0, or the error that kept us
 * from reading the directory. */
int verify_records(const char *dir, verify_each_fn *each, void *arg, struct verify_report *out);

/* That, and the body files of all messages that are not over, by size and checksum, and the sidecars, by what their segments say. problem is told each finding in words. */
typedef void verify_problem_fn(void *arg, const char *words);
int verify_all(const char *dir, verify_problem_fn *problem, void *arg, struct verify_report *out);

#endif
