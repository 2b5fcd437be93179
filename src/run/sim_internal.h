/*
 * What the parts of the simulated world share: its time, its events, its chance and its trace. One thread.
 */
#ifndef RUN_SIM_INTERNAL_H
#define RUN_SIM_INTERNAL_H

#include "run/sim.h"

/* Memory of the world: never NULL, the process stops instead. sim_alloc gives zeros. */
void *sim_alloc(size_t n);
void *sim_alloc_raw(size_t n);
void *sim_resize(void *p, size_t n);
/* Room for one more in a growing array (pointer, count, capacity), which may move. */
#define SIM_GROW(array, count, capacity)                                        \
    do {                                                                        \
        if ((count) == (capacity)) {                                            \
            (capacity) = (capacity) ? (capacity)*2 : 8;                         \
            (array) = sim_resize((array), (capacity) * sizeof *(array));        \
        }                                                                       \
    } while (0)

/* A generator of its own for everything that must not disturb another's numbers: splitmix64. */
struct sim_chance {
    uint64_t state;
};
uint64_t sim_chance_next(struct sim_chance *c);
uint64_t sim_chance_below(struct sim_chance *c, uint64_t bound);       /* 0 .. bound-1; bound > 0 */
uint64_t sim_mix(uint64_t hash, uint64_t value);                       /* a step of a hash; order matters */

/* The trace: what happened, without addresses, so that two runs of one seed can be compared. */
enum sim_trace_kind {
    SIM_TRACE_EVENT,
    SIM_TRACE_DEADLINE,
    SIM_TRACE_OFFLOAD,
    SIM_TRACE_DISK,
    SIM_TRACE_MOUNT,
    SIM_TRACE_CONNECT,
    SIM_TRACE_BYTES,
    SIM_TRACE_CLOSE,
    SIM_TRACE_DNS,
};
void sim_trace(enum sim_trace_kind kind, uint64_t a, uint64_t b);

int64_t sim_now(void);                                                 /* monotonic virtual time */
int64_t sim_wall(void);
void    sim_at(int64_t when_ns, void (*fn)(void *arg), void *arg);     /* an event: fn(arg), outside any task, once the time has come */
/* This call takes so long. In an offload job the rest of the world goes on meanwhile; elsewhere it blocks the loop. */
void    sim_spend(int64_t ns);

void sim_disk_begin(const struct sim_options *options);
void sim_disk_end(void);
void sim_net_begin(const struct sim_options *options);
void sim_net_end(void);
void sim_dns_begin(const struct sim_options *options);
void sim_dns_end(void);

#endif
