/*
 * outbound/local: delivery to a Maildir on the simulated disk, with messages from a real queue.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/codec.h"
#include "outbound/local.h"
#include "outbound/test_scene.h"

#define MESSAGE "Subject: hello\r\n\r\nOne line.\r\n"
#define MAILBOX "us/mail/us.example/bob"
#define PIECE   65536 /* bytes of a body that go to the file at a time */

struct scene {
    struct conf *conf;
    struct queue *q;
    struct local *local;
};

static void begin(struct scene *s)
{
    s->conf = scene_conf("us.example", "us");
    scene_local_domain(s->conf, "us.example");
    scene_user(s->conf, "bob");
    s->q = scene_queue(s->conf);
    s->local = local_new();
    assert_non_null(s->local);
}

static void end(struct scene *s)
{
    local_free(s->local);
    queue_close(s->q);
    conf_unref(s->conf);
}

static struct claim *put_and_claim(struct scene *s, const char *rcpts, struct str text)
{
    struct claim *claim;
    (void)scene_put(s->q, &(struct scene_message){ "ann@y.example", rcpts, text });
    assert_int_equal(queue_claim(s->q, task_deadline_in(NS_PER_S), &claim), 0);
    return claim;
}

static struct outcome deliver(struct scene *s, struct claim *c, uint32_t rcpt)
{
    return local_deliver(s->local, s->conf, c, rcpt);
}

/* text as it was queued; in the file each CRLF is an LF. */
static void check_file(const char *mailbox, const char *name, const char *rcpt, struct str text)
{
    struct buf file, expected;
    scene_read(mailbox, name, &file);
    buf_init(&expected, text.n + 1024);
    buf_printf(&expected, "Return-Path: <ann@y.example>\nDelivered-To: %s\n", rcpt);
    for (size_t i = 0; i < text.n; i++)
        if (text.p[i] != '\r' || i + 1 == text.n || text.p[i + 1] != '\n')
            buf_put_char(&expected, text.p[i]);
    assert_true(buf_ok(&expected));
    assert_true(str_eq(buf_str(&file), buf_str(&expected)));
    buf_free(&file);
    buf_free(&expected);
}

static void play(task_fn *fn, struct sim_options options)
{
    sim_begin(&options);
    assert_int_equal(sim_run(fn, NULL), 0);
    sim_end();
}

/* -- the tests -------------------------------------------------------------------------------------------------------------------- */

static void delivers(void *arg)
{
    (void)arg;
    struct scene s;
    struct scene_names names;
    begin(&s);
    struct claim *c = put_and_claim(&s, "Bob@us.example,bob@us.example,bob+tag@us.example,\"../x\"@us.example", STR(MESSAGE));
    for (uint32_t i = 0; i < 4; i++) {
        struct outcome o = deliver(&s, c, i);
        assert_int_equal(o.state, RCPT_DELIVERED);
        assert_true(str_eq(o.status, STR("2.0.0")));
    }
    assert_int_equal(scene_list(MAILBOX "/new", &names), 2); /* two spellings, two recipients, two files */
    assert_int_equal(scene_list(MAILBOX "/tmp", NULL), 0);
    check_file(MAILBOX "/new", names.names[0], strstr(names.names[0], "R0") != NULL ? "Bob@us.example" : "bob@us.example", STR(MESSAGE));

    /* The name: when the message came, its queue id and its recipient, and the host, as the format asks for. */
    char id[CODEC_ID_LEN + 1], expected[128];
    codec_id_format(c->id, id);
    snprintf(expected, sizeof expected, "%lld.%sR0.us.example", (long long)(c->env.arrived_ns / NS_PER_S), id);
    assert_true(strcmp(names.names[0], expected) == 0 || strcmp(names.names[1], expected) == 0);
    assert_null(strchr(expected, ':'));

    assert_int_equal(scene_list("us/mail/us.example/bob+tag/new", NULL), 1);
    assert_int_equal(scene_list("us/mail/us.example/%2E.%2Fx/new", NULL), 1);
    queue_unclaim(c);
    end(&s);
}

