/*
 * outbound/text, and through it the client: 8-bit messages to servers that take only 7 bits, in the simulated world with a real queue.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "outbound/client.h"
#include "outbound/test_scene.h"
#include "outbound/text.h"
#include "run/stream.h"

#define SERVER "192.0.2.1:25"
#define SEVEN  "250-x\r\n250 SIZE\r\n"
#define EIGHT  "250-x\r\n250 8BITMIME\r\n"
#define SIGNED "DKIM-Signature: v=1\r\n"
#define HEADER "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
#define QP     "Content-Transfer-Encoding: quoted-printable\r\n"

struct play {
    struct str text;
    bool binary;                         /* it came as such */
    const char *ehlo;                    /* the server's answer */
    struct outcome outcome;
    char words[QUEUE_OUTCOME_TEXT_MAX];  /* of the outcome, as text */
    char log[1024];                      /* the line about the conversion */
    struct fake fake;
};

static void keep_line(void *arg, enum log_level level, struct str line)
{
    struct play *p = arg;
    (void)level;
    if (str_find_str(line, STR("converted-to-7bit")) >= 0)
        snprintf(p->log, sizeof p->log, "%" STR_FMT, STR_ARG(line));
}

static struct claim *put_and_claim(struct queue *q, struct str text, bool binary)
{
    struct claim *claim;
    (void)scene_put(q, &(struct scene_message){ "s@y.example", "a@x.example", text, true, binary });
    assert_int_equal(queue_claim(q, task_deadline_in(NS_PER_S), &claim), 0);
    return claim;
}

static void play_task(void *arg)
{
    struct play *p = arg;
    struct conf *conf = scene_conf("us.example", "us");
    struct queue *q = scene_queue(conf);
    struct claim *claim = put_and_claim(q, p->text, p->binary);
    struct outcome *list[] = { &p->outcome }, failure;
    struct net_addr to;
    struct client *client;
    p->fake.words[AT_EHLO] = p->ehlo;
    fake_begin(&p->fake, SERVER);
    assert_true(net_addr_parse(STR(SERVER), 25, &to));
    assert_int_equal(client_open(&(struct client_server){ .addr = &to, .host = STR("fake.example") }, conf, &claim->arena, &client, &failure), 0);
    assert_int_equal(client_send(client, &(struct client_mail){ claim, list, 1 }), CLIENT_SENT);
    snprintf(p->words, sizeof p->words, "%" STR_FMT " %" STR_FMT, STR_ARG(p->outcome.status), STR_ARG(p->outcome.text));
    assert_true(client->usable);
    client_close(client);
    fake_end(&p->fake);
    queue_unclaim(claim);
    queue_close(q);
    conf_unref(conf);
}

static void in_world(uint64_t seed, task_fn *fn, void *arg)
{
    sim_begin(&(struct sim_options){ .seed = seed, .latency_min_ns = NS_PER_MS, .latency_max_ns = 40 * NS_PER_MS, .split = seed % 2 == 0 });
    assert_int_equal(sim_run(fn, arg), 0);
    sim_end();
}

static void play(struct play *p, struct str text, bool binary, const char *ehlo)
{
    memset(p, 0, sizeof *p);
    p->text = text;
    p->binary = binary;
    p->ehlo = ehlo;
    log_redirect(keep_line, p);
    in_world(3, play_task, p);
    log_redirect(NULL, NULL);
    buf_put_char(&p->fake.transcript, '\0');
}

static void the_conversation(void **state)
{
    (void)state;
    static struct play p;
    play(&p, STR(SIGNED HEADER "\r\nGr\xc3\xbc\xc3\x9f" "e aus Wien und Umgebung\r\n.\r\n"), false, SEVEN);
    assert_int_equal(p.outcome.state, RCPT_DELIVERED);
    assert_string_equal(p.fake.transcript.p, "EHLO us.example\nMAIL FROM:<s@y.example> SIZE=170\nRCPT TO:<a@x.example>\nDATA\nQUIT\n");
    assert_true(str_eq(buf_str(&p.fake.mails[0].wire), STR(SIGNED HEADER QP "\r\nGr=C3=BC=C3=9Fe aus Wien und Umgebung\r\n..\r\n")));
    assert_int_equal(p.fake.mails[0].wire.n - 1, 170);         /* SIZE told the truth: without the doubled dot */
    assert_non_null(strstr(p.log, " warn converted-to-7bit id="));
    assert_non_null(strstr(p.log, "remote=\"fake.example [192.0.2.1]\" size=170 signature=broken"));
    fake_forget(&p.fake);
}

