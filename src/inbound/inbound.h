/*
 * Mail coming in: the listeners of the configuration and the submit socket, on all loops; a session for each connection.
 *
 * A session takes the configuration in force (conf_current) when it begins. Everything it accepts goes through queue_put,
 * and only then gets its 250. Runs in the worker.
 */
#ifndef INBOUND_INBOUND_H
#define INBOUND_INBOUND_H

#include "inbound/sockets.h"
#include "queue/queue.h"
#include "run/net.h"

struct inbound;

/* Binds every address of the configuration in force, then accepts on all loops. Call on loop 0, in a task. On error nothing
 * listens, and error says which address and why. */
int inbound_start(struct queue *q, struct inbound **out, char error[256]);

/* The same on sockets that were bound beforehand, for as many loops as there are; it takes them out of `sockets`, which stays the
 * caller's (inbound_unbind). On error they are all still there. */
int inbound_start_on(struct queue *q, struct inbound_sockets *sockets, struct inbound **out, char error[256]);

/* Stops accepting; idle sessions get 421 4.3.2, others when their command is done, at the latest after shutdown_grace. Awaits
 * the last one, then frees. On loop 0, in a task; ignores the task's cancellation. NULL is fine. */
void inbound_stop(struct inbound *in);

/* Before inbound_stop: sessions have so long to end by themselves, as if nothing had happened, while another process accepts on the same
 * sockets; the paths of those are its. */
void inbound_drain(struct inbound *in, int64_t ns);
/* In another task, while inbound_stop awaits that: no more of it. */
void inbound_hurry(struct inbound *in);

/* Reads the certificates of the configuration in force again; those that cannot be used leave the ones before. Returns at once. On loop 0. */
void inbound_reload_certificates(struct inbound *in);

/* Where it listens really (port 0 in the configuration: the one that was picked), in the order of the configuration. */
size_t inbound_listeners(const struct inbound *in);          /* those with an address */
void   inbound_address(const struct inbound *in, size_t index, struct net_addr *out);

#endif
