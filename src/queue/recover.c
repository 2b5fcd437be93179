/*
 * Recovery: the journal read from its oldest segment to its newest, and the index built from it (docs/journal.md, "Recovery").
 *
 * The last batch of a segment is held back until the next segment's first batch was looked at: if its sync had failed, an
 * `abandoned` record there says so, and it is dropped. The last batch of a whole series (a generation) has nothing behind it, so
 * nobody can say whether its sync was done: what it says is believed, since it may have been acknowledged, but it is in doubt, since
 * it may stand in the page cache only. So what it is about is written again by us before anything is built on it.
 *
 * A segment with a good sidecar (sidecar.h) is not scanned: all its records count and had been synced.
 *
 * A read-only open does the same and writes nothing. Runs in the worker, and in the tools.
 */
#include "queue/recover_internal.h"

#include "base/log.h"
#include "queue/sidecar.h"
#include "run/file.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define READ_CHUNK (1u << 20)

int recover_complain(struct recovery *rc, int r, const char *what, const char *why)
{
    snprintf(rc->error, 256, "%s: %s", what, why);
    return r;
}

/* ---- the batch that is held back ---- */

static void held_free(struct held_back *h)
{
    free(h->records);
    free(h->bytes);
    *h = (struct held_back){ 0 };
}

static const char *held_bytes(const struct held_back *h, size_t i)
{
    return h->bytes + (h->records[i].offset - h->records[0].offset);
}

static int apply_held(struct recovery *rc, bool doubtful)
{
    struct held_back *h = &rc->held;
    int r = 0;

    for (size_t i = 0; i < h->count && r == 0; i++)
        r = recover_apply(rc, h->segment, &h->records[i], held_bytes(h, i), doubtful);
    if (h->segment != NULL)
        h->segment->sidecar_wanted = h->sound && !doubtful && !h->segment->condemned;
    held_free(h);
    return r;
}

static int hold_back(struct recovery *rc, struct segment *s, const struct segment_scan *scan)
{
    struct held_back *h = &rc->held;
    const struct segment_record *first = scan->records + scan->last_batch;
    size_t count = scan->count - scan->last_batch;

    if (count == 0)                                  /* nothing of it is left: it was torn from its first record on */
        return 0;
    size_t bytes = scan->end - first->offset;
    *h = (struct held_back){ .segment = s, .count = count, .records = malloc(count * sizeof *first), .bytes = malloc(bytes) };
    if (h->records == NULL || h->bytes == NULL) {
        held_free(h);
        return -ENOMEM;
    }
    h->sound = !scan->torn && scan->bad_records == 0;
    memcpy(h->records, first, count * sizeof *first);
    memcpy(h->bytes, rc->bytes + first->offset, bytes);
    return 0;
}

static int doubt_held(struct recovery *rc, size_t i)
{
    const struct held_back *h = &rc->held;
    const struct record_head *head = &h->records[i].head;
    struct record r;

    if (record_parse(head->type, head->flags, (struct str){ held_bytes(h, i) + RECORD_HEAD_SIZE, head->length }, &r) != RECORD_OK || r.id == 0)
        return 0;
    return recover_doubt(rc, r.id);
}

/* A failed sync's records do not count, whether the disk kept them or not: callers were told so, or they are written again. If what says
 * so may itself stand in the page cache only, what they are about is in doubt: without it they would come back. */
static int drop_region(struct recovery *rc, const struct record_region *region, bool doubtful)
{
    struct held_back *h = &rc->held;

    int r = 0;

    if (h->segment == NULL || h->segment->generation != region->generation || h->segment->number != region->segment)
        return 0;
    h->segment->condemned = true;
    size_t keep = 0;
    while (keep < h->count && h->records[keep].offset < region->from)
        keep++;
    for (size_t i = keep; i < h->count && r == 0; i++) {
        rc->out->abandoned += h->records[i].head.type == RECORD_ACCEPTED;
        if (doubtful)
            r = doubt_held(rc, i);
    }
    h->count = keep;
    return r;
}

/* The abandoned regions that the first batch of a segment names stand at its beginning. */
static int drop_abandoned(struct recovery *rc, const struct segment_scan *scan)
{
    bool doubtful = scan->last_batch == 0;           /* nothing stands behind this batch */
    int result = 0;

    for (size_t i = 0; result == 0 && i < scan->count && scan->records[i].head.batch == scan->records[0].head.batch; i++) {
        const struct record_head *head = &scan->records[i].head;
        struct record r;
        struct str payload = { rc->bytes + scan->records[i].offset + RECORD_HEAD_SIZE, head->length };
        if (head->type == RECORD_ABANDONED && record_parse(head->type, head->flags, payload, &r) == RECORD_OK)
            result = drop_region(rc, &r.region, doubtful);
    }
    return result;
}

/* ---- a segment ---- */

