/*
 * For tests and benches: a keeper in a process of its own, as the supervisor starts one; and certificates of both kinds in a folder.
 */
#ifndef RUN_KEEPER_TEST_SCENE_H
#define RUN_KEEPER_TEST_SCENE_H

#include "run/keeper_serve.h"
#include "run/leash.h"
#include "run/line.h"
#include "run/loop.h"
#include "run/tls_test_scene.h"
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define PENCIL "$5$rounds=1000$saltsalt$1E80wIeNUk6Tw.cvgykgsGLDhE7YCS/mO7gtCEoKze9"
#define VERIFIER "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="

struct test_keeper {
    char  folder[64];
    char  cert[2][128], key[2][128];     /* of EC, of RSA */
    char  accounts[128], secret[128], other[128];
    int   door, callers, leash, their_leash;
    pid_t pid;
};

static inline void test_put_file(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    test_must(f != NULL && fputs(text, f) >= 0 && fclose(f) == 0);
}

static inline void test_keeper_files(struct test_keeper *k)
{
    *k = (struct test_keeper){ .door = -1, .callers = -1 };
    snprintf(k->folder, sizeof k->folder, "/tmp/keeper-test-XXXXXX");
    test_must(mkdtemp(k->folder) != NULL);
    for (int rsa = 0; rsa < 2; rsa++) {
        struct test_identity id = test_identity_new("mx.example", "DNS:mx.example", rsa != 0, NULL);
        const char *crt = rsa ? "rsa.crt" : "ec.crt", *key = rsa ? "rsa.key" : "ec.key";
        test_identity_write(&id, k->folder, crt, key);
        test_identity_free(&id);
        snprintf(k->cert[rsa], sizeof k->cert[rsa], "%s/%s", k->folder, crt);
        snprintf(k->key[rsa], sizeof k->key[rsa], "%s/%s", k->folder, key);
    }
    snprintf(k->accounts, sizeof k->accounts, "%s/accounts", k->folder);
    snprintf(k->secret, sizeof k->secret, "%s/secret", k->folder);
    snprintf(k->other, sizeof k->other, "%s/other", k->folder);
    test_put_file(k->accounts, "alice:" PENCIL ":" VERIFIER "\n");
    test_put_file(k->secret, "open sesame\nrest\n");
    test_put_file(k->other, "root:*:\n");
    test_must(line_door_new(&k->callers, &k->door) == 0);
}

static inline bool test_may_sign(void *arg, struct str path)
{
    const struct test_keeper *k = arg;
    return str_eq(path, str_of(k->key[0])) || str_eq(path, str_of(k->key[1]));
}

static inline bool test_may_give(void *arg, struct str path)
{
    return str_eq(path, str_of(((const struct test_keeper *)arg)->secret));
}

static inline int test_reload(void *arg, char error[256])
{
    (void)arg;
    snprintf(error, 256, "not this one");
    return -EINVAL;
}

static inline void test_keeper_answer(void *arg)
{
    struct test_keeper *k = arg;
    const struct keeper_rights rights = { .may_sign_with = test_may_sign, .may_give = test_may_give, .reload = test_reload, .arg = k };
    (void)keeper_serve(k->door, &rights);
}

static inline void test_keeper_main(void *arg)
{
    struct test_keeper *k = arg;
    const struct keeper_options options = { .accounts_file = k->accounts };
    char error[256], bytes[KEEPER_PUBLIC_MAX];
    uint64_t numbers[2];
    struct task_group group;
    struct buf public;

    test_must(keeper_start(&options, error) == 0);
    for (int i = 0; i < 2; i++) {
        buf_init_fixed(&public, bytes, sizeof bytes);
        test_must(keeper_key_open(k->key[i], &numbers[i], &public, error) == 0);
    }
    task_group_init(&group);
    test_must(task_group_start(&group, "answer", test_keeper_answer, k) == 0);
    leash_say_ready(k->their_leash);
    (void)leash_await(k->their_leash, TASK_FOREVER);
    task_group_cancel(&group);
    (void)task_group_wait(&group, TASK_FOREVER);
    keeper_stop();
    keeper_key_close(numbers[0]);
    keeper_key_close(numbers[1]);
}

/* The caller has one thread. */
static inline void test_keeper_fork(struct test_keeper *k)
{
    test_must(leash_new(&k->leash, &k->their_leash) == 0);
    k->pid = fork();
    test_must(k->pid >= 0);
    if (k->pid == 0) {
        const int kept[] = { k->door, k->their_leash };
        leash_keep_only(kept, 2);
        _exit(loop_run(1, test_keeper_main, k) == 0 ? 0 : 1);
    }
    leash_close(&k->their_leash);
    test_must(leash_wait_ready(k->leash) == 0);
}

/* What it ended with. */
static inline int test_keeper_end(struct test_keeper *k, bool kill_it)
{
    int status;

    if (kill_it)
        test_must(kill(k->pid, SIGKILL) == 0);
    leash_close(&k->leash);
    test_must(waitpid(k->pid, &status, 0) == k->pid);
    return status;
}

static inline void test_keeper_free(struct test_keeper *k)
{
    const char *const paths[] = { k->cert[0], k->cert[1], k->key[0], k->key[1], k->accounts, k->secret, k->other, k->folder };

    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++)
        (void)remove(paths[i]);
    line_door_close(&k->door);
    line_door_close(&k->callers);
}

#endif
