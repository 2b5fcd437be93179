/*
 * Writing MIME.
 */
#include "mail/mime.h"
#include "base/cleanup.h"
#include "base/codec.h"
#include "base/utf8.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

enum {
    COLUMNS = 76,
    PARAM_PIECE_MAX = 48, /* of one continuation: with ";", tab, name and number below 76 columns */
    TEXT_GROWTH_MAX = 3,  /* a byte that is no UTF-8 becomes U+FFFD */
};

void mime_boundary(uint64_t random_high, uint64_t random_low, char out[MIME_BOUNDARY_LEN + 1])
{
    char high[CODEC_ID_LEN + 1], low[CODEC_ID_LEN + 1];

    codec_id_format(random_high, high);
    codec_id_format(random_low, low);
    (void)snprintf(out, MIME_BOUNDARY_LEN + 1, "=_%s%s", high, low);
}

// clang-format off
static const struct { const char *ending, *type; } types[] = {
    { ".txt",  "text/plain"       }, { ".log",  "text/plain"         }, { ".csv", "text/csv"          }, { ".md",   "text/markdown"   },
    { ".html", "text/html"        }, { ".htm",  "text/html"          }, { ".ics", "text/calendar"     }, { ".vcf",  "text/vcard"      },
    { ".png",  "image/png"        }, { ".jpg",  "image/jpeg"         }, { ".jpeg", "image/jpeg"       }, { ".gif",  "image/gif"       },
    { ".webp", "image/webp"       }, { ".svg",  "image/svg+xml"      }, { ".mp3", "audio/mpeg"        }, { ".mp4",  "video/mp4"       },
    { ".pdf",  "application/pdf"  }, { ".json", "application/json"   }, { ".xml", "application/xml"   }, { ".zip",  "application/zip" },
    { ".gz",   "application/gzip" }, { ".tar",  "application/x-tar"  }, { ".rtf", "application/rtf"   }, { ".eml",  "application/octet-stream" },
    { ".docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document" },
    { ".xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet" },
    { ".pptx", "application/vnd.openxmlformats-officedocument.presentationml.presentation" },
    { ".odt",  "application/vnd.oasis.opendocument.text" },
    { ".ods",  "application/vnd.oasis.opendocument.spreadsheet" },
};
// clang-format on

/* A message is an octet-stream too: message/rfc822 may not be sent as base64 (RFC 2046, 5.2.1). */
const char *mime_type_of(struct str file_name)
{
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (str_ends_nocase(file_name, str_of(types[i].ending)))
            return types[i].type;
    return "application/octet-stream";
}

/* -- parameters ----------------------------------------------------------------------------------------------------- */

/* attribute-char of RFC 2231, 7: a token without "*", "'" and "%" (RFC 2045, 5.1). */
static bool is_attribute_char(char c)
{
    return c > ' ' && c < 0x7f && strchr("()<>@,;:\\\"/[]?=*'%", c) == NULL;
}

static bool is_token(struct str value)
{
    for (size_t i = 0; i < value.n; i++)
        if (!is_attribute_char(value.p[i]))
            return false;
    return value.n > 0;
}

static bool is_printable(struct str value)
{
    for (size_t i = 0; i < value.n; i++)
        if (value.p[i] < ' ' || value.p[i] >= 0x7f)
            return false;
    return true;
}

static void put_quoted(struct buf *out, struct str value)
{
    buf_put_char(out, '"');
    for (size_t i = 0; i < value.n; i++) {
        if (value.p[i] == '"' || value.p[i] == '\\')
            buf_put_char(out, '\\');
        buf_put_char(out, value.p[i]);
    }
    buf_put_char(out, '"');
}

/* As many characters as fit in one piece, percent-encoded; cut off *rest. */
static void put_extended_piece(struct buf *out, struct str *rest)
{
    size_t width = 0;

    while (rest->n > 0) {
        bool plain = is_attribute_char(rest->p[0]);
        width += plain ? 1 : 3;
        if (width > PARAM_PIECE_MAX)
            return;
        if (plain)
            buf_put_char(out, rest->p[0]);
        else
            buf_printf(out, "%%%02X", (unsigned char)rest->p[0]);
        *rest = str_from(*rest, 1);
    }
}

static size_t extended_width(struct str value)
{
    size_t width = 0;

    for (size_t i = 0; i < value.n; i++)
        width += is_attribute_char(value.p[i]) ? 1 : 3;
    return width;
}

/* name*=UTF-8''..., or name*0*=UTF-8''... name*1*=... (RFC 2231, 3 and 4) */
static void put_extended(struct buf *out, const char *name, struct str value)
{
    bool whole = extended_width(value) <= PARAM_PIECE_MAX;

    for (unsigned i = 0; i == 0 || value.n > 0; i++) {
        buf_printf(out, ";\r\n\t%s*", name);
        if (!whole)
            buf_printf(out, "%u*", i);
        buf_put_z(out, i == 0 ? "=UTF-8''" : "=");
        put_extended_piece(out, &value);
    }
}

