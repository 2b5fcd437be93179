/*
 * Fuzzes smtp/proxy_wire: who reads no more than the parser says is missing ends exactly behind the header, with the same result
 * as one who has it all at once.
 */
#include "smtp/proxy_wire.h"

#include <assert.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str in = { (const char *)data, size };
    struct proxy_header whole, pieces;
    size_t n = 0, missing = 0, have = 0;

    memset(&whole, 0, sizeof whole);
    memset(&pieces, 0, sizeof pieces);
    enum proxy_result at_once = proxy_parse(in, &whole, &n), result;
    while ((result = proxy_parse(str_head(in, have), &pieces, &missing)) == PROXY_MORE && have + missing <= size) {
        assert(missing > 0);
        have += missing;
        assert(have <= PROXY_V2_MAX);
    }
    assert(result == at_once || (result == PROXY_MORE && at_once == PROXY_BAD));      /* bad, and shorter than any header */
    if (result == PROXY_DONE) {
        assert(n == have && missing == n && whole.ip_len == pieces.ip_len && whole.local == pieces.local);
        assert(memcmp(whole.client_ip, pieces.client_ip, 16) == 0 && whole.client_port == pieces.client_port);
        assert(whole.ip_len == 0 || whole.ip_len == 4 || whole.ip_len == 16);
    }
    return 0;
}
