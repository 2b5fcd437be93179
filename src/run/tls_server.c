/*
 * Server contexts: certificates and keys, and which of them a client sees.
 *
 * Certificates are found by the names in them. For a name there may be one of each kind of key, RSA and ECDSA side by side: OpenSSL
 * takes the one that the client can check, ECDSA first. A name that stands in several certificates belongs to the first of them; one
 * that only a wildcard covers to that. Every distinct choice is an SSL_CTX of its own, made when the files are read; the client's SNI
 * picks it (RFC 6066, 3). Who names nobody, or nobody of ours, sees the first certificate: in mail that is better than no TLS.
 */
#include "base/arena.h"
#include "base/cleanup.h"
#include "run/keeper_key.h"
#include "run/tls_internal.h"
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PAIRS_MAX       (KEEPER_KEYS_MAX / 4)    /* while a reload reads them there are twice as many */
#define NAMES_BYTES_MAX (4 * 1024 * 1024)
#define NAME_MAX_BYTES  255
#define CHAIN_MAX       16

/* ECDSA first: a tenth of the work. All with forward secrecy and authenticated encryption (RFC 9325, 4.2). */
#define CIPHERS "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-CHACHA20-POLY1305:" \
                "ECDHE-RSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384"

enum key_kind { KEY_RSA, KEY_EC, KEY_KINDS };

struct pair {
    const struct tls_pair *files;
    X509         *chain[CHAIN_MAX];      /* owned; the certificate first */
    size_t        chain_n;
    uint64_t      number;                /* of the key in the keeper; owned */
    EVP_PKEY     *key;                   /* owned */
    enum key_kind kind;
};

/* What is shown for a name: one certificate of each kind, or none (-1). */
struct choice {
    int      pair[KEY_KINDS];
    SSL_CTX *ssl;                        /* one count of it is ours */
};

struct tls_names {
    struct pair  *pairs;                 /* owned */
    size_t        count;
    struct map_str by_name;              /* of struct choice */
    struct arena  arena;                 /* names and choices */
    const struct tls_server_options *options;   /* while they are made */
    int64_t       expires_s;
};

static int  read_pair(struct pair *p, char out_error[256]);
static int  collect_names(struct tls_names *n, char out_error[256]);
static int  make_contexts(struct tls_names *n, struct tls_context *c, char out_error[256]);

void tls_names_free(struct tls_names *n)
{
    struct str name;
    void      *value;
    size_t     cursor = 0;

    if (n == NULL)
        return;
    while (map_str_next(&n->by_name, &cursor, &name, &value))
        SSL_CTX_free(((struct choice *)value)->ssl);
    map_str_free(&n->by_name);
    for (size_t i = 0; i < n->count; i++) {
        for (size_t j = 0; j < n->pairs[i].chain_n; j++)
            X509_free(n->pairs[i].chain[j]);
        EVP_PKEY_free(n->pairs[i].key);
        keeper_key_close(n->pairs[i].number);
    }
    free(n->pairs);
    arena_reset(&n->arena);
    free(n);
}

static struct tls_names *names_new(const struct tls_server_options *options)
{
    struct tls_names *n = calloc(1, sizeof *n);
    struct pair      *pairs = calloc(options->count, sizeof *pairs);

    if (n == NULL || pairs == NULL) {
        free(n);
        free(pairs);
        return NULL;
    }
    n->pairs = pairs;
    n->options = options;
    map_str_init(&n->by_name);
    arena_init(&n->arena, NAMES_BYTES_MAX);
    return n;
}

int tls_server_new(const struct tls_server_options *options, struct tls_context **out, char out_error[256])
{
    int r = 0;

    if (options->count == 0 || options->count > PAIRS_MAX)
        return tls_say(out_error, -EINVAL, "TLS", options->count == 0 ? "no certificate" : "too many certificates");
    struct tls_context *c = calloc(1, sizeof *c);
    if (c == NULL)
        return tls_say(out_error, -ENOMEM, "TLS", "no memory");
    atomic_init(&c->refs, 1);
    c->is_server = true;
    c->names = names_new(options);
    if (c->names == NULL)
        r = tls_say(out_error, -ENOMEM, "TLS", "no memory");
    for (size_t i = 0; r == 0 && i < options->count; i++) {
        c->names->pairs[i].files = &options->pairs[i];
        c->names->count = i + 1;
        r = read_pair(&c->names->pairs[i], out_error);
    }
    if (r == 0)
        r = collect_names(c->names, out_error);
    if (r == 0)
        r = make_contexts(c->names, c, out_error);
    if (r < 0) {
        tls_unref(c);
        return r;
    }
    c->names->options = NULL;            /* the caller's */
    *out = c;
    return 0;
}

