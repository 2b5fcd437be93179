/*
 * Reads filters: see filter.h for the language. One character of look-ahead and no token list; the nodes of a filter stand in one array.
 */
#include "admin/filter.h"
#include "admin/cli.h"
#include "admin/filter_internal.h"
#include "base/codec.h"
#include <assert.h>
#include <string.h>

#define VALUE_MAX 32                                 /* of a number with its unit */

struct parser {
    struct arena  *arena;
    struct str     rest;
    struct filter *filter;
    struct buf    *error;
    unsigned       depth;
};

enum value_kind { VALUE_TEXT, VALUE_STATE, VALUE_ID, VALUE_DURATION, VALUE_SIZE, VALUE_COUNT, VALUE_SIGNED };

struct field_row {
    const char       *name;
    enum filter_field field;
    enum value_kind   kind;
};

static const struct field_row fields[] = {
    { "to",       FIELD_TO,       VALUE_TEXT     },
    { "from",     FIELD_FROM,     VALUE_TEXT     },
    { "sender",   FIELD_FROM,     VALUE_TEXT     },
    { "domain",   FIELD_DOMAIN,   VALUE_TEXT     },
    { "code",     FIELD_CODE,     VALUE_TEXT     },
    { "text",     FIELD_TEXT,     VALUE_TEXT     },
    { "remote",   FIELD_REMOTE,   VALUE_TEXT     },
    { "login",    FIELD_LOGIN,    VALUE_TEXT     },
    { "state",    FIELD_STATE,    VALUE_STATE    },
    { "id",       FIELD_ID,       VALUE_ID       },
    { "age",      FIELD_AGE,      VALUE_DURATION },
    { "due",      FIELD_DUE,      VALUE_DURATION },
    { "size",     FIELD_SIZE,     VALUE_SIZE     },
    { "attempts", FIELD_ATTEMPTS, VALUE_COUNT    },
    { "priority", FIELD_PRIORITY, VALUE_SIGNED   },
};

static bool fail(struct parser *p, const char *format, ...) __attribute__((format(printf, 2, 3)));

static bool fail(struct parser *p, const char *format, ...)
{
    va_list args;

    buf_clear(p->error);
    va_start(args, format);
    buf_vprintf(p->error, format, args);
    va_end(args);
    return false;
}

/* ---- nodes ---- */

static bool add(struct parser *p, const struct node *node, uint16_t *out)
{
    struct filter *f = p->filter;

    if (f->count == FILTER_NODES_MAX)
        return fail(p, "the filter has too many terms");
    f->nodes[f->count] = *node;
    *out = f->count++;
    return true;
}

static bool add_join(struct parser *p, enum node_kind kind, uint16_t left, uint16_t right, uint16_t *out)
{
    return add(p, &(struct node){ .kind = kind, .left = left, .right = right }, out);
}

/* ---- words ---- */

static bool is_blank(char c)
{
    return char_is_blank(c) || c == '\n' || c == '\r';
}

static void skip_blanks(struct parser *p)
{
    while (p->rest.n > 0 && is_blank(p->rest.p[0]))
        p->rest = str_from(p->rest, 1);
}

static bool take_char(struct parser *p, char c)
{
    if (p->rest.n == 0 || p->rest.p[0] != c)
        return false;
    p->rest = str_from(p->rest, 1);
    return true;
}

static struct str word_ahead(const struct parser *p)
{
    size_t n = 0;

    while (n < p->rest.n && char_is_alpha(p->rest.p[n]))
        n++;
    return str_head(p->rest, n);
}

/* "and", "or", "not": words of their own, no field's name with an operator behind it. */
static bool take_keyword(struct parser *p, struct str keyword)
{
    skip_blanks(p);
    struct str word = word_ahead(p), behind = str_from(p->rest, word.n);

    if (!str_eq_nocase(word, keyword) || (behind.n > 0 && !is_blank(behind.p[0]) && behind.p[0] != '('))
        return false;
    p->rest = behind;
    return true;
}

static bool take_op(struct parser *p, enum filter_op *out)
{
    if (take_char(p, '=')) {
        *out = OP_EQ;
    } else if (take_char(p, '!')) {
        *out = OP_NE;
        return take_char(p, '=');
    } else if (take_char(p, '<')) {
        *out = take_char(p, '=') ? OP_LE : OP_LT;
    } else if (take_char(p, '>')) {
        *out = take_char(p, '=') ? OP_GE : OP_GT;
    } else {
        return false;
    }
    return true;
}

