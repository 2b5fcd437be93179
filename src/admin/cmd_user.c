/*
 * nightmail user add|passwd|del|list: those who may log in, in the password file (run/keeper_accounts.h).
 *
 * A password comes from the terminal, without echo and twice, or from standard input; never from the command line, which everybody
 * on the machine can read. The file is written beside itself, synced and renamed, so that the server reads either the old or the new
 * one, and keeps its owner. One at a time: the folder is locked meanwhile.
 */
#include "admin/cli.h"
#include "admin/commands.h"
#include "base/cleanup.h"
#include "conf/conf.h"
#include "run/file.h"
#include "run/keeper_accounts.h"
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <termios.h>
#include <unistd.h>

#define ERRORS_MAX (64 * 1024)
#define LINE_ROOM  2048                  /* for a login's line */

struct user {
    const char      *path;               /* of the accounts file */
    const char      *name;               /* its last part */
    const char      *data_dir;           /* its owner is the server's user; NULL: not known */
    bool             scram;
    int              dir;                /* its folder, open and locked */
    struct buf       text;               /* what stands in it */
    bool             fresh;              /* there is none yet */
};

static void usage(FILE *to)
{
    fputs("usage: nightmail user add LOGIN       asks for a password; a login is a mail address, or a name for all local domains\n"
          "       nightmail user passwd LOGIN    asks for another password\n"
          "       nightmail user del LOGIN\n"
          "       nightmail user list\n\n"
          "  -c, --config FILE   default: $NIGHTMAIL_CONF, else " CLI_DEFAULT_CONF "; names the accounts_file\n"
          "  -f, --file FILE     this accounts file, whatever the configuration says\n"
          "      --scram         with a verifier for SCRAM-SHA-256 (default with scram = yes)\n\n"
          "The password is read from the terminal, or is the first line of standard input. A server that runs sees a change within a second.\n"
          "Exit: 0 done, 64 wrong use, 65 the file or the password cannot be used, 67 no such login, 73 the file cannot be written,\n"
          "75 somebody else is changing it, 78 the configuration is wrong\n", to);
}

/* -- the file ------------------------------------------------------------------------------------------------------------------ */

static int open_folder(struct user *u)
{
    const char *slash = strrchr(u->path, '/');
    CLEANUP_FREE char *folder = slash == NULL ? strdup(".") : strndup(u->path, slash == u->path ? 1 : (size_t)(slash - u->path));

    u->name = slash == NULL ? u->path : slash + 1;
    u->dir = folder == NULL ? -ENOMEM : file_open_dir(folder);
    if (u->dir < 0)
        return cli_fail("user", EX_NOINPUT, "cannot open the folder of %s: %s", u->path, strerror(-u->dir));
    int r = file_lock(u->dir);
    if (r < 0)
        return cli_fail("user", EX_TEMPFAIL, "somebody else is changing %s", u->path);
    return EX_OK;
}

static int read_file(struct user *u)
{
    buf_init(&u->text, ACCOUNTS_FILE_MAX + 1);
    int r = file_read_whole(u->path, ACCOUNTS_FILE_MAX, &u->text);
    u->fresh = r == -ENOENT;
    return r < 0 && !u->fresh ? cli_fail("user", EX_NOINPUT, "cannot read %s: %s", u->path, strerror(-r)) : EX_OK;
}

/* What is wrong with it is said before it is changed; and so is what would be wrong afterwards. */
static int parse(const struct user *u, struct str text, struct accounts **out)
{
    char error[256];
    int r = accounts_parse(text, u->path, out, error);
    return r < 0 ? cli_fail("user", EX_DATAERR, "%s", error) : EX_OK;
}

static int give_owner(const struct user *u, int file)
{
    CLEANUP_FILE int before = u->fresh ? -ENOENT : file_open_at(u->dir, u->name, FILE_READ);
    CLEANUP_FILE int data_dir = u->fresh && geteuid() == 0 && u->data_dir != NULL ? file_open_dir(u->data_dir) : -ENOENT;

    if (before >= 0)
        return file_own_like(file, before);
    if (!u->fresh)
        return before;                   /* a link: with a file of ours in its place the server could read neither */
    return data_dir >= 0 ? file_own_like(file, data_dir) : 0;
}

static int write_beside(const struct user *u, const char *beside, struct str text)
{
    CLEANUP_FILE int file = file_open_at(u->dir, beside, FILE_WRITE | FILE_CREATE | FILE_TRUNCATE);

    if (file < 0)
        return file;
    int r = give_owner(u, file);
    if (r == 0)
        r = file_write_at(file, text.p, text.n, 0);
    if (r == 0)
        r = file_sync(file);
    if (r == 0)
        r = file_rename_at(u->dir, beside, u->dir, u->name);
    return r == 0 ? file_sync(u->dir) : r;
}

