/*
 * Streams: buffered bytes both ways over TCP, a Unix socket, TLS, or memory, behind one type.
 *
 * One task uses a stream at a time. Reading: stream_fill awaits more bytes, stream_pending shows what is there,
 * stream_consume takes it away. Writing: stream_put buffers, stream_flush sends; so replies to pipelined commands leave in
 * one segment. An idle stream holds no buffers: the input buffer is taken when bytes have come and given back when empty.
 *
 * Errors: -EPIPE/-ECONNRESET/... when the peer is gone, -EPROTO for a TLS failure (stream_tls_error has the text); after
 * an error every call returns it again; only what a peer said before a write to it failed can still be read first (often
 * it is the reason). -ETIMEDOUT and -ECANCELED of a wait are no such errors: the stream can be used on, except that after a failed
 * stream_put it is unknown how much of its bytes was taken, and that a broken-off TLS handshake is final. The end of input
 * is 0 from stream_fill, again and again.
 */
#ifndef RUN_STREAM_H
#define RUN_STREAM_H

#include "base/str.h"
#include "run/net.h"
#include "run/task.h"

#define STREAM_INPUT_MAX  (64 * 1024)        /* most bytes pending at a time */
#define STREAM_OUTPUT_MAX (64 * 1024)        /* stream_put beyond this flushes first (and so awaits) */

struct stream;
struct tls_context;

/* Awaits until at least one more byte is pending. > 0: bytes added; 0: end of input; -ENOBUFS: STREAM_INPUT_MAX are pending already. */
ssize_t    stream_fill(struct stream *s, int64_t deadline_ns);
/* The same, and leaves what is beyond max (> 0) bytes where it is: for what stands in front of a TLS handshake. */
ssize_t    stream_fill_at_most(struct stream *s, size_t max, int64_t deadline_ns);
struct str stream_pending(const struct stream *s);                   /* valid until the next fill or consume */
void       stream_consume(struct stream *s, size_t n);
void       stream_discard_pending(struct stream *s);                 /* at STARTTLS, both sides: nothing injected before it survives */

/* From now on what passes through is wiped behind it, for passwords may be in it; in plain text and under TLS, a handshake to come too. */
void       stream_guard(struct stream *s, bool on);

/* Buffer bytes to send; awaits only when the buffer is full, with the deadline of the last stream_write_deadline (forever at start). */
int        stream_put(struct stream *s, struct str bytes);
int        stream_flush(struct stream *s, int64_t deadline_ns);      /* awaits until everything is handed to the kernel */
void       stream_write_deadline(struct stream *s, int64_t deadline_ns);
size_t     stream_unsent(const struct stream *s);

/* Both awaited. The server side needs a context with a certificate; the client verifies as its context says and sends server_name (may be NULL) as SNI. */
int         stream_tls_accept(struct stream *s, struct tls_context *context, int64_t deadline_ns);
int         stream_tls_connect(struct stream *s, struct tls_context *context, const char *server_name, int64_t deadline_ns);
/* Likewise, but a context that verifies asks for a certificate of `within`, a domain, or of a name below it, whatever the server's own name
 * is. NULL: as above. */
int         stream_tls_connect_within(struct stream *s, struct tls_context *context, const char *server_name, const char *within, int64_t deadline_ns);
bool        stream_is_tls(const struct stream *s);
const char *stream_tls_protocol(const struct stream *s);             /* "TLSv1.3", or "" */
const char *stream_tls_cipher(const struct stream *s);
const char *stream_tls_suite(const struct stream *s);                /* the cipher as IANA registers it, or "" */
const char *stream_tls_group(const struct stream *s);                /* of the key exchange, "X25519"; "" where it is not told */
int         stream_tls_bits(const struct stream *s);
bool        stream_tls_resumed(const struct stream *s);              /* an earlier session was taken up */
const char *stream_tls_name(const struct stream *s);                 /* server side: the name that the client asked for, its own words; "" if none */
/* What binds an authentication to this connection: tls-exporter on TLS 1.3 (RFC 9266), tls-server-end-point before (RFC 5929). Its
 * length, 0 if there is none. */
#define STREAM_TLS_BINDING_MAX 64
size_t      stream_tls_binding(const struct stream *s, const char **out_type, uint8_t out[STREAM_TLS_BINDING_MAX]);
const char *stream_tls_error(const struct stream *s);                /* the last TLS failure in words, "" if none */

void        stream_local(const struct stream *s, struct net_addr *out);
void        stream_peer(const struct stream *s, struct net_addr *out);
int         stream_peer_uid(const struct stream *s, unsigned *out_uid);   /* of a Unix socket (SO_PEERCRED); -ENOTSOCK otherwise */

/* A polite end: what is buffered is sent, our direction is shut, the rest of the peer's bytes (up to a bound) are read away. Awaits. */
int         stream_shutdown(struct stream *s, int64_t deadline_ns);
void        stream_close(struct stream *s);                          /* at once; NULL is fine; unsent bytes are lost */

/* Two ends of a pipe in memory, each with a buffer of `capacity` bytes, for tests and in-process peers. Same loop only. */
int         stream_pair(size_t capacity, struct stream **out_a, struct stream **out_b);

/*
 * What carries a stream's bytes. Implemented by net.c (sockets), tls.c, stream.c (memory), sim_net.c. read and write try once:
 * bytes moved, 0 at the end (read), -EAGAIN, or an error; wait_* await readiness, and may return without it. shut_write also tries
 * once: on -EAGAIN it is called again when writing is possible.
 */
struct transport {
    const struct transport_ops *ops;
};
struct transport_ops {
    ssize_t (*read)(struct transport *t, void *p, size_t n);
    ssize_t (*write)(struct transport *t, const void *p, size_t n);
    int     (*wait_readable)(struct transport *t, int64_t deadline_ns);
    int     (*wait_writable)(struct transport *t, int64_t deadline_ns);
    int     (*shut_write)(struct transport *t);
    void    (*close)(struct transport *t);                           /* frees t */
    void    (*local)(struct transport *t, struct net_addr *out);
    void    (*peer)(struct transport *t, struct net_addr *out);
    int     (*peer_uid)(struct transport *t, unsigned *out_uid);
};
struct stream *stream_new(struct transport *t);                      /* takes t; NULL without memory (t closed) */

#endif
