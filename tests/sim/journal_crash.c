/*
 * The journal's crash test: workloads run in the simulated world; then the disk is cut at every operation with many sets of
 * surviving writes, and the queue is recovered from each and compared with the ledger of what had been answered.
 *
 *     journal_crash [--seed N] [--points N] [--workload NAME] [--faults EVERY] [--verbose]
 *
 * Each workload is a row of a table. They run in rounds, each with a seed of its own: first clean, then with each operation (or every
 * EVERY-th) failing with EIO and with ENOSPC, once or for some seconds. After a clean run an image may become the start of another one, so
 * recovery itself is cut, and what comes after it. A point is one distinct image: workload, round, failing operation, operation, surviving
 * set. Where sidecars had a part in a recovery, a recovery without them must come to the same. All of it follows from the seed:
 * `--seed N --workload NAME` repeats a failure, --verbose shows the journal that it met.
 * The last line is `sim journal: N points, 0 failures`.
 */
#include "journal_ledger.h"

#include "base/cleanup.h"
#include "base/codec.h"
#include "base/log.h"
#include "queue/queue_internal.h"
#include "queue/verify.h"
#include "run/file.h"
#include "run/sim.h"
#include <assert.h>
#include <errno.h>
#include <stdarg.h>

#define DATA_DIR "/data"
#define DIRECTORY_OPS 9
#define BALLAST  (256 * 1024)
#define SETS     6                                   /* surviving sets tried at each operation: nothing, everything, and others by chance */

/* ---- what a workload does ---- */

struct workload {
    const char *name;
    unsigned    putters, messages;                   /* tasks, and messages of each */
    uint32_t    size_min, size_max;
    unsigned    rcpts_max;
    unsigned    deliverers;
    unsigned    defer, bounce;                       /* percent of recipients */
    unsigned    operations;                          /* holds, releases, retries, discards */
    unsigned    discards;                            /* percent of these */
    unsigned    reroutes;                            /* percent of the others */
    uint64_t    segment_size;
    uint32_t    inline_max;
    uint64_t    disk_bytes;
    bool        crowded;                             /* a file takes the space for a while */
    unsigned    reopen;                              /* orderly restarts in the run */
    unsigned    phases;                              /* recoveries that are cut in turn */
    bool        kill;                                /* the process dies while the disk refuses, the page cache stays */
    uint64_t    free_floor;
};

// clang-format off
static const struct workload workloads[] = {
    { .name = "one",            .putters = 1, .messages = 3,  .size_max = 700,   .rcpts_max = 1 },
    { .name = "accept",         .putters = 4, .messages = 4,  .size_max = 6000,  .rcpts_max = 1 },
    { .name = "crowd",          .putters = 20, .messages = 1, .size_max = 3000,  .rcpts_max = 1 },
    { .name = "relay",          .putters = 3, .messages = 5,  .size_max = 4000,  .rcpts_max = 1, .deliverers = 3 },
    { .name = "relay-defer",    .putters = 3, .messages = 4,  .size_max = 3000,  .rcpts_max = 1, .deliverers = 3, .defer = 50 },
    { .name = "dsn",            .putters = 2, .messages = 5,  .size_max = 3000,  .rcpts_max = 2, .deliverers = 2, .bounce = 60 },
    { .name = "rcpts",          .putters = 2, .messages = 4,  .size_max = 2500,  .rcpts_max = 6,
      .deliverers = 3, .defer = 40, .bounce = 10 },
    { .name = "retries",        .putters = 1, .messages = 3,  .size_max = 1000,  .rcpts_max = 4, .deliverers = 2, .defer = 75 },
    { .name = "hold",           .putters = 2, .messages = 4,  .size_max = 2000,  .rcpts_max = 2,
      .deliverers = 1, .defer = 30, .operations = 14 },
    { .name = "discard",        .putters = 2, .messages = 5,  .size_max = 3000,  .rcpts_max = 3, .operations = 14, .discards = 60 },
    { .name = "operators",      .putters = 3, .messages = 3,  .size_max = 2000,  .rcpts_max = 2,
      .deliverers = 3, .defer = 50, .operations = 20, .discards = 15 },
    { .name = "reroute",        .putters = 2, .messages = 4,  .size_max = 3000,  .rcpts_max = 3,
      .deliverers = 1, .defer = 50, .operations = 16, .discards = 5, .reroutes = 60 },
    { .name = "reroute-large",  .putters = 2, .messages = 3,  .size_min = 9000, .size_max = 40000, .rcpts_max = 2,
      .deliverers = 1, .defer = 50, .operations = 12, .reroutes = 70, .phases = 2 },
    { .name = "large",          .putters = 2, .messages = 3,  .size_min = 17000, .size_max = 60000, .rcpts_max = 1, .deliverers = 1 },
    { .name = "large-discard",  .putters = 2, .messages = 3,  .size_min = 17000, .size_max = 40000, .rcpts_max = 2,
      .deliverers = 1, .defer = 40, .operations = 6, .discards = 60 },
    { .name = "mixed",          .putters = 4, .messages = 4,  .size_max = 30000, .rcpts_max = 3,
      .deliverers = 3, .defer = 30, .bounce = 20, .operations = 5 },
    { .name = "recycled",       .putters = 3, .messages = 12, .size_min = 6000, .size_max = 15000, .rcpts_max = 1, .deliverers = 4 },
    { .name = "recycled-defer", .putters = 3, .messages = 10, .size_min = 6000, .size_max = 15000, .rcpts_max = 2,
      .deliverers = 4, .defer = 25 },
    { .name = "lingering",      .putters = 2, .messages = 25, .size_min = 9000, .size_max = 15000, .rcpts_max = 1,
      .deliverers = 3, .defer = 3, .operations = 3 },
    { .name = "lingering-held", .putters = 2, .messages = 24, .size_min = 9000, .size_max = 15000, .rcpts_max = 2,
      .deliverers = 4, .defer = 10, .operations = 16, .discards = 10 },
    { .name = "lingering-rerouted", .putters = 2, .messages = 20, .size_min = 9000, .size_max = 15000, .rcpts_max = 2,
      .deliverers = 4, .defer = 20, .operations = 20, .reroutes = 60, .phases = 2 },
    { .name = "full",           .putters = 3, .messages = 12, .size_min = 6000, .size_max = 15000, .rcpts_max = 1,
      .deliverers = 2, .disk_bytes = 500 * 1024 },
    { .name = "full-large",     .putters = 3, .messages = 6,  .size_min = 17000, .size_max = 60000, .rcpts_max = 1,
      .deliverers = 2, .disk_bytes = 600 * 1024 },
    { .name = "crowded",        .putters = 3, .messages = 8,  .size_min = 3000, .size_max = 15000, .rcpts_max = 1,
      .deliverers = 2, .crowded = true, .disk_bytes = 2048 * 1024 },
    { .name = "floor",          .putters = 2, .messages = 8,  .size_min = 6000, .size_max = 15000, .rcpts_max = 1, .deliverers = 2,
      .disk_bytes = 800 * 1024, .free_floor = 200 * 1024 },
    { .name = "restart",        .putters = 2, .messages = 3,  .size_max = 4000,  .rcpts_max = 2,
      .deliverers = 1, .defer = 40, .reopen = 3 },
    { .name = "restart-large",  .putters = 1, .messages = 3,  .size_min = 9000, .size_max = 30000, .rcpts_max = 2,
      .deliverers = 1, .defer = 40, .reopen = 4 },
    { .name = "recovery",       .putters = 2, .messages = 3,  .size_max = 5000,  .rcpts_max = 2,
      .deliverers = 1, .defer = 40, .phases = 4 },
    { .name = "recovery-large", .putters = 2, .messages = 2,  .size_min = 9000, .size_max = 30000, .rcpts_max = 2,
      .deliverers = 1, .defer = 40, .phases = 4 },
    { .name = "recovery-recycled", .putters = 3, .messages = 8, .size_min = 6000, .size_max = 15000, .rcpts_max = 1,
      .deliverers = 3, .defer = 10, .operations = 3, .phases = 3 },
    { .name = "sidecars",       .putters = 3, .messages = 12, .size_min = 6000, .size_max = 15000, .rcpts_max = 2,
      .deliverers = 2, .defer = 60, .operations = 8, .discards = 10, .reopen = 1, .phases = 2 },
    { .name = "sidecars-small", .putters = 4, .messages = 30, .size_min = 1000, .size_max = 1500, .rcpts_max = 2,
      .deliverers = 4, .defer = 30, .operations = 6, .phases = 2 },
    { .name = "killed",         .putters = 3, .messages = 4,  .size_max = 5000,  .rcpts_max = 2,
      .deliverers = 2, .defer = 30, .kill = true, .phases = 2 },
    { .name = "killed-recycled", .putters = 3, .messages = 9, .size_min = 6000, .size_max = 15000, .rcpts_max = 1,
      .deliverers = 3, .kill = true, .phases = 2 },
};
// clang-format on
#define WORKLOADS (sizeof workloads / sizeof *workloads)

