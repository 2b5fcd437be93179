/*
 * What the neighbours of tls.c need of it: the OpenSSL context behind a struct tls_context, and how the simulated world
 * makes TLS deterministic.
 */
#ifndef RUN_TLS_INTERNAL_H
#define RUN_TLS_INTERNAL_H

#include "run/tls.h"
#include <stdint.h>

struct ssl_ctx_st;
struct ssl_ctx_st *tls_context_ssl(const struct tls_context *c);
bool               tls_context_verifies(const struct tls_context *c);   /* a client's that checks chain and name */
bool               tls_context_is_server(const struct tls_context *c);

/*
 * Between the two, every random byte in OpenSSL comes from random() and nothing on the wire depends on the real clock
 * (certificates are always judged at clock_wall_ns(); session tickets, which carry the time, are not sent). Contexts must
 * be made inside, as they hold random keys. One thread.
 */
void sim_tls_begin(uint64_t (*random)(void));
void sim_tls_end(void);
bool sim_tls_active(void);

#endif
