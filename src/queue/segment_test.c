/*
 * What is found in a segment again, whatever stands in it: torn writes, damage, the records of the file's earlier use.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/codec.h"
#include "queue/segment.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SALT  0x5a175a17u
#define FIRST 10 /* the segment's first sequence number; the tables count from 1 */

static const struct segment_header header = {
    .version = SEGMENT_FORMAT_VERSION, .generation = 3, .number = 7, .salt = SALT, .first_sequence = FIRST, .created_ns = 1, .id_floor = 99
};

/*
 * Records are written "batch/index", one after another with rising sequence numbers, and what is wrong with one behind it:
 *     !   its payload is damaged         ?   its head is damaged            z   there are zeros in its place
 *     s   it has another salt            n   it has no salt, as who imitates a record from outside would write it
 *     o   it has a sequence number from before the segment's first, and the next one has this one's
 */
// clang-format off
static const struct {
    const char *name, *written;
    const char *found;                               /* by number */
    const char *last_batch;                          /* those of the found ones */
    unsigned    bad;
    bool        torn;
} cases[] = {
    /*                                                      written                 found       last    bad torn */
    { "nothing",                                            "",                     "",         "",     0,  false },
    { "all is well",                                        "1/0 1/1 2/0 2/1",      "1 2 3 4",  "3 4",  0,  false },
    { "torn: a payload",                                    "1/0 2/0 2/1!",         "1 2",      "2",    0,  true  },
    { "torn: a payload, and what stands behind it",         "1/0 2/0 2/1! 2/2",     "1 2",      "2",    0,  true  },
    { "torn: a head",                                       "1/0 2/0 2/1? 2/2",     "1 2",      "2",    0,  true  },
    { "torn: a hole",                                       "1/0 2/0 2/1z 2/2",     "1 2",      "2",    0,  true  },
    { "torn: the beginning of a batch",                     "1/0 2/0? 2/1",         "1",        "",     0,  true  },
    { "torn: the first batch",                              "1/0! 1/1",             "",         "",     0,  true  },
    { "torn: all of the batch",                             "1/0 2/0? 2/1?",        "1",        "1",    0,  false },
    { "damage: a payload in a batch that had been synced",  "1/0 1/1! 1/2 2/0",     "1 3 4",    "4",    1,  false },
    { "damage: a head there",                               "1/0 1/1? 1/2 2/0",     "1 3 4",    "4",    1,  false },
    { "damage: the end of a batch that had been synced",    "1/0 1/1? 2/0",         "1 3",      "3",    1,  false },
    { "damage: a batch that had been synced",               "1/0 2/0? 2/1? 3/0",    "1 4",      "4",    2,  false },
    { "damage, and torn",                                   "1/0! 1/1 2/0 2/1!",    "2 3",      "3",    1,  true  },
    { "an earlier use: another salt",                       "1/0 1/1s",             "1",        "1",    0,  false },
    { "an earlier use: another salt, a later batch",        "1/0 5/0s 5/1s",        "1",        "1",    0,  false },
    { "an earlier use: a sequence from before",             "1/0 2/0o",             "1",        "1",    0,  false },
    { "an earlier use: nothing but that",                   "1/0o 2/0s",            "",         "",     0,  false },
    { "a batch does not go back",                           "2/0 1/0",              "1",        "1",    0,  false },
    { "an imitation behind a torn record",                  "1/0 1/1! 1/2n 2/0n",   "1",        "1",    0,  true  },
    { "an imitation behind damage",                         "1/0 1/1! 1/2n 2/0",    "1 4",      "4",    2,  false },
};
// clang-format on

struct builder {
    unsigned char bytes[16384];
    size_t end;
    uint64_t sequence;
};

static void add_record(struct builder *b, uint32_t batch, uint32_t index, char fault)
{
    char payload[100];
    unsigned char *at = b->bytes + b->end;
    snprintf(payload, sizeof payload, "record %llu, and some more, so that it is long enough", (unsigned long long)b->sequence);
    struct record_head head = {
        .type = RECORD_HELD, .length = (uint32_t)strlen(payload), .batch = batch, .index = index, .sequence = b->sequence
    };
    head.payload_crc = codec_crc32c(0, payload, head.length);
    if (fault == 'o')
        head.sequence = FIRST - 1;
    else
        b->sequence++;
    record_head_put(at, fault == 's' ? SALT + 1 : fault == 'n' ? 0 : SALT, &head);
    memcpy(at + RECORD_HEAD_SIZE, payload, head.length);
    if (fault == '!')
        at[RECORD_HEAD_SIZE + head.length - 1] ^= 1;
    if (fault == '?')
        at[13] ^= 1;
    if (fault == 'z')
        memset(at, 0, record_size(head.length));
    b->end += record_size(head.length);
}

