/*
 * Files with secrets that the configuration names, and whether more people may read them than should.
 */
#ifndef ADMIN_SECRETS_H
#define ADMIN_SECRETS_H

#include "conf/conf.h"

/* A warning in the log for each that everybody may read by its mode. Only looks at the modes; nothing is opened. BLOCKS. */
void secrets_check(const struct conf *c);

#endif
