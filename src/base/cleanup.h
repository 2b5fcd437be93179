/*
 * Local owners that close themselves at the end of their scope. For descriptors of run/file.h there is CLEANUP_FILE there.
 */
#ifndef BASE_CLEANUP_H
#define BASE_CLEANUP_H

#include "base/buf.h"
#include <stdlib.h>

static inline void cleanup_free(void *pointer) { free(*(void **)pointer); }
static inline void cleanup_buf(struct buf *b) { buf_free(b); }

#define CLEANUP_FREE __attribute__((cleanup(cleanup_free)))
#define CLEANUP_BUF  __attribute__((cleanup(cleanup_buf)))

#endif
