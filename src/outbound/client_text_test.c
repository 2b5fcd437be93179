/*
 * outbound/client_text: BDAT to a server that offers it, in the simulated world with a real queue. What is the same by DATA is in
 * client_test.
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
#define MIB    (1024 * 1024)
#define PICTURE "MIME-Version: 1.0\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: binary\r\n\r\n\x89PNG\r\n\x1a\n\0\0\n.\r\n.\r\r\n"
#define BINARY_STR { PICTURE, sizeof PICTURE - 1 }

struct play {
    struct scene_message message;
    struct fake fake;
    struct outcome outcome;
    char words[QUEUE_OUTCOME_TEXT_MAX];
    bool usable, unknown;
};

static void play_task(void *arg)
{
    struct play *p = arg;
    struct conf *conf = scene_conf("us.example", "us");
    struct queue *q = scene_queue(conf);
    struct claim *claim;
    struct outcome *list[] = { &p->outcome }, failure;
    struct net_addr to;
    struct client *client;
    p->message.sender = "s@y.example";
    p->message.rcpts = p->message.rcpts != NULL ? p->message.rcpts : "a@x.example";
    (void)scene_put(q, &p->message);
    assert_int_equal(queue_claim(q, task_deadline_in(NS_PER_S), &claim), 0);
    fake_begin(&p->fake, SERVER);
    assert_true(net_addr_parse(STR(SERVER), 25, &to));
    assert_int_equal(client_open(&(struct client_server){ .addr = &to, .host = STR("fake.example") }, conf, &claim->arena, &client, &failure), 0);
    assert_int_equal(client_send(client, &(struct client_mail){ claim, list, 1 }), CLIENT_SENT);
    snprintf(p->words, sizeof p->words, "%" STR_FMT " %" STR_FMT, STR_ARG(p->outcome.status), STR_ARG(p->outcome.text));
    p->usable = client->usable;
    p->unknown = client->bdat_unknown;
    client_close(client);
    fake_end(&p->fake);
    buf_put_char(&p->fake.transcript, '\0');
    queue_unclaim(claim);
    queue_close(q);
    conf_unref(conf);
}

static void play(struct play *p, uint64_t seed)
{
    sim_begin(&(struct sim_options){ .seed = seed, .latency_min_ns = NS_PER_MS, .latency_max_ns = 40 * NS_PER_MS, .split = seed % 2 == 0 });
    assert_int_equal(sim_run(play_task, p), 0);
    sim_end();
}

static void fill(struct buf *text, size_t size)
{
    buf_init(text, 8 * MIB);
    buf_put_str(text, STR("Subject: large\r\n\r\n"));
    while (text->n < size)
        buf_put_str(text, STR(".\r\n..\r\nlines with dots, and one that is longer\r\n"));
    buf_truncate(text, size - 2);
    buf_put_str(text, STR("\r\n"));
}

/* Nobody is told anything: it goes once more, by DATA (outbound_test). */
static void a_server_that_knows_no_bdat_after_all(void **state)
{
    (void)state;
    static const char *const replies[] = { "500 5.5.2 BDAT? never heard\r\n", "502 not here\r\n", "503 5.5.1 bad sequence\r\n" };
    for (size_t i = 0; i < sizeof replies / sizeof replies[0]; i++)
        for (unsigned k = 0; k < 2; k++) {
            struct play p = { .message.text = STR("Subject: x\r\n\r\n"), .fake.chunking = true, .fake.no_pipelining = k, .fake.words[AT_DOT] = replies[i] };
            play(&p, 30 + k);
            assert_true(p.unknown && !p.usable && !outcome_is_set(&p.outcome));
            fake_forget(&p.fake);
        }
}

/* One write for everything: no 354 to wait for. */
static void a_small_text_goes_with_the_envelope(void **state)
{
    (void)state;
    struct play p = { .message.text = STR("Subject: x\r\n\r\n.\r\n"), .fake.chunking = true };
    play(&p, 7);
    assert_string_equal(p.fake.transcript.p, "EHLO us.example\nMAIL FROM:<s@y.example> SIZE=17\nRCPT TO:<a@x.example>\nBDAT 17 LAST\nQUIT\n");
    assert_true(str_eq(buf_str(&p.fake.mails[0].wire), STR("Subject: x\r\n\r\n.\r\n")));
    assert_int_equal(p.outcome.state, RCPT_DELIVERED);
    fake_forget(&p.fake);
}

/* It is read and thrown away there; then the connection is as good as before. */
static void a_text_for_nobody_is_refused(void **state)
{
    (void)state;
    struct play p = { .message = { .text = STR("Subject: x\r\n\r\n"), .rcpts = "550.a@x.example" }, .fake.chunking = true };
    play(&p, 7);
    assert_string_equal(p.fake.transcript.p,
                        "EHLO us.example\nMAIL FROM:<s@y.example> SIZE=14\nRCPT TO:<550.a@x.example>\nBDAT 14 LAST\nRSET\nQUIT\n");
    assert_true(p.outcome.state == RCPT_BOUNCED && p.usable && p.fake.mail_count == 0);
    fake_forget(&p.fake);
}

