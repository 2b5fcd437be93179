/*
 * The table of refusals in force: the shipped one, share/refusals, which is part of the program, behind the operator's own.
 */
#ifndef OUTBOUND_REFUSAL_TABLE_H
#define OUTBOUND_REFUSAL_TABLE_H

#include "outbound/refusal.h"

struct refusal_table {
    struct refusals refusals;
    struct arena    arena;               /* of it */
};

/* Of the operator's text ("": none) from file. NULL without memory. What is wrong with it is added to error, and left out. */
struct refusal_table *refusal_table_new(const char *file, struct str text, struct buf *error);
void refusal_table_free(struct refusal_table *t);             /* NULL is fine */

#endif
