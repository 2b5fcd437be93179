/*
 * The door of run/keeper.h and run/keeper_key.h: near, where this process is the keeper too (the operator's commands, the simulated
 * world, the unit tests), or far, where another one is (the worker of `nightmail serve`).
 */
#include "run/keeper_internal.h"

int keeper_start(const struct keeper_options *options, char out_error[256]) { return keeper_near_start(options, out_error); }

int keeper_reload(const struct keeper_options *options, char out_error[256])
{
    return keeper_is_far() ? keeper_far_reload(out_error) : keeper_near_reload(options, out_error);
}

void keeper_stop(void)
{
    if (keeper_is_far())
        keeper_far_stop();
    else
        keeper_near_stop();
}

enum keeper_verdict keeper_check_password(struct str login, struct str password, char out_login[KEEPER_LOGIN_MAX + 1])
{
    return keeper_is_far() ? keeper_far_check_password(login, password, out_login) : keeper_near_check_password(login, password, out_login);
}

bool keeper_has_scram(void) { return keeper_is_far() ? keeper_far_has_scram() : keeper_near_has_scram(); }

enum keeper_verdict keeper_scram_parameters(struct str login, struct keeper_scram *out)
{
    return keeper_is_far() ? keeper_far_scram_parameters(login, out) : keeper_near_scram_parameters(login, out);
}

enum keeper_verdict keeper_scram_check(struct str login, struct str auth_message, const uint8_t proof[DIGEST_SHA256_LEN],
                                       uint8_t out_signature[DIGEST_SHA256_LEN], char out_login[KEEPER_LOGIN_MAX + 1])
{
    return keeper_is_far() ? keeper_far_scram_check(login, auth_message, proof, out_signature, out_login)
                           : keeper_near_scram_check(login, auth_message, proof, out_signature, out_login);
}

int keeper_credential(const char *path, char out_password[KEEPER_PASSWORD_MAX + 1])
{
    return keeper_is_far() ? keeper_far_credential(path, out_password) : keeper_near_credential(path, out_password);
}

int keeper_credential_blocking(const char *path, char out_password[KEEPER_PASSWORD_MAX + 1])
{
    return keeper_is_far() ? keeper_far_credential(path, out_password) : keeper_near_credential_blocking(path, out_password);
}

int keeper_key_open(const char *path, uint64_t *out_key, struct buf *out_public, char out_error[256])
{
    return keeper_is_far() ? keeper_far_key_open(path, out_key, out_public, out_error) : keeper_near_key_open(path, out_key, out_public, out_error);
}

void keeper_key_close(uint64_t key)
{
    if (keeper_is_far())
        keeper_far_key_close(key);
    else
        keeper_near_key_close(key);
}

int keeper_key_sign(uint64_t key, enum keeper_scheme scheme, struct str in, uint8_t out[KEEPER_SIGNATURE_MAX])
{
    return keeper_is_far() ? keeper_far_key_sign(key, scheme, in, out) : keeper_near_key_sign(key, scheme, in, out);
}
