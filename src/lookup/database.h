/*
 * What lookup/accounts.c asks of a kind of database. One connection is used by one thread at a time; all of this BLOCKS until the
 * deadline at most.
 *
 * Errors are negative errnos with the reason in words: -ENOTCONN the connection is no good; -ETIMEDOUT; -EINVAL the configuration is
 * wrong; -EBADMSG the answer about this login cannot be used; -EIO the database said no. After any, the connection is closed.
 */
#ifndef LOOKUP_DATABASE_H
#define LOOKUP_DATABASE_H

#include "run/keeper_source.h"

#define DATABASE_ERROR_MAX 256

struct database_options {
    const char *where;                   /* the path of a file, or a connection string */
    const char *password_file;           /* NULL: none */
    const char *query;
    int64_t     timeout_ns;              /* of one question */
};

struct database {
    /* Has the query prepared too. *out_has_scram: it gives verifiers. */
    int  (*open)(const struct database_options *o, int64_t deadline_ns, void **out, bool *out_has_scram, char error[DATABASE_ERROR_MAX]);
    /* The record only if *out_found. */
    int  (*ask)(void *connection, const char *login, int64_t deadline_ns, bool *out_found, struct keeper_record *out, char error[DATABASE_ERROR_MAX]);
    void (*close)(void *connection);
};

extern const struct database database_sqlite, database_pgsql;

#endif
