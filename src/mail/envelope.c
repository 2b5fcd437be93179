/*
 * The envelope's stored form. Writing is in the order of the tags, so that the same value gives the same bytes; reading
 * takes any order.
 *
 * An address is stored as the length of its local part (u16), the local part, the domain: never as text that would have to
 * be parsed again.
 */
#include "mail/envelope.h"
#include "base/codec.h"

#include <assert.h>
#include <string.h>

enum { HEAD = 2 + 4 }; /* tag and length */

/* -- writing -------------------------------------------------------------------------------------------------------- */

static void put_head(struct buf *out, uint16_t tag, size_t length)
{
    assert(length <= UINT32_MAX);
    buf_put_u16(out, tag);
    buf_put_u32(out, (uint32_t)length);
}

static void put_text(struct buf *out, uint16_t tag, struct str text)
{
    if (text.n == 0)
        return;
    put_head(out, tag, text.n);
    buf_put_str(out, text);
}

static void put_u64(struct buf *out, uint16_t tag, uint64_t value)
{
    if (value == 0)
        return;
    put_head(out, tag, 8);
    buf_put_u64(out, value);
}

static void put_u8(struct buf *out, uint16_t tag, uint8_t value)
{
    if (value == 0)
        return;
    put_head(out, tag, 1);
    buf_put_u8(out, value);
}

static void put_address(struct buf *out, uint16_t tag, const struct address *addr)
{
    if (address_is_null(addr))
        return;
    put_head(out, tag, 2 + addr->local.n + addr->domain.n);
    buf_put_u16(out, (uint16_t)addr->local.n);
    buf_put_str(out, addr->local);
    buf_put_str(out, addr->domain);
}

static void put_recipient(struct buf *out, const struct recipient *rcpt)
{
    put_address(out, RECIPIENT_TAG_ADDRESS, &rcpt->addr);
    put_text(out, RECIPIENT_TAG_ORIGINAL, rcpt->original);
    put_u8(out, RECIPIENT_TAG_NOTIFY, rcpt->notify);
    put_address(out, RECIPIENT_TAG_REWRITTEN, &rcpt->rewritten_from);
    put_u64(out, RECIPIENT_TAG_RRVS, (uint64_t)rcpt->rrvs_ns);
    put_text(out, RECIPIENT_TAG_NEXT_HOP, rcpt->next_hop);
    buf_put_str(out, rcpt->unknown);
}

static void put_recipients(struct buf *out, const struct envelope *env)
{
    for (size_t i = 0; i < env->rcpt_count; i++) {
        assert(!address_is_null(&env->rcpts[i].addr));
        put_head(out, ENVELOPE_TAG_RECIPIENT, 0);
        size_t from = out->n;
        put_recipient(out, &env->rcpts[i]);
        if (buf_ok(out))
            codec_set_u32(out->p + from - 4, (uint32_t)(out->n - from));
    }
}

void envelope_put(struct buf *out, const struct envelope *env)
{
    assert(env->null_sender == address_is_null(&env->sender));
    assert(env->rcpt_count <= ENVELOPE_RCPTS_MAX);
    assert(env->priority >= -9 && env->priority <= 9);

    put_u64(out, ENVELOPE_TAG_ID, env->id);
    put_u64(out, ENVELOPE_TAG_ARRIVED, (uint64_t)env->arrived_ns);
    put_address(out, ENVELOPE_TAG_SENDER, &env->sender);
    put_recipients(out, env);
    put_text(out, ENVELOPE_TAG_CLIENT_IP, env->client_ip);
    put_text(out, ENVELOPE_TAG_CLIENT_NAME, env->client_name);
    put_text(out, ENVELOPE_TAG_HELO, env->helo);
    put_text(out, ENVELOPE_TAG_LOGIN, env->login);
    put_text(out, ENVELOPE_TAG_PROTOCOL, env->protocol);
    put_u8(out, ENVELOPE_TAG_BODY_8BIT, env->body_8bit);
    put_u8(out, ENVELOPE_TAG_SMTPUTF8, env->smtputf8);
    put_u8(out, ENVELOPE_TAG_REQUIRETLS, env->requiretls);
    put_u8(out, ENVELOPE_TAG_TLS_OPTIONAL, env->tls_optional);
    put_text(out, ENVELOPE_TAG_ENVID, env->envid);
    put_u8(out, ENVELOPE_TAG_RET, env->ret);
    put_u64(out, ENVELOPE_TAG_SIZE, env->size);
    put_u64(out, ENVELOPE_TAG_HOLD_UNTIL, (uint64_t)env->hold_until_ns);
    put_u64(out, ENVELOPE_TAG_DELIVER_BY, (uint64_t)env->deliver_by_ns);
    put_u8(out, ENVELOPE_TAG_BY_MODE, env->by_mode);
    if (env->priority != 0) {
        put_head(out, ENVELOPE_TAG_PRIORITY, 4);
        buf_put_u32(out, (uint32_t)env->priority);
    }
    put_text(out, ENVELOPE_TAG_SOURCE_ADDRESS, env->source_address);
    put_u8(out, ENVELOPE_TAG_BODY_BINARY, env->body_binary);
    buf_put_str(out, env->unknown);
}