/* ---- a run ---- */

/* What fails: one operation (-1: none), or it and all after it for some seconds. */
struct fault {
    int64_t at;
    int     error;
    bool    stays;
};

struct run {
    const struct workload *workload;
    struct queue          *queue;
    struct ledger          ledger;
    struct task_group      group;
    unsigned               busy;                     /* putters and operators at work */
    bool                   killed;
    const struct fault    *fault;
    uint64_t               names_lost_from;          /* see old_names_may_be_back; 0: never */
    uint64_t               cut_from;                 /* the ledger says nothing about cuts before */
    struct sim_history    *history;
    const char            *broken;                   /* a promise that the run itself saw broken */
};

static struct {
    uint64_t    seed, points_wanted, points, failures, runs, compared;
    const char *only;
    bool        verbose;
    uint64_t    fault_every;
    /* Where we are, for the message of a failure. */
    const char *workload;
    uint64_t    round;
    unsigned    phase;
    char        fault[64];
} test;

static struct queue_options options_of(const struct workload *w)
{
    return (struct queue_options){
        .dir = DATA_DIR,
        .segment_size = w->segment_size ? w->segment_size : SEGMENT_SIZE_MIN,
        .body_inline_max = w->inline_max ? w->inline_max : 16 * 1024,
        .message_size_max = 1 << 20,
        .free_floor = w->free_floor,
    };
}

static bool chance(unsigned percent)
{
    return sim_random_below(100) < percent;
}

static void broken(struct run *run, const char *what)
{
    if (run->broken == NULL)
        run->broken = what;
}

/* Message contents: a few random bytes, repeated with a counter. */
static int fill_body(struct body *body, uint64_t size, uint32_t *crc)
{
    uint64_t words[64];
    *crc = 0;
    for (uint64_t at = 0; at < size;) {
        for (unsigned i = 0; i < 64; i++)
            words[i] = (at + i) * 0x9e3779b97f4a7c15 ^ (i < 4 ? sim_random() : at);
        size_t n = size - at < sizeof words ? size - at : sizeof words;
        int r = body_append(body, (struct str){ (char *)words, n });
        if (r < 0)
            return r;
        *crc = codec_crc32c(*crc, words, n);
        at += n;
    }
    return 0;
}

static int put_message(struct run *run, uint64_t size, unsigned rcpts)
{
    struct ledger *l = &run->ledger;
    struct recipient list[RCPTS_MAX] = { 0 };
    char local[16];
    uint64_t id = queue_new_id(run->queue);
    struct message *m = ledger_add(l);
    unsigned at = m->number;
    m->id = id, m->size = size, m->rcpts = rcpts;
    snprintf(local, sizeof local, "m%u", at);
    for (unsigned i = 0; i < rcpts; i++)
        list[i] = (struct recipient){ .addr = { .local = STR("bob"), .domain = STR("b.example") } };
    struct envelope env = { .id = id, .arrived_ns = clock_wall_ns(), .rcpts = list, .rcpt_count = rcpts };
    env.sender = (struct address){ .local = str_of(local), .domain = STR("a.example") };
    struct body *body = body_new(run->queue, id);
    uint32_t crc = 0;
    uint64_t asked = l->moment++;
    int r = fill_body(body, size, &crc);
    l->messages[at].crc = crc;                       /* the array may have moved meanwhile */
    l->messages[at].put.begin = sim_disk_ops();
    if (r == 0) {
        asked = l->moment++;
        r = queue_put(run->queue, &env, body);
    }
    m = &l->messages[at];
    if (r == 0) {
        m->put.ack = sim_disk_ops();
        ledger_acked(l, asked, sim_disk_ops());
    } else {
        m->failed = l->moment++;
    }
    body_free(body);
    return r;
}

static void putter(void *arg)
{
    struct run *run = arg;
    const struct workload *w = run->workload;

    for (unsigned i = 0; i < w->messages && !task_canceled(); i++) {
        uint64_t size = w->size_min + sim_random_below(w->size_max - w->size_min + 1);
        int r = put_message(run, size, 1 + (unsigned)sim_random_below(w->rcpts_max));
        if (r < 0 && task_sleep((int64_t)sim_random_below(NS_PER_S)) < 0)
            break;
        if (chance(30) && task_sleep((int64_t)sim_random_below(NS_PER_MS)) < 0)
            break;
    }
    run->busy--;
}

