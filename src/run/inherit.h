/*
 * Descriptors that go on from one program to the next by execve: what a service manager has opened for us, and what a server hands on when
 * it becomes another version of itself.
 */
#ifndef RUN_INHERIT_H
#define RUN_INHERIT_H

#include <stdbool.h>
#include <stddef.h>

#define INHERIT_FIRST 3                          /* sd_listen_fds(3): after standard input, output and error */

/* Where the running program is; before anybody puts another one there. NULL: nobody knows. out. */
const char *inherit_program(char *out, size_t size);

/* Becomes `program`, with these descriptors open under the same numbers (negative ones are ignored) and one more variable in the environment. Comes
 * back, with everything as it was, if that cannot be: negative errno. */
int  inherit_exec(const char *program, char *const argv[], const char *name, const char *value, const int *fds, size_t n);

/* Ours alone from here on: no other program gets it. False: there is no such descriptor. */
bool inherit_take(int fd);

#endif
