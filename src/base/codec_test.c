/*
 * Encodings: the RFCs' own vectors, then what must be refused, then that what goes out comes back.
 */
#include "base/cleanup.h"
#include "base/codec.h"
#include "base/codec_internal.h"
#include "base/utf8.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))

static void assert_str_is(struct str s, const char *expected)
{
    if (!str_eq(s, str_of(expected)))
        fail_msg("got '%" STR_FMT "' instead of '%s'", STR_ARG(s), expected);
}

static struct str bytes_from(char *memory, size_t n)
{
    uint32_t seed = (uint32_t)n;

    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        memory[i] = (char)(seed >> 24);
    }
    return (struct str){ memory, n };
}

/* RFC 4648, 10. */
static const struct {
    const char *plain, *base64, *hex;
} vectors[] = {
    {"",        "",         ""            },
    { "f",      "Zg==",     "66"          },
    { "fo",     "Zm8=",     "666f"        },
    { "foo",    "Zm9v",     "666f6f"      },
    { "foob",   "Zm9vYg==", "666f6f62"    },
    { "fooba",  "Zm9vYmE=", "666f6f6261"  },
    { "foobar", "Zm9vYmFy", "666f6f626172"},
};

static void base64_and_hex_by_the_book(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(vectors); i++) {
        CLEANUP_BUF struct buf b;
        buf_init(&b, 1000);
        codec_put_base64(&b, str_of(vectors[i].plain));
        assert_str_is(buf_str(&b), vectors[i].base64);
        buf_clear(&b);
        codec_put_hex(&b, str_of(vectors[i].plain));
        assert_str_is(buf_str(&b), vectors[i].hex);
        buf_clear(&b);
        assert_true(codec_base64(str_of(vectors[i].base64), &b));
        assert_str_is(buf_str(&b), vectors[i].plain);
        buf_clear(&b);
        assert_true(codec_hex(str_of(vectors[i].hex), &b));
        assert_str_is(buf_str(&b), vectors[i].plain);
    }
}

static void base64_refuses(void **state)
{
    static const struct str cases[] = {
        {"Zg",                2},
        { "Zg=",              3},
        { "Zm9vY",            5},
        { "=",                1},
        { "====",             4},
        { "Z===",             4},
        { "Zg==Zg==",         8}, /* padding in the middle */
        { "Zh==",             4}, /* a bit left over: Zg== is the only way to say "f" (RFC 4648, 3.5) */
        { "Zm9=",             4},
        { "Zm8=\r\n",         6},
        { " Zm8",             4},
        { "Z-8=",             4},
        { "Z_8=",             4},
        { "Zm8\0",            4},
        { "\xc3\xa4\xc3\xa4", 4},
        { "Z=8=",             4},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        CLEANUP_BUF struct buf b;
        buf_init(&b, 100);
        buf_put_z(&b, "kept");
        assert_false(codec_base64(cases[i], &b));
        assert_true(buf_ok(&b));
        assert_str_is(buf_str(&b), "kept");
    }
}

static void decoding_wants_room(void **state)
{
    char memory[2];
    struct buf b;

    (void)state;
    buf_init_fixed(&b, memory, sizeof memory);
    assert_false(codec_base64(STR("Zm9v"), &b));
    assert_false(buf_ok(&b));
    buf_clear(&b);
    assert_true(codec_base64(STR("Zm8="), &b));
    assert_true(codec_base64(STR(""), &b)); /* nothing fits even when full */
    buf_clear(&b);
    assert_false(codec_hex(STR("666f6f"), &b));
}

static void hex_refuses(void **state)
{
    static const struct str cases[] = {
        {"6",    1},
        { "6g",  2},
        { "0x",  2},
        { " 6",  2},
        { "6\0", 2}
    };
    CLEANUP_BUF struct buf b;

    (void)state;
    buf_init(&b, 100);
    for (size_t i = 0; i < COUNT(cases); i++)
        assert_false(codec_hex(cases[i], &b));
    assert_true(codec_hex(STR("fFA0"), &b));
    assert_str_is(buf_str(&b), "\xff\xa0");
}

