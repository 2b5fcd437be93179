/*
 * Configurations: what is refused and in which words, defaults, lists, includes, and that what is shown reads back the same.
 */
#include "conf/conf.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[] = "/tmp/conf-test-XXXXXX";

static void write_file(const char *name, const char *text)
{
    char path[256];

    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static int load(const char *text, struct conf **out, struct buf *error)
{
    char path[256];

    write_file("conf", text);
    snprintf(path, sizeof path, "%s/conf", folder);
    buf_init(error, 65536);
    return conf_load(path, out, error);
}

#define H "hostname = mx.here.example\n"
#define LONG_PATH "xy123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345"

static const struct { const char *text, *error; } refused[] = {
    { "",                                              "conf: hostname is missing" },
    { H "hostnam = x\n",                               "conf:2: unknown word \"hostnam\"; did you mean \"hostname\"?" },
    { H "frobnicate = x\n",                            "conf:2: unknown word \"frobnicate\"\n" },
    { H "HOSTNAME = x\n",                              "conf:2: unknown word \"HOSTNAME\"" },
    { H H,                                             "conf:2: \"hostname\" stands at " },
    { H "\n\ndata_dir = \"${HOME}/x\"\n",              "conf:4: the environment is not expanded" },
    { H "data_dir = ${HOME}\n",                        "conf:2: the environment is not expanded" },
    { H "data_dir = /a#b\n",                           "conf:2: an unquoted # inside a word" },
    { H "data_dir = /a//b\n",                          "conf:2: \"/a\" is followed by" },
    { H "data_dir = \"/a\n\"",                         "conf:2: a string has no closing quote" },
    { H "data_dir = \"/a\\n\"",                        "conf:2: a backslash in a string" },
    { H "/* never ends",                               "conf:2: a comment has no end" },
    { H "/*/ data_dir = /a",                           "conf:2: a comment has no end" },
    { H "local_domains += {a.example}\n",              "conf:2: += is not known" },
    { H "local_domains = a.example\n",                 "conf:2: \"local_domains\" is a list" },
    { H "local_domains = {a.example b.example}\n",     "conf:2: \",\" expected after a list's value" },
    { H "local_domains = {a.example,\n\n -x.example}", "conf:4: local_domains: \"-x.example\" is not a domain" },
    { H "local_domains = {a.example, A.example.}",     "conf:2: local_domains: \"A.example.\" stands here twice" },
    { H "data_dir = {a}\n",                            "conf:2: \"data_dir\" takes one value" },
    { H "data_dir\n",                                  "conf:2: \"=\" expected" },
    { H "= x\n",                                       "conf:2: \"=\" without a name" },
    { H "expire = 5\n",                                "conf:2: expire: \"5\" is not a time" },
    { H "expire = 5x\n",                               "conf:2: expire: \"5x\" is not a time" },
    { H "expire = 99999999999999999999d\n",            "conf:2: expire: \"99999999999999999999d\" is not a time" },
    { H "expire = 91d\n",                              "conf:2: expire: \"91d\" is too large: at most 90d" },
    { H "message_size_max = 5MB\n",                    "conf:2: message_size_max: \"5MB\" is not a size" },
    { H "message_size_max = 1KiB\n",                   "conf:2: message_size_max: \"1KiB\" is too small: at least 64KiB" },
    { H "recipients_max = 99\n",                       "is too small: at least 100" },
    { H "recipients_max = -1\n",                       "is not a number" },
    { H "smtp_port = 65536\n",                         "is too large: at most 65535" },
    { H "log_level = loud\n",                          "is none of debug" },
    { H "unsafe_file_system = maybe\n",                "is neither yes nor no" },
    { H "trusted_networks = {10.0.0.1/8}\n",           "conf:2: trusted_networks: \"10.0.0.1/8\" is not a network" },
    { H "retry = {}\n",                                "conf:2: retry is an empty list" },
    { H "listen a { address = \"127.0.0.1:1\"\nservice = submission }\n", "conf:3: service: submission needs an accounts_file" },
    { H "accounts_file = a\nlisten a { address = \"127.0.0.1:1\" service = submission }\n",
                                                       "conf:3: service: submission needs a tls_certificate" },
    { H "listen a { address = \"127.0.0.1:1\" service = imap }\n", "service: \"imap\" is none of smtp submission lmtp" },
    { H "listen a { address = \"127.0.0.1:25\" service = lmtp }\n", "conf:2: service: LMTP must not be spoken at port 25" },
    { H "listen a { address = \"unix:x\" }\n",      "conf:2: service: only LMTP comes by a Unix socket" },
    { H "listen a { address = \"unix:\" service = lmtp }\n", "has no path that a socket can have" },
    { H "listen a { address = \"unix:/" LONG_PATH "\" service = lmtp }\n", "has no path that a socket can have" },
    { H "listen a {\naddress = \"unix:x\" service = lmtp\ntls = starttls }\ntls_certificate a { certificate = /c key = /k }\n", "conf:4: tls: a Unix socket has none" },
    { H "listen a { address = \"127.0.0.1:1\" proxy_protocol = yes }\n", "proxy_protocol: needs proxy_networks" },
    { H "listen a { address = \"127.0.0.1:1\"\nextensions_off = \"DSN CHUNKIN\" }\n", "conf:3: extensions_off: \"CHUNKIN\" is none of PIPELINING" },
    { H "listen a { address = \"127.0.0.1:1\" extensions_off = HELP }\n", "extensions_off: \"HELP\" is none of" },
    { H "client_network a { extensions_off = DSN }\n", "client_network \"a\" needs a network" },
    { H "client_network a { network = \"192.0.2.1/24\" }\n", "client_network \"a\" needs a network" },
    { H "listen a { address = \"127.0.0.1:1\" hide_client = perhaps }\n", "hide_client: \"perhaps\" is neither yes nor no" },
    { H "accounts_file = a\naccounts_sqlite = b\naccounts_query = c\n", "conf:3: of accounts_file, accounts_sqlite and accounts_pgsql only one" },
    { H "accounts_sqlite = b\n",                     "conf:2: accounts_sqlite needs accounts_query" },
    { H "accounts_query = b\n",                      "conf:2: accounts_query needs accounts_sqlite or accounts_pgsql" },
    { H "accounts_pgsql_password = \"file:x\"\n",   "conf:2: accounts_pgsql_password needs accounts_pgsql" },
    { H "accounts_pgsql = \"host=x\"\naccounts_query = q\naccounts_pgsql_password = secret\n",
                                                       "conf:4: accounts_pgsql_password: write \"file:/path\"" },
    { H "outbound_tls = often\n",                     "outbound_tls: \"often\" is none of none may encrypt verify secure" },
    { H "retry_by_domain = {\"b.example\"}\n",     "is not \"domain=time ...\"" },
    { H "retry_by_domain = {\"b.example= \"}\n",   "is not \"domain=time ...\"" },
    { H "retry_by_domain = {\"b.example=5m often\"}\n", "is not a time" },
    { H "retry_by_domain = {\"b.example=5m 0ms\"}\n", "is too small: at least 1ms" },
    { H "retry_by_domain = {\"=5m\"}\n",           "does not begin with a domain" },
    { H "retry_by_domain = {\"b.example=1m\", \"B.example=2m\"}\n", "is the second for that domain" },
    { H "outbound_tls_by_domain = {b.example}\n",     "outbound_tls_by_domain: \"b.example\" is not \"domain=level\"" },
    { H "outbound_tls_by_domain = {\"b.example=often\"}\n", "is not \"domain=level\", the level one of none may encrypt verify secure" },
    { H "outbound_tls_by_domain = {\"=verify\"}\n", "does not begin with a domain" },
    { H "outbound_tls_by_domain = {\n\"b.example=may\",\n\"B.example=none\"}\n", "conf:4: outbound_tls_by_domain: \"B.example=none\" is the second" },
    { H "relay_host_user = u\n",                      "conf:2: relay_host_user and relay_host_password need each other" },
    { H "relay_host_password = \"file:/x\"\n",        "conf:2: relay_host_user and relay_host_password need each other" },
    { H "oauth_introspection_url = \"http://idp.example/x\"\n", "conf:2: oauth_introspection_url: write https" },
    { H "oauth_introspection_url = \"http://127.0.0.1.example/x\"\n", "conf:2: oauth_introspection_url: write https" },
    { H "oauth_introspection_url = \"idp.example\"\n", "conf:2: oauth_introspection_url: \"idp.example\" is not a URL" },
    { H "oauth_introspection_url = \"https://a@b.example\"\n", "is not a URL" },
    { H "oauth_client_id = me\n",                      "conf:2: oauth_client_id needs oauth_introspection_url" },
    { H "oauth_introspection_url = \"https://a.example\"\noauth_client_id = me\n", "conf:3: oauth_client_id needs oauth_client_secret" },
    { H "oauth_introspection_url = \"https://a.example\"\noauth_client_secret = \"file:x\"\n", "conf:3: oauth_client_secret needs oauth_client_id" },
    { H "oauth_introspection_url = \"https://a.example\"\noauth_client_id = me\noauth_client_secret = x\n",
                                                       "conf:4: oauth_client_secret: write \"file:/path\"" },
    { H "oauth_introspection_url = \"https://a.example\"\noauth_login_claim = \"\"\n", "conf:3: oauth_login_claim" },
    { H "oauth_introspection_url = \"https://a.example\"\noauth_scope = 'a\"b'\n", "conf:3: oauth_scope" },
    { H "oauth_introspection_url = \"https://a.example\"\noauth_cache_time = 6m\n", "conf:3: oauth_cache_time: \"6m\" is too large" },
    { H "relay_host_oauth_client_id = me\n",           "conf:2: relay_host_oauth_client_id and its like need" },
    { H "relay_host_oauth_token_url = \"https://a.example\"\n", "conf:2: relay_host_oauth_token_url needs relay_host_oauth_client_id" },
    { H "relay_host_oauth_token_url = \"https://a.example\"\nrelay_host_oauth_client_id = me\nrelay_host_oauth_refresh_token = x\n",
                                                       "conf:4: relay_host_oauth_refresh_token: write \"file:/path\"" },
    { H "relay_host_oauth_token_url = \"https://a.example\"\nrelay_host_oauth_client_id = me\nrelay_host_oauth_refresh_token = \"file:x\"\n",
                                                       "conf:2: relay_host_oauth_token_url needs relay_host_user" },
    { H "relay_host_user = u\nrelay_host_password = \"file:x\"\nrelay_host_oauth_token_url = \"https://a.example\"\n"
      "relay_host_oauth_client_id = me\nrelay_host_oauth_refresh_token = \"file:x\"\n", "conf:3: of relay_host_password and relay_host_oauth_token_url" },
    { H "relay_host_user = u\nrelay_host_password = secret\n", "conf:3: relay_host_password: write \"file:/path\"" },
    { H "sender_logins_file = none\n",                "conf:2: sender_logins_file: cannot read" },
    { H "listen a { address = \"127.0.0.1\" }\n",      "is not an IP address with a port" },
    { H "listen a { address = \"::1:25\" }\n",         "is not an IP address with a port" },
    { H "listen a { address = \"localhost:25\" }\n",   "is not an IP address with a port" },
    { H "postmaster = a*\n",                          "must stand in quotes" },
    { H "listen a*{ address = \"127.0.0.1:1\" }\n",   "must stand in quotes" },
    { H "listen \"a\\\\b\" { address = \"[::]:1\" }\n", "a backslash in the name" },
    { H "listen a { }\n",                              "conf:2: listen \"a\" needs an address" },
    { H "listen a { adress = \"x\" }\n",               "did you mean \"address\"?" },
    { H "listen a { address = \"127.0.0.1:1\" }\nlisten a { address = \"127.0.0.1:2\" }\n", "conf:3: listen \"a\" stands at " },
    { H "listen a {\n address = \"127.0.0.1:1\"\n\n",  "conf:2: listen \"a\", which begins here, has no closing \"}\"\n" },
    { H "\nlisten a\n{ # }\n",                         "conf:3: listen \"a\", which begins here, has no" },
    { H "listen a {\naddress = \"127.0.0.1:1\"\nexpire = 5d\n", "conf:4: \"expire\" cannot stand in listen \"a\", which begins at /tmp/conf-test-" },
    { H "listen a {\nlisten b { }\n",                  "/conf:2: is its closing \"}\" missing?" },
    { H "listen a {\n\"\n",                             "conf:3: a string has no closing quote" },
    { H "local_domains = {\na.example,\nb.example\n\n", "conf:2: the list \"local_domains\", which begins here, has no closing \"}\"" },
    { H "local_domains = {a.example,",                  "conf:2: the list \"local_domains\", which begins here, has no" },
    { H "local_domains = {",                            "conf:2: the list \"local_domains\", which begins here, has no" },
    { H "dns_forwarders = {192.0.2.1,\n ns.example}\n", "conf:3: dns_forwarders: \"ns.example\" is not a name server's address" },
    { H "reroute_ports = {25, 0}\n",                   "conf:2: reroute_ports: \"0\" is not a port's number" },
    { H "dns_forwarders = {\"\"}\n",                    "conf:2: dns_forwarders: \"\" is not a name server" },
    { H "dns_forwarders = {127.0.0.1@}\n",              "conf:2: dns_forwarders: \"127.0.0.1@\" is not" },
    { H "dns_forwarders = {127.0.0.1@0}\n",             "conf:2: dns_forwarders: \"127.0.0.1@0\" is not" },
    { H "dns_forwarders = {127.0.0.1@65536}\n",         "conf:2: dns_forwarders: \"127.0.0.1@65536\" is not" },
    { H "dns_forwarders = {127.0.0.1:53}\n",            "conf:2: dns_forwarders: \"127.0.0.1:53\" is not" },
    { H "dns_forwarders = {\"[::1]@53\"}\n",            "conf:2: dns_forwarders: \"[::1]@53\" is not" },
    { H "dns_forwarders = {127.0.0.0/8}\n",             "conf:2: dns_forwarders: \"127.0.0.0/8\" is not" },
    { H "dns_forwarders = {127.0.0.1/32}\n",            "conf:2: dns_forwarders: \"127.0.0.1/32\" is not" },
    { H "users_file = nowhere\n",                      "conf:2: users_file: cannot read /tmp/conf-test-" },
    { H "include \"nowhere\"\n",                       "conf:2: cannot read /tmp/conf-test-" },
    { H "include \"\"\n",                               "conf:2: an included file needs a name" },
    { H "include \"a\\\\b\"\n",                           "conf:2: an included file needs a name, without a backslash" },
    { H "include conf\n",                              "stands at" },
    { H "sender_logins_file = senders-1\n",           "senders-1:1: \"a@b.example\" names no login" },
    { H "sender_logins_file = senders-2\n",           "senders-2:2: \"A@b.example y\" names an address that stands here already" },
    { H "sender_logins_file = senders-3\n",           "senders-3:1: \"a x\" is neither" },
    { H "relay_domains = {b.example}\n",               "conf:2: relay_domains needs relay_recipients_file" },
    { H "local_domains = {a.example}\nvirtual_domains = {a.example}\n", "conf:3: \"a.example\" is in local_domains too: has it mailboxes or only aliases?" },
    { H "relay_domains = {b.example}\nvirtual_domains = {b.example}\nrelay_recipients_file = /dev/null\n", "conf:3: \"b.example\" is in relay_domains too" },
    { H "aliases_files = {\n/dev/null,\nnowhere}\n",   "conf:4: cannot read /tmp/conf-test-" },
    { H "aliases_files = {/dev/zero/x}\n",             "conf:2: cannot read /dev/zero/x: Not a directory" },
    { H "recipient_rewrites_file = nowhere\n",        "conf:2: cannot read /tmp/conf-test-" },
    { H "sender_rewrites_file = nowhere\n",           "conf:2: cannot read /tmp/conf-test-" },
    { H "recipient_delimiter = \"+.\"\n",             "conf:2: recipient_delimiter: \"+.\" is not made of" },
    { H "recipient_delimiter = x\n",                  "conf:2: recipient_delimiter: \"x\" is not made of" },
    { H "alias_recipients_max = 0\n",                 "is too small: at least 1" },
    { H "mailbox = /var/mail/all\n",                   "conf:2: mailbox: all users would share" },
    { H "postmaster = nobody\n",                       "conf:2: postmaster: \"nobody\" is not a mail address" },
    { H "relay_host = \"a b\"\n",                       "conf:2: relay_host: \"a b\" is not" },
    { H "relay_host = \"host:\"\n",                     "conf:2: relay_host: \"host:\" is not" },
    { H "relay_host = \"host:0\"\n",                    "conf:2: relay_host: \"host:0\" is not" },
    { H "relay_host = \"host:99999\"\n",                "conf:2: relay_host: \"host:99999\" is not" },
    { H "relay_host = \"192.0.2.1\"\n",                 "conf:2: relay_host: \"192.0.2.1\" is not" },
    { H "relay_host = \"[192.0.2.1\"\n",                "conf:2: relay_host: \"[192.0.2.1\" is not" },
    { H "relay_host = \"[192.0.2.1]25\"\n",             "conf:2: relay_host: \"[192.0.2.1]25\" is not" },
    { H "relay_host = \"[]\"\n",                        "conf:2: relay_host: \"[]\" is not" },
    { H "relay_host = \"[host]\"\n",                    "conf:2: relay_host: \"[host]\" is not" },
    { H "relay_host = \":25\"\n",                       "conf:2: relay_host: \":25\" is not" },
    { H "listen a {\naddress = \"127.0.0.1:1\"\ntls = may }\n", "conf:4: tls: \"may\" is none of none starttls required implicit" },
    { H "listen a {\naddress = \"127.0.0.1:1\"\ntls = required }\n", "conf:4: tls: required needs a tls_certificate" },
    { H "listen a { address = \"127.0.0.1:1\" tsl = none }\n", "did you mean \"tls\"?" },
    { H "tls_certificate a { }\n",                     "conf:2: tls_certificate \"a\" needs a certificate" },
    { H "tls_certificate a { certificate = x }\n",     "conf:2: tls_certificate \"a\" needs a key" },
    { H "tls_certificate a { address = x }\n",         "conf:2: unknown word \"address\"" },
    { H "tls_certificate a { key = x key = y }\n",     "conf:2: \"key\" stands at " },
    { H "tls_min_protocol = TLSv1.1\n",                "conf:2: tls_min_protocol: \"TLSv1.1\" is none of TLSv1.2 TLSv1.3" },
    { H "outbound_tls = starttls\n",                   "is none of none may encrypt verify" },
    { H "local_delivery = mbox\n",                       "conf:2: local_delivery: \"mbox\" is neither \"maildir\" nor" },
    { H "local_delivery = \"lmtp:\"\n",                  "conf:2: local_delivery: \"lmtp:\" is not \"lmtp:host:port\"" },
    { H "local_delivery = \"lmtp:unix:\"\n",             "has no path that a socket can have" },
    { H "local_delivery = lmtp:127.0.0.1:24\n",          "is not \"lmtp:host:port\"" },
    { H "local_delivery = \"lmtp:[::1]24\"\n",           "is not \"lmtp:host:port\"" },
    { H "local_delivery = \"lmtp:[::1\"\n",              "is not \"lmtp:host:port\"" },
    { H "local_delivery = \"lmtp:[::1/128]:24\"\n",      "is not \"lmtp:host:port\"" },
    { H "local_delivery = \"lmtp:a_b c:24\"\n",          "is not \"lmtp:host:port\"" },
    { H "local_delivery = lmtp:box.example:0\n",         "is not \"lmtp:host:port\"" },
    { H "local_delivery = lmtp:box.example:x\n",         "is not \"lmtp:host:port\"" },
    { H "local_delivery = lmtp:box.example:25\n",        "has the port of SMTP" },
    { H "local_delivery = lmtp:box.example\n",           "conf:2: local_delivery: LMTP needs users_file" },
    { H "local_delivery_by_domain = {\"a.example\"}\n",  "is not \"domain=delivery\"" },
    { H "local_delivery_by_domain = {\"-=maildir\"}\n",  "does not begin with a domain" },
    { H "local_delivery_by_domain = {\"a.example=mbox\"}\n", "\"a.example=mbox\" is neither \"maildir\" nor" },
    { H "local_delivery_by_domain = {\"a.example=maildir\"}\n", "conf:2: local_delivery_by_domain: \"a.example\" is not among local_domains" },
    { H "local_delivery_by_domain = {\"a.example=maildir\",\n\"A.example=maildir\"}\n", "conf:3: local_delivery_by_domain: \"A.example=maildir\" is the second" },
    { H "local_domains = {a.example}\nlocal_delivery_by_domain = {\"a.example=lmtp:unix:x\"}\n", "conf:3: local_delivery_by_domain: LMTP needs users_file" },
    { H "local_domains = {a.example}\nlocal_delivery = \"lmtp:unix:x\" users_file = \"no-postmaster\"\n", "conf:3: local_delivery: mail for postmaster@a.example is always taken" },
    { H "local_domains = {a.example, b.example}\nlocal_delivery_by_domain = {\"b.example=lmtp:unix:x\"} users_file = \"postmaster-a\"\n",
      "conf:3: local_delivery_by_domain: mail for postmaster@b.example is always taken" },
    { "hostname = \"a b\"\n",                          "conf:1: hostname: \"a b\" is not a domain name" },
};

static void refuses_with_a_place(void **state)
{
    (void)state;
    write_file("senders-1", "a@b.example\n");
    write_file("senders-2", "a@b.example x\nA@b.example y\n");
    write_file("senders-3", "a x\n");
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        CLEANUP_BUF struct buf error;
        struct conf *c = NULL;
        write_file("no-postmaster", "bob\n");
        write_file("postmaster-a", "postmaster@a.example\n");
        int r = load(refused[i].text, &c, &error);
        buf_put_char(&error, '\0');
        if (r == 0 || c != NULL || strstr(error.p, refused[i].error) == NULL)
            fail_msg("%s\n-> %d %s\nwanted %s", refused[i].text, r, error.p, refused[i].error);
        conf_unref(c);
    }
}

