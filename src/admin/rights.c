/*
 * The worker's rights; see rights.h.
 *
 * Files are replaced by renaming others over them, and the kernel's rule is about the file that was there at the start. So a right to read
 * a file of the configuration's is one to read the folder it stands in, unless a secret is in it too. A certificate's folder is given in any
 * case, since that is how certificates are renewed: a key beside it is as safe as its mode.
 */
#include "admin/rights.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define RIGHTS_MAX   ((size_t)64 << 20)
#define DNS_PORT     53

/* What libraries read: OpenSSL its configuration and whom it trusts, libunbound and libpq where names are looked up, glibc the zone. */
static const char *const of_the_system[] = {
    "/etc/ssl/certs", "/etc/ssl/openssl.cnf", "/usr/lib/ssl", "/usr/share/ca-certificates", "/usr/local/share/ca-certificates", "/etc/pki/tls",
    "/etc/pki/ca-trust", "/usr/share/dns", "/usr/share/zoneinfo", "/etc/localtime", "/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/host.conf",
    "/etc/gai.conf", "/etc/services", "/etc/passwd", "/dev/urandom", "/sys/devices/system/cpu/online", "/proc/sys/vm/max_map_count",
};

/* -- the table ----------------------------------------------------------------------------------------------------------------- */

static bool path_eq(const char *a, const char *b)
{
    return strcmp(a, b) == 0;
}

static void add(struct rights *r, const char *path, enum right_to to, int with)
{
    if (path == NULL || path[0] == '\0')
        return;
    for (size_t i = 0; i < r->count; i++)
        if (r->items[i].to == to && (int)r->items[i].with == with && path_eq(r->items[i].path, path))
            return;
    if (r->count == r->room) {
        size_t room = r->room > 0 ? 2 * r->room : 32;
        struct right *more = arena_array(&r->arena, room, sizeof *more);
        if (more == NULL)
            return;                      /* the arena remembers */
        if (r->count > 0)
            memcpy(more, r->items, r->count * sizeof *more);
        r->items = more;
        r->room = room;
    }
    r->items[r->count++] = (struct right){ .path = path, .to = to, .with = with };
}

static void add_port(struct rights *r, uint64_t port)
{
    if (port == 0 || port > 65535)
        return;
    for (size_t i = 0; i < r->port_count; i++)
        if (r->ports[i] == port)
            return;
    if (r->port_count == r->port_room) {
        size_t room = r->port_room > 0 ? 2 * r->port_room : 16;
        uint16_t *more = arena_array(&r->arena, room, sizeof *more);
        if (more == NULL)
            return;
        if (r->port_count > 0)
            memcpy(more, r->ports, r->port_count * sizeof *more);
        r->ports = more;
        r->port_room = room;
    }
    r->ports[r->port_count++] = (uint16_t)port;
}

/* -- files --------------------------------------------------------------------------------------------------------------------- */

static bool is_common(struct str folder, struct str home)
{
    static const char *const common[] = { "/var/lib", "/var/tmp", "/var/spool", "/var/mail", "/usr/local", "/usr/local/etc", "/usr/lib", "/usr/share" };

    if (folder.n < 2 || str_find_last(folder, '/') == 0 || folder.p[0] != '/')       /* "/etc", and whatever is no absolute path */
        return true;
    for (size_t i = 0; i < sizeof common / sizeof common[0]; i++)
        if (str_eq(folder, str_of(common[i])))
            return true;
    return str_starts(home, folder) && (home.n == folder.n || home.p[folder.n] == '/');
}

static bool is_beneath(const char *path, struct str top)
{
    while (top.n > 1 && top.p[top.n - 1] == '/')
        top.n--;
    return top.n > 0 && str_starts(str_of(path), top) && (path[top.n] == '\0' || path[top.n] == '/' || top.n == 1);
}

struct str rights_folder(const char *path, const char *home)
{
    struct str whole = str_of(path);
    ssize_t slash = str_find_last(whole, '/');
    struct str folder = slash > 0 ? str_head(whole, (size_t)slash) : STR("");

    return is_common(folder, str_of(home)) ? STR("") : folder;
}

bool rights_hold_secret(const struct rights *r, struct str folder)
{
    for (size_t i = 0; i < r->secret_count; i++)
        if (is_beneath(r->secrets[i], folder))
            return true;
    return false;
}

static void add_secret(struct rights *r, const char *path)
{
    if (path != NULL && path[0] != '\0')
        r->secrets[r->secret_count++] = path;
}

/* What the keeper and lookup read. */
static void add_secrets(struct rights *r, const struct conf *c)
{
    r->secrets = arena_array(&r->arena, c->certificate_count + 8, sizeof *r->secrets);
    if (r->secrets == NULL)
        return;
    add_secret(r, c->accounts_file);
    add_secret(r, c->accounts_sqlite);
    add_secret(r, c->accounts_pgsql_password_file);
    add_secret(r, c->oauth_client_secret_file);
    add_secret(r, c->relay_host_password_file);
    add_secret(r, c->relay_host_oauth_client_secret_file);
    add_secret(r, c->relay_host_oauth_refresh_token_file);
    for (size_t i = 0; i < c->certificate_count; i++)
        add_secret(r, c->certificates[i].key_file);
}

