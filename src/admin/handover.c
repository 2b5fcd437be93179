/*
 * The line of a hand-over; see handover.h. Runs in the supervisor, and in a worker before its loops.
 */
#include "admin/handover.h"
#include <errno.h>
#include <limits.h>
#include <stdlib.h>

#define HEAD 20                              /* numbers before the sockets */

static void head_of(const struct handover *h, long out[HEAD])
{
    const long all[HEAD] = {
        h->is_worker, h->link, h->crashes, h->beside, h->lock, h->control,
        h->keeper.door, h->keeper.other_door, h->keeper.callers, h->keeper.leash, h->keeper.pid,
        h->lookup.door, h->lookup.other_door, h->lookup.callers, h->lookup.leash, h->lookup.pid,
        h->owner.pid, h->owner.link, h->leaving.pid, h->leaving.link,
    };

    for (size_t i = 0; i < HEAD; i++)
        out[i] = all[i];
}

static void set_head(struct handover *h, const long in[HEAD])
{
    *h = (struct handover){
        .is_worker = in[0], .link = in[1], .crashes = in[2], .beside = in[3], .lock = in[4], .control = in[5],
        .keeper = { in[6], in[7], in[8], in[9], in[10] }, .lookup = { in[11], in[12], in[13], in[14], in[15] },
        .owner = { .pid = (pid_t)in[16], .link = (int)in[17] }, .leaving = { .pid = (pid_t)in[18], .link = (int)in[19] },
    };
}

void handover_put(struct buf *out, const struct handover *h)
{
    long head[HEAD];

    head_of(h, head);
    buf_printf(out, "%d", HANDOVER_VERSION);
    for (size_t i = 0; i < HEAD; i++)
        buf_printf(out, " %ld", head[i]);
    for (size_t i = 0; i < h->socket_count; i++)
        buf_printf(out, " %d", h->sockets[i]);
}

static bool next(const char **text, long *out)
{
    char *end;

    errno = 0;
    *out = strtol(*text, &end, 10);
    bool good = errno == 0 && end != *text && *out >= -1 && *out <= INT_MAX && (*end == ' ' || *end == '\0');
    *text = end;
    return good;
}

bool handover_get(const char *text, struct handover *out)
{
    long version, head[HEAD], socket;

    if (!next(&text, &version) || version != HANDOVER_VERSION)
        return false;
    for (size_t i = 0; i < HEAD; i++)
        if (!next(&text, &head[i]))
            return false;
    set_head(out, head);
    while (*text != '\0') {
        if (!next(&text, &socket) || out->socket_count == HANDOVER_SOCKETS_MAX)
            return false;
        out->sockets[out->socket_count++] = (int)socket;
    }
    return true;
}

size_t handover_fds(const struct handover *h, int *out, size_t max)
{
    const long some[] = {
        h->link, h->lock, h->control, h->keeper.door, h->keeper.other_door, h->keeper.callers, h->keeper.leash,
        h->lookup.door, h->lookup.other_door, h->lookup.callers, h->lookup.leash, h->owner.link, h->leaving.link,
    };
    size_t n = 0;

    for (size_t i = 0; i < sizeof some / sizeof some[0] && n < max; i++)
        out[n++] = (int)some[i];
    for (size_t i = 0; i < h->socket_count && n < max; i++)
        out[n++] = h->sockets[i];
    return n;
}
