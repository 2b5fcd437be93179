/*
 * "export.*" and "import.*" of the control socket: messages that a client writes to a file, or reads from one (queue/transfer.h).
 *
 *     {"do": "export.begin", "export": "0123..."}                    the transfer's name
 *     {"do": "export.take", "filter": "...", "after": ..., "until": ..., "max": 32}
 *                                     as "queue.hold" answers; "messages": [{"id": ..., "packed": 700, "body": 0, "data": base64}]
 *     {"do": "export.read", "id": ..., "offset": 700}                "data" of a message that was too large for that, packed and body as one
 *     {"do": "export.commit", "ids": [...]}                          they are in the file, durably: they are over here; what else was taken is not
 *     {"do": "export.check", "ids": [...]}                           after an interruption: "gone": [true, false, ...]
 *     {"do": "export.end"}                                           the file says all of it
 *
 *     {"do": "import.begin", "export": "0123..."}
 *     {"do": "import.expect", "numbers": [...]}                      "wanted": those that have not come yet
 *     {"do": "import.data", "number": 3, "packed": 700, "body": 0, "data": base64}       once or more, in order
 *     {"do": "import.commit"}                                        "came": 1, "errors": [{"number": 4, "error": "..."}]
 *
 * Whoever hangs up gives back what was taken and not committed.
 */
#include "admin/control.h"
#include "admin/control_internal.h"
#include "base/cleanup.h"
#include "base/codec.h"
#include "queue/transfer.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define DATA_INLINE   (32u * 1024)                /* bytes of a message that come with "export.take": 64 of them fit in an answer */
#define DATA_MAX      (1024u * 1024)              /* in one message of this protocol */
#define PACKED_MAX    (64u * 1024 * 1024)
#define BRING_MAX     (16u * 1024 * 1024)         /* bytes of an import's batch in memory, its last message not counted */

struct taken {
    struct claim *claim;
    struct buf    packed;                         /* owned */
};

struct coming {
    uint64_t         number, id;
    uint64_t         packed_size, body_size;
    struct buf       packed;                      /* owned */
    struct body     *body;                        /* owned; NULL: in packed, or nothing came */
    bool             whole;
    struct newcomer *newcomer;
    int              result;
};

struct exchange {
    struct queue    *queue;
    struct transfer *transfer;                    /* owned; NULL: none */
    enum transfer_way way;
    struct taken     taken[TRANSFER_AT_A_TIME];
    size_t           taken_count;
    struct coming    coming[TRANSFER_AT_A_TIME];
    size_t           coming_count, next;
    uint64_t         bytes;                       /* of coming */
};

static json_t *refuse(const char *why) { return control_refuse(str_of(why)); }

static json_t *result_of(int r)
{
    switch (r) {
    case 0:        return json_pack("{s:b}", "ok", 1);
    case -EUCLEAN: return refuse("the disk refuses, and only a new start can tell what became of them");
    case -EBADMSG: return refuse("that is no message, or a damaged one");
    }
    return refuse(control_error(r));
}

/* ---- beginning and end ---- */

struct exchange *exchange_new(struct queue *q)
{
    struct exchange *x = calloc(1, sizeof *x);
    if (x != NULL)
        x->queue = q;
    return x;
}

static void drop_taken(struct exchange *x)
{
    for (size_t i = 0; i < x->taken_count; i++) {
        if (x->taken[i].claim != NULL)
            queue_give_back(x->taken[i].claim);
        buf_free(&x->taken[i].packed);
    }
    x->taken_count = 0;
}

static void drop_coming(struct exchange *x)
{
    for (size_t i = 0; i < x->coming_count; i++) {
        buf_free(&x->coming[i].packed);
        body_free(x->coming[i].body);
    }
    x->coming_count = 0;
    x->bytes = 0;
}

static void end_transfer(struct exchange *x)
{
    drop_taken(x);
    drop_coming(x);
    transfer_close(x->transfer);
    x->transfer = NULL;
}

void exchange_free(struct exchange *x)
{
    if (x == NULL)
        return;
    end_transfer(x);
    free(x);
}

