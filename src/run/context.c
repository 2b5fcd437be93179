/*
 * The switch; see context.h. Everything that depends on the processor is in this file (and, to read parked tasks, in
 * tools/gdb/nightmail_gdb.py: change them together).
 */
#include "run/context.h"
#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#ifdef TASKS_THREADS

#include "run/thread.h"

static void *context_main(void *arg)
{
    struct context *c = arg;
    while (sem_wait(&c->baton) != 0)
        assert(errno == EINTR);
    if (c->fn != NULL)                           /* NULL: freed before it ever ran */
        (void)sem_post(&c->fn(c->arg)->baton);
    return NULL;
}

void context_adopt(struct context *c)
{
    *c = (struct context){ .fn = NULL };
    (void)sem_init(&c->baton, 0, 0);
}

int context_init(struct context *c, const char *name, const struct stack *s, context_fn *fn, void *arg)
{
    *c = (struct context){ .fn = fn, .arg = arg };
    (void)sem_init(&c->baton, 0, 0);
    int r = thread_start(&c->thread, name, s, context_main, c);
    if (r < 0)
        (void)sem_destroy(&c->baton);
    return r;
}

void context_switch(struct context *from, struct context *to)
{
    (void)sem_post(&to->baton);
    while (sem_wait(&from->baton) != 0)
        assert(errno == EINTR);
}

void context_free(struct context *c)
{
    if (c->fn != NULL) {
        c->fn = NULL;
        (void)sem_post(&c->baton);
        (void)pthread_join(c->thread, NULL);
    }
    (void)sem_destroy(&c->baton);
}

#else /* the switch of stacks */

#ifdef SAN_ADDRESS
#include <pthread.h>
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef SAN_THREAD
#include <sanitizer/tsan_interface.h>
#endif

/* Saves what the ABI says a call preserves, on the stack, puts the stack pointer into *save_sp, and takes all that from load_sp. */
void context_swap(void **save_sp, void *load_sp);
/* Where a context begins: calls the function in one saved register with the argument in another. */
void context_begin(void);

#if defined __x86_64__

/* From low to high: control words, r15, r14, r13, r12, rbx, rbp, return address. The jump instead of `ret` keeps the
 * processor's prediction of returns in step: this return is never where it thinks. `notrack`, since no endbr64 stands behind a call. */
__asm__(".text\n"
        ".p2align 4\n"
        ".globl context_swap\n"
        ".hidden context_swap\n"
        ".type context_swap, @function\n"
        "context_swap:\n"
        "    .cfi_startproc\n"
        "    pushq %rbp\n"
        "    .cfi_adjust_cfa_offset 8\n"
        "    .cfi_rel_offset %rbp, 0\n"
        "    pushq %rbx\n"
        "    .cfi_adjust_cfa_offset 8\n"
        "    .cfi_rel_offset %rbx, 0\n"
        "    pushq %r12\n"
        "    .cfi_adjust_cfa_offset 8\n"
        "    .cfi_rel_offset %r12, 0\n"
        "    pushq %r13\n"
        "    .cfi_adjust_cfa_offset 8\n"
        "    .cfi_rel_offset %r13, 0\n"
        "    pushq %r14\n"
        "    .cfi_adjust_cfa_offset 8\n"
        "    .cfi_rel_offset %r14, 0\n"
        "    pushq %r15\n"
        "    .cfi_adjust_cfa_offset 8\n"
        "    .cfi_rel_offset %r15, 0\n"
        "    subq $8, %rsp\n"
        "    .cfi_adjust_cfa_offset 8\n"
        "    stmxcsr (%rsp)\n"
        "    fnstcw 4(%rsp)\n"
        "    movq %rsp, (%rdi)\n"
        "    movq %rsi, %rsp\n"
        "    ldmxcsr (%rsp)\n"
        "    fldcw 4(%rsp)\n"
        "    addq $8, %rsp\n"
        "    .cfi_adjust_cfa_offset -8\n"
        "    popq %r15\n"
        "    .cfi_adjust_cfa_offset -8\n"
        "    .cfi_restore %r15\n"
        "    popq %r14\n"
        "    .cfi_adjust_cfa_offset -8\n"
        "    .cfi_restore %r14\n"
        "    popq %r13\n"
        "    .cfi_adjust_cfa_offset -8\n"
        "    .cfi_restore %r13\n"
        "    popq %r12\n"
        "    .cfi_adjust_cfa_offset -8\n"
        "    .cfi_restore %r12\n"
        "    popq %rbx\n"
        "    .cfi_adjust_cfa_offset -8\n"
        "    .cfi_restore %rbx\n"
        "    popq %rbp\n"
        "    .cfi_adjust_cfa_offset -8\n"
        "    .cfi_restore %rbp\n"
        "    popq %rcx\n"
        "    .cfi_adjust_cfa_offset -8\n"
        "    .cfi_register %rip, %rcx\n"
        "    notrack jmpq *%rcx\n"
        "    .cfi_endproc\n"
        ".size context_swap, . - context_swap\n"
        ".p2align 4\n"
        ".globl context_begin\n"
        ".hidden context_begin\n"
        ".type context_begin, @function\n"
        "context_begin:\n"
        "    .cfi_startproc\n"
        "    .cfi_undefined %rip\n"              /* a backtrace ends here */
        "    movq %r12, %rdi\n"
        "    callq *%rbx\n"
        "    ud2\n"
        "    .cfi_endproc\n"
        ".size context_begin, . - context_begin\n");

