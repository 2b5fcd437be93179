/*
 * The history of a simulated disk: see sim_history.h. Test code only; one thread.
 *
 * Crash images are made by rolling a struct pending forward through the log to the wanted operation; it stays there, so
 * that a walk in ascending order rolls over each operation once, and several images at one point cost nothing to find.
 */
#include "run/sim_history.h"

#include "run/sim_internal.h"
#include "run/sim_pending.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct record {
    enum sim_op op;
    bool        failed;
    bool        flip;
    uint32_t    ino;                             /* the file, or the directory of a sync */
    union {
        struct {
            struct history_change changes[2];
            unsigned              change_count;
        };
        struct {
            struct pending_write write;
            unsigned char       *data;           /* owned */
        };
        uint64_t began;
        struct {
            uint64_t flip_offset;
            unsigned flip_bit;
        };
    };
};

struct sim_history {
    unsigned         refs;
    bool             forgets;                    /* counts only: one record, always the last */
    struct sim_disk *base;
    struct record   *records;
    size_t           count, capacity;
    struct pending   point;
    size_t           point_at;                   /* `point` stands before this operation */
};

struct sim_history *history_new(const struct sim_disk *base, bool keeps)
{
    struct sim_history *h = sim_alloc(sizeof *h);
    h->refs = 1;
    h->forgets = !keeps;
    h->base = image_copy(base);
    pending_init(&h->point, h->base);
    return h;
}

struct sim_history *history_ref(struct sim_history *h)
{
    h->refs++;
    return h;
}

static bool record_has_data(const struct record *r)
{
    return !r->failed && !r->flip && (r->op == SIM_OP_WRITE || r->op == SIM_OP_TRUNCATE || r->op == SIM_OP_ALLOCATE);
}

void sim_history_free(struct sim_history *h)
{
    if (h == NULL || --h->refs > 0)
        return;
    for (size_t i = 0; i < h->count && !h->forgets; i++)
        if (record_has_data(&h->records[i]))
            free(h->records[i].data);
    free(h->records);
    pending_free(&h->point);
    image_free(h->base);
    free(h);
}

uint64_t sim_history_ops(const struct sim_history *h)
{
    return h->count;
}

enum sim_op sim_history_op(const struct sim_history *h, uint64_t index)
{
    assert(index < h->count && !h->forgets);
    return h->records[index].op;
}

static struct record *record_add(struct sim_history *h, enum sim_op op)
{
    size_t at = h->forgets ? 0 : h->count;
    SIM_GROW(h->records, at, h->capacity);
    struct record *r = &h->records[at];
    h->count++;
    memset(r, 0, sizeof *r);
    r->op = op;
    return r;
}

void history_add_names(struct sim_history *h, enum sim_op op, const struct history_change *changes, unsigned count)
{
    struct record *r = record_add(h, op);
    r->change_count = count;
    memcpy(r->changes, changes, count * sizeof *changes);
    r->ino = changes[count - 1].ino;
}

void history_add_write(struct sim_history *h, enum sim_op op, const struct sim_disk *live, uint32_t ino, uint64_t offset, size_t n,
                       bool cut)
{
    struct record *r = record_add(h, op);
    if (h->forgets)
        return;
    uint64_t size = image_size(live, ino);
    if (cut && size % IMAGE_SECTOR != 0)                     /* the sector in which the cut is has a new state, too */
        offset = size - size % IMAGE_SECTOR, n = IMAGE_SECTOR;
    r->ino = ino;
    r->write = (struct pending_write){
        .ino = ino, .cut = cut, .size = size, .reserved = image_reserved(live, ino), .mtime_ns = image_mtime(live, ino),
    };
    if (n > 0) {
        r->write.first = offset / IMAGE_SECTOR;
        r->write.count = (offset + n - 1) / IMAGE_SECTOR - r->write.first + 1;
        r->data = sim_alloc_raw(r->write.count * IMAGE_SECTOR);
        image_read(live, ino, r->data, r->write.count * IMAGE_SECTOR, r->write.first * IMAGE_SECTOR);
        r->write.data = r->data;
    }
}

void history_add_sync(struct sim_history *h, enum sim_op op, uint32_t ino, uint64_t began, bool failed)
{
    struct record *r = record_add(h, op);
    r->ino = ino;
    r->began = began;
    r->failed = failed;
}

void history_add_failed(struct sim_history *h, enum sim_op op)
{
    record_add(h, op)->failed = true;
}

static void flip(struct sim_disk *d, uint32_t ino, uint64_t offset, unsigned bit)
{
    unsigned char byte;
    image_read(d, ino, &byte, 1, offset);
    byte ^= (unsigned char)(1u << bit);
    image_write(d, ino, &byte, 1, offset);
}

void history_add_flip(struct sim_history *h, uint32_t ino, uint64_t offset, unsigned bit)
{
    struct record *r = record_add(h, SIM_OP_WRITE);
    r->flip = true;
    r->ino = ino;
    r->flip_offset = offset;
    r->flip_bit = bit;
}

static void roll_over(struct pending *p, uint64_t index, const struct record *r)
{
    if (r->flip) {
        if (image_has(p->durable, r->ino) && r->flip_offset < image_size(p->durable, r->ino)) {
            flip(p->durable, r->ino, r->flip_offset, r->flip_bit);
            p->epoch = index + 1;
        }
        return;
    }
    switch (r->op) {
    case SIM_OP_DATASYNC:
    case SIM_OP_SYNC:
        if (r->ino != 0)
            pending_sync(p, index, r->ino, r->began, r->failed);
        return;
    case SIM_OP_WRITE:
    case SIM_OP_ALLOCATE:
    case SIM_OP_TRUNCATE:
        if (!r->failed)
            pending_write(p, index, &r->write);
        return;
    case SIM_OP_CREATE:
    case SIM_OP_MKDIR:
        if (!r->failed)
            image_add_at(p->durable, r->ino, r->op == SIM_OP_MKDIR);
        /* fall through */
    case SIM_OP_RENAME:
    case SIM_OP_LINK:
    case SIM_OP_UNLINK:
        if (!r->failed)
            pending_names(p, index, r->changes, r->change_count);
        return;
    }
}

struct sim_disk *sim_history_crash(struct sim_history *h, uint64_t at, uint64_t seed, uint64_t *out_survivors)
{
    assert(at <= h->count && !h->forgets);
    if (at < h->point_at) {
        pending_free(&h->point);
        pending_init(&h->point, h->base);
        h->point_at = 0;
    }
    for (; h->point_at < at; h->point_at++)
        roll_over(&h->point, h->point_at, &h->records[h->point_at]);
    return pending_crash(&h->point, seed, at, out_survivors);
}
