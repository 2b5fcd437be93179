/*
 * The control socket with messages of very many recipients: each answer keeps its limit, and together they tell of all; and with
 * filters. In the simulated world.
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
static struct net_listener *listener;
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
    assert_int_equal(control_bind("us/control", "", &listener), 0);
    assert_int_equal(control_start(listener, queue, -1, &control), 0);
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

/* ---- filters ---- */

#define MESSAGES 150                                 /* more than two slices of the index */

static char ids[MESSAGES][CODEC_ID_LEN + 1];

/* Every third goes to c.example. */
static void put_many(void)
{
    for (unsigned i = 0; i < MESSAGES; i++) {
        struct scene_message message = { .sender = "ann@us.example", .rcpts = "bob@b.example", .text = STR("Subject: x\r\n\r\nx\r\n") };
        if (i % 3 == 0)
            message.rcpts = "carol@c.example,bob@b.example";
        codec_id_format(scene_put(queue, &message), ids[i]);
    }
}

/* Between two requests it is the client's to give back what the answer said. */
struct place {
    char after[CODEC_ID_LEN + 1], until[CODEC_ID_LEN + 1];
};

static json_t *page(const char *what, const char *filter, const struct place *place, int max)
{
    json_t *answer = NULL;
    json_t *wish = json_pack("{s:s, s:s, s:s, s:s, s:i}", "do", what, "filter", filter, "after", place->after, "until", place->until, "max", max);

    assert_int_equal(control_request(client, wish, &answer), 0);
    return answer;
}

/* All pages together: how many messages are meant. Each id is above the one before. */
static unsigned count_meant(const char *what, const char *filter, int max, unsigned *out_errors)
{
    struct place place = { "0000000000000", "" };
    unsigned meant = 0, looked = 0;
    size_t i;
    json_t *item;

    *out_errors = 0;
    for (bool done = false; !done;) {
        json_t *answer = page(what, filter, &place, max);
        assert_true(json_is_true(json_object_get(answer, "ok")));
        assert_true(json_array_size(json_object_get(answer, "items")) <= (size_t)max);
        json_array_foreach(json_object_get(answer, "items"), i, item) {
            const char *id = json_string_value(json_object_get(item, "id"));
            assert_true(strcmp(id, place.after) > 0);
            strcpy(place.after, id);
            *out_errors += json_object_get(item, "error") != NULL;
            meant++;
        }
        strcpy(place.after, json_string_value(json_object_get(answer, "after")));
        strcpy(place.until, json_string_value(json_object_get(answer, "until")));
        looked += (unsigned)json_integer_value(json_object_get(answer, "looked"));
        assert_int_equal(json_integer_value(json_object_get(answer, "unreadable")), 0);
        done = json_is_true(json_object_get(answer, "done"));
        json_decref(answer);
    }
    assert_true(looked <= MESSAGES);
    return meant;
}

static void check_meant(const char *what, const char *filter, unsigned expected)
{
    static const int pages[] = { 1, 7, 64, 65, 1000 };
    unsigned errors;
    size_t last = strcmp(what, "queue.list") == 0 ? sizeof pages / sizeof pages[0] : 1;

    for (size_t i = 0; i < last; i++) {
        unsigned meant = count_meant(what, filter, last == 1 ? 1000 : pages[i], &errors);
        if (meant != expected || errors != 0)
            fail_msg("%s %s: %u, not %u; %u errors", what, filter, meant, expected, errors);
    }
}

static uint64_t only_id(void)
{
    struct queue_item items[2];

    assert_int_equal(queue_list(queue, 0, items, 2), 1);
    return items[0].id;
}

static void check_filter_refused(const char *what, json_t *filter, const char *error)
{
    json_t *answer = NULL;

    assert_int_equal(control_request(client, json_pack("{s:s, s:o}", "do", what, "filter", filter), &answer), 0);
    assert_false(json_is_true(json_object_get(answer, "ok")));
    assert_string_equal(json_string_value(json_object_get(answer, "error")), error);
    json_decref(answer);
}

