/*
 * run/sim_disk: what a power cut leaves. Each case writes its story to the disk and then looks at many images of it: some
 * things must be there always, some never, some sometimes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/clock.h"
#include "run/file.h"
#include "run/sim.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SEEDS 200

static int root = -1;

static int begin(void **state)
{
    (void)state;
    sim_begin(&(struct sim_options){ .seed = 7, .disk_bytes = 1 << 20 });
    root = file_open_dir("/");
    return root < 0 ? -1 : 0;
}

static int end(void **state)
{
    (void)state;
    sim_end();
    return 0;
}

static int put(const char *name, const void *p, size_t n)
{
    int f = file_open_at(root, name, FILE_READ | FILE_WRITE | FILE_CREATE);
    assert_true(f >= 0);
    assert_int_equal(file_write_at(f, p, n, 0), 0);
    return f;
}

static void sync_root(void)
{
    assert_int_equal(file_sync(root), 0);
}

static bool there(const char *name)
{
    struct file_info info;
    return file_info_at(root, name, &info) == 0;
}

/* The file's first n bytes on the mounted disk; zeros where there are none. The size, or -1 without such a file. */
static int64_t get(const char *name, void *p, size_t n)
{
    struct file_info info;
    size_t got = 0;
    memset(p, 0, n);
    if (!there(name))
        return -1;
    int f = file_open_at(root, name, FILE_READ);
    assert_true(f >= 0);
    assert_int_equal(file_read_at(f, p, n, 0, &got), 0);
    assert_int_equal(file_info(f, &info), 0);
    assert_int_equal(file_close(f), 0);
    return (int64_t)info.size;
}

static void mount(struct sim_disk *d)
{
    sim_disk_mount(d);
    sim_disk_free(d);
    root = file_open_dir("/");
    assert_true(root >= 0);
}

/* Runs look() on the image of every seed at the end of the story, mounted. */
static void on_images(void (*look)(uint64_t seed, void *arg), void *arg)
{
    struct sim_history *h = sim_disk_history();
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        mount(sim_history_crash(h, sim_history_ops(h), seed, NULL));
        look(seed, arg);
    }
    sim_history_free(h);
}

/* How often something was seen. */
struct seen {
    unsigned never, some, all, other;
};

/* ---- data ---- */

#define BIG (16 * 512)

static void look_torn(uint64_t seed, void *arg)
{
    struct seen *seen = arg;
    char bytes[BIG];
    unsigned new = 0;
    assert_int_equal(get("f", bytes, sizeof bytes), BIG);
    for (unsigned i = 0; i < BIG / 512; i++) {
        for (unsigned j = 1; j < 512; j++)
            assert_int_equal(bytes[i * 512 + j], bytes[i * 512]);          /* a sector is never torn */
        new += bytes[i * 512] == 'n';
        if (bytes[i * 512] != 'n')
            assert_int_equal(bytes[i * 512], 'o');
    }
    if (seed == 0)
        assert_int_equal(new, 0);
    if (seed == 1)
        assert_int_equal(new, BIG / 512);
    seen->never += new == 0;
    seen->all += new == BIG / 512;
    seen->some += new > 0 && new < BIG / 512;
}

static void unsynced_writes_are_torn_at_sectors(void **state)
{
    char bytes[BIG];
    struct seen seen = { 0 };
    (void)state;
    memset(bytes, 'o', BIG);
    int f = put("f", bytes, BIG);
    assert_int_equal(file_sync(f), 0);
    sync_root();
    memset(bytes, 'n', BIG);
    assert_int_equal(file_write_at(f, bytes, BIG, 0), 0);
    on_images(look_torn, &seen);
    assert_true(seen.some > SEEDS / 2);
    assert_true(seen.never >= 1 && seen.all >= 1);
}

static void look_versions(uint64_t seed, void *arg)
{
    struct seen *seen = arg;
    char text[4] = "";
    (void)seed;
    (void)get("f", text, 3);
    if (strcmp(text, "") == 0)
        seen->never++;
    else if (strcmp(text, "a") == 0)
        seen->some++;
    else if (strcmp(text, "ab") == 0)
        seen->all++;
    else
        seen->other++;
}

