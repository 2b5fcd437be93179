/*
 * For tests/sim/: whole servers in the simulated world, each with its own configuration and its own directory of the one disk, and a
 * client that is not the program's own.
 */
#ifndef SIM_SERVERS_H
#define SIM_SERVERS_H

#include "base/log.h"
#include "base/cleanup.h"
#include "inbound/inbound.h"
#include "mail/line_end.h"
#include "outbound/outbound.h"
#include "outbound/test_scene.h"

/* -- servers ------------------------------------------------------------------------------------------------------------------ */

struct server {
    const char *host, *dir;
    struct conf *conf; /* owned */
    struct queue *queue;
    struct outbound *outbound;
    struct inbound *inbound;
};

/* Which one a task belongs to decides its configuration. */
static inline struct conf *server_conf(void)
{
    struct server *s = task_owner();
    assert(s != NULL);
    return conf_ref(s->conf);
}

static inline void server_init(struct server *s, const char *host, const char *dir, const char *domain, const char *ip)
{
    char listen[64];
    *s = (struct server){ .host = host, .dir = dir };
    s->conf = scene_conf(host, dir);
    snprintf(listen, sizeof listen, "%s:25", ip);
    scene_listen(s->conf, listen);
    s->conf->source_address = scene_text(s->conf, "%s%s", ip, "");
    scene_local_domain(s->conf, domain);
    scene_trust(s->conf, "198.51.100.0/24"); /* where the simulated world's clients come from */
    s->conf->shutdown_grace_ns = NS_PER_S;
    conf_replace_current(server_conf);
}

/* Awaits. 0, or a negative errno when the disk did not let it; then nothing runs. */
static inline int server_start(struct server *s)
{
    struct queue_recovery found;
    char error[256] = "";
    struct queue_options options = { .dir = s->conf->data_dir,
                                     .segment_size = s->conf->segment_size,
                                     .message_size_max = s->conf->message_size_max + 16384 };
    void *owner = task_owner();
    scene_mkdir(s->dir);
    task_owner_set(s);
    int r = queue_open(&options, &s->queue, &found, error);
    if (r == 0) {
        r = outbound_start(s->queue, &s->outbound);
        assert(r == 0);
        r = inbound_start(s->queue, &s->inbound, error);
        if (r < 0)
            fprintf(stderr, "%s: %s\n", s->host, error);
        assert(r == 0);
    } else if (r != -EIO && r != -ENOSPC)
        fprintf(stderr, "%s: %s\n", s->host, error);
    task_owner_set(owner);
    return r;
}

/* Awaits. NULL members are fine. It has the grace that was in the configuration when it started. */
static inline void server_stop(struct server *s)
{
    if (s->queue == NULL)
        return;
    int64_t deadline = task_deadline_in(s->conf->shutdown_grace_ns);
    inbound_stop(s->inbound);
    outbound_stop(s->outbound, deadline);
    queue_close(s->queue);
    s->inbound = NULL;
    s->outbound = NULL;
    s->queue = NULL;
}

static inline void server_free(struct server *s)
{
    conf_unref(s->conf);
    s->conf = NULL;
}

/* -- a client ------------------------------------------------------------------------------------------------------------------ */

#define TALK_WAIT_NS (600 * NS_PER_S)

struct talk {
    struct stream *stream;
    char last[512]; /* the first line of the last reply */
};

/* Awaits. The code of the next reply; 0: the server is gone. */
static inline int talk_reply(struct talk *t)
{
    bool first = true;
    for (;;) {
        struct str pending = stream_pending(t->stream);
        ssize_t lf = str_find(pending, '\n');
        if (lf < 0) {
            if (stream_fill(t->stream, task_deadline_in(TALK_WAIT_NS)) <= 0)
                return 0;
            continue;
        }
        assert(lf >= 4 && pending.p[lf - 1] == '\r');
        int code = (pending.p[0] - '0') * 100 + (pending.p[1] - '0') * 10 + (pending.p[2] - '0');
        bool more = pending.p[3] == '-';
        assert(code >= 200 && code < 600);
        if (first)
            snprintf(t->last, sizeof t->last, "%.*s", (int)lf - 1, pending.p);
        first = false;
        stream_consume(t->stream, (size_t)lf + 1);
        if (!more)
            return code;
    }
}

