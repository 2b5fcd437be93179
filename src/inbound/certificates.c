/*
 * Certificates in force, and the look for new ones: see certificates.h. Runs in the worker; the watcher on loop 0.
 *
 * Whether something has changed is told by a hash over what the configuration says and what the certificates' files hold, not by times:
 * a copy may keep them. The keys' files are the keeper's and are not looked at; but a new key never comes without its certificate, and
 * while the last reading failed (a certificate is there before its key) every look reads again.
 */
#include "inbound/certificates.h"
#include "base/cleanup.h"
#include "base/digest.h"
#include "base/log.h"
#include "run/file.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FILE_MAX        (1024 * 1024)
#define EXPIRES_SOON_S  (7 * 86400)
#define REMIND_EVERY_NS (24 * 3600 * NS_PER_S)

struct certificates {
    struct tls_holder *holder;           /* owned */
    struct offload    *helpers;
    struct task       *watcher;          /* NULL while nobody watches */
    uint8_t            seen[DIGEST_SHA256_LEN];   /* of what is in force */
    bool               forced;           /* read, changed or not */
    char               trouble[256];     /* of the last reading; "" if it went well */
    int64_t            remind_ns;        /* when the end of a certificate may be told again */
};

/* -- reading --------------------------------------------------------------------------------------------------------------- */

struct reading {
    const struct conf  *conf;
    const uint8_t      *seen;            /* NULL: read in any case */
    uint8_t             found[DIGEST_SHA256_LEN];
    bool                changed;
    struct tls_context *context;
    char                error[256];
    int                 result;
};

int certificates_load(const struct conf *c, struct tls_context **out, char error[256])
{
    if (c->certificate_count == 0) {
        *out = NULL;
        return 0;
    }
    CLEANUP_FREE struct tls_pair *pairs = calloc(c->certificate_count, sizeof *pairs);
    if (pairs == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < c->certificate_count; i++)
        pairs[i] = (struct tls_pair){ c->certificates[i].certificate_file, c->certificates[i].key_file };
    struct tls_server_options options = {
        .pairs = pairs,
        .count = c->certificate_count,
        .only_tls13 = c->tls_min_protocol == CONF_TLS_1_3,
        .ciphers = c->tls_ciphers[0] != '\0' ? c->tls_ciphers : NULL,
    };
    return tls_server_new(&options, out, error);
}

static void add_file(struct digest *d, const char *path)
{
    CLEANUP_BUF struct buf text;

    buf_init(&text, FILE_MAX);
    int r = file_read_whole(path, FILE_MAX, &text);
    digest_add(d, (struct str){ path, strlen(path) + 1 });
    digest_add(d, (struct str){ (const char *)&r, sizeof r });
    digest_add(d, (struct str){ (const char *)&text.n, sizeof text.n });
    digest_add(d, buf_str(&text));
}

/* BLOCKS. All zero without memory, which is like nothing seen before. */
static void look(const struct conf *c, uint8_t out[DIGEST_SHA256_LEN])
{
    struct digest *d = digest_new();

    memset(out, 0, DIGEST_SHA256_LEN);
    if (d == NULL)
        return;
    digest_add(d, (struct str){ (const char *)&c->tls_min_protocol, sizeof c->tls_min_protocol });
    digest_add(d, (struct str){ c->tls_ciphers, strlen(c->tls_ciphers) + 1 });
    for (size_t i = 0; i < c->certificate_count; i++) {
        add_file(d, c->certificates[i].certificate_file);
        digest_add(d, (struct str){ c->certificates[i].key_file, strlen(c->certificates[i].key_file) + 1 });
    }
    digest_end(d, out);
    digest_free(d);
}

/* The look comes first: what changes while it is read is seen at the next one. BLOCKS. */
static void read_again(void *arg)
{
    struct reading *r = arg;

    look(r->conf, r->found);
    r->changed = r->seen == NULL || memcmp(r->seen, r->found, sizeof r->found) != 0;
    if (!r->changed)
        return;
    strcpy(r->error, "no memory");
    r->result = certificates_load(r->conf, &r->context, r->error);
}