/* What one attempt gives. Bounces put a notice first, as the real ones do. */
static int settle(struct run *run, struct claim *c)
{
    const struct workload *w = run->workload;
    struct ledger *l = &run->ledger;
    struct outcome outcomes[RCPTS_MAX];
    size_t count = 0;
    struct message *m = ledger_find(l, c->id);
    unsigned at = m->number;

    for (uint32_t i = 0; i < c->env.rcpt_count; i++) {
        if (c->states[i] != RCPT_PENDING)
            continue;
        enum rcpt_state state = chance(w->defer) ? RCPT_PENDING : chance(w->bounce) ? RCPT_BOUNCED : RCPT_DELIVERED;
        if (l->messages[at].attempts.count > 12)
            state = RCPT_FAILED;
        if (state == RCPT_BOUNCED && put_message(run, 300, 1) < 0)
            state = RCPT_PENDING;
        outcomes[count++] = (struct outcome){ .rcpt = i, .state = state, .status = STR("4.2.1"), .text = STR("as they said") };
    }
    m = &l->messages[at];
    for (size_t i = 0; i < count; i++)
        if (outcomes[i].state != RCPT_PENDING)
            m->end[outcomes[i].rcpt] = (struct fact){ sim_disk_ops(), NEVER, (int)outcomes[i].state };
    unsigned attempt = facts_begin(&m->attempts, sim_disk_ops(), 0);
    uint64_t asked = l->moment++;
    int r = queue_settle(c, outcomes, count, clock_wall_ns() + (int64_t)sim_random_below(2 * NS_PER_S));
    if (r < 0)
        return r;
    m = &l->messages[at];
    for (size_t i = 0; i < count; i++)
        if (outcomes[i].state != RCPT_PENDING)
            m->end[outcomes[i].rcpt].ack = sim_disk_ops();
    m->attempts.list[attempt].ack = sim_disk_ops();
    ledger_acked(l, asked, sim_disk_ops());
    return 0;
}

static void check_claim(struct run *run, struct claim *c)
{
    char chunk[3000];
    size_t got;
    uint32_t crc = 0;
    struct message *m = ledger_find(&run->ledger, c->id);

    if (m == NULL) {
        broken(run, "a claim of a message that nobody put");
        return;
    }
    if (m->failed != NEVER)
        broken(run, "a claim of a message that was refused");
    for (unsigned i = 0; i < m->rcpts; i++)
        if (m->end[i].ack != NEVER && c->states[i] != (enum rcpt_state)m->end[i].value)
            broken(run, "a recipient that was settled is pending in a claim");
    for (uint64_t at = 0; at < c->body_size; at += got) {
        if (queue_read_body(c, at, chunk, sizeof chunk, &got) < 0) {
            broken(run, "a body cannot be read");
            return;
        }
        crc = codec_crc32c(crc, chunk, got);
    }
    m = ledger_find(&run->ledger, c->id);
    if (m->size != c->body_size || m->crc != crc)
        broken(run, "a body differs");
}

static void deliverer(void *arg)
{
    struct run *run = arg;
    int64_t give_up = task_deadline_in(40 * NS_PER_S);

    while (!task_canceled() && clock_mono_ns() < give_up) {
        struct claim *c;
        if (run->queue == NULL)
            return;
        int r = queue_claim(run->queue, task_deadline_in(2500 * NS_PER_MS), &c);
        if (r == -ETIMEDOUT && run->busy == 0)
            return;
        if (r == -ETIMEDOUT)
            continue;
        if (r < 0)
            return;
        check_claim(run, c);
        if (task_sleep((int64_t)sim_random_below(2 * NS_PER_MS)) < 0)
            queue_unclaim(c);
        else
            (void)settle(run, c);
    }
}

/* One task at a time waits in queue_claim: this one hands claims to those that settle them. */
struct delivery {
    struct run   *run;
    struct claim *claim;
};

static void deliver_one(void *arg)
{
    struct delivery d = *(struct delivery *)arg;
    free(arg);
    check_claim(d.run, d.claim);
    if (task_sleep((int64_t)sim_random_below(3 * NS_PER_MS)) < 0)
        queue_unclaim(d.claim);
    else
        (void)settle(d.run, d.claim);
}

static void dispatcher(void *arg)
{
    struct run *run = arg;
    int64_t give_up = task_deadline_in(40 * NS_PER_S);

    while (!task_canceled() && clock_mono_ns() < give_up) {
        struct claim *c;
        int r = queue_claim(run->queue, task_deadline_in(2500 * NS_PER_MS), &c);
        if (r == -ETIMEDOUT && run->busy > 0)
            continue;
        if (r < 0)
            return;
        struct delivery *d = malloc(sizeof *d);
        *d = (struct delivery){ run, c };
        bool enough = run->group.count > 2 + run->workload->putters + run->workload->deliverers;
        if (enough || task_group_start(&run->group, "deliver", deliver_one, d) < 0)
            deliver_one(d);
    }
}

/* Another way for its first recipient. */
static int reroute(struct run *run, struct message *m)
{
    struct ledger *l = &run->ledger;
    unsigned at = m->number;
    char hop[16];
    struct claim *c;

    if (m->way.count + 2 > EVENTS_MAX)
        return 0;
    int way = (int)m->way.count + 1 + (int)sim_random_below(1000) * EVENTS_MAX, r = queue_claim_one(run->queue, m->id, &c);
    if (r < 0)
        return r;
    snprintf(hop, sizeof hop, "hop-%d", way);
    c->env.rcpts[0].next_hop = str_of(hop);
    m = &l->messages[at];
    uint64_t asked = l->moment++;
    unsigned fact = facts_begin(&m->way, sim_disk_ops(), way);
    r = queue_reroute(c, &c->env, c->states);        /* one that failed may be there all the same until it is abandoned */
    m = &l->messages[at];
    if (r == 0) {
        m->way.list[fact].ack = sim_disk_ops();
        ledger_acked(l, asked, sim_disk_ops());
    }
    return r;
}

