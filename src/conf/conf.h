/*
 * The configuration: an immutable snapshot, counted, swapped whole at a reload.
 *
 * conf/parse.c reads the file (libconfuse) into it; the list of options with defaults and units stands in nightmail.conf(5).
 * All strings are the snapshot's own.
 */
#ifndef CONF_CONF_H
#define CONF_CONF_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/log.h"
#include "base/map.h"
#include "conf/delivery.h"
#include "conf/ip_range.h"
#include "mail/address.h"

/* The words of the file, each at the place of its enum's value. */
#define CONF_TLS_WORDS        "none starttls required implicit"
#define CONF_TLS_PROTOCOLS    "TLSv1.2 TLSv1.3"
#define CONF_CLIENT_TLS_WORDS "none may encrypt verify secure"

enum conf_tls { CONF_TLS_NONE, CONF_TLS_STARTTLS, CONF_TLS_REQUIRED, CONF_TLS_IMPLICIT };              /* of a listener */
enum conf_tls_protocol { CONF_TLS_1_2, CONF_TLS_1_3 };
/* verify: the certificate is for the name that we connect to; secure: for the recipient's domain, whatever the DNS says of its servers. */
enum conf_client_tls { CONF_CLIENT_TLS_NONE, CONF_CLIENT_TLS_MAY, CONF_CLIENT_TLS_ENCRYPT, CONF_CLIENT_TLS_VERIFY, CONF_CLIENT_TLS_SECURE };

#define CONF_SERVICE_WORDS    "smtp submission lmtp"

enum conf_service { CONF_SERVICE_SMTP, CONF_SERVICE_SUBMISSION, CONF_SERVICE_LMTP };

/* Those of SMTP's extensions that can be switched off, each at the place of its enum's value. */
#define CONF_EXTENSION_WORDS  "PIPELINING SIZE 8BITMIME DSN SMTPUTF8 CHUNKING BINARYMIME FUTURERELEASE DELIVERBY MT-PRIORITY XCLIENT XFORWARD " \
                              "LIMITS ETRN REQUIRETLS STARTTLS AUTH EXPN ENHANCEDSTATUSCODES"

enum conf_extension {
    CONF_PIPELINING, CONF_SIZE, CONF_8BITMIME, CONF_DSN, CONF_SMTPUTF8, CONF_CHUNKING, CONF_BINARYMIME, CONF_FUTURERELEASE, CONF_DELIVERBY,
    CONF_MT_PRIORITY, CONF_XCLIENT, CONF_XFORWARD, CONF_LIMITS, CONF_ETRN, CONF_REQUIRETLS,
    CONF_STARTTLS, CONF_AUTH, CONF_EXPN, CONF_ENHANCEDSTATUSCODES,
};

/* How a listener treats its clients. */
struct conf_terms {
    enum conf_service service;
    bool              auth_allow_cleartext;  /* AUTH without TLS too */
    bool              hide_client;           /* Received does not say where a login's mail came from */
    bool              proxy_protocol;        /* only proxies of proxy_networks come, and say first for whom */
    uint32_t          extensions_off;        /* 1 << enum conf_extension */
};

#define CONF_SOCKET_PATH_MAX  107        /* of Linux: sockaddr_un.sun_path without its NUL */

struct conf_listener {
    struct str    address;               /* "192.0.2.1:25", "[::]:25", as written; checked; or "unix:" and the path */
    const char   *path;                  /* of a Unix socket; NULL: it is none */
    struct str    name;                  /* the block's title, for the log */
    enum conf_tls tls;                   /* starttls if there is a certificate, else none */
    struct conf_terms terms;
};

/* Who may use an address as sender, besides the login of that name. */
struct conf_owners {
    struct str         *logins;
    size_t              count;
};

/* Clients that are treated otherwise than their listener's. */
struct conf_client_network {
    struct str      name;                /* the block's title */
    struct ip_range network;
    uint32_t        extensions_off;      /* besides those of the listener */
};

struct conf_certificate {
    const char *name;                    /* the block's title, for the log */
    const char *certificate_file, *key_file;   /* PEM */
};

/* What an alias, or a rewriting, leads to. */
struct conf_target {
    struct address addr;                 /* without a domain: a local name; of a rewriting, without a local part: that domain, the same name */
    bool           final;                /* "\\name": no further alias */
    const char    *file;                 /* where it stands */
    unsigned       line;
};

struct conf_alias {
    struct str          key;             /* "user@domain"; "user": in every local domain; "@domain": whoever else is there; lower case */
    struct conf_target *targets;         /* one at least */
    size_t              target_count;
    const char         *file;
    unsigned            line;
    struct conf_alias  *next;            /* in the files' order */
};

struct conf_file {
    const char       *path;
    struct conf_file *next;
};