static void add_configuration(struct rights *r, const struct conf *c)
{
    for (const struct conf_file *f = c->files; f != NULL; f = f->next)
        add(r, f->path, RIGHT_READ, RIGHT_REPLACED);
    for (size_t i = 0; i < c->certificate_count; i++)
        add(r, c->certificates[i].certificate_file, RIGHT_READ, RIGHT_RENEWED);
    add(r, c->outbound_tls_ca_file, RIGHT_READ, RIGHT_REPLACED);
    add(r, c->dns_trust_anchor, RIGHT_READ, RIGHT_REPLACED);
    add(r, c->resolv_conf, RIGHT_READ, RIGHT_REPLACED);
    for (size_t i = 0; c->dns_zone_files[i] != NULL; i++) {
        const char *equals = strchr(c->dns_zone_files[i], '=');
        add(r, equals != NULL ? equals + 1 : c->dns_zone_files[i], RIGHT_READ, RIGHT_REPLACED);
    }
}

/* What stands before the first placeholder. */
static void add_mailboxes(struct rights *r, const struct conf *c)
{
    size_t n = strcspn(c->mailbox, "{");

    while (n > 0 && c->mailbox[n - 1] != '/')
        n--;
    add(r, n > 0 ? str_z(&r->arena, str_head(str_of(c->mailbox), n)) : ".", RIGHT_DELIVER, RIGHT_ALONE);
}

/* In the data directory itself Maildirs may stand. */
static void add_data(struct rights *r, const struct conf *c)
{
    add(r, c->data_dir, RIGHT_DELIVER, RIGHT_ALONE);
    add(r, str_printf(&r->arena, "%s/journal", c->data_dir).p, RIGHT_KEEP, RIGHT_ALONE);
    add(r, str_printf(&r->arena, "%s/body", c->data_dir).p, RIGHT_KEEP, RIGHT_ALONE);
    add(r, str_printf(&r->arena, "%s/drain", c->data_dir).p, RIGHT_KEEP, RIGHT_ALONE);
}

/* -- ports --------------------------------------------------------------------------------------------------------------------- */

/* Behind the last colon that is not within brackets; a name without a port has none. */
static uint64_t port_behind(const char *text, char mark)
{
    struct str whole = str_of(text);
    ssize_t at = str_find_last(whole, mark), bracket = str_find_last(whole, ']');
    uint64_t port = 0;

    return at > bracket && str_to_u64(str_from(whole, (size_t)at + 1), 65535, &port) ? port : 0;
}

static void add_delivery(struct rights *r, const struct conf_delivery *d)
{
    if (d->kind == CONF_DELIVERY_LMTP)
        add_port(r, d->port);
}

static void add_ports(struct rights *r, const struct conf *c)
{
    size_t cursor = 0;
    struct str domain;
    void *delivery;
    uint64_t port;

    add_port(r, c->smtp_port);
    add_port(r, port_behind(c->relay_host, ':'));
    add_delivery(r, &c->local_delivery);
    while (map_str_next(&c->local_delivery_by_domain, &cursor, &domain, &delivery))
        add_delivery(r, delivery);
    add_port(r, DNS_PORT);
    for (size_t i = 0; c->reroute_ports[i] != NULL; i++)
        if (str_to_u64(str_of(c->reroute_ports[i]), 65535, &port))
            add_port(r, port);
    for (size_t i = 0; c->dns_forwarders[i] != NULL; i++)
        add_port(r, port_behind(c->dns_forwarders[i], '@'));
    r->source = c->source_address[0] != '\0';
}

/* -- the whole ------------------------------------------------------------------------------------------------------------------- */

int rights_of(const struct conf *c, const char *home, struct rights *out)
{
    *out = (struct rights){ .home = home };
    arena_init(&out->arena, RIGHTS_MAX);
    for (size_t i = 0; i < sizeof of_the_system / sizeof of_the_system[0]; i++)
        add(out, of_the_system[i], RIGHT_READ, RIGHT_ALONE);
    add_configuration(out, c);
    add_secrets(out, c);
    add_data(out, c);
    add_mailboxes(out, c);
    add_ports(out, c);
    return arena_failed(&out->arena) ? -ENOMEM : 0;
}

void rights_free(struct rights *r)
{
    arena_reset(&r->arena);
}

static bool is_enough(enum right_to have, enum right_to wanted)
{
    return have == wanted || have == RIGHT_KEEP;
}

/* A file alone may have been replaced since: who cannot read it again asks for a worker who can. */
static bool gives(const struct rights *have, const struct right *h, const char *path)
{
    struct str folder = h->with != RIGHT_ALONE ? rights_folder(h->path, have->home) : STR("");

    return is_beneath(path, str_of(h->path)) ||
           (is_beneath(path, folder) && (h->with == RIGHT_RENEWED || !rights_hold_secret(have, folder)));
}

static bool has_path(const struct rights *have, const struct right *wanted)
{
    for (size_t i = 0; i < have->count; i++)
        if (is_enough(have->items[i].to, wanted->to) && gives(have, &have->items[i], wanted->path))
            return true;
    return false;
}

bool rights_have_port(const struct rights *have, uint16_t port)
{
    for (size_t i = 0; i < have->port_count; i++)
        if (have->ports[i] == port)
            return true;
    return false;
}

bool rights_cover(const struct rights *have, const struct rights *wanted, char why[256])
{
    for (size_t i = 0; i < wanted->count; i++)
        if (!has_path(have, &wanted->items[i])) {
            snprintf(why, 256, "%s is beyond what the running worker may reach", wanted->items[i].path);
            return false;
        }
    for (size_t i = 0; i < wanted->port_count; i++)
        if (!rights_have_port(have, wanted->ports[i])) {
            snprintf(why, 256, "port %u is beyond what the running worker may reach", wanted->ports[i]);
            return false;
        }
    if (wanted->source && !have->source)
        snprintf(why, 256, "a source_address is beyond what the running worker may have");
    return have->source || !wanted->source;
}
