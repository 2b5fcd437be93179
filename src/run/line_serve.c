/*
 * Answering on lines; the contract is in line.h.
 *
 * A task at the door, one for each line, and one for each question that is not answered at once. All on one loop, so that nothing is
 * locked. What comes at the door and on the lines is a stranger's: it may be a worker that somebody has broken into.
 * Runs in the keeper and in lookup.
 */
#include "base/log.h"
#include "run/line.h"
#include "run/line_end.h"
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CROWDED_NS (100 * NS_PER_MS)     /* without descriptors or memory: until the next look at the door */

struct server {
    const struct line_service *service;
    struct task_group          tasks;
    unsigned                   lines, requests;
};

struct served {
    struct server   *server;
    struct line_end *end;                /* counted */
};

struct request {
    struct server      *server;
    struct line_end    *end;             /* counted */
    struct wire_message m;               /* its parts stand in bytes */
    size_t              n;
    char                bytes[];
};

/* -- questions --------------------------------------------------------------------------------------------------------------------- */

void line_answer_put(struct line_answer *a, unsigned part, struct str text)
{
    size_t at = a->room.n;

    assert(part < WIRE_PARTS);
    buf_put_str(&a->room, text);
    if (buf_ok(&a->room))
        a->m.parts[part] = (struct str){ a->room.p + at, text.n };
    else
        a->m.result = -EMSGSIZE;
}

static void answer_init(struct line_answer *a, char *room, const struct wire_message *question)
{
    *a = (struct line_answer){ .m = { .id = question->id, .op = question->op } };
    for (size_t i = 0; i < WIRE_PARTS; i++)
        a->m.parts[i] = STR("");
    buf_init_fixed(&a->room, room, LINE_ANSWER_MAX);
}

/* A caller that does not read has itself to thank. */
static void send_answer(struct line_end *e, struct line_answer *a)
{
    if (line_end_put(e, &a->m) == -ENOBUFS)
        line_end_close(e);
    explicit_bzero(a->room.p, a->room.n);
}

static struct request *request_new(struct server *s, struct line_end *e, const struct wire_message *m)
{
    size_t n = m->parts[0].n + m->parts[1].n + m->parts[2].n, at = 0;
    struct request *r = malloc(sizeof *r + n);

    if (r == NULL)
        return NULL;
    *r = (struct request){ .server = s, .end = line_end_ref(e), .m = *m, .n = n };
    for (size_t i = 0; i < WIRE_PARTS; i++) {
        memcpy(r->bytes + at, m->parts[i].p, m->parts[i].n);
        r->m.parts[i].p = r->bytes + at;
        at += m->parts[i].n;
    }
    s->requests++;
    return r;
}

static void request_free(struct request *r)
{
    r->server->requests--;
    line_end_unref(r->end);
    explicit_bzero(r->bytes, r->n);
    free(r);
}

/* A task. */
static void work(void *arg)
{
    struct request *r = arg;
    char room[LINE_ANSWER_MAX];
    struct line_answer a;

    answer_init(&a, room, &r->m);
    r->server->service->answer(r->server->service->arg, &r->m, &a);
    send_answer(r->end, &a);
    request_free(r);
}

static int work_later(struct server *s, struct line_end *e, const struct wire_message *m)
{
    struct request *r = s->requests < LINE_REQUESTS_MAX ? request_new(s, e, m) : NULL;

    if (r == NULL)
        return -EAGAIN;
    if (task_group_start(&s->tasks, s->service->name, work, r) < 0) {
        request_free(r);
        return -EAGAIN;
    }
    return 0;
}

/* -EBADMSG: it is none. */
static int take_question(struct server *s, struct line_end *e, const struct wire_message *m)
{
    char room[LINE_ANSWER_MAX];
    struct line_answer a;

    answer_init(&a, room, m);
    switch (s->service->quick(s->service->arg, m, &a)) {
    case LINE_ANSWERED: break;
    case LINE_NONSENSE: return -EBADMSG;
    case LINE_LATER:
        if ((a.m.result = work_later(s, e, m)) == 0)
            return 0;
        break;
    }
    send_answer(e, &a);
    return 0;
}

/* -- lines --------------------------------------------------------------------------------------------------------------------------- */

/* A task. */
static void serve_line(void *arg)
{
    struct served line = *(struct served *)arg;
    struct server *s = line.server;
    struct wire_message m;
    int r;

    free(arg);
    while ((r = line_end_next(line.end, &m)) == 0 && (r = take_question(s, line.end, &m)) == 0)
        continue;
    if (r == -EBADMSG)
        log_event(LOG_ERROR, "line-malformed", LOG_Z("service", s->service->name),
                  LOG_Z("text", "what came is no question: the line is closed"));
    line_end_close(line.end);
    line_end_unref(line.end);
    if (--s->lines == 0 && s->service->gone != NULL)
        s->service->gone(s->service->arg);
}

static int take_line(struct server *s, int fd)
{
    struct served *line = s->lines < LINE_LINES_MAX ? malloc(sizeof *line) : NULL;

    if (line == NULL) {
        (void)close(fd);
        return -ENOMEM;
    }
    line->server = s;
    int r = line_end_new(fd, &line->end);
    if (r == 0 && (r = task_group_start(&s->tasks, s->service->name, serve_line, line)) < 0)
        line_end_unref(line->end);
    if (r < 0)
        free(line);
    else
        s->lines++;
    return r;
}

/* -- the door ------------------------------------------------------------------------------------------------------------------------ */

/* The socket that came with the message; -1: there was none. */
static int take_fd(struct msghdr *message)
{
    struct cmsghdr *c = CMSG_FIRSTHDR(message);
    int fd = -1;

    if (c != NULL && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS && c->cmsg_len == CMSG_LEN(sizeof fd))
        memcpy(&fd, CMSG_DATA(c), sizeof fd);
    return fd;
}

/* Awaits. 0: out_fd is a line's, or -1. */
static int wait_at_door(struct loop_fd *door, int *out_fd)
{
    for (;;) {
        char byte;
        struct iovec bytes = { &byte, 1 };
        union { struct cmsghdr head; char room[CMSG_SPACE(sizeof(int))]; } control;
        struct msghdr message = { .msg_iov = &bytes, .msg_iovlen = 1, .msg_control = &control,
                                  .msg_controllen = CMSG_LEN(sizeof(int)) };       /* room for one descriptor, and no second */
        ssize_t n = recvmsg(door->fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        if (n > 0) {
            *out_fd = take_fd(&message);
            return 0;
        }
        if (n == 0)
            return -EPIPE;
        if (errno != EAGAIN)
            return errno == EINTR ? 0 : -errno;
        int r = loop_fd_wait_readable(door, TASK_FOREVER);
        if (r < 0)
            return r;
    }
}

/* Errors that pass: no descriptors, no memory. */
static int wait_for_lines(struct server *s, struct loop_fd *door)
{
    for (;;) {
        int fd = -1;
        int r = wait_at_door(door, &fd);
        if (r == -ECANCELED || r == -EPIPE || r == -EBADF)
            return r;
        if (r == 0 && fd >= 0)
            r = take_line(s, fd);
        if (r < 0 && (r = task_sleep(CROWDED_NS)) < 0)
            return r;
    }
}

int line_serve(int door, const struct line_service *service)
{
    struct server s = { .service = service };
    struct loop_fd fd;

    task_group_init(&s.tasks);
    loop_fd_init(&fd, door);
    int r = wait_for_lines(&s, &fd);
    loop_fd_forget(&fd);
    task_group_cancel(&s.tasks);
    (void)task_group_wait(&s.tasks, TASK_FOREVER);
    return r;
}
