/*
 * Sidecars: what they leave out and what they must not; and that none which is damaged, or another segment's, or from an earlier use of the
 * same one, changes what a start finds.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/codec.h"
#include "queue/queue.h"
#include "queue/sidecar.h"
#include "run/loop.h"
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct segment_header header = {
    .version = SEGMENT_FORMAT_VERSION, .generation = 3, .number = 7, .salt = 0x5a175a17, .first_sequence = 10, .created_ns = 5, .id_floor = 1
};

/* ---- in memory ---- */

struct builder {
    unsigned char bytes[16384];
    size_t        end;
    uint32_t      records;
};

/*
 * Records are a letter and the message's id:
 *     a  accepted      o  an outcome that leaves a recipient pending      h  held          d  discarded      c  closed (no id)
 *     m  moved         e  an outcome that ends it                         r  released      x  ended          !  abandoned (no id)
 *     t  a new due time                                                   u  a type of a newer version
 */
static uint8_t type_of(char letter)
{
    switch (letter) {
    case 'a': return RECORD_ACCEPTED;
    case 'm': return RECORD_MOVED;
    case 'o':
    case 'e': return RECORD_OUTCOME;
    case 'h': return RECORD_HELD;
    case 'r': return RECORD_RELEASED;
    case 'd': return RECORD_DISCARDED;
    case 'x': return RECORD_ENDED;
    case 't': return RECORD_DUE;
    case 'c': return RECORD_CLOSED;
    case '!': return RECORD_ABANDONED;
    }
    return 77;
}

static void put_payload(struct buf *out, char letter, uint64_t id)
{
    struct outcome first = { .rcpt = 0, .state = RCPT_DELIVERED, .status = STR("2.0.0"), .text = STR("thank you") };
    struct outcome second = { .rcpt = 1, .state = letter == 'e' ? RCPT_BOUNCED : RCPT_PENDING, .text = STR("not today") };

    if (letter == '!') {
        record_put_region(out, &(struct record_region){ .generation = 3, .segment = 6 });
        return;
    }
    if (letter == 'c')
        return;
    record_put_u64(out, RECORD_TAG_ID, id);
    record_put_u64(out, RECORD_TAG_TIME, 1000 + id);
    if (letter == 't' || letter == 'o' || id % 2 == 1)
        record_put_u64(out, RECORD_TAG_DUE, 2000 + id);
    if (letter == 'a' || letter == 'm') {
        record_put_u64(out, RECORD_TAG_ARRIVED, 500 + id);
        record_put_u32(out, RECORD_TAG_RCPTS, 2);
        record_put_str(out, RECORD_TAG_ENVELOPE, STR("an envelope, which nobody looks into here"));
    }
    if (letter == 'm') {
        record_put_str(out, RECORD_TAG_STATES, (struct str){ "\1\0", 2 });
        record_put_u32(out, RECORD_TAG_ATTEMPTS, 4);
        record_put_str(out, RECORD_TAG_HELD, STR(""));
        record_put_body_file(out, 123456, 99);
    }
    if (letter == 'a')
        record_put_str(out, RECORD_TAG_BODY, STR("a body"));
    if (letter == 'o' || letter == 'e') {
        record_put_u32(out, RECORD_TAG_ATTEMPTS, 7);
        record_put_outcome(out, &first);
        record_put_outcome(out, &second);
    }
    if (letter == 'e')
        record_put_str(out, RECORD_TAG_ENDED, STR(""));
}

static void add(struct builder *b, char letter, uint64_t id)
{
    char memory[512];
    struct buf payload;
    unsigned char *at = b->bytes + b->end;

    buf_init_fixed(&payload, memory, sizeof memory);
    put_payload(&payload, letter, id);
    assert_true(buf_ok(&payload));
    struct record_head head = {
        .type = type_of(letter), .length = (uint32_t)payload.n, .batch = 1 + b->records, .sequence = header.first_sequence + b->records
    };
    head.payload_crc = codec_crc32c(0, payload.p, payload.n);
    record_head_put(at, header.salt, &head);
    memcpy(at + RECORD_HEAD_SIZE, payload.p, payload.n);
    b->end += record_size(head.length);
    b->records++;
}

