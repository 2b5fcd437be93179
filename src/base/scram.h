/*
 * The arithmetic of SCRAM-SHA-256 (RFC 5802, 3; RFC 7677): keys from a password, proofs and signatures from keys. Pure.
 *
 * Both ends need it, and so does whoever keeps accounts; the messages of the mechanism are smtp/sasl_scram.c's.
 */
#ifndef BASE_SCRAM_H
#define BASE_SCRAM_H

#include "base/digest.h"
#include "base/str.h"

/* What a server keeps instead of the password. */
struct scram_keys {
    uint8_t stored[DIGEST_SHA256_LEN];
    uint8_t server[DIGEST_SHA256_LEN];
};

/* Takes as long as `iterations` want it to: not on a loop's thread. */
void scram_derive(struct str password, struct str salt, uint32_t iterations, struct scram_keys *out);

/* The client's: its proof, and the signature it expects back. As slow as scram_derive. */
void scram_prove(struct str password, struct str salt, uint32_t iterations, struct str auth_message, uint8_t out_proof[DIGEST_SHA256_LEN],
                 uint8_t out_signature[DIGEST_SHA256_LEN]);

/* The server's: whether the proof is of these keys; the signature only then. Always takes the same time. */
bool scram_check(const struct scram_keys *keys, struct str auth_message, const uint8_t proof[DIGEST_SHA256_LEN],
                 uint8_t out_signature[DIGEST_SHA256_LEN]);

#endif