struct saved {
    uint32_t mxcsr;
    uint16_t x87_control, unused;
    uint64_t r15, r14, r13, r12, rbx, rbp, pc;
};

static void saved_fill(struct saved *saved, void (*fn)(void *arg), void *arg)
{
    *saved = (struct saved){ .rbx = (uintptr_t)fn, .r12 = (uintptr_t)arg, .pc = (uintptr_t)context_begin };
    __asm__ volatile("stmxcsr %0" : "=m"(saved->mxcsr));
    __asm__ volatile("fnstcw %0" : "=m"(saved->x87_control));
}

#elif defined __aarch64__

/* From low to high: x19..x28, x29 (frame), x30 (return), d8..d15, fpcr and 8 bytes that keep sp a multiple of 16. */
__asm__(".text\n"
        ".p2align 4\n"
        ".globl context_swap\n"
        ".hidden context_swap\n"
        ".type context_swap, %function\n"
        "context_swap:\n"
        "    .cfi_startproc\n"
        "    sub sp, sp, #176\n"
        "    .cfi_adjust_cfa_offset 176\n"
        "    stp x19, x20, [sp, #0]\n"
        "    .cfi_rel_offset x19, 0\n"
        "    .cfi_rel_offset x20, 8\n"
        "    stp x21, x22, [sp, #16]\n"
        "    .cfi_rel_offset x21, 16\n"
        "    .cfi_rel_offset x22, 24\n"
        "    stp x23, x24, [sp, #32]\n"
        "    .cfi_rel_offset x23, 32\n"
        "    .cfi_rel_offset x24, 40\n"
        "    stp x25, x26, [sp, #48]\n"
        "    .cfi_rel_offset x25, 48\n"
        "    .cfi_rel_offset x26, 56\n"
        "    stp x27, x28, [sp, #64]\n"
        "    .cfi_rel_offset x27, 64\n"
        "    .cfi_rel_offset x28, 72\n"
        "    stp x29, x30, [sp, #80]\n"
        "    .cfi_rel_offset x29, 80\n"
        "    .cfi_rel_offset x30, 88\n"
        "    stp d8, d9, [sp, #96]\n"
        "    stp d10, d11, [sp, #112]\n"
        "    stp d12, d13, [sp, #128]\n"
        "    stp d14, d15, [sp, #144]\n"
        "    mrs x10, fpcr\n"
        "    str x10, [sp, #160]\n"
        "    mov x9, sp\n"
        "    str x9, [x0]\n"
        "    mov sp, x1\n"
        "    ldr x9, [sp, #160]\n"
        "    cmp x9, x10\n"                      /* writing fpcr drains the pipeline, and it is nearly always the same */
        "    b.eq 1f\n"
        "    msr fpcr, x9\n"
        "1:\n"
        "    ldp x19, x20, [sp, #0]\n"
        "    ldp x21, x22, [sp, #16]\n"
        "    ldp x23, x24, [sp, #32]\n"
        "    ldp x25, x26, [sp, #48]\n"
        "    ldp x27, x28, [sp, #64]\n"
        "    ldp x29, x30, [sp, #80]\n"
        "    ldp d8, d9, [sp, #96]\n"
        "    ldp d10, d11, [sp, #112]\n"
        "    ldp d12, d13, [sp, #128]\n"
        "    ldp d14, d15, [sp, #144]\n"
        "    add sp, sp, #176\n"
        "    .cfi_adjust_cfa_offset -176\n"
        "    .cfi_restore x19\n"
        "    .cfi_restore x20\n"
        "    .cfi_restore x21\n"
        "    .cfi_restore x22\n"
        "    .cfi_restore x23\n"
        "    .cfi_restore x24\n"
        "    .cfi_restore x25\n"
        "    .cfi_restore x26\n"
        "    .cfi_restore x27\n"
        "    .cfi_restore x28\n"
        "    .cfi_restore x29\n"
        "    .cfi_restore x30\n"
        "    ret\n"
        "    .cfi_endproc\n"
        ".size context_swap, . - context_swap\n"
        ".p2align 4\n"
        ".globl context_begin\n"
        ".hidden context_begin\n"
        ".type context_begin, %function\n"
        "context_begin:\n"
        "    .cfi_startproc\n"
        "    .cfi_undefined x30\n"               /* a backtrace ends here */
        "    mov x0, x20\n"
        "    blr x19\n"
        "    brk #1\n"
        "    .cfi_endproc\n"
        ".size context_begin, . - context_begin\n");