static int operate_on(struct run *run, struct message *m)
{
    struct ledger *l = &run->ledger;
    unsigned at = m->number, fact = 0;
    uint64_t id = m->id, asked = l->moment++;
    unsigned what = chance(run->workload->discards) ? 3 : (unsigned)sim_random_below(3);
    int r = 0;

    if (run->workload->reroutes > 0 && what < 3 && chance(run->workload->reroutes))
        return reroute(run, m);
    if (m->held.count + 2 > EVENTS_MAX)
        return 0;
    switch (what) {
    case 0:
    case 1:
        fact = facts_begin(&m->held, sim_disk_ops(), what == 0);
        r = what == 0 ? queue_hold(run->queue, id) : queue_release(run->queue, id);
        m = &l->messages[at];
        if (r == 0)
            m->held.list[fact].ack = sim_disk_ops();
        else if (r != -ECANCELED)
            m->held.list[fact].begin = NEVER;        /* refused */
        break;
    case 2:
        r = queue_retry(run->queue, id);
        break;
    case 3: {
        struct message before = *m;
        for (unsigned i = 0; i < m->rcpts; i++)
            if (m->end[i].ack == NEVER)
                m->end[i] = (struct fact){ sim_disk_ops(), NEVER, RCPT_DISCARDED };
        r = queue_discard(run->queue, id);
        m = &l->messages[at];
        if (r == 0)
            for (unsigned i = 0; i < m->rcpts; i++)
                if (m->end[i].ack == NEVER)
                    m->end[i].ack = sim_disk_ops();
        if (r < 0 && r != -ECANCELED)
            memcpy(m->end, before.end, sizeof m->end);   /* refused; a delivery that goes on says its own */
        break;
    }
    }
    if (r == 0 && what >= 2)                         /* a hold of what is held already writes nothing */
        ledger_acked(l, asked, sim_disk_ops());
    return r;
}

/* Only what is not being delivered: the ledger knows one question about a recipient at a time. */
static struct message *choose(struct run *run)
{
    struct queue_item item;
    struct ledger *l = &run->ledger;

    if (l->count == 0)
        return NULL;
    struct message *m = &l->messages[sim_random_below(l->count)];
    if (m->put.ack == NEVER || queue_list(run->queue, m->id - 1, &item, 1) != 1 || item.id != m->id)
        return NULL;
    return item.state == MESSAGE_CLAIMED ? NULL : m;
}

static void operator_task(void *arg)
{
    struct run *run = arg;

    for (unsigned i = 0; i < run->workload->operations && !task_canceled(); i++) {
        struct message *m = choose(run);
        if (m != NULL)
            (void)operate_on(run, m);
        if (task_sleep((int64_t)sim_random_below(3 * NS_PER_MS)) < 0)
            break;
    }
    run->busy--;
}

/* Somebody else's file takes all the space, and goes. */
static void crowd(void *arg)
{
    struct run *run = arg;
    static const char block[64 * 1024] = { 1 };
    int dir = file_open_dir(DATA_DIR), file = file_open_at(dir, "crowd", FILE_READ | FILE_WRITE | FILE_CREATE);

    (void)task_sleep(NS_PER_MS);
    for (uint64_t at = 0; file >= 0 && file_write_at(file, block, sizeof block, at) == 0; at += sizeof block)
        continue;
    (void)task_sleep(2 * NS_PER_S);
    (void)file_close(file);
    (void)file_unlink_at(dir, "crowd");
    (void)file_close(dir);
    run->busy--;
}

/* On a full disk, a segment that fails takes the room that was kept for settles: then nothing moves until somebody gives room back. */
static void ballast(void)
{
    static const char block[BALLAST] = { 1 };
    int dir = file_open_dir("/"), file = file_open_at(dir, "ballast", FILE_READ | FILE_WRITE | FILE_CREATE);

    if (file >= 0)
        (void)file_write_at(file, block, sizeof block, 0);
    (void)file_close(file);
    (void)file_close(dir);
}

static void rescuer(void *arg)
{
    (void)arg;
    (void)task_sleep(60 * NS_PER_S);
    int dir = file_open_dir("/");
    (void)file_unlink_at(dir, "ballast");
    (void)file_close(dir);
}

static void start_tasks(struct run *run)
{
    const struct workload *w = run->workload;

    task_group_init(&run->group);
    run->busy = w->putters + (w->operations > 0) + w->crowded;
    for (unsigned i = 0; i < w->putters; i++)
        (void)task_group_start(&run->group, "put", putter, run);
    if (w->operations > 0)
        (void)task_group_start(&run->group, "operate", operator_task, run);
    if (w->crowded)
        (void)task_group_start(&run->group, "crowd", crowd, run);
    if (w->deliverers == 1)
        (void)task_group_start(&run->group, "deliver", deliverer, run);
    if (w->deliverers > 1)
        (void)task_group_start(&run->group, "dispatch", dispatcher, run);
}

static int open_again(struct run *run, struct queue_recovery *recovery)
{
    struct queue_options options = options_of(run->workload);
    char error[256];
    int r = queue_open(&options, &run->queue, recovery, error);

    if (r < 0 && test.verbose)
        fprintf(stderr, "queue_open: %s\n", error);
    return r;
}

/* The process is gone: nothing more is written, nothing is closed in order. Its jobs must be over. */
static void queue_kill(struct queue *q)
{
    q->options.read_only = true;                     /* so that closing writes nothing */
    queue_close(q);
}

/* A directory's sync failed, and the process has ended. The simulated disk has forgotten those names for ever, even if a later sync says
 * that all is well, and the page cache, which is all that a new process sees, still has them. Real file systems stop after such an error. Then
 * nothing may be lost, but an old segment may come back under its name, with what was over, or half used again. */
static bool old_names_may_be_back(const struct fault *f)
{
    if (f == NULL || f->at < 0)
        return false;
    for (uint64_t at = (uint64_t)f->at; at < sim_disk_ops(); at++) {
        if (sim_disk_op(at) == SIM_OP_SYNC)
            return true;
        if (!f->stays)
            return false;
    }
    return false;
}

/* Before the start of another process. */
static void note_lost_names(struct run *run, unsigned processes)
{
    if (processes > 0 && run->names_lost_from == 0 && old_names_may_be_back(run->fault))
        run->names_lost_from = sim_disk_ops();
}

/* A disk that saves no data any more (names it does: a file system whose names fail stops altogether), an end by force in the middle of it,
 * and a new process that finds what the page cache has. */
static void killer(void *arg)
{
    struct run *run = arg;

    (void)task_sleep((int64_t)sim_random_below(4 * NS_PER_MS));
    sim_disk_fail_kind(SIM_OP_DATASYNC, EIO);
    (void)task_sleep((int64_t)sim_random_below(20 * NS_PER_MS));
    run->killed = true;
    task_group_cancel(&run->group);
}

/* Service resumes by itself when the disk does. */
static void healer(void *arg)
{
    (void)arg;
    (void)task_sleep(4 * NS_PER_S);
    sim_disk_heal();
}

