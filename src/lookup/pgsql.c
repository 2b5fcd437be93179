/*
 * PostgreSQL: a connection, and a question with a bound parameter. Runs on the threads of lookup/accounts.c.
 *
 * libpq is used without blocking, and waited for in run/wait.h: so that a server that says nothing any more costs the deadline and not a
 * thread for ever. Only the system's look-up of a host's name has a time of its own; hostaddr or a socket avoid it.
 */
#include "base/buf.h"
#include "base/clock.h"
#include "lookup/database.h"
#include "lookup/row.h"
#include "run/wait.h"
#include <errno.h>
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NUMBER_MAX 24                    /* bytes of a number as text */

struct connection {
    PGconn     *pg;
    const char *query;                   /* the options': they outlive it */
};

/* SQLSTATE of a parameter that cannot be what the query compares it with: there is no such login (PostgreSQL's Appendix A). */
static const char *const not_comparable[] = { "22021", "22P05", "22P02" };

/* One line of what libpq says. */
static void put_words(char error[DATABASE_ERROR_MAX], const char *what, const char *words)
{
    struct str text = str_trim(str_of(words == NULL ? "" : words)), line, rest;

    str_cut(text, '\n', &line, &rest);
    snprintf(error, DATABASE_ERROR_MAX, "%s%.*s", what, (int)line.n, line.p);
}

static int broken(PGconn *pg, char error[DATABASE_ERROR_MAX])
{
    put_words(error, "", PQerrorMessage(pg));
    return -ENOTCONN;
}

static int wait_for(PGconn *pg, bool writable, int64_t deadline_ns, char error[DATABASE_ERROR_MAX])
{
    int r = wait_fd(PQsocket(pg), writable, deadline_ns);
    if (r < 0)
        snprintf(error, DATABASE_ERROR_MAX, "%s", r == -ETIMEDOUT ? "no answer in time" : strerror(-r));
    return r;
}

/* -- one answer ------------------------------------------------------------------------------------------------------------ */

static int flush(PGconn *pg, int64_t deadline_ns, char error[DATABASE_ERROR_MAX])
{
    for (;;) {
        int left = PQflush(pg);
        if (left <= 0)
            return left == 0 ? 0 : broken(pg, error);
        int r = wait_for(pg, true, deadline_ns, error);
        if (r < 0)
            return r;
        if (PQconsumeInput(pg) == 0)     /* the server may wait for us to read */
            return broken(pg, error);
    }
}

/* The next result; NULL: that was all. */
static int next_result(PGconn *pg, int64_t deadline_ns, PGresult **out, char error[DATABASE_ERROR_MAX])
{
    while (PQisBusy(pg)) {
        int r = wait_for(pg, false, deadline_ns, error);
        if (r < 0)
            return r;
        if (PQconsumeInput(pg) == 0)
            return broken(pg, error);
    }
    *out = PQgetResult(pg);
    return 0;
}

/* What the server refused: its own words. */
static int refused(PGconn *pg, const PGresult *result, char error[DATABASE_ERROR_MAX])
{
    const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);

    if (state == NULL || PQstatus(pg) == CONNECTION_BAD)
        return broken(pg, error);
    put_words(error, "", PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY));
    if (strcmp(state, "57014") == 0)     /* query_canceled: statement_timeout */
        return -ETIMEDOUT;
    if (strncmp(state, "57P", 3) == 0 || strncmp(state, "08", 2) == 0)       /* it shuts down */
        return -ENOTCONN;
    return strncmp(state, "42", 2) == 0 ? -EINVAL : -EIO;                    /* syntax error or access rule violation */
}

/* The one result of what was sent, when it is `wanted`; the caller clears it. */
static int only_result(PGconn *pg, ExecStatusType wanted, int64_t deadline_ns, PGresult **out, char error[DATABASE_ERROR_MAX])
{
    PGresult *result = NULL, *more = NULL;

    int r = flush(pg, deadline_ns, error);
    if (r == 0)
        r = next_result(pg, deadline_ns, &result, error);
    if (r == 0 && PQresultStatus(result) != wanted)
        r = refused(pg, result, error);
    if (r == 0)
        r = next_result(pg, deadline_ns, &more, error);
    PQclear(more);
    if (r < 0) {
        PQclear(result);
        return r;
    }
    *out = result;
    return 0;
}

/* -- opening --------------------------------------------------------------------------------------------------------------- */

