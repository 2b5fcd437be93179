/*
 * Asks a filter about a message: see filter.h. Three answers, so that the index can answer for most messages and the disk is read for
 * the others only.
 */
#include "admin/filter.h"
#include "admin/filter_internal.h"
#include <string.h>

#define ADDRESS_TEXT_MAX 1024                        /* more than any that is accepted, with a backslash before each octet */

struct look {
    const struct filter        *filter;
    const struct queue_item    *item;
    const struct queue_details *details;             /* NULL: they are not known */
    int64_t                     now_wall_ns;
    bool                        is_known[FILTER_NODES_MAX];
    enum filter_answer          known[FILTER_NODES_MAX];   /* of NODE_NOT, which is about all recipients: asked once */
};

const char *filter_state_name(enum message_state state)
{
    switch (state) {
    case MESSAGE_WAITING: return "waiting";
    case MESSAGE_CLAIMED: return "delivering";
    case MESSAGE_HELD:    return "held";
    }
    return "";
}

/* ---- text ---- */

/* One octet's worth of the pattern: how long it is, and whether c fits. */
static bool fits(struct str pattern, size_t at, char c, size_t *out_n)
{
    char wanted = pattern.p[at];

    *out_n = 1;
    if (wanted == '?')
        return true;
    if (wanted == '\\' && at + 1 < pattern.n) {
        *out_n = 2;
        wanted = pattern.p[at + 1];
    }
    return char_lower(wanted) == char_lower(c);
}

/* Only the last star is ever tried again, so the time is at most the product of the lengths. */
bool filter_like(struct str pattern, struct str text)
{
    size_t p = 0, t = 0, star = SIZE_MAX, star_text = 0, n;

    while (t < text.n) {
        if (p < pattern.n && pattern.p[p] == '*') {
            star = p++;
            star_text = t;
        } else if (p < pattern.n && fits(pattern, p, text.p[t], &n)) {
            p += n;
            t++;
        } else if (star != SIZE_MAX) {
            p = star + 1;
            t = ++star_text;
        } else {
            return false;
        }
    }
    while (p < pattern.n && pattern.p[p] == '*')
        p++;
    return p == pattern.n;
}

static bool like_address(struct str pattern, const struct address *addr)
{
    char memory[ADDRESS_TEXT_MAX];
    struct buf text;

    buf_init_fixed(&text, memory, sizeof memory);
    address_put(&text, addr);
    return filter_like(pattern, buf_str(&text));
}

/* ---- terms ---- */

static enum filter_answer answer(bool yes)
{
    return yes ? FILTER_YES : FILTER_NO;
}

static enum filter_answer compare(const struct node *term, __int128 value)
{
    switch (term->op) {
    case OP_EQ: return answer(value == term->number);
    case OP_LT: return answer(value < term->number);
    case OP_LE: return answer(value <= term->number);
    case OP_GT: return answer(value > term->number);
    case OP_GE: return answer(value >= term->number);
    case OP_NE: break;                               /* NODE_NOT of OP_EQ */
    }
    return FILTER_NO;
}

static enum filter_answer ask_item(const struct look *look, const struct node *term)
{
    const struct queue_item *item = look->item;

    switch (term->field) {
    case FIELD_ID:       return compare(term, item->id);
    case FIELD_AGE:      return compare(term, (__int128)look->now_wall_ns - item->arrived_wall_ns);
    case FIELD_DUE:      return compare(term, (__int128)item->due_wall_ns - look->now_wall_ns);
    case FIELD_SIZE:     return compare(term, item->size);
    case FIELD_ATTEMPTS: return compare(term, item->attempts);
    case FIELD_STATE:    return answer(filter_like(term->pattern, str_of(filter_state_name(item->state))));
    case FIELD_CODE:
    case FIELD_TEXT:
    case FIELD_REMOTE:
        /* Before the first attempt nobody has said anything. */
        return item->attempts == 0 ? answer(filter_like(term->pattern, STR(""))) : FILTER_UNSURE;
    case FIELD_TO:
    case FIELD_FROM:
    case FIELD_DOMAIN:
    case FIELD_LOGIN:
    case FIELD_PRIORITY: break;
    }
    return FILTER_UNSURE;
}