static int way_of(const struct recipient *rcpt)
{
    char hop[16] = "";

    if (rcpt->next_hop.n > 0 && rcpt->next_hop.n < sizeof hop)
        memcpy(hop, rcpt->next_hop.p, rcpt->next_hop.n);
    return hop[0] != '\0' ? atoi(hop + 4) : 0;
}

static int way_of_entry(const struct entry *e)
{
    CLEANUP_FREE void *memory = malloc(entry_record_size(e));
    struct arena arena;
    struct record record;
    struct envelope env;
    int way = 0;

    arena_init(&arena, 1 << 20);
    if (load_bytes(e->segment, (uint64_t)e->place * RECORD_ALIGN, e->length, memory) == 0 &&
        load_parse(e, e->length, e->segment->salt, memory, &record) == 0 && envelope_parse(&arena, record.envelope, &env) == ENVELOPE_OK)
        way = way_of(&env.rcpts[0]);
    arena_reset(&arena);
    return way;
}

static void resolve(struct run *run, uint64_t now)
{
    struct queue *q = run->queue;
    struct ledger *l = &run->ledger;
    struct entry *e;

    for (unsigned i = 0; i < l->count; i++)
        l->messages[i].seen = false;
    for (uint64_t after = 0; index_after(&q->index, after, &e, 1) == 1; after = e->id) {
        struct message *m = ledger_find(l, e->id);
        if (m == NULL)
            continue;
        m->seen = true;
        m->failed = NEVER;
        m->way_seen = way_of_entry(e);
        message_resolve(m, now, e->states, e->attempts, e->life == LIFE_HELD);
    }
    for (unsigned i = 0; i < l->count; i++)
        if (!l->messages[i].seen)
            message_resolve_absent(&l->messages[i], now);
}

static void work(void *arg)
{
    struct run *run = arg;
    struct queue_recovery recovery;

    if (run->fault != NULL && run->fault->stays)
        (void)task_start("heal", healer, NULL);
    if (run->workload->disk_bytes > 0) {
        ballast();
        (void)task_start("rescue", rescuer, NULL);
    }
    for (unsigned i = 0; i <= run->workload->reopen + run->workload->kill; i++) {
        note_lost_names(run, i);
        int r = open_again(run, &recovery);
        if (r < 0) {
            note_lost_names(run, i);
            sim_disk_heal();
            r = open_again(run, &recovery);
        }
        if (r < 0) {
            broken(run, "the queue does not open");
            return;
        }
        resolve(run, sim_disk_ops());
        start_tasks(run);
        if (run->workload->kill && i == 0)
            (void)task_start("kill", killer, run);
        (void)task_group_wait(&run->group, TASK_FOREVER);
        if (run->killed && i == 0) {
            queue_kill(run->queue);
            sim_disk_heal();
            run->cut_from = sim_disk_ops();          /* from here on, a cut meets what two processes did */
            ledger_rebase(&run->ledger, run->cut_from);
        } else {
            queue_close(run->queue);
        }
        run->queue = NULL;
    }
}

/* ---- checking one image ---- */

struct check {
    const struct run *run;
    struct ledger    *ledger;
    uint64_t          at;
    bool              damaged;                       /* a bit was turned: less may be there, but it must have been said */
    bool              go_on;                         /* use the queue a little, too */
    char              why[256];
};

__attribute__((format(printf, 2, 3))) static void wrong(struct check *c, const char *format, ...)
{
    va_list args;

    if (c->why[0] != '\0')
        return;
    va_start(args, format);
    vsnprintf(c->why, sizeof c->why, format, args);
    va_end(args);
}

static uint32_t crc_of_file(struct queue *q, uint64_t id, uint64_t *size)
{
    char name[SEGMENT_NAME_SIZE], chunk[16 * 1024];
    uint32_t crc = 0;
    size_t got = 0;

    body_name(name, id);
    CLEANUP_FILE int file = file_open_at(q->journal.bodies.file, name, FILE_READ);
    *size = 0;
    while (file >= 0 && file_read_at(file, chunk, sizeof chunk, *size, &got) == 0 && got > 0) {
        crc = codec_crc32c(crc, chunk, got);
        *size += got;
    }
    return crc;
}

static bool names_lost(const struct check *c)
{
    return c->run->names_lost_from != 0 && c->at >= c->run->names_lost_from;
}

static void check_way(struct check *c, const struct recipient *rcpt, struct message *m)
{
    m->way_seen = way_of(rcpt);
    if (!names_lost(c) && !way_fits(m, c->at, m->way_seen))
        wrong(c, "message %u: it goes over hop %d", m->number, m->way_seen);
}

static void check_content(struct check *c, struct queue *q, const struct entry *e, struct message *m)
{
    CLEANUP_FREE void *memory = malloc(entry_record_size(e));
    struct arena arena;
    struct record record;
    struct envelope env;
    char local[16];

    if (load_bytes(e->segment, (uint64_t)e->place * RECORD_ALIGN, e->length, memory) < 0 ||
        load_parse(e, e->length, e->segment->salt, memory, &record) < 0) {
        wrong(c, "message %u: its record cannot be read", m->number);
        return;
    }
    arena_init(&arena, 1 << 20);
    snprintf(local, sizeof local, "m%u", m->number);
    bool parsed = envelope_parse(&arena, record.envelope, &env) == ENVELOPE_OK;
    if (!parsed || !str_eq(env.sender.local, str_of(local)) || env.rcpt_count != m->rcpts)
        wrong(c, "message %u: its envelope differs", m->number);
    else
        check_way(c, &env.rcpts[0], m);
    uint64_t size = record.body.n;
    uint32_t crc = record.body_in_file ? crc_of_file(q, e->id, &size) : codec_crc32c(0, record.body.p, record.body.n);
    if (size != m->size || crc != m->crc)
        wrong(c, "message %u: its body differs (%llu bytes)", m->number, (unsigned long long)size);
    arena_reset(&arena);
}

static void check_state(struct check *c, const struct entry *e, const struct message *m)
{
    if (message_at(m, c->at) == MUST_NOT)
        wrong(c, "message %u is there: %s", m->number,
              m->absent_from <= c->at ? "its sync had failed, and that was durable" : "it is over, or not put yet");
    for (unsigned i = 0; i < m->rcpts; i++) {
        enum expected end = fact_at(&m->end[i], c->at);
        if (e->states[i] == RCPT_PENDING ? end == MUST : end == MUST_NOT || e->states[i] != m->end[i].value)
            wrong(c, "message %u: recipient %u is in state %u", m->number, i, e->states[i]);
    }
    if (!attempts_fit(m, c->at, e->attempts))
        wrong(c, "message %u: %u attempts", m->number, e->attempts);
    if (!held_fits(m, c->at, e->life == LIFE_HELD))
        wrong(c, "message %u: held is %d", m->number, e->life == LIFE_HELD);
}

