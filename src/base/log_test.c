/*
 * The log: nothing a stranger sends can leave it as anything but printable text on one line.
 */
#include "base/clock.h"
#include "base/log.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char last[5000];
static size_t lines;
static enum log_level last_level;
static int64_t now;

static int64_t test_now(void *self)
{
    (void)self;
    return now;
}

static void no_random(void *self, void *out, size_t n)
{
    (void)self;
    memset(out, 0, n);
}

static const struct clock_source source = { test_now, test_now, no_random, NULL };

static void keep(void *arg, enum log_level level, struct str line)
{
    assert_ptr_equal(arg, last);
    assert_true(line.n < sizeof last);
    memcpy(last, line.p, line.n);
    last[line.n] = '\0';
    last_level = level;
    lines++;
}

static int set_up(void **state)
{
    (void)state;
    now = 0;
    lines = 0;
    clock_replace(&source);
    log_redirect(keep, last);
    log_level_set(LOG_INFO);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    log_redirect(NULL, NULL);
    clock_replace(NULL);
    return 0;
}

static void values_are_harmless(void **state)
{
    static const struct {
        struct str value;
        const char *text;
    } cases[] = {
        {{ NULL, 0 },                "\"\""                     },
        { { "\0", 1 },               "\"\\x00\""                },
        { { "a\r\nb", 4 },           "\"a\\x0d\\x0ab\""         }, /* no second line */
        { { "\x1b[2J", 4 },          "\"\\x1b[2J\""             },
        { { "\x9b"
            "2J",
            3 },
         "\"\\x9b2J\""                                          }, /* the same to some terminals, as one byte */
        { { "\xc2\x9b"
            "2J",
            4 },
         "\"\\xc2\\x9b2J\""                                     }, /* and in UTF-8 */
        { { "\x7f", 1 },             "\"\\x7f\""                },
        { { "say \"a\\b\"", 9 },     "\"say \\x22a\\x5cb\\x22\""},
        { { "k=v", 3 },              "\"k=v\""                  }, /* not a field of its own */
        { { "\xe2\x80\xae"
            "gpj.exe",
            10 },
         "\"\\xe2\\x80\\xaegpj.exe\""                           }, /* right-to-left override */
        { { "\xe2\x80\xa8", 3 },     "\"\\xe2\\x80\\xa8\""      }, /* line separator */
        { { "\xc0\xaf", 2 },         "\"\\xc0\\xaf\""           }, /* overlong */
        { { "gr\xc3\xbc\xc3\x9f"
            "e",
            7 },
         "\"gr\xc3\xbc\xc3\x9f"
          "e\""                                                 },
        { { "\xf0\x9f\x93\xa7", 4 }, "\"\xf0\x9f\x93\xa7\""     },
        { { "cut\xc3", 4 },          "\"cut\\xc3\""             },
        { { "two words", 9 },        "\"two words\""            },
        { { "<a@b.example>", 13 },   "<a@b.example>"            },
        { { "[192.0.2.1]:25", 14 },  "[192.0.2.1]:25"           },
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char memory[200];
        struct buf b;
        buf_init_fixed(&b, memory, sizeof memory);
        log_put_value(&b, cases[i].value);
        assert_true(buf_ok(&b));
        assert_true(str_eq(buf_str(&b), str_of(cases[i].text)));
    }
}

static void a_line_reads_like_this(void **state)
{
    (void)state;
    now = INT64_C(1709210096) * NS_PER_S + 7 * NS_PER_MS;
    log_event(LOG_WARN, "accepted", LOG_Z("id", "0123"), LOG_U64("size", UINT64_MAX), LOG_I64("delta", -1), LOG_STR("why", STR("a b")));
    assert_string_equal(last, "2024-02-29T12:34:56.007Z warn accepted id=0123 size=18446744073709551615 delta=-1 why=\"a b\"");
    assert_int_equal(last_level, LOG_WARN);
    log_event(LOG_ERROR, "nothing to add");
    assert_string_equal(last, "2024-02-29T12:34:56.007Z error \"nothing to add\"");
}

static void dates_are_dates(void **state)
{
    static const struct {
        int64_t s;
        const char *date;
    } cases[] = {
        {-1,          "1969-12-31T23:59:59.999Z"}, /* one nanosecond before the epoch */
        { 0,          "1970-01-01T00:00:00.000Z"},
        { 951782399,  "2000-02-28T23:59:59.000Z"},
        { 951782400,  "2000-02-29T00:00:00.000Z"},
        { 951868800,  "2000-03-01T00:00:00.000Z"},
        { 978307199,  "2000-12-31T23:59:59.000Z"},
        { 4107542400, "2100-03-01T00:00:00.000Z"}, /* no leap day in 2100 */
        { 4107542399, "2100-02-28T23:59:59.000Z"},
        { 9223372036, "2262-04-11T23:47:16.000Z"}, /* the end of nanoseconds */
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        now = cases[i].s < 0 ? -1 : cases[i].s * NS_PER_S;
        log_event(LOG_INFO, "x");
        assert_memory_equal(last, cases[i].date, strlen(cases[i].date));
    }
}

