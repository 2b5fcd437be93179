/*
 * What a data directory remembers of a transfer between nodes: transfer/<name>.out of an export, transfer/<name>.in of an import. Entries
 * that only ever are appended, each with a checksum; a torn one at the end was never answered for, and is cut off. docs/journal.md.
 *
 * All of these BLOCK.
 */
#ifndef QUEUE_LEDGER_H
#define QUEUE_LEDGER_H

#include "base/str.h"
#include <stdint.h>

#define LEDGER_NAME_MAX 64

enum ledger_kind {
    LEDGER_GONE     = 1,             /* of an export: the message with this id is in the file for good, and no more ours */
    LEDGER_EXPECTED = 2,             /* of an import: the message with this number gets this id, if it comes */
    LEDGER_CAME     = 3,             /* and it came */
};

struct ledger_entry {
    enum ledger_kind kind;
    uint64_t         number, id;
};

struct ledger {
    int      file;                   /* owned */
    uint64_t end;
};

/* Opens it, made if it was not there (its name is durable then), and cuts off what is torn. */
int  ledger_open(int data_dir, const char *name, struct ledger *out);
void ledger_close(struct ledger *l);

/* 0: durable. -EUCLEAN: nobody can say, and only a new start can tell; other errors: nothing of it is there. */
int  ledger_append(struct ledger *l, const struct ledger_entry *entries, size_t n);

/* Each entry in turn, while each() gives 0; its last result, or an error of reading. */
int  ledger_read(const struct ledger *l, int (*each)(void *arg, const struct ledger_entry *e), void *arg);

int  ledger_remove(int data_dir, const char *name);             /* 0 also if it was not there */
/* The names of all. 0 if there is none. */
int  ledger_list(int data_dir, int (*each)(void *arg, const char *name), void *arg);

#endif
