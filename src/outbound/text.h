/*
 * The text of a message as it goes to one server: as it is, or converted to 7 bits for one that takes no more. In pieces, so that memory
 * is bounded. Runs in the worker.
 */
#ifndef OUTBOUND_TEXT_H
#define OUTBOUND_TEXT_H

#include "base/buf.h"
#include "mail/convert.h"
#include "queue/queue.h"

/* Zero-initialised, it is closed. */
struct text {
    struct claim   *claim;
    struct convert *convert;             /* owned; NULL: it goes as it is */
    uint64_t        size;                /* of all that text_read will give */
    uint64_t        offset;              /* read of the body */
    bool            ended;
    char           *chunk;               /* owned */
    struct buf      converted;
};

/* What a server takes. */
enum text_taken { TEXT_7BIT, TEXT_8BIT, TEXT_BINARY };

/* Awaits the body, all of it, if it may have to be converted. 0; *out_verdict says whether it can go (CONVERT_NOTHING, CONVERT_POSSIBLE) or why
 * not. Otherwise the error with which the body could not be read (-EIO if it is damaged), -ENOMEM or -ECANCELED. To be closed in any
 * case. */
int  text_open(struct text *t, struct claim *claim, enum text_taken taken, enum convert_verdict *out_verdict);

/* Awaits the next piece, which may be empty and is valid until the next call. 1; 0 at the end; or the error. */
int  text_read(struct text *t, struct str *out);
void text_close(struct text *t);

/* Awaits the header. 0, or the error with which it could not be read. */
int  text_header_is_ascii(struct claim *claim, bool *out);

#endif
