/*
 * The PROXY protocol: a line (version 1), or a binary header with extensions of type, length, value (version 2).
 */
#include "smtp/proxy_wire.h"
#include "base/codec.h"
#include <arpa/inet.h>
#include <string.h>

#define SIGNATURE_LEN 12
#define FIXED_LEN     16               /* of version 2: signature, version and command, family, length */
#define EXTENSION_LEN 3                /* type, length */
#define TYPE_CRC32C   0x03
#define V1_SHORTEST   15               /* "PROXY UNKNOWN\r\n" */

static const char signature[SIGNATURE_LEN] = "\r\n\r\n\0\r\nQUIT\n";

static bool begins_like(struct str input, const char *expected, size_t n)
{
    return memcmp(input.p, expected, input.n < n ? input.n : n) == 0;
}

/* -- version 1 -------------------------------------------------------------------------------------------------------------- */

/* One space between two words, none elsewhere. */
static bool take_word(struct str *rest, struct str *word)
{
    str_cut(*rest, ' ', word, rest);
    return word->n > 0;
}

static bool read_ip(struct str word, int family, uint8_t out[16])
{
    char z[INET6_ADDRSTRLEN];

    if (word.n >= sizeof z || memchr(word.p, '\0', word.n) != NULL)
        return false;
    memcpy(z, word.p, word.n);
    z[word.n] = '\0';
    return inet_pton(family, z, out) == 1;
}

static bool read_port(struct str word, uint16_t *out)
{
    uint64_t port;

    if ((word.n > 1 && word.p[0] == '0') || !str_to_u64(word, UINT16_MAX, &port))
        return false;
    *out = (uint16_t)port;
    return true;
}

static bool read_line(struct str line, struct proxy_header *out)
{
    struct str rest = str_from(line, 6), word, words[4];
    struct proxy_header h = { .ip_len = 0 };

    if (str_eq(str_head(rest, 7), STR("UNKNOWN")) && (rest.n == 7 || rest.p[7] == ' ')) {
        *out = h;                      /* the rest of the line is to be ignored */
        return true;
    }
    if (!take_word(&rest, &word))
        return false;
    h.ip_len = str_eq(word, STR("TCP4")) ? 4 : str_eq(word, STR("TCP6")) ? 16 : 0;
    for (size_t i = 0; i < 4; i++)
        if (!take_word(&rest, &words[i]) || (i == 3) != (rest.n == 0))
            return false;
    int family = h.ip_len == 4 ? AF_INET : AF_INET6;
    if (h.ip_len == 0 || line.p[line.n - 1] == ' ' || !read_ip(words[0], family, h.client_ip) || !read_ip(words[1], family, h.server_ip) ||
        !read_port(words[2], &h.client_port) || !read_port(words[3], &h.server_port))
        return false;
    *out = h;
    return true;
}

static enum proxy_result parse_v1(struct str input, struct proxy_header *out, size_t *n)
{
    struct str line, rest, head = str_head(input, PROXY_V1_MAX);

    if (!str_cut(head, '\n', &line, &rest)) {
        if (head.n == PROXY_V1_MAX)
            return PROXY_BAD;
        bool half = head.n > 0 && head.p[head.n - 1] == '\r';
        *n = input.n < V1_SHORTEST ? V1_SHORTEST - input.n : half ? 1 : 2;
        if (input.n + *n > PROXY_V1_MAX)
            *n = 1;
        return PROXY_MORE;
    }
    if (line.n == 0 || line.p[line.n - 1] != '\r' || !read_line(str_head(line, line.n - 1), out))
        return PROXY_BAD;
    *n = line.n + 1;
    return PROXY_DONE;
}

/* -- version 2 -------------------------------------------------------------------------------------------------------------- */

static uint16_t get_u16(const char *p) { return (uint16_t)((uint8_t)p[0] << 8 | (uint8_t)p[1]); }     /* network order */

/* 2.2.3: over the whole header, with zeros in the checksum's place. */
static bool checksum_is_right(struct str header, size_t at)
{
    static const char zeros[4];
    uint32_t crc = codec_crc32c(0, header.p, at);

    crc = codec_crc32c(crc, zeros, sizeof zeros);
    crc = codec_crc32c(crc, header.p + at + 4, header.n - at - 4);
    return crc == ((uint32_t)get_u16(header.p + at) << 16 | get_u16(header.p + at + 2));
}

static bool check_extensions(struct str header, size_t at)
{
    while (at < header.n) {
        if (header.n - at < EXTENSION_LEN)
            return false;
        size_t length = get_u16(header.p + at + 1), value = at + EXTENSION_LEN;
        if (length > header.n - value)
            return false;
        if (header.p[at] == TYPE_CRC32C && (length != 4 || !checksum_is_right(header, value)))
            return false;
        at = value + length;
    }
    return true;
}

static bool read_addresses(struct str header, size_t ip_len, struct proxy_header *h)
{
    const char *p = header.p + FIXED_LEN;

    if (header.n < FIXED_LEN + 2 * ip_len + 4)
        return false;
    h->ip_len = ip_len;
    memcpy(h->client_ip, p, ip_len);
    memcpy(h->server_ip, p + ip_len, ip_len);
    h->client_port = get_u16(p + 2 * ip_len);
    h->server_port = get_u16(p + 2 * ip_len + 2);
    return check_extensions(header, FIXED_LEN + 2 * ip_len + 4);
}

static bool read_header(struct str header, struct proxy_header *out)
{
    struct proxy_header h = { .local = (header.p[12] & 0x0f) == 0 };

    if ((header.p[12] & 0x0f) > 1)
        return false;
    bool ok = true;
    switch (header.p[13]) {
    case 0x11: ok = h.local || read_addresses(header, 4, &h); break;
    case 0x21: ok = h.local || read_addresses(header, 16, &h); break;
    case 0x00:                         /* UNSPEC, and what falls back to it: datagrams, Unix sockets (2.2) */
    case 0x12:
    case 0x22:
    case 0x31:
    case 0x32: break;
    default: ok = h.local; break;      /* LOCAL: whatever it is, it is skipped */
    }
    if (!ok)
        return false;
    *out = h;
    return true;
}

static enum proxy_result parse_v2(struct str input, struct proxy_header *out, size_t *n)
{
    if (input.n < FIXED_LEN) {
        *n = FIXED_LEN - input.n;
        return PROXY_MORE;
    }
    size_t length = FIXED_LEN + (size_t)get_u16(input.p + 14);
    if (((uint8_t)input.p[12] >> 4) != 2 || length > PROXY_V2_MAX)
        return PROXY_BAD;
    if (input.n < length) {
        *n = length - input.n;
        return PROXY_MORE;
    }
    if (!read_header(str_head(input, length), out))
        return PROXY_BAD;
    *n = length;
    return PROXY_DONE;
}

enum proxy_result proxy_parse(struct str input, struct proxy_header *out, size_t *n)
{
    if (input.n == 0) {
        *n = V1_SHORTEST;              /* the shortest of both */
        return PROXY_MORE;
    }
    if (begins_like(input, "PROXY ", 6))
        return parse_v1(input, out, n);
    return begins_like(input, signature, SIGNATURE_LEN) ? parse_v2(input, out, n) : PROXY_BAD;
}
