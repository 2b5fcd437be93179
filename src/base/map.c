/*
 * Hash maps: linear probing, at most three quarters full, no tombstones.
 *
 * Both maps are one algorithm over slots that begin alike: a value (NULL: free) and a word, which is the number itself
 * or the string's hash. Removing closes the gap by moving later entries of the same run back, so a map that churns for
 * years stays as quick as a new one.
 *
 * A pass goes downwards, from a free slot around to it again. What a removal moves comes from further up its run: from
 * the part that the pass has behind it, into a slot that it has behind it too. So removing what was already given is
 * safe, and every other entry is given exactly once. The free slot it started from stays free, as nothing is added.
 *
 * In a simulated world (a replaced clock) the key of the string hash is a constant, so that a seed reproduces the order
 * of a pass. Runs in every process.
 */
#include "base/map.h"
#include "base/clock.h"
#include "base/codec.h"
#include "base/map_internal.h"
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define CAPACITY_FIRST ((size_t)8)
#define CAPACITY_MAX   ((size_t)1 << 31) /* so that a cursor holds two positions */
#define ABSENT         SIZE_MAX

_Static_assert(sizeof(size_t) == 8, "cursors hold two positions of 32 bits");

struct slot {
    void *value;
    uint64_t word;
};

struct map_u64_slot {
    struct slot slot;
};

struct map_str_slot {
    struct slot slot;
    struct str key; /* borrowed */
};

/* The part that both maps share; size is that of a slot. */
struct table {
    char *slots;
    size_t capacity;
    size_t size;
};

static struct slot *slot_at(const struct table *t, size_t i)
{
    return (struct slot *)(void *)(t->slots + i * t->size);
}

/* The finalizer of SplitMix64: each bit of the word reaches the low bits, which choose the slot. */
static size_t home_of(const struct table *t, uint64_t word)
{
    word = (word ^ word >> 30) * 0xbf58476d1ce4e5b9;
    word = (word ^ word >> 27) * 0x94d049bb133111eb;
    return (size_t)(word ^ word >> 31) & (t->capacity - 1);
}

static size_t after(const struct table *t, size_t i)
{
    return (i + 1) & (t->capacity - 1);
}

static size_t before(const struct table *t, size_t i)
{
    return (i - 1) & (t->capacity - 1);
}

/* Which of two steps is longer is asked around the ring: how far i lies above home. */
static size_t distance(const struct table *t, size_t home, size_t i)
{
    return (i - home) & (t->capacity - 1);
}

static size_t find_free(const struct table *t, uint64_t word)
{
    size_t i = home_of(t, word);

    while (slot_at(t, i)->value != NULL)
        i = after(t, i);
    return i;
}

/* Empties slot i, then moves back each later entry of the run that may stand at the gap: none may come before its home. */
static void table_remove(const struct table *t, size_t gap)
{
    for (size_t i = after(t, gap); slot_at(t, i)->value != NULL; i = after(t, i)) {
        size_t home = home_of(t, slot_at(t, i)->word);
        if (distance(t, home, i) < distance(t, gap, i))
            continue;
        memcpy(slot_at(t, gap), slot_at(t, i), t->size);
        gap = i;
    }
    memset(slot_at(t, gap), 0, t->size);
}

/* Makes *t have a slot free for one more, in new memory if need be: then true in *moved, and the old slots are gone. */
static int table_reserve(struct table *t, size_t used)
{
    if (used < t->capacity / 4 * 3)
        return 0;
    struct table larger = { .capacity = t->capacity == 0 ? CAPACITY_FIRST : 2 * t->capacity, .size = t->size };
    if (larger.capacity > CAPACITY_MAX)
        return -ENOMEM;
    larger.slots = calloc(larger.capacity, larger.size);
    if (larger.slots == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < t->capacity; i++)
        if (slot_at(t, i)->value != NULL)
            memcpy(slot_at(&larger, find_free(&larger, slot_at(t, i)->word)), slot_at(t, i), t->size);
    free(t->slots);
    *t = larger;
    return 0;
}

/* The cursor holds the free slot that the pass started from, plus one, above the slot given last. */
static struct slot *table_next(const struct table *t, size_t *cursor)
{
    size_t start = 0, i;

    if (t->capacity == 0)
        return NULL;
    if (*cursor == 0) {
        while (slot_at(t, start)->value != NULL)
            start++;
        i = start;
    } else {
        start = (*cursor >> 32) - 1;
        i = *cursor & UINT32_MAX;
        if (i == start)
            return NULL; /* asked again after the end */
    }
    assert(start < t->capacity && slot_at(t, start)->value == NULL);
    do
        i = before(t, i);
    while (i != start && slot_at(t, i)->value == NULL);
    *cursor = (start + 1) << 32 | i;
    return i == start ? NULL : slot_at(t, i);
}

/* From numbers. */

static struct table table_u64(const struct map_u64 *m)
{
    return (struct table){ (char *)m->slots, m->capacity, sizeof *m->slots };
}

void map_u64_init(struct map_u64 *m)
{
    *m = (struct map_u64){ 0 };
}

void map_u64_free(struct map_u64 *m)
{
    free(m->slots);
    map_u64_init(m);
}

static size_t find_u64(const struct table *t, uint64_t key)
{
    if (t->capacity == 0)
        return ABSENT;
    for (size_t i = home_of(t, key); slot_at(t, i)->value != NULL; i = after(t, i))
        if (slot_at(t, i)->word == key)
            return i;
    return ABSENT;
}

