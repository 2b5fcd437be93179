/*
 * The submit socket: plain SMTP on a Unix socket that every local user may open. Who it is, the kernel says; how much one
 * may send in an hour is limited here.
 */
#ifndef INBOUND_SUBMIT_H
#define INBOUND_SUBMIT_H

#include "base/map.h"

#define SUBMIT_SOCKET_MODE 0666          /* open to every local uid; the uid is recorded with each message */

struct submit_limit {
    struct map_u64 by_uid;               /* of struct submit_count, owned */
};

void submit_limit_init(struct submit_limit *l);
void submit_limit_free(struct submit_limit *l);

/* Counts one message. False: this uid has had its messages for this hour. Only on the submit socket's loop. */
bool submit_limit_take(struct submit_limit *l, unsigned uid, uint32_t per_hour);

#endif
