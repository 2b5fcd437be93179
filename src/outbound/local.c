/*
 * Maildir delivery, the task's side: what the file is called and holds, and who makes it when.
 *
 * Deliveries that are ready at the same time go in one turn of a helper thread (maildir_file.h), which the disk thanks: two turns side by
 * side take all that wait, and more than two share it where syncs last. The journal keeps the message until the file is durable.
 *
 * In the file a line ends in LF, as every reader of Maildirs expects and other servers write it; nothing else of the message changes. A message
 * that came as BODY=BINARYMIME is not changed at all.
 *
 * Runs in the worker; the file work on helper threads.
 */
#include "outbound/local.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/codec.h"
#include "base/log.h"
#include "mail/line_end.h"
#include "mail/trace.h"
#include "outbound/maildir_file.h"
#include "policy/route.h"
#include "run/channel.h"
#include "run/gather.h"
#include "run/offload.h"
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define WRITE_CHUNK    (64 * 1024)
#define HEAD_MAX       4096
#define LOCAL_THREADS  32                /* turns, and pieces of large files, that may wait for the disk at a time */
#define LOCAL_WAITING  100000            /* of all deliveries; the scheduler keeps far below */
#define TURN_SYNC_NS   (100 * NS_PER_US) /* see gather.h: what one thread does between two syncs takes about that */

/* One delivery, on its task's stack. */
struct job {
    struct maildir_file file;
    bool make;                           /* make the Maildir if it is not there */
    bool no_maildir;                     /* it is not there, and not some other file that is missing */
    bool was_here;                       /* it has been in this mailbox, and comes round again */
};

struct local {
    struct offload *disk;
    struct gather  *turns;               /* whole files; on the disk's threads */
    struct channel *making;              /* holds an item while a Maildir is being made: one at a time */
    _Atomic uint32_t sync_failures;      /* see maildir_file.h */
    _Atomic int64_t said_ns;             /* log_is_news() of a disk that takes no mail */
    int64_t         started_wall_ns;     /* messages accepted before may have been delivered by an earlier process */
};

/* What stands before the first placeholder is the operator's, links and all; the rest is opened beneath it without following any. */
static size_t base_length(const char *mailbox_pattern)
{
    size_t end = strcspn(mailbox_pattern, "{");
    while (end > 0 && mailbox_pattern[end - 1] != '/')
        end--;
    return end;
}

int local_prepare(const struct conf *conf)
{
    struct maildir_path path = { .path = conf->mailbox, .base = base_length(conf->mailbox) };

    return conf->have_users_file && conf->local_delivery.kind == CONF_DELIVERY_MAILDIR ? maildir_make_base(&path) : 0;
}

/* -- on a helper thread ---------------------------------------------------------------------------------------------------- */

static int64_t deliver_all(void *const jobs[], size_t count)
{
    struct maildir_file *files[GATHER_MAX];
    for (size_t i = 0; i < count; i++)
        files[i] = &((struct job *)jobs[i])->file;
    return maildir_deliver(files, count);
}

static void job_open(void *arg) { maildir_file_open(&((struct job *)arg)->file); }
static void job_write(void *arg) { maildir_file_write(&((struct job *)arg)->file); }
static void job_publish(void *arg) { maildir_file_publish(&((struct job *)arg)->file); }
static void job_close(void *arg) { maildir_file_close(&((struct job *)arg)->file); }

static void job_make(void *arg)
{
    struct job *job = arg;
    job->file.result = maildir_make(&job->file.path, job->make, &job->no_maildir);
}

struct local *local_new(void)
{
    struct local *l = calloc(1, sizeof(*l));
    if (l == NULL)
        return NULL;
    l->started_wall_ns = clock_wall_ns();
    l->disk = offload_new("mailbox", LOCAL_THREADS, LOCAL_WAITING);
    l->turns = l->disk == NULL ? NULL : gather_new(l->disk, deliver_all, LOCAL_THREADS, TURN_SYNC_NS);
    l->making = channel_new(1);
    if (l->turns != NULL && l->making != NULL)
        return l;
    local_free(l);
    return NULL;
}