static void large_bodies(void *arg)
{
    (void)arg;
    static const size_t sizes[] = { 65535, 65536, 65537, 131072, 1500000 };
    struct scene s;
    struct scene_names names;
    char rcpt[64], mailbox[64];
    begin(&s);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        char *text = malloc(sizes[i]);
        for (size_t k = 0; k < sizes[i]; k++)
            text[k] = k % 64 == 62 ? '\r' : k % 64 == 63 ? '\n' : (char)('a' + (k / 64 + k) % 26);
        snprintf(rcpt, sizeof rcpt, "u%zu@us.example", sizes[i]);
        snprintf(mailbox, sizeof mailbox, "us/mail/us.example/u%zu/new", sizes[i]);
        struct claim *c = put_and_claim(&s, rcpt, (struct str){ text, sizes[i] });
        assert_int_equal(deliver(&s, c, 0).state, RCPT_DELIVERED);
        assert_int_equal(scene_list(mailbox, &names), 1);
        check_file(mailbox, names.names[0], rcpt, (struct str){ text, sizes[i] });
        queue_settle(c, &(struct outcome){ .state = RCPT_DELIVERED, .text = STR("ok") }, 1, 0);
        free(text);
    }
    end(&s);
}

/* A line's end between two pieces of a body, or just beside; CRs and LFs alone stay, there and elsewhere. */
static void line_ends(void *arg)
{
    (void)arg;
    static const char *const seams[] = { "\r\n", "\r\r\n", "\n\r\n", "\r\n\r\n", "\r", "\n", "\rx", "\r\n.\r\n..\r\n", "\r\r\r\r" };
    static const size_t sizes[] = { 100, PIECE, PIECE + 1, 2 * PIECE, 3 * PIECE };
    struct scene s;
    struct scene_names names;
    unsigned count = 0;
    begin(&s);
    for (size_t i = 0; i < sizeof seams / sizeof seams[0]; i++)
        for (size_t k = 0; k < sizeof sizes / sizeof sizes[0]; k++)
            for (size_t before = 0; before <= 3; before++) {
                size_t n = strlen(seams[i]), at = sizes[k] > PIECE ? PIECE - before : sizes[k] - n;
                char *text = malloc(sizes[k]), rcpt[64], mailbox[64];
                memset(text, 'x', sizes[k]);
                memcpy(text, "a\rb\nc\r\n", 7);
                memcpy(text + at, seams[i], at + n <= sizes[k] ? n : sizes[k] - at);
                snprintf(rcpt, sizeof rcpt, "e%u@us.example", count);
                snprintf(mailbox, sizeof mailbox, "us/mail/us.example/e%u/new", count++);
                struct claim *c = put_and_claim(&s, rcpt, (struct str){ text, sizes[k] });
                assert_int_equal(deliver(&s, c, 0).state, RCPT_DELIVERED);
                assert_int_equal(scene_list(mailbox, &names), 1);
                check_file(mailbox, names.names[0], rcpt, (struct str){ text, sizes[k] });
                queue_settle(c, &(struct outcome){ .state = RCPT_DELIVERED, .text = STR("ok") }, 1, 0);
                free(text);
            }
    end(&s);
}

/* Delivered, and the settle lost in a crash: the next server finds the file, where a reader may have moved and flagged it. */
static void a_second_attempt(void *arg)
{
    (void)arg;
    static const char *const places[] = { "new", "cur", "cur:2,S", "cur:2,FRS" };
    struct scene s;
    struct scene_names names;
    begin(&s);
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        char rcpt[64], mailbox[64], path[80], moved[300];
        struct claim *c;
        snprintf(rcpt, sizeof rcpt, "u%zu@us.example", i);
        snprintf(mailbox, sizeof mailbox, "us/mail/us.example/u%zu", i);
        c = put_and_claim(&s, rcpt, STR(MESSAGE));
        assert_int_equal(deliver(&s, c, 0).state, RCPT_DELIVERED);
        snprintf(path, sizeof path, "%s/new", mailbox);
        assert_int_equal(scene_list(path, &names), 1);
        if (i > 0) {
            int dir = file_open_dir(mailbox);
            (void)file_mkdir_at(dir, "cur");
            char from[300];
            snprintf(from, sizeof from, "new/%s", names.names[0]);
            snprintf(moved, sizeof moved, "cur/%s%s", names.names[0], places[i] + 3);
            assert_int_equal(file_rename_at(dir, from, dir, moved), 0);
            (void)file_close(dir);
        }
        queue_unclaim(c);
        local_free(s.local); /* another process */
        (void)task_sleep(NS_PER_S);
        s.local = local_new();
        assert_int_equal(queue_claim(s.q, task_deadline_in(NS_PER_S), &c), 0);
        assert_int_equal(deliver(&s, c, 0).state, RCPT_DELIVERED);
        snprintf(path, sizeof path, "%s/new", mailbox);
        assert_int_equal(scene_list(path, NULL), i == 0 ? 1 : 0);
        snprintf(path, sizeof path, "%s/cur", mailbox);
        assert_int_equal(scene_list(path, NULL), i == 0 ? 0 : 1);
        snprintf(path, sizeof path, "%s/tmp", mailbox);
        assert_int_equal(scene_list(path, NULL), 0);
        queue_settle(c, &(struct outcome){ .state = RCPT_DELIVERED, .text = STR("ok") }, 1, 0);
    }
    end(&s);
}