int certificates_new(const struct conf *conf, struct offload *helpers, struct certificates **out, char error[256])
{
    struct certificates *c = calloc(1, sizeof *c);
    struct reading       r = { .conf = conf, .result = -EAGAIN, .error = "no helper is free" };

    if (c == NULL || (c->holder = tls_holder_new()) == NULL) {
        free(c);
        return -ENOMEM;
    }
    c->helpers = helpers;
    (void)offload_run(helpers, read_again, &r);      /* if it was not run, the result says so */
    if (r.result < 0) {
        memcpy(error, r.error, sizeof r.error);
        certificates_free(c);
        return r.result;
    }
    memcpy(c->seen, r.found, sizeof c->seen);
    tls_holder_set(c->holder, r.context);
    *out = c;
    return 0;
}

void certificates_free(struct certificates *c)
{
    if (c == NULL)
        return;
    tls_holder_free(c->holder);
    free(c);
}

struct tls_context *certificates_get(struct certificates *c)
{
    return tls_holder_get(c->holder);
}

/* -- watching ------------------------------------------------------------------------------------------------------------ */

/* An alarm when the words are new; else every look would ring it. */
static void refuse(struct certificates *c, const char *error)
{
    if (strcmp(c->trouble, error) != 0)
        log_event(LOG_ERROR, "certificates-refused", LOG_Z("error", error), LOG_Z("text", "those before stay in force"));
    strcpy(c->trouble, error);
}

static void take(struct certificates *c, const struct reading *r)
{
    c->trouble[0] = '\0';
    c->remind_ns = 0;
    memcpy(c->seen, r->found, sizeof c->seen);
    tls_holder_set(c->holder, r->context);
    log_event(LOG_INFO, "certificates-loaded", LOG_U64("count", r->conf->certificate_count));
}

/* Awaits. */
static void check(struct certificates *c)
{
    struct conf *conf = conf_current();
    struct reading r = { .conf = conf, .seen = c->forced || c->trouble[0] != '\0' ? NULL : c->seen };

    c->forced = false;
    if (conf->certificate_count == 0)
        refuse(c, "the configuration names none any more");
    else if (offload_run(c->helpers, read_again, &r) == 0 && r.changed) {
        if (r.result < 0)
            refuse(c, r.error);
        else
            take(c, &r);
    }
    conf_unref(conf);
}

static void tell_of_the_end(struct certificates *c)
{
    struct tls_context *context = certificates_get(c);
    int64_t left_s = context != NULL ? tls_server_expires_s(context) - clock_wall_ns() / NS_PER_S : INT64_MAX;

    tls_unref(context);
    if (left_s > EXPIRES_SOON_S || clock_mono_ns() < c->remind_ns)
        return;
    c->remind_ns = task_deadline_in(REMIND_EVERY_NS);
    log_event(LOG_WARN, "certificate-ends", LOG_I64("days", left_s / 86400), LOG_Z("text", left_s < 0 ? "one has ended" : "one ends soon"));
}

static int wait_a_while(struct certificates *c)
{
    struct conf *conf = conf_current();
    int64_t until = task_deadline_in(conf->tls_check_interval_ns);
    int r = 0;

    conf_unref(conf);
    while (r == 0 && !c->forced)
        r = task_park(until);
    return r == -ETIMEDOUT ? 0 : r;
}

void certificates_watch(void *arg)
{
    struct certificates *c = arg;
    struct tls_context *first = certificates_get(c);

    tls_unref(first);
    if (first == NULL)                   /* no listener speaks TLS until the next start */
        return;
    c->watcher = task_self();
    do
        tell_of_the_end(c);
    while (wait_a_while(c) == 0 && (check(c), true));
    c->watcher = NULL;
}

void certificates_reload(struct certificates *c)
{
    if (c->watcher == NULL)
        return;
    c->forced = true;
    task_wake(c->watcher);
}
