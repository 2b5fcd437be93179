/*
 * sendmail: a message from standard input into the queue of this machine's server, as programs have called it for decades.
 *
 * Handed over by SMTP on the submit socket, which is open to every local user and tells the server who called. When the
 * server is down the exit code is 75, so that callers keep the message.
 */
#include "admin/cli.h"
#include "admin/commands.h"
#include "admin/message.h"
#include "admin/talk.h"
#include "base/cleanup.h"
#include "conf/conf.h"
#include "mail/date.h"
#include "mail/envelope.h"
#include "mail/header.h"
#include "smtp/command.h"
#include <errno.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#define RCPTS_MAX   1000
#define MESSAGE_MAX (256u * 1024 * 1024)

struct sendmail {
    const char    *from, *full_name, *conf_path;
    bool           from_header, dots_are_text;
    uint8_t        notify, ret;           /* of RFC 3461; 0: not said */
    struct str     envid;
    const char    *socket;
    struct arena   arena;
    struct buf     message;
    struct address sender, author;        /* of the envelope, perhaps null; of a From that has to be added */
    struct address rcpts[RCPTS_MAX];
    size_t         rcpt_count;
    int            codes[RCPTS_MAX];
    char         **arguments;
    int            argument_count;
    int            exit_code;
};

static void usage(FILE *to)
{
    fputs("usage: sendmail [-t] [-i] [-f SENDER] [-F NAME] [-N WORDS] [-R full|hdrs] [-V ENVID] [RECIPIENT]...\n\n"
          "Takes a message from standard input and gives it to the server's submit socket.\n\n"
          "  -t          recipients from To, Cc and Bcc; Bcc is removed\n"
          "  -i, -oi     a line with a single dot does not end the message\n"
          "  -f SENDER   the envelope sender; '<>' is nobody\n"
          "  -F NAME     the full name in a From that has to be added\n"
          "  -N WORDS    what to report to the sender: never, or some of success,failure,delay\n"
          "  -R WHAT     what of the message a report of failure holds: full or hdrs\n"
          "  -V ENVID    a name of the sender's own for the message, to stand in the reports\n"
          "  -bp         shows the queue, as mailq does\n"
          "  -C FILE     the configuration (default: $NIGHTMAIL_CONF, else " CLI_DEFAULT_CONF ")\n"
          "Other options of old are taken and ignored (-o..., -B, -m, -n, -v). $NIGHTMAIL_SUBMIT names the socket itself.\n\n"
          "Exit: 0 in the queue, 64 wrong use, 65 no recipients or bad data, 67 a recipient was refused, 69 refused, 75 try again\n"
          "later (the server is down, or says so), 78 bad configuration\n", to);
}

/* -- options: sendmail's own way, values in the same word or the next ----------------------------------------------------------- */

static const char *value_of(const char *word, int argc, char **argv, int *i)
{
    if (word[2] != '\0')
        return word + 2;
    return *i + 1 < argc ? argv[++*i] : "";
}

/* "never", "success,failure,delay" in any case. */
static int take_notify(struct sendmail *s, struct str words)
{
    static const struct {
        const char *word;
        uint8_t     bit;
    } known[] = { { "never", NOTIFY_NEVER }, { "success", NOTIFY_SUCCESS }, { "failure", NOTIFY_FAILURE }, { "delay", NOTIFY_DELAY } };
    struct str word, rest = words;

    for (bool more = true; more;) {
        uint8_t bit = 0;
        more = str_cut(rest, ',', &word, &rest);
        for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
            if (str_eq_nocase(str_trim(word), str_of(known[i].word)))
                bit = known[i].bit;
        if (bit == 0)
            return cli_fail("sendmail", EX_USAGE, "-N takes never, or some of success,failure,delay");
        s->notify |= bit;
    }
    bool never = s->notify & NOTIFY_NEVER;
    return never && s->notify != NOTIFY_NEVER ? cli_fail("sendmail", EX_USAGE, "-N never stands alone") : -1;
}

static int take_ret(struct sendmail *s, struct str word)
{
    s->ret = str_eq_nocase(word, STR("full")) ? RET_FULL : str_eq_nocase(word, STR("hdrs")) ? RET_HDRS : RET_UNSET;
    return s->ret == RET_UNSET ? cli_fail("sendmail", EX_USAGE, "-R takes full or hdrs") : -1;
}

