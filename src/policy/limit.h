/*
 * How much a client may use up before it must wait: connections, errors, unknown users, messages, failed logins; of one address (IPv6: a
 * /64), and of the network around it (/24, /48), that a flood from many addresses of one owner ends too.
 *
 * A bucket for each, that fills evenly. Buckets stand in tables of a fixed size and are found by keyed hashes: no lock, no memory that grows,
 * nothing to forget. A client shares a bucket with a stranger only if both of its places are taken by others, and nobody can arrange that.
 * From any thread.
 */
#ifndef POLICY_LIMIT_H
#define POLICY_LIMIT_H

#include "base/str.h"
#include "conf/conf.h"

enum limit_kind {
    LIMIT_CONNECTIONS,           /* client_connections_per_minute */
    LIMIT_ERRORS,                /* client_errors_per_hour: refused commands */
    LIMIT_UNKNOWN_USERS,         /* client_unknown_users_per_hour */
    LIMIT_MESSAGES,              /* client_messages_per_hour */
    LIMIT_LOGIN_FAILURES,        /* client_login_failures_per_hour */
    LIMIT_GUESSES,               /* login_failures_per_hour: of a login, wherever they come from */
    LIMIT_LOG_LINES,             /* about connections that are refused, or come to nothing; LIMIT_LOG_LINES_PER_HOUR */
    LIMIT_KINDS,
};

#define LIMIT_LOG_LINES_PER_HOUR 60
#define LIMIT_ROWS               2
#define LIMIT_SLOTS              65536

struct limits;

/* The places of one bucket. */
struct limit_key {
    uint16_t slot[LIMIT_ROWS];
};

struct limit_client {
    struct limit_key own, network;
};

struct limits *limits_new(void);                 /* NULL without memory */
void           limits_free(struct limits *l);    /* NULL is fine */

void limit_find_client(const struct limits *l, const uint8_t *ip, size_t len, struct limit_client *out);

/* Takes one from both buckets. False, nothing taken: one of them is empty. */
bool limit_take(struct limits *l, const struct conf *c, enum limit_kind kind, const struct limit_client *who);
bool limit_is_spent(const struct limits *l, const struct conf *c, enum limit_kind kind, const struct limit_client *who);

/* How many were taken of the client's own that time has not paid for yet. */
uint32_t limit_used(const struct limits *l, const struct conf *c, enum limit_kind kind, const struct limit_client *who);

/*
 * Failed logins as somebody. A client that has logged in as that one within LIMIT_ACQUAINTED is not kept out by what others do: else
 * whoever wishes could lock him out.
 */
#define LIMIT_ACQUAINTED_DAYS 30

void     limit_login_failed(struct limits *l, const struct conf *c, struct str login);
void     limit_login_worked(struct limits *l, struct str login, const uint8_t *ip, size_t len);
bool     limit_login_blocked(const struct limits *l, const struct conf *c, struct str login, const uint8_t *ip, size_t len);
uint32_t limit_login_failures(const struct limits *l, const struct conf *c, struct str login);

#endif
