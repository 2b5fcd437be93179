/*
 * The values of options: a reader and a writer for each kind. Pure.
 */
#include "conf/option.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "conf/tls_level.h"
#include "mail/domain.h"
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct unit {
    const char *name;
    uint64_t    factor;
};
static const struct unit times[] = { { "ms", NS_PER_MS }, { "s", NS_PER_S }, { "m", 60 * NS_PER_S },
                                      { "h", 3600 * NS_PER_S }, { "d", 24 * 3600 * NS_PER_S } };
static const struct unit sizes[] = { { "", 1 }, { "KiB", 1 << 10 }, { "MiB", 1 << 20 }, { "GiB", 1 << 30 } };
static const char *const levels[] = { [LOG_DEBUG] = "debug", [LOG_INFO] = "info", [LOG_WARN] = "warn", [LOG_ERROR] = "error" };
static const struct { const char *word; bool value; } bools[] = { { "yes", true }, { "no", false }, { "true", true }, { "false", false }, { "on", true }, { "off", false } };

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* -- reading ------------------------------------------------------------------------------------------------------- */

static void *field(const struct conf *c, size_t offset) { return (char *)(uintptr_t)c + offset; }

static bool say(struct buf *why, const char *text)
{
    buf_put_z(why, text);
    return false;
}

/* "90m", "1h30m", "64KiB", "512": numbers, each with one of the units. A unit "" fits only at the end. */
static bool parse_units(struct str text, const struct unit *units, size_t unit_count, uint64_t *out)
{
    uint64_t sum = 0;

    if (text.n == 0)
        return false;
    while (text.n > 0) {
        size_t digits = 0, letters = 0;
        while (digits < text.n && char_is_digit(text.p[digits]))
            digits++;
        while (digits + letters < text.n && !char_is_digit(text.p[digits + letters]))
            letters++;
        uint64_t n, part, factor = 0;
        struct str unit = str_head(str_from(text, digits), letters);
        for (size_t i = 0; i < unit_count; i++)
            if (str_eq(unit, str_of(units[i].name)))
                factor = units[i].factor;
        if (!str_to_u64(str_head(text, digits), UINT64_MAX, &n))
            return false;
        if (factor == 0 && !(n == 0 && letters == 0))    /* zero needs no unit */
            return false;
        if (__builtin_mul_overflow(n, factor, &part) || __builtin_add_overflow(sum, part, &sum))
            return false;
        text = str_from(text, digits + letters);
    }
    *out = sum;
    return true;
}

static void put_units(struct buf *out, uint64_t value, const struct unit *units, size_t unit_count)
{
    size_t best = 0;

    for (size_t i = 0; i < unit_count; i++)
        if (value != 0 && value % units[i].factor == 0)
            best = i;
    buf_printf(out, "%" PRIu64 "%s", value / units[best].factor, value == 0 ? "" : units[best].name);
}

static bool number(const struct option *o, struct str v, struct buf *why, uint64_t *out)
{
    const struct unit *units = sizes;
    size_t unit_count = COUNT(sizes);
    uint64_t n;
    bool ok;

    if (o->kind == OPTION_TIME || o->kind == OPTION_TIMES || o->kind == OPTION_RETRIES) {
        units = times;
        unit_count = COUNT(times);
        if (!parse_units(v, units, unit_count, &n))
            return say(why, "is not a time: write a number and its unit, like 30s 5m 2h 5d");
    } else if (o->kind == OPTION_SIZE || o->kind == OPTION_SIZE_U32) {
        if (!parse_units(v, units, unit_count, &n))
            return say(why, "is not a size: write bytes, or a number with KiB, MiB or GiB");
    } else {
        unit_count = 1;
        if (!str_to_u64(v, UINT64_MAX, &n))
            return say(why, "is not a number");
    }
    ok = n >= o->min && n <= o->max;
    if (!ok) {
        buf_put_z(why, n < o->min ? "is too small: at least " : "is too large: at most ");
        put_units(why, n < o->min ? o->min : o->max, units, unit_count);
        return false;
    }
    *out = n;
    return true;
}

const char *option_path(struct conf *c, struct str path)
{
    const char *slash = strrchr(c->path, '/');

    if (path.n == 0 || path.p[0] == '/' || slash == NULL)
        return str_z(&c->arena, path);
    return str_printf(&c->arena, "%.*s/%" STR_FMT, (int)(slash - c->path), c->path, STR_ARG(path)).p;
}

