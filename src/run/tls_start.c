/*
 * OpenSSL's first use: see tls_start.h.
 *
 * OpenSSL 3.0 makes its tables of algorithms when the first of a kind is asked for; if it finds no memory for one of them at that moment it
 * does not try again, and from then on there is no such algorithm: a server whose first handshake came at a bad moment has no TLS until its
 * next start. So one of each kind is asked for while the process starts.
 */
#include "run/tls_start.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <stdbool.h>

/* Each is given back at once; the tables stay. */
static bool has_tables(void)
{
    EVP_CIPHER *cipher = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
    EVP_MD *digest = EVP_MD_fetch(NULL, "SHA256", NULL);
    EVP_MAC *mac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    EVP_KDF *kdf = EVP_KDF_fetch(NULL, "TLS13-KDF", NULL);
    EVP_RAND *random = EVP_RAND_fetch(NULL, "CTR-DRBG", NULL);
    EVP_KEYMGMT *keys = EVP_KEYMGMT_fetch(NULL, "X25519", NULL);
    EVP_KEYEXCH *exchange = EVP_KEYEXCH_fetch(NULL, "X25519", NULL);
    EVP_SIGNATURE *signature = EVP_SIGNATURE_fetch(NULL, "ECDSA", NULL);

    bool all = cipher != NULL && digest != NULL && mac != NULL && kdf != NULL && random != NULL && keys != NULL && exchange != NULL && signature != NULL;
    EVP_CIPHER_free(cipher);
    EVP_MD_free(digest);
    EVP_MAC_free(mac);
    EVP_KDF_free(kdf);
    EVP_RAND_free(random);
    EVP_KEYMGMT_free(keys);
    EVP_KEYEXCH_free(exchange);
    EVP_SIGNATURE_free(signature);
    return all;
}

int tls_start(void)
{
    if (has_tables())
        return 0;
    ERR_clear_error();
    return -ENOMEM;
}
