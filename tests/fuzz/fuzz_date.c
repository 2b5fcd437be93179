/*
 * Fuzzes mail/date: a date that was understood is written in the modern form and means the same. Of eight octets or more the
 * first eight are a time to be written, too.
 */
#include "mail/date.h"
#include "base/calendar.h"

#include <assert.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const int64_t second = 1000000000;

static void check_put(int64_t ns, int offset)
{
    char memory[64];
    struct buf out;
    int64_t back;
    int back_offset;

    buf_init_fixed(&out, memory, sizeof memory);
    date_put(&out, ns, offset);
    assert(buf_ok(&out));
    if (ns < INT64_C(-2208900000) * second) /* about 1900; before that the reader refuses */
        return;
    int64_t floor_ns = ns - ((ns % second) + second) % second;
    assert(date_parse(buf_str(&out), &back, &back_offset) && back == floor_ns && back_offset == offset);
    buf_clear(&out);
    calendar_put_iso(&out, ns, false);
    assert(date_parse_iso(buf_str(&out), &back) && back == floor_ns);
    buf_clear(&out);
    calendar_put_iso(&out, ns, true);
    assert(date_parse_iso(buf_str(&out), &back) && back / 1000000 == (ns - ((ns % 1000000) + 1000000) % 1000000) / 1000000);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str in = { (const char *)data, size };
    int64_t ns;
    int offset;

    if (date_parse(in, &ns, &offset)) {
        assert(ns % second == 0 && offset > -1440 && offset < 1440);
        check_put(ns, offset);
    }
    if (date_parse_iso(in, &ns))
        check_put(ns, 0);
    if (size >= sizeof ns) {
        memcpy(&ns, data, sizeof ns);
        check_put(ns, 0);
    }
    return 0;
}
