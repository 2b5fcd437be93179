/*
 * The simulated disk behind run/file.h: an image in memory, handles on it, and the faults that a test asks for. One thread.
 *
 * Each operation is checked, counted, failed if that was asked for, done to the live image, and added to the history, from which
 * sim_history.c makes what a power cut could leave behind. A check that fails (-ENOENT, -EEXIST, ...) is no operation.
 *
 * Calls take no virtual time, except syncs: those take sim_options.sync_ns by sim_spend(), and count as one operation at
 * their end that covers what was done before their beginning.
 *
 * Paths are resolved from the root; there is no working directory and there are no symbolic links.
 */
#include "run/file_internal.h"
#include "run/sim_history.h"
#include "run/sim_image.h"
#include "run/sim_internal.h"
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define NAME_LENGTH_MAX 255u
#define DEPTH_MAX       64u
#define HANDLE_FIRST    (1 << 24)
#define HANDLE_SLOTS    (1 << 14)
#define HANDLE_ROUNDS   100000u                  /* uses of a slot until a number comes again */

struct handle {
    uint32_t ino;                                /* 0: free */
    uint32_t round;
    unsigned flags;
    bool     is_dir, locked;
};

struct fault {
    uint64_t index;
    int      error;
    bool     from_then_on;
};

static struct {
    struct sim_disk    *live;
    struct sim_history *history;
    struct handle      *handles;
    size_t              handle_count, handle_capacity;
    struct fault       *faults;
    size_t              fault_count, fault_capacity;
    int                 kind_errors[SIM_OP_MKDIR + 1];
    uint64_t            blocks_max;
    uint64_t            seed;
    bool                keeps_history;
    int64_t             sync_ns;
} disk;

/* ---- handles ---- */

static struct handle *handle_get(int file)
{
    assert(file >= HANDLE_FIRST);
    unsigned number = (unsigned)(file - HANDLE_FIRST), at = number % HANDLE_SLOTS;
    assert(at < disk.handle_count && disk.handles[at].ino != 0 && disk.handles[at].round == number / HANDLE_SLOTS);   /* else it is stale */
    return &disk.handles[at];
}

static int handle_open(uint32_t ino, unsigned flags)
{
    size_t at = 0;
    while (at < disk.handle_count && disk.handles[at].ino != 0)
        at++;
    if (at == HANDLE_SLOTS)
        return -EMFILE;
    if (at == disk.handle_count) {
        SIM_GROW(disk.handles, disk.handle_count, disk.handle_capacity);
        disk.handles[disk.handle_count++] = (struct handle){ 0 };
    }
    struct handle *h = &disk.handles[at];
    *h = (struct handle){ .ino = ino, .round = (h->round + 1) % HANDLE_ROUNDS, .flags = flags, .is_dir = image_is_dir(disk.live, ino) };
    return HANDLE_FIRST + (int)(h->round * HANDLE_SLOTS + at);
}

static bool is_open(void *arg, uint32_t ino)
{
    (void)arg;
    for (size_t i = 0; i < disk.handle_count; i++)
        if (disk.handles[i].ino == ino)
            return true;
    return false;
}

static void handles_drop(void)
{
    for (size_t i = 0; i < disk.handle_count; i++)
        disk.handles[i].ino = 0;                 /* the rounds go on, so that an old number is noticed */
}

static int on_close(int file)
{
    handle_get(file)->ino = 0;
    image_prune(disk.live, is_open, NULL);
    return 0;
}

/* ---- paths ---- */

/* Where a path leads: the directory, and the last name in it (n 0: the directory itself). */
struct place {
    uint32_t    dir;
    const char *name;
    size_t      n;
};

static int step(uint32_t *trail, size_t *depth, const char *name, size_t n)
{
    if (n == 0 || (n == 1 && name[0] == '.'))
        return 0;
    if (n == 2 && name[0] == '.' && name[1] == '.') {
        *depth -= *depth > 1;
        return 0;
    }
    uint32_t ino = image_find(disk.live, trail[*depth - 1], name, n);
    if (ino == 0)
        return n > NAME_LENGTH_MAX ? -ENAMETOOLONG : -ENOENT;
    if (!image_is_dir(disk.live, ino))
        return -ENOTDIR;
    if (*depth == DEPTH_MAX)
        return -ENAMETOOLONG;
    trail[(*depth)++] = ino;
    return 0;
}