static void build(struct builder *b, const char *written)
{
    uint32_t batch, index;
    int n;
    memset(b, 0, sizeof *b);
    b->sequence = FIRST;
    b->end = SEGMENT_HEADER_SIZE;
    segment_header_put(b->bytes, &header);
    for (; sscanf(written, " %u/%u%n", &batch, &index, &n) == 2; written += n) {
        char fault = written[n];
        n += fault != '\0' && fault != ' ';
        add_record(b, batch, index, fault);
    }
}

static void put_numbers(char out[64], const struct segment_scan *scan, size_t from)
{
    out[0] = '\0';
    for (size_t i = from; i < scan->count; i++)
        snprintf(out + strlen(out), 64 - strlen(out), "%s%llu", i > from ? " " : "",
                 (unsigned long long)(scan->records[i].head.sequence - FIRST + 1));
}

static void what_is_found(void **state)
{
    (void)state;
    static struct builder b;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct segment_scan scan;
        char found[64], last[64];
        build(&b, cases[i].written);
        assert_int_equal(segment_scan((struct str){ (char *)b.bytes, sizeof b.bytes }, &header, &scan), 0);
        put_numbers(found, &scan, 0);
        put_numbers(last, &scan, scan.last_batch);
        if (strcmp(found, cases[i].found) != 0 || strcmp(last, cases[i].last_batch) != 0 || scan.bad_records != cases[i].bad ||
            scan.torn != cases[i].torn)
            print_error("%s: found '%s', last '%s', bad %u, torn %d\n", cases[i].name, found, last, (unsigned)scan.bad_records, scan.torn);
        assert_string_equal(found, cases[i].found);
        assert_string_equal(last, cases[i].last_batch);
        assert_int_equal(scan.bad_records, cases[i].bad);
        assert_int_equal(scan.torn, cases[i].torn);
        segment_scan_free(&scan);
    }
}

/* Cut anywhere, nothing is read beyond the end, and what stands whole before it is found. */
static void a_file_cut_short(void **state)
{
    (void)state;
    static struct builder b;
    build(&b, "1/0 1/1 2/0");
    size_t one = (b.end - SEGMENT_HEADER_SIZE) / 3;
    for (size_t n = SEGMENT_HEADER_SIZE; n <= b.end; n++) {
        struct segment_scan scan;
        char *copy = malloc(n);
        memcpy(copy, b.bytes, n);
        assert_int_equal(segment_scan((struct str){ copy, n }, &header, &scan), 0);
        assert_int_equal(scan.count, (n - SEGMENT_HEADER_SIZE) / one);
        assert_int_equal(scan.bad_records, 0);
        segment_scan_free(&scan);
        free(copy);
    }
}

static void the_header(void **state)
{
    (void)state;
    unsigned char block[SEGMENT_HEADER_SIZE];
    struct segment_header got, newer = header;
    segment_header_put(block, &header);
    assert_int_equal(segment_header_get(block, &got), SEGMENT_HEADER_OK);
    assert_memory_equal(&got, &header, sizeof got);
    for (size_t i = 0; i < sizeof block; i += 3) {
        block[i] ^= 0x10;
        assert_int_equal(segment_header_get(block, &got), SEGMENT_HEADER_BAD);
        block[i] ^= 0x10;
    }
    newer.version++;
    segment_header_put(block, &newer);
    assert_int_equal(segment_header_get(block, &got), SEGMENT_HEADER_NEWER);
}

static void names(void **state)
{
    (void)state;
    static const char *const wrong[] = { "",
                                         "lock",
                                         "0000000a-00000001",
                                         "0000000a-00000001.seg~",
                                         "0000000A-00000001.seg",
                                         "0000000a_00000001.seg",
                                         "000000 a-00000001.seg",
                                         "-000000a-00000001.seg",
                                         "spare-00000001" };
    char name[SEGMENT_NAME_SIZE];
    uint32_t generation, number;
    segment_name(name, 10, 0xfffffffe);
    assert_string_equal(name, "0000000a-fffffffe.seg");
    assert_true(segment_name_parse(name, &generation, &number));
    assert_true(generation == 10 && number == 0xfffffffe);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_false(segment_name_parse(wrong[i], &generation, &number));
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_found),
        cmocka_unit_test(a_file_cut_short),
        cmocka_unit_test(the_header),
        cmocka_unit_test(names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