static void every_length_comes_back(void **state)
{
    char memory[300];

    (void)state;
    for (size_t n = 0; n < sizeof memory; n++) {
        CLEANUP_BUF struct buf text, back;
        struct str in = bytes_from(memory, n);
        buf_init(&text, 1000);
        buf_init(&back, 1000);
        codec_put_base64(&text, in);
        assert_true(codec_base64(buf_str(&text), &back));
        assert_true(str_eq(buf_str(&back), in));
        buf_clear(&text);
        buf_clear(&back);
        codec_put_hex(&text, in);
        assert_true(codec_hex(buf_str(&text), &back));
        assert_true(str_eq(buf_str(&back), in));
    }
}

static void base64_lines_are_short(void **state)
{
    char memory[200];

    (void)state;
    for (size_t n = 0; n < sizeof memory; n++) {
        CLEANUP_BUF struct buf lines, joined, back;
        struct str in = bytes_from(memory, n), line, rest;
        buf_init(&lines, 1000);
        buf_init(&joined, 1000);
        buf_init(&back, 1000);
        codec_put_base64_lines(&lines, in);
        rest = buf_str(&lines);
        assert_true(n == 0 ? rest.n == 0 : rest.p[rest.n - 1] == '\n');
        while (rest.n > 0) {
            assert_true(str_cut(rest, '\n', &line, &rest));
            assert_int_equal(line.p[line.n - 1], '\r');
            assert_in_range(line.n - 1, 1, 76);
            assert_true(rest.n == 0 || line.n - 1 == 76);
            buf_put_str(&joined, str_head(line, line.n - 1));
        }
        assert_true(codec_base64(buf_str(&joined), &back));
        assert_true(str_eq(buf_str(&back), in));
    }
}

#define X70 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"

static void quoted_printable_cases(void **state)
{
    static const struct {
        struct str in;
        const char *out;
    } cases[] = {
        {{ NULL, 0 },               ""                  },
        { { "\r\n", 2 },            "\r\n"              },
        { { "a\nb\rc", 5 },         "a=0Ab=0Dc"         }, /* alone they are no line ends */
        { { "a\r\r\n", 4 },         "a=0D\r\n"          },
        { { "a \r\nb\t", 6 },       "a=20\r\nb=09"      }, /* blanks at an end could be stripped */
        { { "a  \r\n", 5 },         "a =20\r\n"         },
        { { "a b\tc", 5 },          "a b\tc"            },
        { { "1=2", 3 },             "1=3D2"             },
        { { "\0\x7f\xff", 3 },      "=00=7F=FF"         },
        { { "caf\xc3\xa9", 5 },     "caf=C3=A9"         },
        { { X70 "xxxxxx", 76 },     X70 "xxxxxx"        }, /* 76 fit where the line ends */
        { { X70 "xxxxxx\r\n", 78 }, X70 "xxxxxx\r\n"    },
        { { X70 "xxxxxxx", 77 },    X70 "xxxxx=\r\nxx"  },
        { { X70 "xxx=", 74 },       X70 "xxx=3D"        },
        { { X70 "xxx=y", 75 },      X70 "xxx=\r\n=3Dy"  }, /* "=3D" is not split */
        { { X70 "xx=y", 74 },       X70 "xx=3Dy"        },
        { { X70 "xx=yz", 75 },      X70 "xx=3D=\r\nyz"  },
        { { X70 "xxxxxx ", 77 },    X70 "xxxxx=\r\nx=20"},
        { { X70 "xxxx y", 76 },     X70 "xxxx y"        },
        { { X70 "xxxx yy", 77 },    X70 "xxxx =\r\nyy"  }, /* a blank before a soft break is safe */
    };
    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        CLEANUP_BUF struct buf b;
        buf_init(&b, 1000);
        codec_put_quoted_printable(&b, cases[i].in);
        assert_str_is(buf_str(&b), cases[i].out);
    }
}

