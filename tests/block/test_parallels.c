/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Driver parallels: both ways with qemu-img, both kinds of tables, random operations, threads, damage. */
#include <errno.h>

#include "base/byteorder.h"
#include "block/filter/fault.h"
#include "folder.h"

enum { SIZE = 9 * 1024 * 1024 + 512 * 3, DATA = 1024 * 1024 };

static const struct block_driver *driver(void)
{
    return block_driver_find("parallels");
}

static void check_theirs(struct peer_dir *d, const uint8_t *bytes)
{
    g_autofree char *raw = peer_path(d, "raw");
    peer_run("qemu-img convert -f parallels -O raw %s/a %s", d->path, raw);
    peer_same_file(raw, bytes, SIZE);
    peer_run("qemu-img check -f parallels %s/a", d->path);
}

static void test_ours(void)
{
    struct peer_dir d = peer_dir();
    struct folder f = folder_of(&d);
    GRand *rand = g_rand_new_with_seed((guint32)g_test_rand_int());
    g_autofree uint8_t *bytes = g_malloc0(SIZE);
    folder_create(&f, "parallels", "a", SIZE, NULL, NULL, NULL);
    folder_model(&f, "parallels", "a", rand, bytes, SIZE, 5);
    if (peer_has("qemu-img")) {
        check_theirs(&d, bytes);
        peer_run("qemu-io -f parallels -c 'write -P 7 65024 200192' -c 'write -P 9 8194048 70144' %s/a",
                 d.path);
        memset(bytes + 65024, 7, 200192);
        memset(bytes + 8194048, 9, 70144);
        folder_model(&f, "parallels", "a", rand, bytes, SIZE, 2);
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
        peer_run("qemu-img convert -f raw -O parallels -o cluster_size=65536 %s %s/a", raw, d.path);
        folder_model(&f, "parallels", "a", rand, bytes, SIZE, 3);
        check_theirs(&d, bytes);
    }
    g_rand_free(rand);
    peer_dir_gone(&d);
}

/* Makes ours one of those whose entries are in sectors. */
static void test_sectors(void)
{
    struct peer_dir d = peer_dir();
    struct folder f = folder_of(&d);
    GRand *rand = g_rand_new_with_seed((guint32)g_test_rand_int());
    g_autofree uint8_t *bytes = g_malloc0(SIZE);
    const uint32_t data = htole32(5); /* right behind the table, aligned to nothing */
    folder_create(&f, "parallels", "a", SIZE, NULL, NULL, NULL);
    int fd = folder_fd(d.path, "a", O_RDWR);
    g_assert_cmpint(pwrite(fd, "WithoutFreeSpace", 16, 0), ==, 16);
    g_assert_cmpint(pwrite(fd, &data, 4, 48), ==, 4);
    g_assert_cmpint(ftruncate(fd, 5 * 512), ==, 0);
    close(fd);
    folder_model(&f, "parallels", "a", rand, bytes, SIZE, 3);
    if (peer_has("qemu-img"))
        check_theirs(&d, bytes);
    g_rand_free(rand);
    peer_dir_gone(&d);
}

static uint32_t in_use(struct peer_dir *d)
{
    uint32_t mark;
    int fd = folder_fd(d->path, "a", O_RDONLY);
    g_assert_cmpint(pread(fd, &mark, 4, 44), ==, 4);
    close(fd);
    return le32toh(mark);
}