static int resolve(uint32_t dir, const char *path, struct place *out)
{
    uint32_t trail[DEPTH_MAX] = { dir };
    size_t depth = 1;
    for (;;) {
        size_t n = strcspn(path, "/"), more = n + strspn(path + n, "/");
        bool plain = n > 0 && !(n == 1 && path[0] == '.') && !(n == 2 && path[0] == '.' && path[1] == '.');
        if (path[more] == '\0' && plain) {
            if (n > NAME_LENGTH_MAX)
                return -ENAMETOOLONG;
            *out = (struct place){ trail[depth - 1], path, n };
            return 0;
        }
        int r = step(trail, &depth, path, n);
        if (r < 0)
            return r;
        if (path[more] == '\0') {
            *out = (struct place){ trail[depth - 1], path, 0 };
            return 0;
        }
        path += more;
    }
}

static int resolve_at(int dir, const char *path, struct place *out)
{
    const struct handle *h = handle_get(dir);
    return h->is_dir ? resolve(h->ino, path, out) : -ENOTDIR;
}

static uint32_t place_ino(const struct place *p)
{
    /* analyze clang-analyzer-core.UndefinedBinaryOperatorResult: resolve() has filled it */
    return p->n == 0 ? p->dir : image_find(disk.live, p->dir, p->name, p->n);
}

/* ---- operations ---- */

static uint64_t ops(void)
{
    return sim_history_ops(disk.history);
}

/* 0, or the error that a test wants this operation to have. */
static int planned_fault(enum sim_op op)
{
    if (disk.kind_errors[op] != 0)
        return -disk.kind_errors[op];
    for (size_t i = 0; i < disk.fault_count; i++) {
        const struct fault *f = &disk.faults[i];
        if (f->from_then_on ? ops() >= f->index : ops() == f->index)
            return -f->error;
    }
    return 0;
}

static int space_for(uint64_t blocks)
{
    return blocks > 0 && image_blocks(disk.live) + blocks > disk.blocks_max ? -ENOSPC : 0;
}

static void trace(enum sim_op op, int error, uint32_t ino, uint64_t n)
{
    sim_trace(SIM_TRACE_DISK, (uint64_t)op | (uint64_t)(unsigned)-error << 8, sim_mix(ino, n));
}

/* An operation that needs so many blocks more: 0, or its error, with the operation counted and traced. */
static int begin(enum sim_op op, uint32_t ino, uint64_t blocks)
{
    int r = planned_fault(op);
    if (r == 0)
        r = space_for(blocks);
    trace(op, r, ino, blocks);
    if (r < 0)
        history_add_failed(disk.history, op);
    return r;
}

static void set_names(enum sim_op op, const struct history_change *changes, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        image_set(disk.live, changes[i].dir, changes[i].name, changes[i].ino);
    history_add_names(disk.history, op, changes, count);
    image_prune(disk.live, is_open, NULL);
}

static int make(enum sim_op op, const struct place *at, uint32_t *out_ino)
{
    int r = begin(op, at->dir, 1);
    if (r < 0)
        return r;
    uint32_t ino = image_add(disk.live, op == SIM_OP_MKDIR);
    image_set_mtime(disk.live, ino, sim_wall());
    set_names(op, &(struct history_change){ at->dir, image_name(at->name, at->n), ino }, 1);
    *out_ino = ino;
    return 0;
}

static int set_size(uint32_t ino, uint64_t size)
{
    int r = begin(SIM_OP_TRUNCATE, ino, 0);
    if (r < 0)
        return r;
    bool cut = size < image_size(disk.live, ino);
    image_set_size(disk.live, ino, size);
    image_set_mtime(disk.live, ino, sim_wall());
    history_add_write(disk.history, SIM_OP_TRUNCATE, disk.live, ino, 0, 0, cut);
    return 0;
}

static int on_open_dir(const char *path)
{
    struct place at;
    int r = resolve(IMAGE_ROOT, path, &at);
    if (r < 0)
        return r;
    uint32_t ino = place_ino(&at);
    if (ino == 0)
        return -ENOENT;
    return image_is_dir(disk.live, ino) ? handle_open(ino, FILE_READ) : -ENOTDIR;
}

