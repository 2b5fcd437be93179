/*
 * Messages that leave for another node, or come from one, each exactly once.
 *
 * On the way out the decision is one sync of the export's ledger: before it a message is ours and is delivered by us, whatever the file
 * holds; from then on it is the file's, and a start that still finds it in the queue ends it. On the way in each message gets an id that
 * is written down before it comes, and nobody sees it before it is written down that it came; so a start finds out from the queue which of
 * them were there. docs/journal.md.
 *
 * A transfer has a name of its own, made once, by which both sides know it. Runs in the worker; a transfer belongs to one task.
 */
#ifndef QUEUE_TRANSFER_H
#define QUEUE_TRANSFER_H

#include "queue/queue.h"

#define TRANSFER_NAME_LEN  32            /* lower-case hexadecimal */
#define TRANSFER_AT_A_TIME 64
#define TRANSFER_NUMBER_MAX UINT64_C(100000000)

enum transfer_way { TRANSFER_OUT, TRANSFER_IN };

struct transfer;

/* Awaits. -EINVAL: that is no name; -EBUSY: it is open already. */
int  transfer_open(struct queue *q, struct str name, enum transfer_way way, struct transfer **out);
void transfer_close(struct transfer *t);                     /* NULL is fine */

/* -- out ---- */

/* The message of a claim, with all that became of it, without the bytes of a body in a file (claim's body_in_file): queue_read_body gives
 * these. Awaits. */
int  transfer_pack(struct claim *c, struct buf *out);
/* Is its body no part of what transfer_pack gives? */
bool transfer_body_apart(const struct claim *c);

/* They are in the file, durably: now they are the file's. Awaits; gives the claims back in any case. 0: they are over here. Otherwise they
 * are ours still; or (-EUCLEAN) only the next start can tell, and until then nobody gets them. */
int  transfer_let_go(struct transfer *t, struct claim **claims, size_t n);

/* Of a transfer that was broken off: which of them have been let go? Awaits. */
int  transfer_ask_gone(struct transfer *t, const uint64_t *ids, size_t n, bool *out_gone);

/* The file knows it all: the ledger goes. Awaits; closes the transfer in any case. -EBUSY: one that was let go is here still. */
int  transfer_forget(struct transfer *t);

/* -- in ---- */

/* An id for each message of the file that has not come yet, 0 for one that has. Awaits until that is durable. */
int  transfer_expect(struct transfer *t, const uint64_t *numbers, size_t n, uint64_t *out_ids);

/* A message under its new id; of a body that was apart, body_new(q, id) with all its bytes, else NULL. Awaits until it is durable; nobody
 * sees it before transfer_let_in. -EBADMSG: that is no message; -EMSGSIZE, -ENOSPC, -EIO, -ENOMEM. The body stays the caller's. */
struct newcomer;
int  transfer_bring(struct queue *q, uint64_t id, struct str packed, struct body *body, struct newcomer **out);

/* They have come: this is made durable, then they are in the queue. Awaits; frees the newcomers in any case. On failure they are not there
 * (and their numbers may be expected again); -EUCLEAN: only the next start can tell. */
int  transfer_let_in(struct transfer *t, const uint64_t *numbers, struct newcomer **newcomers, size_t n);

#endif
