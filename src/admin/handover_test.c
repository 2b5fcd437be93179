/*
 * The line of a hand-over: what goes in comes out, and nothing else is read.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "admin/handover.h"
#include <stdio.h>

static void there_and_back(void **state)
{
    struct handover in = { .is_worker = 1, .link = 5, .crashes = 2, .beside = 1, .lock = 3, .control = -1, .keeper = { 7, 17, 8, 9, 4711 },
                           .lookup = { 21, 22, 23, 24, 0 }, .owner = { .pid = 12, .link = 10 }, .leaving = { .pid = 0, .link = -1 },
                           .socket_count = 2, .sockets = { 20, 21 } };
    struct handover out;
    char text[512];
    int fds[32];
    struct buf b;

    (void)state;
    buf_init_fixed(&b, text, sizeof text - 1);
    handover_put(&b, &in);
    text[b.n] = '\0';
    assert_true(handover_get(text, &out));
    assert_true(out.is_worker == 1 && out.link == 5 && out.crashes == 2 && out.lock == 3 && out.control == -1 && out.keeper.pid == 4711 &&
                out.lookup.leash == 24 && out.lookup.pid == 0);
    assert_true(out.owner.pid == 12 && out.owner.link == 10 && out.leaving.pid == 0 && out.leaving.link == -1);
    assert_true(out.socket_count == 2 && out.sockets[0] == 20 && out.sockets[1] == 21);
    assert_int_equal(handover_fds(&out, fds, 32), 15);
}

static void is_none(void **state)
{
    static const char *const lines[] = {
        "",
        "1",
        "x",
        "1 1 5 2 1 3 -1 7 17 8 9 4711 21 22 23 24 0 12 10 0 -1 20",     /* of another version */
        "2 1 5 2 1 3 -1 7 17 8 9 4711 21 22 23 24 0 12 10 0",           /* a number too few */
        "2 1 5 2 1 3 -1 7 17 8 9 4711 21 22 23 24 0 12 10 0 -1 20x",
        "2 1 5 2 1 3 -2 7 17 8 9 4711 21 22 23 24 0 12 10 0 -1 20",
        "2 1 5 2 1 99999999999 -1 7 17 8 9 4711 21 22 23 24 0 12 10 0 -1 20",
    };
    struct handover h;

    (void)state;
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++)
        if (handover_get(lines[i], &h))
            fail_msg("%s", lines[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(there_and_back),
        cmocka_unit_test(is_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
