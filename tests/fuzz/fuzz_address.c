/*
 * Fuzzes mail/address and mail/domain. The first octet is the options. An address that was understood is printable, is the same
 * when read again from its text, from its parts, and from its path, and has the same key.
 */
#include "base/cleanup.h"
#include "base/utf8.h"
#include "mail/address.h"
#include "mail/domain.h"

#include <assert.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_same(struct arena *a, const struct address *one, const struct address *other)
{
    assert(str_eq(one->local, other->local) && str_eq(one->domain, other->domain));
    assert(one->quoted == other->quoted && one->utf8 == other->utf8 && address_eq(one, other));
    assert(str_eq(address_key(a, one), address_key(a, other)));
}

static void check_address(struct arena *a, const struct address *addr, unsigned options)
{
    struct address again;
    struct str text = address_text(a, addr);
    char memory[1024];
    struct buf path;
    size_t consumed;

    assert(utf8_valid(text) && addr->local.n <= ADDRESS_LOCAL_MAX && addr->domain.n <= DOMAIN_MAX);
    assert(!addr->utf8 || (options & ADDRESS_UTF8));
    for (size_t i = 0; i < text.n; i++)
        assert((unsigned char)text.p[i] >= ' ' && text.p[i] != 0x7f);
    assert(address_of_parts(addr->local, addr->domain, &again));
    check_same(a, addr, &again);
    if (address_is_null(addr))
        return;
    assert(address_parse_with(a, text, options | ADDRESS_POSTMASTER, &again));
    check_same(a, addr, &again);
    buf_init_fixed(&path, memory, sizeof memory);
    address_put_path(&path, addr);
    buf_put_z(&path, " X");
    if (path.n - 2 > ADDRESS_PATH_MAX) /* two labels may have grown to A-labels */
        return;
    assert(address_parse_path(a, buf_str(&path), options | ADDRESS_POSTMASTER, &again, &consumed) && consumed == path.n - 2);
    check_same(a, addr, &again);
}

static void check_domain(struct arena *a, struct str name)
{
    struct str ascii, again;

    if (domain_to_ascii(a, name, &ascii)) {
        assert(domain_valid(ascii) && domain_to_ascii(a, ascii, &again) && str_eq(ascii, again));
        assert(domain_in(ascii, domain_organizational(ascii)));
        (void)domain_to_utf8(a, ascii);
    }
    if (domain_parse_literal(a, name, &ascii)) {
        assert(domain_parse_literal(a, ascii, &again) && str_eq(ascii, again));
        assert(str_eq(domain_literal_of_ip(a, domain_literal_ip(ascii)), ascii));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena a;
    struct address addr;
    size_t consumed;

    if (size == 0)
        return 0;
    unsigned options = data[0] & 31;
    struct str in = { (const char *)data + 1, size - 1 };
    arena_init(&a, 1 << 20);
    if (address_parse_with(&a, in, options, &addr))
        check_address(&a, &addr, options);
    if (address_parse_path(&a, in, options, &addr, &consumed)) {
        assert(consumed <= in.n && in.p[consumed - 1] == '>');
        check_address(&a, &addr, options);
    }
    check_domain(&a, in);
    arena_reset(&a);
    return 0;
}
