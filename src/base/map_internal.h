/*
 * What the map's test needs to see of it.
 */
#ifndef BASE_MAP_INTERNAL_H
#define BASE_MAP_INTERNAL_H

#include "base/str.h"

/* SipHash-2-4 with 64 bits of result (Aumasson and Bernstein, 2012). */
uint64_t map_siphash(const uint8_t key[16], struct str s);

#endif