/* -- reading -------------------------------------------------------------------------------------------------------- */

struct entry {
    uint16_t tag;
    struct str value;
    struct str raw;
};

/* Cuts the first entry off *rest. False if it is torn. */
static bool take_entry(struct str *rest, struct entry *out)
{
    if (rest->n < HEAD)
        return false;
    size_t length = codec_get_u32(rest->p + 2);
    if (length > rest->n - HEAD)
        return false;
    out->tag = codec_get_u16(rest->p);
    out->value = str_head(str_from(*rest, HEAD), length);
    out->raw = str_head(*rest, HEAD + length);
    *rest = str_from(*rest, HEAD + length);
    return true;
}

static bool get_u64(struct str value, uint64_t *out)
{
    if (value.n != 8)
        return false;
    *out = codec_get_u64(value.p);
    return true;
}

static bool get_i64(struct str value, int64_t *out)
{
    uint64_t bits;

    if (!get_u64(value, &bits))
        return false;
    *out = (int64_t)bits;
    return true;
}

static bool get_u8(struct str value, uint8_t *out)
{
    if (value.n != 1)
        return false;
    *out = (uint8_t)value.p[0];
    return true;
}

static bool get_flag(struct str value, bool *out)
{
    uint8_t flag;

    if (!get_u8(value, &flag) || flag > 1)
        return false;
    *out = flag;
    return true;
}

static bool get_text(struct str value, struct str *out)
{
    *out = value;
    return true;
}

static bool get_next_hop(struct str value, struct str *out)
{
    for (size_t i = 0; i < value.n; i++)
        if (value.p[i] <= ' ' || value.p[i] >= 0x7f)
            return false;
    return value.n > 0 && value.n <= ENVELOPE_NEXT_HOP_MAX && get_text(value, out);
}

static bool get_address(struct str value, struct address *out)
{
    if (value.n < 2)
        return false;
    size_t local_n = codec_get_u16(value.p);
    struct str parts = str_from(value, 2);
    if (local_n > parts.n || parts.n == 0)
        return false;
    return address_of_parts(str_head(parts, local_n), str_from(parts, local_n), out);
}

static bool get_notify(struct str value, uint8_t *out)
{
    return get_u8(value, out) && *out <= (NOTIFY_NEVER | NOTIFY_SUCCESS | NOTIFY_FAILURE | NOTIFY_DELAY) &&
           (!(*out & NOTIFY_NEVER) || *out == NOTIFY_NEVER); /* RFC 3461, 4.1: NEVER stands alone */
}

static bool get_ret(struct str value, uint8_t *out)
{
    return get_u8(value, out) && *out <= RET_HDRS;
}

static bool get_by_mode(struct str value, uint8_t *out)
{
    return get_u8(value, out) && ((*out & 0x7f) == 'R' || (*out & 0x7f) == 'N');
}

static bool get_priority(struct str value, int *out)
{
    if (value.n != 4)
        return false;
    *out = (int32_t)codec_get_u32(value.p);
    return *out >= -9 && *out <= 9;
}

enum entry_kind { ENTRY_READ, ENTRY_WRONG, ENTRY_UNKNOWN };

static enum entry_kind kind(bool read)
{
    return read ? ENTRY_READ : ENTRY_WRONG;
}