static bool set_domains(struct conf *c, struct map_str *map, struct str v, struct buf *why)
{
    struct str domain;

    if (!domain_to_ascii(&c->arena, v, &domain))
        return say(why, "is not a domain");
    if (map_str_get(map, domain) != NULL)
        return say(why, "stands here twice");
    return map_str_put(map, domain, c) == 0 || say(why, "no memory");
}

static bool set_host(struct conf *c, const char **out, struct str v, struct buf *why)
{
    struct str domain;

    if (!domain_to_ascii(&c->arena, v, &domain))
        return say(why, "is not a domain name");
    *out = str_z(&c->arena, domain);
    return true;
}

static const char *zone(struct conf *c, struct str v)
{
    struct str origin, path;

    if (!str_cut(v, '=', &origin, &path))
        return option_path(c, v);
    const char *p = option_path(c, path);
    return p == NULL ? NULL : str_printf(&c->arena, "%" STR_FMT "=%s", STR_ARG(origin), p).p;
}

static bool set_delivery_of_domain(struct conf *c, struct map_str *map, struct str v, struct buf *why)
{
    struct conf_delivery *delivery = arena_alloc(&c->arena, sizeof *delivery);
    struct str name, how, domain;

    if (!str_cut(v, '=', &name, &how))
        return say(why, "is not \"domain=delivery\", like \"b.example=lmtp:unix:/run/lmtp\"");
    if (!domain_to_ascii(&c->arena, name, &domain))
        return say(why, "does not begin with a domain");
    if (map_str_get(map, domain) != NULL)
        return say(why, "is the second for that domain");
    if (delivery == NULL || !delivery_parse(c, how, delivery, why))
        return false;
    return map_str_put(map, domain, delivery) == 0 || say(why, "no memory");
}

static bool set_tls_level_of_domain(struct conf *c, struct map_str *map, struct str v, struct buf *why)
{
    enum conf_client_tls *level = arena_alloc(&c->arena, sizeof *level);
    struct str name, word, key;
    unsigned value;

    if (level == NULL)
        return say(why, "no memory");
    if (!str_cut(v, '=', &name, &word) || !option_word(CONF_CLIENT_TLS_WORDS, word, &value))
        return say(why, "is not \"domain=level\", the level one of " CONF_CLIENT_TLS_WORDS);
    if (!tls_level_key(c, name, &key, why))
        return false;
    if (map_str_get(map, key) != NULL)
        return say(why, "is the second for that domain");
    *level = (enum conf_client_tls)value;
    return map_str_put(map, key, level) == 0 || say(why, "no memory");
}

/* "b.example=10m 1h". */
static bool set_retry_of_domain(struct conf *c, const struct option *o, struct map_str *map, struct str v, struct buf *why)
{
    struct conf_retry *retry = arena_alloc(&c->arena, sizeof *retry);
    struct str name, rest, word, key;
    uint64_t n;

    if (!str_cut(v, '=', &name, &rest) || (rest = str_trim(rest)).n == 0)
        return say(why, "is not \"domain=time ...\"");
    if (!tls_level_key(c, str_trim(name), &key, why))
        return false;
    if (map_str_get(map, key) != NULL)
        return say(why, "is the second for that domain");
    if (retry == NULL || (retry->delays_ns = arena_array(&c->arena, rest.n, sizeof *retry->delays_ns)) == NULL)
        return say(why, "no memory");
    for (retry->count = 0; rest.n > 0; rest = str_trim(rest)) {
        str_cut(rest, ' ', &word, &rest);
        if (!number(o, word, why, &n))
            return false;
        retry->delays_ns[retry->count++] = (int64_t)n;
    }
    return map_str_put(map, key, retry) == 0 || say(why, "no memory");
}

static bool set_level(enum log_level *out, struct str v, struct buf *why)
{
    for (size_t i = 0; i < COUNT(levels); i++)
        if (str_eq(v, str_of(levels[i]))) {
            *out = (enum log_level)i;
            return true;
        }
    return say(why, "is none of debug, info, warn, error");
}

bool option_bool(struct str v, bool *out)
{
    for (size_t i = 0; i < COUNT(bools); i++)
        if (str_eq(v, str_of(bools[i].word))) {
            *out = bools[i].value;
            return true;
        }
    return false;
}

