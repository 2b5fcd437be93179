/*
 * TLS of the connections we make: see client_tls.h. Runs in the worker, on outbound's loop.
 *
 * Two contexts: one that checks nothing, for servers that could as well be spoken to in plain text (RFC 7435), and one that checks
 * chain and name. They are made when first needed, on a helper, for trusted certificates are a long read; the one that checks is made
 * anew now and then, since the system replaces those.
 */
#include "outbound/client_tls.h"
#include "base/log.h"
#include "base/metrics.h"
#include "conf/tls_level.h"
#include "mail/domain.h"
#include "run/offload.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TRUST_AGE_NS (3600 * NS_PER_S)
#define MAKERS_MAX   1000                /* that wait for a context to be made */

struct client_tls {
    struct offload     *helper;          /* owned */
    struct tls_context *opportunistic;   /* counted; NULL until the first use */
    struct tls_context *verifying;       /* likewise */
    char               *ca_file;         /* of verifying; owned */
    int64_t             trusted_ns;      /* when it was made */
};

struct client_tls *client_tls_new(void)
{
    struct client_tls *t = calloc(1, sizeof *t);

    if (t == NULL)
        return NULL;
    t->helper = offload_new("tls", 1, MAKERS_MAX);
    if (t->helper != NULL)
        return t;
    free(t);
    return NULL;
}

void client_tls_free(struct client_tls *t)
{
    if (t == NULL)
        return;
    offload_free(t->helper);
    tls_unref(t->opportunistic);
    tls_unref(t->verifying);
    free(t->ca_file);
    free(t);
}

struct client_security client_security_for(struct client_tls *tls, const struct conf *conf, const struct route *route)
{
    switch (route->kind) {
    case ROUTE_HOST:
        return (struct client_security){ .tls = tls, .level = conf->relay_host_tls, .implicit = conf->relay_host_tls_implicit,
                                         .login = conf->relay_host_user[0] != '\0' };
    /* Who we are at the relay host is said to nobody else. */
    case ROUTE_HOP: return (struct client_security){ .tls = tls, .level = tls_level_of(conf, route->host) };
    case ROUTE_MX: return (struct client_security){ .tls = tls, .level = tls_level_of(conf, route->domain), .domain = route->domain };
    /* Within the house nobody is asked for more: a server there need not have a certificate for what the world's servers must show. */
    case ROUTE_LMTP:
        return (struct client_security){ .tls = tls, .level = conf->outbound_tls == CONF_CLIENT_TLS_NONE ? CONF_CLIENT_TLS_NONE : CONF_CLIENT_TLS_MAY };
    case ROUTE_LOCAL: case ROUTE_LMTP_UNIX: break;
    }
    return (struct client_security){ .tls = NULL };
}

/* -- contexts -------------------------------------------------------------------------------------------------------------- */

struct making {
    struct tls_client_options options;
    struct tls_context       *context;
    char                      error[256];
    int                       result;
};

static void make(void *arg)
{
    struct making *m = arg;

    m->result = tls_client_new(&m->options, &m->context, m->error);
}

static bool is_fresh(const struct client_tls *t, const char *ca_file)
{
    return t->verifying != NULL && strcmp(t->ca_file, ca_file) == 0 && clock_mono_ns() - t->trusted_ns < TRUST_AGE_NS;
}

/* Several may have made one at the same time: the last stays. */
static void keep(struct client_tls *t, struct tls_context *context, bool verify, const char *ca_file)
{
    char *copy = verify ? strdup(ca_file) : NULL;

    if (verify && copy == NULL)
        return;                          /* made again next time */
    if (!verify) {
        tls_unref(t->opportunistic);
        t->opportunistic = tls_ref(context);
        return;
    }
    tls_unref(t->verifying);
    free(t->ca_file);
    t->verifying = tls_ref(context);
    t->ca_file = copy;
    t->trusted_ns = clock_mono_ns();
}

/* Awaits. Counted. */
static int get_context(struct client_tls *t, bool verify, const char *ca_file, struct tls_context **out, char error[256])
{
    if (verify ? is_fresh(t, ca_file) : t->opportunistic != NULL) {
        *out = tls_ref(verify ? t->verifying : t->opportunistic);
        return 0;
    }
    struct making m = { .options = { .verify = verify, .ca_file = ca_file[0] != '\0' ? ca_file : NULL }, .result = -EAGAIN };
    strcpy(m.error, "no helper is free");
    (void)offload_run(t->helper, make, &m);      /* if it was not run, the result says so */
    if (m.result < 0) {
        memcpy(error, m.error, sizeof m.error);
        return m.result;
    }
    keep(t, m.context, verify, ca_file);
    *out = m.context;
    return 0;
}

/* -- the handshake ----------------------------------------------------------------------------------------------------------- */

/* "[192.0.2.1]" and "[IPv6:2001:db8::1]" without what is not the address. */
static void plain_host(struct str host, char out[DOMAIN_MAX + 1])
{
    if (host.n > 2 && host.p[0] == '[') {
        host = str_from(str_head(host, host.n - 1), 1);
        if (str_starts_nocase(host, STR("IPv6:")))
            host = str_from(host, 5);
    }
    host = str_head(host, DOMAIN_MAX);
    if (host.n > 0)                      /* a relay host is for no domain: .p is NULL */
        memcpy(out, host.p, host.n);
    out[host.n] = '\0';
}

int client_tls_handshake(const struct client_security *s, struct stream *stream, const struct conf *conf, struct str host, const char *remote,
                         char error[256])
{
    bool verify = s->level >= CONF_CLIENT_TLS_VERIFY;
    bool of_domain = s->level == CONF_CLIENT_TLS_SECURE && s->domain.n > 0 && s->domain.p[0] != '[';
    char name[DOMAIN_MAX + 1], domain[DOMAIN_MAX + 1];
    struct tls_context *context;

    int r = get_context(s->tls, verify, conf->outbound_tls_ca_file, &context, error);
    if (r < 0)
        return r;
    plain_host(host, name);
    plain_host(s->domain, domain);
    r = stream_tls_connect_within(stream, context, name, of_domain ? domain : NULL, task_deadline_in(conf->tls_handshake_timeout_ns));
    tls_unref(context);
    if (r < 0) {
        const char *words = stream_tls_error(stream);
        snprintf(error, 256, "%s", words[0] != '\0' ? words : r == -ETIMEDOUT ? "timed out" : strerror(-r));
        metric_add(METRIC_tls_out_handshakes_failed, 1);
        return r;
    }
    metric_add(METRIC_tls_out_handshakes, 1);
    metric_add(METRIC_tls_out_resumed, stream_tls_resumed(stream));
    log_event(LOG_INFO, "tls-out", LOG_Z("remote", remote), LOG_Z("protocol", stream_tls_protocol(stream)),
              LOG_Z("cipher", stream_tls_suite(stream)), LOG_Z("group", stream_tls_group(stream)), LOG_Z("verified", verify ? "yes" : "no"),
              LOG_Z("resumed", stream_tls_resumed(stream) ? "yes" : "no"));
    return 0;
}