int64_t tls_server_expires_s(const struct tls_context *c)
{
    return c->names->expires_s;
}

/* -- files --------------------------------------------------------------------------------------------------------------- */

static bool add_to_chain(void *arg, X509 *cert, size_t index)
{
    struct pair *p = arg;

    if (index >= CHAIN_MAX || X509_up_ref(cert) != 1)
        return false;
    p->chain[p->chain_n++] = cert;
    return true;
}

static int read_pair(struct pair *p, char out_error[256])
{
    char       public_bytes[KEEPER_PUBLIC_MAX];
    struct buf public;
    int        r = tls_read_certificates(p->files->cert_file, add_to_chain, p, out_error);

    if (r < 0)
        return r;
    buf_init_fixed(&public, public_bytes, sizeof public_bytes);
    r = keeper_key_open(p->files->key_file, &p->number, &public, out_error);
    if (r < 0)
        return r;
    /* OpenSSL looks only whether two of one kind fit; an RSA key for an EC certificate would leave both without their other half. */
    ERR_clear_error();
    const unsigned char *der = (const unsigned char *)public.p;
    EVP_PKEY            *known = d2i_PUBKEY(NULL, &der, (long)public.n);
    bool                 fits = known != NULL && EVP_PKEY_eq(X509_get0_pubkey(p->chain[0]), known) == 1;
    p->kind = known != NULL && EVP_PKEY_get_base_id(known) == EVP_PKEY_RSA ? KEY_RSA : KEY_EC;
    EVP_PKEY_free(known);
    ERR_clear_error();
    if (!fits)
        return tls_say(out_error, -EINVAL, p->files->key_file, "this key is not the certificate's (key values mismatch)");
    p->key = tls_key_new(p->number, buf_str(&public));
    return p->key != NULL ? 0 : tls_say(out_error, -ENOMEM, p->files->key_file, "no memory");
}

/* -- names --------------------------------------------------------------------------------------------------------------- */

/* Lower case, without the dot at the end that nobody should send. Empty: no name that could be looked for. */
static struct str plain_name(struct str name, char out[NAME_MAX_BYTES])
{
    if (name.n > 0 && name.p[name.n - 1] == '.')
        name.n--;
    if (name.n > NAME_MAX_BYTES)
        return STR("");
    for (size_t i = 0; i < name.n; i++)
        out[i] = char_lower(name.p[i]);
    return (struct str){ out, name.n };
}

static int add_name(struct tls_names *n, size_t pair, struct str given)
{
    char           bytes[NAME_MAX_BYTES];
    struct str     name = plain_name(given, bytes);
    struct choice *choice = map_str_get(&n->by_name, name);

    if (name.n == 0)
        return 0;
    if (choice == NULL) {
        struct str kept = str_copy(&n->arena, name);
        choice = arena_alloc(&n->arena, sizeof *choice);
        if (kept.p == NULL || choice == NULL || map_str_put(&n->by_name, kept, choice) < 0)
            return -ENOMEM;
        choice->pair[KEY_RSA] = choice->pair[KEY_EC] = -1;
    }
    int *slot = &choice->pair[n->pairs[pair].kind];
    if (*slot < 0)                       /* the first of several has it */
        *slot = (int)pair;
    return 0;
}

/* The names in the certificate; the common name only where there are none (RFC 6125, 6.4.4). */
static int add_names_of(struct tls_names *n, size_t pair)
{
    X509          *cert = n->pairs[pair].chain[0];
    GENERAL_NAMES *sans = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
    int            r = 0, found = 0;

    for (int i = 0; r == 0 && i < sk_GENERAL_NAME_num(sans); i++) {
        const GENERAL_NAME *san = sk_GENERAL_NAME_value(sans, i);
        if (san->type != GEN_DNS)
            continue;
        const ASN1_STRING *text = san->d.dNSName;
        r = add_name(n, pair, (struct str){ (const char *)ASN1_STRING_get0_data(text), (size_t)ASN1_STRING_length(text) });
        found++;
    }
    GENERAL_NAMES_free(sans);
    char cn[NAME_MAX_BYTES + 1];
    if (r == 0 && found == 0 && X509_NAME_get_text_by_NID(X509_get_subject_name(cert), NID_commonName, cn, sizeof cn) > 0)
        r = add_name(n, pair, str_of(cn));
    return r;
}

