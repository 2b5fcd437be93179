/*
 * The Gregorian calendar: days and their names in numbers, and the wall clock's time as RFC 3339 writes it. Pure: no time zone of the
 * machine, no libc calendar (gmtime_r looks for a time zone file when first called).
 */
#ifndef BASE_CALENDAR_H
#define BASE_CALENDAR_H

#include "base/buf.h"
#include <stdbool.h>
#include <stdint.h>

struct calendar_date {
    int64_t year;
    int     month, day;                  /* from 1 */
};

/* Days since 1970-01-01, and back. */
int64_t              calendar_days(struct calendar_date date);
struct calendar_date calendar_date(int64_t days);

int calendar_month_days(int64_t year, int month);

/* A day, and the second of it. */
void calendar_split(int64_t s, int64_t *out_days, int *out_second);

/* "2003-07-01T08:52:37Z", with milliseconds if asked. */
void calendar_put_iso(struct buf *out, int64_t wall_ns, bool milliseconds);

#endif
