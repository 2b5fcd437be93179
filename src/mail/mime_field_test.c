/*
 * Content-Type and Content-Transfer-Encoding, right and wrong.
 */
#include "mail/mime_field.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define X64 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"

static void test_types(void **state)
{
    // clang-format off
    static const struct { const char *value; enum mime_kind kind; const char *boundary; } cases[] = {
        { "",                                                       MIME_TEXT,      ""          },   /* RFC 2045, 5.2: what cannot be read is plain text */
        { "text",                                                   MIME_TEXT,      ""          },
        { "/plain",                                                 MIME_TEXT,      ""          },
        { "multipart; boundary=b",                                  MIME_TEXT,      ""          },
        { "(multipart/mixed; boundary=a",                           MIME_TEXT,      ""          },   /* a comment without an end */
        { " (a(b\\)c)) Text (x) / (y) PLAIN (z) ; (;boundary=no) Boundary (=) = b (c)", MIME_TEXT, "" },
        { " Multipart/MIXED ; (;boundary=no) Boundary (=) = b (c)", MIME_MULTIPART, "b"         },
        { "(c) multipart/mixed; boundary=b",                        MIME_SEALED,    ""          },   /* right, and not to all readers a multipart */
        { "multipart(c)/mixed; boundary=b",                         MIME_SEALED,    ""          },
        { "multipart / mixed; boundary=b",                          MIME_SEALED,    ""          },
        { "multipart/mixed (c); boundary=b",                        MIME_SEALED,    ""          },
        { "message/rfc822 x",                                       MIME_SEALED,    ""          },
        { "multipart/mixed; boundary=\"a;b=c\"; charset=x",         MIME_MULTIPART, "a;b=c"     },
        { "multipart/mixed; x=\"; boundary=no\"; boundary=yes",     MIME_MULTIPART, "yes"       },
        { "multipart/mixed; boundary=\"a\\\"b\\\\c\"",              MIME_MULTIPART, "a\"b\\c"   },
        { "multipart/mixed;\r\n\tboundary=\"a\r\n b  \"",           MIME_MULTIPART, "a b"       },   /* folded, and ends in no blank */
        { "multipart/mixed; boundary=----=_Part:1/2?",              MIME_MULTIPART, "----=_Part:1/2?" },   /* not allowed without quotes, and everywhere */
        { "multipart/mixed boundary=b",                             MIME_SEALED,    ""          },
        { "multipart/mixed garbage; boundary=b",                    MIME_SEALED,    ""          },
        { "multipart/mixed; boundary=a; boundary=a",                MIME_MULTIPART, ""          },   /* twice is none */
        { "multipart/mixed; boundary*=us-ascii''a",                 MIME_MULTIPART, ""          },
        { "multipart/mixed; boundary*0=a; boundary*1=b",            MIME_MULTIPART, ""          },
        { "multipart/mixed; boundary=",                             MIME_MULTIPART, ""          },
        { "multipart/mixed; boundary=\"",                           MIME_MULTIPART, ""          },
        { "multipart/mixed; boundary",                              MIME_MULTIPART, ""          },
        { "multipart/mixed; boundary=" X64 X64 X64 X64,             MIME_MULTIPART, X64 X64 X64 X64 },
        { "multipart/mixed; boundary=" X64 X64 X64 X64 "x",         MIME_MULTIPART, ""          },
        { "multipart/x-unknown; boundary=b",                        MIME_MULTIPART, "b"         },
        { "multipart/SIGNED; boundary=b",                           MIME_SIGNED,    "b"         },
        { "multipart/digest;boundary=b",                            MIME_DIGEST,    "b"         },
        { "message/rfc822",                                         MIME_MESSAGE,   ""          },
        { "message/partial; id=\"a\"; number=1",                    MIME_SEALED,    ""          },
        { "message/delivery-status",                                MIME_SEALED,    ""          },
        { "message/global",                                         MIME_DATA,      ""          },
        { "message/global-delivery-status",                         MIME_DATA,      ""          },
        { "text/html; charset=utf-8",                               MIME_TEXT,      ""          },
        { "textual/html",                                           MIME_DATA,      ""          },
        { "application/octet-stream; boundary=b",                   MIME_DATA,      ""          },
    };
    // clang-format on

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char memory[512];
        struct buf boundary;
        buf_init_fixed(&boundary, memory, sizeof memory);
        enum mime_kind kind = mime_read_type(str_of(cases[i].value), &boundary);
        if (kind != cases[i].kind || !str_eq(buf_str(&boundary), str_of(cases[i].boundary)))
            fail_msg("%s: kind %d, boundary \"%" STR_FMT "\"", cases[i].value, (int)kind, STR_ARG(buf_str(&boundary)));
    }
}

static void test_encodings(void **state)
{
    // clang-format off
    static const struct { const char *value; enum mime_encoding encoding; } cases[] = {
        { "",                        MIME_UNKNOWN          },
        { "8-bit",                   MIME_UNKNOWN          },
        { "8bit base64",             MIME_UNKNOWN          },
        { "\"8bit\"",                MIME_UNKNOWN          },
        { "x-uuencode",              MIME_UNKNOWN          },
        { "base6",                   MIME_UNKNOWN          },
        { " (or so) 8BIT (really)",  MIME_8BIT             },
        { "8bit;",                   MIME_8BIT             },
        { "7bit\r\n",                MIME_7BIT             },
        { "Binary",                  MIME_BINARY           },
        { "Quoted-Printable",        MIME_QUOTED_PRINTABLE },
        { "\r\n\tbase64",            MIME_BASE64           },
    };
    // clang-format on

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        if (mime_read_encoding(str_of(cases[i].value)) != cases[i].encoding)
            fail_msg("%s: %d", cases[i].value, (int)mime_read_encoding(str_of(cases[i].value)));
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_types),
        cmocka_unit_test(test_encodings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
