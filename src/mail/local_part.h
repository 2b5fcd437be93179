/*
 * The local part of an address as the name of somebody here. Pure; libunistring has its home in local_part.c.
 *
 * Elsewhere a local part is what its host makes of it, and goes there as it is. Here case does not count, nor how an accent is
 * encoded (RFC 6532, 3.1 asks for NFC; not all senders do it).
 */
#ifndef MAIL_LOCAL_PART_H
#define MAIL_LOCAL_PART_H

#include "base/buf.h"
#include "base/str.h"

#define LOCAL_PART_KEY_MAX 512           /* what ADDRESS_LOCAL_MAX octets can become, and much room */

/* Appends the one form of all spellings of a name: lower case, NFC. Text that is not UTF-8 stays as it is but for ASCII letters. */
void local_part_put_key(struct buf *out, struct str local);

#endif
