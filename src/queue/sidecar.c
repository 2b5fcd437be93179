/*
 * Sidecars of sealed segments; the contract is in sidecar.h, the format in docs/journal.md. Used by the worker and by the tools.
 */
#include "queue/sidecar.h"

#include "base/cleanup.h"
#include "base/codec.h"
#include "base/map.h"
#include "queue/journal.h"
#include "run/file.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const char magic[8] = "nightix\n";

enum {
    AT_MAGIC = 0, AT_VERSION = 8, AT_GENERATION = 12, AT_NUMBER = 16, AT_SALT = 20, AT_CREATED = 24, AT_END = 32, AT_LAST_SEQUENCE = 40,
    AT_LAST_ID = 48, AT_RECORDS = 56, AT_ENTRIES = 60, AT_ENTRIES_CRC = 64, AT_CRC = 68,
};
enum {
    ENTRY_PLACE = 0, ENTRY_LENGTH = 4, ENTRY_ID = 8, ENTRY_TIME = 16, ENTRY_DUE = 24, ENTRY_TYPE = 32, ENTRY_BITS = 33, ENTRY_ATTEMPTS = 36,
    ENTRY_RCPTS = 40, ENTRY_TAIL = 44, ENTRY_ARRIVED = 48, ENTRY_BODY_SIZE = 56,
};
enum { BIT_DUE = 1, BIT_BODY_FILE = 2, BIT_HELD = 4, BIT_ENDED = 8 };

void sidecar_name(char out[SEGMENT_NAME_SIZE], uint32_t generation, uint32_t number)
{
    segment_name(out, generation, number);
    /* analyze analyzer-null-argument: segment_name() has just put the dot there */
    memcpy(strchr(out, '.'), ".idx", sizeof ".idx");
}

bool sidecar_name_parse(const char *name, uint32_t *generation, uint32_t *number)
{
    char segment[SEGMENT_NAME_SIZE];
    size_t n = strlen(name);

    if (n >= sizeof segment || n < 4 || strcmp(name + n - 4, ".idx") != 0)
        return false;
    memcpy(segment, name, n - 4);
    memcpy(segment + n - 4, ".seg", sizeof ".seg");
    return segment_name_parse(segment, generation, number);
}

/* ---- building ---- */

static size_t padded(size_t n)
{
    return (n + RECORD_ALIGN - 1) / RECORD_ALIGN * RECORD_ALIGN;
}

/* What the index takes from it: the states of a message's recipients, the outcomes of an attempt. Words are for operators, who read them
 * in the segment. */
static void put_tail(struct buf *out, uint8_t type, const struct record *r)
{
    size_t cursor = 0;
    struct outcome o;

    buf_put_str(out, r->states);
    while (type == RECORD_OUTCOME && record_outcome_next(r->payload, &cursor, &o))
        record_put_outcome(out, &(struct outcome){ .rcpt = o.rcpt, .state = o.state });
}

static void put_entry(struct buf *out, const struct segment_record *at, const struct record *r)
{
    static const char zeros[RECORD_ALIGN];
    size_t begin = out->n;
    unsigned bits = (r->has_due ? BIT_DUE : 0) | (r->body_in_file ? BIT_BODY_FILE : 0) | (r->held ? BIT_HELD : 0) | (r->ended ? BIT_ENDED : 0);

    buf_put_u32(out, (uint32_t)(at->offset / RECORD_ALIGN));
    buf_put_u32(out, at->head.length);
    buf_put_u64(out, r->id);
    buf_put_u64(out, (uint64_t)r->time_ns);
    buf_put_u64(out, (uint64_t)r->due_ns);
    buf_put_u8(out, at->head.type);
    buf_put_u8(out, (uint8_t)bits);
    buf_put_u16(out, 0);
    buf_put_u32(out, r->attempts);
    buf_put_u32(out, r->rcpts);
    buf_put_u32(out, 0);                             /* the tail's length */
    buf_put_u64(out, (uint64_t)r->arrived_ns);
    buf_put_u64(out, r->body_size);
    put_tail(out, at->head.type, r);
    if (out->failed)
        return;
    size_t tail = out->n - begin - SIDECAR_ENTRY_SIZE;
    codec_set_u32(out->p + begin + ENTRY_TAIL, (uint32_t)tail);
    buf_put(out, zeros, padded(tail) - tail);
}