struct conf_retry {                      /* the delays between attempts; the last repeats, each with jitter of a tenth */
    int64_t *delays_ns;
    size_t   count;
};

struct conf {
    /* who we are and where things stand */
    const char    *hostname;             /* in the greeting, EHLO, Received, Message-ID; a valid domain */
    const char    *data_dir;
    const char    *control_socket;       /* "" none; default: data_dir/control */
    const char    *control_group;        /* "" the server's own */
    const char    *submit_socket;        /* "" none; default: data_dir/submit */
    const char    *user;                 /* of the worker, for who starts as root; "" nightmail if there is such a user */
    bool           sandbox;              /* of the worker; yes */
    enum log_level log_level;
    bool           unsafe_file_system;
    uint64_t       segment_size;
    uint64_t       disk_free_min;        /* with less on the disk of data_dir no mail is taken; 64 MiB; 0: while there is any */

    /* who may send what to whom */
    struct conf_listener *listeners;
    size_t                listener_count;
    struct conf_certificate *certificates;   /* the first is for clients that name no server, or none of ours */
    size_t                certificate_count;
    struct ip_range     *trusted_networks;
    size_t                trusted_network_count;
    struct conf_client_network *client_networks;
    size_t                client_network_count;
    struct ip_range     *proxy_networks;     /* may come to a listener with proxy_protocol */
    size_t                proxy_network_count;
    struct ip_range     *etrn_networks;      /* may ask by ETRN for the mail of relay_domains */
    size_t                etrn_network_count;
    struct ip_range     *xclient_networks;   /* may say by XCLIENT who their client is; likewise the next */
    size_t                xclient_network_count;
    struct ip_range     *xforward_networks;
    size_t                xforward_network_count;
    struct map_str        local_domains;     /* A-label form, lower case; value: non-NULL */
    struct map_str        virtual_domains;   /* those of aliases only */
    struct map_str        relay_domains;
    struct conf_delivery  local_delivery;    /* of local domains; maildir */
    struct map_str        local_delivery_by_domain;   /* local domain -> struct conf_delivery: instead */
    struct map_str        users;             /* "user@domain", and "user" for every local domain; lower case; from users_file */
    bool                  have_users_file;   /* false: a user is one whose Maildir exists */
    struct map_str        relay_recipients;  /* "user@domain" or "@domain" (any user there); from relay_recipients_file */
    const char           *mailbox;           /* path of a Maildir, with {domain} and {user}; default data_dir/mail/{domain}/{user} */
    const char           *postmaster;        /* where mail for postmaster goes: an address, or "" = the mailbox of postmaster in its domain */

    /* other names: the values of the maps are struct conf_alias */
    const char *const    *aliases_files;     /* NULL-ended */
    struct map_str        aliases;
    struct conf_alias    *alias_first;       /* of them all */
    struct conf_alias    *postmaster_alias;  /* what the option postmaster says; NULL if it is "" */
    const char           *recipient_rewrites_file;   /* "" none; likewise the next */
    const char           *sender_rewrites_file;
    struct map_str        recipient_rewrites, sender_rewrites;   /* "user@domain", "@domain"; one target each */
    const char           *recipient_delimiter;       /* the characters, each of which parts "user+detail"; "" none */
    uint32_t              alias_recipients_max;      /* of one alias; 1000 */

    /* logins */
    const char    *accounts_file;        /* "" none: nobody can log in. Only the keeper opens it */
    const char    *accounts_sqlite;      /* instead: a database; "" none. Only lookup/ opens it */
    const char    *accounts_pgsql;       /* or a connection string of libpq's; "" none */
    const char    *accounts_pgsql_password;      /* "" or "file:/path"; checked */
    const char    *accounts_pgsql_password_file; /* that path, absolute; NULL without one. Only the keeper opens it */
    const char    *accounts_query;       /* what lookup/accounts.h says */
    int64_t        accounts_query_timeout_ns;    /* 5 s */
    uint32_t       accounts_connections_max;     /* questions at a time; 4 */
    uint32_t       accounts_waiting_max;         /* beyond it 454; 100 */
    bool           has_accounts;         /* one of the three is named */
    const char    *oauth_introspection_url;      /* where tokens are checked (RFC 7662); "" none: no OAUTHBEARER, no XOAUTH2 */
    const char    *oauth_client_id;      /* of ours there; "" none */
    const char    *oauth_client_secret;  /* "" or "file:/path"; checked */
    const char    *oauth_client_secret_file;     /* that path, absolute; NULL without one. Only the keeper opens it */
    const char    *oauth_login_claim;    /* which member of the answer is the login; "username" */
    const char    *oauth_scope;          /* what a token must be good for, separated by spaces; "" anything */
    const char    *oauth_audience;       /* likewise, for whom; "" anybody */
    const char    *oauth_ca_file;        /* "" the system's */
    int64_t        oauth_timeout_ns;     /* 5 s */
    int64_t        oauth_cache_time_ns;  /* good answers hold so long; 5 min */
    uint32_t       oauth_checks_max;     /* at a time; 4 */
    uint32_t       oauth_checks_waiting_max;     /* beyond it 454; 100 */
    bool           has_oauth;            /* oauth_introspection_url is named */
    bool           scram;                /* SCRAM is offered, and `nightmail user` makes verifiers */
    uint32_t       password_checks_max;  /* at a time; 2 */
    uint32_t       password_checks_waiting_max;  /* beyond it 454; 100 */
    uint32_t       auth_failures_max;    /* of one session, then 421; 3 */
    int64_t        auth_failure_delay_ns;        /* before the reply to a failure, so many times as there were; 2 s */
    const char    *sender_logins_file;   /* "" none */
    struct map_str sender_logins;        /* "user@domain" or "@domain" -> struct conf_owners; lower case */
    uint32_t       login_messages_per_hour;      /* what is more is held; 0: no limit; 1000 */
    uint32_t       login_recipients_per_hour;    /* likewise; 5000 */

