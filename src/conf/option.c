/*
 * The table of options. Pure. How their values are read and written: option_value.c.
 */
#include "conf/option.h"
#include "base/clock.h"

#define MINUTES (60 * NS_PER_S)
#define HOURS   (60 * MINUTES)
#define DAYS    (24 * HOURS)
#define KIB     UINT64_C(1024)
#define MIB     (1024 * KIB)
#define GIB     (1024 * MIB)

#define F(field) offsetof(struct conf, field)

// clang-format off
const struct option options[] = {
    /* name                         kind            field                                            default               least        most */
    { "hostname",                   OPTION_HOST,    F(hostname), 0,                                  NULL,                 0,           0 },
    { "data_dir",                   OPTION_PATH,    F(data_dir), 0,                                  "/var/lib/nightmail", 0,           0 },
    { "control_socket",             OPTION_PATH,    F(control_socket), 0,                            NULL,                 0,           0 },
    { "control_group",              OPTION_TEXT,    F(control_group), 0,                             "",                   0,           0 },
    { "submit_socket",              OPTION_PATH,    F(submit_socket), 0,                             NULL,                 0,           0 },
    { "user",                       OPTION_TEXT,    F(user), 0,                                      "",                   0,           0 },
    { "sandbox",                    OPTION_BOOL,    F(sandbox), 0,                                   "yes",                0,           0 },
    { "log_level",                  OPTION_LEVEL,   F(log_level), 0,                                 "info",               0,           0 },
    { "unsafe_file_system",         OPTION_BOOL,    F(unsafe_file_system), 0,                        "no",                 0,           0 },
    { "segment_size",               OPTION_SIZE,    F(segment_size), 0,                              "64MiB",              64 * KIB,    4 * GIB },
    { "disk_free_min",              OPTION_SIZE,    F(disk_free_min), 0,                             "64MiB",              0,           1024 * 1024 * GIB },

    { "trusted_networks",           OPTION_NETWORKS, F(trusted_networks), F(trusted_network_count),  "127.0.0.0/8 ::1",    0,           0 },
    { "proxy_networks",             OPTION_NETWORKS, F(proxy_networks), F(proxy_network_count),      "",                   0,           0 },
    { "etrn_networks",              OPTION_NETWORKS, F(etrn_networks), F(etrn_network_count),        "",                   0,           0 },
    { "xclient_networks",           OPTION_NETWORKS, F(xclient_networks), F(xclient_network_count),  "",                   0,           0 },
    { "xforward_networks",          OPTION_NETWORKS, F(xforward_networks), F(xforward_network_count), "",                  0,           0 },
    { "local_domains",              OPTION_DOMAINS, F(local_domains), 0,                             "",                   0,           0 },
    { "virtual_domains",            OPTION_DOMAINS, F(virtual_domains), 0,                           "",                   0,           0 },
    { "users_file",                 OPTION_PATH,    F(users_file), 0,                                "",                   0,           0 },
    { "local_delivery",             OPTION_DELIVERY, F(local_delivery), 0,                           "maildir",            0,           0 },
    { "local_delivery_by_domain",   OPTION_DELIVERIES, F(local_delivery_by_domain), 0,               "",                   0,           0 },
    { "mailbox",                    OPTION_PATH,    F(mailbox), 0,                                   NULL,                 0,           0 },
    { "postmaster",                 OPTION_TEXT,    F(postmaster), 0,                                "",                   0,           0 },
    { "aliases_files",              OPTION_PATHS,   F(aliases_files), 0,                             "",                   0,           0 },
    { "alias_recipients_max",       OPTION_COUNT,   F(alias_recipients_max), 0,                      "1000",               1,           50000 },
    { "recipient_delimiter",        OPTION_TEXT,    F(recipient_delimiter), 0,                       "+",                  0,           0 },
    { "recipient_rewrites_file",    OPTION_PATH,    F(recipient_rewrites_file), 0,                   "",                   0,           0 },
    { "sender_rewrites_file",       OPTION_PATH,    F(sender_rewrites_file), 0,                      "",                   0,           0 },
    { "relay_domains",              OPTION_DOMAINS, F(relay_domains), 0,                             "",                   0,           0 },
    { "relay_recipients_file",      OPTION_PATH,    F(relay_recipients_file), 0,                     "",                   0,           0 },

    { "accounts_file",              OPTION_PATH,    F(accounts_file), 0,                             "",                   0,           0 },
    { "accounts_sqlite",            OPTION_PATH,    F(accounts_sqlite), 0,                           "",                   0,           0 },
    { "accounts_pgsql",             OPTION_TEXT,    F(accounts_pgsql), 0,                            "",                   0,           0 },
    { "accounts_pgsql_password",    OPTION_TEXT,    F(accounts_pgsql_password), 0,                   "",                   0,           0 },
    { "accounts_query",             OPTION_TEXT,    F(accounts_query), 0,                            "",                   0,           0 },
    { "accounts_query_timeout",     OPTION_TIME,    F(accounts_query_timeout_ns), 0,                 "5s",                 100 * NS_PER_MS, 1 * MINUTES },
    { "accounts_connections_max",   OPTION_COUNT,   F(accounts_connections_max), 0,                  "4",                  1,           64 },
    { "accounts_waiting_max",       OPTION_COUNT,   F(accounts_waiting_max), 0,                      "100",                1,           100000 },
    { "scram",                      OPTION_BOOL,    F(scram), 0,                                     "no",                 0,           0 },
    { "password_checks_max",        OPTION_COUNT,   F(password_checks_max), 0,                       "2",                  1,           64 },
    { "password_checks_waiting_max", OPTION_COUNT,  F(password_checks_waiting_max), 0,               "100",                1,           100000 },
    { "oauth_introspection_url",    OPTION_TEXT,    F(oauth_introspection_url), 0,                   "",                   0,           0 },
    { "oauth_client_id",            OPTION_TEXT,    F(oauth_client_id), 0,                           "",                   0,           0 },
    { "oauth_client_secret",        OPTION_TEXT,    F(oauth_client_secret), 0,                       "",                   0,           0 },
    { "oauth_login_claim",          OPTION_TEXT,    F(oauth_login_claim), 0,                         "username",           0,           0 },
    { "oauth_scope",                OPTION_TEXT,    F(oauth_scope), 0,                               "",                   0,           0 },
    { "oauth_audience",             OPTION_TEXT,    F(oauth_audience), 0,                            "",                   0,           0 },
    { "oauth_ca_file",              OPTION_PATH,    F(oauth_ca_file), 0,                             "",                   0,           0 },
    { "oauth_timeout",              OPTION_TIME,    F(oauth_timeout_ns), 0,                          "5s",                 100 * NS_PER_MS, 1 * MINUTES },
    { "oauth_cache_time",           OPTION_TIME,    F(oauth_cache_time_ns), 0,                       "5m",                 0,           5 * MINUTES },
    { "oauth_checks_max",           OPTION_COUNT,   F(oauth_checks_max), 0,                          "4",                  1,           64 },
    { "oauth_checks_waiting_max",   OPTION_COUNT,   F(oauth_checks_waiting_max), 0,                  "100",                1,           100000 },
    { "auth_failures_max",          OPTION_COUNT,   F(auth_failures_max), 0,                         "3",                  1,           100 },
    { "auth_failure_delay",         OPTION_TIME,    F(auth_failure_delay_ns), 0,                     "2s",                 0,           1 * MINUTES },
    { "sender_logins_file",         OPTION_PATH,    F(sender_logins_file), 0,                        "",                   0,           0 },
    { "login_messages_per_hour",    OPTION_COUNT,   F(login_messages_per_hour), 0,                   "1000",               0,           UINT32_MAX },
    { "login_recipients_per_hour",  OPTION_COUNT,   F(login_recipients_per_hour), 0,                 "5000",               0,           UINT32_MAX },

    { "message_size_max",           OPTION_SIZE,    F(message_size_max), 0,                          "50MiB",              64 * KIB,    2 * GIB },
    { "recipients_max",             OPTION_COUNT,   F(recipients_max), 0,                            "1000",               100,         65536 },   /* RFC 5321, 4.5.3.1.8 */
    { "sessions_max",               OPTION_COUNT,   F(sessions_max), 0,                              "10000",              1,           1000000 },
    { "sessions_per_client_max",    OPTION_COUNT,   F(sessions_per_client_max), 0,                   "1000",               1,           1000000 },
    { "client_connections_per_minute", OPTION_COUNT,   F(client_connections_per_minute), 0,          "300",                0,           UINT32_MAX },
    { "client_errors_per_hour",     OPTION_COUNT,   F(client_errors_per_hour), 0,                    "1000",               0,           UINT32_MAX },
    { "client_unknown_users_per_hour", OPTION_COUNT,   F(client_unknown_users_per_hour), 0,          "200",                0,           UINT32_MAX },
    { "client_messages_per_hour",   OPTION_COUNT,   F(client_messages_per_hour), 0,                  "20000",              0,           UINT32_MAX },
    { "client_login_failures_per_hour", OPTION_COUNT,   F(client_login_failures_per_hour), 0,        "30",                 0,           UINT32_MAX },
    { "login_failures_per_hour",    OPTION_COUNT,   F(login_failures_per_hour), 0,                   "100",                0,           UINT32_MAX },
    { "client_network_factor",      OPTION_COUNT,   F(client_network_factor), 0,                     "4",                  0,           65536 },
    { "enforce_sync",               OPTION_BOOL,    F(enforce_sync), 0,                              "yes",                0,           0 },
    { "greeting_delay",             OPTION_TIME,    F(greeting_delay_ns), 0,                         "0s",                 0,           1 * MINUTES },
    { "errors_max",                 OPTION_COUNT,   F(errors_max), 0,                                "20",                 1,           1000000 },
    { "messages_per_session_max",   OPTION_COUNT,   F(messages_per_session_max), 0,                  "10000",              1,           UINT32_MAX },
    { "header_size_max",            OPTION_SIZE_U32, F(header_size_max), 0,                           "1MiB",               1 * KIB,     64 * MIB },
    { "received_max",               OPTION_COUNT,   F(received_max), 0,                              "100",                1,           10000 },
    { "command_timeout",            OPTION_TIME,    F(command_timeout_ns), 0,                        "5m",                 NS_PER_S,    1 * DAYS },
    { "data_timeout",               OPTION_TIME,    F(data_timeout_ns), 0,                           "3m",                 NS_PER_S,    1 * DAYS },
    { "transaction_timeout",        OPTION_TIME,    F(transaction_timeout_ns), 0,                    "2h",                 NS_PER_S,    30 * DAYS },
    { "data_rate_min",              OPTION_SIZE_U32, F(data_rate_min), 0,                             "256",                0,           16 * MIB },
    { "future_release_max",         OPTION_TIME,    F(future_release_max_ns), 0,                     "7d",                 0,           90 * DAYS },
    { "deliver_by_min",             OPTION_TIME,    F(deliver_by_min_ns), 0,                         "0s",                 0,           90 * DAYS },
    { "shutdown_grace",             OPTION_TIME,    F(shutdown_grace_ns), 0,                         "30s",                0,           1 * HOURS },
    { "drain_time",                 OPTION_TIME,    F(drain_time_ns), 0,                             "1m",                 0,           1 * HOURS },
    { "hang_time",                  OPTION_TIME,    F(hang_time_ns), 0,                              "30s",                0,           1 * HOURS },
    { "local_submit_max_per_hour",  OPTION_COUNT,   F(local_submit_max_per_hour), 0,                 "1000",               1,           UINT32_MAX },

    { "relay_host",                 OPTION_TEXT,    F(relay_host), 0,                                "",                   0,           0 },
    { "smtp_port",                  OPTION_PORT,    F(smtp_port), 0,                                 "25",                 1,           65535 },
    { "reroute_ports",              OPTION_PORTS,   F(reroute_ports), 0,                             "",                   0,           0 },
    { "source_address",             OPTION_IP,      F(source_address), 0,                            "",                   0,           0 },
    { "deliveries_max",             OPTION_COUNT,   F(deliveries_max), 0,                            "500",                1,           100000 },
    { "site_connections_max",       OPTION_COUNT,   F(site_connections_max), 0,                      "20",                 1,           10000 },
    { "connection_messages_max",    OPTION_COUNT,   F(connection_messages_max), 0,                   "100",                1,           1000000 },
    { "refusals_file",              OPTION_PATH,    F(refusals_file), 0,                             "",                   0,           0 },
    { "connection_idle",            OPTION_TIME,    F(connection_idle_ns), 0,                        "5s",                 0,           1 * HOURS },
    { "connect_timeout",            OPTION_TIME,    F(connect_timeout_ns), 0,                        "30s",                NS_PER_S,    1 * HOURS },
    { "greeting_timeout",           OPTION_TIME,    F(greeting_timeout_ns), 0,                       "5m",                 NS_PER_S,    1 * HOURS },
    { "reply_timeout",              OPTION_TIME,    F(reply_timeout_ns), 0,                          "5m",                 NS_PER_S,    1 * HOURS },
    { "delivery_timeout",           OPTION_TIME,    F(delivery_timeout_ns), 0,                       "2h",                 NS_PER_S,    30 * DAYS },
    { "retry",                      OPTION_TIMES,   F(retry), 0,                                     "1m 5m 15m 30m 1h 2h", NS_PER_MS,  30 * DAYS },
    { "retry_by_domain",            OPTION_RETRIES, F(retry_by_domain), 0,                           "",                   NS_PER_MS,   30 * DAYS },
    { "expire",                     OPTION_TIME,    F(expire_ns), 0,                                 "5d",                 0,           90 * DAYS },
    { "bounce_expire",              OPTION_TIME,    F(bounce_expire_ns), 0,                          "2d",                 0,           90 * DAYS },
    { "delay_warning",              OPTION_TIME,    F(delay_warning_ns), 0,                          "4h",                 0,           90 * DAYS },

    { "relay_host_user",            OPTION_TEXT,    F(relay_host_user), 0,                           "",                   0,           0 },
    { "relay_host_password",        OPTION_TEXT,    F(relay_host_password), 0,                       "",                   0,           0 },
    { "relay_host_oauth_token_url", OPTION_TEXT,    F(relay_host_oauth_token_url), 0,                "",                   0,           0 },
    { "relay_host_oauth_client_id", OPTION_TEXT,    F(relay_host_oauth_client_id), 0,                "",                   0,           0 },
    { "relay_host_oauth_client_secret", OPTION_TEXT, F(relay_host_oauth_client_secret), 0,           "",                   0,           0 },
    { "relay_host_oauth_refresh_token", OPTION_TEXT, F(relay_host_oauth_refresh_token), 0,           "",                   0,           0 },
    { "relay_host_oauth_scope",     OPTION_TEXT,    F(relay_host_oauth_scope), 0,                    "",                   0,           0 },
    { "relay_host_oauth_ca_file",   OPTION_PATH,    F(relay_host_oauth_ca_file), 0,                  "",                   0,           0 },
    { "relay_host_oauth_timeout",   OPTION_TIME,    F(relay_host_oauth_timeout_ns), 0,               "10s",                100 * NS_PER_MS, 1 * MINUTES },
    { "relay_host_auth_allow_cleartext", OPTION_BOOL, F(relay_host_auth_allow_cleartext), 0,         "no",                 0,           0 },

    { "tls_min_protocol",           OPTION_WORD,    F(tls_min_protocol), 0,                          "TLSv1.2",            0,           0,           CONF_TLS_PROTOCOLS },
    { "tls_ciphers",                OPTION_TEXT,    F(tls_ciphers), 0,                               "",                   0,           0 },
    { "tls_handshake_timeout",      OPTION_TIME,    F(tls_handshake_timeout_ns), 0,                  "1m",                 NS_PER_S,    1 * HOURS },
    { "tls_check_interval",         OPTION_TIME,    F(tls_check_interval_ns), 0,                     "1m",                 NS_PER_S,    1 * DAYS },
    { "outbound_tls",               OPTION_WORD,    F(outbound_tls), 0,                              "may",                0,           0,           CONF_CLIENT_TLS_WORDS },
    { "outbound_tls_by_domain",     OPTION_TLS_LEVELS, F(outbound_tls_by_domain), 0,                 "",                   0,           0 },
    { "outbound_tls_ca_file",       OPTION_PATH,    F(outbound_tls_ca_file), 0,                      "",                   0,           0 },
    { "relay_host_tls",             OPTION_WORD,    F(relay_host_tls), 0,                            NULL,                 0,           0,           CONF_CLIENT_TLS_WORDS },
    { "relay_host_tls_implicit",    OPTION_BOOL,    F(relay_host_tls_implicit), 0,                   NULL,                 0,           0 },

    { "dns_forwarders",             OPTION_SERVERS, F(dns_forwarders), 0,                            "",                   0,           0 },
    { "dns_zone_files",             OPTION_ZONES,   F(dns_zone_files), 0,                            "",                   0,           0 },
    { "dns_trust_anchor",           OPTION_PATH,    F(dns_trust_anchor), 0,                          "",                   0,           0 },
    { "resolv_conf",                OPTION_PATH,    F(resolv_conf), 0,                               NULL,                 0,           0 },
};
// clang-format on
const size_t option_count = sizeof options / sizeof options[0];

bool option_is_list(const struct option *o) { return o->kind >= OPTION_TIMES; }

const struct option *option_find(struct str name)
{
    for (size_t i = 0; i < option_count; i++)
        if (str_eq(name, str_of(options[i].name)))
            return &options[i];
    return NULL;
}
