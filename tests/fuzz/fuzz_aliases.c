/*
 * Fuzzes aliases files: text that stands for aliases, for a list that they include, and for rewritings, all the same. What was read is sound,
 * every address comes to its end in bounded steps, nobody is told twice on one way, and a table that checks has no circle.
 */
#include "base/cleanup.h"
#include "conf/alias.h"
#include "policy/access.h"
#include "policy/alias.h"
#include "policy/alias_check.h"
#include "policy/expand.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct str input;

static int read_input(const char *path, size_t max, struct buf *out)
{
    if (strcmp(path, "/f") != 0 && strcmp(path, "/list") != 0)
        return -ENOENT;
    buf_init(out, max);
    buf_put_str(out, input);
    return 0;
}

static void check_target(const struct conf_target *t)
{
    struct address again;

    assert(address_of_parts(t->addr.local, t->addr.domain, &again) && t->line > 0 && t->file != NULL);
}

static void check_entries(const struct conf *c)
{
    size_t count = 0;

    for (const struct conf_alias *a = c->alias_first; a != NULL; a = a->next, count++) {
        assert(a->target_count > 0 && map_str_get(&c->aliases, a->key) == a && str_find(a->key, '\0') < 0);
        for (size_t i = 0; i < a->target_count; i++)
            check_target(&a->targets[i]);
    }
    assert(count == c->aliases.used);
}

/* odd: who is asked for has no mailbox now and then. */
static void check_way(const struct conf *c, const struct address *rcpt, bool checked, bool odd)
{
    CLEANUP_BUF struct buf way;
    struct expansion x;
    enum expand_result r;
    size_t asked = 0;

    expand_begin(&x, c, false, rcpt);
    while ((r = expand_step(&x)) == EXPAND_LOOK) {
        expand_answer(&x, !odd || expand_asked(&x)->local.n % 2 == 0);
        assert(++asked <= x.count);
    }
    assert(r != EXPAND_NO_MEMORY);
    assert(!(checked && !odd) || r == EXPAND_DONE);
    for (size_t i = 0; i < x.count; i++) {
        const struct expand_node *n = &x.nodes[i];
        assert(n->depth <= EXPAND_DEPTH_MAX && (r != EXPAND_DONE || n->end != EXPAND_OPEN));
        assert(i == 0 || n->parent < i);
        assert(n->end != EXPAND_DENIED || c->alias_first == NULL || i == 0 || n->rewritten);
    }
    buf_init(&way, 65536);
    expand_put_loop(&way, &x);
    assert(buf_ok(&way) && str_find(buf_str(&way), '\n') < 0);
    expand_free(&x);
}

static void check_ways(struct conf *c, bool checked)
{
    static const char *const domains[] = { "h.example", "l.example", "o.example" };

    for (const struct conf_alias *a = c->alias_first; a != NULL; a = a->next) {
        ssize_t at = str_find_last(a->key, '@');
        struct address rcpt = { .local = at > 0 ? str_head(a->key, (size_t)at) : at == 0 ? STR("x") : a->key };
        for (size_t d = 0; d < 3; d++) {
            rcpt.domain = at < 0 ? str_of(domains[d]) : str_from(a->key, (size_t)at + 1);
            check_way(c, &rcpt, checked && c->recipient_rewrites.used == 0, false);
            check_way(c, &rcpt, checked, true);
        }
    }
}

static void put_domain(struct map_str *map, const char *name, struct conf *c)
{
    int r = map_str_put(map, str_of(name), c);
    assert(r == 0);
    (void)r;
}

static void begin(struct conf *c, bool users)
{
    *c = (struct conf){ .hostname = "h.example", .path = "/conf", .recipient_delimiter = "+", .alias_recipients_max = 40, .have_users_file = users };
    arena_init(&c->arena, 64 << 20);
    put_domain(&c->local_domains, "h.example", c);
    put_domain(&c->local_domains, "o.example", c);
    put_domain(&c->virtual_domains, "l.example", c);
    put_domain(&c->users, "b", c);
}

static void end(struct conf *c)
{
    map_str_free(&c->local_domains);
    map_str_free(&c->virtual_domains);
    map_str_free(&c->users);
    map_str_free(&c->aliases);
    map_str_free(&c->recipient_rewrites);
    arena_reset(&c->arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0 || size > 4096)
        return 0;
    input = (struct str){ (const char *)data + 1, size - 1 };
    CLEANUP_BUF struct buf error;
    struct conf c;
    struct alias_loader l = { .c = &c, .error = &error, .read = read_input };

    buf_init(&error, 1 << 20);
    begin(&c, data[0] & 1);
    int r = alias_load_file(&l, "/f", (struct place){ "/conf", 1 });
    assert((r < 0) == (error.n > 0));
    buf_clear(&error);
    if (data[0] & 2)
        (void)alias_load_rewrites(&l, &c.recipient_rewrites, "/f", (struct place){ "/conf", 1 });
    if (r == 0) {
        check_entries(&c);
        buf_clear(&error);
        bool ok = alias_check(&c, &error);
        assert(ok == (error.n == 0));
        check_ways(&c, ok);
    }
    end(&c);
    return 0;
}