static void refuses_a_nul(void **state)
{
    CLEANUP_BUF struct buf error;
    struct conf *c;
    char path[256];

    (void)state;
    buf_init(&error, 65536);
    snprintf(path, sizeof path, "%s/nul", folder);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fwrite("hostname = a.example\n\0x", 1, 23, f);
    fclose(f);
    assert_true(conf_load(path, &c, &error) < 0);
}

static struct conf *load_ok(const char *text)
{
    CLEANUP_BUF struct buf error;
    struct conf *c = NULL;

    int r = load(text, &c, &error);
    if (r < 0)
        fail_msg("%s\n-> %d %.*s", text, r, (int)error.n, error.p);
    return c;
}

static void has_defaults(void **state)
{
    struct conf *c = load_ok(H);

    (void)state;
    assert_string_equal(c->hostname, "mx.here.example");
    assert_string_equal(c->data_dir, "/var/lib/nightmail");
    assert_string_equal(c->control_socket, "/var/lib/nightmail/control");
    assert_string_equal(c->mailbox, "/var/lib/nightmail/mail/{domain}/{user}");
    assert_string_equal(c->resolv_conf, "/etc/resolv.conf");
    assert_int_equal(c->trusted_network_count, 2);
    assert_int_equal(c->message_size_max, 50 << 20);
    assert_int_equal(c->header_size_max, 1 << 20);
    assert_int_equal(c->retry.count, 6);
    assert_int_equal(c->retry.delays_ns[5], 7200 * NS_PER_S);
    assert_int_equal(c->expire_ns, 5 * 86400 * NS_PER_S);
    assert_int_equal(c->smtp_port, 25);
    assert_int_equal(c->local_delivery.kind, CONF_DELIVERY_MAILDIR);
    assert_int_equal(c->log_level, LOG_INFO);
    assert_null(c->dns_forwarders[0]);
    assert_false(c->have_users_file);
    assert_int_equal(c->listener_count, 0);
    assert_int_equal(c->tls_min_protocol, CONF_TLS_1_2);
    assert_int_equal(c->outbound_tls, CONF_CLIENT_TLS_MAY);
    assert_int_equal(c->relay_host_tls, CONF_CLIENT_TLS_MAY);
    assert_false(c->relay_host_tls_implicit);
    conf_unref(c);
}