static int write_file(const struct user *u, struct str text)
{
    struct accounts *check;
    CLEANUP_BUF struct buf beside = { .p = NULL };

    int code = parse(u, text, &check);
    if (code != EX_OK)
        return code;
    accounts_free(check);
    buf_init(&beside, 4096);
    buf_printf(&beside, "%s.new", u->name);
    buf_put_char(&beside, '\0');
    int r = buf_ok(&beside) ? write_beside(u, beside.p, text) : -ENOMEM;
    if (r == 0)
        return EX_OK;
    (void)file_unlink_at(u->dir, beside.p);      /* half of a file helps nobody */
    return cli_fail("user", EX_CANTCREAT, "cannot write %s: %s", u->path, strerror(-r));
}

/* -- passwords ----------------------------------------------------------------------------------------------------------------- */

/* One line of standard input, without its end. */
static int read_line(char out[KEEPER_PASSWORD_MAX + 2])
{
    if (fgets(out, KEEPER_PASSWORD_MAX + 2, stdin) == NULL)
        return cli_fail("user", EX_DATAERR, "no password came");
    size_t n = strcspn(out, "\r\n");
    if (out[n] == '\0' && n > KEEPER_PASSWORD_MAX)
        return cli_fail("user", EX_DATAERR, "the password is too long: %d bytes at most", KEEPER_PASSWORD_MAX);
    out[n] = '\0';
    return EX_OK;
}

static struct termios terminal;              /* as it was, for whoever interrupts us */

static void restore_terminal(int signo)
{
    (void)tcsetattr(STDIN_FILENO, TCSAFLUSH, &terminal);
    _exit(128 + signo);
}

static int ask(const char *question, char out[KEEPER_PASSWORD_MAX + 2])
{
    struct termios silent;

    if (tcgetattr(STDIN_FILENO, &terminal) < 0)
        return cli_fail("user", EX_OSERR, "the terminal: %s", strerror(errno));
    silent = terminal;
    silent.c_lflag &= (tcflag_t)~ECHO;
    fputs(question, stderr);
    (void)signal(SIGINT, restore_terminal);
    (void)signal(SIGTERM, restore_terminal);
    if (tcsetattr(STDIN_FILENO, TCSAFLUSH, &silent) < 0)
        return cli_fail("user", EX_OSERR, "the terminal: %s", strerror(errno));
    int code = read_line(out);
    (void)tcsetattr(STDIN_FILENO, TCSAFLUSH, &terminal);
    (void)signal(SIGINT, SIG_DFL);
    (void)signal(SIGTERM, SIG_DFL);
    fputc('\n', stderr);
    return code;
}

static int read_password(char out[KEEPER_PASSWORD_MAX + 2])
{
    char again[KEEPER_PASSWORD_MAX + 2] = "";

    if (!isatty(STDIN_FILENO))
        return read_line(out);
    int code = ask("Password: ", out);
    if (code == EX_OK)
        code = ask("The same again: ", again);
    if (code == EX_OK && strcmp(out, again) != 0)
        code = cli_fail("user", EX_DATAERR, "these were two different passwords; nothing is changed");
    explicit_bzero(again, sizeof again);
    return code;
}

/* -- the commands ---------------------------------------------------------------------------------------------------------------- */

/* The login's line for the password that is asked for now. */
static int make_line(const struct user *u, struct str login, struct buf *out)
{
    char password[KEEPER_PASSWORD_MAX + 2] = "";

    int code = read_password(password);
    if (code == EX_OK && str_of(password).n == 0)
        code = cli_fail("user", EX_DATAERR, "the password is empty");
    if (code == EX_OK) {
        int r = accounts_put_login(out, login, str_of(password), u->scram);
        if (r < 0)
            code = cli_fail("user", r == -EINVAL ? EX_DATAERR : EX_OSERR, "cannot hash that password: %s", strerror(-r));
    }
    explicit_bzero(password, sizeof password);
    return code;
}

static void put_beginning(struct buf *out)
{
    buf_put_z(out, "# Logins of nightmail: change them with `nightmail user`. login:hash[:verifier]\n");
    accounts_put_salt_key(out);
    buf_put_char(out, '\n');
}

