/*
 * Records as bytes: what is kept of a newer program's, what is refused, and that no damage passes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/codec.h"
#include "queue/record.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SALT 0x12345678u

/* ---- payloads, as a table ---- */

/*
 * Entries, one after another:
 *     id  time  rcpts=N  states=DIGITS  body=TEXT  file  envelope  held  ended  due  region  outcome   as we write them
 *     kept      one that we do not know, not critical           critical  one that we do not know, critical
 *     short     an id of four bytes                             torn      one that says to be longer than what is left
 *     badstate  an outcome with a state that is none            liar      an outcome whose lengths do not add up
 */
#define MESSAGE "id rcpts=2 envelope body=x"

static const struct {
    const char        *name;
    enum record_type   type;
    uint8_t            flags;
    const char        *entries;
    enum record_result expected;
} cases[] = {
    { "a type that nobody knows", 99, 0, "id", RECORD_OK },
    { "such a type, with anything in it", 99, 0, "kept", RECORD_OK },
    { "such a type, critical", 99, RECORD_FLAG_CRITICAL, "id", RECORD_UNKNOWN_CRITICAL },
    { "a type we know, critical", RECORD_ENDED, RECORD_FLAG_CRITICAL, "id", RECORD_OK },
    { "flags that nobody knows", RECORD_HELD, 0x80, "id", RECORD_OK },
    { "a tag that nobody knows", RECORD_HELD, 0, "kept id kept", RECORD_OK },
    { "such a tag twice", RECORD_HELD, 0, "id kept kept", RECORD_OK },
    { "such a tag, critical", RECORD_HELD, 0, "id critical", RECORD_UNKNOWN_CRITICAL },
    { "such a tag, critical, in a type nobody knows", 99, 0, "critical", RECORD_UNKNOWN_CRITICAL },
    { "nothing at all", RECORD_HELD, 0, "", RECORD_BAD },
    { "nothing, where nothing is needed", RECORD_CLOSED, 0, "", RECORD_OK },
    { "an entry that is torn", RECORD_HELD, 0, "id torn", RECORD_BAD },
    { "an id that is short", RECORD_HELD, 0, "short", RECORD_BAD },
    { "an id twice", RECORD_HELD, 0, "id id", RECORD_BAD },
    { "a message", RECORD_ACCEPTED, 0, MESSAGE, RECORD_OK },
    { "a message with its body in a file", RECORD_ACCEPTED, 0, "id rcpts=2 envelope file", RECORD_OK },
    { "a message with no bytes", RECORD_ACCEPTED, 0, "id rcpts=2 envelope body=", RECORD_OK },
    { "a message without a body", RECORD_ACCEPTED, 0, "id rcpts=2 envelope", RECORD_BAD },
    { "a message with two bodies", RECORD_ACCEPTED, 0, MESSAGE " file", RECORD_BAD },
    { "a message without an envelope", RECORD_ACCEPTED, 0, "id rcpts=2 body=x", RECORD_BAD },
    { "a message without an id", RECORD_ACCEPTED, 0, "rcpts=2 envelope body=x", RECORD_BAD },
    { "a message for nobody", RECORD_ACCEPTED, 0, "id rcpts=0 envelope body=x", RECORD_BAD },
    { "a message for more than its envelope can name", RECORD_ACCEPTED, 0, "id rcpts=4000000000 envelope body=x", RECORD_BAD },
    { "a move", RECORD_MOVED, 0, MESSAGE " states=10 held due outcome outcome", RECORD_OK },
    { "a move with too few states", RECORD_MOVED, 0, MESSAGE " states=1", RECORD_BAD },
    { "a move with a state that is none", RECORD_MOVED, 0, MESSAGE " states=19", RECORD_BAD },
    { "outcomes", RECORD_OUTCOME, 0, "id time outcome kept outcome ended", RECORD_OK },
    { "an outcome with a state that is none", RECORD_OUTCOME, 0, "id outcome badstate", RECORD_BAD },
    { "an outcome that says to be longer than it is", RECORD_OUTCOME, 0, "id liar", RECORD_BAD },
    { "a new due time", RECORD_DUE, 0, "id due", RECORD_OK },
    { "a new due time without one", RECORD_DUE, 0, "id", RECORD_BAD },
    { "an abandoned region", RECORD_ABANDONED, RECORD_FLAG_CRITICAL, "region", RECORD_OK },
    { "an abandoned region without one", RECORD_ABANDONED, RECORD_FLAG_CRITICAL, "kept", RECORD_BAD },
};

