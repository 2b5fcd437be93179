/*
 * SHA-256: the vectors of FIPS 180-2, appendix B, whole and in pieces.
 */
#include "base/codec.h"
#include "base/digest.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static const struct {
    struct str in;
    const char *hex;
} cases[] = {
  // clang-format off
    { { NULL, 0 },    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" },
    { { "abc", 3 },   "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" },
    { { "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56 },
                      "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1" },
  // clang-format on
};

static void assert_digest(const uint8_t sum[DIGEST_SHA256_LEN], const char *hex)
{
    char text[2 * DIGEST_SHA256_LEN];
    struct buf b;

    buf_init_fixed(&b, text, sizeof text);
    codec_put_hex(&b, (struct str){ (const char *)sum, DIGEST_SHA256_LEN });
    assert_true(str_eq(buf_str(&b), str_of(hex)));
}

static void whole(void **state)
{
    uint8_t sum[DIGEST_SHA256_LEN];

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        digest_sha256(cases[i].in, sum);
        assert_digest(sum, cases[i].hex);
    }
}

static void in_pieces(void **state)
{
    uint8_t sum[DIGEST_SHA256_LEN];

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct digest *d = digest_new();
        assert_non_null(d);
        for (struct str rest = cases[i].in; rest.n > 0; rest = str_from(rest, 3)) {
            digest_add(d, str_head(rest, 3));
            digest_add(d, (struct str){ NULL, 0 });
        }
        digest_end(d, sum);
        digest_free(d);
        assert_digest(sum, cases[i].hex);
    }
    digest_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole),
        cmocka_unit_test(in_pieces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