/* ---- values ---- */

/* The value as a pattern: without its quotes, with its backslashes. A quote that is written with a backslash is an octet like others. */
static bool take_value(struct parser *p, struct str *out)
{
    char *pattern = arena_alloc(p->arena, p->rest.n + 1);
    size_t n = 0;
    bool quoted = false;

    if (pattern == NULL)
        return fail(p, "there is no memory for the filter");
    for (; p->rest.n > 0; p->rest = str_from(p->rest, 1)) {
        char c = p->rest.p[0];
        if (!quoted && (is_blank(c) || c == '(' || c == ')'))
            break;
        if (c == '"') {
            quoted = !quoted;
            continue;
        }
        pattern[n++] = c;
        if (c != '\\')
            continue;
        p->rest = str_from(p->rest, 1);
        if (p->rest.n == 0)
            return fail(p, "the filter ends in a backslash");
        pattern[n++] = p->rest.p[0];
    }
    if (quoted)
        return fail(p, "a quote is not closed");
    *out = (struct str){ pattern, n };
    return true;
}

static bool read_duration(struct str value, __int128 *out)
{
    char text[VALUE_MAX];
    int64_t ns;
    bool negative = value.n > 0 && value.p[0] == '-';        /* due<-1h: it has been due for an hour */

    value = str_from(value, negative);
    if (value.n >= sizeof text)
        return false;
    memcpy(text, value.p, value.n);
    text[value.n] = '\0';
    if (strlen(text) != value.n || !cli_duration(text, &ns))
        return false;
    *out = negative ? -(__int128)ns : ns;
    return true;
}

static bool read_size(struct str value, __int128 *out)
{
    char text[VALUE_MAX];
    uint64_t bytes;

    if (value.n >= sizeof text)
        return false;
    memcpy(text, value.p, value.n);
    text[value.n] = '\0';
    if (strlen(text) != value.n || !cli_size(text, &bytes))
        return false;
    *out = bytes;
    return true;
}

static bool read_number(struct str value, uint64_t max, bool sign, __int128 *out)
{
    bool negative = sign && value.n > 0 && value.p[0] == '-';
    uint64_t n;

    if (!str_to_u64(str_from(value, negative), max, &n))
        return false;
    *out = negative ? -(__int128)n : n;
    return true;
}

static bool read_id(struct str value, __int128 *out)
{
    uint64_t id;

    if (!codec_id_parse(value, &id))
        return false;
    *out = id;
    return true;
}

/* A word that is no state would mean nothing, for ever: it is a slip. */
static bool is_state(struct str value)
{
    static const enum message_state states[] = { MESSAGE_WAITING, MESSAGE_CLAIMED, MESSAGE_HELD };

    for (size_t i = 0; i < sizeof states / sizeof states[0]; i++)
        if (str_eq_nocase(value, str_of(filter_state_name(states[i]))))
            return true;
    return false;
}

static const char *kind_words(enum value_kind kind)
{
    switch (kind) {
    case VALUE_TEXT:     return "text";
    case VALUE_STATE:    return "waiting, delivering or held";
    case VALUE_ID:       return "a queue id";
    case VALUE_DURATION: return "a time such as 90s, 5m, 2h or 3d";
    case VALUE_SIZE:     return "a size such as 1000, 64KiB or 25MiB";
    case VALUE_COUNT:    return "a number";
    case VALUE_SIGNED:   return "a number from -9 to 9";
    }
    return "";
}

/* <ann@a.example> is ann@a.example, and <> the null sender, as protocols write them. */
static struct str without_brackets(struct str value)
{
    if (value.n < 2 || value.p[0] != '<' || value.p[value.n - 1] != '>')
        return value;
    return (struct str){ value.p + 1, value.n - 2 };
}

static bool read_value(struct node *term, enum value_kind kind, struct str value)
{
    switch (kind) {
    case VALUE_TEXT:
        term->pattern = term->field == FIELD_TO || term->field == FIELD_FROM ? without_brackets(value) : value;
        return true;
    case VALUE_STATE:
        term->pattern = value;
        return is_state(value);
    case VALUE_ID:       return read_id(value, &term->number);
    case VALUE_DURATION: return read_duration(value, &term->number);
    case VALUE_SIZE:     return read_size(value, &term->number);
    case VALUE_COUNT:    return read_number(value, UINT32_MAX, false, &term->number);
    case VALUE_SIGNED:   return read_number(value, 9, true, &term->number);
    }
    return false;
}

/* ---- the grammar ---- */

