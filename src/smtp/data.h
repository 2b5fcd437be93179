/*
 * The text of DATA: dot transparency both ways (RFC 5321, 4.5.2), with strict line ends; and that of BDAT (RFC 3030), whose
 * octets are counted and whose dots are text. Pure; incremental; whole runs of bytes at a time.
 *
 * A line ends in CRLF and in nothing else, and text ends in <CRLF>.<CRLF> and in nothing else. A bare CR or LF is never a
 * line end, whatever the next hop thinks: that disagreement is how mail is smuggled (RFC 5321, 2.3.8). A message that holds
 * one is refused, but only at its real end, so that session and client stay in step.
 */
#ifndef SMTP_DATA_H
#define SMTP_DATA_H

#include "base/buf.h"
#include "base/str.h"

enum data_result {
    DATA_MORE,      /* everything was consumed, and the end has not come yet */
    DATA_END,       /* the end; what follows it in the input is the next command */
    DATA_BARE_LF,   /* the end of a message that held a bare LF (the first violation counts) */
    DATA_BARE_CR,   /* likewise, a bare CR */
};

enum data_state { DATA_LINE_START, DATA_IN_LINE, DATA_AFTER_CR, DATA_AFTER_DOT, DATA_AFTER_DOT_CR, DATA_ENDED };

/* Zero-initialised is ready to use for DATA. Members above the line are for the caller to read at any time; once there is a
 * violation, has_8bit and has_nul stay as they are. */
struct data_decoder {
    bool             counted;     /* set by the caller: the text of BDAT, its end is for the caller to know */
    bool             binary;      /* likewise: BODY=BINARYMIME, so behind the header a bare CR or LF is as good as any byte */
    uint64_t         bytes;       /* decoded so far, kept or not */
    uint64_t         lines;
    uint64_t         line_max;    /* longest line, without CRLF */
    uint64_t         header_end;  /* decoded offset behind the first empty line; 0: none yet */
    bool             has_8bit;
    bool             has_nul;
    enum data_result violation;   /* DATA_MORE while there is none */
    /* -- */
    enum data_state  state;
    uint64_t         line;        /* length of the line so far */
};

/* Decodes from the beginning of `in` up to its end or the end of the text. After a violation nothing more is appended to
 * out, which may be NULL to keep nothing at all (a message beyond the limit). *consumed is always set. A failure of out is
 * the caller's to see (buf_ok). */
enum data_result data_decode(struct data_decoder *d, struct str in, size_t *consumed, struct buf *out);

/* The end of counted text: DATA_END, or how it violates the rules. It may end without a CRLF, but not in a CR. */
enum data_result data_decode_end(struct data_decoder *d);

/* Zero-initialised is ready to use. */
struct data_encoder {
    enum data_state state;
    bool            converted;    /* a bare CR or LF came in, and went out as CRLF */
};

/* Appends `in` with its dots doubled where a line begins with one, across the borders of chunks too. Our messages have only
 * CRLF line ends, since the decoder lets nothing else in; should there be a bare CR or LF all the same, it goes out as
 * CRLF: we never send one on. */
void data_encode(struct data_encoder *e, struct str in, struct buf *out);

/* CRLF if the last line has none, then ".", CRLF. The encoder is ready for the next message. */
void data_encode_end(struct data_encoder *e, struct buf *out);

#endif
