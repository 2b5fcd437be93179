/*
 * See transfer_client.h; the protocol is in control_transfer.c, the file in transfer_file.h.
 *
 * Export: messages are taken (claimed) by the server, written to the file, and the file is synced; then the server lets them go; then the
 * file says that they are gone. Killed before the second step they are the server's, and void in the file; killed behind it, the server's
 * ledger tells so to who finishes the file. Import: the messages that the file says are gone, by their numbers, which the other server
 * takes once each.
 */
#include "admin/transfer_client.h"
#include "admin/cli.h"
#include "admin/transfer_file.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/codec.h"
#include "base/map.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#define AT_ONCE           32
#define DATA_MAX          (1024 * 1024)
#define ASK_AT_ONCE       1000
#define PROGRESS_EVERY_NS (200 * NS_PER_MS)

struct courier {
    struct control_client *client;
    const char            *path;
    struct transfer_file   file;
    struct map_u64         pending;          /* number to id + 1, of messages not said to be gone; on import, the numbers that are */
    uint64_t               next_number;
    bool                   ended;            /* there is a FRAME_END */
    bool                   torn;
    int64_t                done, looked, total, failed, shown_ns;
    int                    code;
};

static void *as_value(uint64_t n) { return (void *)(uintptr_t)(n + 1); }
static uint64_t of_value(const void *value) { return (uint64_t)(uintptr_t)value - 1; }

static int fail(struct courier *c, int code, const char *why)
{
    c->code = cli_fail("queue", code, "%s: %s", c->path, why);
    return -1;
}

static int fail_file(struct courier *c, int r)
{
    return fail(c, r == -EBADMSG ? EX_DATAERR : r == -ENOENT ? EX_NOINPUT : EX_CANTCREAT, r == -EBADMSG ? "it is damaged, or no export" : strerror(-r));
}

static void show_progress(struct courier *c, bool last)
{
    int64_t now = clock_mono_ns();

    if (!isatty(STDERR_FILENO) || (!last && now - c->shown_ns < PROGRESS_EVERY_NS))
        return;
    c->shown_ns = now;
    fprintf(stderr, last ? "\r\033[K" : "\r%lld done, %lld of %lld looked at\033[K", (long long)c->done, (long long)c->looked, (long long)c->total);
}

/* Awaits. NULL after it has said why. */
static json_t *ask(struct courier *c, json_t *wish)
{
    json_t *answer = NULL;
    int r = control_request(c->client, wish, &answer);

    if (r < 0) {
        c->code = cli_fail("queue", EX_UNAVAILABLE, "the server went away: %s; the same command finishes the work", strerror(-r));
        return NULL;
    }
    if (json_is_true(json_object_get(answer, "ok")))
        return answer;
    c->code = cli_fail("queue", 1, "%s", json_string_value(json_object_get(answer, "error")));
    json_decref(answer);
    return NULL;
}

static int tell(struct courier *c, json_t *wish)
{
    json_t *answer = ask(c, wish);
    json_decref(answer);
    return answer != NULL ? 0 : -1;
}

/* ---- what is in the file ---- */

static int note_gone(struct courier *c, struct str payload, bool keep)
{
    for (size_t at = 0; at + 8 <= payload.n; at += 8) {
        uint64_t number = codec_get_u64(payload.p + at);
        if (!keep)
            (void)map_u64_remove(&c->pending, number);
        else if (map_u64_put(&c->pending, number, c) < 0)
            return -ENOMEM;
    }
    return 0;
}

/* Reads all of it; keep: remembers what is gone, otherwise what is not. It ends where it is torn. */
static int survey(struct courier *c, bool keep)
{
    struct frame f;
    int r;

    transfer_file_rewind(&c->file);
    while ((r = transfer_file_read(&c->file, &f)) == 1) {
        switch (f.kind) {
        case FRAME_MESSAGE:
            c->next_number = f.number + 1;
            if (f.payload.n != 24)
                return -EBADMSG;
            if (!keep && map_u64_put(&c->pending, f.number, as_value(codec_get_u64(f.payload.p))) < 0)
                return -ENOMEM;
            break;
        case FRAME_GONE:
            if (note_gone(c, f.payload, keep) < 0)
                return -ENOMEM;
            break;
        case FRAME_END: c->ended = true; break;
        case FRAME_DATA: break;
        }
    }
    c->torn = r == -EBADMSG;
    return c->torn ? 0 : r;
}

/* ---- export ---- */

static int write_gone(struct courier *c, const uint64_t *numbers, size_t n)
{
    char bytes[8 * ASK_AT_ONCE];

    for (size_t i = 0; i < n; i++)
        codec_set_u64(bytes + 8 * i, numbers[i]);
    int r = n > 0 ? transfer_file_write(&c->file, FRAME_GONE, 0, (struct str){ bytes, 8 * n }) : 0;
    c->done += (int64_t)n;
    return r < 0 ? fail_file(c, r) : 0;
}

