/*
 * Conversion to 7 bits, the first pass: see convert.h and convert_internal.h.
 */
#include "mail/convert_internal.h"
#include "base/utf8.h"
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* -- scanning: what is wrong ------------------------------------------------------------------------------------------------- */

static void refuse(struct convert *c, enum convert_verdict why)
{
    if (c->refusal == CONVERT_NOTHING)
        c->refusal = why;
}

static bool has_8bit(struct str text)
{
    return !utf8_is_ascii(text);
}

static bool is_no_line(const struct mime_event *e)
{
    return !e->line_end && (str_find(e->text, '\r') >= 0 || str_find(e->text, '\n') >= 0 || str_find(e->text, '\0') >= 0);
}

/* Noted for the whole message at once: the reader may be lost before the part is over. */
static bool note_trouble(struct convert *c, const struct mime_event *e)
{
    bool binary = (!e->line_end && e->column + e->text.n > CONVERT_LINE_MAX) || is_no_line(e);
    bool trouble = binary || has_8bit(e->text);
    c->binary |= binary;
    c->trouble |= trouble;
    return trouble;
}

/* Long lines of a header stay long: they are as good or bad for the next server as those of any 7-bit message. */
static void scan_field(struct convert *c, const struct mime_event *e)
{
    c->binary |= is_no_line(e);
    if (has_8bit(e->text) || is_no_line(e)) {
        c->trouble = true;
        refuse(c, CONVERT_HEADER);
    }
    if (e->field == MIME_FIELD_ENCODING)
        c->levels[e->part->depth].label_bytes += e->text.n;
    if (e->field == MIME_FIELD_SIGNATURE && e->part->index == 0)
        c->has_signature = true;
}

/* -- scanning: what a leaf will be ------------------------------------------------------------------------------------------- */

/* Is it UTF-8? Characters may come in two pieces. */
static void check_utf8(struct content *content, struct str text)
{
    uint32_t c;

    for (size_t i = 0; i < text.n && !content->not_utf8; i++) {
        if (content->character_n == 0 && (unsigned char)text.p[i] < 0x80)
            continue;
        content->character[content->character_n++] = text.p[i];
        if (utf8_next((struct str){ content->character, content->character_n }, &c) > 0)
            content->character_n = 0;
        else
            content->not_utf8 = content->character_n == sizeof content->character || (unsigned char)text.p[i] < 0x80;
    }
}

/* What it may come to; base64 has no need to be tried. */
static enum action action_to_count(const struct mime_part *part)
{
    switch (part->encoding) {
    case MIME_QUOTED_PRINTABLE: return MEND_QP;
    case MIME_BASE64: return MEND_BASE64;
    case MIME_UNKNOWN: return KEEP;
    case MIME_UNLABELLED: case MIME_7BIT: case MIME_8BIT: case MIME_BINARY: break;
    }
    return part->kind == MIME_TEXT ? ENCODE_QP : KEEP;
}

/* How many bytes come out is counted by encoding them. */
static void count_coded(struct convert *c, const struct mime_event *e)
{
    enum action action = action_to_count(e->part);

    if (action == KEEP)
        return;
    buf_clear(&c->scratch);
    convert_put_content(&c->encoders, action, e, &c->scratch);
    assert(buf_ok(&c->scratch));
    c->content.coded_bytes += c->scratch.n;
}

static void scan_content(struct convert *c, const struct mime_event *e)
{
    struct content *content = &c->content;

    content->trouble |= note_trouble(c, e);
    content->bytes += e->text.n;
    if (e->part->shape != MIME_LEAF)
        return;
    count_coded(c, e);
    if (!e->part->has_type)
        check_utf8(content, e->text);
    content->has_8bit |= has_8bit(e->text);
    content->not_lines |= is_no_line(e);
}

/* A part that nothing follows ends in CRLF all the same. */
static enum action choose(struct convert *c, const struct mime_event *e, uint64_t *out_size)
{
    struct content *content = &c->content;
    uint64_t base64 = transfer_base64_size(content->bytes) + (e->at_end ? 2 : 0);

    buf_clear(&c->scratch);
    switch (e->part->encoding) {
    case MIME_QUOTED_PRINTABLE: *out_size = content->coded_bytes; return MEND_QP;
    case MIME_BASE64: *out_size = content->coded_bytes + (e->at_end ? 2 : 0); return MEND_BASE64;
    case MIME_UNKNOWN: refuse(c, CONVERT_ENCODING); return KEEP;
    case MIME_UNLABELLED: case MIME_7BIT: case MIME_8BIT: case MIME_BINARY: break;
    }
    convert_put_end(&c->encoders, ENCODE_QP, e->at_end, &c->scratch);
    uint64_t qp = content->coded_bytes + c->scratch.n;
    bool as_qp = e->part->kind == MIME_TEXT && !content->not_lines && qp <= base64;
    *out_size = as_qp ? qp : base64;
    return as_qp ? ENCODE_QP : ENCODE_BASE64;
}

/* -- scanning: the plan ------------------------------------------------------------------------------------------------------ */

static void replan(struct convert *c, const struct mime_part *part, unsigned plan)
{
    if (part->index < c->plan.n)                              /* else there was no memory, which is told at the end */
        c->plan.p[part->index] = (char)plan;
}

/* Field by field what the header gains and loses. */
static void count_header(struct convert *c, const struct mime_part *part, unsigned plan)
{
    enum action action = action_of(plan);

    buf_clear(&c->scratch);
    convert_put_added(&c->scratch, plan);
    if (convert_changes_label(action)) {
        convert_put_label(&c->scratch, action);
        c->size -= c->levels[part->depth].label_bytes;
    }
    c->size += c->scratch.n;
}