static enum entry_kind read_recipient_entry(const struct entry *e, struct recipient *rcpt)
{
    // clang-format off
    switch ((enum recipient_tag)e->tag) {
    case RECIPIENT_TAG_ADDRESS:   return kind(get_address(e->value, &rcpt->addr));
    case RECIPIENT_TAG_ORIGINAL:  return kind(get_text(e->value, &rcpt->original));
    case RECIPIENT_TAG_NOTIFY:    return kind(get_notify(e->value, &rcpt->notify));
    case RECIPIENT_TAG_REWRITTEN: return kind(get_address(e->value, &rcpt->rewritten_from));
    case RECIPIENT_TAG_RRVS:      return kind(get_i64(e->value, &rcpt->rrvs_ns));
    case RECIPIENT_TAG_NEXT_HOP:  return kind(get_next_hop(e->value, &rcpt->next_hop));
    }
    // clang-format on
    return ENTRY_UNKNOWN;
}

static enum entry_kind read_envelope_entry(const struct entry *e, struct envelope *env)
{
    // clang-format off
    switch ((enum envelope_tag)e->tag) {
    case ENVELOPE_TAG_ID:             return kind(get_u64(e->value, &env->id));
    case ENVELOPE_TAG_ARRIVED:        return kind(get_i64(e->value, &env->arrived_ns));
    case ENVELOPE_TAG_SENDER:         return kind(get_address(e->value, &env->sender));
    case ENVELOPE_TAG_RECIPIENT:      return ENTRY_READ;      /* by read_recipients, since it repeats */
    case ENVELOPE_TAG_CLIENT_IP:      return kind(get_text(e->value, &env->client_ip));
    case ENVELOPE_TAG_CLIENT_NAME:    return kind(get_text(e->value, &env->client_name));
    case ENVELOPE_TAG_HELO:           return kind(get_text(e->value, &env->helo));
    case ENVELOPE_TAG_LOGIN:          return kind(get_text(e->value, &env->login));
    case ENVELOPE_TAG_PROTOCOL:       return kind(get_text(e->value, &env->protocol));
    case ENVELOPE_TAG_BODY_8BIT:      return kind(get_flag(e->value, &env->body_8bit));
    case ENVELOPE_TAG_SMTPUTF8:       return kind(get_flag(e->value, &env->smtputf8));
    case ENVELOPE_TAG_REQUIRETLS:     return kind(get_flag(e->value, &env->requiretls));
    case ENVELOPE_TAG_TLS_OPTIONAL:   return kind(get_flag(e->value, &env->tls_optional));
    case ENVELOPE_TAG_ENVID:          return kind(get_text(e->value, &env->envid));
    case ENVELOPE_TAG_RET:            return kind(get_ret(e->value, &env->ret));
    case ENVELOPE_TAG_SIZE:           return kind(get_u64(e->value, &env->size));
    case ENVELOPE_TAG_HOLD_UNTIL:     return kind(get_i64(e->value, &env->hold_until_ns));
    case ENVELOPE_TAG_DELIVER_BY:     return kind(get_i64(e->value, &env->deliver_by_ns));
    case ENVELOPE_TAG_BY_MODE:        return kind(get_by_mode(e->value, &env->by_mode));
    case ENVELOPE_TAG_PRIORITY:       return kind(get_priority(e->value, &env->priority));
    case ENVELOPE_TAG_SOURCE_ADDRESS: return kind(get_text(e->value, &env->source_address));
    case ENVELOPE_TAG_BODY_BINARY:    return kind(get_flag(e->value, &env->body_binary));
    }
    // clang-format on
    return ENTRY_UNKNOWN;
}

/* Entries we do not know, gathered in the arena one behind the other: at most as many bytes as were given. */
static bool keep_unknown(struct arena *a, struct str all, struct str raw, struct str *unknown)
{
    if (unknown->n == 0) {
        *unknown = (struct str){ arena_alloc(a, all.n), 0 };
        if (unknown->p == NULL)
            return false;
    }
    memcpy((char *)unknown->p + unknown->n, raw.p, raw.n);
    unknown->n += raw.n;
    return true;
}

/* What the loops over entries have in common: twice is wrong, unknown and critical is refused, unknown is kept. */
static enum envelope_result judge(struct arena *a, struct str all, const struct entry *e, enum entry_kind what, uint32_t *seen,
                                  struct str *unknown)
{
    switch (what) {
    case ENTRY_WRONG: return ENVELOPE_BAD;
    case ENTRY_UNKNOWN:
        if (e->tag & ENVELOPE_CRITICAL)
            return ENVELOPE_UNKNOWN_CRITICAL;
        return keep_unknown(a, all, e->raw, unknown) ? ENVELOPE_OK : ENVELOPE_NO_MEMORY;
    case ENTRY_READ: break;
    }
    uint32_t bit = UINT32_C(1) << (e->tag & ~ENVELOPE_CRITICAL); /* tags we know are below 32 */
    if (*seen & bit)
        return ENVELOPE_BAD;
    *seen |= bit;
    return ENVELOPE_OK;
}

