/*
 * Senders of logins. Pure: looks at the snapshot only.
 */
#include "policy/sender.h"
#include "mail/domain.h"

#define KEY_MAX (ADDRESS_LOCAL_MAX * 4 + 1 + DOMAIN_MAX + 1)

/* A login's domain may be written with U-labels and in any case; addresses have theirs in one form. */
static bool same_domain(struct str written, struct str domain)
{
    struct arena a;
    struct str ascii;

    if (str_eq_nocase(written, domain))
        return true;
    arena_init(&a, 8192);
    bool same = domain_to_ascii(&a, written, &ascii) && str_eq(ascii, domain);
    arena_reset(&a);
    return same;
}

static bool is_own_name(const struct conf *c, struct str login, const struct address *sender)
{
    ssize_t at = str_find_last(login, '@');

    if (at < 0)
        return str_eq_nocase(login, sender->local) && map_str_get(&c->local_domains, sender->domain) != NULL;
    return str_eq_nocase(str_head(login, (size_t)at), sender->local) && same_domain(str_from(login, (size_t)at + 1), sender->domain);
}

static bool is_owner(const struct conf *c, struct str login, struct str local, struct str domain)
{
    char bytes[KEY_MAX];
    struct buf key;

    buf_init_fixed(&key, bytes, sizeof bytes);
    for (size_t i = 0; i < local.n; i++)
        buf_put_char(&key, char_lower(local.p[i]));
    buf_put_char(&key, '@');
    buf_put_str(&key, domain);
    const struct conf_owners *owners = buf_ok(&key) ? map_str_get(&c->sender_logins, buf_str(&key)) : NULL;
    for (size_t i = 0; owners != NULL && i < owners->count; i++)
        if (str_eq_nocase(owners->logins[i], login))
            return true;
    return false;
}

bool sender_is_own(const struct conf *c, struct str login, const struct address *sender)
{
    return is_own_name(c, login, sender) || is_owner(c, login, sender->local, sender->domain) || is_owner(c, login, STR(""), sender->domain);
}
