/*
 * An end of a line; the contract is in line_end.h. Runs in the worker, the keeper and lookup.
 */
#include "run/line_end.h"
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void end_free(struct line_end *e)
{
    loop_fd_forget(&e->fd);
    (void)close(e->fd.fd);
    if (e->in != NULL)
        explicit_bzero(e->in, e->in_n);
    if (e->out != NULL)
        explicit_bzero(e->out, e->out_n);
    free(e->in);
    free(e->out);                                /* analyze analyzer-double-free: it is not e->in */
    free(e);
}

int line_end_new(int fd, struct line_end **out)
{
    struct line_end *e = calloc(1, sizeof *e);

    if (e == NULL) {
        (void)close(fd);
        return -ENOMEM;
    }
    loop_fd_init(&e->fd, fd);
    e->refs = 1;
    e->in = malloc(WIRE_MESSAGE_MAX);
    e->out = malloc(LINE_UNSENT_MAX);            /* pages that nobody touches are not there */
    if (e->in == NULL || e->out == NULL) {
        end_free(e);
        return -ENOMEM;
    }
    *out = e;
    return 0;
}

struct line_end *line_end_ref(struct line_end *e)
{
    e->refs++;
    return e;
}

void line_end_unref(struct line_end *e)
{
    if (e != NULL && --e->refs == 0)
        end_free(e);
}

void line_end_close(struct line_end *e)
{
    if (!e->closed)
        (void)shutdown(e->fd.fd, SHUT_RDWR);
    e->closed = true;
}

/* -- sending ---------------------------------------------------------------------------------------------------------------- */

/* True: nothing is left to send, or it never will be. */
static bool send_some(struct line_end *e)
{
    while (!e->closed && e->out_at < e->out_n) {
        ssize_t n = send(e->fd.fd, e->out + e->out_at, e->out_n - e->out_at, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN)
            return false;
        if (n < 0 && errno != EINTR)
            line_end_close(e);
        if (n > 0)
            e->out_at += (size_t)n;
    }
    explicit_bzero(e->out, e->out_n);
    e->out_n = e->out_at = 0;
    return true;
}

/* A task, with a count of the end. A close wakes it. */
static void flush(void *arg)
{
    struct line_end *e = arg;

    while (!send_some(e))
        if (loop_fd_wait_writable(&e->fd, TASK_FOREVER) < 0)
            line_end_close(e);
    e->flushing = false;
    line_end_unref(e);
}

static bool make_room(struct line_end *e, size_t n)
{
    if (e->out_at > 0 && LINE_UNSENT_MAX - e->out_n < n) {
        memmove(e->out, e->out + e->out_at, e->out_n - e->out_at);
        explicit_bzero(e->out + e->out_n - e->out_at, e->out_at);
        e->out_n -= e->out_at;
        e->out_at = 0;
    }
    return LINE_UNSENT_MAX - e->out_n >= n;
}

int line_end_put(struct line_end *e, const struct wire_message *m)
{
    struct buf out;

    if (e->closed)
        return -EPIPE;
    if (!make_room(e, WIRE_MESSAGE_MAX))
        return -ENOBUFS;
    buf_init_fixed(&out, e->out + e->out_n, WIRE_MESSAGE_MAX);
    if (!wire_put(&out, m))
        return -EMSGSIZE;
    e->out_n += out.n;
    if (e->flushing || send_some(e))
        return e->closed ? -EPIPE : 0;
    if (task_start("line-flush", flush, line_end_ref(e)) < 0) {
        line_end_close(e);
        line_end_unref(e);
        return -EPIPE;
    }
    e->flushing = true;
    return 0;
}

/* -- receiving -------------------------------------------------------------------------------------------------------------- */

/* What has been read goes, and what is left moves to the front. */
static void wipe_read(struct line_end *e)
{
    size_t left = e->in_n - e->in_at;

    memmove(e->in, e->in + e->in_at, left);
    explicit_bzero(e->in + left, e->in_at);
    e->in_n = left;
    e->in_at = 0;
}

/* Awaits. > 0: there is more than before; 0: the end. */
static ssize_t receive(struct line_end *e)
{
    for (;;) {
        ssize_t n = e->closed ? 0 : recv(e->fd.fd, e->in + e->in_n, WIRE_MESSAGE_MAX - e->in_n, MSG_DONTWAIT);
        if (n >= 0)
            return n;
        if (errno == EINTR)
            continue;
        if (errno != EAGAIN)
            return -errno;
        int r = loop_fd_wait_readable(&e->fd, TASK_FOREVER);
        if (r < 0)
            return r;
    }
}

int line_end_next(struct line_end *e, struct wire_message *out)
{
    for (;;) {
        ssize_t n = wire_take((struct str){ e->in + e->in_at, e->in_n - e->in_at }, out);
        if (n < 0)
            return (int)n;
        e->in_at += (size_t)n;
        if (n > 0)
            return 0;
        wipe_read(e);
        n = receive(e);
        if (n == 0)
            return -EPIPE;
        if (n < 0)
            return (int)n;
        e->in_n += (size_t)n;
    }
}
