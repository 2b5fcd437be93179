/*
 * The journal for people; the contract is in verify.h. Runs in the tools.
 *
 * On a live directory the ground moves: a segment that was listed may be spare or another one by the time it is opened, and a message may
 * end between its record and its body. So whatever looks wrong and could be explained by that is looked at again.
 */
#include "queue/verify.h"
#include "base/cleanup.h"
#include "base/codec.h"
#include "base/map.h"
#include "queue/journal.h"
#include "queue/sidecar.h"
#include "run/file.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BODY_CHUNK (256 * 1024)

struct name {
    uint32_t generation, number;
};

struct names {
    struct name *items;                  /* owned */
    size_t       count, capacity;
};

/* -- the list of segments ---------------------------------------------------------------------------------------------------- */

static int note_name(void *arg, const char *name)
{
    struct names *names = arg;
    struct name n;
    if (!segment_name_parse(name, &n.generation, &n.number))
        return 0;
    if (names->count == names->capacity) {
        size_t capacity = names->capacity == 0 ? 64 : 2 * names->capacity;
        struct name *items = reallocarray(names->items, capacity, sizeof(*items));
        if (items == NULL)
            return -ENOMEM;
        names->items = items;
        names->capacity = capacity;
    }
    names->items[names->count++] = n;
    return 0;
}

static int by_age(const void *pa, const void *pb)
{
    const struct name *a = pa, *b = pb;
    if (a->generation != b->generation)
        return a->generation < b->generation ? -1 : 1;
    return a->number < b->number ? -1 : a->number > b->number;
}

static int list_segments(int dir, struct names *out)
{
    int r = file_list(dir, note_name, out);
    if (r == 0 && out->count > 0)
        qsort(out->items, out->count, sizeof(*out->items), by_age);
    return r;
}

/* -- one segment --------------------------------------------------------------------------------------------------------------- */

struct walk {
    verify_each_fn       *each;
    void                 *arg;
    verify_problem_fn    *problem;
    void                 *problem_arg;
    struct verify_report *report;
    bool                  sidecars;          /* look at them, too */
};

static void tell(const struct walk *w, const char *what, const char *where, uint64_t number)
{
    char words[256];
    if (w->problem == NULL)
        return;
    (void)snprintf(words, sizeof(words), "%s: %s (%llu)", where, what, (unsigned long long)number);
    w->problem(w->problem_arg, words);
}

static void show_record(const struct walk *w, const char *name, struct str bytes, const struct segment_record *at)
{
    struct record record;
    struct str payload = { bytes.p + at->offset + RECORD_HEAD_SIZE, at->head.length };
    struct verify_record shown = { .segment = name, .head = &at->head, .offset = at->offset };
    switch (record_parse(at->head.type, at->head.flags, payload, &record)) {
    case RECORD_OK: shown.record = &record; break;
    case RECORD_BAD:
        w->report->bad_records++;
        tell(w, "a record without sense at this offset", name, at->offset);
        break;
    case RECORD_UNKNOWN_CRITICAL:
        w->report->newer++;
        tell(w, "a record of a newer version at this offset", name, at->offset);
        break;
    }
    w->report->records++;
    if (w->each != NULL)
        w->each(w->arg, &shown);
}

/* A start believes a sidecar that is whole. So it must be, byte for byte, what its segment gives; and everything in that had been synced
 * before it was written, so that nothing may be torn there. Of a damaged segment it says what had been there. */
static int check_sidecar(const struct walk *w, int dir, const char *name, struct str bytes, const struct segment_header *header,
                         const struct segment_scan *scan)
{
    struct sidecar sc;
    CLEANUP_BUF struct buf there = { 0 }, wanted;
    buf_init(&wanted, SIZE_MAX);
    int r = sidecar_read(dir, header, bytes.n, &there, &sc);
    if (r == -EBADMSG)
        w->report->torn_sidecars++;
    if (r == -EBADMSG || r == -ENOENT)
        return 0;
    if (r == 0)
        r = sidecar_build(bytes, header, scan, &wanted);
    if (r < 0 && r != -ENOTSUP)
        return r;
    w->report->sidecars++;
    if (r == 0 && str_eq(buf_str(&there), buf_str(&wanted)))
        return 0;
    w->report->bad_sidecars++;
    tell(w, "its sidecar says something else, up to this offset", name, sc.end);
    return 0;
}