    /* limits and times of a session (RFC 5321, 4.5.3) */
    uint64_t message_size_max;           /* bytes; 50 MiB */
    uint32_t recipients_max;             /* RCPT commands per transaction; 1000 */
    uint32_t sessions_max;               /* 10000 */
    uint32_t sessions_per_client_max;    /* per IPv4 address or IPv6 /64; 1000; trusted networks are free */
    uint32_t client_connections_per_minute;      /* likewise; 300; 0: no limit, as in the next */
    uint32_t client_errors_per_hour;     /* 1000 */
    uint32_t client_unknown_users_per_hour;      /* 200 */
    uint32_t client_messages_per_hour;   /* 20000 */
    uint32_t client_login_failures_per_hour;     /* 30 */
    uint32_t login_failures_per_hour;    /* of one login, from everywhere; 100 */
    uint32_t client_network_factor;      /* so many times as much is for a whole /24 or /48; 4; 0: no limit */
    bool     enforce_sync;               /* who speaks before its turn is sent away; yes */
    int64_t  greeting_delay_ns;          /* and must be silent for so long before the greeting; 0 */
    uint32_t errors_max;                 /* refused commands before 421; 20 */
    uint32_t messages_per_session_max;   /* 10000 */
    uint32_t header_size_max;            /* bytes; 1 MiB */
    uint32_t received_max;               /* 100: a loop (RFC 5321, 6.3) */
    int64_t  command_timeout_ns;         /* 5 min */
    int64_t  data_timeout_ns;            /* silence within a message: 3 min */
    int64_t  transaction_timeout_ns;     /* from the greeting, or the last accepted message, to the next; 2 h */
    uint32_t data_rate_min;              /* bytes per second of a message, over each data_timeout; 256; 0: none */
    int64_t  future_release_max_ns;      /* how long mail may be held for its sender; 7 d; 0: not offered */
    int64_t  deliver_by_min_ns;          /* the shortest time promised for BY=...;R; 0 */
    int64_t  shutdown_grace_ns;          /* 30 s */
    int64_t  drain_time_ns;              /* for sessions of a worker that another one follows; 1 min */
    int64_t  hang_time_ns;               /* after which a worker whose loops do not turn is ended; 30 s; 0: never */
    uint32_t local_submit_max_per_hour;  /* messages per uid through the submit socket; 1000 */

