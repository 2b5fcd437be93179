/*
 * The envelope's stored form. The bytes in here are a format: a change that breaks one of these tests breaks journals.
 */
#include "base/cleanup.h"
#include "mail/envelope.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static struct arena a;

static int setup(void **state)
{
    (void)state;
    arena_init(&a, 16 << 20);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    arena_reset(&a);
    return 0;
}

static void assert_str(struct str s, struct str expected)
{
    assert_int_equal(s.n, expected.n);
    assert_true(str_eq(s, expected));
}

static struct envelope full_envelope(struct recipient rcpts[2])
{
    struct envelope env = {
        .id = 0x0102030405060708,
        .arrived_ns = -5,
        .rcpts = rcpts,
        .rcpt_count = 2,
        .client_ip = STR("192.0.2.1"),
        .client_name = STR("c.example"),
        .helo = STR("h"),
        .login = STR("me"),
        .protocol = STR("ESMTPSA"),
        .body_8bit = true,
        .body_binary = true,
        .tls_optional = true,
        .smtputf8 = true,
        .requiretls = true,
        .envid = STR("QQ"),
        .ret = RET_HDRS,
        .size = UINT64_MAX,
        .hold_until_ns = 1,
        .deliver_by_ns = 2,
        .by_mode = 'R' | 0x80,
        .priority = -9,
        .source_address = STR("pool1"),
        .unknown = STR("\x00\x70\x01\x00\x00\x00x"),
    };
    assert_true(address_of_parts(STR("s"), STR("a.example"), &env.sender));
    rcpts[0] = (struct recipient){
        .original = STR("rfc822;o@x"), .notify = NOTIFY_NEVER, .rrvs_ns = 7, .unknown = STR("\x01\x70\x00\x00\x00\x00")
    };
    assert_true(address_of_parts(STR("r 1"), STR("b.example"), &rcpts[0].addr));
    assert_true(address_of_parts(STR("alias"), STR("b.example"), &rcpts[0].rewritten_from));
    rcpts[1] = (struct recipient){ .notify = 0 };
    assert_true(address_of_parts(STR("r2"), STR("[192.0.2.1]"), &rcpts[1].addr));
    return env;
}

static void check_full(const struct envelope *e)
{
    assert_true(e->id == 0x0102030405060708 && e->arrived_ns == -5 && e->size == UINT64_MAX && !e->null_sender);
    assert_str(e->sender.local, STR("s"));
    assert_str(e->client_ip, STR("192.0.2.1"));
    assert_str(e->client_name, STR("c.example"));
    assert_str(e->helo, STR("h"));
    assert_str(e->login, STR("me"));
    assert_str(e->protocol, STR("ESMTPSA"));
    assert_true(e->body_8bit && e->body_binary && e->smtputf8 && e->requiretls && e->tls_optional && e->ret == RET_HDRS && e->priority == -9);
    assert_str(e->envid, STR("QQ"));
    assert_true(e->hold_until_ns == 1 && e->deliver_by_ns == 2 && e->by_mode == ('R' | 0x80));
    assert_str(e->source_address, STR("pool1"));
    assert_str(e->unknown, STR("\x00\x70\x01\x00\x00\x00x"));
    assert_int_equal(e->rcpt_count, 2);
    assert_str(e->rcpts[0].addr.local, STR("r 1"));
    assert_true(e->rcpts[0].addr.quoted && e->rcpts[0].notify == NOTIFY_NEVER && e->rcpts[0].rrvs_ns == 7);
    assert_str(e->rcpts[0].original, STR("rfc822;o@x"));
    assert_str(e->rcpts[0].rewritten_from.local, STR("alias"));
    assert_str(e->rcpts[0].unknown, STR("\x01\x70\x00\x00\x00\x00"));
    assert_str(e->rcpts[1].addr.domain, STR("[192.0.2.1]"));
    assert_true(address_is_null(&e->rcpts[1].rewritten_from));
}

