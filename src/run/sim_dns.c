/*
 * The simulated resolver behind run/dns.h: answers from records that a test gives as zone text. Test code only; one thread.
 *
 * It answers as an authoritative server of all names would, wildcards (RFC 4592) and CNAMEs included; each query takes a latency, none is
 * cached. Records of one answer come in an order of chance, since nobody may rely on one.
 */
#include "base/codec.h"
#include "run/dns_internal.h"
#include "run/sim_internal.h"
#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CNAME          5
#define CNAME_STEPS    8
#define NEGATIVE_TTL_S 300
#define NAME_MAX_N     255
#define ARENA_BYTES    ((size_t)1 << 26)

struct entry {
    struct str        name;                      /* lower case, no trailing dot */
    int               type;                      /* enum dns_type or CNAME, whose target is record.name */
    uint32_t          ttl_s;
    struct dns_record record;
};

struct verdict {                                 /* what sim_dns_fail or sim_dns_secure said of a name */
    struct str      name;
    enum dns_status status;
};

static struct {
    struct arena      arena;                     /* of everything below */
    struct entry     *entries;
    size_t            count, capacity;
    struct verdict   *failing, *secure;
    size_t            failing_count, failing_capacity, secure_count, secure_capacity;
    struct sim_chance chance;
    int64_t           latency_min_ns, latency_max_ns;
    sim_dns_lie_fn   *lie;
    void             *lie_arg;
} dns;

/* ---- zone text ---- */

static struct str clean_name(struct str text)
{
    if (text.n > 0 && text.p[text.n - 1] == '.')
        text.n--;
    struct str name = str_lower(&dns.arena, text);
    if (name.p == NULL)
        abort();
    return name;
}

/* The next word of a line, bare or in quotes, with its escapes undone (RFC 1035, 5.1), in the arena. False at the end of the line or at
 * a comment; *bad if it is broken. */
static bool next_word(struct str *line, struct str *out, bool *out_quoted, bool *bad)
{
    *line = str_trim(*line);
    if (line->n == 0 || line->p[0] == ';')
        return false;
    char *word = arena_alloc(&dns.arena, line->n);
    size_t n = 0, at = 0;
    bool quoted = line->p[0] == '"';
    if (word == NULL)
        abort();
    for (at = quoted; at < line->n; at++) {
        char c = line->p[at];
        if (quoted ? c == '"' : c == ' ' || c == '\t' || c == ';')
            break;
        if (c == '\\') {
            uint64_t code;
            if (at + 3 < line->n && str_to_u64((struct str){ line->p + at + 1, 3 }, 255, &code)) {
                c = (char)code;
                at += 3;
            } else if (++at < line->n) {
                c = line->p[at];
            } else {
                *bad = true;
                return false;
            }
        }
        word[n++] = c;
    }
    if (quoted && at++ >= line->n) {
        *bad = true;
        return false;
    }
    *line = str_from(*line, at);
    *out = (struct str){ word, n };
    *out_quoted = quoted;
    return true;
}

static bool word_of(struct str *line, struct str *out)
{
    bool quoted, bad = false;
    return next_word(line, out, &quoted, &bad);
}

static bool number_of(struct str *line, uint64_t max, uint64_t *out)
{
    struct str word;
    return word_of(line, &word) && str_to_u64(word, max, out);
}

static bool read_ip(struct str *line, int family, struct dns_record *r)
{
    struct str word;
    if (!word_of(line, &word))
        return false;
    const char *z = str_z(&dns.arena, word);
    return inet_pton(family, z, r->ip) == 1;
}

static bool read_text(struct str *line, struct dns_record *r)
{
    struct buf all;
    struct str word;
    bool quoted, bad = false;
    unsigned words = 0;
    buf_init(&all, 65536);
    for (; next_word(line, &word, &quoted, &bad); words++) {
        bad |= word.n > 255;                     /* one character-string (RFC 1035, 3.3) */
        buf_put_str(&all, word);
    }
    r->text = str_copy(&dns.arena, buf_str(&all));
    buf_free(&all);
    return !bad && words > 0;
}

