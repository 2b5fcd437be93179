/*
 * What the files of admin/sandbox*.c share.
 */
#ifndef ADMIN_SANDBOX_INTERNAL_H
#define ADMIN_SANDBOX_INTERNAL_H

#include "admin/sandbox.h"

/* A sanitizer's runtime does more than we: it stops threads to look for leaks, and reads the program to name a fault's place. That of a
 * coverage build writes what was run. */
#if defined SAN_ADDRESS || defined SAN_THREAD || defined SAN_COVERAGE
#define SANITIZED true
#else
#define SANITIZED false
#endif

#define LANDLOCK_NEWEST 7                /* the newest ABI that we know; a newer kernel enforces at least as much */

/* sandbox_files.c. The kernel's ABI, 0 without Landlock; and what it cannot enforce, as words. */
int  landlock_abi(void);
void landlock_put_lacks(int abi, struct buf *out);
/* All that is not in the rights is closed from here on. What of the rights is not there is passed over, and logged at debug. */
int  landlock_enforce(int abi, const struct rights *r, char error[256]);

/* sandbox_calls.c. */
int  calls_enforce(char error[256]);

#endif
