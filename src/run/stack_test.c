/*
 * Stacks: the guard stops what runs off the end, stacks are used again, trimming gives pages back and keeps what is in use.
 */
#include "run/stack.h"
#include "run/loop.h"
#include "run/task.h"
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <setjmp.h>
#include <cmocka.h>

static unsigned pages_resident(const struct stack *s)
{
    unsigned char here[2 * 1024 * 1024 / 4096];
    unsigned      count = 0;
    size_t        page = (size_t)sysconf(_SC_PAGESIZE);
    assert_int_equal(mincore(s->low, s->size, here), 0);
    for (size_t i = 0; i < s->size / page; i++)
        count += here[i] & 1;
    return count;
}

static void the_last_given_is_the_first_taken(void **state)
{
    static struct stack_cache cache;
    struct stack a, b, c;
    (void)state;
    assert_int_equal(stack_take(&cache, &a), 0);
    assert_int_equal(stack_take(&cache, &b), 0);
    assert_true(a.size >= TASK_STACK_SIZE && a.low != b.low);
    assert_int_equal(pages_resident(&a), 0);
    stack_give(&cache, &a);
    stack_give(&cache, &b);
    assert_int_equal(stack_take(&cache, &c), 0);
    assert_ptr_equal(c.low, b.low);
    stack_give(&cache, &c);
    stack_cache_free(&cache);
    assert_int_equal(cache.count, 0);
}

static void the_cache_is_bounded(void **state)
{
    static struct stack_cache cache;
    static struct stack       many[STACK_CACHE_MAX + 10];
    (void)state;
    for (size_t i = 0; i < STACK_CACHE_MAX + 10; i++)
        assert_int_equal(stack_take(&cache, &many[i]), 0);
    for (size_t i = 0; i < STACK_CACHE_MAX + 10; i++)
        stack_give(&cache, &many[i]);
    assert_int_equal(cache.count, STACK_CACHE_MAX);
    stack_cache_free(&cache);
}

static void mappings_bound_the_count(void **state)
{
    (void)state;
    assert_true(stack_count_max() >= 1024);
}

/* A frame of some KiB each, so that a guard of one small page could be stepped over. */
static __attribute__((noinline)) unsigned recurse(unsigned depth)
{
    volatile char frame[6000];
    frame[0] = (char)depth;
    frame[sizeof frame - 1] = 1;
    if (depth == 0)
        return (unsigned)frame[0];
    return recurse(depth - 1) + (unsigned)frame[sizeof frame - 1];
}

static void runs_off_the_end(void *arg)
{
    recurse(*(unsigned *)arg);
}

static int in_a_child(unsigned depth)
{
    int   status;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct rlimit no_core = { 0, 0 };
        (void)setrlimit(RLIMIT_CORE, &no_core);
        (void)signal(SIGSEGV, SIG_DFL);          /* cmocka and the sanitizers have theirs, which would need a stack */
        (void)signal(SIGBUS, SIG_DFL);
        _exit(loop_run(1, runs_off_the_end, &depth) == 0 ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

static void deep_recursion_hits_the_guard(void **state)
{
    (void)state;
    int status = in_a_child(1000);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGSEGV);
    status = in_a_child(10);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* Of a running task: what it touched deep goes, its own frames stay. */

static struct {
    char    *low;
    unsigned before, after;
    bool     kept;
} trimmed;

static __attribute__((noinline)) void touch_deep(void)
{
    volatile char deep[64 * 1024];
    for (size_t i = 0; i < sizeof deep; i += 4096)
        deep[i] = 1;
    trimmed.low = (char *)((uintptr_t)&deep[0] & ~(uintptr_t)4095);
}

static unsigned resident_from(char *low)
{
    unsigned char here[12];
    unsigned      count = 0;
    if (mincore(low, sizeof here * 4096, here) < 0)
        return 0;
    for (size_t i = 0; i < sizeof here; i++)
        count += here[i] & 1;
    return count;
}

static void trims(void *arg)
{
    char mine[500];
    (void)arg;
    memset(mine, 7, sizeof mine);
    __asm__ volatile("" : : "r"(mine) : "memory");
    touch_deep();
    trimmed.before = resident_from(trimmed.low);
    task_trim_stack();
    trimmed.after = resident_from(trimmed.low);
    trimmed.kept = mine[0] == 7 && mine[sizeof mine - 1] == 7;
}

static void trimming_gives_back_what_is_not_in_use(void **state)
{
    (void)state;
    assert_int_equal(loop_run(1, trims, NULL), 0);
    assert_int_equal(trimmed.before, 12);
    assert_int_equal(trimmed.after, 0);
    assert_true(trimmed.kept);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_last_given_is_the_first_taken),
        cmocka_unit_test(the_cache_is_bounded),
        cmocka_unit_test(mappings_bound_the_count),
        cmocka_unit_test(deep_recursion_hits_the_guard),
        cmocka_unit_test(trimming_gives_back_what_is_not_in_use),
    };
    if (sysconf(_SC_PAGESIZE) != 4096)
        return 0;                                /* they count pages of this size */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
