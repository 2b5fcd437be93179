/*
 * What a handshake agreed on: of a stream, for the log, the trace and an authentication that is bound to it.
 */
#include "run/stream.h"

#include "run/stream_internal.h"
#include "run/tls_internal.h"
#include <openssl/err.h>
#include <openssl/ssl.h>

bool stream_is_tls(const struct stream *s)
{
    return s->tls != NULL && s->tls->established;
}

const char *stream_tls_protocol(const struct stream *s)
{
    return stream_is_tls(s) ? SSL_get_version(s->tls->ssl) : "";
}

const char *stream_tls_cipher(const struct stream *s)
{
    return stream_is_tls(s) ? SSL_get_cipher_name(s->tls->ssl) : "";
}

const char *stream_tls_suite(const struct stream *s)
{
    const char *name = stream_is_tls(s) ? SSL_CIPHER_standard_name(SSL_get_current_cipher(s->tls->ssl)) : "";

    return name != NULL ? name : "";
}

const char *stream_tls_group(const struct stream *s)
{
    const char *name = stream_is_tls(s) ? SSL_group_to_name(s->tls->ssl, (int)SSL_get_negotiated_group(s->tls->ssl)) : "";

    return name != NULL ? name : "";
}

const char *stream_tls_name(const struct stream *s)
{
    return s->tls != NULL && s->tls->named != NULL ? s->tls->named : "";
}

bool stream_tls_resumed(const struct stream *s)
{
    return stream_is_tls(s) && SSL_session_reused(s->tls->ssl) == 1;
}

/* The one that was shown. A server that took a session of TLS 1.2 up again showed none, and does not know which the client has seen. */
static X509 *shown_certificate(const struct tls_transport *t)
{
    if (!tls_context_is_server(t->context))
        return SSL_get0_peer_certificate(t->ssl);
    return SSL_set_current_cert(t->ssl, SSL_CERT_SET_SERVER) == 1 ? SSL_get_certificate(t->ssl) : NULL;
}

/* RFC 5929, 4.1: the certificate hashed by the function of its signature; where that is broken, by SHA-256. */
static size_t server_end_point(const struct tls_transport *t, uint8_t out[STREAM_TLS_BINDING_MAX])
{
    X509    *cert = shown_certificate(t);
    int      digest_nid = NID_undef;
    unsigned n = 0;

    if (cert == NULL)
        return 0;
    if (X509_get_signature_info(cert, &digest_nid, NULL, NULL, NULL) != 1 || digest_nid == NID_md5 || digest_nid == NID_sha1)
        digest_nid = NID_sha256;
    const EVP_MD *digest = EVP_get_digestbynid(digest_nid);
    ERR_clear_error();
    return digest != NULL && X509_digest(cert, digest, out, &n) == 1 ? n : 0;
}

size_t stream_tls_binding(const struct stream *s, const char **out_type, uint8_t out[STREAM_TLS_BINDING_MAX])
{
    static const char label[] = "EXPORTER-Channel-Binding";      /* RFC 9266, 2 */
    size_t            n = 0;

    if (!stream_is_tls(s))
        return 0;
    bool exporter = SSL_version(s->tls->ssl) >= TLS1_3_VERSION;
    ERR_clear_error();
    if (!exporter)
        n = server_end_point(s->tls, out);
    else if (SSL_export_keying_material(s->tls->ssl, out, 32, label, sizeof label - 1, NULL, 0, 0) == 1)
        n = 32;
    ERR_clear_error();
    if (n > 0)
        *out_type = exporter ? "tls-exporter" : "tls-server-end-point";
    return n;
}

int stream_tls_bits(const struct stream *s)
{
    return stream_is_tls(s) ? SSL_get_cipher_bits(s->tls->ssl, NULL) : 0;
}

const char *stream_tls_error(const struct stream *s)
{
    return s->tls != NULL && s->tls->words != NULL ? s->tls->words : "";
}
