/*
 * Rates: how much a name may use up in an hour. A bucket for each name, that fills evenly, so that a limit holds for any hour and
 * not only from full hour to full hour. From any thread.
 */
#ifndef BASE_RATE_H
#define BASE_RATE_H

#include "base/str.h"

struct rate;

struct rate *rate_new(size_t names_max);         /* NULL without memory */
void         rate_free(struct rate *r);          /* NULL is fine */

/* Takes cost from the name's bucket of per_hour (0: there is no limit). False, nothing taken: that is more than is in it, or more
 * names than names_max have used something in the last hour. */
bool rate_take(struct rate *r, struct str name, uint32_t cost, uint32_t per_hour);

#endif
