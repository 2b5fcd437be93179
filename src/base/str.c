/*
 * Byte strings; the contract is in str.h. Pure: the only memory is the arena that a caller names. Runs in every process.
 */
#include "base/str.h"
#include "base/arena.h"
#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct str str_of(const char *z)
{
    return z == NULL ? STR("") : (struct str){ z, strlen(z) };
}

/* memcmp may not be given NULL, and an empty string may well be { NULL, 0 }. */
static bool bytes_eq(const char *a, const char *b, size_t n)
{
    return n == 0 || memcmp(a, b, n) == 0;
}

static bool bytes_eq_nocase(const char *a, const char *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (char_lower(a[i]) != char_lower(b[i]))
            return false;
    return true;
}

bool str_eq(struct str a, struct str b)
{
    return a.n == b.n && bytes_eq(a.p, b.p, a.n);
}

bool str_eq_nocase(struct str a, struct str b)
{
    return a.n == b.n && bytes_eq_nocase(a.p, b.p, a.n);
}

int str_cmp(struct str a, struct str b)
{
    size_t common = a.n < b.n ? a.n : b.n;
    int order = common == 0 ? 0 : memcmp(a.p, b.p, common);

    if (order != 0)
        return order;
    return (a.n > b.n) - (a.n < b.n);
}

bool str_starts(struct str s, struct str prefix)
{
    return s.n >= prefix.n && bytes_eq(s.p, prefix.p, prefix.n);
}

bool str_starts_nocase(struct str s, struct str prefix)
{
    return s.n >= prefix.n && bytes_eq_nocase(s.p, prefix.p, prefix.n);
}

bool str_ends_nocase(struct str s, struct str suffix)
{
    return s.n >= suffix.n && str_eq_nocase(str_from(s, s.n - suffix.n), suffix);
}

struct str str_trim(struct str s)
{
    while (s.n > 0 && char_is_blank(s.p[s.n - 1]))
        s.n--;
    while (s.n > 0 && char_is_blank(s.p[0]))
        s = str_from(s, 1);
    return s;
}

struct str str_from(struct str s, size_t from)
{
    if (from >= s.n)
        from = s.n;
    return from == 0 ? s : (struct str){ s.p + from, s.n - from };
}

struct str str_head(struct str s, size_t n)
{
    return (struct str){ s.p, n < s.n ? n : s.n };
}

ssize_t str_find(struct str s, char c)
{
    const char *at = s.n == 0 ? NULL : memchr(s.p, c, s.n);

    return at == NULL ? -1 : at - s.p;
}

ssize_t str_find_last(struct str s, char c)
{
    const char *at = s.n == 0 ? NULL : memrchr(s.p, c, s.n);

    return at == NULL ? -1 : at - s.p;
}

ssize_t str_find_str(struct str s, struct str needle)
{
    if (needle.n == 0)
        return 0;
    const char *at = s.n == 0 ? NULL : memmem(s.p, s.n, needle.p, needle.n);
    return at == NULL ? -1 : at - s.p;
}

bool str_cut(struct str s, char sep, struct str *head, struct str *rest)
{
    ssize_t at = str_find(s, sep);

    if (at < 0) {
        *head = s;
        *rest = str_from(s, s.n);
        return false;
    }
    *head = str_head(s, (size_t)at);
    *rest = str_from(s, (size_t)at + 1);
    return true;
}

bool str_to_u64(struct str s, uint64_t max, uint64_t *out)
{
    uint64_t v = 0;

    if (s.n == 0)
        return false;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] < '0' || s.p[i] > '9')
            return false;
        if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, (uint64_t)(s.p[i] - '0'), &v) || v > max)
            return false;
    }
    *out = v;
    return true;
}

/* n bytes and a NUL behind them, which the arena's zeroes already are. */
static char *room_with_nul(struct arena *a, size_t n)
{
    return n == SIZE_MAX ? NULL : arena_alloc(a, n + 1);
}

struct str str_copy(struct arena *a, struct str s)
{
    char *p = room_with_nul(a, s.n);

    if (p == NULL)
        return (struct str){ NULL, 0 };
    if (s.n > 0)
        memcpy(p, s.p, s.n);
    return (struct str){ p, s.n };
}

struct str str_lower(struct arena *a, struct str s)
{
    char *p = room_with_nul(a, s.n);

    if (p == NULL)
        return (struct str){ NULL, 0 };
    for (size_t i = 0; i < s.n; i++)
        p[i] = char_lower(s.p[i]);
    return (struct str){ p, s.n };
}

const char *str_z(struct arena *a, struct str s)
{
    return str_copy(a, s).p;
}

struct str str_printf(struct arena *a, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    assert(n >= 0); /* only a wrong format or a result beyond INT_MAX */
    char *p = room_with_nul(a, (size_t)n);
    if (p == NULL)
        return (struct str){ NULL, 0 };
    va_start(args, format);
    (void)vsnprintf(p, (size_t)n + 1, format, args);
    va_end(args);
    return (struct str){ p, (size_t)n };
}
