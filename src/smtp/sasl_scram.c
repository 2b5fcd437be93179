/*
 * SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 5802, RFC 7677): the messages. The arithmetic is base/scram.c's.
 *
 *     client  n,,n=user,r=NONCE                        gs2 header, then what is signed: first_bare
 *     server  r=NONCEMORE,s=SALT,i=4096                server_first
 *     client  c=biws,r=NONCEMORE,p=PROOF               c: the gs2 header and the channel binding
 *     server  v=SIGNATURE
 *
 * An attribute that we do not know is passed over where RFC 5802, 7 allows one; "m=" means "you must know me", and is refused.
 */
#include "base/codec.h"
#include "base/scram.h"
#include "smtp/sasl_internal.h"
#include <assert.h>
#include <string.h>

enum stage { STAGE_FIRST, STAGE_FINAL, STAGE_PROVEN };

/* The value of the attribute at the beginning of text, and what follows its comma. */
static bool take_attribute(struct str text, char name, struct str *value, struct str *rest)
{
    struct str whole;

    str_cut(text, ',', &whole, rest);
    if (whole.n < 2 || whole.p[0] != name || whole.p[1] != '=')
        return false;
    *value = str_from(whole, 2);
    return true;
}

/* printable, without comma (RFC 5802, 7) */
static bool is_nonce(struct str nonce, size_t max)
{
    for (size_t i = 0; i < nonce.n; i++)
        if (nonce.p[i] <= ' ' || nonce.p[i] >= 0x7f || nonce.p[i] == ',')
            return false;
    return nonce.n > 0 && nonce.n <= max;
}

static bool decode(struct arena *a, struct str base64, struct str *out)
{
    char *room = arena_alloc(a, base64.n + 1);
    struct buf b;

    if (room == NULL)
        return false;
    buf_init_fixed(&b, room, base64.n + 1);
    if (!codec_base64(base64, &b))
        return false;
    *out = buf_str(&b);
    return true;
}

static struct str encode(struct arena *a, const void *bytes, size_t n)
{
    size_t size = n / 3 * 4 + 8;
    char *room = arena_alloc(a, size);
    struct buf b;

    if (room == NULL)
        return (struct str){ NULL, 0 };
    buf_init_fixed(&b, room, size);
    codec_put_base64(&b, (struct str){ bytes, n });
    return buf_str(&b);
}

static bool decode_sum(struct arena *a, struct str base64, uint8_t out[DIGEST_SHA256_LEN])
{
    struct str sum;

    if (!decode(a, base64, &sum) || sum.n != DIGEST_SHA256_LEN)
        return false;
    memcpy(out, sum.p, sum.n);
    return true;
}

static const struct sasl_binding *find_binding(const struct sasl_binding *list, struct str type)
{
    for (; list != NULL && list->type != NULL; list++)
        if (str_eq(type, str_of(list->type)))
            return list;
    return NULL;
}

/* Whatever bytes they are: printf would end at a NUL. */
static struct str join(struct arena *a, struct str first, struct str second)
{
    char *p = arena_alloc(a, first.n + second.n + 1);

    if (p == NULL)
        return (struct str){ NULL, 0 };
    if (first.n > 0)
        memcpy(p, first.p, first.n);
    if (second.n > 0)
        memcpy(p + first.n, second.p, second.n);
    return (struct str){ p, first.n + second.n };
}

/* What both ends sign: the messages so far, without the proof (RFC 5802, 3). */
static struct str auth_message(struct arena *a, struct str first_bare, struct str server_first, struct str without_proof)
{
    struct str both = join(a, join(a, first_bare, STR(",")), server_first);
    return join(a, join(a, both, STR(",")), without_proof);
}

/* -- the server --------------------------------------------------------------------------------------------------------------- */

/* What the client's final message must have in c=, into s->bound; or why not, in s->why. */
static enum sasl_step check_binding(struct sasl_server *s, const struct gs2 *gs2)
{
    bool plus = s->mechanism == SASL_SCRAM_SHA_256_PLUS;
    const struct sasl_binding *binding = NULL;

    if (plus != (gs2->flag == 'p'))
        return sasl_malformed(s, "SCRAM-SHA-256-PLUS, and nothing else, binds to the channel");
    /* It could bind and thinks that we could not, but we had offered it: somebody in the middle took that away (RFC 5802, 6). */
    if (gs2->flag == 'y' && s->bindings != NULL)
        return sasl_refused(s, "somebody hid from the client that it could bind to the channel");
    if (plus) {
        binding = find_binding(s->bindings, gs2->binding);
        if (binding == NULL)
            return sasl_refused(s, "a channel binding that this connection has not");
    }
    s->bound = join(s->arena, gs2->raw, binding != NULL ? binding->data : STR(""));
    return s->bound.p == NULL ? SASL_NO_MEMORY : SASL_ASK_SALT;
}

