/*
 * An account on the way from lookup to the keeper; see wire.h. Pure.
 */
#include "lookup/wire.h"
#include <string.h>

static struct str z_part(const char *z) { return (struct str){ z, strlen(z) }; }

void lookup_put_record(const struct keeper_record *a, char verifier[LOOKUP_VERIFIER_MAX], struct wire_message *out)
{
    size_t n = a->has_scram ? a->scram.salt_n : 0;

    memcpy(verifier, a->scram.salt, n);
    memcpy(verifier + n, &a->keys, sizeof a->keys);
    out->number = a->has_scram ? a->scram.iterations : 0;
    out->parts[0] = z_part(a->login);
    out->parts[1] = z_part(a->hash);
    out->parts[2] = (struct str){ verifier, a->has_scram ? n + sizeof a->keys : 0 };
}

static bool take_text(struct str text, char *out, size_t max)
{
    if (text.n > max || memchr(text.p, '\0', text.n) != NULL)
        return false;
    memcpy(out, text.p, text.n);
    out[text.n] = '\0';
    return true;
}

bool lookup_take_record(const struct wire_message *m, struct keeper_record *out)
{
    struct str verifier = m->parts[2];

    memset(out, 0, sizeof *out);
    if (!take_text(m->parts[0], out->login, KEEPER_LOGIN_MAX) || !take_text(m->parts[1], out->hash, ACCOUNTS_HASH_MAX))
        return false;
    if (m->number == 0)
        return verifier.n == 0;
    if (m->number > UINT32_MAX || verifier.n < sizeof out->keys || verifier.n > LOOKUP_VERIFIER_MAX)
        return false;
    out->has_scram = true;
    out->scram.iterations = (uint32_t)m->number;
    out->scram.salt_n = verifier.n - sizeof out->keys;
    memcpy(out->scram.salt, verifier.p, out->scram.salt_n);
    memcpy(&out->keys, verifier.p + out->scram.salt_n, sizeof out->keys);
    return true;
}
