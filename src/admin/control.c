/*
 * The control socket's server and client: see control.h. The requests themselves are in control_queue.c.
 */
#include "admin/control.h"
#include "admin/control_internal.h"
#include "base/arena.h"
#include "base/cleanup.h"
#include "base/codec.h"
#include "base/log.h"
#include "run/link.h"
#include "run/net.h"
#include "run/stream.h"
#include <errno.h>
#include <grp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CONTROL_IDLE_NS    (60 * NS_PER_S)
#define CONTROL_ANSWER_NS  (600 * NS_PER_S)

struct control {
    struct queue        *queue;
    int                  link;
    struct net_listener *listener;
    struct task_group    group;
    unsigned             sessions;
};

/* -- messages ------------------------------------------------------------------------------------------------------------ */

static int put_message(struct stream *s, json_t *message, int64_t deadline_ns)
{
    CLEANUP_FREE char *text = json_dumps(message, JSON_COMPACT);
    if (text == NULL)
        return -ENOMEM;
    size_t n = strlen(text);
    char length[4];
    codec_set_u32(length, (uint32_t)n);
    stream_write_deadline(s, deadline_ns);
    int r = n <= CONTROL_MESSAGE_MAX ? stream_put(s, (struct str){ length, sizeof(length) }) : -EMSGSIZE;
    if (r == 0)
        r = stream_put(s, (struct str){ text, n });
    return r == 0 ? stream_flush(s, deadline_ns) : r;
}

/* Awaits n bytes into p. -EPIPE at the end of the input. */
static int read_exactly(struct stream *s, char *p, size_t n, int64_t deadline_ns)
{
    while (n > 0) {
        struct str have = str_head(stream_pending(s), n);
        memcpy(p, have.p, have.n);
        stream_consume(s, have.n);
        p += have.n;
        n -= have.n;
        if (n == 0)
            return 0;
        ssize_t r = stream_fill(s, deadline_ns);
        if (r <= 0)
            return r == 0 ? -EPIPE : (int)r;
    }
    return 0;
}

static int get_message(struct stream *s, json_t **out, int64_t deadline_ns)
{
    char length[4];
    int r = read_exactly(s, length, sizeof(length), deadline_ns);
    if (r < 0)
        return r;
    uint32_t n = codec_get_u32(length);
    if (n > CONTROL_MESSAGE_MAX)
        return -EPROTO;
    CLEANUP_FREE char *text = malloc(n + 1);
    if (text == NULL)
        return -ENOMEM;
    r = read_exactly(s, text, n, deadline_ns);
    if (r < 0)
        return r;
    json_t *message = json_loadb(text, n, 0, NULL);
    if (!json_is_object(message)) {
        json_decref(message);
        return -EPROTO;
    }
    *out = message;
    return 0;
}

/* -- server ---------------------------------------------------------------------------------------------------------------- */

struct session {
    struct control *control;
    struct stream  *stream;
    struct exchange *exchange;                                /* owned */
};

/* Of an answer that is too large nothing was sent. */
static int say_too_large(struct session *s)
{
    json_t *answer = json_pack("{s:b, s:s}", "ok", 0, "error", "the answer is too large");
    int r = answer == NULL ? -ENOMEM : put_message(s->stream, answer, task_deadline_in(CONTROL_IDLE_NS));
    json_decref(answer);
    return r;
}

/* What is about the server and not about its queue. NULL: it is not. */
static json_t *answer_for_server(const struct control *c, const json_t *request)
{
    const char *name = json_string_value(json_object_get(request, "do"));

    if (name != NULL && strcmp(name, "server.upgrade") == 0)
        link_say(c->link, LINK_UPGRADE, 0);
    else if (name == NULL || strcmp(name, "server.status") != 0)
        return NULL;
    return json_pack("{s:b, s:I, s:s}", "ok", 1, "pid", (json_int_t)getpid(), "version", NIGHTMAIL_VERSION);
}

static int answer_one(struct session *s)
{
    json_t *request = NULL;
    int r = get_message(s->stream, &request, task_deadline_in(CONTROL_IDLE_NS));
    if (r < 0)
        return r;
    json_t *answer = answer_for_server(s->control, request);
    if (answer == NULL)
        answer = control_answer(s->control->queue, s->exchange, request);
    json_decref(request);
    if (answer == NULL)
        return -ENOMEM;
    r = put_message(s->stream, answer, task_deadline_in(CONTROL_IDLE_NS));
    json_decref(answer);
    return r == -EMSGSIZE ? say_too_large(s) : r;
}