static const struct outcome outcome = {
    .rcpt = 1, .state = RCPT_BOUNCED, .status = STR("5.1.1"), .remote = STR("mx.b.example"), .text = STR("550 no such user")
};
static const struct record_region region = { .generation = 3, .segment = 4, .from = 4096, .first_sequence = 5, .last_sequence = UINT64_MAX };

static const enum record_tag newer = (enum record_tag)0x0777, newer_critical = (enum record_tag)(0x0777 | RECORD_TAG_CRITICAL);

static void put_outcome_spoiled(struct buf *b, size_t at, char value)
{
    size_t start = b->n;
    record_put_outcome(b, &outcome);
    b->p[start + 6 + at] = value;                    /* behind tag and length */
}

static void put_states(struct buf *b, const char *digits)
{
    char states[16];
    size_t n = strlen(digits);
    for (size_t i = 0; i < n; i++)
        states[i] = (char)(digits[i] - '0');
    record_put_str(b, RECORD_TAG_STATES, (struct str){ states, n });
}

static void put_entry(struct buf *b, const char *word)
{
    const char *value = strchr(word, '=');
    value = value == NULL ? "" : value + 1;
#define IS(name) (strncmp(word, name, strlen(name)) == 0)
    if (IS("id"))
        record_put_u64(b, RECORD_TAG_ID, 77);
    else if (IS("time"))
        record_put_u64(b, RECORD_TAG_TIME, (uint64_t)-1);
    else if (IS("rcpts"))
        record_put_u32(b, RECORD_TAG_RCPTS, (uint32_t)strtoul(value, NULL, 10));
    else if (IS("states"))
        put_states(b, value);
    else if (IS("body"))
        record_put_str(b, RECORD_TAG_BODY, str_of(value));
    else if (IS("file"))
        record_put_body_file(b, 123456, 0xfeed);
    else if (IS("envelope"))
        record_put_str(b, RECORD_TAG_ENVELOPE, STR("not looked at here"));
    else if (IS("held"))
        record_put_str(b, RECORD_TAG_HELD, STR(""));
    else if (IS("ended"))
        record_put_str(b, RECORD_TAG_ENDED, STR(""));
    else if (IS("due"))
        record_put_u64(b, RECORD_TAG_DUE, 99);
    else if (IS("region"))
        record_put_region(b, &region);
    else if (IS("outcome"))
        record_put_outcome(b, &outcome);
    else if (IS("kept"))
        record_put_str(b, newer, STR("of a newer program"));
    else if (IS("critical"))
        record_put_str(b, newer_critical, STR("of a newer program"));
    else if (IS("short"))
        record_put_u32(b, RECORD_TAG_ID, 77);
    else if (IS("torn"))
        buf_put(b, "\x02\x00\x09\x00\x00\x00only 8..", 14);
    else if (IS("badstate"))
        put_outcome_spoiled(b, 4, RCPT_DISCARDED + 1);
    else if (IS("liar"))
        put_outcome_spoiled(b, 6, 100);
    else
        fail_msg("no such entry: %s", word);
}

static void build(struct buf *b, const char *entries)
{
    char copy[256], *rest = NULL;
    snprintf(copy, sizeof copy, "%s", entries);
    buf_init(b, 4096);
    for (char *word = strtok_r(copy, " ", &rest); word != NULL; word = strtok_r(NULL, " ", &rest))
        put_entry(b, word);
    assert_true(buf_ok(b));
}

static void what_is_read(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct buf b;
        struct record r, untouched;
        memset(&r, 0x5a, sizeof r);
        memset(&untouched, 0x5a, sizeof untouched);
        build(&b, cases[i].entries);
        enum record_result got = record_parse((uint8_t)cases[i].type, cases[i].flags, buf_str(&b), &r);
        if (got != cases[i].expected)
            fail_msg("%s: %d", cases[i].name, got);
        if (got != RECORD_OK)
            assert_memory_equal(&r, &untouched, sizeof r);
        buf_free(&b);
    }
}

