/*
 * Encodings; the contract is in codec.h. Pure: bytes in, bytes out. Runs in every process.
 */
#include "base/codec.h"
#include "base/codec_internal.h"
#include "base/utf8.h"
#include <assert.h>
#include <endian.h>
#include <pthread.h>
#include <string.h>
#if defined(__x86_64__)
#include <nmmintrin.h>
#elif defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

/* Base64 (RFC 4648, 4). */

enum { LINE_MAX = 76 }; /* of base64 and quoted-printable, without CRLF (RFC 2045, 6.7 (5) and 6.8) */

static const char base64_digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void codec_put_base64(struct buf *out, struct str in)
{
    for (size_t i = 0; i < in.n; i += 3) {
        size_t left = in.n - i;
        uint32_t group = (uint32_t)(uint8_t)in.p[i] << 16;
        char four[4] = { '=', '=', '=', '=' };

        if (left > 1)
            group |= (uint32_t)(uint8_t)in.p[i + 1] << 8;
        if (left > 2)
            group |= (uint8_t)in.p[i + 2];
        for (size_t k = 0; k < 4 && k <= left; k++)
            four[k] = base64_digits[group >> (18 - 6 * k) & 63];
        buf_put(out, four, sizeof four);
    }
}

void codec_put_base64_lines(struct buf *out, struct str in)
{
    enum { BYTES_PER_LINE = LINE_MAX / 4 * 3 };

    while (in.n > 0) {
        codec_put_base64(out, str_head(in, BYTES_PER_LINE));
        buf_put_str(out, STR("\r\n"));
        in = str_from(in, BYTES_PER_LINE);
    }
}

static int base64_value(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* The length of what in stands for, or -1: one text for each value, so no bits may be left over (RFC 4648, 3.5). */
static ssize_t base64_length(struct str in)
{
    if (in.n % 4 != 0)
        return -1;
    if (in.n == 0)
        return 0;
    size_t padding = in.p[in.n - 1] != '=' ? 0 : in.p[in.n - 2] != '=' ? 1 : 2;
    size_t digits = in.n - padding;
    for (size_t i = 0; i < digits; i++)
        if (base64_value(in.p[i]) < 0)
            return -1;
    int spare = padding == 0 ? 0 : padding == 1 ? 3 : 15;
    if ((base64_value(in.p[digits - 1]) & spare) != 0)
        return -1;
    return (ssize_t)(in.n / 4 * 3 - padding);
}

bool codec_base64(struct str in, struct buf *out)
{
    ssize_t n = base64_length(in);
    char *room = n < 0 ? NULL : buf_room(out, (size_t)n);

    if (room == NULL)
        return false;
    uint32_t bits = 0;
    for (size_t i = 0, at = 0; at < (size_t)n; i++) {
        bits = bits << 6 | (uint32_t)base64_value(in.p[i]);
        if (i % 4 != 0)
            room[at++] = (char)(bits >> (6 - 2 * (i % 4)));
    }
    buf_added(out, (size_t)n);
    return true;
}

/* Hex. */

static const char hex_lower[] = "0123456789abcdef";
static const char hex_upper[] = "0123456789ABCDEF";

void codec_put_hex(struct buf *out, struct str in)
{
    for (size_t i = 0; i < in.n; i++) {
        uint8_t byte = (uint8_t)in.p[i];
        buf_put(out, (char[]){ hex_lower[byte >> 4], hex_lower[byte & 15] }, 2);
    }
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = char_lower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool codec_hex(struct str in, struct buf *out)
{
    if (in.n % 2 != 0)
        return false;
    for (size_t i = 0; i < in.n; i++)
        if (hex_value(in.p[i]) < 0)
            return false;
    char *room = buf_room(out, in.n / 2);
    if (room == NULL)
        return false;
    for (size_t i = 0; i < in.n / 2; i++)
        room[i] = (char)(hex_value(in.p[2 * i]) * 16 + hex_value(in.p[2 * i + 1]));
    buf_added(out, in.n / 2);
    return true;
}

/* Quoted-printable (RFC 2045, 6.7). */

static void put_escaped(struct buf *out, uint8_t byte)
{
    buf_put(out, (char[]){ '=', hex_upper[byte >> 4], hex_upper[byte & 15] }, 3);
}

static bool at_line_end(struct str s)
{
    return s.n == 0 || str_starts(s, STR("\r\n"));
}

/* Blanks may stand for themselves except where a relay could strip them: at the end of a line (rule 3). */
static bool is_literal(char c, struct str rest)
{
    if (c == ' ' || c == '\t')
        return !at_line_end(rest);
    return c > ' ' && c < 0x7f && c != '=';
}

void codec_put_quoted_printable(struct buf *out, struct str in)
{
    size_t column = 0;

    while (in.n > 0) {
        if (str_starts(in, STR("\r\n"))) {
            buf_put_str(out, STR("\r\n"));
            in = str_from(in, 2);
            column = 0;
            continue;
        }
        char c = in.p[0];
        in = str_from(in, 1);
        bool literal = is_literal(c, in);
        size_t width = literal ? 1 : 3;
        /* The last column is kept for the "=" of a soft break, unless this ends the line. */
        if (column + width > LINE_MAX - (at_line_end(in) ? 0 : 1)) {
            buf_put_str(out, STR("=\r\n"));
            column = 0;
        }
        if (literal)
            buf_put_char(out, c);
        else
            put_escaped(out, (uint8_t)c);
        column += width;
    }
}

/* Encoded words (RFC 2047). */

#define WORD_B   "=?UTF-8?B?"
#define WORD_Q   "=?UTF-8?Q?"
#define WORD_END "?="

enum {
    WORD_MAX = 75,                                                         /* the whole word (RFC 2047, 2) */
    WORD_TEXT_MAX = WORD_MAX - (int)(sizeof WORD_Q + sizeof WORD_END - 2), /* 63 */
    WORD_BYTES_MAX = WORD_TEXT_MAX / 4 * 3,                                /* in base64 */
};

static bool is_plain(struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] < ' ' || s.p[i] > '~')
            return false;
    return str_find_str(s, STR("=?")) < 0; /* it would read as an encoded word */
}

