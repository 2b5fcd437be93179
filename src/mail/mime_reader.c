/*
 * The structure of a message: see mime_reader.h.
 *
 * Bytes become lines, or pieces of long ones; lines become fields, content and delimiters. Open parts are a stack, of which the top one
 * gets what comes.
 */
#include "mail/mime_reader.h"
#include <assert.h>
#include <string.h>

static struct mime_part *top(struct mime_reader *r)
{
    assert(r->depth > 0);
    return &r->parts[r->depth - 1];
}

static void tell(struct mime_reader *r, enum mime_seen seen, const struct mime_part *part, struct str text)
{
    struct mime_event event = { .seen = seen, .part = part, .text = text, .field = r->field, .column = r->column };
    r->see(r->arg, &event);
}

static void tell_line_end(struct mime_reader *r, enum mime_seen seen, const struct mime_part *part)
{
    struct mime_event event = { .seen = seen, .part = part, .text = STR("\r\n"), .line_end = true, .field = r->field };
    r->see(r->arg, &event);
}

static enum mime_seen body_event(const struct mime_part *part)
{
    return part->shape == MIME_CONTAINER ? MIME_ASIDE : MIME_CONTENT;
}

static void tell_due(struct mime_reader *r, enum mime_seen seen, const struct mime_part *part)
{
    if (r->due)
        tell_line_end(r, seen, part);
    r->due = false;
}

static void get_lost(struct mime_reader *r)
{
    tell_due(r, MIME_BYTES, NULL);
    r->lost = true;
}

/* -- parts ------------------------------------------------------------------------------------------------------------------ */

static void open_part(struct mime_reader *r, bool is_message)
{
    if (r->count == MIME_PARTS_MAX) {
        get_lost(r);
        return;
    }
    assert(r->depth < MIME_DEPTH_MAX);
    bool in_digest = r->depth > 0 && top(r)->kind == MIME_DIGEST;
    struct mime_part *part = &r->parts[r->depth++];
    *part = (struct mime_part){ .index = r->count++, .depth = r->depth - 1, .is_message = is_message };
    part->kind = in_digest ? MIME_MESSAGE : MIME_TEXT;        /* unless a field says otherwise */
    r->in_header = true;
    r->have_field = false;
    tell(r, MIME_OPEN, part, STR(""));
}

static void close_down_to(struct mime_reader *r, unsigned depth, bool at_end)
{
    for (; r->depth > depth; r->depth--) {
        struct mime_event event = { .seen = MIME_CLOSE, .part = top(r), .at_end = at_end };
        r->see(r->arg, &event);
    }
    r->in_header = false;
}

/* -- headers ---------------------------------------------------------------------------------------------------------------- */

// clang-format off
static const struct { const char *name; enum mime_field field; } known_fields[] = {
    { "Content-Type",              MIME_FIELD_TYPE      },
    { "Content-Transfer-Encoding", MIME_FIELD_ENCODING  },
    { "MIME-Version",              MIME_FIELD_VERSION   },
    { "DKIM-Signature",            MIME_FIELD_SIGNATURE },
    { "ARC-Message-Signature",     MIME_FIELD_SIGNATURE },
};
// clang-format on

/* False if the line begins no field. "Name :" is obsolete (RFC 5322, 4.5), and to some readers the end of the header. */
static bool read_name(struct str line, enum mime_field *out)
{
    struct str name, rest;

    if (!str_cut(line, ':', &name, &rest) || name.n == 0)
        return false;
    for (size_t i = 0; i < name.n; i++)
        if (name.p[i] <= ' ' || name.p[i] >= 0x7f)
            return false;
    *out = MIME_FIELD_OTHER;
    for (size_t i = 0; i < sizeof known_fields / sizeof known_fields[0]; i++)
        if (str_eq_nocase(name, str_of(known_fields[i].name)))
            *out = known_fields[i].field;
    return true;
}

static struct str held_value(const struct mime_reader *r)
{
    struct str name, value;

    (void)str_cut((struct str){ r->value, r->value_n }, ':', &name, &value);
    return value;
}