/* The mark is there while it is being written to, and an image with it opens when nothing is wrong. */
static void test_mark(void)
{
    struct peer_dir d = peer_dir();
    struct folder f = folder_of(&d);
    struct block_image_info info = {0};
    const uint32_t mark = htole32(0x746f6e59);
    folder_create(&f, "parallels", "a", SIZE, NULL, NULL, NULL);
    AUTO(disk) b = folder_open(&f, "parallels", "a", false);
    g_assert_cmphex(in_use(&d), ==, 0);
    g_assert_cmpint(block_pwrite(b, &mark, 4, 0), ==, 0);
    g_assert_cmphex(in_use(&d), ==, 0x746f6e59);
    g_clear_pointer(&b, block_free);
    g_assert_cmphex(in_use(&d), ==, 0);
    int fd = folder_fd(d.path, "a", O_RDWR);
    g_assert_cmpint(pwrite(fd, &mark, 4, 44), ==, 4);
    close(fd);
    b = folder_open(&f, "parallels", "a", true);
    g_assert_true(driver()->image->info(b, &info, NULL));
    g_assert_true(info.dirty);
    g_clear_pointer(&b, block_free);
    g_assert_cmphex(in_use(&d), ==, 0x746f6e59);
    b = folder_open(&f, "parallels", "a", false);
    g_assert_cmpint(block_pwrite(b, &mark, 4, 0), ==, 0);
    g_clear_pointer(&b, block_free);
    g_assert_cmphex(in_use(&d), ==, 0);
    peer_dir_gone(&d);
}

/* The write of the header that makes the disk larger fails, before or after it has reached the file: the disk
 * has its old size, then and when it is opened again. */
static void test_resize_fails(void)
{
    for (unsigned i = 0; i < 2; i++) {
        struct peer_dir d = peer_dir();
        struct folder f = folder_of(&d);
        g_autoptr(GError) error = NULL;
        uint8_t bytes[512] = {7}, got[512];
        folder_create(&f, "parallels", "a", SIZE, NULL, NULL, NULL);
        struct block_config on = {.name = "a", .fd = folder_fd(d.path, "a", O_RDWR)};
        struct block_config config = {.name = "image", .fd = -1};
        struct disk *fault = block_fault_new(block_open(block_driver_find("file"), &on, &error));
        config.file = fault;
        AUTO(disk) b = block_open(driver(), &config, &error);
        g_assert_no_error(error);
        g_assert_cmpint(block_pwrite(b, bytes, 512, 0), ==, 0);
        g_assert_cmpint(block_flush(b), ==, 0);
        block_fault_set(fault, BLOCK_FAULT_WRITE, 0, 1, -EIO, i * 512);
        g_assert_cmpint(block_resize(b, SIZE + 5 * MiB), ==, -EIO);
        g_assert_cmpuint(b->facts.size, ==, SIZE);
        g_assert_cmpint(block_pwrite(b, bytes, 512, SIZE - 512), ==, 0);
        g_assert_cmpint(block_flush(b), ==, 0);
        g_clear_pointer(&b, block_free);
        b = folder_open(&f, "parallels", "a", false);
        g_assert_cmpuint(b->facts.size, ==, SIZE);
        g_assert_cmpint(block_resize(b, SIZE + 5 * MiB), ==, 0);
        g_assert_cmpint(block_pread(b, got, 512, SIZE - 512), ==, 0);
        g_assert_cmpmem(got, 512, bytes, 512);
        g_clear_pointer(&b, block_free);
        b = folder_open(&f, "parallels", "a", true);
        g_assert_cmpuint(b->facts.size, ==, SIZE + 5 * MiB);
        g_clear_pointer(&b, block_free);
        peer_dir_gone(&d);
    }
}