void local_free(struct local *l)
{
    if (l == NULL)
        return;
    if (l->disk != NULL)
        offload_free(l->disk);
    if (l->making != NULL)
        channel_free(l->making);
    gather_free(l->turns);
    free(l);
}

/* -- the delivery -------------------------------------------------------------------------------------------------------- */

static int run(struct local *l, void (*fn)(void *), struct job *job)
{
    int r = offload_run(l->disk, fn, job);
    return r < 0 ? r : job->file.result;
}

static void put_head(struct buf *out, const struct claim *c, const struct recipient *rcpt)
{
    trace_put_return_path(out, &c->env.sender);
    trace_put_delivered_to(out, &rcpt->addr);
    if (!address_is_null(&rcpt->rewritten_from))
        trace_put_original_to(out, &rcpt->rewritten_from);
}

/* In a binary message CR LF may be two bytes of a picture: it stays as it came, header and all. */
static struct str file_lines(const struct claim *c, struct buf *b)
{
    if (!c->env.body_binary)
        buf_truncate(b, line_end_to_lf(b->p, b->n));
    return buf_str(b);
}

/* Somebody sends on what comes here, and it comes here again: without this it would until Received fields count a hundred, each time kept. */
static int check_loop(struct job *job, struct str text, const struct recipient *rcpt)
{
    job->was_here = str_find_str(text, STR("\r\nDelivered-To:")) >= 0 && trace_was_delivered_to(text, &rcpt->addr);
    return job->was_here ? -EEXIST : 0;
}

/* Awaits. 0 delivered, 1 was there already, negative errno. */
static int write_small(struct local *l, struct job *job, struct claim *c, const struct recipient *rcpt)
{
    CLEANUP_BUF struct buf content;
    buf_init(&content, WRITE_CHUNK + HEAD_MAX);
    put_head(&content, c, rcpt);
    size_t got = 0;
    char *room = buf_room(&content, c->body_size);
    if (room == NULL)
        return -ENOMEM;
    int r = queue_read_body(c, 0, room, c->body_size, &got);
    if (r < 0)
        return r;
    if (got != c->body_size)
        return -EIO;
    buf_added(&content, got);
    if (!buf_ok(&content))
        return -ENOMEM;
    if ((r = check_loop(job, str_from(buf_str(&content), content.n - got), rcpt)) < 0)
        return r;
    job->file.content = file_lines(c, &content);
    gather_run(l->turns, job);
    return job->file.result;
}

static int copy_body(struct local *l, struct job *job, struct claim *c, const struct recipient *rcpt, struct buf *chunk)
{
    uint64_t offset = 0;
    while (offset < c->body_size) {
        size_t got = 0;
        buf_clear(chunk);
        char *room = buf_room(chunk, WRITE_CHUNK);
        if (room == NULL)
            return -ENOMEM;
        int r = queue_read_body(c, offset, room, WRITE_CHUNK, &got);
        if (r < 0 || got == 0)
            return r < 0 ? r : -EIO;
        /* What its last CR belongs to only the next piece shows. */
        if (got > 1 && room[got - 1] == '\r' && offset + got < c->body_size)
            got--;
        if (offset == 0 && (r = check_loop(job, (struct str){ room, got }, rcpt)) < 0)    /* where it would stand is within the first piece */
            return r;
        offset += got;
        buf_added(chunk, got);
        job->file.content = file_lines(c, chunk);
        if ((r = run(l, job_write, job)) < 0)
            return r;
    }
    return 0;
}

static int write_large(struct local *l, struct job *job, struct claim *c, const struct recipient *rcpt)
{
    CLEANUP_BUF struct buf chunk;
    buf_init(&chunk, WRITE_CHUNK + HEAD_MAX);
    int r = run(l, job_open, job);
    if (r == 0) {
        put_head(&chunk, c, rcpt);
        job->file.content = file_lines(c, &chunk);
        r = run(l, job_write, job);
    }
    if (r == 0)
        r = copy_body(l, job, c, rcpt, &chunk);
    if (r == 0)
        r = run(l, job_publish, job);
    job->file.result = r;
    while (offload_run(l->disk, job_close, job) == -EAGAIN)
        (void)task_sleep(NS_PER_MS);
    return r;
}