static int show_segment(const struct walk *w, int dir, const char *name, struct str bytes, const struct segment_header *header)
{
    struct segment_scan scan;
    int r = segment_scan(bytes, header, &scan);
    if (r < 0)
        return r;
    w->report->segments++;
    w->report->bad_records += scan.bad_records;
    w->report->torn_tails += scan.torn;
    if (scan.bad_records > 0)
        tell(w, "damaged records", name, scan.bad_records);
    for (size_t i = 0; i < scan.count; i++)
        show_record(w, name, bytes, &scan.records[i]);
    if (w->sidecars && scan.bad_records == 0)
        r = check_sidecar(w, dir, name, bytes, header, &scan);
    segment_scan_free(&scan);
    return r;
}

static int read_bytes(int file, struct buf *out)
{
    struct file_info info;
    size_t got;
    int r = file_info(file, &info);
    if (r < 0 || info.size > SEGMENT_SIZE_MAX)
        return r < 0 ? r : -EFBIG;
    char *room = buf_room(out, info.size);
    if (room == NULL)
        return -ENOMEM;
    r = file_read_at(file, room, info.size, 0, &got);
    if (r == 0)
        buf_added(out, got);
    return r;
}

static bool still_there(int dir, const char *name)
{
    struct file_info info;
    return file_info_at(dir, name, &info) == 0;
}

static int walk_segment(const struct walk *w, int dir, const struct name *n)
{
    char name[SEGMENT_NAME_SIZE];
    struct segment_header header;
    CLEANUP_BUF struct buf bytes;
    buf_init(&bytes, SEGMENT_SIZE_MAX);
    segment_name(name, n->generation, n->number);
    CLEANUP_FILE int file = file_open_at(dir, name, FILE_READ);
    int r = file < 0 ? file : read_bytes(file, &bytes);
    if (r < 0)
        return r == -ENOENT ? 0 : r;                          /* retired while we looked */
    enum segment_header_result result = SEGMENT_HEADER_BAD;
    if (bytes.n >= SEGMENT_HEADER_SIZE)
        result = segment_header_get((const unsigned char *)bytes.p, &header);
    if (result == SEGMENT_HEADER_OK && header.generation == n->generation && header.number == n->number)
        return show_segment(w, dir, name, buf_str(&bytes), &header);
    if (!still_there(dir, name))
        return 0;
    if (result == SEGMENT_HEADER_NEWER)
        w->report->newer++;
    else
        w->report->bad_headers++;
    tell(w, result == SEGMENT_HEADER_NEWER ? "a segment of a newer version" : "a segment without a good header", name, bytes.n);
    return 0;
}

static int walk_all(const char *path, const struct walk *w)
{
    struct names names = { 0 };
    CLEANUP_FILE int top = file_open_dir(path);
    if (top < 0)
        return top;
    CLEANUP_FILE int dir = file_open_dir_at(top, JOURNAL_SEGMENTS_NAME);
    int r = dir < 0 ? dir : list_segments(dir, &names);
    for (size_t i = 0; i < names.count && r == 0; i++)
        r = walk_segment(w, dir, &names.items[i]);
    free(names.items);
    return r;
}

int verify_records(const char *dir, verify_each_fn *each, void *arg, struct verify_report *out)
{
    *out = (struct verify_report){ 0 };
    return walk_all(dir, &(struct walk){ .each = each, .arg = arg, .report = out });
}

/* -- bodies -------------------------------------------------------------------------------------------------------------------- */