/* *.example.org for a.example.org: the first label only (RFC 6125, 6.4.3). NULL: none. */
static struct choice *wildcard_for(const struct tls_names *n, struct str name)
{
    char       bytes[NAME_MAX_BYTES + 1];
    struct str label, rest;

    if (!str_cut(name, '.', &label, &rest) || str_eq(label, STR("*")) || rest.n + 2 > sizeof bytes)
        return NULL;
    memcpy(bytes, "*.", 2);
    memcpy(bytes + 2, rest.p, rest.n);
    return map_str_get(&n->by_name, (struct str){ bytes, rest.n + 2 });
}

static void note_end(struct tls_names *n, const X509 *cert)
{
    struct tm when;

    if (ASN1_TIME_to_tm(X509_get0_notAfter(cert), &when) != 1)
        return;
    int64_t s = (int64_t)timegm(&when);
    if (n->expires_s == 0 || s < n->expires_s)
        n->expires_s = s;
}

static int collect_names(struct tls_names *n, char out_error[256])
{
    struct str name;
    void      *value;
    size_t     cursor = 0;

    for (size_t i = 0; i < n->count; i++) {
        note_end(n, n->pairs[i].chain[0]);
        if (add_names_of(n, i) < 0)
            return tls_say(out_error, -ENOMEM, n->pairs[i].files->cert_file, "too many names");
    }
    /* The kind that a name has no certificate of its own for may come from the wildcard that covers it. */
    while (map_str_next(&n->by_name, &cursor, &name, &value)) {
        struct choice       *choice = value;
        const struct choice *wild = wildcard_for(n, name);
        for (int kind = 0; wild != NULL && kind < KEY_KINDS; kind++)
            if (choice->pair[kind] < 0)
                choice->pair[kind] = wild->pair[kind];
    }
    return 0;
}

/* -- contexts ------------------------------------------------------------------------------------------------------------ */

static bool show_pair(SSL_CTX *ssl, const struct pair *p)
{
    bool ok = SSL_CTX_use_certificate(ssl, p->chain[0]) == 1;

    for (size_t i = 1; ok && i < p->chain_n; i++)
        ok = SSL_CTX_add1_chain_cert(ssl, p->chain[i]) == 1;    /* to the certificate set last */
    return ok && SSL_CTX_use_PrivateKey(ssl, p->key) == 1;
}

/* An operator may widen the list for old clients, but not to what is no protection. */
static const char *ciphers_wrong(SSL_CTX *ssl, const char *ciphers)
{
    if (SSL_CTX_set_cipher_list(ssl, ciphers) != 1)
        return tls_reason();
    STACK_OF(SSL_CIPHER) *list = SSL_CTX_get_ciphers(ssl);
    for (int i = 0; i < sk_SSL_CIPHER_num(list); i++) {
        const SSL_CIPHER *one = sk_SSL_CIPHER_value(list, i);
        if (SSL_CIPHER_get_auth_nid(one) == NID_auth_null || SSL_CIPHER_get_bits(one, NULL) < 128)
            return "the list of ciphers has one without protection";
        /* Others would need the key itself, or send what it decrypts (RFC 9325, 4.1): the keeper only signs. */
        if (SSL_CIPHER_get_kx_nid(one) != NID_kx_ecdhe && SSL_CIPHER_get_kx_nid(one) != NID_kx_any)
            return "the list of ciphers has one whose key exchange is not ECDHE";
    }
    return NULL;
}

