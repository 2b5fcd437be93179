/*
 * Behind dns.c: the one libunbound of the process, which is replaced when it no longer hears.
 */
#ifndef RUN_DNS_CONTEXT_H
#define RUN_DNS_CONTEXT_H

#include "base/str.h"

#include <unbound.h>

/* 0, or a negative errno with out_error saying why. Not from a task: it wants some hundred KiB of stack. */
int dns_context_start(struct str config, char out_error[256]);
/* Nobody asks any more. Answers that have not come do not come. If it was not started, nothing. */
void dns_context_stop(void);

/* Hands over a question; on_result is called on the pump, once, unless dns_context_gone(*out_context) is. 0, -ENOMEM, -EAGAIN. */
int dns_context_ask(const char *question, int type, void *arg, ub_callback_type on_result, unsigned *out_context);
unsigned dns_context_current(void);

/* Nothing comes back: find out whether that is libunbound's fault. Returns at once. */
void dns_context_doubt(void);

/* Told by the context, on the pump; dns.c has them. It heard, all the same; and: no question to this one is answered any more. */
void dns_heard(void);
void dns_context_gone(unsigned context);

#endif