/* What can stand in a report; as long as the server takes it, encoded (RFC 3461, 4.4). */
static int take_envid(struct sendmail *s, struct str text)
{
    char bytes[SMTP_ENVID_MAX];
    struct buf encoded;

    buf_init_fixed(&encoded, bytes, sizeof bytes);
    smtp_put_xtext(&encoded, text);
    for (size_t i = 0; i < text.n; i++)
        encoded.failed |= text.p[i] < ' ' || text.p[i] > '~';
    if (text.n == 0 || !buf_ok(&encoded))
        return cli_fail("sendmail", EX_USAGE, "-V takes a name of printable ASCII characters, at most %d of them", SMTP_ENVID_MAX);
    s->envid = text;
    return -1;
}

/* -1: go on; else the exit code. */
static int take_option(struct sendmail *s, const char *word, int argc, char **argv, int *i)
{
    if (strcmp(word, "--help") == 0) {
        usage(stdout);
        return EX_OK;
    }
    switch (word[1]) {
    case 't': s->from_header = true; return -1;
    case 'i': s->dots_are_text = true; return -1;
    case 'f': case 'r': s->from = value_of(word, argc, argv, i); return -1;
    case 'F': s->full_name = value_of(word, argc, argv, i); return -1;
    case 'C': s->conf_path = value_of(word, argc, argv, i); return -1;
    case 'o':
        if (strcmp(value_of(word, argc, argv, i), "i") == 0)
            s->dots_are_text = true;
        return -1;
    case 'N': return take_notify(s, str_of(value_of(word, argc, argv, i)));
    case 'R': return take_ret(s, str_of(value_of(word, argc, argv, i)));
    case 'V': return take_envid(s, str_of(value_of(word, argc, argv, i)));
    case 'B': case 'L': case 'O': case 'X': case 'h':
        (void)value_of(word, argc, argv, i);
        return -1;
    case 'm': case 'n': case 'v': case 'e': case 'G': case 'U': return -1;
    case 'b':
        if (strcmp(word, "-bm") == 0)
            return -1;
        if (strcmp(word, "-bp") == 0)
            return cmd_mailq(1, argv);
        return cli_fail("sendmail", EX_USAGE, "%s is not done here (the queue: nightmail queue list)", word);
    }
    return cli_fail("sendmail", EX_USAGE, "unknown option %s", word);
}

static int take_arguments(struct sendmail *s, int argc, char **argv)
{
    int i = 1;
    for (; i < argc && argv[i][0] == '-' && argv[i][1] != '\0'; i++) {
        if (strcmp(argv[i], "--") == 0) {
            i++;
            break;
        }
        int code = take_option(s, argv[i], argc, argv, &i);
        if (code >= 0)
            return code;
    }
    s->arguments = argv + i;
    s->argument_count = argc - i;
    return -1;
}

/* -- the message ------------------------------------------------------------------------------------------------------------ */

static int read_message(struct sendmail *s, struct buf *out)
{
    CLEANUP_FREE char *line = NULL;
    size_t room = 0;
    ssize_t n;
    while ((n = getline(&line, &room, stdin)) > 0) {
        bool only_dot = strcmp(line, ".\n") == 0 || strcmp(line, ".\r\n") == 0;
        if (only_dot && !s->dots_are_text)
            break;
        buf_put(out, line, (size_t)n);
    }
    return buf_ok(out) ? EX_OK : cli_fail("sendmail", EX_DATAERR, "the message is too large");
}

static int add_rcpt(struct sendmail *s, const struct address *addr)
{
    for (size_t i = 0; i < s->rcpt_count; i++)
        if (address_eq(&s->rcpts[i], addr))
            return EX_OK;
    if (s->rcpt_count == RCPTS_MAX)
        return cli_fail("sendmail", EX_DATAERR, "more than %d recipients", RCPTS_MAX);
    s->rcpts[s->rcpt_count++] = *addr;
    return EX_OK;
}

