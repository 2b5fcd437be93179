/*
 * The configuration file and what it names, read into a snapshot: its text and its options here, its blocks in parse_block.c, the lists
 * that it names in parse_list.c, and whether all of it fits together in parse_check.c.
 *
 * The text goes through our own first look (conf/scan.h), then through libconfuse, whose strings go through the table of
 * options; then the user lists are read and the whole is checked. Files are read by stdio here and nowhere else in conf/.
 * Runs in the supervisor (and in `nightmail config`): BLOCKS.
 */
#include "conf/parse_internal.h"

#include "base/cleanup.h"
#include "conf/option.h"
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define INCLUDE_DEPTH_MAX 10
#define BLOCKS_MAX        8                 /* kinds of them */
#define TEXT_MAX          (16u << 20)        /* of one configuration file */
#define ARENA_MAX         (512u << 20)
#define OPTIONS_MAX       192

/* libconfuse's error callback gets no argument of ours. */
static _Thread_local struct loader *reporting;
static _Thread_local const char    *reporting_file;

/* -- text ------------------------------------------------------------------------------------------------------------ */

static int read_stdio(FILE *f, size_t max, struct buf *out)
{
    for (;;) {
        char *room = buf_room(out, 65536);
        if (room == NULL)
            return out->n + 65536 > max ? -EFBIG : -ENOMEM;
        size_t n = fread(room, 1, 65536, f);
        buf_added(out, n);
        if (n == 0)
            return ferror(f) ? -EIO : 0;
    }
}

static int note_file(struct conf *c, const char *path)
{
    struct conf_file *file = arena_alloc(&c->arena, sizeof *file);

    if (file == NULL)
        return -ENOMEM;
    *file = (struct conf_file){ .path = str_z(&c->arena, str_of(path)), .next = c->files };
    c->files = file;
    return file->path == NULL ? -ENOMEM : 0;
}

int parse_read_text(const char *path, size_t max, struct buf *out)
{
    if (note_file(reporting->c, path) < 0)
        return -ENOMEM;
    FILE *f = fopen(path, "re");
    if (f == NULL)
        return -errno;
    buf_init(out, max + 65536);
    errno = 0;
    int r = read_stdio(f, max, out);
    if (r == -EIO && errno != 0)
        r = -errno;      /* EISDIR says more */
    (void)fclose(f);     /* was only read */
    if (r < 0)
        buf_free(out);
    return r;
}

/* -- libconfuse ------------------------------------------------------------------------------------------------------ */

__attribute__((format(printf, 2, 0))) static void on_confuse_error(cfg_t *cfg, const char *format, va_list args)
{
    char text[512];

    vsnprintf(text, sizeof text, format, args);
    scan_error(reporting->error, (struct place){ reporting_file, (unsigned)cfg->line }, "%s", text);
}

/* All our values are strings for libconfuse; the table of options reads them. */
static void build_schema(cfg_opt_t schema[OPTIONS_MAX], cfg_opt_t inside[BLOCKS_MAX][SCAN_BLOCK_OPTIONS_MAX])
{
    size_t n = 0;
    cfg_opt_t end = CFG_END();

    _Static_assert(sizeof(cfg_opt_t) < 1024, "fits the stack");
    for (size_t i = 0; i < option_count; i++) {
        cfg_opt_t one = CFG_STR(options[i].name, NULL, CFGF_NODEFAULT);
        cfg_opt_t many = CFG_STR_LIST(options[i].name, NULL, CFGF_NODEFAULT);
        schema[n++] = option_is_list(&options[i]) ? many : one;
    }
    for (size_t i = 0; i < scan_block_count; i++) {
        size_t m = 0;
        for (; scan_blocks[i].options[m] != NULL; m++) {
            cfg_opt_t one = CFG_STR(scan_blocks[i].options[m], NULL, CFGF_NODEFAULT);
            inside[i][m] = one;
        }
        inside[i][m] = end;
        cfg_opt_t block = CFG_SEC(scan_blocks[i].name, inside[i], CFGF_MULTI | CFGF_TITLE);
        schema[n++] = block;
    }
    schema[n++] = end;
}

static int load_file(struct loader *l, const char *path, unsigned depth, struct place from);

static int load_included(struct loader *l, struct scan_item *first, unsigned depth)
{
    for (struct scan_item *i = first; i != NULL; i = i->next) {
        if (i->type != SCAN_INCLUDE || i->text.n == 0)
            continue;
        const char *path = option_path(l->c, i->text);
        if (path == NULL)
            return -ENOMEM;
        i->text.n = 0;       /* done: the walk of an outer file passes it again */
        int r = load_file(l, path, depth + 1, i->place);
        if (r < 0)
            return r;
    }
    return 0;
}

