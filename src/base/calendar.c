/*
 * The calendar: see calendar.h. It is counted in days since 0000-03-01, so that the leap day is the last of its year; everything else is
 * division.
 */
#include "base/calendar.h"
#include "base/clock.h"
#include <inttypes.h>

#define DAY_S      86400
#define BEFORE_ERA 719468                /* days from 0000-03-01 to 1970-01-01 */
#define ERA_DAYS   146097                /* of 400 years */

static int64_t floor_div(int64_t a, int64_t b)
{
    return a / b - (a % b < 0);
}

int64_t calendar_days(struct calendar_date c)
{
    int64_t year = c.month <= 2 ? c.year - 1 : c.year;
    int64_t era = floor_div(year, 400);
    int64_t of_era = year - era * 400;
    int64_t of_year = (153 * (c.month > 2 ? c.month - 3 : c.month + 9) + 2) / 5 + c.day - 1;

    return era * ERA_DAYS + of_era * 365 + of_era / 4 - of_era / 100 + of_year - BEFORE_ERA;
}

struct calendar_date calendar_date(int64_t days)
{
    days += BEFORE_ERA;
    int64_t era = floor_div(days, ERA_DAYS);
    int64_t day = days - era * ERA_DAYS;
    int64_t year = (day - day / 1460 + day / 36524 - day / 146096) / 365;
    int64_t of_year = day - (365 * year + year / 4 - year / 100);
    int month = (int)((5 * of_year + 2) / 153);
    struct calendar_date c = { .day = (int)(of_year - (153 * month + 2) / 5) + 1, .month = month < 10 ? month + 3 : month - 9 };

    c.year = year + era * 400 + (c.month <= 2);
    return c;
}

int calendar_month_days(int64_t year, int month)
{
    static const int days[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

    return month == 2 && leap ? 29 : days[month - 1];
}

void calendar_split(int64_t s, int64_t *out_days, int *out_second)
{
    *out_days = floor_div(s, DAY_S);
    *out_second = (int)(s - *out_days * DAY_S);
}

void calendar_put_iso(struct buf *out, int64_t wall_ns, bool milliseconds)
{
    int64_t total_s = floor_div(wall_ns, NS_PER_S), days;
    int s;

    calendar_split(total_s, &days, &s);
    struct calendar_date c = calendar_date(days);
    buf_printf(out, "%04" PRId64 "-%02d-%02dT%02d:%02d:%02d", c.year, c.month, c.day, s / 3600, s / 60 % 60, s % 60);
    if (milliseconds)
        buf_printf(out, ".%03d", (int)((wall_ns % NS_PER_S + NS_PER_S) % NS_PER_S / NS_PER_MS));
    buf_put_char(out, 'Z');
}