static bool is_to(struct str pattern, const struct recipient *rcpt)
{
    const struct address *named = &rcpt->rewritten_from;
    return like_address(pattern, &rcpt->addr) || (!address_is_null(named) && like_address(pattern, named));
}

static enum filter_answer ask(const struct look *look, const struct node *term, size_t rcpt)
{
    const struct queue_details *d = look->details;

    if (d == NULL)
        return ask_item(look, term);
    switch (term->field) {
    case FIELD_TO:       return answer(is_to(term->pattern, &d->env.rcpts[rcpt]));
    case FIELD_DOMAIN:   return answer(filter_like(term->pattern, d->env.rcpts[rcpt].addr.domain));
    case FIELD_CODE:     return answer(filter_like(term->pattern, d->last[rcpt].status));
    case FIELD_TEXT:     return answer(filter_like(term->pattern, d->last[rcpt].text));
    case FIELD_REMOTE:   return answer(filter_like(term->pattern, d->last[rcpt].remote));
    case FIELD_FROM:     return answer(like_address(term->pattern, &d->env.sender));
    case FIELD_LOGIN:    return answer(filter_like(term->pattern, d->env.login));
    case FIELD_PRIORITY: return compare(term, d->env.priority);
    case FIELD_ID:
    case FIELD_AGE:
    case FIELD_DUE:
    case FIELD_SIZE:
    case FIELD_ATTEMPTS:
    case FIELD_STATE:    break;
    }
    return ask_item(look, term);
}

/* ---- the whole ---- */

static enum filter_answer ask_node(struct look *look, uint16_t at, size_t rcpt);

/* Is there a pending recipient with which it is true? Without details: what would be so for each of them. */
static enum filter_answer ask_all(struct look *look, uint16_t at)
{
    const struct queue_details *d = look->details;

    if (d == NULL)
        return ask_node(look, at, 0);
    for (size_t i = 0; i < d->env.rcpt_count; i++)
        if (d->states[i] == RCPT_PENDING && ask_node(look, at, i) == FILTER_YES)
            return FILTER_YES;
    return FILTER_NO;
}

static enum filter_answer ask_not(struct look *look, uint16_t at)
{
    if (!look->is_known[at]) {
        enum filter_answer inner = ask_all(look, look->filter->nodes[at].left);
        look->known[at] = inner == FILTER_UNSURE ? FILTER_UNSURE : answer(inner == FILTER_NO);
        look->is_known[at] = true;
    }
    return look->known[at];
}

/* One that decides it, or else both: as unsure as they are. */
static enum filter_answer ask_both(struct look *look, const struct node *node, enum filter_answer decides, size_t rcpt)
{
    enum filter_answer left = ask_node(look, node->left, rcpt);
    if (left == decides)
        return decides;
    enum filter_answer right = ask_node(look, node->right, rcpt);
    return right == decides || left != FILTER_UNSURE ? right : FILTER_UNSURE;
}

static enum filter_answer ask_node(struct look *look, uint16_t at, size_t rcpt)
{
    const struct node *node = &look->filter->nodes[at];

    switch (node->kind) {
    case NODE_AND:  return ask_both(look, node, FILTER_NO, rcpt);
    case NODE_OR:   return ask_both(look, node, FILTER_YES, rcpt);
    case NODE_NOT:  return ask_not(look, at);
    case NODE_TERM: return ask(look, node, rcpt);
    }
    return FILTER_NO;
}

enum filter_answer filter_match_item(const struct filter *f, const struct queue_item *item, int64_t now_wall_ns)
{
    struct look look = { .filter = f, .item = item, .now_wall_ns = now_wall_ns };
    return ask_all(&look, (uint16_t)(f->count - 1));
}

bool filter_match(const struct filter *f, const struct queue_details *details, int64_t now_wall_ns)
{
    struct look look = { .filter = f, .item = &details->item, .details = details, .now_wall_ns = now_wall_ns };
    return ask_all(&look, (uint16_t)(f->count - 1)) == FILTER_YES;
}

bool filter_match_rcpt(const struct filter *f, const struct queue_details *details, size_t rcpt, int64_t now_wall_ns)
{
    struct look look = { .filter = f, .item = &details->item, .details = details, .now_wall_ns = now_wall_ns };
    return details->states[rcpt] == RCPT_PENDING && ask_node(&look, (uint16_t)(f->count - 1), rcpt) == FILTER_YES;
}
