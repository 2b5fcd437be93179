/*
 * PROXY headers, the strange ones first.
 */
#include "smtp/proxy_wire.h"
#include "base/codec.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define SIG "\r\n\r\n\0\r\nQUIT\n"
#define V2(rest) { SIG rest, sizeof(SIG rest) - 1 }
#define V1(line) { line, sizeof(line) - 1 }

#define FOUR "\xc0\x00\x02\x07\xc6\x33\x64\x01\x9c\x40\x00\x19"        /* 192.0.2.7:40000 to 198.51.100.1:25 */
#define SIX  "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x07\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x9c\x40\x00\x19"

/* client: "ip port", "none" (it does not say), "local", "bad", or "more N". */
static const struct { struct str in; const char *client; } cases[] = {
    { V1("PROXY TCP4 192.0.2.7 198.51.100.1 40000 25\r\n"),           "192.0.2.7 40000" },
    { V1("PROXY TCP6 2001:db8::7 2001:db8::1 0 65535\r\nEHLO x\r\n"),  "2001:db8::7 0" },
    { V1("PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n"),
      "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535" },
    { V1("PROXY UNKNOWN\r\n"),                                         "none" },
    { V1("PROXY UNKNOWN ffff::1 whatever it is\r\n"),                  "none" },
    { V1("PROXY UNKNOWNS\r\n"),                                        "bad" },
    { V1("PROXY TCP4 192.0.2.7 198.51.100.1 40000 25\n"),              "bad" },      /* a bare LF ends nothing */
    { V1("PROXY TCP4 192.0.2.7 198.51.100.1 40000 25\r\r\n"),          "bad" },
    { V1("PROXY TCP4 192.0.2.7 198.51.100.1 40000 25 \r\n"),           "bad" },
    { V1("PROXY TCP4 192.0.2.7 198.51.100.1 40000 25 26\r\n"),         "bad" },
    { V1("PROXY TCP4  192.0.2.7 198.51.100.1 40000 25\r\n"),           "bad" },
    { V1("PROXY  TCP4 192.0.2.7 198.51.100.1 40000 25\r\n"),           "bad" },
    { V1("PROXY TCP4 192.0.2.7 198.51.100.1 40000\r\n"),               "bad" },
    { V1("PROXY TCP4 192.0.2.7 198.51.100.1 65536 25\r\n"),            "bad" },
    { V1("PROXY TCP4 192.0.2.7 198.51.100.1 -1 25\r\n"),               "bad" },
    { V1("PROXY TCP4 192.0.2.7 198.51.100.1 025 25\r\n"),              "bad" },
    { V1("PROXY TCP4 192.0.2.07 198.51.100.1 1 25\r\n"),               "bad" },
    { V1("PROXY TCP4 192.0.2 198.51.100.1 1 25\r\n"),                  "bad" },
    { V1("PROXY TCP4 2001:db8::7 2001:db8::1 1 25\r\n"),               "bad" },
    { V1("PROXY TCP6 192.0.2.7 198.51.100.1 1 25\r\n"),                "bad" },
    { V1("PROXY TCP4 192.0.2.7\0 198.51.100.1 1 25\r\n"),              "bad" },
    { V1("PROXY UDP4 192.0.2.7 198.51.100.1 1 25\r\n"),                "bad" },
    { V1("PROXY \r\n"),                                                "bad" },
    { V1("PROXY\r\n"),                                                 "bad" },
    { V1("proxy TCP4 192.0.2.7 198.51.100.1 40000 25\r\n"),            "bad" },
    { V1("EHLO tester.example\r\n"),                                   "bad" },
    { V1("\r\n"),                                                      "more 14" },   /* so far like the signature */
    { V1("\r\nE"),                                                     "bad" },
    { V1(""),                                                          "more 15" },
    { V1("P"),                                                         "more 14" },
    { V1("PROXY UNKNOWN\r"),                                           "more 1" },
    { V1("PROXY TCP4 192.0.2.7 198.51.100.1 40000 25"),                "more 2" },
    { V1("PROXY TCP4 192.0.2.7 198.51.100.1 40000 25\r"),              "more 1" },
    { V2("\x21\x11\0\x0c" FOUR),                                       "192.0.2.7 40000" },
    { V2("\x21\x21\0\x24" SIX "EHLO x\r\n"),                           "2001:db8::7 40000" },
    { V2("\x21\x11\0\x13" FOUR "\x04\0\x04" "abcd"),                   "192.0.2.7 40000" },   /* padding */
    { V2("\x21\x11\0\x12" FOUR "\xe0\0\x04" "abc"),                    "bad" },       /* an extension that reaches beyond the end */
    { V2("\x21\x11\0\x0e" FOUR "\x04\0"),                              "bad" },
    { V2("\x21\x11\0\x13" FOUR "\x03\0\x04" "abcd"),                   "bad" },       /* a wrong checksum */
    { V2("\x21\x11\0\x0b" FOUR),                                       "bad" },       /* addresses cut short */
    { V2("\x21\x21\0\x0c" FOUR),                                       "bad" },
    { V2("\x20\x00\0\0"),                                              "local" },
    { V2("\x20\xff\0\x03" "abc"),                                      "local" },     /* what it carries is skipped */
    { V2("\x20\x11\0\x0c" FOUR),                                       "local" },
    { V2("\x21\x00\0\0"),                                              "none" },
    { V2("\x21\x31\0\x04" "abcd"),                                     "none" },
    { V2("\x21\x12\0\x0c" FOUR),                                       "none" },
    { V2("\x21\x41\0\x0c" FOUR),                                       "bad" },
    { V2("\x21\x13\0\x0c" FOUR),                                       "bad" },
    { V2("\x22\x11\0\x0c" FOUR),                                       "bad" },
    { V2("\x11\x11\0\x0c" FOUR),                                       "bad" },
    { V2("\x31\x11\0\x0c" FOUR),                                       "bad" },
    { V2("\x21\x11\x0f\xf1" FOUR),                                     "bad" },       /* 4097 in all */
    { V2("\x21\x11\x0f\xf0" FOUR),                                     "more 4068" },
    { V2("\x21\x11\0\x0c\xc0\x00"),                                    "more 10" },
    { V2("\x21\x11"),                                                  "more 2" },
};