/* The next character to send, cut off *s. What is no UTF-8 becomes U+FFFD, since the word promises UTF-8; what is a
 * control becomes a space, since the reader would find it again after decoding. */
static struct str next_character(struct str *s)
{
    uint32_t c;
    size_t n = utf8_next(*s, &c);
    struct str character = str_head(*s, n);

    *s = str_from(*s, n == 0 ? 1 : n);
    if (n == 0)
        return STR("\xef\xbf\xbd");
    return c < ' ' || c == 0x7f ? STR(" ") : character;
}

/* What may stand for itself wherever an encoded word may stand (RFC 2047, 5 (3)). */
static bool is_q_literal(char c)
{
    return char_is_alnum(c) || (c != '\0' && strchr("!*+-/ ", c) != NULL);
}

static size_t q_width(struct str s)
{
    size_t width = 0;

    for (size_t i = 0; i < s.n; i++)
        width += is_q_literal(s.p[i]) ? 1 : 3;
    return width;
}

static void put_q(struct buf *out, struct str s)
{
    for (size_t i = 0; i < s.n; i++) {
        if (!is_q_literal(s.p[i]))
            put_escaped(out, (uint8_t)s.p[i]);
        else
            buf_put_char(out, s.p[i] == ' ' ? '_' : s.p[i]); /* RFC 2047, 4.2 (2) */
    }
}

/* One word, cut off *s; a character is never split between two (RFC 2047, 5). */
static void put_word(struct buf *out, struct str *s, bool base64)
{
    char text[WORD_TEXT_MAX];
    size_t n = 0, width = 0;

    while (s->n > 0) {
        struct str rest = *s;
        struct str character = next_character(&rest);
        width += base64 ? character.n : q_width(character);
        if (width > (base64 ? WORD_BYTES_MAX : WORD_TEXT_MAX))
            break;
        memcpy(text + n, character.p, character.n);
        n += character.n;
        *s = rest;
    }
    buf_put_z(out, base64 ? WORD_B : WORD_Q);
    if (base64)
        codec_put_base64(out, (struct str){ text, n });
    else
        put_q(out, (struct str){ text, n });
    buf_put_z(out, WORD_END);
}

