/*
 * Fuzzes tables of refusals and the replies they are compared with: up to the first NUL it is a table, behind it a reply. What was read is
 * within its limits, faults are told of, and a verdict asks for no longer a wait than we give.
 */
#include "base/cleanup.h"
#include "outbound/refusal.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_providers(const struct refusals *table, struct str host)
{
    size_t count = 0;

    for (const struct refusal_provider *p = table->provider_first; p != NULL; p = p->next, count++)
        assert(p->host_count > 0 && p->host_count <= REFUSAL_HOSTS_MAX && p->name.n > 0);
    assert(count == table->provider_count && count <= REFUSAL_PROVIDERS_MAX);
    (void)refusal_provider_of(table, &host, 1);
}

static void check_verdicts(const struct refusals *table, struct str text)
{
    struct str status, rest;

    (void)str_cut(text, ' ', &status, &rest);
    for (unsigned code = 400; code < 600; code += 21) {
        struct refusal_reply reply = { code, status, rest, table->provider_first };
        struct refusal_verdict v = refusal_judge(table, &reply);
        assert(v.wait_ns >= 0 && v.wait_ns <= REFUSAL_WAIT_MAX_NS && refusal_name(v.kind)[0] != '\0');
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str text, reply, input = { (const char *)data, size };
    CLEANUP_BUF struct buf error;
    struct refusals table;
    struct arena arena;

    if (size > 4096)
        return 0;
    (void)str_cut(input, '\0', &text, &reply);
    arena_init(&arena, 1 << 20);
    buf_init(&error, 1 << 20);
    refusals_init(&table, &arena);
    int r = refusals_load(&table, "t", text, &error);
    assert((r < 0) == (error.n > 0) && table.rule_count <= REFUSAL_RULES_MAX);
    check_providers(&table, str_head(reply, 255));
    check_verdicts(&table, reply);
    arena_reset(&arena);
    return 0;
}