static json_t *id_string(uint64_t id)
{
    char text[CODEC_ID_LEN + 1];
    codec_id_format(id, text);
    return json_string(text);
}

/* Awaits. What the file does not know of a part of those pending. */
static int ask_part(struct courier *c, const uint64_t *numbers, json_t *ids, size_t n)
{
    uint64_t gone[ASK_AT_ONCE];
    size_t count = 0;
    json_t *answer = ask(c, json_pack("{s:s, s:o}", "do", "export.check", "ids", ids));

    if (answer == NULL)
        return -1;
    for (size_t i = 0; i < n; i++)
        if (json_is_true(json_array_get(json_object_get(answer, "gone"), i)))
            gone[count++] = numbers[i];
    json_decref(answer);
    return write_gone(c, gone, count);
}

/* Awaits. Finishes what was broken off: which of the messages that it has are its own? */
static int resolve(struct courier *c)
{
    uint64_t numbers[ASK_AT_ONCE];
    size_t cursor = 0, n = 0;
    json_t *ids = json_array();
    uint64_t number;
    void *value;
    int r = 0;

    while (r == 0 && map_u64_next(&c->pending, &cursor, &number, &value)) {
        numbers[n++] = number;
        (void)json_array_append_new(ids, id_string(of_value(value)));
        if (n < ASK_AT_ONCE)
            continue;
        r = ask_part(c, numbers, ids, n);
        ids = json_array();
        n = 0;
    }
    if (r == 0 && n > 0)
        return ask_part(c, numbers, ids, n);
    json_decref(ids);
    return r;
}

static int open_export(struct courier *c)
{
    int r = transfer_file_open(c->path, true, &c->file);

    if (r == -ENOENT) {
        r = transfer_file_create(c->path, &c->file);
        return r < 0 ? fail_file(c, r) : 0;
    }
    if (r < 0)
        return fail_file(c, r);
    r = survey(c, false);
    if (r == 0 && c->ended)
        return fail(c, EX_CANTCREAT, "that export is complete; another one needs a file of its own");
    if (r == 0)
        r = transfer_file_cut(&c->file);
    return r < 0 ? fail_file(c, r) : 0;
}

/* Awaits. All bytes of a message that the page had no room for. */
static int fetch(struct courier *c, uint64_t number, const json_t *id, uint64_t size)
{
    CLEANUP_BUF struct buf bytes;
    int r = 0;

    buf_init(&bytes, 2 * (size_t)DATA_MAX);
    for (uint64_t at = 0; r == 0 && at < size; at += bytes.n) {
        json_t *answer = ask(c, json_pack("{s:s, s:O, s:I}", "do", "export.read", "id", id, "offset", (json_int_t)at));
        if (answer == NULL)
            return -1;
        const char *data = json_string_value(json_object_get(answer, "data"));
        buf_clear(&bytes);
        bool good = data != NULL && codec_base64(str_of(data), &bytes) && bytes.n > 0;
        json_decref(answer);
        if (!good)
            return fail(c, EX_PROTOCOL, "the server sends less than it said");
        r = transfer_file_write(&c->file, FRAME_DATA, number, buf_str(&bytes));
    }
    return r < 0 ? fail_file(c, r) : 0;
}

/* Awaits. */
static int write_message(struct courier *c, uint64_t number, const json_t *message)
{
    const json_t *id_text = json_object_get(message, "id"), *data = json_object_get(message, "data");
    uint64_t id, packed = (uint64_t)json_integer_value(json_object_get(message, "packed")), body = (uint64_t)json_integer_value(json_object_get(message, "body"));
    CLEANUP_BUF struct buf bytes;
    char head[24];

    buf_init(&bytes, 2 * (size_t)DATA_MAX);
    if (!json_is_string(id_text) || !codec_id_parse(str_of(json_string_value(id_text)), &id) ||
        (data != NULL && (!codec_base64(str_of(json_string_value(data)), &bytes) || bytes.n != packed + body)))
        return fail(c, EX_PROTOCOL, "the server's answer makes no sense");
    codec_set_u64(head, id);
    codec_set_u64(head + 8, packed);
    codec_set_u64(head + 16, body);
    int r = transfer_file_write(&c->file, FRAME_MESSAGE, number, (struct str){ head, sizeof head });
    if (r == 0 && data != NULL)
        r = transfer_file_write(&c->file, FRAME_DATA, number, buf_str(&bytes));
    if (r < 0)
        return fail_file(c, r);
    return data != NULL ? 0 : fetch(c, number, id_text, packed + body);
}