/* A name that only begins like ours is another message's. */
static void a_leftover_in_tmp(void *arg)
{
    (void)arg;
    struct scene s;
    struct scene_names names;
    begin(&s);
    struct claim *c = put_and_claim(&s, "bob@us.example", STR(MESSAGE));
    char id[CODEC_ID_LEN + 1], name[128];
    codec_id_format(c->id, id);
    snprintf(name, sizeof name, "%lld.%sR0.us.example", (long long)(c->env.arrived_ns / NS_PER_S), id);
    scene_mkdir(MAILBOX "/tmp");
    scene_mkdir(MAILBOX "/cur");
    int tmp = file_open_dir(MAILBOX "/tmp"), cur = file_open_dir(MAILBOX "/cur");
    int file = file_open_at(tmp, name, FILE_WRITE | FILE_CREATE);
    assert_int_equal(file_write_at(file, "half of something much longer than the message is, so that it must be cut", 70, 0), 0);
    (void)file_close(file);
    strcat(name, "-other");
    (void)file_close(file_open_at(cur, name, FILE_WRITE | FILE_CREATE));
    (void)file_close(tmp), (void)file_close(cur);
    local_free(s.local);
    (void)task_sleep(NS_PER_S);
    s.local = local_new();
    assert_int_equal(deliver(&s, c, 0).state, RCPT_DELIVERED);
    assert_int_equal(scene_list(MAILBOX "/new", &names), 1);
    check_file(MAILBOX "/new", names.names[0], "bob@us.example", STR(MESSAGE));
    queue_unclaim(c);
    end(&s);
}

static void no_mailbox(void *arg)
{
    (void)arg;
    struct scene s;
    begin(&s);
    s.conf->have_users_file = false; /* a user is one whose Maildir is there */
    scene_mkdir("us/mail");
    struct claim *c = put_and_claim(&s, "bob@us.example,Postmaster@us.example", STR(MESSAGE));
    struct outcome o = deliver(&s, c, 0);
    assert_int_equal(o.state, RCPT_BOUNCED);
    assert_true(str_eq(o.status, STR("5.1.1")));
    assert_int_equal(scene_list("us/mail/us.example/bob", NULL), 0);
    assert_int_equal(deliver(&s, c, 1).state, RCPT_DELIVERED); /* always there (RFC 5321, 4.5.1) */
    assert_int_equal(scene_list("us/mail/us.example/postmaster/new", NULL), 1);
    scene_mkdir(MAILBOX);
    assert_int_equal(deliver(&s, c, 0).state, RCPT_DELIVERED);
    queue_unclaim(c);
    end(&s);
}

/* What is missing is not the mailbox: the disk under all of them, a body. That is no answer about a user. */
static void something_else_is_missing(void *arg)
{
    (void)arg;
    struct scene s;
    char *text = malloc(200000);
    memset(text, 'x', 200000);
    begin(&s);
    s.conf->have_users_file = false;
    struct claim *c = put_and_claim(&s, "bob@us.example", (struct str){ text, 200000 });
    assert_int_equal(scene_list("us/mail", NULL), 0);
    assert_int_equal(deliver(&s, c, 0).state, RCPT_PENDING);     /* not mounted, perhaps */
    scene_mkdir(MAILBOX);
    struct scene_names names;
    assert_int_equal(scene_list("us/data/body", &names), 1);
    int bodies = file_open_dir("us/data/body");
    assert_int_equal(file_unlink_at(bodies, names.names[0]), 0);
    (void)file_close(bodies);
    assert_int_equal(deliver(&s, c, 0).state, RCPT_PENDING);
    queue_unclaim(c);
    free(text);
    end(&s);
}

