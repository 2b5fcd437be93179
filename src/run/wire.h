/*
 * What processes of ours say to each other: messages with a length in front, one form for all of them. Pure.
 *
 *     u32 length of what follows    u32 id    u8 op    i32 result    u64 number    3 times: u16 length and so many bytes
 *
 * Little-endian. id says which question an answer belongs to; what the other fields mean is each op's own. Nothing may be left over: a
 * message is exactly as long as its parts.
 */
#ifndef RUN_WIRE_H
#define RUN_WIRE_H

#include "base/buf.h"
#include <sys/types.h>

#define WIRE_PARTS       3
#define WIRE_PART_MAX    12288           /* bytes: a SCRAM exchange's AuthMessage, which is longer than a token */
#define WIRE_HEAD        21              /* bytes, the length included, before the parts */
#define WIRE_MESSAGE_MAX (WIRE_HEAD + WIRE_PARTS * (2 + WIRE_PART_MAX))

struct wire_message {
    uint32_t   id;
    uint8_t    op;
    int32_t    result;
    uint64_t   number;
    struct str parts[WIRE_PARTS];
};

/* Appends it. False, nothing appended: a part is longer than WIRE_PART_MAX, or there is no room. */
bool wire_put(struct buf *out, const struct wire_message *m);

/* The message in front of bytes, its parts pointing in there: how many bytes it takes; 0: there are too few yet; -EBADMSG: none. */
ssize_t wire_take(struct str bytes, struct wire_message *out);

#endif