/* Awaits. False: the server is gone. */
static inline bool talk_send(struct talk *t, struct str bytes)
{
    stream_write_deadline(t->stream, task_deadline_in(TALK_WAIT_NS));
    return stream_put(t->stream, bytes) == 0 && stream_flush(t->stream, task_deadline_in(TALK_WAIT_NS)) == 0;
}

/* Awaits. One command, without its CRLF, and the code of its reply. */
static inline int talk_say(struct talk *t, const char *line)
{
    char text[1024];
    snprintf(text, sizeof text, "%s\r\n", line);
    return talk_send(t, str_of(text)) ? talk_reply(t) : 0;
}

/* Awaits. The code of the greeting; 0: no connection. */
static inline int talk_open(struct talk *t, const char *ip)
{
    struct net_addr to;
    t->stream = NULL;
    bool ok = net_addr_parse(str_of(ip), 25, &to);
    assert(ok);
    (void)ok;
    if (net_connect(&to, NULL, task_deadline_in(TALK_WAIT_NS), &t->stream) < 0) {
        t->stream = NULL;
        return 0;
    }
    return talk_reply(t);
}

static inline void talk_close(struct talk *t)
{
    if (t->stream != NULL)
        stream_close(t->stream);
    t->stream = NULL;
}

/* -- a standard conversation -------------------------------------------------------------------------------------------------- */

struct letter {
    const char *rcpts[2];
    bool pipelined;
    bool chunks;     /* by BDAT, in two; pipelined with the envelope if that is */
    struct str text; /* no line of it begins with a dot */
    int code;        /* the last reply: to the dot if it came so far; 0: the connection broke, or there was none */
    bool whole;      /* the dot was sent, or all octets */
};

/* Awaits. Greets, sends one message in a connection of its own, says goodbye. */
/* After EHLO, to 354. */
static inline void letter_send_envelope(struct letter *l, struct talk *t)
{
    char lines[4][128];
    int count = l->chunks ? 3 : 4;
    snprintf(lines[0], sizeof lines[0], "MAIL FROM:<u0@a.example>\r\n");
    for (int i = 0; i < 2; i++)
        snprintf(lines[1 + i], sizeof lines[1 + i], "RCPT TO:<%s>\r\n", l->rcpts[i]);
    snprintf(lines[3], sizeof lines[3], "DATA\r\n");
    for (int i = 0; l->pipelined && i < count && l->code == 250; i++)
        if (stream_put(t->stream, str_of(lines[i])) < 0)
            l->code = 0;
    if (l->pipelined && !l->chunks && l->code == 250 && stream_flush(t->stream, task_deadline_in(TALK_WAIT_NS)) < 0)
        l->code = 0;
    for (int i = 0; i < count && l->code == 250 && !(l->pipelined && l->chunks); i++)
        l->code = !l->pipelined && !talk_send(t, str_of(lines[i])) ? 0 : talk_reply(t);
}

static inline void letter_send_text(struct letter *l, struct talk *t)
{
    l->code = 0;
    if (!talk_send(t, l->text))
        return;
    l->whole = true;
    l->code = talk_send(t, STR(".\r\n")) ? talk_reply(t) : 0;
}

static inline void letter_send_chunks(struct letter *l, struct talk *t)
{
    struct str halves[2] = { str_head(l->text, l->text.n / 2), str_from(l->text, l->text.n / 2) };
    char line[64];
    int replies = l->pipelined ? 3 : 0;          /* those to the envelope are still to come */
    for (int i = 0; i < 2 && l->code == 250; i++) {
        snprintf(line, sizeof line, "BDAT %zu%s\r\n", halves[i].n, i == 1 ? " LAST" : "");
        bool sent = stream_put(t->stream, str_of(line)) == 0 && (l->pipelined && i == 0 ? stream_put(t->stream, halves[i]) == 0 : talk_send(t, halves[i]));
        l->whole = sent && i == 1;
        replies++;
        l->code = !sent ? 0 : l->pipelined ? 250 : talk_reply(t);
    }
    for (; l->pipelined && replies > 0 && l->code == 250; replies--)
        l->code = talk_reply(t);
}

