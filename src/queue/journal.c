/*
 * The journal's segments on disk; the contract is in journal.h, the format in docs/journal.md. Runs in the worker: in the
 * committer's thread (journal_extend) and in one disk job at a time (journal_prepare, journal_retire_oldest).
 */
#include "queue/journal.h"
#include "base/clock.h"
#include "queue/sidecar.h"
#include "run/file.h"
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ZERO_CHUNK (256u * 1024)
#define WIDE_BATCH (256u * 1024)                     /* bytes a sync from which on writing a segment out first does not pay */

static void spare_name(char out[SEGMENT_NAME_SIZE], uint32_t number)
{
    snprintf(out, SEGMENT_NAME_SIZE, "spare-%08x", number);
}

bool journal_spare_parse(const char *name, uint32_t *number)
{
    char expected[SEGMENT_NAME_SIZE];
    unsigned n;

    /* analyze cert-err34-c: eight digits fit, and the name is compared as a whole below */
    if (sscanf(name, "spare-%8x", &n) != 1)          /* our own directory's names, not a peer's bytes */
        return false;
    spare_name(expected, n);
    if (strcmp(name, expected) != 0)
        return false;
    *number = n;
    return true;
}

/* A directory whose name could not be synced is not used: it may be there now, and gone after a power cut with all that is in it. */
static int make_dir(int dir, const char *name)
{
    int r = file_mkdir_at(dir, name);

    if (r == 0)
        r = file_sync(dir);
    if (r < 0 && r != -EEXIST)
        (void)file_rename_at(dir, name, dir, "unsynced");   /* so that the next try makes it anew */
    return r;
}

static int open_or_make(int dir, const char *name, bool read_only)
{
    int found = file_open_dir_at(dir, name);

    if (found != -ENOENT || read_only)
        return found;
    int r = make_dir(dir, name);
    return r < 0 && r != -EEXIST ? r : file_open_dir_at(dir, name);
}

int journal_make(int dir)
{
    CLEANUP_FILE int segments_dir = open_or_make(dir, JOURNAL_SEGMENTS_NAME, false);
    CLEANUP_FILE int bodies_dir = segments_dir < 0 ? segments_dir : open_or_make(dir, JOURNAL_BODIES_NAME, false);

    return bodies_dir < 0 ? bodies_dir : 0;
}

int journal_open(struct journal *j, int dir, bool read_only)
{
    CLEANUP_FILE int segments_dir = open_or_make(dir, JOURNAL_SEGMENTS_NAME, read_only);
    if (segments_dir < 0)
        return segments_dir;
    CLEANUP_FILE int bodies_dir = open_or_make(dir, JOURNAL_BODIES_NAME, read_only);
    if (bodies_dir < 0)
        return bodies_dir;
    /* Who made them may have died before they were synced; and so may the last renames of segments. */
    int r = read_only ? 0 : file_sync(dir);
    if (r == 0 && !read_only)
        r = file_sync(segments_dir);
    if (r < 0)
        return r;
    *j = (struct journal){
        .dir = dir,
        .segments.file = segments_dir,
        .bodies.file = bodies_dir,
        .next_number = 1,
        .next_sequence = 1,
    };
    segments_dir = bodies_dir = -1;
    pthread_mutex_init(&j->lock, NULL);
    return 0;
}

uint32_t synced_dir_begin(struct synced_dir *d)
{
    return d->failures;
}

int synced_dir_sync(struct synced_dir *d, uint32_t begun)
{
    int r = file_sync(d->file);

    if (r < 0)
        d->failures++;
    return r == 0 && d->failures != begun ? -EIO : r;
}

static void segment_free(struct segment *s)
{
    (void)file_close(s->file);                       /* nothing unsynced is wanted of it */
    free(s);
}

void journal_close(struct journal *j)
{
    while (j->oldest != NULL) {
        struct segment *s = j->oldest;
        j->oldest = s->newer;
        segment_free(s);
    }
    (void)file_close(j->bodies.file);
    (void)file_close(j->segments.file);
    (void)file_close(j->dir);
    pthread_mutex_destroy(&j->lock);
}

static struct segment *segment_new(const struct segment_header *header, int file, uint64_t size)
{
    struct segment *s = calloc(1, sizeof *s);

    if (s == NULL)
        return NULL;
    s->generation = header->generation;
    s->number = header->number;
    s->salt = header->salt;
    s->file = file;
    s->size = size;
    s->end = SEGMENT_HEADER_SIZE;
    segment_name(s->name, header->generation, header->number);
    return s;
}

static void append_segment(struct journal *j, struct segment *s)
{
    pthread_mutex_lock(&j->lock);
    if (j->newest == NULL)
        j->oldest = s;
    else
        j->newest->newer = s;
    j->newest = s;
    j->segment_count++;
    pthread_mutex_unlock(&j->lock);
}

int journal_adopt(struct journal *j, const struct segment_header *header, int file, uint64_t size, struct segment **out)
{
    struct segment *s = segment_new(header, file, size);

    if (s == NULL)
        return -ENOMEM;
    s->sealed = true;
    append_segment(j, s);
    *out = s;
    return 0;
}

