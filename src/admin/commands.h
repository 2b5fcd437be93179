/*
 * The subcommands: each is a function that takes its own name as argv[0] and gives the process's exit code (sysexits.h).
 */
#ifndef ADMIN_COMMANDS_H
#define ADMIN_COMMANDS_H

int cmd_serve(int argc, char **argv);
int cmd_send(int argc, char **argv);
int cmd_sink(int argc, char **argv);
int cmd_load(int argc, char **argv);
int cmd_queue(int argc, char **argv);
int cmd_sites(int argc, char **argv);
int cmd_config(int argc, char **argv);
int cmd_user(int argc, char **argv);
int cmd_resolve(int argc, char **argv);
int cmd_journal(int argc, char **argv);
int cmd_upgrade(int argc, char **argv);
int cmd_version(int argc, char **argv);
#if defined DEBUG_BUILD
int cmd_debug(int argc, char **argv);
#endif
int cmd_sendmail(int argc, char **argv);         /* the program called as `sendmail` */
int cmd_mailq(int argc, char **argv);            /* the program called as `mailq` */

#endif