static unsigned plan_leaf(struct convert *c, const struct mime_event *e)
{
    const struct content *content = &c->content;
    uint64_t size = content->bytes;
    unsigned plan = choose(c, e, &size);

    c->size += size - content->bytes;
    if (!e->part->has_type && (plan == ENCODE_QP || plan == ENCODE_BASE64) && content->has_8bit)
        plan |= content->not_utf8 || content->character_n > 0 ? ADD_TYPE_UNKNOWN : ADD_TYPE_UTF8;
    return plan;
}

static void drop(struct convert *c, uint64_t bytes, bool nobody_is_shown_it)
{
    c->size -= bytes;
    if (!nobody_is_shown_it)
        refuse(c, CONVERT_STRUCTURE);
}

/* Without any delimiter, or with more behind the last, that text is more than an aside to some. */
static unsigned plan_container(struct convert *c, const struct mime_part *part)
{
    struct level *level = &c->levels[part->depth];
    unsigned plan = part->encoding == MIME_8BIT || part->encoding == MIME_BINARY ? LABEL_7BIT : KEEP;

    if (level->before) {
        drop(c, level->before_bytes, part->delimited);
        plan |= DROP_BEFORE;
    }
    if (level->behind) {
        drop(c, level->behind_bytes, !part->reopened);
        plan |= DROP_BEHIND;
    }
    return plan;
}

static unsigned plan_part(struct convert *c, const struct mime_event *e)
{
    switch (e->part->shape) {
    case MIME_LEAF: return plan_leaf(c, e);
    case MIME_OPAQUE: refuse(c, e->part->kind == MIME_SEALED ? CONVERT_SEALED : CONVERT_STRUCTURE); return KEEP;
    case MIME_CONTAINER:
    case MIME_WRAPPER: return plan_container(c, e->part);
    }
    return KEEP;
}

static void scan_close(struct convert *c, const struct mime_event *e)
{
    const struct mime_part *part = e->part;
    struct level *level = &c->levels[part->depth];

    if (part->shape == MIME_LEAF || part->shape == MIME_OPAQUE)
        level->trouble = c->content.trouble;
    level->trouble |= level->before || level->behind;
    if (!level->trouble)
        return;
    unsigned plan = plan_part(c, e);
    if (part->is_message && !part->has_version)
        plan |= ADD_VERSION;
    replan(c, part, plan);
    count_header(c, part, plan);
    c->breaks_signature |= part->kind == MIME_SIGNED;
    if (part->depth > 0)
        c->levels[part->depth - 1].trouble = true;
}

static void scan_aside(struct convert *c, const struct mime_event *e)
{
    struct level *level = &c->levels[e->part->depth];

    *(e->part->closed ? &level->behind_bytes : &level->before_bytes) += e->text.n;
    *(e->part->closed ? &level->behind : &level->before) |= note_trouble(c, e);
}

static void begin_content(struct convert *c)
{
    c->content = (struct content){ 0 };
    c->encoders = (struct encoders){ 0 };
}

static void scan_event(void *arg, const struct mime_event *e)
{
    struct convert *c = arg;

    c->size += e->text.n;
    switch (e->seen) {
    case MIME_OPEN:
        buf_put_char(&c->plan, KEEP);
        c->levels[e->part->depth] = (struct level){ 0 };
        begin_content(c);
        return;
    case MIME_FIELD: scan_field(c, e); return;
    case MIME_CONTENT: scan_content(c, e); return;
    case MIME_ASIDE: scan_aside(c, e); return;
    case MIME_CLOSE: scan_close(c, e); return;
    case MIME_BYTES: (void)note_trouble(c, e); return;
    case MIME_BODY:
    case MIME_DELIMITER: return;
    }
}

struct convert *convert_new(void)
{
    struct convert *c = calloc(1, sizeof *c);

    if (c == NULL)
        return NULL;
    buf_init(&c->plan, MIME_PARTS_MAX);
    buf_init_fixed(&c->scratch, c->scratch_memory, sizeof c->scratch_memory);
    mime_reader_begin(&c->reader, scan_event, c);
    return c;
}

void convert_free(struct convert *c)
{
    if (c == NULL)
        return;
    buf_free(&c->plan);
    free(c);
}

void convert_scan(struct convert *c, struct str bytes)
{
    mime_reader_add(&c->reader, bytes);
}

int convert_scan_end(struct convert *c, enum convert_verdict *out)
{
    mime_reader_end(&c->reader);
    if (!buf_ok(&c->plan))
        return -ENOMEM;
    if (c->reader.lost)
        refuse(c, CONVERT_STRUCTURE);
    *out = !c->trouble ? CONVERT_NOTHING : c->refusal != CONVERT_NOTHING ? c->refusal : CONVERT_POSSIBLE;
    mime_reader_begin(&c->reader, convert_write_event, c);
    return 0;
}

uint64_t convert_size(const struct convert *c)
{
    return c->size;
}

bool convert_is_binary(const struct convert *c)
{
    return c->binary;
}

bool convert_breaks_signature(const struct convert *c)
{
    return c->breaks_signature || c->has_signature;
}

const char *convert_words(enum convert_verdict verdict)
{
    switch (verdict) {
    case CONVERT_NOTHING:
    case CONVERT_POSSIBLE: break;
    case CONVERT_HEADER: return "its header has such text, which cannot be converted";
    case CONVERT_SEALED: return "it stands in a part that must not be converted (message/partial or the like)";
    case CONVERT_ENCODING: return "it stands in a part with an unknown transfer encoding";
    case CONVERT_STRUCTURE: return "its structure is not clear enough to convert it";
    }
    return "";
}
