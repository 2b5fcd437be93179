/*
 * outbound/client: one transaction with a server that says what the table says, in the simulated world, with a real queue. Each case
 * runs with a server that pipelines and with one that does not, and on networks that split what is sent.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "outbound/client.h"
#include "outbound/test_scene.h"
#include "run/stream.h"

#define US        "us.example"
#define SERVER    "192.0.2.1:25"
#define ONE       "a@x.example"
#define TWO       "a@x.example,b@x.example"
#define MESSAGE   "Subject: hello\r\n\r\nOne line.\r\n"
#define LINES_101 L10 L10 L10 L10 L10 L10 L10 L10 L10 L10 "250-end\r\n"
#define L10       "250-x\r\n250-x\r\n250-x\r\n250-x\r\n250-x\r\n250-x\r\n250-x\r\n250-x\r\n250-x\r\n250-x\r\n"

/* What became of a recipient is written "D 2.0.0" (delivered), "P 4.2.0" (pending), "B 5.1.1" (failed for good), "-" (nothing). */
struct client_case {
    const char *name;
    const char *words[FAKE_STAGES];
    const char *rcpts;
    const char *expected; /* of each recipient; or "open -ELOOP", "open P 4.4.2" for a failure of client_open */
    unsigned mails;       /* that the server took */
    bool unusable;        /* the connection is good for nothing more */
    bool eightbit;
    uint64_t cut_in_text;
};

