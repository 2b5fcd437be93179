/*
 * Dates as text, and back: see date.h. The calendar is base/calendar's.
 */
#include "mail/date.h"
#include "base/calendar.h"

#include <assert.h>
#include <string.h>

#define NS          INT64_C(1000000000)
#define DAY_S       86400
#define YEAR_MIN    1900 /* RFC 5322, 3.3 */
#define YEAR_MAX    2262 /* int64_t ends in April */
#define NESTING_MAX 50   /* of comments */

static const char months[12][4] = { "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" };
static const char weekdays[7][4] = { "Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat" };

void date_put(struct buf *out, int64_t wall_ns, int offset_minutes)
{
    assert(offset_minutes > -24 * 60 && offset_minutes < 24 * 60);
    int64_t utc_s = wall_ns / NS - (wall_ns % NS < 0), days;
    int offset = offset_minutes < 0 ? -offset_minutes : offset_minutes, s;

    calendar_split(utc_s + (int64_t)offset_minutes * 60, &days, &s);
    struct calendar_date c = calendar_date(days);
    const char *weekday = weekdays[((days + 4) % 7 + 7) % 7]; /* 1970-01-01 was a Thursday */

    buf_printf(out, "%s, %d %s %lld %02d:%02d:%02d %c%02d%02d", weekday, c.day, months[c.month - 1], (long long)c.year, s / 3600,
               s / 60 % 60, s % 60, offset_minutes < 0 ? '-' : '+', offset / 60, offset % 60);
}

/* -- reading -------------------------------------------------------------------------------------------------------- */

struct moment {
    struct calendar_date date;
    int hour, minute, second, offset_minutes;
    int64_t fraction_ns;
};

/* A leap second counts as the one before it: the clock that we compare with has none. */
static bool moment_to_ns(struct moment m, int64_t *out)
{
    int64_t s, ns;

    if (m.second == 60)
        m.second = 59;
    if (m.date.year < YEAR_MIN || m.date.year > YEAR_MAX || m.date.month < 1 || m.date.month > 12 || m.date.day < 1 ||
        m.date.day > calendar_month_days(m.date.year, m.date.month) || m.hour > 23 || m.minute > 59 || m.second > 59)
        return false;
    s = calendar_days(m.date) * DAY_S + m.hour * 3600 + m.minute * 60 + m.second - m.offset_minutes * 60;
    if (s < calendar_days((struct calendar_date){ YEAR_MIN, 1, 1 }) * DAY_S || __builtin_mul_overflow(s, NS, &ns) ||
        __builtin_add_overflow(ns, m.fraction_ns, &ns))
        return false;
    *out = ns;
    return true;
}

/* Comment, with s at its "(". An open end ends it. */
static void skip_comment(struct str *s)
{
    int depth = 0;

    while (s->n > 0) {
        char c = s->p[0];
        *s = str_from(*s, c == '\\' ? 2 : 1);
        if (c == '(' && depth < NESTING_MAX)
            depth++;
        if (c == ')' && --depth == 0)
            return;
    }
}

static void skip_cfws(struct str *s)
{
    while (s->n > 0 && memchr(" \t\r\n(", s->p[0], 5) != NULL) {
        if (s->p[0] == '(')
            skip_comment(s);
        else
            *s = str_from(*s, 1);
    }
}

static bool take_char(struct str *s, char c)
{
    skip_cfws(s);
    if (s->n == 0 || s->p[0] != c)
        return false;
    *s = str_from(*s, 1);
    return true;
}

static struct str take_word(struct str *s)
{
    size_t n = 0;

    skip_cfws(s);
    while (n < s->n && char_is_alpha(s->p[n]))
        n++;
    struct str word = str_head(*s, n);
    *s = str_from(*s, n);
    return word;
}

/* least to most digits; the number of them in *digits, which may be NULL. */
static bool take_number(struct str *s, size_t least, size_t most, int *out, size_t *digits)
{
    size_t n = 0;
    int value = 0;

    while (n < s->n && n < most && char_is_digit(s->p[n]))
        value = value * 10 + (s->p[n++] - '0');
    if (n < least || (n < s->n && char_is_digit(s->p[n])))
        return false;
    *s = str_from(*s, n);
    *out = value;
    if (digits != NULL)
        *digits = n;
    return true;
}

/* RFC 5322, 4.3: "a two-digit year is 00 to 49: add 2000; 50 to 99 or three digits: add 1900". */
static bool take_year(struct str *s, int64_t *out)
{
    int year;
    size_t digits;

    skip_cfws(s);
    if (!take_number(s, 2, 4, &year, &digits))
        return false;
    *out = digits == 4 ? year : digits == 2 && year < 50 ? year + 2000 : year + 1900;
    return true;
}

static int month_of(struct str name)
{
    for (int i = 0; i < 12; i++)
        if (str_eq_nocase(str_head(name, 3), str_of(months[i])))
            return i + 1;
    return 0;
}

