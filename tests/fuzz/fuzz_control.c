/*
 * Fuzzes the control socket: an operator's bytes, the real server of the socket, the real queue with messages in every state; simulated.
 *
 * An input is a byte of options and then
 *     bit 0 set      the bytes of the connection as they are
 *     bit 0 not set  requests divided by the byte 0x1e, each of which gets its length before it
 *     bit 1          it leaves without reading the answers
 * "$1" to "$4" in a request become the ids of the messages there: one deferred, one held, one claimed, one of two recipients.
 *
 * Whatever it sends: each answer is one JSON object of bounded length with "ok", and "error" if that is false; a message is gone only if the
 * answers say so; and what the queue has after all of it, it has after a start from its files too.
 */
#include "admin/control.h"
#include "base/codec.h"
#include "base/log.h"
#include "outbound/test_scene.h"
#include "run/net.h"
#include "run/stream.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define DIVIDER  0x1e
#define MESSAGES 4
#define SOCKET   "us/control"
#define PATIENCE (700 * NS_PER_S)

enum { RAW = 1, LEAVES = 2 };

struct talk {
    uint8_t        options;
    struct str     input;
    char           ids[MESSAGES][CODEC_ID_LEN + 1];
    struct queue  *queue;
    struct claim  *claimed;
    struct stream *stream;
};

/* -- what it says ------------------------------------------------------------------------------------------------------------------- */

static void put_with_ids(const struct talk *t, struct buf *out, struct str text)
{
    for (size_t i = 0; i < text.n; i++) {
        unsigned n = text.p[i] == '$' && i + 1 < text.n ? (unsigned)(text.p[i + 1] - '1') : MESSAGES;
        if (n < MESSAGES) {
            buf_put_z(out, t->ids[n]);
            i++;
        } else {
            buf_put_char(out, text.p[i]);
        }
    }
}

static void put_request(const struct talk *t, struct buf *out, struct str text)
{
    struct buf request;

    buf_init(&request, 1 << 24);
    put_with_ids(t, &request, text);
    buf_put_u32(out, (uint32_t)request.n);
    buf_put_str(out, buf_str(&request));
    buf_free(&request);
}

static void put_all(const struct talk *t, struct buf *out)
{
    struct str one, rest = t->input;

    if (t->options & RAW) {
        put_with_ids(t, out, t->input);
        return;
    }
    while (rest.n > 0) {
        str_cut(rest, DIVIDER, &one, &rest);
        put_request(t, out, one);
    }
}

/* -- what it hears ------------------------------------------------------------------------------------------------------------------ */

static void check_answer(struct str text)
{
    json_t *answer = json_loadb(text.p, text.n, 0, NULL);
    const json_t *ok = json_object_get(answer, "ok");

    assert(json_is_object(answer) && json_is_boolean(ok));
    assert(json_is_true(ok) != json_is_string(json_object_get(answer, "error")));
    json_decref(answer);
}

/* A whole answer at the front: how many bytes it has; else 0. */
static size_t answer_length(struct str have)
{
    if (have.n < 4)
        return 0;
    size_t n = codec_get_u32(have.p);
    assert(n <= CONTROL_MESSAGE_MAX);
    return have.n >= 4 + n ? 4 + n : 0;
}

static void hear(struct talk *t)
{
    struct buf heard;
    ssize_t n;

    buf_init(&heard, 1 << 26);
    while ((n = stream_fill(t->stream, task_deadline_in(PATIENCE))) > 0) {
        buf_put_str(&heard, stream_pending(t->stream));
        stream_discard_pending(t->stream);
        for (size_t length; (length = answer_length(buf_str(&heard))) > 0; buf_drop_front(&heard, length))
            check_answer(str_head(str_from(buf_str(&heard), 4), length - 4));
    }
    assert(buf_ok(&heard) && n != -ETIMEDOUT);           /* it has an end, at the latest when nothing more is asked */
    buf_free(&heard);
}

