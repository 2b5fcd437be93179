/*
 * Accounts in a database: a source for the keeper (run/keeper_source.h), by a query of the configuration.
 *
 * The query has one parameter, the login in lower case (ASCII), and gives no row or one. Its columns are found by their names:
 *
 *     password     the hash, as crypt(5) has it; NULL, empty, or beginning with ! or *: locked
 *     scram        optional: a verifier, "SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey", or NULL
 *     enabled      optional: the account is locked unless this is true (t, true, yes, on, 1)
 *     login        optional: the name to go by; else it is the one that was asked for
 *
 * What a peer said reaches the database as a bound parameter and in no other way. Questions run on a pool of threads with a queue and a
 * deadline, each on a connection of its own, which is opened again when it breaks; while the database cannot be reached, tries
 * come at growing intervals and questions are answered KEEPER_FIND_FAILED, never "not found".
 */
#ifndef LOOKUP_ACCOUNTS_H
#define LOOKUP_ACCOUNTS_H

#include "conf/conf.h"
#include "run/keeper_source.h"

#define LOOKUP_COLUMNS_MAX 4             /* of an answer: each of those above at most once */

/* Of conf's accounts_sqlite or accounts_pgsql. Asks nothing yet. -EINVAL: conf names neither; -ENOMEM. */
int lookup_accounts_new(const struct conf *conf, struct keeper_source **out, char error[256]);

/* Opens the database and has the query prepared, before anybody asks: BLOCKS, for accounts_query_timeout at most (and as long as
 * the system takes to look up the name of a host). -EINVAL: the configuration is wrong; any other: it cannot be reached now. */
int lookup_accounts_check(struct keeper_source *s, char error[256]);

#endif