static void two_writes_to_one_sector_come_in_order(void **state)
{
    struct seen seen = { 0 };
    (void)state;
    int f = file_open_at(root, "f", FILE_WRITE | FILE_CREATE);
    assert_int_equal(file_allocate(f, 4096), 0);
    assert_int_equal(file_sync(f), 0);
    sync_root();
    assert_int_equal(file_write_at(f, "a", 1, 0), 0);
    assert_int_equal(file_write_at(f, "b", 1, 1), 0);
    on_images(look_versions, &seen);
    assert_int_equal(seen.other, 0);                                       /* never b without a: the sector had no such state */
    assert_true(seen.never > 0 && seen.some > 0 && seen.all > 0);
}

static void look_datasync(uint64_t seed, void *arg)
{
    char text[12];
    (void)seed;
    (void)arg;
    assert_int_equal(get("f", text, 11), 11);
    assert_memory_equal(text, "hello world", 11);
}

static void datasync_keeps_the_size_that_the_data_needs(void **state)
{
    (void)state;
    int f = put("f", "hello world", 11);
    sync_root();
    assert_int_equal(file_datasync(f), 0);
    on_images(look_datasync, NULL);
}

static void look_size(uint64_t seed, void *arg)
{
    struct seen *seen = arg;
    char bytes[600];
    int64_t size = get("f", bytes, sizeof bytes);
    assert_true(size == 0 || size == 600);
    if (seed == 0)
        assert_int_equal(size, 0);
    seen->never += size == 0;
    seen->all += size == 600 && bytes[0] == 'x' && bytes[599] == 'x';
    seen->some += size == 600 && (bytes[0] == 0 || bytes[599] == 0);       /* the size came without its data: zeros */
}

static void size_and_data_survive_apart(void **state)
{
    char bytes[600];
    struct seen seen = { 0 };
    (void)state;
    memset(bytes, 'x', sizeof bytes);
    (void)put("f", bytes, sizeof bytes);
    sync_root();
    on_images(look_size, &seen);
    assert_true(seen.never > 0 && seen.all > 0 && seen.some > 0);
}

static void look_truncated(uint64_t seed, void *arg)
{
    struct seen *seen = arg;
    char bytes[1024];
    int64_t size = get("f", bytes, sizeof bytes);
    if (size == 1024 && bytes[600] == 'o')
        seen->never++;
    else if (size == 10)
        seen->some++;
    else if (size == 1024 && bytes[5] == 'o' && bytes[10] == 0 && bytes[600] == 0)
        seen->all++;
    else
        seen->other++;
    if (seed == 1)
        assert_true(size == 1024 && bytes[600] == 0);
}

static void what_was_cut_off_does_not_come_back(void **state)
{
    char bytes[1024];
    struct seen seen = { 0 };
    (void)state;
    memset(bytes, 'o', sizeof bytes);
    int f = put("f", bytes, sizeof bytes);
    assert_int_equal(file_sync(f), 0);
    sync_root();
    assert_int_equal(file_truncate(f, 10), 0);
    assert_int_equal(file_truncate(f, 1024), 0);
    on_images(look_truncated, &seen);
    assert_int_equal(seen.other, 0);
    assert_true(seen.never > 0 && seen.some > 0 && seen.all > 0);
}

/* ---- a failed sync ---- */

static void look_lost(uint64_t seed, void *arg)
{
    struct seen *seen = arg;
    char text[1024];
    assert_int_equal(get("f", text, sizeof text), 1024);
    if (seed == 0)
        assert_int_equal(text[0], 0);
    assert_int_equal(text[512], 'n');                                      /* written after the failed sync, and synced */
    seen->never += text[0] == 0;
    seen->all += text[0] == 'l';
}

