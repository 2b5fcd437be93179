/*
 * Counters and gauges: plain atomics in one table, read by the control socket. A metric is a name in the list below;
 * adding one is adding a line.
 */
#ifndef BASE_METRICS_H
#define BASE_METRICS_H

#include <stdint.h>

#define METRICS(X)                      \
    X(sessions_open)                    \
    X(sessions_total)                   \
    X(sessions_refused)                 \
    X(tls_handshakes)                   \
    X(tls_handshakes_failed)            \
    X(tls_resumed)                      \
    X(messages_accepted)                \
    X(messages_refused)                 \
    X(bytes_accepted)                   \
    X(rcpts_delivered)                  \
    X(rcpts_deferred)                   \
    X(rcpts_bounced)                    \
    X(rcpts_failed_silent)              \
    X(rcpts_discarded)                  \
    X(journal_syncs)                    \
    X(journal_sync_failures)            \
    X(journal_bytes)                    \
    X(queue_messages)                   \
    X(queue_bodies_arriving_bytes)      \
    X(connections_out_opened)           \
    X(connections_out_reused)           \
    X(tls_out_handshakes)               \
    X(tls_out_handshakes_failed)        \
    X(tls_out_resumed)                  \
    X(credentials_given)                \
    X(logins)                           \
    X(login_failures)                   \
    X(messages_over_rate)               \
    X(loop_turns_slow)

enum metric {
#define METRIC_ENUM(name) METRIC_##name,
    METRICS(METRIC_ENUM)
#undef METRIC_ENUM
    METRIC_COUNT
};

void        metric_add(enum metric m, int64_t delta);
int64_t     metric_get(enum metric m);
const char *metric_name(enum metric m);

#endif
