/*
 * Messages put together: see message.h.
 */
#include "admin/message.h"
#include "base/clock.h"
#include "mail/date.h"
#include "mail/header.h"
#include "mail/mime.h"
#include <string.h>

void message_put_crlf(struct buf *out, struct str text)
{
    char last = '\n';
    for (size_t i = 0; i < text.n; i++) {
        char c = text.p[i];
        if (c == '\n' || c == '\r')
            buf_put_z(out, "\r\n");
        else
            buf_put_char(out, c);
        if (c == '\r' && i + 1 < text.n && text.p[i + 1] == '\n')
            i++;
        last = c;
    }
    if (last != '\n' && last != '\r')
        buf_put_z(out, "\r\n");
}

static bool put_extra(struct buf *out, const char *header)
{
    struct str name, value;
    if (!str_cut(str_of(header), ':', &name, &value) || name.n == 0)
        return false;
    char copy[HEADER_NAME_MAX];
    if (name.n >= sizeof(copy))
        return false;
    for (size_t i = 0; i < name.n; i++)
        if (name.p[i] <= ' ' || (unsigned char)name.p[i] >= 0x7f)
            return false;
    memcpy(copy, name.p, name.n);
    copy[name.n] = '\0';
    header_put_field(out, copy, str_trim(value));
    return true;
}

static bool put_headers(struct buf *out, const struct message_parts *m, int64_t now_wall_ns)
{
    struct header_mailbox box = { .addr = m->from };
    buf_put_z(out, "Date: ");
    date_put(out, now_wall_ns, 0);
    buf_put_z(out, "\r\n");
    header_put_addresses(out, "From", &box, 1);
    for (size_t i = 0; i < m->to_count; i++) {
        box.addr = m->to[i];
        buf_put_z(out, i == 0 ? "To: <" : ",\r\n <");
        address_put(out, &m->to[i]);
        buf_put_z(out, ">");
    }
    buf_put_z(out, m->to_count > 0 ? "\r\n" : "");
    header_put_field(out, "Subject", m->subject);
    buf_printf(out, "Message-ID: <%016llx%08x@%s>\r\n", (unsigned long long)clock_random_u64(), (unsigned)clock_random_u64(), m->host);
    for (size_t i = 0; m->headers != NULL && m->headers[i] != NULL; i++)
        if (!put_extra(out, m->headers[i]))
            return false;
    return true;
}

bool message_put(struct buf *out, const struct message_parts *m, int64_t now_wall_ns)
{
    if (!put_headers(out, m, now_wall_ns))
        return false;
    if (m->file_count == 0) {
        buf_put_z(out, "MIME-Version: 1.0\r\n");
        mime_put_text(out, m->text);
        return true;
    }
    char boundary[MIME_BOUNDARY_LEN + 1];
    mime_boundary(clock_random_u64(), clock_random_u64(), boundary);
    mime_put_multipart(out, "mixed", boundary);
    buf_put_z(out, "\r\n");
    mime_put_part(out, boundary);
    mime_put_text(out, m->text);
    for (size_t i = 0; i < m->file_count; i++) {
        mime_put_part(out, boundary);
        mime_put_attachment(out, str_of(m->files[i].name), NULL, m->files[i].bytes);
    }
    mime_put_end(out, boundary);
    return true;
}
