/*
 * The queue's public face: opening and closing, ids, and the way in. The way out is in claim.c, what operators do in
 * operate.c; the contract of it all is in queue.h. Runs in the worker.
 */
#include "queue/queue_internal.h"

#include "base/log.h"
#include "base/metrics.h"
#include "run/file.h"
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SEGMENT_SIZE_DEFAULT      (UINT64_C(64) << 20)
/* Measured with one session: a body of 65 KiB in the record is accepted in one sync of 0.4 ms; in a file of its own it needs three (the file,
 * its directory, the record). So the common large message, 64 KiB and its trace fields, goes inline. */
#define BODY_INLINE_DEFAULT       (128u * 1024)
#define BODY_MEMORY_DEFAULT       (UINT64_C(64) << 20)
#define MESSAGE_SIZE_DEFAULT      (UINT64_C(50) << 20)
#define FLOOR_CHECK_INTERVAL_NS   NS_PER_S
#define PRIORITY_OVERTAKES_NS     (60 * NS_PER_S)   /* for each step above 0: what has waited for less is overtaken */
#define PRIORITY_GIVES_WAY_NS     NS_PER_S          /* for each step below */
#define DISK_THREADS              4
#define DISK_JOBS_MAX             4096
#define ID_COUNTER_BITS           20
#define ID_SECOND                 (UINT64_C(1) << (ID_COUNTER_BITS - 1))   /* in the ids of a queue beside, and in no others */

/* ---- opening ---- */

static int say(char error[256], int r, const char *what)
{
    snprintf(error, 256, "%s: %s", what, strerror(-r));
    return r;
}

static void fill_defaults(struct queue_options *o)
{
    if (o->segment_size == 0)
        o->segment_size = SEGMENT_SIZE_DEFAULT;
    if (o->segment_size < SEGMENT_SIZE_MIN)
        o->segment_size = SEGMENT_SIZE_MIN;
    if (o->segment_size > SEGMENT_SIZE_MAX)
        o->segment_size = SEGMENT_SIZE_MAX;
    o->segment_size -= o->segment_size % SEGMENT_HEADER_SIZE;
    if (o->body_inline_max == 0)
        o->body_inline_max = BODY_INLINE_DEFAULT;
    if (o->body_inline_max > o->segment_size / 4)
        o->body_inline_max = (uint32_t)(o->segment_size / 4);
    if (o->body_memory_max == 0)
        o->body_memory_max = BODY_MEMORY_DEFAULT;
    if (o->message_size_max == 0)
        o->message_size_max = MESSAGE_SIZE_DEFAULT;
}

/* The submit and control sockets stand in it, for others; what else is in it is closed to them by itself. */
static int open_made(const char *path)
{
    int dir = file_open_dir(path);
    int r = dir < 0 ? dir : file_make_passable(dir);

    if (r == 0)
        return dir;
    (void)file_close(dir);
    return r;
}

/* The directory, made if only its parent is there; its name is durable, whoever made it. */
static int open_at_parent(const char *parent_path, const char *path, const char *name)
{
    CLEANUP_FILE int parent = file_open_dir(parent_path);
    if (parent < 0)
        return file_open_dir(path);                  /* not ours to read; who made the directory for us cared for its name */
    int made = file_mkdir_at(parent, name);
    if (made < 0 && made != -EEXIST)
        return made;
    int r = file_sync(parent);
    if (r < 0 && made == 0)
        (void)file_rename_at(parent, name, parent, "nightmail-unsynced");   /* see make_dir in journal.c */
    if (r < 0)
        return r;
    return made == 0 ? open_made(path) : file_open_dir(path);
}

static int open_dir(const char *path, bool read_only)
{
    if (read_only)
        return file_open_dir(path);
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/')
        n--;
    ssize_t slash = str_find_last((struct str){ path, n }, '/');
    CLEANUP_FREE char *parent_path = slash < 0 ? strdup(".") : strndup(path, slash == 0 ? 1 : (size_t)slash);
    CLEANUP_FREE char *name = strndup(path + slash + 1, n - (size_t)(slash + 1));
    return parent_path == NULL || name == NULL ? -ENOMEM : open_at_parent(parent_path, path, name);
}

static int check_file_system(const struct queue_options *o, int dir, char error[256])
{
    enum file_system kind;
    uint64_t free_bytes;
    int r = file_system_of(dir, &kind, &free_bytes);

    if (r < 0)
        return say(error, r, o->dir);
    if (kind == FILE_SYSTEM_LOCAL || o->unsafe_file_system || o->read_only)
        return 0;
    snprintf(error, 256, "%s is on %s: what is accepted there does not survive a power cut (unsafe_file_system)", o->dir,
             kind == FILE_SYSTEM_MEMORY ? "a file system in memory" : "a network file system");
    return -ENOTSUP;
}