static int on_open_dir_at(int dir, const char *name)
{
    struct place at;
    int r = resolve_at(dir, name, &at);
    if (r < 0)
        return r;
    uint32_t ino = place_ino(&at);
    if (ino == 0)
        return -ENOENT;
    return image_is_dir(disk.live, ino) ? handle_open(ino, FILE_READ) : -ENOTDIR;
}

static int open_place(const struct place *at, unsigned flags)
{
    uint32_t ino = place_ino(at);
    int r = 0;
    if (ino == 0 && !(flags & FILE_CREATE))
        return -ENOENT;
    if (ino != 0 && (flags & FILE_CREATE) && (flags & FILE_EXCLUSIVE))
        return -EEXIST;
    if (ino != 0 && image_is_dir(disk.live, ino) && (flags & (FILE_WRITE | FILE_APPEND | FILE_CREATE | FILE_TRUNCATE)))
        return -EISDIR;
    if (ino == 0)
        r = make(SIM_OP_CREATE, at, &ino);
    else if ((flags & FILE_TRUNCATE) && image_size(disk.live, ino) > 0)
        r = set_size(ino, 0);
    return r < 0 ? r : handle_open(ino, flags);
}

static int on_open_at(int dir, const char *name, unsigned flags)
{
    struct place at;
    int r = resolve_at(dir, name, &at);
    return r < 0 ? r : open_place(&at, flags);
}

static int on_open_path(const char *path)
{
    struct place at;
    int r = resolve(IMAGE_ROOT, path, &at);
    return r < 0 ? r : open_place(&at, FILE_READ);
}

static int on_read_at(int file, void *p, size_t n, uint64_t offset, size_t *out_read)
{
    const struct handle *h = handle_get(file);
    if (h->is_dir)
        return -EISDIR;
    if (!(h->flags & FILE_READ))
        return -EBADF;
    uint64_t size = image_size(disk.live, h->ino);
    size_t part = offset >= size ? 0 : size - offset < n ? size - offset : n;
    image_read(disk.live, h->ino, p, part, offset);
    *out_read = part;
    return 0;
}

/* What a write that fails in the middle has written before: whole sectors, fewer than asked for. */
static size_t part_before_failure(size_t n, uint64_t offset, int error)
{
    if (error == -ENOSPC && planned_fault(SIM_OP_WRITE) == 0) {          /* as much as fits */
        size_t part = 0, next;
        while (part < n && (next = part + (IMAGE_PAGE - (offset + part) % IMAGE_PAGE)) < n)
            part = next;
        return part;
    }
    return sim_mix(disk.seed, ops()) % (n / IMAGE_SECTOR + 1) * IMAGE_SECTOR % (n + (n == 0));
}

static void write_live(uint32_t ino, const void *p, size_t n, uint64_t offset)
{
    image_write(disk.live, ino, p, n, offset);
    if (offset + n > image_size(disk.live, ino))
        image_set_size(disk.live, ino, offset + n);
    image_set_mtime(disk.live, ino, sim_wall());
    history_add_write(disk.history, SIM_OP_WRITE, disk.live, ino, offset, n, false);
}

static int write_ino(uint32_t ino, const void *p, size_t n, uint64_t offset)
{
    if (n == 0)
        return 0;
    int r = planned_fault(SIM_OP_WRITE);
    if (r == 0)
        r = space_for(image_blocks_for_write(disk.live, ino, n, offset));
    trace(SIM_OP_WRITE, r, ino, sim_mix(offset, n));
    size_t part = r < 0 ? part_before_failure(n, offset, r) : n;
    while (part > 0 && space_for(image_blocks_for_write(disk.live, ino, part, offset)) < 0)
        part -= part < IMAGE_PAGE ? part : IMAGE_PAGE;
    if (part > 0)
        write_live(ino, p, part, offset);
    else
        history_add_failed(disk.history, SIM_OP_WRITE);
    return r;
}

static int on_write_at(int file, const void *p, size_t n, uint64_t offset)
{
    const struct handle *h = handle_get(file);
    return h->flags & FILE_WRITE ? write_ino(h->ino, p, n, offset) : -EBADF;
}

static int on_append(int file, const void *p, size_t n)
{
    const struct handle *h = handle_get(file);
    return h->flags & (FILE_WRITE | FILE_APPEND) ? write_ino(h->ino, p, n, image_size(disk.live, h->ino)) : -EBADF;
}

