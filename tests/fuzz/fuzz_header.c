/*
 * Fuzzes mail/header and what writes fields. The fields of a header are its bytes, one behind the other; whatever a value holds,
 * a written field reads back as one field; a list of addresses written reads back as the same addresses.
 */
#include "base/cleanup.h"
#include "mail/field_watch.h"
#include "mail/header.h"
#include "mail/mime.h"
#include "mail/trace.h"

#include <assert.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_fields(struct arena *a, struct str message)
{
    struct header_iter it;
    struct header_field field;
    size_t at = 0, end = header_end(message);

    for (header_begin(&it, message); header_next(&it, &field); at += field.raw.n) {
        assert(field.raw.n > 0 && field.raw.p == message.p + at && field.malformed == (field.name.n == 0));
        assert(header_count(message, field.name) > 0 || field.malformed);
        struct str line = header_unfold(a, field.value);
        assert(line.n <= field.value.n);
        (void)header_decode(a, field.value);
    }
    assert(at == end || at + 2 == end);
}

/* However it is cut. */
static void check_watch(struct str message)
{
    struct field_watch whole = { .name = "tls-required" }, pieces = whole;

    field_watch(&whole, message);
    for (size_t at = 0, n = 1; at < message.n; at += n, n = n % 7 + 1)
        field_watch(&pieces, str_head(str_from(message, at), n));
    assert(whole.count == pieces.count && field_watch_is(&whole, STR("no")) == field_watch_is(&pieces, STR("no")));
}

static void check_remove(struct str message)
{

    CLEANUP_BUF struct buf out;
    buf_init(&out, message.n + 1);
    header_remove(&out, message, STR("Bcc"));
    assert(buf_ok(&out) && header_count(buf_str(&out), STR("Bcc")) == 0);
    buf_clear(&out);
    header_remove(&out, message, STR("X-There-Is-None"));
    assert(header_count(message, STR("X-There-Is-None")) > 0 || str_eq(buf_str(&out), message));
}

/* One field, its value printable but for folds, UTF-8 if the addresses are. */
static struct header_field only_field(const struct buf *out)
{
    struct header_iter it;
    struct header_field field;

    assert(buf_ok(out));
    header_begin(&it, buf_str(out));
    assert(header_next(&it, &field) && !field.malformed && field.raw.n == out->n);
    for (size_t i = 0; i < out->n; i++) {
        unsigned char c = (unsigned char)out->p[i];
        assert((c >= ' ' && c != 0x7f) || c == '\r' || c == '\n' || c == '\t');
        assert(c != '\n' || out->p[i - 1] == '\r');
        assert(c != '\r' || out->p[i + 1] == '\n');
    }
    return field;
}

static void check_writers(struct str value)
{
    struct trace_received r = { .helo = value, .rdns = value, .ip = STR("192.0.2.1"), .by_host = value, .tls_suite = value, .comment = value, .id = value };

    CLEANUP_BUF struct buf out;
    buf_init(&out, 1 << 22);
    header_put_field(&out, "X-Test", value);
    (void)only_field(&out);
    buf_clear(&out);
    header_put_structured(&out, "X-Test", value);
    (void)only_field(&out);
    buf_clear(&out);
    trace_put_received(&out, &r);
    (void)only_field(&out);
    buf_clear(&out);
    buf_put_z(&out, "X-Test: x");
    mime_put_param(&out, "name", value);
    buf_put_z(&out, "\r\n");
    (void)only_field(&out);
    buf_clear(&out);
    mime_put_text(&out, value);
    assert(buf_ok(&out));
}

static void check_addresses(struct arena *a, struct str value, unsigned options)
{
    struct header_addresses list, back;

    if (!header_address_list(a, value, options, &list) || list.count == 0)
        return;
    CLEANUP_BUF struct buf out;
    buf_init(&out, 1 << 22);
    header_put_addresses(&out, "To", list.items, list.count);
    struct header_field field = only_field(&out);
    assert(header_address_list(a, field.value, options, &back));
    assert(back.bad.n == 0 && back.count == list.count);
    for (size_t i = 0; i < list.count; i++)
        assert(address_eq(&list.items[i].addr, &back.items[i].addr));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str in = { (const char *)data, size };
    struct arena a;

    if (size > 16384)
        return 0;
    arena_init(&a, 1 << 26);
    check_fields(&a, in);
    check_watch(in);
    check_remove(in);
    check_writers(in);
    check_addresses(&a, in, 0);
    check_addresses(&a, in, ADDRESS_BARE | ADDRESS_UTF8);
    arena_reset(&a);
    return 0;
}
