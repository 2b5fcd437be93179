/*
 * The life of a queued message, as a table: state x event. Pure.
 *
 *     arriving -> waiting <-> claimed -> over
 *         |          ^  \       |
 *                    v   `------+--> over
 *         `-------> held -------'
 *                    ^
 *                    `----> taken ----> over
 */
#ifndef QUEUE_LIFE_H
#define QUEUE_LIFE_H

enum life_state {
    LIFE_ARRIVING,      /* its accept is on the way to the disk */
    LIFE_WAITING,       /* for its due time */
    LIFE_CLAIMED,       /* in one task's hands */
    LIFE_HELD,          /* by an operator or a limit, until released */
    LIFE_TAKEN,         /* claimed while it was held; given back, it is held again */
    LIFE_OVER,
};
#define LIFE_STATES (LIFE_OVER + 1)

enum life_event {
    EVENT_ACCEPTED,     /* durable */
    EVENT_ACCEPTED_HELD,
    EVENT_REFUSED,      /* its accept failed */
    EVENT_CLAIM,
    EVENT_UNCLAIM,      /* given back untried */
    EVENT_DEFERRED,     /* an attempt was made, a recipient is pending still */
    EVENT_DONE,         /* none is */
    EVENT_HOLD,
    EVENT_RELEASE,
    EVENT_RETRY,
    EVENT_DISCARD,
};
#define LIFE_EVENTS (EVENT_DISCARD + 1)

enum life_answer {
    LIFE_STEP,          /* it goes to *next */
    LIFE_NOTHING,       /* it is so already */
    LIFE_BUSY,          /* somebody has it; ask again later */
    LIFE_ABSENT,        /* for an operator there is no such message: not yet, or not any more */
    LIFE_NEVER,         /* our own mistake */
};

enum life_answer life_step(enum life_state state, enum life_event event, enum life_state *next);

#endif
