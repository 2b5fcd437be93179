/*
 * Fuzzes run/keeper_accounts: what reads is found again under its own name, and survives a change of another login's line.
 */
#include "base/cleanup.h"
#include "run/keeper_accounts.h"

#include <assert.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    CLEANUP_BUF struct buf out;
    struct str text = { (const char *)data, size };
    struct accounts *a, *b;
    char error[256];

    buf_init(&out, size + 1024);
    bool found = accounts_change(&out, text, STR("somebody@else.example"), STR("somebody@else.example:!"));
    assert(buf_ok(&out));
    if (accounts_parse(text, "f", &a, error) < 0) {
        assert(strlen(error) > 0 && strlen(error) < sizeof error);
        return 0;
    }
    assert(found == (accounts_find(a, STR("somebody@else.example")) != NULL));
    assert(accounts_parse(buf_str(&out), "f", &b, error) == 0 && b->count == a->count + !found);
    for (size_t i = 0; i < a->count; i++) {
        struct str login = str_of(a->list[i]->login);
        assert(accounts_login_valid(login) && accounts_find(a, login) == a->list[i] && accounts_find(b, login) != NULL);
        assert(!a->list[i]->has_scram || (a->list[i]->scram.salt_n > 0 && a->list[i]->scram.iterations > 0));
    }
    accounts_free(a);
    accounts_free(b);
    return 0;
}
