/*
 * Behind dns.h: the switch to another resolver, and the parts of the real one that tests and fuzzers call by themselves.
 */
#ifndef RUN_DNS_INTERNAL_H
#define RUN_DNS_INTERNAL_H

#include "base/buf.h"
#include "run/dns.h"

/*
 * A resolver to stand behind dns_query(). Its query function has dns_query's contract, except that it is only asked for
 * names that can be names: lower case, no trailing dot, 1 to 253 octets in labels of 1 to 63, or "" for the root. The
 * name lives as long as the query. It may await.
 */
struct dns_ops {
    int (*query)(void *self, struct arena *arena, struct str name, enum dns_type type, int64_t deadline_ns, struct dns_answer *out);
    void *self;
};

/* Put another resolver in place for the whole process (the simulated world); copied; NULL: libunbound again. No query may be under way. */
void dns_replace(const struct dns_ops *ops);

/* name in lower case without a trailing dot, in the arena. 0, -EINVAL if it cannot be a DNS name (RFC 1035, 2.3.4), -ENOMEM. */
int dns_name_clean(struct arena *arena, struct str name, struct str *out);

/* One record's rdata in wire form, names uncompressed. 0, -EBADMSG if a byte of it is not as the type says, or a name in it has an
 * octet that no host name has; -ENOMEM. out only on success. Pure. */
int dns_parse_rdata(struct arena *arena, enum dns_type type, const uint8_t *rdata, size_t n, struct dns_record *out);

/* Zone files, and nobody to ask for other names. */
bool dns_is_closed(const struct dns_options *options);

/* The configuration of libunbound for these options (dns_zone.c). 0, -ENOMEM, or -EINVAL, -ENOENT, ... with out_error saying what and where. */
int dns_zone_config(const struct dns_options *options, struct buf *out, char out_error[256]);

#endif
