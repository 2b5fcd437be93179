/*
 * Files: the one door to the disk, so that a simulated disk can stand behind it.
 *
 * These calls BLOCK; they are made from offload jobs, from commit threads, or before the loops run, never from a task on a
 * busy loop (small cached reads excepted, which say so). Each is the system call of the same name with EINTR handled and
 * short transfers completed; errors are negative errnos. Files are opened beneath a directory handle, without following
 * links (openat2 with RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS; names may contain '/'). Handles are small integers of this
 * module's own kind; do not hand them to system calls.
 */
#ifndef RUN_FILE_H
#define RUN_FILE_H

#include "base/str.h"
#include <sys/stat.h>

#define FILE_READ      0x01u
#define FILE_WRITE     0x02u
#define FILE_CREATE    0x04u     /* mode 0600 */
#define FILE_EXCLUSIVE 0x08u     /* with FILE_CREATE: -EEXIST if it is there */
#define FILE_TRUNCATE  0x10u
#define FILE_APPEND    0x20u

struct file_info {
    uint64_t size;
    uint64_t mtime_ns;
    bool     is_dir, is_file;
    bool     open_to_all;                /* a file that everybody may read, or write, by its mode */
    bool     passable;                   /* a directory through which everybody may reach what is open to them there */
};

int file_open_dir(const char *path);                                   /* absolute or relative to the working directory; follows links */
int file_open_dir_at(int dir, const char *name);
int file_open_at(int dir, const char *name, unsigned flags);
int file_close(int file);                                              /* also directories; negative handles are ignored */

int file_read_at(int file, void *p, size_t n, uint64_t offset, size_t *out_read);   /* short only at the end of the file */
int file_write_at(int file, const void *p, size_t n, uint64_t offset);  /* all of it, or an error after an unknown part */
int file_append(int file, const void *p, size_t n);                    /* at the end (FILE_APPEND) */
int file_datasync(int file);                                           /* fdatasync */
int file_sync(int file);                                               /* fsync; of a directory too */
/* The file's bytes begin on their way to the disk; a sync soon after has less to wait for. Promises nothing, but an error is one of writing. */
int file_start_sync(int file);
int file_allocate(int file, uint64_t size);                            /* fallocate(0, 0, size) */
int file_truncate(int file, uint64_t size);
int file_info(int file, struct file_info *out);
int file_info_at(int dir, const char *name, struct file_info *out);
int file_rename_at(int from_dir, const char *from, int to_dir, const char *to);   /* replaces the target */
int file_link_at(int from_dir, const char *from, int to_dir, const char *to);     /* -EEXIST if the target is there */
int file_unlink_at(int dir, const char *name);
int file_mkdir_at(int dir, const char *name);                          /* mode 0700; -EEXIST */
int file_make_passable(int dir);                                       /* mode 0711, of a directory of ours */
/* The owner and group of another file or directory; and of a file, what of its mode is within 0640. -EPERM: it is not ours to give. */
int file_own_like(int file, int model);
/* Calls each(arg, name) for every entry but . and .. ; stops at the first non-zero result and returns it. */
int file_list(int dir, int (*each)(void *arg, const char *name), void *arg);
int file_lock(int file);                                               /* exclusive, whole file, not waiting: -EWOULDBLOCK */

enum file_system { FILE_SYSTEM_LOCAL, FILE_SYSTEM_MEMORY, FILE_SYSTEM_NETWORK };
int file_system_of(int file, enum file_system *out, uint64_t *out_free_bytes);

/* A whole small file (configuration, user lists), up to max bytes: -EFBIG beyond. path as in file_open_dir. */
struct buf;
int file_read_whole(const char *path, size_t max, struct buf *out);
int file_read_whole_at(int dir, const char *name, size_t max, struct buf *out);
int file_info_path(const char *path, struct file_info *out);           /* of what file_read_whole would read */

static inline void cleanup_file(int *file) { if (*file >= 0) (void)file_close(*file); }
#define CLEANUP_FILE __attribute__((cleanup(cleanup_file)))

#endif