/* What became of a message in the segment: accepted, then over. A move brings it back, so that it is neither. */
static const char accepted_here, over_here, moved_here;

static bool ends_message(uint8_t type, const struct record *r)
{
    return type == RECORD_ENDED || type == RECORD_DISCARDED || (type == RECORD_OUTCOME && r->ended);
}

static int note_life(struct map_u64 *lives, uint8_t type, const struct record *r)
{
    const void *before = map_u64_get(lives, r->id), *life = before;

    if (record_is_message(type))
        life = before == NULL && type == RECORD_ACCEPTED ? &accepted_here : &moved_here;
    else if (before == &accepted_here && ends_message(type, r))
        life = &over_here;
    return life == before ? 0 : map_u64_put(lives, r->id, (void *)life);
}

/* One under way. */
struct builder {
    struct buf     *out;
    struct map_u64  lives;
    struct sidecar  sc;
};

static void begin(struct builder *b, struct buf *out)
{
    static const char no_header[SIDECAR_HEADER_SIZE];

    *b = (struct builder){ .out = out };
    map_u64_init(&b->lives);
    buf_put(out, no_header, sizeof no_header);
}

static int add_record(struct builder *b, const struct segment_record *at, const struct record *r)
{
    struct sidecar *sc = &b->sc;

    if (at->head.type == RECORD_ABANDONED)
        return -ENOTSUP;
    sc->records++;
    sc->last_sequence = at->head.sequence;
    sc->end = at->offset + record_size(at->head.length);
    if (r->id == 0 || record_type_name(at->head.type) == NULL)
        return 0;                                    /* changes nothing in the index */
    if (r->id > sc->last_id)
        sc->last_id = r->id;
    put_entry(b->out, at, r);
    return note_life(&b->lives, at->head.type, r);
}

static uint64_t entry_size(const char *entry)
{
    return SIDECAR_ENTRY_SIZE + padded(codec_get_u32(entry + ENTRY_TAIL));
}

/* What was accepted and ended here leaves no trace in the index, so neither does it here. Gives the number of entries that stay. */
static uint32_t drop_what_is_over(struct buf *out, const struct map_u64 *lives)
{
    uint32_t count = 0;
    size_t to = SIDECAR_HEADER_SIZE, size;

    for (size_t from = SIDECAR_HEADER_SIZE; from < out->n; from += size) {
        size = entry_size(out->p + from);
        if (map_u64_get(lives, codec_get_u64(out->p + from + ENTRY_ID)) == &over_here)
            continue;
        memmove(out->p + to, out->p + from, size);
        to += size;
        count++;
    }
    buf_truncate(out, to);
    return count;
}

static void put_header(struct buf *out, const struct segment_header *header, const struct sidecar *sc, uint32_t entries)
{
    char *p = out->p;

    memcpy(p + AT_MAGIC, magic, sizeof magic);
    codec_set_u32(p + AT_VERSION, SIDECAR_FORMAT_VERSION);
    codec_set_u32(p + AT_GENERATION, header->generation);
    codec_set_u32(p + AT_NUMBER, header->number);
    codec_set_u32(p + AT_SALT, header->salt);
    codec_set_u64(p + AT_CREATED, (uint64_t)header->created_ns);
    codec_set_u64(p + AT_END, sc->end);
    codec_set_u64(p + AT_LAST_SEQUENCE, sc->last_sequence);
    codec_set_u64(p + AT_LAST_ID, sc->last_id);
    codec_set_u32(p + AT_RECORDS, sc->records);
    codec_set_u32(p + AT_ENTRIES, entries);
    codec_set_u32(p + AT_ENTRIES_CRC, codec_crc32c(0, p + SIDECAR_HEADER_SIZE, out->n - SIDECAR_HEADER_SIZE));
    codec_set_u32(p + AT_CRC, codec_crc32c(0, p, AT_CRC));
}

/* r: what came of it so far. */
static int finish(struct builder *b, const struct segment_header *header, int r)
{
    if (r == 0 && !buf_ok(b->out))
        r = -ENOMEM;
    if (r == 0) {
        uint32_t entries = drop_what_is_over(b->out, &b->lives);
        put_header(b->out, header, &b->sc, entries);
    }
    map_u64_free(&b->lives);
    return r;
}

