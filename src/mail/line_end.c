/*
 * CRLF to LF: see line_end.h. Whole runs of bytes at a time.
 */
#include "mail/line_end.h"
#include <string.h>

/* Where the first CR with an LF behind it stands, from `from` on; n if nowhere. */
static size_t find_crlf(const char *p, size_t n, size_t from)
{
    while (from < n) {
        const char *cr = memchr(p + from, '\r', n - from);
        if (cr == NULL)
            break;
        from = (size_t)(cr - p) + 1;
        if (from < n && p[from] == '\n')
            return from - 1;
    }
    return n;
}

size_t line_end_to_lf(char *p, size_t n)
{
    size_t kept = find_crlf(p, n, 0);

    for (size_t at = kept; at < n;) {            /* at a CR that goes */
        size_t next = find_crlf(p, n, at + 1);
        memmove(p + kept, p + at + 1, next - (at + 1));
        kept += next - (at + 1);
        at = next;
    }
    return kept;
}
