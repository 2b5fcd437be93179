/*
 * Bodies in arrival: in memory up to body_inline_max, then in a file of their own, body/<id>.
 *
 * One body holds at most body_inline_max or one buffer of 64 KiB (a small one 16 KiB); when all of them together hold body_memory_max, they go to
 * files at once. A file is synced, and so is its directory, before the record that names it is handed to the committer.
 * Files are written by disk jobs; a body belongs to one task. Runs in the worker.
 */
#include "queue/queue_internal.h"

#include "base/codec.h"
#include "base/metrics.h"
#include "run/file.h"
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BUFFER_SIZE (64u * 1024)
#define SMALL_SIZE  (16u * 1024)                     /* for one whose owner holds much besides */

struct body {
    struct queue *queue;
    struct queue *home;                              /* whose directory has the file */
    uint64_t      id;
    uint64_t      size;
    uint32_t      crc;
    int           error;                             /* sticky */
    int           file;                              /* owned; -1 while in memory */
    bool          small;
    bool          taken;                             /* the file is a message's */
    char         *memory;                            /* owned: all of it, or what goes to the file next */
    size_t        fill, capacity;
    uint64_t      written;                           /* bytes in the file */
    uint32_t      begun;                             /* for the sync of its name */
};

void body_name(char out[SEGMENT_NAME_SIZE], uint64_t id)
{
    codec_id_format(id, out);
}

struct body *body_new(struct queue *q, uint64_t id)
{
    struct body *b = calloc(1, sizeof *b);

    if (b == NULL)
        return NULL;
    b->queue = b->home = queue_in_force(q);
    b->id = id;
    b->file = -1;
    return b;
}

static void account(struct body *b, int64_t delta)
{
    b->queue->arriving_bytes += (uint64_t)delta;
    metric_add(METRIC_queue_bodies_arriving_bytes, delta);
}

/* Capacity is what is held of the common memory. */
static int resize(struct body *b, size_t capacity)
{
    char *memory = realloc(b->memory, capacity);

    if (memory == NULL)
        return -ENOMEM;
    account(b, (int64_t)capacity - (int64_t)b->capacity);
    b->memory = memory;
    b->capacity = capacity;
    return 0;
}

static void drop_memory(struct body *b)
{
    account(b, -(int64_t)b->capacity);
    free(b->memory);
    b->memory = NULL;
    b->fill = b->capacity = 0;
}

/* ---- jobs ---- */

struct file_job {
    struct body *body;
    bool         sync;
    int          result;
};

static int open_file(struct body *b)
{
    char name[SEGMENT_NAME_SIZE];

    body_name(name, b->id);
    b->begun = synced_dir_begin(&b->queue->journal.bodies);
    b->file = file_open_at(b->queue->journal.bodies.file, name, FILE_READ | FILE_WRITE | FILE_CREATE | FILE_EXCLUSIVE);
    return b->file < 0 ? b->file : 0;
}

static int sync_file(struct body *b)
{
    int r = file_datasync(b->file);
    return r < 0 ? r : synced_dir_sync(&b->queue->journal.bodies, b->begun);
}

static void write_job(void *arg)
{
    struct file_job *job = arg;
    struct body *b = job->body;
    int r = b->file < 0 ? open_file(b) : 0;

    if (r == 0)
        r = file_write_at(b->file, b->memory, b->fill, b->written);
    if (r == 0 && job->sync)
        r = sync_file(b);
    job->result = r;
}

/* Awaits. What is in memory goes to the file. */
static int write_out(struct body *b, bool sync)
{
    struct file_job job = { .body = b, .sync = sync };
    int r = offload_run(b->queue->disk_pool, write_job, &job);

    if (r == 0)
        r = job.result;
    if (r < 0)
        return r;
    b->written += b->fill;
    b->fill = 0;
    return 0;
}

/* ---- the public face ---- */

static bool memory_is_short(const struct body *b)
{
    return b->queue->arriving_bytes > b->queue->options.body_memory_max;
}

