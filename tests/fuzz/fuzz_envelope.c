/*
 * Fuzzes mail/envelope: bytes that are an envelope are written again and read again: the same envelope, and the same bytes from
 * then on. Entries nobody knows survive.
 */
#include "base/cleanup.h"
#include "mail/envelope.h"

#include <assert.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_same(const struct envelope *a, const struct envelope *b)
{
    assert(a->id == b->id && a->arrived_ns == b->arrived_ns && a->null_sender == b->null_sender && address_eq(&a->sender, &b->sender));
    assert(a->rcpt_count == b->rcpt_count && str_eq(a->client_ip, b->client_ip) && str_eq(a->client_name, b->client_name));
    assert(str_eq(a->helo, b->helo) && str_eq(a->login, b->login) && str_eq(a->protocol, b->protocol) && str_eq(a->envid, b->envid));
    assert(a->body_8bit == b->body_8bit && a->body_binary == b->body_binary && a->smtputf8 == b->smtputf8);
    assert(a->requiretls == b->requiretls && a->tls_optional == b->tls_optional && a->ret == b->ret);
    assert(a->size == b->size && a->hold_until_ns == b->hold_until_ns && a->deliver_by_ns == b->deliver_by_ns);
    assert(a->by_mode == b->by_mode && a->priority == b->priority && str_eq(a->source_address, b->source_address));
    assert(str_eq(a->unknown, b->unknown));
    for (size_t i = 0; i < a->rcpt_count; i++) {
        const struct recipient *r = &a->rcpts[i], *s = &b->rcpts[i];
        assert(address_eq(&r->addr, &s->addr) && str_eq(r->original, s->original) && r->notify == s->notify);
        assert(address_eq(&r->rewritten_from, &s->rewritten_from) && r->rrvs_ns == s->rrvs_ns && str_eq(r->unknown, s->unknown) && str_eq(r->next_hop, s->next_hop));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    CLEANUP_BUF struct buf out, again;
    struct arena a;
    struct envelope env, back, copy;

    arena_init(&a, 1 << 24);
    buf_init(&out, 1 << 22);
    buf_init(&again, 1 << 22);
    if (envelope_parse(&a, (struct str){ (const char *)data, size }, &env) == ENVELOPE_OK) {
        envelope_put(&out, &env);
        assert(buf_ok(&out) && envelope_parse(&a, buf_str(&out), &back) == ENVELOPE_OK);
        check_same(&env, &back);
        envelope_put(&again, &back);
        assert(str_eq(buf_str(&out), buf_str(&again)));
        assert(envelope_copy(&a, &back, &copy));
        check_same(&env, &copy);
    }
    arena_reset(&a);
    return 0;
}