static const char *set_rules(SSL_CTX *ssl, const struct tls_server_options *o)
{
    static const unsigned char id[] = "nightmail";

    if (o->only_tls13)
        (void)SSL_CTX_set_min_proto_version(ssl, TLS1_3_VERSION);
    SSL_CTX_set_options(ssl, SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
    (void)SSL_CTX_set_num_tickets(ssl, 1);   /* a mail client opens one connection after the other, not several at once */
    (void)SSL_CTX_set_session_id_context(ssl, id, sizeof id - 1);
    tls_tickets_use(ssl);
    return ciphers_wrong(ssl, o->ciphers != NULL ? o->ciphers : CIPHERS);
}

static int new_context(struct tls_names *n, const struct choice *choice, SSL_CTX **out, char out_error[256])
{
    SSL_CTX    *ssl = tls_ssl_new(true);
    const char *file = "TLS", *wrong = ssl == NULL ? "no memory" : set_rules(ssl, n->options);

    for (int kind = 0; wrong == NULL && kind < KEY_KINDS; kind++) {
        if (choice->pair[kind] < 0)
            continue;
        const struct pair *p = &n->pairs[choice->pair[kind]];
        file = p->files->cert_file;
        ERR_clear_error();
        if (!show_pair(ssl, p))
            wrong = tls_reason();
    }
    if (wrong == NULL) {
        *out = ssl;
        return 0;
    }
    SSL_CTX_free(ssl);
    return tls_say(out_error, -EINVAL, file, wrong);
}

/* Names with the same certificates share a context. */
static int find_or_make(struct tls_names *n, struct map_u64 *made, struct choice *choice, char out_error[256])
{
    uint64_t which = (uint64_t)(uint32_t)choice->pair[KEY_RSA] << 32 | (uint32_t)choice->pair[KEY_EC];
    SSL_CTX *ssl = map_u64_get(made, which);

    if (ssl != NULL && SSL_CTX_up_ref(ssl) == 1) {
        choice->ssl = ssl;
        return 0;
    }
    int r = new_context(n, choice, &choice->ssl, out_error);
    if (r == 0 && map_u64_put(made, which, choice->ssl) < 0)
        r = tls_say(out_error, -ENOMEM, "TLS", "no memory");
    return r;
}

/* Awaits nothing: a callback of OpenSSL's in the middle of a handshake. */
static int on_name(SSL *ssl, int *alert, void *arg)
{
    const struct tls_names *n = arg;
    char        bytes[NAME_MAX_BYTES];
    const char *asked = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);

    (void)alert;
    if (asked == NULL)
        return SSL_TLSEXT_ERR_NOACK;
    tls_stream_named(ssl, asked);
    struct str           name = plain_name(str_of(asked), bytes);
    const struct choice *choice = name.n > 0 ? map_str_get(&n->by_name, name) : NULL;
    if (choice == NULL)
        choice = wildcard_for(n, name);
    if (choice == NULL)
        return SSL_TLSEXT_ERR_NOACK;
    return SSL_set_SSL_CTX(ssl, choice->ssl) != NULL ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL;
}

/* The first certificate, and that of the other kind for the same names if there is one. */
static struct choice first_choice(const struct tls_names *n)
{
    struct choice first = { .pair = { -1, -1 } };
    struct str    name;
    void         *value;
    size_t        cursor = 0;

    first.pair[n->pairs[0].kind] = 0;
    while (map_str_next(&n->by_name, &cursor, &name, &value)) {
        const struct choice *choice = value;
        int                  other = choice->pair[!n->pairs[0].kind];
        if (choice->pair[n->pairs[0].kind] == 0 && other >= 0 && (first.pair[!n->pairs[0].kind] < 0 || other < first.pair[!n->pairs[0].kind]))
            first.pair[!n->pairs[0].kind] = other;
    }
    return first;
}

static int make_contexts(struct tls_names *n, struct tls_context *c, char out_error[256])
{
    struct choice  first = first_choice(n);
    struct map_u64 made;
    struct str     name;
    void          *value;
    size_t         cursor = 0;

    map_u64_init(&made);
    int r = find_or_make(n, &made, &first, out_error);
    c->ssl = first.ssl;
    while (r == 0 && map_str_next(&n->by_name, &cursor, &name, &value))
        r = find_or_make(n, &made, value, out_error);
    map_u64_free(&made);
    if (r < 0)
        return r;
    (void)SSL_CTX_set_tlsext_servername_callback(c->ssl, on_name);
    (void)SSL_CTX_set_tlsext_servername_arg(c->ssl, n);
    return 0;
}