/* Binary needs more than 8BITMIME; and what is 7-bit then is not said to be 8-bit. */
static void a_binary_message(void **state)
{
    (void)state;
    static struct play p;
    play(&p, STR("MIME-Version: 1.0\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: binary\r\n\r\n\x89PNG\n\r\0"), true, EIGHT);
    assert_int_equal(p.outcome.state, RCPT_DELIVERED);
    assert_string_equal(p.fake.transcript.p, "EHLO us.example\nMAIL FROM:<s@y.example>\nRCPT TO:<a@x.example>\nDATA\nQUIT\n");
    assert_true(str_eq(buf_str(&p.fake.mails[0].wire),
                       STR("MIME-Version: 1.0\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\niVBORwoNAA==\r\n")));
    fake_forget(&p.fake);
}

#define PART             "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n"
#define NO_BINARY_HEADER "5.6.3 the message is binary, and the next server takes only text (no BINARYMIME): its header has such text, which cannot be converted"

/* Known before a word is said. */
static void what_cannot_go(void **state)
{
    // clang-format off
    static const struct { struct str text; bool binary; const char *ehlo, *words; } rows[] = {
        { STR("Subject: Gr\xc3\xbc\xc3\x9f" "e\r\n\r\nx\r\n"), false, SEVEN, "5.6.3 the message has 8-bit text and the next server takes only 7-bit (no 8BITMIME): "
                                                                      "its header has such text, which cannot be converted" },
        { STR("Content-Type: message/partial\r\n\r\n\xc3\xbc\r\n"), false, SEVEN, "5.6.3 the message has 8-bit text and the next server takes only 7-bit (no 8BITMIME): "
                                                                      "it stands in a part that must not be converted (message/partial or the like)" },
        { STR("A: b\r\n\r\n\xc3\xbc\r\n"), false, "250-x\r\n250 SIZE 100\r\n", "5.3.4 the message, converted to 7 bits because the next server takes no more, "
                                                                      "is larger than it takes" },
        { STR("Content-Type: message/partial\r\n\r\na\nb"), true, EIGHT, "5.6.3 the message is binary, and the next server takes only text (no BINARYMIME): "
                                                                      "it stands in a part that must not be converted (message/partial or the like)" },
        /* A body may hold what a header may not: sent as it is, the bare LF would be a line end to some, and the dot behind it the end. */
        { STR(PART "A: b\n.\nQUIT\r\n\r\nx\r\n--b--\r\n"), true, EIGHT, NO_BINARY_HEADER },
        { STR(PART "A: b\r.\r\r\n\r\nx\r\n--b--\r\n"), true, "250-x\r\n250-8BITMIME\r\n250 CHUNKING\r\n", NO_BINARY_HEADER },
        { STR(PART "A: \0\r\n\r\nx\r\n--b--\r\n"), true, EIGHT, NO_BINARY_HEADER },
        { STR(PART "A: \0\r\n\r\nx\r\n--b--\r\n"), true, SEVEN, NO_BINARY_HEADER },
    };
    // clang-format on

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        static struct play p;
        play(&p, rows[i].text, rows[i].binary, rows[i].ehlo);
        assert_int_equal(p.outcome.state, RCPT_BOUNCED);
        assert_string_equal(p.words, rows[i].words);
        assert_string_equal(p.fake.transcript.p, "EHLO us.example\nQUIT\n");
        assert_string_equal(p.log, "");
        fake_forget(&p.fake);
    }
}

static void what_stays(void **state)
{
    // clang-format off
    static const struct { struct str text; bool binary; const char *ehlo; } rows[] = {
        { STR(HEADER "\r\nGr\xc3\xbc\xc3\x9f" "e\r\n"), false, EIGHT },
        { STR(HEADER "\r\nsaid to be 8-bit, and is not\r\n"), false, SEVEN },
        { STR("Subject: \xc3\xbc\r\n\r\nsaid to be binary, and is not: \xc3\xbc\r\n"), true, EIGHT },
    };
    // clang-format on

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        static struct play p;
        play(&p, rows[i].text, rows[i].binary, rows[i].ehlo);
        assert_int_equal(p.outcome.state, RCPT_DELIVERED);
        assert_true(str_eq(buf_str(&p.fake.mails[0].wire), rows[i].text));
        assert_string_equal(p.log, "");
        fake_forget(&p.fake);
    }
}

/* -- a large one, in a file ---------------------------------------------------------------------------------------------------- */

static struct large {
    struct buf text, read;
    uint64_t size;
    int canceled; /* what came of reading it when we stopped */
} large;

static void put_large(struct buf *text)
{
    buf_init(text, 8 << 20);
    buf_put_z(text, "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n");
    for (size_t i = 0; text->n < 3 << 20; i++)
        buf_printf(text, "line %zu %s\r\n%s", i, i % 10 == 0 ? "\xc3\xbc" : "", i % 5000 == 4999 ? "--b\r\n\r\n" : "");
    buf_put_z(text, "--b--\r\n");
    assert_true(buf_ok(text));
}