static int add_list(struct sendmail *s, struct str value)
{
    struct header_addresses list;
    if (!header_address_list(&s->arena, value, ADDRESS_UTF8 | ADDRESS_BARE, &list))
        return cli_fail("sendmail", EX_DATAERR, "too many addresses");
    if (list.bad.n > 0)
        return cli_fail("sendmail", EX_DATAERR, "'%" STR_FMT "' is no address", STR_ARG(list.bad));
    int code = EX_OK;
    for (size_t i = 0; i < list.count && code == EX_OK; i++)
        code = add_rcpt(s, &list.items[i].addr);
    return code;
}

static int recipients(struct sendmail *s, struct str message)
{
    struct header_iter it;
    struct header_field field;
    int code = EX_OK;
    for (int i = 0; i < s->argument_count && code == EX_OK; i++)
        code = add_list(s, str_of(s->arguments[i]));
    header_begin(&it, message);
    while (s->from_header && code == EX_OK && header_next(&it, &field))
        if (str_eq_nocase(field.name, STR("To")) || str_eq_nocase(field.name, STR("Cc")) || str_eq_nocase(field.name, STR("Bcc")))
            code = add_list(s, field.value);
    if (code == EX_OK && s->rcpt_count == 0)
        return cli_fail("sendmail", EX_DATAERR, "no recipients");
    return code;
}

/* What a submitted message must have (RFC 6409, 8): added in front where it is missing. */
static void complete(struct sendmail *s, struct str message, const char *host)
{
    struct header_field field;
    struct header_mailbox from = { .name = str_of(s->full_name), .addr = s->author };
    CLEANUP_BUF struct buf rest;
    buf_init(&rest, MESSAGE_MAX);
    if (!header_find(message, STR("Date"), &field)) {
        buf_put_z(&s->message, "Date: ");
        date_put(&s->message, clock_wall_ns(), 0);
        buf_put_z(&s->message, "\r\n");
    }
    if (!header_find(message, STR("From"), &field))
        header_put_addresses(&s->message, "From", &from, 1);
    if (!header_find(message, STR("Message-ID"), &field))
        buf_printf(&s->message, "Message-ID: <%016llx%08x@%s>\r\n", (unsigned long long)clock_random_u64(), (unsigned)clock_random_u64(), host);
    if (header_find(message, STR("From"), &field) || header_count(message, STR("To")) > 0 || header_end(message) > 2) {
        header_remove(&s->message, message, STR("Bcc"));
        return;
    }
    buf_put_z(&s->message, "\r\n");                           /* no header at all: everything is text */
    buf_put_str(&s->message, message);
}

/* Who runs us, without a domain. */
static void read_user(struct sendmail *s, struct address *out)
{
    const struct passwd *user = getpwuid(getuid());
    struct str text = user != NULL ? str_copy(&s->arena, str_of(user->pw_name)) : str_printf(&s->arena, "uid%u", (unsigned)getuid());
    out->local = text;
    if (user != NULL && s->full_name[0] == '\0')
        s->full_name = str_z(&s->arena, str_head(str_of(user->pw_gecos), strcspn(user->pw_gecos, ",")));
}

static int read_sender(struct sendmail *s)
{
    bool null = s->from != NULL && (s->from[0] == '\0' || strcmp(s->from, "<>") == 0);
    if (s->from == NULL || null)
        read_user(s, &s->author);
    else if (!address_parse_with(&s->arena, str_of(s->from), ADDRESS_UTF8 | ADDRESS_BARE, &s->author))
        return cli_fail("sendmail", EX_USAGE, "'%s' is no address", s->from);
    if (!null)
        s->sender = s->author;
    return EX_OK;
}

static void qualify(struct address *addr, const char *host)
{
    if (addr->domain.n == 0 && addr->local.n > 0)
        addr->domain = str_of(host);
}

static int prepare(struct sendmail *s, const char *host)
{
    CLEANUP_BUF struct buf raw, canonical;
    buf_init(&raw, MESSAGE_MAX);
    buf_init(&canonical, MESSAGE_MAX);
    int code = read_message(s, &raw);
    if (code == EX_OK)
        code = read_sender(s);
    if (code != EX_OK)
        return code;
    message_put_crlf(&canonical, buf_str(&raw));
    code = recipients(s, buf_str(&canonical));
    if (code != EX_OK)
        return code;
    qualify(&s->sender, host);
    qualify(&s->author, host);
    for (size_t i = 0; i < s->rcpt_count; i++)
        qualify(&s->rcpts[i], host);
    complete(s, buf_str(&canonical), host);
    return buf_ok(&s->message) ? EX_OK : cli_fail("sendmail", EX_DATAERR, "the message is too large");
}

