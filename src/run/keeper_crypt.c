/*
 * crypt(3) as libxcrypt has it: yescrypt for new hashes, and whatever kinds it knows for old ones.
 *
 * Its working area is 32 KiB and its work takes tens of milliseconds: these are called from helper threads, or by a command.
 */
#include "base/clock.h"
#include "run/keeper_internal.h"
#include <crypt.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define RANDOM_LEN 32                    /* bytes for a new salt: more than any kind takes */

_Static_assert(ACCOUNTS_HASH_MAX + 1 >= CRYPT_OUTPUT_SIZE && KEEPER_PASSWORD_MAX + 1 <= CRYPT_MAX_PASSPHRASE_SIZE, "what crypt(3) gives and takes");

/* crypt_r into out; false where it gives one of its marks of failure ("*0", "*1"). */
static bool hash_with(struct str password, const char *setting, char out[CRYPT_OUTPUT_SIZE])
{
    struct crypt_data *work = calloc(1, sizeof *work);
    char phrase[KEEPER_PASSWORD_MAX + 1] = { 0 };

    if (work == NULL || password.n > KEEPER_PASSWORD_MAX) {
        free(work);
        return false;
    }
    if (password.n > 0)
        memcpy(phrase, password.p, password.n);
    const char *hash = crypt_r(phrase, setting, work);
    bool ok = hash != NULL && hash[0] != '*';
    if (ok)
        memcpy(out, hash, strlen(hash) + 1);
    explicit_bzero(phrase, sizeof phrase);
    explicit_bzero(work, sizeof *work);
    free(work);
    return ok;
}

bool keeper_crypt_check(struct str password, const char *hash)
{
    char made[CRYPT_OUTPUT_SIZE];
    size_t n = strlen(hash);

    if (password.n > KEEPER_PASSWORD_MAX || (password.n > 0 && memchr(password.p, '\0', password.n) != NULL) || !hash_with(password, hash, made))
        return false;
    bool same = strlen(made) == n && digest_equal(made, hash, n);
    explicit_bzero(made, sizeof made);
    return same;
}

int keeper_crypt_new(struct str password, char out_hash[ACCOUNTS_HASH_MAX + 1])
{
    char random[RANDOM_LEN], setting[CRYPT_GENSALT_OUTPUT_SIZE];

    if (password.n == 0 || password.n > KEEPER_PASSWORD_MAX || memchr(password.p, '\0', password.n) != NULL)
        return -EINVAL;
    clock_random(random, sizeof random);
    if (crypt_gensalt_rn(NULL, 0, random, sizeof random, setting, sizeof setting) == NULL)
        return -errno;
    return hash_with(password, setting, out_hash) ? 0 : -ENOMEM;
}

bool keeper_crypt_knows(const char *hash)
{
    int r = crypt_checksalt(hash);
    return r != CRYPT_SALT_INVALID && r != CRYPT_SALT_METHOD_DISABLED && hash[0] != '!' && hash[0] != '*';
}