/* A decoder that knows only what the encoder may emit, so anything else shows. */
static void quoted_printable_back(struct str in, struct buf *out)
{
    size_t column = 0;

    while (in.n > 0) {
        if (str_starts(in, STR("=\r\n")) || str_starts(in, STR("\r\n"))) {
            bool soft = in.p[0] == '=';
            assert_true(column + (soft ? 1 : 0) <= 76);
            if (!soft) {
                assert_true(column == 0 || (in.p[-1] != ' ' && in.p[-1] != '\t'));
                buf_put_str(out, STR("\r\n"));
            }
            in = str_from(in, soft ? 3 : 2);
            column = 0;
        } else if (in.p[0] == '=') {
            assert_true(codec_hex(str_head(str_from(in, 1), 2), out));
            in = str_from(in, 3);
            column += 3;
        } else {
            assert_true((in.p[0] >= ' ' && in.p[0] <= '~') || in.p[0] == '\t');
            buf_put_char(out, in.p[0]);
            in = str_from(in, 1);
            column++;
        }
    }
    assert_true(column <= 76);
}

static void quoted_printable_comes_back(void **state)
{
    static const char alphabet[] = "xxxxxxxxxxxx   \t=\r\n\n\xff";
    char memory[400];

    (void)state;
    for (size_t n = 0; n < sizeof memory; n++) {
        CLEANUP_BUF struct buf text, back;
        (void)bytes_from(memory, n);
        for (size_t i = 0; i < n; i++)
            memory[i] = alphabet[(uint8_t)memory[i] % (sizeof alphabet - 1)];
        buf_init(&text, 10000);
        buf_init(&back, 10000);
        codec_put_quoted_printable(&text, (struct str){ memory, n });
        quoted_printable_back(buf_str(&text), &back);
        assert_true(str_eq(buf_str(&back), (struct str){ memory, n }));
    }
}

static void encoded_word_cases(void **state)
{
    static const struct {
        struct str in;
        const char *out;
    } cases[] = {
        {{ NULL, 0 },                        ""                             },
        { { "Plain, (as) can \"be\"?", 21 }, "Plain, (as) can \"be\"?"      },
        { { "=?x?q?y?=", 9 },                "=?UTF-8?B?PT94P3E/eT89?="     }, /* would be decoded otherwise */
        { { "a\r\nBcc: x", 9 },              "=?UTF-8?Q?a__Bcc=3A_x?="      }, /* no second header, not even decoded */
        { { "\0\t\x1b\x7f", 4 },             "=?UTF-8?B?ICAgIA==?="         },
        { { "Caf\xc3\xa9 = 1_2", 11 },       "=?UTF-8?B?Q2Fmw6kgPSAxXzI=?=" },
        { { "Caf\xc3\xa9 au lait", 13 },     "=?UTF-8?Q?Caf=C3=A9_au_lait?="},
        { { "x\xff"
            "yyyyyyyyyyyyy",
            15 },
         "=?UTF-8?Q?x=EF=BF=BDyyyyyyyyyyyyy?="                              }, /* Latin-1 is no UTF-8 */
        { { "xxxxxxxx\xc3", 9 },             "=?UTF-8?Q?xxxxxxxx=EF=BF=BD?="}, /* a character cut short */
    };
    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        CLEANUP_BUF struct buf b;
        buf_init(&b, 1000);
        codec_put_encoded_words(&b, cases[i].in);
        assert_str_is(buf_str(&b), cases[i].out);
    }
}