/* What an old segment says that is back was true once, and no message that was never put is in it. */
static void check_past(struct check *c, const struct entry *e, const struct message *m)
{
    unsigned begun = 0;
    bool held_once = e->life != LIFE_HELD;

    if (fact_at(&m->put, c->at) == MUST_NOT)
        wrong(c, "message %u is there: it is not put yet", m->number);
    for (unsigned i = 0; i < m->rcpts; i++)
        if (e->states[i] != RCPT_PENDING && (fact_at(&m->end[i], c->at) == MUST_NOT || e->states[i] != m->end[i].value))
            wrong(c, "message %u: recipient %u was never in state %u", m->number, i, e->states[i]);
    for (unsigned i = 0; i < m->attempts.count; i++)
        begun += fact_at(&m->attempts.list[i], c->at) != MUST_NOT;
    if (e->attempts > begun)
        wrong(c, "message %u: %u attempts of %u", m->number, e->attempts, begun);
    for (unsigned i = 0; i < m->held.count; i++)
        held_once |= m->held.list[i].value && fact_at(&m->held.list[i], c->at) != MUST_NOT;
    if (!held_once)
        wrong(c, "message %u was never held", m->number);
}

static void check_entry(struct check *c, struct queue *q, const struct entry *e)
{
    struct message *m = ledger_find(c->ledger, e->id);

    if (m == NULL) {
        wrong(c, "a message that nobody put");
        return;
    }
    m->seen = true;
    if (names_lost(c))
        check_past(c, e, m);
    else
        check_state(c, e, m);
    check_content(c, q, e, m);
}

static void check_all(struct check *c, struct queue *q, const struct queue_recovery *recovery)
{
    struct entry *e;

    for (unsigned i = 0; i < c->ledger->count; i++)
        c->ledger->messages[i].seen = false;
    for (uint64_t after = 0; index_after(&q->index, after, &e, 1) == 1; after = e->id)
        check_entry(c, q, e);
    for (unsigned i = 0; i < c->ledger->count; i++) {
        const struct message *m = &c->ledger->messages[i];
        bool lost = !m->seen && message_at(m, c->at) == MUST;
        if (lost && !(c->damaged && recovery->bad_records + recovery->torn_tails > 0))
            wrong(c, "message %u is lost", m->number);
    }
    if (recovery->bad_records > 0 && !c->damaged && !names_lost(c))
        wrong(c, "%llu bad records without any damage", (unsigned long long)recovery->bad_records);
}

/* It is a queue that works: one more goes in, and comes out if it is its turn. */
static void use_queue(struct check *c, struct queue *q)
{
    struct recipient rcpt = { .addr = { .local = STR("bob"), .domain = STR("b.example") } };
    struct envelope env = { .null_sender = true, .rcpts = &rcpt, .rcpt_count = 1 };
    uint64_t id = queue_new_id(q);
    struct body *body = body_new(q, id);
    size_t before = queue_count(q);
    struct claim *claim;

    if (ledger_find(c->ledger, id) != NULL)
        wrong(c, "an id is given out twice");
    int r = body_append(body, STR("one more"));
    if (r == 0)
        r = queue_put(q, &env, body);
    body_free(body);
    if (r < 0) {
        if (r != -ENOSPC || c->run->workload->disk_bytes == 0)
            wrong(c, "after recovery, a put says %s", strerror(-r));
        return;
    }
    if (queue_count(q) != before + 1)
        wrong(c, "after recovery, the count is wrong");
    if (queue_claim(q, task_deadline_in(NS_PER_S), &claim) < 0)
        wrong(c, "after recovery, nothing is due");
    else
        (void)queue_settle(claim, &(struct outcome){ .state = RCPT_DELIVERED }, claim->env.rcpt_count == 1 && claim->states[0] == RCPT_PENDING, 0);
}

/* ---- what sidecars say is what a scan says ---- */

static bool same_place(const struct segment *a, const struct segment *b)
{
    return a == NULL || b == NULL ? a == b : a->generation == b->generation && a->number == b->number;
}

static bool same_entry(const struct entry *a, const struct entry *b)
{
    return a->id == b->id && a->due_mono_ns == b->due_mono_ns && a->arrived_wall_ns == b->arrived_wall_ns && a->body_size == b->body_size &&
           same_place(a->segment, b->segment) && same_place(a->last_segment, b->last_segment) && a->place == b->place && a->length == b->length &&
           (a->last_segment == NULL || a->last_place == b->last_place) && a->attempts == b->attempts && a->rcpts == b->rcpts &&
           a->pending == b->pending && a->life == b->life && a->body_in_file == b->body_in_file && a->body_seen == b->body_seen &&
           a->node.key == b->node.key && memcmp(a->states, b->states, a->rcpts) == 0;
}

static void same_segments(struct check *c, const struct queue *a, const struct queue *b)
{
    const struct segment *s = a->journal.oldest, *t = b->journal.oldest;

    for (; s != NULL && t != NULL; s = s->newer, t = t->newer)
        if (!same_place(s, t) || s->end != t->end || s->live != t->live || s->live_bytes != t->live_bytes)
            wrong(c, "with sidecars, %s is another than in a scan", s->name);
    if (s != t)
        wrong(c, "with sidecars, the segments are others than in a scan");
}

/* A scan may doubt more: it does not know that the end of the last segment had been synced. */
static bool doubts_fit(const struct queue *a, const struct queue *scanned)
{
    for (size_t i = 0; i < a->doubt_count; i++) {
        size_t k = 0;
        while (k < scanned->doubt_count && scanned->doubts[k] != a->doubts[i])
            k++;
        if (k == scanned->doubt_count)
            return false;
    }
    return true;
}

static void same_queues(struct check *c, const struct queue *a, const struct queue *b)
{
    struct entry *e, *f;
    uint64_t after = 0;

    if (a->index.count != b->index.count || a->live_bytes != b->live_bytes || a->journal.next_sequence != b->journal.next_sequence ||
        a->journal.generation != b->journal.generation || a->last_id != b->last_id || !doubts_fit(a, b))
        wrong(c, "with sidecars, the queue is another than after a scan");
    for (; index_after(&a->index, after, &e, 1) == 1 && index_after(&b->index, after, &f, 1) == 1; after = e->id)
        if (!same_entry(e, f))
            wrong(c, "with sidecars, message %llx is another than after a scan", (unsigned long long)e->id);
    same_segments(c, a, b);
}

