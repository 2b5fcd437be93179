/*
 * The keeper: the only door to secrets: the password file, the credentials for relay hosts, private keys.
 *
 * No other file opens them. Questions and answers cross this door, and the secret itself only where an answer will not do (a
 * credential that must be said to a relay host). Everything crosses by value, for behind this header stands either this
 * process (keeper_start) or the keeper's own (keeper_connect; run/keeper_serve.h is its side). One keeper per process; questions may
 * come from any loop.
 *
 * Two parts that know nothing of each other: passwords and credentials (keeper_password.c, keeper_credential.c), and private keys, which
 * have a header of their own (keeper_key.h).
 */
#ifndef RUN_KEEPER_H
#define RUN_KEEPER_H

#include "base/buf.h"
#include "base/digest.h"
#include "base/str.h"
#include "run/keeper_key.h"
#include "run/task.h"

/* -- accounts ---------------------------------------------------------------------------------------------------------- */

#define KEEPER_LOGIN_MAX    254          /* bytes of a login's name: a mail address, or less */
#define KEEPER_PASSWORD_MAX 511          /* bytes of a password: what crypt(3) takes */
#define KEEPER_SALT_MAX     64           /* bytes of a SCRAM salt */

struct keeper_source;                    /* run/keeper_source.h */

struct keeper_options {
    const char *accounts_file;           /* run/keeper_accounts.h says how it reads; NULL or "": no accounts */
    struct keeper_source *source;        /* instead of the file; NULL: the file. The keeper's from then on, on an error too */
    const char *salt_dir;                /* for a source that has no key for invented salts: a folder where one is kept; NULL: none */
    unsigned    checks_at_a_time;        /* threads that hash passwords; 0: 2 */
    unsigned    checks_waiting_max;      /* beyond it the answer is KEEPER_BUSY; 0: 100 */
};

/* Reads the file. BLOCKS: before the loops run, or from the first task. A negative errno with the reason in words, file and line
 * where there is one. keeper_reload: another file, or the same one again; on an error what was known stays in force. The pool is
 * as big as at the start. */
int  keeper_start(const struct keeper_options *options, char out_error[256]);
int  keeper_reload(const struct keeper_options *options, char out_error[256]);
void keeper_stop(void);                  /* no question may be under way; nothing if it was not started */

/* Instead of keeper_start, from the first task: the keeper is the process that answers at this door (run/line.h), which stays the
 * caller's. It reads the configuration itself, at keeper_reload too, whose options then are NULL. Awaits; keeper_stop too. A negative
 * errno, with the reason in words: it does not answer. While it is away, what is asked waits for a while, and then is KEEPER_TROUBLE. */
int  keeper_connect(int door, char out_error[256]);

enum keeper_verdict {
    KEEPER_YES,
    KEEPER_NO,                           /* wrong password or no such login: nobody outside learns which */
    KEEPER_BUSY,                         /* too many are waiting: ask again later */
    KEEPER_TROUBLE,                      /* no accounts, or their source does not answer: nothing was checked */
};

/* Awaits. Whether this is the password of the login; its name as the source spells it (NUL-terminated) only with KEEPER_YES. Takes
 * as long for a login that is not there as for one that is. A change of the file is seen within a second, one of a database at once. */
enum keeper_verdict keeper_check_password(struct str login, struct str password, char out_login[KEEPER_LOGIN_MAX + 1]);

/* SCRAM-SHA-256 (RFC 5802, 5). The keys stay here: the proof is checked here too. */
struct keeper_scram {
    uint8_t  salt[KEEPER_SALT_MAX];
    size_t   salt_n;
    uint32_t iterations;
};

bool keeper_has_scram(void);             /* at least one login has a verifier */

/* Awaits. For a login without verifier, or none at all, always the same invented parameters: KEEPER_YES all the same. */
enum keeper_verdict keeper_scram_parameters(struct str login, struct keeper_scram *out);

/* Awaits. The client's proof over the AuthMessage; the server's signature and the login's name only with KEEPER_YES. */
enum keeper_verdict keeper_scram_check(struct str login, struct str auth_message, const uint8_t proof[DIGEST_SHA256_LEN],
                                       uint8_t out_signature[DIGEST_SHA256_LEN], char out_login[KEEPER_LOGIN_MAX + 1]);

/* -- credentials that we show to others ---------------------------------------------------------------------------------- */

/* The password in a file: its first line. Given out at the time of use, and each time counted. path is the operator's, from the
 * configuration. Awaits. -EINVAL: no line, or longer than KEEPER_PASSWORD_MAX; or the file's error. The caller wipes it. */
int keeper_credential(const char *path, char out_password[KEEPER_PASSWORD_MAX + 1]);

/* The same for a helper thread: BLOCKS instead. */
int keeper_credential_blocking(const char *path, char out_password[KEEPER_PASSWORD_MAX + 1]);

#endif
