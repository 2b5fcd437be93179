/*
 * What the subcommands share: usage texts, numbers with units, colour only on a terminal, and running a task to its end.
 */
#ifndef ADMIN_CLI_H
#define ADMIN_CLI_H

#include "base/buf.h"
#include "base/str.h"
#include "run/task.h"
#include <stdbool.h>
#include <stdio.h>

#define CLI_DEFAULT_CONF "/etc/nightmail/nightmail.conf"

void cli_start(void);                            /* for main: SIGPIPE off, as many descriptors as we may have */

/* The file that -c named, else $NIGHTMAIL_CONF, else CLI_DEFAULT_CONF. */
const char *cli_conf_path(const char *given);

/* conf_load, and whether all aliases lead somewhere. BLOCKS. Errors as there. */
struct conf;
int  cli_load_conf(const char *path, struct conf **out, struct buf *error);

/* Prints "nightmail COMMAND: message" to standard error and gives code back: return cli_fail("send", EX_USAGE, "..."). */
int  cli_fail(const char *command, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Bad option: points at --help. EX_USAGE. */
int  cli_usage_error(const char *command);

/* Runs fn(arg) as the first task of one loop, to the end of all tasks. An exit code: EX_OSERR if it cannot. */
int  cli_run_task(const char *command, task_fn *fn, void *arg);

bool cli_colour(FILE *to);                       /* a terminal, and NO_COLOR is not set */

/* "10", "5m", "100ms", "2h" to nanoseconds; "64KiB", "25MiB", "1000" to bytes; plain numbers. False, out untouched, otherwise. */
bool cli_duration(const char *text, int64_t *out_ns);
bool cli_size(const char *text, uint64_t *out_bytes);
bool cli_number(const char *text, uint64_t max, uint64_t *out);

/* For people: "3.4 KiB", "2h 5m". */
void cli_put_size(struct buf *out, uint64_t bytes);
void cli_put_duration(struct buf *out, int64_t ns);

/* A remote's bytes on a terminal: controls escaped. */
void cli_print_safe(FILE *to, struct str bytes);

#endif
