/*
 * SCRAM's arithmetic: the example of RFC 7677, 3, from both sides.
 */
#include "base/codec.h"
#include "base/scram.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define NONCE "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
#define MESSAGE STR("n=user,r=rOprNGfwEbeRWgbNEkqO,r=" NONCE ",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,r=" NONCE)

static struct str decoded(struct buf *b, const char *base64)
{
    assert_true(codec_base64(str_of(base64), b));
    return buf_str(b);
}

static void the_rfc_example(void **state)
{
    char salt_bytes[16], proof_bytes[32], signature_bytes[32];
    uint8_t proof[DIGEST_SHA256_LEN], signature[DIGEST_SHA256_LEN], again[DIGEST_SHA256_LEN];
    struct buf b;
    struct scram_keys keys;

    (void)state;
    buf_init_fixed(&b, salt_bytes, sizeof salt_bytes);
    struct str salt = decoded(&b, "W22ZaJ0SNY7soEsUEjb6gQ==");
    scram_prove(STR("pencil"), salt, 4096, MESSAGE, proof, signature);
    buf_init_fixed(&b, proof_bytes, sizeof proof_bytes);
    assert_memory_equal(proof, decoded(&b, "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=").p, sizeof proof);
    buf_init_fixed(&b, signature_bytes, sizeof signature_bytes);
    assert_memory_equal(signature, decoded(&b, "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=").p, sizeof signature);

    scram_derive(STR("pencil"), salt, 4096, &keys);
    assert_true(scram_check(&keys, MESSAGE, proof, again));
    assert_memory_equal(again, signature, sizeof again);
}

static void what_is_wrong(void **state)
{
    uint8_t proof[DIGEST_SHA256_LEN], signature[DIGEST_SHA256_LEN], none[DIGEST_SHA256_LEN];
    struct scram_keys keys;

    (void)state;
    memset(none, 7, sizeof none);
    scram_derive(STR("pencil"), STR("salt"), 4096, &keys);
    scram_prove(STR("pencil"), STR("salt"), 4096, STR("this"), proof, signature);
    assert_false(scram_check(&keys, STR("that"), proof, none));
    for (size_t bit = 0; bit < 8 * sizeof proof; bit++) {
        proof[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_false(scram_check(&keys, STR("this"), proof, none));
        proof[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    scram_prove(STR("Pencil"), STR("salt"), 4096, STR("this"), proof, signature);
    assert_false(scram_check(&keys, STR("this"), proof, none));
    for (size_t i = 0; i < sizeof none; i++)
        assert_int_equal(none[i], 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_rfc_example),
        cmocka_unit_test(what_is_wrong),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
