/*
 * How long a message has waited, when the date cannot be believed: a clock that jumps forward by years (a wrong one, or one that was wrong
 * until now) shall not return all mail at once. While the server runs, a message has waited as long as the monotonic clock says.
 *
 * A jump that was not seen, because the server was not running, is believed. Pure.
 */
#ifndef OUTBOUND_STEADY_DATE_H
#define OUTBOUND_STEADY_DATE_H

#include <stdint.h>

#define STEADY_DATE_JUMPS_MAX 16

struct steady_date {
    struct steady_span {                 /* from one jump to the next: these dates, and the monotonic time of the first */
        int64_t first_wall_ns, last_wall_ns, first_mono_ns;
    } spans[STEADY_DATE_JUMPS_MAX];      /* of more, the first and the latest */
    unsigned count;
    int64_t  mono_ns;                    /* when it was last looked at */
};

void steady_date_init(struct steady_date *d, int64_t wall_ns, int64_t mono_ns);

/* To be called again and again. How far the date has jumped since; 0: it has not. */
int64_t steady_date_look(struct steady_date *d, int64_t wall_ns, int64_t mono_ns);

/* The date, at the last look, of a clock that went steadily from the time when that message's time began. */
int64_t steady_date_for(const struct steady_date *d, int64_t begin_wall_ns);

#endif