static void a_failed_sync_forgets_what_it_should_have_saved(void **state)
{
    struct seen seen = { 0 };
    char text[1024];
    (void)state;
    int f = file_open_at(root, "f", FILE_READ | FILE_WRITE | FILE_CREATE);
    assert_int_equal(file_allocate(f, 1024), 0);
    assert_int_equal(file_sync(f), 0);
    sync_root();
    assert_int_equal(file_write_at(f, "l", 1, 0), 0);
    sim_disk_fail(sim_disk_ops(), EIO, false);
    assert_int_equal(file_datasync(f), -EIO);
    assert_int_equal(get("f", text, sizeof text), 1024);
    assert_int_equal(text[0], 'l');                                        /* it reads back as written ... */
    assert_int_equal(file_write_at(f, "n", 1, 512), 0);
    assert_int_equal(file_datasync(f), 0);                                 /* ... and the next sync sees nothing to do */
    on_images(look_lost, &seen);
    assert_true(seen.never > 0 && seen.all > 0);
}

static void look_rewritten(uint64_t seed, void *arg)
{
    char text[1];
    (void)seed;
    (void)arg;
    (void)get("f", text, 1);
    assert_int_equal(text[0], 'l');
}

static void written_anew_it_is_saved(void **state)
{
    (void)state;
    int f = put("f", "l", 1);
    sync_root();
    sim_disk_fail(sim_disk_ops(), EIO, false);
    assert_int_equal(file_sync(f), -EIO);
    assert_int_equal(file_write_at(f, "ll", 2, 0), 0);                     /* another size, too: the first was lost with the data */
    assert_int_equal(file_sync(f), 0);
    on_images(look_rewritten, NULL);
}

/* ---- names ---- */

static void look_entry(uint64_t seed, void *arg)
{
    struct seen *seen = arg;
    char text[1];
    int64_t size = get("f", text, 1);
    if (seed == 0)
        assert_int_equal(size, -1);
    if (seed == 1)
        assert_int_equal(size, 1);
    seen->never += size == -1;
    seen->all += size == 1;
    seen->other += size == 0;                                              /* a synced file has its data wherever it has its name */
}

static void a_synced_file_without_a_synced_directory_may_be_gone(void **state)
{
    struct seen seen = { 0 };
    (void)state;
    int f = put("f", "x", 1);
    assert_int_equal(file_sync(f), 0);
    on_images(look_entry, &seen);
    assert_true(seen.never > 0 && seen.all > 0);
    assert_int_equal(seen.other, 0);
}

static void look_replaced(uint64_t seed, void *arg)
{
    struct seen *seen = arg;
    char text[3] = "";
    assert_int_equal(get("f", text, 3), 3);                                /* old or new, never nothing, never a mix */
    if (memcmp(text, "old", 3) == 0) {
        assert_true(there("f.new"));
        seen->never++;
    } else {
        assert_memory_equal(text, "new", 3);
        assert_false(there("f.new"));
        seen->all++;
    }
    if (seed < 2)
        assert_int_equal(text[0], seed == 0 ? 'o' : 'n');
}

static void rename_replaces_whole_or_not(void **state)
{
    struct seen seen = { 0 };
    (void)state;
    assert_int_equal(file_sync(put("f", "old", 3)), 0);
    int f = put("f.new", "new", 3);
    assert_int_equal(file_sync(f), 0);
    sync_root();
    assert_int_equal(file_rename_at(root, "f.new", root, "f"), 0);
    on_images(look_replaced, &seen);
    assert_true(seen.never > 0 && seen.all > 0);
}

static void look_moved(uint64_t seed, void *arg)
{
    struct seen *seen = arg;
    bool before = there("tmp/f"), after = there("new/f"), other = there("tmp/g");
    assert_true(before != after);                                          /* in both directories or in none */
    if (seed == 0)
        assert_true(before);
    seen->never += before;
    seen->all += after;
    seen->some += other;
}

static void two_directories(int *out_tmp, int *out_new)
{
    assert_int_equal(file_mkdir_at(root, "tmp"), 0);
    assert_int_equal(file_mkdir_at(root, "new"), 0);
    sync_root();
    *out_tmp = file_open_dir_at(root, "tmp");
    *out_new = file_open_dir_at(root, "new");
}

