/* What control.c asks of control_queue.c. */
#ifndef ADMIN_CONTROL_INTERNAL_H
#define ADMIN_CONTROL_INTERNAL_H

#include "queue/queue.h"
#include <jansson.h>

/* Does what the request says and gives the answer, the caller's; NULL without memory. Awaits. */
json_t *control_answer(struct queue *q, const json_t *request);

#endif