static int write_file(struct local *l, struct job *job, struct claim *c, const struct recipient *rcpt)
{
    return c->body_size <= WRITE_CHUNK ? write_small(l, job, c, rcpt) : write_large(l, job, c, rcpt);
}

/* Awaits its turn: what one is still making, and might fail to make last, no other may find and take for granted. */
static int make_maildir(struct local *l, struct job *job)
{
    void *item;
    task_shield_begin();                                      /* it is short, and the item must come out again */
    int r = channel_send(l->making, l, TASK_FOREVER);
    if (r == 0) {
        r = run(l, job_make, job);
        (void)channel_recv(l->making, &item, TASK_FOREVER);   /* it is there: we put it in */
    }
    task_shield_end();
    return r;
}

static void name_file(struct job *job, const struct conf *conf, const struct claim *c, uint32_t rcpt)
{
    char id[CODEC_ID_LEN + 1];
    struct buf name;
    codec_id_format(c->id, id);
    buf_init_fixed(&name, job->file.name, sizeof(job->file.name) - 1);
    buf_printf(&name, "%lld.%sR%u.%.100s", (long long)(c->env.arrived_ns / NS_PER_S), id, rcpt, conf->hostname);
    assert(buf_ok(&name));
    job->file.name[name.n] = '\0';
}

/* One mailbox's trouble is told with its message; that of the disk is everybody's. */
static void tell_of_disk(struct local *l, int error)
{
    if ((error == -ENOSPC || error == -EROFS || error == -EIO) && log_is_news(&l->said_ns))
        log_event(LOG_ERROR, "mailboxes-refuse", LOG_Z("error", strerror(-error)), LOG_Z("text", "mail for them waits in the queue"));
}

static struct outcome outcome_of_error(struct local *l, struct arena *a, int error)
{
    tell_of_disk(l, error);
    switch (error) {
    case -EDQUOT:
        return outcome_of_ours(RCPT_PENDING, "4.2.2", "the mailbox is full");
    case -ENOSPC:
        return outcome_of_ours(RCPT_PENDING, "4.3.1", "the disk is full");
    }
    return outcome_with_detail(a, RCPT_PENDING, "4.3.0", STR(""), "cannot write to the mailbox", strerror(-error));
}

static struct outcome no_such_mailbox(void)
{
    return outcome_of_ours(RCPT_BOUNCED, "5.1.1", "there is no such mailbox here");
}

static bool is_postmaster(const struct address *addr)
{
    return str_eq_nocase(addr->local, STR("postmaster"));
}

struct outcome local_deliver(struct local *l, const struct conf *conf, struct claim *c, uint32_t rcpt)
{
    const struct recipient *r = &c->env.rcpts[rcpt];
    struct job job = { .file = { .file = -1, .about = c->id, .failures = &l->sync_failures } };
    int error = route_mailbox(&c->arena, conf, &r->addr, &job.file.path.path);
    if (error < 0)
        return error == -EINVAL ? no_such_mailbox() : outcome_of_error(l, &c->arena, error);
    job.file.path.base = base_length(conf->mailbox);
    job.make = conf->have_users_file || is_postmaster(&r->addr);
    job.file.maybe_there = c->attempts > 0 || c->env.arrived_ns < l->started_wall_ns;
    name_file(&job, conf, c, rcpt);
    error = write_file(l, &job, c, r);
    if (job.file.not_whole) {
        job.file.not_whole = false;
        error = make_maildir(l, &job);
        if (error == 0)
            error = write_file(l, &job, c, r);
    }
    if (job.was_here)
        return outcome_of_ours(RCPT_BOUNCED, "5.4.6", "a mail loop: it has been in this mailbox already");
    if (error < 0)
        return job.no_maildir ? no_such_mailbox() : outcome_of_error(l, &c->arena, error);
    return outcome_of_ours(RCPT_DELIVERED, "2.0.0", error > 0 ? "was in the mailbox already" : "delivered to the mailbox");
}
