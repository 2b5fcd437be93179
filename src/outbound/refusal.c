/*
 * The table of refusals: its lines taken apart, and replies compared with it; see refusal.h. Pure.
 *
 * A text without * is looked for at each place in turn. With *, each part is looked for behind the one before: the first place is as good
 * as any later one, so nothing is tried twice, and a reply costs at most its length times the rule's.
 */
#include "outbound/refusal.h"
#include "base/clock.h"
#include <assert.h>
#include <errno.h>
#include <string.h>

#define RATE_MAX        UINT32_C(100000000)      /* an hour */
#define CONNECTIONS_MAX 10000

struct refusal_rule {
    struct refusal_rule *next;
    enum refusal         kind;
    struct str           code, status, at, text; /* at, text: "" fits all */
    int64_t              wait_ns;
};

struct line {
    struct refusals *table;
    struct str       rest;
    const char      *file;
    unsigned         number;
    struct buf      *error;
    bool             no_memory;
};

static const struct {
    const char  *name;
    enum refusal kind;
} kinds[] = {
    { "message",     REFUSAL_MESSAGE     },
    { "greylist",    REFUSAL_GREYLIST    },
    { "connections", REFUSAL_CONNECTIONS },
    { "rate",        REFUSAL_RATE        },
    { "blocked",     REFUSAL_BLOCKED     },
    { "family",      REFUSAL_FAMILY      },
    { "down",        REFUSAL_DOWN        },
};

const char *refusal_name(enum refusal kind)
{
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (kinds[i].kind == kind)
            return kinds[i].name;
    assert(!"a kind without a name");
    return "";
}

void refusals_init(struct refusals *r, struct arena *a)
{
    *r = (struct refusals){ .arena = a };
    r->end = &r->first;
    r->provider_end = &r->provider_first;
}

/* -- reading ---------------------------------------------------------------------------------------------------------------- */

/* Always false. */
static bool fault(const struct line *l, const char *what)
{
    buf_printf(l->error, "%s:%u: %s\n", l->file, l->number, what);
    return false;
}

static struct str take_word(struct line *l)
{
    l->rest = str_trim(l->rest);
    size_t n = 0;
    while (n < l->rest.n && !char_is_blank(l->rest.p[n]))
        n++;
    struct str word = str_head(l->rest, n);
    l->rest = str_trim(str_from(l->rest, n));
    return word;
}

/* The value of "name=value", if that is what comes next. */
static bool take_option(struct line *l, struct str name, struct str *out)
{
    struct line ahead = *l;
    struct str word = take_word(&ahead), value = str_from(word, name.n);

    if (!str_starts(word, name))
        return false;
    *out = value;
    l->rest = ahead.rest;
    return true;
}

static struct str keep(struct line *l, struct str s)
{
    struct str copy = s.n == 0 ? STR("") : str_lower(l->table->arena, s);
    l->no_memory |= copy.p == NULL;
    return copy;
}

static int64_t unit_of(char c)
{
    switch (c) {
    case 's': return NS_PER_S;
    case 'm': return 60 * NS_PER_S;
    case 'h': return 3600 * NS_PER_S;
    }
    return 0;
}

static bool parse_time(struct str s, int64_t *out_ns)
{
    uint64_t n;
    int64_t unit = s.n < 2 ? 0 : unit_of(s.p[s.n - 1]);

    if (unit == 0 || !str_to_u64(str_head(s, s.n - 1), (uint64_t)(REFUSAL_WAIT_MAX_NS / unit), &n))
        return false;
    *out_ns = (int64_t)n * unit;
    return true;
}

static bool parse_rate(struct str s, uint32_t *out_per_hour)
{
    struct str count, per;
    uint64_t n;

    if (!str_cut(s, '/', &count, &per) || per.n != 1 || unit_of(per.p[0]) == 0)
        return false;
    uint64_t times = (uint64_t)(3600 * NS_PER_S / unit_of(per.p[0]));
    if (!str_to_u64(count, RATE_MAX / times, &n) || n == 0)
        return false;
    *out_per_hour = (uint32_t)(n * times);
    return true;
}

static bool is_code(struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (!char_is_digit(s.p[i]) && s.p[i] != '*')
            return false;
    return s.n == 3;
}

static bool is_status(struct str s)
{
    size_t dots = 0;

    for (size_t i = 0; i < s.n; i++) {
        if (!char_is_digit(s.p[i]) && s.p[i] != '.' && (s.p[i] != '*' || i + 1 != s.n))
            return false;
        dots += s.p[i] == '.';
    }
    return s.n > 0 && (dots == 2 || s.p[s.n - 1] == '*');
}

static bool is_text(struct str s)
{
    size_t numbers = 0;

    for (size_t i = 0; i < s.n; i++)
        numbers += s.p[i] == '%';
    return s.n <= REFUSAL_TEXT_MAX && numbers <= 1;
}