static void levels_are_kept(void **state)
{
    (void)state;
    assert_false(log_level_on(LOG_DEBUG));
    log_event(LOG_DEBUG, "no");
    assert_int_equal(lines, 0);
    log_level_set(LOG_DEBUG);
    log_event(LOG_DEBUG, "yes");
    assert_int_equal(lines, 1);
    log_level_set(LOG_ERROR);
    log_event(LOG_WARN, "no");
    log_event(LOG_ERROR, "yes");
    assert_int_equal(lines, 2);
}

static void long_lines_are_cut(void **state)
{
    static char long_value[6001]; /* ends in NUL */
    static const char fills[] = { 'a', ' ', '\n', '\xc3' };

    (void)state;
    for (size_t f = 0; f < sizeof fills; f++) {
        memset(long_value, fills[f], sizeof long_value - 1);
        for (size_t n = 900; n < sizeof long_value; n += 1 + n / 3) {
            log_event(LOG_INFO, "long", LOG_STR("v", ((struct str){ long_value, n })), LOG_Z("more", long_value + 5000), LOG_U64("u", 1));
            size_t length = strlen(last);
            assert_true(length <= 4095);
            assert_string_equal(last + length - (length > 4091 ? 3 : 4), length > 4091 ? "..." : " u=1");
            for (size_t i = 0; i < length; i++)
                assert_in_range(last[i], ' ', '~');
        }
    }
    memset(long_value, 'a', sizeof long_value - 1);
    log_event(LOG_INFO, "long", LOG_STR("v", ((struct str){ long_value, sizeof long_value - 1 })));
    assert_int_equal(strlen(last), 4095); /* a bare word is cut in the middle, not dropped */
}

static void errno_is_left_alone(void **state)
{
    (void)state;
    errno = ENOSPC;
    log_event(LOG_INFO, "x", LOG_U64("n", 1));
    assert_int_equal(errno, ENOSPC);
}

static void standard_error_gets_whole_lines(void **state)
{
    int ends[2], saved = dup(STDERR_FILENO);
    char text[200] = "";

    (void)state;
    assert_int_equal(pipe(ends), 0);
    log_redirect(NULL, NULL);
    assert_int_equal(dup2(ends[1], STDERR_FILENO), STDERR_FILENO);
    log_event(LOG_INFO, "hello", LOG_U64("n", 1));
    assert_int_equal(dup2(saved, STDERR_FILENO), STDERR_FILENO);
    assert_true(read(ends[0], text, sizeof text - 1) > 0);
    assert_string_equal(text, "1970-01-01T00:00:00.000Z info hello n=1\n");
    close(ends[0]);
    close(ends[1]);
    close(saved);
}

/* Nobody reads: the program goes on. Somebody reads again: what was lost is said. */
static void a_reader_that_stands_still(void **state)
{
    static char text[200000];
    int ends[2], saved = dup(STDERR_FILENO);
    size_t got = 0;

    (void)state;
    assert_int_equal(pipe(ends), 0);
    log_redirect(NULL, NULL);
    assert_int_equal(dup2(ends[1], STDERR_FILENO), STDERR_FILENO);
    memset(text, 'x', 1000);
    for (int i = 0; i < 300; i++)
        log_event(LOG_INFO, "many", LOG_STR("v", ((struct str){ text, 1000 })));
    while (got < 30000)
        got += (size_t)read(ends[0], text + got, 30000 - got);
    log_event(LOG_INFO, "again");
    assert_int_equal(dup2(saved, STDERR_FILENO), STDERR_FILENO);
    close(ends[1]);
    for (ssize_t n; (n = read(ends[0], text + got, sizeof text - 1 - got)) > 0;)
        got += (size_t)n;
    text[got] = '\0';
    assert_non_null(strstr(text, " warn log-lost lines="));
    assert_non_null(strstr(text, " info again\n"));
    close(ends[0]);
    close(saved);
}

static int64_t said_now = 1;
static int64_t said_time(void *self)
{
    (void)self;
    return said_now;
}

static void a_trouble_is_news_once_a_minute(void **state)
{
    static const struct clock_source moved = { said_time, said_time, no_random, NULL };
    static const struct { int64_t now; bool news; } steps[] = {
        { 0, true }, { 0, false }, { LOG_NEWS_AGAIN_NS - 1, false }, { LOG_NEWS_AGAIN_NS + 1, true }, { LOG_NEWS_AGAIN_NS + 2, false },
        { 9 * LOG_NEWS_AGAIN_NS, true },
    };
    _Atomic int64_t said = 0, another = 0;

    (void)state;
    clock_replace(&moved);
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        said_now = steps[i].now;
        assert_int_equal(log_is_news(&said), steps[i].news);
    }
    assert_true(log_is_news(&another));
    clock_replace(&source);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(values_are_harmless),
        TEST(a_line_reads_like_this),
        TEST(dates_are_dates),
        TEST(levels_are_kept),
        TEST(long_lines_are_cut),
        TEST(errno_is_left_alone),
        TEST(standard_error_gets_whole_lines),
        TEST(a_reader_that_stands_still),
        TEST(a_trouble_is_news_once_a_minute),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
