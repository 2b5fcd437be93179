/*
 * What the codec's test needs to see of it.
 */
#ifndef BASE_CODEC_INTERNAL_H
#define BASE_CODEC_INTERNAL_H

#include "base/str.h"

/* CRC-32C by table: what codec_crc32c does where the CPU has no instruction. */
uint32_t codec_crc32c_table(uint32_t seed, const void *p, size_t n);

#endif
