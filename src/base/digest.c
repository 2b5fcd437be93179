/*
 * SHA-256 by OpenSSL.
 *
 * Its low-level calls, although OpenSSL 3 prefers others: they allocate nothing and cannot fail, while an EVP digest
 * allocates at every use and would give each caller an error that it could do nothing about. Runs in every process.
 */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "base/digest.h"
#include <openssl/sha.h>
#include <stdlib.h>

struct digest {
    SHA256_CTX state;
};

static void add(SHA256_CTX *state, struct str in)
{
    if (in.n > 0)
        (void)SHA256_Update(state, in.p, in.n); /* always 1 */
}

void digest_sha256(struct str in, uint8_t out[DIGEST_SHA256_LEN])
{
    SHA256_CTX state;

    (void)SHA256_Init(&state); /* always 1 */
    add(&state, in);
    (void)SHA256_Final(out, &state);
}

struct digest *digest_new(void)
{
    struct digest *d = malloc(sizeof *d);

    if (d != NULL)
        (void)SHA256_Init(&d->state);
    return d;
}

void digest_add(struct digest *d, struct str in)
{
    add(&d->state, in);
}

void digest_end(struct digest *d, uint8_t out[DIGEST_SHA256_LEN])
{
    (void)SHA256_Final(out, &d->state);
}

void digest_free(struct digest *d)
{
    free(d);
}
