/*
 * The configuration of libunbound, generated from struct dns_options: forwarders, zone files, trust anchor.
 *
 * Zone files become auth-zones and not data_add, which follows no CNAME and no wildcard. They are answered from as upstream of the
 * iterator (for-upstream), so that a CNAME may lead from one zone to another, and never asked outside (no fallback).
 *
 * A closed network: zone files, and neither forwarders nor a resolv.conf. Then libunbound has no address family to send with:
 * no packet leaves, and every name outside the zones is SERVFAIL at once.
 *
 * What is generated is text with values of the operator in it; a value that could end its quotes is refused.
 */
#include "base/cleanup.h"
#include "run/dns_internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define ORIGIN_MAX         255u
#define ZONES_MAX          1000u /* scanning for a zone given twice is quadratic */
#define RESOLV_SERVERS_MAX 8u    /* resolv.conf(5) has 3; some write more */

struct zone {
    char origin[ORIGIN_MAX + 1]; /* lower case, with trailing dot */
    const char *path;
    bool is_signed;
};

static int fail(char out_error[256], int r, const char *format, ...) __attribute__((format(printf, 3, 4)));

static int fail(char out_error[256], int r, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    (void)vsnprintf(out_error, 256, format, args);
    va_end(args);
    return r;
}

/* libunbound's quoted words know no escape. */
static bool quotable(const char *z)
{
    for (; *z != '\0'; z++)
        if ((unsigned char)*z < ' ' || *z == '"' || *z == 0x7f)
            return false;
    return true;
}

static bool set_origin(struct zone *zone, struct str text)
{
    struct arena arena;
    struct str name;

    arena_init(&arena, 4096);
    int r = text.n > 0 ? dns_name_clean(&arena, text, &name) : -EINVAL;
    if (r == 0) {
        (void)snprintf(zone->origin, sizeof zone->origin, "%" STR_FMT ".", STR_ARG(name));
        if (!quotable(zone->origin) || strpbrk(zone->origin, "\\ ") != NULL)
            r = -EINVAL;
    }
    arena_reset(&arena);
    return r == 0;
}

/* What a line of a zone file tells us: the first $ORIGIN, and whether there are keys. */
static void scan_line(struct str line, struct zone *zone)
{
    struct str text, comment;

    (void)str_cut(line, ';', &text, &comment);
    if (zone->origin[0] == '\0' && str_starts_nocase(text, STR("$ORIGIN"))) {
        struct str value = str_trim(str_from(text, sizeof "$ORIGIN" - 1));
        while (value.n > 0 && strchr("\r\n\t ", value.p[value.n - 1]) != NULL)
            value.n--;
        (void)set_origin(zone, value);
    }
    if (memmem(text.p, text.n, "DNSKEY", sizeof "DNSKEY" - 1) != NULL || memmem(text.p, text.n, "dnskey", sizeof "dnskey" - 1) != NULL)
        zone->is_signed = true;
}

static int scan_file(struct zone *zone, char out_error[256])
{
    CLEANUP_FREE char *line = NULL;
    size_t room = 0;
    ssize_t n;

    FILE *file = fopen(zone->path, "re"); /* the real disk: libunbound reads it there too */
    if (file == NULL) {
        int r = -errno;
        return fail(out_error, r, "%s: %s", zone->path, strerror(-r));
    }
    while ((n = getline(&line, &room, file)) >= 0)
        scan_line((struct str){ line, (size_t)n }, zone);
    bool broken = ferror(file) != 0;
    (void)fclose(file);
    return broken ? fail(out_error, -EIO, "%s: cannot be read", zone->path) : 0;
}

/* "origin=path", or a path alone, whose file says $ORIGIN. */
static int zone_of(const char *spec, struct zone *out, char out_error[256])
{
    struct zone zone = { .path = spec };
    const char *equals = strchr(spec, '=');

    if (equals != NULL && memchr(spec, '/', (size_t)(equals - spec)) == NULL) {
        zone.path = equals + 1;
        if (!set_origin(&zone, (struct str){ spec, (size_t)(equals - spec) }))
            return fail(out_error, -EINVAL, "%s: not the name of a zone before the =", spec);
    }
    if (zone.path[0] == '\0' || !quotable(zone.path))
        return fail(out_error, -EINVAL, "zone file with an empty or unprintable path");
    int r = scan_file(&zone, out_error);
    if (r < 0)
        return r;
    if (zone.origin[0] == '\0')
        return fail(out_error, -EINVAL, "%s: no $ORIGIN; write it there, or give origin=path", zone.path);
    *out = zone;
    return 0;
}

