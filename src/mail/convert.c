/*
 * Conversion to 7 bits: see convert.h.
 *
 * The scan leaves one byte for each part, in the order in which parts begin: what the writer has to do with it. The writer decides
 * nothing.
 */
#include "mail/convert.h"
#include "mail/mime_reader.h"
#include "mail/transfer.h"
#include "base/utf8.h"
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* What to do with a part: one of the first, and any of the others. */
enum plan {
    KEEP = 0, LABEL_7BIT = 1, ENCODE_QP = 2, ENCODE_BASE64 = 3, MEND_QP = 4, MEND_BASE64 = 5,
    PLAN_ACTION       = 0x07,
    ADD_VERSION       = 0x08,
    ADD_TYPE_UTF8     = 0x10,
    ADD_TYPE_UNKNOWN  = 0x20,
    DROP_BEFORE       = 0x40,            /* the text before the first part */
    DROP_BEHIND       = 0x80,
};

/* A part that is open while the message is scanned. */
struct level {
    bool     trouble;                    /* in it or below */
    bool     before, behind;             /* trouble in the text before its parts, behind them */
    uint64_t before_bytes, behind_bytes;
    uint64_t label_bytes;                /* of its Content-Transfer-Encoding field */
};

/* The content of the part that holds no others; there is one such at a time. */
struct content {
    bool     trouble;
    bool     has_8bit;
    bool     not_lines;                  /* NUL, bare CR or LF: no text of lines, whatever it says */
    bool     not_utf8;
    uint64_t bytes;
    uint64_t coded_bytes;                /* in quoted-printable, or mended */
    char     character[4];               /* a beginning of one in UTF-8 */
    size_t   character_n;
};

/* One for each action; zeroed when a body begins. */
struct encoders {
    struct transfer_qp          qp;
    struct transfer_base64      base64;
    struct transfer_mend_qp     mend_qp;
    struct transfer_mend_base64 mend_base64;
};

struct convert {
    struct mime_reader   reader;
    struct level         levels[MIME_DEPTH_MAX];
    struct content       content;
    struct encoders      encoders;
    struct buf           plan;           /* a byte of enum plan for each part */
    bool                 trouble;        /* anywhere */
    bool                 breaks_signature, has_signature;
    enum convert_verdict refusal;        /* the first; CONVERT_NOTHING: none */
    uint64_t             size;
    struct buf          *out;            /* the writer's caller's */
    bool                 labelled;       /* the label of this header has been written */
    struct buf           scratch;
    char                 scratch_memory[4 * MIME_LINE_MAX];
};

static void put_label(struct buf *out, unsigned action)
{
    static const char *const names[] = { [LABEL_7BIT] = "7bit", [ENCODE_QP] = "quoted-printable", [ENCODE_BASE64] = "base64" };

    buf_printf(out, "Content-Transfer-Encoding: %s\r\n", names[action]);
}

static bool changes_label(unsigned action)
{
    return action == LABEL_7BIT || action == ENCODE_QP || action == ENCODE_BASE64;
}

/* The fields that a header lacks. */
static void put_added(struct buf *out, unsigned plan)
{
    if (plan & ADD_VERSION)
        buf_put_z(out, "MIME-Version: 1.0\r\n");
    if (plan & (ADD_TYPE_UTF8 | ADD_TYPE_UNKNOWN))
        buf_printf(out, "Content-Type: text/plain; charset=%s\r\n", plan & ADD_TYPE_UTF8 ? "utf-8" : "unknown-8bit");
}

static void put_content(struct encoders *enc, unsigned action, const struct mime_event *e, struct buf *out)
{
    switch (action) {
    case ENCODE_QP:
        if (e->line_end)
            transfer_qp_line_end(&enc->qp, out);
        else
            transfer_qp_run(&enc->qp, e->text, out);
        return;
    case ENCODE_BASE64: transfer_base64_run(&enc->base64, e->text, out); return;
    case MEND_QP:
        if (e->line_end)
            transfer_mend_qp_line_end(&enc->mend_qp, out);
        else
            transfer_mend_qp_run(&enc->mend_qp, e->text, out);
        return;
    case MEND_BASE64: transfer_mend_base64_run(&enc->mend_base64, e->text, out); return;
    }
    buf_put_str(out, e->text);
}

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

static bool has_bare_end(const struct mime_event *e)
{
    return !e->line_end && (str_find(e->text, '\r') >= 0 || str_find(e->text, '\n') >= 0);
}

static bool is_no_line(const struct mime_event *e)
{
    return has_bare_end(e) || str_find(e->text, '\0') >= 0;
}

static bool is_trouble(const struct mime_event *e)
{
    return (!e->line_end && e->column + e->text.n > CONVERT_LINE_MAX) || has_8bit(e->text) || is_no_line(e);
}