/* The field before this line is whole. */
static void end_field(struct mime_reader *r)
{
    struct mime_part *part = top(r);
    struct buf boundary;

    if (!r->have_field)
        return;
    switch (r->field) {
    case MIME_FIELD_TYPE:
        buf_init_fixed(&boundary, part->boundary, sizeof part->boundary);
        part->kind = mime_read_type(held_value(r), &boundary);
        part->boundary_n = boundary.n;
        break;
    case MIME_FIELD_ENCODING: part->encoding = mime_read_encoding(held_value(r)); break;
    case MIME_FIELD_OTHER:
    case MIME_FIELD_VERSION:
    case MIME_FIELD_SIGNATURE: break;
    }
    r->have_field = false;
}

static bool note_once(bool *seen)
{
    bool first = !*seen;
    *seen = true;
    return first;
}

/* False if the line is no field, or one that may not be there again. */
static bool begin_field(struct mime_reader *r, struct str line)
{
    struct mime_part *part = top(r);

    end_field(r);
    if (!read_name(line, &r->field))
        return false;
    r->have_field = true;
    r->value_n = 0;
    switch (r->field) {
    case MIME_FIELD_TYPE: return note_once(&part->has_type);
    case MIME_FIELD_ENCODING: return note_once(&part->has_encoding);
    case MIME_FIELD_VERSION: return note_once(&part->has_version);
    case MIME_FIELD_OTHER:
    case MIME_FIELD_SIGNATURE: break;
    }
    return true;
}

static bool hold_value(struct mime_reader *r, struct str text)
{
    if (r->field != MIME_FIELD_TYPE && r->field != MIME_FIELD_ENCODING)
        return true;
    if (text.n > sizeof r->value - r->value_n)
        return false;
    memcpy(r->value + r->value_n, text.p, text.n);
    r->value_n += text.n;
    return true;
}

static bool is_encoded(const struct mime_part *part)
{
    return part->encoding == MIME_QUOTED_PRINTABLE || part->encoding == MIME_BASE64 || part->encoding == MIME_UNKNOWN;
}

/* No multipart or message may be encoded (RFC 2045, 6.4): if one says so, who knows what its bytes are. */
static enum mime_shape shape_of(const struct mime_part *part)
{
    bool full = part->depth + 1 == MIME_DEPTH_MAX;

    switch (part->kind) {
    case MIME_TEXT:
    case MIME_DATA: return MIME_LEAF;
    case MIME_SEALED: return MIME_OPAQUE;
    case MIME_MESSAGE: return full || is_encoded(part) ? MIME_OPAQUE : MIME_WRAPPER;
    case MIME_MULTIPART:
    case MIME_SIGNED:
    case MIME_DIGEST: return full || is_encoded(part) || part->boundary_n == 0 ? MIME_OPAQUE : MIME_CONTAINER;
    }
    return MIME_OPAQUE;
}

static void end_header(struct mime_reader *r)
{
    struct mime_part *part = top(r);

    end_field(r);
    part->shape = shape_of(part);
    r->in_header = false;
    tell_line_end(r, MIME_BODY, part);
    if (part->shape == MIME_WRAPPER)
        open_part(r, true);
}

static void on_header(struct mime_reader *r, struct str text, bool ends)
{
    if (!r->in_line && text.n == 0 && ends) {
        end_header(r);
        return;
    }
    bool continues = r->in_line || text.p[0] == ' ' || text.p[0] == '\t';
    if (!(continues ? r->have_field : begin_field(r, text)) || !hold_value(r, text) || (ends && !hold_value(r, STR("\r\n"))))
        get_lost(r);
    enum mime_seen seen = r->lost ? MIME_BYTES : MIME_FIELD;
    const struct mime_part *part = r->lost ? NULL : top(r);
    if (text.n > 0)
        tell(r, seen, part, text);
    if (ends)
        tell_line_end(r, seen, part);
}

/* -- bodies ----------------------------------------------------------------------------------------------------------------- */

enum delimiter { NO_DELIMITER, PART_DELIMITER, LAST_DELIMITER };

/* "--", the boundary, "--" if it is the last, blanks (RFC 2046, 5.1.1). */
static enum delimiter match(const struct mime_part *part, struct str line)
{
    struct str rest = str_from(line, 2 + part->boundary_n);

    if (part->shape != MIME_CONTAINER || line.n < 2 + part->boundary_n || memcmp(line.p + 2, part->boundary, part->boundary_n) != 0)
        return NO_DELIMITER;
    if (str_trim(rest).n == 0)
        return PART_DELIMITER;
    return str_starts(rest, STR("--")) && str_trim(str_from(rest, 2)).n == 0 ? LAST_DELIMITER : NO_DELIMITER;
}

