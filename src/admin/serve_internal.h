/*
 * What the files of `nightmail serve` share: serve.c is the worker, serve_reload.c its reload, server.c the supervisor's part.
 */
#ifndef ADMIN_SERVE_INTERNAL_H
#define ADMIN_SERVE_INTERNAL_H

#include "admin/aide.h"
#include "admin/rights.h"
#include "admin/sandbox.h"
#include "admin/supervisor.h"
#include "conf/conf.h"
#include "inbound/inbound.h"
#include "queue/queue.h"
#include "run/net.h"

#define SERVE_ERRORS_MAX (64 * 1024)

struct server {
    const char      *path;
    const char      *program;            /* where it is, or was; NULL: nobody knows */
    struct conf     *conf;               /* counted; as it was at the start */
    struct inbound_sockets *sockets;     /* owned; NULL once they are given up */
    struct net_listener *control_socket; /* owned; NULL: none */
    struct aide      keeper, lookup;
    int              code;
    /* The supervisor's: */
    int              lock;               /* the data directory's; owned, -1: none */
    struct conf     *conf_before;        /* while another generation starts: what is still in force; owned, as the next */
    struct inbound_sockets *sockets_before;
    struct net_listener *control_before; /* NULL: none, or it is the same */
    /* The worker's: */
    struct worker_start how;
    struct sandbox_user user;            /* whom it runs as */
    struct rights    rights;             /* empty without a sandbox */
    struct queue    *queue;
    struct outbound *outbound;
    struct control  *control;
    struct inbound  *inbound;
    bool             reload_first;       /* before it is ready */
    bool             dns;
    bool             handed;             /* it has let go of the queue */
    bool             left;               /* there is something to take over, later */
};

#if defined DEBUG_BUILD
extern void (*serve_intruder)(void);     /* cmd_debug.c: called in the worker when it is ready; NULL: nobody */
#endif

/* Says why there is no start; -1. */
int  serve_fail(struct server *s, int code, const char *what, const char *error);
struct queue_options serve_queue_options(const struct conf *c);
/* The worker: runs until it is told to stop; its exit code. */
int  serve_work(struct server *s, const struct worker_start *how);

/* server_upgrade.c. The child of the supervisor becomes a worker of the program on the disk; its exit code if it cannot. */
int  server_exec_worker(struct server *s, const struct worker_start *how);
/* The supervisor becomes the program on the disk; comes back if it cannot. arg: the server. */
void server_become(void *arg, const struct supervised_worker *owner, const struct supervised_worker *leaving);
/* Were we called by one of these two? */
struct handover;
bool server_was_handed(struct handover *out);
/* The descriptors are ours. -1: no, and it has said why. */
int  server_take_on(struct server *s, const struct handover *h, struct worker_start *how);

bool serve_listeners_eq(const struct conf *a, const struct conf *b);
void serve_say_refused(struct str errors);
void serve_reload(struct server *s);     /* awaits */

#endif