static json_t *begin(struct exchange *x, const json_t *request, enum transfer_way way)
{
    const json_t *name = json_object_get(request, "export");

    end_transfer(x);
    int r = transfer_open(x->queue, (struct str){ json_string_value(name), json_string_length(name) }, way, &x->transfer);
    x->way = way;
    if (r == -EBUSY)
        return refuse("another one is at that file");
    return r == -EINVAL ? refuse("that is no export's name") : result_of(r);
}

static json_t *begin_export(struct exchange *x, const json_t *request) { return begin(x, request, TRANSFER_OUT); }
static json_t *begin_import(struct exchange *x, const json_t *request) { return begin(x, request, TRANSFER_IN); }

/* ---- out ---- */

/* Of control_change: it is claimed and packed. More tasks than one are at it, so its slot is its own from the beginning. */
static int take(struct queue *q, uint64_t id, const struct control_wish *wish)
{
    struct exchange *x = wish->arg;
    struct taken t;

    int r = queue_claim_one(q, id, &t.claim);
    if (r < 0)
        return r;
    buf_init(&t.packed, PACKED_MAX);
    r = transfer_pack(t.claim, &t.packed);
    if (r < 0) {
        buf_free(&t.packed);
        queue_give_back(t.claim);
        return r;
    }
    x->taken[x->taken_count++] = t;
    return 0;
}

static uint64_t apart(const struct taken *t)
{
    return transfer_body_apart(t->claim) ? t->claim->body_size : 0;
}

static json_t *base64_string(struct str bytes)
{
    CLEANUP_BUF struct buf text;
    buf_init(&text, 2 * (bytes.n + 3));
    codec_put_base64(&text, bytes);
    return buf_ok(&text) ? control_string(buf_str(&text)) : NULL;
}

static json_t *message_object(const struct taken *t)
{
    uint64_t body = apart(t);
    json_t *object = json_pack("{s:o, s:I, s:I}", "id", control_id(t->claim->id), "packed", (json_int_t)t->packed.n, "body", (json_int_t)body);
    if (body == 0 && t->packed.n <= DATA_INLINE)
        (void)json_object_set_new(object, "data", base64_string(buf_str(&t->packed)));
    return object;
}

static json_t *take_page(struct exchange *x, const json_t *request)
{
    json_int_t max = json_integer_value(json_object_get(request, "max"));

    drop_taken(x);
    if (max <= 0 || max > TRANSFER_AT_A_TIME)
        return refuse("that is too many, or nothing");
    json_t *answer = control_change(x->queue, request, take, x);
    json_t *list = json_array();
    for (size_t i = 0; i < x->taken_count; i++)
        (void)json_array_append_new(list, message_object(&x->taken[i]));
    if (json_object_set_new(answer, "messages", list) < 0)
        drop_taken(x);
    return answer;
}

static struct taken *find_taken(struct exchange *x, const json_t *id_text)
{
    uint64_t id;

    if (!json_is_string(id_text) || !codec_id_parse(str_of(json_string_value(id_text)), &id))
        return NULL;
    for (size_t i = 0; i < x->taken_count; i++)
        if (x->taken[i].claim != NULL && x->taken[i].claim->id == id)
            return &x->taken[i];
    return NULL;
}

/* Awaits. Of packed and body as one. */
static int read_part(const struct taken *t, uint64_t offset, char *p, size_t n, size_t *out_n)
{
    if (offset >= t->packed.n)
        return queue_read_body(t->claim, offset - t->packed.n, p, n, out_n);
    *out_n = t->packed.n - offset < n ? t->packed.n - offset : n;
    memcpy(p, t->packed.p + offset, *out_n);
    return 0;
}

static json_t *read_message(struct exchange *x, const json_t *request)
{
    struct taken *t = find_taken(x, json_object_get(request, "id"));
    json_int_t offset = json_integer_value(json_object_get(request, "offset"));
    CLEANUP_FREE char *bytes = malloc(DATA_MAX);
    size_t n;

    if (t == NULL || offset < 0)
        return refuse("that was not taken");
    int r = bytes == NULL ? -ENOMEM : read_part(t, (uint64_t)offset, bytes, DATA_MAX, &n);
    return r < 0 ? result_of(r) : json_pack("{s:b, s:o}", "ok", 1, "data", base64_string((struct str){ bytes, n }));
}