static void compare_with_scan(struct check *c)
{
    struct queue_options options = options_of(c->run->workload);
    struct queue_recovery found, scanned;
    struct queue *a, *b;
    char error[256];

    options.read_only = true;
    if (queue_open(&options, &a, &found, error) < 0)
        return;                                      /* whoever opens it for good says so */
    options.scan_all = true;
    if (found.sidecars > 0 && queue_open(&options, &b, &scanned, error) == 0) {
        same_queues(c, a, b);
        if (found.records != scanned.records || found.messages != scanned.messages || found.bad_records != scanned.bad_records ||
            found.torn_tails != scanned.torn_tails || found.abandoned != scanned.abandoned)
            wrong(c, "with sidecars, recovery finds other things than a scan");
        test.compared++;
        queue_close(b);
    }
    queue_close(a);
}

static void check_task(void *arg)
{
    struct check *c = arg;
    struct queue_options options = options_of(c->run->workload);
    struct queue_recovery recovery;
    struct queue *q;
    char error[256];

    if (!c->damaged)
        compare_with_scan(c);
    int r = queue_open(&options, &q, &recovery, error);
    if (r < 0) {
        if (!c->damaged)
            wrong(c, "it does not open: %s", error);
        return;
    }
    check_all(c, q, &recovery);
    if (c->go_on && !c->damaged)
        use_queue(c, q);
    queue_close(q);
}

/* ---- points ---- */

static struct {
    uint64_t *hashes;
    size_t    used, capacity;
} seen_points;

static bool point_is_new(uint64_t hash)
{
    if (hash == 0)
        hash = 1;
    if (seen_points.used * 2 >= seen_points.capacity) {
        size_t capacity = seen_points.capacity ? 2 * seen_points.capacity : 1 << 16;
        uint64_t *old = seen_points.hashes;
        seen_points.hashes = calloc(capacity, sizeof *old);
        for (size_t i = 0; i < seen_points.capacity; i++) {
            size_t at = old[i] & (capacity - 1);
            while (old[i] != 0 && seen_points.hashes[at] != 0)
                at = (at + 1) & (capacity - 1);
            if (old[i] != 0)
                seen_points.hashes[at] = old[i];
        }
        free(old);
        seen_points.capacity = capacity;
    }
    size_t at = hash & (seen_points.capacity - 1);
    for (; seen_points.hashes[at] != 0; at = (at + 1) & (seen_points.capacity - 1))
        if (seen_points.hashes[at] == hash)
            return false;
    seen_points.hashes[at] = hash;
    seen_points.used++;
    return true;
}

static uint64_t mix(uint64_t a, uint64_t b)
{
    uint64_t x = (a + 0x9e3779b97f4a7c15) ^ (b * 0xbf58476d1ce4e5b9 + 0x94d049bb133111eb);
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
    x = (x ^ x >> 27) * 0x94d049bb133111eb;
    return x ^ x >> 31;
}

static uint64_t hash_of(const char *z)
{
    uint64_t h = 0;
    for (; *z != '\0'; z++)
        h = mix(h, (unsigned char)*z);
    return h;
}

static void report(const char *why, uint64_t at, uint64_t survivors)
{
    test.failures++;
    printf("FAILED: %s\n  journal_crash --seed %llu --workload %s (round %llu, phase %u%s) at operation %llu, survivors %llu\n", why, (unsigned long long)test.seed,
           test.workload, (unsigned long long)test.round, test.phase, test.fault, (unsigned long long)at, (unsigned long long)survivors);
    fflush(stdout);
    if (test.failures >= 20) {
        printf("sim journal: %llu points, %llu failures\n", (unsigned long long)test.points, (unsigned long long)test.failures);
        exit(1);
    }
}

static void show_record(void *arg, const struct verify_record *r)
{
    (void)arg;
    printf("    %s %6llu #%llu batch %u.%u %s", r->segment, (unsigned long long)r->offset, (unsigned long long)r->head->sequence, r->head->batch, r->head->index,
           record_type_name(r->head->type));
    if (r->record != NULL)
        printf(" id %llx attempts %u%s region %u-%u from %llu", (unsigned long long)r->record->id, r->record->attempts, r->record->ended ? " ended" : "",
               r->record->region.generation, r->record->region.segment, (unsigned long long)r->record->region.from);
    printf("\n");
}

/* The live disk is the image afterwards, with what the check did to it. */
static void show_history(struct sim_history *history, uint64_t at)
{
    static const char *const names[] = { "write", "datasync", "sync", "allocate", "truncate", "rename", "link", "unlink", "create", "mkdir" };

    for (uint64_t i = at > 30 ? at - 30 : 0; i < at; i++)
        printf(" %llu:%s", (unsigned long long)i, names[sim_history_op(history, i)]);
    printf("\n");
}

static void check_image(const struct run *run, const struct sim_disk *image, uint64_t at, uint64_t survivors)
{
    struct check c = { .run = run, .ledger = (struct ledger *)&run->ledger, .at = at, .go_on = survivors % 8 == 3 };

    sim_disk_mount(image);
    int r = sim_run(check_task, &c);
    if (r < 0)
        wrong(&c, "the check ends with %s", strerror(-r));
    test.points++;
    if (c.why[0] != '\0') {
        report(c.why, at, survivors);
        sim_disk_mount(image);
        if (test.verbose)
            show_history(run->history, at);
        if (test.verbose)
            (void)verify_records(DATA_DIR, show_record, NULL, &(struct verify_report){ 0 });
    }
}

/* Every operation of the history, each with as many distinct surviving sets as `sets` tries find. */
static void cut(const struct run *run, struct sim_history *history, uint64_t from, uint64_t sets, uint64_t salt)
{
    for (uint64_t at = from; at <= sim_history_ops(history); at++) {
        for (uint64_t i = 0; i < sets; i++) {
            uint64_t survivors, seed = i < 2 ? i : mix(mix(salt, at), i);
            struct sim_disk *image = sim_history_crash(history, at, seed, &survivors);
            if (point_is_new(mix(mix(salt, at), survivors)))
                check_image(run, image, at, seed);
            sim_disk_free(image);
        }
    }
}

/* One bit is turned on a disk that was at rest. */
static void damage(const struct run *run, const struct sim_disk *image, uint64_t at, uint64_t seed)
{
    struct check c = { .run = run, .ledger = (struct ledger *)&run->ledger, .at = at, .damaged = true };

    sim_disk_mount(image);
    sim_disk_flip(seed);
    (void)sim_run(check_task, &c);
    if (c.why[0] != '\0' && strstr(c.why, "is lost") != NULL)
        report(c.why, at, seed);
}

/* ---- rounds ---- */

