/*
 * Questions to an HTTPS endpoint, by libcurl: one form posted, one answer of a limited size read, by a deadline.
 *
 * libcurl never resolves a name: whoever asks awaits https_find first, which asks run/dns, and hands over what it found; then https_post
 * BLOCKS on a helper thread. No redirect is followed, no proxy, cookie or .netrc is used, and plain http goes to loopback only.
 */
#ifndef RUN_HTTPS_H
#define RUN_HTTPS_H

#include "base/buf.h"
#include "base/url.h"

#define HTTPS_BODY_MAX   (64 * 1024)     /* bytes of an answer; a longer one is none */
#define HTTPS_ERROR_MAX  256
#define HTTPS_PLACE_MAX  1024

/* Where the URL's host is, in libcurl's words; empty for an address. */
struct https_place {
    char line[HTTPS_PLACE_MAX];
};

struct https_request {
    const char *url;                     /* one that url_parse takes and url_is_private */
    const char *ca_file;                 /* PEM; NULL or "": the system's */
    const char *user, *password;         /* of Basic authentication (RFC 7617); NULL: none */
    struct str  form;                    /* application/x-www-form-urlencoded */
    int64_t     deadline_ns;             /* clock_mono_ns */
};

/* Awaits run/dns, IPv4 and IPv6. 0, -EHOSTUNREACH with the reason in error, or -ECANCELED. */
int https_find(const char *url, int64_t deadline_ns, struct https_place *out, char error[HTTPS_ERROR_MAX]);

/* BLOCKS until the deadline at most. 0: an answer with this status came, whole; its body is appended. -EINVAL: that is no URL to ask;
 * -ETIMEDOUT; -EMSGSIZE: too long an answer; -EACCES: the certificate is not right; -ECONNREFUSED: anything else; with the reason in error. */
int https_post(const struct https_request *r, const struct https_place *place, unsigned *out_status, struct buf *out_body,
               char error[HTTPS_ERROR_MAX]);

/* Instead of asking (tests): called as https_post, with self in front. NULL: the real thing. */
typedef int https_post_fn(void *self, const struct https_request *r, unsigned *out_status, struct buf *out_body,
                          char error[HTTPS_ERROR_MAX]);
void https_replace(https_post_fn *fn, void *self);

#endif