/* The sync of the name fails; then it works again, and the power goes: what is called delivered is there. */
static void found_is_durable(void *arg)
{
    const uint64_t *seed = arg;
    struct scene s;
    begin(&s);
    scene_mkdir(MAILBOX "/new");
    scene_mkdir(MAILBOX "/tmp");
    scene_mkdir(MAILBOX "/cur");
    struct claim *c = put_and_claim(&s, "bob@us.example", STR(MESSAGE));
    for (uint64_t at = 0; scene_list(MAILBOX "/new", NULL) == 0; at++) {   /* that sync is the last operation */
        sim_disk_fail(sim_disk_ops() + at, EIO, false);
        assert_int_equal(deliver(&s, c, 0).state, RCPT_PENDING);
        sim_disk_heal();
    }
    assert_int_equal(deliver(&s, c, 0).state, RCPT_DELIVERED);
    struct sim_disk *image = sim_disk_crash(sim_disk_ops(), *seed, NULL);
    queue_unclaim(c);
    end(&s);
    sim_disk_mount(image);
    sim_disk_free(image);
    assert_int_equal(scene_list(MAILBOX "/new", NULL), 1);
}

static void test_found_is_durable(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 20; seed++) {
        sim_begin(&(struct sim_options){ .seed = 11, .sync_ns = NS_PER_MS });
        assert_int_equal(sim_run(found_is_durable, &seed), 0);
        sim_end();
    }
}

/* Many at the same time, in few turns: what one of them meets is its own, unless it is the sync of the directory that they share. */
struct together {
    struct scene *scene;
    struct claim *claims[40];
    enum rcpt_state states[40];
    size_t begun;
};

static void delivers_one(void *arg)
{
    struct together *t = arg;
    size_t i = t->begun++;
    t->states[i] = deliver(t->scene, t->claims[i], 0).state;
}

#define TOGETHER (sizeof ((struct together *)NULL)->claims / sizeof(struct claim *))

static void deliver_together(struct together *t)
{
    struct task_group group;
    task_group_init(&group);
    t->begun = 0;
    for (size_t i = 0; i < TOGETHER; i++)
        assert_int_equal(task_group_start(&group, "delivers", delivers_one, t), 0);
    assert_int_equal(task_group_wait(&group, TASK_FOREVER), 0);
}

static size_t count_delivered(const struct together *t, size_t first, size_t step)
{
    size_t n = 0;
    for (size_t i = first; i < TOGETHER; i += step)
        n += t->states[i] == RCPT_DELIVERED;
    return n;
}

static void begin_together(struct scene *s, struct together *t)
{
    begin(s);
    *t = (struct together){ .scene = s };
    for (size_t i = 0; i < TOGETHER; i++)
        t->claims[i] = put_and_claim(s, i % 4 == 0 ? "carl@us.example" : "bob@us.example", STR(MESSAGE));
}

static void end_together(struct scene *s, struct together *t)
{
    for (size_t i = 0; i < TOGETHER; i++)
        queue_unclaim(t->claims[i]);
    end(s);
}

static void side_by_side(void *arg)
{
    struct scene s;
    struct together t;
    (void)arg;
    begin_together(&s, &t);
    deliver_together(&t);
    assert_int_equal(count_delivered(&t, 0, 1), TOGETHER);
    assert_int_equal(scene_list(MAILBOX "/new", NULL), 30);
    assert_int_equal(scene_list("us/mail/us.example/carl/new", NULL), 10);
    assert_int_equal(scene_list(MAILBOX "/tmp", NULL), 0);
    deliver_together(&t);                        /* again: they are there */
    assert_int_equal(count_delivered(&t, 0, 1), TOGETHER);
    assert_int_equal(scene_list(MAILBOX "/new", NULL), 30);
    end_together(&s, &t);
}

