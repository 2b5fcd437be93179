/*
 * The file in which messages travel from one node to another (docs/journal.md): a header with the export's name, then frames, each with two
 * checksums. A message is a frame that announces it and frames with its bytes; it is valid only when a later frame says that the
 * node it came from has let it go.
 *
 * All of these BLOCK.
 */
#ifndef ADMIN_TRANSFER_FILE_H
#define ADMIN_TRANSFER_FILE_H

#include "base/buf.h"
#include "queue/transfer.h"

#define TRANSFER_FRAME_MAX (2u * 1024 * 1024)        /* bytes of payload */

enum frame_kind {
    FRAME_MESSAGE = 1,               /* u64 id there, u64 packed bytes, u64 body bytes behind them */
    FRAME_DATA    = 2,               /* of the message before, in order */
    FRAME_GONE    = 3,               /* u64 each: the numbers of messages that are not that node's any more */
    FRAME_END     = 4,               /* what was not said to be gone by now is not in this file */
};

struct frame {
    enum frame_kind kind;
    uint64_t        number;          /* of the message */
    struct str      payload;         /* in the reader's buffer */
};

struct transfer_file {
    char     name[TRANSFER_NAME_LEN + 1];
    int      file;                   /* owned; -1: closed */
    uint64_t at;                     /* the next frame is read, or written, here */
    struct buf buffer;               /* owned */
};

/* A new one, its name durable. -EEXIST. */
int  transfer_file_create(const char *path, struct transfer_file *out);
/* -EBADMSG: it is none; -ENOENT. */
int  transfer_file_open(const char *path, bool to_write, struct transfer_file *out);
void transfer_file_close(struct transfer_file *f);

/* 1: a frame; 0: the end; -EBADMSG: what follows is torn, or damaged. */
int  transfer_file_read(struct transfer_file *f, struct frame *out);
void transfer_file_rewind(struct transfer_file *f);
/* What stands behind `at` goes. */
int  transfer_file_cut(struct transfer_file *f);
int  transfer_file_write(struct transfer_file *f, enum frame_kind kind, uint64_t number, struct str payload);
int  transfer_file_sync(struct transfer_file *f);

#endif