/* Is there room for one more segment above the floor? */
static int check_floor(struct journal *j)
{
    enum file_system kind;
    uint64_t free_bytes;

    if (j->free_floor == 0)
        return 0;
    int r = file_system_of(j->segments.file, &kind, &free_bytes);
    if (r < 0)
        return r;
    return free_bytes < j->free_floor + j->segment_size ? -ENOSPC : 0;
}

static int write_zeros(int file, uint64_t size)
{
    void *zeros = calloc(1, ZERO_CHUNK);
    int r = zeros == NULL ? -ENOMEM : 0;

    for (uint64_t at = 0; r == 0 && at < size; at += ZERO_CHUNK)
        r = file_write_at(file, zeros, size - at < ZERO_CHUNK ? size - at : ZERO_CHUNK, at);
    free(zeros);
    return r;
}

/* A new file of full size. Written out, overwriting is cheapest later; the committer, who makes people wait, only reserves. */
static int make_file(struct journal *j, uint32_t number, bool written_out)
{
    char name[SEGMENT_NAME_SIZE];

    spare_name(name, number);
    int file = file_open_at(j->segments.file, name, FILE_READ | FILE_WRITE | FILE_CREATE | FILE_TRUNCATE);
    if (file < 0)
        return file;
    int r = file_allocate(file, j->segment_size);
    if (r == -EOPNOTSUPP)
        r = write_zeros(file, j->segment_size);      /* a file system without fallocate */
    else if (r == 0 && written_out)
        r = write_zeros(file, j->segment_size);
    if (r == 0)
        r = file_datasync(file);
    if (r == 0)
        return file;
    (void)file_close(file);
    (void)file_unlink_at(j->segments.file, name);     /* if not, the next start removes it */
    return r;
}

static bool take_spare(struct journal *j, uint32_t *number)
{
    pthread_mutex_lock(&j->lock);
    bool taken = j->spare_count > 0;
    if (taken)
        *number = j->spares[--j->spare_count];
    pthread_mutex_unlock(&j->lock);
    return taken;
}

static bool add_spare(struct journal *j, uint32_t number)
{
    pthread_mutex_lock(&j->lock);
    bool added = j->spare_count < JOURNAL_SPARES_MAX;
    if (added)
        j->spares[j->spare_count++] = number;
    pthread_mutex_unlock(&j->lock);
    return added;
}

static uint32_t new_spare_number(struct journal *j)
{
    pthread_mutex_lock(&j->lock);
    uint32_t number = ++j->next_spare;
    pthread_mutex_unlock(&j->lock);
    return number;
}

/* The file that will be the next segment, open. */
static int obtain_file(struct journal *j, bool reserved, uint32_t *number)
{
    char name[SEGMENT_NAME_SIZE];

    if (take_spare(j, number)) {
        spare_name(name, *number);
        int file = file_open_at(j->segments.file, name, FILE_READ | FILE_WRITE);
        if (file < 0)
            (void)add_spare(j, *number);             /* no descriptors, perhaps; it is tried again */
        return file;
    }
    int r = reserved ? 0 : check_floor(j);
    if (r == 0) {
        *number = new_spare_number(j);
        r = make_file(j, *number, false);
    }
    if (r == -ENOSPC)
        j->short_of_space = true;
    return r;
}

/* The header goes in and is durable; then the file gets its name, durably too. */
static int inaugurate(struct journal *j, int file, uint32_t spare, const struct segment_header *header)
{
    unsigned char block[SEGMENT_HEADER_SIZE];
    char from[SEGMENT_NAME_SIZE], to[SEGMENT_NAME_SIZE];

    spare_name(from, spare);
    segment_name(to, header->generation, header->number);
    segment_header_put(block, header);
    uint32_t begun = synced_dir_begin(&j->segments);
    int r = file_write_at(file, block, sizeof block, 0);
    if (r == 0)
        r = file_datasync(file);
    if (r == 0)
        r = file_rename_at(j->segments.file, from, j->segments.file, to);
    if (r < 0) {
        (void)file_unlink_at(j->segments.file, from); /* its pages cannot be trusted; if this fails, the next start removes it */
        return r;
    }
    r = synced_dir_sync(&j->segments, begun);
    if (r < 0)
        (void)file_unlink_at(j->segments.file, to);   /* if not, recovery meets a segment without records */
    return r;
}

int journal_extend(struct journal *j, uint64_t id_floor, bool reserved, struct segment **out)
{
    uint32_t spare;
    CLEANUP_FILE int file = obtain_file(j, reserved, &spare);
    if (file < 0)
        return file;
    struct segment_header header = {
        .version = SEGMENT_FORMAT_VERSION,
        .generation = j->generation,
        .number = j->next_number++,                  /* never twice, whatever happens to this one */
        .first_sequence = j->next_sequence,
        .created_ns = clock_wall_ns(),
        .id_floor = id_floor,
    };
    clock_random(&header.salt, sizeof header.salt);
    struct segment *s = segment_new(&header, file, j->segment_size);
    int r = s == NULL ? -ENOMEM : inaugurate(j, file, spare, &header);
    if (r < 0) {
        free(s);
        return r;
    }
    file = -1;
    s->sidecar_wanted = true;
    append_segment(j, s);
    *out = s;
    return 0;
}