/* A part that the disk cannot read reads as zeros: the records in it are bad, the others are not. */
static int read_all(struct recovery *rc, int file, uint64_t size)
{
    if (size > rc->bytes_capacity) {
        free(rc->bytes);
        rc->bytes = malloc(size);
        rc->bytes_capacity = rc->bytes == NULL ? 0 : size;
        if (rc->bytes == NULL)
            return -ENOMEM;
    }
    uint64_t step = READ_CHUNK;
    for (uint64_t at = 0; at < size;) {
        uint64_t n = size - at < step ? size - at : step;
        size_t got;
        int r = file_read_at(file, rc->bytes + at, n, at, &got);
        if (r == -EIO && step > SEGMENT_HEADER_SIZE) {
            step = SEGMENT_HEADER_SIZE;
            continue;
        }
        if (r < 0 && r != -EIO)
            return r;
        if (r < 0)
            got = 0;
        memset(rc->bytes + at + got, 0, n - got);
        at += n;
    }
    return 0;
}

static void skip_sequences(struct recovery *rc, uint64_t last)
{
    struct journal *j = &rc->queue->journal;

    if (last + 1 > j->next_sequence)
        j->next_sequence = last + 1;
}

static int apply_scan(struct recovery *rc, struct segment *s, const struct segment_scan *scan)
{
    int r = 0;

    rc->out->bad_records += scan->bad_records;
    rc->out->torn_tails += scan->torn;
    if (scan->count == 0)
        return 0;
    r = drop_abandoned(rc, scan);
    if (r == 0)
        r = apply_held(rc, false);
    for (size_t i = 0; i < scan->last_batch && r == 0; i++)
        r = recover_apply(rc, s, &scan->records[i], rc->bytes + scan->records[i].offset, false);
    skip_sequences(rc, scan->records[scan->count - 1].head.sequence);
    /* If the torn one left nothing, those before it had been synced: there is nothing to doubt. */
    return r < 0 || scan->last_batch == scan->count ? r : hold_back(rc, s, scan);
}

static int read_segment(struct recovery *rc, struct segment *s, const struct segment_header *header, uint64_t size)
{
    struct segment_scan scan;
    int r = segment_scan((struct str){ rc->bytes, size }, header, &scan);

    if (r < 0)
        return r;
    s->end = scan.end;
    if (scan.torn)
        log_event(LOG_WARN, "journal-torn", LOG_Z("segment", s->name), LOG_U64("at", scan.end));
    if (scan.bad_records > 0)
        log_event(LOG_ERROR, "journal-corrupt", LOG_Z("segment", s->name), LOG_U64("records", scan.bad_records));
    r = apply_scan(rc, s, &scan);
    segment_scan_free(&scan);
    return r;
}

static int apply_sidecar(struct recovery *rc, struct segment *s, const struct sidecar *sc)
{
    struct segment_record at;
    struct record record;
    size_t cursor = 0;
    int r = apply_held(rc, false);                   /* no abandoned record here says otherwise */

    while (r == 0 && sidecar_next(sc, &cursor, &at, &record))
        r = recover_apply_parsed(rc, s, &at, &record, false);
    s->end = sc->end;
    rc->out->records += sc->records;
    rc->out->sidecars++;
    skip_sequences(rc, sc->last_sequence);
    if (sc->last_id > rc->queue->last_id)
        rc->queue->last_id = sc->last_id;
    return r;
}

/* 1: the sidecar said it all; 0: there is none that can be used. */
static int read_sidecar(struct recovery *rc, struct segment *s, const struct segment_header *header)
{
    struct sidecar sc;
    CLEANUP_BUF struct buf bytes = { 0 };

    if (rc->queue->options.scan_all)
        return 0;
    int r = sidecar_read(rc->queue->journal.segments.file, header, s->size, &bytes, &sc);
    if (r < 0 && r != -ENOENT)
        log_event(LOG_WARN, "journal-sidecar", LOG_Z("segment", s->name), LOG_Z("error", strerror(-r)));
    if (r < 0)
        return 0;
    r = apply_sidecar(rc, s, &sc);
    return r < 0 ? r : 1;
}

/* A header that cannot be read: without its salt nothing in the segment can. It stays where it is, for people to look at. */
static int bad_header(struct recovery *rc, const char *name)
{
    log_event(LOG_ERROR, "journal-bad-header", LOG_Z("segment", name));
    rc->out->bad_records++;
    return 0;
}

/* The file had been retired and was used again, but the disk forgot that this name of it should go: nothing here was needed any more. */
static int stale_name(struct recovery *rc, const char *name)
{
    log_event(LOG_WARN, "journal-stale-name", LOG_Z("segment", name));
    if (!rc->queue->options.read_only)
        (void)file_unlink_at(rc->queue->journal.segments.file, name);   /* if not, the next start meets it again */
    return 0;
}

static int check_header(struct recovery *rc, const char *name, const struct found *f, uint64_t size, struct segment_header *header)
{
    if (size < SEGMENT_HEADER_SIZE)
        return bad_header(rc, name);
    switch (segment_header_get((unsigned char *)rc->bytes, header)) {
    case SEGMENT_HEADER_OK:    break;
    case SEGMENT_HEADER_BAD:   return bad_header(rc, name);
    case SEGMENT_HEADER_NEWER: return recover_complain(rc, -EPROTONOSUPPORT, name, "a newer format than this version of nightmail reads");
    }
    if (header->generation == f->generation && header->number == f->number)
        return 1;
    bool used_again = header->generation > f->generation || (header->generation == f->generation && header->number > f->number);
    return used_again ? stale_name(rc, name) : bad_header(rc, name);
}

