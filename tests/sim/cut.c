/*
 * A connection breaks at every byte of a conversation, on both sides: from the client to the first server, and from it to the next.
 *
 *     cut [--at N]
 *
 * One message to a user of the first server and one of the second. Wherever it breaks: if the client heard 250, both users get it, whole;
 * if he did not, both or nobody; and the next client is served as if nothing had been. Under ASan, nothing leaks.
 */
#include "servers.h"

static const struct variant {
    const char *name;
    bool pipelined, split, chunks, lmtp; /* lmtp: both users have their mailboxes at the second server, which takes LMTP */
    size_t size;     /* of the message */
    uint64_t stride; /* every so many bytes */
} variants[] = {
    { "pipelined",               true,  false, false, false, 200,   1   },
    { "one by one",              false, false, false, false, 200,   1   },
    { "in pieces",               true,  true,  false, false, 200,   3   },
    { "a body of 90,000",        true,  false, false, false, 90000, 997 },
    { "BDAT, pipelined",         true,  false, true,  false, 200,   1   },
    { "BDAT, one by one",        false, false, true,  false, 200,   1   },
    { "BDAT, in pieces",         true,  true,  true,  false, 200,   3   },
    { "90,000 by BDAT",          true,  false, true,  false, 90000, 997 },
    { "LMTP",                    true,  false, true,  true,  200,   1   },
    { "LMTP, in pieces",         true,  true,  false, true,  200,   3   },
    { "90,000 by LMTP",          true,  false, true,  true,  90000, 997 },
};

static struct world {
    const struct variant *v;
    uint64_t at; /* UINT64_MAX: nowhere */
    struct server a, b;
    struct letter first, second;
    char *texts[2];
    const char *failed;
} w;

static const char *const mailboxes[2] = { "a/mail/a.example/u1/new", "b/mail/b.example/u1/new" };
static const char *const lmtp_mailboxes[2] = { "b/mail/b.example/u1/new", "b/mail/b.example/u0/new" };

static void judge(void)
{
    bool any = false, all = true;
    for (int i = 0; i < 2; i++) {
        const char *mailbox = w.v->lmtp ? lmtp_mailboxes[i] : mailboxes[i];
        unsigned first = letter_copies(mailbox, w.first.text, w.second.text);
        unsigned second = letter_copies(mailbox, w.second.text, w.first.text);
        if (first == UINT32_MAX || second == UINT32_MAX)
            w.failed = "half a message";
        any |= first > 0;
        all &= first > 0;
        if (second == 0)
            w.failed = "the second message is lost";
    }
    if (w.first.code == 250 && !all)
        w.failed = "an acknowledged message is lost";
    if (any && !all)
        w.failed = "one got it, the other not";
    if (any && !w.first.whole)
        w.failed = "it was delivered before it was whole";
}

static void run(void *arg)
{
    (void)arg;
    if (server_start(&w.a) < 0 || server_start(&w.b) < 0) {
        w.failed = "a server did not start";
        return;
    }
    sim_net_cut_after(w.at);
    letter_send(&w.first, "192.0.2.1");
    if (w.first.code != 0 && w.first.code != 250)
        w.failed = "it was refused";
    /* A cut that is still to come may hit the next client: he tries again, as clients do. */
    for (int i = 0; i < 2 && w.second.code != 250; i++)
        letter_send(&w.second, "192.0.2.1");
    if (w.second.code != 250)
        w.failed = "the next client was not served";
    if (!servers_drain(&w.a, &w.b, 86400 * NS_PER_S))
        w.failed = "the queues are not empty";
    server_stop(&w.a);
    server_stop(&w.b);
    judge();
}

static void hand_over_by_lmtp(struct server *a, struct server *b)
{
    a->conf->local_delivery = (struct conf_delivery){ .kind = CONF_DELIVERY_LMTP, .host = STR("[192.0.2.2]"), .port = 25 };
    scene_local_domain(a->conf, "b.example");
    b->conf->listeners[0].terms.service = CONF_SERVICE_LMTP;
}

/* The bytes that were carried. */
static uint64_t play(const struct variant *v, uint64_t at)
{
    memset(&w, 0, sizeof w);
    w.v = v;
    w.at = at;
    sim_begin(&(struct sim_options){
        .seed = at + 1, .latency_min_ns = NS_PER_MS, .latency_max_ns = 5 * NS_PER_MS, .split = v->split, .sync_ns = NS_PER_MS });
    servers_init(&w.a, &w.b);
    if (v->lmtp)
        hand_over_by_lmtp(&w.a, &w.b);
    w.b.conf->listeners[0].terms.extensions_off = v->chunks ? 0 : UINT32_C(1) << CONF_CHUNKING;    /* what the first says to the second is cut, too */
    for (int i = 0; i < 2; i++) {
        struct letter *l = i == 0 ? &w.first : &w.second;
        char *text = w.texts[i] = letter_text(v->size, i);
        *l = (struct letter){
            .rcpts = {v->lmtp ? "u0@b.example" : "u1@a.example", "u1@b.example"},
              .pipelined = v->pipelined, .chunks = v->chunks, .text = { text,          v->size       }
        };
    }
    if (sim_run(run, NULL) < 0)
        w.failed = "the world stands still";
    uint64_t bytes = sim_net_bytes();
    if (w.failed != NULL)
        printf("FAILED: %s, cut after byte %lld, step %llu: %s (code %d)\n", v->name, (long long)at, (unsigned long long)sim_step(),
               w.failed, w.first.code);
    server_free(&w.a);
    server_free(&w.b);
    conf_replace_current(NULL);
    sim_end();
    free(w.texts[0]);
    free(w.texts[1]);
    return bytes;
}

int main(int argc, char **argv)
{
    uint64_t cuts = 0, failed = 0;
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc > 2 && strcmp(argv[1], "--at") == 0) {
        log_level_set(LOG_DEBUG);
        for (size_t i = 0; i < sizeof variants / sizeof variants[0]; i++) {
            (void)play(&variants[i], strtoull(argv[2], NULL, 10));
            failed += w.failed != NULL;
        }
        return failed > 0;
    }
    servers_be_quiet();
    for (size_t i = 0; i < sizeof variants / sizeof variants[0]; i++) {
        uint64_t bytes = play(&variants[i], UINT64_MAX);
        failed += w.failed != NULL;
        for (uint64_t at = 0; at <= bytes && failed < 5; at += variants[i].stride, cuts++) {
            (void)play(&variants[i], at);
            failed += w.failed != NULL;
        }
    }
    printf("cut: %llu cuts, %llu failed\n", (unsigned long long)cuts, (unsigned long long)failed);
    return failed > 0;
}
