/*
 * Images of the simulated disk: see sim_image.h for what they promise. Test code only; one thread.
 *
 * image -> sorted table of inodes -> group of 64 pages -> page of 4 KiB. Each inode, group and page has a count of those
 * who share it, and is copied by the first writer who is not alone (x_mut below).
 */
#include "run/sim_image.h"

#include "run/sim_internal.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define GROUP_PAGES 64u
#define GROUP_BYTES ((uint64_t)GROUP_PAGES * IMAGE_PAGE)

struct page {
    uint32_t      refs;
    unsigned char bytes[IMAGE_PAGE];
};

struct group {
    uint32_t     refs;
    struct page *pages[GROUP_PAGES];             /* NULL: zeros */
};

struct node {
    uint32_t refs;
    uint32_t links;
    bool     is_dir;
    int64_t  mtime_ns;
    /* a file */
    uint64_t       size, reserved;
    uint64_t       pages_beyond;                 /* written pages that no reservation pays for */
    struct group **groups;                       /* NULL: zeros */
    size_t         group_count;
    /* a directory */
    struct image_entry *entries;                 /* sorted by name */
    size_t              entry_count, entry_capacity;
};

struct slot {
    uint32_t     ino;
    struct node *node;
};

struct sim_disk {
    struct slot *slots;                          /* sorted by ino */
    size_t       count, capacity;
    uint32_t     ino_next;
    uint64_t     blocks;
    uint32_t    *loose;                          /* inodes that lost their last link, perhaps found a new one since */
    size_t       loose_count, loose_capacity;
};

static size_t images_alive;
static const unsigned char zero_page[IMAGE_PAGE];

/* ---- names ---- */

static struct {
    char **slots;
    size_t used, capacity;                       /* a power of two */
} names;

static uint64_t name_hash(const char *p, size_t n)
{
    uint64_t h = 0xcbf29ce484222325;
    for (size_t i = 0; i < n; i++)
        h = (h ^ (unsigned char)p[i]) * 0x100000001b3;
    return h ^ h >> 29;
}

static void names_grow(void)
{
    size_t capacity = names.capacity ? names.capacity * 2 : 256;
    char **slots = sim_alloc(capacity * sizeof *slots);
    for (size_t i = 0; i < names.capacity; i++) {
        char *z = names.slots[i];
        if (z == NULL)
            continue;
        size_t at = name_hash(z, strlen(z)) & (capacity - 1);
        while (slots[at] != NULL)
            at = (at + 1) & (capacity - 1);
        slots[at] = z;
    }
    free(names.slots);
    names.slots = slots;
    names.capacity = capacity;
}

const char *image_name(const char *p, size_t n)
{
    if (names.used * 2 >= names.capacity)
        names_grow();
    size_t at = name_hash(p, n) & (names.capacity - 1);
    for (char *z; (z = names.slots[at]) != NULL; at = (at + 1) & (names.capacity - 1))
        if (strncmp(z, p, n) == 0 && z[n] == '\0')
            return z;
    char *z = sim_alloc(n + 1);
    memcpy(z, p, n);
    names.slots[at] = z;
    names.used++;
    return z;
}

static void names_free(void)
{
    for (size_t i = 0; i < names.capacity; i++)
        free(names.slots[i]);
    free(names.slots);
    memset(&names, 0, sizeof names);
}

/* ---- sharing ---- */

static void page_unref(struct page *p)
{
    if (p != NULL && --p->refs == 0)
        free(p);
}

static void group_unref(struct group *g)
{
    if (g == NULL || --g->refs > 0)
        return;
    for (unsigned i = 0; i < GROUP_PAGES; i++)
        page_unref(g->pages[i]);
    free(g);
}

static void node_unref(struct node *n)
{
    if (--n->refs > 0)
        return;
    for (size_t i = 0; i < n->group_count; i++)
        group_unref(n->groups[i]);
    free(n->groups);
    free(n->entries);
    free(n);
}