/* Awaits. In the file, durably; then the server's no more; then the file says so, durably with the next. */
static int write_page(struct courier *c, const json_t *messages)
{
    uint64_t numbers[AT_ONCE];
    const json_t *message;
    json_t *ids = json_array();
    size_t i;
    int r = 0;

    json_array_foreach(messages, i, message) {
        numbers[i] = c->next_number++;
        r = r == 0 ? write_message(c, numbers[i], message) : r;
        (void)json_array_append(ids, json_object_get(message, "id"));
    }
    if (r == 0 && (r = transfer_file_sync(&c->file)) < 0)
        r = fail_file(c, r);
    if (r == 0)
        r = tell(c, json_pack("{s:s, s:O}", "do", "export.commit", "ids", ids));
    json_decref(ids);
    return r == 0 ? write_gone(c, numbers, json_array_size(messages)) : r;
}

static void report_errors(struct courier *c, const json_t *items)
{
    const json_t *item;
    size_t i;

    json_array_foreach(items, i, item) {
        const char *error = json_string_value(json_object_get(item, "error"));
        if (error == NULL)
            continue;
        c->failed++;
        show_progress(c, true);
        (void)cli_fail("queue", 1, "%s: %s", json_string_value(json_object_get(item, "id")), error);
    }
}

/* Awaits. */
static int export_all(struct courier *c, struct str filter)
{
    char after[32] = "0000000000000", until[32] = "";

    for (bool done = false; !done;) {
        json_t *answer = ask(c, json_pack("{s:s, s:o, s:s, s:s, s:i}", "do", "export.take", "filter", control_string(filter), "after", after,
                                          "until", until, "max", AT_ONCE));
        if (answer == NULL)
            return -1;
        done = json_is_true(json_object_get(answer, "done"));
        (void)snprintf(after, sizeof after, "%s", json_string_value(json_object_get(answer, "after")));
        (void)snprintf(until, sizeof until, "%s", json_string_value(json_object_get(answer, "until")));
        c->looked += json_integer_value(json_object_get(answer, "looked"));
        c->total = json_integer_value(json_object_get(answer, "total")) + c->done;
        report_errors(c, json_object_get(answer, "items"));
        const json_t *messages = json_object_get(answer, "messages");
        int r = json_array_size(messages) > 0 ? write_page(c, messages) : 0;
        json_decref(answer);
        if (r < 0)
            return r;
        show_progress(c, false);
    }
    return 0;
}

/* Awaits. */
static int run_export(struct courier *c, struct str filter)
{
    int r = open_export(c);

    if (r == 0)
        r = tell(c, json_pack("{s:s, s:s}", "do", "export.begin", "export", c->file.name));
    if (r == 0)
        r = resolve(c);
    if (r == 0)
        r = export_all(c, filter);
    if (r < 0)
        return r;
    r = transfer_file_sync(&c->file);
    if (r == 0 && c->failed > 0)                     /* they were being delivered, say: the same command may take them yet */
        return 0;
    if (r == 0)
        r = transfer_file_write(&c->file, FRAME_END, 0, STR(""));
    if (r == 0)
        r = transfer_file_sync(&c->file);
    return r < 0 ? fail_file(c, r) : tell(c, json_pack("{s:s}", "do", "export.end"));
}

static int end(struct courier *c, const char *what)
{
    show_progress(c, true);
    if (c->file.file >= 0)
        transfer_file_close(&c->file);
    map_u64_free(&c->pending);
    printf("%lld %s %s\n", (long long)c->done, c->done == 1 ? "message" : "messages", what);
    return c->code == 0 && c->failed > 0 ? 1 : c->code;
}

int transfer_export(struct control_client *client, const char *path, struct str filter)
{
    struct courier c = { .client = client, .path = path, .file = { .file = -1 }, .next_number = 1 };

    map_u64_init(&c.pending);
    (void)run_export(&c, filter);
    return end(&c, "exported");
}

/* ---- import ---- */

/* Some messages of the file, read twice: their numbers, then their bytes. */
struct batch {
    uint64_t numbers[AT_ONCE];
    size_t   count;
    uint64_t from, to;                       /* of the file */
};

/* The next ones that are this file's. */
static int find_batch(struct courier *c, struct batch *b)
{
    struct frame f;
    uint64_t begin = c->file.at;
    int r = 1;

    *b = (struct batch){ .from = begin };
    while (b->count < AT_ONCE && c->file.at - begin < 4 * (uint64_t)DATA_MAX && (r = transfer_file_read(&c->file, &f)) == 1)
        if (f.kind == FRAME_MESSAGE && map_u64_get(&c->pending, f.number) != NULL)
            b->numbers[b->count++] = f.number;
    /* The last one's bytes are behind it. */
    for (b->to = c->file.at; r == 1 && (r = transfer_file_read(&c->file, &f)) == 1 && f.kind == FRAME_DATA;)
        b->to = c->file.at;
    c->file.at = b->to;
    return r < 0 && !c->torn ? fail_file(c, r) : 0;
}