static int sync_file(int file, enum sim_op op)
{
    uint32_t ino = handle_get(file)->ino;
    uint64_t began = ops();
    sim_spend(disk.sync_ns);                     /* others may write meanwhile: not covered */
    int r = planned_fault(op);
    trace(op, r, ino, ops() - began);
    history_add_sync(disk.history, op, ino, began, r < 0);
    return r;
}

static int on_datasync(int file)
{
    return sync_file(file, SIM_OP_DATASYNC);
}

static int on_sync(int file)
{
    return sync_file(file, SIM_OP_SYNC);
}

/* What is on its way is as unsure as what is not. */
static int on_start_sync(int file)
{
    (void)handle_get(file);
    return 0;
}

static int on_allocate(int file, uint64_t size)
{
    const struct handle *h = handle_get(file);
    uint32_t ino = h->ino;
    if (!(h->flags & FILE_WRITE))
        return -EBADF;
    int r = begin(SIM_OP_ALLOCATE, ino, image_blocks_for_reserve(disk.live, ino, size));
    if (r < 0)
        return r;
    image_reserve(disk.live, ino, size);
    if (size > image_size(disk.live, ino))
        image_set_size(disk.live, ino, size);
    history_add_write(disk.history, SIM_OP_ALLOCATE, disk.live, ino, 0, 0, false);
    return 0;
}

static int on_truncate(int file, uint64_t size)
{
    const struct handle *h = handle_get(file);
    return h->flags & FILE_WRITE ? set_size(h->ino, size) : -EBADF;
}

static void fill_info(uint32_t ino, struct file_info *out)
{
    bool is_dir = image_is_dir(disk.live, ino);
    *out = (struct file_info){
        .size = image_size(disk.live, ino),
        .mtime_ns = (uint64_t)image_mtime(disk.live, ino),
        .is_dir = is_dir,
        .is_file = !is_dir,
    };
}

static int on_info(int file, struct file_info *out)
{
    fill_info(handle_get(file)->ino, out);
    return 0;
}

static int on_info_at(int dir, const char *name, struct file_info *out)
{
    struct place at;
    int r = resolve_at(dir, name, &at);
    if (r < 0)
        return r;
    uint32_t ino = place_ino(&at);
    if (ino == 0)
        return -ENOENT;
    fill_info(ino, out);
    return 0;
}

static bool is_below(uint32_t ino, uint32_t dir)
{
    size_t n;
    const struct image_entry *e = image_entries(disk.live, dir, &n);
    for (size_t i = 0; i < n; i++)
        if (e[i].ino == ino || (image_is_dir(disk.live, e[i].ino) && is_below(ino, e[i].ino)))
            return true;
    return false;
}

static int check_replace(uint32_t what, uint32_t target)
{
    size_t entries = 0;
    if (target == 0)
        return 0;
    if (image_is_dir(disk.live, what) != image_is_dir(disk.live, target))
        return image_is_dir(disk.live, target) ? -EISDIR : -ENOTDIR;
    if (image_is_dir(disk.live, target))
        (void)image_entries(disk.live, target, &entries);
    return entries > 0 ? -ENOTEMPTY : 0;
}

static int on_rename_at(int from_dir, const char *from, int to_dir, const char *to)
{
    struct place a, b;
    int r = resolve_at(from_dir, from, &a);
    if (r == 0)
        r = resolve_at(to_dir, to, &b);
    if (r < 0)
        return r;
    uint32_t what = place_ino(&a), target = place_ino(&b);
    if (what == 0)
        return -ENOENT;
    if (a.n == 0 || b.n == 0)
        return -EBUSY;
    if (image_is_dir(disk.live, what) && (what == b.dir || is_below(b.dir, what)))
        return -EINVAL;
    r = what == target ? 0 : check_replace(what, target);
    if (r < 0 || what == target)                 /* two links of one file: nothing is done (rename(2)) */
        return r;
    r = begin(SIM_OP_RENAME, what, 0);
    if (r < 0)
        return r;
    struct history_change changes[2] = { { a.dir, image_name(a.name, a.n), 0 }, { b.dir, image_name(b.name, b.n), what } };
    set_names(SIM_OP_RENAME, changes, 2);
    return 0;
}