static int take_lock(const struct queue_options *o, int dir, int *out_lock, char error[256])
{
    CLEANUP_FILE int lock = file_open_at(dir, "lock", FILE_READ | FILE_WRITE | FILE_CREATE);
    if (lock < 0)
        return say(error, lock, "lock");
    int r = file_lock(lock);
    if (r == -EWOULDBLOCK) {
        snprintf(error, 256, "%s is in use by another server", o->dir);
        return r;
    }
    if (r < 0)
        return say(error, r, "lock");
    *out_lock = lock;
    lock = -1;
    return 0;
}

int queue_lock_dir(const struct queue_options *options, int *out_lock, char error[256])
{
    CLEANUP_FILE int dir = open_dir(options->dir, false);
    if (dir < 0)
        return say(error, dir, options->dir);
    int r = check_file_system(options, dir, error);
    return r < 0 ? r : take_lock(options, dir, out_lock, error);
}

int queue_make_dirs(const struct queue_options *options, char error[256])
{
    CLEANUP_FILE int dir = open_dir(options->dir, false);
    int r = dir < 0 ? dir : journal_make(dir);

    if (r == 0 && (r = file_mkdir_at(dir, "drain")) == -EEXIST)
        r = 0;
    return r < 0 ? say(error, r, options->dir) : 0;
}

static int open_journal(struct queue *q, char error[256])
{
    CLEANUP_FILE int dir = open_dir(q->options.dir, q->options.read_only);
    if (dir < 0)
        return say(error, dir, q->options.dir);
    int r = check_file_system(&q->options, dir, error);
    if (r == 0 && !q->options.read_only && !q->options.locked)
        r = take_lock(&q->options, dir, &q->lock_file, error);
    if (r < 0)
        return r;
    r = journal_open(&q->journal, dir, q->options.read_only);
    if (r < 0)
        return say(error, r, q->options.dir);
    dir = -1;                                        /* the journal's */
    q->journal.segment_size = q->options.segment_size;
    q->journal.free_floor = q->options.free_floor;
    return 0;
}

static void on_sealed(void *arg)
{
    queue_maintain(arg);
}

/* Helper threads come last, so that an error before them leaves none. */
static int start_pools(struct queue *q)
{
    q->disk_pool = offload_new("disk", DISK_THREADS, DISK_JOBS_MAX);
    q->commit_pool = q->disk_pool == NULL ? NULL : offload_new("commit", 1, 4);
    if (q->commit_pool == NULL) {
        offload_free(q->disk_pool);
        return -ENOMEM;
    }
    q->commit.pool = q->commit_pool;
    q->commit.sealed = on_sealed;
    q->commit.arg = q;
    return 0;
}

static uint64_t id_of_now(void)
{
    return (uint64_t)(clock_wall_ns() / NS_PER_MS) << ID_COUNTER_BITS;
}

/* The process before us may have given out ids in this very millisecond of which no record is left. */
static void skip_ids_of_now(struct queue *q)
{
    uint64_t last = id_of_now() + (UINT64_C(1) << ID_COUNTER_BITS) - 1;

    if (q->last_id < last)
        q->last_id = last;
    /* Who had the queue before us still has some in hand; and the clock may have been set back since it took them. */
    if (q->options.beside)
        q->last_id += UINT64_C(1) << ID_COUNTER_BITS;
}

/* What recovery could not be sure of is made sure of before anything else happens; if the disk does not let us, maintenance goes on
 * trying. */
static void settle_doubts(struct queue *q)
{
    if (!q->doubtful)
        return;
    recover_settle_doubts(q);
    commit_run(&q->commit);
    recover_check_doubts(q);
}

static int start(struct queue *q, struct queue_recovery *recovery, char error[256])
{
    int r = recover_run(q, recovery, error);
    if (r < 0)
        return r;
    r = commit_init(&q->commit, &q->journal);
    if (r < 0)
        return say(error, r, "memory");
    q->commit.last_id = &q->last_id;
    skip_ids_of_now(q);
    if (!q->options.read_only)
        settle_doubts(q);
    r = transfer_recover_in(q);
    if (r < 0)
        (void)say(error, r, "transfer");
    else
        r = start_pools(q);
    if (r < 0) {
        commit_free(&q->commit);
        return say(error, r, "start");
    }
    if (!q->options.read_only && !q->options.beside)
        (void)recover_orphans(q, recovery);          /* what stays is in nobody's way; the next start tries again */
    return 0;
}