struct saved {
    uint64_t x19, x20, x21_to_x28[8], frame, pc;
    double   d8_to_d15[8];
    uint64_t fpcr, unused;
};

static void saved_fill(struct saved *saved, void (*fn)(void *arg), void *arg)
{
    *saved = (struct saved){ .x19 = (uintptr_t)fn, .x20 = (uintptr_t)arg, .pc = (uintptr_t)context_begin };
    __asm__ volatile("mrs %0, fpcr" : "=r"(saved->fpcr));
}

#else
#error "no switch for this processor yet: build with TASKS=threads"
#endif

#ifdef SAN_ADDRESS
static void asan_learn_own_stack(struct context *c)
{
    pthread_attr_t attr;
    void          *low;
    size_t         size;
    int r = pthread_getattr_np(pthread_self(), &attr);
    assert(r == 0);
    r = pthread_attr_getstack(&attr, &low, &size);
    assert(r == 0);
    (void)r;
    (void)pthread_attr_destroy(&attr);
    c->stack_low = low;
    c->stack_size = size;
}
#endif

/* Around every switch: the sanitizer learns which stack runs next, and, arrived there, that it does. Inline always: TSan counts a
 * function's entry on one fiber and its exit on the other otherwise. */
static inline __attribute__((always_inline)) void sanitizer_leave(struct context *from, struct context *to, bool for_good)
{
    (void)from, (void)to, (void)for_good;
#ifdef SAN_ADDRESS
    __sanitizer_start_switch_fiber(for_good ? NULL : &from->asan_fake_stack, to->stack_low, to->stack_size);
#endif
#ifdef SAN_THREAD
    __tsan_switch_to_fiber(to->tsan_fiber, 0);
#endif
}

static inline __attribute__((always_inline)) void sanitizer_arrive(struct context *c)
{
    (void)c;
#ifdef SAN_ADDRESS
    __sanitizer_finish_switch_fiber(c->asan_fake_stack, NULL, NULL);
#endif
}

struct beginning {
    struct context *context;
    context_fn     *fn;
    void           *arg;
};

static void context_main(void *arg)
{
    struct beginning b = *(struct beginning *)arg;
    sanitizer_arrive(b.context);
    struct context *next = b.fn(b.arg);
    sanitizer_leave(b.context, next, true);
    context_swap(&b.context->sp, next->sp);
    abort();                                     /* switched to after its end */
}

void context_adopt(struct context *c)
{
    *c = (struct context){ .sp = NULL };
#ifdef SAN_ADDRESS
    asan_learn_own_stack(c);
#endif
#ifdef SAN_THREAD
    c->tsan_fiber = __tsan_get_current_fiber();
#endif
}

int context_init(struct context *c, const char *name, const struct stack *s, context_fn *fn, void *arg)
{
    (void)name;
    *c = (struct context){ .stack_low = s->low, .stack_size = s->size };
    uintptr_t         top = ((uintptr_t)s->low + s->size) & ~(uintptr_t)15;
    struct beginning *b = (struct beginning *)(top - 64);                /* both stay multiples of 16 */
    struct saved     *saved = (struct saved *)((uintptr_t)b - sizeof *saved);
    static_assert(sizeof *b <= 64 && sizeof *saved % 16 == 0, "both ABIs want the stack pointer in steps of 16");
    *b = (struct beginning){ .context = c, .fn = fn, .arg = arg };
    saved_fill(saved, context_main, b);
    c->sp = saved;
#ifdef SAN_THREAD
    c->tsan_fiber = __tsan_create_fiber(0);
    __tsan_set_fiber_name(c->tsan_fiber, name);
#endif
    return 0;
}

void context_switch(struct context *from, struct context *to)
{
    sanitizer_leave(from, to, false);
    context_swap(&from->sp, to->sp);
    sanitizer_arrive(from);
}

void context_free(struct context *c)
{
    (void)c;
#ifdef SAN_THREAD
    if (c->stack_low != NULL)                    /* an adopted thread's fiber is the thread's own */
        __tsan_destroy_fiber(c->tsan_fiber);
#endif
}

#endif
