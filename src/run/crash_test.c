/*
 * The report of a crash: each case is a process of its own, which crashes in a task and says so through a pipe.
 */
#include "run/crash.h"
#include "run/loop.h"
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <setjmp.h>
#include <cmocka.h>

static volatile int sink;
static volatile int *volatile nowhere;

static void by_abort(void) { abort(); }
static void by_pointer(void) { *nowhere = 1; }

static int deeper(int n)
{
    volatile char room[512];
    room[0] = (char)n;
    return n == 0 ? 0 : deeper(n + 1) + room[0];
}

static void by_depth(void) { sink = deeper(1); }

static const struct {
    const char *what;
    void      (*crash)(void);
    int         signo;
} cases[] = {
    { "a stack that is used up",  by_depth,   SIGSEGV },      /* there is none left to report on */
    { "a pointer to nowhere",     by_pointer, SIGSEGV },
    { "a failed assertion",       by_abort,   SIGABRT },
};

static void in_a_task(void *arg)
{
    void (*crash)(void) = *(void (*const *)(void))arg;
    task_note("RCPT");
    crash();
}

static void child(void (*crash)(void), int to)
{
    static const struct rlimit no_core;
    (void)setrlimit(RLIMIT_CORE, &no_core);
    if (dup2(to, STDERR_FILENO) >= 0) {
        crash_report_begin(-1);
        (void)loop_run(1, in_a_task, &crash);
    }
    _exit(0);
}

/* What it said; its status. */
static int run(void (*crash)(void), char *out, size_t max)
{
    int ends[2], status;
    size_t n = 0;
    assert_int_equal(pipe(ends), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        child(crash, ends[1]);
    (void)close(ends[1]);
    for (ssize_t r; n < max - 1 && (r = read(ends[0], out + n, max - 1 - n)) > 0;)
        n += (size_t)r;
    out[n] = '\0';
    (void)close(ends[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void a_crash_is_told(void **state)
{
    char said[8192], signal_field[32];
    (void)state;
#if defined SAN_ADDRESS || defined SAN_THREAD || defined TASKS_THREADS
    skip();
#endif
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int status = run(cases[i].crash, said, sizeof said);
        print_message("%s: %s\n", cases[i].what, said);
        assert_true(WIFSIGNALED(status));
        assert_int_equal(WTERMSIG(status), cases[i].signo);
        (void)snprintf(signal_field, sizeof signal_field, " error crashed signal=%d ", cases[i].signo);
        assert_non_null(strstr(said, signal_field));
        assert_non_null(strstr(said, " task=main doing=RCPT\n"));
        assert_non_null(strstr(said, " error crashed-at frames="));
        assert_non_null(strstr(said, "+0x"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_crash_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
