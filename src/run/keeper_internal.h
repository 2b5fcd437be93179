/*
 * What the keeper's files know of each other.
 */
#ifndef RUN_KEEPER_INTERNAL_H
#define RUN_KEEPER_INTERNAL_H

#include "run/keeper_source.h"

/* -- keeper_file.c */

struct offload;

/* Reads the file: BLOCKS. looks: the pool, of one thread, where it is looked at later; it outlives the source. A negative errno with the
 * reason in words. */
int  keeper_file_new(const char *path, struct offload *looks, struct keeper_source **out, char error[256]);

/* -- keeper_password.c */

/* A keyed hash of a login's name, whatever its case. */
void keeper_login_sum(const uint8_t key[DIGEST_SHA256_LEN], struct str login, uint8_t out[DIGEST_SHA256_LEN]);

/* -- keeper_crypt.c; both BLOCK for as long as a hash takes */

/* Whether the password gives this hash. False as well for a hash of a kind that crypt(3) does not know. */
bool keeper_crypt_check(struct str password, const char *hash);

/* A hash of the kind that crypt(5) prefers. -EINVAL: the password is empty, too long, or has a NUL in it; -ENOMEM. */
int  keeper_crypt_new(struct str password, char out_hash[ACCOUNTS_HASH_MAX + 1]);

/* Whether crypt(3) knows that kind of hash; one that locks an account ("!", "*") it does not. */
bool keeper_crypt_knows(const char *hash);

#endif