static int change(struct user *u, const char *word, struct str login)
{
    char name[KEEPER_LOGIN_MAX + 1] = "";
    CLEANUP_BUF struct buf line, out;
    struct accounts *known;
    bool add = strcmp(word, "add") == 0, del = strcmp(word, "del") == 0;

    buf_init(&line, LINE_ROOM);
    buf_init(&out, ACCOUNTS_FILE_MAX + 2 * LINE_ROOM);
    int code = parse(u, buf_str(&u->text), &known);
    if (code != EX_OK)
        return code;
    const struct account *before = accounts_find(known, login);
    bool is_there = before != NULL;
    if (is_there) {                      /* it keeps its spelling, and its having a verifier */
        memcpy(name, before->login, strlen(before->login) + 1);
        login = str_of(name);
        u->scram = u->scram || before->has_scram;
    }
    if (known->salt_key.n == 0)
        put_beginning(&out);
    accounts_free(known);
    if (add && is_there)
        return cli_fail("user", EX_DATAERR, "%" STR_FMT " is there already; passwd gives another password", STR_ARG(login));
    if (!add && !is_there)
        return cli_fail("user", EX_NOUSER, "there is no %" STR_FMT, STR_ARG(login));
    if (!del)
        code = make_line(u, login, &line);
    if (code != EX_OK)
        return code;
    (void)accounts_change(&out, buf_str(&u->text), login, buf_str(&line));
    return buf_ok(&out) ? write_file(u, buf_str(&out)) : cli_fail("user", EX_DATAERR, "the file would be too large");
}

static int list(const struct user *u)
{
    struct accounts *known;

    int code = parse(u, buf_str(&u->text), &known);
    if (code != EX_OK)
        return code;
    for (size_t i = 0; i < known->count; i++) {
        cli_print_safe(stdout, str_of(known->list[i]->login));
        puts(known->list[i]->has_scram ? " scram" : "");
    }
    accounts_free(known);
    return EX_OK;
}

static int run(struct user *u, const char *word, const char *login)
{
    u->dir = -1;
    int code = open_folder(u);
    if (code == EX_OK)
        code = read_file(u);
    if (code == EX_OK)
        code = login == NULL ? list(u) : change(u, word, str_of(login));
    if (u->text.p != NULL)
        explicit_bzero(u->text.p, u->text.n);
    buf_free(&u->text);
    (void)file_close(u->dir);            /* and the lock with it */
    return code;
}

/* -c and -f to the file. */
static int find_file(struct user *u, const char *conf_path, struct conf **out)
{
    CLEANUP_BUF struct buf error = { .p = NULL };

    if (u->path != NULL)
        return EX_OK;
    buf_init(&error, ERRORS_MAX);
    if (conf_load(conf_path, out, &error) < 0) {
        fprintf(stderr, "%" STR_FMT "\n", STR_ARG(str_trim(buf_str(&error))));
        return EX_CONFIG;
    }
    u->path = (*out)->accounts_file;
    u->data_dir = (*out)->data_dir;
    u->scram = u->scram || (*out)->scram;
    if (u->path[0] != '\0')
        return EX_OK;
    return cli_fail("user", EX_CONFIG, (*out)->has_accounts ? "by %s the accounts are in a database: change them there" : "%s has no accounts_file",
                    conf_path);
}

static bool command_is_right(int argc, char **argv)
{
    if (argc == 1)
        return strcmp(argv[0], "list") == 0;
    return argc == 2 && (strcmp(argv[0], "add") == 0 || strcmp(argv[0], "passwd") == 0 || strcmp(argv[0], "del") == 0);
}

int cmd_user(int argc, char **argv)
{
    static const struct option options[] = {
        { "config", required_argument, NULL, 'c' }, { "file", required_argument, NULL, 'f' }, { "scram", no_argument, NULL, 's' },
        { "help", no_argument, NULL, 'h' },         { 0 },
    };
    struct user u = { .path = NULL };
    struct conf *conf = NULL;
    const char *given = NULL;

    for (int c; (c = getopt_long(argc, argv, "c:f:h", options, NULL)) != -1;) {
        switch (c) {
        case 'c': given = optarg; break;
        case 'f': u.path = optarg; break;
        case 's': u.scram = true; break;
        case 'h': usage(stdout); return EX_OK;
        case '?': return cli_usage_error("user");
        }
    }
    if (!command_is_right(argc - optind, argv + optind))
        return cli_usage_error("user");
    const char *login = argc - optind == 2 ? argv[optind + 1] : NULL;
    if (login != NULL && !accounts_login_valid(str_of(login)))
        return cli_fail("user", EX_USAGE, "'%s' is no name of a login", login);
    int code = find_file(&u, cli_conf_path(given), &conf);
    if (code == EX_OK)
        code = run(&u, argv[optind], login);
    conf_unref(conf);
    return code;
}
