/*
 * Lookup's process: databases and OAuth's endpoints; lookup/serve.h answers for them.
 */
#ifndef ADMIN_LOOKUP_PROCESS_H
#define ADMIN_LOOKUP_PROCESS_H

#include "conf/conf.h"

struct lookup_process {
    const char  *path;                   /* of the configuration, which it reads again by itself */
    struct conf *conf;                   /* of the start; counted by who has this */
    int          keeper_door;            /* where the keeper asks; the aide's own is the worker's */
};

/* Whether this configuration has anything to ask it. */
bool lookup_process_needed(const struct conf *c);

/* An aide's work (admin/aide.h); arg: a struct lookup_process. */
int lookup_process(void *arg, int door, int leash, unsigned crashes);

#endif