// clang-format off
static const struct client_case cases[] = {
    { "all is well",             { 0 },                                               TWO, "D 2.0.0, D 2.0.0", 1 },
    { "a greeting of lines",     { [AT_CONNECT] = "220-a\r\n220-b\r\n220 c\r\n" },    ONE, "D 2.0.0", 1 },
    { "bare LF from a server",   { [AT_CONNECT] = "220 a\n", [AT_MAIL] = "250 ok\n" },ONE, "D 2.0.0", 1 },
    { "replies of a code only",  { [AT_MAIL] = "250\r\n", [AT_RCPT] = "250\r\n" },    ONE, "D 2.0.0", 1 },
    { "no enhanced code",        { [AT_DOT] = "250 ok\r\n" },                         ONE, "D 2.0.0", 1 },
    { "several lines at the end", { [AT_DOT] = "250-2.6.0 one\r\n250-2.6.0 two\r\n250 2.6.0 three\r\n" }, ONE, "D 2.6.0", 1 },
    { "251 will forward",        { [AT_RCPT] = "251 2.1.5 moved\r\n" },               ONE, "D 2.0.0", 1 },

    /* opening */
    { "EHLO unknown: HELO",      { [AT_EHLO] = "500 5.5.1 what?\r\n" },               TWO, "D 2.0.0, D 2.0.0", 1 },
    { "EHLO not implemented",    { [AT_EHLO] = "502 no\r\n" },                        ONE, "D 2.0.0", 1 },
    { "EHLO and HELO refused",   { [AT_EHLO] = "550 no\r\n", [AT_HELO] = "550 no\r\n" }, ONE, "open P 4.3.2" },
    { "EHLO not now",            { [AT_EHLO] = "451 4.7.1 later\r\n" },               ONE, "open P 4.7.1" },
    { "EHLO 421",                { [AT_EHLO] = "421 4.3.2 bye\r\n" },                 ONE, "open P 4.3.2" },
    { "HELO 421",                { [AT_EHLO] = "500 what\r\n", [AT_HELO] = "421 4.3.2 bye\r\n" }, ONE, "open P 4.3.2" },
    { "greeting 421",            { [AT_CONNECT] = "421 4.3.2 full\r\n" },             ONE, "open P 4.3.2" },
    { "greeting 554",            { [AT_CONNECT] = "554 5.7.1 go away\r\n" },          ONE, "open P 4.3.2" },
    { "greeting 250",            { [AT_CONNECT] = "250 hello\r\n" },                  ONE, "open P 4.4.2" },
    { "greeting 354",            { [AT_CONNECT] = "354 go on\r\n" },                  ONE, "open P 4.0.0" },
    { "EHLO 354",                { [AT_EHLO] = "354 go on\r\n" },                     ONE, "open P 4.0.0" },
    { "greeting of ourselves",   { [AT_CONNECT] = "220 US.Example ESMTP\r\n" },       ONE, "open -ELOOP" },
    { "greeting cut",            { [AT_CONNECT] = FAKE_CUT },                         ONE, "open P 4.4.2" },
    { "greeting never comes",    { [AT_CONNECT] = FAKE_SILENT },                      ONE, "open P 4.4.2" },
    { "greeting is not SMTP",    { [AT_CONNECT] = "SSH-2.0-OpenSSH_9.2\r\n" },        ONE, "open P 4.4.2" },
    { "greeting is binary",      { [AT_CONNECT] = "\x16\x03\x01\xff\xfe\r\n" },       ONE, "open P 4.4.2" },
    { "EHLO cut",                { [AT_EHLO] = FAKE_CUT },                            ONE, "open P 4.4.2" },
    { "EHLO silent",             { [AT_EHLO] = FAKE_SILENT },                         ONE, "open P 4.4.2" },
    { "EHLO's codes differ",     { [AT_EHLO] = "250-a\r\n550 b\r\n" },                ONE, "open P 4.4.2" },
    { "EHLO too many lines",     { [AT_EHLO] = LINES_101 },                           ONE, "open P 4.4.2" },

    /* MAIL */
    { "MAIL 4xx",                { [AT_MAIL] = "451 4.7.1 greylisted\r\n" },          TWO, "P 4.7.1, P 4.7.1" },
    { "MAIL 5xx",                { [AT_MAIL] = "550 5.7.1 no\r\n" },                  TWO, "B 5.7.1, B 5.7.1" },
    { "MAIL 552 is for good",    { [AT_MAIL] = "552 5.3.4 too big\r\n" },             ONE, "B 5.3.4" },
    { "MAIL 421",                { [AT_MAIL] = "421 4.3.2 bye\r\n" },                 TWO, "P 4.3.2, P 4.3.2", 0, true },
    { "MAIL 354",                { [AT_MAIL] = "354 what\r\n" },                      ONE, "P 4.0.0" },
    { "MAIL cut",                { [AT_MAIL] = FAKE_CUT },                            TWO, "P 4.4.2, P 4.4.2", 0, true },
    { "MAIL silent",             { [AT_MAIL] = FAKE_SILENT },                         TWO, "P 4.4.2, P 4.4.2", 0, true },
    { "MAIL garbage",            { [AT_MAIL] = "okay\r\n" },                          TWO, "P 4.4.2, P 4.4.2", 0, true },
    { "MAIL, a wrong class",     { [AT_MAIL] = "550 2.0.0 odd\r\n" },                 ONE, "B 5.0.0" },

    /* RCPT */
    { "one refused",             { 0 }, "a@x.example,550.b@x.example,c@x.example",         "D 2.0.0, B 5.1.1, D 2.0.0", 1 },
    { "one later",               { 0 }, "450.a@x.example,b@x.example",                     "P 4.1.1, D 2.0.0", 1 },
    { "all refused, in two ways", { 0 }, "450.a@x.example,550.b@x.example",                "P 4.1.1, B 5.1.1" },
    { "552 is too many",         { 0 }, "a@x.example,552.b@x.example",                     "D 2.0.0, P 5.1.1", 1 },
    { "452 is too many",         { 0 }, "a@x.example,452.b@x.example",                     "D 2.0.0, P 4.1.1", 1 },
    { "452 to all is no reason to go on", { [AT_RCPT] = "452 4.5.3 full\r\n" }, TWO,        "P 4.5.3, P 4.5.3" },
    { "552 of a full mailbox is for good", { [AT_RCPT] = "552 5.2.2 full\r\n" }, TWO,      "B 5.2.2, B 5.2.2" },
    { "452 of a full mailbox",   { [AT_RCPT] = "452 4.2.2 full\r\n" }, TWO,                "P 4.2.2, P 4.2.2" },
    /* it closes, so nothing more is asked: its words are the answer to all */
    { "421 at the second",       { 0 }, "a@x.example,421.b@x.example,c@x.example",         "P 4.1.1, P 4.1.1, P 4.1.1", 0, true },
    { "RCPT cut",                { [AT_RCPT] = FAKE_CUT },                            TWO, "P 4.4.2, P 4.4.2", 0, true },
    { "RCPT silent",             { [AT_RCPT] = FAKE_SILENT },                         TWO, "P 4.4.2, P 4.4.2", 0, true },
    { "RCPT garbage",            { [AT_RCPT] = "2500 ok\r\n" },                       TWO, "P 4.4.2, P 4.4.2", 0, true },
    { "RCPT hostile words",      { [AT_RCPT] = "550 5.1.1 \x1b[31m\xff\xfe no\r\n" }, ONE, "B 5.1.1" },

    /* DATA and the end */
    { "DATA 4xx",                { [AT_DATA] = "451 4.3.0 no disk\r\n" },             TWO, "P 4.3.0, P 4.3.0" },
    { "DATA 5xx",                { [AT_DATA] = "554 5.5.1 no\r\n" },                  TWO, "B 5.5.1, B 5.5.1" },
    { "DATA 421",                { [AT_DATA] = "421 4.3.2 bye\r\n" },                 TWO, "P 4.3.2, P 4.3.2", 0, true },
    { "DATA 250 is out of step", { [AT_DATA] = "250 2.0.0 ok\r\n" },                  TWO, "P 4.4.2, P 4.4.2", 0, true },
    { "DATA cut",                { [AT_DATA] = FAKE_CUT },                            TWO, "P 4.4.2, P 4.4.2", 0, true },
    { "DATA silent",             { [AT_DATA] = FAKE_SILENT },                         TWO, "P 4.4.2, P 4.4.2", 0, true },
    { "the dot 4xx",             { [AT_DOT] = "451 4.3.0 later\r\n" },                TWO, "P 4.3.0, P 4.3.0" },
    { "the dot 5xx",             { [AT_DOT] = "554 5.7.1 spam\r\n" },                 TWO, "B 5.7.1, B 5.7.1" },
    { "the dot 552 is for good", { [AT_DOT] = "552 5.2.2 full\r\n" },                 ONE, "B 5.2.2" },
    { "the dot 421",             { [AT_DOT] = "421 4.3.2 bye\r\n" },                  TWO, "P 4.3.2, P 4.3.2", 0, true },
    { "the dot 354",             { [AT_DOT] = "354 what\r\n" },                       ONE, "P 4.0.0" },
    { "the dot cut",             { [AT_DOT] = FAKE_CUT },                             TWO, "P 4.4.2, P 4.4.2", 0, true },
    { "the dot silent",          { [AT_DOT] = FAKE_SILENT },                          TWO, "P 4.4.2, P 4.4.2", 0, true },
    { "the dot, and refused ones keep their words", { [AT_DOT] = "451 4.3.0 later\r\n" }, "a@x.example,550.b@x.example", "P 4.3.0, B 5.1.1" },
    { "cut in the text",         { 0 },                                               TWO, "P 4.4.2, P 4.4.2", 0, true, false, 5 },

    /* what a server can take */
    { "SIZE too small",          { [AT_EHLO] = "250-x\r\n250 SIZE 10\r\n" },          TWO, "B 5.3.4, B 5.3.4" },
    { "SIZE 0 sets no limit",    { [AT_EHLO] = "250-x\r\n250 SIZE 0\r\n" },           ONE, "D 2.0.0", 1 },
    { "SIZE without a number",   { [AT_EHLO] = "250-x\r\n250 SIZE\r\n" },             ONE, "D 2.0.0", 1 },
    { "SIZE beyond 64 bits",     { [AT_EHLO] = "250-x\r\n250 SIZE 99999999999999999999\r\n" }, ONE, "D 2.0.0", 1 },
    { "8-bit to 8BITMIME",       { [AT_EHLO] = "250-x\r\n250 8bitmime\r\n" },         ONE, "D 2.0.0", 1, false, true },
    { "8-bit to 7-bit only",     { [AT_EHLO] = "250 x\r\n" },                         TWO, "D 2.0.0, D 2.0.0", 1, false, true },
    { "8-bit after HELO",        { [AT_EHLO] = "500 what\r\n" },                      ONE, "D 2.0.0", 1, false, true },
    { "SIZE enough for 8-bit",   { [AT_EHLO] = "250-x\r\n250-8BITMIME\r\n250 SIZE 40\r\n" }, ONE, "D 2.0.0", 1, false, true },
    { "SIZE too small for 7-bit", { [AT_EHLO] = "250-x\r\n250 SIZE 40\r\n" },       ONE, "B 5.3.4", 0, false, true },
    { "a server named SIZE",     { [AT_EHLO] = "250 SIZE 10\r\n" },                   ONE, "D 2.0.0", 1 },
};

