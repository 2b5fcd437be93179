/*
 * Local parts as names: see local_part.h.
 */
#include "mail/local_part.h"
#include "base/utf8.h"
#include <stdlib.h>
#include <unicase.h>
#include <uninorm.h>

static void put_lower(struct buf *out, struct str text)
{
    for (size_t i = 0; i < text.n; i++)
        buf_put_char(out, char_lower(text.p[i]));
}

void local_part_put_key(struct buf *out, struct str local)
{
    uint8_t lower[LOCAL_PART_KEY_MAX];
    size_t n = sizeof lower;
    bool known = !utf8_is_ascii(local) && utf8_valid(local);

    /* Without a language: no Turkish i, no Lithuanian dots. */
    uint8_t *result = known ? u8_tolower((const uint8_t *)local.p, local.n, NULL, UNINORM_NFC, lower, &n) : NULL;
    if (result == lower)
        buf_put(out, (const char *)lower, n);
    else
        put_lower(out, local);
    if (result != lower)
        free(result);        /* longer than any name here: then it is none */
}
