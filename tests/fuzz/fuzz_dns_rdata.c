/*
 * Fuzzes run/dns_rdata: the first octet chooses the type, the rest is rdata; and the same octets as a name to be cleaned.
 * What comes out of a name must be a name again, and the same one.
 */
#include "run/dns_internal.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const enum dns_type types[] = { DNS_A, DNS_PTR, DNS_MX, DNS_TXT, DNS_AAAA, DNS_TLSA };

static void check_name(struct arena *arena, struct str name)
{
    struct str again;

    assert(name.n <= 253);
    assert(dns_name_clean(arena, name, &again) == 0);
    assert(str_eq(name, again));
}

static void check_record(struct arena *arena, enum dns_type type, const struct dns_record *record, size_t size)
{
    switch (type) {
    case DNS_A:
    case DNS_AAAA: return;
    case DNS_PTR:
    case DNS_MX: check_name(arena, record->name); return;
    case DNS_TXT:
    case DNS_TLSA: assert(record->text.n < size); return;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena arena;
    struct dns_record record;
    struct str name;

    if (size == 0)
        return 0;
    arena_init(&arena, 1024 * 1024);
    enum dns_type type = types[data[0] % (sizeof types / sizeof types[0])];
    if (dns_parse_rdata(&arena, type, data + 1, size - 1, &record) == 0)
        check_record(&arena, type, &record, size);
    if (dns_name_clean(&arena, (struct str){ (const char *)data + 1, size - 1 }, &name) == 0)
        check_name(&arena, name);
    arena_reset(&arena);
    return 0;
}