static void begin_world(const struct workload *w, uint64_t seed)
{
    uint64_t disk = w->disk_bytes == 0 ? 0 : w->disk_bytes + BALLAST;
    sim_begin(&(struct sim_options){ .seed = seed, .sync_ns = 150 * NS_PER_US, .disk_bytes = disk });
}

static void run_work(struct run *run)
{
    test.runs++;
    int r = sim_run(work, run);
    if (r < 0)
        broken(run, "the run ends with every task waiting");
    if (run->broken != NULL)
        report(run->broken, sim_disk_ops(), 0);
}

/* Another run on an image of the one before. */
static void phases(struct run *run, struct sim_history *history, uint64_t sets, uint64_t salt, unsigned left)
{
    if (left == 0)
        return;
    struct run next = { .workload = run->workload };
    uint64_t at = run->cut_from + mix(salt, 77) % (sim_history_ops(history) + 1 - run->cut_from), survivors;
    struct sim_disk *image = sim_history_crash(history, at, mix(salt, 78), &survivors);

    ledger_copy(&next.ledger, &run->ledger);
    ledger_rebase(&next.ledger, at);
    next.ledger.moment = run->ledger.moment;
    test.phase++;
    sim_disk_mount(image);
    sim_disk_free(image);
    run_work(&next);
    struct sim_history *next_history = next.history = sim_disk_history();
    cut(&next, next_history, next.cut_from, sets, mix(salt, 79));
    phases(&next, next_history, sets, mix(salt, 80), left - 1);
    sim_history_free(next_history);
    ledger_free(&next.ledger);
}

/* Close behind the failure, and further away. */
static void cut_behind(const struct run *run, struct sim_history *history, uint64_t from, uint64_t salt)
{
    for (uint64_t i = 0, at = from; i < 8 && at <= sim_history_ops(history); i++, at += 1 + i / 2) {
        uint64_t survivors, seed = i % 4 == 3 ? i % 2 : mix(mix(salt, at), i);
        struct sim_disk *image = sim_history_crash(history, at, seed, &survivors);
        if (point_is_new(mix(mix(salt, at), survivors)))
            check_image(run, image, at, seed);
        sim_disk_free(image);
    }
}

static void damage_some(const struct run *run, struct sim_history *history, uint64_t salt)
{
    uint64_t survivors, ops = sim_history_ops(history);
    struct sim_disk *image = sim_history_crash(history, ops, 1, &survivors);

    for (uint64_t i = 0; i < 8; i++)
        damage(run, image, ops, mix(salt, i));
    sim_disk_free(image);
}

static uint64_t round_of(const struct workload *w, uint64_t seed, const struct fault *f)
{
    struct run run = { .workload = w, .fault = f };
    uint64_t salt = mix(mix(hash_of(w->name), seed), mix((uint64_t)f->at, (uint64_t)f->error * 2 + f->stays));

    test.phase = 0;
    test.fault[0] = '\0';
    begin_world(w, seed);
    if (f->at >= 0) {
        snprintf(test.fault, sizeof test.fault, ", %s at %lld%s", strerror(f->error), (long long)f->at, f->stays ? " and after" : "");
        sim_disk_fail((uint64_t)f->at, f->error, f->stays);
    }
    run_work(&run);
    struct sim_history *history = run.history = sim_disk_history();
    uint64_t ops = sim_history_ops(history);
    if (f->at < 0) {
        cut(&run, history, run.cut_from, SETS, salt);
        damage_some(&run, history, salt);
        phases(&run, history, SETS, salt, w->phases);
    } else {
        cut_behind(&run, history, (uint64_t)f->at > run.cut_from ? (uint64_t)f->at : run.cut_from, salt);
    }
    sim_history_free(history);
    sim_end();
    ledger_free(&run.ledger);
    return ops;
}

static bool enough(void)
{
    return test.points >= test.points_wanted;
}

static void quiet(void *arg, enum log_level level, struct str line)
{
    (void)arg;
    (void)level;
    if (test.verbose)
        fprintf(stderr, "%" STR_FMT "\n", STR_ARG(line));
}

static uint64_t number(const char *z)
{
    return strtoull(z, NULL, 10);
}

static void options_parse(int argc, char **argv)
{
    test.seed = 1;
    test.points_wanted = 20000;
    test.fault_every = 1;
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "0";
        if (strcmp(argv[i], "--verbose") == 0) {
            test.verbose = true;
            continue;
        }
        if (strcmp(argv[i], "--seed") == 0)
            test.seed = number(value);
        else if (strcmp(argv[i], "--points") == 0)
            test.points_wanted = number(value);
        else if (strcmp(argv[i], "--workload") == 0)
            test.only = value;
        else if (strcmp(argv[i], "--faults") == 0)
            test.fault_every = number(value);
        else {
            fprintf(stderr, "usage: journal_crash [--seed N] [--points N] [--workload NAME] [--faults EVERY] [--verbose]\n");
            exit(64);
        }
        i++;
    }
}

static void clean_and_faulty(const struct workload *w)
{
    uint64_t seed = mix(test.seed, test.round), before = test.points;

    test.workload = w->name;
    uint64_t ops = round_of(w, seed, &(struct fault){ .at = -1 });
    if (test.verbose)
        printf("%s: %llu operations, %llu points\n", w->name, (unsigned long long)ops, (unsigned long long)(test.points - before));
    for (uint64_t at = test.fault_every > 1 ? seed % test.fault_every : 0; at < ops && test.failures == 0 && !enough(); at += test.fault_every) {
        /* While the directories are made, once only: the simulated disk forgets a name whose sync failed for ever, even if a later sync
         * says that all is well. Real file systems stop after such an error. */
        bool stays = (at + test.round) % 2 && at >= DIRECTORY_OPS;
        (void)round_of(w, seed, &(struct fault){ (int64_t)at, EIO, stays });
        (void)round_of(w, seed, &(struct fault){ (int64_t)at, ENOSPC, !stays && at >= DIRECTORY_OPS });
    }
}

int main(int argc, char **argv)
{
    options_parse(argc, argv);
    setvbuf(stdout, NULL, _IOLBF, 0);
    log_redirect(quiet, NULL);
    for (; !enough() && test.failures == 0; test.round++)
        for (size_t i = 0; i < WORKLOADS && test.failures == 0 && !(enough() && test.round > 0); i++)
            if (test.only == NULL || strcmp(test.only, workloads[i].name) == 0)
                clean_and_faulty(&workloads[i]);
    printf("sim journal: %llu recoveries were compared with a scan\n", (unsigned long long)test.compared);
    printf("sim journal: %llu points, %llu failures\n", (unsigned long long)test.points, (unsigned long long)test.failures);
    return test.failures > 0;
}