static enum sasl_step take_first(struct sasl_server *s, struct str message)
{
    struct str name, authzid = STR(""), nonce, rest;
    struct gs2 gs2;

    if (!sasl_parse_gs2(message, &gs2) || !take_attribute(gs2.rest, 'n', &name, &rest) || !take_attribute(rest, 'r', &nonce, &rest) ||
        !is_nonce(nonce, SASL_NONCE_MAX))
        return sasl_malformed(s, "a first message of SCRAM is n,,n=login,r=nonce");
    if (!sasl_decode_name(s->arena, name, &s->login) || (gs2.authzid.n > 0 && !sasl_decode_name(s->arena, gs2.authzid, &authzid)))
        return arena_failed(s->arena) ? SASL_NO_MEMORY : sasl_malformed(s, "a login that is empty, too long, or not text");
    if (authzid.n > 0 && !str_eq_nocase(authzid, s->login))
        return sasl_refused(s, "a login may act for itself only");
    s->first_bare = str_copy(s->arena, gs2.rest);
    s->nonce = join(s->arena, nonce, s->own_nonce);
    s->stage = STAGE_FINAL;
    return arena_failed(s->arena) ? SASL_NO_MEMORY : check_binding(s, &gs2);
}

enum sasl_step sasl_server_salt(struct sasl_server *s, struct str salt, uint32_t iterations)
{
    assert(s->stage == STAGE_FINAL && salt.n <= SASL_SALT_MAX);
    struct str encoded = encode(s->arena, salt.p, salt.n);
    s->server_first = str_printf(s->arena, "r=%" STR_FMT ",s=%" STR_FMT ",i=%u", STR_ARG(s->nonce), STR_ARG(encoded), iterations);
    s->out = s->server_first;
    return arena_failed(s->arena) ? SASL_NO_MEMORY : SASL_CHALLENGE;
}

/* The proof is the last attribute; all before it is signed. */
static bool split_proof(struct str message, struct str *signed_part, struct str *proof)
{
    ssize_t comma = str_find_last(message, ',');

    if (comma < 0 || !str_starts(str_from(message, (size_t)comma), STR(",p=")))
        return false;
    *signed_part = str_head(message, (size_t)comma);
    *proof = str_from(message, (size_t)comma + 3);
    return true;
}

static enum sasl_step take_final(struct sasl_server *s, struct str message)
{
    struct str without_proof, proof, binding, nonce, rest, bound;

    if (!split_proof(message, &without_proof, &proof) || !take_attribute(without_proof, 'c', &binding, &rest) ||
        !take_attribute(rest, 'r', &nonce, &rest) || !decode(s->arena, binding, &bound) ||
        !decode_sum(s->arena, proof, s->proof))
        return arena_failed(s->arena) ? SASL_NO_MEMORY : sasl_malformed(s, "a final message of SCRAM is c=...,r=nonce,p=proof");
    if (!str_eq(nonce, s->nonce))
        return sasl_refused(s, "the nonce is not ours");
    if (!str_eq(bound, s->bound))
        return sasl_refused(s, "the channel binding is not this connection's");
    s->message = auth_message(s->arena, s->first_bare, s->server_first, without_proof);
    return arena_failed(s->arena) ? SASL_NO_MEMORY : SASL_ASK_PROOF;
}

enum sasl_step scram_server_take(struct sasl_server *s, struct str response)
{
    if (response.n > SASL_SCRAM_MAX)
        return sasl_malformed(s, "that is too long");
    switch ((enum stage)s->stage) {
    case STAGE_FIRST: return take_first(s, response);
    case STAGE_FINAL: return take_final(s, response);
    case STAGE_PROVEN: break;
    }
    /* SMTP's success carries no data, so the signature went in a challenge, which the client answers with nothing (RFC 4954, 4). */
    return response.n == 0 ? SASL_DONE : sasl_malformed(s, "to the server's signature nothing is to be said");
}

enum sasl_step scram_server_answer(struct sasl_server *s, bool right, const uint8_t signature[DIGEST_SHA256_LEN])
{
    if (!right)
        return SASL_REFUSED;
    s->stage = STAGE_PROVEN;
    s->out = join(s->arena, STR("v="), encode(s->arena, signature, DIGEST_SHA256_LEN));
    return arena_failed(s->arena) ? SASL_NO_MEMORY : SASL_CHALLENGE;
}