/* What a listener does by itself when there are certificates, and a relay host by its port. */
static void tls_follows_from_the_rest(void **state)
{
    (void)state;
    struct conf *c = load_ok(H "listen one { address = \"127.0.0.1:1\" } listen two { tls = implicit address = \"127.0.0.1:2\" }\n"
                             "listen three { address = \"127.0.0.1:3\" tls = none }\n"
                             "tls_certificate one { certificate = \"one.pem\" key = /etc/one.key }\n"
                             "tls_certificate two { certificate = two.pem key = two.key }\n"
                             "tls_min_protocol = TLSv1.3 outbound_tls = encrypt relay_host = \"mail.example:465\"\n");
    char expect[256];

    assert_int_equal(c->listeners[0].tls, CONF_TLS_STARTTLS);
    assert_int_equal(c->listeners[1].tls, CONF_TLS_IMPLICIT);
    assert_int_equal(c->listeners[2].tls, CONF_TLS_NONE);
    assert_int_equal(c->certificate_count, 2);
    assert_string_equal(c->certificates[0].name, "one");
    snprintf(expect, sizeof expect, "%s/one.pem", folder);
    assert_string_equal(c->certificates[0].certificate_file, expect);
    assert_string_equal(c->certificates[0].key_file, "/etc/one.key");
    assert_int_equal(c->tls_min_protocol, CONF_TLS_1_3);
    assert_int_equal(c->relay_host_tls, CONF_CLIENT_TLS_ENCRYPT);
    assert_true(c->relay_host_tls_implicit);
    conf_unref(c);
    c = load_ok(H "relay_host = \"mail.example:465\" relay_host_tls = verify relay_host_tls_implicit = no\n");
    assert_int_equal(c->relay_host_tls, CONF_CLIENT_TLS_VERIFY);
    assert_false(c->relay_host_tls_implicit);
    conf_unref(c);
}

