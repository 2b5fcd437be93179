/*
 * Fuzzes the way out: a next hop that says anything, and the real queue, scheduler, delivery and client, in the simulated world.
 *
 * An input is a byte of options and then what the next hop sends, on each connection from its beginning:
 *     bit 0     it closes the connection behind its last byte, else it stays silent
 *     bit 1     its bytes go out one by one
 *     bit 2     the message has two recipients and a sender
 * The byte 0x1e is not sent: there it waits until the client has said something.
 *
 * Whatever it says, in bounded time the message has come to an end, delivered only if a 2xx was read, and nothing is left behind.
 */
#include "base/log.h"
#include "base/metrics.h"
#include "conf/test_scene.h"
#include "outbound/outbound.h"
#include "run/net.h"
#include "run/sim.h"
#include "run/stream.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define TURN    0x1e
#define TO      "192.0.2.1:25"
#define TEXT    "Received: from a\r\nSubject: x\r\n\r\n.one\r\ntwo\r\n"
#define LASTS_NS (3600 * NS_PER_S)       /* longer than a message and its DSN have until they expire */

enum { CLOSES = 1, ONE_BY_ONE = 2, TWO = 4 };

struct hop {
    const uint8_t       *data;
    size_t               size;
    uint8_t              options;
    bool                 any_success;    /* a "2" stands in what it says */
    struct net_listener *listener;
    struct task_group    tasks;
};

struct visit {
    struct hop    *hop;
    struct stream *stream;
};

static void talk(const struct hop *h, struct stream *s)
{
    for (size_t at = 0; at < h->size;) {
        if (h->data[at] == TURN) {
            if (stream_fill(s, TASK_FOREVER) <= 0)
                return;
            stream_discard_pending(s);
            at++;
            continue;
        }
        const uint8_t *turn = memchr(h->data + at, TURN, h->size - at);
        size_t n = turn != NULL ? (size_t)(turn - (h->data + at)) : h->size - at;
        if (h->options & ONE_BY_ONE)
            n = 1;
        if (stream_put(s, (struct str){ (const char *)h->data + at, n }) < 0 || stream_flush(s, TASK_FOREVER) < 0)
            return;
        at += n;
    }
    while (!(h->options & CLOSES) && stream_fill(s, TASK_FOREVER) > 0)
        stream_discard_pending(s);
}

static void visit_task(void *arg)
{
    struct visit v = *(struct visit *)arg;

    free(arg);
    talk(v.hop, v.stream);
    stream_close(v.stream);
}

static void hop_task(void *arg)
{
    struct hop *h = arg;
    struct stream *s;

    while (net_accept(h->listener, TASK_FOREVER, &s, NULL) == 0) {
        struct visit *v = malloc(sizeof *v);
        assert(v != NULL);
        *v = (struct visit){ h, s };
        int r = task_group_start(&h->tasks, "visit", visit_task, v);
        assert(r == 0);
    }
}

static void hop_begin(struct hop *h)
{
    struct net_addr at;
    bool parsed = net_addr_parse(STR(TO), 0, &at);

    assert(parsed && net_listen(&at, false, &h->listener) == 0);
    task_group_init(&h->tasks);
    int r = task_group_start(&h->tasks, "hop", hop_task, h);
    assert(r == 0);
}

static void hop_end(struct hop *h)
{
    task_group_cancel(&h->tasks);
    (void)task_group_wait(&h->tasks, TASK_FOREVER);
    net_listener_close(h->listener);
}

static void put_message(struct queue *q, bool two)
{
    struct recipient rcpts[2] = { { .addr = { STR("a"), STR("far.example") } }, { .addr = { STR("b"), STR("far.example") } } };
    struct envelope env = { .id = queue_new_id(q), .arrived_ns = clock_wall_ns(), .rcpts = rcpts, .rcpt_count = two ? 2 : 1, .size = strlen(TEXT) };

    env.null_sender = !two;
    if (two)
        env.sender = (struct address){ STR("ann"), STR("us.example") };
    struct body *body = body_new(q, env.id);
    assert(body != NULL && body_append(body, STR(TEXT)) == 0 && queue_put(q, &env, body) == 0);
    body_free(body);
}

static void world(void *arg)
{
    struct hop *h = arg;
    struct queue_options options = { .dir = "/data", .segment_size = 1 << 16, .unsafe_file_system = true };
    struct queue_recovery found;
    struct outbound *out;
    struct queue *q;
    char error[256];
    int64_t delivered = metric_get(METRIC_rcpts_delivered);

    int r = queue_open(&options, &q, &found, error);
    assert(r == 0);
    hop_begin(h);
    put_message(q, h->options & TWO);
    r = outbound_start(q, &out);
    assert(r == 0);
    int64_t deadline = task_deadline_in(LASTS_NS);
    while (queue_count(q) > 0 && clock_mono_ns() < deadline)
        (void)task_sleep(10 * NS_PER_S);
    assert(queue_count(q) == 0);
    assert(h->any_success || metric_get(METRIC_rcpts_delivered) == delivered);
    outbound_stop(out, task_deadline_in(NS_PER_S));
    hop_end(h);
    queue_close(q);
}

/* ---- ---- */

static void quiet(void *arg, enum log_level level, struct str line)
{
    (void)arg, (void)level, (void)line;
}

static const char conf_text[] = "hostname = us.example\nrelay_host = \"[192.0.2.1]\"\nretry = {1m}\nexpire = 5m\nbounce_expire = 5m\n"
                                "greeting_timeout = 1m\nreply_timeout = 1m\n";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool begun;

    if (!begun) {
        begun = true;
        log_redirect(quiet, NULL);
        conf_set_current(conf_of(conf_text));
    }
    if (size == 0)
        return -1;
    struct hop h = { .data = data + 1, .size = size - 1, .options = data[0] };
    h.any_success = memchr(h.data, '2', h.size) != NULL;
    sim_begin(&(struct sim_options){ .seed = 1, .disk_forgets = true });
    int r = sim_run(world, &h);
    sim_end();
    assert(r == 0);
    return 0;
}
