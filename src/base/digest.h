/*
 * SHA-256, one-shot and in pieces (OpenSSL's), and what is made of it: HMAC and PBKDF2. Nothing here can fail but digest_new.
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

/* HMAC-SHA-256 (RFC 2104), and PBKDF2 with it (RFC 8018, 5.2): the first DIGEST_SHA256_LEN bytes, which SCRAM calls Hi(). */
void digest_hmac(struct str key, struct str in, uint8_t out[DIGEST_SHA256_LEN]);
void digest_pbkdf2(struct str password, struct str salt, uint32_t iterations, uint8_t out[DIGEST_SHA256_LEN]);

/* In a time that depends on n alone: for whatever must not be guessed byte by byte. */
bool digest_equal(const void *a, const void *b, size_t n);

#endif
