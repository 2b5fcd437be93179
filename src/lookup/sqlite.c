/*
 * SQLite: a file, opened for reading only, and a statement prepared once. Runs on the threads of lookup/accounts.c.
 *
 * Another file in its place (a rename over it) is seen before each question. A statement may read only; a lock that somebody holds
 * and a query that searches for long both end at the deadline.
 */
#include "base/clock.h"
#include "lookup/database.h"
#include "lookup/row.h"
#include <errno.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VALUE_MAX       (1 << 20)        /* bytes of a string or a row inside SQLite */
#define STEPS_PER_LOOK  1000             /* of its machine, between looks at the clock */

struct connection {
    sqlite3      *db;
    sqlite3_stmt *query;
    int64_t       deadline_ns;
};

static void sqlite_close(void *connection)
{
    struct connection *c = connection;

    (void)sqlite3_finalize(c->query);
    (void)sqlite3_close(c->db);
    free(c);
}

static int past_deadline(void *arg)
{
    const struct connection *c = arg;
    return clock_mono_ns() >= c->deadline_ns;
}

static void set_deadline(struct connection *c, int64_t deadline_ns)
{
    int64_t left_ms = (deadline_ns - clock_mono_ns()) / NS_PER_MS;

    c->deadline_ns = deadline_ns;
    (void)sqlite3_busy_timeout(c->db, left_ms > 0 ? (int)left_ms : 0);   /* accounts_query_timeout fits an int */
}

static int fail(struct connection *c, const char *path, int code, char error[DATABASE_ERROR_MAX])
{
    snprintf(error, DATABASE_ERROR_MAX, "%s%s%s", path, path[0] != '\0' ? ": " : "", c->db != NULL ? sqlite3_errmsg(c->db) : sqlite3_errstr(code));
    switch (code & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
    case SQLITE_INTERRUPT: return -ETIMEDOUT;
    case SQLITE_NOMEM: return -ENOMEM;
    case SQLITE_ERROR:
    case SQLITE_CANTOPEN:
    case SQLITE_NOTADB:
    case SQLITE_PERM: return path[0] != '\0' ? -EINVAL : -EIO;
    default: return -EIO;
    }
}

static int wrong(char error[DATABASE_ERROR_MAX], const char *why)
{
    snprintf(error, DATABASE_ERROR_MAX, "%s", why);
    return -EINVAL;
}

/* One statement, which reads, with one parameter and columns that we know. */
static int check_query(sqlite3_stmt *query, const char *tail, bool *out_has_scram, char error[DATABASE_ERROR_MAX])
{
    const char *names[LOOKUP_COLUMNS_MAX + 1];
    unsigned count = 0, all = query == NULL ? 0 : (unsigned)sqlite3_column_count(query);

    if (query == NULL || tail[strspn(tail, " \t\r\n;")] != '\0')
        return wrong(error, "the query is not one statement");
    if (!sqlite3_stmt_readonly(query))
        return wrong(error, "the query does not only read");
    if (sqlite3_bind_parameter_count(query) != 1)
        return wrong(error, "the query needs one parameter, $1: the login");
    for (; count < all && count < LOOKUP_COLUMNS_MAX + 1; count++)
        if ((names[count] = sqlite3_column_name(query, (int)count)) == NULL)
            return -ENOMEM;
    const char *why = row_check(names, count, out_has_scram);
    return why == NULL ? 0 : wrong(error, why);
}

static int prepare(struct connection *c, const struct database_options *o, bool *out_has_scram, char error[DATABASE_ERROR_MAX])
{
    const char *tail;

    int code = sqlite3_prepare_v3(c->db, o->query, -1, SQLITE_PREPARE_PERSISTENT, &c->query, &tail);
    if (code != SQLITE_OK)
        return fail(c, o->where, code, error);
    return check_query(c->query, tail, out_has_scram, error);
}

