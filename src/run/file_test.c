/*
 * run/file: what may be opened beneath a directory and what may not, and that each call does what its name says.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "run/file.h"
#include "run/file_internal.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static char top[64];
static int dir = -1;

static int make_dir(void **state)
{
    (void)state;
    strcpy(top, "/tmp/file_test.XXXXXX");
    if (mkdtemp(top) == NULL)
        return -1;
    dir = file_open_dir(top);
    return dir < 0 ? -1 : 0;
}

static int remove_dir(void **state)
{
    char command[128];

    (void)state;
    (void)file_close(dir);
    snprintf(command, sizeof command, "rm -rf %s", top);
    return system(command);
}

static void put_file(const char *name, const char *text)
{
    CLEANUP_FILE int f = file_open_at(dir, name, FILE_WRITE | FILE_CREATE | FILE_TRUNCATE);

    assert_true(f >= 0);
    assert_int_equal(file_append(f, text, strlen(text)), 0);
}

static void assert_holds(const char *name, const char *text)
{
    CLEANUP_BUF struct buf b;

    buf_init(&b, 100000);
    assert_int_equal(file_read_whole_at(dir, name, 1000, &b), 0);
    assert_int_equal(b.n, strlen(text));
    assert_memory_equal(b.p, text, b.n);
}

/* Links and ways out of the directory, for every call that takes a name. */
static void test_names_that_lead_out(void **state)
{
    static const struct {
        const char *name;
        int result;
    } cases[] = {
        {"",               -ENOENT },
        { "/etc/passwd",   -EXDEV  },
        { "..",            -EXDEV  },
        { "../x",          -EXDEV  },
        { "sub/../real",   -EXDEV  }, /* stays inside, but nobody here needs it */
        { "sub/..",        -EXDEV  },
        { "link",          -ELOOP  }, /* to a file beside it */
        { "linkdir/inner", -ELOOP  },
        { "outlink",       -ELOOP  }, /* to /etc/passwd */
        { "real/x",        -ENOTDIR},
        { "sub",           -EISDIR },
        { "fifo",          -EINVAL }, /* and it does not hang */
        { "none",          -ENOENT },
        { "..real",        0       },
        { "sub/..inner",   0       },
        { "sub//inner",    0       },
        { "./sub/./inner", 0       },
    };
    char path[128];

    (void)state;
    put_file("real", "real");
    put_file("..real", "x");
    assert_int_equal(file_mkdir_at(dir, "sub"), 0);
    put_file("sub/inner", "inner");
    put_file("sub/..inner", "x");
    snprintf(path, sizeof path, "%s/link", top);
    assert_int_equal(symlink("real", path), 0);
    snprintf(path, sizeof path, "%s/linkdir", top);
    assert_int_equal(symlink("sub", path), 0);
    snprintf(path, sizeof path, "%s/outlink", top);
    assert_int_equal(symlink("/etc/passwd", path), 0);
    snprintf(path, sizeof path, "%s/fifo", top);
    assert_int_equal(mkfifo(path, 0600), 0);

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int f = file_open_at(dir, cases[i].name, FILE_READ);

        if (cases[i].result == 0 ? f < 0 : f != cases[i].result)
            fail_msg("\"%s\": %d, not %d", cases[i].name, f, cases[i].result);
        (void)file_close(f);
    }

    struct file_info info;
    assert_int_equal(file_open_dir_at(dir, "linkdir"), -ELOOP);
    assert_int_equal(file_info_at(dir, "linkdir/inner", &info), -ELOOP);
    assert_int_equal(file_unlink_at(dir, "linkdir/inner"), -ELOOP);
    assert_int_equal(file_mkdir_at(dir, "linkdir/new"), -ELOOP);
    assert_int_equal(file_rename_at(dir, "linkdir/inner", dir, "x"), -ELOOP);
    assert_int_equal(file_link_at(dir, "real", dir, "linkdir/x"), -ELOOP);
    assert_int_equal(file_rename_at(dir, "real", dir, "../x"), -EXDEV);
    assert_int_equal(file_open_at(dir, "link", FILE_WRITE | FILE_CREATE), -ELOOP);
    assert_int_equal(file_open_at(dir, "outlink", FILE_WRITE | FILE_CREATE | FILE_EXCLUSIVE), -EEXIST);

    /* A link itself can be looked at and removed. */
    assert_int_equal(file_info_at(dir, "link", &info), 0);
    assert_false(info.is_file || info.is_dir);
    assert_int_equal(file_unlink_at(dir, "link"), 0);
    assert_holds("real", "real");
}