static int on_link_at(int from_dir, const char *from, int to_dir, const char *to)
{
    struct place a, b;
    int r = resolve_at(from_dir, from, &a);
    if (r == 0)
        r = resolve_at(to_dir, to, &b);
    if (r < 0)
        return r;
    uint32_t what = place_ino(&a);
    if (what == 0)
        return -ENOENT;
    if (place_ino(&b) != 0)
        return -EEXIST;
    if (image_is_dir(disk.live, what))
        return -EPERM;
    r = begin(SIM_OP_LINK, what, 0);
    if (r < 0)
        return r;
    set_names(SIM_OP_LINK, &(struct history_change){ b.dir, image_name(b.name, b.n), what }, 1);
    return 0;
}

static int on_unlink_at(int dir, const char *name)
{
    struct place at;
    int r = resolve_at(dir, name, &at);
    if (r < 0)
        return r;
    uint32_t ino = place_ino(&at);
    if (ino == 0)
        return -ENOENT;
    if (image_is_dir(disk.live, ino))
        return -EISDIR;
    r = begin(SIM_OP_UNLINK, ino, 0);
    if (r < 0)
        return r;
    set_names(SIM_OP_UNLINK, &(struct history_change){ at.dir, image_name(at.name, at.n), 0 }, 1);
    return 0;
}

static int on_mkdir_at(int dir, const char *name)
{
    struct place at;
    uint32_t ino;
    int r = resolve_at(dir, name, &at);
    if (r < 0)
        return r;
    if (place_ino(&at) != 0)
        return -EEXIST;
    return make(SIM_OP_MKDIR, &at, &ino);
}

/* Nobody else is here. */
static int on_own_like(int file, int model)
{
    (void)file, (void)model;
    return 0;
}

static int on_make_passable(int dir)
{
    (void)dir;
    return 0;
}

static uint64_t listing_key(const char *name)
{
    uint64_t h = 0;
    for (; *name != '\0'; name++)
        h = sim_mix(h, (unsigned char)*name);
    return h;
}

static int by_listing_key(const void *a, const void *b)
{
    uint64_t x = listing_key(*(const char *const *)a), y = listing_key(*(const char *const *)b);
    return (x > y) - (x < y);
}

static int on_list(int dir, int (*each)(void *arg, const char *name), void *arg)
{
    const struct handle *h = handle_get(dir);
    if (!h->is_dir)
        return -ENOTDIR;
    size_t n;
    int r = 0;
    const struct image_entry *e = image_entries(disk.live, h->ino, &n);
    const char **names = sim_alloc((n + 1) * sizeof *names);             /* a copy: each() may change the directory */
    for (size_t i = 0; i < n; i++)
        names[i] = e[i].name;
    qsort(names, n, sizeof *names, by_listing_key);                      /* a disk gives no order; nobody shall come to rely on one */
    for (size_t i = 0; i < n && r == 0; i++)
        r = each(arg, names[i]);
    free(names);
    return r;
}

static int on_lock(int file)
{
    struct handle *h = handle_get(file);
    for (size_t i = 0; i < disk.handle_count; i++)
        if (disk.handles[i].ino == h->ino && disk.handles[i].locked && &disk.handles[i] != h)
            return -EWOULDBLOCK;
    h->locked = true;
    return 0;
}

static int on_system_of(int file, enum file_system *out, uint64_t *out_free_bytes)
{
    (void)handle_get(file);
    uint64_t used = image_blocks(disk.live);
    *out = FILE_SYSTEM_LOCAL;
    *out_free_bytes = used < disk.blocks_max ? (disk.blocks_max - used) * IMAGE_PAGE : 0;
    return 0;
}

static const struct file_ops sim_file_ops = {
    .open_dir = on_open_dir,
    .open_dir_at = on_open_dir_at,
    .open_at = on_open_at,
    .open_path = on_open_path,
    .close = on_close,
    .read_at = on_read_at,
    .write_at = on_write_at,
    .append = on_append,
    .datasync = on_datasync,
    .sync = on_sync,
    .start_sync = on_start_sync,
    .allocate = on_allocate,
    .truncate = on_truncate,
    .info = on_info,
    .info_at = on_info_at,
    .rename_at = on_rename_at,
    .link_at = on_link_at,
    .unlink_at = on_unlink_at,
    .mkdir_at = on_mkdir_at,
    .make_passable = on_make_passable,
    .own_like = on_own_like,
    .list = on_list,
    .lock = on_lock,
    .system_of = on_system_of,
};

