/*
 * The keeper's part for private keys: who asks gets a signature, never the key.
 *
 * A key is known by its number, which is made from its public half: it is the same for a keeper that was started again. Everything crosses
 * this door by value, as behind run/keeper.h: this process or one of its own stands behind it. Questions may come from any thread.
 */
#ifndef RUN_KEEPER_KEY_H
#define RUN_KEEPER_KEY_H

#include "base/buf.h"
#include <stdint.h>

#define KEEPER_KEYS_MAX      1024        /* open at a time */
#define KEEPER_SIGNATURE_MAX 1024        /* bytes: RSA with 8192 bits */
#define KEEPER_PUBLIC_MAX    4096        /* bytes of a public key in DER */

/* Reads the key in a file (PEM, RSA or EC, without a pass phrase); its public half goes into out_public as DER (RFC 5280's
 * SubjectPublicKeyInfo). BLOCKS. -EINVAL for what the file holds, -ENFILE, -ENOMEM, or the file's error; out_error says it in words. */
int  keeper_key_open(const char *path, uint64_t *out_key, struct buf *out_public, char out_error[256]);
void keeper_key_close(uint64_t key);     /* 0 is none */

enum keeper_scheme {
    KEEPER_ECDSA,                        /* of a digest */
    KEEPER_RSA_PKCS1,                    /* of a DigestInfo (RFC 8017, 9.2) */
    KEEPER_RSA_PADDED,                   /* of a block that the caller has padded: PSS */
};

/* Awaits the keeper's process where there is one (BLOCKS outside of tasks). The signature's length; negative if it cannot be made (-EINVAL: not that kind of key). */
int  keeper_key_sign(uint64_t key, enum keeper_scheme scheme, struct str in, uint8_t out[KEEPER_SIGNATURE_MAX]);

#endif
