/*
 * One SMTP conversation: see talk.h.
 */
#include "admin/talk.h"
#include "base/cleanup.h"
#include "mail/envelope.h"
#include "outbound/client_auth.h"
#include "smtp/command.h"
#include "smtp/data.h"
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define TEXT_CHUNK (32 * 1024)

void talk_init(struct talk *t, int64_t timeout_ns, talk_show_fn *show, void *show_arg)
{
    *t = (struct talk){ .show = show, .show_arg = show_arg, .timeout_ns = timeout_ns, .started_ns = clock_mono_ns() };
    smtp_reply_init(&t->reply);
}

static int64_t deadline(const struct talk *t)
{
    return task_deadline_in(t->timeout_ns);
}

static void show(struct talk *t, enum talk_side side, struct str line)
{
    if (t->show != NULL)
        t->show(t->show_arg, side, line, clock_mono_ns() - t->started_ns);
}

static void show_lines(struct talk *t, struct str bytes)
{
    struct str line;
    while (t->show != NULL && bytes.n > 0) {
        str_cut(bytes, '\n', &line, &bytes);
        if (line.n > 0 && line.p[line.n - 1] == '\r')
            line.n--;
        show(t, TALK_SERVER, line);
    }
}

/* -- lines ---------------------------------------------------------------------------------------------------------------- */

/* Of pipelined commands the first refusal is the reason; those behind it only follow from it. */
static void note_refusal(struct talk *t)
{
    if (t->refusal[0] != '\0' || t->reply.code < 400)
        return;
    struct str words = smtp_reply_line(&t->reply);
    const char *space = t->reply.enhanced[0] != '\0' ? " " : "";
    (void)snprintf(t->refusal, sizeof(t->refusal), "%d %s%s%.*s", t->reply.code, t->reply.enhanced, space, (int)(words.n < 250 ? words.n : 250), words.p);
}

int talk_reply(struct talk *t)
{
    smtp_reply_clear(&t->reply);
    int r = stream_flush(t->stream, deadline(t));
    if (r < 0)
        return r;
    for (;;) {
        size_t consumed = 0;
        struct str pending = stream_pending(t->stream);
        enum reply_result result = smtp_parse_reply(pending, &consumed, &t->reply);
        show_lines(t, str_head(pending, consumed));
        stream_consume(t->stream, consumed);
        if (result == REPLY_DONE)
            note_refusal(t);
        if (result != REPLY_MORE)
            return result == REPLY_DONE ? 0 : -EBADMSG;
        ssize_t n = stream_fill(t->stream, deadline(t));
        if (n <= 0)
            return n == 0 ? -EPIPE : (int)n;
    }
}

int talk_put(struct talk *t, struct str line)
{
    show(t, TALK_CLIENT, line);
    stream_write_deadline(t->stream, deadline(t));
    int r = stream_put(t->stream, line);
    return r < 0 ? r : stream_put(t->stream, STR("\r\n"));
}

int talk_command(struct talk *t, struct str line)
{
    int r = talk_put(t, line);
    return r < 0 ? r : talk_reply(t);
}

/* -- beginning ------------------------------------------------------------------------------------------------------------ */

static void note(struct talk *t, const char *what, const char *which)
{
    char line[256];
    (void)snprintf(line, sizeof(line), "%s %s", what, which);
    show(t, TALK_NOTE, str_of(line));
}

int talk_connect(struct talk *t, const struct net_addr *to)
{
    char text[NET_ADDR_TEXT_MAX];
    note(t, "connecting to", net_addr_format(to, text));
    int r = net_connect(to, NULL, deadline(t), &t->stream);
    return r < 0 ? r : talk_reply(t);
}

int talk_connect_unix(struct talk *t, const char *path)
{
    note(t, "connecting to", path);
    int r = net_connect_unix(path, deadline(t), &t->stream);
    return r < 0 ? r : talk_reply(t);
}

static int handshake(struct talk *t, struct tls_context *tls, const char *server_name)
{
    char line[128];
    int r = stream_tls_connect(t->stream, tls, server_name, deadline(t));
    if (r < 0)
        return r;
    (void)snprintf(line, sizeof(line), "%s %s", stream_tls_protocol(t->stream), stream_tls_cipher(t->stream));
    note(t, "TLS established:", line);
    return 0;
}

int talk_connect_tls(struct talk *t, const struct net_addr *to, struct tls_context *tls, const char *server_name)
{
    char text[NET_ADDR_TEXT_MAX];
    note(t, "connecting to", net_addr_format(to, text));
    int r = net_connect(to, NULL, deadline(t), &t->stream);
    if (r == 0)
        r = handshake(t, tls, server_name);
    return r < 0 ? r : talk_reply(t);
}

