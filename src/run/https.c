/*
 * HTTPS by libcurl; the contract is in https.h. A handle lives for one question: what an endpoint did to a connection is no matter to the
 * next. Runs in lookup, which is this process.
 */
#include "run/https.h"
#include "base/arena.h"
#include "base/clock.h"
#include "run/dns.h"
#include "run/net.h"
#include <curl/curl.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define ADDRESSES_MAX 8                  /* of one host; libcurl tries one after the other */
#define ARENA_MAX     (64 * 1024)

static https_post_fn *replaced;
static void          *replaced_self;

void https_replace(https_post_fn *fn, void *self)
{
    replaced = fn;
    replaced_self = self;
}

/* -- where it is ------------------------------------------------------------------------------------------------------------ */

static void put_addresses(struct buf *line, const struct dns_answer *found, size_t ip_len, size_t *count)
{
    char text[NET_ADDR_TEXT_MAX];
    struct net_addr addr;

    for (size_t i = 0; i < found->count && *count < ADDRESSES_MAX; i++) {
        net_addr_from_ip(found->records[i].ip, ip_len, 0, &addr);
        buf_put_z(line, (*count)++ > 0 ? "," : "");
        buf_printf(line, ip_len == 16 ? "[%s]" : "%s", net_addr_format_ip(&addr, text));
    }
}

static int ask_dns(struct arena *a, struct str host, int64_t deadline_ns, struct buf *line, char error[HTTPS_ERROR_MAX])
{
    static const struct { enum dns_type type; size_t ip_len; } kinds[] = { { DNS_A, 4 }, { DNS_AAAA, 16 } };
    enum dns_status worst = DNS_NO_DATA;
    size_t count = 0;

    for (size_t i = 0; i < 2; i++) {
        struct dns_answer answer;
        int r = dns_query(a, host, kinds[i].type, deadline_ns, &answer);
        if (r == -ECANCELED)
            return r;
        if (r == 0 && answer.status == DNS_FOUND)
            put_addresses(line, &answer, kinds[i].ip_len, &count);
        else if (r < 0 || answer.status != DNS_NO_DATA)
            worst = r < 0 ? DNS_SERVFAIL : answer.status;
    }
    if (count > 0 && buf_ok(line))
        return 0;
    snprintf(error, HTTPS_ERROR_MAX, "%.*s: %s", (int)host.n, host.p,
             worst == DNS_NO_NAME || worst == DNS_NO_DATA ? "has no address" : "cannot be looked up now");
    return -EHOSTUNREACH;
}

int https_find(const char *url, int64_t deadline_ns, struct https_place *out, char error[HTTPS_ERROR_MAX])
{
    struct https_place place = { .line = "" };
    struct url u;
    struct arena a;
    struct buf line;
    int r = 0;

    if (!url_parse(str_of(url), &u)) {
        snprintf(error, HTTPS_ERROR_MAX, "not a URL that can be asked");
        return -EHOSTUNREACH;
    }
    arena_init(&a, ARENA_MAX);
    buf_init_fixed(&line, place.line, sizeof place.line - 1);
    if (!u.is_ip4 && !u.is_ip6) {
        buf_printf(&line, "%" STR_FMT ":%u:", STR_ARG(u.host), u.port);
        if (url_is_loopback(&u))                 /* no question of DNS's (RFC 6761, 6.3) */
            buf_put_z(&line, "127.0.0.1,[::1]");
        else
            r = ask_dns(&a, u.host, deadline_ns, &line, error);
    }
    arena_reset(&a);
    if (r == 0)
        *out = place;
    return r;
}

/* -- the question ------------------------------------------------------------------------------------------------------------- */

static void start_curl(void) { (void)curl_global_init(CURL_GLOBAL_DEFAULT); }      /* failing, each handle fails */

static size_t take(char *p, size_t size, size_t n, void *arg)
{
    struct buf *body = arg;

    buf_put(body, p, size * n);
    return buf_ok(body) ? size * n : 0;          /* less ends it: CURLE_WRITE_ERROR */
}