static void logins_and_their_senders(void **state)
{
    (void)state;
    write_file("senders", "Info@Here.example alice  bob@here.example\t# both\n@whole.example carl\n");
    struct conf *c = load_ok(H "accounts_file = accounts\nsender_logins_file = senders\n"
                               "relay_host = x.example\nrelay_host_user = me\nrelay_host_password = \"file:secret\"\n"
                               "listen a { address = \"127.0.0.1:1\" service = submission auth_allow_cleartext = yes hide_client = yes }\n"
                               "listen b { address = \"127.0.0.1:2\" }\n");
    assert_int_equal(c->listeners[0].terms.service, CONF_SERVICE_SUBMISSION);
    assert_true(c->listeners[0].terms.auth_allow_cleartext && c->listeners[0].terms.hide_client);
    assert_int_equal(c->listeners[1].terms.service, CONF_SERVICE_SMTP);
    assert_false(c->listeners[1].terms.auth_allow_cleartext || c->listeners[1].terms.hide_client);
    const struct conf_owners *o = map_str_get(&c->sender_logins, STR("info@here.example"));
    assert_true(o != NULL && o->count == 2 && str_eq(o->logins[0], STR("alice")) && str_eq(o->logins[1], STR("bob@here.example")));
    o = map_str_get(&c->sender_logins, STR("@whole.example"));
    assert_true(o != NULL && o->count == 1);
    assert_true(str_ends_nocase(str_of(c->relay_host_password_file), STR("/secret")));
    assert_int_equal(c->relay_host_tls, CONF_CLIENT_TLS_VERIFY);
    conf_unref(c);
    c = load_ok(H "relay_host = x.example\nrelay_host_user = me\nrelay_host_password = \"file:secret\"\nrelay_host_auth_allow_cleartext = yes\n");
    assert_int_equal(c->relay_host_tls, CONF_CLIENT_TLS_MAY);
    conf_unref(c);
    c = load_ok(H "relay_host = x.example\nrelay_host_user = me\nrelay_host_password = \"file:secret\"\nrelay_host_tls = encrypt\n");
    assert_int_equal(c->relay_host_tls, CONF_CLIENT_TLS_ENCRYPT);
    conf_unref(c);
}