static json_t *commit_export(struct exchange *x, const json_t *request)
{
    struct claim *claims[TRANSFER_AT_A_TIME];
    const json_t *ids = json_object_get(request, "ids"), *id;
    size_t i, n = 0;

    json_array_foreach(ids, i, id) {
        struct taken *t = find_taken(x, id);
        if (t == NULL)
            continue;
        claims[n++] = t->claim;
        t->claim = NULL;
    }
    bool all = n == json_array_size(ids);
    for (i = 0; !all && i < n; i++)
        queue_give_back(claims[i]);
    int r = all ? transfer_let_go(x->transfer, claims, n) : 0;
    drop_taken(x);
    return all ? result_of(r) : refuse("one of them was not taken");
}

static json_t *check_export(struct exchange *x, const json_t *request)
{
    const json_t *ids = json_object_get(request, "ids"), *text;
    json_t *list = json_array();
    size_t i;
    int r = 0;

    json_array_foreach(ids, i, text) {
        uint64_t id;
        bool gone = false;
        if (r == 0 && (!json_is_string(text) || !codec_id_parse(str_of(json_string_value(text)), &id)))
            r = -EBADMSG;
        if (r == 0)
            r = transfer_ask_gone(x->transfer, &id, 1, &gone);
        (void)json_array_append_new(list, json_boolean(gone));
    }
    if (r == 0)
        return json_pack("{s:b, s:o}", "ok", 1, "gone", list);
    json_decref(list);
    return result_of(r);
}

static json_t *end_export(struct exchange *x, const json_t *request)
{
    (void)request;
    drop_taken(x);
    int r = transfer_forget(x->transfer);
    x->transfer = NULL;
    return result_of(r);
}

/* ---- in ---- */

static json_t *expect_import(struct exchange *x, const json_t *request)
{
    const json_t *list = json_object_get(request, "numbers"), *item;
    uint64_t numbers[TRANSFER_AT_A_TIME] = { 0 }, ids[TRANSFER_AT_A_TIME] = { 0 };
    size_t i, n = json_array_size(list);

    drop_coming(x);
    if (n == 0 || n > TRANSFER_AT_A_TIME)
        return refuse("that is too many, or nothing");
    json_array_foreach(list, i, item) {
        numbers[i] = (uint64_t)json_integer_value(item);
        if (i > 0 && numbers[i] <= numbers[i - 1])
            return refuse("the numbers are not in order");
    }
    int r = transfer_expect(x->transfer, numbers, n, ids);
    if (r < 0)
        return result_of(r);
    json_t *wanted = json_array();
    for (i = 0; i < n; i++) {
        if (ids[i] == 0)
            continue;
        x->coming[x->coming_count] = (struct coming){ .number = numbers[i], .id = ids[i] };
        buf_init(&x->coming[x->coming_count++].packed, PACKED_MAX);
        (void)json_array_append_new(wanted, json_integer((json_int_t)numbers[i]));
    }
    return json_pack("{s:b, s:o}", "ok", 1, "wanted", wanted);
}

/* First the packed bytes, then those of the body. Awaits. */
static int add_data(struct exchange *x, struct coming *c, struct str bytes)
{
    struct str head = str_head(bytes, c->packed_size - c->packed.n), rest = str_from(bytes, head.n);

    buf_put_str(&c->packed, head);
    if (!buf_ok(&c->packed))
        return -ENOMEM;
    if (rest.n > 0 && c->body == NULL && (c->body = body_new(x->queue, c->id)) == NULL)
        return -ENOMEM;
    int r = rest.n > 0 ? body_append(c->body, rest) : 0;
    uint64_t body = c->body != NULL ? body_size(c->body) : 0;
    c->whole = c->packed.n == c->packed_size && body == c->body_size;
    return body > c->body_size ? -EBADMSG : r;
}

static bool read_sizes(const json_t *request, struct coming *c)
{
    json_int_t packed = json_integer_value(json_object_get(request, "packed")), body = json_integer_value(json_object_get(request, "body"));

    if (packed <= 0 || packed > PACKED_MAX || body < 0)
        return false;
    c->packed_size = (uint64_t)packed;
    c->body_size = (uint64_t)body;
    return true;
}