static bool read_tlsa(struct str *line, struct dns_record *r)
{
    uint64_t usage, selector, matching;
    struct buf hex, bytes;
    struct str word;
    if (!number_of(line, 255, &usage) || !number_of(line, 255, &selector) || !number_of(line, 255, &matching))
        return false;
    r->usage = (uint8_t)usage, r->selector = (uint8_t)selector, r->matching = (uint8_t)matching;
    buf_init(&hex, 65536);
    buf_init(&bytes, 65536);
    while (word_of(line, &word))
        buf_put_str(&hex, word);
    bool ok = hex.n > 0 && codec_hex(buf_str(&hex), &bytes);
    r->text = str_copy(&dns.arena, buf_str(&bytes));
    buf_free(&hex);
    buf_free(&bytes);
    return ok;
}

static bool read_name(struct str *line, struct dns_record *r)
{
    struct str word;
    if (!word_of(line, &word) || word.n > NAME_MAX_N)
        return false;
    r->name = clean_name(word);
    return true;
}

static bool read_rdata(struct str type, struct str *line, struct entry *e)
{
    uint64_t preference;
    struct dns_record *r = &e->record;
    if (str_eq_nocase(type, STR("A")))
        return e->type = DNS_A, read_ip(line, AF_INET, r);
    if (str_eq_nocase(type, STR("AAAA")))
        return e->type = DNS_AAAA, read_ip(line, AF_INET6, r);
    if (str_eq_nocase(type, STR("PTR")))
        return e->type = DNS_PTR, read_name(line, r);
    if (str_eq_nocase(type, STR("CNAME")))
        return e->type = CNAME, read_name(line, r);
    if (str_eq_nocase(type, STR("TXT")))
        return e->type = DNS_TXT, read_text(line, r);
    if (str_eq_nocase(type, STR("TLSA")))
        return e->type = DNS_TLSA, read_tlsa(line, r);
    if (!str_eq_nocase(type, STR("MX")) || !number_of(line, UINT16_MAX, &preference))
        return false;
    e->type = DNS_MX;
    r->preference = (uint16_t)preference;
    return read_name(line, r);
}

/* One line; an empty one gives nothing. A line that begins with white space is of the owner before it. */
static int read_line(struct str line, struct str *owner)
{
    struct entry e = { .ttl_s = NEGATIVE_TTL_S };
    struct str word;
    uint64_t ttl;
    bool same = line.n > 0 && (line.p[0] == ' ' || line.p[0] == '\t');
    if (!word_of(&line, &word))
        return line.n > 0 && line.p[0] != ';' ? -EINVAL : 0;
    if (!same) {
        if (word.n > NAME_MAX_N)
            return -EINVAL;
        *owner = clean_name(word);
        if (!word_of(&line, &word))
            return -EINVAL;
    }
    if (str_to_u64(word, INT32_MAX, &ttl)) {
        e.ttl_s = (uint32_t)ttl;
        if (!word_of(&line, &word))
            return -EINVAL;
    }
    if (str_eq_nocase(word, STR("IN")) && !word_of(&line, &word))
        return -EINVAL;
    e.name = *owner;
    if (owner->p == NULL || !read_rdata(word, &line, &e))
        return -EINVAL;
    line = str_trim(line);
    if (line.n > 0 && line.p[0] != ';')
        return -EINVAL;
    SIM_GROW(dns.entries, dns.count, dns.capacity);
    dns.entries[dns.count++] = e;
    return 0;
}

int sim_dns_zone(const char *text)
{
    struct str rest = str_of(text), line, owner = { NULL, 0 };
    int r = 0;
    while (r == 0 && rest.n > 0) {
        (void)str_cut(rest, '\n', &line, &rest);
        if (line.n > 0 && line.p[line.n - 1] == '\r')
            line.n--;
        r = read_line(line, &owner);
    }
    return r;
}

/* ---- answers ---- */

