/*
 * Where accounts come from: what the keeper asks, and what it is told. The password file is one source (keeper_file.c), a database
 * another (lookup/accounts.h); run/ does not know lookup/, so whoever starts the keeper hands it over.
 *
 * A source only finds. What is right is decided in keeper_password.c, for all of them alike.
 */
#ifndef RUN_KEEPER_SOURCE_H
#define RUN_KEEPER_SOURCE_H

#include "run/keeper_accounts.h"
#include <stdatomic.h>

/* An account by value. Whoever has one wipes it. */
struct keeper_record {
    char                login[KEEPER_LOGIN_MAX + 1];     /* as the source spells it */
    char                hash[ACCOUNTS_HASH_MAX + 1];     /* of a kind that crypt(3) does not know: locked */
    bool                has_scram;
    struct keeper_scram scram;
    struct scram_keys   keys;
};

enum keeper_found {
    KEEPER_FOUND,
    KEEPER_NOT_FOUND,
    KEEPER_FIND_LATER,                   /* too many are asking */
    KEEPER_FIND_FAILED,                  /* nobody knows: the source cannot answer. It has said so in the log */
};

struct keeper_source;

struct keeper_source_ops {
    /* Awaits. login: 1 to KEEPER_LOGIN_MAX bytes of what a peer sent. The record only with KEEPER_FOUND. */
    enum keeper_found (*find)(struct keeper_source *s, struct str login, struct keeper_record *out);
    /* Of another account, always the same one for a login: what a check for a login that is not there may cost. False: there is
     * none. NULL where a source cannot tell; then the account that was found last stands in. */
    bool (*stand_in)(struct keeper_source *s, struct str login, struct keeper_record *out);
    /* From which invented salts are made; false, or NULL: the source has none. */
    bool (*salt_key)(struct keeper_source *s, uint8_t out[DIGEST_SHA256_LEN]);
    bool (*has_scram)(struct keeper_source *s);          /* there are verifiers; does not wait */
    void (*free)(struct keeper_source *s);
};

/* The first member of each source's own struct. */
struct keeper_source {
    const struct keeper_source_ops *ops;
    atomic_uint                     refs;                /* 1 at first */
};

static inline struct keeper_source *keeper_source_ref(struct keeper_source *s)
{
    atomic_fetch_add(&s->refs, 1);
    return s;
}

static inline void keeper_source_unref(struct keeper_source *s)      /* NULL is fine */
{
    if (s != NULL && atomic_fetch_sub(&s->refs, 1) == 1)
        s->ops->free(s);
}

#endif