/* A password there could be read by whoever reads the configuration. */
static int check_where(const char *where, char error[DATABASE_ERROR_MAX])
{
    char *words = NULL;
    bool has_password = false;
    PQconninfoOption *all = PQconninfoParse(where, &words);

    if (all == NULL) {
        put_words(error, "accounts_pgsql: ", words);
        PQfreemem(words);
        return -EINVAL;
    }
    for (const PQconninfoOption *i = all; i->keyword != NULL; i++)
        has_password = has_password || (strcmp(i->keyword, "password") == 0 && i->val != NULL);
    PQconninfoFree(all);
    if (has_password)
        snprintf(error, DATABASE_ERROR_MAX, "accounts_pgsql: the password belongs in a file that accounts_pgsql_password names");
    return has_password ? -EINVAL : 0;
}

static int wait_connected(PGconn *pg, int64_t deadline_ns, char error[DATABASE_ERROR_MAX])
{
    PostgresPollingStatusType state = PGRES_POLLING_WRITING;

    while (state != PGRES_POLLING_OK) {
        if (state == PGRES_POLLING_FAILED || PQstatus(pg) == CONNECTION_BAD)
            return broken(pg, error);
        int r = wait_for(pg, state == PGRES_POLLING_WRITING, deadline_ns, error);
        if (r < 0)
            return r;
        state = PQconnectPoll(pg);
    }
    return PQsetnonblocking(pg, 1) == 0 ? 0 : broken(pg, error);
}

static int start(const struct database_options *o, PGconn **out, char error[DATABASE_ERROR_MAX])
{
    char password[KEEPER_PASSWORD_MAX + 1], ms[NUMBER_MAX];
    /* Later ones win: what the operator says against the first three, ours against the operator's. A host that does not even answer gets
     * half the time: there may be a second. */
    const char *names[] = { "gssencmode", "fallback_application_name", "tcp_user_timeout", "dbname", "client_encoding",
                            o->password_file != NULL ? "password" : NULL, NULL };
    const char *values[] = { "disable", "nightmail", ms, o->where, "UTF8", password, NULL };

    int r = o->password_file == NULL ? 0 : keeper_credential_blocking(o->password_file, password);
    if (r < 0) {
        snprintf(error, DATABASE_ERROR_MAX, "%s: %s", o->password_file, r == -EINVAL ? "its first line is no password" : strerror(-r));
        return -EINVAL;
    }
    snprintf(ms, sizeof ms, "%lld", (long long)(o->timeout_ns / 2 / NS_PER_MS));
    *out = PQconnectStartParams(names, values, 1);
    explicit_bzero(password, sizeof password);
    if (*out == NULL)
        snprintf(error, DATABASE_ERROR_MAX, "no memory");
    return *out == NULL ? -ENOMEM : 0;
}

/* The server ends what we no longer wait for, and lets us read only. */
static int limit(PGconn *pg, int64_t timeout_ns, int64_t deadline_ns, char error[DATABASE_ERROR_MAX])
{
    char ms[NUMBER_MAX];
    const char *values[] = { ms };
    PGresult *result;

    snprintf(ms, sizeof ms, "%lld", (long long)(timeout_ns / NS_PER_MS));
    if (PQsendQueryParams(pg, "SELECT set_config('statement_timeout', $1, false), set_config('default_transaction_read_only', 'on', false)", 1, NULL,
                          values, NULL, NULL, 0) == 0)
        return broken(pg, error);
    int r = only_result(pg, PGRES_TUPLES_OK, deadline_ns, &result, error);
    if (r == 0)
        PQclear(result);
    return r;
}

static int check_described(const PGresult *d, bool *out_has_scram, char error[DATABASE_ERROR_MAX])
{
    const char *names[LOOKUP_COLUMNS_MAX + 1];
    unsigned count = 0, all = (unsigned)PQnfields(d);

    for (; count < all && count < LOOKUP_COLUMNS_MAX + 1; count++)
        names[count] = PQfname(d, (int)count);
    const char *why = PQnparams(d) != 1 ? "the query needs one parameter, $1: the login" : row_check(names, count, out_has_scram);
    if (why != NULL)
        snprintf(error, DATABASE_ERROR_MAX, "%s", why);
    return why == NULL ? 0 : -EINVAL;
}