static void reads_everything(void **state)
{
    (void)state;
    write_file("users", "# ours\nbob\npostmaster\nalice@here.example   # the boss\r\n\n\"J. Doe\"\n");
    write_file("backup", "@b.example\nCarl@C.example\n");
    write_file("more", "message_size_max = 1MiB\nlisten two { address = \"[::1]:2525\" }");
    struct conf *c = load_ok("# a comment\n" H "/* another\n one */ data_dir = data // and one\n"
                             "include \"more\"\n"
                             "users_file = \"users\"\nrelay_recipients_file = 'backup'\n"
                             "local_domains = {here.example, \"b\xc3\xbc" "cher.example\",}\n"
                             "relay_domains = {b.example, c.example}\n"
                             "trusted_networks = {}\n"
                             "dns_zone_files = {\"example=zone\", /etc/zone}\n"
                             "mailbox = \"mail/{user}\" retry = {30s, 1h30m}\n"
                             "control_group = '${x} \"y\"'\n"
                             "local_delivery = \"lmtp:unix:run/lmtp\"\n"
                             "local_delivery_by_domain = {\"b\xc3\xbc" "cher.example=lmtp:[IPv6:2001:db8::1]\"}\n"
                             "listen one { address = \"127.0.0.1:0\" }\n");
    char expect[256];
    snprintf(expect, sizeof expect, "%s/data", folder);
    assert_string_equal(c->data_dir, expect);
    assert_string_equal(c->control_group, "${x} \"y\"");
    snprintf(expect, sizeof expect, "example=%s/zone", folder);
    assert_string_equal(c->dns_zone_files[0], expect);
    assert_string_equal(c->dns_zone_files[1], "/etc/zone");
    assert_string_equal(c->resolv_conf, "");
    assert_int_equal(c->message_size_max, 1 << 20);
    assert_int_equal(c->trusted_network_count, 0);
    assert_int_equal(c->retry.delays_ns[1], 5400 * NS_PER_S);
    assert_int_equal(c->listener_count, 2);
    assert_non_null(map_str_get(&c->local_domains, STR("xn--bcher-kva.example")));
    const struct conf_delivery *d = map_str_get(&c->local_delivery_by_domain, STR("xn--bcher-kva.example"));
    assert_non_null(d);
    assert_true(str_eq(d->host, STR("[IPv6:2001:db8::1]")) && d->port == CONF_LMTP_PORT);
    snprintf(expect, sizeof expect, "%s/run/lmtp", folder);
    assert_string_equal(c->local_delivery.path, expect);
    assert_non_null(map_str_get(&c->users, STR("bob")));
    assert_non_null(map_str_get(&c->users, STR("alice@here.example")));
    assert_non_null(map_str_get(&c->users, STR("j. doe")));
    assert_non_null(map_str_get(&c->relay_recipients, STR("@b.example")));
    assert_non_null(map_str_get(&c->relay_recipients, STR("carl@c.example")));
    conf_unref(c);
}

