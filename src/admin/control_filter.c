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
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define LIST_MAX           1000                   /* items in one answer */
#define SLICE              64                     /* messages of the index between two turns of the loop */
#define ANSWER_NS          (100 * NS_PER_MS)
#define AT_ONCE            128                    /* changes that share syncs */
#define FILTER_MEMORY_MAX  (4 * 1024 * 1024)
#define RECORD_MEMORY_MAX  (64 * 1024 * 1024)
#define ERROR_MAX          (2 * FILTER_TEXT_MAX)

struct scan {
    struct queue        *queue;
    const struct filter *filter;                  /* NULL: all */
    int64_t              now_wall_ns;
    uint64_t             after;                   /* the last that was looked at */
    uint64_t             looked, unreadable;
    struct queue_item   *items;                   /* owned */
    size_t               count, max;
    bool                 done;
};

/* ---- which ---- */

struct question {
    const struct scan *scan;
    bool               meant;
};

static void ask_record(void *arg, const struct queue_details *details)
{
    struct question *question = arg;
    question->meant = filter_match(question->scan->filter, details, question->scan->now_wall_ns);
}

/* Awaits. What cannot be read is not meant, whatever the filter says: an operator does nothing to what he does not see. */
static bool is_meant_by_record(struct scan *scan, uint64_t id)
{
    struct question question = { .scan = scan };
    struct arena arena;

    arena_init(&arena, RECORD_MEMORY_MAX);
    int r = queue_look(scan->queue, id, &arena, ask_record, &question);
    arena_reset(&arena);
    scan->unreadable += r < 0 && r != -ENOENT;    /* or else it was delivered meanwhile */
    return r == 0 && question.meant;
}

static bool is_meant(struct scan *scan, const struct queue_item *item)
{
    if (scan->filter == NULL)
        return true;
    switch (filter_match_item(scan->filter, item, scan->now_wall_ns)) {
    case FILTER_NO:     return false;
    case FILTER_YES:    return true;
    case FILTER_UNSURE: break;
    }
    return is_meant_by_record(scan, item->id);
}

/* Awaits. */
static void scan_slice(struct scan *scan, int64_t deadline_ns)
{
    struct queue_item items[SLICE];
    size_t n = queue_list(scan->queue, scan->after, items, SLICE);

    scan->done = n < SLICE;
    for (size_t i = 0; i < n; i++) {
        if (is_meant(scan, &items[i]))
            scan->items[scan->count++] = items[i];
        scan->after = items[i].id;
        scan->looked++;
        if (i + 1 < n && (scan->count == scan->max || clock_mono_ns() >= deadline_ns)) {
            scan->done = false;
            return;
        }
    }
}

/* Awaits. -ECANCELED, or 0. */
static int run_scan(struct scan *scan)
{
    int64_t deadline = clock_mono_ns() + ANSWER_NS;
    int r;

    do {
        scan_slice(scan, deadline);
        r = task_yield();
    } while (r == 0 && !scan->done && scan->count < scan->max && clock_mono_ns() < deadline);
    return r;
}

/* ---- what is done to them ---- */

struct change {
    struct scan       *scan;
    const json_t      *request;
    control_change_fn *fn;
    int               *results;                   /* one an item */
    size_t             next;
};

static void change_task(void *arg)
{
    struct change *change = arg;

    while (change->next < change->scan->count) {
        size_t i = change->next++;
        change->results[i] = change->fn(change->scan->queue, change->scan->items[i].id, change->request);
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
    return json_pack("{s:b, s:I, s:I, s:I, s:o, s:b, s:o}", "ok", 1, "total", (json_int_t)queue_count(scan->queue), "looked",
                     (json_int_t)scan->looked, "unreadable", (json_int_t)scan->unreadable, "after", control_id(scan->after), "done",
                     scan->done, "items", list);
}

static json_t *scan_and_change(struct scan *scan, const json_t *request, control_change_fn *fn)
{
    CLEANUP_FREE int *results = calloc(scan->max, sizeof *results);
    struct change change = { .scan = scan, .request = request, .fn = fn, .results = results };

    scan->items = calloc(scan->max, sizeof *scan->items);
    if (scan->items == NULL || results == NULL || run_scan(scan) < 0)
        return NULL;
    if (fn != NULL)
        change_all(&change);
    return answer_of(scan, fn != NULL ? results : NULL);
}

json_t *control_change(struct queue *q, const json_t *request, control_change_fn *fn)
{
    struct scan scan = { .queue = q, .now_wall_ns = clock_wall_ns() };
    struct arena arena;

    arena_init(&arena, FILTER_MEMORY_MAX);
    json_t *answer = read_request(&scan, request, &arena);
    if (answer == NULL)
        answer = scan_and_change(&scan, request, fn);
    free(scan.items);
    arena_reset(&arena);
    return answer;
}

json_t *control_list(struct queue *q, const json_t *request)
{
    return control_change(q, request, NULL);
}