/* Cut anywhere, an entry is torn or what its type needs is missing; and nothing is read beyond the end (the sanitizers look). */
static void cut_short(void **state)
{
    (void)state;
    struct buf b;
    struct record r;
    build(&b, "id kept region");
    for (size_t n = 0; n < b.n; n++) {
        char *copy = malloc(n + (n == 0));
        memcpy(copy, b.p, n);
        assert_int_equal(record_parse(RECORD_ABANDONED, 0, (struct str){ copy, n }, &r), RECORD_BAD);
        free(copy);
    }
    assert_int_equal(record_parse(RECORD_ABANDONED, 0, buf_str(&b), &r), RECORD_OK);
    buf_free(&b);
}

/* What we do not know goes on as it was, in its order; what we know does not go twice. */
static void unknown_is_kept(void **state)
{
    (void)state;
    struct buf b, kept, expected;
    struct record r;
    buf_init(&kept, 4096);
    buf_init(&expected, 4096);
    build(&b, "kept " MESSAGE " kept outcome");
    record_put_str(&b, (enum record_tag)0x0123, STR(""));
    assert_int_equal(record_parse(RECORD_MOVED, 0, buf_str(&b), &r), RECORD_OK);
    record_put_unknown(&kept, r.payload);
    put_entry(&expected, "kept");
    put_entry(&expected, "kept");
    record_put_str(&expected, (enum record_tag)0x0123, STR(""));
    assert_true(str_eq(buf_str(&kept), buf_str(&expected)));
    buf_free(&b);
    buf_free(&kept);
    buf_free(&expected);
}

static void as_it_was_written(void **state)
{
    (void)state;
    struct buf b;
    struct record r;
    struct outcome o;
    size_t cursor = 0;
    build(&b, "id time rcpts=2 envelope file states=12 held due region kept outcome outcome");
    record_put_place(&b, RECORD_TAG_PREVIOUS, &(struct record_place){ 1, 2, UINT64_C(1) << 33 });
    assert_int_equal(record_parse(RECORD_MOVED, 0, buf_str(&b), &r), RECORD_OK);
    assert_true(r.id == 77 && r.time_ns == -1 && r.rcpts == 2 && r.held && !r.ended && r.has_due && r.due_ns == 99);
    assert_true(r.body_in_file && r.body_size == 123456 && r.body_crc == 0xfeed && r.body.n == 0);
    assert_memory_equal(r.states.p, "\1\2", 2);
    assert_memory_equal(&r.region, &region, sizeof region);
    assert_true(r.previous.generation == 1 && r.previous.segment == 2 && r.previous.offset == UINT64_C(1) << 33);
    for (int i = 0; i < 2; i++) {
        assert_true(record_outcome_next(r.payload, &cursor, &o));
        assert_true(o.rcpt == 1 && o.state == RCPT_BOUNCED && str_eq(o.status, outcome.status));
        assert_true(str_eq(o.remote, outcome.remote) && str_eq(o.text, outcome.text));
    }
    assert_false(record_outcome_next(r.payload, &cursor, &o));
    buf_free(&b);
}

/* A remote server's words may be as long as it likes: its host and its text are cut, the record stays readable. */
static void long_words_are_cut(void **state)
{
    (void)state;
    static char words[70000];
    struct buf b;
    struct outcome o = { .text = { words, sizeof words }, .remote = { words, sizeof words }, .status = { words, 300 } }, back;
    size_t cursor = 0;
    memset(words, 'w', sizeof words);
    buf_init(&b, 1 << 20);
    record_put_outcome(&b, &o);
    assert_true(record_outcome_next(buf_str(&b), &cursor, &back));
    assert_true(back.text.n == QUEUE_OUTCOME_TEXT_MAX && back.remote.n == 255 && back.status.n == 255);
    buf_free(&b);
}

/* ---- frames ---- */

static const struct record_head head = { .type = RECORD_HELD, .flags = 1, .length = 11, .batch = 7, .index = 3, .sequence = UINT64_C(1) << 40 };