static void test_round_trip(void **state)
{
    CLEANUP_BUF struct buf out, again;
    struct recipient rcpts[2];
    struct envelope env = full_envelope(rcpts), back, copy;

    (void)state;
    buf_init(&out, 65536);
    buf_init(&again, 65536);
    envelope_put(&out, &env);
    assert_int_equal(envelope_parse(&a, buf_str(&out), &back), ENVELOPE_OK);
    check_full(&back);
    envelope_put(&again, &back);
    assert_str(buf_str(&again), buf_str(&out));
    assert_true(envelope_copy(&a, &back, &copy));
    memset(out.p, 0, out.n);
    check_full(&copy);
}

/* The first version's bytes, for ever. */
static void test_bytes(void **state)
{
    static const char bytes[] = "\x01\x00\x08\x00\x00\x00\x07\x00\x00\x00\x00\x00\x00\x00"
                                "\x03\x80\x0c\x00\x00\x00\x01\x00s@.example"
                                "\x04\x80\x12\x00\x00\x00\x01\x80\x05\x00\x00\x00\x01\x00rb.\x03\x80\x01\x00\x00\x00\x04";
    struct envelope env = { .id = 7 };
    struct recipient rcpt = { .notify = NOTIFY_FAILURE };
    char memory[256];
    struct buf out;
    static const char expected[] = "\x01\x00\x08\x00\x00\x00\x07\x00\x00\x00\x00\x00\x00\x00"
                                   "\x03\x80\x0c\x00\x00\x00\x01\x00sa.example"
                                   "\x04\x80\x11\x00\x00\x00\x01\x80\x04\x00\x00\x00\x01\x00rb\x03\x80\x01\x00\x00\x00\x04";

    (void)state;
    assert_true(address_of_parts(STR("s"), STR("a.example"), &env.sender));
    assert_true(address_of_parts(STR("r"), STR("b"), &rcpt.addr));
    env.rcpts = &rcpt;
    env.rcpt_count = 1;
    buf_init_fixed(&out, memory, sizeof memory);
    envelope_put(&out, &env);
    assert_str(buf_str(&out), (struct str){ expected, sizeof expected - 1 });
    /* A domain that is none was never written by us. */
    assert_int_equal(envelope_parse(&a, (struct str){ bytes, sizeof bytes - 1 }, &env), ENVELOPE_BAD);
}

// clang-format off
#define BYTES(literal) { literal, sizeof literal - 1 }
// clang-format on

