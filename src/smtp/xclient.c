/*
 * XCLIENT and XFORWARD: a table of attributes, a reader for each kind of value.
 */
#include "smtp/xclient.h"
#include "mail/domain.h"
#include <arpa/inet.h>
#include <string.h>

enum { OF_XCLIENT = 1, OF_XFORWARD = 2 };

static bool read_name(struct str value, void *field)
{
    if (value.n > 0 && !domain_valid_dns(value))
        return false;
    *(struct str *)field = value;
    return true;
}

/* One word: it goes into trace fields and the log as it is. */
static bool read_text(struct str value, void *field)
{
    for (size_t i = 0; i < value.n; i++)
        if (value.p[i] == ' ')
            return false;
    *(struct str *)field = value;
    return value.n <= XCLIENT_TEXT_MAX;
}

/* "192.0.2.1", "IPV6:2001:db8::1" */
static bool read_ip(struct str value, void *field)
{
    struct xclient_ip ip = { .len = 4 };
    char z[INET6_ADDRSTRLEN];

    if (value.n == 0)
        return true;
    if (str_starts_nocase(value, STR("IPV6:"))) {
        value = str_from(value, 5);
        ip.len = 16;
    }
    if (value.n >= sizeof z)
        return false;
    memcpy(z, value.p, value.n);
    z[value.n] = '\0';
    if (inet_pton(ip.len == 4 ? AF_INET : AF_INET6, z, ip.ip) != 1)
        return false;
    *(struct xclient_ip *)field = ip;
    return true;
}

static bool read_port(struct str value, void *field)
{
    uint64_t port;

    if (value.n == 0)
        return true;
    if (!str_to_u64(value, UINT16_MAX, &port))
        return false;
    *(uint16_t *)field = (uint16_t)port;
    return true;
}

static bool read_one_of(struct str value, const char *no, const char *yes, bool *out)
{
    *out = str_eq_nocase(value, str_of(yes));
    return *out || value.n == 0 || str_eq_nocase(value, str_of(no));
}

static bool read_proto(struct str value, void *field) { return read_one_of(value, "SMTP", "ESMTP", field); }
static bool read_source(struct str value, void *field) { return read_one_of(value, "REMOTE", "LOCAL", field); }

#define F(field) offsetof(struct xclient_args, field)

// clang-format off
static const struct attribute_row {
    const char            *name;
    enum xclient_attribute bit;
    unsigned               of;
    bool                 (*read)(struct str value, void *field);   /* of the decoded value; "": unavailable */
    size_t                 field;
} attributes[] = {
    { "NAME",         XCLIENT_NAME,         OF_XCLIENT | OF_XFORWARD, read_name,   F(name)         },
    { "REVERSE_NAME", XCLIENT_REVERSE_NAME, OF_XCLIENT,               read_name,   F(reverse_name) },
    { "ADDR",         XCLIENT_ADDR,         OF_XCLIENT | OF_XFORWARD, read_ip,     F(addr)         },
    { "PORT",         XCLIENT_PORT,         OF_XCLIENT | OF_XFORWARD, read_port,   F(port)         },
    { "PROTO",        XCLIENT_PROTO,        OF_XCLIENT | OF_XFORWARD, read_proto,  F(esmtp)        },
    { "HELO",         XCLIENT_HELO,         OF_XCLIENT | OF_XFORWARD, read_text,   F(helo)         },
    { "LOGIN",        XCLIENT_LOGIN,        OF_XCLIENT,               read_text,   F(login)        },
    { "DESTADDR",     XCLIENT_DESTADDR,     OF_XCLIENT,               read_ip,     F(dest_addr)    },
    { "DESTPORT",     XCLIENT_DESTPORT,     OF_XCLIENT,               read_port,   F(dest_port)    },
    { "IDENT",        XCLIENT_IDENT,        OF_XFORWARD,              read_text,   F(ident)        },
    { "SOURCE",       XCLIENT_SOURCE,       OF_XFORWARD,              read_source, F(source_local) },
};
// clang-format on

static const struct attribute_row *find_attribute(struct str name, unsigned of)
{
    for (size_t i = 0; i < sizeof attributes / sizeof attributes[0]; i++)
        if ((attributes[i].of & of) && str_eq_nocase(name, str_of(attributes[i].name)))
            return &attributes[i];
    return NULL;
}

static bool is_unavailable(struct str value)
{
    return str_eq_nocase(value, STR("[UNAVAILABLE]")) || str_eq_nocase(value, STR("[TEMPUNAVAIL]"));
}

static enum smtp_parse read_attribute(struct arena *a, struct str word, unsigned of, struct xclient_args *args, struct str *name)
{
    struct str value, text;

    if (!str_cut(word, '=', name, &value) || name->n == 0)
        return SMTP_BAD_SYNTAX;
    const struct attribute_row *row = find_attribute(*name, of);
    if (row == NULL)
        return SMTP_UNKNOWN_PARAMETER;
    if (args->seen & row->bit)
        return SMTP_DUPLICATE_PARAMETER;
    if (!smtp_parse_xtext(a, value, &text))
        return arena_failed(a) ? SMTP_NO_MEMORY : SMTP_BAD_PARAMETER;
    if (!row->read(is_unavailable(text) ? STR("") : text, (char *)args + row->field))
        return SMTP_BAD_PARAMETER;
    args->seen |= row->bit;
    return SMTP_OK;
}

/* A name goes into a reply only if it can be one. */
static bool is_attribute_name(struct str name)
{
    if (name.n > XCLIENT_TEXT_MAX)
        return false;
    for (size_t i = 0; i < name.n; i++)
        if (!char_is_alnum(name.p[i]) && name.p[i] != '_' && name.p[i] != '-')
            return false;
    return true;
}

static enum smtp_parse read_attributes(struct arena *a, struct str rest, unsigned of, struct xclient_args *out, struct str *culprit)
{
    struct xclient_args args = { .seen = 0 };
    struct str word, name;

    while ((rest = str_trim(rest)).n > 0) {
        str_cut(rest, ' ', &word, &rest);
        enum smtp_parse r = read_attribute(a, str_trim(word), of, &args, &name);
        if (r == SMTP_OK)
            continue;
        if (r != SMTP_BAD_SYNTAX && r != SMTP_NO_MEMORY && !is_attribute_name(name))
            return SMTP_BAD_SYNTAX;
        if (culprit != NULL && r != SMTP_BAD_SYNTAX && r != SMTP_NO_MEMORY)
            *culprit = name;
        return r;
    }
    if (args.seen == 0)
        return SMTP_BAD_SYNTAX;
    *out = args;
    return SMTP_OK;
}

enum smtp_parse smtp_parse_xclient(struct arena *a, struct str args, struct xclient_args *out, struct str *culprit)
{
    return read_attributes(a, args, OF_XCLIENT, out, culprit);
}

enum smtp_parse smtp_parse_xforward(struct arena *a, struct str args, struct xclient_args *out, struct str *culprit)
{
    return read_attributes(a, args, OF_XFORWARD, out, culprit);
}
