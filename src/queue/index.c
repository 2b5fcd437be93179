/*
 * The index; the contract is in index.h. Runs in the worker.
 *
 * The order of ids is a tree of two levels: a sorted array of chunks, each a sorted array of up to 512 entries. Ids come
 * almost in order, so almost every insertion is at the end of the last chunk. A lookup is two binary searches; the most
 * that is ever moved is 8 KiB in a chunk and, once in some hundred removals, 8 bytes for each chunk.
 */
#include "queue/index.h"
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK_MAX = 512, CHUNK_LOW = CHUNK_MAX / 4 };

struct index_chunk {
    size_t        count;
    uint64_t      ids[CHUNK_MAX];
    struct entry *entries[CHUNK_MAX];
};

void index_init(struct index *ix)
{
    *ix = (struct index){ 0 };
    heap_init(&ix->due);
}

void index_free(struct index *ix)
{
    heap_free(&ix->due);
    for (size_t i = 0; i < ix->chunk_count; i++) {
        for (size_t k = 0; k < ix->chunks[i]->count; k++)
            free(ix->chunks[i]->entries[k]);
        free(ix->chunks[i]);
    }
    free(ix->chunks);
    index_init(ix);
}

struct entry *entry_new(uint64_t id, uint32_t rcpts)
{
    _Static_assert(RCPT_PENDING == 0, "calloc makes all recipients pending");
    struct entry *e = calloc(1, sizeof *e + rcpts);

    if (e == NULL)
        return NULL;
    e->id = id;
    e->rcpts = e->pending = rcpts;
    heap_node_init(&e->node);
    return e;
}

/* The last chunk whose first id is not above id; 0 if there is none. */
static size_t chunk_of(const struct index *ix, uint64_t id)
{
    size_t low = 0, high = ix->chunk_count;

    while (low < high) {
        size_t middle = (low + high) / 2;
        if (ix->chunks[middle]->ids[0] <= id)
            low = middle + 1;
        else
            high = middle;
    }
    return low == 0 ? 0 : low - 1;
}