/* The same to a server of LMTP, which says what becomes of the mail of each recipient: "d452.b@x.example" gets 452 then, "550.b@x.example" a
 * 550 at RCPT. */
static const struct client_case lmtp_cases[] = {
    { "all is well",             { 0 },                                               TWO, "D 2.0.0, D 2.0.0", 1 },
    { "our own name is welcome", { [AT_CONNECT] = "220 us.example LMTP\r\n" },        ONE, "D 2.0.0", 1 },
    { "each its own",            { 0 }, "a@x.example,d452.b@x.example,d552.c@x.example,e@x.example", "D 2.0.0, P 4.2.2, B 5.2.2, D 2.0.0", 1 },
    { "only the accepted are told of", { 0 }, "550.a@x.example,d452.b@x.example,450.c@x.example,d@x.example", "B 5.1.1, P 4.2.2, P 4.1.1, D 2.0.0", 1 },
    { "nobody's mail was taken", { 0 }, "d452.a@x.example,d552.b@x.example",               "P 4.2.2, B 5.2.2" },
    { "nobody was accepted",     { 0 }, "550.a@x.example,450.b@x.example",                 "B 5.1.1, P 4.1.1" },
    { "order with too many",     { 0 }, "a@x.example,d552.b@x.example,452.c@x.example",    "D 2.0.0, B 5.2.2, P 4.1.1", 1 },
    { "LHLO unknown: it is no server of LMTP", { [AT_EHLO] = "500 5.5.1 what?\r\n" }, ONE, "open P 4.3.2" },
    { "LHLO not now",            { [AT_EHLO] = "451 4.3.2 later\r\n" },               ONE, "open P 4.3.2" },
    { "DATA refused: one reply", { [AT_DATA] = "451 4.3.0 no disk\r\n" },             TWO, "P 4.3.0, P 4.3.0" },
    { "421 after the text",      { 0 }, "a@x.example,d421.b@x.example,c@x.example",        "D 2.0.0, P 4.2.2, P 4.2.2", 1, true },
    { "cut after the text",      { [AT_DOT] = FAKE_CUT },                             TWO, "P 4.4.2, P 4.4.2", 0, true },
    { "silent after the text",   { [AT_DOT] = FAKE_SILENT },                          TWO, "P 4.4.2, P 4.4.2", 0, true },
    { "354 after the text",      { [AT_DOT] = "354 what\r\n" },                       TWO, "P 4.0.0, P 4.0.0" },
    { "cut in the text",         { 0 },                                               TWO, "P 4.4.2, P 4.4.2", 0, true, false, 5 },
};
// clang-format on

/* -- running one -------------------------------------------------------------------------------------------------------- */

struct play {
    const struct client_case *c;
    bool lmtp;
    bool no_pipelining;
    char got[SCENE_MAIL_RCPTS_MAX * 12 + 64];
    bool usable;
    struct fake fake;
};

static char letter(const struct outcome *o)
{
    if (!outcome_is_set(o))
        return '-';
    switch (o->state) {
    case RCPT_PENDING: return 'P';
    case RCPT_DELIVERED: return 'D';
    case RCPT_BOUNCED: return 'B';
    case RCPT_FAILED: return 'F';
    case RCPT_DISCARDED: return 'X';
    }
    return '?';
}

static void write_outcomes(char *got, size_t size, const struct outcome *outcomes, size_t count)
{
    struct buf b;
    buf_init_fixed(&b, got, size - 1);
    for (size_t i = 0; i < count; i++) {
        const struct outcome *o = &outcomes[i];
        buf_printf(&b, "%s%c", i > 0 ? ", " : "", letter(o));
        if (outcome_is_set(o))
            buf_printf(&b, " %" STR_FMT, STR_ARG(o->status));
        for (size_t k = 0; k < o->text.n; k++) /* whatever a server says, no line of ours breaks at it */
            assert_true((unsigned char)o->text.p[k] >= 0x20 && o->text.p[k] != 0x7f);
    }
    got[b.n] = '\0';
}

static struct claim *put_and_claim(struct queue *q, const struct scene_message *m)
{
    struct claim *claim;
    (void)scene_put(q, m);
    assert_int_equal(queue_claim(q, task_deadline_in(NS_PER_S), &claim), 0);
    return claim;
}

static struct outcome **list_outcomes(struct claim *claim, struct outcome *outcomes)
{
    struct outcome **list = arena_array(&claim->arena, claim->env.rcpt_count, sizeof *list);
    for (uint32_t i = 0; i < claim->env.rcpt_count; i++) {
        outcomes[i] = (struct outcome){ .rcpt = i };
        list[i] = &outcomes[i];
    }
    return list;
}

static int open_server(const char *address, bool lmtp, struct conf *conf, struct arena *a, struct client **out, struct outcome *failure)
{
    struct net_addr to;
    struct client_server server = { .path = address, .host = STR("fake.example"), .lmtp = lmtp };
    if (net_addr_parse(str_of(address), 25, &to))
        server.addr = &to;
    return client_open(&server, conf, a, out, failure);
}

static int open_to(const char *address, struct conf *conf, struct arena *a, struct client **out, struct outcome *failure)
{
    return open_server(address, false, conf, a, out, failure);
}