static void write_records(struct builder *b, const char *written)
{
    char letter;
    int n;

    *b = (struct builder){ .end = SEGMENT_HEADER_SIZE };
    segment_header_put(b->bytes, &header);
    for (; sscanf(written, " %c%n", &letter, &n) == 1;) {
        written += n;
        add(b, letter, strtoull(written, (char **)&written, 10));
    }
}

static int build(const struct builder *b, struct buf *out)
{
    struct str bytes = { (const char *)b->bytes, b->end };
    struct segment_scan scan;

    assert_int_equal(segment_scan(bytes, &header, &scan), 0);
    buf_init(out, 65536);
    int r = sidecar_build(bytes, &header, &scan, out);
    segment_scan_free(&scan);
    return r;
}

static char letter_of(const struct segment_record *at, const struct record *r)
{
    for (const char *letter = "amohrdxt"; *letter != '\0'; letter++)
        if (at->head.type == type_of(*letter))
            return *letter == 'o' && r->ended ? 'e' : *letter;
    return '?';
}

/* What the index takes from the record in the segment, and from the entry, is the same. */
static void check_entry(const struct builder *b, const struct segment_record *at, const struct record *r)
{
    struct record_head head;
    struct record in_segment;
    struct outcome o, p;
    size_t cursor = 0, its_cursor = 0;
    const unsigned char *p_head = b->bytes + at->offset;

    assert_true(record_head_get(p_head, header.salt, &head));
    assert_int_equal(at->head.type, head.type);
    assert_int_equal(at->head.length, head.length);
    struct str payload = { (const char *)p_head + RECORD_HEAD_SIZE, head.length };
    assert_int_equal(record_parse(head.type, head.flags, payload, &in_segment), RECORD_OK);
    assert_true(r->id == in_segment.id && r->time_ns == in_segment.time_ns && r->arrived_ns == in_segment.arrived_ns);
    assert_true(r->has_due == in_segment.has_due && r->due_ns == in_segment.due_ns && r->attempts == in_segment.attempts);
    assert_true(r->rcpts == in_segment.rcpts && r->held == in_segment.held && r->ended == in_segment.ended);
    assert_true(r->body_in_file == in_segment.body_in_file && r->body_size == in_segment.body_size);
    assert_true(str_eq(r->states, in_segment.states));
    while (record_outcome_next(in_segment.payload, &cursor, &o)) {
        assert_true(record_outcome_next(r->payload, &its_cursor, &p));
        assert_true(o.rcpt == p.rcpt && o.state == p.state && p.text.n == 0 && p.status.n == 0);
    }
    assert_false(record_outcome_next(r->payload, &its_cursor, &p));
}

// clang-format off
static const struct { const char *name, *written, *kept; } cases[] = {
    /*                                                             NULL: no sidecar */
    { "accepted and over: nothing is left",  "a1 e1",              "" },
    { "with all that was between",           "a1 o1 h1 r1 t1 e1",  "" },
    { "discarded",                           "a1 d1",              "" },
    { "said to be ended",                    "a1 x1",              "" },
    { "what waits stays",                    "a1",                 "a1" },
    { "with all that was said about it",     "a1 o1 h1 r1 t1",     "a1 o1 h1 r1 t1" },
    { "the end of an older message stays",   "e1 d2 x3 o4",        "e1 d2 x3 o4" },
    { "a move and the end: the older accept must not come back", "m1 e1", "m1 e1" },
    { "moved behind its end: it lives",      "a1 e1 m1",           "a1 e1 m1" },
    { "moved behind its accept",             "a1 m1 e1",           "a1 m1 e1" },
    { "each for itself",                     "a1 a2 o1 a3 e2 h3",  "a1 o1 a3 h3" },
    { "what is about no message",            "a1 c",               "a1" },
    { "nothing but that",                    "c",                  "" },
    { "a newer version's record",            "a1 u1 u2",           "a1" },
    { "no records",                          "",                   NULL },
    { "abandoned: recovery must see it",     "a1 !",               NULL },
};
// clang-format on