static int read_zones(const char *const *specs, struct zone **out, size_t *out_count, char out_error[256])
{
    size_t count = 0;
    while (specs != NULL && specs[count] != NULL)
        count++;
    if (count > ZONES_MAX)
        return fail(out_error, -E2BIG, "%zu zone files, at most %u", count, ZONES_MAX);
    CLEANUP_FREE struct zone *zones = calloc(count + 1, sizeof *zones);
    if (zones == NULL)
        return fail(out_error, -ENOMEM, "no memory");
    for (size_t i = 0; i < count; i++) {
        int r = zone_of(specs[i], &zones[i], out_error);
        if (r < 0)
            return r;
        for (size_t j = 0; j < i; j++)
            if (strcmp(zones[i].origin, zones[j].origin) == 0)
                return fail(out_error, -EINVAL, "%s: the zone %s has another file already: %s", zones[i].path, zones[i].origin,
                            zones[j].path);
    }
    *out = zones;
    zones = NULL;
    *out_count = count;
    return 0;
}

/* "192.0.2.53", "2001:db8::53", each with "@port" or without. */
static bool forwarder_ok(struct str text)
{
    struct str address, port;
    char z[INET6_ADDRSTRLEN];
    uint8_t ip[16];
    uint64_t number;

    if (str_cut(text, '@', &address, &port) && (!str_to_u64(port, 65535, &number) || number == 0))
        return false;
    if (address.n >= sizeof z)
        return false;
    memcpy(z, address.p, address.n);
    z[address.n] = '\0';
    return inet_pton(AF_INET, z, ip) == 1 || inet_pton(AF_INET6, z, ip) == 1;
}

static int put_forwarders(struct buf *out, const char *const *forwarders, char out_error[256])
{
    for (size_t i = 0; forwarders[i] != NULL; i++) {
        if (!forwarder_ok(str_of(forwarders[i])))
            return fail(out_error, -EINVAL, "%.100s: not a forwarder (192.0.2.53, 127.0.0.1@5353, 2001:db8::53)", forwarders[i]);
        buf_printf(out, "    forward-addr: \"%s\"\n", forwarders[i]);
    }
    return 0;
}

/* The nameserver lines; none, or no such file, means the one on this machine (resolv.conf(5)). What we cannot read (scoped addresses) is passed over. */
static void put_resolv_conf(struct buf *out, const char *path)
{
    CLEANUP_FREE char *line = NULL;
    size_t room = 0;
    unsigned count = 0;
    FILE *file = fopen(path, "re");

    while (file != NULL && count < RESOLV_SERVERS_MAX && getline(&line, &room, file) >= 0) {
        char address[INET6_ADDRSTRLEN];
        if (sscanf(line, "nameserver %45s", address) != 1 || strchr(address, '@') != NULL || !forwarder_ok(str_of(address)))
            continue;
        buf_printf(out, "    forward-addr: \"%s\"\n", address);
        count++;
    }
    if (file != NULL)
        (void)fclose(file);
    if (count == 0)
        buf_put_z(out, "    forward-addr: \"127.0.0.1\"\n");
}

/* Some names libunbound answers by itself, "test." for one, unless told that somebody else does. Each once, or it warns. */
static void put_transparent(struct buf *out, const char *name, const struct zone *zones, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(zones[i].origin, name) == 0)
            return;
    buf_printf(out, "    local-zone: \"%s\" transparent\n", name);
}

/* Names that somebody outside may know: the resolver we forward to, or a root of the operator's own. */
static void put_special_names(struct buf *out, const struct zone *zones, size_t count)
{
    static const char *const names[] = { "test.", "home.arpa." };

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        put_transparent(out, names[i], zones, count);
}

/* The zones the operator wrote are believed as they are. Only one with keys, under an anchor that was named for it, is validated: with the
 * anchor of the public root, a private zone would be proved not to exist. */
static void put_zones_as_server_options(struct buf *out, const struct dns_options *options, const struct zone *zones, size_t count)
{
    bool validate = options->trust_anchor_file != NULL && options->trust_anchor_file[0] != '\0';

    for (size_t i = 0; i < count; i++) {
        buf_printf(out, "    local-zone: \"%s\" transparent\n", zones[i].origin);
        if (!validate || !zones[i].is_signed)
            buf_printf(out, "    domain-insecure: \"%s\"\n", zones[i].origin);
    }
}

static void put_zones(struct buf *out, const struct zone *zones, size_t count)
{
    for (size_t i = 0; i < count; i++)
        buf_printf(out,
                   "auth-zone:\n    name: \"%s\"\n    zonefile: \"%s\"\n"
                   "    for-downstream: no\n    for-upstream: yes\n    fallback-enabled: no\n",
                   zones[i].origin, zones[i].path);
}