/* Two owners, nobody's clusters, a place behind the end: found, mended, and then clean for qemu-img, too. */
static void test_check(void)
{
    struct peer_dir d = peer_dir();
    struct folder f = folder_of(&d);
    g_autoptr(GError) error = NULL;
    g_autofree uint8_t *bytes = g_malloc0(4 * MiB);
    uint32_t table[4];
    for (unsigned i = 0; i < 4; i++)
        memset(bytes + i * MiB, (int)(i + 1), MiB);
    folder_create(&f, "parallels", "a", SIZE, NULL, NULL, NULL);
    AUTO(disk) b = folder_open(&f, "parallels", "a", false);
    g_assert_cmpint(block_pwrite(b, bytes, 4 * MiB, 0), ==, 0);
    g_clear_pointer(&b, block_free);
    int fd = folder_fd(d.path, "a", O_RDWR);
    g_assert_cmpint(pread(fd, table, sizeof(table), 64), ==, sizeof(table));
    table[1] = table[0];
    table[2] = htole32(1000);
    g_assert_cmpint(pwrite(fd, table, sizeof(table), 64), ==, sizeof(table));
    const uint32_t mark = htole32(0x746f6e59);
    g_assert_cmpint(pwrite(fd, &mark, 4, 44), ==, 4);
    close(fd);
    g_assert_null(folder_try(&f, "parallels", "a", false, 0, &error));
    g_assert_nonnull(strstr(error->message, "not closed properly"));
    g_clear_error(&error);
    b = folder_try(&f, "parallels", "a", false, BLOCK_OPEN_REPAIR, &error);
    g_assert_no_error(error);
    struct block_check check = {0};
    g_assert_true(driver()->image->check(b, BLOCK_FIX_LEAKS | BLOCK_FIX_ERRORS, &check, &error));
    g_assert_cmpuint(check.corruptions, ==, 2);
    g_assert_cmpuint(check.corruptions_fixed, ==, 2);
    g_assert_cmpuint(check.leaks, ==, 2);
    memcpy(bytes + MiB, bytes, MiB);
    memset(bytes + 2 * MiB, 0, MiB);
    peer_same(b, bytes, 4 * MiB);
    g_clear_pointer(&b, block_free);
    if (peer_has("qemu-img"))
        peer_run("qemu-img check -f parallels %s/a", d.path);
    peer_dir_gone(&d);
}

/* Of clusters that are more than one piece to copy. */
static void test_check_large(void)
{
    const uint64_t cluster = 4 * MiB; /* the options of creation are that alone */
    struct peer_dir d = peer_dir();
    struct folder f = folder_of(&d);
    g_autoptr(GError) error = NULL;
    g_autofree uint8_t *bytes = g_malloc0(2 * cluster);
    uint32_t table[2];
    for (unsigned i = 0; i < 8; i++)
        memset(bytes + i * MiB, (int)(i + 1), MiB);
    folder_create(&f, "parallels", "a", 4 * cluster, &cluster, NULL, NULL);
    AUTO(disk) b = folder_open(&f, "parallels", "a", false);
    g_assert_cmpint(block_pwrite(b, bytes, 2 * cluster, 0), ==, 0);
    g_clear_pointer(&b, block_free);
    int fd = folder_fd(d.path, "a", O_RDWR);
    g_assert_cmpint(pread(fd, table, sizeof(table), 64), ==, sizeof(table));
    table[1] = table[0];
    g_assert_cmpint(pwrite(fd, table, sizeof(table), 64), ==, sizeof(table));
    close(fd);
    b = folder_open(&f, "parallels", "a", false);
    struct block_check check = {0};
    g_assert_true(driver()->image->check(b, BLOCK_FIX_ERRORS, &check, &error));
    g_assert_cmpuint(check.corruptions_fixed, ==, 1);
    g_clear_pointer(&b, block_free);
    b = folder_open(&f, "parallels", "a", false);
    memcpy(bytes + cluster, bytes, cluster);
    peer_same(b, bytes, 2 * cluster);
    g_assert_cmpint(block_pwrite(b, bytes, 512, 0), ==, 0); /* it has one of its own */
    memset(bytes, 9, 512);
    g_assert_cmpint(block_pwrite(b, bytes, 512, cluster), ==, 0);
    memcpy(bytes + cluster, bytes, 512);
    memset(bytes, 1, 512);
    peer_same(b, bytes, 2 * cluster);
    g_clear_pointer(&b, block_free);
    peer_dir_gone(&d);
}

static void count_line(void *lines, const char *line)
{
    g_assert_cmpuint(strlen(line), <, 200);
    ++*(unsigned *)lines;
}

