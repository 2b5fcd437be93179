/*
 * What the files of the mechanisms share.
 */
#ifndef SMTP_SASL_INTERNAL_H
#define SMTP_SASL_INTERNAL_H

#include "base/buf.h"
#include "smtp/sasl.h"

static inline enum sasl_step sasl_malformed(struct sasl_server *s, const char *why)
{
    s->why = why;
    return SASL_MALFORMED;
}

static inline enum sasl_step sasl_refused(struct sasl_server *s, const char *why)
{
    s->why = why;
    return SASL_REFUSED;
}

/* The header of RFC 5801, 4, in front of SCRAM's and OAUTHBEARER's first message: "n,a=alice,". Views of the message. */
struct gs2 {
    char       flag;             /* 'n', 'y', 'p' */
    struct str binding;          /* with 'p': the channel binding's name */
    struct str authzid;          /* still encoded; empty: none */
    struct str raw;              /* the header as it is */
    struct str rest;
};
bool sasl_parse_gs2(struct str message, struct gs2 *out);

/* saslname (RFC 5801, 4): =2C and =3D decoded. False for a bad one, also for one that is no name of a login. */
bool sasl_decode_name(struct arena *a, struct str name, struct str *out);
void sasl_put_name(struct buf *out, struct str name);

/* -- sasl_scram.c */
enum sasl_step     scram_server_take(struct sasl_server *s, struct str response);
enum sasl_step     scram_server_answer(struct sasl_server *s, bool right, const uint8_t signature[DIGEST_SHA256_LEN]);
enum sasl_reaction scram_client_start(struct sasl_client *c);
enum sasl_reaction scram_client_take(struct sasl_client *c, struct str challenge);

/* -- sasl_oauth.c */
enum sasl_step oauth_server_take(struct sasl_server *s, struct str response);
enum sasl_step oauth_server_answer(struct sasl_server *s, bool right);
enum sasl_reaction oauth_client_start(struct sasl_client *c);
enum sasl_reaction oauth_client_take(struct sasl_client *c);

#endif