static bool add_rule(struct line *l, const struct refusal_rule *rule)
{
    if (l->table->rule_count >= REFUSAL_RULES_MAX)
        return fault(l, "there are too many rules");
    struct refusal_rule *r = arena_alloc(l->table->arena, sizeof *r);
    if (r == NULL || l->no_memory) {
        l->no_memory = true;
        return false;
    }
    *r = *rule;
    *l->table->end = r;
    l->table->end = &r->next;
    l->table->rule_count++;
    return true;
}

static bool read_rule(struct line *l, enum refusal kind)
{
    struct refusal_rule rule = { .kind = kind };
    struct str code = take_word(l), status = take_word(l), value;

    if (!is_code(code))
        return fault(l, "behind the kind of refusal comes a reply code such as 421 or 4**");
    if (!is_status(status))
        return fault(l, "behind the reply code comes an enhanced code such as 4.7.28, 4.7.* or *");
    if (take_option(l, STR("wait="), &value) && !parse_time(value, &rule.wait_ns))
        return fault(l, "a wait is a number with s, m or h behind it, of six hours at most");
    if (take_option(l, STR("at="), &value)) {
        if (value.n == 0)
            return fault(l, "at= wants the name of a provider");
        rule.at = keep(l, value);
    }
    if (!is_text(l->rest))
        return fault(l, "a text has at most 200 characters and one %");
    rule.code = keep(l, code);
    rule.status = keep(l, status);
    rule.text = keep(l, l->rest);
    return add_rule(l, &rule);
}

static bool is_host(struct str s)
{
    struct str name = str_starts(s, STR("*.")) ? str_from(s, 2) : s;

    for (size_t i = 0; i < name.n; i++)
        if (!char_is_alnum(name.p[i]) && name.p[i] != '-' && name.p[i] != '.' && name.p[i] != '_')
            return false;
    return name.n > 0 && name.n <= 255 && name.p[0] != '.';
}

static bool read_hosts(struct line *l, struct refusal_provider *p)
{
    while (l->rest.n > 0) {
        struct str host = take_word(l);
        if (!is_host(host))
            return fault(l, "that is no name of a host, nor *. and a name");
        if (p->host_count == REFUSAL_HOSTS_MAX)
            return fault(l, "a provider has too many hosts");
        p->hosts[p->host_count++] = keep(l, host);
    }
    return p->host_count > 0 || fault(l, "a provider without a host");
}

static bool add_provider(struct line *l, const struct refusal_provider *provider)
{
    if (l->table->provider_count >= REFUSAL_PROVIDERS_MAX)
        return fault(l, "there are too many providers");
    struct refusal_provider *p = arena_alloc(l->table->arena, sizeof *p);
    if (p == NULL || l->no_memory) {
        l->no_memory = true;
        return false;
    }
    *p = *provider;
    *l->table->provider_end = p;
    l->table->provider_end = &p->next;
    l->table->provider_count++;
    return true;
}

static bool read_provider(struct line *l)
{
    struct refusal_provider p = { .name = keep(l, take_word(l)) };
    struct str value;
    uint64_t n = 0;

    if (p.name.n == 0 || p.name.n > 60)
        return fault(l, "a provider has a name of at most 60 characters");
    if (take_option(l, STR("connections="), &value) && (!str_to_u64(value, CONNECTIONS_MAX, &n) || n == 0))
        return fault(l, "connections= wants a number up to 10000");
    p.connections = (uint32_t)n;
    if (take_option(l, STR("rate="), &value) && !parse_rate(value, &p.rate_per_hour))
        return fault(l, "rate= wants a number and /s, /m or /h");
    return read_hosts(l, &p) && add_provider(l, &p);
}

static bool read_line(struct line *l)
{
    struct str word = take_word(l);

    if (word.n == 0 || word.p[0] == '#')
        return true;
    if (str_eq(word, STR("provider")))
        return read_provider(l);
    if (str_eq(word, STR("replace"))) {
        l->table->complete = true;
        return l->rest.n == 0 || fault(l, "replace stands alone");
    }
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (str_eq(word, str_of(kinds[i].name)))
            return read_rule(l, kinds[i].kind);
    return fault(l, "a line begins with a kind of refusal, or with provider or replace");
}

int refusals_load(struct refusals *r, const char *file, struct str text, struct buf *error)
{
    struct line l = { .table = r, .file = file, .error = error };
    bool good = true;

    if (r->complete)
        return 0;
    while (text.n > 0 && !l.no_memory) {
        (void)str_cut(text, '\n', &l.rest, &text);
        if (l.rest.n > 0 && l.rest.p[l.rest.n - 1] == '\r')
            l.rest.n--;
        l.number++;
        good &= read_line(&l);
    }
    if (l.no_memory)
        return -ENOMEM;
    return good ? 0 : -EINVAL;
}

/* -- judging ---------------------------------------------------------------------------------------------------------------- */

static bool is_space(char c)
{
    return char_is_blank(c) || c == '\r' || c == '\n';
}

