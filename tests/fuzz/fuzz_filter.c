/*
 * Fuzzes admin/filter: what the index alone answers is what the record answers too, and `not (...)` is the opposite of what it denies.
 */
#include "admin/filter.h"
#include "base/clock.h"

#include <assert.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define NOW (INT64_C(1800000000) * NS_PER_S)

static struct address address(struct str local, struct str domain)
{
    struct address a;
    bool good = address_of_parts(local, domain, &a);
    assert(good);
    return a;
}

static struct queue_details make_message(struct recipient rcpts[3], struct outcome last[3], uint32_t attempts)
{
    static enum rcpt_state states[3] = { RCPT_PENDING, RCPT_DELIVERED, RCPT_PENDING };

    rcpts[0] = (struct recipient){ .addr = address(STR("bob"), STR("gmail.example")) };
    rcpts[1] = (struct recipient){ .addr = address(STR("done"), STR("a.example")) };
    rcpts[2] = (struct recipient){ .addr = address(STR("a b"), STR("c.example")), .rewritten_from = address(STR("x"), STR("us.example")) };
    memset(last, 0, 3 * sizeof *last);
    if (attempts > 0) {
        last[0] = (struct outcome){ .status = STR("4.7.28"), .remote = STR("mx [192.0.2.1]"), .text = STR("421 (slow) \"down\"") };
        last[2] = (struct outcome){ .status = STR("4.4.1"), .text = STR("Connection refused") };
    }
    return (struct queue_details){
        .item = { .id = 42, .attempts = attempts, .rcpts_pending = 2, .rcpts_total = 3, .arrived_wall_ns = NOW - 3600 * NS_PER_S,
                  .due_wall_ns = NOW + 60 * NS_PER_S, .size = 4096 },
        .env = { .sender = address(STR("ann"), STR("us.example")), .login = STR("ann"), .rcpts = rcpts, .rcpt_count = 3, .priority = 2 },
        .states = states,
        .last = last,
    };
}

static bool parse(struct arena *a, struct str text, const struct filter **out)
{
    char memory[2 * FILTER_TEXT_MAX];
    struct buf error;

    buf_init_fixed(&error, memory, sizeof memory);
    bool good = filter_parse(a, text, out, &error);
    assert(good == (error.n == 0) && buf_ok(&error));
    return good;
}

static void check(const struct filter *f, const struct filter *denied, uint32_t attempts)
{
    struct recipient rcpts[3];
    struct outcome last[3];
    struct queue_details message = make_message(rcpts, last, attempts);
    bool meant = filter_match(f, &message, NOW);
    enum filter_answer by_index = filter_match_item(f, &message.item, NOW);

    assert(by_index == FILTER_UNSURE || meant == (by_index == FILTER_YES));
    assert(denied == NULL || filter_match(denied, &message, NOW) != meant);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena arena;
    const struct filter *f, *denied = NULL;

    arena_init(&arena, UINT64_C(16) << 20);
    if (parse(&arena, (struct str){ (const char *)data, size }, &f)) {
        struct str opposite = str_printf(&arena, "not (%" STR_FMT ")", (int)size, (const char *)data);
        if (memchr(data, 0, size) == NULL && !parse(&arena, opposite, &denied))
            denied = NULL;                                   /* too large now */
        check(f, denied, 0);
        check(f, denied, 3);
    }
    arena_reset(&arena);
    return 0;
}
