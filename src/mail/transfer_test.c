/*
 * Transfer encodings in pieces give what they give at once, and what decodes to the same.
 */
#include "base/cleanup.h"
#include "base/codec.h"
#include "mail/transfer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define X70  "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
#define X700 X70 X70 X70 X70 X70 X70 X70 X70 X70 X70

enum encoder { QP, QP_ALONE, BASE64, FIX_QP, FIX_BASE64 };

/* Lines end at "\r\n" in text; runs are cut after every `step` bytes. */
static void encode(enum encoder encoder, struct str text, size_t step, struct buf *out)
{
    struct transfer_qp qp = { 0 };
    struct transfer_base64 base64 = { .n = 0 };
    struct transfer_mend_qp fix_qp = { 0 };
    struct transfer_mend_base64 fix_base64 = { 0 };

    while (text.n > 0) {
        ssize_t end = str_find_str(text, STR("\r\n"));
        bool at_end = end == 0;
        struct str run = at_end ? str_head(text, 2) : str_head(text, end < 0 || (size_t)end > step ? step : (size_t)end);
        text = str_from(text, run.n);
        switch (encoder) {
        case QP:
        case QP_ALONE: at_end ? transfer_qp_line_end(&qp, out) : transfer_qp_run(&qp, run, out); break;
        case BASE64: transfer_base64_run(&base64, run, out); break;
        case FIX_QP: at_end ? transfer_mend_qp_line_end(&fix_qp, out) : transfer_mend_qp_run(&fix_qp, run, out); break;
        case FIX_BASE64: transfer_mend_base64_run(&fix_base64, run, out); break;
        }
    }
    if (encoder == QP)
        transfer_qp_end(&qp, out);
    if (encoder == QP_ALONE)
        transfer_qp_end_alone(&qp, out);
    if (encoder == BASE64)
        transfer_base64_end(&base64, out);
    assert_true(buf_ok(out));
}

static void test_table(void **state)
{
    // clang-format off
    static const struct { enum encoder encoder; const char *in, *out; } cases[] = {
        { QP,         "",                             ""                                          },
        { QP,         "--b\r\n-x\r\n-",               "=2D-b\r\n-x\r\n-"                           },   /* no line can be a delimiter */
        { QP,         X70 "12345--b",                 X70 "12345=\r\n=2D-b"                        },   /* nor one that we begin */
        { QP,         X70 "123456",                   X70 "123456"                                },
        { QP,         X70 "1234567",                  X70 "12345=\r\n67"                           },
        { QP,         X70 "1234\xff",                 X70 "1234=\r\n=FF"                           },
        { QP,         X70 "123\xff",                  X70 "123=FF"                                },
        { QP,         "a\rb\nc",                      "a=0Db=0Ac"                                 },
        { QP,         "a \r\nb\t",                    "a=20\r\nb=09"                              },
        { QP,         " ",                            "=20"                                       },
        { QP_ALONE,   "a\r\nb",                       "a\r\nb=\r\n"                               },   /* "b" has no line end, and gets none */
        { QP_ALONE,   X70 "12345",                    X70 "12345=\r\n"                            },
        { QP_ALONE,   X70 "123456",                   X70 "12345=\r\n6=\r\n"                      },
        { QP_ALONE,   "a\r\n",                        "a\r\n"                                     },
        { BASE64,     "\xff\xfe\xfd\r\n\xff",         "//79DQr/"                                  },
        { FIX_QP,     "a=3D\xe4=\r\nb\0c",            "a=3D=E4=\r\nb"                             },
        { FIX_QP,     X700 X70 X70 "123456789012345678901234567890123456789012345678901234567890=3D",
                      X700 X70 X70 "123456789012345678901234567890123456789012345678901234567890=\r\n=3D" },
        { FIX_QP,     X700 X70 X70 "12345678901234567890123456789012345678901234567890123456789=3D--",
                      X700 X70 X70 "12345678901234567890123456789012345678901234567890123456789=3D=\r\n=2D-" },   /* no escape is cut */
        { FIX_BASE64, "YW\xff" "Jj \r\nZA==\r\n",     "YWJjZA=="                                  },
        { FIX_BASE64, X70 X70,                        X70 "xxxxxx\r\nxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx" },
    };
    // clang-format on

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (size_t step = 1; step < 1100; step += step < 5 ? 1 : 300) {
            CLEANUP_BUF struct buf out;
            buf_init(&out, 65536);
            encode(cases[i].encoder, str_of(cases[i].in), step, &out);
            if (!str_eq(buf_str(&out), str_of(cases[i].out)))
                fail_msg("%zu, in steps of %zu: %" STR_FMT, i, step, STR_ARG(buf_str(&out)));
        }
}

/* The encoders of base/codec, which have all at once, agree; but for lines that begin with "--". */
static void test_random(void **state)
{
    (void)state;
    srandom(1);
    for (unsigned round = 0; round < 3000; round++) {
        CLEANUP_BUF struct buf in, out, expected;
        buf_init(&in, 65536);
        buf_init(&out, 1 << 20);
        buf_init(&expected, 1 << 20);
        for (long n = random() % 500; n > 0; n--) {
            if (random() % 40 == 0)
                buf_put_str(&in, STR("\r\n"));
            else
                buf_put_char(&in, random() % 3 == 0 ? (char)random() : " \tabc=."[random() % 7]);
        }
        struct str text = buf_str(&in);
        size_t step = 1 + (size_t)random() % 20;
        if (str_find_str(text, STR("--")) < 0) {
            encode(QP, text, step, &out);
            codec_put_quoted_printable(&expected, text);
            assert_true(str_eq(buf_str(&out), buf_str(&expected)));
        }
        buf_clear(&out);
        buf_clear(&expected);
        encode(BASE64, text, step, &out);
        assert_int_equal(out.n, transfer_base64_size(text.n));
        codec_put_base64_lines(&expected, text);
        if (out.n > 0)
            buf_put_str(&out, STR("\r\n"));
        assert_true(str_eq(buf_str(&out), buf_str(&expected)));
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