static void any_bit_of_a_head_counts(void **state)
{
    (void)state;
    unsigned char bytes[RECORD_HEAD_SIZE];
    struct record_head got;
    record_head_put(bytes, SALT, &head);
    assert_true(record_head_get(bytes, SALT, &got));
    assert_true(got.type == head.type && got.flags == head.flags && got.length == head.length && got.payload_crc == head.payload_crc);
    assert_true(got.batch == head.batch && got.index == head.index && got.sequence == head.sequence);
    assert_false(record_head_get(bytes, SALT + 1, &got));
    assert_false(record_head_get(bytes, 0, &got));
    for (unsigned bit = 0; bit < 8 * RECORD_HEAD_SIZE; bit++) {
        bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
        assert_false(record_head_get(bytes, SALT, &got));
        bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
    }
}

static void any_bit_of_a_payload_counts(void **state)
{
    (void)state;
    char payload[11] = "hello world";
    struct record_head h = head;
    h.payload_crc = codec_crc32c(0, payload, sizeof payload);
    assert_true(record_payload_good(&h, payload));
    for (unsigned bit = 0; bit < 8 * sizeof payload; bit++) {
        payload[bit / 8] ^= (char)(1u << bit % 8);
        assert_false(record_payload_good(&h, payload));
        payload[bit / 8] ^= (char)(1u << bit % 8);
    }
}

/* A disk gives zeros for what was never written: whatever the salt, they are no record. */
static void zeros_are_no_record(void **state)
{
    (void)state;
    static const unsigned char zeros[RECORD_HEAD_SIZE];
    struct record_head got;
    for (uint32_t salt = 0; salt < 100000; salt++)
        assert_false(record_head_get(zeros, salt, &got));
    unsigned char bytes[RECORD_HEAD_SIZE];
    record_head_put(bytes, SALT, &(struct record_head){ .type = 0, .batch = 1 });
    assert_false(record_head_get(bytes, SALT, &got));
    record_head_put(bytes, SALT, &(struct record_head){ .type = 1, .batch = 0 });
    assert_false(record_head_get(bytes, SALT, &got));
}

/* Of a front, all but the body; of one that ends before the body, nothing. And two bodies are no record, wherever it is cut. */
static void fronts(void **state)
{
    (void)state;
    struct record whole, got;
    struct buf b;
    for (int twice = 0; twice < 2; twice++) {
        buf_init(&b, 4096);
        record_put_u64(&b, RECORD_TAG_ID, 77);
        record_put_u32(&b, RECORD_TAG_RCPTS, 1);
        record_put_str(&b, RECORD_TAG_ENVELOPE, STR("not looked at here"));
        if (twice)
            record_put_str(&b, RECORD_TAG_BODY, STR("one"));
        record_put_body_head(&b, 300);
        size_t before = b.n;
        for (int i = 0; i < 300; i++)
            buf_put_char(&b, 'x');
        for (size_t n = 0; n <= b.n; n++) {
            char *copy = memcpy(malloc(n + 1), b.p, n);  /* so that a byte too far is seen */
            enum record_result r = record_parse_front(RECORD_ACCEPTED, 0, (struct str){ copy, n }, (uint32_t)b.n, &got);
            assert_int_equal(r, n >= before && !twice ? RECORD_OK : RECORD_BAD);
            if (r == RECORD_OK) {
                assert_int_equal(record_parse(RECORD_ACCEPTED, 0, buf_str(&b), &whole), RECORD_OK);
                assert_true(got.id == whole.id && got.rcpts == 1 && got.has_body && !got.body_in_file && got.body_size == 300);
            }
            free(copy);
        }
        buf_free(&b);
    }
}

static void sizes(void **state)
{
    (void)state;
    assert_int_equal(record_size(0), 32);
    assert_int_equal(record_size(1), 40);
    assert_int_equal(record_size(8), 40);
    assert_int_equal(record_size(UINT32_MAX), (UINT64_C(1) << 32) + 32);   /* what a head can say does not wrap */
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_read),
        cmocka_unit_test(cut_short),
        cmocka_unit_test(unknown_is_kept),
        cmocka_unit_test(as_it_was_written),
        cmocka_unit_test(long_words_are_cut),
        cmocka_unit_test(any_bit_of_a_head_counts),
        cmocka_unit_test(any_bit_of_a_payload_counts),
        cmocka_unit_test(zeros_are_no_record),
        cmocka_unit_test(sizes),
        cmocka_unit_test(fronts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
