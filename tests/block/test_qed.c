/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Driver qed: both ways with qemu-img, backing files, random operations, threads, damage. */
#include "base/byteorder.h"
#include "folder.h"

enum { SIZE = 9 * 1024 * 1024 + 512 * 3, CHECK_BIT = 2 };

/* Values of create_options. */
struct options {
    uint64_t cluster_size;
    unsigned table_size;
};

/* Small tables have many seams: one is for 4 MiB. (QEMU makes images with tables of one cluster, and then
 * cannot open them.) */
static const struct options small = {4096, 2}, usual = {65536, 4};

static const struct block_driver *driver(void)
{
    return block_driver_find("qed");
}

static void check_theirs(struct peer_dir *d, const uint8_t *bytes)
{
    peer_run("cd %s && qemu-img convert -f qed -O raw a raw", d->path);
    g_autofree char *raw = peer_path(d, "raw");
    peer_same_file(raw, bytes, SIZE);
    peer_run("cd %s && qemu-img check -f qed a", d->path);
}

static void test_ours(gconstpointer options)
{
    struct peer_dir d = peer_dir();
    struct folder f = folder_of(&d);
    GRand *rand = g_rand_new_with_seed((guint32)g_test_rand_int());
    g_autofree uint8_t *bytes = g_malloc0(SIZE);
    folder_create(&f, "qed", "a", SIZE, options, NULL, NULL);
    folder_model(&f, "qed", "a", rand, bytes, SIZE, 5);
    if (peer_has("qemu-img")) {
        check_theirs(&d, bytes);
        peer_run("qemu-io -f qed -c 'write -P 7 65024 200192' -c 'write -z 131072 262144' "
                 "-c 'write -P 9 8194048 70144' %s/a",
                 d.path);
        memset(bytes + 65024, 7, 200192);
        memset(bytes + 131072, 0, 262144);
        memset(bytes + 8194048, 9, 70144);
        folder_model(&f, "qed", "a", rand, bytes, SIZE, 2);
        check_theirs(&d, bytes);
    }
    g_rand_free(rand);
    peer_dir_gone(&d);
}

static void test_theirs(void)
{
    struct peer_dir d = peer_dir();
    struct folder f = folder_of(&d);
    GRand *rand = g_rand_new_with_seed((guint32)g_test_rand_int());
    g_autofree uint8_t *bytes = g_malloc0(SIZE);
    if (peer_has("qemu-img")) {
        g_autofree char *raw = peer_path(&d, "raw");
        folder_random(rand, bytes + 70000, 3000000);
        g_assert_true(g_file_set_contents(raw, (char *)bytes, SIZE, NULL));
        peer_run("qemu-img convert -f raw -O qed -o cluster_size=4096,table_size=2 %s %s/a", raw, d.path);
        folder_model(&f, "qed", "a", rand, bytes, SIZE, 3);
        check_theirs(&d, bytes);
    }
    g_rand_free(rand);
    peer_dir_gone(&d);
}

static void test_backing(gconstpointer options)
{
    struct peer_dir d = peer_dir();
    struct folder f = folder_of(&d);
    struct block_image_info info = {0};
    GRand *rand = g_rand_new_with_seed((guint32)g_test_rand_int());
    g_autofree uint8_t *bytes = g_malloc0(SIZE);
    g_autofree char *base = peer_path(&d, "base"), *other = peer_path(&d, "other");
    folder_random(rand, bytes, 5 * MiB); /* ends before the disk does */
    g_assert_true(g_file_set_contents(base, (char *)bytes, 5 * MiB, NULL));
    g_assert_true(g_file_set_contents(other, (char *)bytes, 5 * MiB, NULL));
    folder_create(&f, "qed", "a", SIZE, options, "base", "raw");
    folder_model(&f, "qed", "a", rand, bytes, SIZE, 4);
    if (peer_has("qemu-img"))
        check_theirs(&d, bytes);
    AUTO(disk) b = folder_open(&f, "qed", "a", false);
    g_assert_true(driver()->image->set_backing(b, "other", "raw", NULL));
    g_clear_pointer(&b, block_free);
    g_assert_cmpint(unlink(base), ==, 0);
    folder_model(&f, "qed", "a", rand, bytes, SIZE, 1);
    b = folder_open(&f, "qed", "a", false);
    g_assert_true(driver()->image->info(b, &info, NULL));
    g_assert_cmpstr(info.backing, ==, "other");
    g_assert_cmpstr(info.backing_format, ==, "raw");
    block_image_info_clear(&info);
    g_assert_true(driver()->image->set_backing(b, NULL, NULL, NULL));
    g_clear_pointer(&b, block_free);
    g_assert_cmpint(unlink(other), ==, 0);
    if (peer_has("qemu-img"))
        peer_run("qemu-img check -f qed %s/a", d.path);
    g_rand_free(rand);
    peer_dir_gone(&d);
}