static void a_rename_between_directories_is_in_both_or_in_none(void **state)
{
    struct seen seen = { 0 };
    int tmp, new;
    (void)state;
    two_directories(&tmp, &new);
    (void)put("tmp/f", "x", 1);
    assert_int_equal(file_sync(tmp), 0);
    assert_int_equal(file_rename_at(tmp, "f", new, "f"), 0);
    (void)put("tmp/g", "x", 1);
    assert_int_equal(file_sync(tmp), 0);                                   /* the wrong directory: g is durable, the rename is not */
    on_images(look_moved, &seen);
    assert_true(seen.never > 0 && seen.all > 0);
    assert_int_equal(seen.some, SEEDS);
}

static void look_arrived(uint64_t seed, void *arg)
{
    (void)seed;
    (void)arg;
    assert_true(there("new/f"));
    assert_false(there("tmp/f"));
}

static void syncing_where_it_went_makes_a_rename_durable(void **state)
{
    int tmp, new;
    (void)state;
    two_directories(&tmp, &new);
    (void)put("tmp/f", "x", 1);
    assert_int_equal(file_rename_at(tmp, "f", new, "f"), 0);
    assert_int_equal(file_sync(new), 0);
    on_images(look_arrived, NULL);
}

static void look_in_order(uint64_t seed, void *arg)
{
    struct seen *seen = arg;
    bool a = there("a"), b = there("b"), c = there("c");
    (void)seed;
    assert_false(c && !a);
    assert_false(b && !a);
    assert_false(c && b);                                                  /* b became c */
    seen->never += !a;
    seen->some += b;
    seen->all += c;
}

static void changes_of_one_directory_come_in_order(void **state)
{
    struct seen seen = { 0 };
    (void)state;
    (void)put("a", "x", 1);
    (void)put("b", "x", 1);
    assert_int_equal(file_rename_at(root, "b", root, "c"), 0);
    on_images(look_in_order, &seen);
    assert_true(seen.never > 0 && seen.some > 0 && seen.all > 0);
}

static void look_unlinked(uint64_t seed, void *arg)
{
    struct seen *seen = arg;
    char text[1];
    int64_t size = get("f", text, 1);
    assert_true(size == -1 || (size == 1 && text[0] == 'x'));              /* the whole file or nothing of it */
    if (seed == 0)
        assert_int_equal(size, 1);
    seen->never += size == 1;
    seen->all += size == -1;
}

static void an_unlinked_file_may_come_back(void **state)
{
    struct seen seen = { 0 };
    (void)state;
    assert_int_equal(file_sync(put("f", "x", 1)), 0);
    sync_root();
    assert_int_equal(file_unlink_at(root, "f"), 0);
    on_images(look_unlinked, &seen);
    assert_true(seen.never > 0 && seen.all > 0);
}

static void look_lost_entry(uint64_t seed, void *arg)
{
    struct seen *seen = arg;
    assert_true(there("later"));
    if (seed == 0)
        assert_false(there("f"));
    seen->never += !there("f");
    seen->all += there("f");
}

static void a_failed_sync_of_a_directory_forgets_its_changes(void **state)
{
    struct seen seen = { 0 };
    (void)state;
    assert_int_equal(file_sync(put("f", "x", 1)), 0);
    sim_disk_fail(sim_disk_ops(), EIO, false);
    assert_int_equal(file_sync(root), -EIO);
    assert_true(there("f"));
    (void)put("later", "x", 1);
    sync_root();
    on_images(look_lost_entry, &seen);
    assert_true(seen.never > 0 && seen.all > 0);
}

static void look_gone_for_good(uint64_t seed, void *arg)
{
    (void)seed;
    (void)arg;
    assert_false(there("f"));
    assert_false(there("d"));
}

static void a_durable_unlink_overtakes_what_was_lost(void **state)
{
    (void)state;
    (void)put("f", "x", 1);
    sim_disk_fail(sim_disk_ops(), EIO, false);
    assert_int_equal(file_sync(root), -EIO);
    assert_int_equal(file_unlink_at(root, "f"), 0);
    sync_root();
    on_images(look_gone_for_good, NULL);
}