static const struct field_row *field_of(struct str name)
{
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++)
        if (str_eq_nocase(name, str_of(fields[i].name)))
            return &fields[i];
    return NULL;
}

static struct str until_blank(struct str s)
{
    size_t n = 0;

    while (n < s.n && !is_blank(s.p[n]))
        n++;
    return str_head(s, n);
}

/* Its name and operator; the value is next. */
static bool begin_term(struct parser *p, struct node *term, const struct field_row **out)
{
    struct str begin = until_blank(p->rest), name = word_ahead(p);
    const struct field_row *row = field_of(name);

    p->rest = str_from(p->rest, name.n);             /* no blanks around the operator: in "to= code=4.*" a value was forgotten */
    if (name.n == 0 || !take_op(p, &term->op))
        return fail(p, "'%" STR_FMT "' is no FIELD=VALUE", STR_ARG(begin));
    if (row == NULL)
        return fail(p, "there is no field '%" STR_FMT "', but " FILTER_FIELDS, STR_ARG(name));
    if ((row->kind == VALUE_TEXT || row->kind == VALUE_STATE) && term->op != OP_EQ && term->op != OP_NE)
        return fail(p, "%s is text: it can be = or != only", row->name);
    term->field = row->field;
    *out = row;
    return true;
}

static bool parse_term(struct parser *p, uint16_t *out)
{
    struct node term = { .kind = NODE_TERM };
    struct str value = { NULL, 0 };
    const struct field_row *row;

    if (!begin_term(p, &term, &row))
        return false;
    size_t before = p->rest.n;
    if (!take_value(p, &value))
        return false;
    if (before == p->rest.n)
        return fail(p, "%s has no value (an empty one is \"\")", row->name);
    if (!read_value(&term, row->kind, value))
        return fail(p, "%s wants %s, not '%" STR_FMT "'", row->name, kind_words(row->kind), STR_ARG(value));
    bool unequal = term.op == OP_NE;
    if (unequal)
        term.op = OP_EQ;
    return add(p, &term, out) && (!unequal || add_join(p, NODE_NOT, *out, 0, out));
}

static bool parse_any(struct parser *p, uint16_t *out);

static bool parse_part(struct parser *p, uint16_t *out)
{
    bool good;

    if (p->depth == FILTER_DEPTH_MAX)
        return fail(p, "the filter has too many brackets");
    p->depth++;
    if (take_keyword(p, STR("not"))) {
        good = parse_part(p, out) && add_join(p, NODE_NOT, *out, 0, out);
    } else if (take_char(p, '(')) {
        good = parse_any(p, out);
        if (good && !take_char(p, ')'))
            good = fail(p, "a bracket is not closed");
    } else {
        good = p->rest.n > 0 ? parse_term(p, out) : fail(p, "the filter ends where a FIELD=VALUE is wanted");
    }
    p->depth--;
    return good;
}

static bool is_or_ahead(const struct parser *p)
{
    struct parser copy = *p;
    return take_keyword(&copy, STR("or"));
}

static bool parse_all(struct parser *p, uint16_t *out)
{
    uint16_t right = 0;

    if (!parse_part(p, out))
        return false;
    for (;;) {
        bool wanted = take_keyword(p, STR("and"));           /* skips blanks */
        if (!wanted && (p->rest.n == 0 || p->rest.p[0] == ')' || is_or_ahead(p)))
            return true;
        if (!parse_part(p, &right) || !add_join(p, NODE_AND, *out, right, out))
            return false;
    }
}

static bool parse_any(struct parser *p, uint16_t *out)
{
    uint16_t right = 0;

    if (!parse_all(p, out))
        return false;
    while (take_keyword(p, STR("or")))
        if (!parse_all(p, &right) || !add_join(p, NODE_OR, *out, right, out))
            return false;
    return true;
}

bool filter_parse(struct arena *a, struct str text, const struct filter **out, struct buf *error)
{
    struct parser p = { .arena = a, .rest = text, .error = error };
    uint16_t root = 0;

    if (text.n > FILTER_TEXT_MAX)
        return fail(&p, "the filter is too long");
    p.filter = arena_alloc(a, sizeof *p.filter);
    if (p.filter == NULL)
        return fail(&p, "there is no memory for the filter");
    if (!parse_any(&p, &root))
        return false;
    if (p.rest.n > 0)
        return fail(&p, "a bracket is closed that was not opened");
    assert(root + 1 == p.filter->count);
    *out = p.filter;
    return true;
}
