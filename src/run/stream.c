/*
 * Streams: buffering, sticky errors and fairness over a transport; and the transport that is a pipe in memory.
 *
 * Reads are tried before waiting, always: readiness is edge-triggered, so only -EAGAIN proves that there is nothing. While
 * nothing is pending the read goes to a scratch area of the thread, so that a waiting stream owns no buffer. A peer that is
 * always ready would keep its task running for ever; after STREAM_TURNS transfers the others of the loop get theirs.
 */
#include "run/stream.h"

#include "run/stream_internal.h"
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define STREAM_BUFFER_MIN 4096
#define STREAM_SCRATCH    (16 * 1024)        /* the most that one TLS record carries */
#define STREAM_DIRECT     (16 * 1024)        /* with nothing buffered, this much is written without a copy */
#define STREAM_DRAIN_MAX  (256 * 1024)       /* what stream_shutdown reads away at most */
#define STREAM_TURNS      16

/* Buffers. */

static size_t buffer_count(const struct stream_buffer *b)
{
    return b->end - b->start;
}

static void buffer_free(struct stream_buffer *b)
{
    if (b->secret && b->p != NULL)
        explicit_bzero(b->p, b->cap);
    free(b->p);
    *b = (struct stream_buffer){ .secret = b->secret };
}

static void buffer_take(struct stream_buffer *b, size_t n)
{
    assert(n <= buffer_count(b));
    if (b->secret && n > 0)              /* of nothing p may be NULL */
        explicit_bzero(b->p + b->start, n);
    b->start += (uint32_t)n;
    if (b->start == b->end)
        buffer_free(b);
}

static char *buffer_grow(struct stream_buffer *b, size_t cap)
{
    if (!b->secret)
        return realloc(b->p, cap);
    char *p = malloc(cap);
    if (p == NULL)
        return NULL;
    if (b->p != NULL) {
        memcpy(p, b->p, b->end);
        explicit_bzero(b->p, b->cap);
        free(b->p);
    }
    return p;
}

/* Room for at least one more byte behind the end, for `wish` if max allows; the caller knows that there are less than max. */
static int buffer_reserve(struct stream_buffer *b, size_t wish, size_t max)
{
    assert(buffer_count(b) < max);
    if (b->start > 0) {
        memmove(b->p, b->p + b->start, buffer_count(b));
        b->end -= b->start;
        b->start = 0;
    }

    size_t cap = b->cap > 0 ? b->cap : STREAM_BUFFER_MIN;
    while (cap < max && cap < b->end + wish)
        cap *= 2;
    if (cap == b->cap)
        return 0;
    char *p = buffer_grow(b, cap);
    if (p == NULL)
        return b->end < b->cap ? 0 : -ENOMEM;
    b->p = p;
    b->cap = (uint32_t)cap;
    return 0;
}

static size_t buffer_room(const struct stream_buffer *b)
{
    return b->cap - b->end;
}

/* Making and ending. */

struct stream *stream_new(struct transport *t)
{
    struct stream *s = calloc(1, sizeof *s);

    if (s == NULL) {
        t->ops->close(t);
        return NULL;
    }
    s->transport = t;
    s->write_deadline_ns = TASK_FOREVER;
    return s;
}

void stream_close(struct stream *s)
{
    if (s == NULL)
        return;
    s->transport->ops->close(s->transport);
    buffer_free(&s->in);
    buffer_free(&s->out);
    free(s);
}

int stream_fail(struct stream *s, int error)
{
    assert(error < 0);
    if (s->read_error == 0)
        s->read_error = error;
    if (s->write_error == 0)
        s->write_error = error;
    return error;
}

/* Says that the task was cancelled, and lets the others of this loop run now and then. */
static int take_turn(struct stream *s, int64_t deadline_ns)
{
    int r = task_stop_check();

    if (r < 0 || ++s->turns < STREAM_TURNS)
        return r;
    s->turns = 0;
    r = task_yield();
    if (r < 0)
        return r;
    return clock_mono_ns() >= deadline_ns ? -ETIMEDOUT : 0;
}