static void what_is_kept(void **state)
{
    (void)state;
    static struct builder b;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char kept[128] = "";
        struct sidecar sc;
        struct segment_record at;
        struct record r;
        size_t cursor = 0;
        CLEANUP_BUF struct buf bytes;
        write_records(&b, cases[i].written);
        int result = build(&b, &bytes);
        if (cases[i].kept == NULL) {
            assert_int_equal(result, -ENOTSUP);
            continue;
        }
        assert_int_equal(result, 0);
        assert_true(sidecar_parse(buf_str(&bytes), &header, b.end, &sc));
        assert_true(sc.end == b.end && sc.records == b.records && sc.last_sequence == header.first_sequence + b.records - 1);
        while (sidecar_next(&sc, &cursor, &at, &r)) {
            check_entry(&b, &at, &r);
            snprintf(kept + strlen(kept), sizeof kept - strlen(kept), "%s%c%llu", kept[0] ? " " : "", letter_of(&at, &r), (unsigned long long)r.id);
        }
        if (strcmp(kept, cases[i].kept) != 0)
            fail_msg("%s: %s gives '%s', not '%s'", cases[i].name, cases[i].written, kept, cases[i].kept);
    }
}

static void torn_and_damaged_segments_have_none(void **state)
{
    (void)state;
    static struct builder b;
    CLEANUP_BUF struct buf bytes = { 0 };
    write_records(&b, "a1 a2 a3");
    b.bytes[SEGMENT_HEADER_SIZE + RECORD_HEAD_SIZE + 9] ^= 1;
    assert_int_equal(build(&b, &bytes), -ENOTSUP);
    write_records(&b, "a1 a2 a3");
    b.bytes[b.end - 10] ^= 1;
    assert_int_equal(build(&b, &bytes), -ENOTSUP);
}

/* Any byte that is another, any length but its own. */
static void every_byte_counts(void **state)
{
    (void)state;
    static struct builder b;
    struct sidecar sc;
    CLEANUP_BUF struct buf bytes;
    write_records(&b, "a1 m2 o1 e3");
    assert_int_equal(build(&b, &bytes), 0);
    assert_true(sidecar_parse(buf_str(&bytes), &header, b.end, &sc));
    for (size_t i = 0; i < bytes.n; i++) {
        bytes.p[i] ^= 0x10;
        assert_false(sidecar_parse(buf_str(&bytes), &header, b.end, &sc));
        bytes.p[i] ^= 0x10;
        assert_false(sidecar_parse(str_head(buf_str(&bytes), i), &header, b.end, &sc));
    }
    buf_put_u64(&bytes, 0);
    assert_false(sidecar_parse(buf_str(&bytes), &header, b.end, &sc));
}

static void other_segments_are_refused(void **state)
{
    (void)state;
    static struct builder b;
    struct sidecar sc;
    struct segment_header other[] = { header, header, header, header, header };
    CLEANUP_BUF struct buf bytes;
    other[0].salt++;                                 /* an earlier use of the file under this very name */
    other[1].created_ns++;
    other[2].number++;
    other[3].generation++;
    other[4].first_sequence = 1000;
    write_records(&b, "a1");
    assert_int_equal(build(&b, &bytes), 0);
    for (size_t i = 0; i < sizeof other / sizeof *other; i++)
        assert_false(sidecar_parse(buf_str(&bytes), &other[i], b.end, &sc));
    assert_false(sidecar_parse(buf_str(&bytes), &header, b.end - 1, &sc));   /* the segment was cut */
    assert_true(sidecar_parse(buf_str(&bytes), &header, b.end, &sc));
}