static void test_reading_and_writing_at_offsets(void **state)
{
    CLEANUP_FILE int f = file_open_at(dir, "offsets", FILE_READ | FILE_WRITE | FILE_CREATE | FILE_EXCLUSIVE);
    char got[16];
    size_t n = 99;
    struct file_info info;
    struct stat st;

    (void)state;
    assert_true(f >= 0);
    assert_int_equal(file_open_at(dir, "offsets", FILE_WRITE | FILE_CREATE | FILE_EXCLUSIVE), -EEXIST);
    assert_int_equal(file_write_at(f, "world", 5, 6), 0);
    assert_int_equal(file_write_at(f, "hello ", 6, 0), 0);
    assert_int_equal(file_read_at(f, got, sizeof got, 0, &n), 0);
    assert_int_equal(n, 11);
    assert_memory_equal(got, "hello world", 11);
    assert_int_equal(file_read_at(f, got, sizeof got, 11, &n), 0);
    assert_int_equal(n, 0);
    assert_int_equal(file_datasync(f), 0);
    assert_int_equal(file_sync(f), 0);
    assert_int_equal(file_sync(dir), 0);
    assert_int_equal(file_truncate(f, 5), 0);
    int r = file_allocate(f, 65536);
    assert_true(r == 0 || r == -EOPNOTSUPP);
    assert_int_equal(file_info(f, &info), 0);
    assert_int_equal(info.size, r == 0 ? 65536 : 5);
    assert_true(info.is_file && !info.is_dir && info.mtime_ns > 0);
    assert_int_equal(fstat(f, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
}

static void test_appending(void **state)
{
    (void)state;
    put_file("log", "one\n");
    CLEANUP_FILE int f = file_open_at(dir, "log", FILE_WRITE | FILE_APPEND);
    assert_int_equal(file_append(f, "two\n", 4), 0);
    assert_holds("log", "one\ntwo\n");
}

static void test_rename_and_link(void **state)
{
    struct file_info info;

    (void)state;
    assert_int_equal(file_mkdir_at(dir, "box"), 0);
    assert_int_equal(file_mkdir_at(dir, "box"), -EEXIST);
    assert_int_equal(file_mkdir_at(dir, "box/tmp"), 0);
    CLEANUP_FILE int box = file_open_dir_at(dir, "box");
    assert_true(box >= 0);

    put_file("a", "aa");
    put_file("b", "bb");
    assert_int_equal(file_link_at(dir, "a", dir, "b"), -EEXIST);
    assert_int_equal(file_link_at(dir, "a", box, "tmp/c"), 0);
    assert_holds("box/tmp/c", "aa");
    assert_int_equal(file_rename_at(box, "tmp/c", dir, "b"), 0); /* replaces */
    assert_int_equal(file_info_at(box, "tmp/c", &info), -ENOENT);
    assert_holds("b", "aa");
    assert_int_equal(file_rename_at(dir, "b", dir, "a"), 0); /* the same file by both names: nothing happens (POSIX) */
    assert_int_equal(file_info_at(dir, "b", &info), 0);
    assert_int_equal(file_rename_at(dir, "a", box, "new"), 0);
    assert_int_equal(file_info_at(dir, "a", &info), -ENOENT);
    assert_holds("box/new", "aa");
    assert_int_equal(file_unlink_at(box, "new"), 0);
    assert_int_equal(file_unlink_at(box, "new"), -ENOENT);
    assert_int_equal(file_unlink_at(dir, "box"), -EISDIR);
    assert_int_equal(file_info_at(dir, "box", &info), 0);
    assert_true(info.is_dir && !info.is_file);
}

struct seen {
    unsigned count, stop_at;
    char names[256];
};

static int note_name(void *arg, const char *name)
{
    struct seen *s = arg;

    strncat(s->names, name, sizeof s->names - strlen(s->names) - 1);
    return ++s->count == s->stop_at ? 42 : 0;
}

static void test_list(void **state)
{
    (void)state;
    assert_int_equal(file_mkdir_at(dir, "many"), 0);
    put_file("many/x", "");
    put_file("many/y", "");
    put_file("many/...", "");
    CLEANUP_FILE int many = file_open_dir_at(dir, "many");

    for (int i = 0; i < 2; i++) { /* the second time sees the same */
        struct seen all = { 0 };
        assert_int_equal(file_list(many, note_name, &all), 0);
        assert_int_equal(all.count, 3);
        assert_non_null(strstr(all.names, "..."));
    }
    struct seen two = { .stop_at = 2 };
    assert_int_equal(file_list(many, note_name, &two), 42);
    assert_int_equal(two.count, 2);
}

static void test_lock(void **state)
{
    (void)state;
    CLEANUP_FILE int a = file_open_at(dir, "lock", FILE_WRITE | FILE_CREATE);
    CLEANUP_FILE int b = file_open_at(dir, "lock", FILE_WRITE | FILE_CREATE);

    assert_int_equal(file_lock(a), 0);
    assert_int_equal(file_lock(b), -EWOULDBLOCK);
    assert_int_equal(file_close(a), 0);
    a = -1;
    assert_int_equal(file_lock(b), 0);
}

static void test_whole_files(void **state)
{
    char path[128];
    CLEANUP_BUF struct buf b;

    (void)state;
    put_file("whole", "0123456789");
    buf_init(&b, 1000);
    buf_put_z(&b, "before");
    assert_int_equal(file_read_whole_at(dir, "whole", 9, &b), -EFBIG);
    assert_int_equal(b.n, 6);
    assert_int_equal(file_read_whole_at(dir, "whole", 10, &b), 0);
    assert_memory_equal(b.p, "before0123456789", 16);

    /* By path links are followed: certificates are often links. */
    snprintf(path, sizeof path, "%s/tothat", top);
    assert_int_equal(symlink("whole", path), 0);
    buf_clear(&b);
    assert_int_equal(file_read_whole(path, 100, &b), 0);
    assert_int_equal(b.n, 10);
    assert_int_equal(file_read_whole("/none/such", 100, &b), -ENOENT);
    struct file_info info;
    assert_int_equal(file_info_path(path, &info), 0);
    assert_int_equal(info.size, b.n);
    assert_int_equal(file_info_path("/none/such", &info), -ENOENT);

    char *big = malloc(100001);
    memset(big, 'x', 100000);
    big[100000] = '\0';
    put_file("big", big);
    free(big);
    struct buf small;
    buf_init(&small, 50000);
    assert_int_equal(file_read_whole_at(dir, "big", 200000, &small), -ENOMEM);
    buf_free(&small);
    struct buf large;
    buf_init(&large, 200000);
    assert_int_equal(file_read_whole_at(dir, "big", 100000, &large), 0);
    assert_int_equal(large.n, 100000);
    buf_free(&large);
}

static void test_file_system(void **state)
{
    enum file_system kind = FILE_SYSTEM_NETWORK;
    uint64_t free_bytes = 0;

    (void)state;
    assert_int_equal(file_system_of(dir, &kind, &free_bytes), 0);
    assert_true(free_bytes > 0);
    CLEANUP_FILE int shm = file_open_dir("/dev/shm");
    if (shm < 0)
        skip();
    assert_int_equal(file_system_of(shm, &kind, &free_bytes), 0);
    assert_int_equal(kind, FILE_SYSTEM_MEMORY);
}

static int fake_close(int file)
{
    return file == 7 ? -EIO : 0;
}

static void test_another_disk(void **state)
{
    static const struct file_ops fake = { .close = fake_close };

    (void)state;
    file_replace(&fake);
    assert_int_equal(file_close(7), -EIO);
    assert_int_equal(file_close(-1), 0);
    file_replace(NULL);
}

/* From here on this process is as on an old kernel, or in a container whose filter does not know openat2. */
static bool forbid_openat2(void)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat2, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = { .len = sizeof filter / sizeof filter[0], .filter = filter };

    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

static void test_passable(void **state)
{
    struct file_info info;

    (void)state;
    assert_int_equal(file_mkdir_at(dir, "passage"), 0);
    CLEANUP_FILE int passage = file_open_dir_at(dir, "passage");
    assert_int_equal(file_info(passage, &info), 0);
    assert_false(info.passable);
    assert_int_equal(file_make_passable(passage), 0);
    assert_int_equal(file_info_at(dir, "passage", &info), 0);
    assert_true(info.passable);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names_that_lead_out),
        cmocka_unit_test(test_reading_and_writing_at_offsets),
        cmocka_unit_test(test_appending),
        cmocka_unit_test(test_rename_and_link),
        cmocka_unit_test(test_list),
        cmocka_unit_test(test_lock),
        cmocka_unit_test(test_whole_files),
        cmocka_unit_test(test_passable),
        cmocka_unit_test(test_file_system),
        cmocka_unit_test(test_another_disk),
    };
    int failed = cmocka_run_group_tests_name("with openat2", tests, make_dir, remove_dir);

    if (forbid_openat2())
        failed += cmocka_run_group_tests_name("without openat2", tests, make_dir, remove_dir);
    return failed;
}
