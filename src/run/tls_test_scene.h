/*
 * For tests: certificates made at run time, as PEM text, for the real disk or a simulated one. Valid from 2020 to 2040, which holds
 * today and the start of the simulated world.
 */
#ifndef RUN_TLS_TEST_SCENE_H
#define RUN_TLS_TEST_SCENE_H

#include "base/buf.h"
#include "run/file.h"
#include <assert.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>
#include <stdlib.h>

struct test_identity {
    EVP_PKEY *key;
    X509     *cert;
};

static inline void test_must(bool ok)
{
    if (!ok)
        abort();
}

/* names: "DNS:a.example,DNS:b.example", or NULL. Signed by issuer, by itself if that is NULL. */
static inline struct test_identity test_identity_new(const char *cn, const char *names, bool rsa, const struct test_identity *issuer)
{
    struct test_identity id = { .key = rsa ? EVP_RSA_gen(2048) : EVP_EC_gen("P-256"), .cert = X509_new() };
    X509V3_CTX ctx;

    issuer = issuer != NULL ? issuer : &id;
    test_must(id.key != NULL && id.cert != NULL);
    X509_set_version(id.cert, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(id.cert), 1);   /* the same bytes, whatever was made before */
    ASN1_TIME_set_string(X509_getm_notBefore(id.cert), "20200101000000Z");
    ASN1_TIME_set_string(X509_getm_notAfter(id.cert), "20400101000000Z");
    X509_set_pubkey(id.cert, id.key);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(id.cert), "CN", MBSTRING_UTF8, (const unsigned char *)cn, -1, -1, 0);
    X509_set_issuer_name(id.cert, X509_get_subject_name(issuer->cert));
    X509V3_set_ctx(&ctx, issuer->cert, id.cert, NULL, NULL, 0);
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &ctx, names != NULL ? NID_subject_alt_name : NID_basic_constraints,
                                            names != NULL ? names : "critical,CA:TRUE");
    test_must(e != NULL && X509_add_ext(id.cert, e, -1) == 1);
    X509_EXTENSION_free(e);
    test_must(X509_sign(id.cert, issuer->key, EVP_sha256()) > 0);
    return id;
}

static inline void test_identity_free(struct test_identity *id)
{
    EVP_PKEY_free(id->key);
    X509_free(id->cert);
}

/* To the disk of run/file.h, in an existing folder. */
static inline void test_write_bio(BIO *bio, const char *dir, const char *name)
{
    char *text;
    long  n = BIO_get_mem_data(bio, &text);
    int   folder = file_open_dir(dir), f = file_open_at(folder, name, FILE_WRITE | FILE_CREATE | FILE_TRUNCATE);

    test_must(folder >= 0 && f >= 0 && file_write_at(f, text, (size_t)n, 0) == 0);
    test_must(file_close(f) == 0 && file_close(folder) == 0);
    BIO_free(bio);
}

static inline void test_identity_write(const struct test_identity *id, const char *dir, const char *cert_name, const char *key_name)
{
    BIO *bio = BIO_new(BIO_s_mem());

    test_must(bio != NULL && PEM_write_bio_X509(bio, id->cert) == 1);
    test_write_bio(bio, dir, cert_name);
    if (key_name == NULL)
        return;
    bio = BIO_new(BIO_s_mem());
    test_must(bio != NULL && PEM_write_bio_PrivateKey(bio, id->key, NULL, NULL, 0, NULL, NULL) == 1);
    test_write_bio(bio, dir, key_name);
}

#endif