static int parse_text(struct loader *l, const char *path, struct buf *text, unsigned depth)
{
    struct scan_item **mark = l->scan.end;

    if (!scan_text(&l->scan, path, text->p, text->n))
        return -EINVAL;
    buf_put_char(text, '\n');        /* libconfuse 3.3 misses a comment's end at the end of the file */
    buf_put_char(text, '\0');
    if (!buf_ok(text))
        return -ENOMEM;
    reporting_file = path;
    if (cfg_parse_buf(l->cfg, text->p) != CFG_SUCCESS)
        return -EINVAL;
    return load_included(l, *mark, depth);
}

static int load_file(struct loader *l, const char *path, unsigned depth, struct place from)
{
    CLEANUP_BUF struct buf text = { .p = NULL };

    if (depth > INCLUDE_DEPTH_MAX) {
        scan_error(l->error, from, "includes are more than %d deep: does a file include itself?", INCLUDE_DEPTH_MAX);
        return -EINVAL;
    }
    int r = parse_read_text(path, TEXT_MAX, &text);
    if (r < 0) {
        scan_error(l->error, from, "cannot read %s: %s", path, strerror(-r));
        return r;
    }
    return parse_text(l, path, &text, depth);
}

/* -- values ---------------------------------------------------------------------------------------------------------- */

const struct scan_item *parse_find(const struct loader *l, int type, const char *name, struct str block)
{
    for (const struct scan_item *i = l->scan.first; i != NULL; i = i->next)
        if ((int)i->type == type && str_eq(i->text, str_of(name)) && str_eq(i->block, block))
            return i;
    return NULL;
}

struct place parse_place(const struct loader *l, const char *option)
{
    const struct scan_item *i = parse_find(l, SCAN_OPTION, option, STR(""));
    return i == NULL ? (struct place){ l->c->path, 0 } : i->place;
}

struct place parse_value_place(const struct loader *l, const char *option, size_t index)
{
    const struct scan_item *i = parse_find(l, SCAN_OPTION, option, STR(""));

    for (const struct scan_item *v = i; v != NULL && v->next != NULL && v->next->type == SCAN_VALUE; v = v->next)
        if (index-- == 0)
            return v->next->place;
    return i == NULL ? (struct place){ l->c->path, 0 } : i->place;
}

static size_t count_values(const struct loader *l, const char *option)
{
    const struct scan_item *i = parse_find(l, SCAN_OPTION, option, STR(""));
    size_t count = 0;

    while (i != NULL && i->next != NULL && i->next->type == SCAN_VALUE) {
        i = i->next;
        count++;
    }
    return count;
}

static int set_given(struct loader *l, const struct option *o, cfg_opt_t *opt)
{
    size_t count = cfg_opt_size(opt), bad;
    char why_text[256];
    struct buf why;
    struct str *values = arena_array(&l->c->arena, count + 1, sizeof *values);

    if (values == NULL)
        return -ENOMEM;
    if (count != count_values(l, o->name)) {     /* our first look and libconfuse do not agree: neither is believed */
        scan_error(l->error, parse_place(l, o->name), "%s can be read in two ways: put its values in quotes", o->name);
        return -EINVAL;
    }
    for (size_t i = 0; i < count; i++)
        values[i] = str_of(cfg_opt_getnstr(opt, (unsigned)i));
    buf_init_fixed(&why, why_text, sizeof why_text);
    if (option_set(l->c, o, values, count, &why, &bad))
        return 0;
    if (count == 0)
        scan_error(l->error, parse_place(l, o->name), "%s %" STR_FMT, o->name, STR_ARG(buf_str(&why)));
    else
        scan_error(l->error, parse_value_place(l, o->name, bad), "%s: \"%" STR_FMT "\" %" STR_FMT, o->name, STR_ARG(values[bad]),
                   STR_ARG(buf_str(&why)));
    return -EINVAL;
}

/* All of them, so that one look shows all that is wrong. */
static int set_options(struct loader *l)
{
    char why_text[256];
    struct buf why;
    int result = 0;

    for (size_t i = 0; i < option_count; i++) {
        const struct option *o = &options[i];
        l->c->given[i] = parse_find(l, SCAN_OPTION, o->name, STR("")) != NULL;
        if (l->c->given[i]) {
            int r = set_given(l, o, cfg_getopt(l->cfg, o->name));
            result = r < 0 ? r : result;
            continue;
        }
        buf_init_fixed(&why, why_text, sizeof why_text);
        if (o->fallback != NULL && !option_set_fallback(l->c, o, &why))
            return -ENOMEM;      /* our own defaults are right */
    }
    return result;
}

