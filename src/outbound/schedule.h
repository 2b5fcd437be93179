/*
 * The schedule: which message is to be tried next, where, and when. Pure: whoever asks tells the time, and does the work.
 *
 * Messages that are due are offered, each for one site (site_key.h). Of a site's messages only so many wait here, in turns (turns.h); the
 * others stay in the queue's index, and are called when there is room again. Sites give what they may, at their own pace (pace.h), and the
 * site that has waited longest goes first. What came of each is told, and the table of refusals (refusal.h) says what that means for the
 * pace.
 *
 * Everything costs O(log n). Limits: so many sites, so many messages at a site, so many in all.
 *
 * No site takes more of what may be under way in all than is left beside it, and those that are not proven together not more than half: many
 * slow or dead ones leave room for those that are well.
 */
#ifndef OUTBOUND_SCHEDULE_H
#define OUTBOUND_SCHEDULE_H

#include "outbound/pace.h"
#include "outbound/refusal.h"
#include "outbound/turns.h"

#define SCHEDULE_COST_MAX 64

struct schedule;

struct schedule_settings {
    size_t sites_max;
    size_t site_messages_max;                    /* waiting here, for one site */
    size_t messages_max;                         /* in all; a site with very few may have them beyond that */
    size_t inside_max;                           /* begun and not ended, in all */
    struct pace_settings pace;                   /* where a provider's own are not known */
};

/* In the caller's own structure, which outlives its stay here. */
struct schedule_item {
    struct turn           turn;
    struct schedule_site *site;                  /* NULL: not here */
    int64_t               began_ns;
    bool                  on_trial;              /* it began while the site was not proven */
};

struct schedule_offer {
    struct str                     site;         /* its key */
    const struct refusal_provider *provider;     /* or NULL */
    struct str                     sender;       /* login, else the sender's domain */
    enum turns_band                band;
    uint32_t                       cost;         /* schedule_cost of the size */
    bool                           fixed;        /* a new site has a pace that is fixed, inside_max at a time */
    bool                           behind;       /* the same sender has others parked at this site: it goes behind them */
};

/* A message that does not wait here: it stays in the index, with others of that site, until the site calls, or until then. */
struct schedule_parked {
    struct schedule_item *item;                  /* NULL: nobody */
    uint64_t              site;                  /* its number; 0: there are too many sites */
    int64_t               until_ns;
    bool                  dead;                  /* the site does not answer, as far as we know */
};

struct schedule_call {
    uint64_t site;
    size_t   count;                              /* so many have room */
};

enum schedule_kind { SCHEDULE_TAKEN, SCHEDULE_REFUSED, SCHEDULE_UNREACHED, SCHEDULE_NOT_TRIED };

struct schedule_result {
    enum schedule_kind kind;
    unsigned           code;                     /* the reply's, if it was refused */
    struct str         status, text;
};

/* NULL without memory; refusals are borrowed. */
struct schedule *schedule_new(const struct schedule_settings *settings, const struct refusals *refusals);
/* Others from now on; what was learnt of sites stays. The refusals before must still be there. */
void schedule_configure(struct schedule *s, const struct schedule_settings *settings, const struct refusals *refusals);
uint32_t schedule_cost(uint64_t size);           /* of a message; 1 to SCHEDULE_COST_MAX */
void schedule_free(struct schedule *s);          /* nobody may be inside; who waits is forgotten, and is still the caller's */

/* The item waits here, and another may have had to make room for it; or it has to stay outside itself. -ENOMEM: it is not here. */
int  schedule_offer(struct schedule *s, const struct schedule_offer *offer, struct schedule_item *item, int64_t now_ns,
                    struct schedule_parked *out);

/* The next to be tried, begun; NULL, and when to ask again (PACE_NEVER: after an offer or an end). */
struct schedule_item *schedule_next(struct schedule *s, int64_t now_ns, int64_t *out_ask_again_ns);

/* What came of it; it is no longer here. The time before which it need not be offered again, or 0: as the retry rules have it. */
int64_t schedule_end(struct schedule *s, struct schedule_item *item, const struct schedule_result *result, int64_t now_ns);

/* Those that wait at a site that has become dead: one after another they leave. False: there are none. */
bool schedule_shed(struct schedule *s, int64_t now_ns, struct schedule_parked *out);

/* A site that has room for those that were parked. Then schedule_answered, whether more are parked there. */
bool schedule_calls(struct schedule *s, struct schedule_call *out);
void schedule_answered(struct schedule *s, uint64_t site, bool more);

/* It was taken back, by an operator say. Nothing if it is not in line. */
void schedule_remove(struct schedule *s, struct schedule_item *item, int64_t now_ns);

/* Somebody wants it tried: a site that rests because it is dead gets its probe now, once in some seconds. */
void schedule_urge(struct schedule *s, struct str site, int64_t now_ns);

uint64_t schedule_number(const struct schedule *s, struct str site);     /* of the site with that key; 0: it is not known */
bool     schedule_knows(const struct schedule *s, uint64_t site);        /* by its number */
bool     schedule_is_dead(const struct schedule *s, uint64_t site);
struct str schedule_key_of(const struct schedule *s, uint64_t site);     /* "" if it is not known */
struct str schedule_key(const struct schedule_item *item);               /* of its site; item->site is set */
size_t schedule_sites(const struct schedule *s);
size_t schedule_count(const struct schedule *s);             /* waiting here */
size_t schedule_inside(const struct schedule *s);            /* begun and not ended */
const struct pace *schedule_pace(const struct schedule *s, struct str site);   /* to be looked at; NULL: the site is not known */

struct schedule_view {
    struct str         site;
    uint64_t           number;
    const struct pace *pace;
    size_t             waiting;
    bool               dead, parked;
};
/* Each site once, from *cursor = 0; nothing may happen in between. */
bool schedule_each(const struct schedule *s, size_t *cursor, struct schedule_view *out);

#endif