static int await_readable(struct stream *s, int64_t deadline_ns)
{
    s->turns = 0;
    return s->transport->ops->wait_readable(s->transport, deadline_ns);
}

static int await_writable(struct stream *s, int64_t deadline_ns)
{
    s->turns = 0;
    return s->transport->ops->wait_writable(s->transport, deadline_ns);
}

/* Reading. */

static size_t at_most(size_t n, size_t max) { return n < max ? n : max; }

static ssize_t read_into_nothing(struct stream *s, size_t max)
{
    static _Thread_local char scratch[STREAM_SCRATCH];
    ssize_t                   n = s->transport->ops->read(s->transport, scratch, at_most(sizeof scratch, max));

    if (n <= 0)
        return n;
    if (buffer_reserve(&s->in, (size_t)n, STREAM_INPUT_MAX) < 0)
        return -ENOMEM;   /* the bytes are lost, so this one is final too */
    memcpy(s->in.p, scratch, (size_t)n);
    s->in.end = (uint32_t)n;
    if (s->in.secret)
        explicit_bzero(scratch, (size_t)n);
    return n;
}

static ssize_t read_once(struct stream *s, size_t max)
{
    if (s->in.p == NULL)
        return read_into_nothing(s, max);
    if (buffer_reserve(&s->in, STREAM_BUFFER_MIN / 2, STREAM_INPUT_MAX) < 0)
        return -ENOMEM;
    ssize_t n = s->transport->ops->read(s->transport, s->in.p + s->in.end, at_most(buffer_room(&s->in), max));
    if (n > 0)
        s->in.end += (uint32_t)n;
    return n;
}

/* What a peer said before it went can be read after a write has failed: often it is the reason (a 421). But nothing more comes. */
static ssize_t last_words(struct stream *s, size_t max)
{
    ssize_t n = read_once(s, max);

    if (n > 0)
        return n;
    s->read_error = s->write_error;
    return s->read_error;
}

ssize_t stream_fill(struct stream *s, int64_t deadline_ns)
{
    return stream_fill_at_most(s, STREAM_INPUT_MAX, deadline_ns);
}

ssize_t stream_fill_at_most(struct stream *s, size_t max, int64_t deadline_ns)
{
    if (s->read_error < 0)
        return s->read_error;
    if (buffer_count(&s->in) == STREAM_INPUT_MAX)
        return -ENOBUFS;
    if (s->ended)
        return 0;
    int r = take_turn(s, deadline_ns);
    if (r < 0)
        return r;
    if (s->write_error < 0)
        return last_words(s, max);

    for (;;) {
        ssize_t n = read_once(s, max);

        if (n > 0)
            return n;
        if (n == 0) {
            s->ended = true;
            return 0;
        }
        if (n == -ENOMEM)
            return s->read_error = (int)n;       /* what came is lost, but why can still be said */
        if (n != -EAGAIN)
            return stream_fail(s, (int)n);
        r = await_readable(s, deadline_ns);
        if (r < 0)
            return r;
    }
}

struct str stream_pending(const struct stream *s)
{
    return s->in.p == NULL ? STR("") : (struct str){ s->in.p + s->in.start, buffer_count(&s->in) };
}

void stream_consume(struct stream *s, size_t n)
{
    buffer_take(&s->in, n);
}

void stream_discard_pending(struct stream *s)
{
    buffer_free(&s->in);
}

void stream_guard(struct stream *s, bool on)
{
    s->in.secret = s->out.secret = on;
    if (s->tls != NULL)
        tls_stream_guard(s->tls, on);
}

/* Writing. */

/* Bytes moved, 0 if there is no room now, or the error, kept. */
static ssize_t write_once(struct stream *s, const char *p, size_t n)
{
    ssize_t written = s->transport->ops->write(s->transport, p, n);

    if (written == -EAGAIN)
        return 0;
    assert(written != 0);
    if (written < 0)
        s->write_error = (int)written;
    return written;
}

int stream_flush(struct stream *s, int64_t deadline_ns)
{
    if (s->write_error < 0)
        return s->write_error;
    while (buffer_count(&s->out) > 0) {
        int r = take_turn(s, deadline_ns);
        if (r < 0)
            return r;

        ssize_t n = write_once(s, s->out.p + s->out.start, buffer_count(&s->out));
        if (n < 0)
            return (int)n;
        if (n > 0)
            buffer_take(&s->out, (size_t)n);
        else if ((r = await_writable(s, deadline_ns)) < 0)
            return r;
    }
    return 0;
}

