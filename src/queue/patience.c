/*
 * Does waiting pay? The contract is in patience.h. Pure.
 */
#include "queue/patience.h"

#define TRIAL    12                                  /* batches of waiting, and of not waiting */
#define KEPT     96                                  /* and so many of what was better; */
#define KEPT_MAX 1536                                /* twice as many each time that it was not waiting, up to so many */
#define WORTH    1.1                                 /* how much better waiting must have been */

static double tickets_per_ns(const struct patience *p, int64_t now)
{
    return (double)p->tickets / (double)(now - p->began_ns + 1);
}

static void begin_trial(struct patience *p, bool on, int64_t now)
{
    p->on = on;
    p->batches = p->tickets = 0;
    p->began_ns = now;
}

static void begin_other_trial(struct patience *p, int64_t now)
{
    p->off_rate = tickets_per_ns(p, now);
    p->phase = PATIENCE_ON;
    begin_trial(p, true, now);
}

static void keep_better(struct patience *p, int64_t now)
{
    bool pays = tickets_per_ns(p, now) > WORTH * p->off_rate;

    p->keep = pays || p->keep == 0 ? KEPT : p->keep < KEPT_MAX ? 2 * p->keep : p->keep;
    p->phase = PATIENCE_KEPT;
    begin_trial(p, pays, now);
}

static void end_kept(struct patience *p, int64_t now)
{
    if (p->batches < p->keep)
        return;
    p->phase = PATIENCE_OFF;
    begin_trial(p, false, now);
}

void patience_learn(struct patience *p, size_t tickets, int64_t now)
{
    p->batches++;
    p->tickets += tickets;
    if (p->phase == PATIENCE_KEPT) {
        end_kept(p, now);
        return;
    }
    if (p->batches == TRIAL / 4) {           /* what the trial before has left is over */
        p->tickets = 0;
        p->began_ns = now;
    }
    if (p->batches < TRIAL)
        return;
    if (p->phase == PATIENCE_OFF)
        begin_other_trial(p, now);
    else
        keep_better(p, now);
}