void mime_put_param(struct buf *out, const char *name, struct str utf8)
{
    CLEANUP_BUF struct buf clean;

    buf_init(&clean, TEXT_GROWTH_MAX * utf8.n + 1);
    utf8_put_clean(&clean, utf8);
    if (!buf_ok(&clean))
        out->failed = true;
    struct str value = buf_str(&clean);
    if (!is_printable(value) || value.n > PARAM_PIECE_MAX) {
        put_extended(out, name, value);
        return;
    }
    buf_printf(out, ";\r\n\t%s=", name);
    if (is_token(value))
        buf_put_str(out, value);
    else
        put_quoted(out, value);
}

/* -- the frame ------------------------------------------------------------------------------------------------------ */

void mime_put_multipart(struct buf *out, const char *subtype, const char *boundary)
{
    buf_printf(out, "MIME-Version: 1.0\r\nContent-Type: multipart/%s", subtype);
    mime_put_param(out, "boundary", str_of(boundary));
    buf_put_str(out, STR("\r\n"));
}

void mime_put_report(struct buf *out, const char *report_type, const char *boundary)
{
    buf_put_str(out, STR("MIME-Version: 1.0\r\nContent-Type: multipart/report"));
    mime_put_param(out, "report-type", str_of(report_type));
    mime_put_param(out, "boundary", str_of(boundary));
    buf_put_str(out, STR("\r\n"));
}

void mime_put_8bit(struct buf *out)
{
    buf_put_str(out, STR("Content-Transfer-Encoding: 8bit\r\n"));
}

/* The CRLF before a delimiter belongs to it, not to the part before (RFC 2046, 5.1.1). */
void mime_put_part(struct buf *out, const char *boundary)
{
    buf_printf(out, "\r\n--%s\r\n", boundary);
}

void mime_put_end(struct buf *out, const char *boundary)
{
    buf_printf(out, "\r\n--%s--\r\n", boundary);
}

/* -- parts ---------------------------------------------------------------------------------------------------------- */

/* Line ends become CRLF, at the very end too; a broken byte U+FFFD. */
static void put_normal_text(struct buf *out, struct str text)
{
    bool in_line = false;

    while (text.n > 0) {
        uint32_t c;
        size_t n = utf8_next(text, &c);
        if (text.p[0] == '\n' || text.p[0] == '\r') {
            n = str_starts(text, STR("\r\n")) ? 2 : 1;
            buf_put_str(out, STR("\r\n"));
            in_line = false;
        } else {
            if (n == 0)
                utf8_put(out, 0xfffd);
            buf_put(out, text.p, n);
            in_line = true;
        }
        text = str_from(text, n == 0 ? 1 : n);
    }
    if (in_line)
        buf_put_str(out, STR("\r\n"));
}

/* Printable ASCII and tabs in short lines, none with a blank at its end: nothing on the way will alter it. */
static bool is_short_ascii(struct str text)
{
    struct str line;

    while (text.n > 0) {
        ssize_t end = str_find_str(text, STR("\r\n"));
        assert(end >= 0);
        line = str_head(text, (size_t)end);
        char last = line.n > 0 ? line.p[line.n - 1] : 'x';
        if (line.n > COLUMNS || last == ' ' || last == '\t')
            return false;
        for (size_t i = 0; i < line.n; i++)
            if ((line.p[i] < ' ' && line.p[i] != '\t') || line.p[i] >= 0x7f)
                return false;
        text = str_from(text, line.n + 2);
    }
    return true;
}

void mime_put_text(struct buf *out, struct str utf8)
{
    CLEANUP_BUF struct buf normal;

    buf_init(&normal, TEXT_GROWTH_MAX * utf8.n + 2);
    put_normal_text(&normal, utf8);
    if (!buf_ok(&normal)) {
        out->failed = true;
        return;
    }
    bool plain = is_short_ascii(buf_str(&normal));
    buf_put_str(out, STR("Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: "));
    buf_put_z(out, plain ? "7bit\r\n\r\n" : "quoted-printable\r\n\r\n");
    if (plain)
        buf_put_str(out, buf_str(&normal));
    else
        codec_put_quoted_printable(out, buf_str(&normal));
}

void mime_put_attachment(struct buf *out, struct str file_name, const char *type, struct str bytes)
{
    buf_put_z(out, "Content-Type: ");
    buf_put_z(out, type != NULL ? type : mime_type_of(file_name));
    buf_put_str(out, STR("\r\nContent-Disposition: attachment"));
    mime_put_param(out, "filename", file_name);
    buf_put_str(out, STR("\r\nContent-Transfer-Encoding: base64\r\n\r\n"));
    codec_put_base64_lines(out, bytes);
}

void mime_put_raw(struct buf *out, const char *type, struct str bytes)
{
    buf_printf(out, "Content-Type: %s\r\nContent-Transfer-Encoding: %s\r\n\r\n", type, utf8_is_ascii(bytes) ? "7bit" : "8bit");
    buf_put_str(out, bytes);
    if (bytes.n < 2 || !str_eq(str_from(bytes, bytes.n - 2), STR("\r\n")))
        buf_put_str(out, STR("\r\n"));
}
