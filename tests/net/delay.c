/*
 * A router between two network namespaces that makes every packet take its time, for kernels without netem.
 *
 *     delay RTT_MS PID_A PID_B
 *
 * It makes a tun device "delay0" in the network namespace of each of the two processes, says "ready", and from then on carries what comes
 * out of one into the other, half of RTT_MS later. Both devices need an address and to be up; who starts it sees to that (delay.py).
 * A packet that comes while so many are on their way that the ring is full is dropped, as a router would. Linux; needs root.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#define PACKET_MAX 1600
#define RING       65536u                /* packets on their way in one direction: 100 MB of memory, touched as it is used */
#define BURST      256                   /* of one direction, before the other has its turn */
#define NS_PER_S   INT64_C(1000000000)

struct packet {
    int64_t due_ns;
    size_t  n;
    char    bytes[PACKET_MAX];
};

struct direction {
    int            from, to;
    struct packet *ring;
    unsigned       first, count;
};

static void fail(const char *what)
{
    fprintf(stderr, "delay: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int64_t now_ns(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * NS_PER_S + t.tv_nsec;
}

/* In the namespace of that process, in which we are afterwards. */
static int open_tun(const char *pid)
{
    struct ifreq request = { .ifr_flags = IFF_TUN | IFF_NO_PI };
    char path[64];

    snprintf(path, sizeof path, "/proc/%s/ns/net", pid);
    int ns = open(path, O_RDONLY | O_CLOEXEC);
    if (ns < 0 || setns(ns, CLONE_NEWNET) < 0)
        fail(path);
    (void)close(ns);
    int tun = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    snprintf(request.ifr_name, sizeof request.ifr_name, "delay0");
    if (tun < 0 || ioctl(tun, TUNSETIFF, &request) < 0)
        fail("/dev/net/tun");
    return tun;
}

static void take_in(struct direction *d, int64_t delay_ns)
{
    char spare[PACKET_MAX];

    for (int i = 0; i < BURST; i++) {
        struct packet *p = &d->ring[(d->first + d->count) % RING];
        bool full = d->count == RING;
        ssize_t n = read(d->from, full ? spare : p->bytes, PACKET_MAX);
        if (n <= 0)
            return;
        if (full)
            continue;
        p->n = (size_t)n;
        p->due_ns = now_ns() + delay_ns;
        d->count++;
    }
}

static void give_out(struct direction *d)
{
    while (d->count > 0 && d->ring[d->first].due_ns <= now_ns()) {
        const struct packet *p = &d->ring[d->first];
        (void)!write(d->to, p->bytes, p->n);         /* full, or not up yet: the packet is lost, as it may be */
        d->first = (d->first + 1) % RING;
        d->count--;
    }
}

static void wait_for_more(struct direction d[2])
{
    struct pollfd fds[2] = { { .fd = d[0].from, .events = POLLIN }, { .fd = d[1].from, .events = POLLIN } };
    int64_t next = INT64_MAX;

    for (int i = 0; i < 2; i++)
        if (d[i].count > 0 && d[i].ring[d[i].first].due_ns < next)
            next = d[i].ring[d[i].first].due_ns;
    int64_t wait = next == INT64_MAX ? NS_PER_S : next - now_ns();
    struct timespec timeout = { .tv_sec = wait / NS_PER_S, .tv_nsec = wait % NS_PER_S };
    if (wait > 0)
        (void)ppoll(fds, 2, &timeout, NULL);
}

int main(int argc, char **argv)
{
    struct direction d[2] = { 0 };

    if (argc != 4 || atof(argv[1]) <= 0)
        return 64;
    int64_t delay_ns = (int64_t)(atof(argv[1]) * 1e6 / 2);
    d[0].from = d[1].to = open_tun(argv[2]);
    d[1].from = d[0].to = open_tun(argv[3]);
    for (int i = 0; i < 2; i++)
        if ((d[i].ring = calloc(RING, sizeof *d[i].ring)) == NULL)
            fail("memory");
    (void)prctl(PR_SET_TIMERSLACK, 1000UL);          /* 50 us otherwise */
    puts("ready");
    (void)fflush(stdout);
    for (;;) {
        wait_for_more(d);
        for (int i = 0; i < 2; i++) {
            take_in(&d[i], delay_ns);
            give_out(&d[i]);
        }
    }
}
