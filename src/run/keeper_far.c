/*
 * The keeper, where it is another process: each question goes there over a line (run/line.h), and who asked waits for its answer.
 *
 * A keeper that does not answer, or is not there, is KEEPER_TROUBLE, a signature that cannot be made, a credential that cannot be had:
 * never a yes. What is asked while it is started again waits for it, until the deadlines here. Runs in the worker.
 */
#include "base/metrics.h"
#include "run/keeper_internal.h"
#include "run/line.h"
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#define ANSWER_NS      (10 * NS_PER_S)   /* of what costs nothing but a look */
#define CHECK_NS       (30 * NS_PER_S)   /* of what may have to queue for a hash, or for a database */
#define RELOAD_NS      (60 * NS_PER_S)
#define STATE_EVERY_NS NS_PER_S

static struct line_caller *_Atomic far;
static atomic_bool                 has_scram;
static atomic_llong                asked_ns;     /* when the state was last asked for */

bool keeper_is_far(void) { return atomic_load(&far) != NULL; }

/* -- start and stop ---------------------------------------------------------------------------------------------------------------- */

static void hear(const struct wire_message *m)
{
    if (m->op == KEEPER_OP_STATE && m->result == 0)
        atomic_store(&has_scram, m->number != 0);
}

static int ask_state(struct line_caller *c, char out_error[256])
{
    const struct wire_message question = { .op = KEEPER_OP_STATE };
    struct wire_message m;
    struct buf none;

    buf_init_fixed(&none, NULL, 0);
    int r = line_ask(c, &question, task_deadline_in(ANSWER_NS), &none, &m);
    if (r == 0)
        hear(&m);
    else
        snprintf(out_error, 256, "the keeper does not answer: %s", strerror(-r));
    return r;
}

int keeper_connect(int door, char out_error[256])
{
    struct line_caller *c;

    int r = line_caller_start(door, hear, &c);
    if (r < 0) {
        snprintf(out_error, 256, "no line to the keeper: %s", strerror(-r));
        return r;
    }
    r = ask_state(c, out_error);
    if (r < 0)
        line_caller_stop(c);
    else
        atomic_store(&far, c);
    return r;
}

void keeper_far_stop(void) { line_caller_stop(atomic_exchange(&far, NULL)); }

int keeper_far_reload(char out_error[256])
{
    const struct wire_message question = { .op = KEEPER_OP_RELOAD };
    char bytes[LINE_ANSWER_MAX];
    struct wire_message m;
    struct buf room;

    buf_init_fixed(&room, bytes, sizeof bytes);
    int r = line_ask(atomic_load(&far), &question, task_deadline_in(RELOAD_NS), &room, &m);
    if (r < 0)
        snprintf(out_error, 256, "the keeper does not answer: %s", strerror(-r));
    else if (m.result < 0)
        snprintf(out_error, 256, "%.*s", (int)(m.parts[0].n < 255 ? m.parts[0].n : 255), m.parts[0].p);
    return r < 0 ? r : m.result;
}

/* -- accounts ------------------------------------------------------------------------------------------------------------------------- */

struct question {
    struct wire_message ask, answer;
    struct buf          room;
    char                bytes[DIGEST_SHA256_LEN + KEEPER_LOGIN_MAX + KEEPER_SALT_MAX + KEEPER_PASSWORD_MAX];
};

/* Awaits. The answer's result, or why there is none. */
static int ask(struct question *q, int64_t ns)
{
    buf_init_fixed(&q->room, q->bytes, sizeof q->bytes);
    int r = line_ask(atomic_load(&far), &q->ask, task_deadline_in(ns), &q->room, &q->answer);
    return r < 0 ? r : q->answer.result;
}

static enum keeper_verdict ask_verdict(struct question *q)
{
    switch (ask(q, CHECK_NS)) {
    case KEEPER_YES: return KEEPER_YES;
    case KEEPER_NO: return KEEPER_NO;
    case KEEPER_BUSY:
    case -ENOBUFS:
    case -EAGAIN: return KEEPER_BUSY;
    }
    return KEEPER_TROUBLE;
}

static bool take_text(struct str text, char *out, size_t max)
{
    if (text.n > max)
        return false;
    memcpy(out, text.p, text.n);
    out[text.n] = '\0';
    return true;
}

/* A login that no source can have, nor anybody's question: not worth a way through the wire, but for the time that a no takes. */
static struct str login_part(struct str login) { return (struct str){ login.p, login.n <= KEEPER_LOGIN_MAX ? login.n : KEEPER_LOGIN_MAX + 1 }; }

enum keeper_verdict keeper_far_check_password(struct str login, struct str password, char out_login[KEEPER_LOGIN_MAX + 1])
{
    size_t n = password.n <= KEEPER_PASSWORD_MAX ? password.n : KEEPER_PASSWORD_MAX + 1;     /* as wrong as a longer one */
    struct question q = { .ask = { .op = KEEPER_OP_PASSWORD, .parts = { login_part(login), { password.p, n } } } };