/* Takes one word apart and appends its text; the text must be whole UTF-8 characters. */
static void word_back(struct str word, struct buf *out)
{
    assert_in_range(word.n, 12, 75); /* RFC 2047, 2 */
    assert_true(str_starts(word, STR("=?UTF-8?")) && str_ends_nocase(word, STR("?=")));
    bool base64 = word.p[8] == 'B';
    struct str text = str_from(str_head(word, word.n - 2), 10);
    size_t start = out->n;
    uint32_t c;

    if (base64)
        assert_true(codec_base64(text, out));
    for (size_t i = 0; !base64 && i < text.n; i++) {
        if (text.p[i] == '=') {
            assert_true(codec_hex(str_head(str_from(text, i + 1), 2), out));
            i += 2;
        } else {
            buf_put_char(out, text.p[i] == '_' ? ' ' : text.p[i]);
        }
    }
    for (struct str rest = str_from(buf_str(out), start); rest.n > 0;) {
        size_t n = utf8_next(rest, &c);
        assert_true(n > 0);
        rest = str_from(rest, n);
    }
}

static void encoded_words_come_back(void **state)
{
    static const char *const characters[] = { "a", " ", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x93\xa7", "?", "_" };
    char memory[300];

    (void)state;
    for (size_t n = 1; n < sizeof memory; n++) {
        CLEANUP_BUF struct buf in, text, back;
        buf_init(&in, 10000);
        buf_init(&text, 10000);
        buf_init(&back, 10000);
        (void)bytes_from(memory, n);
        for (size_t i = 0; i < n; i++)
            buf_put_z(&in, characters[(uint8_t)memory[i] % (n % 2 == 0 ? 3 : COUNT(characters))]);
        buf_put_z(&in, "\xc3\xa9");
        codec_put_encoded_words(&text, buf_str(&in));
        struct str word, rest = buf_str(&text);
        do {
            (void)str_cut(rest, ' ', &word, &rest);
            word_back(word, &back);
        } while (rest.n > 0);
        assert_true(str_eq(buf_str(&back), buf_str(&in)));
    }
}

static void ids_come_back(void **state)
{
    static const struct {
        uint64_t id;
        const char *text;
    } cases[] = {
        {0,                   "0000000000000"},
        { 31,                 "000000000000Z"},
        { 32,                 "0000000000010"},
        { 0x0123456789abcdef, "028T5CY4TQKFF"},
        { UINT64_MAX,         "FZZZZZZZZZZZZ"},
    };
    static const char *const wrong[] = { "",
                                         "000000000000",
                                         "00000000000000",
                                         "G000000000000",
                                         "ZZZZZZZZZZZZZ",
                                         "000000000000I",
                                         "00000000000L0",
                                         "O000000000000",
                                         "000000000000u",
                                         "00000000-0000" };
    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        char text[CODEC_ID_LEN + 1];
        uint64_t id = 1;
        codec_id_format(cases[i].id, text);
        assert_string_equal(text, cases[i].text);
        assert_true(codec_id_parse(str_of(text), &id));
        assert_int_equal(id, cases[i].id);
        for (size_t k = 0; k < CODEC_ID_LEN; k++)
            text[k] = char_lower(text[k]);
        assert_true(codec_id_parse(str_of(text), &id));
        assert_int_equal(id, cases[i].id);
    }
    for (size_t i = 0; i < COUNT(wrong); i++) {
        uint64_t id = 4711;
        assert_false(codec_id_parse(str_of(wrong[i]), &id));
        assert_int_equal(id, 4711);
    }
    uint64_t id;
    assert_false(codec_id_parse((struct str){ "000000000000\0", 13 }, &id));
}