/* ---- reroute ---- */

static json_t *reroute(json_t *wish)
{
    json_t *answer = NULL;

    assert_int_equal(json_object_set_new(wish, "do", json_string("queue.reroute")), 0);
    assert_int_equal(control_request(client, wish, &answer), 0);
    return answer;
}

static void check_reroute_refused(json_t *wish, const char *error)
{
    json_t *answer = reroute(wish);

    assert_false(json_is_true(json_object_get(answer, "ok")));
    assert_string_equal(json_string_value(json_object_get(answer, "error")), error);
    json_decref(answer);
}

/* As "address>via address>via", of those pending. */
static void check_ways(uint64_t id, const char *expected)
{
    struct queue_details d;
    struct arena arena;
    char memory[512];
    struct buf ways;

    arena_init(&arena, 1 << 20);
    buf_init_fixed(&ways, memory, sizeof memory);
    assert_int_equal(queue_show(queue, id, &arena, &d), 0);
    for (size_t i = 0; i < d.env.rcpt_count; i++) {
        if (d.states[i] != RCPT_PENDING)
            continue;
        buf_put_z(&ways, ways.n > 0 ? " " : "");
        address_put(&ways, &d.env.rcpts[i].addr);
        buf_printf(&ways, ">%" STR_FMT, STR_ARG(d.env.rcpts[i].next_hop));
    }
    buf_put_char(&ways, '\0');
    assert_string_equal(memory, expected);
    arena_reset(&arena);
}

static uint64_t put_for(const char *rcpts)
{
    return scene_put(queue, &(struct scene_message){ .sender = "ann@us.example", .rcpts = rcpts, .text = STR("Subject: x\r\n\r\nx\r\n") });
}

static void reroute_all(json_t *wish, size_t expected)
{
    json_t *answer = reroute(wish);

    assert_int_equal(json_array_size(json_object_get(answer, "items")), expected);
    assert_null(json_object_get(json_array_get(json_object_get(answer, "items"), 0), "error"));
    json_decref(answer);
}

static void other_ways(void *arg)
{
    struct conf *conf = scene_conf("us.example", "us");
    char name[CODEC_ID_LEN + 1];

    (void)arg;
    conf_set_current(conf_ref(conf));
    queue = scene_queue(conf);
    assert_int_equal(control_bind("us/control", "", &listener), 0);
    assert_int_equal(control_start(listener, queue, -1, &control), 0);
    assert_int_equal(control_connect("us/control", &client), 0);
    uint64_t id = put_for("bob@b.example,carol@c.example,dave@c.example");
    codec_id_format(id, name);

    check_reroute_refused(json_pack("{s:s}", "id", name), "it says neither where to nor to whom");
    check_reroute_refused(json_pack("{s:s, s:s}", "id", name, "via", "192.0.2.1"), "the next hop is not \"host\", \"host:port\", \"[ip]\" or \"[ip]:port\"");
    check_reroute_refused(json_pack("{s:s, s:s}", "id", name, "to", "nobody"), "the recipient is no address");
    check_reroute_refused(json_pack("{s:s, s:s}", "id", name, "to", "j\xc3\xbcrgen@x.example"), "it is not for an address in UTF-8");
    check_ways(id, "bob@b.example> carol@c.example> dave@c.example>");

    reroute_all(json_pack("{s:s, s:s}", "filter", "domain=c.example", "via", "Relay.example:26"), 1);    /* theirs only */
    check_ways(id, "bob@b.example> carol@c.example>relay.example:26 dave@c.example>relay.example:26");
    reroute_all(json_pack("{s:s, s:s, s:s}", "filter", "to=dave@*", "via", "", "to", "*@d.example"), 1);
    check_ways(id, "bob@b.example> carol@c.example>relay.example:26 dave@d.example>");
    reroute_all(json_pack("{s:s, s:s}", "filter", "to=dave@c.example", "to", "eve@e.example"), 1);       /* by the name of old too */
    check_ways(id, "bob@b.example> carol@c.example>relay.example:26 eve@e.example>");
    reroute_all(json_pack("{s:s, s:s}", "filter", "to=carol@*", "to", "bob@b.example"), 1);              /* one copy is enough */
    check_ways(id, "bob@b.example> eve@e.example>");
    json_decref(reroute(json_pack("{s:s, s:s}", "id", name, "to", "all@a.example")));
    check_ways(id, "all@a.example>");

    control_disconnect(client);
    control_stop(control);
    queue_close(queue);
    conf_set_current(NULL);
    conf_unref(conf);
}