static void look_lost_directory(uint64_t seed, void *arg)
{
    struct seen *seen = arg;
    (void)seed;
    if (!there("d"))
        seen->never++;
    else if (there("d/f"))
        seen->all++;
    else
        seen->other++;
}

static void a_directory_takes_what_is_in_it_along(void **state)
{
    struct seen seen = { 0 };
    (void)state;
    assert_int_equal(file_mkdir_at(root, "d"), 0);
    assert_int_equal(file_sync(put("d/f", "x", 1)), 0);
    int d = file_open_dir_at(root, "d");
    assert_int_equal(file_sync(d), 0);
    on_images(look_lost_directory, &seen);
    assert_true(seen.never > 0 && seen.all > 0);
    assert_int_equal(seen.other, 0);
}

/* ---- space, faults, handles ---- */

static void a_full_disk_says_so_and_recovers(void **state)
{
    enum file_system kind;
    uint64_t before, left, after;
    static char bytes[300 * 1024];
    (void)state;
    assert_int_equal(file_system_of(root, &kind, &before), 0);
    int f = file_open_at(root, "f", FILE_WRITE | FILE_CREATE), g = file_open_at(root, "g", FILE_WRITE | FILE_CREATE);
    assert_int_equal(file_allocate(f, 800 * 1024), 0);
    assert_int_equal(file_system_of(root, &kind, &left), 0);
    assert_int_equal(left, before - 800 * 1024 - 2 * 4096);
    assert_int_equal(file_allocate(g, 300 * 1024), -ENOSPC);
    assert_int_equal(file_write_at(g, bytes, sizeof bytes, 0), -ENOSPC);
    assert_int_equal(file_write_at(f, bytes, sizeof bytes, 500 * 1024), 0);     /* it was paid for */
    assert_int_equal(file_open_at(root, "h", FILE_WRITE | FILE_CREATE), -ENOSPC);
    assert_int_equal(file_close(g), 0);
    assert_int_equal(file_unlink_at(root, "g"), 0);
    assert_int_equal(file_unlink_at(root, "f"), 0);
    assert_int_equal(file_system_of(root, &kind, &after), 0);
    assert_true(after < before);                                           /* still open */
    assert_int_equal(file_close(f), 0);
    assert_int_equal(file_system_of(root, &kind, &after), 0);
    assert_int_equal(after, before);
}

static void faults_come_where_they_were_ordered(void **state)
{
    (void)state;
    int f = put("f", "x", 1);
    uint64_t at = sim_disk_ops();
    sim_disk_fail(at + 1, EIO, false);
    assert_int_equal(file_write_at(f, "y", 1, 0), 0);
    assert_int_equal(file_allocate(f, 10), -EIO);
    assert_int_equal(file_allocate(f, 10), 0);
    sim_disk_fail(at + 3, ENOSPC, true);
    assert_int_equal(file_write_at(f, "y", 1, 0), -ENOSPC);
    assert_int_equal(file_rename_at(root, "f", root, "g"), -ENOSPC);
    assert_int_equal(file_open_at(root, "h", FILE_WRITE | FILE_CREATE), -ENOSPC);
    assert_int_equal(file_unlink_at(root, "nothing"), -ENOENT);            /* no operation: nothing to fail */
    assert_int_equal(sim_disk_ops(), at + 6);
    sim_disk_heal();
    assert_int_equal(file_rename_at(root, "f", root, "g"), 0);
    assert_int_equal(sim_disk_op(at), SIM_OP_WRITE);
    assert_int_equal(sim_disk_op(at + 6), SIM_OP_RENAME);
}

static void locks_are_per_file_and_end_with_their_handle(void **state)
{
    (void)state;
    int a = put("f", "x", 1), b = file_open_at(root, "f", FILE_READ);
    assert_int_equal(file_lock(a), 0);
    assert_int_equal(file_lock(a), 0);
    assert_int_equal(file_lock(b), -EWOULDBLOCK);
    assert_int_equal(file_close(a), 0);
    assert_int_equal(file_lock(b), 0);
    mount(sim_disk_copy());
    assert_int_equal(file_lock(file_open_at(root, "f", FILE_READ)), 0);
}