/* RFC 3720, B.4, which prints the bytes in the order they are sent: the number's lowest first. */
static void crc32c_by_the_book(void **state)
{
    static const unsigned char read_command[48] = { 0x01, 0xc0, [16] = 0x14, [22] = 0x04, [27] = 0x14, [31] = 0x18, 0x28, [40] = 0x02 };
    char in[32];

    (void)state;
    memset(in, 0, sizeof in);
    assert_int_equal(codec_crc32c(0, in, sizeof in), 0x8a9136aa);
    assert_int_equal(codec_crc32c_table(0, in, sizeof in), 0x8a9136aa);
    memset(in, 0xff, sizeof in);
    assert_int_equal(codec_crc32c(0, in, sizeof in), 0x62a8ab43);
    assert_int_equal(codec_crc32c_table(0, in, sizeof in), 0x62a8ab43);
    for (size_t i = 0; i < sizeof in; i++)
        in[i] = (char)i;
    assert_int_equal(codec_crc32c(0, in, sizeof in), 0x46dd794e);
    assert_int_equal(codec_crc32c_table(0, in, sizeof in), 0x46dd794e);
    for (size_t i = 0; i < sizeof in; i++)
        in[i] = (char)(31 - i);
    assert_int_equal(codec_crc32c(0, in, sizeof in), 0x113fdb5c);
    assert_int_equal(codec_crc32c_table(0, in, sizeof in), 0x113fdb5c);
    assert_int_equal(codec_crc32c(0, read_command, sizeof read_command), 0xd9963a56);
    assert_int_equal(codec_crc32c_table(0, read_command, sizeof read_command), 0xd9963a56);
    assert_int_equal(codec_crc32c(0, "123456789", 9), 0xe3069283);
    assert_int_equal(codec_crc32c(0, NULL, 0), 0);
}

static void crc32c_in_pieces(void **state)
{
    char memory[100];
    struct str in = bytes_from(memory, sizeof memory);

    (void)state;
    for (size_t from = 0; from < 9; from++)
        for (size_t cut = from; cut <= in.n; cut++) {
            uint32_t whole = codec_crc32c_table(0, in.p + from, in.n - from);
            assert_int_equal(codec_crc32c(codec_crc32c(0, in.p + from, cut - from), in.p + cut, in.n - cut), whole);
            assert_int_equal(codec_crc32c_table(codec_crc32c(0, in.p + from, cut - from), in.p + cut, in.n - cut), whole);
        }
}

/* Long ones go three at a time through the instruction, and must be the table's all the same. */
static void crc32c_of_long_pieces(void **state)
{
    static const size_t lengths[] = { 1023, 1024, 3071, 3072, 3073, 3080, 6143, 6144, 6145, 9215, 9216, 65536, 70000 };
    static char memory[70008];

    (void)state;
    for (size_t i = 0; i < sizeof memory; i++)
        memory[i] = (char)(i * 131 + (i >> 8) * 17 + (i >> 13));
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++)
        for (size_t from = 0; from < 8; from++)
            for (uint32_t seed = 0; seed < 3; seed++) {
                uint32_t before = seed * 0x9e3779b9u;
                assert_int_equal(codec_crc32c(before, memory + from, lengths[i]), codec_crc32c_table(before, memory + from, lengths[i]));
            }
}

static void numbers_at_any_address(void **state)
{
    unsigned char memory[9];

    (void)state;
    codec_set_u64(memory + 1, 0x0102030405060708);
    assert_memory_equal(memory + 1, "\x08\x07\x06\x05\x04\x03\x02\x01", 8);
    assert_int_equal(codec_get_u64(memory + 1), 0x0102030405060708);
    assert_int_equal(codec_get_u32(memory + 1), 0x05060708);
    assert_int_equal(codec_get_u16(memory + 1), 0x0708);
    codec_set_u32(memory + 1, 0xfffefdfc);
    codec_set_u16(memory + 5, 0x8001);
    assert_memory_equal(memory + 1, "\xfc\xfd\xfe\xff\x01\x80\x02\x01", 8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(base64_and_hex_by_the_book),
        cmocka_unit_test(base64_refuses),
        cmocka_unit_test(decoding_wants_room),
        cmocka_unit_test(hex_refuses),
        cmocka_unit_test(every_length_comes_back),
        cmocka_unit_test(base64_lines_are_short),
        cmocka_unit_test(quoted_printable_cases),
        cmocka_unit_test(quoted_printable_comes_back),
        cmocka_unit_test(encoded_word_cases),
        cmocka_unit_test(encoded_words_come_back),
        cmocka_unit_test(ids_come_back),
        cmocka_unit_test(crc32c_by_the_book),
        cmocka_unit_test(crc32c_in_pieces),
        cmocka_unit_test(crc32c_of_long_pieces),
        cmocka_unit_test(numbers_at_any_address),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