static void test_side_by_side(void **state)
{
    (void)state;
    play(side_by_side, (struct sim_options){ .seed = 12, .sync_ns = 10 * NS_PER_US }); /* quick: few turns, of many */
}

struct cut {
    uint64_t seed, at;
    size_t   delivered;
};

/* One operation fails, and the power goes: as many are in the mailboxes as were called delivered, or more. */
static void side_by_side_in_trouble(void *arg)
{
    struct cut *cut = arg;
    struct scene s;
    struct together t;
    begin_together(&s, &t);
    sim_disk_fail(sim_disk_ops() + cut->at, EIO, false);
    deliver_together(&t);
    sim_disk_heal();
    cut->delivered = count_delivered(&t, 0, 1);
    struct sim_disk *image = sim_disk_crash(sim_disk_ops(), cut->seed, NULL);
    end_together(&s, &t);
    sim_disk_mount(image);
    sim_disk_free(image);
    struct scene_names names;
    size_t bob = scene_list(MAILBOX "/new", &names);
    for (size_t i = 0; i < bob; i++)
        check_file(MAILBOX "/new", names.names[i], "bob@us.example", STR(MESSAGE));
    assert_true(bob + scene_list("us/mail/us.example/carl/new", NULL) >= cut->delivered);
}

static void test_side_by_side_in_trouble(void **state)
{
    (void)state;
    size_t all = 0, none = 0;
    for (uint64_t at = 0; at < 600; at++) {
        struct cut cut = { .seed = at, .at = at };
        sim_begin(&(struct sim_options){ .seed = 13, .sync_ns = at % 2 == 0 ? 10 * NS_PER_US : NS_PER_MS }); /* few turns, or many */
        assert_int_equal(sim_run(side_by_side_in_trouble, &cut), 0);
        sim_end();
        all += cut.delivered == TOGETHER;
        none += cut.delivered == 0;
    }
    assert_true(all > 0 && all < 600 && none < 600);
}

/* Every operation of a delivery fails in turn: deferred, nothing half in new/, and the next try delivers one copy. */
static void failing(struct str text, int error, const char *status)
{
    for (uint64_t at = 0;; at++) {
        struct scene s;
        begin(&s);
        struct claim *c = put_and_claim(&s, "bob@us.example", text);
        uint64_t before = sim_disk_ops();
        sim_disk_fail(before + at, error, true);
        struct outcome o = deliver(&s, c, 0);
        sim_disk_heal();
        bool done = o.state == RCPT_DELIVERED;
        if (!done) {
            assert_int_equal(o.state, RCPT_PENDING);
            assert_true(str_eq(o.status, str_of(status)));
        }
        assert_int_equal(deliver(&s, c, 0).state, RCPT_DELIVERED);
        struct scene_names names;
        assert_int_equal(scene_list(MAILBOX "/new", &names), 1);
        assert_int_equal(scene_list(MAILBOX "/tmp", NULL), 0);
        check_file(MAILBOX "/new", names.names[0], "bob@us.example", text);
        queue_settle(c, &(struct outcome){ .state = RCPT_DELIVERED, .text = STR("ok") }, 1, 0);
        end(&s);
        struct sim_disk *empty = sim_disk_crash(0, 0, NULL);
        sim_disk_mount(empty);
        sim_disk_free(empty);
        if (done) {
            assert_true(at > 5);
            return;
        }
    }
}

static void disk_trouble(void *arg)
{
    (void)arg;
    failing(STR(MESSAGE), ENOSPC, "4.3.1");
    failing(STR(MESSAGE), EIO, "4.3.0");
    char *text = malloc(200000);
    memset(text, 'x', 200000);
    failing((struct str){ text, 200000 }, ENOSPC, "4.3.1");
    failing((struct str){ text, 200000 }, EIO, "4.3.0");
    free(text);
}

