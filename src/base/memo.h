/*
 * Answers that are remembered for a while: small values by the SHA-256 of what was asked. A table of a fixed size: a new answer in the
 * place of an older one forgets that, so nothing grows and nothing is ever walked. From any thread; the lock spans a copy.
 */
#ifndef BASE_MEMO_H
#define BASE_MEMO_H

#include "base/buf.h"
#include "base/digest.h"

struct memo;

struct memo *memo_new(size_t slots, size_t value_max);       /* NULL without memory */
void         memo_free(struct memo *m);                      /* wipes it; NULL is fine */

/* Until until_ns (clock_mono_ns). A value longer than value_max is not remembered. */
void memo_put(struct memo *m, const uint8_t sum[DIGEST_SHA256_LEN], struct str value, int64_t until_ns);

/* Appends the value. False: none is known at now_ns; then out is untouched. */
bool memo_get(struct memo *m, const uint8_t sum[DIGEST_SHA256_LEN], int64_t now_ns, struct buf *out);

#endif
