/*
 * The filter language of `nightmail queue`: says which messages of the queue are meant. Pure.
 *
 *     to=*@gmail.com age>1h (code=4.7.* or text="*rate limit*") not login=ann
 *
 *     filter = all *( "or" all )          all = part *( ["and"] part )          part = "not" part / "(" filter ")" / field op value
 *
 * Values end at a blank or a bracket; double quotes keep these together. Text is compared whole and without regard to case; * stands
 * for any octets and ? for one, in quotes too, unless there is a backslash before it.
 *
 * A message is meant if one of its pending recipients fulfils the filter together with it: to=*@a.example code=4.7.* asks for the code
 * of that very recipient. `not`, and !=, say that none of them does.
 */
#ifndef ADMIN_FILTER_H
#define ADMIN_FILTER_H

#include "queue/queue.h"

#define FILTER_TEXT_MAX  4096
#define FILTER_NODES_MAX 256
#define FILTER_DEPTH_MAX 32                  /* of brackets and nots */

#define FILTER_FIELDS "to, from (sender), domain, code, text, remote, login, id, state, age, due, size, attempts and priority"

struct filter;                               /* in the arena, with copies of all text */

/* False, out untouched, with the reason in error: one line, of printable words and the user's own bytes. */
bool filter_parse(struct arena *a, struct str text, const struct filter **out, struct buf *error);

enum filter_answer { FILTER_NO, FILTER_YES, FILTER_UNSURE };

/* What the index alone can tell. FILTER_UNSURE: only the record can. */
enum filter_answer filter_match_item(const struct filter *f, const struct queue_item *item, int64_t now_wall_ns);

bool filter_match(const struct filter *f, const struct queue_details *details, int64_t now_wall_ns);
/* Is this pending recipient one of those who fulfil it? */
bool filter_match_rcpt(const struct filter *f, const struct queue_details *details, size_t rcpt, int64_t now_wall_ns);

/* The name that a state has in the language and in lists. */
const char *filter_state_name(enum message_state state);

/* Whether text is like the pattern: * any octets, ? one, backslash the next as it is; ASCII without regard to case. */
bool filter_like(struct str pattern, struct str text);

#endif
