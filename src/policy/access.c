/*
 * The decision at RCPT. Pure: a table of domains and users in, one of five answers out.
 */
#include "policy/access.h"
#include "mail/domain.h"
#include "mail/local_part.h"
#include <string.h>

#define KEY_MAX (LOCAL_PART_KEY_MAX + 1 + DOMAIN_MAX + 1)

bool access_is_trusted(const struct conf *c, const uint8_t *client_ip, size_t len)
{
    for (size_t i = 0; i < c->trusted_network_count; i++)
        if (ip_range_has(&c->trusted_networks[i], client_ip, len))
            return true;
    return false;
}

/* "user%elsewhere", "elsewhere!user", "user@elsewhere": routes of the old days. Nobody of ours is called so, and sending
 * them on is how relays were opened; at our own domains they are users we do not know. */
static bool is_route(struct str local)
{
    for (size_t i = 0; i < local.n; i++)
        if (local.p[i] == '%' || local.p[i] == '!' || local.p[i] == '@')
            return true;
    return false;
}

static bool in_list(const struct map_str *list, struct str local, struct str domain, bool with_domain)
{
    char key_bytes[KEY_MAX];
    struct buf key;

    buf_init_fixed(&key, key_bytes, sizeof key_bytes);
    local_part_put_key(&key, local);
    if (with_domain) {
        buf_put_char(&key, '@');
        buf_put_str(&key, domain);
    }
    return buf_ok(&key) && map_str_get(list, buf_str(&key)) != NULL;
}

static enum access local_rcpt(const struct conf *c, const struct address *rcpt)
{
    if (address_is_postmaster(rcpt))         /* RFC 5321, 4.5.1: at every domain we serve, whoever asks */
        return ACCESS_LOCAL;
    if (is_route(rcpt->local))
        return ACCESS_UNKNOWN_USER;
    if (!c->have_users_file)
        return ACCESS_LOCAL_IF_MAILBOX;
    if (in_list(&c->users, rcpt->local, rcpt->domain, true) || in_list(&c->users, rcpt->local, rcpt->domain, false))
        return ACCESS_LOCAL;
    return ACCESS_UNKNOWN_USER;
}

static enum access backup_rcpt(const struct conf *c, const struct address *rcpt)
{
    if (address_is_postmaster(rcpt))         /* the primary has one, as we do (RFC 5321, 4.5.1), in no list or not */
        return ACCESS_RELAY;
    /* Routes in local parts are the primary's affair only if it lists them itself. */
    if (in_list(&c->relay_recipients, rcpt->local, rcpt->domain, true))
        return ACCESS_RELAY;
    if (!is_route(rcpt->local) && in_list(&c->relay_recipients, STR(""), rcpt->domain, true))
        return ACCESS_RELAY;
    return ACCESS_UNKNOWN_USER;
}

enum access access_rcpt(const struct conf *c, bool trusted, const struct address *rcpt)
{
    if (rcpt->domain.n == 0)                 /* only <postmaster> comes without one */
        return address_is_postmaster(rcpt) ? ACCESS_LOCAL : ACCESS_UNKNOWN_USER;
    if (map_str_get(&c->local_domains, rcpt->domain) != NULL)
        return local_rcpt(c, rcpt);
    if (map_str_get(&c->relay_domains, rcpt->domain) != NULL)
        return backup_rcpt(c, rcpt);
    return trusted ? ACCESS_RELAY : ACCESS_RELAY_DENIED;
}
