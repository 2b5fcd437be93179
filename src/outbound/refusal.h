/*
 * What a refusal means for the site it came from: a table in a plain file, share/refusals, which an operator extends or replaces. Pure.
 *
 *     KIND CODE STATUS [wait=TIME] [at=PROVIDER] [TEXT]          a rule; the first that fits decides
 *     provider NAME [connections=N] [rate=N/s|N/m|N/h] HOST...   hosts that are one destination, and where to begin with it
 *     replace                                                    nothing of the tables behind this one is read
 *
 * CODE is three characters, a digit or * each; STATUS an enhanced code as "4.7.28", "4.7.*" or "*". TEXT is looked for anywhere in the
 * reply, whatever the case: a blank stands for any white space, * for anything, % for a number, which is the wait, in the unit that
 * follows it ("in % minutes"; seconds where it has none). HOST is a name, or *.NAME for all below it. A # at the beginning of a line
 * begins a comment.
 *
 * The operator's table is loaded first, so its rules come first; then the shipped one. Text that is a peer's is only compared.
 */
#ifndef OUTBOUND_REFUSAL_H
#define OUTBOUND_REFUSAL_H

#include "base/arena.h"
#include "base/buf.h"

#define REFUSAL_RULES_MAX     1000
#define REFUSAL_PROVIDERS_MAX 200
#define REFUSAL_HOSTS_MAX     20                 /* of a provider */
#define REFUSAL_TEXT_MAX      200                /* of a rule */
#define REFUSAL_REPLY_MAX     1024               /* of a reply's text, looked at */
#define REFUSAL_WAIT_MAX_NS   (INT64_C(6) * 3600 * 1000000000)   /* whatever a server asks for */

enum refusal {
    REFUSAL_MESSAGE,                             /* it is about the message or the mailbox: the site is well */
    REFUSAL_GREYLIST,                            /* so is this; the message comes again after the wait */
    REFUSAL_CONNECTIONS,                         /* too many at a time */
    REFUSAL_RATE,                                /* too many in a time */
    REFUSAL_BLOCKED,                             /* it does not like us: long rest, then one probe */
    REFUSAL_FAMILY,                              /* it does not like our IPv6 address: IPv4 for a time */
    REFUSAL_DOWN,                                /* it is there, and does not work */
};

struct refusal_provider {
    struct refusal_provider *next;
    struct str               name;
    uint32_t                 connections;        /* 0: not said */
    uint32_t                 rate_per_hour;      /* 0: not said */
    struct str               hosts[REFUSAL_HOSTS_MAX];
    size_t                   host_count;
};

struct refusal_rule;

struct refusals {
    struct arena            *arena;              /* of all that is in it; the texts too are copied */
    struct refusal_rule     *first, **end;
    struct refusal_provider *provider_first, **provider_end;
    size_t                   rule_count, provider_count;
    bool                     complete;           /* "replace" was read */
};

struct refusal_reply {
    unsigned    code;
    struct str  status;                          /* "4.7.28", or "" */
    struct str  text;
    const struct refusal_provider *provider;     /* whose; NULL: not known */
};

struct refusal_verdict {
    enum refusal kind;
    int64_t      wait_ns;                        /* 0: not said */
};

void refusals_init(struct refusals *r, struct arena *a);

/* Adds a table. -EINVAL: lines "file:line: ..." were added to error, and what is right is in the table; -ENOMEM. */
int  refusals_load(struct refusals *r, const char *file, struct str text, struct buf *error);

/* REFUSAL_MESSAGE where no rule fits. */
struct refusal_verdict refusal_judge(const struct refusals *r, const struct refusal_reply *reply);

/* The provider that all these hosts belong to, or NULL. */
const struct refusal_provider *refusal_provider_of(const struct refusals *r, const struct str *hosts, size_t count);

const struct refusal_provider *refusal_provider_named(const struct refusals *r, struct str name);     /* or NULL */

const char *refusal_name(enum refusal kind);     /* as the table has it */

#endif
