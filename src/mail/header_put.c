/*
 * Writing header fields. Every value passes through utf8_put_clean, the encoder of encoded words, or a filter here: no
 * control character gets past them, so no value ends its field.
 */
#include "base/cleanup.h"
#include "base/codec.h"
#include "base/utf8.h"
#include "mail/fold.h"
#include "mail/header.h"

#include <assert.h>
#include <string.h>

enum { FIELD_MAX = 1024 * 1024 }; /* of one value, encoded */

static bool name_sound(const char *name)
{
    if (*name == '\0')
        return false;
    for (; *name != '\0'; name++)
        if (*name <= ' ' || *name >= 0x7f || *name == ':')
            return false;
    return true;
}

static void begin(struct fold *f, struct buf *out, const char *name)
{
    assert(name_sound(name));
    fold_begin(f, out, name);
}

/* Free text, cleaned and encoded as it needs, words separated by spaces. */
static void put_encoded(struct fold *f, struct str utf8)
{
    CLEANUP_BUF struct buf clean, words;

    buf_init(&clean, FIELD_MAX);
    buf_init(&words, FIELD_MAX);
    utf8_put_clean(&clean, utf8);
    codec_put_encoded_words(&words, str_trim(buf_str(&clean)));
    if (!buf_ok(&clean) || !buf_ok(&words))
        f->out->failed = true;
    fold_put_text(f, buf_str(&words));
}

void header_put_field(struct buf *out, const char *name, struct str utf8)
{
    struct fold f;

    begin(&f, out, name);
    put_encoded(&f, utf8);
    fold_end(&f);
}

void header_put_structured(struct buf *out, const char *name, struct str value)
{
    CLEANUP_BUF struct buf clean;
    struct fold f;

    buf_init(&clean, FIELD_MAX);
    for (size_t i = 0; i < value.n; i++) {
        unsigned char c = (unsigned char)value.p[i];
        buf_put_char(&clean, c < ' ' || c == 0x7f ? ' ' : c > 0x7f ? '?' : (char)c);
    }
    if (!buf_ok(&clean))
        out->failed = true;
    begin(&f, out, name);
    fold_put_text(&f, buf_str(&clean));
    fold_end(&f);
}

static bool is_phrase_of_atoms(struct str name)
{
    for (size_t i = 0; i < name.n; i++)
        if (name.p[i] != ' ' && strchr("()<>[]:;@\\,.\"", name.p[i]) != NULL)
            return false;
    return true;
}

/* Printable ASCII without what looks like an encoded word: may stand as atoms or in quotes. */
static bool is_plain(struct str name)
{
    for (size_t i = 0; i < name.n; i++)
        if (name.p[i] < ' ' || name.p[i] >= 0x7f)
            return false;
    return str_find_str(name, STR("=?")) < 0;
}

static void put_quoted(struct fold *f, struct str name)
{
    CLEANUP_BUF struct buf quoted;

    buf_init(&quoted, FIELD_MAX);
    buf_put_char(&quoted, '"');
    for (size_t i = 0; i < name.n; i++) {
        if (name.p[i] == '"' || name.p[i] == '\\')
            buf_put_char(&quoted, '\\');
        buf_put_char(&quoted, name.p[i]);
    }
    buf_put_char(&quoted, '"');
    if (!buf_ok(&quoted))
        f->out->failed = true;
    fold_put_text(f, buf_str(&quoted));
}

static void put_display_name(struct fold *f, struct str name)
{
    if (is_plain(name) && !is_phrase_of_atoms(name))
        put_quoted(f, name);
    else
        put_encoded(f, name);
}

static void put_mailbox(struct fold *f, const struct header_mailbox *item, bool last)
{
    CLEANUP_BUF struct buf clean;
    char memory[1024]; /* twice a local part, a domain, six more */
    struct buf text;

    buf_init(&clean, FIELD_MAX);
    utf8_put_clean(&clean, item->name);
    if (!buf_ok(&clean))
        f->out->failed = true;
    struct str name = str_trim(buf_str(&clean));
    if (name.n > 0)
        put_display_name(f, name);
    buf_init_fixed(&text, memory, sizeof memory);
    buf_put_char(&text, ' ');
    if (name.n > 0)
        address_put_path(&text, &item->addr);
    else
        address_put(&text, &item->addr);
    if (!last)
        buf_put_char(&text, ',');
    assert(buf_ok(&text));
    fold_put(f, buf_str(&text));
}

void header_put_addresses(struct buf *out, const char *name, const struct header_mailbox *items, size_t count)
{
    struct fold f;

    begin(&f, out, name);
    for (size_t i = 0; i < count; i++)
        put_mailbox(&f, &items[i], i + 1 == count);
    fold_end(&f);
}
