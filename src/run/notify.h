/*
 * Words to the service manager that started us, and what it has opened for us: the protocols of sd_notify(3), sd_watchdog_enabled(3) and
 * sd_listen_fds(3), a datagram and a few variables each.
 *
 * Of the supervisor; nothing happens where no such manager is. Nothing here waits.
 */
#ifndef RUN_NOTIFY_H
#define RUN_NOTIFY_H

#include <stddef.h>
#include <stdint.h>

void notify_ready(const char *status);           /* it serves; again after each reload */
void notify_reloading(void);
void notify_stopping(void);
void notify_alive(void);                         /* at least twice in notify_watchdog_ns */

/* After so much silence it ends us; 0: it does not watch. In the process that it started, and in those that have its environment. */
int64_t notify_watchdog_ns(void);

/* The sockets that it has opened for this process, once: how many; descriptors from INHERIT_FIRST (inherit.h) on. */
size_t notify_sockets(void);

#endif
