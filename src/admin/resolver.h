/*
 * DNS by a configuration's options: for each process that asks it (the worker, lookup).
 */
#ifndef ADMIN_RESOLVER_H
#define ADMIN_RESOLVER_H

#include "conf/conf.h"

/* Before the loops run, or from the first task; dns_stop ends it. A negative errno with the reason in words. */
int resolver_start(const struct conf *c, char error[256]);

#endif
