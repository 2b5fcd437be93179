/*
 * The client's side of `nightmail queue export` and `import`: between the control socket and a file, so that a kill of either side, or of
 * this process, at any moment neither loses a message nor doubles it. Both say on standard error what went wrong.
 */
#ifndef ADMIN_TRANSFER_CLIENT_H
#define ADMIN_TRANSFER_CLIENT_H

#include "admin/control.h"

/* Awaits. Exit codes. A file that is there is one that was broken off: it is finished first. */
int transfer_export(struct control_client *client, const char *path, struct str filter);
int transfer_import(struct control_client *client, const char *path);

#endif