/* -- the client --------------------------------------------------------------------------------------------------------------- */

static enum sasl_reaction give_up(struct sasl_client *c, const char *why)
{
    c->why = arena_failed(c->arena) ? "no memory" : why;
    return SASL_GIVE_UP;
}

enum sasl_reaction scram_client_start(struct sasl_client *c)
{
    char name_bytes[3 * SASL_LOGIN_MAX];
    struct buf name;
    bool plus = c->mechanism == SASL_SCRAM_SHA_256_PLUS;

    assert(!plus || c->bindings != NULL);
    buf_init_fixed(&name, name_bytes, sizeof name_bytes);
    sasl_put_name(&name, c->login);
    c->gs2 = plus ? str_printf(c->arena, "p=%s,,", c->bindings->type) : c->bindings != NULL ? STR("y,,") : STR("n,,");
    c->first_bare = str_printf(c->arena, "n=%" STR_FMT ",r=%" STR_FMT, STR_ARG(buf_str(&name)), STR_ARG(c->own_nonce));
    c->out = join(c->arena, c->gs2, c->first_bare);
    c->has_initial = true;
    return arena_failed(c->arena) ? give_up(c, "") : SASL_SEND;
}

static enum sasl_reaction prove(struct sasl_client *c, struct str server_first, struct str nonce, struct str salt, uint32_t iterations)
{
    bool plus = c->mechanism == SASL_SCRAM_SHA_256_PLUS;
    struct str bound = join(c->arena, c->gs2, plus ? c->bindings->data : STR(""));
    struct str binding = encode(c->arena, bound.p, bound.n);
    struct str without_proof = str_printf(c->arena, "c=%" STR_FMT ",r=%" STR_FMT, STR_ARG(binding), STR_ARG(nonce));
    struct str message = auth_message(c->arena, c->first_bare, server_first, without_proof);
    uint8_t proof[DIGEST_SHA256_LEN];

    if (arena_failed(c->arena))
        return give_up(c, "");
    scram_prove(c->password, salt, iterations, message, proof, c->signature);
    c->out = str_printf(c->arena, "%" STR_FMT ",p=%" STR_FMT, STR_ARG(without_proof), STR_ARG(encode(c->arena, proof, sizeof proof)));
    c->stage = STAGE_FINAL;
    return arena_failed(c->arena) ? give_up(c, "") : SASL_SEND;
}

static enum sasl_reaction answer_first(struct sasl_client *c, struct str server_first)
{
    struct str nonce, salt, iterations, rest;
    uint64_t n;

    if (!take_attribute(server_first, 'r', &nonce, &rest) || !take_attribute(rest, 's', &salt, &rest) || !take_attribute(rest, 'i', &iterations, &rest) ||
        !is_nonce(nonce, 2 * SASL_NONCE_MAX) || salt.n > SASL_SALT_MAX * 4 || !decode(c->arena, salt, &salt) || salt.n == 0 || !str_to_u64(iterations, UINT32_MAX, &n))
        return give_up(c, "the server's first message is not one of SCRAM");
    if (!str_starts(nonce, c->own_nonce) || nonce.n == c->own_nonce.n)
        return give_up(c, "the server's nonce does not go on from ours");
    if (n < SASL_ITERATIONS_MIN || n > SASL_ITERATIONS_MAX)
        return give_up(c, "the server asks for too few or too many iterations");
    return prove(c, server_first, nonce, salt, (uint32_t)n);
}

enum sasl_reaction scram_client_take(struct sasl_client *c, struct str challenge)
{
    uint8_t signature[DIGEST_SHA256_LEN];
    struct str value, rest;

    if (challenge.n > SASL_SCRAM_MAX)
        return give_up(c, "the server says too much");
    if (c->stage == STAGE_FIRST)
        return answer_first(c, challenge);
    if (c->stage == STAGE_PROVEN || !take_attribute(challenge, 'v', &value, &rest) || !decode_sum(c->arena, value, signature))
        return give_up(c, "the server's final message is not one of SCRAM");
    if (!digest_equal(signature, c->signature, sizeof signature))
        return give_up(c, "the server does not know our password: it is not the one it says it is");
    c->stage = STAGE_PROVEN;
    c->satisfied = true;
    c->out = STR("");
    return SASL_SEND;
}