static bool is_at_or_below(struct str name, struct str top)
{
    if (top.n == 0 || str_eq(name, top))
        return true;
    return name.n > top.n && name.p[name.n - top.n - 1] == '.' && str_eq(str_from(name, name.n - top.n), top);
}

/* Also a name that has only names below it (RFC 8020). */
static bool name_exists(struct str name)
{
    for (size_t i = 0; i < dns.count; i++)
        if (is_at_or_below(dns.entries[i].name, name))
            return true;
    return false;
}

static bool parent(struct str *name)
{
    struct str label, rest;
    if (name->n == 0)
        return false;
    (void)str_cut(*name, '.', &label, &rest);
    *name = rest;
    return true;
}

/* The owner of the records that answer for the name: itself, or the wildcard below its closest ancestor (RFC 4592, 3.3.1). .p NULL: there
 * is no such name. */
static struct str owner_of(struct arena *arena, struct str name)
{
    struct str above = name;
    if (name_exists(name))
        return name;
    while (parent(&above))
        if (above.n == 0 || name_exists(above)) {
            struct str star = above.n == 0 ? STR("*") : str_printf(arena, "*.%" STR_FMT, STR_ARG(above));
            return star.p != NULL && name_exists(star) ? star : (struct str){ NULL, 0 };
        }
    return (struct str){ NULL, 0 };
}

static const struct entry *find(struct str owner, int type)
{
    for (size_t i = 0; i < dns.count; i++)
        if (dns.entries[i].type == type && str_eq(dns.entries[i].name, owner))
            return &dns.entries[i];
    return NULL;
}

static const struct verdict *verdict_of(const struct verdict *all, size_t count, struct str name, bool below)
{
    for (size_t i = count; i-- > 0;)
        if (below ? is_at_or_below(name, all[i].name) : str_eq(name, all[i].name))
            return &all[i];
    return NULL;
}

static int fill_records(struct arena *arena, struct str owner, enum dns_type type, struct dns_answer *out)
{
    for (size_t i = 0; i < dns.count; i++)
        /* analyze clang-analyzer-core.NullDereference: none are there where there is no array */
        out->count += dns.entries[i].type == (int)type && str_eq(dns.entries[i].name, owner);
    if (out->count == 0) {
        out->status = DNS_NO_DATA;
        return 0;
    }
    if (out->count > DNS_RECORDS_MAX)
        out->count = DNS_RECORDS_MAX;
    out->status = DNS_FOUND;
    out->records = arena_array(arena, out->count, sizeof *out->records);
    if (out->records == NULL)
        return -ENOMEM;
    size_t n = 0;
    for (size_t i = 0; i < dns.count && n < out->count; i++) {
        const struct entry *e = &dns.entries[i];
        if (e->type != (int)type || !str_eq(e->name, owner))
            continue;
        struct dns_record r = e->record;
        r.name = str_copy(arena, r.name);
        r.text = str_copy(arena, r.text);
        if (e->ttl_s < out->ttl_s)
            out->ttl_s = e->ttl_s;
        size_t at = sim_chance_below(&dns.chance, n + 1);    /* shuffled on the way in */
        out->records[n++] = out->records[at];
        out->records[at] = r;
    }
    return arena_failed(arena) ? -ENOMEM : 0;
}

static int answer(struct arena *arena, struct str name, enum dns_type type, struct dns_answer *out)
{
    *out = (struct dns_answer){ .status = DNS_SERVFAIL, .secure = true, .ttl_s = UINT32_MAX };
    for (unsigned step = 0; step < CNAME_STEPS; step++) {
        const struct verdict *failing = verdict_of(dns.failing, dns.failing_count, name, false);
        struct str owner = owner_of(arena, name);
        out->canonical = str_copy(arena, name);
        out->secure &= verdict_of(dns.secure, dns.secure_count, name, true) != NULL;
        if (failing != NULL) {
            out->status = failing->status;
            return 0;
        }
        if (owner.p == NULL) {
            out->status = DNS_NO_NAME;
            return 0;
        }
        const struct entry *alias = find(owner, CNAME);
        if (alias == NULL)
            return fill_records(arena, owner, type, out);
        if (alias->ttl_s < out->ttl_s)
            out->ttl_s = alias->ttl_s;
        name = alias->record.name;
    }
    return 0;                                    /* a circle: SERVFAIL */
}