static void play_task(void *arg)
{
    struct play *p = arg;
    struct conf *conf = scene_conf(US, "us");
    struct queue *q = scene_queue(conf);
    struct scene_message message = { "s@y.example", p->c->rcpts, STR(MESSAGE), p->c->eightbit };
    if (p->c->eightbit)
        message.text = STR("Subject: h\r\n\r\nGr\xfc\xdf"
                           "e\r\n");
    struct claim *claim = put_and_claim(q, &message);
    struct client *client = NULL;
    struct outcome failure = { 0 };

    memcpy(p->fake.words, p->c->words, sizeof p->fake.words);
    p->fake.no_pipelining = p->no_pipelining;
    p->fake.lmtp = p->lmtp;
    p->fake.cut_in_text = p->c->cut_in_text;
    fake_begin(&p->fake, SERVER);
    int r = open_server(SERVER, p->lmtp, conf, &claim->arena, &client, &failure);
    if (r == 0) {
        struct outcome *outcomes = arena_array(&claim->arena, claim->env.rcpt_count, sizeof *outcomes);
        struct client_mail mail = { claim, list_outcomes(claim, outcomes), claim->env.rcpt_count };
        assert_int_equal(client_send(client, &mail), CLIENT_SENT);
        write_outcomes(p->got, sizeof p->got, outcomes, claim->env.rcpt_count);
        for (uint32_t i = 0; i < claim->env.rcpt_count; i++)
            assert_int_equal(outcomes[i].in_mailbox, p->lmtp && letter(&outcomes[i]) == 'D');
        p->usable = client->usable;
        client_close(client);
    } else if (r == -ELOOP) {
        snprintf(p->got, sizeof p->got, "open -ELOOP");
    } else {
        snprintf(p->got, sizeof p->got, "open %c %" STR_FMT, letter(&failure), STR_ARG(failure.status));
        assert_true(r != -EREMOTEIO || failure.text.n > 4);
    }
    fake_end(&p->fake);
    queue_unclaim(claim);
    queue_close(q);
    conf_unref(conf);
}

static int in_world(uint64_t seed, task_fn *fn, void *arg)
{
    sim_begin(&(struct sim_options){ .seed = seed, .latency_min_ns = NS_PER_MS, .latency_max_ns = 40 * NS_PER_MS, .split = seed % 2 == 0 });
    int r = sim_run(fn, arg);
    sim_end();
    return r;
}

static void check_play(const struct client_case *c, bool lmtp, bool no_pipelining, bool chunking, uint64_t seed)
{
    struct play *p = calloc(1, sizeof *p);
    assert_non_null(p);
    p->c = c;
    p->lmtp = lmtp;
    p->no_pipelining = no_pipelining;
    p->fake.chunking = chunking;
    assert_int_equal(in_world(seed, play_task, p), 0);
    /* A text that goes with the envelope may have been taken by a server that we do not understand: as after a lost final reply. */
    bool who_knows = chunking && !no_pipelining && strncmp(c->expected, "P 4.4.2", 7) == 0;
    bool right = strcmp(p->got, c->expected) == 0 && (p->fake.mail_count == c->mails || who_knows) &&
                 (strncmp(c->expected, "open", 4) == 0 || p->usable != c->unusable);
    if (!right)
        print_error("%s (pipelining %d, chunking %d, seed %llu): got '%s', wanted '%s'; the server took %u; usable %d; it heard:\n%.*s\n", c->name,
                    !no_pipelining, chunking, (unsigned long long)seed, p->got, c->expected, p->fake.mail_count, p->usable, (int)p->fake.transcript.n,
                    p->fake.transcript.p);
    assert_true(right);
    /* Whoever does not offer PIPELINING never sees two commands at once (RFC 2920, 3.1). */
    bool offers = !no_pipelining && c->words[AT_EHLO] == NULL;
    if (!offers && !chunking)                                 /* lines of a text are no commands */
        assert_true(p->fake.ahead_max <= 1);
    fake_forget(&p->fake);
    free(p);
}

static void the_table(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (unsigned seed = 1; seed <= 3; seed++) {
            check_play(&cases[i], false, false, false, seed);
            check_play(&cases[i], false, true, false, seed);
            if (cases[i].words[AT_DATA] != NULL || cases[i].words[AT_EHLO] != NULL)
                continue;
            check_play(&cases[i], false, false, true, seed);
            check_play(&cases[i], false, true, true, seed);
        }
}

static void the_table_of_lmtp(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof lmtp_cases / sizeof lmtp_cases[0]; i++)
        for (unsigned seed = 1; seed <= 3; seed++) {
            check_play(&lmtp_cases[i], true, false, false, seed);
            check_play(&lmtp_cases[i], true, true, false, seed);
            if (lmtp_cases[i].words[AT_DATA] != NULL || lmtp_cases[i].words[AT_EHLO] != NULL)
                continue;
            check_play(&lmtp_cases[i], true, false, true, seed);
            check_play(&lmtp_cases[i], true, true, true, seed);
        }
}

/* -- what goes over the wire ------------------------------------------------------------------------------------------------ */

static void run_play(struct play *p, const struct client_case *c, bool no_pipelining)
{
    memset(p, 0, sizeof *p);
    p->c = c;
    p->no_pipelining = no_pipelining;
    assert_int_equal(in_world(7, play_task, p), 0);
    assert_string_equal(p->got, c->expected);
}

static void the_conversation(void **state)
{
    (void)state;
    static const struct client_case c = { "conversation", { 0 }, TWO, "D 2.0.0, D 2.0.0", 1 };
    static struct play p;
    run_play(&p, &c, false);
    buf_put_char(&p.fake.transcript, '\0');
    assert_string_equal(p.fake.transcript.p,
                        "EHLO us.example\nMAIL FROM:<s@y.example> SIZE=29\nRCPT TO:<a@x.example>\nRCPT TO:<b@x.example>\nDATA\nQUIT\n");
    assert_string_equal(p.fake.mails[0].rcpts, "<a@x.example>,<b@x.example>");
    assert_true(str_eq(buf_str(&p.fake.mails[0].wire), STR(MESSAGE)));
    fake_forget(&p.fake);
}

