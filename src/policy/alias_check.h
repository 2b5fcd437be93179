/*
 * Do all aliases lead somewhere? The question at check time, about the whole snapshot. Pure.
 */
#ifndef POLICY_ALIAS_CHECK_H
#define POLICY_ALIAS_CHECK_H

#include "conf/conf.h"

#define ALIAS_CHECK_STEPS_MAX  1000000   /* about a second; what a larger table has beyond it shows at RCPT, as a 4xx and in the log */
#define ALIAS_CHECK_ERRORS_MAX 20

/* False, with lines "file:line: what is wrong" in error: a circle (named once), a way that is too long, too many recipients, a target that is
 * nobody here. Maildirs are not looked at: without users_file every name is taken for somebody's. */
bool alias_check(const struct conf *c, struct buf *error);

#endif