/* The first place in the chunk whose id is not below id. */
static size_t place_in(const struct index_chunk *c, uint64_t id)
{
    size_t low = 0, high = c->count;

    if (c->count > 0 && c->ids[c->count - 1] < id)
        return c->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (c->ids[middle] < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct index_chunk *insert_chunk(struct index *ix, size_t at)
{
    if (ix->chunk_count == ix->chunk_capacity) {
        size_t capacity = ix->chunk_capacity == 0 ? 16 : 2 * ix->chunk_capacity;
        struct index_chunk **chunks = reallocarray(ix->chunks, capacity, sizeof(struct index_chunk *));
        if (chunks == NULL)
            return NULL;
        ix->chunks = chunks;
        ix->chunk_capacity = capacity;
    }
    struct index_chunk *c = malloc(sizeof *c);
    if (c == NULL)
        return NULL;
    c->count = 0;
    memmove(ix->chunks + at + 1, ix->chunks + at, (ix->chunk_count - at) * sizeof(struct index_chunk *));
    ix->chunks[at] = c;
    ix->chunk_count++;
    return c;
}

static void remove_chunk(struct index *ix, size_t at)
{
    free(ix->chunks[at]);
    ix->chunk_count--;
    memmove(ix->chunks + at, ix->chunks + at + 1, (ix->chunk_count - at) * sizeof(struct index_chunk *));
}

/* The upper part of a full chunk goes to a new one behind it: half, or nothing if the new entry goes to the very end. */
static bool split(struct index *ix, size_t at, bool at_end)
{
    struct index_chunk *upper = insert_chunk(ix, at + 1);

    if (upper == NULL)
        return false;
    struct index_chunk *lower = ix->chunks[at];
    size_t stay = at_end ? lower->count : lower->count / 2;
    upper->count = lower->count - stay;
    memcpy(upper->ids, lower->ids + stay, upper->count * sizeof *upper->ids);
    memcpy(upper->entries, lower->entries + stay, upper->count * sizeof(struct entry *));
    lower->count = stay;
    return true;
}

static void put_in(struct index_chunk *c, size_t place, struct entry *e)
{
    memmove(c->ids + place + 1, c->ids + place, (c->count - place) * sizeof *c->ids);
    memmove(c->entries + place + 1, c->entries + place, (c->count - place) * sizeof(struct entry *));
    c->ids[place] = e->id;
    c->entries[place] = e;
    c->count++;
}

static int order_add(struct index *ix, struct entry *e)
{
    if (ix->chunk_count == 0 && insert_chunk(ix, 0) == NULL)
        return -ENOMEM;
    size_t at = chunk_of(ix, e->id);
    size_t place = place_in(ix->chunks[at], e->id);
    if (place < ix->chunks[at]->count && ix->chunks[at]->ids[place] == e->id)
        return -EEXIST;
    if (ix->chunks[at]->count == CHUNK_MAX) {
        if (!split(ix, at, place == CHUNK_MAX))
            return -ENOMEM;
        if (place > ix->chunks[at]->count || (place == ix->chunks[at]->count && place == CHUNK_MAX)) {
            place -= ix->chunks[at]->count;
            at++;
        }
    }
    put_in(ix->chunks[at], place, e);
    return 0;
}

int index_add(struct index *ix, struct entry *e)
{
    int r = heap_push(&ix->due, &e->node, INDEX_NEVER);

    if (r == 0)
        r = order_add(ix, e);
    if (r < 0) {
        heap_remove(&ix->due, &e->node);
        return r;
    }
    ix->count++;
    return 0;
}

struct entry *index_get(const struct index *ix, uint64_t id)
{
    if (ix->chunk_count == 0)
        return NULL;
    const struct index_chunk *c = ix->chunks[chunk_of(ix, id)];
    size_t place = place_in(c, id);
    return place < c->count && c->ids[place] == id ? c->entries[place] : NULL;
}

/* Two neighbours that are nearly empty become one, so that a long life does not leave chunks of one entry each. */
static void merge(struct index *ix, size_t at)
{
    struct index_chunk *lower = ix->chunks[at], *upper = ix->chunks[at + 1];

    memcpy(lower->ids + lower->count, upper->ids, upper->count * sizeof *upper->ids);
    memcpy(lower->entries + lower->count, upper->entries, upper->count * sizeof(struct entry *));
    lower->count += upper->count;
    remove_chunk(ix, at + 1);
}

static void tidy(struct index *ix, size_t at)
{
    if (ix->chunks[at]->count == 0) {
        remove_chunk(ix, at);
        return;
    }
    if (at + 1 < ix->chunk_count && ix->chunks[at]->count + ix->chunks[at + 1]->count <= CHUNK_LOW)
        merge(ix, at);
    else if (at > 0 && ix->chunks[at - 1]->count + ix->chunks[at]->count <= CHUNK_LOW)
        merge(ix, at - 1);
}

void index_remove(struct index *ix, struct entry *e)
{
    size_t at = chunk_of(ix, e->id);
    struct index_chunk *c = ix->chunks[at];
    size_t place = place_in(c, e->id);

    assert(place < c->count && c->entries[place] == e);
    c->count--;
    memmove(c->ids + place, c->ids + place + 1, (c->count - place) * sizeof *c->ids);
    memmove(c->entries + place, c->entries + place + 1, (c->count - place) * sizeof(struct entry *));
    tidy(ix, at);
    heap_remove(&ix->due, &e->node);
    ix->count--;
}

size_t index_after(const struct index *ix, uint64_t after, struct entry **out, size_t max)
{
    size_t n = 0;

    if (ix->chunk_count == 0 || after == UINT64_MAX)
        return 0;
    size_t at = chunk_of(ix, after + 1);
    size_t place = place_in(ix->chunks[at], after + 1);
    for (; n < max && at < ix->chunk_count; at++, place = 0)
        for (; n < max && place < ix->chunks[at]->count; place++)
            out[n++] = ix->chunks[at]->entries[place];
    return n;
}

uint64_t entry_record_size(const struct entry *e)
{
    return record_size(e->length);
}

void entry_place(struct entry *e, struct segment *s, uint64_t offset, uint32_t length)
{
    assert(e->segment == NULL && offset % RECORD_ALIGN == 0 && offset / RECORD_ALIGN <= UINT32_MAX);
    e->segment = s;
    e->place = (uint32_t)(offset / RECORD_ALIGN);
    e->length = length;
    s->live_bytes += entry_record_size(e);
    e->prev = NULL;
    e->next = s->entries;
    if (s->entries != NULL)
        s->entries->prev = e;
    s->entries = e;
}

void entry_unplace(struct entry *e)
{
    struct segment *s = e->segment;

    if (e->prev == NULL)
        s->entries = e->next;
    else
        e->prev->next = e->next;
    if (e->next != NULL)
        e->next->prev = e->prev;
    s->live_bytes -= entry_record_size(e);
    e->segment = NULL;
    e->prev = e->next = NULL;
}