struct socket_play {
    struct fake fake;
    char got[64];
};

static void socket_task(void *arg)
{
    struct socket_play *p = arg;
    struct conf *conf = scene_conf(US, "us");
    struct queue *q = scene_queue(conf);
    struct claim *claim = put_and_claim(q, &(struct scene_message){ "s@y.example", "a@x.example,d452.b@x.example", STR(MESSAGE) });
    struct client *client = NULL;
    struct outcome failure, outcomes[2];
    conf->source_address = "203.0.113.9"; /* not an address that a socket could have */
    assert_int_equal(open_server("run/lmtp", true, conf, &claim->arena, &client, &failure), -ENOENT);
    assert_true(str_eq(failure.remote, STR("fake.example [run/lmtp]")));
    assert_int_equal(failure.state, RCPT_PENDING);
    p->fake.lmtp = true;
    fake_begin(&p->fake, "run/lmtp");
    assert_int_equal(open_server("run/lmtp", true, conf, &claim->arena, &client, &failure), 0);
    struct client_mail mail = { claim, list_outcomes(claim, outcomes), 2 };
    assert_int_equal(client_send(client, &mail), CLIENT_SENT);
    write_outcomes(p->got, sizeof p->got, outcomes, 2);
    assert_true(str_eq(outcomes[0].remote, STR("fake.example [run/lmtp]")));
    client_close(client);
    fake_end(&p->fake);
    queue_unclaim(claim);
    queue_close(q);
    conf_unref(conf);
}

static void lmtp_through_a_socket(void **state)
{
    (void)state;
    static struct socket_play p;
    memset(&p, 0, sizeof p);
    assert_int_equal(in_world(7, socket_task, &p), 0);
    assert_string_equal(p.got, "D 2.0.0, P 4.2.2");
    buf_put_char(&p.fake.transcript, '\0');
    assert_string_equal(p.fake.transcript.p,
                        "LHLO us.example\nMAIL FROM:<s@y.example> SIZE=29\nRCPT TO:<a@x.example>\nRCPT TO:<d452.b@x.example>\nDATA\nQUIT\n");
    fake_forget(&p.fake);
}

/* Nobody was accepted, and the server says 354 all the same: it gets no text at all, not even an empty one. */
static void nothing_for_nobody(void **state)
{
    (void)state;
    static const struct client_case c = { "nobody", { [AT_DATA] = "354 go on\r\n" }, "550.a@x.example", "B 5.1.1", 0 };
    static struct play p;
    run_play(&p, &c, false);
    assert_int_equal(p.fake.mail_count, 0);
    assert_false(p.usable);
    fake_forget(&p.fake);
}

struct text_play {
    struct str text;
    struct fake fake;
    uint64_t seed;
};

static void text_task(void *arg)
{
    struct text_play *p = arg;
    struct conf *conf = scene_conf(US, "us");
    struct queue *q = scene_queue(conf);
    struct claim *claim = put_and_claim(q, &(struct scene_message){ "", ONE, p->text });
    struct client *client;
    struct outcome failure, outcome;
    fake_begin(&p->fake, SERVER);
    assert_int_equal(open_to(SERVER, conf, &claim->arena, &client, &failure), 0);
    struct client_mail mail = { claim, list_outcomes(claim, &outcome), 1 };
    assert_int_equal(client_send(client, &mail), CLIENT_SENT);
    assert_int_equal(outcome.state, RCPT_DELIVERED);
    client_close(client);
    fake_end(&p->fake);
    queue_unclaim(claim);
    queue_close(q);
    conf_unref(conf);
}

static void check_wire(struct str text, struct str wire)
{
    static struct text_play p;
    memset(&p, 0, sizeof p);
    p.text = text;
    assert_int_equal(in_world(4, text_task, &p), 0);
    assert_int_equal(p.fake.mail_count, 1);
    assert_true(str_starts(str_of(p.fake.mails[0].sender), STR("<>")));
    if (!str_eq(buf_str(&p.fake.mails[0].wire), wire))
        print_error("wire: %zu bytes, wanted %zu: %.*s\n", p.fake.mails[0].wire.n, wire.n, (int)p.fake.mails[0].wire.n,
                    p.fake.mails[0].wire.p);
    assert_true(str_eq(buf_str(&p.fake.mails[0].wire), wire));
    fake_forget(&p.fake);
}

static void dots_are_doubled(void **state)
{
    (void)state;
    check_wire(STR(".\r\n"), STR("..\r\n"));
    check_wire(STR("a\r\n.\r\nb\r\n..\r\n.c\r\n"), STR("a\r\n..\r\nb\r\n...\r\n..c\r\n"));
    check_wire(STR("a\r\n.\r\nQUIT\r\n"), STR("a\r\n..\r\nQUIT\r\n"));
    check_wire(STR(""), STR(""));
    check_wire(STR("no end of line"), STR("no end of line\r\n"));
}

/* Dots at the border of the pieces in which a body is read. */
static void a_large_body(void **state)
{
    (void)state;
    struct buf text, wire;
    buf_init(&text, 4 << 20);
    buf_init(&wire, 4 << 20);
    for (size_t i = 0; text.n < 1 << 20; i++) {
        size_t n = i % 7 == 0 ? 1 : i % 61;
        for (size_t k = 0; k < n; k++)
            buf_put_char(&text, '.');
        if (n > 0)
            buf_put_char(&wire, '.');
        for (size_t k = 0; k < n; k++)
            buf_put_char(&wire, '.');
        buf_put_z(&text, "\r\n");
        buf_put_z(&wire, "\r\n");
    }
    check_wire(buf_str(&text), buf_str(&wire));
    buf_free(&text);
    buf_free(&wire);
}

