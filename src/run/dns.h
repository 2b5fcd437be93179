/*
 * DNS by libunbound: cache, DNSSEC validation, and the zones that the configuration brings along; or the simulated
 * world's own resolver. One resolver per process; queries may come from any loop.
 */
#ifndef RUN_DNS_H
#define RUN_DNS_H

#include "base/arena.h"
#include "base/str.h"
#include "run/task.h"

enum dns_type { DNS_A = 1, DNS_PTR = 12, DNS_MX = 15, DNS_TXT = 16, DNS_AAAA = 28, DNS_TLSA = 52 };

enum dns_status {
    DNS_FOUND,                       /* at least one record */
    DNS_NO_DATA,                     /* the name exists, not with this type */
    DNS_NO_NAME,                     /* NXDOMAIN */
    DNS_SERVFAIL,                    /* no answer that can be used, in time: try again later */
    DNS_BOGUS,                       /* DNSSEC says the answer is forged or broken */
};

struct dns_record {
    uint8_t    ip[16];               /* A: 4 bytes, AAAA: 16 */
    uint16_t   preference;           /* MX */
    struct str name;                 /* MX, PTR: lower case, no trailing dot; "" is the root (null MX) */
    struct str text;                 /* TXT: the strings of one record joined (RFC 7208, 3.3) */
    uint8_t    usage, selector, matching;   /* TLSA; text is the association data */
};

struct dns_answer {
    enum dns_status    status;
    bool               secure;       /* DNSSEC-validated (also for NO_DATA and NO_NAME) */
    uint32_t           ttl_s;
    struct str         canonical;    /* the name the records stand at, after CNAMEs */
    struct dns_record *records;      /* in the arena; at most DNS_RECORDS_MAX, the rest is dropped */
    size_t             count;
};
#define DNS_RECORDS_MAX 100

/* Awaits an answer. 0 with *out filled (in the arena), -ETIMEDOUT, -ECANCELED, -ENOMEM. name without or with trailing dot;
 * one that cannot be a DNS name gives DNS_NO_NAME. */
int dns_query(struct arena *arena, struct str name, enum dns_type type, int64_t deadline_ns, struct dns_answer *out);
/* "192.0.2.1" -> "1.2.0.192.in-addr.arpa", for PTR queries; ip as net_addr_ip gives it. */
struct str dns_reverse_name(struct arena *arena, const uint8_t *ip, size_t n);

struct dns_options {
    const char *const *forwarders;   /* "192.0.2.53" or "127.0.0.1@5353", NULL-ended; none: ask the roots */
    const char *const *zone_files;   /* "origin=path" or path with $ORIGIN, NULL-ended: answered from, never asked outside (RFC 1035 master files) */
    const char        *trust_anchor_file;   /* NULL: no validation unless the file of the system is there; "": none */
    const char        *resolv_conf;  /* forwarders from here if none are given; NULL: do not */
    int64_t            now_wall_s;   /* for DNSSEC validity in tests; 0: the real date */
};

/* Zone files with neither forwarders nor resolv_conf are a closed network: nothing is sent, all other names are DNS_SERVFAIL at once.
 * What a zone file says is insecure, unless it has keys and a trust_anchor_file is named.
 *
 * Before the loops run, or from the first task. out_error says why not, with file and line where there is one. */
int  dns_start(const struct dns_options *options, char out_error[256]);
void dns_stop(void);                 /* no query may be under way */

#endif