static uint64_t features(struct peer_dir *d)
{
    uint64_t f;
    int fd = folder_fd(d->path, "a", O_RDONLY);
    g_assert_cmpint(pread(fd, &f, 8, 16), ==, 8);
    close(fd);
    return le64toh(f);
}

/* The mark is there while it is being written to; one that has it is mended before it is written to. */
static void test_mark(void)
{
    struct peer_dir d = peer_dir();
    struct folder f = folder_of(&d);
    uint64_t entries[2], unknown = htole64(1), known;
    folder_create(&f, "qed", "a", SIZE, &usual, NULL, NULL);
    int fd = folder_fd(d.path, "a", O_RDWR);
    g_assert_cmpint(pwrite(fd, &unknown, 8, 32), ==, 8); /* autoclear */
    AUTO(disk) b = folder_open(&f, "qed", "a", false);
    g_assert_cmphex(features(&d), ==, 0);
    g_assert_cmpint(block_pwrite(b, "12", 2, 65535), ==, 0);
    g_assert_cmphex(features(&d), ==, CHECK_BIT);
    g_assert_cmpint(pread(fd, &known, 8, 32), ==, 8);
    g_assert_cmpuint(known, ==, 0);
    g_clear_pointer(&b, block_free);
    g_assert_cmphex(features(&d), ==, 0);
    /* As a crash of somebody else leaves it: the second cluster's entry without a cluster. */
    g_assert_cmpint(pread(fd, entries, 8, 65536), ==, 8);
    const off_t table = (off_t)le64toh(entries[0]);
    g_assert_cmpint(pread(fd, entries, 16, table), ==, 16);
    entries[1] = htole64(UINT64_C(1) << 40);
    const uint64_t mark = htole64(CHECK_BIT);
    g_assert_cmpint(pwrite(fd, entries, 16, table), ==, 16);
    g_assert_cmpint(pwrite(fd, &mark, 8, 16), ==, 8);
    close(fd);
    char back[2];
    b = folder_open(&f, "qed", "a", false);
    g_assert_cmpint(block_pread(b, back, 2, 65535), ==, 0);
    g_assert_cmpmem(back, 2, "1\0", 2);
    g_clear_pointer(&b, block_free);
    g_assert_cmphex(features(&d), ==, 0);
    if (peer_has("qemu-img"))
        peer_run("qemu-img convert -f qed -O raw %s/a %s/raw", d.path, d.path);
    peer_dir_gone(&d);
}

static void test_check(void)
{
    struct peer_dir d = peer_dir();
    struct folder f = folder_of(&d);
    g_autoptr(GError) error = NULL;
    g_autofree uint8_t *bytes = g_malloc(4 * 65536);
    uint64_t entries[4], place;
    memset(bytes, 5, 4 * 65536);
    folder_create(&f, "qed", "a", SIZE, &usual, NULL, NULL);
    AUTO(disk) b = folder_open(&f, "qed", "a", false);
    g_assert_cmpint(block_pwrite(b, bytes, 4 * 65536, 0), ==, 0);
    g_clear_pointer(&b, block_free);
    int fd = folder_fd(d.path, "a", O_RDWR);
    g_assert_cmpint(pread(fd, &place, 8, 65536), ==, 8);
    g_assert_cmpint(pread(fd, entries, 32, (off_t)le64toh(place)), ==, 32);
    entries[1] = entries[0];
    entries[2] = htole64(777);
    g_assert_cmpint(pwrite(fd, entries, 32, (off_t)le64toh(place)), ==, 32);
    close(fd);
    b = folder_try(&f, "qed", "a", false, BLOCK_OPEN_REPAIR, &error);
    g_assert_no_error(error);
    struct block_check check = {0};
    g_assert_true(driver()->image->check(b, BLOCK_FIX_LEAKS | BLOCK_FIX_ERRORS, &check, &error));
    g_assert_cmpuint(check.corruptions, ==, 2);
    g_assert_cmpuint(check.leaks, ==, 2);
    g_assert_cmpuint(check.corruptions_fixed, ==, 1);
    g_clear_pointer(&b, block_free);
    /* A table that is not there. */
    fd = folder_fd(d.path, "a", O_RDWR);
    place = htole64(UINT64_C(1) << 50);
    g_assert_cmpint(pwrite(fd, &place, 8, 65536), ==, 8);
    close(fd);
    g_assert_null(folder_try(&f, "qed", "a", true, 0, &error));
    g_clear_error(&error);
    b = folder_try(&f, "qed", "a", false, BLOCK_OPEN_REPAIR, &error);
    check = (struct block_check){0};
    g_assert_true(driver()->image->check(b, BLOCK_FIX_ERRORS, &check, &error));
    g_assert_cmpuint(check.corruptions_fixed, ==, 1);
    g_clear_pointer(&b, block_free);
    b = folder_open(&f, "qed", "a", false);
    g_clear_pointer(&b, block_free);
    peer_dir_gone(&d);
}