/* Long lines of a header stay long: they are as good or bad for the next server as those of any 7-bit message. */
static void scan_field(struct convert *c, const struct mime_event *e)
{
    if (has_8bit(e->text) || has_bare_end(e)) {
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
static unsigned action_to_count(const struct mime_part *part)
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
    unsigned action = action_to_count(e->part);

    if (action == KEEP)
        return;
    buf_clear(&c->scratch);
    put_content(&c->encoders, action, e, &c->scratch);
    assert(buf_ok(&c->scratch));
    c->content.coded_bytes += c->scratch.n;
}

static void scan_content(struct convert *c, const struct mime_event *e)
{
    struct content *content = &c->content;

    content->trouble |= is_trouble(e);
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
static unsigned choose(struct convert *c, const struct mime_event *e, uint64_t *out_size)
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
    if (e->at_end)
        transfer_qp_end_alone(&c->encoders.qp, &c->scratch);
    else
        transfer_qp_end(&c->encoders.qp, &c->scratch);
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
    unsigned action = plan & PLAN_ACTION;

    buf_clear(&c->scratch);
    put_added(&c->scratch, plan);
    if (changes_label(action)) {
        put_label(&c->scratch, action);
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
    c->trouble = true;
    c->breaks_signature |= part->kind == MIME_SIGNED;
    if (part->depth > 0)
        c->levels[part->depth - 1].trouble = true;
}

static void scan_aside(struct convert *c, const struct mime_event *e)
{
    struct level *level = &c->levels[e->part->depth];

    *(e->part->closed ? &level->behind_bytes : &level->before_bytes) += e->text.n;
    *(e->part->closed ? &level->behind : &level->before) |= is_trouble(e);
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
    case MIME_BYTES: c->trouble |= is_trouble(e); return;
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

static void write_event(void *arg, const struct mime_event *e);

int convert_scan_end(struct convert *c, enum convert_verdict *out)
{
    mime_reader_end(&c->reader);
    if (!buf_ok(&c->plan))
        return -ENOMEM;
    if (c->reader.lost)
        refuse(c, CONVERT_STRUCTURE);
    *out = !c->trouble ? CONVERT_NOTHING : c->refusal != CONVERT_NOTHING ? c->refusal : CONVERT_POSSIBLE;
    mime_reader_begin(&c->reader, write_event, c);
    return 0;
}

uint64_t convert_size(const struct convert *c)
{
    return c->size;
}

bool convert_breaks_signature(const struct convert *c)
{
    return c->breaks_signature || c->has_signature;
}

/* -- writing ----------------------------------------------------------------------------------------------------------------- */

static unsigned plan_of(const struct convert *c, const struct mime_part *part)
{
    assert(part->index < c->plan.n);
    return (unsigned char)c->plan.p[part->index];
}

/* The new label stands where the old one was. */
static void write_field(struct convert *c, const struct mime_event *e, unsigned action)
{
    if (e->field != MIME_FIELD_ENCODING || !changes_label(action)) {
        buf_put_str(c->out, e->text);
        return;
    }
    if (!c->labelled)
        put_label(c->out, action);
    c->labelled = true;
}

static void write_header_end(struct convert *c, const struct mime_event *e, unsigned plan)
{
    unsigned action = plan & PLAN_ACTION;

    put_added(c->out, plan);
    if (changes_label(action) && !c->labelled)
        put_label(c->out, action);
    buf_put_str(c->out, e->text);
}

/* What the encoders still hold. The CRLF before a delimiter is the delimiter's; where none follows, it is ours to write. */
static void write_close(struct convert *c, const struct mime_event *e, unsigned action)
{
    switch (action) {
    case ENCODE_QP:
        if (e->at_end)
            transfer_qp_end_alone(&c->encoders.qp, c->out);
        else
            transfer_qp_end(&c->encoders.qp, c->out);
        return;
    case ENCODE_BASE64: transfer_base64_end(&c->encoders.base64, c->out); break;
    case MEND_BASE64: break;
    default: return;
    }
    if (e->at_end)
        buf_put_str(c->out, STR("\r\n"));
}

static void write_event(void *arg, const struct mime_event *e)
{
    struct convert *c = arg;
    unsigned plan = e->part != NULL ? plan_of(c, e->part) : KEEP;

    switch (e->seen) {
    case MIME_OPEN:
        c->labelled = false;
        begin_content(c);
        return;
    case MIME_FIELD: write_field(c, e, plan & PLAN_ACTION); return;
    case MIME_BODY: write_header_end(c, e, plan); return;
    case MIME_CONTENT: put_content(&c->encoders, plan & PLAN_ACTION, e, c->out); return;
    case MIME_ASIDE:
        if (!(plan & (e->part->closed ? DROP_BEHIND : DROP_BEFORE)))
            buf_put_str(c->out, e->text);
        return;
    case MIME_CLOSE: write_close(c, e, plan & PLAN_ACTION); return;
    case MIME_DELIMITER:
    case MIME_BYTES: buf_put_str(c->out, e->text); return;
    }
}

void convert_write(struct convert *c, struct str bytes, struct buf *out)
{
    c->out = out;
    mime_reader_add(&c->reader, bytes);
    c->out = NULL;
}

void convert_write_end(struct convert *c, struct buf *out)
{
    c->out = out;
    mime_reader_end(&c->reader);
    c->out = NULL;
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
