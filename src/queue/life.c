/*
 * The table of life.h. Pure; used by the worker.
 */
#include "queue/life.h"

struct cell {
    enum life_answer answer;
    enum life_state  next;
};

#define GO(state) { LIFE_STEP, LIFE_##state }
#define SAME      { LIFE_NOTHING, 0 }
#define BUSY      { LIFE_BUSY, 0 }
#define NONE      { LIFE_ABSENT, 0 }
#define NO        { LIFE_NEVER, 0 }

// clang-format off
static const struct cell table[LIFE_STATES][LIFE_EVENTS] = {
    /*                   ACCEPTED     ACCEPTED_HELD REFUSED   CLAIM        UNCLAIM      DEFERRED     DONE      HOLD      RELEASE      RETRY        DISCARD */
    [LIFE_ARRIVING] = { GO(WAITING), GO(HELD),     GO(OVER), NONE,        NO,          NO,          NO,       NONE,     NONE,        NONE,        NONE     },
    [LIFE_WAITING]  = { NO,          NO,           NO,       GO(CLAIMED), NO,          NO,          NO,       GO(HELD), SAME,        GO(WAITING), GO(OVER) },
    [LIFE_CLAIMED]  = { NO,          NO,           NO,       BUSY,        GO(WAITING), GO(WAITING), GO(OVER), BUSY,     BUSY,        BUSY,        BUSY     },
    [LIFE_HELD]     = { NO,          NO,           NO,       GO(TAKEN),   NO,          NO,          NO,       SAME,     GO(WAITING), GO(HELD),    GO(OVER) },
    [LIFE_TAKEN]    = { NO,          NO,           NO,       BUSY,        GO(HELD),    GO(HELD),    GO(OVER), BUSY,     BUSY,        BUSY,        BUSY     },
    [LIFE_OVER]     = { NO,          NO,           NO,       NONE,        NO,          NO,          NO,       NONE,     NONE,        NONE,        NONE     },
};
// clang-format on

enum life_answer life_step(enum life_state state, enum life_event event, enum life_state *next)
{
    const struct cell *cell = &table[state][event];

    if (cell->answer == LIFE_STEP)
        *next = cell->next;
    return cell->answer;
}
