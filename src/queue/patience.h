/*
 * Whether it pays to wait for company (see commit.h): both are tried in turn, and what let more through is kept for a while. Pure.
 */
#ifndef QUEUE_PATIENCE_H
#define QUEUE_PATIENCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct patience {
    bool     on;                                     /* wait, now */
    enum { PATIENCE_OFF, PATIENCE_ON, PATIENCE_KEPT } phase;
    unsigned batches, keep;                          /* of this phase; of the next one without trials */
    uint64_t tickets;                                /* in them, */
    int64_t  began_ns;                               /* since then */
    double   off_rate;                               /* tickets in a nanosecond without waiting */
};

/* After each batch: how many went in it, and what time it is. All zero is a beginning. */
void patience_learn(struct patience *p, size_t tickets, int64_t now_ns);

#endif