static json_t *data_import(struct exchange *x, const json_t *request)
{
    const json_t *data = json_object_get(request, "data");
    json_int_t number = json_integer_value(json_object_get(request, "number"));
    CLEANUP_BUF struct buf bytes;
    size_t i = 0;

    buf_init(&bytes, 2 * (size_t)DATA_MAX);
    while (i < x->coming_count && x->coming[i].number != (uint64_t)number)
        i++;
    if (i == x->coming_count || (x->coming[i].packed_size == 0 && !read_sizes(request, &x->coming[i])))
        return refuse("that was not expected");
    if (x->bytes > BRING_MAX && x->coming[i].packed.n == 0)
        return refuse("that is too much at once");
    if (!json_is_string(data) || !codec_base64((struct str){ json_string_value(data), json_string_length(data) }, &bytes))
        return result_of(-EBADMSG);
    x->bytes += bytes.n;
    return result_of(add_data(x, &x->coming[i], buf_str(&bytes)));
}

static void bring_task(void *arg)
{
    struct exchange *x = arg;

    while (x->next < x->coming_count) {
        struct coming *c = &x->coming[x->next++];
        c->result = c->whole ? transfer_bring(x->queue, c->id, buf_str(&c->packed), c->body, &c->newcomer) : -EBADMSG;
    }
}

/* Awaits. Side by side they share syncs. */
static void bring_all(struct exchange *x)
{
    struct task_group group;

    x->next = 0;
    task_group_init(&group);
    for (size_t i = 1; i < x->coming_count; i++)
        if (task_group_start(&group, "bring", bring_task, x) < 0)
            break;
    bring_task(x);
    (void)task_group_wait(&group, TASK_FOREVER);
}

static json_t *commit_import(struct exchange *x, const json_t *request)
{
    uint64_t numbers[TRANSFER_AT_A_TIME];
    struct newcomer *newcomers[TRANSFER_AT_A_TIME];
    json_t *errors = json_array();
    size_t n = 0;

    (void)request;
    task_shield_begin();                          /* what is durable must be let in, or it is seen by nobody before a new start */
    bring_all(x);
    for (size_t i = 0; i < x->coming_count; i++) {
        struct coming *c = &x->coming[i];
        if (c->result < 0) {
            json_t *why = result_of(c->result);
            (void)json_object_set_new(why, "number", json_integer((json_int_t)c->number));
            (void)json_array_append_new(errors, why);
            continue;
        }
        numbers[n] = c->number;
        newcomers[n++] = c->newcomer;
    }
    int r = transfer_let_in(x->transfer, numbers, newcomers, n);
    task_shield_end();
    drop_coming(x);
    if (r == 0)
        return json_pack("{s:b, s:I, s:o}", "ok", 1, "came", (json_int_t)n, "errors", errors);
    json_decref(errors);
    return result_of(r);
}

/* ---- requests ---- */

static const struct {
    const char       *name;
    json_t          *(*fn)(struct exchange *x, const json_t *request);
    enum transfer_way way;
    bool              begins;
} requests[] = {
    { "export.begin",  begin_export,  TRANSFER_OUT, true  },
    { "export.take",   take_page,     TRANSFER_OUT, false },
    { "export.read",   read_message,  TRANSFER_OUT, false },
    { "export.commit", commit_export, TRANSFER_OUT, false },
    { "export.check",  check_export,  TRANSFER_OUT, false },
    { "export.end",    end_export,    TRANSFER_OUT, false },
    { "import.begin",  begin_import,  TRANSFER_IN,  true  },
    { "import.expect", expect_import, TRANSFER_IN,  false },
    { "import.data",   data_import,   TRANSFER_IN,  false },
    { "import.commit", commit_import, TRANSFER_IN,  false },
};

json_t *exchange_answer(struct exchange *x, const char *name, const json_t *request)
{
    for (size_t i = 0; i < sizeof requests / sizeof requests[0]; i++) {
        if (strcmp(requests[i].name, name) != 0)
            continue;
        if (!requests[i].begins && (x->transfer == NULL || x->way != requests[i].way))
            return refuse("it has not begun");
        return requests[i].fn(x, request);
    }
    return NULL;
}