static void hold_connection(struct talk *t)
{
    struct buf all;
    int64_t soon = task_deadline_in(PATIENCE);
    int r = net_connect_unix(SOCKET, soon, &t->stream);

    assert(r == 0);
    buf_init(&all, 1 << 26);
    put_all(t, &all);
    stream_write_deadline(t->stream, soon);
    if (stream_put(t->stream, buf_str(&all)) == 0)
        (void)stream_flush(t->stream, soon);
    buf_free(&all);
    if (!(t->options & LEAVES)) {
        (void)stream_shutdown(t->stream, soon);
        hear(t);
    }
    stream_close(t->stream);
}

/* -- the queue ---------------------------------------------------------------------------------------------------------------------- */

static void put_messages(struct talk *t)
{
    static const char *const rcpts[MESSAGES] = { "bob@b.example", "carol@c.example", "dave@d.example", "erin@e.example,frank@f.example" };
    uint64_t ids[MESSAGES];

    for (unsigned i = 0; i < MESSAGES; i++) {
        ids[i] = scene_put(t->queue, &(struct scene_message){ .sender = i == 1 ? "" : "ann@us.example", .rcpts = rcpts[i],
                                                              .envid = "", .original = "",
                                                              .text = STR("Subject: x\r\n\r\nx\r\n") });
        codec_id_format(ids[i], t->ids[i]);
    }
    int r = queue_hold(t->queue, ids[1]);
    assert(r == 0);
    r = queue_claim(t->queue, task_deadline_in(NS_PER_S), &t->claimed);
    assert(r == 0);
    struct outcome later = { .rcpt = 0, .state = RCPT_PENDING, .status = STR("4.2.1"),
                             .remote = STR("mx \"b\" [192.0.2.1]"), .text = STR("450 \xff later") };
    r = queue_settle(t->claimed, &later, 1, clock_mono_ns() + 3600 * NS_PER_S);
    assert(r == 0);
    r = queue_claim(t->queue, task_deadline_in(NS_PER_S), &t->claimed);
    assert(r == 0);
}

static size_t count_there(struct talk *t)
{
    size_t there = 0;

    for (unsigned i = 0; i < MESSAGES; i++) {
        struct arena a;
        struct queue_details d;
        uint64_t id;
        bool ok = codec_id_parse(str_of(t->ids[i]), &id);
        assert(ok);
        arena_init(&a, 1 << 20);
        int r = queue_show(t->queue, id, &a, &d);
        assert(r == 0 || r == -ENOENT);
        there += r == 0;
        arena_reset(&a);
    }
    return there;
}

static void world(void *arg)
{
    struct talk *t = arg;
    struct net_listener *listener = NULL;
    struct control *control = NULL;
    struct conf *conf = scene_conf("us.example", "us");

    conf_set_current(conf);
    t->queue = scene_queue(conf);
    put_messages(t);
    int r = control_bind(SOCKET, "", &listener);
    assert(r == 0);
    r = control_start(listener, t->queue, -1, &control);
    assert(r == 0);
    hold_connection(t);
    control_stop(control);
    size_t there = count_there(t), count = queue_count(t->queue);
    assert(there <= count && there >= 1);                /* nobody can take away what is being delivered */
    queue_unclaim(t->claimed);
    queue_close(t->queue);
    t->queue = scene_queue(conf);
    assert(count_there(t) == there && queue_count(t->queue) == count);
    queue_close(t->queue);
    conf_set_current(NULL);
}

/* -- ---- */

static void quiet(void *arg, enum log_level level, struct str line) { (void)arg, (void)level, (void)line; }

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct talk t;

    if (size == 0)
        return -1;
    log_redirect(quiet, NULL);
    t = (struct talk){ .options = data[0], .input = { (const char *)data + 1, size - 1 } };
    sim_begin(&(struct sim_options){ .seed = 1, .disk_forgets = true });
    int r = sim_run(world, &t);
    sim_end();
    assert(r == 0);
    return 0;
}
