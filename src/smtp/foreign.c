/*
 * A look at the first bytes: no verb of SMTP begins so, nor what is left of one.
 */
#include "smtp/foreign.h"

// clang-format off
static const struct { const char *name, *begin; } protocols[] = {
    { "HTTP", "GET "     }, { "HTTP", "POST "   }, { "HTTP", "PUT "   }, { "HTTP", "HEAD "  }, { "HTTP", "OPTIONS " }, { "HTTP", "CONNECT " },
    { "HTTP", "DELETE "  }, { "HTTP", "PATCH "  }, { "HTTP", "TRACE " }, { "HTTP", "PRI * HTTP/" },
    { "TLS",  "\x16\x03" }, { "SSH",  "SSH-"    }, { "RDP",  "\x03" }, { "SOCKS", "\x05" }, { "SOCKS", "\x04" },
};
// clang-format on

const char *foreign_protocol(struct str input)
{
    if (input.n > 0 && input.p[0] == '\0')       /* most binary ones begin with a length or a version */
        return "a binary protocol";
    for (size_t i = 0; i < sizeof protocols / sizeof protocols[0]; i++)
        if (str_starts(input, str_of(protocols[i].begin)))
            return protocols[i].name;
    return NULL;
}
