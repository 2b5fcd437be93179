/*
 * Binding what the configuration says. Each loop has its own sockets on the same addresses (SO_REUSEPORT); Unix sockets are loop 0's.
 *
 * Runs in the supervisor; in a simulated world, and in unit tests, where inbound runs.
 */
#include "inbound/sockets.h"
#include "inbound/submit.h"
#include "base/log.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SMTP_PORT         25
#define LMTP_SOCKET_MODE  0660               /* for the mail system: who may open it may send to anywhere, as much as he likes */

void inbound_unbind(struct inbound_sockets *s)
{
    if (s == NULL)
        return;
    for (size_t i = 0; i < s->bound_count; i++)
        net_listener_close(s->bound[i].socket);
    conf_unref(s->conf);
    free(s->bound);
    free(s->addresses);
    free(s);
}

static struct inbound_sockets *sockets_new(struct conf *c, unsigned loops)
{
    struct inbound_sockets *s = calloc(1, sizeof *s);

    if (s == NULL)
        return NULL;
    s->conf = conf_ref(c);
    s->loops = loops;
    s->bound = calloc(loops * c->listener_count + 1, sizeof *s->bound);      /* and the submit socket */
    s->addresses = calloc(c->listener_count + 1, sizeof *s->addresses);
    if (s->bound != NULL && s->addresses != NULL)
        return s;
    inbound_unbind(s);
    return NULL;
}

static void add(struct inbound_sockets *s, const struct conf_listener *listener, unsigned loop, struct net_listener *socket)
{
    s->bound[s->bound_count++] = (struct inbound_bound){ .listener = listener, .loop = loop, .socket = socket };
}

static bool is_same(const struct inbound_sockets *before, const struct inbound_bound *b, const struct inbound_sockets *s,
                    const struct conf_listener *listener)
{
    if (b->socket == NULL || (b->listener == NULL) != (listener == NULL))
        return false;
    if (listener == NULL)
        return strcmp(before->conf->submit_socket, s->conf->submit_socket) == 0;
    if (b->listener->path != NULL || listener->path != NULL)
        return b->listener->path != NULL && listener->path != NULL && strcmp(b->listener->path, listener->path) == 0;
    return str_eq(b->listener->address, listener->address);
}

/* How many of the sockets bound before are for this listener too; negative errno. */
static int share(struct inbound_sockets *s, struct inbound_sockets *before, const struct conf_listener *listener)
{
    int shared = 0;

    for (size_t i = 0; before != NULL && before->loops == s->loops && i < before->bound_count; i++) {
        struct inbound_bound *b = &before->bound[i];
        struct net_listener *socket;
        if (!is_same(before, b, s, listener))
            continue;
        int r = net_listener_share(b->socket, &socket);
        if (r < 0)
            return r;
        add(s, listener, b->loop, socket);
        s->bound[s->bound_count - 1].shared = b->shared = true;
        shared++;
    }
    return shared;
}

void inbound_unbind_beside(struct inbound_sockets *go, struct inbound_sockets *stay)
{
    for (size_t i = 0; i < go->bound_count; i++)
        if (go->bound[i].shared && go->bound[i].socket != NULL)
            net_listener_disown(go->bound[i].socket);
    for (size_t i = 0; i < stay->bound_count; i++)
        stay->bound[i].shared = false;
    inbound_unbind(go);
}

/* Sockets that share an address among our loops would share it with another server of the same user too, and each would get some of the
 * clients. One that shares with nobody tells. */
static int check_free(const struct net_addr *at)
{
    struct net_listener *socket;

    if (net_addr_port(at) == 0)
        return 0;
    int r = net_listen(at, false, &socket);
    if (r == 0)
        net_listener_close(socket);
    return r;
}

/* The first loop's socket picks the port where it is 0; the others share it. */
static int bind_address(struct inbound_sockets *s, const struct conf_listener *listener, char error[256])
{
    struct net_addr at;
    struct net_listener *socket;
    int r = net_addr_parse(listener->address, SMTP_PORT, &at) ? 0 : -EINVAL;

    if (r == 0)
        r = check_free(&at);
    for (unsigned i = 0; r == 0 && i < s->loops; i++) {
        r = net_listen(&at, s->loops > 1, &socket);
        if (r < 0)
            break;
        add(s, listener, i, socket);
        net_listener_addr(socket, &at);
    }
    if (r < 0) {
        snprintf(error, 256, "cannot listen on %" STR_FMT " (%" STR_FMT "): %s", STR_ARG(listener->address), STR_ARG(listener->name), strerror(-r));
        return r;
    }
    s->addresses[s->address_count++] = at;
    return 0;
}

/* listener is NULL for the submit socket. */
static int bind_path(struct inbound_sockets *s, const char *path, unsigned mode, const struct conf_listener *listener, char error[256])
{
    struct net_listener *socket;

    int r = net_listen_unix(path, mode, &socket);
    if (r < 0) {
        snprintf(error, 256, "cannot listen on %s: %s", path, strerror(-r));
        return r;
    }
    add(s, listener, 0, socket);
    return 0;
}

