/*
 * A database's row as an account; the columns stand in lookup/accounts.h. Pure.
 */
#ifndef LOOKUP_ROW_H
#define LOOKUP_ROW_H

#include "lookup/accounts.h"

struct row {
    unsigned    count;
    const char *names[LOOKUP_COLUMNS_MAX];
    struct str  values[LOOKUP_COLUMNS_MAX];          /* p NULL: NULL */
};

/* Whether a query with these columns can say who may log in: NULL, or what is wrong. count may be more than a row takes. */
const char *row_check(const char *const *names, unsigned count, bool *out_has_scram);

/* The account that was asked for by this login. NULL, or what is wrong with it; then out is wiped. */
const char *row_read(const struct row *r, const char *login, struct keeper_record *out);

#endif
