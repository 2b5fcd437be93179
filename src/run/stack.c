/*
 * Stacks for tasks; see stack.h.
 */
#include "run/stack.h"
#include "run/task.h"
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifdef SAN_ADDRESS
#include <sanitizer/asan_interface.h>
#else
#define ASAN_UNPOISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#endif

#if defined(__has_include) && __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#else
#define VALGRIND_STACK_REGISTER(low, high) 0u
#define VALGRIND_STACK_DEREGISTER(id)      ((void)(id))
#define RUNNING_ON_VALGRIND                0
#endif

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102       /* Linux 6.13; Debian 12's headers are older */
#endif

/* Four small pages: a frame with a buffer of some KiB must not step over the guard, and nothing touches its pages one by one. */
#define GUARD_SIZE_MIN (16 * 1024)

/* A thread keeps its own data at the top of its stack, most of it the sanitizer's: TSan has 900 KiB. */
#ifdef TASKS_THREADS
#define STACK_SIZE (TASK_STACK_SIZE + 1024 * 1024)
#else
#define STACK_SIZE TASK_STACK_SIZE
#endif

/* Mappings left to the rest of the process: libraries, allocators, threads. */
#define MAPPINGS_RESERVED 2048

enum guard_kind { GUARD_MPROTECT, GUARD_MADVISE };

static pthread_once_t  guard_once = PTHREAD_ONCE_INIT;
static enum guard_kind guard_kind;
static size_t          guard_size;

static char *map(size_t size)
{
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

/* Can the kernel read a byte there? It reads an empty set of signals to block, so nothing happens if it can. */
static bool kernel_can_read(const void *p)
{
    return syscall(SYS_rt_sigprocmask, SIG_BLOCK, p, NULL, (size_t)8) == 0;
}

/* Tried, not believed: an emulator (qemu-user) says yes to every madvise and does nothing. */
static void guard_probe(void)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    guard_size = page > GUARD_SIZE_MIN ? page : GUARD_SIZE_MIN;
    guard_kind = GUARD_MPROTECT;
    if (RUNNING_ON_VALGRIND)                     /* it reads what the program maps, and knows of mprotect only */
        return;
    char *p = map(guard_size);
    if (p == NULL)
        return;
    if (madvise(p, guard_size, MADV_GUARD_INSTALL) == 0 && !kernel_can_read(p))
        guard_kind = GUARD_MADVISE;
    (void)munmap(p, guard_size);
}

static int guard_set(char *p)
{
    switch (guard_kind) {
    case GUARD_MADVISE:  return madvise(p, guard_size, MADV_GUARD_INSTALL) == 0 ? 0 : -ENOMEM;
    case GUARD_MPROTECT: return mprotect(p, guard_size, PROT_NONE) == 0 ? 0 : -ENOMEM;
    }
    return -ENOMEM;
}

/*
 * Slabs: shared by all loops, whose caches stand in front.
 */

#define SLAB_STACKS 64

struct stack_slab {
    char              *base;
    uint64_t           free, guarded;            /* a bit for each stack */
    struct stack_slab *next, *previous;          /* of those with a free stack */
};

static pthread_mutex_t    slabs_lock = PTHREAD_MUTEX_INITIALIZER;
static struct stack_slab *slabs_partial;
static struct stack_slab *slab_spare;            /* one wholly free one is kept: a count that swings about a multiple of 64 maps nothing */

static size_t slab_stride(void)
{
    return guard_size + STACK_SIZE;
}

static void slab_list(struct stack_slab *slab)
{
    slab->previous = NULL;
    slab->next = slabs_partial;
    if (slabs_partial != NULL)
        slabs_partial->previous = slab;
    slabs_partial = slab;
}

static void slab_unlist(struct stack_slab *slab)
{
    if (slab->previous != NULL)
        slab->previous->next = slab->next;
    else
        slabs_partial = slab->next;
    if (slab->next != NULL)
        slab->next->previous = slab->previous;
}

static struct stack_slab *slab_new(void)
{
    struct stack_slab *slab = calloc(1, sizeof *slab);
    if (slab == NULL)
        return NULL;
    slab->base = map(SLAB_STACKS * slab_stride());
    if (slab->base == NULL) {
        free(slab);
        return NULL;
    }
    /* A huge page would make every stack cost 2 MiB. Without THP in the kernel this fails, and nothing is lost. */
    (void)madvise(slab->base, SLAB_STACKS * slab_stride(), MADV_NOHUGEPAGE);
    slab->free = UINT64_MAX;
    return slab;
}

