/*
 * Asking on lines; the contract is in line.h.
 *
 * All of a line belongs to its loop: nothing is locked. Its task hands it in at the door, hears what comes, and wakes who asked; when it
 * breaks it begins anew. Runs in the worker, and in the keeper where that asks lookup.
 */
#include "run/line.h"
#include "run/line_end.h"
#include "run/wait.h"
#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define AGAIN_NS (20 * NS_PER_MS)        /* between two lines, when one breaks */

/* A question under way, on the stack of who asks. */
struct ask {
    uint32_t             id;
    struct task         *task;
    bool                 done;
    int                  result;
    struct buf          *room;
    struct wire_message *out;
    struct ask          *next;
};

struct line {
    struct line_caller *caller;
    struct line_end    *end;             /* counted; NULL while there is none, for a moment */
    uint32_t            last_id;
    struct ask         *asks;
    bool                ending;
};

struct line_caller {
    int           door;                  /* borrowed */
    line_news_fn *news;
    struct task  *stopper;               /* waits for the lines' ends */
    atomic_uint   ended;
    unsigned      count;
    struct line   lines[];
};

/* -- the door ------------------------------------------------------------------------------------------------------------------- */

int line_door_new(int *out_callers, int *out_server)
{
    int pair[2];

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return -errno;
    *out_callers = pair[0];
    *out_server = pair[1];
    return 0;
}

void line_door_close(int *end)
{
    if (*end >= 0)
        (void)close(*end);
    *end = -1;
}