/* A table of nonsense: all is counted, and the first of it is told. */
static void test_check_nonsense(void)
{
    enum { CLUSTERS = BLOCK_CHECK_LINES + 7000 };
    const uint64_t cluster = 64 * KiB;
    struct peer_dir d = peer_dir();
    struct folder f = folder_of(&d);
    g_autoptr(GError) error = NULL;
    g_autofree uint32_t *table = g_malloc(CLUSTERS * sizeof(*table));
    unsigned lines = 0;
    for (unsigned i = 0; i < CLUSTERS; i++)
        table[i] = htole32(0x10000000);
    folder_create(&f, "parallels", "a", CLUSTERS * cluster, &cluster, NULL, NULL);
    int fd = folder_fd(d.path, "a", O_RDWR);
    g_assert_cmpint(pwrite(fd, table, CLUSTERS * sizeof(*table), 64), ==, CLUSTERS * sizeof(*table));
    close(fd);
    AUTO(disk) b = folder_open(&f, "parallels", "a", true);
    struct block_check check = {.report = count_line, .opaque = &lines};
    g_assert_true(driver()->image->check(b, 0, &check, &error));
    g_assert_cmpuint(check.corruptions, ==, CLUSTERS);
    g_assert_cmpuint(lines, ==, BLOCK_CHECK_LINES + 1);
    g_clear_pointer(&b, block_free);
    peer_dir_gone(&d);
}

static void test_resize(void)
{
    struct peer_dir d = peer_dir();
    struct folder f = folder_of(&d);
    g_autofree uint8_t *bytes = g_malloc0(64 * MiB);
    folder_create(&f, "parallels", "a", SIZE, NULL, NULL, NULL);
    AUTO(disk) b = folder_open(&f, "parallels", "a", false);
    memset(bytes, 3, SIZE);
    g_assert_cmpint(block_pwrite(b, bytes, SIZE, 0), ==, 0);
    g_assert_cmpint(block_resize(b, 64 * MiB), ==, 0);
    peer_same(b, bytes, 64 * MiB);
    memset(bytes + 50 * MiB, 4, MiB);
    g_assert_cmpint(block_pwrite(b, bytes + 50 * MiB, MiB, 50 * MiB), ==, 0);
    g_clear_pointer(&b, block_free);
    b = folder_open(&f, "parallels", "a", true);
    peer_same(b, bytes, 64 * MiB);
    g_clear_pointer(&b, block_free);
    if (peer_has("qemu-img")) {
        g_autofree char *raw = peer_path(&d, "raw");
        peer_run("qemu-img convert -f parallels -O raw %s/a %s", d.path, raw);
        peer_same_file(raw, bytes, 64 * MiB);
    }
    peer_dir_gone(&d);
}

static void test_threads(void)
{
    struct peer_dir d = peer_dir();
    struct folder f = folder_of(&d);
    folder_create(&f, "parallels", "a", 480 * FOLDER_PIECE, NULL, NULL, NULL);
    folder_threads(&f, "parallels", "a", 480 * FOLDER_PIECE);
    peer_dir_gone(&d);
}

static void test_hostile(void)
{
    struct peer_dir d = peer_dir();
    struct folder f = folder_of(&d);
    folder_create(&f, "parallels", "a", 2 * MiB, NULL, NULL, NULL);
    AUTO(disk) b = folder_open(&f, "parallels", "a", false);
    g_assert_cmpint(block_pwrite(b, "x", 1, 65536), ==, 0);
    g_clear_pointer(&b, block_free);
    folder_hostile(&f, "parallels", "a", 72);
    peer_dir_gone(&d);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/block/parallels/ours", test_ours);
    g_test_add_func("/block/parallels/theirs", test_theirs);
    g_test_add_func("/block/parallels/sectors", test_sectors);
    g_test_add_func("/block/parallels/mark", test_mark);
    g_test_add_func("/block/parallels/resize-fails", test_resize_fails);
    g_test_add_func("/block/parallels/check", test_check);
    g_test_add_func("/block/parallels/check-large", test_check_large);
    g_test_add_func("/block/parallels/check-nonsense", test_check_nonsense);
    g_test_add_func("/block/parallels/resize", test_resize);
    g_test_add_func("/block/parallels/threads", test_threads);
    g_test_add_func("/block/parallels/hostile", test_hostile);
    return g_test_run();
}