int queue_open(const struct queue_options *options, struct queue **out, struct queue_recovery *out_recovery, char error[256])
{
    struct queue_recovery recovery = { 0 };
    struct queue *q = calloc(1, sizeof *q);

    if (q == NULL)
        return say(error, -ENOMEM, "memory");
    q->options = *options;
    q->lock_file = -1;
    fill_defaults(&q->options);
    int r = open_journal(q, error);
    if (r == 0) {
        pthread_mutex_init(&q->lock, NULL);
        index_init(&q->index);
        r = start(q, &recovery, error);
        if (r < 0) {
            metric_add(METRIC_queue_messages, -(int64_t)q->index.count);
            free(q->doubts);
            index_free(&q->index);
            journal_close(&q->journal);
            pthread_mutex_destroy(&q->lock);
        }
    }
    if (r < 0) {
        (void)file_close(q->lock_file);
        free(q);
        return r;
    }
    q->options.dir = NULL;
    *out = q;
    if (out_recovery != NULL)
        *out_recovery = recovery;
    if (!q->options.read_only)
        queue_maintain(q);
    return 0;
}

/* ---- closing ---- */

void queue_wait_jobs(struct queue *q)
{
    queue_lock(q);
    q->closing = true;
    while (q->jobs > 0 || q->moves > 0 || q->putting > 0) {
        q->closer = task_self();
        queue_unlock(q);
        (void)task_park(TASK_FOREVER);
        queue_lock(q);
    }
    q->closer = NULL;
    queue_unlock(q);
}

void queue_close(struct queue *q)
{
    assert(task_self() != NULL || q->jobs == 0 || !"close the queue in a task, or when no job is under way");
    if (q->second != NULL)
        queue_close(q->second);
    if (task_self() != NULL) {
        task_shield_begin();
        queue_wait_jobs(q);
        (void)commit_wait_idle(&q->commit);
        task_shield_end();
    }
    offload_free(q->commit_pool);
    offload_free(q->disk_pool);
    q->commit.pool = NULL;
    q->commit.sealed = NULL;
    if (!q->options.read_only && q->second == NULL) {    /* else it is another process's by now */
        commit_close(&q->commit);
        compact_close(q);
    }
    assert(q->claimer == NULL && q->arriving == 0);
    metric_add(METRIC_queue_messages, -(int64_t)q->index.count);
    commit_free(&q->commit);
    free(q->doubts);
    index_free(&q->index);
    journal_close(&q->journal);
    (void)file_close(q->lock_file);
    pthread_mutex_destroy(&q->lock);
    free(q);
}

/* ---- jobs ---- */

bool queue_start_job(struct queue *q, void (*fn)(void *arg), void *arg)
{
    queue_lock(q);
    q->jobs++;
    queue_unlock(q);
    if (offload_post(q->disk_pool, fn, arg) == 0)
        return true;
    queue_job_ended(q);
    return false;
}

void queue_job_ended(struct queue *q)
{
    queue_lock(q);
    q->jobs--;
    if (q->closer != NULL)
        task_wake(q->closer);
    queue_unlock(q);
}

/* ---- ids ---- */

/* The next one from here on that is ours to give. */
static uint64_t own_id(const struct queue *q, uint64_t id)
{
    if (q->options.second)
        return id | ID_SECOND;
    return (id & ID_SECOND) == 0 ? id : (id | (ID_SECOND - 1)) + 1;
}

/* Milliseconds of wall time in the upper bits, so that an id tells when; but never back, whatever the clock does. */
uint64_t queue_new_id(struct queue *q)
{
    q = queue_in_force(q);
    uint64_t now = id_of_now(), last = q->last_id, next;

    do
        next = own_id(q, now > last ? now : last + 1);
    while (!atomic_compare_exchange_weak(&q->last_id, &last, next));
    return next;
}

/* ---- due times ---- */

/* A record may hold any number. */
static int64_t time_between(int64_t from_ns, int64_t to_ns)
{
    int64_t ns;

    if (__builtin_sub_overflow(to_ns, from_ns, &ns))
        return to_ns < from_ns ? INT64_MIN : INT64_MAX;
    return ns;
}

int64_t queue_due_mono(int64_t due_wall_ns, int64_t recorded_wall_ns)
{
    int64_t wait = time_between(clock_wall_ns(), due_wall_ns), asked = time_between(recorded_wall_ns, due_wall_ns);

    if (wait > asked)
        wait = asked;                                /* the clock was set back since */
    return wait <= 0 ? clock_mono_ns() : task_deadline_in(wait);
}

