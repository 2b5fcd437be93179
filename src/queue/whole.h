/*
 * A message with all that became of it, as the payload of one record: what a move and a reroute write. Pure.
 */
#ifndef QUEUE_WHOLE_H
#define QUEUE_WHOLE_H

#include "queue/record.h"

struct whole {
    uint64_t              id;
    int64_t               arrived_ns, due_wall_ns;
    uint32_t              attempts, rcpts;
    const uint8_t        *states;                    /* rcpts of them */
    bool                  held;
    struct str            envelope;
    struct str            before;                    /* the payload it is made from: what we do not know in it goes along */
    const struct outcome *last;                      /* rcpts of them; of who was never tried status.p is NULL */
    bool                  body_in_file;
    uint64_t              body_size;
    uint32_t              body_crc;                  /* in the file only */
};

/* All but the bytes of a body that is inline, which stand behind it: together at most max. out is empty. The outcomes' words as far as they
 * fit: they are for the eyes of operators, the states are what counts. -ENOMEM; -EMSGSIZE. */
int whole_put(struct buf *out, const struct whole *w, int64_t now_wall_ns, uint64_t max);

#endif
