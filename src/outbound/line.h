/*
 * The line: every part of a message that is to go somewhere, and how many may be under way. Pure: whoever asks tells the time.
 *
 * A part is what one message has for one route. It is offered when it is due, for a site; then it waits in the schedule (schedule.h), or it
 * is parked (parking.h) until the site calls, and is never there twice. Its turn is told by line_next; whoever does the work tells what came
 * of it. A message whose parts wait here is in the queue like any other: it may be held, deleted or given another due time. Whose turn has
 * come must be looked for there, and may be gone.
 */
#ifndef OUTBOUND_LINE_H
#define OUTBOUND_LINE_H

#include "outbound/parking.h"
#include "outbound/schedule.h"

struct line;

/* Of a part whose turn may come, or has come. */
struct ticket {
    struct schedule_item item;
    uint64_t             id, route;              /* of the message, and by a hash */
    uint64_t             sender;                 /* likewise */
    uint8_t              band, cost;
    bool                 begun;
    struct ticket       *next;                   /* the caller's, once it has begun */
};

struct line_offer {
    uint64_t                       id, route, sender;
    struct str                     site;
    const struct refusal_provider *provider;     /* or NULL */
    enum turns_band                band;
    uint32_t                       cost;         /* schedule_cost */
    bool                           fixed;        /* see schedule_offer */
};

enum line_place {
    LINE_WAITS,                                  /* its turn comes */
    LINE_PARKED,                                 /* it is called when there is room for it; come again by then */
    LINE_DEAD,                                   /* likewise, and the site does not answer now */
    LINE_CROWDED,                                /* it is not here, for want of room or memory: come again then */
};

struct line *line_new(const struct schedule_settings *settings, const struct refusals *refusals);    /* NULL without memory */
void line_free(struct line *l);                  /* nothing may be under way; who waits is forgotten, and still in the queue */
struct schedule *line_schedule(struct line *l);  /* to configure, to urge and to look at; whoever changes it pumps */

/* *out_again_ns: the time to offer it again, unless its turn comes before. */
enum line_place line_offer(struct line *l, const struct line_offer *offer, int64_t now_ns, int64_t *out_again_ns);

/* The next whose turn has come; NULL, and when to ask again. */
struct ticket *line_next(struct line *l, int64_t now_ns, int64_t *out_ask_again_ns);

/* What came of it; the ticket is gone. The time before which the part need not be offered again, or 0. */
int64_t line_end(struct line *l, struct ticket *t, const struct schedule_result *result, int64_t now_ns);

size_t line_parked(const struct line *l);

#endif
