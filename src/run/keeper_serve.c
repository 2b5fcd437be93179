/*
 * The keeper answers; the contract is in keeper_serve.h. Runs in the keeper, on its one loop.
 *
 * An ECDSA signature, of some 30 us, is made at once; one of RSA takes forty times as long and goes to helpers, so that it delays nobody.
 */
#include "run/keeper_serve.h"
#include "base/log.h"
#include "run/keeper_internal.h"
#include "run/line.h"
#include "run/offload.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define OPENED_MAX    4096               /* keys that workers have opened, each as often as it is open */
#define FILES_WAITING 64
#define SIGNS_WAITING 4096
#define PATH_BYTES    4096

struct keeping {
    const struct keeper_rights *rights;
    struct offload *signs, *files;       /* owned */
    bool            reloading;
    size_t          opened_n;
    uint64_t        opened[OPENED_MAX];
};

/* -- keys ---------------------------------------------------------------------------------------------------------------------------- */

struct signing {
    const struct wire_message *question;
    uint8_t out[KEEPER_SIGNATURE_MAX];
    int     result;
};

static void sign(void *arg)
{
    struct signing *s = arg;
    s->result = keeper_near_key_sign(s->question->number, (enum keeper_scheme)s->question->result, s->question->parts[0], s->out);
}

static void put_signature(const struct signing *s, struct line_answer *a)
{
    a->m.result = s->result;
    if (s->result >= 0)
        line_answer_put(a, 0, (struct str){ (const char *)s->out, (size_t)s->result });
}

static enum line_pace sign_quickly(const struct wire_message *question, struct line_answer *a)
{
    struct signing s = { .question = question };

    switch (question->result) {
    case KEEPER_ECDSA: break;
    case KEEPER_RSA_PKCS1:
    case KEEPER_RSA_PADDED: return LINE_LATER;
    default: return LINE_NONSENSE;       /* a peer's number, no enum of ours yet */
    }
    sign(&s);
    put_signature(&s, a);
    return LINE_ANSWERED;
}

/* Awaits. */
static void sign_slowly(struct keeping *k, const struct wire_message *question, struct line_answer *a)
{
    struct signing s = { .question = question };

    int r = offload_run(k->signs, sign, &s);
    if (r < 0)
        s.result = r;
    put_signature(&s, a);
}

struct opening {
    char       path[PATH_BYTES];
    char       error[256];
    uint64_t   key;
    struct buf public;
    char       bytes[KEEPER_PUBLIC_MAX];
    int        result;
};

static void open_key(void *arg)
{
    struct opening *o = arg;
    o->result = keeper_near_key_open(o->path, &o->key, &o->public, o->error);
}

static bool put_path(struct str path, char out[PATH_BYTES])
{
    if (path.n >= PATH_BYTES || memchr(path.p, '\0', path.n) != NULL)
        return false;
    memcpy(out, path.p, path.n);
    out[path.n] = '\0';
    return true;
}

/* Awaits. What a worker opens is closed when it says so, or when there is none any more. */
static void open_slowly(struct keeping *k, const struct wire_message *question, struct line_answer *a)
{
    struct opening o = { .result = -EACCES, .error = "the configuration that is in force names no such key" };

    buf_init_fixed(&o.public, o.bytes, sizeof o.bytes);
    if (k->rights->may_sign_with(k->rights->arg, question->parts[0]) && put_path(question->parts[0], o.path)) {
        snprintf(o.error, sizeof o.error, "the keeper has no time");
        int r = offload_run(k->files, open_key, &o);
        o.result = r < 0 ? r : o.result;
    }
    if (o.result == 0 && k->opened_n == OPENED_MAX) {
        keeper_near_key_close(o.key);
        o.result = -ENFILE;
        snprintf(o.error, sizeof o.error, "too many keys are open");
    }
    a->m.result = o.result;
    if (o.result == 0) {
        k->opened[k->opened_n++] = o.key;
        a->m.number = o.key;
    }
    line_answer_put(a, 0, o.result == 0 ? buf_str(&o.public) : str_of(o.error));
}

static void close_key(struct keeping *k, uint64_t key)
{
    for (size_t i = 0; i < k->opened_n; i++)
        if (k->opened[i] == key) {
            k->opened[i] = k->opened[--k->opened_n];
            keeper_near_key_close(key);
            return;
        }
}

static void close_all(void *arg)
{
    struct keeping *k = arg;

    while (k->opened_n > 0)
        keeper_near_key_close(k->opened[--k->opened_n]);
}

/* -- accounts and credentials ------------------------------------------------------------------------------------------------------------ */

/* Awaits. */
static void check_password(const struct wire_message *question, struct line_answer *a)
{
    char login[KEEPER_LOGIN_MAX + 1];

    enum keeper_verdict v = keeper_near_check_password(question->parts[0], question->parts[1], login);
    a->m.result = (int32_t)v;
    if (v == KEEPER_YES)
        line_answer_put(a, 0, str_of(login));
}

