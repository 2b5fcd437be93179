/*
 * nightmail: one program, one command line. Maps the subcommand's name to its function; everything else is in admin/.
 */
#include "admin/cli.h"
#include "admin/commands.h"
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *summary;
} commands[] = {
    { "serve",    cmd_serve,    "run the mail server"                                          },
    { "send",     cmd_send,     "send a message by SMTP and show the conversation"             },
    { "sink",     cmd_sink,     "accept mail, count or keep it; delay, refuse or drop at will" },
    { "load",     cmd_load,     "generate load and measure throughput and latency"             },
    { "queue",    cmd_queue,    "list, show or retry queued mail; hold, delete or return it"       },
    { "sites",    cmd_sites,    "show the destinations: what they bear now, what waits, and why"   },
    { "config",   cmd_config,   "check a configuration file, or show all its values"           },
    { "user",     cmd_user,     "add, change, remove or list those who may log in"             },
    { "resolve",  cmd_resolve,  "show the way that mail to an address would go, and why"       },
    { "journal",  cmd_journal,  "dump or verify the journal of a data directory"               },
    { "upgrade",  cmd_upgrade,  "let the program that is on the disk now take over the server"     },
    { "version",  cmd_version,  "print the version"                                            },
#if defined DEBUG_BUILD
    { "debug",    cmd_debug,    "try the worker's sandbox, as an intruder would"               },
#endif
    { "sendmail", cmd_sendmail, "take a message from standard input, as sendmail -t -i -f does" },
};

static void usage(FILE *to)
{
    fputs("usage: nightmail COMMAND [OPTION]...\n\n", to);
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
        fprintf(to, "  %-10s %s\n", commands[i].name, commands[i].summary);
    fputs("\n`nightmail COMMAND --help` says more; so does nightmail(1).\n", to);
}

int main(int argc, char **argv)
{
    cli_start();
    const char *path = argc > 0 && argv[0] != NULL ? argv[0] : "";
    const char *slash = strrchr(path, '/');
    const char *self = slash != NULL ? slash + 1 : path;
    if (strcmp(self, "sendmail") == 0)
        return cmd_sendmail(argc, argv);
    if (strcmp(self, "mailq") == 0)
        return cmd_mailq(argc, argv);
    if (argc < 2) {
        usage(stderr);
        return EX_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) {
        usage(stdout);
        return EX_OK;
    }
    if (strcmp(argv[1], "--version") == 0)
        return cmd_version(argc - 1, argv + 1);
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
        if (strcmp(argv[1], commands[i].name) == 0)
            return commands[i].run(argc - 1, argv + 1);
    fprintf(stderr, "nightmail: there is no command '%s'; `nightmail --help` lists them\n", argv[1]);
    return EX_USAGE;
}
