/*
 * Session tickets: the keys under which a server hands a client its session, to be shown again (RFC 5077; RFC 8446, 4.6.1).
 *
 * The keys are the process's: all contexts and all generations of certificates share them, so that a reload costs nobody a full
 * handshake. A new one is made every hour and forgotten after three: what a thief of the memory can read back is that much, and a
 * ticket older than that is a full handshake. They are never written anywhere.
 */
#include "run/tls_internal.h"

#include "base/clock.h"
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <string.h>

#define KEYS      3
#define ROTATE_NS (3600 * NS_PER_S)

struct ticket_key {
    unsigned char name[16], cipher[32], mac[32];
    int64_t       made_ns;               /* 0: none */
};

static struct ticket_key keys[KEYS];     /* newest first */
static pthread_mutex_t   lock = PTHREAD_MUTEX_INITIALIZER;
static EVP_CIPHER       *cipher;
static pthread_once_t    once = PTHREAD_ONCE_INIT;

static void fetch_cipher(void)
{
    cipher = EVP_CIPHER_fetch(NULL, "AES-256-CBC", NULL);
}

/* Under the lock. */
static void rotate(int64_t now)
{
    if (keys[0].made_ns != 0 && now - keys[0].made_ns < ROTATE_NS)
        return;
    OPENSSL_cleanse(&keys[KEYS - 1], sizeof keys[0]);
    memmove(&keys[1], &keys[0], (KEYS - 1) * sizeof keys[0]);
    clock_random(&keys[0], sizeof keys[0]);
    keys[0].made_ns = now;
}

/* A copy of the key to make a ticket with, or of the one with that name. Its age; -1: there is none. */
static int take(const unsigned char *name, struct ticket_key *out)
{
    int     found = -1;
    int64_t now = clock_mono_ns();

    (void)pthread_mutex_lock(&lock);
    rotate(now);
    for (int i = 0; i < KEYS && found < 0; i++)
        if (keys[i].made_ns != 0 && now - keys[i].made_ns < KEYS * ROTATE_NS && (name == NULL || memcmp(keys[i].name, name, sizeof keys[i].name) == 0)) {
            found = i;
            *out = keys[i];
        }
    (void)pthread_mutex_unlock(&lock);
    return found;
}

static bool set_up(struct ticket_key *key, unsigned char *iv, EVP_CIPHER_CTX *ctx, EVP_MAC_CTX *mac, int encrypt)
{
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, key->mac, sizeof key->mac),
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char[]){ "SHA256" }, 0),
        OSSL_PARAM_construct_end(),
    };
    bool ok = cipher != NULL && EVP_MAC_CTX_set_params(mac, params) == 1 && EVP_CipherInit_ex(ctx, cipher, NULL, key->cipher, iv, encrypt) == 1;

    OPENSSL_cleanse(key, sizeof *key);
    return ok;
}

/* OpenSSL's contract: 1 done, 2 done and the ticket is to be renewed, 0 not one of ours, -1 error. */
static int on_ticket(SSL *ssl, unsigned char name[16], unsigned char *iv, EVP_CIPHER_CTX *ctx, EVP_MAC_CTX *mac, int encrypt)
{
    struct ticket_key key;

    (void)pthread_once(&once, fetch_cipher);
    int age = take(encrypt ? NULL : name, &key);
    if (age < 0)
        return encrypt ? -1 : 0;
    if (encrypt) {
        memcpy(name, key.name, sizeof key.name);
        clock_random(iv, 16);
    }
    if (!set_up(&key, iv, ctx, mac, encrypt))
        return -1;
    /* In TLS 1.3 a ticket is used once, and who shows one gets the next. */
    return age > 0 || SSL_version(ssl) >= TLS1_3_VERSION ? 2 : 1;
}

void tls_tickets_use(SSL_CTX *ssl)
{
    (void)SSL_CTX_set_tlsext_ticket_key_evp_cb(ssl, on_ticket);
    (void)SSL_CTX_set_timeout(ssl, (KEYS - 1) * ROTATE_NS / NS_PER_S);
}