static struct stack_slab *slab_with_room(void)
{
    if (slabs_partial != NULL)
        return slabs_partial;
    struct stack_slab *slab = slab_spare != NULL ? slab_spare : slab_new();
    slab_spare = NULL;
    if (slab != NULL)
        slab_list(slab);
    return slab;
}

static void slab_free(struct stack_slab *slab)
{
    if (slab_spare == NULL) {
        slab_spare = slab;
        return;
    }
    int r = munmap(slab->base, SLAB_STACKS * slab_stride());
    assert(r == 0);
    (void)r;
    free(slab);
}

/* Under the lock. */
static int slab_take(struct stack *out)
{
    struct stack_slab *slab = slab_with_room();
    if (slab == NULL)
        return -ENOMEM;
    unsigned i = (unsigned)__builtin_ctzll(slab->free);
    uint64_t bit = UINT64_C(1) << i;
    char    *p = slab->base + i * slab_stride();
    if ((slab->guarded & bit) == 0 && guard_set(p) < 0)
        return -ENOMEM;
    slab->guarded |= bit;
    slab->free &= ~bit;
    if (slab->free == 0)
        slab_unlist(slab);
    *out = (struct stack){ .low = p + guard_size, .size = STACK_SIZE, .slab = slab };
    return 0;
}

/* Under the lock. */
static void slab_give(const struct stack *s)
{
    struct stack_slab *slab = s->slab;
    size_t             i = (size_t)(s->low - slab->base) / slab_stride();
    if (slab->free == 0)
        slab_list(slab);
    slab->free |= UINT64_C(1) << i;
    if (slab->free == UINT64_MAX) {
        slab_unlist(slab);
        slab_free(slab);
    }
}

static int stack_new(struct stack *out)
{
    (void)pthread_once(&guard_once, guard_probe);
    (void)pthread_mutex_lock(&slabs_lock);
    int r = slab_take(out);
    (void)pthread_mutex_unlock(&slabs_lock);
    if (r == 0)
        out->valgrind_id = VALGRIND_STACK_REGISTER(out->low, out->low + out->size);
    return r;
}

static void stack_free(const struct stack *s)
{
    VALGRIND_STACK_DEREGISTER(s->valgrind_id);
    (void)madvise(s->low, s->size, MADV_DONTNEED);
    (void)pthread_mutex_lock(&slabs_lock);
    slab_give(s);
    (void)pthread_mutex_unlock(&slabs_lock);
}

/*
 * The caches of loops.
 */

int stack_take(struct stack_cache *cache, struct stack *out)
{
    if (cache->count == 0)
        return stack_new(out);
    *out = cache->stacks[--cache->count];
    return 0;
}

void stack_give(struct stack_cache *cache, struct stack *s)
{
    /* The last frames of a task never return, and what lies here next is none of theirs. */
    ASAN_UNPOISON_MEMORY_REGION(s->low, s->size);
    if (cache->count < STACK_CACHE_MAX)
        cache->stacks[cache->count++] = *s;
    else
        stack_free(s);
}

void stack_cache_free(struct stack_cache *cache)
{
    while (cache->count > 0)
        stack_free(&cache->stacks[--cache->count]);
}

void stack_trim(const struct stack *s)
{
    size_t    page = (size_t)sysconf(_SC_PAGESIZE);
    uintptr_t here = (uintptr_t)__builtin_frame_address(0);
    uintptr_t low = (uintptr_t)s->low;
    assert(here > low && here <= low + s->size);
    /* Half a page for this function's and madvise's own frames and the 128 bytes that x86-64 may use below the stack pointer. */
    uintptr_t end = (here - 2048) & ~(uintptr_t)(page - 1);
    if (end > low)
        (void)madvise(s->low, end - low, MADV_DONTNEED);
}

unsigned stack_count_max(void)
{
    (void)pthread_once(&guard_once, guard_probe);
    if (guard_kind == GUARD_MADVISE)
        return UINT32_MAX;
    unsigned long mappings = 65530;              /* the kernel's default, should /proc be missing */
    FILE *f = fopen("/proc/sys/vm/max_map_count", "re");
    if (f != NULL) {
        /* analyze cert-err34-c: it is the kernel's own number */
        if (fscanf(f, "%lu", &mappings) != 1)
            mappings = 65530;
        (void)fclose(f);
    }
    if (mappings <= 2 * MAPPINGS_RESERVED)
        return 1024;
    unsigned long stacks = (mappings - MAPPINGS_RESERVED) / 2;
    return stacks < UINT32_MAX ? (unsigned)stacks : UINT32_MAX;
}
