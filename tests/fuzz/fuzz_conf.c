/*
 * Fuzzes conf: our first look and libconfuse read the same values or none, and what is shown of a configuration that was taken reads back as
 * the same. Texts that name other files are passed over.
 */
#include "base/cleanup.h"
#include "conf/conf.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool holds(struct str text, struct str word) { return str_find_str(text, word) >= 0; }

static struct conf *load(struct str text)
{
    CLEANUP_BUF struct buf error;
    struct conf *c = NULL;
    char path[32];
    int fd = memfd_create("conf", MFD_CLOEXEC);

    assert(fd >= 0 && write(fd, text.p, text.n) == (ssize_t)text.n);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    buf_init(&error, 1 << 20);
    int r = conf_load(path, &c, &error);
    assert((r < 0) == (error.n > 0));
    assert(!holds(buf_str(&error), STR("read in two ways")));
    close(fd);
    return c;
}

static void show(struct conf *c, struct buf *out)
{
    CLEANUP_BUF struct buf shown;
    struct str rest, line;

    buf_init(&shown, 1 << 20);
    conf_show(c, &shown);
    for (rest = buf_str(&shown); str_cut(rest, '\n', &line, &rest);) {
        if (str_ends_nocase(line, STR("   # default")))
            line.n -= 12;
        buf_put_str(out, line);
        buf_put_char(out, '\n');
    }
    conf_unref(c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str text = { (const char *)data, size };
    CLEANUP_BUF struct buf first, second;

    buf_init(&first, 1 << 20);
    buf_init(&second, 1 << 20);
    static const char *const files[] = { "users_file", "recipients_file", "aliases_files", "rewrites_file", "include", "two ways" };
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
        if (size > 4096 || holds(text, str_of(files[i])))
            return 0;
    struct conf *c = load(text);
    if (c == NULL)
        return 0;
    show(c, &first);
    c = load(buf_str(&first));
    assert(c != NULL);
    show(c, &second);
    assert(str_eq(buf_str(&first), buf_str(&second)));
    return 0;
}
