/*
 * The requests of the control socket that are about many messages: those that a filter means.
 *
 * They look along the index, in order of id, and read a record only where the index cannot tell. An answer comes after ANSWER_NS at the
 * latest, so that the client sees the first messages at once and can say how far it is, and between slices the loop's other tasks run.
 */
#include "admin/control.h"
#include "admin/control_internal.h"
#include "admin/filter.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define LIST_MAX           1000                   /* items in one answer */
#define SLICE              QUEUE_LOOK_MAX         /* messages of the index between two turns of the loop */
#define ANSWER_NS          (100 * NS_PER_MS)
#define BUSY_PAUSE_NS      (10 * NS_PER_MS)       /* no helper thread is free, or no memory */
#define AT_ONCE            128                    /* changes that share syncs */
#define FILTER_MEMORY_MAX  (4 * 1024 * 1024)
#define ERROR_MAX          (2 * FILTER_TEXT_MAX)

struct scan {
    struct queue        *queue;
    const struct filter *filter;                  /* NULL: all */
    int64_t              now_wall_ns;
    uint64_t             after;                   /* the last that was looked at */
    uint64_t             until;                   /* nothing above it: what came after the first request is not meant, be it our own bounce */
    uint64_t             looked, unreadable;
    struct queue_item   *items;                   /* owned */
    size_t               count, max;
    bool                 done;
};

/* ---- which ---- */

/* A slice of the index. What the index cannot tell stays FILTER_UNSURE until the records were read, or for ever if one cannot be. */
struct slice {
    const struct scan *scan;
    struct queue_item  items[SLICE];
    enum filter_answer answers[SLICE];
    size_t             count;
    uint64_t           ids[SLICE];                /* of those that are unsure, and which they are */
    size_t             unsure[SLICE], unsure_count;
};

static void ask_index(struct slice *slice)
{
    const struct scan *scan = slice->scan;

    for (size_t i = 0; i < slice->count; i++) {
        slice->answers[i] = scan->filter == NULL ? FILTER_YES : filter_match_item(scan->filter, &slice->items[i], scan->now_wall_ns);
        if (slice->answers[i] != FILTER_UNSURE)
            continue;
        slice->ids[slice->unsure_count] = slice->items[i].id;
        slice->unsure[slice->unsure_count++] = i;
    }
}

static void ask_record(void *arg, size_t i, const struct queue_details *details, int error)
{
    struct slice *slice = arg;
    enum filter_answer *answer = &slice->answers[slice->unsure[i]];

    if (error == 0)
        *answer = filter_match(slice->scan->filter, details, slice->scan->now_wall_ns) ? FILTER_YES : FILTER_NO;
    else if (error == -ENOENT)
        *answer = FILTER_NO;                      /* it was delivered meanwhile */
}

/* Awaits. */
static void ask_records(struct slice *slice)
{
    while (slice->unsure_count > 0 && queue_look(slice->scan->queue, slice->ids, slice->unsure_count, ask_record, slice) < 0)
        if (task_sleep(BUSY_PAUSE_NS) < 0)
            return;
}

/* Awaits. What cannot be read is not meant, whatever the filter says: an operator does nothing to what he does not see. */
static void scan_slice(struct scan *scan)
{
    struct slice slice = { .scan = scan };

    slice.count = queue_list(scan->queue, scan->after, slice.items, SLICE);
    scan->done = slice.count < SLICE;
    for (; slice.count > 0 && slice.items[slice.count - 1].id > scan->until; slice.count--)
        scan->done = true;
    ask_index(&slice);
    ask_records(&slice);
    for (size_t i = 0; i < slice.count; i++) {
        if (scan->count == scan->max) {
            scan->done = false;
            return;
        }
        if (slice.answers[i] == FILTER_YES)
            scan->items[scan->count++] = slice.items[i];
        scan->unreadable += slice.answers[i] == FILTER_UNSURE;
        scan->after = slice.items[i].id;
        scan->looked++;
    }
}

/* Awaits. -ECANCELED, or 0. */
static int run_scan(struct scan *scan)
{
    int64_t deadline = clock_mono_ns() + ANSWER_NS;
    int r;

    do {
        scan_slice(scan);
        r = task_yield();
    } while (r == 0 && !scan->done && scan->count < scan->max && clock_mono_ns() < deadline);
    return r;
}

