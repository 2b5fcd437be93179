/*
 * The client's side of AUTH (RFC 4954): which mechanism, and the conversation.
 */
#ifndef OUTBOUND_CLIENT_AUTH_H
#define OUTBOUND_CLIENT_AUTH_H

#include "smtp/reply.h"
#include "smtp/sasl.h"

/* The mechanisms in "PLAIN LOGIN SCRAM-SHA-256", what stands behind AUTH in the answer to EHLO, as bits 1 << enum sasl_mechanism. */
unsigned client_auth_mechanisms(struct str words);

struct client_auth {
    unsigned   mechanisms;               /* that the server offers */
    bool       plain_allowed;            /* those that show the password to the server: the channel is private, or the operator says so */
    bool       by_token;                 /* password is an access token: OAUTHBEARER and XOAUTH2, and no other mechanism */
    struct str login, password;
    /* Awaits: says a line (without CRLF; never to be logged or shown) and reads its reply into *reply. Negative: the connection is lost. */
    int      (*say)(void *arg, struct str line);
    void      *arg;
    struct smtp_reply *reply;
};

/* Awaits. 0: logged in. -EACCES: it did not work, and error says why; the server's last words are in reply, if it was the server (code 400
 * and above). -EBADMSG: the server is out of step. Other errors are those of say. */
int client_auth_run(const struct client_auth *how, char error[256]);

#endif