/* -- handing over -------------------------------------------------------------------------------------------------------------- */

static int code_for_reply(int code)
{
    return code / 100 == 2 ? EX_OK : code / 100 == 4 ? EX_TEMPFAIL : EX_UNAVAILABLE;
}

static int result_of(struct talk *t, enum talk_stage stage)
{
    int code = code_for_reply(t->reply.code);
    if (code == EX_OK && stage == TALK_TEXT)
        return EX_OK;
    if (code == EX_UNAVAILABLE && stage == TALK_RCPT)
        code = EX_NOUSER;
    return cli_fail("sendmail", code == EX_OK ? EX_UNAVAILABLE : code, "the server said %s", talk_refusal(t));
}

/* All or nobody: a caller that gives the message again after an error must not make it arrive twice at some. */
static int hand_over(struct sendmail *s, struct talk *t)
{
    struct talk_mail mail = {
        .sender = s->sender, .rcpts = s->rcpts, .rcpt_count = s->rcpt_count, .message = buf_str(&s->message), .all = true,
        .notify = s->notify, .ret = s->ret, .envid = s->envid,
    };
    for (size_t i = 0; i < mail.message.n && !mail.eightbit; i++)
        mail.eightbit = (unsigned char)mail.message.p[i] >= 0x80;
    enum talk_stage stage;
    t->pipelining = false;
    int r = talk_mail(t, &mail, s->codes, &stage);
    return r < 0 ? cli_fail("sendmail", EX_TEMPFAIL, "%s", talk_error(t, r)) : result_of(t, stage);
}

static void sendmail_task(void *arg)
{
    struct sendmail *s = arg;
    struct talk t;
    talk_init(&t, 300 * NS_PER_S, NULL, NULL);
    int r = talk_connect_unix(&t, s->socket);
    if (r < 0 || t.reply.code != 220) {
        s->exit_code = cli_fail("sendmail", EX_TEMPFAIL, "the mail server does not answer at %s: %s", s->socket,
                                r < 0 ? talk_error(&t, r) : "it is busy");
        talk_close(&t);
        return;
    }
    struct str host, rest;
    str_cut(smtp_reply_line(&t.reply), ' ', &host, &rest);
    const char *name = str_z(&s->arena, host);
    s->exit_code = name != NULL ? prepare(s, name) : EX_OSERR;
    if (s->exit_code == EX_OK) {
        r = talk_hello(&t, name);
        s->exit_code = r < 0 ? cli_fail("sendmail", EX_TEMPFAIL, "%s", talk_error(&t, r)) : hand_over(s, &t);
    }
    talk_quit(&t);
}

static int find_socket(struct sendmail *s)
{
    s->socket = getenv("NIGHTMAIL_SUBMIT");
    if (s->socket != NULL && s->socket[0] != '\0')
        return EX_OK;
    struct conf *conf;
    CLEANUP_BUF struct buf error;
    buf_init(&error, 64 * 1024);
    if (conf_load(cli_conf_path(s->conf_path), &conf, &error) < 0)
        return cli_fail("sendmail", EX_CONFIG, "%.*s", (int)error.n - 1, error.p);    /* but its last line end */
    s->socket = str_z(&s->arena, str_of(conf->submit_socket));
    conf_unref(conf);
    return s->socket != NULL && s->socket[0] != '\0' ? EX_OK : cli_fail("sendmail", EX_CONFIG, "the configuration has no submit_socket");
}

int cmd_sendmail(int argc, char **argv)
{
    struct sendmail *s = calloc(1, sizeof(*s));
    if (s == NULL)
        return EX_OSERR;
    s->full_name = "";
    arena_init(&s->arena, 64 * 1024 * 1024);
    buf_init(&s->message, MESSAGE_MAX);
    int code = take_arguments(s, argc, argv);
    if (code < 0) {
        code = find_socket(s);
        if (code == EX_OK)
            code = cli_run_task("sendmail", sendmail_task, s);
        if (code == EX_OK)
            code = s->exit_code;
    }
    buf_free(&s->message);
    arena_reset(&s->arena);
    free(s);
    return code;
}