static int note(void *arg, const char *name)
{
    char *all = arg;
    strcat(strcat(all, name), " ");
    return strcmp(name, "stop") == 0 ? 3 : 0;
}

static void names_are_looked_up_and_listed(void **state)
{
    char all[100] = "";
    struct file_info info;
    (void)state;
    assert_int_equal(file_mkdir_at(root, "d"), 0);
    assert_int_equal(file_mkdir_at(root, "d"), -EEXIST);
    assert_int_equal(file_mkdir_at(root, "d/e"), 0);
    (void)put("d/e/f", "abc", 3);
    assert_int_equal(file_info_at(root, "d//e/./f", &info), 0);
    assert_true(info.size == 3 && info.is_file && !info.is_dir);
    assert_int_equal(file_info_at(root, "d/e/f/g", &info), -ENOTDIR);
    assert_int_equal(file_info_at(root, "d/x/f", &info), -ENOENT);
    assert_int_equal(file_open_at(root, "d", FILE_WRITE), -EISDIR);
    assert_int_equal(file_open_at(root, "d/e/f", FILE_WRITE | FILE_CREATE | FILE_EXCLUSIVE), -EEXIST);
    assert_int_equal(file_open_dir("/d/e/f"), -ENOTDIR);
    assert_int_equal(file_rename_at(root, "d", root, "d/e/d"), -EINVAL);
    int e = file_open_dir("d/../d/e");
    assert_true(e >= 0);
    assert_int_equal(file_link_at(e, "f", root, "stop"), 0);
    assert_int_equal(file_link_at(e, "f", root, "stop"), -EEXIST);
    assert_int_equal(file_unlink_at(e, "f"), 0);
    assert_int_equal(file_list(e, note, all), 0);
    assert_string_equal(all, "");
    assert_int_equal(file_list(root, note, all), 3);
    assert_non_null(strstr(all, "stop "));

    struct buf b;
    buf_init(&b, 1000);
    assert_int_equal(file_read_whole("/stop", 100, &b), 0);
    assert_true(str_eq(buf_str(&b), STR("abc")));
    buf_free(&b);
}

static void a_bit_flips(void **state)
{
    unsigned char a[3], b[3];
    unsigned bits = 0;
    (void)state;
    assert_int_equal(file_sync(put("f", "abc", 3)), 0);
    sync_root();
    assert_int_equal(get("f", a, 3), 3);
    sim_disk_flip(5);
    assert_int_equal(get("f", b, 3), 3);
    for (unsigned i = 0; i < 3; i++)
        bits += (unsigned)__builtin_popcount(a[i] ^ b[i]);
    assert_int_equal(bits, 1);
    mount(sim_disk_crash(sim_disk_ops(), 0, NULL));
    assert_int_equal(get("f", a, 3), 3);
    assert_memory_equal(a, b, 3);
}

/* ---- everything together ---- */

static void random_step(int dirs[2])
{
    static const char *const names[] = { "a", "b", "c", "d", "e" };
    char bytes[3000];
    int dir = dirs[sim_random_below(2)], to = dirs[sim_random_below(2)];
    const char *name = names[sim_random_below(5)], *other = names[sim_random_below(5)];
    if (sim_random_below(20) == 0)
        sim_disk_fail(sim_disk_ops(), EIO, false);
    int f = file_open_at(dir, name, FILE_READ | FILE_WRITE | (sim_random_below(3) == 0 ? FILE_CREATE : 0u));
    uint64_t what = sim_random_below(10);
    memset(bytes, (int)sim_random_below(256), sizeof bytes);
    if (what == 0)
        (void)file_unlink_at(dir, name);
    else if (what == 1)
        (void)file_rename_at(dir, name, to, other);
    else if (what == 2)
        (void)file_sync(dir);
    else if (what == 3)
        (void)file_link_at(dir, name, to, other);
    else if (f >= 0 && what == 4)
        (void)file_sync(f);
    else if (f >= 0 && what == 5)
        (void)file_truncate(f, sim_random_below(10000));
    else if (f >= 0 && what == 6)
        (void)file_allocate(f, sim_random_below(20000));
    else if (f >= 0)
        (void)file_write_at(f, bytes, 1 + sim_random_below(sizeof bytes - 1), sim_random_below(8000));
    (void)file_close(f);
}