static int sqlite_open(const struct database_options *o, int64_t deadline_ns, void **out, bool *out_has_scram, char error[DATABASE_ERROR_MAX])
{
    struct connection *c = calloc(1, sizeof *c);

    if (c == NULL) {
        snprintf(error, DATABASE_ERROR_MAX, "no memory");
        return -ENOMEM;
    }
    int code = sqlite3_open_v2(o->where, &c->db, SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE, NULL);
    int r = code == SQLITE_OK ? 0 : fail(c, o->where, code, error);
    if (r == 0) {
        (void)sqlite3_extended_result_codes(c->db, 1);
        (void)sqlite3_limit(c->db, SQLITE_LIMIT_LENGTH, VALUE_MAX);
        sqlite3_progress_handler(c->db, STEPS_PER_LOOK, past_deadline, c);
        set_deadline(c, deadline_ns);
        r = prepare(c, o, out_has_scram, error);
    }
    if (r < 0) {
        sqlite_close(c);
        return r;
    }
    *out = c;
    return 0;
}

static int read_row(struct connection *c, const char *login, struct keeper_record *out, char error[DATABASE_ERROR_MAX])
{
    struct row row = { .count = (unsigned)sqlite3_column_count(c->query) };
    const char *why = row.count > LOOKUP_COLUMNS_MAX ? "the query gives other columns than before" : NULL;

    for (unsigned i = 0; why == NULL && i < row.count; i++) {
        row.names[i] = sqlite3_column_name(c->query, (int)i);
        if (row.names[i] == NULL)
            return -ENOMEM;
        row.values[i].p = (const char *)sqlite3_column_text(c->query, (int)i);   /* before the length: it may convert */
        row.values[i].n = (size_t)sqlite3_column_bytes(c->query, (int)i);
    }
    if (why == NULL)
        why = row_read(&row, login, out);
    if (why == NULL)
        return 0;
    snprintf(error, DATABASE_ERROR_MAX, "%s", why);
    return -EBADMSG;
}

/* A second row would leave open which of the two may log in. */
static int read_rows(struct connection *c, const char *login, bool *out_found, struct keeper_record *out, char error[DATABASE_ERROR_MAX])
{
    struct keeper_record record;

    int code = sqlite3_step(c->query);
    if (code == SQLITE_DONE) {
        *out_found = false;
        return 0;
    }
    if (code != SQLITE_ROW)
        return fail(c, "", code, error);
    int r = read_row(c, login, &record, error);
    if (r == 0 && (code = sqlite3_step(c->query)) == SQLITE_ROW) {
        snprintf(error, DATABASE_ERROR_MAX, "the query gives more than one row");
        r = -EBADMSG;
    } else if (r == 0 && code != SQLITE_DONE) {
        r = fail(c, "", code, error);
    }
    if (r == 0) {
        *out = record;
        *out_found = true;
    }
    explicit_bzero(&record, sizeof record);
    return r;
}

static int sqlite_ask(void *connection, const char *login, int64_t deadline_ns, bool *out_found, struct keeper_record *out,
                      char error[DATABASE_ERROR_MAX])
{
    struct connection *c = connection;
    int moved = 0;

    if (sqlite3_file_control(c->db, "main", SQLITE_FCNTL_HAS_MOVED, &moved) == SQLITE_OK && moved != 0) {
        snprintf(error, DATABASE_ERROR_MAX, "another file is in its place");
        return -ENOTCONN;
    }
    set_deadline(c, deadline_ns);
    int code = sqlite3_bind_text(c->query, 1, login, -1, SQLITE_STATIC);
    int r = code == SQLITE_OK ? read_rows(c, login, out_found, out, error) : fail(c, "", code, error);
    (void)sqlite3_reset(c->query);       /* it repeats the error of the step */
    (void)sqlite3_clear_bindings(c->query);
    return r;
}

const struct database database_sqlite = { .open = sqlite_open, .ask = sqlite_ask, .close = sqlite_close };