int64_t queue_due_wall(const struct entry *e)
{
    int64_t due_ns;
    bool never = __builtin_add_overflow(clock_wall_ns(), e->due_mono_ns - clock_mono_ns(), &due_ns);
    return never ? INT64_MAX : due_ns;
}

/* Who is more urgent stands before those who have waited a while longer, who is less gives way for a moment; nobody is passed by for ever
 * (RFC 6710, 5.1). */
static int64_t place_in_line(const struct entry *e)
{
    bool due = e->due_mono_ns <= clock_mono_ns();

    if (!due)
        return e->due_mono_ns;
    return e->due_mono_ns - e->priority * (e->priority > 0 ? PRIORITY_OVERTAKES_NS : PRIORITY_GIVES_WAY_NS);
}

void queue_schedule(struct queue *q, struct entry *e)
{
    bool can = e->life == LIFE_WAITING && !e->writing;

    heap_change(&q->index.due, &e->node, can ? place_in_line(e) : INDEX_NEVER);
    if (can && heap_top(&q->index.due) == &e->node && q->claimer != NULL)
        task_wake(q->claimer);
}

/* ---- the end of a message ---- */

void queue_forget(struct queue *q, struct entry *e, uint64_t *out_unlink)
{
    *out_unlink = e->body_in_file ? e->id : 0;
    index_remove(&q->index, e);
    if (e->segment != NULL) {
        q->live_bytes -= entry_record_size(e);
        e->segment->live--;
        entry_unplace(e);
        metric_add(METRIC_queue_messages, -1);
    }
    free(e);
}

/* ---- whoever waits for a move ---- */

int queue_wait_quiet(struct queue *q)
{
    struct quiet_waiter self = { task_self(), q->quiet_waiters };

    q->quiet_waiters = &self;            /* analyze autoVariables: unlinked before this function returns */
    queue_unlock(q);
    int r = task_park(TASK_FOREVER);
    queue_lock(q);
    struct quiet_waiter **place = &q->quiet_waiters;
    while (*place != NULL && *place != &self)
        place = &(*place)->next;
    if (*place == &self)
        *place = self.next;
    return r;
}

void queue_wake_quiet(struct queue *q)
{
    for (struct quiet_waiter *w = q->quiet_waiters; w != NULL; w = w->next)
        task_wake(w->task);
}

/* ---- the way in ---- */

struct floor_job {
    struct queue *queue;
    int           result;
};

static void floor_job(void *arg)
{
    struct floor_job *job = arg;
    enum file_system kind;
    uint64_t free_bytes;
    int r = file_system_of(job->queue->journal.dir, &kind, &free_bytes);

    job->queue->below_floor = r == 0 && free_bytes < job->queue->options.free_floor;
}

int queue_check_floor(struct queue *q)
{
    if (q->options.free_floor == 0)
        return 0;
    int64_t now = clock_mono_ns();
    if (q->floor_checked_ns == 0 || now - q->floor_checked_ns >= FLOOR_CHECK_INTERVAL_NS) {
        struct floor_job job = { .queue = q };
        q->floor_checked_ns = now;
        int r = offload_run(q->disk_pool, floor_job, &job);
        if (r < 0)
            return r;
    }
    return q->below_floor ? -ENOSPC : 0;
}

static int build_accepted(const struct queue *q, const struct envelope *env, struct body *body, enum life_event as, struct buf *out)
{
    struct envelope stored = *env;

    stored.id = body_id(body);
    CLEANUP_BUF struct buf bytes;
    buf_init(&bytes, commit_payload_max(&q->journal));
    envelope_put(&bytes, &stored);
    record_put_u64(out, RECORD_TAG_ID, stored.id);
    record_put_u64(out, RECORD_TAG_TIME, (uint64_t)clock_wall_ns());
    record_put_u64(out, RECORD_TAG_ARRIVED, (uint64_t)env->arrived_ns);
    record_put_u32(out, RECORD_TAG_RCPTS, (uint32_t)env->rcpt_count);
    if (env->hold_until_ns != 0)
        record_put_u64(out, RECORD_TAG_DUE, (uint64_t)env->hold_until_ns);
    if (as == EVENT_ACCEPTED_HELD)
        record_put_str(out, RECORD_TAG_HELD, (struct str){ 0 });
    record_put_str(out, RECORD_TAG_ENVELOPE, buf_str(&bytes));
    if (body_in_file(body))
        record_put_body_file(out, body_size(body), body_crc(body));
    else
        record_put_body_head(out, body_in_memory(body).n);
    /* What a move adds must fit too: states, attempts, due. */
    if (bytes.failed || out->failed)
        return bytes.n + out->n > commit_payload_max(&q->journal) / 2 ? -EMSGSIZE : -ENOMEM;
    if (out->n + body_in_memory(body).n + env->rcpt_count + 128 > commit_payload_max(&q->journal))
        return -EMSGSIZE;
    return 0;
}

