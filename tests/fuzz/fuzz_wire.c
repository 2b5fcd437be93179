/*
 * Fuzzes run/wire, and the accounts in lookup/wire: what is taken is put as the same bytes again, and who has them in pieces takes the same messages.
 */
#include "lookup/wire.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str left = { (const char *)data, size };
    struct wire_message m, again;
    struct keeper_record record;
    struct buf bytes;
    ssize_t n;

    while ((n = wire_take(left, &m)) > 0) {
        buf_init(&bytes, WIRE_MESSAGE_MAX);
        assert((size_t)n <= left.n && wire_put(&bytes, &m));
        assert(bytes.n == (size_t)n && memcmp(bytes.p, left.p, bytes.n) == 0);
        assert(wire_take((struct str){ left.p, (size_t)n - 1 }, &again) == 0);
        buf_free(&bytes);
        if (lookup_take_record(&m, &record))
            assert(strlen(record.login) <= KEEPER_LOGIN_MAX && strlen(record.hash) <= ACCOUNTS_HASH_MAX && record.scram.salt_n <= KEEPER_SALT_MAX);
        left.p += n;
        left.n -= (size_t)n;
    }
    assert(n == 0 || n == -EBADMSG);
    return 0;
}