static bool take_date(struct str *s, struct calendar_date *out)
{
    (void)take_word(s); /* the weekday; unchecked, since what it should be can be computed */
    (void)take_char(s, ',');
    skip_cfws(s);
    if (!take_number(s, 1, 2, &out->day, NULL))
        return false;
    (void)take_char(s, '-');
    out->month = month_of(take_word(s));
    (void)take_char(s, '-');
    return take_year(s, &out->year);
}

static bool take_time(struct str *s, struct moment *m)
{
    skip_cfws(s);
    if (!take_number(s, 1, 2, &m->hour, NULL) || !take_char(s, ':'))
        return false;
    skip_cfws(s);
    if (!take_number(s, 1, 2, &m->minute, NULL))
        return false;
    if (!take_char(s, ':'))
        return true;
    skip_cfws(s);
    return take_number(s, 1, 2, &m->second, NULL);
}

/* RFC 5322, 4.3: the zones with a known meaning; all others, military ones included, count as -0000. */
static int named_zone(struct str name)
{
    // clang-format off
    static const struct {
        const char *name;
        int         hours;
    } zones[] = { { "EDT", -4 }, { "EST", -5 }, { "CDT", -5 }, { "CST", -6 }, { "MDT", -6 }, { "MST", -7 }, { "PDT", -7 }, { "PST", -8 } };
    // clang-format on

    for (size_t i = 0; i < sizeof zones / sizeof zones[0]; i++)
        if (str_eq_nocase(name, str_of(zones[i].name)))
            return zones[i].hours * 60;
    return 0;
}

static bool offset_of(int hhmm, bool west, int *out)
{
    if (hhmm / 100 > 23 || hhmm % 100 > 59)
        return false;
    int minutes = hhmm / 100 * 60 + hhmm % 100;
    *out = west ? -minutes : minutes;
    return true;
}

static bool take_zone(struct str *s, int *out)
{
    int hhmm;
    bool west = take_char(s, '-');

    if (!west && !take_char(s, '+')) {
        *out = named_zone(take_word(s));
        return true;
    }
    return take_number(s, 4, 4, &hhmm, NULL) && offset_of(hhmm, west, out);
}

bool date_parse(struct str text, int64_t *out_wall_ns, int *out_offset_minutes)
{
    struct moment m = { .second = 0 };
    int64_t ns;

    if (!take_date(&text, &m.date) || !take_time(&text, &m) || !take_zone(&text, &m.offset_minutes))
        return false;
    skip_cfws(&text);
    if (text.n > 0 || !moment_to_ns(m, &ns))
        return false;
    *out_wall_ns = ns;
    if (out_offset_minutes != NULL)
        *out_offset_minutes = m.offset_minutes;
    return true;
}

static bool take_exactly(struct str *s, const char *set)
{
    if (s->n == 0 || s->p[0] == '\0' || strchr(set, s->p[0]) == NULL)
        return false;
    *s = str_from(*s, 1);
    return true;
}

/* Digits after the point: as many as one likes; those beyond nanoseconds are dropped. */
static bool take_fraction(struct str *s, int64_t *out)
{
    int64_t unit = NS / 10, value = 0;
    size_t n = 0;

    for (; n < s->n && char_is_digit(s->p[n]); n++, unit /= 10)
        value += (s->p[n] - '0') * unit;
    *s = str_from(*s, n);
    *out = value;
    return n > 0;
}

static bool take_iso_zone(struct str *s, int *out)
{
    int hour, minute;
    bool west = str_starts(*s, STR("-"));

    if (take_exactly(s, "Zz")) {
        *out = 0;
        return true;
    }
    return take_exactly(s, "+-") && take_number(s, 2, 2, &hour, NULL) && take_exactly(s, ":") && take_number(s, 2, 2, &minute, NULL) &&
           offset_of(hour * 100 + minute, west, out);
}

bool date_parse_iso(struct str text, int64_t *out_wall_ns)
{
    struct moment m = { .second = 0 };
    struct str s = text;
    int year;
    int64_t ns;

    if (!take_number(&s, 4, 4, &year, NULL) || !take_exactly(&s, "-") || !take_number(&s, 2, 2, &m.date.month, NULL) ||
        !take_exactly(&s, "-") || !take_number(&s, 2, 2, &m.date.day, NULL) || !take_exactly(&s, "Tt ") ||
        !take_number(&s, 2, 2, &m.hour, NULL) || !take_exactly(&s, ":") || !take_number(&s, 2, 2, &m.minute, NULL) ||
        !take_exactly(&s, ":") || !take_number(&s, 2, 2, &m.second, NULL))
        return false;
    if (take_exactly(&s, ".") && !take_fraction(&s, &m.fraction_ns))
        return false;
    m.date.year = year;
    if (!take_iso_zone(&s, &m.offset_minutes) || s.n > 0 || !moment_to_ns(m, &ns))
        return false;
    *out_wall_ns = ns;
    return true;
}
