/*
 * The keeper's side of the wire: what its process does with the questions that run/keeper_far.c asks.
 *
 * Who asks may be a worker that somebody has broken into. It can have signed, checked and read what the configuration names, as
 * the worker that it was could; it can name no other file.
 */
#ifndef RUN_KEEPER_SERVE_H
#define RUN_KEEPER_SERVE_H

#include "run/keeper.h"

struct keeper_rights {
    bool (*may_sign_with)(void *arg, struct str path);
    bool (*may_give)(void *arg, struct str path);                /* the credential in this file */
    int  (*reload)(void *arg, char out_error[256]);              /* on a helper thread, one at a time: BLOCKS */
    void  *arg;
};

/* Awaits: answers at the door (run/line.h) until the calling task is cancelled. What keeper_start has started is what it asks. */
int keeper_serve(int door, const struct keeper_rights *rights);

#endif