/* In the index before it is on the disk, so that nothing can fail afterwards; nobody sees it yet. */
static int enter(struct queue *q, const struct envelope *env, const struct body *body, struct entry **out)
{
    struct entry *e = entry_new(body_id(body), (uint32_t)env->rcpt_count);

    if (e == NULL)
        return -ENOMEM;
    e->life = LIFE_ARRIVING;
    e->priority = (int8_t)env->priority;
    e->arrived_wall_ns = env->arrived_ns;
    e->body_size = body_size(body);
    e->body_in_file = body_in_file(body);
    queue_lock(q);
    int r = index_add(&q->index, e);
    if (r == 0)
        q->arriving++;
    queue_unlock(q);
    if (r < 0) {
        free(e);
        return r;
    }
    *out = e;
    return 0;
}

static void leave(struct queue *q, struct entry *e)
{
    uint64_t ignored;                                /* the body is still the caller's */

    queue_lock(q);
    q->arriving--;
    queue_forget(q, e, &ignored);
    queue_unlock(q);
}

static void appear(struct queue *q, struct entry *e, const struct envelope *env, enum life_event as, const struct commit_ticket *t)
{
    enum life_state next;
    int64_t now = clock_wall_ns();

    queue_lock(q);
    q->arriving--;
    (void)life_step((enum life_state)e->life, as, &next);
    e->life = (uint8_t)next;
    entry_place(e, t->segment, t->offset, t->length);
    q->live_bytes += entry_record_size(e);
    e->due_mono_ns = queue_due_mono(env->hold_until_ns == 0 ? now : env->hold_until_ns, now);
    queue_schedule(q, e);
    queue_unlock(q);
    metric_add(METRIC_queue_messages, 1);
}

static int put_payload(struct queue *q, const struct envelope *env, struct body *body, enum life_event as, const struct buf *payload)
{
    struct commit_ticket ticket = { .type = RECORD_ACCEPTED, .pieces = { buf_str(payload), body_in_memory(body) } };
    struct entry *e;
    int r = enter(q, env, body, &e);

    if (r < 0)
        return r;
    r = commit_record(&q->commit, &ticket);
    if (r < 0) {
        leave(q, e);
        if (r == -ENOSPC)
            queue_maintain(q);                       /* perhaps there is room again: service resumes by itself */
        return r;
    }
    body_taken(body);
    appear(q, e, env, as, &ticket);
    return 0;
}

static int put_into(struct queue *q, const struct envelope *env, struct body *body, enum life_event as)
{
    int r = body_rehome(body, q);
    if (r < 0)
        return r;
    CLEANUP_BUF struct buf payload;
    buf_init(&payload, commit_payload_max(&q->journal));
    r = build_accepted(q, env, body, as, &payload);
    return r < 0 ? r : put_payload(q, env, body, as, &payload);
}

/* From here to put_end the queue is not let go of. */
static struct queue *put_begin(struct queue *q)
{
    queue_lock(q);
    struct queue *second = q->second;
    if (second == NULL)
        q->putting++;
    queue_unlock(q);
    return second == NULL ? q : put_begin(second);
}

static void put_end(struct queue *q)
{
    queue_lock(q);
    q->putting--;
    if (q->closer != NULL)
        task_wake(q->closer);
    queue_unlock(q);
}

static int put(struct queue *q, const struct envelope *env, struct body *body, enum life_event as)
{
    assert(env->rcpt_count > 0 && env->rcpt_count <= ENVELOPE_RCPTS_MAX);
    if (q->options.read_only)
        return -EROFS;
    int r = queue_check_floor(q);
    if (r == 0)
        r = body_finish(body);
    if (r < 0)
        return r;
    struct queue *into = put_begin(q);
    r = put_into(into, env, body, as);
    put_end(into);
    return r;
}

int queue_put(struct queue *q, const struct envelope *env, struct body *body) { return put(q, env, body, EVENT_ACCEPTED); }

int queue_put_held(struct queue *q, const struct envelope *env, struct body *body) { return put(q, env, body, EVENT_ACCEPTED_HELD); }

size_t queue_count(struct queue *q)
{
    queue_lock(q);
    size_t count = q->index.count - q->arriving;
    queue_unlock(q);
    return count;
}
