/*
 * What the keeper's files know of each other.
 *
 * What stands in run/keeper.h and run/keeper_key.h is there twice: near, done by this process, and far, asked of the keeper's process
 * over a line (run/line.h). keeper.c takes the one or the other.
 */
#ifndef RUN_KEEPER_INTERNAL_H
#define RUN_KEEPER_INTERNAL_H

#include "run/keeper_source.h"

/* -- near: keeper_password.c, keeper_credential.c, keeper_key.c */

int  keeper_near_start(const struct keeper_options *options, char out_error[256]);
int  keeper_near_reload(const struct keeper_options *options, char out_error[256]);
void keeper_near_stop(void);
bool keeper_near_has_scram(void);
enum keeper_verdict keeper_near_check_password(struct str login, struct str password, char out_login[KEEPER_LOGIN_MAX + 1]);
enum keeper_verdict keeper_near_scram_parameters(struct str login, struct keeper_scram *out);
enum keeper_verdict keeper_near_scram_check(struct str login, struct str auth_message, const uint8_t proof[DIGEST_SHA256_LEN],
                                            uint8_t out_signature[DIGEST_SHA256_LEN], char out_login[KEEPER_LOGIN_MAX + 1]);
int  keeper_near_credential(const char *path, char out_password[KEEPER_PASSWORD_MAX + 1]);
int  keeper_near_credential_blocking(const char *path, char out_password[KEEPER_PASSWORD_MAX + 1]);
int  keeper_near_key_open(const char *path, uint64_t *out_key, struct buf *out_public, char out_error[256]);
void keeper_near_key_close(uint64_t key);
int  keeper_near_key_sign(uint64_t key, enum keeper_scheme scheme, struct str in, uint8_t out[KEEPER_SIGNATURE_MAX]);

/* -- far: keeper_far.c */

/* What is asked; what the fields of a message mean stands beside each: question -> answer. A negative result is an errno: -EAGAIN busy. */
enum keeper_op {
    KEEPER_OP_STATE = 1,                 /* nothing -> number: there are verifiers */
    KEEPER_OP_PASSWORD,                  /* login, password -> result: the verdict; login */
    KEEPER_OP_SCRAM_PARAMETERS,          /* login -> result: the verdict; number: iterations; salt */
    KEEPER_OP_SCRAM_CHECK,               /* login, auth message, proof -> result: the verdict; signature, login */
    KEEPER_OP_CREDENTIAL,                /* path -> result; the password */
    KEEPER_OP_KEY_OPEN,                  /* path -> result; number: the key's; its public half, or an error in words */
    KEEPER_OP_KEY_CLOSE,                 /* number */
    KEEPER_OP_KEY_SIGN,                  /* number; result: the scheme; what to sign -> result; the signature */
    KEEPER_OP_RELOAD,                    /* nothing -> result; an error in words */
};

bool keeper_is_far(void);
int  keeper_far_reload(char out_error[256]);
void keeper_far_stop(void);
bool keeper_far_has_scram(void);
enum keeper_verdict keeper_far_check_password(struct str login, struct str password, char out_login[KEEPER_LOGIN_MAX + 1]);
enum keeper_verdict keeper_far_scram_parameters(struct str login, struct keeper_scram *out);
enum keeper_verdict keeper_far_scram_check(struct str login, struct str auth_message, const uint8_t proof[DIGEST_SHA256_LEN],
                                           uint8_t out_signature[DIGEST_SHA256_LEN], char out_login[KEEPER_LOGIN_MAX + 1]);
int  keeper_far_credential(const char *path, char out_password[KEEPER_PASSWORD_MAX + 1]);
int  keeper_far_key_open(const char *path, uint64_t *out_key, struct buf *out_public, char out_error[256]);
void keeper_far_key_close(uint64_t key);
int  keeper_far_key_sign(uint64_t key, enum keeper_scheme scheme, struct str in, uint8_t out[KEEPER_SIGNATURE_MAX]);

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