int sidecar_build(struct str segment, const struct segment_header *header, const struct segment_scan *scan, struct buf *out)
{
    struct builder b;
    struct record record;
    int r = 0;

    if (scan->count == 0 || scan->torn || scan->bad_records > 0)
        return -ENOTSUP;
    begin(&b, out);
    for (size_t i = 0; i < scan->count && r == 0; i++) {
        const struct segment_record *at = &scan->records[i];
        struct str payload = { segment.p + at->offset + RECORD_HEAD_SIZE, at->head.length };
        bool good = record_parse(at->head.type, at->head.flags, payload, &record) == RECORD_OK;
        r = good ? add_record(&b, at, &record) : -ENOTSUP;
    }
    return finish(&b, header, r);
}

/* ---- reading ---- */

static bool is_of(const char *p, const struct segment_header *header)
{
    return codec_get_u32(p + AT_GENERATION) == header->generation && codec_get_u32(p + AT_NUMBER) == header->number &&
           codec_get_u32(p + AT_SALT) == header->salt && (int64_t)codec_get_u64(p + AT_CREATED) == header->created_ns;
}

static bool is_whole(struct str bytes)
{
    const char *p = bytes.p;

    return bytes.n >= SIDECAR_HEADER_SIZE && memcmp(p + AT_MAGIC, magic, sizeof magic) == 0 &&
           codec_get_u32(p + AT_VERSION) == SIDECAR_FORMAT_VERSION && codec_get_u32(p + AT_CRC) == codec_crc32c(0, p, AT_CRC) &&
           codec_get_u32(p + AT_ENTRIES_CRC) == codec_crc32c(0, p + SIDECAR_HEADER_SIZE, bytes.n - SIDECAR_HEADER_SIZE);
}

bool sidecar_next(const struct sidecar *sc, size_t *cursor, struct segment_record *at, struct record *out)
{
    const char *p = sc->entries.p + *cursor;

    if (*cursor >= sc->entries.n)
        return false;
    struct str tail = { p + SIDECAR_ENTRY_SIZE, codec_get_u32(p + ENTRY_TAIL) };
    uint8_t type = (uint8_t)p[ENTRY_TYPE], bits = (uint8_t)p[ENTRY_BITS];
    bool message = record_is_message(type);
    *at = (struct segment_record){
        .head = { .type = type, .length = codec_get_u32(p + ENTRY_LENGTH) },
        .offset = (uint64_t)codec_get_u32(p + ENTRY_PLACE) * RECORD_ALIGN,
    };
    *out = (struct record){
        .id = codec_get_u64(p + ENTRY_ID),
        .time_ns = (int64_t)codec_get_u64(p + ENTRY_TIME),
        .due_ns = (int64_t)codec_get_u64(p + ENTRY_DUE),
        .arrived_ns = (int64_t)codec_get_u64(p + ENTRY_ARRIVED),
        .states = message ? tail : (struct str){ 0 },
        .payload = message ? (struct str){ 0 } : tail,
        .rcpts = codec_get_u32(p + ENTRY_RCPTS),
        .attempts = codec_get_u32(p + ENTRY_ATTEMPTS),
        .has_due = bits & BIT_DUE,
        .has_body = message,
        .body_in_file = bits & BIT_BODY_FILE,
        .held = bits & BIT_HELD,
        .ended = bits & BIT_ENDED,
        .body_size = codec_get_u64(p + ENTRY_BODY_SIZE),
    };
    *cursor += entry_size(p);
    return true;
}

/* The checksum says that we wrote it; this, that it makes sense, so that whoever applies it need not ask. */
static bool entry_good(const struct sidecar *sc, const struct segment_record *at, const struct record *r, uint64_t behind)
{
    bool message = record_is_message(at->head.type);

    if (at->offset < behind || at->offset + record_size(at->head.length) > sc->end || r->id == 0 || r->id > sc->last_id)
        return false;
    for (size_t i = 0; i < r->states.n; i++)
        if ((uint8_t)r->states.p[i] > RCPT_DISCARDED)
            return false;
    return !message || (r->rcpts > 0 && (r->states.n == 0 || r->states.n == r->rcpts));
}

static bool entries_good(const struct sidecar *sc, uint32_t count)
{
    struct segment_record at;
    struct record r;
    uint64_t behind = SEGMENT_HEADER_SIZE;

    for (size_t cursor = 0; cursor < sc->entries.n; count--) {
        size_t left = sc->entries.n - cursor;
        if (count == 0 || left < SIDECAR_ENTRY_SIZE || entry_size(sc->entries.p + cursor) > left)
            return false;
        (void)sidecar_next(sc, &cursor, &at, &r);
        if (!entry_good(sc, &at, &r, behind))
            return false;
        behind = at.offset + record_size(at.head.length);
    }
    return count == 0;
}

