/*
 * SCRAM's arithmetic; names are those of RFC 5802, 3. Runs in every process.
 */
#include "base/scram.h"
#include <string.h>

static struct str bytes(const uint8_t sum[DIGEST_SHA256_LEN]) { return (struct str){ (const char *)sum, DIGEST_SHA256_LEN }; }

/* ClientKey is what a proof hides; StoredKey its hash; ServerKey the other branch. */
static void derive(struct str password, struct str salt, uint32_t iterations, uint8_t client[DIGEST_SHA256_LEN], struct scram_keys *out)
{
    uint8_t salted[DIGEST_SHA256_LEN];

    digest_pbkdf2(password, salt, iterations, salted);
    digest_hmac(bytes(salted), STR("Client Key"), client);
    digest_sha256(bytes(client), out->stored);
    digest_hmac(bytes(salted), STR("Server Key"), out->server);
    explicit_bzero(salted, sizeof salted);
}

void scram_derive(struct str password, struct str salt, uint32_t iterations, struct scram_keys *out)
{
    uint8_t client[DIGEST_SHA256_LEN];

    derive(password, salt, iterations, client, out);
    explicit_bzero(client, sizeof client);
}

void scram_prove(struct str password, struct str salt, uint32_t iterations, struct str auth_message, uint8_t out_proof[DIGEST_SHA256_LEN],
                 uint8_t out_signature[DIGEST_SHA256_LEN])
{
    uint8_t client[DIGEST_SHA256_LEN], signature[DIGEST_SHA256_LEN];
    struct scram_keys keys;

    derive(password, salt, iterations, client, &keys);
    digest_hmac(bytes(keys.stored), auth_message, signature);
    for (size_t i = 0; i < sizeof client; i++)
        out_proof[i] = client[i] ^ signature[i];
    digest_hmac(bytes(keys.server), auth_message, out_signature);
    explicit_bzero(client, sizeof client);
    explicit_bzero(&keys, sizeof keys);
}

bool scram_check(const struct scram_keys *keys, struct str auth_message, const uint8_t proof[DIGEST_SHA256_LEN],
                 uint8_t out_signature[DIGEST_SHA256_LEN])
{
    uint8_t client[DIGEST_SHA256_LEN], hash[DIGEST_SHA256_LEN], signature[DIGEST_SHA256_LEN];

    digest_hmac(bytes(keys->stored), auth_message, client);
    for (size_t i = 0; i < sizeof client; i++)
        client[i] ^= proof[i];
    digest_sha256(bytes(client), hash);
    digest_hmac(bytes(keys->server), auth_message, signature);
    bool right = digest_equal(hash, keys->stored, sizeof hash);
    explicit_bzero(client, sizeof client);
    if (right)
        memcpy(out_signature, signature, sizeof signature);
    return right;
}
