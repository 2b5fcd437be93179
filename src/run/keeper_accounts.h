/*
 * The password file as text: reading it, and changing one line of it. Pure.
 *
 *     # a comment, or an empty line
 *     alice@here.example:$y$j9T$...                                    a login, and its password as crypt(5) has it
 *     bob:$6$...:SCRAM-SHA-256$15000:salt$StoredKey:ServerKey          with a verifier (RFC 5803), in base64
 *     !salt:...                                                        from which the salts of logins that are not there are made
 *
 * Names of logins are compared without regard to case (ASCII). For the keeper, and for `nightmail user`, which writes the file.
 */
#ifndef RUN_KEEPER_ACCOUNTS_H
#define RUN_KEEPER_ACCOUNTS_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/map.h"
#include "base/scram.h"
#include "run/keeper.h"

#define ACCOUNTS_FILE_MAX        (64u << 20)     /* bytes: some 400,000 logins */
#define ACCOUNTS_HASH_MAX        383             /* what crypt(3) gives at most */
#define ACCOUNTS_SALT_KEY_MAX    64
#define ACCOUNTS_ITERATIONS      15000           /* of new verifiers (RFC 7677, 4 asks for 4096 at least) */
#define ACCOUNTS_ITERATIONS_MAX  10000000

struct account {
    const char         *login;           /* as in the file */
    const char         *hash;
    bool                has_scram;
    struct keeper_scram scram;
    struct scram_keys   keys;
};

struct accounts {
    struct arena     arena;              /* holds all of it */
    struct map_str   by_login;           /* by the name in lower case */
    struct account **list;               /* in the order of the file */
    size_t           count, scram_count;
    struct str       salt_key;           /* the value of !salt; empty if there is none */
    unsigned         refs;               /* keeper_file.c's */
};

/* -EINVAL: error says which line of path is wrong, and how; -ENOMEM. */
int  accounts_parse(struct str text, const char *path, struct accounts **out, char error[256]);
void accounts_free(struct accounts *a);                      /* wipes it; NULL is fine */
const struct account *accounts_find(const struct accounts *a, struct str login);   /* NULL if there is none */

/* A verifier, "SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey". False: it is none; the outputs may be half written then. */
bool accounts_parse_verifier(struct str text, struct keeper_scram *out, struct scram_keys *out_keys);

/* A name that can be a login: printable, without colon, space or controls; not beginning with # or !. */
bool accounts_login_valid(struct str login);

/* Appends the text with the login's line replaced by `line` (without line end; an empty one removes it); at the end if it had
 * none. Whether it had one. All other lines stay as they are. */
bool accounts_change(struct buf *out, struct str text, struct str login, struct str line);

/* A login's line for this password: a new hash of the kind that crypt(5) prefers, and a verifier if wanted. BLOCKS: that takes a
 * while. -EINVAL: the password cannot be hashed (empty, too long, a NUL in it); -ENOMEM. */
int  accounts_put_login(struct buf *out, struct str login, struct str password, bool scram);
void accounts_put_salt_key(struct buf *out);                 /* a line "!salt:...", with a new key */

#endif