static void what_is_shown_reads_back_the_same(void **state)
{
    CLEANUP_BUF struct buf first, second;

    (void)state;
    write_file("users", "bob\npostmaster\n");
    struct conf *c = load_ok(H "local_domains = {b.example, a.example} control_group = '${x} \\'y\\' \\\\' expire = 36h\n"
                             "users_file = users local_delivery = lmtp:box.example:2424\n"
                             "local_delivery_by_domain = {\"b.example=maildir\", \"a.example=lmtp:unix:/run/lmtp\"}\n"
                             "aliases_files = {/dev/null} recipient_delimiter = \"+-\" virtual_domains = {c.example}\n"
                             "listen one { address = \"127.0.0.1:0\" } segment_size = 65537 shutdown_grace = 0\n"
                             "listen two { address = \"unix:run/lmtp\" service = lmtp }\n"
                             "tls_certificate a { certificate = \"/a b\" key = /k } outbound_tls = verify\n"
                             "outbound_tls_by_domain = {\".b.example=secure\", \"B\xc3\xbc" "cher.example=none\"}\n"
                             "retry_by_domain = {\"B.example=90s 2h\", \".slow.example=1d\"}\n");
    buf_init(&first, 65536);
    buf_init(&second, 65536);
    conf_show(c, &first);
    conf_unref(c);
    assert_non_null(memmem(first.p, first.n, "local_domains = {\"a.example\", \"b.example\"}\n", 43));
    assert_non_null(memmem(first.p, first.n, "_domain = {\"a.example=lmtp:unix:/run/lmtp\", \"b.example=maildir\"}\n", 65));
    assert_non_null(memmem(first.p, first.n, "_domain = {\".b.example=secure\", \"xn--bcher-kva.example=none\"}\n", 59));
    assert_non_null(memmem(first.p, first.n, "retry_by_domain = {\".slow.example=1d\", \"b.example=90s 2h\"}\n", 59));
    assert_non_null(memmem(first.p, first.n, "smtp_port = 25   # default\n", 27));
    buf_put_char(&first, '\0');
    c = load_ok(first.p);
    conf_show(c, &second);
    conf_unref(c);
    /* the second time nothing is a default any more */
    struct str rest = { first.p, first.n - 1 }, line;
    CLEANUP_BUF struct buf bare;
    buf_init(&bare, 65536);
    while (str_cut(rest, '\n', &line, &rest)) {
        if (str_ends_nocase(line, STR("   # default")))
            line.n -= 12;
        buf_put_str(&bare, line);
        buf_put_char(&bare, '\n');
    }
    assert_int_equal(bare.n, second.n);
    assert_memory_equal(bare.p, second.p, bare.n);
}

