/*
 * The worker's rights: what the configuration names and no more.
 */
#include "admin/rights.h"
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ALWAYS "hostname = mx.here.example\nlocal_domains = {here.example}\nlisten a { address = \"127.0.0.1:0\" }\n"

static char folder[] = "/tmp/rights-test-XXXXXX";

static int set_up(void **state)
{
    (void)state;
    return mkdtemp(folder) == NULL ? -1 : 0;
}

static int tear_down(void **state)
{
    (void)state;
    return rmdir(folder);
}

static struct conf *conf_with(const char *text)
{
    char path[256], error_text[1024];
    struct conf *c = NULL;
    struct buf error;

    snprintf(path, sizeof path, "%s/conf", folder);
    FILE *f = fopen(path, "we");
    assert_non_null(f);
    assert_true(fputs(ALWAYS, f) >= 0 && fputs(text, f) >= 0 && fclose(f) == 0);
    buf_init_fixed(&error, error_text, sizeof error_text);
    if (conf_load(path, &c, &error) < 0)
        fail_msg("%.*s", (int)error.n, error.p);
    assert_int_equal(unlink(path), 0);
    return c;
}

static void rights_with(const char *text, struct rights *out, struct conf **out_conf)
{
    *out_conf = conf_with(text);
    assert_int_equal(rights_of(*out_conf, "/home/us", out), 0);
}

static const struct { const char *path, *folder; } folders[] = {
    { "/etc/nightmail.conf",              ""                     },   /* what else is in /etc is nobody's business */
    { "/etc/nightmail/users",             "/etc/nightmail"       },
    { "/nightmail.conf",                  ""                     },
    { "users",                            ""                     },
    { "conf/users",                       ""                     },
    { "/home/us/nightmail.conf",          ""                     },   /* beside .ssh */
    { "/home/us/mail/nightmail.conf",     "/home/us/mail"        },
    { "/home/users",                      ""                     },
    { "/home/usual/conf",                 "/home/usual"          },   /* no home of ours: its owner keeps it as he likes */
    { "/var/lib/conf",                    ""                     },
    { "/var/lib/nightmail/conf",          "/var/lib/nightmail"   },
};

static void a_folder_is_given_where_it_is_ours(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++) {
        struct str got = rights_folder(folders[i].path, "/home/us");
        if (!str_eq(got, str_of(folders[i].folder)))
            fail_msg("%s: %.*s", folders[i].path, (int)got.n, got.p);
    }
}

/* What the running worker was started with is not enough for: */
static const struct { const char *before, *after, *missing; } cases[] = {
    { "",                                        "",                                              NULL                       },
    { "data_dir = /srv/m\n",                     "data_dir = /srv/m\nmailbox = \"/srv/m/x/{user}\"\n", NULL                  },
    { "data_dir = /srv/m\n",                     "data_dir = /srv/m\nmailbox = \"/srv/mail/{user}\"\n", "/srv/mail/ "         },
    { "outbound_tls_ca_file = /etc/nm/a.pem\n",  "outbound_tls_ca_file = /etc/nm/b.pem\n",         NULL                      },
    { "outbound_tls_ca_file = /etc/nm/a.pem\n",  "outbound_tls_ca_file = /etc/nm2/a.pem\n",        "/etc/nm2/a.pem "         },
    { "outbound_tls_ca_file = /etc/a.pem\n",     "outbound_tls_ca_file = /etc/shadow\n",           "/etc/shadow "            },
    { "outbound_tls_ca_file = /etc/nm/a.pem\n",  "outbound_tls_ca_file = /etc/nm/a.pem.d/b\n",     NULL                      },
    { "",                                        "smtp_port = 26\n",                               "port 26 "                },
    { "smtp_port = 26\n",                        "",                                               "port 25 "                },
    { "",                                        "relay_host = \"relay.example:587\"\n",           "port 587 "               },
    { "",                                        "relay_host = \"[2001:db8::5]\"\n",               NULL                      },   /* no port 5 */
    { "relay_host = \"a.example:587\"\n",        "relay_host = \"[2001:db8::5]:587\"\n",           NULL                      },
    { "users_file = /dev/null\npostmaster = p@far.example\n", "users_file = /dev/null\npostmaster = p@far.example\nlocal_delivery = \"lmtp:store.example:2424\"\n", "port 2424 " },
    { "",                                        "dns_forwarders = {\"192.0.2.53\"}\n",            NULL                      },
    { "",                                        "dns_forwarders = {\"192.0.2.53@5353\"}\n",       "port 5353 "              },
    { "",                                        "reroute_ports = {2525}\n",                       "port 2525 "              },
    { "reroute_ports = {26, 2525}\n",            "smtp_port = 26\n",                               NULL                      },
    { "",                                        "source_address = 192.0.2.1\n",                   "a source_address "       },
    { "source_address = 192.0.2.1\n",            "source_address = 192.0.2.2\n",                   NULL                      },
};

static void a_reload_may_not_need_more(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct rights before, after;
        struct conf *a, *b;
        char why[256] = "";

        rights_with(cases[i].before, &before, &a);
        rights_with(cases[i].after, &after, &b);
        bool enough = rights_cover(&before, &after, why);
        if (enough != (cases[i].missing == NULL) || (!enough && strncmp(why, cases[i].missing, strlen(cases[i].missing)) != 0))
            fail_msg("case %zu: %d \"%s\"", i, enough, why);
        rights_free(&before);
        rights_free(&after);
        conf_unref(a);
        conf_unref(b);
    }
}

/* What is delivered is not read, whichever directory it is beneath; only the queue's own is. */
static void mailboxes_are_not_read(void **state)
{
    struct rights r;
    struct conf *c;

    (void)state;
    rights_with("data_dir = /srv/m\nmailbox = \"/srv/mail/{domain}/{user}\"\n", &r, &c);
    for (size_t i = 0; i < r.count; i++) {
        const struct right *at = &r.items[i];
        assert_false(at->to != RIGHT_DELIVER && strncmp(at->path, "/srv/mail", 9) == 0);
        assert_false(at->to == RIGHT_KEEP && strcmp(at->path, "/srv/m/journal") != 0 && strcmp(at->path, "/srv/m/body") != 0 &&
                     strcmp(at->path, "/srv/m/drain") != 0);
    }
    rights_free(&r);
    conf_unref(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_folder_is_given_where_it_is_ours),
        cmocka_unit_test(a_reload_may_not_need_more),
        cmocka_unit_test(mailboxes_are_not_read),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