static inline void letter_send(struct letter *l, const char *ip)
{
    struct talk t;
    l->whole = false;
    l->code = talk_open(&t, ip);
    if (l->code == 220)
        l->code = talk_say(&t, "EHLO client.example");
    letter_send_envelope(l, &t);
    if (l->chunks && l->code == 250)
        letter_send_chunks(l, &t);
    else if (l->code == 354)
        letter_send_text(l, &t);
    if (l->code != 0)
        (void)talk_say(&t, "QUIT");
    talk_close(&t);
}

static inline bool letter_ends(struct str file, struct str text)
{
    CLEANUP_BUF struct buf lf;
    buf_init(&lf, SIZE_MAX);
    buf_put_str(&lf, text);
    buf_truncate(&lf, line_end_to_lf(lf.p, lf.n));
    return file.n >= lf.n && str_eq(str_from(file, file.n - lf.n), buf_str(&lf));
}

/* BLOCKS. How often the text is in a mailbox, whole; UINT_MAX if there is a file that ends in none of the two texts. */
static inline unsigned letter_copies(const char *mailbox, struct str text, struct str other)
{
    static struct scene_names files;
    unsigned copies = 0, strangers = 0;
    (void)scene_list(mailbox, &files);
    for (unsigned i = 0; i < files.count; i++) {
        struct buf file;
        scene_read(mailbox, files.names[i], &file);
        struct str all = buf_str(&file);
        if (letter_ends(all, text))
            copies++;
        else if (!letter_ends(all, other))
            strangers++;
        buf_free(&file);
    }
    return strangers > 0 ? UINT32_MAX : copies;
}

/* Awaits empty queues. False: they are not after so long. */
static inline bool servers_drain(struct server *a, struct server *b, int64_t at_most_ns)
{
    int64_t deadline = task_deadline_in(at_most_ns);
    while (queue_count(a->queue) + queue_count(b->queue) > 0 && clock_mono_ns() < deadline)
        (void)task_sleep(NS_PER_S);
    return queue_count(a->queue) + queue_count(b->queue) == 0;
}

#define SERVERS_ZONE                                                                                                                       \
    "a.example. 300 IN MX 10 mx.a.example.\nmx.a.example. 300 IN A 192.0.2.1\n"                                                            \
    "b.example. 300 IN MX 10 mx.b.example.\nmx.b.example. 300 IN A 192.0.2.2\n"

/* a.example and b.example, each with the users u0 and u1. In a world that has begun. */
static inline void servers_init(struct server *a, struct server *b)
{
    (void)sim_dns_zone(SERVERS_ZONE);
    server_init(a, "mx.a.example", "a", "a.example", "192.0.2.1");
    server_init(b, "mx.b.example", "b", "b.example", "192.0.2.2");
    a->conf->segment_size = b->conf->segment_size = 256 * 1024;
    for (int i = 0; i < 2; i++) {
        scene_user(a->conf, i == 0 ? "u0" : "u1");
        scene_user(b->conf, i == 0 ? "u0" : "u1");
    }
}

/* A text of so many bytes, to be freed: the first message's or the other's. */
static inline char *letter_text(size_t size, int which)
{
    char *text = malloc(size);

    assert(text != NULL);
    for (size_t k = 0; k < size; k++)
        text[k] = k % 50 == 48 ? '\r' : k % 50 == 49 ? '\n' : (char)('a' + (k / 50 + k + (size_t)which) % 26);
    memcpy(text, which == 0 ? "X: first" : "X: other", 8);
    memcpy(text + size - 4, "\r\n\r\n", 4);
    return text;
}

static inline void servers_drop_line(void *arg, enum log_level level, struct str line)
{
    (void)arg, (void)level, (void)line;
}

/* Nothing of the log is shown. */
static inline void servers_be_quiet(void) { log_redirect(servers_drop_line, NULL); }

#endif