/* Whose delimiter the line is: the part's depth in *out_depth. Two that could claim it leave the reader lost. */
static enum delimiter find_delimiter(struct mime_reader *r, struct str line, unsigned *out_depth)
{
    enum delimiter found = NO_DELIMITER;

    for (unsigned depth = r->depth; depth-- > 0;) {
        enum delimiter one = match(&r->parts[depth], line);
        if (one == NO_DELIMITER)
            continue;
        if (found != NO_DELIMITER) {
            get_lost(r);
            return NO_DELIMITER;
        }
        found = one;
        *out_depth = depth;
    }
    return found;
}

/* True if the line was a delimiter, and has been told. */
static bool on_delimiter(struct mime_reader *r, struct str line, bool ends)
{
    unsigned depth = 0;
    enum delimiter found = find_delimiter(r, line, &depth);
    struct mime_part *part = &r->parts[depth];

    if (found == NO_DELIMITER)
        return false;
    if (part->closed) {
        part->reopened = true;
        return false;
    }
    close_down_to(r, depth + 1, false);
    tell_due(r, MIME_DELIMITER, part);
    tell(r, MIME_DELIMITER, part, line);
    if (ends)
        tell_line_end(r, MIME_DELIMITER, part);
    if (found == LAST_DELIMITER) {
        part->closed = true;
    } else {
        part->delimited = true;
        open_part(r, false);
    }
    return true;
}

static void on_body(struct mime_reader *r, struct str text, bool ends)
{
    const struct mime_part *part = r->lost ? NULL : top(r);
    enum mime_seen seen = r->lost ? MIME_BYTES : body_event(part);

    if (!r->in_line)
        tell_due(r, seen, part);
    if (text.n > 0)
        tell(r, seen, part, text);
    r->due = ends;
}

/* -- lines ------------------------------------------------------------------------------------------------------------------ */

/* A line or a piece of one; `ends` if its CRLF follows. `whole`: nothing more of it comes. */
static void on_text(struct mime_reader *r, struct str text, bool ends, bool whole)
{
    bool told = !r->lost && !r->in_line && whole && str_starts(text, STR("--")) && on_delimiter(r, text, ends);

    if (!told && r->in_header && !r->lost)
        on_header(r, text, ends);
    else if (!told)
        on_body(r, text, ends);
    r->in_line = !ends;
    r->column = ends ? 0 : r->column + text.n;
}

void mime_reader_begin(struct mime_reader *r, void (*see)(void *arg, const struct mime_event *event), void *arg)
{
    memset(r, 0, sizeof *r);
    r->see = see;
    r->arg = arg;
    open_part(r, true);
}

/* A CR at the very end of a full line buffer may be half a line end. */
static void on_full_line(struct mime_reader *r)
{
    bool held = r->line[r->line_n - 1] == '\r';
    on_text(r, (struct str){ r->line, r->line_n - held }, false, false);
    r->line[0] = '\r';
    r->line_n = held;
}

void mime_reader_add(struct mime_reader *r, struct str bytes)
{
    while (bytes.n > 0) {
        struct str part = str_head(bytes, sizeof r->line - r->line_n);
        const char *lf = memchr(part.p, '\n', part.n);
        if (lf != NULL)
            part.n = (size_t)(lf - part.p) + 1;
        memcpy(r->line + r->line_n, part.p, part.n);
        r->line_n += part.n;
        bytes = str_from(bytes, part.n);
        if (lf != NULL && r->line_n >= 2 && r->line[r->line_n - 2] == '\r') {
            on_text(r, (struct str){ r->line, r->line_n - 2 }, true, true);
            r->line_n = 0;
        } else if (r->line_n == sizeof r->line) {
            on_full_line(r);
        }
    }
}

void mime_reader_end(struct mime_reader *r)
{
    if (r->line_n > 0)
        on_text(r, (struct str){ r->line, r->line_n }, false, true);
    if (r->lost) {
        tell_due(r, MIME_BYTES, NULL);
        return;
    }
    if (r->due)
        tell_due(r, body_event(top(r)), top(r));
    close_down_to(r, 0, true);
}
