/*
 * Byte strings: a pointer and a length, borrowed, never owned.
 *
 * What a peer sent stays a struct str until it is proven printable. Nothing here needs a NUL, nothing here allocates
 * except where an arena is named; comparison ignoring case is ASCII only, as SMTP's is (RFC 5321, 2.4).
 */
#ifndef BASE_STR_H
#define BASE_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct arena;

struct str {
    const char *p;
    size_t      n;
};

/* A literal as a struct str; STR_FMT and STR_ARG print one: printf("%" STR_FMT, STR_ARG(s)). */
#define STR(literal) ((struct str){ "" literal, sizeof(literal) - 1 })
#define STR_FMT ".*s"
#define STR_ARG(s) (int)(s).n, (s).p

struct str str_of(const char *z);                              /* of a NUL-terminated string; NULL gives the empty one */
bool       str_eq(struct str a, struct str b);
bool       str_eq_nocase(struct str a, struct str b);
int        str_cmp(struct str a, struct str b);                /* bytewise, shorter first, like memcmp */
bool       str_starts(struct str s, struct str prefix);
bool       str_starts_nocase(struct str s, struct str prefix);
bool       str_ends_nocase(struct str s, struct str suffix);
struct str str_trim(struct str s);                             /* without spaces and tabs at both ends */
struct str str_from(struct str s, size_t from);                /* the rest; empty if from is beyond the end */
struct str str_head(struct str s, size_t n);                   /* the first n bytes, or all */
ssize_t    str_find(struct str s, char c);                     /* index of the first c, or -1 */
ssize_t    str_find_last(struct str s, char c);
ssize_t    str_find_str(struct str s, struct str needle);      /* index, or -1 */

/* Cut at the first sep: head is what stands before it, rest what follows. False, with head = s and rest empty, if there is none. */
bool str_cut(struct str s, char sep, struct str *head, struct str *rest);

/* A whole string of decimal digits up to max. False, out untouched, if empty, not digits, or larger than max. */
bool str_to_u64(struct str s, uint64_t max, uint64_t *out);

/* Copies in an arena; .p is NULL when the arena is full. str_z ends in NUL (a NUL inside s cuts it short for C callers). */
struct str  str_copy(struct arena *a, struct str s);
struct str  str_lower(struct arena *a, struct str s);          /* ASCII */
const char *str_z(struct arena *a, struct str s);
struct str  str_printf(struct arena *a, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Characters, of ASCII whatever the machine's language. */
static inline char char_lower(char c) { return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c; }
static inline bool char_is_digit(char c) { return c >= '0' && c <= '9'; }
static inline bool char_is_alpha(char c) { return char_lower(c) >= 'a' && char_lower(c) <= 'z'; }
static inline bool char_is_alnum(char c) { return char_is_digit(c) || char_is_alpha(c); }
static inline bool char_is_blank(char c) { return c == ' ' || c == '\t'; }

#endif
