/*
 * Every operation of the disk fails in turn, with EIO and with ENOSPC, once or from then on, while servers start, accept and deliver.
 *
 *     faults [--at N]
 *
 * One message to a user of the first server and one of the second. Whatever fails: clients hear 250 or 4xx, nothing else; who heard 250 is
 * served, who did not, is not; when the disk is well again, the next message is accepted and everything is delivered, once. And then, since a
 * failed sync may be forgotten too easily: the power fails, and what was delivered is still there.
 */
#include "servers.h"

#define HEALED_AFTER_NS (600 * NS_PER_S)

static const struct variant {
    const char *name;
    int error;
    bool from_then_on;
    size_t size;
} variants[] = {
    {"EIO once",                    EIO,    false, 200  },
    { "EIO from then on",           EIO,    true,  200  },
    { "ENOSPC once",                ENOSPC, false, 200  },
    { "ENOSPC from then on",        ENOSPC, true,  200  },
    { "EIO once, large",            EIO,    false, 90000},
    { "ENOSPC from then on, large", ENOSPC, true,  90000},
};

static struct world {
    const struct variant *v;
    uint64_t at; /* UINT64_MAX: never */
    struct server a, b;
    struct letter first, second;
    char *texts[2];
    char failed[256];
} w;

static const char *const mailboxes[2] = { "a/mail/a.example/u1/new", "b/mail/b.example/u1/new" };

#define FAIL(...) snprintf(w.failed, sizeof w.failed, __VA_ARGS__)

static void judge(const char *when)
{
    for (int i = 0; i < 2; i++) {
        unsigned first = letter_copies(mailboxes[i], w.first.text, w.second.text);
        unsigned second = letter_copies(mailboxes[i], w.second.text, w.first.text);
        if (first == UINT32_MAX || second == UINT32_MAX)
            FAIL("%s: half a message", when);
        else if (first != (w.first.code == 250 ? 1 : 0))
            FAIL("%s: %u copies in %s of a message with reply %d", when, first, mailboxes[i], w.first.code);
        else if (second != 1)
            FAIL("%s: %u copies in %s of the second message", when, second, mailboxes[i]);
    }
}

static void start(struct server *s)
{
    int r = server_start(s);
    if (r >= 0)
        return;
    if (r != -w.v->error)
        FAIL("a start failed with %d", r);
    sim_disk_heal();
    if (server_start(s) < 0)
        FAIL("a server does not start when the disk is well again");
}

static void run(void *arg)
{
    (void)arg;
    scene_mkdir("a");
    scene_mkdir("b");
    if (w.at != UINT64_MAX)
        sim_disk_fail(sim_disk_ops() + w.at, w.v->error, w.v->from_then_on);
    start(&w.a);
    start(&w.b);
    if (w.failed[0] != '\0')
        return;
    letter_send(&w.first, "192.0.2.1");
    if (w.first.code != 250 && w.first.code / 100 != 4)
        FAIL("the client heard %d", w.first.code);
    (void)task_sleep(HEALED_AFTER_NS);
    sim_disk_heal();
    for (int i = 0; i < 3 && w.second.code != 250; i++) {
        letter_send(&w.second, "192.0.2.1");
        (void)task_sleep(60 * NS_PER_S);
    }
    if (w.second.code != 250)
        FAIL("the next message was answered with %d", w.second.code);
    if (!servers_drain(&w.a, &w.b, 86400 * NS_PER_S))
        FAIL("the queues are not empty");
    server_stop(&w.a);
    server_stop(&w.b);
    if (w.failed[0] == '\0')
        judge("at the end");
}

static void run_again(void *arg)
{
    (void)arg;
    if (server_start(&w.a) < 0 || server_start(&w.b) < 0 || !servers_drain(&w.a, &w.b, 86400 * NS_PER_S))
        FAIL("after the power cut a server does not start, or its queue does not empty");
    server_stop(&w.a);
    server_stop(&w.b);
    if (w.failed[0] == '\0')
        judge("after a power cut");
}

static uint64_t play(const struct variant *v, uint64_t at)
{
    memset(&w, 0, sizeof w);
    w.v = v;
    w.at = at;
    sim_begin(&(struct sim_options){ .seed = at + 1, .latency_min_ns = NS_PER_MS, .latency_max_ns = 5 * NS_PER_MS, .sync_ns = NS_PER_MS });
    servers_init(&w.a, &w.b);
    for (int i = 0; i < 2; i++) {
        struct letter *l = i == 0 ? &w.first : &w.second;
        char *text = w.texts[i] = letter_text(v->size, i);
        *l = (struct letter){
            .rcpts = {"u1@a.example", "u1@b.example"},
              .pipelined = true, .text = { text,          v->size       }
        };
    }
    if (sim_run(run, NULL) < 0)
        FAIL("the world stands still");
    uint64_t ops = sim_disk_ops();
    for (uint64_t seed = 0; seed < 2 && w.failed[0] == '\0'; seed++) {
        struct sim_disk *image = sim_disk_crash(sim_disk_ops(), seed, NULL);
        sim_disk_mount(image);
        sim_disk_free(image);
        if (sim_run(run_again, NULL) < 0)
            FAIL("the world stands still after the power cut");
    }
    if (w.failed[0] != '\0')
        printf("FAILED: %s, operation %lld, step %llu: %s\n", v->name, (long long)at, (unsigned long long)sim_step(), w.failed);
    server_free(&w.a);
    server_free(&w.b);
    conf_replace_current(NULL);
    sim_end();
    free(w.texts[0]);
    free(w.texts[1]);
    return ops;
}

int main(int argc, char **argv)
{
    uint64_t faults = 0, failed = 0;
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc > 2 && strcmp(argv[1], "--at") == 0) {
        log_level_set(LOG_DEBUG);
        for (size_t i = 0; i < sizeof variants / sizeof variants[0]; i++) {
            (void)play(&variants[i], strtoull(argv[2], NULL, 10));
            failed += w.failed[0] != '\0';
        }
        return failed > 0;
    }
    servers_be_quiet();
    for (size_t i = 0; i < sizeof variants / sizeof variants[0]; i++) {
        uint64_t ops = play(&variants[i], UINT64_MAX);
        failed += w.failed[0] != '\0';
        for (uint64_t at = 0; at <= ops && failed < 20; at++, faults++) {
            (void)play(&variants[i], at);
            failed += w.failed[0] != '\0';
        }
    }
    printf("faults: %llu faults, %llu failed\n", (unsigned long long)faults, (unsigned long long)failed);
    return failed > 0;
}
