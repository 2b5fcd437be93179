/*
 * SHA-256 by OpenSSL, HMAC and PBKDF2 from it.
 *
 * Its low-level calls, although OpenSSL 3 prefers others: they allocate nothing and cannot fail, while an EVP digest
 * allocates at every use and would give each caller an error that it could do nothing about. Runs in every process.
 */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "base/digest.h"
#include <openssl/crypto.h>
#include <openssl/sha.h>
#include <assert.h>
#include <stdlib.h>
#include <string.h>

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

/* -- HMAC ------------------------------------------------------------------------------------------------------------- */

/* The two hashes after their block of key: PBKDF2 goes on from here thousands of times. */
struct hmac_key {
    SHA256_CTX inner, outer;
};

static void hmac_key_set(struct hmac_key *k, struct str key)
{
    uint8_t block[SHA256_CBLOCK] = { 0 };

    if (key.n > sizeof block)
        digest_sha256(key, block);
    else if (key.n > 0)
        memcpy(block, key.p, key.n);
    for (size_t i = 0; i < sizeof block; i++)
        block[i] ^= 0x36;
    (void)SHA256_Init(&k->inner);
    (void)SHA256_Update(&k->inner, block, sizeof block);
    for (size_t i = 0; i < sizeof block; i++)
        block[i] ^= 0x36 ^ 0x5c;
    (void)SHA256_Init(&k->outer);
    (void)SHA256_Update(&k->outer, block, sizeof block);
    OPENSSL_cleanse(block, sizeof block);
}

static void hmac(const struct hmac_key *k, struct str in, struct str more, uint8_t out[DIGEST_SHA256_LEN])
{
    SHA256_CTX state = k->inner;

    add(&state, in);
    add(&state, more);
    (void)SHA256_Final(out, &state);
    state = k->outer;
    (void)SHA256_Update(&state, out, DIGEST_SHA256_LEN);
    (void)SHA256_Final(out, &state);
    OPENSSL_cleanse(&state, sizeof state);
}

void digest_hmac(struct str key, struct str in, uint8_t out[DIGEST_SHA256_LEN])
{
    struct hmac_key k;

    hmac_key_set(&k, key);
    hmac(&k, in, STR(""), out);
    OPENSSL_cleanse(&k, sizeof k);
}

void digest_pbkdf2(struct str password, struct str salt, uint32_t iterations, uint8_t out[DIGEST_SHA256_LEN])
{
    struct hmac_key k;
    uint8_t         u[DIGEST_SHA256_LEN];

    assert(iterations > 0);
    hmac_key_set(&k, password);
    hmac(&k, salt, (struct str){ "\0\0\0\1", 4 }, u); /* the first block is all that 32 bytes need */
    memcpy(out, u, sizeof u);
    for (uint32_t i = 1; i < iterations; i++) {
        hmac(&k, (struct str){ (const char *)u, sizeof u }, STR(""), u);
        for (size_t b = 0; b < sizeof u; b++)
            out[b] ^= u[b];
    }
    OPENSSL_cleanse(&k, sizeof k);
    OPENSSL_cleanse(u, sizeof u);
}

bool digest_equal(const void *a, const void *b, size_t n)
{
    return CRYPTO_memcmp(a, b, n) == 0;
}
