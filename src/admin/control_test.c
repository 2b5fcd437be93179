/*
 * The control socket with messages of very many recipients: each answer keeps its limit, and together they tell of all. In the
 * simulated world.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "admin/control.h"
#include "base/codec.h"
#include "outbound/test_scene.h"

#define RCPTS 3000

static struct queue *queue;
static struct control *control;
static struct control_client *client;

/* Long ones: more than one answer holds. */
static uint64_t put_large(void)
{
    static char rcpts[RCPTS * 130];
    struct buf out;

    buf_init_fixed(&out, rcpts, sizeof rcpts);
    for (unsigned i = 0; i < RCPTS; i++)
        buf_printf(&out, "%sr%u-%050u@a-domain-of-some-length.b.example", i > 0 ? "," : "", i, 0);
    buf_put_char(&out, '\0');
    assert_true(buf_ok(&out));
    return scene_put(queue, &(struct scene_message){ .sender = "ann@us.example", .rcpts = rcpts, .text = STR("Subject: x\r\n\r\nx\r\n") });
}

static json_t *request(const char *what, const char *id, json_int_t first)
{
    json_t *answer = NULL;

    assert_int_equal(control_request(client, json_pack("{s:s, s:s, s:I}", "do", what, "id", id, "first", first), &answer), 0);
    return answer;
}

static void check_recipient(const json_t *rcpt, size_t index)
{
    char begin[32];
    const char *to = json_string_value(json_object_get(rcpt, "to"));

    snprintf(begin, sizeof begin, "r%zu-", index);
    assert_non_null(to);
    assert_int_equal(strncmp(to, begin, strlen(begin)), 0);
    assert_string_equal(json_string_value(json_object_get(rcpt, "state")), "pending");
}

/* Page by page, each recipient once and in order; how many pages it took. */
static unsigned count_pages(const char *id)
{
    size_t seen = 0, i;
    unsigned pages = 0;
    json_int_t next = 0;
    json_t *rcpt;

    do {
        json_t *answer = request("queue.show", id, next);
        assert_true(json_is_true(json_object_get(answer, "ok")));
        json_array_foreach(json_object_get(answer, "recipients"), i, rcpt)
            check_recipient(rcpt, seen++);
        next = json_integer_value(json_object_get(answer, "next"));
        assert_true(next == 0 || next == (json_int_t)seen);
        json_decref(answer);
        pages++;
    } while (next != 0);
    assert_int_equal(seen, RCPTS);
    return pages;
}

static void check_refused(const char *id, json_int_t first, const char *error)
{
    json_t *answer = request("queue.show", id, first);

    assert_false(json_is_true(json_object_get(answer, "ok")));
    assert_string_equal(json_string_value(json_object_get(answer, "error")), error);
    json_decref(answer);
}

static void many_recipients(void *arg)
{
    struct conf *conf = scene_conf("us.example", "us");
    char id[CODEC_ID_LEN + 1];

    (void)arg;
    queue = scene_queue(conf);
    assert_int_equal(control_start("us/control", "", queue, &control), 0);
    assert_int_equal(control_connect("us/control", &client), 0);
    codec_id_format(put_large(), id);
    assert_true(count_pages(id) > 1);

    json_t *beyond = request("queue.show", id, RCPTS + 1);       /* none of them, and no next page */
    assert_true(json_is_true(json_object_get(beyond, "ok")));
    assert_int_equal(json_array_size(json_object_get(beyond, "recipients")), 0);
    assert_null(json_object_get(beyond, "next"));
    json_decref(beyond);
    check_refused(id, -1, "that is no recipient's number");
    check_refused("0000000000000", 0, "no such message");

    control_disconnect(client);
    control_stop(control);
    queue_close(queue);
    conf_unref(conf);
}

static void answers_come_in_pages(void **state)
{
    (void)state;
    sim_begin(&(struct sim_options){ .seed = 1, .sync_ns = NS_PER_MS });
    assert_int_equal(sim_run(many_recipients, NULL), 0);
    sim_end();
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_come_in_pages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