/* Right checksums around what makes no sense: not ours, and not to be trusted. */
static void nonsense_is_refused(void **state)
{
    (void)state;
    static struct builder b;
    static const struct { size_t at; char value; } changes[] = {
        { 8, 2 },                                    /* a newer version */
        { 60, 1 },                                   /* fewer entries than there are */
        { 60, 9 },                                   /* more */
        { SIDECAR_HEADER_SIZE + 1, 1 },              /* before the first record can stand */
        { SIDECAR_HEADER_SIZE + 2, 1 },              /* behind the segment's end */
        { SIDECAR_HEADER_SIZE + 6, 1 },              /* a record that is longer than what is left */
        { SIDECAR_HEADER_SIZE + 8, 0 },              /* no id */
        { SIDECAR_HEADER_SIZE + 9, 1 },              /* an id above the last */
        { SIDECAR_HEADER_SIZE + 40, 0 },             /* a message without recipients */
        { SIDECAR_HEADER_SIZE + 40, 3 },             /* and one with another number of states */
        { SIDECAR_HEADER_SIZE + 47, 1 },             /* a tail of 16 MiB */
        { SIDECAR_HEADER_SIZE + 64, 5 },             /* a state that there is not */
    };
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        struct sidecar sc;
        CLEANUP_BUF struct buf bytes;
        write_records(&b, "m1 a2");
        assert_int_equal(build(&b, &bytes), 0);
        bytes.p[changes[i].at] = changes[i].value;
        codec_set_u32(bytes.p + 64, codec_crc32c(0, bytes.p + SIDECAR_HEADER_SIZE, bytes.n - SIDECAR_HEADER_SIZE));
        codec_set_u32(bytes.p + 68, codec_crc32c(0, bytes.p, 68));
        if (sidecar_parse(buf_str(&bytes), &header, b.end, &sc))
            fail_msg("byte %zu may be %d", changes[i].at, changes[i].value);
    }
}

static void names(void **state)
{
    (void)state;
    char name[SEGMENT_NAME_SIZE];
    uint32_t generation, number;
    static const char *const others[] = { "", ".idx", "0000000a-00000001.seg", "0000000a-00000001.idx2", "0000000g-00000001.idx", "spare-00000001" };
    sidecar_name(name, 10, 0xffffffff);
    assert_string_equal(name, "0000000a-ffffffff.idx");
    assert_true(sidecar_name_parse(name, &generation, &number));
    assert_true(generation == 10 && number == 0xffffffff);
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        assert_false(sidecar_name_parse(others[i], &generation, &number));
}

/* ---- a queue's own ---- */

#define MESSAGES 60

static char dir[256];

static struct queue *open_queue(bool read_only, bool scan_all, struct queue_recovery *out)
{
    struct queue_options options = {
        .dir = dir, .segment_size = 256 * 1024, .unsafe_file_system = true, .read_only = read_only, .scan_all = scan_all
    };
    struct queue *q;
    char error[256];
    if (queue_open(&options, &q, out, error) < 0)
        fail_msg("queue_open: %s", error);
    return q;
}

static void put(struct queue *q, bool later)
{
    static const char text[10000] = { 'x' };
    uint64_t id = queue_new_id(q);
    struct recipient rcpts[2] = { { .addr = { .local = STR("bob"), .domain = STR("here.example") } }, { .addr = { .local = STR("eve"), .domain = STR("here.example") } } };
    struct envelope env = { .id = id, .arrived_ns = clock_wall_ns(), .null_sender = true, .rcpts = rcpts, .rcpt_count = 2 };
    struct body *body = body_new(q, id);
    env.hold_until_ns = later ? clock_wall_ns() + 3600 * NS_PER_S : 0;
    assert_int_equal(body_append(body, (struct str){ text, sizeof text }), 0);
    assert_int_equal(queue_put(q, &env, body), 0);
    body_free(body);
}