/* A power cut right after the delivery, whatever the disk keeps of what was not synced: the file is there, whole. */
static void durable(void *arg)
{
    (void)arg;
    for (uint64_t seed = 0; seed < 30; seed++) {
        struct scene s;
        struct scene_names names;
        begin(&s);
        struct claim *c = put_and_claim(&s, "bob@us.example", STR(MESSAGE));
        assert_int_equal(deliver(&s, c, 0).state, RCPT_DELIVERED);
        struct sim_disk *image = sim_disk_crash(sim_disk_ops(), seed, NULL);
        queue_unclaim(c);
        end(&s);
        sim_disk_mount(image);
        sim_disk_free(image);
        assert_int_equal(scene_list(MAILBOX "/new", &names), 1);
        check_file(MAILBOX "/new", names.names[0], "bob@us.example", STR(MESSAGE));
        int dir = file_open_dir(MAILBOX "/new");
        assert_int_equal(file_unlink_at(dir, names.names[0]), 0);
        (void)file_close(dir);
        /* the queue has the message still, since nothing was settled; away with it before the next round */
        struct queue *q = scene_queue(s.conf = scene_conf("us.example", "us"));
        assert_int_equal(queue_claim(q, task_deadline_in(NS_PER_S), &c), 0);
        queue_settle(c, &(struct outcome){ .state = RCPT_DELIVERED, .text = STR("ok") }, 1, 0);
        queue_close(q);
        conf_unref(s.conf);
    }
}

/* Sent on by whoever reads the mailbox, and come back. */
static void a_loop(void *arg)
{
    (void)arg;
    struct scene s;
    struct buf large;
    begin(&s);
    struct claim *c = put_and_claim(&s, "bob@us.example,alice@us.example", STR("Received: x\r\nDelivered-To: <Bob@US.example>\r\nDelivered-To: bob@us.example\r\n\r\nx\r\n"));
    struct outcome o = deliver(&s, c, 0);
    assert_int_equal(o.state, RCPT_BOUNCED);
    assert_true(str_eq(o.status, STR("5.4.6")));
    assert_int_equal(deliver(&s, c, 1).state, RCPT_DELIVERED);       /* somebody else's */
    assert_int_equal(scene_list(MAILBOX "/new", NULL), 0);
    queue_settle(c, (struct outcome[]){ { .rcpt = 0, .state = RCPT_DELIVERED, .text = STR("ok") }, { .rcpt = 1, .state = RCPT_DELIVERED, .text = STR("ok") } }, 2, 0);
    c = put_and_claim(&s, "bob@us.example", STR("Received: x\r\n\r\nDelivered-To: bob@us.example\r\n"));
    assert_int_equal(deliver(&s, c, 0).state, RCPT_DELIVERED);       /* that is text */
    queue_settle(c, &(struct outcome){ .state = RCPT_DELIVERED, .text = STR("ok") }, 1, 0);
    buf_init(&large, 1 << 20);
    buf_put_z(&large, "Received: x\r\nDelivered-To: bob@us.example\r\n\r\n");
    for (unsigned i = 0; i < 5000; i++)
        buf_put_z(&large, "one of the many lines of a large message, as it is\r\n");
    c = put_and_claim(&s, "bob@us.example", buf_str(&large));
    assert_int_equal(deliver(&s, c, 0).state, RCPT_BOUNCED);
    assert_int_equal(scene_list(MAILBOX "/new", NULL), 1);
    assert_int_equal(scene_list(MAILBOX "/tmp", NULL), 0);
    queue_unclaim(c);
    buf_free(&large);
    end(&s);
}

#define TEST(name)                                                                                                                         \
    static void test_##name(void **state)                                                                                                  \
    {                                                                                                                                      \
        (void)state;                                                                                                                       \
        play(name, (struct sim_options){ .seed = 11, .sync_ns = NS_PER_MS });                                                              \
    }
TEST(delivers)
TEST(large_bodies)
TEST(line_ends)
TEST(a_second_attempt)
TEST(a_leftover_in_tmp)
TEST(no_mailbox)
TEST(disk_trouble)
TEST(something_else_is_missing)
TEST(durable)
TEST(a_loop)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_delivers),          cmocka_unit_test(test_large_bodies), cmocka_unit_test(test_a_second_attempt),
        cmocka_unit_test(test_a_leftover_in_tmp), cmocka_unit_test(test_no_mailbox),   cmocka_unit_test(test_disk_trouble),
        cmocka_unit_test(test_durable),           cmocka_unit_test(test_something_else_is_missing),
        cmocka_unit_test(test_found_is_durable),  cmocka_unit_test(test_line_ends),
        cmocka_unit_test(test_a_loop),            cmocka_unit_test(test_side_by_side),
        cmocka_unit_test(test_side_by_side_in_trouble),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
