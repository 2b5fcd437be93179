/*
 * Other protocols at the port: browsers that were made to speak to it (so that lines of a form become commands), TLS where plain text
 * is expected, scanners. Pure.
 */
#ifndef SMTP_FOREIGN_H
#define SMTP_FOREIGN_H

#include "base/str.h"

/* Whose protocol a command's input begins with, "HTTP"; NULL: it may be SMTP. Few bytes are enough, and no line end is needed. */
const char *foreign_protocol(struct str input);

#endif