static struct node *node_copy(const struct node *from)
{
    struct node *n = sim_alloc(sizeof *n);
    *n = *from;
    n->refs = 1;
    n->groups = NULL;                            /* the original's may be there, and empty */
    if (n->group_count > 0) {
        n->groups = sim_alloc(n->group_count * sizeof(struct group *));
        for (size_t i = 0; i < n->group_count; i++)
            if ((n->groups[i] = from->groups[i]) != NULL)
                n->groups[i]->refs++;
    }
    if (n->is_dir) {
        n->entry_capacity = n->entry_count + 4;
        n->entries = sim_alloc(n->entry_capacity * sizeof *n->entries);
        if (n->entry_count > 0)
            memcpy(n->entries, from->entries, n->entry_count * sizeof *n->entries);
    }
    return n;
}

/* The group with that number, not shared, made if it is not there. */
static struct group *group_mut(struct node *n, size_t number)
{
    if (number >= n->group_count) {
        n->groups = sim_resize(n->groups, (number + 1) * sizeof *n->groups);
        memset(n->groups + n->group_count, 0, (number + 1 - n->group_count) * sizeof *n->groups);
        n->group_count = number + 1;
    }
    struct group *g = n->groups[number];
    if (g != NULL && g->refs == 1)
        return g;
    struct group *own = sim_alloc(sizeof *own);
    own->refs = 1;
    if (g != NULL) {
        for (unsigned i = 0; i < GROUP_PAGES; i++)
            if ((own->pages[i] = g->pages[i]) != NULL)
                own->pages[i]->refs++;
        g->refs--;
    }
    return n->groups[number] = own;
}

/* The slot's page, not shared, made if it is not there (*out_made). */
static struct page *page_mut(struct page **place, bool *out_made)
{
    struct page *p = *place;
    *out_made = p == NULL;
    if (p != NULL && p->refs == 1)
        return p;
    struct page *own = p == NULL ? sim_alloc(sizeof *own) : sim_alloc_raw(sizeof *own);
    if (p != NULL) {
        memcpy(own->bytes, p->bytes, IMAGE_PAGE);
        p->refs--;
    }
    own->refs = 1;
    return *place = own;
}

static struct page *page_of(const struct node *n, uint64_t page)
{
    uint64_t number = page / GROUP_PAGES;
    if (number >= n->group_count || n->groups[number] == NULL)
        return NULL;
    return n->groups[number]->pages[page % GROUP_PAGES];
}

/* ---- images ---- */

