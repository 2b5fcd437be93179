/*
 * Messages that an operator returns: what their senders are told, and what is left of them. In the simulated world.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "outbound/bounce.h"
#include "outbound/test_scene.h"
#include <errno.h>

static struct queue *queue;

static uint64_t put(const char *sender, const char *rcpts)
{
    return scene_put(queue, &(struct scene_message){ .sender = sender, .rcpts = rcpts, .text = STR("Subject: x\r\n\r\nx\r\n") });
}

static enum message_state state_of_only(void)
{
    struct queue_item items[2];

    assert_int_equal(queue_list(queue, 0, items, 2), 1);
    return items[0].state;
}

static void refused_reasons_leave_it(void)
{
    static char long_reason[BOUNCE_REASON_MAX + 1];
    static const struct str reasons[] = {
        { "", 0 }, { "a\r\nb", 4 }, { "a\0b", 3 }, { "\x7f", 1 }, { "\xff", 1 }, { long_reason, sizeof long_reason },
    };
    uint64_t id = put("ann@us.example", "bob@b.example");

    memset(long_reason, 'x', sizeof long_reason);
    for (size_t i = 0; i < sizeof reasons / sizeof reasons[0]; i++)
        assert_int_equal(bounce_message(queue, id, reasons[i]), -EINVAL);
    assert_int_equal(state_of_only(), MESSAGE_WAITING);
    assert_int_equal(queue_discard(queue, id), 0);
    assert_int_equal(bounce_message(queue, id, STR("gone")), -ENOENT);
}

/* Takes the only message, which is a DSN to ann, with these words in it. */
static void check_told(struct str first, struct str second)
{
    struct claim *c;
    char text[8192];
    size_t n;

    assert_int_equal(queue_count(queue), 1);
    assert_int_equal(queue_claim(queue, TASK_FOREVER, &c), 0);
    assert_true(c->env.null_sender && c->env.rcpt_count == 1 && str_eq(c->env.rcpts[0].addr.local, STR("ann")));
    assert_int_equal(queue_read_body(c, 0, text, sizeof text, &n), 0);
    struct str body = { text, n };
    assert_true(str_find_str(body, first) >= 0 && str_find_str(body, second) >= 0);
    assert_true(str_find_str(body, STR("Status: 5.0.0")) >= 0 && str_find_str(body, STR("Action: failed")) >= 0);
    assert_int_equal(queue_settle(c, &(struct outcome){ .state = RCPT_DELIVERED }, 1, 0), 0);
    assert_int_equal(queue_count(queue), 0);
}

static void the_sender_is_told_once(void)
{
    uint64_t id = put("ann@us.example", "bob@b.example,carol@c.example,dave@d.example");
    struct claim *c;

    assert_int_equal(queue_claim(queue, TASK_FOREVER, &c), 0);
    assert_int_equal(bounce_message(queue, id, STR("nobody reads it")), -EBUSY);
    assert_int_equal(queue_settle(c, &(struct outcome){ .rcpt = 2, .state = RCPT_DELIVERED }, 1, clock_wall_ns() + 3600 * NS_PER_S), 0);
    assert_int_equal(bounce_message(queue, id, STR("nobody reads it")), 0);     /* long before it is due */
    check_told(STR("nobody reads it"), STR("carol@c.example"));
}

static void held_messages_too(void)
{
    uint64_t id = put("ann@us.example", "bob@b.example");

    assert_int_equal(queue_hold(queue, id), 0);
    assert_int_equal(bounce_message(queue, id, STR("spam \xe2\x80\x93 no")), 0);
    check_told(STR("bob@b.example"), STR("spam"));
}

static void nobody_is_told_of_a_bounce(void)
{
    assert_int_equal(bounce_message(queue, put("", "bob@b.example"), STR("no")), 0);
    assert_int_equal(queue_count(queue), 0);
}

static void scene(void *arg)
{
    struct conf *conf = scene_conf("us.example", "us");

    (void)arg;
    conf_set_current(conf);
    queue = scene_queue(conf);
    refused_reasons_leave_it();
    the_sender_is_told_once();
    held_messages_too();
    nobody_is_told_of_a_bounce();
    queue_close(queue);
    conf_set_current(NULL);
}

static void messages_are_returned(void **state)
{
    (void)state;
    sim_begin(&(struct sim_options){ .seed = 1, .sync_ns = NS_PER_MS });
    assert_int_equal(sim_run(scene, NULL), 0);
    sim_end();
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_are_returned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
