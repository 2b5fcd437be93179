/*
 * The keeper's credentials for others: read from their file each time they are used, so that a new one is used at once and none
 * stays in memory. Runs in the keeper.
 */
#include "base/cleanup.h"
#include "base/metrics.h"
#include "run/file.h"
#include "run/keeper_internal.h"
#include "run/offload.h"
#include <errno.h>
#include <string.h>

#define FILE_MAX 4096                    /* bytes; only the first line counts */

struct reading {
    const char *path;
    char       *password;
    int         result;
};

static int first_line(struct str text, char out[KEEPER_PASSWORD_MAX + 1])
{
    struct str line, rest;

    str_cut(text, '\n', &line, &rest);
    if (line.n > 0 && line.p[line.n - 1] == '\r')
        line.n--;
    if (line.n == 0 || line.n > KEEPER_PASSWORD_MAX || memchr(line.p, '\0', line.n) != NULL)
        return -EINVAL;
    memcpy(out, line.p, line.n);
    out[line.n] = '\0';
    return 0;
}

static void read_password(void *arg)
{
    struct reading *r = arg;
    CLEANUP_BUF struct buf text = { .p = NULL };

    buf_init(&text, FILE_MAX + 1);
    r->result = file_read_whole(r->path, FILE_MAX, &text);
    if (r->result == 0)
        r->result = first_line(buf_str(&text), r->password);
    if (text.p != NULL)
        explicit_bzero(text.p, text.n);
}

static int counted(int result)
{
    if (result == 0)
        metric_add(METRIC_credentials_given, 1);
    return result;
}

int keeper_near_credential(const char *path, char out_password[KEEPER_PASSWORD_MAX + 1])
{
    struct reading r = { .path = path, .password = out_password };
    struct offload *helper = offload_new("credential", 1, 1);
    int ran = helper == NULL ? -ENOMEM : offload_run(helper, read_password, &r);

    offload_free(helper);
    return ran < 0 ? ran : counted(r.result);
}

int keeper_near_credential_blocking(const char *path, char out_password[KEEPER_PASSWORD_MAX + 1])
{
    struct reading r = { .path = path, .password = out_password };

    read_password(&r);
    return counted(r.result);
}
