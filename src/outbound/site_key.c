/*
 * The name of a site; see site_key.h. A stranger chooses the names of its hosts, so the fingerprint is one that cannot be met by
 * choosing. Pure.
 */
#include "outbound/site_key.h"
#include "base/digest.h"
#include <assert.h>
#include <string.h>

#define SUM_SHOWN  16
#define HOST_MAX   255
#define TEXT_MAX   (SITE_KEY_HOSTS_MAX * (HOST_MAX + 1))

static int cmp_nocase(struct str a, struct str b)
{
    for (size_t i = 0; i < a.n && i < b.n; i++) {
        int r = (unsigned char)char_lower(a.p[i]) - (unsigned char)char_lower(b.p[i]);
        if (r != 0)
            return r;
    }
    return a.n < b.n ? -1 : a.n > b.n;
}

/* Each once, without the dot at the end. */
static size_t sort_hosts(const struct str *hosts, size_t count, struct str out[SITE_KEY_HOSTS_MAX])
{
    size_t n = 0;

    for (size_t i = 0; i < count && n < SITE_KEY_HOSTS_MAX; i++) {
        struct str host = str_head(hosts[i], HOST_MAX);
        if (host.n > 1 && host.p[host.n - 1] == '.')
            host.n--;
        size_t at = n;
        while (at > 0 && cmp_nocase(out[at - 1], host) > 0)
            at--;
        if (at > 0 && cmp_nocase(out[at - 1], host) == 0)
            continue;
        memmove(out + at + 1, out + at, (n - at) * sizeof *out);
        out[at] = host;
        n++;
    }
    return n;
}

static void put_lower(struct buf *out, struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        buf_put_char(out, char_lower(s.p[i]));
}

static void put_fingerprint(struct buf *out, const struct str *hosts, size_t count)
{
    uint8_t sum[DIGEST_SHA256_LEN];
    char memory[TEXT_MAX];
    struct buf text;

    buf_init_fixed(&text, memory, sizeof memory);
    for (size_t i = 0; i < count; i++) {
        put_lower(&text, hosts[i]);
        buf_put_char(&text, '\n');
    }
    assert(buf_ok(&text));
    digest_sha256(buf_str(&text), sum);
    for (size_t i = 0; i < SUM_SHOWN; i++)
        buf_printf(out, "%02x", sum[i]);
}

void site_key_put(struct buf *out, struct str source, const struct refusal_provider *provider, const struct str *hosts, size_t count)
{
    struct str sorted[SITE_KEY_HOSTS_MAX];

    assert(count > 0);
    buf_put_str(out, source);
    if (provider != NULL) {
        buf_put_z(out, " provider:");
        buf_put_str(out, provider->name);
        return;
    }
    size_t n = sort_hosts(hosts, count, sorted);
    buf_put_z(out, " mx:");
    put_lower(out, sorted[0]);
    if (n > 1)
        buf_printf(out, "+%zu", n - 1);
    buf_put_char(out, ':');
    put_fingerprint(out, sorted, n);
}
