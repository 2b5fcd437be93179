/*
 * Pending changes of the simulated disk: see sim_pending.h for the rules. Test code only; one thread.
 *
 * A file's pending sectors stand in a table by sector, each with the chain of its versions, newest first; so both a sync
 * and a crash image cost what is pending, however large the file is.
 */
#include "run/sim_pending.h"

#include "run/sim_internal.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct version {
    uint64_t             op;
    const unsigned char *data;                   /* the whole sector; NULL: zeros */
    int32_t              older;                  /* index, -1: what is durable */
    bool                 lost;                   /* by a failed sync */
    bool                 cut;                    /* zeros of a truncation */
};

struct touched {
    uint64_t sector;
    int32_t  newest;
};

struct extent {                                  /* of a file, after an operation that changed it */
    uint64_t op, size, reserved;
    bool     lost, cut;
};

struct pending_file {
    uint32_t        ino;
    int64_t         mtime_ns;
    struct version *versions;
    size_t          version_count, version_capacity;
    struct touched *touched;                     /* by sector */
    size_t          touched_count, touched_capacity;
    struct extent  *extents;
    size_t          extent_count, extent_capacity;
};

struct pending_change {
    uint64_t              op;
    struct history_change parts[2];              /* dir 0: no part, or a later durable change has overtaken it */
    bool                  lost, done;
};

void pending_init(struct pending *p, const struct sim_disk *base)
{
    *p = (struct pending){ .durable = image_copy(base) };
    image_prune(p->durable, NULL, NULL);
}

static void file_free(struct pending_file *f)
{
    free(f->versions);
    free(f->touched);
    free(f->extents);
    free(f);
}

void pending_free(struct pending *p)
{
    for (size_t i = 0; i < p->file_count; i++)
        file_free(p->files[i]);
    free(p->files);
    free(p->changes);
    image_free(p->durable);
    *p = (struct pending){ 0 };
}

/* ---- data of files ---- */

