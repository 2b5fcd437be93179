/*
 * Offload; the contract is in offload.h, and of the driver in loop_internal.h.
 *
 * A ring of jobs under one mutex. A job that somebody awaits is marked done, and its task woken, under that mutex, which the task
 * takes before it goes on: so neither the task nor what stands on its stack is gone while the helper still touches it.
 */
#include "run/offload.h"
#include "run/loop_internal.h"
#include "run/task_internal.h"
#include "run/thread.h"
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

struct wait {
    struct task *task;
    bool         done;
};

struct job {
    void      (*fn)(void *arg);
    void       *arg;
    uint64_t    about;                               /* of the task that awaits it */
    struct wait *wait;                               /* NULL: posted; else on the awaiting task's stack */
};

struct offload {
    const char     *name;                            /* borrowed: a literal */
    struct offload_driver driver;                    /* in place of threads, if it has a post */
    pthread_mutex_t lock;
    pthread_cond_t  changed;
    bool            ending;
    unsigned        count, at, max;                  /* of jobs waiting in the ring; at: the oldest */
    struct job     *jobs;                            /* owned ring of max */
    unsigned        driven, driven_max;              /* with a driver: threads that it stands for, now and at most */
    unsigned        driven_waiting;                  /* of them, those that it has not called yet, each with a job */
    unsigned        thread_count;
    pthread_t       threads[];
};

static struct offload_driver replaced;

void offload_replace(const struct offload_driver *driver)
{
    replaced = driver == NULL ? (struct offload_driver){ .post = NULL } : *driver;
}

static void job_finish(struct offload *o, const struct job *job)
{
    if (job->wait == NULL)
        return;
    (void)pthread_mutex_lock(&o->lock);
    job->wait->done = true;
    task_wake(job->wait->task);
    (void)pthread_mutex_unlock(&o->lock);
}

/*
 * With threads.
 */

/* False when there is none and none will come. */
static bool offload_next(struct offload *o, struct job *out)
{
    (void)pthread_mutex_lock(&o->lock);
    while (o->count == 0 && !o->ending)
        (void)pthread_cond_wait(&o->changed, &o->lock);
    bool found = o->count > 0;
    if (found) {
        *out = o->jobs[o->at];
        o->at = (o->at + 1) % o->max;
        o->count--;
    }
    (void)pthread_mutex_unlock(&o->lock);
    return found;
}

static void *offload_thread(void *arg)
{
    struct offload *o = arg;
    struct job      job;
    while (offload_next(o, &job)) {
        task_thread_about = job.about;
        job.fn(job.arg);
        task_thread_about = 0;
        job_finish(o, &job);
    }
    return NULL;
}

static int offload_push_ring(struct offload *o, const struct job *job)
{
    (void)pthread_mutex_lock(&o->lock);
    assert(!o->ending);
    int r = o->count < o->max ? 0 : -EAGAIN;
    if (r == 0)
        o->jobs[(o->at + o->count++) % o->max] = *job;
    (void)pthread_mutex_unlock(&o->lock);
    /* Not under the lock, which who is woken would only wait for. Whoever frees the pool lets nobody post any more: it is there still. */
    if (r == 0)
        (void)pthread_cond_signal(&o->changed);
    return r;
}

/*
 * With a driver: all on one thread. What the driver calls stands for a thread of the pool, from its first job until none is waiting; so
 * no more jobs than threads are under way at a time (one, for a pool that relies on their order), though each may be interrupted.
 */

struct driven_thread {
    struct offload *pool;
    struct job      job;                             /* the first; it waits until the driver calls */
};

static void driven_thread_run(void *arg)
{
    struct offload *o = ((struct driven_thread *)arg)->pool;
    struct job      job = ((struct driven_thread *)arg)->job;
    free(arg);
    o->driven_waiting--;
    job.fn(job.arg);
    job_finish(o, &job);
    while (o->count > 0) {
        job = o->jobs[o->at];
        o->at = (o->at + 1) % o->max;
        o->count--;
        job.fn(job.arg);
        job_finish(o, &job);
    }
    o->driven--;
}