static void many_recipients(void **state)
{
    (void)state;
    static struct play p;
    struct client_case c = { .name = "200 recipients" };
    struct buf rcpts, expected;
    buf_init(&rcpts, 1 << 16);
    buf_init(&expected, 1 << 16);
    for (unsigned i = 0; i < 200; i++) {
        bool refused = i % 10 == 3;
        buf_printf(&rcpts, "%s%su%u@x.example", i > 0 ? "," : "", refused ? "550." : "", i);
        buf_printf(&expected, "%s%s", i > 0 ? ", " : "", refused ? "B 5.1.1" : "D 2.0.0");
    }
    buf_put_char(&rcpts, '\0');
    buf_put_char(&expected, '\0');
    c.rcpts = rcpts.p;
    c.expected = expected.p;
    for (int no_pipelining = 0; no_pipelining <= 1; no_pipelining++) {
        run_play(&p, &c, no_pipelining);
        assert_int_equal(p.fake.mail_count, 1);
        assert_int_equal(fake_count(&p.fake, "u0@x.example"), 1);
        assert_int_equal(fake_count(&p.fake, "u199@x.example"), 1);
        assert_int_equal(fake_count(&p.fake, "550.u3@x.example"), 0);
        /* A window of 50 with MAIL before it or DATA behind it, so that neither side's buffers fill (RFC 2920, 3.1). */
        assert_true(no_pipelining ? p.fake.ahead_max == 1 : p.fake.ahead_max > 1 && p.fake.ahead_max <= 52);
        fake_forget(&p.fake);
    }
    buf_free(&rcpts);
    buf_free(&expected);
}

/* -- servers that never end ---------------------------------------------------------------------------------------------------- */

struct flood {
    const char *piece;
    uint64_t sent;
    int result;
};

static void flood_task(void *arg)
{
    struct flood *f = arg;
    struct net_addr at, peer;
    struct net_listener *listener;
    struct stream *stream;
    assert_true(net_addr_parse(str_of(SERVER), 25, &at));
    assert_int_equal(net_listen(&at, false, &listener), 0);
    assert_int_equal(net_accept(listener, TASK_FOREVER, &stream, &peer), 0);
    for (;;) {
        if (stream_put(stream, str_of(f->piece)) < 0 || stream_flush(stream, TASK_FOREVER) < 0)
            break;
        f->sent += strlen(f->piece);
    }
    stream_close(stream);
    net_listener_close(listener);
}

static void flooded_task(void *arg)
{
    struct flood *f = arg;
    struct conf *conf = scene_conf(US, "us");
    struct task_group server;
    struct arena a;
    struct client *client = NULL;
    struct outcome failure;
    arena_init(&a, 1 << 20);
    task_group_init(&server);
    assert_int_equal(task_group_start(&server, "flood", flood_task, f), 0);
    assert_int_equal(task_yield(), 0);
    f->result = open_to(SERVER, conf, &a, &client, &failure);
    assert_true(f->result < 0);
    assert_int_equal(failure.state, RCPT_PENDING);
    assert_int_equal(task_group_wait(&server, task_deadline_in(60 * NS_PER_S)), 0);
    arena_reset(&a);
    conf_unref(conf);
}

static void endless_replies(void **state)
{
    (void)state;
    static const char *const pieces[] = { "220-x\r\n", "220-", "x",
                                          "\r\n",      "220 ", "220-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx" };
    for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++) {
        struct flood f = { .piece = pieces[i] };
        assert_int_equal(in_world(i, flooded_task, &f), 0);
        if (f.sent > 1 << 20)
            print_error("endless '%s': read %llu bytes\n", pieces[i], (unsigned long long)f.sent);
        assert_true(f.sent <= 1 << 20);
    }
}

/* -- kept connections and stopping ------------------------------------------------------------------------------------------------ */

struct kept {
    struct fake fake;
    const char *second_mail; /* what the server says to the second MAIL on a connection */
    enum client_sent sent;
    char got[64];
    bool alive;
};

static const char *say_second(struct fake *f, enum fake_stage stage, struct str line)
{
    const struct kept *k = f->say_arg;
    (void)line;
    return stage == AT_MAIL && f->transactions > 1 ? k->second_mail : NULL;
}

static void kept_task(void *arg)
{
    struct kept *k = arg;
    struct conf *conf = scene_conf(US, "us");
    struct queue *q = scene_queue(conf);
    struct client *client;
    struct outcome failure, outcome;
    k->fake.say = say_second;
    k->fake.say_arg = k;
    fake_begin(&k->fake, SERVER);
    for (int i = 0; i < 2; i++) {
        struct claim *claim = put_and_claim(q, &(struct scene_message){ "s@y.example", ONE, STR(MESSAGE) });
        if (i == 0)
            assert_int_equal(open_to(SERVER, conf, &claim->arena, &client, &failure), 0);
        else
            assert_true(client_is_alive(client));
        struct client_mail mail = { claim, list_outcomes(claim, &outcome), 1 };
        k->sent = client_send(client, &mail);
        write_outcomes(k->got, sizeof k->got, &outcome, 1);
        queue_settle(claim, &(struct outcome){ .state = RCPT_DELIVERED, .text = STR("ok") }, 1, 0);
    }
    client_close(client);
    fake_end(&k->fake);
    queue_close(q);
    conf_unref(conf);
}

/* -- a server that says more than it was asked -------------------------------------------------------------------------------- */

static const char *say_more(struct fake *f, enum fake_stage stage, struct str line)
{
    (void)f;
    (void)line;
    return stage == AT_DOT ? "250 2.0.0 taken\r\n250 2.1.0 and whatever comes next\r\n" : NULL;
}

/* Its further replies would be taken for those to the next message: to its MAIL, and to its end. */
static void talkative_task(void *arg)
{
    struct kept *k = arg;
    struct conf *conf = scene_conf(US, "us");
    struct queue *q = scene_queue(conf);
    struct client *client;
    struct outcome failure, outcome;
    k->fake.say = say_more;
    fake_begin(&k->fake, SERVER);
    struct claim *claim = put_and_claim(q, &(struct scene_message){ "s@y.example", ONE, STR(MESSAGE) });
    assert_int_equal(open_to(SERVER, conf, &claim->arena, &client, &failure), 0);
    struct client_mail mail = { claim, list_outcomes(claim, &outcome), 1 };
    k->sent = client_send(client, &mail);
    write_outcomes(k->got, sizeof k->got, &outcome, 1);
    assert_int_equal(task_sleep(NS_PER_S), 0);
    k->alive = client_is_alive(client);
    client_close(client);
    queue_settle(claim, &(struct outcome){ .state = RCPT_DELIVERED, .text = STR("ok") }, 1, 0);
    fake_end(&k->fake);
    queue_close(q);
    conf_unref(conf);
}