/* ---- what is done to them ---- */

struct change {
    struct scan        *scan;
    struct control_wish wish;
    control_change_fn  *fn;
    int                *results;                  /* one an item */
    size_t              next;
};

static void change_task(void *arg)
{
    struct change *change = arg;

    while (change->next < change->scan->count) {
        size_t i = change->next++;
        change->results[i] = change->fn(change->scan->queue, change->scan->items[i].id, &change->wish);
    }
}

/* Awaits. Many at a time share a sync; where no task can be started, this one does it alone. */
static void change_all(struct change *change)
{
    struct task_group group;

    task_group_init(&group);
    for (size_t i = 1; i < AT_ONCE && i < change->scan->count; i++)
        if (task_group_start(&group, "control change", change_task, change) < 0)
            break;
    change_task(change);
    (void)task_group_wait(&group, TASK_FOREVER);
}

/* ---- requests ---- */

/* NULL with *out when it can be scanned; else the answer that says why not. */
static json_t *read_request(struct scan *scan, const json_t *request, struct arena *arena)
{
    json_t *filter = json_object_get(request, "filter");
    json_int_t max = json_integer_value(json_object_get(request, "max"));
    CLEANUP_BUF struct buf error;

    buf_init(&error, ERROR_MAX);
    if (filter != NULL && !json_is_string(filter))
        return control_refuse(STR("the filter is no text"));
    struct str text = { json_string_value(filter), json_string_length(filter) };
    if (filter != NULL && !filter_parse(arena, text, &scan->filter, &error))
        return control_refuse(buf_str(&error));
    (void)control_get_id(request, "after", &scan->after);     /* absent: from the beginning */
    if (!control_get_id(request, "until", &scan->until))
        scan->until = queue_new_id(scan->queue);
    scan->max = max <= 0 || max > LIST_MAX ? LIST_MAX : (size_t)max;
    return NULL;
}

/* results: NULL, or one an item. */
static json_t *answer_of(const struct scan *scan, const int *results)
{
    json_t *list = json_array();

    for (size_t i = 0; i < scan->count; i++) {
        json_t *item = control_item(&scan->items[i]);
        if (results != NULL && results[i] == -ENOENT) {        /* over before we came to it, as it would be after us */
            json_decref(item);
            continue;
        }
        if (results != NULL && results[i] < 0)
            (void)json_object_set_new(item, "error", json_string(control_error(results[i])));
        (void)json_array_append_new(list, item);
    }
    return json_pack("{s:b, s:I, s:I, s:I, s:o, s:o, s:b, s:o}", "ok", 1, "total", (json_int_t)queue_count(scan->queue), "looked",
                     (json_int_t)scan->looked, "unreadable", (json_int_t)scan->unreadable, "after", control_id(scan->after), "until",
                     control_id(scan->until), "done", scan->done, "items", list);
}

static json_t *scan_and_change(struct scan *scan, const json_t *request, control_change_fn *fn, void *arg)
{
    assert(scan->max > 0);
    CLEANUP_FREE int *results = calloc(scan->max, sizeof *results);
    struct change change = { .scan = scan, .wish = { request, scan->filter, scan->now_wall_ns, arg }, .fn = fn, .results = results };

    scan->items = calloc(scan->max, sizeof *scan->items);
    if (scan->items == NULL || results == NULL || run_scan(scan) < 0)
        return NULL;
    if (fn != NULL)
        change_all(&change);
    return answer_of(scan, fn != NULL ? results : NULL);
}

json_t *control_change(struct queue *q, const json_t *request, control_change_fn *fn, void *arg)
{
    struct scan scan = { .queue = q, .now_wall_ns = clock_wall_ns() };
    struct arena arena;

    arena_init(&arena, FILTER_MEMORY_MAX);
    json_t *answer = read_request(&scan, request, &arena);
    if (answer == NULL)
        answer = scan_and_change(&scan, request, fn, arg);
    free(scan.items);
    arena_reset(&arena);
    return answer;
}

json_t *control_list(struct queue *q, const json_t *request)
{
    return control_change(q, request, NULL, NULL);
}