    /* sending */
    const char       *relay_host;        /* "" by MX; "host", "host:port", "[ip]:port" */
    const char       *relay_host_user;   /* "" no AUTH there */
    const char       *relay_host_password;           /* "file:/path"; checked */
    const char       *relay_host_password_file;      /* that path, absolute; NULL without one. Only the keeper opens it */
    const char       *relay_host_oauth_token_url;        /* instead of a password: where access tokens are had (RFC 6749, 6); "" none */
    const char       *relay_host_oauth_client_id;        /* of ours there */
    const char       *relay_host_oauth_client_secret;    /* "" or "file:/path"; checked */
    const char       *relay_host_oauth_client_secret_file;   /* that path, absolute; NULL without one. Only the keeper opens it */
    const char       *relay_host_oauth_refresh_token;    /* "file:/path"; checked */
    const char       *relay_host_oauth_refresh_token_file;   /* that path, absolute; NULL without one. Only lookup/ opens it */
    const char       *relay_host_oauth_scope;            /* "" what the refresh token is good for */
    const char       *relay_host_oauth_ca_file;          /* "" the system's */
    int64_t           relay_host_oauth_timeout_ns;       /* 10 s */
    bool              relay_host_auth_allow_cleartext;   /* PLAIN, LOGIN and tokens without TLS too */
    uint16_t          smtp_port;         /* where other servers listen: 25 (others only for tests and closed networks) */
    const char *const *reroute_ports;    /* that an operator may send queued messages to, beside those that are used in any case; NULL ends them */
    const char       *source_address;    /* "" the kernel's choice */
    uint32_t          deliveries_max;    /* at a time, all destinations; 500 */
    uint32_t          site_connections_max;    /* at a time, one destination; 20 */
    const char       *refusals_file;     /* "" none: the operator's table of what refusals mean, before the shipped one; outbound/refusal.h */
    struct str        refusals_text;     /* what stands in it */
    uint32_t          connection_messages_max; /* 100 */
    int64_t           connection_idle_ns;      /* a kept connection waits this long; 5 s */
    int64_t           connect_timeout_ns;      /* 30 s */
    int64_t           greeting_timeout_ns;     /* 5 min */
    int64_t           reply_timeout_ns;        /* 5 min; after the final dot 10 min (RFC 5321, 4.5.3.2.6) */
    int64_t           delivery_timeout_ns;     /* for all that a server says and takes in a transaction; 2 h */
    struct conf_retry retry;             /* 1m 5m 15m 30m 1h 2h */
    struct map_str    retry_by_domain;   /* as conf/tls_level.h has its keys -> struct conf_retry: instead */
    int64_t           expire_ns;         /* 5 d */
    int64_t           bounce_expire_ns;  /* 2 d: for messages with the null sender */
    int64_t           delay_warning_ns;  /* 4 h: then senders who asked (NOTIFY=DELAY) hear of it; 0: never */

    /* TLS */
    enum conf_tls_protocol tls_min_protocol;   /* of the server; TLSv1.2 */
    const char            *tls_ciphers;        /* of TLS 1.2, in OpenSSL's words; "" ours: ECDHE with AEAD */
    int64_t                tls_handshake_timeout_ns;   /* 1 min; both sides */
    int64_t                tls_check_interval_ns;      /* how often certificate files are looked at; 1 min */
    enum conf_client_tls   outbound_tls;       /* may */
    struct map_str         outbound_tls_by_domain;     /* as conf/tls_level.h has its keys -> enum conf_client_tls: instead */
    const char            *outbound_tls_ca_file;       /* "" the system's */
    enum conf_client_tls   relay_host_tls;     /* verify with a login, else outbound_tls */
    bool                   relay_host_tls_implicit;    /* if its port is 465 (RFC 8314, 3.3) */

    /* DNS; the lists are NULL-ended */
    const char *const *dns_forwarders;
    const char *const *dns_zone_files;
    const char        *dns_trust_anchor; /* "" none */
    const char        *resolv_conf;      /* "/etc/resolv.conf" if there are no forwarders and no zone files, else "" */

    const char  *path;                   /* the file it came from */
    struct conf_file *files;             /* all that was read for it, the latest first; some may stand here twice */
    const char  *users_file;             /* "" none; likewise the next */
    const char  *relay_recipients_file;
    bool        *given;                  /* for each row of conf/option.c: the file named it */
    struct arena arena;                  /* holds all of it */
    unsigned     refs;                   /* atomic */
};

/* Reads and checks the file and all it names. BLOCKS. On error, error holds lines "file:line: what is wrong[; did you mean ...?]". */
int          conf_load(const char *path, struct conf **out, struct buf *error);
struct conf *conf_ref(struct conf *c);
void         conf_unref(struct conf *c);         /* NULL is fine */

/* A name as the maps have it: "user@domain", "@domain" of an empty local part, "user" of an empty domain; all spellings of a name are one
 * (mail/local_part.h). .p is NULL without memory. */
struct str   conf_key(struct arena *a, struct str local, struct str domain);

/* "host", "host:port", "[ip]", "[ip]:port": relay_host, and what an operator reroutes to. Memory of the arena is used up. */
bool         conf_is_next_hop(struct arena *a, struct str text);

/* Every option with its value, in the syntax of the file, a comment behind those that are the default. */
void         conf_show(const struct conf *c, struct buf *out);

/* Of a recipient's domain, by retry_by_domain or else by retry. */
const struct conf_retry *conf_retry_of(const struct conf *c, struct str domain);

/* The snapshot in force, for those who start something new: counted, give it back with conf_unref. From any thread. */
struct conf *conf_current(void);
void         conf_set_current(struct conf *c);   /* takes the caller's count */
/* Where several servers share one process (tests), fn says which snapshot is in force for the caller, counted. NULL: as above. */
void         conf_replace_current(struct conf *(*fn)(void));

#endif
