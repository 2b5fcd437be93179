/*
 * The text of one message in arrival: from its first byte to the queue, however it is framed (receive.c knows DATA and BDAT).
 *
 * What may not be kept (too big, a bare LF, no disk) makes a trouble: from then on the text is looked at for its end only, and
 * nothing of it is kept. It lives in its transaction, and ends with it.
 */
#ifndef INBOUND_RECEIVING_H
#define INBOUND_RECEIVING_H

#include "inbound/loop.h"
#include "mail/field_watch.h"
#include "queue/queue.h"
#include "smtp/data.h"
#include "smtp/reply.h"

struct session;

struct receiving {
    struct session     *s;               /* NULL before it has begun */
    uint64_t            id;
    struct body        *body;            /* owned */
    struct data_decoder decoder;
    struct buf          piece;           /* decoded, not yet in the body */
    bool                header_done;
    struct buf          header;          /* of a login's message, until it has been looked at as a whole */
    bool                header_kept;
    struct loop         loop;
    struct field_watch  tls_required;    /* RFC 8689, 3 */
    int64_t             patience_ns;     /* until then the client must have sent `wanted` bytes more; then both begin anew */
    uint64_t            wanted;
    bool                slow;            /* some of them have come */
    int64_t             paused_ns;       /* when a chunk was complete; 0: octets are awaited */
    struct reply        trouble;         /* code 0 while all is well; then nothing is kept any more. Its text is a literal */
};

/* Zeroed before. Takes an id and writes our trace field; what fails becomes its trouble. This and the functions of the text await. */
void receiving_begin(struct receiving *r, struct session *s);

/* Takes away what is pending of the text, at most `max` bytes. True: that was the end of it, which is told of DATA only. */
bool receiving_take(struct receiving *r, uint64_t max, uint64_t *out_taken);

/* The first trouble counts. What was kept until now is given back at once: the rest may take its time. */
void receiving_give_up(struct receiving *r, struct reply why);

/* From here on data_rate_min counts. */
void receiving_begin_patience(struct receiving *r);

/* Awaits more of the text. False: it does not come, and *out is the last reply, or code 0 if the client is gone. */
bool receiving_await(struct receiving *r, struct reply *out);

/* The text is complete: puts it in the queue, or says why not. 250 only when it is on stable storage. */
struct reply receiving_end(struct receiving *r);

void receiving_free(struct receiving *r);    /* what it holds; zeroed is fine */

#endif
