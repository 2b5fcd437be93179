/*
 * OpenSSL's first use, at a time when it may fail.
 */
#ifndef RUN_TLS_START_H
#define RUN_TLS_START_H

/* Before the first key, and the first context. 0, or -ENOMEM: then nothing will come of this process. From any thread. */
int tls_start(void);

#endif