void *map_u64_get(const struct map_u64 *m, uint64_t key)
{
    struct table t = table_u64(m);
    size_t at = find_u64(&t, key);

    return at == ABSENT ? NULL : m->slots[at].slot.value;
}

int map_u64_put(struct map_u64 *m, uint64_t key, void *value)
{
    struct table t = table_u64(m);
    size_t at = find_u64(&t, key);

    assert(value != NULL);
    if (at == ABSENT) {
        int r = table_reserve(&t, m->used);
        if (r < 0)
            return r;
        m->slots = (struct map_u64_slot *)(void *)t.slots;
        m->capacity = t.capacity;
        m->used++;
        at = find_free(&t, key);
    }
    m->slots[at].slot = (struct slot){ value, key };
    return 0;
}

void *map_u64_remove(struct map_u64 *m, uint64_t key)
{
    struct table t = table_u64(m);
    size_t at = find_u64(&t, key);

    if (at == ABSENT)
        return NULL;
    void *value = m->slots[at].slot.value;
    table_remove(&t, at);
    m->used--;
    return value;
}

bool map_u64_next(const struct map_u64 *m, size_t *cursor, uint64_t *key, void **value)
{
    struct table t = table_u64(m);
    const struct slot *slot = table_next(&t, cursor);

    if (slot == NULL)
        return false;
    *key = slot->word;
    *value = slot->value;
    return true;
}

/* From strings. */

static uint8_t hash_key[16];

static void make_hash_key(void)
{
    if (!clock_is_replaced())
        clock_random(hash_key, sizeof hash_key);
}

static uint64_t hash_of(struct str s)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, make_hash_key);
    return map_siphash(hash_key, s);
}

uint64_t map_str_hash(struct str key) { return hash_of(key); }

static struct table table_str(const struct map_str *m)
{
    return (struct table){ (char *)m->slots, m->capacity, sizeof *m->slots };
}

void map_str_init(struct map_str *m)
{
    *m = (struct map_str){ 0 };
}

void map_str_free(struct map_str *m)
{
    free(m->slots);
    map_str_init(m);
}

static size_t find_str(const struct map_str *m, struct str key, uint64_t hash)
{
    struct table t = table_str(m);

    if (t.capacity == 0)
        return ABSENT;
    for (size_t i = home_of(&t, hash); m->slots[i].slot.value != NULL; i = after(&t, i))
        if (m->slots[i].slot.word == hash && str_eq(m->slots[i].key, key))
            return i;
    return ABSENT;
}

void *map_str_get(const struct map_str *m, struct str key)
{
    size_t at = find_str(m, key, hash_of(key));

    return at == ABSENT ? NULL : m->slots[at].slot.value;
}

int map_str_put(struct map_str *m, struct str key, void *value)
{
    uint64_t hash = hash_of(key);
    size_t at = find_str(m, key, hash);
    struct table t = table_str(m);

    assert(value != NULL);
    if (at == ABSENT) {
        int r = table_reserve(&t, m->used);
        if (r < 0)
            return r;
        m->slots = (struct map_str_slot *)(void *)t.slots;
        m->capacity = t.capacity;
        m->used++;
        at = find_free(&t, hash);
    }
    m->slots[at] = (struct map_str_slot){
        {value, hash},
        key
    }; /* the new key too: the old one may go with its value */
    return 0;
}

void *map_str_remove(struct map_str *m, struct str key)
{
    struct table t = table_str(m);
    size_t at = find_str(m, key, hash_of(key));

    if (at == ABSENT)
        return NULL;
    void *value = m->slots[at].slot.value;
    table_remove(&t, at);
    m->used--;
    return value;
}

bool map_str_next(const struct map_str *m, size_t *cursor, struct str *key, void **value)
{
    struct table t = table_str(m);
    const struct slot *slot = table_next(&t, cursor);

    if (slot == NULL)
        return false;
    *key = ((const struct map_str_slot *)(const void *)slot)->key;
    *value = slot->value;
    return true;
}

/* SipHash. */

static uint64_t rotate(uint64_t x, int bits)
{
    return x << bits | x >> (64 - bits);
}

static void sip_rounds(uint64_t v[4], int rounds)
{
    while (rounds-- > 0) {
        v[0] += v[1];
        v[2] += v[3];
        v[1] = rotate(v[1], 13) ^ v[0];
        v[3] = rotate(v[3], 16) ^ v[2];
        v[0] = rotate(v[0], 32);
        v[2] += v[1];
        v[0] += v[3];
        v[1] = rotate(v[1], 17) ^ v[2];
        v[3] = rotate(v[3], 21) ^ v[0];
        v[2] = rotate(v[2], 32);
    }
}

static void sip_word(uint64_t v[4], uint64_t word)
{
    v[3] ^= word;
    sip_rounds(v, 2);
    v[0] ^= word;
}

uint64_t map_siphash(const uint8_t key[16], struct str s)
{
    uint64_t k0 = codec_get_u64(key), k1 = codec_get_u64(key + 8);
    uint64_t v[4] = { k0 ^ 0x736f6d6570736575, k1 ^ 0x646f72616e646f6d, k0 ^ 0x6c7967656e657261, k1 ^ 0x7465646279746573 };
    uint64_t last = (uint64_t)s.n << 56;
    size_t i = 0;

    for (; s.n - i >= 8; i += 8)
        sip_word(v, codec_get_u64(s.p + i));
    for (int bits = 0; i < s.n; i++, bits += 8)
        last |= (uint64_t)(uint8_t)s.p[i] << bits;
    sip_word(v, last);
    v[2] ^= 0xff;
    sip_rounds(v, 4);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}
