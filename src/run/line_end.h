/*
 * One end of a line between two processes of ours: a socket on which messages (run/wire.h) go both ways. What the two sides of a line
 * (line.c, line_serve.c) share.
 *
 * An end is of one loop, and counted: whoever waits with it holds a count. What has passed through is wiped, for there are passwords in it.
 */
#ifndef RUN_LINE_END_H
#define RUN_LINE_END_H

#include "run/loop.h"
#include "run/wire.h"

#define LINE_UNSENT_MAX (256u << 10)     /* bytes; more is not taken until the other side reads */

struct line_end {
    struct loop_fd fd;                   /* owned */
    unsigned       refs;
    bool           closed, flushing;
    size_t         in_n, in_at;          /* of in: filled, and read so far */
    size_t         out_n, out_at;        /* of out: filled, and sent so far */
    char          *in, *out;             /* WIRE_MESSAGE_MAX and LINE_UNSENT_MAX; owned */
};

/* Takes the socket, on an error too. -ENOMEM. */
int  line_end_new(int fd, struct line_end **out);

struct line_end *line_end_ref(struct line_end *e);
void line_end_unref(struct line_end *e);         /* the last one closes it; NULL is fine */

/* Returns at once; a task of its own sends what the socket does not take. -EPIPE: closed; -ENOBUFS: too much is unsent;
 * -EMSGSIZE: a part is too long. */
int  line_end_put(struct line_end *e, const struct wire_message *m);

/* Awaits the next message; its parts stand until the next call. -EPIPE: closed, by whomever; -EBADMSG: that was none. */
int  line_end_next(struct line_end *e, struct wire_message *out);

/* Both directions, now: whoever waits with it hears of it. What is unsent is lost. */
void line_end_close(struct line_end *e);

#endif
