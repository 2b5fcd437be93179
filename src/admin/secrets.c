/*
 * Modes of files with secrets: see secrets.h. Runs in the supervisor, at a start, at a reload and in `nightmail config check`.
 *
 * A warning and not a refusal: a folder above may keep everybody out, and mail that waits helps nobody. A file that is not there is
 * the business of who opens it.
 */
#include "admin/secrets.h"
#include "base/log.h"
#include "run/file.h"

static void check(const char *option, const char *path)
{
    struct file_info info;

    if (path == NULL || path[0] == '\0' || file_info_path(path, &info) < 0 || !info.open_to_all)
        return;
    log_event(LOG_WARN, "secret-readable", LOG_Z("option", option), LOG_Z("file", path),
              LOG_Z("text", "its mode lets everybody on this machine read it: chmod 600"));
}

void secrets_check(const struct conf *c)
{
    check("accounts_file", c->accounts_file);
    check("accounts_sqlite", c->accounts_sqlite);
    check("accounts_pgsql_password", c->accounts_pgsql_password_file);
    check("oauth_client_secret", c->oauth_client_secret_file);
    check("relay_host_password", c->relay_host_password_file);
    check("relay_host_oauth_client_secret", c->relay_host_oauth_client_secret_file);
    check("relay_host_oauth_refresh_token", c->relay_host_oauth_refresh_token_file);
    for (size_t i = 0; i < c->certificate_count; i++)
        check("tls_certificate", c->certificates[i].key_file);
}
