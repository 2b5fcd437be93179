/*
 * Private keys: see keeper_key.h. The one file that opens them; runs in the keeper.
 *
 * A key has the same number whoever opens it, and however often; it goes with the last close.
 */
#include "base/cleanup.h"
#include "base/codec.h"
#include "base/digest.h"
#include "run/file.h"
#include "run/keeper_internal.h"
#include <errno.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define KEY_FILE_MAX (256 * 1024)
#define RSA_BITS_MIN 2048                /* RFC 8446's peers refuse less; CAs have signed no less since 2014 */
#define RSA_BITS_MAX (KEEPER_SIGNATURE_MAX * 8)

struct kept {
    uint64_t  id;                        /* 0: free */
    unsigned  opened;                    /* so often */
    EVP_PKEY *key;                       /* owned */
    EVP_PKEY_CTX *ready;                 /* to sign with, set up but for the scheme; copied for each signature; owned */
};

static struct kept     kept[KEEPER_KEYS_MAX];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;   /* of the table; held for a look, never while signing */

static int say(char out_error[256], int error, const char *path, const char *what)
{
    (void)snprintf(out_error, 256, "%.150s: %.100s", path, what);
    return error;
}

/* A service cannot be asked for a pass phrase; OpenSSL would ask the terminal. */
static int no_passphrase(char *out, int size, int for_writing, void *arg)
{
    (void)out;
    (void)size;
    (void)for_writing;
    (void)arg;
    return -1;
}

static int read_key(const char *path, EVP_PKEY **out, char out_error[256])
{
    CLEANUP_BUF struct buf pem = { 0 };

    buf_init(&pem, KEY_FILE_MAX);
    int r = file_read_whole(path, KEY_FILE_MAX, &pem);
    if (r < 0)
        return say(out_error, r, path, strerror(-r));
    ERR_clear_error();
    BIO      *bio = BIO_new_mem_buf(pem.p, (int)pem.n);
    EVP_PKEY *key = bio != NULL ? PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL) : NULL;
    BIO_free(bio);
    ERR_clear_error();
    explicit_bzero(pem.p, pem.n);
    if (bio == NULL)
        return say(out_error, -ENOMEM, path, "no memory");
    if (key == NULL)
        return say(out_error, -EINVAL, path, "no private key that can be read without a pass phrase");
    *out = key;
    return 0;
}

static const char *what_is_wrong(const EVP_PKEY *key)
{
    switch (EVP_PKEY_get_base_id(key)) {
    case EVP_PKEY_EC: return NULL;
    case EVP_PKEY_RSA:
        if (EVP_PKEY_get_bits(key) < RSA_BITS_MIN)
            return "the RSA key is too short: it needs 2048 bits at least";
        return EVP_PKEY_get_bits(key) > RSA_BITS_MAX ? "the RSA key is too long" : NULL;
    }
    if (EVP_PKEY_get_base_id(key) == EVP_PKEY_ED25519 || EVP_PKEY_get_base_id(key) == EVP_PKEY_ED448)
        return "an Edwards key (Ed25519, Ed448): a mail server's certificate needs an RSA or an EC key, which all clients know";
    return "neither an RSA nor an EC key";
}

static int put_public(const EVP_PKEY *key, struct buf *out)
{
    unsigned char *der = NULL;
    int            n = i2d_PUBKEY(key, &der);

    if (n <= 0)
        return -ENOMEM;
    buf_put(out, (const char *)der, (size_t)n);
    OPENSSL_free(der);
    return buf_ok(out) ? 0 : -ENOMEM;
}

static EVP_PKEY_CTX *get_ready(EVP_PKEY *key)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(key, NULL);

    if (ctx != NULL && EVP_PKEY_sign_init(ctx) == 1)
        return ctx;
    EVP_PKEY_CTX_free(ctx);
    return NULL;
}

/* Of the public half; not 0. */
static uint64_t number_of(struct str public)
{
    uint8_t sum[DIGEST_SHA256_LEN];

    digest_sha256(public, sum);
    uint64_t n = codec_get_u64(sum);
    return n != 0 ? n : 1;
}

static struct kept *find_slot(uint64_t id)
{
    for (size_t i = 0; i < KEEPER_KEYS_MAX; i++)
        if (kept[i].id == id)
            return &kept[i];
    return NULL;
}

