/*
 * The header of a message (RFC 5322): reading fields, address lists, and writing fields that cannot break out. Pure.
 *
 * Messages are raw bytes with CRLF line ends; a bare CR or LF is an ordinary byte here, never a line end. The header ends
 * at the first empty line or with the bytes. Nothing about a header can make a reader fail: what is no field is returned
 * as a malformed one, so that copying fields one by one gives the header byte by byte.
 */
#ifndef MAIL_HEADER_H
#define MAIL_HEADER_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/str.h"
#include "mail/address.h"

#define HEADER_NAME_MAX      256    /* a longer name is malformed */
#define HEADER_LINE_MAX      78     /* where writers fold (RFC 5322, 2.1.1); a longer word stands on a line of its own */
#define HEADER_ADDRESSES_MAX 10000  /* in one list */
#define HEADER_NESTING_MAX   50     /* comments in comments */

/* Views into the message. */
struct header_field {
    struct str raw;        /* the whole field, its continuation lines and last CRLF included */
    struct str name;       /* empty if malformed */
    struct str value;      /* behind the colon, still folded, without the last CRLF; the whole line if malformed */
    bool       malformed;  /* no colon, a bad name, or a continuation of nothing */
};

struct header_iter {
    struct str rest;
};

/* for (header_begin(&it, message); header_next(&it, &field);) */
void header_begin(struct header_iter *it, struct str message);
bool header_next(struct header_iter *it, struct header_field *out);

/* Where the body begins (behind the empty line); message.n if there is no empty line. */
size_t header_end(struct str message);

/* The first field of that name, any case. False, out untouched, if there is none. */
bool   header_find(struct str message, struct str name, struct header_field *out);
size_t header_count(struct str message, struct str name);
bool   header_has_8bit(struct str message);                /* in the header, not the body */

/* A value on one line: CRLF of folds removed, trimmed. A view if there was no fold, else in the arena; .p NULL if full. */
struct str header_unfold(struct arena *a, struct str value);

/* A value as UTF-8 for showing: unfolded, encoded words decoded (RFC 2047; UTF-8, US-ASCII and ISO-8859-1, others left
 * as they are), controls and broken UTF-8 replaced. */
struct str header_decode(struct arena *a, struct str value);

/* Appends the header section of message without the fields of that name, and the rest of the message unchanged. */
void header_remove(struct buf *out, struct str message, struct str name);

/* -- address lists ------------------------------------------------------------------------------------------------- */

struct header_mailbox {
    struct str     name;   /* the display name, without quotes, encoded words left encoded; empty if none */
    struct address addr;   /* without domain if the list was read with ADDRESS_BARE */
};

struct header_addresses {
    struct header_mailbox *items;
    size_t                 count;
    struct str             bad;    /* view of the first piece that is no address; empty if all were */
};

/* The value of To, Cc, Bcc, From, Sender, Reply-To and their Resent- sisters: display names, groups (their members are
 * listed), comments, quoted strings, folds, obsolete routes, empty elements and white space around dots (RFC 5322, 3.4
 * and 4.4). Options of mail/address.h. Pieces that are no address are passed over and the first is named in bad; false
 * only when the arena is full or the list too long. */
bool header_address_list(struct arena *a, struct str value, unsigned options, struct header_addresses *out);

/* -- writing: whatever the value, nothing comes out but printable ASCII (UTF-8 where said) and our own folds ----------- */

/* Free text (Subject, a comment): encoded words where it is not ASCII, folded. Controls become spaces, broken UTF-8 is
 * replaced. The name is ours: asserted to be a field name. */
void header_put_field(struct buf *out, const char *name, struct str utf8);

/* A structured value (Date, Message-ID, Content-Type): folded at its spaces, never encoded; controls become spaces,
 * anything not ASCII a question mark. */
void header_put_structured(struct buf *out, const char *name, struct str value);

/* A list of mailboxes; display names quoted or encoded as they need. A UTF-8 local part is written as UTF-8. */
void header_put_addresses(struct buf *out, const char *name, const struct header_mailbox *items, size_t count);

#endif
