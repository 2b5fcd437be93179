/*
 * Files of Maildirs: tmp -> sync -> new -> sync, as the format asks, many of them in one turn.
 *
 * A file's name is the caller's and determined by the message, and a delivery first looks whether it is there already: so a
 * crash between the rename and the settle makes no second copy.
 *
 * All of it BLOCKS: it runs on helper threads.
 */
#ifndef OUTBOUND_MAILDIR_FILE_H
#define OUTBOUND_MAILDIR_FILE_H

#include "base/str.h"
#include "outbound/maildir.h"
#include "run/gather.h"
#include <stdatomic.h>

#define MAILDIR_NAME_MAX 160

/* The open directories of a Maildir. */
struct maildir_dirs {
    const struct maildir_path *path;
    int                        maildir, tmp, new_dir;
    _Atomic uint32_t          *failures; /* see below */
    uint32_t                   begun;    /* how many there were before anything was renamed */
    bool                       changed;  /* a file has got its name in new/, and that is not durable yet */
    int                        result;   /* of making it so */
};

struct maildir_file {
    struct maildir_path path;
    uint64_t            about;           /* the message, for the report of a crash */
    bool                maybe_there;     /* an earlier process may have delivered it: look in cur/ too */
    char                name[MAILDIR_NAME_MAX];
    struct str          content;         /* the whole file, or the piece to append */
    _Atomic uint32_t   *failures;        /* of syncs of directories: one that fails may have forgotten the names of others, and the error is
                                          * told once; so it counts for everybody whose name was made before it and not synced yet */
    /* Results: */
    int                 result;          /* 0; 1: it was there already, durably; negative errno */
    bool                not_whole;       /* result says so: the Maildir is to be made first */
    /* Of the work: */
    struct maildir_dirs own, *dirs;      /* dirs: its own, or the turn's */
    int                 file;            /* -1: none, or no more */
};

/* Delivers all of them, at most GATHER_MAX; each has a result of its own. Returns how long a sync took in the mean, 0 if there was none. */
int64_t maildir_deliver(struct maildir_file *const files[], size_t count);

/* A file too large for the memory: opened, written piece by piece unless the result is 1, published, and in any case closed. */
void maildir_file_open(struct maildir_file *f);
void maildir_file_write(struct maildir_file *f);
void maildir_file_publish(struct maildir_file *f);
void maildir_file_close(struct maildir_file *f);

#endif
