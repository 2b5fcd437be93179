/*
 * The attackers of the bench of attacks: clients that are slow, clients that come in floods, and clients that break off, all at once, each
 * from addresses of its own in 127.0.0.0/8.
 *
 *     attack IP PORT SECONDS SLOW FLOOD ABORTERS
 *
 * SLOW clients stay connected and say a byte now and then, each at another point of a conversation (who is sent away comes again); FLOOD
 * connections are begun in each second, half of them from ten addresses, half from sixteen thousand; ABORTERS clients hold conversations that
 * they break off at a random byte, and begin another. Says "under way" when all the slow are connected, and at the end what came of it. One
 * thread, to be pinned to one processor. Stands alone: it uses nothing of the tree.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define FLOOD_AT_ONCE   4000             /* connections of the floods that are open */
#define FLOOD_LIFE_MS   1000             /* of one that is not ended by the server */
#define SLOW_BYTE_MS    2000
#define AGAIN_MS        1000             /* after the server has ended it */
#define WHEEL           4096             /* milliseconds; no wait is longer */
#define SLOW_BEGIN      5                /* of the slow, connected in each millisecond */
#define BEGIN_MAX_MS    60000

enum kind { SLOW, FLOOD, ABORTER, KINDS };

struct client {
    struct client *next;                 /* of those that are due together, or free */
    uint32_t       number;
    enum kind      kind;
    int            fd;                   /* -1: not connected */
    bool           due;                  /* on the wheel */
    unsigned       step, at;             /* of the script, and how far in that line */
    unsigned       left;                 /* bytes until it breaks off */
};

static struct {
    struct sockaddr_in to;
    int                poll;
    struct client     *all, *free_floods, *wheel[WHEEL];
    int64_t            now_ms;
    uint64_t           seed;
    unsigned           slow, flood, aborters, connected;
    unsigned long      opened[KINDS], sent_away[KINDS], broken_off, not_begun;
} g = { .seed = 88172645463325252u };

/* In the last the text begins. Those of the slow that say nothing at all have no script. */
static const char *const script[] = {
    NULL, "EHLO attacker.example\r\n", "MAIL FROM:<a@attacker.example>\r\n", "RCPT TO:<bob@here.example>\r\n", "DATA\r\n",
    "From: a@attacker.example\r\nSubject: this never comes to its end, and so it is never taken, however long it goes on and on\r\n\r\nx\r\n",
};
#define STEPS (sizeof script / sizeof script[0])

static uint32_t random_below(uint32_t n)
{
    g.seed ^= g.seed << 13;
    g.seed ^= g.seed >> 7;
    g.seed ^= g.seed << 17;
    return (uint32_t)((g.seed >> 16) % n);
}

static int64_t clock_ms(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void set_due(struct client *c, unsigned ms)
{
    struct client **slot = &g.wheel[(g.now_ms + (ms == 0 ? 1 : ms)) % WHEEL];
    if (c->due)
        return;
    c->due = true;
    c->next = *slot;
    *slot = c;
}

/* ---- connections ---- */

static uint32_t address_of(const struct client *c)
{
    uint32_t n = c->number;
    switch (c->kind) {
    case SLOW: return 0x7f400000u + ((n / 250) << 8) + n % 250 + 1;
    case FLOOD: return random_below(2) == 0 ? 0x7f020001u + random_below(10) : 0x7f800001u + (random_below(16384) << 2);
    case ABORTER: return 0x7f050001u + ((n / 250) << 16) + ((n % 250) << 8);
    case KINDS: break;
    }
    abort();
}

static void finish(struct client *c, bool by_reset)
{
    struct linger reset = { .l_onoff = 1 };
    if (by_reset)
        (void)setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    (void)close(c->fd);
    c->fd = -1;
    g.connected -= c->kind == SLOW;
    if (c->kind != FLOOD)
        set_due(c, 1 + random_below(AGAIN_MS));
}

static void begin(struct client *c)
{
    struct sockaddr_in from = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(address_of(c)) };
    int                fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;
    struct epoll_event ev = { .events = EPOLLIN | EPOLLRDHUP, .data.ptr = c };

    if (fd < 0) {
        set_due(c, AGAIN_MS);
        g.not_begun++;
        return;
    }
    (void)setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&from, sizeof from) < 0 ||
        (connect(fd, (struct sockaddr *)&g.to, sizeof g.to) < 0 && errno != EINPROGRESS) || epoll_ctl(g.poll, EPOLL_CTL_ADD, fd, &ev) < 0) {
        (void)close(fd);
        set_due(c, AGAIN_MS);
        g.not_begun++;
        return;
    }
    c->fd = fd;
    c->step = 0;
    c->at = 0;
    c->left = random_below(300);
    g.opened[c->kind]++;
    g.connected += c->kind == SLOW;
}

/* ---- what they say ---- */

static bool say(struct client *c, const char *text, size_t n)
{
    return send(c->fd, text, n, MSG_NOSIGNAL) == (ssize_t)n || errno == EAGAIN || errno == EINPROGRESS || errno == ENOTCONN;
}

/* A byte, if it is their turn to speak: a fourth say nothing at all, a fourth a long command, the others go on to the text. */
static void go_on_slowly(struct client *c)
{
    unsigned style = c->number % 4;
    bool     well = true;

    if (style == 1 && c->step > 0)
        well = say(c, "x", 1);
    else if (style >= 2 && c->step > 0 && script[c->step][c->at] != '\0')
        well = say(c, &script[c->step][c->at++], 1);
    else if (style >= 2 && c->step == STEPS - 1)
        c->at = 0;                       /* the text again */
    if (!well)
        finish(c, true);
    else
        set_due(c, SLOW_BYTE_MS);
}