int journal_prepare(struct journal *j)
{
    pthread_mutex_lock(&j->lock);
    bool enough = j->spare_count > 0;
    pthread_mutex_unlock(&j->lock);
    if (enough) {
        j->short_of_space = false;
        return 0;
    }
    uint32_t number = new_spare_number(j);
    int r = check_floor(j);
    int file = r < 0 ? r : make_file(j, number, j->batch_bytes < WIDE_BATCH);
    j->short_of_space = file == -ENOSPC;
    if (file < 0)
        return file;
    (void)file_close(file);
    if (!add_spare(j, number)) {
        char name[SEGMENT_NAME_SIZE];
        spare_name(name, number);
        (void)file_unlink_at(j->segments.file, name); /* others came meanwhile; if not, the next start removes it */
    }
    return 0;
}

/* The file gets a spare's name. Its old one must be gone from the disk before anything newer is retired. If the directory cannot be synced,
 * all is done anew the next time, from the first rename: who knows what the failed sync has forgotten. */
static int rename_away(struct journal *j, struct segment *s)
{
    char name[SEGMENT_NAME_SIZE];
    uint32_t begun = synced_dir_begin(&j->segments);
    int r = 0;

    if (s->renamed) {
        segment_name(name, s->generation, s->number);
        r = file_rename_at(j->segments.file, s->name, j->segments.file, name);
        if (r < 0)
            return r;
        memcpy(s->name, name, sizeof name);
        s->renamed = false;
    }
    spare_name(name, new_spare_number(j));
    r = file_rename_at(j->segments.file, s->name, j->segments.file, name);
    if (r < 0)
        return r;
    memcpy(s->name, name, sizeof name);
    s->renamed = true;
    return synced_dir_sync(&j->segments, begun);
}

static void unlink_oldest(struct journal *j, struct segment *s)
{
    pthread_mutex_lock(&j->lock);
    j->oldest = s->newer;
    if (j->oldest == NULL)
        j->newest = NULL;
    j->segment_count--;
    pthread_mutex_unlock(&j->lock);
}

int journal_retire_oldest(struct journal *j)
{
    struct segment *s = journal_oldest(j);
    uint32_t number;

    assert(s != NULL && s->sealed && s->live == 0 && s->pins == 0 && s->entries == NULL);
    int r = rename_away(j, s);
    if (r < 0)
        return r;
    unlink_oldest(j, s);
    sidecar_remove(j->segments.file, s->generation, s->number);
    bool good = !s->condemned && s->size == j->segment_size && journal_spare_parse(s->name, &number);
    if (good && add_spare(j, number))
        j->short_of_space = false;
    else
        (void)file_unlink_at(j->segments.file, s->name);   /* if not, the next start removes it */
    segment_free(s);
    return 0;
}

struct segment *journal_oldest(struct journal *j)
{
    pthread_mutex_lock(&j->lock);
    struct segment *s = j->oldest;
    pthread_mutex_unlock(&j->lock);
    return s;
}

/* A walk along the list: at most some hundreds, and only to show or to move a message that was tried before. */
struct segment *journal_find(struct journal *j, uint32_t generation, uint32_t number)
{
    pthread_mutex_lock(&j->lock);
    struct segment *s = j->oldest;
    while (s != NULL && (s->generation != generation || s->number != number))
        s = s->newer;
    pthread_mutex_unlock(&j->lock);
    return s;
}

uint64_t journal_bytes(struct journal *j)
{
    pthread_mutex_lock(&j->lock);
    uint64_t bytes = j->segment_count * j->segment_size;
    pthread_mutex_unlock(&j->lock);
    return bytes;
}

/* Was it a segment once? Then it was written out and synced to its end. Of one that never was, nobody knows. */
static bool was_used(struct journal *j, const char *name)
{
    unsigned char block[SEGMENT_HEADER_SIZE];
    struct segment_header header;
    struct file_info info;
    size_t n;

    CLEANUP_FILE int file = file_open_at(j->segments.file, name, FILE_READ);
    if (file < 0 || file_info(file, &info) < 0 || info.size != j->segment_size)
        return false;
    int r = file_read_at(file, block, sizeof block, 0, &n);
    return r == 0 && n == sizeof block && segment_header_get(block, &header) == SEGMENT_HEADER_OK;
}

int journal_adopt_spare(struct journal *j, uint32_t number)
{
    char name[SEGMENT_NAME_SIZE];

    if (number > j->next_spare)
        j->next_spare = number;
    spare_name(name, number);
    if (was_used(j, name) && add_spare(j, number))
        return 0;
    return file_unlink_at(j->segments.file, name);
}
