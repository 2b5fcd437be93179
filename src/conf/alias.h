/*
 * Aliases and rewritings, read from their files into the snapshot. BLOCKS in `read` only.
 *
 * What has no place in a mail server without a shell is refused with file and line: commands, files to append to, half addresses.
 * Whether an alias leads anywhere is asked of the whole (policy/alias_check.h).
 */
#ifndef CONF_ALIAS_H
#define CONF_ALIAS_H

#include "conf/conf.h"
#include "conf/scan.h"

#define ALIAS_ENTRIES_MAX 1000000u       /* of all files together; likewise the next */
#define ALIAS_TARGETS_MAX 2000000u
#define ALIAS_FILE_MAX    (64u << 20)
#define ALIAS_INCLUDE_MAX 10             /* lists in lists */

struct alias_loader {
    struct conf *c;
    struct buf  *error;                  /* lines "file:line: ..." */
    int        (*read)(const char *path, size_t max, struct buf *out);   /* 0 or a negative errno; initialises out */
    size_t       target_count;
    struct conf_alias *last;             /* of c->alias_first and so on */
};

/* The files that c names, into its maps, which are empty. at is where c names them. 0, -ENOMEM, or another negative errno with an error line. */
int alias_load_file(struct alias_loader *l, const char *path, struct place at);
int alias_load_rewrites(struct alias_loader *l, struct map_str *table, const char *path, struct place at);

#endif
