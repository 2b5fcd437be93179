/*
 * SHA-256: the vectors of FIPS 180-2, appendix B, whole and in pieces. HMAC: RFC 4231; PBKDF2: RFC 7914, 11.
 */
#include "base/codec.h"
#include "base/digest.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

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

static void hmac(void **state)
{
    char    key131[131];
    uint8_t sum[DIGEST_SHA256_LEN];

    (void)state;
    memset(key131, 0xaa, sizeof key131);
    digest_hmac((struct str){ key131, sizeof key131 }, STR("Test Using Larger Than Block-Size Key - Hash Key First"), sum);
    assert_digest(sum, "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
    digest_hmac(STR("\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b"), STR("Hi There"), sum);
    assert_digest(sum, "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
    digest_hmac(STR("Jefe"), STR("what do ya want for nothing?"), sum);
    assert_digest(sum, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    digest_hmac((struct str){ NULL, 0 }, (struct str){ NULL, 0 }, sum);
    assert_digest(sum, "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad");
}

static void pbkdf2(void **state)
{
    uint8_t sum[DIGEST_SHA256_LEN];

    (void)state;
    digest_pbkdf2(STR("passwd"), STR("salt"), 1, sum);
    assert_digest(sum, "55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc");
    digest_pbkdf2(STR("Password"), STR("NaCl"), 80000, sum);
    assert_digest(sum, "4ddcd8f60b98be21830cee5ef22701f9641a4418d04c0414aeff08876b34ab56");
}

static void equal(void **state)
{
    (void)state;
    assert_true(digest_equal("", "", 0));
    assert_true(digest_equal("abc", "abd", 2));
    assert_false(digest_equal("abc", "abd", 3));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hmac),
        cmocka_unit_test(pbkdf2),
        cmocka_unit_test(equal),
        cmocka_unit_test(whole),
        cmocka_unit_test(in_pieces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
