/*
 * Outcomes: see outcome.h. Pure but for the arena.
 */
#include "outbound/outcome.h"

static enum rcpt_state state_of_code(int code)
{
    switch (code / 100) {
    case 2: return RCPT_DELIVERED;
    case 5: return RCPT_BOUNCED;
    }
    return RCPT_PENDING;
}

/* RFC 3463: class, then "other or undefined" where the server gave no code of its own. */
static struct str status_of(struct arena *a, const struct smtp_reply *reply, enum rcpt_state state)
{
    if (reply->enhanced[0] != '\0')
        return str_copy(a, str_of(reply->enhanced));
    switch (state) {
    case RCPT_DELIVERED: return STR("2.0.0");
    case RCPT_BOUNCED:   return STR("5.0.0");
    case RCPT_PENDING: case RCPT_FAILED: case RCPT_DISCARDED: break;
    }
    return STR("4.0.0");
}

struct outcome outcome_of_reply(struct arena *a, struct smtp_reply *reply, struct str remote)
{
    struct outcome o = { .state = state_of_code(reply->code), .remote = remote, .code = (unsigned)reply->code };
    o.status = status_of(a, reply, o.state);
    struct str words = str_head(smtp_reply_line(reply), QUEUE_OUTCOME_TEXT_MAX);
    const char *space = reply->enhanced[0] != '\0' ? " " : "";
    o.text = str_printf(a, "%d%s%s %" STR_FMT, reply->code, space, reply->enhanced, STR_ARG(words));
    if (o.text.p == NULL)
        o.text = STR("(no memory for the server's words)");
    return o;
}

struct outcome outcome_of_ours(enum rcpt_state state, const char *status, const char *text)
{
    return (struct outcome){ .state = state, .status = str_of(status), .text = str_of(text) };
}

struct outcome outcome_with_detail(struct arena *a, enum rcpt_state state, const char *status, struct str remote, const char *text,
                                   const char *detail)
{
    struct outcome o = { .state = state, .status = str_of(status), .remote = remote };
    o.text = str_printf(a, "%s: %s", text, detail);
    if (o.text.p == NULL)
        o.text = str_of(text);
    return o;
}

void outcome_assign(struct outcome *to, const struct outcome *from)
{
    uint32_t rcpt = to->rcpt;
    *to = *from;
    to->rcpt = rcpt;
}

bool outcome_is_set(const struct outcome *o)
{
    return o->text.n > 0;
}
