/*
 * outbound/client_send: international messages to servers with SMTPUTF8 and without, in the simulated world with a real queue.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "outbound/client.h"
#include "outbound/test_scene.h"
#include "run/stream.h"

#define SERVER "192.0.2.1:25"
#define UE     "\xc3\xbc"
#define WITH   "250-x\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SMTPUTF8\r\n"
#define OLD    "250-x\r\n250-PIPELINING\r\n250 8BITMIME\r\n"
#define ASCII  STR("Subject: x\r\n\r\nGr" UE "n\r\n")
#define HEADER STR("Subject: " UE "\r\n\r\nx\r\n")
#define NO     "(no SMTPUTF8)"

struct play {
    const char *sender, *rcpts;
    bool smtputf8;                       /* it came so */
    struct str text;
    const char *ehlo;
    const char *outcomes;                /* of each recipient, as its status */
    const char *mail, *accepted;         /* what the server heard; NULL: nothing */
    const char *words;                   /* in the last outcome that is no delivery */
    struct fake fake;
};

static void play_task(void *arg)
{
    struct play *p = arg;
    struct conf *conf = scene_conf("us.example", "us");
    struct queue *q = scene_queue(conf);
    struct claim *claim;
    struct outcome outcomes[4] = { 0 }, *list[4], failure;
    struct net_addr to;
    struct client *client;
    char got[128] = "", words[1024] = "";
    (void)scene_put(q, &(struct scene_message){ p->sender, p->rcpts, p->text, .eightbit = true, .smtputf8 = p->smtputf8 });
    assert_int_equal(queue_claim(q, task_deadline_in(NS_PER_S), &claim), 0);
    for (uint32_t i = 0; i < claim->env.rcpt_count; i++) {
        outcomes[i].rcpt = i;
        list[i] = &outcomes[i];
    }
    p->fake.words[AT_EHLO] = p->ehlo;
    fake_begin(&p->fake, SERVER);
    assert_true(net_addr_parse(STR(SERVER), 25, &to));
    assert_int_equal(client_open(&(struct client_server){ .addr = &to, .host = STR("fake.example") }, conf, &claim->arena, &client, &failure), 0);
    assert_int_equal(client_send(client, &(struct client_mail){ claim, list, claim->env.rcpt_count }), CLIENT_SENT);
    assert_true(client->usable);
    for (uint32_t i = 0; i < claim->env.rcpt_count; i++) {
        assert_true(outcome_is_set(&outcomes[i]));
        snprintf(got + strlen(got), sizeof got - strlen(got), "%s%" STR_FMT, i > 0 ? " " : "", STR_ARG(outcomes[i].status));
        if (outcomes[i].state != RCPT_DELIVERED)
            snprintf(words, sizeof words, "%" STR_FMT, STR_ARG(outcomes[i].text));
    }
    client_close(client);
    fake_end(&p->fake);
    if (strcmp(got, p->outcomes) != 0 || p->fake.mail_count != (p->mail != NULL) || (p->words != NULL && strstr(words, p->words) == NULL))
        fail_msg("from %s to %s: %s (%s), the server took %u and heard %.*s", p->sender, p->rcpts, got, words, p->fake.mail_count,
                 (int)p->fake.transcript.n, p->fake.transcript.p);
    if (p->mail != NULL) {
        assert_string_equal(p->fake.mails[0].sender, p->mail);
        assert_string_equal(p->fake.mails[0].rcpts, p->accepted);
    }
    queue_unclaim(claim);
    queue_close(q);
    conf_unref(conf);
}

static void the_table(void **state)
{
    // clang-format off
    static const struct play plays[] = {
        /* a server that has it gets what came, addresses and all */
        { "j" UE "@a.example", "r" UE "@x.example,b@x.example", true, HEADER, WITH, "2.0.0 2.0.0", "<j" UE "@a.example> BODY=8BITMIME SMTPUTF8",
          "<r" UE "@x.example>,<b@x.example>" },
        { "a@b" UE "cher.example", "b@x" UE ".example", true, ASCII, WITH, "2.0.0", "<a@xn--bcher-kva.example> BODY=8BITMIME SMTPUTF8",
          "<b@xn--x-eha.example>" },
        /* an address of ours that a table made so, in a message that was ASCII */
        { "a@a.example", "r" UE "@x.example", false, ASCII, WITH, "2.0.0", "<a@a.example> BODY=8BITMIME SMTPUTF8", "<r" UE "@x.example>" },
        { "a@a.example", "b@x.example", false, HEADER, WITH, "2.0.0", "<a@a.example> BODY=8BITMIME", "<b@x.example>" },
        /* one that has not gets what can be ASCII */
        { "a@b" UE "cher.example", "b@x" UE ".example", true, ASCII, OLD, "2.0.0", "<a@xn--bcher-kva.example> BODY=8BITMIME", "<b@xn--x-eha.example>" },
        { "", "b@x.example", true, ASCII, OLD, "2.0.0", "<> BODY=8BITMIME", "<b@x.example>" },
        { "a@a.example", "r" UE "@x.example,b@x.example,s" UE "@x.example", true, ASCII, OLD, "5.6.7 2.0.0 5.6.7", "<a@a.example> BODY=8BITMIME",
          "<b@x.example>", "the address is not ASCII, and the next server takes only such ones " NO },
        { "a@a.example", "r" UE "@x.example", false, ASCII, OLD, "5.6.7", NULL, NULL, "the address is not ASCII" },
        { "j" UE "@a.example", "b@x.example,c@x.example", true, ASCII, OLD, "5.6.7 5.6.7", NULL, NULL,
          "the sender's address is not ASCII, and the next server takes only such ones " NO },
        { "a@a.example", "b@x.example", true, HEADER, OLD, "5.6.7", NULL, NULL,
          "the message has UTF-8 in its header, and the next server takes only ASCII there " NO },
        /* it was never said to be international: many write so, and many take it */
        { "a@a.example", "b@x.example", false, HEADER, OLD, "2.0.0", "<a@a.example> BODY=8BITMIME", "<b@x.example>" },
    };
    // clang-format on

    (void)state;
    for (size_t i = 0; i < sizeof plays / sizeof plays[0]; i++) {
        struct play p = plays[i];
        sim_begin(&(struct sim_options){ .seed = i + 1, .latency_min_ns = NS_PER_MS, .latency_max_ns = 40 * NS_PER_MS, .split = i % 2 == 0 });
        assert_int_equal(sim_run(play_task, &p), 0);
        sim_end();
        fake_forget(&p.fake);
    }
}

/* Longer than what is read of it at a time. */
static void a_long_header(void **state)
{
    (void)state;
    for (int utf8 = 0; utf8 < 2; utf8++)
        for (size_t size = 32 * 1024 - 40; size < 32 * 1024 + 40; size += 7) {
            CLEANUP_BUF struct buf text;
            buf_init(&text, 1 << 20);
            while (text.n < size)
                buf_put_str(&text, STR("X: y\r\n"));
            buf_printf(&text, "Z: %s\r\n\r\n" UE "\r\n", utf8 ? UE : "u");
            struct play p = { "a@a.example", "b@x.example", true, buf_str(&text), OLD, utf8 ? "5.6.7" : "2.0.0",
                              utf8 ? NULL : "<a@a.example> BODY=8BITMIME", "<b@x.example>" };
            sim_begin(&(struct sim_options){ .seed = size });
            assert_int_equal(sim_run(play_task, &p), 0);
            sim_end();
            fake_forget(&p.fake);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(the_table), cmocka_unit_test(a_long_header) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