static void a_reply_to_nothing(void **state)
{
    (void)state;
    static struct kept k;
    assert_int_equal(in_world(6, talkative_task, &k), 0);
    assert_int_equal(k.sent, CLIENT_SENT);
    assert_string_equal(k.got, "D 2.0.0");
    assert_false(k.alive);
    fake_forget(&k.fake);
}

/* -- a server that answers each time just in time -------------------------------------------------------------------------------- */

struct sluggish {
    struct fake fake;
    int64_t took_ns;
    char got[1 << 12];
};

static const char *say_late(struct fake *f, enum fake_stage stage, struct str line)
{
    (void)f;
    (void)line;
    if (stage == AT_RCPT)
        (void)task_sleep(290 * NS_PER_S);
    return NULL;
}

static void sluggish_task(void *arg)
{
    struct sluggish *k = arg;
    static const char rcpts[] = "a@x.example,b@x.example,c@x.example,d@x.example,e@x.example,f@x.example,g@x.example,h@x.example";
    struct conf *conf = scene_conf(US, "us");
    struct queue *q = scene_queue(conf);
    struct client *client;
    struct outcome failure, outcomes[8];
    conf->delivery_timeout_ns = 1000 * NS_PER_S;
    k->fake.say = say_late;
    fake_begin(&k->fake, SERVER);
    struct claim *claim = put_and_claim(q, &(struct scene_message){ "s@y.example", rcpts, STR(MESSAGE) });
    assert_int_equal(open_to(SERVER, conf, &claim->arena, &client, &failure), 0);
    struct client_mail mail = { claim, list_outcomes(claim, outcomes), 8 };
    int64_t began = clock_mono_ns();
    assert_int_equal(client_send(client, &mail), CLIENT_SENT);
    k->took_ns = clock_mono_ns() - began;
    write_outcomes(k->got, sizeof k->got, outcomes, 8);
    client_close(client);
    struct outcome delivered[8];
    for (uint32_t i = 0; i < 8; i++)
        delivered[i] = (struct outcome){ .rcpt = i, .state = RCPT_DELIVERED, .text = STR("ok") };
    queue_settle(claim, delivered, 8, 0);
    fake_end(&k->fake);
    queue_close(q);
    conf_unref(conf);
}

static void a_slot_is_kept_for_a_bounded_time(void **state)
{
    (void)state;
    static struct sluggish k;
    assert_int_equal(in_world(5, sluggish_task, &k), 0);
    assert_in_range(k.took_ns, 900 * NS_PER_S, 1100 * NS_PER_S);
    assert_string_equal(k.got, "P 4.4.2, P 4.4.2, P 4.4.2, P 4.4.2, P 4.4.2, P 4.4.2, P 4.4.2, P 4.4.2");
    fake_forget(&k.fake);
}