static bool is_wanted(const json_t *wanted, uint64_t number)
{
    const json_t *n;
    size_t i;

    json_array_foreach(wanted, i, n)
        if ((uint64_t)json_integer_value(n) == number)
            return true;
    return false;
}

/* Awaits. */
static int send_data(struct courier *c, const struct frame *f, uint64_t packed, uint64_t body)
{
    CLEANUP_BUF struct buf text;

    buf_init(&text, 2 * (size_t)TRANSFER_FRAME_MAX);
    codec_put_base64(&text, f->payload);
    if (!buf_ok(&text))
        return fail(c, EX_OSERR, "there is no memory");
    return tell(c, json_pack("{s:s, s:I, s:I, s:I, s:o}", "do", "import.data", "number", (json_int_t)f->number, "packed", (json_int_t)packed, "body",
                             (json_int_t)body, "data", control_string(buf_str(&text))));
}

/* Awaits. The bytes of those that have not come yet. */
static int send_batch(struct courier *c, const struct batch *b, const json_t *wanted)
{
    uint64_t packed = 0, body = 0;
    struct frame f;
    int r = 0;

    c->file.at = b->from;
    while (r == 0 && c->file.at < b->to) {
        if (transfer_file_read(&c->file, &f) != 1)
            return fail_file(c, -EBADMSG);
        if (f.kind == FRAME_MESSAGE) {
            packed = codec_get_u64(f.payload.p + 8);
            body = codec_get_u64(f.payload.p + 16);
        } else if (f.kind == FRAME_DATA && is_wanted(wanted, f.number)) {
            r = send_data(c, &f, packed, body);
        }
    }
    return r;
}

static void report_refused(struct courier *c, const json_t *errors)
{
    const json_t *e;
    size_t i;

    json_array_foreach(errors, i, e) {
        c->failed++;
        show_progress(c, true);
        (void)cli_fail("queue", 1, "%s: message %lld: %s", c->path, (long long)json_integer_value(json_object_get(e, "number")),
                       json_string_value(json_object_get(e, "error")));
    }
}

/* Awaits. */
static int commit_batch(struct courier *c)
{
    json_t *answer = ask(c, json_pack("{s:s}", "do", "import.commit"));

    if (answer == NULL)
        return -1;
    c->done += json_integer_value(json_object_get(answer, "came"));
    report_refused(c, json_object_get(answer, "errors"));
    json_decref(answer);
    return 0;
}

/* Awaits. */
static int import_batch(struct courier *c, const struct batch *b)
{
    json_t *numbers = json_array();

    for (size_t i = 0; i < b->count; i++)
        (void)json_array_append_new(numbers, json_integer((json_int_t)b->numbers[i]));
    json_t *answer = ask(c, json_pack("{s:s, s:o}", "do", "import.expect", "numbers", numbers));
    if (answer == NULL)
        return -1;
    const json_t *wanted = json_object_get(answer, "wanted");
    int r = json_array_size(wanted) == 0 ? 0 : send_batch(c, b, wanted);
    if (r == 0 && json_array_size(wanted) > 0)
        r = commit_batch(c);
    json_decref(answer);
    c->file.at = b->to;
    c->looked += (int64_t)b->count;
    show_progress(c, false);
    return r;
}

/* Awaits. */
static int import_all(struct courier *c)
{
    struct batch b;
    int r;

    transfer_file_rewind(&c->file);
    do {
        r = find_batch(c, &b);
        if (r == 0 && b.count > 0)
            r = import_batch(c, &b);
    } while (r == 0 && b.to > b.from);
    return r;
}

/* Awaits. */
static int run_import(struct courier *c)
{
    int r = transfer_file_open(c->path, false, &c->file);

    if (r == 0)
        r = survey(c, true);
    if (r < 0)
        return fail_file(c, r);
    c->total = (int64_t)c->pending.used;
    r = tell(c, json_pack("{s:s, s:s}", "do", "import.begin", "export", c->file.name));
    if (r == 0)
        r = import_all(c);
    if (r == 0 && !c->ended)
        r = fail(c, 1, "the export was broken off: finish it where it began, and import it again for the rest");
    return r;
}

int transfer_import(struct control_client *client, const char *path)
{
    struct courier c = { .client = client, .path = path, .file = { .file = -1 }, .next_number = 1 };

    map_u64_init(&c.pending);
    (void)run_import(&c);
    return end(&c, "imported");
}