static size_t slot_place(const struct sim_disk *d, uint32_t ino)
{
    size_t low = 0, high = d->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (d->slots[middle].ino < ino)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct slot *slot_find(const struct sim_disk *d, uint32_t ino)
{
    size_t at = slot_place(d, ino);
    return at < d->count && d->slots[at].ino == ino ? &d->slots[at] : NULL;
}

static const struct node *node_get(const struct sim_disk *d, uint32_t ino)
{
    const struct slot *s = slot_find(d, ino);
    assert(s != NULL);
    return s->node;
}

static struct node *node_mut(struct sim_disk *d, uint32_t ino)
{
    struct slot *s = slot_find(d, ino);
    assert(s != NULL);
    if (s->node->refs > 1) {
        struct node *own = node_copy(s->node);
        s->node->refs--;
        s->node = own;
    }
    return s->node;
}

static uint64_t pages_up(uint64_t bytes)
{
    return bytes / IMAGE_PAGE + (bytes % IMAGE_PAGE != 0);
}

static uint64_t node_blocks(const struct node *n)
{
    return 1 + pages_up(n->reserved) + n->pages_beyond;
}

static void loosen(struct sim_disk *d, uint32_t ino)
{
    SIM_GROW(d->loose, d->loose_count, d->loose_capacity);
    d->loose[d->loose_count++] = ino;
}

struct sim_disk *image_new(void)
{
    struct sim_disk *d = sim_alloc(sizeof *d);
    images_alive++;
    d->ino_next = IMAGE_ROOT;
    uint32_t root = image_add(d, true);
    assert(root == IMAGE_ROOT);
    node_mut(d, root)->links = 1;
    d->loose_count = 0;
    return d;
}

struct sim_disk *image_copy(const struct sim_disk *from)
{
    struct sim_disk *d = sim_alloc(sizeof *d);
    images_alive++;
    *d = *from;
    d->capacity = d->count + 4;
    d->slots = sim_alloc_raw(d->capacity * sizeof *d->slots);
    memcpy(d->slots, from->slots, d->count * sizeof *d->slots);
    for (size_t i = 0; i < d->count; i++)
        d->slots[i].node->refs++;
    d->loose_capacity = d->loose_count;
    d->loose = NULL;
    if (d->loose_count > 0) {
        d->loose = sim_alloc_raw(d->loose_count * sizeof *d->loose);
        memcpy(d->loose, from->loose, d->loose_count * sizeof *d->loose);
    }
    return d;
}

void image_free(struct sim_disk *d)
{
    if (d == NULL)
        return;
    for (size_t i = 0; i < d->count; i++)
        node_unref(d->slots[i].node);
    free(d->slots);
    free(d->loose);
    free(d);
    if (--images_alive == 0)
        names_free();
}

void image_add_at(struct sim_disk *d, uint32_t ino, bool is_dir)
{
    size_t at = slot_place(d, ino);
    assert(at == d->count || d->slots[at].ino != ino);
    SIM_GROW(d->slots, d->count, d->capacity);
    memmove(d->slots + at + 1, d->slots + at, (d->count - at) * sizeof *d->slots);
    d->count++;
    struct node *n = sim_alloc(sizeof *n);
    *n = (struct node){ .refs = 1, .is_dir = is_dir };
    d->slots[at] = (struct slot){ ino, n };
    d->blocks += node_blocks(n);
    if (ino >= d->ino_next)
        d->ino_next = ino + 1;
    loosen(d, ino);
}

uint32_t image_add(struct sim_disk *d, bool is_dir)
{
    uint32_t ino = d->ino_next;
    assert(ino < UINT32_MAX);
    image_add_at(d, ino, is_dir);
    return ino;
}

bool image_has(const struct sim_disk *d, uint32_t ino)
{
    return slot_find(d, ino) != NULL;
}

bool image_is_dir(const struct sim_disk *d, uint32_t ino)
{
    return node_get(d, ino)->is_dir;
}

uint32_t image_links(const struct sim_disk *d, uint32_t ino)
{
    return node_get(d, ino)->links;
}

uint64_t image_blocks(const struct sim_disk *d)
{
    return d->blocks;
}

static void drop(struct sim_disk *d, uint32_t ino)
{
    struct slot *s = slot_find(d, ino);
    struct node *n = s->node;
    d->blocks -= node_blocks(n);
    size_t at = (size_t)(s - d->slots);
    memmove(d->slots + at, d->slots + at + 1, (d->count - at - 1) * sizeof *d->slots);
    d->count--;
    for (size_t i = 0; i < n->entry_count; i++) {
        uint32_t child = n->entries[i].ino;
        if (--node_mut(d, child)->links == 0)
            loosen(d, child);
    }
    node_unref(n);
}

void image_prune(struct sim_disk *d, bool (*keep)(void *arg, uint32_t ino), void *arg)
{
    size_t kept = 0;
    for (size_t i = 0; i < d->loose_count; i++) {            /* grows while directories go */
        uint32_t ino = d->loose[i];
        if (!image_has(d, ino) || image_links(d, ino) > 0)
            continue;
        if (keep != NULL && keep(arg, ino))
            d->loose[kept++] = ino;
        else
            drop(d, ino);
    }
    d->loose_count = kept;
}

uint32_t image_ino_at(const struct sim_disk *d, size_t i)
{
    return i < d->count ? d->slots[i].ino : 0;
}

/* ---- files ---- */

uint64_t image_size(const struct sim_disk *d, uint32_t ino)
{
    return node_get(d, ino)->size;
}

uint64_t image_reserved(const struct sim_disk *d, uint32_t ino)
{
    return node_get(d, ino)->reserved;
}

int64_t image_mtime(const struct sim_disk *d, uint32_t ino)
{
    return node_get(d, ino)->mtime_ns;
}

void image_set_mtime(struct sim_disk *d, uint32_t ino, int64_t mtime_ns)
{
    node_mut(d, ino)->mtime_ns = mtime_ns;
}

void image_read(const struct sim_disk *d, uint32_t ino, void *p, size_t n, uint64_t offset)
{
    const struct node *node = node_get(d, ino);
    for (unsigned char *to = p; n > 0;) {
        size_t within = offset % IMAGE_PAGE, part = IMAGE_PAGE - within < n ? IMAGE_PAGE - within : n;
        const struct page *page = page_of(node, offset / IMAGE_PAGE);
        if (page != NULL)
            memcpy(to, page->bytes + within, part);
        else
            memset(to, 0, part);
        to += part, n -= part, offset += part;
    }
}

void image_write(struct sim_disk *d, uint32_t ino, const void *p, size_t n, uint64_t offset)
{
    struct node *node = node_mut(d, ino);
    d->blocks -= node_blocks(node);
    uint64_t paid = pages_up(node->reserved);
    for (const unsigned char *from = p; n > 0;) {
        size_t within = offset % IMAGE_PAGE, part = IMAGE_PAGE - within < n ? IMAGE_PAGE - within : n;
        uint64_t number = offset / IMAGE_PAGE;
        bool made;
        struct page *page = page_mut(&group_mut(node, number / GROUP_PAGES)->pages[number % GROUP_PAGES], &made);
        memcpy(page->bytes + within, from, part);
        node->pages_beyond += made && number >= paid;
        from += part, n -= part, offset += part;
    }
    d->blocks += node_blocks(node);
}

void image_zero(struct sim_disk *d, uint32_t ino, uint64_t sector)
{
    if (page_of(node_get(d, ino), sector * IMAGE_SECTOR / IMAGE_PAGE) != NULL)
        image_write(d, ino, zero_page, IMAGE_SECTOR, sector * IMAGE_SECTOR);
}

/* Gives back the pages from number `from` on. */
static void pages_drop(struct node *n, uint64_t from)
{
    uint64_t paid = pages_up(n->reserved);
    size_t groups_kept = (from + GROUP_PAGES - 1) / GROUP_PAGES;
    for (uint64_t number = from; number < n->group_count * (uint64_t)GROUP_PAGES;) {
        if (n->groups[number / GROUP_PAGES] == NULL) {
            number = (number / GROUP_PAGES + 1) * GROUP_PAGES;
            continue;
        }
        struct page *page = page_of(n, number);
        if (page != NULL) {
            struct group *g = group_mut(n, number / GROUP_PAGES);
            page_unref(page);
            g->pages[number % GROUP_PAGES] = NULL;
            n->pages_beyond -= number >= paid;
        }
        number++;
    }
    for (; n->group_count > groups_kept; n->group_count--)
        group_unref(n->groups[n->group_count - 1]);
}

void image_set_size(struct sim_disk *d, uint32_t ino, uint64_t size)
{
    struct node *n = node_mut(d, ino);
    d->blocks -= node_blocks(n);
    pages_drop(n, pages_up(size));
    if (n->reserved > size)
        n->reserved = pages_up(size) * IMAGE_PAGE;
    size_t within = size % IMAGE_PAGE;
    const struct page *last = within > 0 ? page_of(n, size / IMAGE_PAGE) : NULL;
    if (last != NULL && memcmp(last->bytes + within, zero_page, IMAGE_PAGE - within) != 0) {   /* mostly zeros already: leave it shared */
        bool made;
        struct page **place = &group_mut(n, size / GROUP_BYTES)->pages[size / IMAGE_PAGE % GROUP_PAGES];
        memset(page_mut(place, &made)->bytes + within, 0, IMAGE_PAGE - within);
    }
    n->size = size;
    d->blocks += node_blocks(n);
}

void image_reserve(struct sim_disk *d, uint32_t ino, uint64_t bytes)
{
    if (bytes <= image_reserved(d, ino))
        return;
    struct node *n = node_mut(d, ino);
    d->blocks -= node_blocks(n);
    for (uint64_t page = pages_up(n->reserved); image_next_page(d, ino, &page) && page < pages_up(bytes); page++)
        n->pages_beyond--;
    n->reserved = bytes;
    d->blocks += node_blocks(n);
}

uint64_t image_blocks_for_write(const struct sim_disk *d, uint32_t ino, size_t n, uint64_t offset)
{
    const struct node *node = node_get(d, ino);
    uint64_t more = 0, page = offset / IMAGE_PAGE, paid = pages_up(node->reserved);
    for (page = page < paid ? paid : page; n > 0 && page <= (offset + n - 1) / IMAGE_PAGE; page++)
        more += page_of(node, page) == NULL;
    return more;
}

uint64_t image_blocks_for_reserve(const struct sim_disk *d, uint32_t ino, uint64_t bytes)
{
    const struct node *n = node_get(d, ino);
    if (bytes <= n->reserved)
        return 0;
    uint64_t more = pages_up(bytes) - pages_up(n->reserved);
    for (uint64_t page = pages_up(n->reserved); image_next_page(d, ino, &page) && page < pages_up(bytes); page++)
        more--;
    return more;
}

bool image_next_page(const struct sim_disk *d, uint32_t ino, uint64_t *page)
{
    const struct node *n = node_get(d, ino);
    for (uint64_t number = *page; number < n->group_count * (uint64_t)GROUP_PAGES; number++) {
        if (n->groups[number / GROUP_PAGES] == NULL)
            number |= GROUP_PAGES - 1;
        else if (n->groups[number / GROUP_PAGES]->pages[number % GROUP_PAGES] != NULL) {
            *page = number;
            return true;
        }
    }
    return false;
}

/* ---- directories ---- */

/* Where the name stands, or would stand. */
static size_t entry_place(const struct node *n, const char *name, size_t len, bool *out_there)
{
    size_t low = 0, high = n->entry_count;
    *out_there = false;
    while (low < high) {
        size_t middle = (low + high) / 2;
        const char *z = n->entries[middle].name;
        int order = strncmp(z, name, len);
        if (order == 0 && z[len] != '\0')
            order = 1;
        if (order == 0) {
            *out_there = true;
            return middle;
        }
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

uint32_t image_find(const struct sim_disk *d, uint32_t dir, const char *name, size_t n)
{
    const struct node *node = node_get(d, dir);
    bool there;
    size_t at = entry_place(node, name, n, &there);
    return there ? node->entries[at].ino : 0;
}

uint32_t image_set(struct sim_disk *d, uint32_t dir, const char *name, uint32_t ino)
{
    bool there;
    size_t at = entry_place(node_get(d, dir), name, strlen(name), &there);
    if (!there && ino == 0)
        return 0;
    struct node *node = node_mut(d, dir);
    uint32_t before = there ? node->entries[at].ino : 0;
    if (ino == 0) {
        node->entry_count--;
        memmove(node->entries + at, node->entries + at + 1, (node->entry_count - at) * sizeof *node->entries);
    } else if (there) {
        node->entries[at].ino = ino;
    } else {
        SIM_GROW(node->entries, node->entry_count, node->entry_capacity);
        memmove(node->entries + at + 1, node->entries + at, (node->entry_count - at) * sizeof *node->entries);
        node->entries[at] = (struct image_entry){ name, ino };
        node->entry_count++;
    }
    if (ino != 0)
        node_mut(d, ino)->links++;
    if (before != 0 && --node_mut(d, before)->links == 0)
        loosen(d, before);
    return before;
}

const struct image_entry *image_entries(const struct sim_disk *d, uint32_t dir, size_t *out_count)
{
    const struct node *n = node_get(d, dir);
    assert(n->is_dir);
    *out_count = n->entry_count;
    return n->entries;
}
