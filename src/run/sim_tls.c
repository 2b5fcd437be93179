/*
 * TLS in the simulated world: every random byte of OpenSSL from the world's seed.
 *
 * Key shares, hello randoms, ECDSA nonces and blinding all come from OpenSSL's RAND; with it replaced, the same seed gives the
 * same bytes on the wire. OpenSSL 3 calls the old method interface obsolete, but its successor (a provider) can only be put in
 * place before the first random byte is drawn, once in a process; a test wants many worlds in one.
 */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "run/tls_internal.h"

#include <assert.h>
#include <openssl/rand.h>
#include <string.h>

static uint64_t (*source)(void);
static const RAND_METHOD *before;

static int give_bytes(unsigned char *p, int n)
{
    while (n > 0) {
        uint64_t word = source();
        int      part = n < (int)sizeof word ? n : (int)sizeof word;

        memcpy(p, &word, (size_t)part);
        p += part;
        n -= part;
    }
    return 1;
}

static int give_status(void)
{
    return 1;
}

static const RAND_METHOD seeded = { .bytes = give_bytes, .pseudorand = give_bytes, .status = give_status };

void sim_tls_begin(uint64_t (*random)(void))
{
    assert(source == NULL && random != NULL);
    source = random;
    before = RAND_get_rand_method();
    (void)RAND_set_rand_method(&seeded);
}

void sim_tls_end(void)
{
    assert(source != NULL);
    (void)RAND_set_rand_method(before);
    source = NULL;
}

bool sim_tls_active(void)
{
    return source != NULL;
}