static int driven_thread_start(struct offload *o, const struct job *job)
{
    struct driven_thread *t = malloc(sizeof *t);
    if (t == NULL)
        return -EAGAIN;
    *t = (struct driven_thread){ .pool = o, .job = *job };
    int r = o->driver.post(o->driver.self, driven_thread_run, t, o->name);
    if (r < 0) {
        free(t);
        return r;
    }
    o->driven++;
    o->driven_waiting++;
    return 0;
}

static int offload_push_driven(struct offload *o, const struct job *job)
{
    if (o->count + o->driven_waiting >= o->max)
        return -EAGAIN;
    if (o->driven < o->driven_max)
        return driven_thread_start(o, job);
    o->jobs[(o->at + o->count++) % o->max] = *job;
    return 0;
}

/* A task that frees a pool gives way to its jobs, as it would block on threads. */
static void driven_wait(struct offload *o)
{
    task_shield_begin();
    while (o->driven > 0)
        (void)task_sleep(NS_PER_US * 10);
    task_shield_end();
}

static int offload_push(struct offload *o, const struct job *job)
{
    return o->driver.post != NULL ? offload_push_driven(o, job) : offload_push_ring(o, job);
}

/*
 * For everyone.
 */

struct offload *offload_new(const char *name, unsigned threads, unsigned queue_max)
{
    assert(threads > 0 && queue_max > 0);
    struct offload *o = calloc(1, sizeof *o + threads * sizeof o->threads[0]);
    if (o == NULL)
        return NULL;
    o->name = name;
    o->max = queue_max;
    o->driver = replaced;
    o->driven_max = threads;
    (void)pthread_mutex_init(&o->lock, NULL);
    (void)pthread_cond_init(&o->changed, NULL);
    o->jobs = calloc(queue_max, sizeof *o->jobs);
    int r = o->jobs == NULL ? -ENOMEM : 0;
    while (r == 0 && o->driver.post == NULL && o->thread_count < threads) {
        r = thread_start(&o->threads[o->thread_count], name, NULL, offload_thread, o);
        if (r == 0)
            o->thread_count++;
    }
    if (r < 0) {
        offload_free(o);
        return NULL;
    }
    return o;
}

void offload_free(struct offload *o)
{
    if (o == NULL)
        return;
    if (o->driven > 0)
        driven_wait(o);
    (void)pthread_mutex_lock(&o->lock);
    o->ending = true;
    (void)pthread_cond_broadcast(&o->changed);
    (void)pthread_mutex_unlock(&o->lock);
    for (unsigned i = 0; i < o->thread_count; i++)
        (void)pthread_join(o->threads[i], NULL);
    (void)pthread_cond_destroy(&o->changed);
    (void)pthread_mutex_destroy(&o->lock);
    free(o->jobs);
    free(o);
}

static bool wait_done(struct offload *o, const struct wait *wait)
{
    (void)pthread_mutex_lock(&o->lock);
    bool done = wait->done;
    (void)pthread_mutex_unlock(&o->lock);
    return done;
}

int offload_run(struct offload *o, void (*fn)(void *arg), void *arg)
{
    struct wait wait = { .task = task_self() };
    assert(wait.task != NULL);
    int r = offload_push(o, &(struct job){ .fn = fn, .arg = arg, .about = task_is_about(), .wait = &wait });
    if (r < 0)
        return r;
    task_shield_begin();
    while (!wait_done(o, &wait))
        (void)task_park(TASK_FOREVER);
    task_shield_end();
    return 0;
}

int offload_post(struct offload *o, void (*fn)(void *arg), void *arg)
{
    return offload_push(o, &(struct job){ .fn = fn, .arg = arg });
}

void offload_pause(int64_t ns)
{
    struct timespec left = { .tv_sec = ns / NS_PER_S, .tv_nsec = ns % NS_PER_S };
    if (replaced.pause != NULL) {
        replaced.pause(replaced.self, ns);
        return;
    }
    while (nanosleep(&left, &left) < 0 && errno == EINTR)
        continue;
}
