/*
 * The certificates that listeners show: read at the start, and again when their files change or an operator says so.
 *
 * A session takes the context in force at its handshake and keeps it; so a change drops nobody. Files that cannot be used leave the
 * ones before in force, with an alarm in the log; they are tried again at every look until they can.
 */
#ifndef INBOUND_CERTIFICATES_H
#define INBOUND_CERTIFICATES_H

#include "conf/conf.h"
#include "run/offload.h"
#include "run/tls.h"

struct certificates;

/* What the configuration names, made ready; *out is NULL if it names nothing. BLOCKS. On an error, error says which file and why. */
int certificates_load(const struct conf *c, struct tls_context **out, char error[256]);

/* Reads them, on a helper; awaits that. */
int  certificates_new(const struct conf *c, struct offload *helpers, struct certificates **out, char error[256]);
void certificates_free(struct certificates *c);                  /* NULL is fine; nobody may watch */

/* Counted, for one handshake; NULL: there are none. From any loop. */
struct tls_context *certificates_get(struct certificates *c);

/* A task: looks at the files every tls_check_interval until cancelled. arg is a struct certificates. Awaits. */
void certificates_watch(void *arg);
/* Reads them now, changed or not, with the configuration in force. From the watcher's loop; returns at once. */
void certificates_reload(struct certificates *c);

#endif