static void session_task(void *arg)
{
    struct session *s = arg;
    s->exchange = exchange_new(s->control->queue);
    while (s->exchange != NULL && answer_one(s) == 0)
        ;
    exchange_free(s->exchange);
    stream_close(s->stream);
    s->control->sessions--;
    free(s);
}

static void begin_session(struct control *c, struct stream *stream)
{
    struct session *s = c->sessions < CONTROL_SESSIONS_MAX ? malloc(sizeof(*s)) : NULL;
    if (s != NULL) {
        *s = (struct session){ .control = c, .stream = stream };
        c->sessions++;
        if (task_group_start(&c->group, "control session", session_task, s) == 0)
            return;
        c->sessions--;
        free(s);
    }
    stream_close(stream);
}

static void listen_task(void *arg)
{
    struct control *c = arg;
    for (;;) {
        struct stream *stream;
        struct net_addr peer;
        int r = net_accept(c->listener, TASK_FOREVER, &stream, &peer);
        if (r == -ECANCELED)
            return;
        if (r == 0)
            begin_session(c, stream);
        else
            (void)task_sleep(100 * NS_PER_MS);                /* no descriptors, no memory: others will give some back */
    }
}

static int give_to_group(const char *path, const char *group)
{
    if (group[0] == '\0')
        return 0;
    const struct group *g = getgrnam(group);
    if (g == NULL)
        return -ESRCH;
    return chown(path, (uid_t)-1, g->gr_gid) < 0 ? -errno : 0;
}

int control_bind(const char *path, const char *group, struct net_listener **out)
{
    struct net_listener *listener;

    int r = net_listen_unix(path, 0660, &listener);
    if (r < 0)
        return r;
    r = give_to_group(path, group);
    if (r < 0) {
        net_listener_close(listener);
        return r;
    }
    *out = listener;
    return 0;
}

int control_start(struct net_listener *listener, struct queue *q, int link, struct control **out)
{
    struct control *c = calloc(1, sizeof(*c));
    if (c == NULL)
        return -ENOMEM;
    c->queue = q;
    c->listener = listener;
    c->link = link;
    task_group_init(&c->group);
    int r = task_group_start(&c->group, "control", listen_task, c);
    if (r < 0) {
        free(c);
        return r;
    }
    *out = c;
    return 0;
}

void control_stop(struct control *c)
{
    if (c == NULL)
        return;
    task_group_cancel(&c->group);
    (void)task_group_wait(&c->group, TASK_FOREVER);
    net_listener_close(c->listener);
    free(c);
}

/* -- client ---------------------------------------------------------------------------------------------------------------- */

struct control_client {
    struct stream *stream;
};

int control_connect(const char *path, struct control_client **out)
{
    struct control_client *c = calloc(1, sizeof(*c));
    if (c == NULL)
        return -ENOMEM;
    int r = net_connect_unix(path, task_deadline_in(CONTROL_IDLE_NS), &c->stream);
    if (r < 0) {
        free(c);
        return r;
    }
    *out = c;
    return 0;
}

int control_request(struct control_client *c, json_t *request, json_t **out_answer)
{
    int64_t deadline = task_deadline_in(CONTROL_ANSWER_NS);
    int r = put_message(c->stream, request, deadline);
    json_decref(request);
    return r < 0 ? r : get_message(c->stream, out_answer, deadline);
}

void control_disconnect(struct control_client *c)
{
    if (c == NULL)
        return;
    stream_close(c->stream);
    free(c);
}

json_t *control_string(struct str s)
{
    if (s.p == NULL)
        s = STR("");
    json_t *value = json_stringn(s.p, s.n);
    if (value != NULL)
        return value;
    CLEANUP_FREE char *copy = malloc(s.n + 1);
    if (copy == NULL)
        return NULL;
    for (size_t i = 0; i < s.n; i++)
        copy[i] = (unsigned char)s.p[i] < 0x80 ? s.p[i] : '?';
    return json_stringn(copy, s.n);
}
