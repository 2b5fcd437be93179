/* What control.c, control_queue.c and control_filter.c ask of each other. */
#ifndef ADMIN_CONTROL_INTERNAL_H
#define ADMIN_CONTROL_INTERNAL_H

#include "queue/queue.h"
#include <jansson.h>

/* Does what the request says and gives the answer, the caller's; NULL without memory. Awaits. */
json_t *control_answer(struct queue *q, const json_t *request);

/* A page of the messages that the request's filter means, all without one: see control.h. NULL without memory. Await. */
json_t *control_list(struct queue *q, const json_t *request);
/* The same, and fn is done to each of them. */
typedef int control_change_fn(struct queue *q, uint64_t id, const json_t *request);
json_t *control_change(struct queue *q, const json_t *request, control_change_fn *fn);

/* Parts of answers. */
json_t *control_refuse(struct str why);
json_t *control_item(const struct queue_item *item);
json_t *control_id(uint64_t id);
const char *control_error(int r);                     /* of an operation that failed, in words */
bool control_get_id(const json_t *request, const char *key, uint64_t *out);

#endif