/* A third of the messages waits untried, a third was tried, a third is over. */
static void fill(void *arg)
{
    (void)arg;
    struct queue_recovery recovery;
    struct queue *q = open_queue(false, false, &recovery);
    for (size_t i = 0; i < MESSAGES; i++) {
        struct claim *c;
        struct outcome outcomes[2] = { { .rcpt = 0, .state = RCPT_DELIVERED }, { .rcpt = 1, .state = i % 3 == 1 ? RCPT_PENDING : RCPT_FAILED } };
        put(q, i % 3 == 0);
        if (i % 3 == 0)
            continue;
        assert_int_equal(queue_claim(q, task_deadline_in(5 * NS_PER_S), &c), 0);
        assert_int_equal(queue_settle(c, outcomes, 2, clock_wall_ns() + 3600 * NS_PER_S), 0);
    }
    queue_close(q);
}

static void run(void (*fn)(void *))
{
    assert_int_equal(loop_run(1, fn, NULL), 0);
}

static int make_directory(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "%s/nightmail-sidecar-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    if (mkdtemp(dir) == NULL)
        return -1;
    strcat(dir, "/data");
    run(fill);
    return 0;
}

static int remove_directory(void **state)
{
    char command[512];
    (void)state;
    *strrchr(dir, '/') = '\0';
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    return system(command) == 0 ? 0 : -1;
}

static void shell(const char *words)
{
    char command[1024];
    snprintf(command, sizeof command, "cd '%s/journal' && %s", dir, words);
    assert_int_equal(system(command), 0);
}

/* What is in it, due times to the second: the clock goes on between two looks. */
static size_t look(bool scan_all, struct queue_recovery *recovery, struct queue_item items[MESSAGES])
{
    struct queue *q = open_queue(true, scan_all, recovery);
    size_t n = queue_list(q, 0, items, MESSAGES);
    for (size_t i = 0; i < n; i++)
        items[i].due_wall_ns = (items[i].due_wall_ns + NS_PER_S / 2) / NS_PER_S;
    queue_close(q);
    return n;
}

static void check_same(uint64_t sidecars)
{
    struct queue_recovery with, without;
    struct queue_item a[MESSAGES], b[MESSAGES];
    memset(a, 0, sizeof a);
    memset(b, 0, sizeof b);
    size_t n = look(false, &with, a);
    assert_int_equal(look(true, &without, b), n);
    assert_int_equal(n, 2 * MESSAGES / 3);
    assert_int_equal(with.sidecars, sidecars);
    assert_int_equal(without.sidecars, 0);
    assert_true(with.records == without.records && with.segments == without.segments && with.bytes == without.bytes);
    assert_int_equal(with.bad_records + with.torn_tails, 0);
    for (size_t i = 0; i < n; i++) {
        int64_t apart = a[i].due_wall_ns - b[i].due_wall_ns;
        assert_true(apart >= -1 && apart <= 1);
        assert_true(a[i].id == b[i].id && a[i].state == b[i].state && a[i].attempts == b[i].attempts && a[i].size == b[i].size);
        assert_true(a[i].rcpts_pending == b[i].rcpts_pending && a[i].rcpts_total == b[i].rcpts_total && a[i].arrived_wall_ns == b[i].arrived_wall_ns);
    }
}

static uint64_t count_sidecars(void)
{
    struct queue_recovery recovery;
    struct queue_item items[MESSAGES];
    (void)look(false, &recovery, items);
    assert_true(recovery.segments >= 3);
    return recovery.sidecars;
}

static void all_segments_have_one(void **state)
{
    (void)state;
    struct queue_recovery recovery;
    struct queue_item items[MESSAGES];
    (void)look(false, &recovery, items);
    assert_int_equal(recovery.sidecars, recovery.segments);
    check_same(recovery.sidecars);
}