/* The next line, or as much of it as there is left. */
static void go_on_and_break_off(struct client *c)
{
    const char *line = script[c->step];
    unsigned    n = line == NULL ? 0 : (unsigned)strlen(line);
    bool        last = n >= c->left || c->step == STEPS - 1;

    if (n > 0)
        (void)say(c, line, n < c->left ? n : c->left);
    if (last) {
        g.broken_off++;
        finish(c, random_below(2) == 0);
        return;
    }
    c->left -= n;
}

static void flood_once(struct client *c)
{
    switch (c->number % 4) {
    case 0: finish(c, true); break;
    case 1: (void)say(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n", 27); break;
    case 2: (void)say(c, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11); break;
    default: break;
    }
}

static void give_back_flood(struct client *c)
{
    c->next = g.free_floods;
    g.free_floods = c;
}

static void on_due(struct client *c)
{
    c->due = false;
    if (c->kind == FLOOD) {              /* it has had its time */
        if (c->fd >= 0)
            finish(c, true);
        give_back_flood(c);
    } else if (c->fd < 0) {
        begin(c);
        if (c->kind == SLOW)
            set_due(c, 1 + random_below(SLOW_BYTE_MS));
    } else if (c->kind == SLOW) {
        go_on_slowly(c);
    } else {
        go_on_and_break_off(c);
    }
}

static bool is_reply_whole(const char *text, ssize_t n) { return n > 0 && text[n - 1] == '\n'; }

static void on_readable(struct client *c)
{
    char text[4096];

    ssize_t n = recv(c->fd, text, sizeof text, 0);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0) {
        g.sent_away[c->kind]++;
        finish(c, false);
        return;
    }
    if (c->kind == FLOOD || !is_reply_whole(text, n))
        return;
    if (c->step < STEPS - 1 && (c->step == 0 || script[c->step][c->at] == '\0' || c->kind == ABORTER)) {
        c->step++;
        c->at = 0;
    }
    if (c->kind == ABORTER)
        set_due(c, random_below(200));
}

/* ---- the whole ---- */

static void begin_floods(int64_t begun_ms)
{
    static uint64_t count;
    uint64_t        wanted = (uint64_t)(g.now_ms - begun_ms) * g.flood / 1000;

    for (; count < wanted; count++) {
        struct client *c = g.free_floods;
        if (c == NULL) {
            g.not_begun++;
            continue;
        }
        g.free_floods = c->next;
        begin(c);
        if (c->fd >= 0)
            flood_once(c);
        set_due(c, FLOOD_LIFE_MS);
    }
}

static void wait_for_news(void)
{
    struct epoll_event events[256];
    int                n = epoll_wait(g.poll, events, 256, 1);

    for (int i = 0; i < n; i++) {
        struct client *c = events[i].data.ptr;
        if (c->fd >= 0)
            on_readable(c);
    }
}

static void take_turn(void)
{
    int64_t now = clock_ms();

    while (g.now_ms < now) {
        g.now_ms++;
        struct client *due = g.wheel[g.now_ms % WHEEL];
        g.wheel[g.now_ms % WHEEL] = NULL;
        while (due != NULL) {
            struct client *next = due->next;
            on_due(due);
            due = next;
        }
    }
    wait_for_news();
}

static void make_clients(void)
{
    unsigned count = g.slow + g.aborters + FLOOD_AT_ONCE;

    g.all = calloc(count, sizeof *g.all);
    if (g.all == NULL)
        exit(1);
    for (unsigned i = 0; i < count; i++) {
        struct client *c = &g.all[i];
        c->kind = i < g.slow ? SLOW : i < g.slow + g.aborters ? ABORTER : FLOOD;
        c->number = i;
        c->fd = -1;
        if (c->kind == FLOOD)
            give_back_flood(c);
        else
            set_due(c, c->kind == SLOW ? 1 + i / SLOW_BEGIN % (WHEEL - 1) : 1 + random_below(AGAIN_MS));
    }
}

static void run(unsigned seconds)
{
    int64_t first = g.now_ms;
    while (g.connected < g.slow && g.now_ms - first < BEGIN_MAX_MS)
        take_turn();
    int64_t begun = g.now_ms;
    printf("under way: %u of %u slow clients connected\n", g.connected, g.slow);
    fflush(stdout);
    while (g.now_ms - begun < (int64_t)seconds * 1000) {
        begin_floods(begun);
        take_turn();
    }
}

int main(int argc, char **argv)
{
    if (argc != 7) {
        fprintf(stderr, "attack IP PORT SECONDS SLOW FLOOD ABORTERS\n");
        return 2;
    }
    g.to = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[2])), .sin_addr.s_addr = inet_addr(argv[1]) };
    g.slow = (unsigned)atoi(argv[4]);
    g.flood = (unsigned)atoi(argv[5]);
    g.aborters = (unsigned)atoi(argv[6]);
    g.poll = epoll_create1(EPOLL_CLOEXEC);
    g.now_ms = clock_ms();
    make_clients();
    run((unsigned)atoi(argv[3]));
    printf("slow %lu (%lu sent away, %u at the end), floods %lu (%lu sent away), broken off %lu (%lu sent away), not begun %lu\n", g.opened[SLOW],
           g.sent_away[SLOW], g.connected, g.opened[FLOOD], g.sent_away[FLOOD], g.broken_off, g.sent_away[ABORTER], g.not_begun);
    return 0;
}