/* Awaits the time that an answer takes. */
static int answer_takes(int64_t ns, int64_t deadline_ns)
{
    int64_t ready_ns = sim_now() + ns;
    int r = task_sleep_until(ready_ns < deadline_ns ? ready_ns : deadline_ns);
    return r == 0 && ready_ns > deadline_ns ? -ETIMEDOUT : r;
}

/* Awaits: what a liar makes of it, and how much longer that takes. */
static int lie_about(struct arena *arena, struct str name, enum dns_type type, int64_t deadline_ns, struct dns_answer *answer)
{
    int64_t longer_ns = dns.lie == NULL ? 0 : dns.lie(dns.lie_arg, arena, name, type, answer);
    assert((answer->status == DNS_FOUND) == (answer->count > 0) && answer->count <= DNS_RECORDS_MAX);    /* as of any resolver */
    return longer_ns > 0 ? answer_takes(longer_ns, deadline_ns) : 0;
}

static int on_query(void *self, struct arena *arena, struct str name, enum dns_type type, int64_t deadline_ns, struct dns_answer *out)
{
    (void)self;
    struct dns_answer result;
    uint64_t span = dns.latency_max_ns > dns.latency_min_ns ? (uint64_t)(dns.latency_max_ns - dns.latency_min_ns) : 0;
    int r = answer_takes(dns.latency_min_ns + (int64_t)sim_chance_below(&dns.chance, span + 1), deadline_ns);
    if (r == 0)
        r = answer(arena, name, type, &result);
    if (r == 0)
        r = lie_about(arena, name, type, deadline_ns, &result);
    if (r < 0)
        return r;
    /* analyze clang-analyzer-core.UndefinedBinaryOperatorResult: answer() has filled it */
    if (result.ttl_s == UINT32_MAX)
        result.ttl_s = NEGATIVE_TTL_S;
    if (result.status == DNS_SERVFAIL || result.status == DNS_BOGUS)
        result.secure = false;
    sim_trace(SIM_TRACE_DNS, (uint64_t)type << 8 | (uint64_t)result.status, result.count);
    *out = result;
    return 0;
}

/* ---- the world's side ---- */

void sim_dns_begin(const struct sim_options *options)
{
    memset(&dns, 0, sizeof dns);
    arena_init(&dns.arena, ARENA_BYTES);
    dns.chance.state = sim_mix(options->seed, 5);
    dns.latency_min_ns = options->latency_min_ns;
    dns.latency_max_ns = options->latency_max_ns;
    dns_replace(&(struct dns_ops){ .query = on_query });
}

void sim_dns_end(void)
{
    dns_replace(NULL);
    arena_reset(&dns.arena);
    free(dns.entries);
    free(dns.failing);
    free(dns.secure);
    memset(&dns, 0, sizeof dns);
}

void sim_dns_latency(int64_t min_ns, int64_t max_ns)
{
    dns.latency_min_ns = min_ns;
    dns.latency_max_ns = max_ns;
}

void sim_dns_fail(const char *name, enum dns_status status)
{
    SIM_GROW(dns.failing, dns.failing_count, dns.failing_capacity);
    dns.failing[dns.failing_count++] = (struct verdict){ clean_name(str_of(name)), status };
}

void sim_dns_heal(void)
{
    dns.failing_count = 0;
}

void sim_dns_lie(sim_dns_lie_fn *fn, void *arg)
{
    dns.lie = fn;
    dns.lie_arg = arg;
}

void sim_dns_secure(const char *name)
{
    SIM_GROW(dns.secure, dns.secure_count, dns.secure_capacity);
    dns.secure[dns.secure_count++] = (struct verdict){ clean_name(str_of(name)), DNS_FOUND };
}
