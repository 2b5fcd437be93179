/*
 * How `nightmail queue` shows messages: for people, as JSON lines, and as Postfix's `postqueue -p` does, for scripts that know that.
 * Takes the answers of the control socket (admin/control.h); remotes' bytes are made safe for terminals.
 */
#ifndef ADMIN_QUEUE_PRINT_H
#define ADMIN_QUEUE_PRINT_H

#include <jansson.h>
#include <stdint.h>

void queue_print_json(const json_t *object);                 /* a line */
void queue_print_item(const json_t *item);                   /* a line */
void queue_print_details(const json_t *answer);              /* of "queue.show" */

void queue_print_postqueue_head(void);
void queue_print_postqueue(const json_t *answer);            /* of "queue.show" */
void queue_print_postqueue_end(int64_t bytes, int64_t messages);

/* Members of an object; 0 and "" if they are not there. */
int64_t     queue_print_number(const json_t *object, const char *key);
const char *queue_print_text(const json_t *object, const char *key);

#endif