static void test_strange(void **state)
{
    // clang-format off
    static const struct { struct str bytes; enum envelope_result result; } cases[] = {
        { BYTES(""),                                                       ENVELOPE_OK },
        { BYTES("\x00"),                                                   ENVELOPE_BAD },
        { BYTES("\x01\x00\x08\x00\x00"),                                   ENVELOPE_BAD },
        { BYTES("\x01\x00\x08\x00\x00\x00" "1234567"),                     ENVELOPE_BAD },
        { BYTES("\x01\x00\xff\xff\xff\xff" "12345678"),                    ENVELOPE_BAD },
        { BYTES("\x01\x00\x07\x00\x00\x00" "1234567"),                     ENVELOPE_BAD },
        { BYTES("\x01\x00\x08\x00\x00\x00" "12345678" "\x01\x00\x08\x00\x00\x00" "12345678"), ENVELOPE_BAD },      /* twice */
        { BYTES("\x05\x00\x00\x00\x00\x00" "\x05\x00\x00\x00\x00\x00"),    ENVELOPE_BAD },
        { BYTES("\x01\x00\x08\x00\x00\x00" "12345678" "\xff\xff\x00\x00\x00\x00"), ENVELOPE_UNKNOWN_CRITICAL },
        { BYTES("\x01\x80\x00\x00\x00\x00"),                               ENVELOPE_UNKNOWN_CRITICAL },      /* tag 1 is another */
        { BYTES("\x00\x70\x00\x00\x00\x00" "\x00\x70\x00\x00\x00\x00"),    ENVELOPE_OK },
        { BYTES("\x03\x00\x00\x00\x00\x00"),                               ENVELOPE_OK },
        { BYTES("\x0a\x80\x01\x00\x00\x00\x02"),                           ENVELOPE_BAD },
        { BYTES("\x0f\x00\x04\x00\x00\x00" "1234"),                        ENVELOPE_BAD },
        { BYTES("\x0e\x00\x01\x00\x00\x00\x03"),                           ENVELOPE_BAD },
        { BYTES("\x12\x00\x01\x00\x00\x00X"),                              ENVELOPE_BAD },
        { BYTES("\x13\x00\x04\x00\x00\x00\x0a\x00\x00\x00"),               ENVELOPE_BAD },
        { BYTES("\x03\x80\x00\x00\x00\x00"),                               ENVELOPE_BAD },
        { BYTES("\x03\x80\x02\x00\x00\x00\x00\x00"),                       ENVELOPE_BAD },      /* null is absent, not empty */
        { BYTES("\x03\x80\x03\x00\x00\x00\x02\x00s"),                      ENVELOPE_BAD },
        { BYTES("\x03\x80\x04\x00\x00\x00\x01\x00\x0a" "b"),               ENVELOPE_BAD },      /* a line feed in an address */
        { BYTES("\x03\x80\x04\x00\x00\x00\x01\x00sB"),                     ENVELOPE_BAD },
        { BYTES("\x04\x80\x00\x00\x00\x00"),                               ENVELOPE_BAD },      /* a recipient without address */
        { BYTES("\x04\x80\x05\x00\x00\x00\x01\x80\x00\x00\x00"),           ENVELOPE_BAD },
        { BYTES("\x04\x80\x06\x00\x00\x00\xff\x80\x00\x00\x00\x00"),       ENVELOPE_UNKNOWN_CRITICAL },
        { BYTES("\x04\x80\x11\x00\x00\x00\x01\x80\x04\x00\x00\x00\x01\x00rb\x03\x80\x01\x00\x00\x00\x03"), ENVELOPE_BAD },
        { BYTES("\x04\x80\x11\x00\x00\x00\x01\x80\x04\x00\x00\x00\x01\x00rb\x03\x80\x01\x00\x00\x00\x10"), ENVELOPE_BAD },
        { BYTES("\x04\x80\x0a\x00\x00\x00\x01\x80\x04\x00\x00\x00\x01\x00rb"), ENVELOPE_OK },
    };
    // clang-format on

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct envelope env = { .id = 99 };
        enum envelope_result r = envelope_parse(&a, cases[i].bytes, &env);
        if (r != cases[i].result)
            fail_msg("case %zu: %d", i, (int)r);
        assert_true(r == ENVELOPE_OK || env.id == 99);
    }
}

static void test_null_sender(void **state)
{
    struct envelope env;

    (void)state;
    assert_int_equal(envelope_parse(&a, STR(""), &env), ENVELOPE_OK);
    assert_true(env.null_sender && env.rcpt_count == 0);
}

/* Every torn prefix is refused or is a shorter envelope; none is read beyond its end. */
static void test_torn(void **state)
{
    CLEANUP_BUF struct buf out;
    struct recipient rcpts[2];
    struct envelope env = full_envelope(rcpts), back;

    (void)state;
    buf_init(&out, 65536);
    envelope_put(&out, &env);
    for (size_t n = 0; n < out.n; n++) {
        CLEANUP_FREE char *exact = malloc(n + 1); /* for the address sanitizer */
        memcpy(exact, out.p, n);
        enum envelope_result r = envelope_parse(&a, (struct str){ exact, n }, &back);
        assert_true(r == ENVELOPE_OK || r == ENVELOPE_BAD);
    }
}

static void test_full_arena(void **state)
{
    CLEANUP_BUF struct buf out;
    struct recipient rcpts[2];
    struct envelope env = full_envelope(rcpts), back;
    struct arena small;
    bool enough = false;

    (void)state;
    buf_init(&out, 65536);
    envelope_put(&out, &env);
    for (size_t limit = 0; !enough; limit += 64) {
        arena_init(&small, limit);
        enum envelope_result r = envelope_parse(&small, buf_str(&out), &back);
        enough = r == ENVELOPE_OK && envelope_copy(&small, &env, &back);
        assert_true(enough || arena_failed(&small));
        arena_reset(&small);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),  cmocka_unit_test(test_bytes), cmocka_unit_test(test_strange),
        cmocka_unit_test(test_null_sender), cmocka_unit_test(test_torn),  cmocka_unit_test(test_full_arena),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