/* One byte goes with it: a message of nothing is the end. Not waiting: a door before which so many stand is no door. */
static int hand_in(int door, int fd)
{
    char byte = 0;
    struct iovec bytes = { &byte, 1 };
    union { struct cmsghdr head; char room[CMSG_SPACE(sizeof(int))]; } control = { 0 };
    struct msghdr message = { .msg_iov = &bytes, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control.room };
    struct cmsghdr *c = CMSG_FIRSTHDR(&message);

    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(c), &fd, sizeof fd);
    return sendmsg(door, &message, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

/* Our end of a new line. */
static int dial(int door, int *out_fd)
{
    int pair[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return -errno;
    int r = hand_in(door, pair[1]);
    (void)close(pair[1]);
    if (r < 0)
        (void)close(pair[0]);
    else
        *out_fd = pair[0];
    return r;
}

/* -- answers ---------------------------------------------------------------------------------------------------------------------- */

/* Not inline: gcc would warn of the address of a local left in a list, not seeing that ask_on never returns before it is out again. */
static __attribute__((noinline)) void add_ask(struct line *l, struct ask *a)
{
    a->next = l->asks;
    l->asks = a;
}

/* The parts go where they outlast the line. */
static int copy(const struct wire_message *from, struct buf *room, struct wire_message *out)
{
    size_t starts[WIRE_PARTS];

    for (size_t i = 0; i < WIRE_PARTS; i++) {
        starts[i] = room->n;
        buf_put_str(room, from->parts[i]);
    }
    if (!buf_ok(room))
        return -EMSGSIZE;
    *out = *from;
    for (size_t i = 0; i < WIRE_PARTS; i++)
        out->parts[i].p = room->p == NULL ? "" : room->p + starts[i];
    return 0;
}

static void finish(struct ask *a, int result)
{
    a->result = result;
    a->done = true;
    task_wake(a->task);
}

static struct ask *take_ask(struct line *l, uint32_t id)
{
    for (struct ask **at = &l->asks; *at != NULL; at = &(*at)->next)
        if ((*at)->id == id) {
            struct ask *found = *at;
            *at = found->next;
            return found;
        }
    return NULL;
}

/* An answer that nobody waits for any more is let go. */
static void hand_on(struct line *l, const struct wire_message *m)
{
    struct ask *a = m->id == 0 ? NULL : take_ask(l, m->id);

    if (a != NULL)
        finish(a, copy(m, a->room, a->out));
    else if (m->id == 0 && l->caller->news != NULL)
        l->caller->news(m);
}

static void fail_all(struct line *l, int error)
{
    while (l->asks != NULL) {
        struct ask *a = l->asks;
        l->asks = a->next;
        finish(a, error);
    }
}

/* -- a line ------------------------------------------------------------------------------------------------------------------------ */

static int open_line(struct line *l)
{
    int fd = -1;

    int r = dial(l->caller->door, &fd);
    return r < 0 ? r : line_end_new(fd, &l->end);
}

static void close_line(struct line *l)
{
    struct line_end *e = l->end;

    l->end = NULL;
    if (e != NULL)
        line_end_close(e);
    line_end_unref(e);
    fail_all(l, -ECONNRESET);
}

/* A line's task. */
static void keep_line(void *arg)
{
    struct line *l = arg;
    struct wire_message m;

    while (!l->ending) {
        int r = open_line(l);
        while (r == 0 && (r = line_end_next(l->end, &m)) == 0)
            hand_on(l, &m);
        close_line(l);
        if (!l->ending)
            (void)task_sleep(AGAIN_NS);
    }
    (void)atomic_fetch_add(&l->caller->ended, 1);
    task_wake(l->caller->stopper);
}

/* On the line's loop. */
static void end_line(void *arg)
{
    struct line *l = arg;

    l->ending = true;
    if (l->end != NULL)
        line_end_close(l->end);
}

int line_caller_start(int door, line_news_fn *news, struct line_caller **out)
{
    unsigned n = loop_count();
    struct line_caller *c = calloc(1, sizeof *c + n * sizeof c->lines[0]);
    int r = 0;

    if (c == NULL)
        return -ENOMEM;
    c->door = door;
    c->news = news;
    for (; r == 0 && c->count < n; c->count += r == 0) {
        c->lines[c->count].caller = c;
        r = loop_start_on(c->count, "line", keep_line, &c->lines[c->count]);
    }
    if (r < 0)
        line_caller_stop(c);
    else
        *out = c;
    return r;
}

/* Of a line that could not be told to end nobody can say when it has: then it stays. */
void line_caller_stop(struct line_caller *c)
{
    unsigned told = 0;

    if (c == NULL)
        return;
    c->stopper = task_self();
    for (unsigned i = 0; i < c->count; i++)
        told += loop_start_on(i, "line-end", end_line, &c->lines[i]) == 0;
    task_shield_begin();
    while (atomic_load(&c->ended) < told)
        (void)task_park(TASK_FOREVER);
    task_shield_end();
    if (told == c->count)
        free(c);
}

/* -- questions ---------------------------------------------------------------------------------------------------------------------- */

/* Awaits. A line that has broken is there again in a moment. */
static int wait_for_line(const struct line *l, int64_t deadline_ns)
{
    int r = task_stop_check();

    while (r == 0 && (l->end == NULL || l->end->closed)) {
        if (clock_mono_ns() >= deadline_ns)
            return -ETIMEDOUT;
        r = task_sleep(AGAIN_NS / 4);
    }
    return r;
}

static uint32_t next_id(struct line *l)
{
    if (++l->last_id == 0)
        l->last_id = 1;
    return l->last_id;
}

static int ask_on(struct line *l, const struct wire_message *question, int64_t deadline_ns, struct buf *room, struct wire_message *out)
{
    struct wire_message m = *question;
    struct ask a = { .id = m.id = next_id(l), .task = task_self(), .room = room, .out = out };
    int r;

    do {
        r = wait_for_line(l, deadline_ns);
    } while (r == 0 && (r = line_end_put(l->end, &m)) == -EPIPE);        /* it has broken without our hearing of it: nobody has the question */
    if (r < 0)
        return r;
    add_ask(l, &a);
    while (r == 0 && !a.done)
        r = task_park(deadline_ns);
    if (!a.done)
        (void)take_ask(l, a.id);
    return a.done ? a.result : r;
}

/* BLOCKS. All of the message, whose size the socket has room for. */
static int send_whole(int fd, const struct wire_message *m)
{
    struct buf bytes;

    buf_init(&bytes, WIRE_MESSAGE_MAX);
    if (buf_room(&bytes, WIRE_MESSAGE_MAX) == NULL)
        return -ENOMEM;
    int r = wire_put(&bytes, m) ? 0 : -EMSGSIZE;
    if (r == 0) {
        ssize_t n = send(fd, bytes.p, bytes.n, MSG_NOSIGNAL);
        r = n < 0 ? -errno : (size_t)n == bytes.n ? 0 : -EIO;
    }
    explicit_bzero(bytes.p, bytes.n);
    buf_free(&bytes);
    return r;
}

/* BLOCKS. */
static int receive_whole(int fd, int64_t deadline_ns, struct buf *room, struct wire_message *out)
{
    struct wire_message m;
    struct buf bytes;
    ssize_t n;
    int r;

    buf_init(&bytes, WIRE_MESSAGE_MAX);
    char *p = buf_room(&bytes, WIRE_MESSAGE_MAX);
    if (p == NULL)
        return -ENOMEM;
    do {
        r = wait_fd(fd, false, deadline_ns);
        n = r < 0 ? r : recv(fd, p + bytes.n, WIRE_MESSAGE_MAX - bytes.n, MSG_DONTWAIT);
        if (n > 0)
            buf_added(&bytes, (size_t)n);
    } while (n > 0 && (n = wire_take(buf_str(&bytes), &m)) == 0);
    if (n > 0)
        r = copy(&m, room, out);
    else if (r == 0)
        r = n == -EBADMSG ? -EBADMSG : -ECONNRESET;
    explicit_bzero(p, bytes.n);
    buf_free(&bytes);
    return r;
}

static int ask_alone(int door, const struct wire_message *question, int64_t deadline_ns, struct buf *room, struct wire_message *out)
{
    struct wire_message m = *question;
    int fd = -1;

    m.id = 1;
    int r = dial(door, &fd);
    if (r < 0)
        return r;
    r = send_whole(fd, &m);
    if (r == 0)
        r = receive_whole(fd, deadline_ns, room, out);
    (void)close(fd);
    return r;
}

int line_ask(struct line_caller *c, const struct wire_message *question, int64_t deadline_ns, struct buf *room, struct wire_message *out)
{
    return task_self() == NULL ? ask_alone(c->door, question, deadline_ns, room, out)
                               : ask_on(&c->lines[loop_index()], question, deadline_ns, room, out);
}

void line_tell(struct line_caller *c, const struct wire_message *m)
{
    struct wire_message news = *m;
    int fd = -1;

    news.id = 0;
    if (task_self() != NULL) {
        const struct line *l = &c->lines[loop_index()];
        if (l->end != NULL)
            (void)line_end_put(l->end, &news);
    } else if (dial(c->door, &fd) == 0) {
        (void)send_whole(fd, &news);
        (void)close(fd);
    }
}
