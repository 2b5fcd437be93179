/*
 * Between mail/convert.c, which scans and plans, and mail/convert_write.c, which does what the plan says.
 *
 * The scan leaves one byte for each part, in the order in which parts begin: what the writer has to do with it. The writer decides
 * nothing.
 */
#ifndef MAIL_CONVERT_INTERNAL_H
#define MAIL_CONVERT_INTERNAL_H

#include "mail/convert.h"
#include "mail/mime_reader.h"
#include "mail/transfer.h"

/* What to do with a part: a byte, with one of these in its low bits */
enum action { KEEP, LABEL_7BIT, ENCODE_QP, ENCODE_BASE64, MEND_QP, MEND_BASE64 };

/* and any of these above. */
enum plan {
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
    struct buf           plan;           /* a byte for each part */
    bool                 trouble;        /* anywhere */
    bool                 binary;         /* other trouble than 8-bit */
    bool                 breaks_signature, has_signature;
    enum convert_verdict refusal;        /* the first; CONVERT_NOTHING: none */
    uint64_t             size;
    struct buf          *out;            /* the writer's caller's */
    bool                 labelled;       /* the label of this header has been written */
    struct buf           scratch;
    char                 scratch_memory[4 * MIME_LINE_MAX];
};

static inline enum action action_of(unsigned plan)
{
    return (enum action)(plan & PLAN_ACTION);
}

bool convert_changes_label(enum action action);
void convert_put_label(struct buf *out, enum action action);           /* the field */
void convert_put_added(struct buf *out, unsigned plan);                /* the fields that a header lacks */
void convert_put_content(struct encoders *enc, enum action action, const struct mime_event *e, struct buf *out);
void convert_put_end(struct encoders *enc, enum action action, bool at_end, struct buf *out);   /* what they still hold */

void convert_write_event(void *arg, const struct mime_event *e);       /* what the reader sees on the second pass */

#endif