static bool set_bool(bool *out, struct str v, struct buf *why)
{
    return option_bool(v, out) || say(why, "is neither yes nor no");
}

static bool is_port(struct str v)
{
    uint64_t number;

    return str_to_u64(v, 65535, &number) && number > 0;
}

/* As run/dns.h will read it. */
static bool is_name_server(struct str v)
{
    struct str ip, port;
    struct ip_range range;

    if (str_cut(v, '@', &ip, &port) && !is_port(port))
        return false;
    return str_find(ip, '/') < 0 && ip_range_parse(ip, &range);
}

bool option_word(const char *words, struct str v, unsigned *out)
{
    struct str word, rest = str_of(words);

    for (unsigned i = 0; rest.n > 0; i++) {
        str_cut(rest, ' ', &word, &rest);
        if (str_eq(word, v)) {
            *out = i;
            return true;
        }
    }
    return false;
}

static bool set_word(unsigned *out, const struct option *o, struct str v, struct buf *why)
{
    if (option_word(o->words, v, out))
        return true;
    buf_printf(why, "is none of %s", o->words);
    return false;
}

static void put_word(struct buf *out, const char *words, unsigned index)
{
    struct str word = STR(""), rest = str_of(words);

    for (unsigned i = 0; i <= index; i++)
        str_cut(rest, ' ', &word, &rest);
    buf_put_str(out, word);
}

static bool set_one(struct conf *c, const struct option *o, struct str v, size_t index, struct buf *why)
{
    void *at = field(c, o->offset);
    struct ip_range range;
    uint64_t n = 0;

    switch (o->kind) {
    case OPTION_TEXT: *(const char **)at = str_z(&c->arena, v); return true;
    case OPTION_HOST: return set_host(c, at, v, why);
    case OPTION_PATH: *(const char **)at = option_path(c, v); return true;
    case OPTION_IP:
        if (v.n > 0 && (!ip_range_parse(v, &range) || range.bits != range.len * 8))
            return say(why, "is not an IP address");
        *(const char **)at = str_z(&c->arena, v);
        return true;
    case OPTION_DELIVERY: return delivery_parse(c, v, at, why);
    case OPTION_SIZE:
    case OPTION_SIZE_U32:
    case OPTION_TIME:
    case OPTION_COUNT:
    case OPTION_PORT:
    case OPTION_TIMES:
        if (!number(o, v, why, &n))
            return false;
        if (o->kind == OPTION_TIMES)
            ((struct conf_retry *)at)->delays_ns[index] = (int64_t)n;
        else if (o->kind == OPTION_PORT)
            *(uint16_t *)at = (uint16_t)n;
        else if (o->kind == OPTION_COUNT || o->kind == OPTION_SIZE_U32)
            *(uint32_t *)at = (uint32_t)n;
        else
            *(uint64_t *)at = n;
        return true;
    case OPTION_BOOL: return set_bool(at, v, why);
    case OPTION_LEVEL: return set_level(at, v, why);
    case OPTION_WORD: return set_word(at, o, v, why);
    case OPTION_NETWORKS:
        return ip_range_parse(v, &(*(struct ip_range **)at)[index]) || say(why, "is not a network (192.0.2.0/24, 2001:db8::/32, with zeros behind the prefix)");
    case OPTION_DOMAINS: return set_domains(c, at, v, why);
    case OPTION_SERVERS:
        if (!is_name_server(v))
            return say(why, "is not a name server's address (192.0.2.53, 127.0.0.1@5353, 2001:db8::53)");
        (*(const char ***)at)[index] = str_z(&c->arena, v);
        return true;
    case OPTION_PORTS:
        if (!is_port(v))
            return say(why, "is not a port's number");
        (*(const char ***)at)[index] = str_z(&c->arena, v);
        return true;
    case OPTION_ZONES: (*(const char ***)at)[index] = zone(c, v); return true;
    case OPTION_DELIVERIES: return set_delivery_of_domain(c, at, v, why);
    case OPTION_TLS_LEVELS: return set_tls_level_of_domain(c, at, v, why);
    case OPTION_RETRIES: return set_retry_of_domain(c, o, at, v, why);
    case OPTION_PATHS: (*(const char ***)at)[index] = option_path(c, v); return true;
    }
    return false;
}