int stream_put(struct stream *s, struct str bytes)
{
    while (bytes.n > 0) {
        if (s->write_error < 0)
            return s->write_error;
        if (s->out.p == NULL && bytes.n >= STREAM_DIRECT) {
            int     r = take_turn(s, s->write_deadline_ns);
            ssize_t n = r < 0 ? r : write_once(s, bytes.p, bytes.n);

            if (n < 0)
                return (int)n;
            bytes = str_from(bytes, (size_t)n);
            if (n > 0)
                continue;
        }
        if (buffer_count(&s->out) == STREAM_OUTPUT_MAX) {
            int r = stream_flush(s, s->write_deadline_ns);
            if (r < 0)
                return r;
            continue;
        }
        if (buffer_reserve(&s->out, bytes.n, STREAM_OUTPUT_MAX) < 0)
            return s->write_error = -ENOMEM;   /* a part may be sent already: there is no way back */
        struct str part = str_head(bytes, buffer_room(&s->out));
        memcpy(s->out.p + s->out.end, part.p, part.n);
        s->out.end += (uint32_t)part.n;
        bytes = str_from(bytes, part.n);
    }
    return s->write_error;
}

void stream_write_deadline(struct stream *s, int64_t deadline_ns)
{
    s->write_deadline_ns = deadline_ns;
}

size_t stream_unsent(const struct stream *s)
{
    return buffer_count(&s->out);
}

int stream_shutdown(struct stream *s, int64_t deadline_ns)
{
    int r = stream_flush(s, deadline_ns);

    if (r < 0)
        return r;
    while ((r = s->transport->ops->shut_write(s->transport)) == -EAGAIN) {
        r = await_writable(s, deadline_ns);
        if (r < 0)
            return r;
    }
    if (r < 0)
        return stream_fail(s, r);

    /* Closing with unread bytes would reset the connection and could take our last reply with it. */
    for (size_t drained = 0; drained < STREAM_DRAIN_MAX;) {
        stream_discard_pending(s);
        ssize_t n = stream_fill(s, deadline_ns);
        if (n < 0)
            return (int)n;
        if (n == 0)
            break;
        drained += (size_t)n;
    }
    s->write_error = -EPIPE;
    return 0;
}

/* Who is there. */

void stream_local(const struct stream *s, struct net_addr *out)
{
    s->transport->ops->local(s->transport, out);
}

void stream_peer(const struct stream *s, struct net_addr *out)
{
    s->transport->ops->peer(s->transport, out);
}

int stream_peer_uid(const struct stream *s, unsigned *out_uid)
{
    return s->transport->ops->peer_uid(s->transport, out_uid);
}

/*
 * A pipe in memory. Each end owns the bytes that it has written and the other has not read yet; an end that is
 * closed leaves them until the other is closed too.
 */

struct ring {
    char        *p;
    size_t       start, count;
    bool         write_closed, read_closed;
    struct task *reader, *writer;
};

struct pair {
    size_t      capacity;
    unsigned    ends;                /* not closed yet */
    struct ring rings[2];            /* [i]: what end i reads */
    char        memory[];
};

struct pair_end {
    struct transport base;
    struct pair     *pair;
    unsigned         index;
};

static struct ring *ring_in(struct transport *t)
{
    struct pair_end *end = (struct pair_end *)t;

    return &end->pair->rings[end->index];
}

static struct ring *ring_out(struct transport *t)
{
    struct pair_end *end = (struct pair_end *)t;

    return &end->pair->rings[!end->index];
}

static void wake(struct task *t)
{
    if (t != NULL)
        task_wake(t);
}

