/*
 * Hash maps: from 64-bit numbers, and from byte strings, to pointers.
 *
 * Open addressing; grows by itself, shrinks never; the string map hashes with a key made at random once per process
 * (SipHash-2-4), so that a peer cannot choose colliding names; in the simulated world the key is a constant, so that a
 * seed reproduces the order of a pass. Strings are borrowed: the caller keeps them alive as long as their entry. Values
 * may not be NULL. Not thread-safe.
 */
#ifndef BASE_MAP_H
#define BASE_MAP_H

#include "base/str.h"

struct map_u64 {
    struct map_u64_slot *slots;      /* owned */
    size_t               used;       /* live entries */
    size_t               capacity;   /* power of two, or 0 */
};

void  map_u64_init(struct map_u64 *m);
void  map_u64_free(struct map_u64 *m);                                 /* the values stay the caller's */
void *map_u64_get(const struct map_u64 *m, uint64_t key);              /* NULL if absent */
int   map_u64_put(struct map_u64 *m, uint64_t key, void *value);       /* replaces; -ENOMEM */
void *map_u64_remove(struct map_u64 *m, uint64_t key);                 /* the old value or NULL */
/* One pass: start with *cursor = 0; false at the end. Nothing may be added on the way. Entries that were already given, the
 * one just given above all, may be removed: every other entry is still given, exactly once. Removing one that was not given
 * yet may give others twice, but never skips one. */
bool  map_u64_next(const struct map_u64 *m, size_t *cursor, uint64_t *key, void **value);

struct map_str {
    struct map_str_slot *slots;      /* owned */
    size_t               used;
    size_t               capacity;
};

void  map_str_init(struct map_str *m);
void  map_str_free(struct map_str *m);
void *map_str_get(const struct map_str *m, struct str key);
int   map_str_put(struct map_str *m, struct str key, void *value);
void *map_str_remove(struct map_str *m, struct str key);
uint64_t map_str_hash(struct str key);           /* by that key of the process */
bool  map_str_next(const struct map_str *m, size_t *cursor, struct str *key, void **value);

#endif