/* Awaits. */
static void give_parameters(const struct wire_message *question, struct line_answer *a)
{
    struct keeper_scram scram;

    enum keeper_verdict v = keeper_near_scram_parameters(question->parts[0], &scram);
    a->m.result = (int32_t)v;
    if (v != KEEPER_YES)
        return;
    a->m.number = scram.iterations;
    line_answer_put(a, 0, (struct str){ (const char *)scram.salt, scram.salt_n });
}

/* Awaits. The proof has been measured. */
static void check_proof(const struct wire_message *question, struct line_answer *a)
{
    uint8_t proof[DIGEST_SHA256_LEN], signature[DIGEST_SHA256_LEN];
    char login[KEEPER_LOGIN_MAX + 1];

    memcpy(proof, question->parts[2].p, sizeof proof);
    enum keeper_verdict v = keeper_near_scram_check(question->parts[0], question->parts[1], proof, signature, login);
    a->m.result = (int32_t)v;
    if (v != KEEPER_YES)
        return;
    line_answer_put(a, 0, (struct str){ (const char *)signature, sizeof signature });
    line_answer_put(a, 1, str_of(login));
}

/* Awaits. */
static void give_credential(struct keeping *k, const struct wire_message *question, struct line_answer *a)
{
    char path[PATH_BYTES], password[KEEPER_PASSWORD_MAX + 1];
    bool may = k->rights->may_give(k->rights->arg, question->parts[0]) && put_path(question->parts[0], path);

    a->m.result = may ? keeper_near_credential(path, password) : -EACCES;
    if (a->m.result == 0)
        line_answer_put(a, 0, str_of(password));
    explicit_bzero(password, sizeof password);
}

/* -- reload ------------------------------------------------------------------------------------------------------------------------------ */

struct reloading {
    const struct keeper_rights *rights;
    char error[256];
    int  result;
};

static void run_reload(void *arg)
{
    struct reloading *r = arg;
    r->result = r->rights->reload(r->rights->arg, r->error);
}

/* Awaits. */
static void reload(struct keeping *k, struct line_answer *a)
{
    struct reloading r = { .rights = k->rights, .result = -EBUSY, .error = "a reload is under way" };

    if (!k->reloading) {
        k->reloading = true;
        int ran = offload_run(k->files, run_reload, &r);
        r.result = ran < 0 ? ran : r.result;
        k->reloading = false;
    }
    a->m.result = r.result;
    if (r.result < 0)
        line_answer_put(a, 0, str_of(r.error));
}

/* -- the service ------------------------------------------------------------------------------------------------------------------------- */

static enum line_pace answer_quickly(void *arg, const struct wire_message *question, struct line_answer *a)
{
    switch (question->op) {
    case KEEPER_OP_STATE: a->m.number = keeper_near_has_scram(); return LINE_ANSWERED;
    case KEEPER_OP_KEY_CLOSE: close_key(arg, question->number); return LINE_ANSWERED;
    case KEEPER_OP_KEY_SIGN: return sign_quickly(question, a);
    case KEEPER_OP_SCRAM_CHECK: return question->parts[2].n == DIGEST_SHA256_LEN ? LINE_LATER : LINE_NONSENSE;
    case KEEPER_OP_PASSWORD:
    case KEEPER_OP_SCRAM_PARAMETERS:
    case KEEPER_OP_CREDENTIAL:
    case KEEPER_OP_KEY_OPEN:
    case KEEPER_OP_RELOAD: return LINE_LATER;
    }
    return LINE_NONSENSE;
}

static void answer_slowly(void *arg, const struct wire_message *question, struct line_answer *a)
{
    switch ((enum keeper_op)question->op) {
    case KEEPER_OP_PASSWORD: check_password(question, a); return;
    case KEEPER_OP_SCRAM_PARAMETERS: give_parameters(question, a); return;
    case KEEPER_OP_SCRAM_CHECK: check_proof(question, a); return;
    case KEEPER_OP_CREDENTIAL: give_credential(arg, question, a); return;
    case KEEPER_OP_KEY_OPEN: open_slowly(arg, question, a); return;
    case KEEPER_OP_KEY_SIGN: sign_slowly(arg, question, a); return;
    case KEEPER_OP_RELOAD: reload(arg, a); return;
    case KEEPER_OP_STATE:
    case KEEPER_OP_KEY_CLOSE: return;    /* answered before */
    }
}

int keeper_serve(int door, const struct keeper_rights *rights)
{
    struct keeping k = {
        .rights = rights,
        .signs = offload_new("signs", loop_cores(), SIGNS_WAITING),
        .files = offload_new("keys", 1, FILES_WAITING),
    };
    const struct line_service service = {
        .name = "keeper", .quick = answer_quickly, .answer = answer_slowly, .gone = close_all, .arg = &k,
    };

    int r = k.signs == NULL || k.files == NULL ? -ENOMEM : line_serve(door, &service);
    close_all(&k);
    offload_free(k.signs);
    offload_free(k.files);
    return r;
}
