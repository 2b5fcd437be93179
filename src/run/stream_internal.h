/*
 * The inside of a stream, for stream.c and tls_stream.c.
 */
#ifndef RUN_STREAM_INTERNAL_H
#define RUN_STREAM_INTERNAL_H

#include "run/stream.h"

/* A window of bytes in memory that is there only while there are bytes. */
struct stream_buffer {
    char    *p;                      /* owned; NULL when empty */
    uint32_t start, end, cap;
    bool     secret;                 /* what is taken out is wiped */
};

struct tls_transport;

struct stream {
    struct transport    *transport;  /* owned */
    struct tls_transport *tls;       /* the same transport once TLS was begun; NULL before */
    struct stream_buffer in, out;
    int64_t              write_deadline_ns;
    int                  read_error, write_error;   /* sticky; see stream_fill for what a write error leaves readable */
    bool                 ended;      /* the peer has said all */
    unsigned             turns;      /* transfers since this task last let others run */
};

/* TLS's part of stream_guard: OpenSSL's own copies of what was read. */
void tls_stream_guard(struct tls_transport *t, bool on);

/* An error of the transport; from now on every call says so. Gives it back. */
int stream_fail(struct stream *s, int error);

#endif
