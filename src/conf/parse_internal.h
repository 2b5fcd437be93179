/*
 * What the files of conf/parse*.c share: one configuration on its way into a snapshot. All of them BLOCK, and write what is wrong to
 * loader.error, with its place.
 */
#ifndef CONF_PARSE_INTERNAL_H
#define CONF_PARSE_INTERNAL_H

#include "base/buf.h"
#include "conf/conf.h"
#include "conf/scan.h"
#include <confuse.h>

struct loader {
    struct conf *c;
    struct scan  scan;
    struct buf  *error;
    cfg_t       *cfg;
};

/* parse.c. The whole text of a file; out is begun here. Negative errno, -EFBIG beyond max; no error line. */
int parse_read_text(const char *path, size_t max, struct buf *out);

/* Where something stands: an option or a block, in the block of that name ("": outside of any). NULL: nowhere. */
const struct scan_item *parse_find(const struct loader *l, int type, const char *name, struct str block);
struct place parse_place(const struct loader *l, const char *option);
struct place parse_value_place(const struct loader *l, const char *option, size_t index);

/* parse_block.c. 0, -EINVAL or -ENOMEM. Listeners come after certificates and accounts: they ask for them. */
int parse_certificates(struct loader *l);
int parse_listeners(struct loader *l);
int parse_client_networks(struct loader *l);

/* parse_list.c. 0, -EINVAL, -ENOMEM, or why a file cannot be read. */
int parse_lists(struct loader *l);

/* parse_check.c. The first two before the listeners, the last at the end. */
bool parse_accounts(struct loader *l);
bool parse_oauth(struct loader *l);
bool parse_check(struct loader *l);

#endif