static void a_kept_connection(void **state)
{
    (void)state;
    static const struct {
        const char *second_mail;
        enum client_sent sent;
        const char *got;
    } rows[] = {
        {NULL,                      CLIENT_SENT,  "D 2.0.0"},
        { FAKE_CUT,                 CLIENT_STALE, "-"      }, /* it had given up on us: not an attempt */
        { "421 4.4.2 too slow\r\n", CLIENT_STALE, "-"      }, /* likewise, and says so */
        { "503 5.5.1 what?\r\n",    CLIENT_SENT,  "P 5.5.1"}, /* out of step: not the message's fault */
        { "450 4.7.1 later\r\n",    CLIENT_SENT,  "P 4.7.1"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        static struct kept k;
        memset(&k, 0, sizeof k);
        k.second_mail = rows[i].second_mail;
        assert_int_equal(in_world(i, kept_task, &k), 0);
        assert_int_equal(k.sent, rows[i].sent);
        assert_string_equal(k.got, rows[i].got);
        assert_int_equal(k.fake.connections, 1);
        fake_forget(&k.fake);
    }
}

/* RFC 8689: only to a server whose name is proven and that promises the same. */
struct promise {
    struct fake fake;
    bool vouched, offered, bounce;
    char got[64];
};

static void promise_task(void *arg)
{
    struct promise *p = arg;
    struct conf *conf = scene_conf(US, "us");
    struct queue *q = scene_queue(conf);
    struct client *client = NULL;
    struct outcome failure, outcome;
    p->fake.words[AT_EHLO] = p->offered ? "250-fake.example\r\n250 REQUIRETLS\r\n" : NULL;
    fake_begin(&p->fake, SERVER);
    struct claim *claim = put_and_claim(q, &(struct scene_message){ p->bounce ? "" : "s@y.example", ONE, STR(MESSAGE), .requiretls = true });
    assert_int_equal(open_to(SERVER, conf, &claim->arena, &client, &failure), 0);
    assert_false(client->verified || client->vouched);
    client->vouched = p->vouched;
    struct client_mail mail = { claim, list_outcomes(claim, &outcome), 1 };
    assert_int_equal(client_send(client, &mail), CLIENT_SENT);
    write_outcomes(p->got, sizeof p->got, &outcome, 1);
    queue_settle(claim, &(struct outcome){ .state = RCPT_DELIVERED, .text = STR("ok") }, 1, 0);
    client_close(client);
    fake_end(&p->fake);
    queue_close(q);
    conf_unref(conf);
}

static void tls_on_all_the_way(void **state)
{
    (void)state;
    static struct promise p;
    for (unsigned i = 0; i < 8; i++) {
        memset(&p, 0, sizeof p);
        p.vouched = i & 1;
        p.offered = i & 2;
        p.bounce = i & 4;                /* it goes all the same, and says what it can (5) */
        bool kept = p.vouched && p.offered;
        assert_int_equal(in_world(i, promise_task, &p), 0);
        assert_string_equal(p.got, kept || p.bounce ? "D 2.0.0" : "B 5.7.30");
        assert_int_equal(p.fake.transactions, kept || p.bounce);
        if (p.fake.mail_count == 1)
            assert_string_equal(p.fake.mails[0].sender, p.bounce ? kept ? "<> REQUIRETLS" : p.offered ? "<>" : "<> SIZE=29" : "<s@y.example> REQUIRETLS");
        fake_forget(&p.fake);
    }
}

/* A server to which a transaction is open until it hears a final dot or RSET (RFC 5321, 4.1.4). */
struct strict {
    struct fake fake;
    const char *rcpts, *data; /* of the first transaction, which it refuses */
    char got[64];             /* of the second */
    bool open;
};

static const char *say_strictly(struct fake *f, enum fake_stage stage, struct str line)
{
    struct strict *s = f->say_arg;
    bool was_open = s->open;
    (void)line;
    s->open = stage == AT_MAIL || (was_open && stage != AT_DOT && stage != AT_RSET);
    if (stage == AT_MAIL && was_open)
        return "503 5.5.1 nested MAIL\r\n";
    return stage == AT_DATA && f->transactions == 1 ? s->data : NULL;
}

static void strict_task(void *arg)
{
    struct strict *s = arg;
    struct conf *conf = scene_conf(US, "us");
    struct queue *q = scene_queue(conf);
    struct client *client = NULL;
    struct outcome failure, outcome;
    s->fake.say = say_strictly;
    s->fake.say_arg = s;
    fake_begin(&s->fake, SERVER);
    for (int i = 0; i < 2; i++) {
        struct claim *claim = put_and_claim(q, &(struct scene_message){ "s@y.example", i == 0 ? s->rcpts : ONE, STR(MESSAGE) });
        if (i == 0)
            assert_int_equal(open_to(SERVER, conf, &claim->arena, &client, &failure), 0);
        struct client_mail mail = { claim, list_outcomes(claim, &outcome), 1 };
        assert_int_equal(client_send(client, &mail), CLIENT_SENT);
        assert_true(client->usable);
        write_outcomes(s->got, sizeof s->got, &outcome, 1);
        queue_settle(claim, &(struct outcome){ .state = RCPT_DELIVERED, .text = STR("ok") }, 1, 0);
    }
    client_close(client);
    fake_end(&s->fake);
    queue_close(q);
    conf_unref(conf);
}

/* Refused, and the connection kept: the next message finds no transaction open. */
static void a_refused_transaction_is_ended(void **state)
{
    (void)state;
    static const char *const rows[][2] = {
        {"550.a@x.example", NULL                   }, /* nobody was accepted, and DATA refused for it */
        { ONE,              "451 4.3.0 no disk\r\n"},
        { ONE,              "554 5.7.1 no\r\n"     },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        static struct strict s;
        memset(&s, 0, sizeof s);
        s.rcpts = rows[i][0];
        s.data = rows[i][1];
        assert_int_equal(in_world(i, strict_task, &s), 0);
        assert_string_equal(s.got, "D 2.0.0");
        assert_int_equal(s.fake.connections, 1);
        fake_forget(&s.fake);
    }
}

struct stop {
    struct fake fake;
    struct client *client;
    struct claim *claim;
    struct outcome *outcomes;
    enum client_sent sent;
};

static void sender_task(void *arg)
{
    struct stop *s = arg;
    struct client_mail mail = { s->claim, list_outcomes(s->claim, s->outcomes), s->claim->env.rcpt_count };
    s->sent = client_send(s->client, &mail);
}

static void stopped_task(void *arg)
{
    struct stop *s = arg;
    struct conf *conf = scene_conf(US, "us");
    struct queue *q = scene_queue(conf);
    struct task_group sender;
    struct outcome failure;
    s->fake.words[AT_DOT] = FAKE_SILENT;
    fake_begin(&s->fake, SERVER);
    s->claim = put_and_claim(q, &(struct scene_message){ "s@y.example", "a@x.example,550.b@x.example", STR(MESSAGE) });
    s->outcomes = arena_array(&s->claim->arena, 2, sizeof *s->outcomes);
    assert_int_equal(open_to(SERVER, conf, &s->claim->arena, &s->client, &failure), 0);
    task_group_init(&sender);
    assert_int_equal(task_group_start(&sender, "sender", sender_task, s), 0);
    (void)task_sleep(10 * NS_PER_S);
    task_group_cancel(&sender);
    assert_int_equal(task_group_wait(&sender, task_deadline_in(NS_PER_S)), 0);
    assert_int_equal(s->sent, CLIENT_CANCELED);
    char got[64];
    write_outcomes(got, sizeof got, s->outcomes, 2);
    assert_string_equal(got, "-, B 5.1.1"); /* what was said counts; what was not is not invented */
    client_close(s->client);
    fake_end(&s->fake);
    queue_unclaim(s->claim);
    queue_close(q);
    conf_unref(conf);
}

static void stopping_in_the_middle(void **state)
{
    (void)state;
    static struct stop s;
    assert_int_equal(in_world(5, stopped_task, &s), 0);
    fake_forget(&s.fake);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_table),
        cmocka_unit_test(the_table_of_lmtp),
        cmocka_unit_test(the_conversation),
        cmocka_unit_test(lmtp_through_a_socket),
        cmocka_unit_test(nothing_for_nobody),
        cmocka_unit_test(dots_are_doubled),
        cmocka_unit_test(a_large_body),
        cmocka_unit_test(many_recipients),
        cmocka_unit_test(endless_replies),
        cmocka_unit_test(a_slot_is_kept_for_a_bounded_time),
        cmocka_unit_test(a_reply_to_nothing),
        cmocka_unit_test(a_kept_connection),
        cmocka_unit_test(stopping_in_the_middle),
        cmocka_unit_test(tls_on_all_the_way),
        cmocka_unit_test(a_refused_transaction_is_ended),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
