/*
 * The pace of a site: how many deliveries at a time, and how many in a time, it may get from us now. Pure: whoever asks tells the time.
 *
 * Both are limits of one kind. Up to the first refusal a limit is opened quickly. A refusal teaches a ceiling: what it refused was too
 * much. The rate falls well below that, climbs back evenly, and then stays at the ceiling, where the site is at ease. Now and
 * then it tries a little more: in vain, then the next try comes after twice the time; with success, the next one is larger and sooner. So
 * a limit that was a passing mood of the site heals by itself, quickly at the end, and one that is law costs a few refusals an hour.
 *
 * This is additive increase and multiplicative decrease (Chiu and Jain, "Analysis of the increase and decrease algorithms", 1989), with
 * slow start and one decrease for all that was on its way together (Jacobson, "Congestion avoidance and control", 1988), the ceiling
 * remembered and left behind convexly as CUBIC does (RFC 9438), and a limit that is not used not raised (RFC 7661).
 */
#ifndef OUTBOUND_PACE_H
#define OUTBOUND_PACE_H

#include <stdbool.h>
#include <stdint.h>

#define PACE_NEVER INT64_MAX                     /* not before somebody who is inside has come back */

/* In thousandths: of deliveries at a time, or of deliveries a second. */
struct pace_limit {
    int64_t value;                               /* allowed now */
    int64_t ceiling;                             /* known to be bearable, or hoped; above the maximum: nothing was learnt */
    int64_t max, min;
    int64_t step;                                /* the last try was so much more */
    int64_t try_ns;                              /* when to try more */
    int64_t try_every_ns;
    int64_t base, base_every_ns;                 /* ceiling and time between tries when the first of them was made */
    int64_t cut_ns;                              /* what began before was on its way when the limit was cut */
    int64_t moved_ns;                            /* the value was raised up to this time */
    int64_t kept;                                /* the ceiling as it was at the cut: it falls no further than to half of that in one go */
};

struct pace_settings {
    uint32_t connections_max;                    /* at a time */
    uint32_t rate_per_hour_max;                  /* 0: as fast as it goes */
    int64_t  rest_ns;                            /* of a dead site, before its first probe; 0: 30 s */
    bool     fixed;                              /* nothing is to be learnt: so many at a time, whatever it says */
};

struct pace {
    struct pace_limit together;
    struct pace_limit rate;                      /* its ceiling unknown, and no maximum set: there is none */
    bool     fixed;
    bool     rated;
    bool     proven;                             /* something reached it, and nothing that says it is dead since */
    uint32_t inside;
    uint32_t peak;                               /* most inside since it was empty, or since the last cut */
    int64_t  full_ns;                            /* when no more was allowed in last */
    uint32_t failures;                           /* to reach it, in a row */
    int64_t  next_ns;                            /* by the rate */
    int64_t  first_rest_ns;                      /* of a dead site, before its first probe */
    int64_t  rest_until_ns;                      /* the site asked for it, or is dead */
    int64_t  rest_ns;                            /* how long the last rest of a dead site was */
    int64_t  down_ns;                            /* when it was last found dead */
    int64_t  ipv4_until_ns;                      /* our IPv6 address is not liked there */
    int64_t  slot_ns;                            /* of counting what it took: this slot, and the one before */
    uint32_t taken, taken_before;
};

enum pace_event {
    PACE_TAKEN,                                  /* the message, or it was refused for itself: the site is well */
    PACE_TOO_MANY,                               /* at a time */
    PACE_TOO_FAST,
    PACE_BLOCKED,                                /* rest, then one probe */
    PACE_UNREACHED,                              /* no server of it answered */
    PACE_FAMILY,
    PACE_NOTHING,                                /* not tried: cancelled, or another's fault */
};

void pace_init(struct pace *p, const struct pace_settings *settings);
void pace_configure(struct pace *p, const struct pace_settings *settings);   /* they may have changed; what was learnt stays */

/* The time from which one more may begin: up to now_ns, at once; PACE_NEVER. */
int64_t pace_when(const struct pace *p, int64_t now_ns);
void    pace_begin(struct pace *p, int64_t now_ns);
/* What became of one that began then. wait_ns: what the site asked for; 0: nothing. */
void    pace_end(struct pace *p, enum pace_event event, int64_t wait_ns, int64_t began_ns, int64_t now_ns);

bool    pace_is_down(const struct pace *p, int64_t now_ns);    /* nothing may begin, and what waits there should wait elsewhere */
bool    pace_wants_ipv4(const struct pace *p, int64_t now_ns);
/* Deliveries an hour that may be expected of it now; at least 1. */
uint64_t pace_per_hour(const struct pace *p, int64_t now_ns);
/* Until then it is worth remembering, also without work. */
int64_t pace_forget_ns(const struct pace *p, int64_t now_ns);

#endif