/* One by one, by hand: a good start all the same, and one sidecar less in use. */
static void damage_is_a_scan(void **state)
{
    (void)state;
    static const char *const harm[] = {
        "rm 00000001-00000002.idx",
        ": >00000001-00000002.idx",
        "truncate -s 71 00000001-00000002.idx",
        "truncate -s -8 00000001-00000002.idx",
        "truncate -s +8 00000001-00000002.idx",
        "truncate -s +1G 00000001-00000002.idx",
        "cp 00000001-00000001.idx 00000001-00000002.idx",                                           /* another segment's */
        "cp 00000001-00000002.seg 00000001-00000002.idx",
        "printf XYZZ | dd of=00000001-00000002.idx bs=1 seek=20 conv=notrunc status=none",          /* the salt, of which one byte may be an X */
        "printf X | dd of=00000001-00000002.idx bs=1 seek=200 conv=notrunc status=none",            /* an entry */
        "rm 00000001-00000002.idx && mkdir 00000001-00000002.idx",
        "mv 00000001-00000002.idx x && ln -s x 00000001-00000002.idx",                              /* links are not followed */
    };
    uint64_t all = count_sidecars();
    for (size_t i = 0; i < sizeof harm / sizeof *harm; i++) {
        shell("cp 00000001-00000002.idx keep");
        shell(harm[i]);
        check_same(all - 1);
        shell("rm -rf 00000001-00000002.idx && mv keep 00000001-00000002.idx");
        check_same(all);
    }
}

/* The name and all is the segment's, and every checksum is right; but it is from an earlier use of the file. */
static void earlier_use_is_a_scan(void **state)
{
    (void)state;
    unsigned char block[SIDECAR_HEADER_SIZE];
    char path[512];
    uint64_t all = count_sidecars();
    snprintf(path, sizeof path, "%s/journal/00000001-00000002.idx", dir);
    int fd = open(path, O_RDWR);
    assert_int_equal(pread(fd, block, sizeof block, 0), sizeof block);
    block[20] ^= 1;
    codec_set_u32(block + 68, codec_crc32c(0, block, 68));
    assert_int_equal(pwrite(fd, block, sizeof block, 0), sizeof block);
    close(fd);
    check_same(all - 1);
}

static size_t files_named_idx(void)
{
    glob_t found;
    char pattern[512];
    snprintf(pattern, sizeof pattern, "%s/journal/*.idx", dir);
    size_t n = glob(pattern, 0, NULL, &found) == 0 ? found.gl_pathc : 0;
    globfree(&found);
    return n;
}

static void stay_until_there_are(void *arg)
{
    struct queue_recovery recovery;
    struct queue *q = open_queue(false, false, &recovery);
    for (int64_t give_up = task_deadline_in(10 * NS_PER_S); files_named_idx() < *(size_t *)arg && clock_mono_ns() < give_up;)
        (void)task_sleep(NS_PER_MS);
    queue_close(q);
}

/* A start removes what belongs to nothing, and writes anew what is missing: but not of the last segment, of whose end nobody is sure. */
static void a_start_tidies(void **state)
{
    (void)state;
    size_t all = count_sidecars(), wanted = all - 1;
    shell("cp 00000001-00000001.idx 00000009-00000001.idx && : >sidecar-new && rm 00000001-*.idx");
    assert_int_equal(loop_run(1, stay_until_there_are, &wanted), 0);
    shell("test ! -e 00000009-00000001.idx && test ! -e sidecar-new");
    check_same(all - 1);
}

#define IN_DIRECTORY(test) cmocka_unit_test_setup_teardown(test, make_directory, remove_directory)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_kept),
        cmocka_unit_test(torn_and_damaged_segments_have_none),
        cmocka_unit_test(every_byte_counts),
        cmocka_unit_test(other_segments_are_refused),
        cmocka_unit_test(nonsense_is_refused),
        cmocka_unit_test(names),
        IN_DIRECTORY(all_segments_have_one),
        IN_DIRECTORY(damage_is_a_scan),
        IN_DIRECTORY(earlier_use_is_a_scan),
        IN_DIRECTORY(a_start_tidies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