static enum envelope_result read_recipient(struct arena *a, struct str bytes, struct recipient *out)
{
    struct recipient rcpt = { .original = STR(""), .next_hop = STR("") };
    struct str rest = bytes;
    uint32_t seen = 0;

    while (rest.n > 0) {
        struct entry e;
        if (!take_entry(&rest, &e))
            return ENVELOPE_BAD;
        enum envelope_result r = judge(a, bytes, &e, read_recipient_entry(&e, &rcpt), &seen, &rcpt.unknown);
        if (r != ENVELOPE_OK)
            return r;
    }
    if (address_is_null(&rcpt.addr))
        return ENVELOPE_BAD;
    *out = rcpt;
    return ENVELOPE_OK;
}

static size_t count_recipients(struct str bytes)
{
    struct entry e;
    size_t count = 0;

    while (take_entry(&bytes, &e))
        count += e.tag == ENVELOPE_TAG_RECIPIENT;
    return count;
}

static enum envelope_result read_recipients(struct arena *a, struct str bytes, struct envelope *env)
{
    struct entry e;
    size_t count = count_recipients(bytes);

    if (count > ENVELOPE_RCPTS_MAX)
        return ENVELOPE_BAD;
    env->rcpts = arena_array(a, count, sizeof *env->rcpts);
    if (env->rcpts == NULL)
        return ENVELOPE_NO_MEMORY;
    while (take_entry(&bytes, &e)) {
        if (e.tag != ENVELOPE_TAG_RECIPIENT)
            continue;
        enum envelope_result r = read_recipient(a, e.value, &env->rcpts[env->rcpt_count]);
        if (r != ENVELOPE_OK)
            return r;
        env->rcpt_count++;
    }
    return ENVELOPE_OK;
}

enum envelope_result envelope_parse(struct arena *a, struct str bytes, struct envelope *out)
{
    struct envelope env = { .id = 0 };
    struct str rest = bytes;
    uint32_t seen = 0;

    while (rest.n > 0) {
        struct entry e;
        if (!take_entry(&rest, &e))
            return ENVELOPE_BAD;
        if (e.tag == ENVELOPE_TAG_RECIPIENT)
            continue;
        enum envelope_result r = judge(a, bytes, &e, read_envelope_entry(&e, &env), &seen, &env.unknown);
        if (r != ENVELOPE_OK)
            return r;
    }
    enum envelope_result r = read_recipients(a, bytes, &env);
    if (r != ENVELOPE_OK)
        return r;
    env.null_sender = address_is_null(&env.sender);
    *out = env;
    return ENVELOPE_OK;
}

/* -- copying -------------------------------------------------------------------------------------------------------- */

static void copy_str(struct arena *a, struct str *s)
{
    *s = str_copy(a, *s);
}

static void copy_address(struct arena *a, struct address *addr)
{
    copy_str(a, &addr->local);
    copy_str(a, &addr->domain);
}

bool envelope_copy(struct arena *a, const struct envelope *env, struct envelope *out)
{
    struct envelope copy = *env;

    copy.rcpts = arena_array(a, env->rcpt_count, sizeof *copy.rcpts);
    if (copy.rcpts == NULL)
        return false;
    for (size_t i = 0; i < env->rcpt_count; i++) {
        struct recipient *rcpt = &copy.rcpts[i];
        *rcpt = env->rcpts[i];
        copy_address(a, &rcpt->addr);
        copy_address(a, &rcpt->rewritten_from);
        copy_str(a, &rcpt->original);
        copy_str(a, &rcpt->next_hop);
        copy_str(a, &rcpt->unknown);
    }
    copy_address(a, &copy.sender);
    copy_str(a, &copy.client_ip);
    copy_str(a, &copy.client_name);
    copy_str(a, &copy.helo);
    copy_str(a, &copy.login);
    copy_str(a, &copy.protocol);
    copy_str(a, &copy.envid);
    copy_str(a, &copy.source_address);
    copy_str(a, &copy.unknown);
    if (arena_failed(a)) /* sticky: one question for all of them */
        return false;
    *out = copy;
    return true;
}
