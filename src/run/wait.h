/*
 * Waiting for a descriptor of a foreign library, on a helper thread: BLOCKS. Tasks wait by net and stream.
 */
#ifndef RUN_WAIT_H
#define RUN_WAIT_H

#include <stdbool.h>
#include <stdint.h>

/* Until it can be read (or written, if wanted), has hung up or is in error: 0. -ETIMEDOUT at the deadline (clock_mono_ns); or another
 * negative errno. */
int wait_fd(int fd, bool writable, int64_t deadline_ns);

#endif
