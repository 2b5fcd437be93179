/*
 * What a task awaits from the kernel: readiness of a descriptor, and signals. The contract is in loop.h.
 *
 * Descriptors are registered edge-triggered, for both directions at once and once for their life. An event sets a flag that
 * stays until a wait consumes it. So no event is lost between a read that said EAGAIN and the wait after it; at worst a
 * wait returns for what has been read already, and the next read says EAGAIN again.
 */
#include "run/task_internal.h"
#include <assert.h>
#include <errno.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

void loop_fd_init(struct loop_fd *f, int fd)
{
    *f = (struct loop_fd){ .fd = fd };
}

static int loop_fd_register(struct loop_fd *f)
{
    struct epoll_event event = { .events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = f };
    assert(loop_here->driver == NULL);
    if (f->registered) {
        assert(f->loop == loop_here);
        return 0;
    }
    if (epoll_ctl(loop_here->epoll, EPOLL_CTL_ADD, f->fd, &event) < 0)
        return -errno;
    f->loop = loop_here;
    f->registered = true;
    return 0;
}

void loop_fd_event(struct loop_fd *f, uint32_t events)
{
    if ((events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) {
        f->readable = true;
        if (f->reader != NULL)
            task_wake(f->reader);
    }
    if ((events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) != 0) {
        f->writable = true;
        if (f->writer != NULL)
            task_wake(f->writer);
    }
}

static int loop_fd_wait(struct loop_fd *f, bool *ready, struct task **waiter, int64_t deadline_ns)
{
    int r = task_stop_check();
    if (r == 0)
        r = loop_fd_register(f);
    while (r == 0 && !*ready) {
        assert(*waiter == NULL);
        *waiter = task_self();
        r = task_park(deadline_ns);
        *waiter = NULL;
    }
    if (r < 0)
        return r;
    *ready = false;
    return 0;
}

int loop_fd_wait_readable(struct loop_fd *f, int64_t deadline_ns)
{
    return loop_fd_wait(f, &f->readable, &f->reader, deadline_ns);
}

int loop_fd_wait_writable(struct loop_fd *f, int64_t deadline_ns)
{
    return loop_fd_wait(f, &f->writable, &f->writer, deadline_ns);
}

void loop_fd_forget(struct loop_fd *f)
{
    assert(f->reader == NULL && f->writer == NULL);
    if (!f->registered)
        return;
    assert(f->loop == loop_here);
    (void)epoll_ctl(f->loop->epoll, EPOLL_CTL_DEL, f->fd, NULL);
    f->registered = f->readable = f->writable = false;
}

/*
 * Signals: one set for the process, read through a signalfd by one task of loop 0.
 */

static struct {
    bool           on;
    struct loop_fd fd;
    sigset_t       set;
} signals;

int loop_signals(const int *signos, unsigned count)
{
    struct loop *l = loop_here;
    assert(l->index == 0 && !signals.on);
    if (l->driver != NULL)
        return 0;
    (void)sigemptyset(&signals.set);
    for (unsigned i = 0; i < count; i++)
        (void)sigaddset(&signals.set, signos[i]);
    int fd = signalfd(-1, &signals.set, SFD_NONBLOCK | SFD_CLOEXEC);
    if (fd < 0)
        return -errno;
    loop_fd_init(&signals.fd, fd);
    signals.on = true;
    /* All other threads block signals from their start. The loop's thread is not this one with TASKS=threads, so it is asked to. */
    l->signals_to_block = &signals.set;
    task_shield_begin();
    (void)task_yield();
    task_shield_end();
    return 0;
}

int loop_signal_wait(int64_t deadline_ns)
{
    struct signalfd_siginfo info;
    if (!signals.on)                             /* in the simulated world, where none come */
        return task_sleep_until(deadline_ns) < 0 ? -ECANCELED : -ETIMEDOUT;
    for (;;) {
        ssize_t n = read(signals.fd.fd, &info, sizeof info);
        if (n == (ssize_t)sizeof info)
            return (int)info.ssi_signo;
        assert(n < 0 && (errno == EAGAIN || errno == EINTR));
        int r = loop_fd_wait_readable(&signals.fd, deadline_ns);
        if (r < 0)
            return r;
    }
}

void loop_signals_end(void)
{
    static const struct timespec at_once = { 0 };
    if (!signals.on)
        return;
    loop_fd_forget(&signals.fd);
    (void)close(signals.fd.fd);
    signals.on = false;
    /* A second SIGTERM that came while the first was obeyed must not end the process in another way now. */
    while (sigtimedwait(&signals.set, NULL, &at_once) > 0)
        ;
    (void)pthread_sigmask(SIG_SETMASK, &loop_here->signals_before, NULL);
}
