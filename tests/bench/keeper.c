/*
 * What a handshake costs with the keeper in another process, against the same one in this: the median of each in one run, in blocks that
 * take turns, so that both see the same machine.
 *
 *     keeper [HANDSHAKES]           of each sort; 10,000
 *
 * Both ends of a handshake are tasks here, over memory: what differs is the way of one signature.
 */
#include "run/keeper_internal.h"
#include "run/keeper_test_scene.h"
#include "run/stream.h"
#include "run/tls_internal.h"
#include <openssl/ssl.h>

#define BLOCK 500

static struct test_keeper keeper;
static unsigned wanted = 10000;

struct side { struct stream *stream; struct tls_context *context; };

static void accept_task(void *arg)
{
    struct side *s = arg;

    test_must(stream_tls_accept(s->stream, s->context, task_deadline_in(10 * NS_PER_S)) == 0);
    stream_close(s->stream);
}

static int64_t handshake_ns(struct tls_context *server, struct tls_context *client)
{
    struct side side = { .context = server };
    struct task_group group;
    struct stream *s;

    test_must(stream_pair(16384, &s, &side.stream) == 0);
    task_group_init(&group);
    int64_t began = clock_mono_ns();
    test_must(task_group_start(&group, "server", accept_task, &side) == 0);
    test_must(stream_tls_connect(s, client, NULL, task_deadline_in(10 * NS_PER_S)) == 0);
    int64_t ns = clock_mono_ns() - began;
    (void)stream_fill(s, task_deadline_in(10 * NS_PER_S));
    stream_close(s);
    (void)task_group_wait(&group, TASK_FOREVER);
    return ns;
}

static int by_size(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static double percentile_us(int64_t *all, unsigned percent)
{
    qsort(all, wanted, sizeof *all, by_size);
    return (double)all[(uint64_t)(wanted - 1) * percent / 100] / NS_PER_US;
}

static void measure(int rsa)
{
    struct tls_pair pair = { keeper.cert[rsa], keeper.key[rsa] };
    struct tls_context *server, *client;
    int64_t *ns[2] = { calloc(wanted, sizeof(int64_t)), calloc(wanted, sizeof(int64_t)) };
    char error[256];

    test_must(ns[0] != NULL && ns[1] != NULL);
    test_must(tls_server_new(&(struct tls_server_options){ .pairs = &pair, .count = 1 }, &server, error) == 0);
    test_must(tls_client_new(&(struct tls_client_options){ .verify = false }, &client, error) == 0);
    SSL_CTX_sess_set_new_cb(tls_context_ssl(client), NULL);  /* none is taken up again */
    for (unsigned i = 0; i < wanted; i += BLOCK)
        for (int far = 0; far < 2; far++) {
            test_must(!far || keeper_connect(keeper.callers, error) == 0);
            for (unsigned n = i; n < i + BLOCK && n < wanted; n++)
                ns[far][n] = handshake_ns(server, client);
            if (far)
                keeper_stop();
        }
    double near[2] = { percentile_us(ns[0], 50), percentile_us(ns[0], 99) }, far[2] = { percentile_us(ns[1], 50), percentile_us(ns[1], 99) };
    printf("%-5s  in-process %.1f us (p99 %.1f)   keeper %.1f us (p99 %.1f)   the keeper's way costs %+.1f us\n", rsa ? "RSA" : "ECDSA", near[0], near[1],
           far[0], far[1], far[0] - near[0]);
    tls_unref(server);
    tls_unref(client);
    free(ns[0]);
    free(ns[1]);
}

static void bench(void *arg)
{
    (void)arg;
    measure(0);
    measure(1);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        wanted = (unsigned)atoi(argv[1]);
    test_must(wanted > 0);
    test_keeper_files(&keeper);
    test_keeper_fork(&keeper);
    printf("%u handshakes of each sort, medians\n", wanted);
    int r = loop_run(1, bench, NULL);
    test_must(test_keeper_end(&keeper, false) == 0);
    test_keeper_free(&keeper);
    return r == 0 ? 0 : 1;
}