static void large_texts_go_in_chunks(void **state)
{
    (void)state;
    static const size_t sizes[] = { 32 * 1024 - 1, 32 * 1024, 32 * 1024 + 1, MIB - 1, MIB, MIB + 1, 2 * MIB, 5 * MIB / 2 };
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        for (unsigned k = 0; k < 4; k++) {
            CLEANUP_BUF struct buf text;
            fill(&text, sizes[i]);
            struct play p = { .message.text = buf_str(&text), .fake.chunking = true, .fake.no_pipelining = k % 2 == 0 };
            play(&p, 20 + k);
            assert_true(p.outcome.state == RCPT_DELIVERED && p.usable && p.fake.mail_count == 1);
            assert_true(str_eq(buf_str(&p.fake.mails[0].wire), buf_str(&text)));
            fake_forget(&p.fake);
        }
}

/* What the server says to a chunk; nothing comes behind it but what was on its way, and RSET. */
static void a_chunk_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *reply;
        enum rcpt_state state;
        bool usable;
        const char *status;
    } refusals[] = {
        { "552 5.3.4 too big\r\n",         RCPT_BOUNCED, true,  "5.3.4" },
        { "452 4.3.1 no room\r\n",         RCPT_PENDING, true,  "4.3.1" },
        { "421 4.3.2 bye\r\n",             RCPT_PENDING, false, "4.3.2" },
        { "354 go on\r\n",                 RCPT_PENDING, true,  "4.0.0" },
        { FAKE_CUT,                        RCPT_PENDING, false, "4.4.2" },
        { FAKE_SILENT,                     RCPT_PENDING, false, "4.4.2" },
        { "okay\r\n",                      RCPT_PENDING, false, "4.4.2" },
    };
    CLEANUP_BUF struct buf text;
    fill(&text, 4 * MIB);
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++)
        for (unsigned k = 0; k < 4; k++) {
            struct play p = { .message.text = buf_str(&text), .fake.chunking = true, .fake.no_pipelining = k % 2 == 0 };
            p.fake.words[AT_BDAT] = refusals[i].reply;
            play(&p, 30 + k);
            if (p.outcome.state != refusals[i].state || p.usable != refusals[i].usable || !str_starts(str_of(p.words), str_of(refusals[i].status)))
                fail_msg("%s: %d %s, usable %d; it heard:\n%s", refusals[i].reply, p.outcome.state, p.words, p.usable, p.fake.transcript.p);
            assert_int_equal(p.fake.mail_count, 0);
            assert_null(strstr(p.fake.transcript.p, "LAST"));
            fake_forget(&p.fake);
        }
}

static void binary_goes_as_it_is(void **state)
{
    (void)state;
    for (unsigned k = 0; k < 4; k++) {
        struct play p = { .message = { .text = BINARY_STR, .eightbit = true, .binary = true }, .fake.chunking = true };
        p.fake.no_pipelining = k % 2 == 0;
        play(&p, 40 + k);
        assert_int_equal(p.outcome.state, RCPT_DELIVERED);
        assert_non_null(strstr(p.fake.mails[0].sender, " BODY=BINARYMIME"));
        assert_true(str_eq(buf_str(&p.fake.mails[0].wire), (struct str)BINARY_STR));
        fake_forget(&p.fake);
    }
}

/* BINARYMIME without CHUNKING is nothing (RFC 3030, 3); CHUNKING without BINARYMIME is a way for text only. */
static void binary_is_converted_for_others(void **state)
{
    (void)state;
    static const char *const ehlos[] = { "250-x\r\n250 8BITMIME\r\n", "250-x\r\n250-8BITMIME\r\n250 BINARYMIME\r\n", "250-x\r\n250 CHUNKING\r\n" };
    for (size_t i = 0; i < sizeof ehlos / sizeof ehlos[0]; i++) {
        struct play p = { .message = { .text = BINARY_STR, .eightbit = true, .binary = true }, .fake.words[AT_EHLO] = ehlos[i] };
        play(&p, 50);
        assert_int_equal(p.outcome.state, RCPT_DELIVERED);
        assert_null(strstr(p.fake.mails[0].sender, "BODY"));
        assert_true(str_find_str(buf_str(&p.fake.mails[0].wire), STR("Content-Transfer-Encoding: base64\r\n")) >= 0);
        fake_forget(&p.fake);
    }
}

static void binary_that_cannot_be_converted_bounces(void **state)
{
    (void)state;
    struct play p = { .message = { .text = STR("Content-Transfer-Encoding: x-strange\r\n\r\n\x80\n"), .eightbit = true, .binary = true } };
    play(&p, 60);
    assert_int_equal(p.outcome.state, RCPT_BOUNCED);
    assert_true(str_starts(str_of(p.words), STR("5.6.3 the message is binary, and the next server takes only text (no BINARYMIME)")));
    assert_int_equal(p.fake.mail_count, 0);
    fake_forget(&p.fake);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_small_text_goes_with_the_envelope), cmocka_unit_test(a_text_for_nobody_is_refused),
        cmocka_unit_test(large_texts_go_in_chunks),            cmocka_unit_test(a_chunk_is_refused),
        cmocka_unit_test(binary_goes_as_it_is),                cmocka_unit_test(binary_is_converted_for_others),
        cmocka_unit_test(binary_that_cannot_be_converted_bounces), cmocka_unit_test(a_server_that_knows_no_bdat_after_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