static size_t skip_spaces(struct str s, size_t at)
{
    while (at < s.n && is_space(s.p[at]))
        at++;
    return at;
}

/* The number at that place, with its unit; how long it is. A sum too large is as long as we ever wait. */
static size_t take_wait(struct str s, size_t at, int64_t *out_ns)
{
    size_t n = at;
    int64_t count = 0;

    for (; n < s.n && char_is_digit(s.p[n]); n++)
        if (count <= REFUSAL_WAIT_MAX_NS / NS_PER_S)
            count = count * 10 + (s.p[n] - '0');
    size_t word = skip_spaces(s, n);
    int64_t unit = word < s.n ? unit_of(char_lower(s.p[word])) : 0;
    if (word + 1 < s.n && char_lower(s.p[word]) == 'm' && char_lower(s.p[word + 1]) == 's')
        unit = NS_PER_MS;
    if (unit == 0)
        unit = NS_PER_S;
    *out_ns = count > REFUSAL_WAIT_MAX_NS / unit ? REFUSAL_WAIT_MAX_NS : count * unit;
    return n - at;
}

/* Where the part ends if it stands at that place; -1 if not. */
static ssize_t part_at(struct str part, struct str s, size_t at, int64_t *wait_ns)
{
    int64_t wait = *wait_ns;

    for (size_t i = 0; i < part.n; i++) {
        size_t n = at < s.n && char_lower(s.p[at]) == part.p[i];
        if (part.p[i] == ' ')
            n = skip_spaces(s, at) - at;
        else if (part.p[i] == '%')
            n = take_wait(s, at, &wait);
        if (n == 0)
            return -1;
        at += n;
    }
    *wait_ns = wait;
    return (ssize_t)at;
}

static bool find_part(struct str part, struct str s, size_t *at, int64_t *wait_ns)
{
    for (size_t i = *at; i <= s.n; i++) {
        ssize_t end = part_at(part, s, i, wait_ns);
        if (end < 0)
            continue;
        *at = (size_t)end;
        return true;
    }
    return false;
}

static bool text_fits(struct str pattern, struct str s, int64_t *wait_ns)
{
    struct str part;
    size_t at = 0;

    while (pattern.n > 0) {
        (void)str_cut(pattern, '*', &part, &pattern);
        if (!find_part(part, s, &at, wait_ns))
            return false;
    }
    return true;
}

static bool code_fits(struct str pattern, unsigned code)
{
    unsigned digits[3] = { code / 100 % 10, code / 10 % 10, code % 10 };

    for (size_t i = 0; i < 3; i++)
        if (pattern.p[i] != '*' && (unsigned)(pattern.p[i] - '0') != digits[i])
            return false;
    return true;
}

static bool status_fits(struct str pattern, struct str status)
{
    if (pattern.p[pattern.n - 1] == '*')
        return str_starts(status, str_head(pattern, pattern.n - 1));
    return str_eq(pattern, status);
}

struct refusal_verdict refusal_judge(const struct refusals *r, const struct refusal_reply *reply)
{
    struct str text = str_head(reply->text, REFUSAL_REPLY_MAX);

    for (const struct refusal_rule *rule = r->first; rule != NULL; rule = rule->next) {
        int64_t wait = rule->wait_ns;
        if (rule->at.n > 0 && (reply->provider == NULL || !str_eq(rule->at, reply->provider->name)))
            continue;
        if (code_fits(rule->code, reply->code) && status_fits(rule->status, reply->status) && text_fits(rule->text, text, &wait))
            return (struct refusal_verdict){ rule->kind, wait };
    }
    return (struct refusal_verdict){ .kind = REFUSAL_MESSAGE };
}

/* -- providers -------------------------------------------------------------------------------------------------------------- */

static bool host_fits(struct str pattern, struct str host)
{
    if (host.n > 0 && host.p[host.n - 1] == '.')
        host.n--;
    if (!str_starts(pattern, STR("*.")))
        return str_eq_nocase(pattern, host);
    return host.n >= pattern.n && str_ends_nocase(host, str_from(pattern, 1));
}

static bool has_host(const struct refusal_provider *p, struct str host)
{
    for (size_t i = 0; i < p->host_count; i++)
        if (host_fits(p->hosts[i], host))
            return true;
    return false;
}

const struct refusal_provider *refusal_provider_of(const struct refusals *r, const struct str *hosts, size_t count)
{
    for (const struct refusal_provider *p = r->provider_first; p != NULL && count > 0; p = p->next) {
        size_t n = 0;
        while (n < count && has_host(p, hosts[n]))
            n++;
        if (n == count)
            return p;
    }
    return NULL;
}

const struct refusal_provider *refusal_provider_named(const struct refusals *r, struct str name)
{
    const struct refusal_provider *p = r->provider_first;
    while (p != NULL && !str_eq(p->name, name))
        p = p->next;
    return p;
}