struct big_body {
    uint64_t size;
    uint32_t crc;
};

struct bodies {
    struct map_u64 live;                 /* id -> struct big_body, owned: messages with a file that are not over */
    int            error;
};

static void forget_body(struct bodies *b, uint64_t id)
{
    free(map_u64_remove(&b->live, id));
}

static void remember_body(struct bodies *b, const struct record *r)
{
    struct big_body *body = malloc(sizeof(*body));
    if (body == NULL) {
        b->error = -ENOMEM;
        return;
    }
    *body = (struct big_body){ r->body_size, r->body_crc };
    forget_body(b, r->id);
    if (map_u64_put(&b->live, r->id, body) < 0) {
        free(body);
        b->error = -ENOMEM;
    }
}

static void follow(void *arg, const struct verify_record *v)
{
    struct bodies *b = arg;
    const struct record *r = v->record;
    if (r == NULL || r->id == 0)
        return;
    uint8_t type = v->head->type;
    if (record_is_message(type) && r->body_in_file)
        remember_body(b, r);
    else if (r->ended || type == RECORD_ENDED || type == RECORD_DISCARDED)
        forget_body(b, r->id);
}

static int check_body(int dir, uint64_t id, const struct big_body *body)
{
    char name[CODEC_ID_LEN + 1];
    codec_id_format(id, name);
    CLEANUP_FILE int file = file_open_at(dir, name, FILE_READ);
    if (file < 0)
        return file;
    CLEANUP_FREE char *chunk = malloc(BODY_CHUNK);
    if (chunk == NULL)
        return -ENOMEM;
    uint32_t crc = 0;
    uint64_t at = 0;
    for (size_t got = 1; got > 0; at += got) {
        int r = file_read_at(file, chunk, BODY_CHUNK, at, &got);
        if (r < 0)
            return r;
        crc = codec_crc32c(crc, chunk, got);
    }
    return at == body->size && crc == body->crc ? 0 : -EBADMSG;
}

/* Whether the message is over by now, which explains a body that is gone. */
static bool is_over(const char *path, uint64_t id)
{
    struct bodies b = { 0 };
    struct verify_report ignored = { 0 };
    map_u64_init(&b.live);
    (void)walk_all(path, &(struct walk){ .each = follow, .arg = &b, .report = &ignored });
    bool over = map_u64_get(&b.live, id) == NULL;
    size_t cursor = 0;
    uint64_t key;
    void *value;
    while (map_u64_next(&b.live, &cursor, &key, &value))
        free(value);
    map_u64_free(&b.live);
    return over;
}

static void judge_body(const struct walk *w, const char *path, int dir, uint64_t id, const struct big_body *body)
{
    char name[CODEC_ID_LEN + 1];
    int r = check_body(dir, id, body);
    if (r < 0 && is_over(path, id))
        return;
    w->report->bodies++;
    if (r == 0)
        return;
    w->report->bad_bodies++;
    codec_id_format(id, name);
    tell(w, r == -EBADMSG ? "this body is not what was accepted" : "this body cannot be read", name, body->size);
}

int verify_all(const char *path, verify_problem_fn *problem, void *arg, struct verify_report *out)
{
    struct bodies b = { 0 };
    *out = (struct verify_report){ 0 };
    struct walk w = { .each = follow, .arg = &b, .problem = problem, .problem_arg = arg, .report = out, .sidecars = true };
    map_u64_init(&b.live);
    int r = walk_all(path, &w);
    if (r == 0)
        r = b.error;
    CLEANUP_FILE int top = file_open_dir(path);
    CLEANUP_FILE int dir = top < 0 ? top : file_open_dir_at(top, JOURNAL_BODIES_NAME);
    size_t cursor = 0;
    uint64_t id;
    void *value;
    while (map_u64_next(&b.live, &cursor, &id, &value)) {
        if (r == 0)
            judge_body(&w, path, dir, id, value);
        free(value);
    }
    map_u64_free(&b.live);
    return r;
}
