/*
 * The simulated world: clock, network, disk, DNS and helper threads from one seed, behind the same headers as the real one.
 *
 * Whole servers and clients run as tasks on one loop in one process, in virtual time; nothing outside this process is
 * touched. The same seed and the same program give the same trace hash, under sanitizers too.
 *
 *     sim_begin(&(struct sim_options){ .seed = 7 });
 *     sim_run(first, arg);              // like loop_run(1, ...), but virtual; returns when all tasks ended
 *     hash = sim_trace_hash();
 *     sim_end();
 */
#ifndef RUN_SIM_H
#define RUN_SIM_H

#include "base/str.h"
#include "run/dns.h"
#include "run/net.h"
#include "run/task.h"

struct sim_options {
    uint64_t seed;
    int64_t  start_wall_ns;          /* 0: 2026-01-01T00:00:00Z */
    /* network: each message takes latency_min .. latency_max; writes are split at random when split is set */
    int64_t  latency_min_ns, latency_max_ns;
    bool     split;
    /* disk: how long a sync takes in virtual time */
    int64_t  sync_ns;
    uint64_t disk_bytes;             /* capacity; 0: 1 GiB. Beyond it: -ENOSPC */
    bool     disk_forgets;           /* keeps no log of what was written: less memory in long runs, no sim_disk_op, no crash images */
};

void     sim_begin(const struct sim_options *options);
int      sim_run(task_fn *first, void *arg);     /* -EDEADLK if every task waits forever */
void     sim_end(void);                          /* all memory of the world back; the real world again */
bool     sim_active(void);
uint64_t sim_step(void);                         /* events so far */
uint64_t sim_trace_hash(void);
uint64_t sim_random(void);                       /* the world's seeded generator, for workloads */
uint64_t sim_random_below(uint64_t bound);

/* Network faults. */
typedef bool sim_refuse_fn(void *arg, const struct net_addr *from, const struct net_addr *to);
void     sim_net_refuse(sim_refuse_fn *fn, void *arg);                          /* connections for which it says true: -ECONNREFUSED */
void     sim_net_cut_after(uint64_t bytes);                                     /* so many more bytes arrive, then their connection (0: the next) is reset, once; max: never */
uint64_t sim_net_bytes(void);                                                   /* carried so far */
void     sim_net_uid(unsigned uid);                                             /* what peers of Unix sockets have from now on; 1000 at first */

/* DNS: the simulated resolver's records, in master-file form without $-directives ("a.example. 300 IN MX 10 mx.a.example."). */
int      sim_dns_zone(const char *text);                                        /* -EINVAL for a line it cannot read */
void     sim_dns_fail(const char *name, enum dns_status status);               /* this name answers so from now on */
void     sim_dns_heal(void);                                                    /* no name fails any more */
void     sim_dns_secure(const char *name);                                      /* answers for it and below are DNSSEC-validated from now on; "": all */
void     sim_dns_latency(int64_t min_ns, int64_t max_ns);                       /* of a query; the network's at first */
/* Asked with each answer, which it may change (records in the arena; DNS_FOUND has at least one); gives how much longer that takes. */
typedef int64_t sim_dns_lie_fn(void *arg, struct arena *arena, struct str name, enum dns_type type, struct dns_answer *answer);
void     sim_dns_lie(sim_dns_lie_fn *fn, void *arg);                            /* NULL: the truth again, as at first */

/*
 * The disk. It logs every write, sync, allocation, rename, link, unlink, truncation as one numbered operation. A crash image is
 * made from the log: operations before `at` happened; of those not yet made durable by a sync, the surviving set chosen by
 * `seed` is kept (dropped, reordered across sectors, torn at 512 bytes).
 */
struct sim_disk;                                                                /* an image, or the live disk */
uint64_t sim_disk_ops(void);                                                    /* of the live disk, so far */
enum sim_op { SIM_OP_WRITE, SIM_OP_DATASYNC, SIM_OP_SYNC, SIM_OP_ALLOCATE, SIM_OP_TRUNCATE, SIM_OP_RENAME, SIM_OP_LINK, SIM_OP_UNLINK, SIM_OP_CREATE, SIM_OP_MKDIR };
enum sim_op sim_disk_op(uint64_t index);
struct sim_disk *sim_disk_crash(uint64_t at, uint64_t seed, uint64_t *out_survivors);   /* survivors: a hash of what was kept; equal hash = the same image */
/* A history outlives a mount, so that recovery after recovery can run on images of one workload. Ask for ascending `at`: going
 * back starts over. What survives how: run/sim_pending.h. */
struct sim_history;
struct sim_history *sim_disk_history(void);                                     /* of the live disk; grows until the next mount; counted */
void             sim_history_free(struct sim_history *h);
uint64_t         sim_history_ops(const struct sim_history *h);
enum sim_op      sim_history_op(const struct sim_history *h, uint64_t index);
struct sim_disk *sim_history_crash(struct sim_history *h, uint64_t at, uint64_t seed, uint64_t *out_survivors);
struct sim_disk *sim_disk_copy(void);                                           /* the live disk as it is */
void     sim_disk_free(struct sim_disk *d);
void     sim_disk_mount(const struct sim_disk *d);                              /* becomes the live disk (copied); all handles are closed, the log starts empty */

/* Fail the operation with this index (of the live disk, absolute) once, or every one from it on, with error (EIO, ENOSPC, ...). */
void     sim_disk_fail(uint64_t index, int error, bool from_then_on);
void     sim_disk_fail_kind(enum sim_op op, int error);                        /* every operation of this kind, until healed */
void     sim_disk_heal(void);
void     sim_disk_flip(uint64_t seed);                                          /* one bit of one file, for tests of checksums */
/* A failed sync drops the dirty pages of its file, as Linux does: they read back as written, and a crash loses them. Always on. */

#endif