/* ---- the world's side ---- */

void sim_disk_begin(const struct sim_options *options)
{
    uint64_t bytes = options->disk_bytes ? options->disk_bytes : UINT64_C(1) << 30;
    disk.live = image_new();
    disk.keeps_history = !options->disk_forgets;
    disk.history = history_new(disk.live, disk.keeps_history);
    disk.blocks_max = bytes / IMAGE_PAGE;
    disk.seed = options->seed;
    disk.sync_ns = options->sync_ns;
    file_replace(&sim_file_ops);
}

void sim_disk_end(void)
{
    file_replace(NULL);
    sim_history_free(disk.history);
    image_free(disk.live);
    free(disk.handles);
    free(disk.faults);
    memset(&disk, 0, sizeof disk);
}

uint64_t sim_disk_ops(void)
{
    return ops();
}

enum sim_op sim_disk_op(uint64_t index)
{
    return sim_history_op(disk.history, index);
}

struct sim_disk *sim_disk_crash(uint64_t at, uint64_t seed, uint64_t *out_survivors)
{
    return sim_history_crash(disk.history, at, seed, out_survivors);
}

struct sim_history *sim_disk_history(void)
{
    return history_ref(disk.history);
}

struct sim_disk *sim_disk_copy(void)
{
    struct sim_disk *d = image_copy(disk.live);
    image_prune(d, NULL, NULL);                  /* what only handles held */
    return d;
}

void sim_disk_free(struct sim_disk *d)
{
    image_free(d);
}

void sim_disk_mount(const struct sim_disk *d)
{
    struct sim_disk *live = image_copy(d);
    image_prune(live, NULL, NULL);
    image_free(disk.live);
    sim_history_free(disk.history);
    disk.live = live;
    disk.history = history_new(live, disk.keeps_history);
    handles_drop();
    sim_disk_heal();
    sim_trace(SIM_TRACE_MOUNT, image_blocks(live), 0);
}

void sim_disk_fail(uint64_t index, int error, bool from_then_on)
{
    assert(error > 0);
    SIM_GROW(disk.faults, disk.fault_count, disk.fault_capacity);
    disk.faults[disk.fault_count++] = (struct fault){ index, error, from_then_on };
}

void sim_disk_fail_kind(enum sim_op op, int error)
{
    disk.kind_errors[op] = error;
}

void sim_disk_heal(void)
{
    disk.fault_count = 0;
    memset(disk.kind_errors, 0, sizeof disk.kind_errors);
}

/* The number-th page with bytes below the end of its file. */
static bool page_at(uint64_t number, uint32_t *out_ino, uint64_t *out_page, uint64_t *out_count)
{
    uint64_t count = 0;
    bool found = false;
    for (size_t i = 0; image_ino_at(disk.live, i) != 0; i++) {
        uint32_t ino = image_ino_at(disk.live, i);
        for (uint64_t page = 0; image_next_page(disk.live, ino, &page); page++, count++)
            if (count == number)
                *out_ino = ino, *out_page = page, found = true;
    }
    *out_count = count;
    return found;
}

void sim_disk_flip(uint64_t seed)
{
    struct sim_chance chance = { seed };
    uint32_t ino = 0;
    uint64_t page = 0, count = 0;
    (void)page_at(0, &ino, &page, &count);
    if (count == 0)                              /* nothing is written yet */
        return;
    (void)page_at(sim_chance_below(&chance, count), &ino, &page, &count);
    uint64_t left = image_size(disk.live, ino) - page * IMAGE_PAGE;
    uint64_t offset = page * IMAGE_PAGE + sim_chance_below(&chance, left < IMAGE_PAGE ? left : IMAGE_PAGE);
    unsigned bit = (unsigned)sim_chance_below(&chance, 8);
    unsigned char byte;
    image_read(disk.live, ino, &byte, 1, offset);
    byte ^= (unsigned char)(1u << bit);
    image_write(disk.live, ino, &byte, 1, offset);
    history_add_flip(disk.history, ino, offset, bit);
    trace(SIM_OP_WRITE, 0, ino, offset);
}
