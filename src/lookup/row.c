/*
 * Columns by their names, and values that are no surprise; the contract is in row.h.
 */
#include "lookup/row.h"
#include <string.h>

enum column { COLUMN_PASSWORD, COLUMN_SCRAM, COLUMN_ENABLED, COLUMN_LOGIN, COLUMNS };

_Static_assert(COLUMNS == LOOKUP_COLUMNS_MAX, "each once");

static const char *const column_names[COLUMNS] = { "password", "scram", "enabled", "login" };
static const char *const truths[] = { "t", "true", "y", "yes", "on", "1" };

/* COLUMNS: it is none of them. */
static enum column column_of(const char *name)
{
    unsigned i = 0;

    while (i < COLUMNS && !str_eq_nocase(str_of(name), str_of(column_names[i])))
        i++;
    return (enum column)i;
}

const char *row_check(const char *const *names, unsigned count, bool *out_has_scram)
{
    bool seen[COLUMNS] = { false };

    for (unsigned i = 0; i < count; i++) {
        enum column c = column_of(names[i]);
        if (c == COLUMNS)
            return "the query gives a column that is none of password, scram, enabled, login";
        if (seen[c])
            return "the query gives a column twice";
        seen[c] = true;
    }
    if (!seen[COLUMN_PASSWORD])
        return "the query gives no column named password";
    *out_has_scram = seen[COLUMN_SCRAM];
    return NULL;
}

static bool is_true(struct str v)
{
    for (size_t i = 0; i < sizeof truths / sizeof truths[0]; i++)
        if (str_eq_nocase(v, str_of(truths[i])))
            return true;
    return false;
}

static const char *read_hash(struct str v, struct keeper_record *out)
{
    if (v.n > ACCOUNTS_HASH_MAX)
        return "the password's hash is too long";
    if (v.n > 0 && memchr(v.p, '\0', v.n) != NULL)
        return "the password's hash has a NUL in it";
    if (v.n > 0)
        memcpy(out->hash, v.p, v.n);     /* the rest is NUL */
    return NULL;
}

static const char *read_login(struct str v, struct keeper_record *out)
{
    if (!accounts_login_valid(v))
        return "its login is no name of a login";
    memset(out->login, 0, sizeof out->login);
    memcpy(out->login, v.p, v.n);
    return NULL;
}

static const char *read_value(enum column c, struct str v, struct keeper_record *out, bool *out_locked)
{
    switch (c) {
    case COLUMN_PASSWORD: return read_hash(v, out);
    case COLUMN_SCRAM:
        out->has_scram = v.n > 0;
        return v.n == 0 || accounts_parse_verifier(v, &out->scram, &out->keys) ? NULL : "its scram is no SCRAM-SHA-256 verifier";
    case COLUMN_ENABLED: *out_locked = !is_true(v); return NULL;
    case COLUMN_LOGIN: return read_login(v, out);
    case COLUMNS: break;
    }
    return "the query gives other columns than before";
}

const char *row_read(const struct row *r, const char *login, struct keeper_record *out)
{
    bool locked = false, has_scram;
    const char *why = row_check(r->names, r->count, &has_scram);

    memset(out, 0, sizeof *out);
    if (why == NULL)
        why = read_login(str_of(login), out);
    for (unsigned i = 0; why == NULL && i < r->count; i++)
        why = read_value(column_of(r->names[i]), r->values[i], out, &locked);
    if (why != NULL)
        explicit_bzero(out, sizeof *out);
    else if (locked)
        out->hash[0] = '\0';
    return why;
}
