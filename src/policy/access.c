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

void *access_lookup(const struct map_str *table, struct str local, struct str domain)
{
    char key_bytes[KEY_MAX];
    struct buf key;

    buf_init_fixed(&key, key_bytes, sizeof key_bytes);
    local_part_put_key(&key, local);
    if (domain.n > 0) {
        buf_put_char(&key, '@');
        buf_put_str(&key, domain);
    }
    return buf_ok(&key) ? map_str_get(table, buf_str(&key)) : NULL;
}

bool access_split_detail(const struct conf *c, struct str local, struct str *user)
{
    for (size_t i = 1; c->recipient_delimiter != NULL && i < local.n; i++)
        if (local.p[i] != '\0' && strchr(c->recipient_delimiter, local.p[i]) != NULL) {
            *user = str_head(local, i);
            return true;
        }
    return false;
}

/* "user%elsewhere", "elsewhere!user", "user@elsewhere": routes of the old days. Nobody of ours is called so, and sending
 * them on is how relays were opened; at our own domains they are users we do not know. */
bool access_is_route(struct str local)
{
    for (size_t i = 0; i < local.n; i++)
        if (local.p[i] == '%' || local.p[i] == '!' || local.p[i] == '@')
            return true;
    return false;
}

/* In every local domain, or in this one. */
static bool is_listed(const struct conf *c, struct str local, struct str domain)
{
    return access_lookup(&c->users, local, domain) != NULL || access_lookup(&c->users, local, STR("")) != NULL;
}

/* Who is listed with his detail is called so; without a list nobody is. */
struct str access_user(const struct conf *c, const struct address *rcpt)
{
    struct str user;

    if ((c->have_users_file && is_listed(c, rcpt->local, rcpt->domain)) || !access_split_detail(c, rcpt->local, &user))
        return rcpt->local;
    return user;
}

static enum access local_rcpt(const struct conf *c, const struct address *rcpt)
{
    if (address_is_postmaster(rcpt))         /* RFC 5321, 4.5.1: at every domain we serve, whoever asks */
        return ACCESS_LOCAL;
    if (access_is_route(rcpt->local))
        return ACCESS_UNKNOWN_USER;
    if (!c->have_users_file)
        return ACCESS_LOCAL_IF_MAILBOX;
    return is_listed(c, access_user(c, rcpt), rcpt->domain) ? ACCESS_LOCAL : ACCESS_UNKNOWN_USER;
}

static enum access backup_rcpt(const struct conf *c, const struct address *rcpt)
{
    if (address_is_postmaster(rcpt))         /* the primary has one, as we do (RFC 5321, 4.5.1), in no list or not */
        return ACCESS_RELAY;
    /* Routes in local parts are the primary's affair only if it lists them itself. */
    if (access_lookup(&c->relay_recipients, rcpt->local, rcpt->domain) != NULL)
        return ACCESS_RELAY;
    if (!access_is_route(rcpt->local) && access_lookup(&c->relay_recipients, STR(""), rcpt->domain) != NULL)
        return ACCESS_RELAY;
    return ACCESS_UNKNOWN_USER;
}

enum access access_rcpt(const struct conf *c, bool trusted, const struct address *rcpt)
{
    if (rcpt->domain.n == 0)                 /* only <postmaster> comes without one */
        return address_is_postmaster(rcpt) ? ACCESS_LOCAL : ACCESS_UNKNOWN_USER;
    if (map_str_get(&c->local_domains, rcpt->domain) != NULL)
        return local_rcpt(c, rcpt);
    if (map_str_get(&c->virtual_domains, rcpt->domain) != NULL)      /* there are aliases only; postmaster is at home all the same */
        return address_is_postmaster(rcpt) ? ACCESS_LOCAL : ACCESS_UNKNOWN_USER;
    if (map_str_get(&c->relay_domains, rcpt->domain) != NULL)
        return backup_rcpt(c, rcpt);
    return trusted ? ACCESS_RELAY : ACCESS_RELAY_DENIED;
}