    enum keeper_verdict v = ask_verdict(&q);
    if (v == KEEPER_YES && !take_text(q.answer.parts[0], out_login, KEEPER_LOGIN_MAX))
        v = KEEPER_TROUBLE;
    return v;
}

/* What EHLO offers may be a second old. */
bool keeper_far_has_scram(void)
{
    const struct wire_message question = { .op = KEEPER_OP_STATE };
    long long before = atomic_load(&asked_ns), now = clock_mono_ns();

    if (now - before >= STATE_EVERY_NS && atomic_compare_exchange_strong(&asked_ns, &before, now))
        line_tell(atomic_load(&far), &question);
    return atomic_load(&has_scram);
}

enum keeper_verdict keeper_far_scram_parameters(struct str login, struct keeper_scram *out)
{
    struct question q = { .ask = { .op = KEEPER_OP_SCRAM_PARAMETERS, .parts = { login_part(login) } } };

    enum keeper_verdict v = ask_verdict(&q);
    struct str salt = q.answer.parts[0];
    if (v != KEEPER_YES)
        return v;
    if (salt.n > KEEPER_SALT_MAX || q.answer.number > UINT32_MAX)
        return KEEPER_TROUBLE;
    out->salt_n = salt.n;
    out->iterations = (uint32_t)q.answer.number;
    memcpy(out->salt, salt.p, salt.n);
    return v;
}

enum keeper_verdict keeper_far_scram_check(struct str login, struct str auth_message, const uint8_t proof[DIGEST_SHA256_LEN],
                                           uint8_t out_signature[DIGEST_SHA256_LEN], char out_login[KEEPER_LOGIN_MAX + 1])
{
    struct question q = {
        .ask = { .op = KEEPER_OP_SCRAM_CHECK, .parts = { login_part(login), auth_message, { (const char *)proof, DIGEST_SHA256_LEN } } },
    };

    enum keeper_verdict v = ask_verdict(&q);
    if (v != KEEPER_YES)
        return v;
    if (q.answer.parts[0].n != DIGEST_SHA256_LEN || !take_text(q.answer.parts[1], out_login, KEEPER_LOGIN_MAX))
        return KEEPER_TROUBLE;
    memcpy(out_signature, q.answer.parts[0].p, DIGEST_SHA256_LEN);
    return v;
}

/* -- credentials ---------------------------------------------------------------------------------------------------------------------- */

int keeper_far_credential(const char *path, char out_password[KEEPER_PASSWORD_MAX + 1])
{
    struct question q = { .ask = { .op = KEEPER_OP_CREDENTIAL, .parts = { str_of(path) } } };

    int r = ask(&q, ANSWER_NS);
    if (r == 0 && !take_text(q.answer.parts[0], out_password, KEEPER_PASSWORD_MAX))
        r = -EINVAL;
    if (r == 0)
        metric_add(METRIC_credentials_given, 1);         /* the keeper's own count nobody sees */
    explicit_bzero(q.bytes, sizeof q.bytes);
    return r;
}

/* -- keys -------------------------------------------------------------------------------------------------------------------------------- */

int keeper_far_key_open(const char *path, uint64_t *out_key, struct buf *out_public, char out_error[256])
{
    const struct wire_message question = { .op = KEEPER_OP_KEY_OPEN, .parts = { str_of(path) } };
    char bytes[KEEPER_PUBLIC_MAX];
    struct wire_message m;
    struct buf room;

    buf_init_fixed(&room, bytes, sizeof bytes);
    int r = line_ask(atomic_load(&far), &question, task_deadline_in(ANSWER_NS), &room, &m);
    if (r < 0)
        snprintf(out_error, 256, "%.150s: the keeper does not answer: %s", path, strerror(-r));
    else if (m.result < 0)
        snprintf(out_error, 256, "%.*s", (int)(m.parts[0].n < 255 ? m.parts[0].n : 255), m.parts[0].p);
    if (r < 0 || m.result < 0)
        return r < 0 ? r : m.result;
    buf_put_str(out_public, m.parts[0]);
    *out_key = m.number;
    return buf_ok(out_public) ? 0 : -ENOMEM;
}

void keeper_far_key_close(uint64_t key)
{
    const struct wire_message m = { .op = KEEPER_OP_KEY_CLOSE, .number = key };

    if (key != 0)
        line_tell(atomic_load(&far), &m);
}

int keeper_far_key_sign(uint64_t key, enum keeper_scheme scheme, struct str in, uint8_t out[KEEPER_SIGNATURE_MAX])
{
    const struct wire_message question = { .op = KEEPER_OP_KEY_SIGN, .result = (int32_t)scheme, .number = key, .parts = { in } };
    char bytes[KEEPER_SIGNATURE_MAX];
    struct wire_message m;
    struct buf room;

    buf_init_fixed(&room, bytes, sizeof bytes);
    int r = line_ask(atomic_load(&far), &question, task_deadline_in(ANSWER_NS), &room, &m);
    if (r < 0 || m.result < 0)
        return r < 0 ? r : m.result;
    if ((size_t)m.result != m.parts[0].n)
        return -EBADMSG;
    memcpy(out, m.parts[0].p, m.parts[0].n);
    return m.result;
}
