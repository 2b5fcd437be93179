/*
 * A server that says what an SMTP server says, on the same tasks and streams as ours, and keeps nothing: what the load generator and the
 * network of this machine let through at most.
 *
 *     responder IP PORT
 *
 * It reads just enough for smtp-source: one command at a time, and a text that ends where what has come ends in its dot.
 */
#include "run/loop.h"
#include "run/net.h"
#include "run/stream.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct net_addr at;

static bool say(struct stream *s, const char *text)
{
    return stream_put(s, str_of(text)) == 0 && stream_flush(s, TASK_FOREVER) == 0;
}

/* True once the text has come to its end. */
static bool read_text(struct stream *s)
{
    char last[5] = "";

    for (;;) {
        struct str got = stream_pending(s);
        for (size_t i = got.n > 5 ? got.n - 5 : 0; i < got.n; i++) {
            memmove(last, last + 1, 4);
            last[4] = got.p[i];
        }
        stream_consume(s, got.n);
        if (memcmp(last, "\r\n.\r\n", 5) == 0)
            return true;
        if (stream_fill(s, TASK_FOREVER) <= 0)
            return false;
    }
}

static bool answer(struct stream *s, char verb)
{
    switch (verb) {
    case 'E': return say(s, "250-bare.example\r\n250-PIPELINING\r\n250 8BITMIME\r\n");
    case 'D': return say(s, "354 Go on\r\n") && read_text(s) && say(s, "250 2.0.0 Thrown away\r\n");
    case 'Q': (void)say(s, "221 2.0.0 Goodbye\r\n"); return false;
    }
    return say(s, "250 2.0.0 Ok\r\n");
}

static void session(void *arg)
{
    struct stream *s = arg;
    bool going_on = say(s, "220 bare.example ESMTP\r\n");

    while (going_on) {
        struct str line = stream_pending(s);
        ssize_t end = str_find(line, '\n');
        if (end < 0) {
            going_on = stream_fill(s, TASK_FOREVER) > 0;
            continue;
        }
        char verb = line.p[0] & ~0x20;
        stream_consume(s, (size_t)end + 1);
        going_on = answer(s, verb);
    }
    stream_close(s);
}

static void listen_here(void *arg)
{
    struct net_listener *l;
    (void)arg;
    int r = net_listen(&at, true, &l);

    if (r < 0) {
        fprintf(stderr, "responder: %s\n", strerror(-r));
        exit(1);
    }
    if (loop_index() == 0) {
        puts("ready");
        (void)fflush(stdout);
    }
    for (;;) {
        struct stream *s;
        struct net_addr peer;
        if (net_accept(l, TASK_FOREVER, &s, &peer) < 0)
            continue;
        if (task_start("session", session, s) < 0)
            stream_close(s);
    }
}

static void begin(void *arg)
{
    for (unsigned i = loop_count(); i-- > 0;)
        if (loop_start_on(i, "listener", listen_here, arg) < 0)
            exit(1);
}

int main(int argc, char **argv)
{
    if (argc != 3 || !net_addr_parse(str_of(argv[1]), (uint16_t)atoi(argv[2]), &at))
        return 64;
    return loop_run(0, begin, NULL) < 0;
}
