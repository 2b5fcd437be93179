/*
 * The snapshot: counted, shown, and the one in force.
 *
 * Sessions and deliveries take the one in force when they begin and keep it to their end; a reload puts another in its
 * place and the old one goes with its last user. Runs in every process.
 */
#include "conf/conf.h"
#include "conf/option.h"
#include "mail/domain.h"
#include "mail/local_part.h"
#include <assert.h>
#include <pthread.h>
#include <stdlib.h>

static struct conf    *current;                  /* owned: one count */
static struct conf *(*current_instead)(void);    /* set before any task runs, and then only read */
static pthread_mutex_t current_lock = PTHREAD_MUTEX_INITIALIZER;

struct conf *conf_ref(struct conf *c)
{
    unsigned before = __atomic_fetch_add(&c->refs, 1, __ATOMIC_RELAXED);
    assert(before > 0);
    return c;
}

void conf_unref(struct conf *c)
{
    if (c == NULL)
        return;
    unsigned before = __atomic_fetch_sub(&c->refs, 1, __ATOMIC_ACQ_REL);
    assert(before > 0);
    if (before > 1)
        return;
    map_str_free(&c->local_domains);
    map_str_free(&c->virtual_domains);
    map_str_free(&c->relay_domains);
    map_str_free(&c->local_delivery_by_domain);
    map_str_free(&c->outbound_tls_by_domain);
    map_str_free(&c->retry_by_domain);
    map_str_free(&c->users);
    map_str_free(&c->relay_recipients);
    map_str_free(&c->sender_logins);
    map_str_free(&c->aliases);
    map_str_free(&c->recipient_rewrites);
    map_str_free(&c->sender_rewrites);
    arena_reset(&c->arena);
    free(c);
}

/* The lock spans only the copy of the pointer and its count: no await, no call of ours inside waits. */
struct conf *conf_current(void)
{
    if (current_instead != NULL)
        return current_instead();
    pthread_mutex_lock(&current_lock);
    struct conf *c = current == NULL ? NULL : conf_ref(current);
    pthread_mutex_unlock(&current_lock);
    assert(c != NULL);
    return c;
}

void conf_replace_current(struct conf *(*fn)(void))
{
    current_instead = fn;
}

void conf_set_current(struct conf *c)
{
    pthread_mutex_lock(&current_lock);
    struct conf *before = current;
    current = c;
    pthread_mutex_unlock(&current_lock);
    conf_unref(before);
}

struct str conf_key(struct arena *a, struct str local, struct str domain)
{
    char memory[LOCAL_PART_KEY_MAX + 1 + DOMAIN_MAX];
    struct buf key;

    buf_init_fixed(&key, memory, sizeof memory);
    local_part_put_key(&key, local);
    if (domain.n > 0) {
        buf_put_char(&key, '@');
        buf_put_str(&key, domain);
    }
    assert(buf_ok(&key));
    return str_copy(a, buf_str(&key));
}

static void show_extensions_off(uint32_t off, struct buf *out)
{
    struct str word, rest = STR(CONF_EXTENSION_WORDS);

    if (off == 0)
        return;
    buf_put_z(out, " extensions_off = \"");
    for (const char *separator = ""; rest.n > 0; off >>= 1) {
        str_cut(rest, ' ', &word, &rest);
        if (off & 1) {
            buf_put_z(out, separator);
            buf_put_str(out, word);
            separator = " ";
        }
    }
    buf_put_char(out, '"');
}

static void show_listener(const struct conf_listener *l, struct buf *out)
{
    static const char *const services[] = { [CONF_SERVICE_SMTP] = "smtp", [CONF_SERVICE_SUBMISSION] = "submission", [CONF_SERVICE_LMTP] = "lmtp" };
    static const char *const words[] = { [CONF_TLS_NONE] = "none", [CONF_TLS_STARTTLS] = "starttls", [CONF_TLS_REQUIRED] = "required",
                                         [CONF_TLS_IMPLICIT] = "implicit" };

    buf_put_z(out, "listen ");
    option_put_quoted(out, l->name);
    buf_put_z(out, " { address = ");
    option_put_quoted(out, l->address);
    buf_printf(out, " tls = %s service = %s auth_allow_cleartext = %s hide_client = %s", words[l->tls],
               services[l->terms.service], l->terms.auth_allow_cleartext ? "yes" : "no",
               l->terms.hide_client ? "yes" : "no");
    if (l->terms.proxy_protocol)
        buf_put_z(out, " proxy_protocol = yes");
    show_extensions_off(l->terms.extensions_off, out);
    buf_put_z(out, " }\n");
}

static void show_client_network(const struct conf_client_network *n, struct buf *out)
{
    char text[IP_RANGE_TEXT_MAX];

    buf_put_z(out, "client_network ");
    option_put_quoted(out, n->name);
    ip_range_format(&n->network, text);
    buf_put_z(out, " { network = ");
    option_put_quoted(out, str_of(text));
    show_extensions_off(n->extensions_off, out);
    buf_put_z(out, " }\n");
}

static void show_certificate(const struct conf_certificate *cert, struct buf *out)
{
    buf_put_z(out, "tls_certificate ");
    option_put_quoted(out, str_of(cert->name));
    buf_put_z(out, " {\n    certificate = ");
    option_put_quoted(out, str_of(cert->certificate_file));
    buf_put_z(out, "\n    key = ");
    option_put_quoted(out, str_of(cert->key_file));
    buf_put_z(out, "\n}\n");
}

void conf_show(const struct conf *c, struct buf *out)
{
    for (size_t i = 0; i < option_count; i++) {
        buf_put_z(out, options[i].name);
        buf_put_z(out, " = ");
        option_put(out, c, &options[i]);
        buf_put_z(out, c->given[i] ? "\n" : "   # default\n");
    }
    for (size_t i = 0; i < c->listener_count; i++)
        show_listener(&c->listeners[i], out);
    for (size_t i = 0; i < c->client_network_count; i++)
        show_client_network(&c->client_networks[i], out);
    for (size_t i = 0; i < c->certificate_count; i++)
        show_certificate(&c->certificates[i], out);
}