static void large_task(void *arg)
{
    (void)arg;
    struct conf *conf = scene_conf("us.example", "us");
    struct queue *q = scene_queue(conf);
    struct claim *claim = put_and_claim(q, buf_str(&large.text), false);
    enum convert_verdict verdict = CONVERT_NOTHING;
    struct text text;
    struct str piece;
    assert_int_equal(text_open(&text, claim, TEXT_7BIT, &verdict), 0);
    assert_int_equal(verdict, CONVERT_POSSIBLE);
    large.size = text.size;
    buf_init(&large.read, 16 << 20);
    while (text_read(&text, &piece) > 0)
        buf_put_str(&large.read, piece);
    assert_int_equal(text_read(&text, &piece), 0);             /* the end is the end */
    text_close(&text);
    text_close(&text);
    queue_unclaim(claim);
    queue_close(q);
    conf_unref(conf);
}

/* Its body is gone from the disk, or we stop while it is read. */
static void unreadable_task(void *arg)
{
    (void)arg;
    struct conf *conf = scene_conf("us.example", "us");
    struct queue *q = scene_queue(conf);
    struct claim *claim = put_and_claim(q, buf_str(&large.text), false);
    struct outcome outcome = { 0 }, *list[] = { &outcome }, failure;
    struct scene_names names;
    struct fake fake = { .words = { [AT_EHLO] = SEVEN } };
    struct net_addr to;
    struct client *client;
    fake_begin(&fake, SERVER);
    assert_true(net_addr_parse(STR(SERVER), 25, &to));
    assert_int_equal(client_open(&(struct client_server){ .addr = &to, .host = STR("fake.example") }, conf, &claim->arena, &client, &failure), 0);
    assert_int_equal(scene_list("us/data/body", &names), 1);
    int dir = file_open_dir("us/data/body");
    assert_int_equal(file_unlink_at(dir, names.names[0]), 0);
    (void)file_close(dir);
    assert_int_equal(client_send(client, &(struct client_mail){ claim, list, 1 }), CLIENT_SENT);
    assert_int_equal(outcome.state, RCPT_PENDING);
    assert_true(str_eq(outcome.status, STR("4.3.0")));
    assert_true(str_starts(outcome.text, STR("we cannot read the message: ")));
    assert_true(client->usable);
    client_close(client);
    fake_end(&fake);
    fake_forget(&fake);
    queue_unclaim(claim);
    queue_close(q);
    conf_unref(conf);
}

static void an_unreadable_one(void **state)
{
    (void)state;
    put_large(&large.text);
    in_world(1, unreadable_task, NULL);
    buf_free(&large.text);
}

static void open_task(void *arg)
{
    enum convert_verdict verdict;
    struct text text;
    large.canceled = text_open(&text, arg, TEXT_7BIT, &verdict);
    text_close(&text);
}

static void stopping_task(void *arg)
{
    (void)arg;
    struct conf *conf = scene_conf("us.example", "us");
    struct queue *q = scene_queue(conf);
    struct claim *claim = put_and_claim(q, buf_str(&large.text), false);
    struct task_group group;
    task_group_init(&group);
    assert_int_equal(task_group_start(&group, "open", open_task, claim), 0);
    (void)task_yield();
    task_group_cancel(&group);
    assert_int_equal(task_group_wait(&group, task_deadline_in(NS_PER_S)), 0);
    queue_unclaim(claim);
    queue_close(q);
    conf_unref(conf);
}

static void stopping_in_the_middle(void **state)
{
    (void)state;
    put_large(&large.text);
    in_world(1, stopping_task, NULL);
    assert_int_equal(large.canceled, -ECANCELED);
    buf_free(&large.text);
}

static void a_large_one(void **state)
{
    (void)state;
    enum convert_verdict verdict;
    put_large(&large.text);
    in_world(1, large_task, NULL);

    CLEANUP_BUF struct buf expected;
    struct convert *c = convert_new();
    buf_init(&expected, 16 << 20);
    convert_scan(c, buf_str(&large.text));
    assert_int_equal(convert_scan_end(c, &verdict), 0);
    convert_write(c, buf_str(&large.text), &expected);
    convert_write_end(c, &expected);
    convert_free(c);
    assert_true(str_eq(buf_str(&large.read), buf_str(&expected)));
    assert_int_equal(large.size, expected.n);
    buf_free(&large.text);
    buf_free(&large.read);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_conversation),
        cmocka_unit_test(a_binary_message),
        cmocka_unit_test(what_cannot_go),
        cmocka_unit_test(what_stays),
        cmocka_unit_test(a_large_one),
        cmocka_unit_test(an_unreadable_one),
        cmocka_unit_test(stopping_in_the_middle),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
