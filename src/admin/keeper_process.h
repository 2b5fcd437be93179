/*
 * The keeper's process: private keys, the accounts, and the credentials for others; run/keeper_serve.h answers for them.
 */
#ifndef ADMIN_KEEPER_PROCESS_H
#define ADMIN_KEEPER_PROCESS_H

#include "conf/conf.h"

struct keeper_process {
    const char  *path;                   /* of the configuration, which it reads again by itself */
    struct conf *conf;                   /* of the start; counted by who has this */
    int          lookup;                 /* the door where it asks for accounts in a database */
};

/* An aide's work (admin/aide.h); arg: a struct keeper_process. */
int keeper_process(void *arg, int door, int leash, unsigned crashes);

#endif