static int bind_listener(struct inbound_sockets *s, struct inbound_sockets *before, const struct conf_listener *listener, char error[256])
{
    int shared = share(s, before, listener);

    if (shared < 0)
        snprintf(error, 256, "cannot share %" STR_FMT ": %s", STR_ARG(listener->name), strerror(-shared));
    if (shared > 0 && listener->path == NULL)
        net_listener_addr(s->bound[s->bound_count - 1].socket, &s->addresses[s->address_count++]);
    if (shared != 0)
        return shared < 0 ? shared : 0;
    if (listener->path != NULL)
        return bind_path(s, listener->path, LMTP_SOCKET_MODE, listener, error);
    return bind_address(s, listener, error);
}

static int bind_submit(struct inbound_sockets *s, struct inbound_sockets *before, char error[256])
{
    int shared = share(s, before, NULL);

    if (shared < 0)
        snprintf(error, 256, "cannot share %s: %s", s->conf->submit_socket, strerror(-shared));
    if (shared != 0)
        return shared < 0 ? shared : 0;
    return bind_path(s, s->conf->submit_socket, SUBMIT_SOCKET_MODE, NULL, error);
}

/* -- sockets that listen already ----------------------------------------------------------------------------------------------- */

static unsigned count_of(const struct inbound_sockets *s, const struct conf_listener *listener)
{
    unsigned count = 0;

    for (size_t i = 0; i < s->bound_count; i++)
        count += s->bound[i].listener == listener;
    return count;
}

static bool is_at(const struct conf_listener *listener, const struct net_listener *socket, const char *path)
{
    struct net_addr at, wanted;

    if (listener->path != NULL || path != NULL)
        return listener->path != NULL && path != NULL && strcmp(listener->path, path) == 0;
    net_listener_addr(socket, &at);
    if (!net_addr_parse(listener->address, SMTP_PORT, &wanted))
        return false;
    if (net_addr_port(&wanted) == 0)
        net_addr_set_port(&wanted, net_addr_port(&at));
    return net_addr_eq(&at, &wanted);
}

static bool assign(struct inbound_sockets *s, struct net_listener *socket)
{
    char memory[256];
    const char *path = net_listener_path(socket, memory, sizeof memory);

    for (size_t i = 0; i < s->conf->listener_count; i++) {
        const struct conf_listener *listener = &s->conf->listeners[i];
        unsigned have = count_of(s, listener);
        if (have < (path != NULL ? 1 : s->loops) && is_at(listener, socket, path)) {
            add(s, listener, have, socket);
            return true;
        }
    }
    if (path == NULL || strcmp(path, s->conf->submit_socket) != 0 || count_of(s, NULL) > 0)
        return false;
    add(s, NULL, 0, socket);
    return true;
}

/* The only socket of an address is every loop's. */
static int spread(struct inbound_sockets *s)
{
    size_t count = s->bound_count;

    for (size_t i = 0; i < count; i++) {
        struct inbound_bound *b = &s->bound[i];
        if (b->listener == NULL || b->listener->path != NULL || count_of(s, b->listener) != 1)
            continue;
        for (unsigned loop = 1; loop < s->loops; loop++) {
            struct net_listener *copy;
            int r = net_listener_share(b->socket, &copy);
            if (r < 0)
                return r;
            add(s, b->listener, loop, copy);
        }
    }
    return 0;
}

int inbound_adopt(struct conf *c, unsigned loops, const int *fds, size_t n, struct inbound_sockets **out)
{
    struct inbound_sockets *s = sockets_new(c, loops);
    int r = s == NULL ? -ENOMEM : 0;

    for (size_t i = 0; r == 0 && i < n; i++) {
        struct net_listener *socket;
        r = net_listener_adopt(fds[i], &socket);
        if (r == 0 && !assign(s, socket)) {
            log_event(LOG_WARN, "socket-unused", LOG_I64("descriptor", fds[i]), LOG_Z("text", "no listen block has its address"));
            net_listener_close(socket);
        }
        if (r == -ENOTSOCK || r == -EINVAL || r == -EBADF) {
            log_event(LOG_WARN, "socket-unused", LOG_I64("descriptor", fds[i]), LOG_Z("text", "it does not listen"));
            r = 0;
        }
    }
    if (r == 0)
        r = spread(s);
    if (r < 0) {
        inbound_unbind(s);
        return r;
    }
    *out = s;
    return 0;
}

size_t inbound_fds(const struct inbound_sockets *s, int *out, size_t max)
{
    size_t n = 0;

    for (size_t i = 0; i < s->bound_count && n < max; i++)
        if (s->bound[i].socket != NULL)
            out[n++] = net_listener_fd(s->bound[i].socket);
    return n;
}

int inbound_bind(struct conf *c, unsigned loops, struct inbound_sockets *before, struct inbound_sockets **out, char error[256])
{
    struct inbound_sockets *s = sockets_new(c, loops);
    int r = 0;

    if (s == NULL) {
        snprintf(error, 256, "no memory");
        return -ENOMEM;
    }
    for (size_t i = 0; r == 0 && i < c->listener_count; i++)
        r = bind_listener(s, before, &c->listeners[i], error);
    if (r == 0 && c->submit_socket[0] != '\0')
        r = bind_submit(s, before, error);
    if (r < 0) {
        if (before != NULL)
            inbound_unbind_beside(s, before);
        else
            inbound_unbind(s);
        return r;
    }
    *out = s;
    return 0;
}
