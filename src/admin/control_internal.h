/* What control.c, control_queue.c and control_filter.c ask of each other. */
#ifndef ADMIN_CONTROL_INTERNAL_H
#define ADMIN_CONTROL_INTERNAL_H

#include "admin/filter.h"
#include "queue/queue.h"
#include <jansson.h>

/* Does what the request says and gives the answer, the caller's; NULL without memory. Awaits. */
struct exchange;
json_t *control_answer(struct queue *q, struct exchange *exchange, const json_t *request);

/* control_transfer.c: "export.*" and "import.*", of which a session has one under way at most. NULL: it is no request of these. Await. */
struct exchange *exchange_new(struct queue *q);                  /* NULL without memory */
void             exchange_free(struct exchange *x);              /* what was taken and not let go is given back; NULL is fine */
json_t          *exchange_answer(struct exchange *x, const char *name, const json_t *request);

/* A page of the messages that the request's filter means, all without one: see control.h. NULL without memory. Await. */
json_t *control_list(struct queue *q, const json_t *request);
/* The same, and fn is done to each of them. Its result: 0, or a negative errno that control_error has words for. Awaits. */
struct control_wish {
    const json_t        *request;
    const struct filter *filter;                      /* NULL: an id was given */
    int64_t              now_wall_ns;
    void                *arg;                         /* whatever control_change got */
};
typedef int control_change_fn(struct queue *q, uint64_t id, const struct control_wish *wish);
json_t *control_change(struct queue *q, const json_t *request, control_change_fn *fn, void *arg);

/* "queue.reroute": NULL, or the answer that says what is wrong with the request; and what is done to each message. */
json_t *control_reroute_check(const json_t *request);
control_change_fn control_reroute;

/* Parts of answers. */
json_t *control_refuse(struct str why);
json_t *control_item(const struct queue_item *item);
json_t *control_id(uint64_t id);
const char *control_error(int r);                     /* of an operation that failed, in words */
bool control_get_id(const json_t *request, const char *key, uint64_t *out);

#endif