static int add_to_hash(void *arg, const char *name)
{
    uint64_t *hash = arg, h = 0xcbf29ce484222325;
    unsigned char bytes[32 * 1024] = { 0 };
    for (const char *p = name; *p != '\0'; p++)
        h = (h ^ (unsigned char)*p) * 0x100000001b3;
    h ^= (uint64_t)get(name, bytes, sizeof bytes);
    for (size_t i = 0; i < sizeof bytes; i++)
        h = (h ^ bytes[i]) * 0x100000001b3;
    *hash += h;                                                            /* in any order */
    return 0;
}

/* Of all that can be seen on the mounted disk. */
static uint64_t disk_hash(void)
{
    uint64_t hash = 0;
    int keep = root;
    for (unsigned i = 0; i < 2; i++) {
        root = file_open_dir(i == 0 ? "/x" : "/y");
        if (root >= 0)
            (void)file_list(root, add_to_hash, &hash);
        (void)file_close(root);
        hash = hash * 31 + 1;
    }
    root = keep;
    return hash;
}

static uint64_t random_story(unsigned steps)
{
    int dirs[2];
    assert_int_equal(file_mkdir_at(root, "x"), 0);
    assert_int_equal(file_mkdir_at(root, "y"), 0);
    sync_root();
    dirs[0] = file_open_dir_at(root, "x");
    dirs[1] = file_open_dir_at(root, "y");
    for (unsigned i = 0; i < steps; i++)
        random_step(dirs);
    return disk_hash();
}

static void everything_kept_is_the_live_disk(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 20; round++) {                        /* each with another story */
        uint64_t live = random_story(200);
        mount(sim_disk_crash(sim_disk_ops(), 1, NULL));
        assert_int_equal(disk_hash(), live);
        sim_end();
        begin(NULL);
        for (unsigned skip = 0; skip <= round; skip++)
            (void)sim_random();
    }
}

static void equal_survivors_are_the_same_image(void **state)
{
    enum { IMAGES = 4000 };
    static uint64_t survivors[IMAGES], hashes[IMAGES];
    unsigned distinct = 0;
    (void)state;
    (void)random_story(400);
    struct sim_history *h = sim_disk_history();
    for (unsigned i = 0; i < IMAGES; i++) {
        mount(sim_history_crash(h, sim_history_ops(h) * i / IMAGES, i % 10, &survivors[i]));
        hashes[i] = disk_hash();
    }
    for (unsigned i = 0; i < IMAGES; i++) {
        bool seen = false;
        for (unsigned j = i >= 100 ? i - 100 : 0; j < i; j++) {
            if (survivors[j] == survivors[i])
                assert_int_equal(hashes[j], hashes[i]);
            seen |= survivors[j] == survivors[i];
        }
        distinct += !seen;
    }
    assert_true(distinct > IMAGES / 4);
    /* Going back gives what going forward gave. */
    for (unsigned i = IMAGES; i-- > IMAGES - 50;) {
        uint64_t again;
        sim_disk_free(sim_history_crash(h, sim_history_ops(h) * i / IMAGES, i % 10, &again));
        assert_int_equal(again, survivors[i]);
    }
    sim_history_free(h);
}

static void a_disk_may_forget_its_history(void **state)
{
    char text[2];
    (void)state;
    sim_end();
    sim_begin(&(struct sim_options){ .seed = 7, .disk_forgets = true });
    root = file_open_dir("/");
    uint64_t before = sim_disk_ops();
    int f = put("f", "xy", 2);
    sim_disk_fail(before + 3, EIO, false);
    assert_int_equal(file_sync(f), 0);
    assert_int_equal(file_truncate(f, 1), -EIO);
    assert_int_equal(sim_disk_ops() - before, 4);
    mount(sim_disk_copy());
    assert_int_equal(get("f", text, 2), 2);
}