/* What must not go wrong in silence is looked at: an option that libcurl does not take leaves the question unasked. */
static CURLcode set_up(CURL *c, const struct https_request *r, struct curl_slist *place, struct curl_slist *headers, struct buf *body,
                       long left_ms)
{
    CURLcode bad = CURLE_OK;
#define SET(option, value) (bad = bad != CURLE_OK ? bad : curl_easy_setopt(c, option, value))
    SET(CURLOPT_URL, r->url);
    SET(CURLOPT_PROTOCOLS_STR, "http,https");
    SET(CURLOPT_FOLLOWLOCATION, 0L);
    SET(CURLOPT_PROXY, "");                      /* nor any that the environment names */
    SET(CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
    SET(CURLOPT_NOSIGNAL, 1L);
    SET(CURLOPT_TIMEOUT_MS, left_ms);
    SET(CURLOPT_CONNECTTIMEOUT_MS, left_ms);
    SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    SET(CURLOPT_SSL_VERIFYPEER, 1L);
    SET(CURLOPT_SSL_VERIFYHOST, 2L);
    SET(CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    if (r->ca_file != NULL && r->ca_file[0] != '\0') {
        SET(CURLOPT_CAINFO, r->ca_file);
        SET(CURLOPT_CAPATH, NULL);
    }
    SET(CURLOPT_RESOLVE, place);
    SET(CURLOPT_DNS_CACHE_TIMEOUT, -1L);         /* what we say of the host holds for the whole question */
    if (r->user != NULL) {
        SET(CURLOPT_HTTPAUTH, (long)CURLAUTH_BASIC);
        SET(CURLOPT_USERNAME, r->user);
        SET(CURLOPT_PASSWORD, r->password);
    }
    SET(CURLOPT_HTTPHEADER, headers);
    SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)r->form.n);
    SET(CURLOPT_POSTFIELDS, r->form.p);
    SET(CURLOPT_WRITEFUNCTION, take);
    SET(CURLOPT_WRITEDATA, body);
#undef SET
    return bad;
}

static int error_of(CURLcode code, const struct buf *body)
{
    switch ((int)code) {
    case CURLE_OPERATION_TIMEDOUT: return -ETIMEDOUT;
    case CURLE_OUT_OF_MEMORY: return -ENOMEM;
    case CURLE_WRITE_ERROR: return buf_ok(body) ? -EIO : -EMSGSIZE;
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_PEER_FAILED_VERIFICATION: return -EACCES;
    }
    return -ECONNREFUSED;
}

static int perform(CURL *c, const struct https_request *r, struct curl_slist *place, struct curl_slist *headers, unsigned *out_status,
                   struct buf *body, char error[HTTPS_ERROR_MAX])
{
    int64_t left_ms = (r->deadline_ns - clock_mono_ns()) / NS_PER_MS;
    char words[CURL_ERROR_SIZE] = "";
    long status = 0;

    if (left_ms <= 0) {
        snprintf(error, HTTPS_ERROR_MAX, "no time left to ask");
        return -ETIMEDOUT;
    }
    (void)curl_easy_setopt(c, CURLOPT_ERRORBUFFER, words);
    CURLcode code = set_up(c, r, place, headers, body, (long)left_ms);
    if (code == CURLE_OK)
        code = curl_easy_perform(c);
    if (code == CURLE_OK)
        code = curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, &status);
    if (code != CURLE_OK) {
        int e = error_of(code, body);
        const char *why = words[0] != '\0' ? words : curl_easy_strerror(code);
        snprintf(error, HTTPS_ERROR_MAX, "%s", e == -EMSGSIZE ? "the answer is too long" : why);
        return e;
    }
    *out_status = (unsigned)status;
    return 0;
}

static int ask(const struct https_request *r, const struct https_place *place, unsigned *out_status, struct buf *body,
               char error[HTTPS_ERROR_MAX])
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    struct curl_slist *where = NULL, *headers = NULL;
    int result = -ENOMEM;

    (void)pthread_once(&once, start_curl);
    CURL *c = curl_easy_init();
    headers = curl_slist_append(NULL, "Accept: application/json");
    if (place->line[0] != '\0')
        where = curl_slist_append(NULL, place->line);
    if (c != NULL && headers != NULL && (where != NULL || place->line[0] == '\0'))
        result = perform(c, r, where, headers, out_status, body, error);
    else
        snprintf(error, HTTPS_ERROR_MAX, "no memory");
    curl_easy_cleanup(c);
    curl_slist_free_all(where);
    curl_slist_free_all(headers);
    return result;
}

int https_post(const struct https_request *r, const struct https_place *place, unsigned *out_status, struct buf *out_body,
               char error[HTTPS_ERROR_MAX])
{
    struct url u;

    /* A name without a place would have libcurl look for it. */
    if (!url_parse(str_of(r->url), &u) || !url_is_private(&u) || (!u.is_ip4 && !u.is_ip6 && place->line[0] == '\0')) {
        snprintf(error, HTTPS_ERROR_MAX, "not a URL that can be asked");
        return -EINVAL;
    }
    if (replaced != NULL)
        return replaced(replaced_self, r, out_status, out_body, error);
    return ask(r, place, out_status, out_body, error);
}
