/* What transfer.c and transfer_in.c share. */
#ifndef QUEUE_TRANSFER_INTERNAL_H
#define QUEUE_TRANSFER_INTERNAL_H

#include "base/map.h"
#include "queue/ledger.h"
#include "queue/recover_internal.h"
#include "queue/transfer.h"

struct transfer {
    struct queue    *queue;
    struct transfer *next;                           /* of those that are open */
    char             file_name[LEDGER_NAME_MAX];
    struct ledger    ledger;                         /* owned */
    struct map_u64   known;                          /* out: ids that are gone; in: numbers that came */
    bool             unsure;                         /* an append may be there or not */
    int              result;                         /* of a job */
};

/* Awaits. As ledger_append; what is durable is known. */
int transfer_append(struct transfer *t, const struct ledger_entry *entries, size_t n);

#endif
