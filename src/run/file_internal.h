/*
 * What stands behind run/file.h: the real disk (file.c) or another one, such as the simulated world's (sim_disk.c).
 *
 * The contract of each operation is that of the function of the same name in run/file.h. The front in file.c checks names
 * (file_name_check) before it calls, so an implementation sees only relative names without ".." in them.
 */
#ifndef RUN_FILE_INTERNAL_H
#define RUN_FILE_INTERNAL_H

#include "run/file.h"

struct file_ops {
    int (*open_dir)(const char *path);
    int (*open_dir_at)(int dir, const char *name);
    int (*open_at)(int dir, const char *name, unsigned flags);
    int (*open_path)(const char *path);                        /* for reading; follows links: configuration, certificates */
    int (*close)(int file);
    int (*read_at)(int file, void *p, size_t n, uint64_t offset, size_t *out_read);
    int (*write_at)(int file, const void *p, size_t n, uint64_t offset);
    int (*append)(int file, const void *p, size_t n);
    int (*datasync)(int file);
    int (*sync)(int file);
    int (*start_sync)(int file);
    int (*allocate)(int file, uint64_t size);
    int (*truncate)(int file, uint64_t size);
    int (*info)(int file, struct file_info *out);
    int (*info_at)(int dir, const char *name, struct file_info *out);
    int (*rename_at)(int from_dir, const char *from, int to_dir, const char *to);
    int (*link_at)(int from_dir, const char *from, int to_dir, const char *to);
    int (*unlink_at)(int dir, const char *name);
    int (*mkdir_at)(int dir, const char *name);
    int (*make_passable)(int dir);
    int (*own_like)(int file, int model);
    int (*list)(int dir, int (*each)(void *arg, const char *name), void *arg);
    int (*lock)(int file);
    int (*system_of)(int file, enum file_system *out, uint64_t *out_free_bytes);
};

/* Put another disk in place for the whole process; NULL restores the real one. No call may be under way and no handle open. */
void file_replace(const struct file_ops *ops);

/* 0 for a relative name without ".." components; -EXDEV for one that leaves the directory ("/x", "a/../b"), -ENOENT for the
 * empty name: what openat2 says with RESOLVE_BENEATH, and stricter about "..". */
int file_name_check(const char *name);

#endif