static void recipients_can_go_another_way(void **state)
{
    (void)state;
    sim_begin(&(struct sim_options){ .seed = 3, .sync_ns = NS_PER_MS });
    assert_int_equal(sim_run(other_ways, NULL), 0);
    sim_end();
}

static void many_messages(void *arg)
{
    struct conf *conf = scene_conf("us.example", "us");

    (void)arg;
    queue = scene_queue(conf);
    assert_int_equal(control_bind("us/control", "", &listener), 0);
    assert_int_equal(control_start(listener, queue, -1, &control), 0);
    assert_int_equal(control_connect("us/control", &client), 0);
    check_meant("queue.list", "size>0", 0);                      /* nothing is there */
    put_many();
    check_meant("queue.list", "size>0", MESSAGES);
    check_meant("queue.list", "to=*@c.example", MESSAGES / 3);
    check_meant("queue.list", "not to=*@c.example", MESSAGES - MESSAGES / 3);
    check_meant("queue.list", "to=*@nobody.example", 0);
    check_meant("queue.hold", "domain=c.example", MESSAGES / 3);
    check_meant("queue.list", "state=held", MESSAGES / 3);
    check_meant("queue.list", "state=waiting to=*@c.example", 0);
    check_meant("queue.release", "state=held", MESSAGES / 3);
    check_meant("queue.list", "state=held", 0);
    check_meant("queue.retry", "from=ann@*", MESSAGES);
    check_meant("queue.delete", "domain=c.example", MESSAGES / 3);
    assert_int_equal(queue_count(queue), MESSAGES - MESSAGES / 3);

    struct claim *claim;
    unsigned errors;
    assert_int_equal(queue_claim(queue, TASK_FOREVER, &claim), 0);
    assert_int_equal(count_meant("queue.delete", "size>0", 1000, &errors), MESSAGES - MESSAGES / 3);
    assert_int_equal(errors, 1);                                 /* the one that is being delivered */
    check_meant("queue.list", "state=delivering", 1);
    queue_unclaim(claim);

    check_filter_refused("queue.delete", json_string("to= code=4.*"), "to has no value (an empty one is \"\")");
    check_filter_refused("queue.delete", json_string(""), "the filter ends where a FIELD=VALUE is wanted");
    check_filter_refused("queue.delete", json_integer(1), "the filter is no text");
    check_filter_refused("queue.list", json_null(), "the filter is no text");
    assert_int_equal(queue_count(queue), 1);
    assert_int_equal(queue_discard(queue, only_id()), 0);

    put_many();
    conf_set_current(conf_ref(conf));
    assert_int_equal(count_meant("queue.bounce", "size>0", 7, &errors), MESSAGES);   /* and not one of the bounces, which come behind them */
    assert_int_equal(queue_count(queue), MESSAGES);
    check_meant("queue.list", "from=<>", MESSAGES);
    conf_set_current(NULL);

    control_disconnect(client);
    control_stop(control);
    queue_close(queue);
    conf_unref(conf);
}

static void a_filter_means_each_message_once(void **state)
{
    (void)state;
    sim_begin(&(struct sim_options){ .seed = 2, .sync_ns = NS_PER_MS });
    assert_int_equal(sim_run(many_messages, NULL), 0);
    sim_end();
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_come_in_pages),
        cmocka_unit_test(a_filter_means_each_message_once),
        cmocka_unit_test(recipients_can_go_another_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
