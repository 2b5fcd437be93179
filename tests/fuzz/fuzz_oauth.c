/*
 * Fuzzes lookup/oauth_answer: the first octet chooses the endpoint and what is asked for, the rest is its answer. Whatever comes, a good
 * verdict has a login that could be one and an end that has not come, outputs are written then only, and tokens can be said.
 */
#include "lookup/oauth_answer.h"
#include "base/utf8.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define NOW INT64_C(1000000)

static void introspect(struct str json, uint8_t how)
{
    struct oauth_wanted wanted = { .login_claim = how & 2 ? "email" : "username", .scope = how & 4 ? "mail send" : "", .audience = how & 8 ? "us" : "" };
    struct oauth_claims claims = { .login = "untouched" };
    const char *why = NULL;

    enum oauth_verdict v = oauth_read_introspection(json, &wanted, NOW, &claims, &why);
    if (v != OAUTH_GOOD) {
        assert(strcmp(claims.login, "untouched") == 0 && why != NULL);
        return;
    }
    struct str login = str_of(claims.login);
    assert(login.n > 0 && login.n <= KEEPER_LOGIN_MAX && utf8_valid(login) && str_find(login, ' ') < 0 && str_find(login, ':') < 0);
    assert(claims.expires_s > NOW);
    assert(memmem(json.p, json.n, "true", 4) != NULL);
    assert(!(how & 8) || memmem(json.p, json.n, "us", 2) != NULL || memmem(json.p, json.n, "\\u00", 4) != NULL);
    assert(!(how & 4) || memmem(json.p, json.n, "mail", 4) != NULL || memmem(json.p, json.n, "\\u00", 4) != NULL);
}

static void grant(struct str json, unsigned status)
{
    struct oauth_grant *g = calloc(1, sizeof *g);
    char error[256] = "";

    assert(g != NULL);
    enum oauth_granted granted = oauth_read_grant(status, json, g, error);
    if (granted == OAUTH_GRANTED) {
        assert(status == 200 && oauth_is_token(str_of(g->access)) && g->lifetime_s >= 0 && g->lifetime_s <= INT32_MAX);
        assert(g->refresh[0] == '\0' || oauth_is_token(str_of(g->refresh)));
    } else {
        assert(error[0] != '\0');
        for (const char *p = error; *p != '\0'; p++)
            assert(*p >= ' ' && *p <= '~');
    }
    free(g);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    struct str json = { (const char *)data + 1, size - 1 };
    if (data[0] & 1)
        grant(json, data[0] & 2 ? 400 : 200);
    else
        introspect(json, data[0]);
    return 0;
}
