/*
 * The password file as text; the format stands in keeper_accounts.h. A file with a line that cannot be read is refused whole: the
 * rest of a file cut short must not pass for all of it.
 */
#include "run/keeper_internal.h"
#include "base/codec.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ARENA_FACTOR 8                   /* of the file's size: an account is much larger than its line */
#define ARENA_BASE   65536
#define SALT_KEY_LEN 24                  /* bytes of a new one */

static const char scram_prefix[] = "SCRAM-SHA-256$";

bool accounts_login_valid(struct str login)
{
    if (login.n == 0 || login.n > KEEPER_LOGIN_MAX || login.p[0] == '#' || login.p[0] == '!')
        return false;
    for (size_t i = 0; i < login.n; i++)
        if ((unsigned char)login.p[i] <= ' ' || login.p[i] == ':' || login.p[i] == 0x7f)
            return false;
    return true;
}

/* -- a verifier: iterations ":" salt "$" StoredKey ":" ServerKey (RFC 5803, 3) ------------------------------------------ */

static bool decode(struct str base64, void *out, size_t size, size_t *out_n)
{
    struct buf b;

    buf_init_fixed(&b, out, size);
    if (!codec_base64(base64, &b))
        return false;
    *out_n = b.n;
    return true;
}

static bool parse_key(struct str base64, uint8_t out[DIGEST_SHA256_LEN])
{
    size_t n;
    return decode(base64, out, DIGEST_SHA256_LEN, &n) && n == DIGEST_SHA256_LEN;
}

bool accounts_parse_verifier(struct str text, struct keeper_scram *out, struct scram_keys *out_keys)
{
    struct str iterations, salt, stored, server;
    uint64_t n;

    if (!str_starts(text, str_of(scram_prefix)) || !str_cut(str_from(text, sizeof scram_prefix - 1), ':', &iterations, &salt) ||
        !str_cut(salt, '$', &salt, &stored) || !str_cut(stored, ':', &stored, &server))
        return false;
    if (!str_to_u64(iterations, ACCOUNTS_ITERATIONS_MAX, &n) || n == 0 || !decode(salt, out->salt, sizeof out->salt, &out->salt_n))
        return false;
    out->iterations = (uint32_t)n;
    return out->salt_n > 0 && parse_key(stored, out_keys->stored) && parse_key(server, out_keys->server);
}

static void put_verifier(struct buf *out, struct str password)
{
    uint8_t salt[16];
    struct scram_keys keys;

    clock_random(salt, sizeof salt);
    scram_derive(password, (struct str){ (const char *)salt, sizeof salt }, ACCOUNTS_ITERATIONS, &keys);
    buf_printf(out, ":%s%d:", scram_prefix, ACCOUNTS_ITERATIONS);
    codec_put_base64(out, (struct str){ (const char *)salt, sizeof salt });
    buf_put_char(out, '$');
    codec_put_base64(out, (struct str){ (const char *)keys.stored, sizeof keys.stored });
    buf_put_char(out, ':');
    codec_put_base64(out, (struct str){ (const char *)keys.server, sizeof keys.server });
    explicit_bzero(&keys, sizeof keys);
}

/* -- reading ------------------------------------------------------------------------------------------------------------ */

static const char *add(struct accounts *all, struct str login, struct str hash, struct str verifier, bool has_verifier)
{
    struct account *a = arena_alloc(&all->arena, sizeof *a);
    struct str key = str_lower(&all->arena, login);

    if (a == NULL || key.p == NULL)
        return "no memory";
    if (!accounts_login_valid(login))
        return "that is no name of a login";
    if (map_str_get(&all->by_login, key) != NULL)
        return "that login stands here twice";
    if (hash.n == 0 || hash.n > ACCOUNTS_HASH_MAX)
        return "the password's hash is missing, or too long";
    if (has_verifier && !accounts_parse_verifier(verifier, &a->scram, &a->keys))
        return "that is no SCRAM-SHA-256 verifier";
    a->has_scram = has_verifier;
    a->login = str_z(&all->arena, login);
    a->hash = str_z(&all->arena, hash);
    if (arena_failed(&all->arena) || map_str_put(&all->by_login, key, a) < 0)
        return "no memory";
    all->list[all->count++] = a;
    all->scram_count += a->has_scram;
    return NULL;
}

