/*
 * The table of refusals in force; see refusal_table.h. Runs in the worker, and wherever the configuration is checked.
 */
#include "outbound/refusal_table.h"
#include <errno.h>
#include <stdlib.h>

#define TABLE_MEMORY (4 * 1024 * 1024)

/* The file itself, so that it is never another one than what is installed. */
__asm__(".section .rodata\n"
        ".global refusal_table_shipped, refusal_table_shipped_end\n"
        "refusal_table_shipped: .incbin \"share/refusals\"\n"
        "refusal_table_shipped_end: .byte 0\n"
        ".previous\n");
extern const char refusal_table_shipped[], refusal_table_shipped_end[];

struct refusal_table *refusal_table_new(const char *file, struct str text, struct buf *error)
{
    struct refusal_table *t = calloc(1, sizeof *t);
    /* analyze comparePointers: they are the two ends of one */
    struct str shipped = { refusal_table_shipped, (size_t)(refusal_table_shipped_end - refusal_table_shipped) };

    if (t == NULL)
        return NULL;
    arena_init(&t->arena, TABLE_MEMORY);
    refusals_init(&t->refusals, &t->arena);
    int r = text.n == 0 ? 0 : refusals_load(&t->refusals, file, text, error);
    if (r != -ENOMEM)
        r = refusals_load(&t->refusals, "share/refusals", shipped, error);
    if (r != -ENOMEM)
        return t;
    refusal_table_free(t);
    return NULL;
}

void refusal_table_free(struct refusal_table *t)
{
    if (t == NULL)
        return;
    arena_reset(&t->arena);
    free(t);
}
