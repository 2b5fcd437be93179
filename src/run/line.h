/*
 * Lines: how a process of ours asks another one.
 *
 * Before it forks, the supervisor makes a door for the process that answers: a pair of sockets, of which that process has one end and
 * those who ask the other. Who asks makes a pair of sockets of its own and hands one in at the door: that is a line. Since the supervisor
 * keeps the door, either side may end and come again: a new caller hands in new lines, and a new server finds at the door
 * what came while there was none.
 *
 * A caller has a line for each loop, so that an answer wakes the loop that asked; who asks from another thread has a line for that
 * one question. A line that breaks fails what is under way on it (-ECONNRESET), and another one is handed in; what is asked meanwhile waits
 * there, until its deadline.
 */
#ifndef RUN_LINE_H
#define RUN_LINE_H

#include "run/loop.h"
#include "run/wire.h"

/* Both ends, to be closed by line_door_close. -1 is none. */
int  line_door_new(int *out_callers, int *out_server);
void line_door_close(int *end);

/* -- asking ------------------------------------------------------------------------------------------------------------------- */

struct line_caller;

/* News: messages with the id 0, on whichever loop they come. NULL: nobody hears them. */
typedef void line_news_fn(const struct wire_message *m);

/* From the first task. The door's end stays the caller's. -ENOMEM, -EAGAIN. */
int  line_caller_start(int door, line_news_fn *news, struct line_caller **out);
void line_caller_stop(struct line_caller *c);    /* awaits; no question may be under way; NULL is fine */

/*
 * Awaits in a task, BLOCKS elsewhere. id is ours to give. The answer's parts stand in room, which the caller wipes. -ETIMEDOUT;
 * -ECANCELED; -ECONNRESET: the line broke; -EMSGSIZE: too long a question, or too long an answer for the room; -ENOBUFS: too much is
 * under way.
 */
int  line_ask(struct line_caller *c, const struct wire_message *question, int64_t deadline_ns, struct buf *room, struct wire_message *out);

/* Says something that wants no answer, id 0; it may be lost. Returns at once. */
void line_tell(struct line_caller *c, const struct wire_message *m);

/* -- answering ---------------------------------------------------------------------------------------------------------------- */

#define LINE_LINES_MAX     512           /* at a time */
#define LINE_REQUESTS_MAX  4096          /* under way in all; beyond it the answer is -EAGAIN */
#define LINE_ANSWER_MAX    (WIRE_PART_MAX + 1024)

struct line_answer {
    struct wire_message m;               /* its id and op are the question's */
    struct buf          room;            /* for its parts: LINE_ANSWER_MAX bytes, wiped afterwards */
};

enum line_pace {
    LINE_ANSWERED,
    LINE_LATER,                          /* by answer, which awaits in a task of its own */
    LINE_NONSENSE,                       /* nobody of ours asks that: the line is closed */
};

struct line_service {
    const char *name;                    /* for the log, and of the tasks */
    /* What can be answered at once. For both: a question's parts stand until they return. */
    enum line_pace (*quick)(void *arg, const struct wire_message *question, struct line_answer *a);
    void (*answer)(void *arg, const struct wire_message *question, struct line_answer *a);
    void (*gone)(void *arg);             /* the last line has been closed; NULL: nobody needs to know */
    void *arg;
};

/* Awaits: answers until the calling task is cancelled (-ECANCELED), or the door is no good any more. A line on which comes what is no
 * message is closed, and the log says so. */
int  line_serve(int door, const struct line_service *s);

/* Puts the text into the room, and makes it that part of the answer. What does not fit makes the result -EMSGSIZE. */
void line_answer_put(struct line_answer *a, unsigned part, struct str text);

#endif