static void images_outlive_their_world(void **state)
{
    char text[1];
    (void)state;
    assert_int_equal(file_sync(put("f", "x", 1)), 0);
    struct sim_disk *d = sim_disk_copy();
    sim_end();
    begin(NULL);
    assert_false(there("f"));
    mount(d);
    assert_int_equal(get("f", text, 1), 1);
}

/* A journal as the queue writes it: a preallocated segment of 1 MiB, records of 700 bytes, a sync for every four, now and then a file. */
static void images_are_cheap(void **state)
{
    enum { RECORDS = 1000, PER_OP = 10 };
    char bytes[700], name[32];
    struct timespec a, b;
    (void)state;
    sim_end();
    sim_begin(&(struct sim_options){ .seed = 7, .disk_bytes = 64 << 20 });
    root = file_open_dir("/");
    int f = file_open_at(root, "segment", FILE_WRITE | FILE_CREATE);
    assert_int_equal(file_allocate(f, 1 << 20), 0);
    assert_int_equal(file_sync(f), 0);
    sync_root();
    for (unsigned i = 0; i < RECORDS; i++) {
        memset(bytes, (int)i, sizeof bytes);
        assert_int_equal(file_write_at(f, bytes, sizeof bytes, i * sizeof bytes), 0);
        if (i % 4 == 3)
            assert_int_equal(file_datasync(f), 0);
        if (i % 20 == 0) {
            (void)snprintf(name, sizeof name, "body%u", i);
            int body = put(name, bytes, sizeof bytes);
            assert_int_equal(file_sync(body), 0);
            sync_root();
            assert_int_equal(file_close(body), 0);
        }
    }
    uint64_t ops = sim_disk_ops();
    assert_int_equal(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a), 0);
    for (uint64_t at = 0; at <= ops; at++)
        for (uint64_t seed = 0; seed < PER_OP; seed++)
            sim_disk_free(sim_disk_crash(at, seed, NULL));
    assert_int_equal(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b), 0);
    double us = ((double)(b.tv_sec - a.tv_sec) * 1e9 + (double)(b.tv_nsec - a.tv_nsec)) / 1000 / (double)((ops + 1) * PER_OP);
    print_message("%.2f us for an image\n", us);
    assert_true(us < 1000);                                                /* 20 are the aim; a sanitizer takes its part */
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(unsynced_writes_are_torn_at_sectors),
        TEST(two_writes_to_one_sector_come_in_order),
        TEST(datasync_keeps_the_size_that_the_data_needs),
        TEST(size_and_data_survive_apart),
        TEST(what_was_cut_off_does_not_come_back),
        TEST(a_failed_sync_forgets_what_it_should_have_saved),
        TEST(written_anew_it_is_saved),
        TEST(a_synced_file_without_a_synced_directory_may_be_gone),
        TEST(rename_replaces_whole_or_not),
        TEST(a_rename_between_directories_is_in_both_or_in_none),
        TEST(syncing_where_it_went_makes_a_rename_durable),
        TEST(changes_of_one_directory_come_in_order),
        TEST(an_unlinked_file_may_come_back),
        TEST(a_failed_sync_of_a_directory_forgets_its_changes),
        TEST(a_durable_unlink_overtakes_what_was_lost),
        TEST(a_directory_takes_what_is_in_it_along),
        TEST(a_full_disk_says_so_and_recovers),
        TEST(faults_come_where_they_were_ordered),
        TEST(locks_are_per_file_and_end_with_their_handle),
        TEST(names_are_looked_up_and_listed),
        TEST(a_bit_flips),
        TEST(everything_kept_is_the_live_disk),
        TEST(equal_survivors_are_the_same_image),
        TEST(a_disk_may_forget_its_history),
        TEST(images_outlive_their_world),
        TEST(images_are_cheap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