int talk_starttls(struct talk *t, struct tls_context *tls, const char *server_name)
{
    int r = talk_command(t, STR("STARTTLS"));
    if (r < 0)
        return r;
    if (t->reply.code != 220)
        return -EPROTONOSUPPORT;
    if (stream_pending(t->stream).n > 0) {                    /* CVE-2021-38371: what came before the handshake was not the server's, perhaps */
        note(t, "something came behind the reply to STARTTLS,", "before the handshake");
        return -EBADMSG;
    }
    return handshake(t, tls, server_name);
}

static void note_extensions(struct talk *t)
{
    struct str line, rest = buf_str(&t->reply.text);
    t->pipelining = t->eightbit = t->starttls = t->chunking = t->utf8 = t->dsn = false;
    t->mechanisms = 0;
    str_cut(rest, '\n', &line, &rest);                        /* the first is the server's name */
    while (rest.n > 0) {
        struct str word, args;
        str_cut(rest, '\n', &line, &rest);
        str_cut(str_trim(line), ' ', &word, &args);
        t->pipelining |= str_eq_nocase(word, STR("PIPELINING"));
        t->eightbit |= str_eq_nocase(word, STR("8BITMIME"));
        if (str_eq_nocase(word, STR("AUTH")))
            t->mechanisms |= client_auth_mechanisms(args);
        t->starttls |= str_eq_nocase(word, STR("STARTTLS"));
        t->chunking |= str_eq_nocase(word, STR("CHUNKING"));
        t->utf8 |= str_eq_nocase(word, STR("SMTPUTF8"));
        t->dsn |= str_eq_nocase(word, STR("DSN"));
    }
}

int talk_hello(struct talk *t, const char *name)
{
    char line[300];
    (void)snprintf(line, sizeof(line), "EHLO %s", name);
    int r = talk_command(t, str_of(line));
    if (r == 0 && t->reply.code / 100 == 2) {
        note_extensions(t);
        return 0;
    }
    if (r < 0 || t->reply.code / 100 != 5)
        return r;
    memcpy(line, "HELO", 4);
    return talk_command(t, str_of(line));
}

static int say_secret(void *arg, struct str line)
{
    struct talk *t = arg;
    ssize_t mechanism_end = str_starts(line, STR("AUTH ")) ? str_find(str_from(line, 5), ' ') : -1;
    stream_write_deadline(t->stream, deadline(t));
    /* The command and its mechanism are shown, and no more. */
    show(t, TALK_CLIENT, mechanism_end >= 0 ? str_head(line, (size_t)mechanism_end + 5) : str_starts(line, STR("AUTH ")) ? line : STR("(a secret)"));
    int r = stream_put(t->stream, line);
    if (r == 0)
        r = stream_put(t->stream, STR("\r\n"));
    return r < 0 ? r : talk_reply(t);
}

int talk_login(struct talk *t, struct str login, struct str password, bool plain_allowed, char error[256])
{
    struct client_auth how = {
        .mechanisms = t->mechanisms, .plain_allowed = plain_allowed || stream_is_tls(t->stream), .login = login, .password = password,
        .say = say_secret, .arg = t, .reply = &t->reply,
    };
    return client_auth_run(&how, error);
}

/* -- a message ------------------------------------------------------------------------------------------------------------ */

int talk_text(struct talk *t, struct str message)
{
    CLEANUP_BUF struct buf wire;
    buf_init(&wire, 3 * TEXT_CHUNK);
    struct data_encoder encoder = { 0 };
    char words[64];
    (void)snprintf(words, sizeof(words), "(%zu bytes of message)", message.n);
    show(t, TALK_CLIENT, str_of(words));
    for (size_t at = 0; at < message.n; at += TEXT_CHUNK) {
        data_encode(&encoder, str_head(str_from(message, at), TEXT_CHUNK), &wire);
        stream_write_deadline(t->stream, deadline(t));
        int r = stream_put(t->stream, buf_str(&wire));
        if (r < 0)
            return r;
        buf_clear(&wire);
    }
    data_encode_end(&encoder, &wire);
    show(t, TALK_CLIENT, STR("."));
    int r = stream_put(t->stream, buf_str(&wire));
    return r < 0 ? r : talk_reply(t);
}

/* One at a time: what is shown is then in the order in which it happens. */
int talk_chunks(struct talk *t, struct str message, size_t chunk)
{
    for (size_t at = 0;; at += chunk) {
        struct str octets = str_head(str_from(message, at), chunk);
        bool last = at + octets.n == message.n;
        char line[64];
        (void)snprintf(line, sizeof(line), "BDAT %zu%s", octets.n, last ? " LAST" : "");
        int r = talk_put(t, str_of(line));
        if (r < 0)
            return r;
        (void)snprintf(line, sizeof(line), "(%zu octets of message)", octets.n);
        show(t, TALK_CLIENT, str_of(line));
        stream_write_deadline(t->stream, deadline(t));
        if ((r = stream_put(t->stream, octets)) < 0 || (r = talk_reply(t)) < 0 || last || t->reply.code / 100 != 2)
            return r;
    }
}

