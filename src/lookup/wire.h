/*
 * What is asked of lookup's process over its lines (run/line.h), of which it has two doors: the worker's and the keeper's. A hash of a
 * password goes to the keeper alone.
 */
#ifndef LOOKUP_WIRE_H
#define LOOKUP_WIRE_H

#include "run/keeper_source.h"
#include "run/wire.h"

/* What the fields of a message mean stands beside each: question -> answer. A negative result is an errno: -EAGAIN busy. */
enum lookup_op {
    /* At the worker's door. */
    LOOKUP_OP_TOKEN = 1,                 /* token, login -> result: the verdict; number: the scope lacks; login, why */
    LOOKUP_OP_RELAY_TOKEN,               /* the one refused -> result; the token, or an error in words */
    LOOKUP_OP_CHECK,                     /* nothing -> result: the configuration can be taken; an error in words */
    LOOKUP_OP_RELOAD,                    /* likewise, and it is */
    /* At the keeper's door. */
    LOOKUP_OP_STATE,                     /* nothing -> number: there are verifiers */
    LOOKUP_OP_ACCOUNT,                   /* login -> result: keeper_found; number: iterations, 0 no verifier; login, hash, the verifier */
};

/* A verifier as a part: salt, StoredKey, ServerKey. */
#define LOOKUP_VERIFIER_MAX (KEEPER_SALT_MAX + sizeof(struct scram_keys))

/* The record as an answer's fields, whose parts point into a and verifier; and back: false, if that is none. */
void lookup_put_record(const struct keeper_record *a, char verifier[LOOKUP_VERIFIER_MAX], struct wire_message *out);
bool lookup_take_record(const struct wire_message *m, struct keeper_record *out);

#endif
