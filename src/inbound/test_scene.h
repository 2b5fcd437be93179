/*
 * For the tests beside it: a whole server in the simulated world, and a client that speaks to it. Included by them alone, behind
 * SOON, how long a client waits.
 */
#ifndef INBOUND_TEST_SCENE_H
#define INBOUND_TEST_SCENE_H

#include "conf/test_scene.h"
#include "inbound/inbound.h"
#include "run/net.h"
#include "run/sim.h"
#include "run/stream.h"
#include <stdio.h>

#define SCENE_CONF "hostname = mx.here.example\ndata_dir = /data\nlocal_domains = {here.example}\nusers_file = /dev/null\n"

static struct queue   *queue;
static struct inbound *inbound;

/* SCENE_CONF with what a test file and a test want besides, in force. Before sim_begin. */
static inline void scene_conf(const char *of_file, const char *more)
{
    char text[4096];

    int n = snprintf(text, sizeof text, SCENE_CONF "%s\n%s\n", of_file, more);
    assert(n > 0 && (size_t)n < sizeof text);
    (void)n;
    conf_set_current(conf_of(text));
}

/* Negative with the reason: inbound's. */
static inline int scene_start(char error[256])
{
    struct queue_options options = { .dir = "/data", .segment_size = 1 << 20, .unsafe_file_system = true };
    struct queue_recovery found;

    if (queue_open(&options, &queue, &found, error) < 0)
        fail_msg("%s", error);
    return inbound_start(queue, &inbound, error);
}

static inline void scene_stop(void)
{
    inbound_stop(inbound);
    queue_close(queue);
}

/* from: NULL, or the client's address. */
static inline struct stream *scene_connect(const char *server, const char *from_ip)
{
    struct net_addr to, from;
    struct stream *s;

    assert_true(net_addr_parse(str_of(server), 25, &to));
    assert_true(net_addr_parse(str_of(from_ip != NULL ? from_ip : "192.0.2.99"), 0, &from));
    assert_int_equal(net_connect(&to, from_ip != NULL ? &from : NULL, SOON, &s), 0);
    return s;
}

/* The code of the next reply; 0 at the end of input, or when the connection broke. */
static inline int hear(struct stream *s)
{
    for (;;) {
        struct str text = stream_pending(s), line, rest;
        if (str_cut(text, '\n', &line, &rest)) {
            int code = (line.p[0] - '0') * 100 + (line.p[1] - '0') * 10 + line.p[2] - '0';
            bool last = line.p[3] == ' ';
            stream_consume(s, line.n + 1);
            if (last)
                return code;
            continue;
        }
        if (stream_fill(s, SOON) <= 0)
            return 0;
    }
}

static inline int say(struct stream *s, const char *text)
{
    if (stream_put(s, str_of(text)) < 0 || stream_flush(s, SOON) < 0)
        return 0;
    return hear(s);
}

static inline struct stream *scene_greeted(const char *server, const char *from_ip)
{
    struct stream *s = scene_connect(server, from_ip);

    assert_int_equal(hear(s), 220);
    assert_int_equal(say(s, "EHLO tester.example\r\n"), 250);
    return s;
}

#endif
