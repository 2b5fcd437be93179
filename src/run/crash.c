/*
 * The report of a crash; see crash.h.
 *
 * All of it runs in a signal handler of a process that is broken. It asks for no memory; the log takes a lock that the broken thread may
 * hold, so an alarm ends what hangs. The unwinder is loaded beforehand, and comes second: if it falls over the broken stack, the first
 * line is out.
 */
#include "run/crash.h"
#include "base/log.h"
#include "run/link.h"
#include "run/task_internal.h"
#include <execinfo.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define FRAMES_MAX   40
#define HANG_S       5
#define STACK_SIZE   ((size_t)64 << 10)      /* the unwinder, and a frame of AVX-512 registers */

#if defined SAN_ADDRESS || defined SAN_THREAD
#define SANITIZED    true
#else
#define SANITIZED    false
#endif

extern const char __ehdr_start[], etext[];   /* the linker's: where the program's code is */

static bool                 reporting;
static int                  supervisor = -1;
static _Thread_local void  *own_stack;

static void say_what(int signo)
{
    const struct task *t = loop_here != NULL ? loop_here->current : NULL;
    char thread[16] = "";

    (void)pthread_getname_np(pthread_self(), thread, sizeof thread);
    log_event(LOG_ERROR, "crashed", LOG_I64("signal", signo), LOG_Z("thread", thread), LOG_Z("task", t != NULL ? t->name : "none"),
              LOG_Z("doing", t != NULL && t->note != NULL ? t->note : "nothing"));
}

static void say_where(void)
{
    void *frames[FRAMES_MAX];
    char text[FRAMES_MAX * 20];
    struct buf out;
    int n = backtrace(frames, FRAMES_MAX);

    buf_init_fixed(&out, text, sizeof text);
    for (int i = 1; i < n; i++) {
        const char *at = frames[i];
        if (at >= __ehdr_start && at < etext)
            buf_printf(&out, "%s+0x%zx", i > 1 ? " " : "", (size_t)(at - __ehdr_start));
        else
            buf_put_z(&out, i > 1 ? " -" : "-");
    }
    log_event(LOG_ERROR, "crashed-at", LOG_STR("frames", buf_str(&out)));
}

static void on_fault(int signo, siginfo_t *info, void *context)
{
    (void)context;
    (void)alarm(HANG_S);
    if (signo == SIGSYS)
        link_say(supervisor, LINK_FORBIDDEN, (uint64_t)(unsigned)info->si_syscall);
    if (task_is_about() != 0)
        link_say(supervisor, LINK_CRASHED, task_is_about());
    say_what(signo);
    say_where();
    (void)raise(signo);                          /* as if we had not been here: the handler was for once */
}

void crash_report_begin(int link)
{
    static const int fatal[] = { SIGSYS, SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT };
    struct sigaction action = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_RESETHAND | SA_NODEFER | SA_ONSTACK };
    void *frame[1];

    (void)sigemptyset(&action.sa_mask);
    (void)backtrace(frame, 1);
    for (size_t i = 0; i < (SANITIZED ? 1 : sizeof fatal / sizeof fatal[0]); i++)
        (void)sigaction(fatal[i], &action, NULL);
    reporting = !SANITIZED;
    supervisor = link;
}

void crash_thread_begin(void)
{
    stack_t stack = { .ss_size = STACK_SIZE };

    if (!reporting)
        return;
    stack.ss_sp = mmap(NULL, STACK_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (stack.ss_sp == MAP_FAILED)
        return;                                  /* then only a stack that is used up goes without a report */
    own_stack = stack.ss_sp;
    (void)sigaltstack(&stack, NULL);
}

void crash_thread_end(void)
{
    stack_t none = { .ss_flags = SS_DISABLE };

    if (own_stack == NULL)
        return;
    (void)sigaltstack(&none, NULL);
    (void)munmap(own_stack, STACK_SIZE);
    own_stack = NULL;
}