bool sidecar_parse(struct str bytes, const struct segment_header *header, uint64_t segment_size, struct sidecar *out)
{
    if (!is_whole(bytes) || !is_of(bytes.p, header))
        return false;
    struct sidecar sc = {
        .end = codec_get_u64(bytes.p + AT_END),
        .last_sequence = codec_get_u64(bytes.p + AT_LAST_SEQUENCE),
        .last_id = codec_get_u64(bytes.p + AT_LAST_ID),
        .records = codec_get_u32(bytes.p + AT_RECORDS),
        .entries = str_from(bytes, SIDECAR_HEADER_SIZE),
    };
    if (sc.end > segment_size || sc.last_sequence < header->first_sequence || !entries_good(&sc, codec_get_u32(bytes.p + AT_ENTRIES)))
        return false;
    *out = sc;
    return true;
}

/* ---- files ---- */

/* No record is so short that its entry is twice as long. */
static uint64_t size_max(uint64_t segment_size)
{
    return SIDECAR_HEADER_SIZE + 2 * segment_size;
}

static int read_bytes(int file, uint64_t n, uint64_t offset, struct buf *out)
{
    size_t got;
    char *room = buf_room(out, n);

    if (room == NULL)
        return -ENOMEM;
    int r = file_read_at(file, room, n, offset, &got);
    if (r == 0)
        buf_added(out, got);
    return r;
}

int sidecar_read(int dir, const struct segment_header *header, uint64_t segment_size, struct buf *bytes, struct sidecar *out)
{
    char name[SEGMENT_NAME_SIZE];
    struct file_info info;

    buf_init(bytes, size_max(segment_size));
    sidecar_name(name, header->generation, header->number);
    CLEANUP_FILE int file = file_open_at(dir, name, FILE_READ);
    int r = file < 0 ? file : file_info(file, &info);
    if (r == 0)
        r = info.size > bytes->max ? -EBADMSG : read_bytes(file, info.size, 0, bytes);
    if (r < 0)
        return r;
    return sidecar_parse(buf_str(bytes), header, segment_size, out) ? 0 : -EBADMSG;
}

/* ---- from a segment's file ---- */

#define WINDOW 65536u
#define FRONT  2048u                                 /* of a record: all but the body of nearly every one */

/* A part of the file. Bodies are not read, they would be most of it: what an entry takes stands in front of them, and whether a body is good is
 * seen by whoever wants it. */
struct window {
    int        file;
    uint64_t   from, end;                            /* end: of what is a segment in the file */
    struct buf bytes;
};

/* n bytes from there on, or as many as there are; in the window as long as it is not moved. */
static int look_at(struct window *w, uint64_t offset, uint64_t n, struct str *out)
{
    n = n < w->end - offset ? n : w->end - offset;
    if (offset < w->from || offset + n > w->from + w->bytes.n) {
        uint64_t size = n > WINDOW ? n : w->end - offset < WINDOW ? w->end - offset : WINDOW;
        /* From one large record to the next, only the front of each. */
        if (n <= FRONT && offset > w->from + w->bytes.n)
            size = n;
        buf_clear(&w->bytes);
        int r = read_bytes(w->file, size, offset, &w->bytes);
        if (r < 0)
            return r;
        w->from = offset;
    }
    *out = str_head(str_from(buf_str(&w->bytes), (size_t)(offset - w->from)), (size_t)n);
    return out->n == n ? 0 : -EBADMSG;
}

/* The head there, which must be of the record that comes next, and so much of the record as an entry needs. */
static int read_record(struct window *w, uint32_t salt, struct segment_record *at, struct record *out)
{
    struct str bytes;
    uint64_t sequence = at->head.sequence + 1;
    int r = look_at(w, at->offset, FRONT, &bytes);

    if (r == 0 && (bytes.n < RECORD_HEAD_SIZE || !record_head_get((const unsigned char *)bytes.p, salt, &at->head)))
        r = -ENOTSUP;
    if (r == 0 && (at->head.sequence != sequence || at->offset + record_size(at->head.length) > w->end))
        r = -ENOTSUP;
    if (r < 0)
        return r;
    struct str front = str_head(str_from(bytes, RECORD_HEAD_SIZE), at->head.length);
    if (record_parse_front(at->head.type, at->head.flags, front, at->head.length, out) == RECORD_OK)
        return 0;
    r = look_at(w, at->offset + RECORD_HEAD_SIZE, at->head.length, &front);
    if (r < 0)
        return r;
    return record_parse(at->head.type, at->head.flags, front, out) == RECORD_OK ? 0 : -ENOTSUP;
}

