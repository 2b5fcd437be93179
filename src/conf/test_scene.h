/*
 * For tests and fuzzers: a configuration from a text. Included by them alone.
 */
#ifndef CONF_TEST_SCENE_H
#define CONF_TEST_SCENE_H

#include "conf/conf.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* One count, the caller's. conf_load wants a file, and outside of a world there are real ones: before sim_begin. What is wrong ends the
 * program. */
static inline struct conf *conf_of(const char *text)
{
    char path[] = "/tmp/conf-of-text-XXXXXX";
    struct conf *c = NULL;
    struct buf error;

    int fd = mkstemp(path);
    ssize_t n = fd < 0 ? -1 : write(fd, text, strlen(text));
    assert(n == (ssize_t)strlen(text));
    (void)n;
    close(fd);
    buf_init(&error, 4096);
    if (conf_load(path, &c, &error) < 0) {
        fprintf(stderr, "%.*s\n", (int)error.n, error.p);
        abort();
    }
    (void)unlink(path);
    buf_free(&error);
    return c;
}

static inline void conf_add_user(struct conf *c, const char *user)
{
    int r = map_str_put(&c->users, str_of(user), c);
    assert(r == 0);
    (void)r;
}

#endif
