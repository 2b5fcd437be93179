/*
 * Lookup's side of its lines: databases and OAuth's endpoints, asked for the worker and for the keeper. Runs in lookup.
 *
 * It holds the databases' passwords, the refresh token and the endpoints' secrets, each read from its file when it is needed; it has no
 * mail and no private key.
 */
#ifndef LOOKUP_SERVE_H
#define LOOKUP_SERVE_H

#include "conf/conf.h"

struct lookup_server;

/* load: reads the configuration again; BLOCKS, on a helper thread. */
struct lookup_options {
    int (*load)(void *arg, struct conf **out, char error[256]);
    void *arg;
};

/* With the configuration in force (conf_current). BLOCKS for a look at the database: from the first task. -EINVAL: its query is wrong; with the
 * reason in words. A database that cannot be reached now is no error. DNS (run/dns.h) is there, where an endpoint is configured. */
int  lookup_server_start(const struct lookup_options *options, struct lookup_server **out, char error[256]);
void lookup_server_stop(struct lookup_server *s);        /* nobody may be in the functions below */

/* Await: answer at this door until the calling task is cancelled. */
int  lookup_serve_worker(struct lookup_server *s, int door);
int  lookup_serve_keeper(struct lookup_server *s, int door);

#endif