/* Takes both, unless they are there already. False: no room. */
static bool keep(uint64_t id, EVP_PKEY *key, EVP_PKEY_CTX *ready)
{
    (void)pthread_mutex_lock(&lock);
    struct kept *slot = find_slot(id);
    bool         had = slot != NULL;
    if (!had && (slot = find_slot(0)) != NULL)
        *slot = (struct kept){ .id = id, .key = key, .ready = ready };
    if (slot != NULL)
        slot->opened++;
    (void)pthread_mutex_unlock(&lock);
    if (had) {
        EVP_PKEY_CTX_free(ready);
        EVP_PKEY_free(key);
    }
    return slot != NULL;
}

int keeper_near_key_open(const char *path, uint64_t *out_key, struct buf *out_public, char out_error[256])
{
    EVP_PKEY *key;
    size_t    before = out_public->n;
    int       r = read_key(path, &key, out_error);

    if (r < 0)
        return r;
    const char *wrong = what_is_wrong(key);
    if (wrong != NULL)
        r = say(out_error, -EINVAL, path, wrong);
    else if (put_public(key, out_public) < 0)
        r = say(out_error, -ENOMEM, path, "no memory");
    EVP_PKEY_CTX *ready = r == 0 ? get_ready(key) : NULL;
    if (r == 0 && ready == NULL)
        r = say(out_error, -ENOMEM, path, "no memory");
    uint64_t id = r == 0 ? number_of((struct str){ out_public->p + before, out_public->n - before }) : 0;
    if (r == 0 && !keep(id, key, ready))
        r = say(out_error, -ENFILE, path, "too many keys");
    if (r < 0) {
        EVP_PKEY_CTX_free(ready);
        EVP_PKEY_free(key);
        return r;
    }
    *out_key = id;
    return 0;
}

void keeper_near_key_close(uint64_t id)
{
    struct kept old = { 0 };

    (void)pthread_mutex_lock(&lock);
    struct kept *slot = id != 0 ? find_slot(id) : NULL;
    if (slot != NULL && --slot->opened == 0) {
        old = *slot;
        *slot = (struct kept){ 0 };
    }
    (void)pthread_mutex_unlock(&lock);
    EVP_PKEY_CTX_free(old.ready);
    EVP_PKEY_free(old.key);
}

/* A copy, that outlives a close. To set one up from nothing for each signature is a search through names of algorithms. */
static EVP_PKEY_CTX *find(uint64_t id)
{
    EVP_PKEY_CTX *ctx = NULL;

    (void)pthread_mutex_lock(&lock);
    const struct kept *slot = find_slot(id);
    if (slot != NULL)
        ctx = EVP_PKEY_CTX_dup(slot->ready);
    (void)pthread_mutex_unlock(&lock);
    return ctx;
}

static bool set_scheme(EVP_PKEY_CTX *ctx, enum keeper_scheme scheme)
{
    switch (scheme) {
    case KEEPER_ECDSA: return true;
    case KEEPER_RSA_PKCS1: return EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PADDING) == 1;
    case KEEPER_RSA_PADDED: return EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_NO_PADDING) == 1;
    }
    __builtin_unreachable();
}

int keeper_near_key_sign(uint64_t id, enum keeper_scheme scheme, struct str in, uint8_t out[KEEPER_SIGNATURE_MAX])
{
    EVP_PKEY_CTX *ctx = id != 0 ? find(id) : NULL;
    size_t        n = KEEPER_SIGNATURE_MAX;

    if (ctx == NULL) {
        ERR_clear_error();
        return -ENOENT;
    }
    bool fits = (EVP_PKEY_get_base_id(EVP_PKEY_CTX_get0_pkey(ctx)) == EVP_PKEY_EC) == (scheme == KEEPER_ECDSA);
    bool ok = fits && set_scheme(ctx, scheme) && EVP_PKEY_sign(ctx, out, &n, (const unsigned char *)in.p, in.n) == 1;
    EVP_PKEY_CTX_free(ctx);
    ERR_clear_error();       /* whoever asks may be in the middle of a handshake: nothing of ours is to be read as its error */
    if (!fits)
        return -EINVAL;
    return ok ? (int)n : -EIO;
}
