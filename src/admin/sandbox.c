/*
 * The sandbox's identity, and the order in which it closes; see sandbox.h. Runs in the supervisor (who the worker is to be, and that the data
 * directory is his) and in the worker (all that takes something away).
 */
#include "admin/sandbox_internal.h"
#include "base/log.h"
#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define DEFAULT_USER  "nightmail"
#define LAST_CAP      63
#define THREADS_MAX   1024               /* of a user of our own: loops, helpers and libraries stay below a hundred */

/* -- who ------------------------------------------------------------------------------------------------------------------------- */

static void take_user(const struct passwd *p, struct sandbox_user *out)
{
    snprintf(out->name, sizeof out->name, "%s", p->pw_name);
    snprintf(out->home, sizeof out->home, "%s", p->pw_dir);
    out->uid = p->pw_uid;
    out->gid = p->pw_gid;
}

/* Who we are. */
static void stay(struct sandbox_user *out)
{
    const struct passwd *p = getpwuid(getuid());

    snprintf(out->name, sizeof out->name, "%u", (unsigned)getuid());
    if (p != NULL)
        take_user(p, out);
    out->uid = getuid();
    out->gid = getgid();
    out->change = false;
}

int sandbox_find_user(const struct conf *c, struct sandbox_user *out, char error[256])
{
    bool named = c->user[0] != '\0';
    struct sandbox_user u = { .change = false };
    const struct passwd *p = getpwnam(named ? c->user : DEFAULT_USER);

    if (p != NULL)
        take_user(p, &u);
    if (named && p == NULL) {
        snprintf(error, 256, "user: there is no user %s", c->user);
        return -EINVAL;
    }
    if (named && u.uid != getuid() && geteuid() != 0) {
        snprintf(error, 256, "user: only root can become %s", c->user);
        return -EINVAL;
    }
    u.change = geteuid() == 0 && p != NULL && u.uid != getuid();
    if (!u.change)
        stay(&u);
    *out = u;
    return 0;
}

/* -- the data directory ------------------------------------------------------------------------------------------------------------ */

bool sandbox_path_exists(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0;
}

/* The worker can open nothing in it that is not its own: better said now. Who gave it to another knows better than we whose mail it holds. */
int sandbox_own(const char *data_dir, const struct sandbox_user *u, bool made, char error[256])
{
    struct stat st;

    if (!u->change)
        return 0;
    if (made && chown(data_dir, u->uid, u->gid) < 0) {
        snprintf(error, 256, "%s: chown: %s", data_dir, strerror(errno));
        return -errno;
    }
    if (stat(data_dir, &st) == 0 && st.st_uid == u->uid)
        return 0;
    snprintf(error, 256, "%s does not belong to %s, whom the worker runs as: chown -R %s it, or set user", data_dir, u->name, u->name);
    return -EPERM;
}

/* -- becoming ---------------------------------------------------------------------------------------------------------------------- */

static int change_user(const struct sandbox_user *u)
{
    if (!u->change)
        return geteuid() == 0 && setgroups(0, NULL) < 0 && errno != EPERM ? -errno : 0;      /* a namespace may forbid it: it has none then */
    if (setgroups(0, NULL) < 0 || setresgid(u->gid, u->gid, u->gid) < 0 || setresuid(u->uid, u->uid, u->uid) < 0)
        return -errno;
    return setuid(0) == 0 ? -EPERM : 0;          /* it must not be possible */
}

/* Those that an exec could give back. Who has none to drop fails, and so does what is beyond the last one. */
static void drop_bounds(void)
{
    for (int cap = 0; cap <= LAST_CAP; cap++)
        (void)prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
    (void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
}

static int drop_capabilities(void)
{
    struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
    struct __user_cap_data_struct none[2] = { { 0 } };

    return syscall(SYS_capset, &header, none) < 0 ? -errno : 0;
}

static int limit(int what, rlim_t most)
{
    struct rlimit l = { .rlim_cur = most, .rlim_max = most };

    return setrlimit(what, &l) < 0 ? -errno : 0;
}

/* Who shares a user with others cannot count processes: theirs count too. */
static int set_limits(const struct sandbox_user *u)
{
    int r = limit(RLIMIT_CORE, 0);

    return r == 0 && u->change ? limit(RLIMIT_NPROC, THREADS_MAX) : r;
}

/* A change of the user forgets by which signal we learn that the supervisor has gone. */
static int keep_death_signal(int signo, pid_t parent)
{
    if (signo == 0)
        return 0;
    if (prctl(PR_SET_PDEATHSIG, signo) < 0)
        return -errno;
    return getppid() == parent ? 0 : -ESRCH;
}

static int become(const struct sandbox_user *u, const char **out_what)
{
    int death = 0;
    pid_t parent = getppid();

    (void)prctl(PR_GET_PDEATHSIG, &death);
    *out_what = "limits";
    int r = set_limits(u);
    if (r < 0)
        return r;
    *out_what = "user";
    drop_bounds();
    if ((r = change_user(u)) < 0)
        return r;
    *out_what = "capabilities";
    if ((r = drop_capabilities()) < 0)
        return r;
    *out_what = "process";
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return -errno;
    if (!SANITIZED && prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)    /* LeakSanitizer traces the process at its end */
        return -errno;
    return keep_death_signal(death, parent);
}

int sandbox_become(const struct sandbox_user *u, char error[256])
{
    const char *what;

    int r = become(u, &what);
    if (r < 0)
        snprintf(error, 256, "%s: %s", what, strerror(-r));
    return r;
}

int sandbox_close(const struct rights *r, const struct sandbox_user *u, char error[256])
{
    char text[128];
    struct buf lacks;
    int abi = landlock_abi();

    buf_init_fixed(&lacks, text, sizeof text);
    landlock_put_lacks(abi, &lacks);
    int result = abi > 0 ? landlock_enforce(abi, r, error) : 0;
    if (result == 0)
        result = calls_enforce(error);
    if (result == 0)
        log_event(abi > 0 ? LOG_INFO : LOG_WARN, "sandbox", LOG_Z("user", u->name), LOG_I64("landlock", abi), LOG_STR("cannot-enforce", buf_str(&lacks)));
    if (result == 0 && u->uid == 0)
        log_event(LOG_WARN, "sandbox-root", LOG_Z("text", "the worker keeps root's name, though none of its powers: useradd --system " DEFAULT_USER ", or set user"));
    return result;
}