static size_t file_place(const struct pending *p, uint32_t ino)
{
    size_t low = 0, high = p->file_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (p->files[middle]->ino < ino)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct pending_file *file_find(const struct pending *p, uint32_t ino)
{
    size_t at = file_place(p, ino);
    return at < p->file_count && p->files[at]->ino == ino ? p->files[at] : NULL;
}

static struct pending_file *file_make(struct pending *p, uint32_t ino)
{
    size_t at = file_place(p, ino);
    if (at < p->file_count && p->files[at]->ino == ino)
        return p->files[at];
    SIM_GROW(p->files, p->file_count, p->file_capacity);
    memmove(p->files + at + 1, p->files + at, (p->file_count - at) * sizeof(struct pending_file *));
    p->file_count++;
    p->files[at] = sim_alloc(sizeof *p->files[at]);
    p->files[at]->ino = ino;
    return p->files[at];
}

static void file_forget(struct pending *p, uint32_t ino)
{
    size_t at = file_place(p, ino);
    if (at == p->file_count || p->files[at]->ino != ino)
        return;
    file_free(p->files[at]);
    p->file_count--;
    memmove(p->files + at, p->files + at + 1, (p->file_count - at) * sizeof(struct pending_file *));
}

static void version_push(struct pending_file *f, struct touched *t, struct version v)
{
    v.older = t->newest;
    SIM_GROW(f->versions, f->version_count, f->version_capacity);
    f->versions[f->version_count] = v;
    t->newest = (int32_t)f->version_count++;
}

static size_t touched_place(const struct pending_file *f, uint64_t sector)
{
    size_t low = 0, high = f->touched_count;
    if (high > 0 && f->touched[high - 1].sector < sector)            /* appending */
        return high;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (f->touched[middle].sector < sector)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct touched *touch(struct pending_file *f, uint64_t sector)
{
    size_t at = touched_place(f, sector);
    if (at < f->touched_count && f->touched[at].sector == sector)
        return &f->touched[at];
    SIM_GROW(f->touched, f->touched_count, f->touched_capacity);
    memmove(f->touched + at + 1, f->touched + at, (f->touched_count - at) * sizeof *f->touched);
    f->touched_count++;
    f->touched[at] = (struct touched){ sector, -1 };
    return &f->touched[at];
}

void pending_write(struct pending *p, uint64_t op, const struct pending_write *w)
{
    if (!image_has(p->durable, w->ino))          /* its last name is gone for good */
        return;
    struct pending_file *f = file_make(p, w->ino);
    f->mtime_ns = w->mtime_ns;
    uint64_t size = f->extent_count ? f->extents[f->extent_count - 1].size : image_size(p->durable, w->ino);
    uint64_t reserved = f->extent_count ? f->extents[f->extent_count - 1].reserved : image_reserved(p->durable, w->ino);
    if (w->size != size || w->reserved != reserved || w->cut) {
        SIM_GROW(f->extents, f->extent_count, f->extent_capacity);
        f->extents[f->extent_count++] = (struct extent){ .op = op, .size = w->size, .reserved = w->reserved, .cut = w->cut };
    }
    if (w->cut)
        for (size_t i = touched_place(f, (w->size + IMAGE_SECTOR - 1) / IMAGE_SECTOR); i < f->touched_count; i++)
            version_push(f, &f->touched[i], (struct version){ .op = op, .cut = true });
    for (uint64_t i = 0; i < w->count; i++)
        version_push(f, touch(f, w->first + i), (struct version){ .op = op, .data = w->data + i * IMAGE_SECTOR });
}

static void sector_apply(struct sim_disk *d, uint32_t ino, uint64_t sector, const struct version *v)
{
    if (v->data != NULL)
        image_write(d, ino, v->data, IMAGE_SECTOR, sector * IMAGE_SECTOR);
    else
        image_zero(d, ino, sector);
}

static void extents_apply(struct sim_disk *d, const struct pending_file *f, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (f->extents[i].cut)
            image_set_size(d, f->ino, f->extents[i].size);
}

/* Keeps the versions that are still in a chain. */
static void versions_compact(struct pending_file *f)
{
    struct version *all = f->versions;
    f->versions = NULL;
    f->version_count = f->version_capacity = 0;
    for (size_t i = 0; i < f->touched_count; i++) {
        int32_t from = f->touched[i].newest, *link = &f->touched[i].newest;
        *link = -1;
        for (; from >= 0; from = all[from].older) {
            SIM_GROW(f->versions, f->version_count, f->version_capacity);
            int32_t at = (int32_t)f->version_count++;
            f->versions[at] = all[from];
            f->versions[at].older = -1;
            if (f->touched[i].newest < 0)
                f->touched[i].newest = at;
            else
                f->versions[at - 1].older = at;
        }
    }
    free(all);
}

static void file_lose(struct pending_file *f, uint64_t began)
{
    for (size_t i = 0; i < f->version_count; i++)
        f->versions[i].lost |= f->versions[i].op < began;
    for (size_t i = 0; i < f->extent_count; i++)
        f->extents[i].lost |= f->extents[i].op < began;
}

/* The newest version of the sector before `began` becomes durable, unless a failed sync has lost it. */
static void sector_save(struct pending *p, struct pending_file *f, struct touched *t, uint64_t began)
{
    int32_t *link = &t->newest;
    while (*link >= 0 && f->versions[*link].op >= began)
        link = &f->versions[*link].older;
    if (*link < 0 || f->versions[*link].lost)
        return;
    sector_apply(p->durable, f->ino, t->sector, &f->versions[*link]);
    *link = -1;
}

static void file_save(struct pending *p, struct pending_file *f, uint64_t began)
{
    struct sim_disk *d = p->durable;
    uint64_t size = image_size(d, f->ino), reserved = image_reserved(d, f->ino);
    size_t covered = 0, left = 0;
    while (covered < f->extent_count && f->extents[covered].op < began)
        covered++;
    if (covered > 0 && !f->extents[covered - 1].lost) {
        extents_apply(d, f, covered);
        size = f->extents[covered - 1].size;
        reserved = f->extents[covered - 1].reserved;
        f->extent_count -= covered;
        memmove(f->extents, f->extents + covered, f->extent_count * sizeof *f->extents);
    }
    for (size_t i = 0; i < f->touched_count; i++) {
        sector_save(p, f, &f->touched[i], began);
        if (f->touched[i].newest >= 0)
            f->touched[left++] = f->touched[i];
    }
    f->touched_count = left;
    image_set_size(d, f->ino, size);
    image_reserve(d, f->ino, reserved);
    image_set_mtime(d, f->ino, f->mtime_ns);
    if (left == 0 && f->extent_count == 0)
        file_forget(p, f->ino);
    else
        versions_compact(f);
}

/* ---- names ---- */

void pending_names(struct pending *p, uint64_t op, const struct history_change *changes, unsigned count)
{
    assert(count == 1 || count == 2);
    SIM_GROW(p->changes, p->change_count, p->change_capacity);
    struct pending_change *c = &p->changes[p->change_count++];
    *c = (struct pending_change){ .op = op };
    for (unsigned i = 0; i < count; i++)
        c->parts[i] = changes[i];
}

static bool change_touches(const struct pending_change *c, uint32_t dir)
{
    return c->parts[0].dir == dir || c->parts[1].dir == dir;
}

static void change_apply(struct sim_disk *d, const struct pending_change *c)
{
    for (unsigned i = 0; i < 2; i++) {
        const struct history_change *part = &c->parts[i];
        if (part->dir != 0 && image_has(d, part->dir) && (part->ino == 0 || image_has(d, part->ino)))
            image_set(d, part->dir, part->name, part->ino);
    }
}

/* Makes a change durable, and before it those that it stands on: earlier ones of the same names. Lost ones are overtaken instead. */
static void change_save(struct pending *p, size_t at)
{
    struct pending_change *c = &p->changes[at];
    if (c->done)
        return;
    c->done = true;
    for (size_t j = 0; j < at; j++) {
        struct pending_change *earlier = &p->changes[j];
        for (unsigned k = 0; k < 4 && !earlier->done; k++) {
            struct history_change *own = &c->parts[k / 2], *theirs = &earlier->parts[k % 2];
            if (theirs->dir == 0 || theirs->dir != own->dir || theirs->name != own->name)
                continue;
            if (earlier->lost)
                theirs->dir = 0;
            else
                change_save(p, j);
        }
    }
    change_apply(p->durable, c);
}

static bool still_pending(void *arg, uint32_t ino)
{
    struct pending *p = arg;
    for (size_t i = 0; i < p->change_count; i++)
        if (p->changes[i].parts[0].ino == ino || p->changes[i].parts[1].ino == ino)
            return true;
    file_forget(p, ino);
    return false;
}

static void dir_save(struct pending *p, uint32_t dir, uint64_t began)
{
    size_t left = 0;
    for (size_t i = 0; i < p->change_count && p->changes[i].op < began; i++) {
        const struct pending_change *c = &p->changes[i];
        bool leaves = c->parts[1].dir != 0 && c->parts[1].dir != dir;
        if (!c->lost && change_touches(c, dir) && !leaves)
            change_save(p, i);
    }
    for (size_t i = 0; i < p->change_count; i++) {
        const struct pending_change *c = &p->changes[i];
        if (!c->done && (c->parts[0].dir != 0 || c->parts[1].dir != 0))
            p->changes[left++] = *c;
    }
    p->change_count = left;
    image_prune(p->durable, still_pending, p);
}

static void dir_lose(struct pending *p, uint32_t dir, uint64_t began)
{
    for (size_t i = 0; i < p->change_count && p->changes[i].op < began; i++)
        p->changes[i].lost |= change_touches(&p->changes[i], dir);
}

void pending_sync(struct pending *p, uint64_t op, uint32_t ino, uint64_t began, bool failed)
{
    if (!image_has(p->durable, ino))
        return;
    if (image_is_dir(p->durable, ino)) {
        if (failed) {
            dir_lose(p, ino, began);
            return;
        }
        dir_save(p, ino, began);
    } else {
        struct pending_file *f = file_find(p, ino);
        if (f == NULL)
            return;
        if (failed) {
            file_lose(f, began);
            return;
        }
        file_save(p, f, began);
    }
    p->epoch = op + 1;
}

/* ---- a crash ---- */

struct crash {
    struct sim_disk  *image;
    struct sim_chance chance;
    bool              all;
    uint8_t           density;                   /* of 256 */
    uint64_t          survivors;
};

static bool kept(struct crash *c)
{
    return c->all || (sim_chance_next(&c->chance) & 0xff) < c->density;
}

/* How many of n that come in order. */
static size_t kept_first(struct crash *c, size_t n)
{
    if (n == 0 || c->all)
        return n;
    uint64_t way = sim_chance_below(&c->chance, 4);
    return way == 0 ? 0 : way == 1 ? n : sim_chance_below(&c->chance, n + 1);
}

struct dir_order {
    uint32_t dir;
    size_t   count, keep;
};

struct dir_orders {
    struct dir_order *dirs;
    size_t            count, capacity;
};

static struct dir_order *order_of(struct dir_orders *orders, uint32_t dir)
{
    for (size_t i = orders->count; i-- > 0;)
        if (orders->dirs[i].dir == dir)
            return &orders->dirs[i];
    SIM_GROW(orders->dirs, orders->count, orders->capacity);
    orders->dirs[orders->count] = (struct dir_order){ .dir = dir };
    return &orders->dirs[orders->count++];
}

/* Is the change within what its directories keep? Counts it. A rename between two directories of which only one would keep it
 * ends that one's order before itself (*out_shortened): both or none. */
static bool change_in_order(struct dir_orders *orders, const struct pending_change *c, bool *out_shortened)
{
    uint32_t a = c->parts[0].dir, b = c->parts[1].dir;
    if (a == 0 || a == b)
        a = b, b = 0;
    struct dir_order *first = order_of(orders, a);
    size_t first_at = first->count++;
    bool in = first_at < first->keep;
    if (b == 0)
        return in;
    size_t first_index = (size_t)(first - orders->dirs);
    struct dir_order *second = order_of(orders, b);
    first = &orders->dirs[first_index];
    size_t second_at = second->count++;
    if (in == (second_at < second->keep))
        return in;
    *out_shortened = true;
    if (in)
        first->keep = first_at;
    else
        second->keep = second_at;
    return false;
}

static void names_survive(const struct pending *p, struct crash *c)
{
    struct dir_orders orders = { 0 };
    bool shortened = false;
    for (size_t i = 0; i < p->change_count; i++)
        if (!p->changes[i].lost)
            (void)change_in_order(&orders, &p->changes[i], &shortened);
    for (size_t i = 0; i < orders.count; i++)
        orders.dirs[i].keep = kept_first(c, orders.dirs[i].count);
    do {
        shortened = false;
        for (size_t i = 0; i < orders.count; i++)
            orders.dirs[i].count = 0;
        for (size_t i = 0; i < p->change_count; i++)
            if (!p->changes[i].lost)
                (void)change_in_order(&orders, &p->changes[i], &shortened);
    } while (shortened);
    for (size_t i = 0; i < orders.count; i++)
        orders.dirs[i].count = 0;
    for (size_t i = 0; i < p->change_count; i++) {
        const struct pending_change *change = &p->changes[i];
        if (change->lost ? !kept(c) : !change_in_order(&orders, change, &shortened))
            continue;
        change_apply(c->image, change);
        c->survivors = sim_mix(c->survivors, change->op);
    }
    free(orders.dirs);
}

static void file_survives(const struct pending_file *f, struct crash *c)
{
    struct sim_disk *d = c->image;
    size_t extents = kept_first(c, f->extent_count);
    uint64_t size = extents ? f->extents[extents - 1].size : image_size(d, f->ino), end = UINT64_MAX;
    for (size_t i = extents; i < f->extent_count && end == UINT64_MAX; i++)
        if (f->extents[i].cut)                   /* what came behind a truncation that is not there was written elsewhere */
            end = f->extents[i].op;
    bool changed = extents > 0;
    extents_apply(d, f, extents);
    for (size_t i = 0; i < f->touched_count && f->touched[i].sector * IMAGE_SECTOR < size; i++) {
        int32_t at = f->touched[i].newest;
        while (at >= 0 && (f->versions[at].op >= end || (!f->versions[at].cut && !kept(c))))
            at = f->versions[at].older;
        if (at < 0)
            continue;
        sector_apply(d, f->ino, f->touched[i].sector, &f->versions[at]);
        c->survivors = sim_mix(sim_mix(c->survivors, f->versions[at].op), f->touched[i].sector);
        changed = true;
    }
    if (extents > 0)
        c->survivors = sim_mix(sim_mix(c->survivors, f->ino), f->extents[extents - 1].op);
    if (changed)
        image_set_size(d, f->ino, size);
    if (extents > 0)
        image_reserve(d, f->ino, f->extents[extents - 1].reserved);
}

struct sim_disk *pending_crash(const struct pending *p, uint64_t seed, uint64_t chance, uint64_t *out_survivors)
{
    static const uint8_t densities[] = { 16, 64, 128, 128, 128, 192, 240, 128 };
    struct crash c = {
        .image = image_copy(p->durable),
        .chance = { sim_mix(seed, chance) },
        .all = seed == 1,
        .survivors = sim_mix(0, p->epoch),
    };

    c.density = densities[sim_chance_below(&c.chance, sizeof densities)];
    if (seed != 0)
        names_survive(p, &c);
    image_prune(c.image, NULL, NULL);
    for (size_t i = 0; seed != 0 && i < p->file_count; i++)
        if (image_has(c.image, p->files[i]->ino))
            file_survives(p->files[i], &c);
    if (out_survivors != NULL)
        *out_survivors = c.survivors;
    return c.image;
}
