/*
 * Images of the simulated disk: a tree of files and directories that is cheap to copy. For sim_disk.c and sim_history.c.
 *
 * A copy shares everything with its original until one of the two writes (inodes, groups of pages and pages are
 * counted), so an image costs a pointer per inode and what was changed since. Files are sparse: what was never written is
 * not there and reads as zeros. Without memory the process stops: this is a world for tests.
 *
 * Inode numbers are given once and never again within an image and its copies. Space is counted in blocks of 4 KiB: one
 * for the inode, and one for each page that is reserved or written.
 */
#ifndef RUN_SIM_IMAGE_H
#define RUN_SIM_IMAGE_H

#include "run/sim.h"

#define IMAGE_ROOT   1u
#define IMAGE_PAGE   4096u
#define IMAGE_SECTOR 512u

struct image_entry {
    const char *name;                /* from image_name(), so equal names are the same pointer */
    uint32_t    ino;
};

struct sim_disk *image_new(void);                                          /* with an empty root */
struct sim_disk *image_copy(const struct sim_disk *d);
void             image_free(struct sim_disk *d);

/* The one copy of a name; it lives as long as any image does. */
const char *image_name(const char *p, size_t n);

/* A new inode, without a name and so without a link yet. image_add_at gives it a number that another image gave out. */
uint32_t image_add(struct sim_disk *d, bool is_dir);
void     image_add_at(struct sim_disk *d, uint32_t ino, bool is_dir);
bool     image_has(const struct sim_disk *d, uint32_t ino);
bool     image_is_dir(const struct sim_disk *d, uint32_t ino);
uint32_t image_links(const struct sim_disk *d, uint32_t ino);
uint64_t image_blocks(const struct sim_disk *d);                           /* in use, in the whole image */

/* Files. Writing moves no size; reading is not bounded by it. */
uint64_t image_size(const struct sim_disk *d, uint32_t ino);
uint64_t image_reserved(const struct sim_disk *d, uint32_t ino);
int64_t  image_mtime(const struct sim_disk *d, uint32_t ino);
void     image_read(const struct sim_disk *d, uint32_t ino, void *p, size_t n, uint64_t offset);
void     image_write(struct sim_disk *d, uint32_t ino, const void *p, size_t n, uint64_t offset);
void     image_zero(struct sim_disk *d, uint32_t ino, uint64_t sector);
void     image_set_size(struct sim_disk *d, uint32_t ino, uint64_t size);  /* nothing that was behind it can be read again */
void     image_reserve(struct sim_disk *d, uint32_t ino, uint64_t bytes);  /* from the start of the file; never shrinks */
void     image_set_mtime(struct sim_disk *d, uint32_t ino, int64_t mtime_ns);
uint64_t image_blocks_for_write(const struct sim_disk *d, uint32_t ino, size_t n, uint64_t offset);   /* more than now */
uint64_t image_blocks_for_reserve(const struct sim_disk *d, uint32_t ino, uint64_t bytes);

/* Directories. image_set makes name stand for ino, or for nothing (0), and gives what it stood for before. */
uint32_t image_find(const struct sim_disk *d, uint32_t dir, const char *name, size_t n);   /* 0: nothing of that name */
uint32_t image_set(struct sim_disk *d, uint32_t dir, const char *name, uint32_t ino);
const struct image_entry *image_entries(const struct sim_disk *d, uint32_t dir, size_t *out_count);   /* by name; valid until a change */

/* Removes every inode without a link, and what only it named, except those for which keep (may be NULL) says true. */
void     image_prune(struct sim_disk *d, bool (*keep)(void *arg, uint32_t ino), void *arg);

/* The i-th inode number of the image, in ascending order; 0 behind the last. Its page-th written page; false behind the last. */
uint32_t image_ino_at(const struct sim_disk *d, size_t i);
bool     image_next_page(const struct sim_disk *d, uint32_t ino, uint64_t *page);   /* *page: the first to look at -> the one found */

#endif