/* Room for a list's items. */
static void set_count(struct conf *c, const struct option *o, size_t count)
{
    void *at = field(c, o->offset);

    switch (o->kind) {
    case OPTION_TIMES: {
        struct conf_retry *retry = at;
        retry->delays_ns = arena_array(&c->arena, count + 1, sizeof *retry->delays_ns);
        retry->count = count;
        break;
    }
    case OPTION_NETWORKS:
        *(struct ip_range **)at = arena_array(&c->arena, count + 1, sizeof(struct ip_range));
        *(size_t *)field(c, o->count_offset) = count;
        break;
    case OPTION_SERVERS:
    case OPTION_PORTS:
    case OPTION_ZONES:
    case OPTION_PATHS: *(const char ***)at = arena_array(&c->arena, count + 1, sizeof(const char *)); break;
    case OPTION_TEXT:
    case OPTION_HOST:
    case OPTION_PATH:
    case OPTION_SIZE:
    case OPTION_SIZE_U32:
    case OPTION_TIME:
    case OPTION_COUNT:
    case OPTION_PORT:
    case OPTION_BOOL:
    case OPTION_LEVEL:
    case OPTION_WORD:
    case OPTION_IP:
    case OPTION_DELIVERY:
    case OPTION_DOMAINS:
    case OPTION_DELIVERIES:
    case OPTION_TLS_LEVELS:
    case OPTION_RETRIES: break;
    }
}

bool option_set(struct conf *c, const struct option *o, const struct str *values, size_t count, struct buf *why, size_t *bad)
{
    assert(count == 1 || option_is_list(o));
    *bad = 0;
    if (o->kind == OPTION_TIMES && count == 0)
        return say(why, "is an empty list");
    set_count(c, o, count);
    if (arena_failed(&c->arena))
        return say(why, "no memory");
    for (size_t i = 0; i < count; i++) {
        *bad = i;
        if (!set_one(c, o, values[i], i, why))
            return false;
    }
    return !arena_failed(&c->arena) || say(why, "no memory");
}

bool option_set_fallback(struct conf *c, const struct option *o, struct buf *why)
{
    struct str values[8], rest = str_of(o->fallback);
    size_t count = 0, bad;

    if (!option_is_list(o)) {
        values[count++] = rest;
    } else {
        while (rest.n > 0 && count < COUNT(values))
            str_cut(rest, ' ', &values[count++], &rest);
    }
    return option_set(c, o, values, count, why, &bad);
}

/* -- writing ------------------------------------------------------------------------------------------------------- */

void option_put_quoted(struct buf *out, struct str s)
{
    /* The file cannot hold controls, and ${ only in single quotes, in which only ' and \ are special. */
    bool single = memmem(s.p, s.n, "${", 2) != NULL;
    char quote = single ? '\'' : '"';

    buf_put_char(out, quote);
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] == quote || s.p[i] == '\\')
            buf_put_char(out, '\\');
        buf_put_char(out, s.p[i]);
    }
    buf_put_char(out, quote);
}

static int by_text(const void *a, const void *b) { return str_cmp(*(const struct str *)a, *(const struct str *)b); }

static void put_delivery_of_domain(struct buf *out, struct str domain, const struct conf_delivery *d)
{
    char text_bytes[DOMAIN_MAX + DELIVERY_TEXT_MAX];
    struct buf text;

    buf_init_fixed(&text, text_bytes, sizeof text_bytes);
    buf_put_str(&text, domain);
    if (domain.n > 0)
        buf_put_char(&text, '=');
    delivery_put(&text, d);
    option_put_quoted(out, buf_str(&text));
}

static void put_domain(struct buf *out, struct str domain, const void *value)
{
    (void)value;
    option_put_quoted(out, domain);
}

static void put_delivery(struct buf *out, struct str domain, const void *value) { put_delivery_of_domain(out, domain, value); }

static void put_tls_level(struct buf *out, struct str domain, const void *value)
{
    char text_bytes[DOMAIN_MAX + 16];
    struct buf text;

    buf_init_fixed(&text, text_bytes, sizeof text_bytes);
    buf_put_str(&text, domain);
    buf_put_char(&text, '=');
    buf_put_z(&text, tls_level_word(*(const enum conf_client_tls *)value));
    option_put_quoted(out, buf_str(&text));
}