static void test_resize(gconstpointer options)
{
    struct peer_dir d = peer_dir();
    struct folder f = folder_of(&d);
    static const uint64_t sizes[] = {1 * MiB + 512, 40 * MiB, GiB};
    uint8_t byte = 0;
    folder_create(&f, "qed", "a", sizes[0], options, NULL, NULL);
    for (unsigned i = 1; i < ARRAY_SIZE(sizes); i++) {
        AUTO(disk) b = folder_open(&f, "qed", "a", false);
        g_assert_cmpuint(b->facts.size, ==, sizes[i - 1]);
        g_assert_cmpint(block_resize(b, sizes[i]), ==, 0);
        g_assert_cmpint(block_pread(b, &byte, 1, sizes[i - 1]), ==, 0);
        g_assert_cmpuint(byte, ==, 0);
        byte = (uint8_t)i;
        g_assert_cmpint(block_pwrite(b, &byte, 1, sizes[i] - 1), ==, 0);
    }
    AUTO(disk) b = folder_open(&f, "qed", "a", true);
    for (unsigned i = 1; i < ARRAY_SIZE(sizes); i++) {
        g_assert_cmpint(block_pread(b, &byte, 1, sizes[i] - 1), ==, 0);
        g_assert_cmpuint(byte, ==, i);
    }
    folder_check(b, false);
    g_clear_pointer(&b, block_free);
    if (peer_has("qemu-io")) {
        peer_run(
            "! qemu-io -r -f qed -c 'read -P 2 1073741823 1' -c 'read -P 1 41943039 1' %s/a | grep -qi fail",
            d.path);
        peer_run("qemu-img check -f qed %s/a", d.path);
    }
    peer_dir_gone(&d);
}

static void test_threads(gconstpointer options)
{
    struct peer_dir d = peer_dir();
    struct folder f = folder_of(&d);
    folder_create(&f, "qed", "a", 480 * FOLDER_PIECE, options, NULL, NULL);
    folder_threads(&f, "qed", "a", 480 * FOLDER_PIECE);
    peer_dir_gone(&d);
}

/* Who gives a cluster its place copies what the base has around what is written, and must not do so over what
 * another one writes there. */
static void test_threads_over(gconstpointer options)
{
    struct peer_dir d = peer_dir();
    struct folder f = folder_of(&d);
    const size_t size = 480 * FOLDER_PIECE;
    g_autofree char *bytes = g_malloc(size), *base = peer_path(&d, "base");
    memset(bytes, 0xff, size);
    g_assert_true(g_file_set_contents(base, bytes, (gssize)size, NULL));
    folder_create(&f, "qed", "a", size, options, "base", "raw");
    folder_threads(&f, "qed", "a", size);
    peer_dir_gone(&d);
}

static void test_hostile(void)
{
    struct peer_dir d = peer_dir();
    struct folder f = folder_of(&d);
    folder_create(&f, "qed", "a", 2 * MiB, &small, NULL, NULL);
    AUTO(disk) b = folder_open(&f, "qed", "a", false);
    g_assert_cmpint(block_pwrite(b, "x", 1, 65536), ==, 0);
    g_clear_pointer(&b, block_free);
    folder_hostile(&f, "qed", "a", 64);
    peer_dir_gone(&d);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    static const struct {
        const char *name;
        GTestDataFunc run;
    } tests[] = {{"ours", test_ours},
                 {"backing", test_backing},
                 {"resize", test_resize},
                 {"threads", test_threads},
                 {"threads_over", test_threads_over}};
    for (unsigned t = 0; t < ARRAY_SIZE(tests); t++) {
        g_autofree char *one = g_strdup_printf("/block/qed/small/%s", tests[t].name);
        g_autofree char *two = g_strdup_printf("/block/qed/usual/%s", tests[t].name);
        g_test_add_data_func(one, &small, tests[t].run);
        g_test_add_data_func(two, &usual, tests[t].run);
    }
    g_test_add_func("/block/qed/theirs", test_theirs);
    g_test_add_func("/block/qed/mark", test_mark);
    g_test_add_func("/block/qed/check", test_check);
    g_test_add_func("/block/qed/hostile", test_hostile);
    return g_test_run();
}
