/*
 * Segments as bytes; the contract is in segment.h, the format in docs/journal.md. Pure: used by the worker and by the tools.
 */
#include "queue/segment.h"
#include "base/codec.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char magic[8] = "nightml\n";            /* the line end shows a file that a text transfer has changed */

enum { AT_MAGIC = 0, AT_VERSION = 8, AT_GENERATION = 12, AT_NUMBER = 16, AT_SALT = 20, AT_FIRST = 24, AT_CREATED = 32, AT_ID_FLOOR = 40 };
#define AT_CRC (SEGMENT_HEADER_SIZE - 4)

void segment_name(char out[SEGMENT_NAME_SIZE], uint32_t generation, uint32_t number)
{
    snprintf(out, SEGMENT_NAME_SIZE, "%08x-%08x.seg", generation, number);
}

static bool hex8(const char *p, uint32_t *out)
{
    uint32_t v = 0;

    for (int i = 0; i < 8; i++) {
        const char *digits = "0123456789abcdef";
        const char *at = p[i] == '\0' ? NULL : strchr(digits, p[i]);
        if (at == NULL)
            return false;
        v = v << 4 | (uint32_t)(at - digits);
    }
    *out = v;
    return true;
}

bool segment_name_parse(const char *name, uint32_t *generation, uint32_t *number)
{
    uint32_t g, n;

    if (strlen(name) != 21 || name[8] != '-' || strcmp(name + 17, ".seg") != 0 || !hex8(name, &g) || !hex8(name + 9, &n))
        return false;
    *generation = g;
    *number = n;
    return true;
}

void segment_header_put(unsigned char out[SEGMENT_HEADER_SIZE], const struct segment_header *h)
{
    memset(out, 0, SEGMENT_HEADER_SIZE);
    memcpy(out + AT_MAGIC, magic, sizeof magic);
    codec_set_u32(out + AT_VERSION, h->version);
    codec_set_u32(out + AT_GENERATION, h->generation);
    codec_set_u32(out + AT_NUMBER, h->number);
    codec_set_u32(out + AT_SALT, h->salt);
    codec_set_u64(out + AT_FIRST, h->first_sequence);
    codec_set_u64(out + AT_CREATED, (uint64_t)h->created_ns);
    codec_set_u64(out + AT_ID_FLOOR, h->id_floor);
    codec_set_u32(out + AT_CRC, codec_crc32c(0, out, AT_CRC));
}

enum segment_header_result segment_header_get(const unsigned char in[SEGMENT_HEADER_SIZE], struct segment_header *out)
{
    if (memcmp(in + AT_MAGIC, magic, sizeof magic) != 0 || codec_get_u32(in + AT_CRC) != codec_crc32c(0, in, AT_CRC))
        return SEGMENT_HEADER_BAD;
    if (codec_get_u32(in + AT_VERSION) != SEGMENT_FORMAT_VERSION)
        return SEGMENT_HEADER_NEWER;
    *out = (struct segment_header){
        .version = codec_get_u32(in + AT_VERSION),
        .generation = codec_get_u32(in + AT_GENERATION),
        .number = codec_get_u32(in + AT_NUMBER),
        .salt = codec_get_u32(in + AT_SALT),
        .first_sequence = codec_get_u64(in + AT_FIRST),
        .created_ns = (int64_t)codec_get_u64(in + AT_CREATED),
        .id_floor = codec_get_u64(in + AT_ID_FLOOR),
    };
    return SEGMENT_HEADER_OK;
}

/* A scan under way. */
struct walk {
    const unsigned char         *p;
    uint64_t                     size, at;
    const struct segment_header *header;
    uint64_t                     next_sequence;      /* the lowest that may come now */
    uint32_t                     batch;              /* the last one seen */
    size_t                       capacity;
    /* Records that are missing, and not yet known to be corrupt or torn: */
    uint64_t lost;
    size_t   lost_after;                             /* how many good records stand before the first of them */
};

/* A head at this place that can be the next one: right salt, fits, and neither sequence nor batch goes back. */
static bool head_here(const struct walk *w, uint64_t at, struct record_head *head)
{
    if (w->size - at < RECORD_HEAD_SIZE || !record_head_get(w->p + at, w->header->salt, head))
        return false;
    return head->sequence >= w->next_sequence && head->batch >= w->batch && record_size(head->length) <= w->size - at;
}

/* The next place from `at` on where a head stands; w->size if there is none. */
static uint64_t find_head(const struct walk *w, uint64_t at, struct record_head *head)
{
    for (; at + RECORD_HEAD_SIZE <= w->size; at += RECORD_ALIGN)
        if (head_here(w, at, head))
            return at;
    return w->size;
}

static int keep(struct walk *w, struct segment_scan *scan, const struct record_head *head)
{
    if (scan->count == w->capacity) {
        size_t capacity = w->capacity == 0 ? 64 : 2 * w->capacity;
        struct segment_record *records = reallocarray(scan->records, capacity, sizeof *records);
        if (records == NULL)
            return -ENOMEM;
        scan->records = records;
        w->capacity = capacity;
    }
    scan->records[scan->count++] = (struct segment_record){ *head, w->at };
    return 0;
}

static void note_lost(struct walk *w, const struct segment_scan *scan, uint64_t count)
{
    if (w->lost == 0)
        w->lost_after = scan->count;
    w->lost += count;
}

/* The first good head of a new batch: all batches before it had been synced, so what is missing there is corruption; unless
 * this batch's own beginning is among it. */
static void begin_batch(struct walk *w, struct segment_scan *scan, const struct record_head *head)
{
    if (head->index == 0) {
        scan->bad_records += w->lost;
        w->lost = 0;
    }
    w->batch = head->batch;
    scan->last_batch = scan->count;
}

static int step(struct walk *w, struct segment_scan *scan, const struct record_head *head)
{
    int r = 0;

    if (head->sequence > w->next_sequence)
        note_lost(w, scan, head->sequence - w->next_sequence);
    if (head->batch != w->batch)
        begin_batch(w, scan, head);
    if (record_payload_good(head, w->p + w->at + RECORD_HEAD_SIZE))
        r = keep(w, scan, head);
    else
        note_lost(w, scan, 1);
    w->at += record_size(head->length);
    w->next_sequence = head->sequence + 1;
    return r;
}

int segment_scan(struct str bytes, const struct segment_header *header, struct segment_scan *out)
{
    struct walk w = {
        .p = (const unsigned char *)bytes.p,
        .size = bytes.n / RECORD_ALIGN * RECORD_ALIGN,
        .at = SEGMENT_HEADER_SIZE,
        .header = header,
        .next_sequence = header->first_sequence,
    };
    struct segment_scan scan = { 0 };
    struct record_head head;

    for (;;) {
        w.at = find_head(&w, w.at, &head);
        if (w.at == w.size)
            break;
        if (step(&w, &scan, &head) < 0) {
            segment_scan_free(&scan);
            return -ENOMEM;
        }
    }
    if (w.lost > 0) {                                /* in the last batch: torn there */
        scan.torn = true;
        scan.count = w.lost_after;
    }
    if (scan.last_batch > scan.count)
        scan.last_batch = scan.count;
    scan.end = scan.count == 0 ? SEGMENT_HEADER_SIZE
                               : scan.records[scan.count - 1].offset + record_size(scan.records[scan.count - 1].head.length);
    *out = scan;
    return 0;
}

void segment_scan_free(struct segment_scan *scan)
{
    free(scan->records);
    *scan = (struct segment_scan){ 0 };
}