/* The anchor file to use: the one named, or the system's if the public root can be reached at all; "" for none. */
static const char *anchor_file(const struct dns_options *options, bool closed)
{
    static const char *const of_system[] = { "/usr/share/dns/root.key", "/var/lib/unbound/root.key", "/etc/unbound/root.key" };

    if (options->trust_anchor_file != NULL)
        return options->trust_anchor_file;
    for (size_t i = 0; !closed && i < sizeof of_system / sizeof of_system[0]; i++)
        if (access(of_system[i], R_OK) == 0)
            return of_system[i];
    return "";
}

static int put_validation(struct buf *out, const struct dns_options *options, bool closed, char out_error[256])
{
    const char *anchor = anchor_file(options, closed);

    if (anchor[0] == '\0') {
        buf_put_z(out, "    module-config: \"iterator\"\n");
        return 0;
    }
    if (!quotable(anchor))
        return fail(out_error, -EINVAL, "trust anchor file with an unprintable path");
    if (access(anchor, R_OK) != 0) {
        int r = -errno;
        return fail(out_error, r, "%s: %s", anchor, strerror(-r));
    }
    buf_printf(out, "    module-config: \"validator iterator\"\n    trust-anchor-file: \"%s\"\n    trust-anchor-signaling: no\n", anchor);
    if (options->now_wall_s != 0) {
        struct tm when;
        time_t now = options->now_wall_s;
        char text[32];
        if (gmtime_r(&now, &when) == NULL || strftime(text, sizeof text, "%Y%m%d%H%M%S", &when) != 14)
            return fail(out_error, -EINVAL, "a date that has no year of four digits");
        buf_printf(out, "    val-override-date: \"%s\"\n", text);
    }
    return 0;
}

/* libunbound's defaults for libraries are for a program that asks one question: 16 ports, 32 questions, caches of 1 MiB. */
static const char server_options[] = "    use-syslog: no\n"
                                     "    do-not-query-localhost: no\n"
                                     "    outgoing-range: 512\n"
                                     "    outgoing-num-tcp: 32\n"
                                     "    num-queries-per-thread: 4096\n"
                                     "    msg-cache-size: 16m\n"
                                     "    rrset-cache-size: 32m\n"
                                     "    key-cache-size: 4m\n"
                                     "    neg-cache-size: 4m\n";

static bool has_root(const struct zone *zones, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(zones[i].origin, ".") == 0)
            return true;
    return false;
}

static int put_config(const struct dns_options *options, const struct zone *zones, size_t count, struct buf *out, char out_error[256])
{
    bool forwarders = options->forwarders != NULL && options->forwarders[0] != NULL;
    bool outside = forwarders || options->resolv_conf != NULL;
    bool closed = dns_is_closed(options);

    buf_put_z(out, "server:\n");
    buf_put_z(out, server_options);
    if (closed)
        buf_put_z(out, "    do-ip4: no\n    do-ip6: no\n");
    if (outside || has_root(zones, count)) { /* whoever we forward to knows the private networks and names there */
        buf_put_z(out, "    unblock-lan-zones: yes\n    insecure-lan-zones: yes\n");
        put_special_names(out, zones, count);
    }
    put_zones_as_server_options(out, options, zones, count);
    int r = put_validation(out, options, closed, out_error);
    if (r < 0)
        return r;
    if (outside)
        buf_put_z(out, "forward-zone:\n    name: \".\"\n");
    if (forwarders)
        r = put_forwarders(out, options->forwarders, out_error);
    else if (outside)
        put_resolv_conf(out, options->resolv_conf);
    put_zones(out, zones, count);
    return r;
}

bool dns_is_closed(const struct dns_options *options)
{
    bool zones = options->zone_files != NULL && options->zone_files[0] != NULL;
    bool forwarders = options->forwarders != NULL && options->forwarders[0] != NULL;

    return zones && !forwarders && options->resolv_conf == NULL;
}

int dns_zone_config(const struct dns_options *options, struct buf *out, char out_error[256])
{
    CLEANUP_FREE struct zone *zones = NULL;
    size_t count = 0;

    int r = read_zones(options->zone_files, &zones, &count, out_error);
    if (r < 0)
        return r;
    r = put_config(options, zones, count, out, out_error);
    if (r < 0)
        return r;
    return buf_ok(out) ? 0 : fail(out_error, -ENOMEM, "no memory for the configuration of the resolver");
}
