/*
 * What the keeper's files know of each other.
 */
#ifndef RUN_KEEPER_INTERNAL_H
#define RUN_KEEPER_INTERNAL_H

#include "run/keeper_accounts.h"

/* -- keeper_crypt.c; both BLOCK for as long as a hash takes */

/* Whether the password gives this hash. False as well for a hash of a kind that crypt(3) does not know. */
bool keeper_crypt_check(struct str password, const char *hash);

/* A hash of the kind that crypt(5) prefers. -EINVAL: the password is empty, too long, or has a NUL in it; -ENOMEM. */
int  keeper_crypt_new(struct str password, char out_hash[ACCOUNTS_HASH_MAX + 1]);

/* Whether crypt(3) knows that kind of hash; one that locks an account ("!", "*") it does not. */
bool keeper_crypt_knows(const char *hash);

#endif