/* More room in memory: doubled while the body may stay there, else one buffer's worth. Awaits when the buffer must go to the file. */
static int make_room(struct body *b)
{
    uint32_t inline_max = b->queue->options.body_inline_max, buffer = b->small ? SMALL_SIZE : BUFFER_SIZE;
    if (b->small && inline_max > SMALL_SIZE)
        inline_max = SMALL_SIZE;
    bool to_file = b->file >= 0 || b->fill >= inline_max || (b->fill > 0 && memory_is_short(b));

    if (to_file) {
        int r = b->file >= 0 ? 0 : queue_check_floor(b->queue);
        if (r == 0 && b->fill > 0)
            r = write_out(b, false);
        if (r == 0 && b->capacity < buffer && !memory_is_short(b))
            r = resize(b, buffer);
        return r;
    }
    size_t capacity = b->capacity == 0 ? 4096 : 2 * b->capacity;
    return resize(b, capacity < inline_max ? capacity : inline_max);
}

static int append(struct body *b, struct str bytes)
{
    if (bytes.n > b->queue->options.message_size_max - b->size)
        return -EMSGSIZE;
    while (bytes.n > 0) {
        int r = b->fill < b->capacity ? 0 : make_room(b);
        if (r < 0)
            return r;
        size_t part = bytes.n < b->capacity - b->fill ? bytes.n : b->capacity - b->fill;
        memcpy(b->memory + b->fill, bytes.p, part);
        b->crc = codec_crc32c(b->crc, bytes.p, part);
        b->fill += part;
        b->size += part;
        bytes = str_from(bytes, part);
    }
    return 0;
}

int body_append(struct body *b, struct str bytes)
{
    if (b->error == 0)
        b->error = append(b, bytes);
    return b->error;
}

void body_keep_small(struct body *b)
{
    assert(b->size == 0);
    b->small = true;
}

uint64_t body_size(const struct body *b)
{
    return b->size;
}

int body_finish(struct body *b)
{
    if (b->error == 0 && b->file >= 0)
        b->error = write_out(b, true);
    return b->error;
}

struct rehome_job {
    struct body  *body;
    struct queue *to;
    int           result;
};

/* Its old name is nobody's, should the disk keep it. */
static void rehome_job(void *arg)
{
    struct rehome_job *job = arg;
    char name[SEGMENT_NAME_SIZE];
    struct synced_dir *from = &job->body->home->journal.bodies, *to = &job->to->journal.bodies;

    body_name(name, job->body->id);
    uint32_t begun = synced_dir_begin(to);
    job->result = file_rename_at(from->file, name, to->file, name);
    if (job->result < 0)
        return;
    job->body->home = job->to;
    job->result = synced_dir_sync(to, begun);
}

int body_rehome(struct body *b, struct queue *q)
{
    struct rehome_job job = { .body = b, .to = q };

    if (b->file < 0 || b->home == q)
        return 0;
    int r = offload_run(b->queue->disk_pool, rehome_job, &job);
    return r < 0 ? r : job.result;
}

struct str body_in_memory(const struct body *b)
{
    return b->file >= 0 ? (struct str){ 0 } : (struct str){ b->memory, b->fill };
}

bool body_in_file(const struct body *b)
{
    return b->file >= 0;
}

uint32_t body_crc(const struct body *b)
{
    return b->crc;
}

uint64_t body_id(const struct body *b)
{
    return b->id;
}

void body_taken(struct body *b)
{
    b->taken = true;
}

void body_free(struct body *b)
{
    if (b == NULL)
        return;
    drop_memory(b);
    if (b->file >= 0) {
        (void)file_close(b->file);                   /* synced before, or not wanted */
        if (!b->taken)
            queue_unlink_body(b->home, b->id);
    }
    free(b);
}

/* ---- files of bodies that are over ---- */

struct unlink_job {
    struct queue *queue;
    uint64_t      id;
};

static void unlink_now(struct queue *q, uint64_t id)
{
    char name[SEGMENT_NAME_SIZE];

    body_name(name, id);
    (void)file_unlink_at(q->journal.bodies.file, name);   /* if not, the next start finds an orphan */
}

static void unlink_job(void *arg)
{
    struct unlink_job job = *(struct unlink_job *)arg;

    free(arg);
    unlink_now(job.queue, job.id);
    queue_job_ended(job.queue);
}

void queue_unlink_body(struct queue *q, uint64_t id)
{
    if (id == 0)
        return;
    struct unlink_job *job = malloc(sizeof *job);
    if (job != NULL) {
        *job = (struct unlink_job){ q, id };
        if (queue_start_job(q, unlink_job, job))
            return;
        free(job);
    }
    unlink_now(q, id);                               /* rather a short wait than a file that stays */
}