void codec_put_encoded_words(struct buf *out, struct str utf8)
{
    if (is_plain(utf8)) {
        buf_put_str(out, utf8);
        return;
    }
    size_t escaped = (q_width(utf8) - utf8.n) / 2;
    bool base64 = 3 * escaped > utf8.n; /* else "Q" stays readable where nothing decodes it, and is hardly longer */
    while (utf8.n > 0) {
        put_word(out, &utf8, base64);
        if (utf8.n > 0)
            buf_put_char(out, ' ');
    }
}

/* Ids. */

static const char id_digits[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

void codec_id_format(uint64_t id, char out[CODEC_ID_LEN + 1])
{
    for (int i = CODEC_ID_LEN - 1; i >= 0; i--) {
        out[i] = id_digits[id & 31];
        id >>= 5;
    }
    out[CODEC_ID_LEN] = '\0';
}

bool codec_id_parse(struct str s, uint64_t *out)
{
    uint64_t id = 0;

    if (s.n != CODEC_ID_LEN)
        return false;
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i] >= 'a' && s.p[i] <= 'z' ? (char)(s.p[i] - 'a' + 'A') : s.p[i];
        const char *digit = c == '\0' ? NULL : strchr(id_digits, c);
        if (digit == NULL || id >> 59 != 0) /* 13 digits hold 65 bits */
            return false;
        id = id << 5 | (uint64_t)(digit - id_digits);
    }
    *out = id;
    return true;
}

/* CRC-32C (RFC 3720, 12.1). */

#define CRC32C_POLYNOMIAL 0x82f63b78u /* reversed */

static uint32_t crc_tables[8][256]; /* [k][b]: what byte b does k bytes further on */

static void make_crc_tables(void)
{
    for (uint32_t b = 0; b < 256; b++) {
        uint32_t crc = b;
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ ((crc & 1) != 0 ? CRC32C_POLYNOMIAL : 0);
        crc_tables[0][b] = crc;
    }
    for (int k = 1; k < 8; k++)
        for (int b = 0; b < 256; b++)
            crc_tables[k][b] = crc_tables[k - 1][b] >> 8 ^ crc_tables[0][crc_tables[k - 1][b] & 255];
}

uint32_t codec_crc32c_table(uint32_t seed, const void *p, size_t n)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    const uint8_t *bytes = p;
    uint32_t crc = ~seed;

    pthread_once(&once, make_crc_tables);
    for (; n >= 8; n -= 8, bytes += 8) {
        uint64_t word = codec_get_u64(bytes) ^ crc;
        crc = 0;
        for (int k = 0; k < 8; k++)
            crc ^= crc_tables[7 - k][word >> 8 * k & 255];
    }
    for (; n > 0; n--)
        crc = crc >> 8 ^ crc_tables[0][(crc ^ *bytes++) & 255];
    return ~crc;
}

/*
 * The instruction gives its result after three cycles and can begin one each cycle: so a long piece is taken in three strands side by side, each
 * from its own beginning. What the first has become after the bytes of the second, a table says, since to a checksum they are so many zeros
 * and their own checksum on top.
 */
#define STRAND 1024u

static uint32_t strand_tables[4][256]; /* [k][b]: what byte b, k bytes up in the state, becomes after a strand of zeros */

static uint32_t after_zeros(uint32_t state)
{
    for (unsigned i = 0; i < STRAND; i++)
        state = state >> 8 ^ crc_tables[0][state & 255];
    return state;
}

static void make_strand_tables(void)
{
    (void)codec_crc32c_table(0, "", 0); /* makes the others */
    for (int k = 0; k < 4; k++)
        for (uint32_t b = 0; b < 256; b++)
            strand_tables[k][b] = b == 0 ? 0 : (b & (b - 1)) == 0 ? after_zeros(b << 8 * k) : strand_tables[k][b & (b - 1)] ^ strand_tables[k][b & -b];
}

static inline uint32_t behind_a_strand(uint32_t state)
{
    return strand_tables[0][state & 255] ^ strand_tables[1][state >> 8 & 255] ^ strand_tables[2][state >> 16 & 255] ^ strand_tables[3][state >> 24];
}

#if defined(__x86_64__)

static bool has_crc_instruction(void)
{
    return __builtin_cpu_supports("sse4.2");
}