/* The server's judgement of the query, before anybody asks it. */
static int prepare(PGconn *pg, const char *query, int64_t deadline_ns, bool *out_has_scram, char error[DATABASE_ERROR_MAX])
{
    PGresult *result;

    if (PQsendPrepare(pg, "", query, 0, NULL) == 0)
        return broken(pg, error);
    int r = only_result(pg, PGRES_COMMAND_OK, deadline_ns, &result, error);
    if (r < 0)
        return r;
    PQclear(result);
    if (PQsendDescribePrepared(pg, "") == 0)
        return broken(pg, error);
    r = only_result(pg, PGRES_COMMAND_OK, deadline_ns, &result, error);
    if (r < 0)
        return r;
    r = check_described(result, out_has_scram, error);
    PQclear(result);
    return r;
}

static void pgsql_close(void *connection)
{
    struct connection *c = connection;

    PQfinish(c->pg);
    free(c);
}

static int pgsql_open(const struct database_options *o, int64_t deadline_ns, void **out, bool *out_has_scram, char error[DATABASE_ERROR_MAX])
{
    struct connection *c = calloc(1, sizeof *c);

    if (c == NULL) {
        snprintf(error, DATABASE_ERROR_MAX, "no memory");
        return -ENOMEM;
    }
    c->query = o->query;
    int r = check_where(o->where, error);
    if (r == 0)
        r = start(o, &c->pg, error);
    if (r == 0)
        r = wait_connected(c->pg, deadline_ns, error);
    if (r == 0)
        r = limit(c->pg, o->timeout_ns, deadline_ns, error);
    if (r == 0)
        r = prepare(c->pg, o->query, deadline_ns, out_has_scram, error);
    if (r < 0) {
        pgsql_close(c);
        return r;
    }
    *out = c;
    return 0;
}

/* -- asking ---------------------------------------------------------------------------------------------------------------- */

static int read_row(const PGresult *result, const char *login, struct keeper_record *out, char error[DATABASE_ERROR_MAX])
{
    struct row row = { .count = (unsigned)PQnfields(result) };
    const char *why = row.count > LOOKUP_COLUMNS_MAX ? "the query gives other columns than before" : NULL;

    for (unsigned i = 0; why == NULL && i < row.count; i++) {
        row.names[i] = PQfname(result, (int)i);
        if (!PQgetisnull(result, 0, (int)i))
            row.values[i] = (struct str){ PQgetvalue(result, 0, (int)i), (size_t)PQgetlength(result, 0, (int)i) };
    }
    if (why == NULL)
        why = row_read(&row, login, out);
    if (why != NULL)
        snprintf(error, DATABASE_ERROR_MAX, "%s", why);
    return why == NULL ? 0 : -EBADMSG;
}

static bool is_not_comparable(const PGresult *result)
{
    const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);

    for (size_t i = 0; state != NULL && i < sizeof not_comparable / sizeof not_comparable[0]; i++)
        if (strcmp(state, not_comparable[i]) == 0)
            return true;
    return false;
}

/* Row by row: a query that gives them all fills no memory. A second one would leave open which of the two may log in. */
static int take_result(PGconn *pg, const PGresult *result, const char *login, bool *found, struct keeper_record *record, char error[DATABASE_ERROR_MAX])
{
    ExecStatusType status = PQresultStatus(result);

    if (status == PGRES_TUPLES_OK || (status == PGRES_FATAL_ERROR && is_not_comparable(result)))
        return 0;
    if (status != PGRES_SINGLE_TUPLE)
        return refused(pg, result, error);
    if (*found) {
        snprintf(error, DATABASE_ERROR_MAX, "the query gives more than one row");
        return -EBADMSG;
    }
    *found = true;
    return read_row(result, login, record, error);
}

static int pgsql_ask(void *connection, const char *login, int64_t deadline_ns, bool *out_found, struct keeper_record *out,
                     char error[DATABASE_ERROR_MAX])
{
    struct connection *c = connection;
    struct keeper_record record;
    PGresult *result = NULL;
    bool found = false;

    if (PQsendQueryParams(c->pg, c->query, 1, NULL, &login, NULL, NULL, 0) == 0 || PQsetSingleRowMode(c->pg) == 0)
        return broken(c->pg, error);
    int r = flush(c->pg, deadline_ns, error);
    while (r == 0 && (r = next_result(c->pg, deadline_ns, &result, error)) == 0 && result != NULL) {
        r = take_result(c->pg, result, login, &found, &record, error);
        PQclear(result);
    }
    if (r == 0) {
        if (found)
            *out = record;
        *out_found = found;
    }
    explicit_bzero(&record, sizeof record);
    return r;
}

const struct database database_pgsql = { .open = pgsql_open, .ask = pgsql_ask, .close = pgsql_close };
