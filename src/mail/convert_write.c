/*
 * Conversion to 7 bits, the second pass: see convert.h and convert_internal.h.
 */
#include "mail/convert_internal.h"
#include <assert.h>

/* -- what is written ---------------------------------------------------------------------------------------------------------- */

void convert_put_label(struct buf *out, enum action action)
{
    static const char *const names[] = {
        [LABEL_7BIT] = "7bit", [ENCODE_QP] = "quoted-printable", [ENCODE_BASE64] = "base64",
        [MEND_QP] = "quoted-printable", [MEND_BASE64] = "base64",             /* there was a comment in it, perhaps, that not all understand */
    };

    buf_printf(out, "Content-Transfer-Encoding: %s\r\n", names[action]);
}

bool convert_changes_label(enum action action)
{
    return action != KEEP;
}

void convert_put_added(struct buf *out, unsigned plan)
{
    if (plan & ADD_VERSION)
        buf_put_z(out, "MIME-Version: 1.0\r\n");
    if (plan & (ADD_TYPE_UTF8 | ADD_TYPE_UNKNOWN))
        buf_printf(out, "Content-Type: text/plain; charset=%s\r\n", plan & ADD_TYPE_UTF8 ? "utf-8" : "unknown-8bit");
}

void convert_put_content(struct encoders *enc, enum action action, const struct mime_event *e, struct buf *out)
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
    case KEEP:
    case LABEL_7BIT: buf_put_str(out, e->text); return;
    }
}

/* The CRLF before a delimiter is the delimiter's; where none follows, it is ours to write. */
void convert_put_end(struct encoders *enc, enum action action, bool at_end, struct buf *out)
{
    switch (action) {
    case KEEP:
    case LABEL_7BIT:
    case MEND_QP: return;
    case ENCODE_QP:
        if (at_end)
            transfer_qp_end_alone(&enc->qp, out);
        else
            transfer_qp_end(&enc->qp, out);
        return;
    case ENCODE_BASE64: transfer_base64_end(&enc->base64, out); break;
    case MEND_BASE64: break;
    }
    if (at_end)
        buf_put_str(out, STR("\r\n"));
}

/* -- for what is read --------------------------------------------------------------------------------------------------------- */

static unsigned plan_of(const struct convert *c, const struct mime_part *part)
{
    assert(part->index < c->plan.n);
    return (unsigned char)c->plan.p[part->index];
}

/* The new label stands where the old one was. */
static void write_field(struct convert *c, const struct mime_event *e, enum action action)
{
    if (e->field != MIME_FIELD_ENCODING || !convert_changes_label(action)) {
        buf_put_str(c->out, e->text);
        return;
    }
    if (!c->labelled)
        convert_put_label(c->out, action);
    c->labelled = true;
}

static void write_header_end(struct convert *c, const struct mime_event *e, unsigned plan)
{
    enum action action = action_of(plan);

    convert_put_added(c->out, plan);
    if (convert_changes_label(action) && !c->labelled)
        convert_put_label(c->out, action);
    buf_put_str(c->out, e->text);
}

void convert_write_event(void *arg, const struct mime_event *e)
{
    struct convert *c = arg;
    unsigned plan = e->part != NULL ? plan_of(c, e->part) : KEEP;

    switch (e->seen) {
    case MIME_OPEN:
        c->labelled = false;
        c->encoders = (struct encoders){ 0 };
        return;
    case MIME_FIELD: write_field(c, e, action_of(plan)); return;
    case MIME_BODY: write_header_end(c, e, plan); return;
    case MIME_CONTENT: convert_put_content(&c->encoders, action_of(plan), e, c->out); return;
    case MIME_ASIDE:
        /* analyze clang-analyzer-core.NullDereference: what stands aside stands in a part */
        if (!(plan & (e->part->closed ? DROP_BEHIND : DROP_BEFORE)))
            buf_put_str(c->out, e->text);
        return;
    case MIME_CLOSE: convert_put_end(&c->encoders, action_of(plan), e->at_end, c->out); return;
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
