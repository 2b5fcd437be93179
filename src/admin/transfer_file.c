/*
 * See transfer_file.h. Used by `nightmail queue export` and `import`, each of which is a process of its own.
 */
#include "admin/transfer_file.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/codec.h"
#include "run/file.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MAGIC       "nightmx\n"      /* the line end shows a file that a text transfer has changed */
#define VERSION     1
#define HEADER_SIZE 64u              /* magic, u32 version, u32 zero, the name, zeros, u32 CRC of the 60 bytes before */
#define HEAD_SIZE   24u              /* u32 CRC of the 20 behind it, u32 kind, u32 length, u32 CRC of the payload, u64 number */

static int open_folder(const char *path, const char **out_name)
{
    const char *slash = strrchr(path, '/');
    CLEANUP_FREE char *folder = slash == NULL ? strdup(".") : strndup(path, slash == path ? 1 : (size_t)(slash - path));

    *out_name = slash == NULL ? path : slash + 1;
    return folder == NULL ? -ENOMEM : file_open_dir(folder);
}

static void make_name(char out[TRANSFER_NAME_LEN + 1])
{
    unsigned char random[TRANSFER_NAME_LEN / 2];
    struct buf hex;

    clock_random(random, sizeof random);
    buf_init_fixed(&hex, out, TRANSFER_NAME_LEN + 1);
    codec_put_hex(&hex, (struct str){ (const char *)random, sizeof random });
    buf_put_char(&hex, '\0');
}

static int write_header(struct transfer_file *f)
{
    char header[HEADER_SIZE] = MAGIC;

    codec_set_u32(header + 8, VERSION);
    memcpy(header + 16, f->name, TRANSFER_NAME_LEN);
    codec_set_u32(header + HEADER_SIZE - 4, codec_crc32c(0, header, HEADER_SIZE - 4));
    f->at = HEADER_SIZE;
    return file_write_at(f->file, header, HEADER_SIZE, 0);
}

static int read_header(struct transfer_file *f)
{
    char header[HEADER_SIZE];
    size_t n;
    int r = file_read_at(f->file, header, HEADER_SIZE, 0, &n);

    if (r < 0)
        return r;
    bool good = n == HEADER_SIZE && memcmp(header, MAGIC, 8) == 0 && codec_get_u32(header + 8) == VERSION &&
                codec_get_u32(header + HEADER_SIZE - 4) == codec_crc32c(0, header, HEADER_SIZE - 4);
    if (!good)
        return -EBADMSG;
    memcpy(f->name, header + 16, TRANSFER_NAME_LEN);
    f->at = HEADER_SIZE;
    return 0;
}

static int open_with(const char *path, unsigned flags, struct transfer_file *out, int *out_folder)
{
    const char *name;
    int folder = open_folder(path, &name);

    if (folder < 0)
        return folder;
    *out = (struct transfer_file){ .file = file_open_at(folder, name, flags) };
    if (out->file < 0) {
        (void)file_close(folder);
        return out->file;
    }
    buf_init(&out->buffer, TRANSFER_FRAME_MAX);
    *out_folder = folder;
    return 0;
}

int transfer_file_create(const char *path, struct transfer_file *out)
{
    CLEANUP_FILE int folder = -1;
    int r = open_with(path, FILE_READ | FILE_WRITE | FILE_CREATE | FILE_EXCLUSIVE, out, &folder);

    if (r < 0)
        return r;
    make_name(out->name);
    r = write_header(out);
    if (r == 0)
        r = file_sync(out->file);
    if (r == 0)
        r = file_sync(folder);
    if (r < 0)
        transfer_file_close(out);
    return r;
}

int transfer_file_open(const char *path, bool to_write, struct transfer_file *out)
{
    CLEANUP_FILE int folder = -1;
    int r = open_with(path, to_write ? FILE_READ | FILE_WRITE : FILE_READ, out, &folder);

    if (r < 0)
        return r;
    r = to_write ? file_lock(out->file) : 0;         /* two exports to one file */
    if (r == 0)
        r = read_header(out);
    if (r < 0)
        transfer_file_close(out);
    return r;
}

void transfer_file_close(struct transfer_file *f)
{
    (void)file_close(f->file);                       /* what counts was synced */
    f->file = -1;
    buf_free(&f->buffer);
}

void transfer_file_rewind(struct transfer_file *f)
{
    f->at = HEADER_SIZE;
}

static int read_payload(struct transfer_file *f, uint32_t length, uint32_t crc, struct str *out)
{
    size_t n;

    buf_clear(&f->buffer);
    char *p = buf_room(&f->buffer, length);
    if (p == NULL)
        return -ENOMEM;
    int r = file_read_at(f->file, p, length, f->at + HEAD_SIZE, &n);
    if (r < 0)
        return r;
    if (n < length || codec_crc32c(0, p, length) != crc)
        return -EBADMSG;
    *out = (struct str){ p, length };
    return 0;
}

int transfer_file_read(struct transfer_file *f, struct frame *out)
{
    char head[HEAD_SIZE];
    size_t n;
    int r = file_read_at(f->file, head, HEAD_SIZE, f->at, &n);

    if (r < 0 || n == 0)
        return r;
    uint32_t kind = codec_get_u32(head + 4), length = codec_get_u32(head + 8);
    if (n < HEAD_SIZE || codec_get_u32(head) != codec_crc32c(0, head + 4, HEAD_SIZE - 4) || kind < FRAME_MESSAGE || kind > FRAME_END ||
        length > TRANSFER_FRAME_MAX)
        return -EBADMSG;
    struct frame frame = { .kind = (enum frame_kind)kind, .number = codec_get_u64(head + 16) };
    r = read_payload(f, length, codec_get_u32(head + 12), &frame.payload);
    if (r < 0)
        return r;
    f->at += HEAD_SIZE + length;
    *out = frame;
    return 1;
}

int transfer_file_cut(struct transfer_file *f)
{
    int r = file_truncate(f->file, f->at);
    return r == 0 ? file_sync(f->file) : r;
}

int transfer_file_write(struct transfer_file *f, enum frame_kind kind, uint64_t number, struct str payload)
{
    char head[HEAD_SIZE];

    codec_set_u32(head + 4, (uint32_t)kind);
    codec_set_u32(head + 8, (uint32_t)payload.n);
    codec_set_u32(head + 12, codec_crc32c(0, payload.p, payload.n));
    codec_set_u64(head + 16, number);
    codec_set_u32(head, codec_crc32c(0, head + 4, HEAD_SIZE - 4));
    int r = file_write_at(f->file, head, HEAD_SIZE, f->at);
    if (r == 0 && payload.n > 0)
        r = file_write_at(f->file, payload.p, payload.n, f->at + HEAD_SIZE);
    if (r == 0)
        f->at += HEAD_SIZE + payload.n;
    return r;
}

int transfer_file_sync(struct transfer_file *f)
{
    return file_sync(f->file);
}