static void the_current_one_stays_until_its_last_user(void **state)
{
    (void)state;
    conf_set_current(load_ok(H));
    struct conf *old = conf_current();
    conf_set_current(load_ok(H "expire = 1h\n"));
    assert_int_equal(old->expire_ns, 5 * 86400 * NS_PER_S);
    conf_unref(old);
    conf_set_current(NULL);
}

static void broken_files_never_crash(void **state)
{
    static const char seed[] = H "include \"more\" local_domains = {a.example, \"b\", 'c'} # x\nlisten a { address = \"127.0.0.1:0\" } /* y */ retry={1s}\n";
    char text[sizeof seed];

    (void)state;
    for (size_t i = 0; i < 3000; i++) {
        memcpy(text, seed, sizeof seed);
        text[clock_random_below(sizeof seed - 1)] = "\"'{}=#/*$\\\n,+ x"[clock_random_below(15)];
        text[clock_random_below(sizeof seed - 1)] = (char)(1 + clock_random_below(255));
        CLEANUP_BUF struct buf error;
        struct conf *c = NULL;
        int r = load(text, &c, &error);
        assert_true((r < 0) == (error.n > 0));
        conf_unref(c);
    }
}

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) == NULL ? -1 : 0;
}

static int remove_folder(void **state)
{
    static const char *const names[] = { "conf", "nul", "users", "backup", "more", "no-postmaster", "postmaster-a", "senders", "senders-1", "senders-2", "senders-3" };
    char path[256];

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        (void)unlink(path);
    }
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refuses_with_a_place),
        cmocka_unit_test(refuses_a_nul),
        cmocka_unit_test(has_defaults),
        cmocka_unit_test(tls_follows_from_the_rest),
        cmocka_unit_test(logins_and_their_senders),
        cmocka_unit_test(reads_everything),
        cmocka_unit_test(what_is_shown_reads_back_the_same),
        cmocka_unit_test(the_current_one_stays_until_its_last_user),
        cmocka_unit_test(broken_files_never_crash),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
