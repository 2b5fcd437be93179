/*
 * A private key that is not here: an OpenSSL key of which this process has the public half, and whose signatures come from the
 * keeper. Its method awaits the keeper's process where there is one: the one await inside another library's callback. OpenSSL holds no
 * lock there, and its error queue, which is the thread's and so everybody's, is empty before and after.
 *
 * OpenSSL 3 calls the methods of RSA and EC keys obsolete; their successor is a provider, which would have to be ours whole. The
 * methods are there and work with TLS 1.2 and 1.3.
 */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "run/keeper_key.h"
#include "run/tls_internal.h"

#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <pthread.h>

/* The keeper's number of a key hangs at the OpenSSL key. */
static int rsa_slot = -1, ec_slot = -1;
static RSA_METHOD    *rsa_method;
static EC_KEY_METHOD *ec_method;

static void *number_to_pointer(uint64_t n)
{
    return (void *)(uintptr_t)n;
}

/* Awaits. Other tasks use OpenSSL meanwhile, on this thread. */
static int sign(uint64_t key, enum keeper_scheme scheme, struct str in, uint8_t out[KEEPER_SIGNATURE_MAX])
{
    ERR_clear_error();
    int r = keeper_key_sign(key, scheme, in, out);
    ERR_clear_error();
    return r;
}

static int rsa_sign(int n, const unsigned char *from, unsigned char *to, RSA *rsa, int padding)
{
    uint64_t key = (uint64_t)(uintptr_t)RSA_get_ex_data(rsa, rsa_slot);
    uint8_t  signature[KEEPER_SIGNATURE_MAX];

    if (padding != RSA_PKCS1_PADDING && padding != RSA_NO_PADDING)
        return -1;
    enum keeper_scheme scheme = padding == RSA_PKCS1_PADDING ? KEEPER_RSA_PKCS1 : KEEPER_RSA_PADDED;
    int r = sign(key, scheme, (struct str){ (const char *)from, (size_t)n }, signature);
    if (r != RSA_size(rsa))              /* `to` has room for no more */
        return -1;
    memcpy(to, signature, (size_t)r);
    return r;
}

static int ec_sign(int type, const unsigned char *digest, int n, unsigned char *to, unsigned *out_n, const BIGNUM *kinv, const BIGNUM *r_,
                   EC_KEY *ec)
{
    uint64_t key = (uint64_t)(uintptr_t)EC_KEY_get_ex_data(ec, ec_slot);
    uint8_t  signature[KEEPER_SIGNATURE_MAX];

    (void)type, (void)kinv, (void)r_;
    int r = sign(key, KEEPER_ECDSA, (struct str){ (const char *)digest, (size_t)n }, signature);
    if (r < 0 || r > ECDSA_size(ec))
        return 0;
    memcpy(to, signature, (size_t)r);
    *out_n = (unsigned)r;
    return 1;
}

static void make_methods(void)
{
    int (*ecdsa)(int, const unsigned char *, int, unsigned char *, unsigned *, const BIGNUM *, const BIGNUM *, EC_KEY *);
    int (*setup)(EC_KEY *, BN_CTX *, BIGNUM **, BIGNUM **);
    ECDSA_SIG *(*raw)(const unsigned char *, int, const BIGNUM *, const BIGNUM *, EC_KEY *);

    rsa_slot = RSA_get_ex_new_index(0, NULL, NULL, NULL, NULL);
    ec_slot = EC_KEY_get_ex_new_index(0, NULL, NULL, NULL, NULL);
    rsa_method = RSA_meth_dup(RSA_PKCS1_OpenSSL());
    ec_method = EC_KEY_METHOD_new(EC_KEY_OpenSSL());
    if (rsa_method != NULL)
        (void)RSA_meth_set_priv_enc(rsa_method, rsa_sign);
    if (ec_method != NULL) {
        EC_KEY_METHOD_get_sign(ec_method, &ecdsa, &setup, &raw);
        EC_KEY_METHOD_set_sign(ec_method, ec_sign, setup, raw);
    }
}

static EVP_PKEY *rsa_key(uint64_t number, const unsigned char *der, long n)
{
    RSA      *rsa = d2i_RSA_PUBKEY(NULL, &der, n);
    EVP_PKEY *key = EVP_PKEY_new();

    if (rsa != NULL && key != NULL && RSA_set_method(rsa, rsa_method) == 1 && RSA_set_ex_data(rsa, rsa_slot, number_to_pointer(number)) == 1 &&
        EVP_PKEY_assign_RSA(key, rsa) == 1)
        return key;
    RSA_free(rsa);
    EVP_PKEY_free(key);
    return NULL;
}

static EVP_PKEY *ec_key(uint64_t number, const unsigned char *der, long n)
{
    EC_KEY   *ec = d2i_EC_PUBKEY(NULL, &der, n);
    EVP_PKEY *key = EVP_PKEY_new();

    if (ec != NULL && key != NULL && EC_KEY_set_method(ec, ec_method) == 1 && EC_KEY_set_ex_data(ec, ec_slot, number_to_pointer(number)) == 1 &&
        EVP_PKEY_assign_EC_KEY(key, ec) == 1)
        return key;
    EC_KEY_free(ec);
    EVP_PKEY_free(key);
    return NULL;
}

EVP_PKEY *tls_key_new(uint64_t number, struct str public)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    const unsigned char  *der = (const unsigned char *)public.p;

    (void)pthread_once(&once, make_methods);
    if (rsa_method == NULL || ec_method == NULL || rsa_slot < 0 || ec_slot < 0)
        return NULL;
    const unsigned char *at = der;
    EVP_PKEY            *known = d2i_PUBKEY(NULL, &at, (long)public.n);
    if (known == NULL)
        return NULL;
    EVP_PKEY *key = EVP_PKEY_get_base_id(known) == EVP_PKEY_RSA ? rsa_key(number, der, (long)public.n) : ec_key(number, der, (long)public.n);
    EVP_PKEY_free(known);
    return key;
}