__attribute__((target("sse4.2"))) static uint32_t three_strands(uint32_t state, const uint8_t *p)
{
    uint64_t a = state, b = 0, c = 0;

    for (unsigned i = 0; i < STRAND; i += 8) {
        a = _mm_crc32_u64(a, codec_get_u64(p + i));
        b = _mm_crc32_u64(b, codec_get_u64(p + STRAND + i));
        c = _mm_crc32_u64(c, codec_get_u64(p + 2 * STRAND + i));
    }
    return behind_a_strand(behind_a_strand((uint32_t)a) ^ (uint32_t)b) ^ (uint32_t)c;
}

__attribute__((target("sse4.2"))) static uint32_t crc32c_instruction(uint32_t seed, const void *p, size_t n)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    const uint8_t *bytes = p;
    uint64_t crc = ~seed;

    if (n >= 3 * STRAND)
        pthread_once(&once, make_strand_tables);
    for (; n >= 3 * STRAND; n -= 3 * STRAND, bytes += 3 * STRAND)
        crc = three_strands((uint32_t)crc, bytes);
    for (; n >= 8; n -= 8, bytes += 8)
        crc = _mm_crc32_u64(crc, codec_get_u64(bytes));
    for (; n > 0; n--)
        crc = _mm_crc32_u8((uint32_t)crc, *bytes++);
    return ~(uint32_t)crc;
}

#elif defined(__aarch64__)

static bool has_crc_instruction(void)
{
    return (getauxval(AT_HWCAP) & HWCAP_CRC32) != 0;
}

/* In assembly, since gcc and clang disagree about how to name the intrinsic without -march. */
static inline uint32_t crc_word(uint32_t crc, const uint8_t *p)
{
    __asm__(".arch_extension crc\n\tcrc32cx %w0, %w0, %x1" : "+r"(crc) : "r"(codec_get_u64(p)));
    return crc;
}

static uint32_t three_strands(uint32_t state, const uint8_t *p)
{
    uint32_t a = state, b = 0, c = 0;

    for (unsigned i = 0; i < STRAND; i += 8) {
        a = crc_word(a, p + i);
        b = crc_word(b, p + STRAND + i);
        c = crc_word(c, p + 2 * STRAND + i);
    }
    return behind_a_strand(behind_a_strand(a) ^ b) ^ c;
}

static uint32_t crc32c_instruction(uint32_t seed, const void *p, size_t n)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    const uint8_t *bytes = p;
    uint32_t crc = ~seed;

    if (n >= 3 * STRAND)
        pthread_once(&once, make_strand_tables);
    for (; n >= 3 * STRAND; n -= 3 * STRAND, bytes += 3 * STRAND)
        crc = three_strands(crc, bytes);
    for (; n >= 8; n -= 8, bytes += 8)
        crc = crc_word(crc, bytes);
    for (; n > 0; n--)
        __asm__(".arch_extension crc\n\tcrc32cb %w0, %w0, %w1" : "+r"(crc) : "r"((uint32_t)*bytes++));
    return ~crc;
}

#else

static bool has_crc_instruction(void)
{
    return false;
}

static uint32_t crc32c_instruction(uint32_t seed, const void *p, size_t n)
{
    return codec_crc32c_table(seed, p, n);
}

#endif

uint32_t codec_crc32c(uint32_t seed, const void *p, size_t n)
{
    return has_crc_instruction() ? crc32c_instruction(seed, p, n) : codec_crc32c_table(seed, p, n);
}

/* Little-endian numbers at any address: one load or store each (a loop over bytes made the checksums ten times slower). */

uint16_t codec_get_u16(const void *p)
{
    uint16_t v;

    memcpy(&v, p, sizeof v);
    return le16toh(v);
}

uint32_t codec_get_u32(const void *p)
{
    uint32_t v;

    memcpy(&v, p, sizeof v);
    return le32toh(v);
}

uint64_t codec_get_u64(const void *p)
{
    uint64_t v;

    memcpy(&v, p, sizeof v);
    return le64toh(v);
}

void codec_set_u16(void *p, uint16_t v)
{
    v = htole16(v);
    memcpy(p, &v, sizeof v);
}

void codec_set_u32(void *p, uint32_t v)
{
    v = htole32(v);
    memcpy(p, &v, sizeof v);
}

void codec_set_u64(void *p, uint64_t v)
{
    v = htole64(v);
    memcpy(p, &v, sizeof v);
}