/* In order: a map has none, and what people compare must not change by itself. */
static void put_retry(struct buf *out, struct str domain, const void *value)
{
    const struct conf_retry *retry = value;
    CLEANUP_BUF struct buf text;

    buf_init(&text, DOMAIN_MAX + 32 * (retry->count + 1));
    buf_put_str(&text, domain);
    for (size_t i = 0; i < retry->count; i++) {
        buf_put_char(&text, i == 0 ? '=' : ' ');
        put_units(&text, (uint64_t)retry->delays_ns[i], times, COUNT(times));
    }
    option_put_quoted(out, buf_str(&text));
}

static void put_domains(struct buf *out, const struct map_str *map, void (*put)(struct buf *out, struct str domain, const void *value))
{
    struct str *names = calloc(map->used + 1, sizeof *names);
    size_t count = 0, cursor = 0;
    void *value;

    if (names == NULL) {
        out->failed = true;
        return;
    }
    while (count < map->used && map_str_next(map, &cursor, &names[count], &value))
        count++;
    qsort(names, count, sizeof *names, by_text);
    for (size_t i = 0; i < count; i++) {
        buf_put_z(out, i == 0 ? "" : ", ");
        put(out, names[i], map_str_get(map, names[i]));
    }
    free(names);
}

static void put_texts(struct buf *out, const char *const *texts)
{
    for (size_t i = 0; texts != NULL && texts[i] != NULL; i++) {
        buf_put_z(out, i == 0 ? "" : ", ");
        option_put_quoted(out, str_of(texts[i]));
    }
}

static void put_list(struct buf *out, const struct conf *c, const struct option *o)
{
    const void *at = field(c, o->offset);
    char text[IP_RANGE_TEXT_MAX];

    buf_put_char(out, '{');
    if (o->kind == OPTION_TIMES) {
        const struct conf_retry *retry = at;
        for (size_t i = 0; i < retry->count; i++) {
            buf_put_z(out, i == 0 ? "" : ", ");
            put_units(out, (uint64_t)retry->delays_ns[i], times, COUNT(times));
        }
    } else if (o->kind == OPTION_NETWORKS) {
        for (size_t i = 0; i < *(size_t *)field(c, o->count_offset); i++) {
            buf_put_z(out, i == 0 ? "" : ", ");
            ip_range_format(&(*(struct ip_range *const *)at)[i], text);
            option_put_quoted(out, str_of(text));
        }
    } else if (o->kind == OPTION_DOMAINS) {
        put_domains(out, at, put_domain);
    } else if (o->kind == OPTION_DELIVERIES) {
        put_domains(out, at, put_delivery);
    } else if (o->kind == OPTION_TLS_LEVELS) {
        put_domains(out, at, put_tls_level);
    } else if (o->kind == OPTION_RETRIES) {
        put_domains(out, at, put_retry);
    } else {
        put_texts(out, *(const char *const *const *)at);
    }
    buf_put_char(out, '}');
}

void option_put(struct buf *out, const struct conf *c, const struct option *o)
{
    const void *at = field(c, o->offset);

    switch (o->kind) {
    case OPTION_TEXT:
    case OPTION_HOST:
    case OPTION_PATH:
    case OPTION_IP: option_put_quoted(out, str_of(*(const char *const *)at)); break;
    case OPTION_SIZE: put_units(out, *(const uint64_t *)at, sizes, COUNT(sizes)); break;
    case OPTION_SIZE_U32: put_units(out, *(const uint32_t *)at, sizes, COUNT(sizes)); break;
    case OPTION_TIME: put_units(out, *(const uint64_t *)at, times, COUNT(times)); break;
    case OPTION_COUNT: buf_printf(out, "%" PRIu32, *(const uint32_t *)at); break;
    case OPTION_PORT: buf_printf(out, "%u", *(const uint16_t *)at); break;
    case OPTION_BOOL: buf_put_z(out, *(const bool *)at ? "yes" : "no"); break;
    case OPTION_LEVEL: buf_put_z(out, levels[*(const enum log_level *)at]); break;
    case OPTION_WORD: put_word(out, o->words, *(const unsigned *)at); break;
    case OPTION_DELIVERY: put_delivery_of_domain(out, STR(""), at); break;
    case OPTION_TIMES:
    case OPTION_NETWORKS:
    case OPTION_DOMAINS:
    case OPTION_SERVERS:
    case OPTION_PORTS:
    case OPTION_ZONES:
    case OPTION_DELIVERIES:
    case OPTION_TLS_LEVELS:
    case OPTION_RETRIES:
    case OPTION_PATHS: put_list(out, c, o); break;
    }
}