static const char *words_of(struct str in, char out[96])
{
    struct proxy_header h = { .client_port = 1 };
    char ip[INET6_ADDRSTRLEN];
    size_t n = 0;

    switch (proxy_parse(in, &h, &n)) {
    case PROXY_BAD: return "bad";
    case PROXY_MORE: snprintf(out, 96, "more %zu", n); return out;
    case PROXY_DONE: break;
    }
    assert_true(n <= in.n);
    if (h.ip_len == 0)
        return h.local ? "local" : "none";
    assert_false(h.local);
    snprintf(out, 96, "%s %u", inet_ntop(h.ip_len == 4 ? AF_INET : AF_INET6, h.client_ip, ip, sizeof ip), h.client_port);
    return out;
}

static void test_headers(void **state)
{
    char words[96];

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        if (strcmp(words_of(cases[i].in, words), cases[i].client) != 0)
            fail_msg("case %zu: %s, not %s", i, words_of(cases[i].in, words), cases[i].client);
}

static void test_a_line_without_end_is_given_up(void **state)
{
    char text[PROXY_V1_MAX + 1], words[96];

    (void)state;
    memcpy(text, "PROXY UNKNOWN ", 14);
    memset(text + 14, 'a', sizeof text - 14);
    assert_string_equal(words_of((struct str){ text, PROXY_V1_MAX - 1 }, words), "more 1");
    assert_string_equal(words_of((struct str){ text, PROXY_V1_MAX }, words), "bad");
    text[PROXY_V1_MAX - 2] = '\r';
    text[PROXY_V1_MAX - 1] = '\n';
    assert_string_equal(words_of((struct str){ text, PROXY_V1_MAX }, words), "none");
}

static void test_checksum(void **state)
{
    char bytes[] = SIG "\x21\x11\0\x13" FOUR "\x03\0\x04\0\0\0", words[96];
    size_t n = sizeof bytes;       /* the last zero is the checksum's */

    (void)state;
    uint32_t crc = codec_crc32c(0, bytes, n);
    for (size_t i = 0; i < 4; i++)
        bytes[n - 4 + i] = (char)(crc >> (24 - 8 * i));
    assert_string_equal(words_of((struct str){ bytes, n }, words), "192.0.2.7 40000");
    bytes[17] ^= 1;
    assert_string_equal(words_of((struct str){ bytes, n }, words), "bad");
}

static void test_server_address(void **state)
{
    struct proxy_header h;
    size_t n;

    (void)state;
    assert_int_equal(proxy_parse(STR("PROXY TCP4 192.0.2.7 198.51.100.1 40000 25\r\n"), &h, &n), PROXY_DONE);
    assert_memory_equal(h.server_ip, "\xc6\x33\x64\x01", 4);
    assert_int_equal(h.server_port, 25);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_headers),
        cmocka_unit_test(test_a_line_without_end_is_given_up),
        cmocka_unit_test(test_checksum),
        cmocka_unit_test(test_server_address),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