static ssize_t pair_read(struct transport *t, void *p, size_t n)
{
    struct ring *r = ring_in(t);
    size_t       capacity = ((struct pair_end *)t)->pair->capacity;

    if (r->count == 0)
        return r->write_closed ? 0 : -EAGAIN;
    n = n < r->count ? n : r->count;
    size_t first = n < capacity - r->start ? n : capacity - r->start;
    memcpy(p, r->p + r->start, first);
    memcpy((char *)p + first, r->p, n - first);
    r->start = (r->start + n) % capacity;
    r->count -= n;
    wake(r->writer);
    return (ssize_t)n;
}

static ssize_t pair_write(struct transport *t, const void *p, size_t n)
{
    struct ring *r = ring_out(t);
    size_t       capacity = ((struct pair_end *)t)->pair->capacity;

    if (r->read_closed || r->write_closed)
        return -EPIPE;
    if (r->count == capacity)
        return -EAGAIN;
    n = n < capacity - r->count ? n : capacity - r->count;
    size_t end = (r->start + r->count) % capacity;
    size_t first = n < capacity - end ? n : capacity - end;
    memcpy(r->p + end, p, first);
    memcpy(r->p, (const char *)p + first, n - first);
    r->count += n;
    wake(r->reader);
    return (ssize_t)n;
}

static int pair_wait_readable(struct transport *t, int64_t deadline_ns)
{
    struct ring *ring = ring_in(t);
    int          r = task_stop_check();

    assert(ring->reader == NULL);
    ring->reader = task_self();
    while (r == 0 && ring->count == 0 && !ring->write_closed)
        r = task_park(deadline_ns);
    ring->reader = NULL;
    return r;
}

static int pair_wait_writable(struct transport *t, int64_t deadline_ns)
{
    struct ring *ring = ring_out(t);
    size_t       capacity = ((struct pair_end *)t)->pair->capacity;
    int          r = task_stop_check();

    assert(ring->writer == NULL);
    ring->writer = task_self();
    while (r == 0 && ring->count == capacity && !ring->read_closed)
        r = task_park(deadline_ns);
    ring->writer = NULL;
    return r;
}

static int pair_shut_write(struct transport *t)
{
    struct ring *r = ring_out(t);

    r->write_closed = true;
    wake(r->reader);
    return 0;
}

static void pair_close(struct transport *t)
{
    struct pair *pair = ((struct pair_end *)t)->pair;

    (void)pair_shut_write(t);
    ring_in(t)->read_closed = true;
    wake(ring_in(t)->writer);
    if (--pair->ends == 0)
        free(pair);
    free(t);
}

static void pair_address(struct transport *t, struct net_addr *out)
{
    (void)t;
    *out = (struct net_addr){ .any.sa_family = AF_UNSPEC };
}

static int pair_peer_uid(struct transport *t, unsigned *out_uid)
{
    (void)t;
    (void)out_uid;
    return -ENOTSOCK;
}

static const struct transport_ops pair_ops = {
    .read = pair_read,
    .write = pair_write,
    .wait_readable = pair_wait_readable,
    .wait_writable = pair_wait_writable,
    .shut_write = pair_shut_write,
    .close = pair_close,
    .local = pair_address,
    .peer = pair_address,
    .peer_uid = pair_peer_uid,
};

int stream_pair(size_t capacity, struct stream **out_a, struct stream **out_b)
{
    assert(capacity > 0);
    struct pair     *pair = calloc(1, sizeof *pair + 2 * capacity);
    struct pair_end *ends[2] = { calloc(1, sizeof *ends[0]), calloc(1, sizeof *ends[0]) };

    if (pair == NULL || ends[0] == NULL || ends[1] == NULL) {
        free(pair);
        free(ends[0]);
        free(ends[1]);
        return -ENOMEM;
    }
    pair->capacity = capacity;
    pair->ends = 2;
    for (unsigned i = 0; i < 2; i++) {
        pair->rings[i].p = pair->memory + i * capacity;
        *ends[i] = (struct pair_end){ .base.ops = &pair_ops, .pair = pair, .index = i };
    }

    struct stream *a = stream_new(&ends[0]->base), *b = stream_new(&ends[1]->base);   /* each takes its end, also on failure */
    if (a == NULL || b == NULL) {
        stream_close(a);
        stream_close(b);
        return -ENOMEM;
    }
    *out_a = a;
    *out_b = b;
    return 0;
}
