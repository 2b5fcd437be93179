/*
 * Fuzzes smtp/sasl: the first octet chooses the mechanism, the end and the answers; the rest is a conversation, one message a line. Whatever
 * comes, what is asked is within its limits, and nobody is let in whom the driver did not find right.
 */
#include "smtp/sasl.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct sasl_binding bindings[] = { { "tls-exporter", { "bound", 5 } }, { .type = NULL } };

static void check_question(const struct sasl_server *s, enum sasl_step step)
{
    if (step == SASL_ASK_PASSWORD || step == SASL_ASK_SALT)
        assert(sasl_text_valid(s->login, SASL_LOGIN_MAX));
    if (step == SASL_ASK_PASSWORD)
        assert(sasl_text_valid(s->password, SASL_PASSWORD_MAX));
    if (step == SASL_ASK_TOKEN)
        assert(s->token.n > 0 && s->token.n <= SASL_TOKEN_MAX && s->login.n <= SASL_LOGIN_MAX);
    if (step == SASL_ASK_PROOF)
        assert(s->message.n > 0 && s->message.n <= 2 * SASL_RESPONSE_MAX + 1024);
    assert(step != SASL_CHALLENGE || s->out.n <= SASL_RESPONSE_MAX);
    assert((step != SASL_REFUSED && step != SASL_MALFORMED) || s->why != NULL);
}

/* Answers questions until the machine wants the client again, or ends. */
static enum sasl_step answer(struct sasl_server *s, enum sasl_step step, bool right, bool *let_in)
{
    static const uint8_t signature[DIGEST_SHA256_LEN];

    for (;;) {
        check_question(s, step);
        switch (step) {
        case SASL_ASK_SALT: step = sasl_server_salt(s, STR("salt"), 4096); continue;
        case SASL_ASK_PASSWORD:
        case SASL_ASK_PROOF:
        case SASL_ASK_TOKEN:
            *let_in = right;
            step = sasl_server_answer(s, right, right ? signature : NULL);
            continue;
        case SASL_CHALLENGE:
        case SASL_DONE:
        case SASL_REFUSED:
        case SASL_MALFORMED:
        case SASL_NO_MEMORY: return step;
        }
    }
}

static void serve(struct arena *a, enum sasl_mechanism m, bool bound, bool right, struct str talk)
{
    struct sasl_server s;
    struct str message;
    bool let_in = false;

    sasl_server_init(&s, a, m, bound || m == SASL_SCRAM_SHA_256_PLUS ? bindings : NULL, STR("0123456789abcdefgh"));
    enum sasl_step step = sasl_server_start(&s);
    while (step == SASL_CHALLENGE && talk.n > 0) {
        str_cut(talk, '\n', &message, &talk);
        step = answer(&s, sasl_server_take(&s, message), right, &let_in);
    }
    assert(step != SASL_DONE || let_in);
}

static void ask(struct arena *a, enum sasl_mechanism m, bool bound, struct str talk)
{
    struct sasl_client c;
    struct str message;

    sasl_client_init(&c, a, m, STR("user"), STR("pencil"), bound || m == SASL_SCRAM_SHA_256_PLUS ? bindings : NULL, STR("rOprNGfwEbeRWgbNEkqO"));
    enum sasl_reaction r = sasl_client_start(&c);
    while (r == SASL_SEND && talk.n > 0) {
        str_cut(talk, '\n', &message, &talk);
        r = sasl_client_take(&c, message);
        assert(r == SASL_GIVE_UP || c.out.n <= SASL_RESPONSE_MAX);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena a;

    if (size == 0)
        return 0;
    arena_init(&a, SASL_ARENA_MAX);
    enum sasl_mechanism m = data[0] % 8 % SASL_MECHANISMS;
    struct str talk = { (const char *)data + 1, size - 1 };
    if (data[0] & 0x08)
        serve(&a, m, data[0] & 0x10, data[0] & 0x20, talk);
    else
        ask(&a, m, data[0] & 0x10, talk);
    arena_reset(&a);
    return 0;
}