static bool was_given(const struct conf *c, const char *option)
{
    return c->given[option_find(str_of(option)) - options];
}

/* 0: none is said. */
static uint64_t relay_host_port(const struct conf *c)
{
    struct str whole = str_of(c->relay_host);
    ssize_t colon = str_find_last(whole, ':');
    uint64_t port = 0;

    return colon >= 0 && str_to_u64(str_from(whole, (size_t)colon + 1), 65535, &port) ? port : 0;
}

/* Defaults that hang on other values. */
static int set_derived(struct loader *l)
{
    struct conf *c = l->c;
    struct arena *a = &c->arena;

    if (c->control_socket == NULL)
        c->control_socket = str_printf(a, "%s/control", c->data_dir).p;
    if (c->submit_socket == NULL)
        c->submit_socket = str_printf(a, "%s/submit", c->data_dir).p;
    if (c->mailbox == NULL)
        c->mailbox = str_printf(a, "%s/mail/{domain}/{user}", c->data_dir).p;
    /* A password is for the relay host and for nobody who says that he is it. */
    bool secret = c->relay_host_user[0] != '\0' && !c->relay_host_auth_allow_cleartext;
    if (!was_given(c, "relay_host_tls"))
        c->relay_host_tls = secret ? CONF_CLIENT_TLS_VERIFY : c->outbound_tls;
    if (!was_given(c, "relay_host_tls_implicit"))
        c->relay_host_tls_implicit = relay_host_port(c) == 465;   /* RFC 8314, 3.3: submissions */
    if (c->resolv_conf == NULL)
        c->resolv_conf = c->dns_forwarders[0] == NULL && c->dns_zone_files[0] == NULL ? "/etc/resolv.conf" : "";
    return arena_failed(a) ? -ENOMEM : 0;
}

/* -- the whole ------------------------------------------------------------------------------------------------------- */

static int load_snapshot(struct loader *l)
{
    int r = load_file(l, l->c->path, 0, (struct place){ NULL, 0 });
    if (r == 0)
        r = set_options(l);
    if (r == 0 && (!parse_accounts(l) || !parse_oauth(l)))
        r = -EINVAL;
    if (r == 0)
        r = parse_certificates(l);
    if (r == 0)
        r = parse_listeners(l);
    if (r == 0)
        r = parse_client_networks(l);
    if (r == 0)
        r = set_derived(l);
    if (r == 0)
        r = parse_lists(l);
    if (r == 0 && !parse_check(l))
        r = -EINVAL;
    return r;
}

static struct conf *new_snapshot(const char *path)
{
    struct conf *c = calloc(1, sizeof *c);

    if (c == NULL)
        return NULL;
    c->refs = 1;
    arena_init(&c->arena, ARENA_MAX);
    map_str_init(&c->local_domains);
    map_str_init(&c->virtual_domains);
    map_str_init(&c->relay_domains);
    map_str_init(&c->local_delivery_by_domain);
    map_str_init(&c->outbound_tls_by_domain);
    map_str_init(&c->retry_by_domain);
    map_str_init(&c->users);
    map_str_init(&c->relay_recipients);
    map_str_init(&c->sender_logins);
    map_str_init(&c->aliases);
    map_str_init(&c->recipient_rewrites);
    map_str_init(&c->sender_rewrites);
    c->path = str_z(&c->arena, str_of(path));
    c->given = arena_array(&c->arena, option_count, sizeof *c->given);
    if (!arena_failed(&c->arena))
        return c;
    conf_unref(c);
    return NULL;
}

int conf_load(const char *path, struct conf **out, struct buf *error)
{
    cfg_opt_t inside[BLOCKS_MAX][SCAN_BLOCK_OPTIONS_MAX];
    cfg_opt_t schema[OPTIONS_MAX];
    struct loader l = { .c = new_snapshot(path), .error = error };

    if (l.c == NULL)
        return -ENOMEM;
    assert(option_count + scan_block_count + 1 <= OPTIONS_MAX && scan_block_count <= BLOCKS_MAX);
    build_schema(schema, inside);
    l.cfg = cfg_init(schema, CFGF_NONE);
    if (l.cfg == NULL) {
        conf_unref(l.c);
        return -ENOMEM;
    }
    cfg_set_error_function(l.cfg, on_confuse_error);
    scan_init(&l.scan, &l.c->arena, error);
    reporting = &l;
    int r = load_snapshot(&l);
    cfg_free(l.cfg);
    if (r < 0) {
        if (r == -ENOMEM)
            scan_error(error, (struct place){ path, 0 }, "no memory");
        conf_unref(l.c);
        return r;
    }
    *out = l.c;
    return 0;
}
