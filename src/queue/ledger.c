/*
 * The ledgers of transfers: see ledger.h. Used by the worker, in disk jobs and at a start.
 */
#include "queue/ledger.h"
#include "base/cleanup.h"
#include "base/codec.h"
#include "run/file.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FOLDER     "transfer"
#define ENTRY_SIZE 24u               /* u32 CRC of the rest, u32 kind, u64 number, u64 id */
#define CHUNK      (2730u * ENTRY_SIZE)

static int open_folder(int data_dir)
{
    int made = file_mkdir_at(data_dir, FOLDER);

    if (made < 0 && made != -EEXIST)
        return made;
    int r = file_sync(data_dir);     /* also if it was there: its maker may have died before */
    return r < 0 ? r : file_open_dir_at(data_dir, FOLDER);
}

static void put_entry(char *p, const struct ledger_entry *e)
{
    codec_set_u32(p + 4, (uint32_t)e->kind);
    codec_set_u64(p + 8, e->number);
    codec_set_u64(p + 16, e->id);
    codec_set_u32(p, codec_crc32c(0, p + 4, ENTRY_SIZE - 4));
}

static bool get_entry(const char *p, struct ledger_entry *out)
{
    uint32_t kind = codec_get_u32(p + 4);

    if (codec_get_u32(p) != codec_crc32c(0, p + 4, ENTRY_SIZE - 4) || kind < LEDGER_GONE || kind > LEDGER_CAME)
        return false;
    *out = (struct ledger_entry){ .kind = (enum ledger_kind)kind, .number = codec_get_u64(p + 8), .id = codec_get_u64(p + 16) };
    return true;
}

static int none(void *arg, const struct ledger_entry *e)
{
    return (void)arg, (void)e, 0;
}

/* Up to its first bad entry. *out_end: where that is. */
static int read_to(int file, uint64_t limit, int (*each)(void *arg, const struct ledger_entry *e), void *arg, uint64_t *out_end)
{
    CLEANUP_FREE char *chunk = malloc(CHUNK);
    uint64_t at = 0;
    size_t got = CHUNK;
    int r = chunk == NULL ? -ENOMEM : 0;

    while (r == 0 && got == CHUNK && at < limit) {
        r = file_read_at(file, chunk, CHUNK, at, &got);
        for (size_t i = 0; r == 0 && i + ENTRY_SIZE <= got && at < limit; i += ENTRY_SIZE) {
            struct ledger_entry e;
            if (!get_entry(chunk + i, &e))
                limit = at;
            else if ((r = each(arg, &e)) == 0)
                at += ENTRY_SIZE;
        }
    }
    *out_end = at;
    return r;
}

/* Whatever stands behind the last good entry goes, durably, before anything is appended. */
static int prepare(struct ledger *l)
{
    int r = read_to(l->file, UINT64_MAX, none, NULL, &l->end);

    if (r == 0)
        r = file_truncate(l->file, l->end);
    return r == 0 ? file_sync(l->file) : r;
}

int ledger_open(int data_dir, const char *name, struct ledger *out)
{
    CLEANUP_FILE int folder = open_folder(data_dir);
    if (folder < 0)
        return folder;
    struct ledger l = { .file = file_open_at(folder, name, FILE_READ | FILE_WRITE | FILE_CREATE) };
    if (l.file < 0)
        return l.file;
    int r = file_sync(folder);
    if (r == 0)
        r = prepare(&l);
    if (r < 0) {
        (void)file_close(l.file);
        return r;
    }
    *out = l;
    return 0;
}

void ledger_close(struct ledger *l)
{
    (void)file_close(l->file);       /* all of it was synced */
    l->file = -1;
}

int ledger_append(struct ledger *l, const struct ledger_entry *entries, size_t n)
{
    CLEANUP_FREE char *bytes = malloc(n * ENTRY_SIZE);

    if (bytes == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < n; i++)
        put_entry(bytes + i * ENTRY_SIZE, &entries[i]);
    int r = file_write_at(l->file, bytes, n * ENTRY_SIZE, l->end);
    if (r == 0)
        r = file_sync(l->file);
    if (r < 0)
        return file_truncate(l->file, l->end) == 0 && file_sync(l->file) == 0 ? r : -EUCLEAN;
    l->end += n * ENTRY_SIZE;
    return 0;
}

int ledger_read(const struct ledger *l, int (*each)(void *arg, const struct ledger_entry *e), void *arg)
{
    uint64_t end;
    return read_to(l->file, l->end, each, arg, &end);
}

int ledger_remove(int data_dir, const char *name)
{
    CLEANUP_FILE int folder = file_open_dir_at(data_dir, FOLDER);
    int r = folder < 0 ? folder : file_unlink_at(folder, name);

    if (r == 0)
        r = file_sync(folder);
    return r == -ENOENT ? 0 : r;
}

int ledger_list(int data_dir, int (*each)(void *arg, const char *name), void *arg)
{
    CLEANUP_FILE int folder = file_open_dir_at(data_dir, FOLDER);

    if (folder < 0)
        return folder == -ENOENT ? 0 : folder;
    return file_list(folder, each, arg);
}