static int read_header(struct window *w, uint32_t salt, struct segment_header *out)
{
    struct str bytes;
    int r = look_at(w, 0, SEGMENT_HEADER_SIZE, &bytes);

    if (r < 0)
        return r;
    bool good = segment_header_get((const unsigned char *)bytes.p, out) == SEGMENT_HEADER_OK && out->salt == salt;
    return good ? 0 : -EBADMSG;
}

static int add_all(struct builder *b, struct window *w, const struct segment_header *header)
{
    struct segment_record at = { .head = { .sequence = header->first_sequence - 1 }, .offset = SEGMENT_HEADER_SIZE };
    struct record record;
    int r = w->end > SEGMENT_HEADER_SIZE ? 0 : -ENOTSUP;

    while (r == 0 && at.offset < w->end) {
        r = read_record(w, header->salt, &at, &record);
        if (r == 0)
            r = add_record(b, &at, &record);
        at.offset += record_size(at.head.length);
    }
    return r;
}

static int build_from_file(const struct segment *s, struct buf *out)
{
    struct segment_header header;
    struct builder b;
    struct window w = { .file = s->file, .end = s->end };

    buf_init(&w.bytes, s->end);
    int r = read_header(&w, s->salt, &header);
    if (r == 0) {
        begin(&b, out);
        r = add_all(&b, &w, &header);
        r = finish(&b, &header, r);
    }
    buf_free(&w.bytes);
    return r;
}

/* Nothing is synced: it would make those wait who commit mail meanwhile, and what a crash tears has a wrong checksum and costs one scan. The
 * rename is for who looks while it is written. */
static int write_file(struct journal *j, const char *name, struct str bytes)
{
    int dir = j->segments.file;
    enum file_system kind;
    uint64_t free_bytes;
    int r = j->free_floor == 0 ? 0 : file_system_of(dir, &kind, &free_bytes);

    if (r == 0 && j->free_floor > 0 && free_bytes < j->free_floor + bytes.n)
        r = -ENOSPC;
    if (r < 0)
        return r;
    CLEANUP_FILE int file = file_open_at(dir, SIDECAR_NEW_NAME, FILE_READ | FILE_WRITE | FILE_CREATE | FILE_TRUNCATE);
    if (file < 0)
        return file;
    r = file_write_at(file, bytes.p, bytes.n, 0);
    if (r == 0)
        r = file_rename_at(dir, SIDECAR_NEW_NAME, dir, name);
    if (r < 0)
        (void)file_unlink_at(dir, SIDECAR_NEW_NAME); /* if not, the next start removes it */
    return r;
}

int sidecar_make(struct journal *j, const struct segment *s)
{
    char name[SEGMENT_NAME_SIZE];
    CLEANUP_BUF struct buf out;

    buf_init(&out, size_max(s->size));
    sidecar_name(name, s->generation, s->number);
    int r = build_from_file(s, &out);
    return r < 0 ? r : write_file(j, name, buf_str(&out));
}

void sidecar_remove(int dir, uint32_t generation, uint32_t number)
{
    char name[SEGMENT_NAME_SIZE];

    sidecar_name(name, generation, number);
    (void)file_unlink_at(dir, name);                 /* most have none by now; if it fails, the next start removes it */
}

static int remove_stray(void *arg, const char *name)
{
    int dir = *(int *)arg;
    uint32_t generation, number;
    char segment[SEGMENT_NAME_SIZE];
    struct file_info info;

    if (strcmp(name, SIDECAR_NEW_NAME) == 0)
        (void)file_unlink_at(dir, name);             /* in nobody's way if it stays */
    if (!sidecar_name_parse(name, &generation, &number))
        return 0;
    segment_name(segment, generation, number);
    if (file_info_at(dir, segment, &info) == -ENOENT)
        (void)file_unlink_at(dir, name);             /* likewise */
    return 0;
}

void sidecar_remove_strays(int dir)
{
    (void)file_list(dir, remove_stray, &dir);
}
