/*
 * Encodings: base64, hex, base32 ids, CRC-32C, little-endian loads, checked sums. Pure.
 */
#ifndef BASE_CODEC_H
#define BASE_CODEC_H

#include "base/buf.h"
#include "base/str.h"

void codec_put_base64(struct buf *out, struct str in);                     /* one line, padded (RFC 4648, 4) */
void codec_put_base64_lines(struct buf *out, struct str in);               /* 76 columns, CRLF after each line (RFC 2045, 6.8) */
/* Strict: no white space, padding required, no bits left over. False, out untouched, otherwise. */
bool codec_base64(struct str in, struct buf *out);
void codec_put_hex(struct buf *out, struct str in);                        /* lower case */
bool codec_hex(struct str in, struct buf *out);

/* Quoted-printable (RFC 2045, 6.7), text with CRLF line ends, and RFC 2047 encoded words for one header value: of at most 75
 * columns each, one space between them, so that the header's writer can fold there. */
void codec_put_quoted_printable(struct buf *out, struct str in);
void codec_put_encoded_words(struct buf *out, struct str utf8);            /* plain if it is printable ASCII already */

/* A 64-bit id as 13 characters of Crockford's base32 (no I, L, O, U), upper case; read back case-insensitively. */
#define CODEC_ID_LEN 13
void codec_id_format(uint64_t id, char out[CODEC_ID_LEN + 1]);
bool codec_id_parse(struct str s, uint64_t *out);

/* CRC-32C (Castagnoli), continuing from seed (0 to start); with the CPU's instruction where it has one. */
uint32_t codec_crc32c(uint32_t seed, const void *p, size_t n);

uint16_t codec_get_u16(const void *p);                                     /* little-endian */
uint32_t codec_get_u32(const void *p);
uint64_t codec_get_u64(const void *p);
void     codec_set_u16(void *p, uint16_t v);
void     codec_set_u32(void *p, uint32_t v);
void     codec_set_u64(void *p, uint64_t v);

#endif
