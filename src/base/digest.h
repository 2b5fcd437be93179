/*
 * SHA-256, one-shot and in pieces (OpenSSL's).
 */
#ifndef BASE_DIGEST_H
#define BASE_DIGEST_H

#include "base/str.h"

#define DIGEST_SHA256_LEN 32

struct digest;

void digest_sha256(struct str in, uint8_t out[DIGEST_SHA256_LEN]);

struct digest *digest_new(void);                                           /* NULL without memory */
void           digest_add(struct digest *d, struct str in);
void           digest_end(struct digest *d, uint8_t out[DIGEST_SHA256_LEN]); /* then only digest_free */
void           digest_free(struct digest *d);

#endif