static bool is_international(const struct talk_mail *mail)
{
    bool any = mail->utf8 || mail->sender.utf8;
    for (size_t i = 0; i < mail->rcpt_count; i++)
        any |= mail->rcpts[i].utf8;
    return any;
}

static void put_mail(const struct talk *t, const struct talk_mail *mail, struct buf *line)
{
    struct mail_args args = { .sender = mail->sender, .null_sender = address_is_null(&mail->sender) };
    if (mail->binary || (mail->eightbit && t->eightbit)) {
        args.seen = PARAM_BODY;
        args.body = mail->binary ? BODY_BINARYMIME : BODY_8BITMIME;
    }
    if (t->utf8 && is_international(mail))
        args.seen |= PARAM_SMTPUTF8;
    if (t->dsn) {
        args.seen |= (mail->ret != RET_UNSET ? PARAM_RET : 0u) | (mail->envid.n > 0 ? PARAM_ENVID : 0u);
        args.ret = mail->ret;
        args.envid = mail->envid;
    }
    smtp_put_mail(line, &args);
}

static int put_line(struct talk *t, struct buf *line)
{
    int r = talk_put(t, str_head(buf_str(line), line->n - 2));   /* the writers end it in CRLF */
    buf_clear(line);
    return r < 0 || t->pipelining ? r : talk_reply(t);
}

int talk_mail(struct talk *t, const struct talk_mail *mail, int *rcpt_codes, enum talk_stage *out_stage)
{
    CLEANUP_BUF struct buf line;
    buf_init(&line, SMTP_LINE_MAX);
    assert(!mail->all || !t->pipelining);
    *out_stage = TALK_MAIL;
    t->refusal[0] = '\0';
    put_mail(t, mail, &line);
    int r = put_line(t, &line);
    if (r < 0 || (!t->pipelining && t->reply.code / 100 != 2))
        return r;
    *out_stage = TALK_RCPT;
    for (size_t i = 0; i < mail->rcpt_count; i++) {
        struct rcpt_args rcpt = { .rcpt = mail->rcpts[i], .seen = t->dsn && mail->notify != 0 ? PARAM_NOTIFY : 0, .notify = mail->notify };
        smtp_put_rcpt(&line, &rcpt);
        if ((r = put_line(t, &line)) < 0)
            return r;
        rcpt_codes[i] = t->reply.code;
        if (mail->all && t->reply.code / 100 != 2)
            return 0;
    }
    if (t->pipelining) {
        if ((mail->chunk == 0 && (r = talk_put(t, STR("DATA"))) < 0) || (r = talk_reply(t)) < 0)
            return r;
        int mail_code = t->reply.code;
        for (size_t i = 0; i < mail->rcpt_count; i++) {
            if ((r = talk_reply(t)) < 0)
                return r;
            rcpt_codes[i] = mail_code / 100 == 2 ? t->reply.code : mail_code;
        }
    }
    size_t accepted = 0;
    for (size_t i = 0; i < mail->rcpt_count; i++)
        accepted += rcpt_codes[i] / 100 == 2;
    *out_stage = accepted > 0 ? TALK_DATA : TALK_RCPT;
    if (accepted == 0 && (!t->pipelining || mail->chunk > 0))
        return 0;
    if (mail->chunk > 0) {
        *out_stage = TALK_TEXT;
        return talk_chunks(t, mail->message, mail->chunk);
    }
    r = t->pipelining ? talk_reply(t) : talk_command(t, STR("DATA"));
    if (r < 0 || t->reply.code != 354)
        return r;
    *out_stage = accepted > 0 ? TALK_TEXT : TALK_RCPT;
    return talk_text(t, accepted > 0 ? mail->message : STR(""));
}

/* -- the end -------------------------------------------------------------------------------------------------------------- */

void talk_quit(struct talk *t)
{
    if (t->stream != NULL)
        (void)talk_command(t, STR("QUIT"));                   /* whatever it says, we leave */
    talk_close(t);
}

void talk_close(struct talk *t)
{
    stream_close(t->stream);
    t->stream = NULL;
    smtp_reply_free(&t->reply);
    smtp_reply_init(&t->reply);
}

const char *talk_refusal(const struct talk *t)
{
    return t->refusal[0] != '\0' ? t->refusal : "something that is no answer here";
}

const char *talk_error(const struct talk *t, int error)
{
    if (error == -EPROTO && t->stream != NULL && stream_tls_error(t->stream)[0] != '\0')
        return stream_tls_error(t->stream);
    switch (error) {
    case -EPIPE:           return "the server closed the connection";
    case -EBADMSG:         return "what it answers is not SMTP";
    case -ETIMEDOUT:       return "timed out";
    case -EPROTONOSUPPORT: return "the server refuses STARTTLS";
    }
    return strerror(-error);
}
