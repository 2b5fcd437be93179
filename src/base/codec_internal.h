/*
 * What the codec's test needs to see of it, and how its files share UTF-8.
 */
#ifndef BASE_CODEC_INTERNAL_H
#define BASE_CODEC_INTERNAL_H

#include "base/str.h"

/* CRC-32C by table: what codec_crc32c does where the CPU has no instruction. */
uint32_t codec_crc32c_table(uint32_t seed, const void *p, size_t n);

/* The character that s begins with, s not empty: its length in bytes (1 to 4) and its code point, or 0 if it is not UTF-8
 * (RFC 3629: no overlong forms, no surrogates, nothing beyond U+10FFFF). */
size_t codec_utf8(struct str s, uint32_t *out);

#endif