/* NULL, or what is wrong with it. */
static const char *read_line(struct accounts *all, struct str line)
{
    struct str login, hash, verifier;

    if (line.n == 0 || line.p[0] == '#')
        return NULL;
    for (size_t i = 0; i < line.n; i++)
        if ((unsigned char)line.p[i] < ' ' || line.p[i] == 0x7f)
            return "a control character in a line";
    if (!str_cut(line, ':', &login, &hash))
        return "a line is login:hash, or login:hash:verifier";
    if (str_eq(login, STR("!salt"))) {
        all->salt_key = str_copy(&all->arena, str_head(hash, ACCOUNTS_SALT_KEY_MAX));
        return NULL;
    }
    bool has_verifier = str_cut(hash, ':', &hash, &verifier);
    return add(all, login, hash, verifier, has_verifier);
}

/* Without its line end; a CR before the LF is of the line end. */
static struct str take_line(struct str *rest)
{
    struct str line;

    str_cut(*rest, '\n', &line, rest);
    if (line.n > 0 && line.p[line.n - 1] == '\r')
        line.n--;
    return line;
}

static struct accounts *accounts_new(struct str text)
{
    struct accounts *a = calloc(1, sizeof *a);
    size_t lines = 1;

    if (a == NULL)
        return NULL;
    for (size_t i = 0; i < text.n; i++)
        lines += text.p[i] == '\n';
    arena_init(&a->arena, ARENA_BASE + text.n * ARENA_FACTOR + lines * (sizeof(struct account) + 256));
    map_str_init(&a->by_login);
    a->list = arena_array(&a->arena, lines, sizeof(struct account *));
    if (a->list != NULL)
        return a;
    accounts_free(a);
    return NULL;
}

int accounts_parse(struct str text, const char *path, struct accounts **out, char error[256])
{
    struct accounts *all = accounts_new(text);
    const char *why = all == NULL ? "no memory" : NULL;
    unsigned number = 0;

    while (why == NULL && text.n > 0) {
        number++;
        why = read_line(all, take_line(&text));
    }
    if (why == NULL) {
        *out = all;
        return 0;
    }
    snprintf(error, 256, "%s:%u: %s", path, number, why);
    bool no_memory = all == NULL || arena_failed(&all->arena);
    accounts_free(all);
    return no_memory ? -ENOMEM : -EINVAL;
}

void accounts_free(struct accounts *a)
{
    if (a == NULL)
        return;
    map_str_free(&a->by_login);
    arena_wipe(&a->arena);               /* hashes and keys */
    free(a);
}

static struct str lower(struct str login, char bytes[KEEPER_LOGIN_MAX])
{
    for (size_t i = 0; i < login.n; i++)
        bytes[i] = char_lower(login.p[i]);
    return (struct str){ bytes, login.n };
}

const struct account *accounts_find(const struct accounts *a, struct str login)
{
    char bytes[KEEPER_LOGIN_MAX];
    return login.n > sizeof bytes ? NULL : map_str_get(&a->by_login, lower(login, bytes));
}

/* -- writing ------------------------------------------------------------------------------------------------------------ */

bool accounts_change(struct buf *out, struct str text, struct str login, struct str line)
{
    bool found = false;

    while (text.n > 0) {
        struct str here = take_line(&text), name, rest;
        bool is_it = str_cut(here, ':', &name, &rest) && str_eq_nocase(name, login);
        if (is_it && (line.n == 0 || found))
            found = true;
        else {
            buf_put_str(out, is_it ? line : here);
            buf_put_char(out, '\n');
            found = found || is_it;
        }
    }
    if (!found && line.n > 0) {
        buf_put_str(out, line);
        buf_put_char(out, '\n');
    }
    return found;
}

int accounts_put_login(struct buf *out, struct str login, struct str password, bool scram)
{
    char hash[ACCOUNTS_HASH_MAX + 1];

    int r = keeper_crypt_new(password, hash);
    if (r < 0)
        return r;
    buf_put_str(out, login);
    buf_put_char(out, ':');
    buf_put_z(out, hash);
    explicit_bzero(hash, sizeof hash);
    if (scram)
        put_verifier(out, password);
    return buf_ok(out) ? 0 : -ENOMEM;
}

void accounts_put_salt_key(struct buf *out)
{
    uint8_t key[SALT_KEY_LEN];

    clock_random(key, sizeof key);
    buf_put_z(out, "!salt:");
    codec_put_base64(out, (struct str){ (const char *)key, sizeof key });
}
