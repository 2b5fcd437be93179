/*
 * What the subcommands share: see cli.h.
 */
#include "admin/cli.h"
#include "conf/conf.h"
#include "policy/alias_check.h"
#include "run/loop.h"
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sysexits.h>
#include <unistd.h>

/* A session is a descriptor, and the soft limit is 1024 for the sake of programs that use select(2): we do not. */
static void raise_descriptor_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return;
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit);      /* without it fewer sessions, each refusal with its reply */
}

void cli_start(void)
{
    (void)signal(SIGPIPE, SIG_IGN);              /* a peer or a pager that went away is an error of the write */
    raise_descriptor_limit();
}

const char *cli_conf_path(const char *given)
{
    if (given != NULL)
        return given;
    const char *env = getenv("NIGHTMAIL_CONF");
    return env != NULL && env[0] != '\0' ? env : CLI_DEFAULT_CONF;
}

int cli_load_conf(const char *path, struct conf **out, struct buf *error)
{
    struct conf *c;
    int r = conf_load(path, &c, error);

    if (r < 0)
        return r;
    if (!alias_check(c, error)) {
        conf_unref(c);
        return -EINVAL;
    }
    *out = c;
    return 0;
}

int cli_fail(const char *command, int code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fprintf(stderr, "nightmail %s: ", command);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    return code;
}

int cli_usage_error(const char *command)
{
    return cli_fail(command, EX_USAGE, "`nightmail %s --help` shows how it is used", command);
}

int cli_run_task(const char *command, task_fn *fn, void *arg)
{
    int r = loop_run(1, fn, arg);
    return r < 0 ? cli_fail(command, EX_OSERR, "cannot start: %s", strerror(-r)) : EX_OK;
}

bool cli_colour(FILE *to)
{
    const char *no = getenv("NO_COLOR");
    return isatty(fileno(to)) && (no == NULL || no[0] == '\0');
}

/* -- numbers ------------------------------------------------------------------------------------------------------------ */

struct unit {
    const char *name;
    uint64_t    factor;
};

static bool with_unit(const char *text, const struct unit *units, uint64_t *out)
{
    size_t digits = strspn(text, "0123456789");
    uint64_t n, value;
    if (!str_to_u64((struct str){ text, digits }, UINT64_MAX, &n))
        return false;
    for (const struct unit *u = units; u->name != NULL; u++) {
        if (strcasecmp(text + digits, u->name) != 0)
            continue;
        if (__builtin_mul_overflow(n, u->factor, &value))
            return false;
        *out = value;
        return true;
    }
    return false;
}

bool cli_duration(const char *text, int64_t *out_ns)
{
    static const struct unit units[] = {
        { "",  (uint64_t)NS_PER_S },      { "ms", (uint64_t)NS_PER_MS },       { "us", (uint64_t)NS_PER_US },        { "s", (uint64_t)NS_PER_S },
        { "m", 60 * (uint64_t)NS_PER_S }, { "h", 3600 * (uint64_t)NS_PER_S }, { "d", 86400 * (uint64_t)NS_PER_S }, { NULL, 0 },
    };
    uint64_t ns;
    if (!with_unit(text, units, &ns) || ns > INT64_MAX)
        return false;
    *out_ns = (int64_t)ns;
    return true;
}

bool cli_size(const char *text, uint64_t *out_bytes)
{
    static const struct unit units[] = {
        { "", 1 }, { "B", 1 }, { "KiB", 1024 }, { "K", 1024 }, { "MiB", 1024 * 1024 }, { "M", 1024 * 1024 }, { "GiB", 1024 * 1024 * 1024 },
        { "G", 1024 * 1024 * 1024 }, { NULL, 0 },
    };
    return with_unit(text, units, out_bytes);
}

bool cli_number(const char *text, uint64_t max, uint64_t *out)
{
    return str_to_u64(str_of(text), max, out);
}

/* -- for people ------------------------------------------------------------------------------------------------------------ */

void cli_put_size(struct buf *out, uint64_t bytes)
{
    static const char *const names[] = { "B", "KiB", "MiB", "GiB", "TiB" };
    double value = (double)bytes;
    size_t unit = 0;
    while (value >= 1024 && unit + 1 < sizeof(names) / sizeof(names[0])) {
        value /= 1024;
        unit++;
    }
    buf_printf(out, unit == 0 ? "%.0f %s" : "%.1f %s", value, names[unit]);
}

void cli_put_duration(struct buf *out, int64_t ns)
{
    static const struct {
        const char *name;
        int64_t     seconds;
    } units[] = { { "d", 86400 }, { "h", 3600 }, { "m", 60 }, { "s", 1 } };
    if (ns < 0) {
        buf_put_char(out, '-');
        ns = -ns;
    }
    int64_t seconds = ns / NS_PER_S;
    if (seconds == 0) {
        buf_printf(out, "%lldms", (long long)(ns / NS_PER_MS));
        return;
    }
    int shown = 0;
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]) && shown < 2; i++) {
        int64_t n = seconds / units[i].seconds;
        seconds %= units[i].seconds;
        if (n == 0)
            continue;
        buf_printf(out, "%s%lld%s", shown > 0 ? " " : "", (long long)n, units[i].name);
        shown++;
    }
}

void cli_print_safe(FILE *to, struct str bytes)
{
    for (size_t i = 0; i < bytes.n; i++) {
        unsigned char c = (unsigned char)bytes.p[i];
        if (c >= 0x20 && c != 0x7f)
            fputc(c, to);
        else
            fprintf(to, "\\x%02x", c);
    }
}