static int read_file(struct recovery *rc, const struct found *f, const char *name, int file, bool *taken)
{
    struct queue *q = rc->queue;
    struct file_info info;
    struct segment_header header;
    struct segment *s;
    int r = file_info(file, &info);

    if (r == 0 && info.size > SEGMENT_SIZE_MAX)
        return bad_header(rc, name);
    if (r == 0)
        r = read_all(rc, file, info.size < SEGMENT_HEADER_SIZE ? info.size : SEGMENT_HEADER_SIZE);
    if (r == 0)
        r = check_header(rc, name, f, info.size, &header);
    if (r <= 0)
        return r;
    r = journal_adopt(&q->journal, &header, file, info.size, &s);
    if (r < 0)
        return r;
    *taken = true;
    rc->out->segments++;
    /* analyze clang-analyzer-core.UndefinedBinaryOperatorResult: check_header() has filled it, or said 0 */
    if (header.first_sequence > q->journal.next_sequence)
        q->journal.next_sequence = header.first_sequence;
    if (header.id_floor > q->last_id)
        q->last_id = header.id_floor;
    r = read_sidecar(rc, s, &header);
    if (r != 0)
        return r < 0 ? r : 0;
    r = read_all(rc, file, info.size);
    return r < 0 ? r : read_segment(rc, s, &header, info.size);
}

static int recover_segment(struct recovery *rc, const struct found *f)
{
    char name[SEGMENT_NAME_SIZE];
    bool taken = false;

    if (rc->held.segment != NULL && rc->held.segment->generation != f->generation) {
        int r = apply_held(rc, true);                /* the end of a series */
        if (r < 0)
            return r;
    }
    segment_name(name, f->generation, f->number);
    int file = file_open_at(rc->queue->journal.segments.file, name, FILE_READ);
    int r = file < 0 ? file : read_file(rc, f, name, file, &taken);
    if (!taken)
        (void)file_close(file);
    if (r < 0 && rc->error[0] == '\0')
        (void)recover_complain(rc, r, name, strerror(-r));
    return r;
}

/* ---- all of them ---- */

static int note_file(void *arg, const char *name)
{
    struct recovery *rc = arg;
    struct found f;
    uint32_t spare;

    if (journal_spare_parse(name, &spare)) {
        if (!rc->queue->options.read_only)
            (void)journal_adopt_spare(&rc->queue->journal, spare);
        return 0;
    }
    if (!segment_name_parse(name, &f.generation, &f.number))
        return 0;
    if (rc->found_count == rc->found_capacity) {
        size_t capacity = rc->found_capacity == 0 ? 64 : 2 * rc->found_capacity;
        struct found *grown = reallocarray(rc->found, capacity, sizeof *grown);
        if (grown == NULL)
            return -ENOMEM;
        rc->found = grown;
        rc->found_capacity = capacity;
    }
    rc->found[rc->found_count++] = f;
    return 0;
}

static int by_order(const void *a, const void *b)
{
    const struct found *x = a, *y = b;

    if (x->generation != y->generation)
        return x->generation < y->generation ? -1 : 1;
    return x->number < y->number ? -1 : x->number > y->number;
}

static int recover_segments(struct recovery *rc)
{
    struct journal *j = &rc->queue->journal;
    int r = file_list(j->segments.file, note_file, rc);

    if (r < 0)
        return recover_complain(rc, r, JOURNAL_SEGMENTS_NAME, strerror(-r));
    if (rc->found_count > 0)
        qsort(rc->found, rc->found_count, sizeof *rc->found, by_order);
    for (size_t i = 0; i < rc->found_count && r == 0; i++)
        r = recover_segment(rc, &rc->found[i]);
    if (r == 0)
        r = apply_held(rc, true);
    if (r == 0 && !rc->queue->options.read_only)
        sidecar_remove_strays(j->segments.file);
    j->generation = rc->found_count == 0 ? 1 : rc->found[rc->found_count - 1].generation + 1;
    return r;
}

/* ---- the whole ---- */

int recover_run(struct queue *q, struct queue_recovery *out, char error[256])
{
    struct recovery rc = { .queue = q, .out = out, .error = error };

    error[0] = '\0';
    map_u64_init(&rc.doubts);
    int r = recover_segments(&rc);
    if (r == 0)
        r = recover_bodies(&rc);
    if (r == 0)
        r = transfer_recover_out(&rc);
    if (r == 0)
        recover_finish(&rc);
    if (r == 0)
        r = recover_keep_doubts(&rc);
    if (r < 0 && error[0] == '\0')
        (void)recover_complain(&rc, r, "recovery", strerror(-r));
    out->messages = q->index.count;
    out->bytes = q->live_bytes;
    held_free(&rc.held);
    free(rc.found);
    free(rc.bytes);
    map_u64_free(&rc.doubts);
    return r;
}
