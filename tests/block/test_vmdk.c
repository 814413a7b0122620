/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Driver vmdk: every subformat both ways with qemu-img, random operations, threads, ESX's extents, damage. */
#include <errno.h>

#include "base/byteorder.h"
#include "block/format/vmdk/vmdk.h"
#include "folder.h"

enum { SIZE = 5 * 1024 * 1024 + 512 * 3 };

static const char *const kinds[] = {"monolithicSparse", "monolithicFlat", "twoGbMaxExtentSparse",
                                    "twoGbMaxExtentFlat"};

static struct vmdk_options options_of(const char *subformat)
{
    struct vmdk_options o = {0}; /* what has no default is left alone */
    option_init(vmdk_create_options, &o);
    o.subformat = subformat;
    return o;
}

static bool zeroed_grain(const char *kind)
{
    return strstr(kind, "Sparse") != NULL;
}

/* --- both ways --- */

static void test_ours(gconstpointer kind)
{
    struct peer_dir d = peer_dir();
    struct folder f = folder_of(&d);
    GRand *rand = g_rand_new_with_seed((guint32)g_test_rand_int());
    g_autofree uint8_t *bytes = g_malloc0(SIZE);
    struct vmdk_options o = options_of(kind);
    o.zeroed_grain = zeroed_grain(kind) && g_rand_boolean(rand);
    folder_create(&f, "vmdk", "a.vmdk", SIZE, &o, NULL, NULL);
    folder_model(&f, "vmdk", "a.vmdk", rand, bytes, SIZE, 6);
    if (peer_has("qemu-img")) {
        g_autofree char *raw = peer_path(&d, "raw");
        peer_run("qemu-img convert -f vmdk -O raw %s/a.vmdk %s", d.path, raw);
        peer_same_file(raw, bytes, SIZE);
        if (zeroed_grain(kind))
            peer_run("qemu-img check -f vmdk %s/a.vmdk", d.path);
        /* Their turn, on our image; then ours again. */
        peer_run("qemu-io -f vmdk -c 'write -P 7 65000 200000' -c 'write -P 9 4194000 70000' %s/a.vmdk",
                 d.path);
        memset(bytes + 65000, 7, 200000);
        memset(bytes + 4194000, 9, 70000);
        folder_model(&f, "vmdk", "a.vmdk", rand, bytes, SIZE, 2);
    }
    g_rand_free(rand);
    peer_dir_gone(&d);
}

static void test_theirs(gconstpointer kind)
{
    struct peer_dir d = peer_dir();
    struct folder f = folder_of(&d);
    GRand *rand = g_rand_new_with_seed((guint32)g_test_rand_int());
    g_autofree uint8_t *bytes = g_malloc0(SIZE);
    if (peer_has("qemu-img")) {
        g_autofree char *raw = peer_path(&d, "raw");
        folder_random(rand, bytes + 70000, 1000000);
        g_assert_true(g_file_set_contents(raw, (char *)bytes, SIZE, NULL));
        peer_run("qemu-img convert -f raw -O vmdk -o subformat=%s%s %s %s/a.vmdk", (const char *)kind,
                 zeroed_grain(kind) ? ",zeroed_grain=on" : "", raw, d.path);
        folder_model(&f, "vmdk", "a.vmdk", rand, bytes, SIZE, 3);
        peer_run("qemu-img convert -f vmdk -O raw %s/a.vmdk %s", d.path, raw);
        peer_same_file(raw, bytes, SIZE);
        if (zeroed_grain(kind))
            peer_run("qemu-img check -f vmdk %s/a.vmdk", d.path);
    }
    g_rand_free(rand);
    peer_dir_gone(&d);
}

/* --- streams --- */

static const struct block_driver *vmdk(void)
{
    return block_driver_find("vmdk");
}

static void test_stream(void)
{
    struct peer_dir d = peer_dir();
    struct folder f = folder_of(&d);
    GRand *rand = g_rand_new_with_seed((guint32)g_test_rand_int());
    g_autofree uint8_t *bytes = g_malloc0(SIZE);
    const struct vmdk_options o = options_of("streamOptimized");
    for (uint64_t at = 0; at + 300000 < SIZE; at += 500000)
        folder_random(rand, bytes + at, 300000);
    folder_create(&f, "vmdk", "s.vmdk", SIZE, &o, NULL, NULL);
    AUTO(disk) b = folder_open(&f, "vmdk", "s.vmdk", false);
    const uint32_t grain = b->facts.cluster;
    g_assert_cmpuint(grain, ==, 65536);
    for (uint64_t at = 0; at < SIZE; at += grain)
        if (at / grain % 5)
            g_assert_cmpint(block_write_compressed(b, bytes + at, at, MIN(grain, SIZE - at)), ==, 0);
        else
            memset(bytes + at, 0, MIN(grain, SIZE - at));
    g_assert_cmpint(block_write_compressed(b, bytes + grain, grain, grain), ==, -EOPNOTSUPP);
    g_assert_cmpint(block_pwrite(b, bytes, 512, 0), ==, -EOPNOTSUPP);
    g_assert_cmpint(block_zero(b, grain, grain, 0), ==, -EOPNOTSUPP);
    g_assert_cmpint(block_zero(b, 0, grain, 0), ==, 0);
    peer_same(b, bytes, SIZE);
    g_assert_cmpint(block_seal(b), ==, 0);
    g_assert_cmpint(block_flush(b), ==, 0);
    g_assert_cmpint(block_write_compressed(b, bytes, 0, grain), ==, -EROFS);
    g_clear_pointer(&b, block_free);
    b = folder_open(&f, "vmdk", "s.vmdk", true);
    peer_same(b, bytes, SIZE);
    folder_check(b, false);
    g_clear_pointer(&b, block_free);
    g_autoptr(GError) error = NULL;
    g_assert_null(folder_try(&f, "vmdk", "s.vmdk", false, 0, &error));
    g_assert_nonnull(strstr(error->message, "written once"));
    if (peer_has("qemu-img")) {
        g_autofree char *raw = peer_path(&d, "raw");
        peer_run("qemu-img convert -f vmdk -O raw %s/s.vmdk %s", d.path, raw);
        peer_same_file(raw, bytes, SIZE);
        peer_run("qemu-img convert -f raw -O vmdk -o subformat=streamOptimized %s %s/t.vmdk", raw, d.path);
        AUTO(disk) t = folder_open(&f, "vmdk", "t.vmdk", true);
        peer_same(t, bytes, SIZE);
    }
    g_rand_free(rand);
    peer_dir_gone(&d);
}

/* Without its end a stream is refused, whichever part is missing. */
static void test_stream_cut(void)
{
    struct peer_dir d = peer_dir();
    struct folder f = folder_of(&d);
    const struct vmdk_options o = options_of("streamOptimized");
    g_autofree uint8_t *bytes = g_malloc0(65536);
    folder_create(&f, "vmdk", "s.vmdk", SIZE, &o, NULL, NULL);
    AUTO(disk) b = folder_open(&f, "vmdk", "s.vmdk", false);
    g_assert_cmpint(block_write_compressed(b, bytes, 65536, 65536), ==, 0);
    g_clear_pointer(&b, block_free);
    g_autoptr(GError) error = NULL;
    g_assert_null(folder_try(&f, "vmdk", "s.vmdk", true, 0, &error));
    g_assert_nonnull(strstr(error->message, "stream"));
    peer_dir_gone(&d);
}

/* --- backing files --- */

static void test_backing(void)
{
    struct peer_dir d = peer_dir();
    struct folder f = folder_of(&d);
    GRand *rand = g_rand_new_with_seed((guint32)g_test_rand_int());
    g_autofree uint8_t *bytes = g_malloc0(SIZE);
    folder_create(&f, "vmdk", "base.vmdk", SIZE, NULL, NULL, NULL);
    folder_model(&f, "vmdk", "base.vmdk", rand, bytes, SIZE, 1);
    struct vmdk_options o = options_of("monolithicSparse");
    o.zeroed_grain = g_rand_boolean(rand);
    folder_create(&f, "vmdk", "top.vmdk", SIZE, &o, "base.vmdk", "vmdk");
    folder_model(&f, "vmdk", "top.vmdk", rand, bytes, SIZE, 4);
    if (peer_has("qemu-img")) {
        g_autofree char *raw = peer_path(&d, "raw");
        peer_run("cd %s && qemu-img convert -f vmdk -O raw top.vmdk raw", d.path);
        peer_same_file(raw, bytes, SIZE);
        peer_run("cd %s && qemu-img create -f vmdk -b top.vmdk -F vmdk third.vmdk", d.path);
        folder_model(&f, "vmdk", "third.vmdk", rand, bytes, SIZE, 2);
        peer_run("cd %s && qemu-img convert -f vmdk -O raw third.vmdk raw", d.path);
        peer_same_file(raw, bytes, SIZE);
    }
    /* Who writes to the parent makes its child useless. */
    AUTO(disk) base = folder_open(&f, "vmdk", "base.vmdk", false);
    g_assert_cmpint(block_pwrite(base, bytes, 512, 0), ==, 0);
    g_clear_pointer(&base, block_free);
    g_autoptr(GError) error = NULL;
    g_assert_null(folder_try(&f, "vmdk", "top.vmdk", true, 0, &error));
    g_assert_nonnull(strstr(error->message, "written to since"));
    g_rand_free(rand);
    peer_dir_gone(&d);
}

/* Nothing is opened that nobody allowed. */
static void test_alone(void)
{
    struct peer_dir d = peer_dir();
    struct folder f = folder_of(&d);
    const struct vmdk_options o = options_of("monolithicFlat");
    folder_create(&f, "vmdk", "a.vmdk", SIZE, &o, NULL, NULL);
    struct block_config config = {.name = "a.vmdk", .fd = folder_fd(d.path, "a.vmdk", O_RDWR)};
    g_autoptr(GError) error = NULL;
    g_assert_null(block_open(vmdk(), &config, &error));
    g_assert_nonnull(strstr(error->message, "a-flat.vmdk"));
    peer_dir_gone(&d);
}

/* --- size --- */

static void test_resize(gconstpointer kind)
{
    struct peer_dir d = peer_dir();
    struct folder f = folder_of(&d);
    const struct vmdk_options o = options_of(kind);
    static const uint64_t sizes[] = {1 * MiB + 512, 40 * MiB, 5 * GiB, 300 * GiB};
    uint8_t byte = 0;
    folder_create(&f, "vmdk", "a.vmdk", sizes[0], &o, NULL, NULL);
    for (unsigned i = 1; i < ARRAY_SIZE(sizes); i++) {
        AUTO(disk) b = folder_open(&f, "vmdk", "a.vmdk", false);
        g_assert_cmpuint(b->facts.size, ==, sizes[i - 1]);
        g_assert_cmpint(block_resize(b, sizes[i]), ==, 0);
        g_assert_cmpint(block_pread(b, &byte, 1, sizes[i - 1]), ==, 0);
        g_assert_cmpuint(byte, ==, 0);
        byte = (uint8_t)i;
        g_assert_cmpint(block_pwrite(b, &byte, 1, sizes[i] - 1), ==, 0);
        g_assert_cmpint(block_flush(b), ==, 0);
    }
    AUTO(disk) b = folder_open(&f, "vmdk", "a.vmdk", true);
    for (unsigned i = 1; i < ARRAY_SIZE(sizes); i++) {
        g_assert_cmpint(block_pread(b, &byte, 1, sizes[i] - 1), ==, 0);
        g_assert_cmpuint(byte, ==, i);
    }
    folder_check(b, true);
    if (peer_has("qemu-img")) {
        g_clear_pointer(&b, block_free);
        g_autofree char *size = g_strdup_printf("%" G_GUINT64_FORMAT " 1", sizes[2] - 1);
        peer_run("qemu-io -r -f vmdk -c 'read -P 2 %s' %s/a.vmdk | tee /dev/stderr | grep -q -v -i fail",
                 size, d.path);
    }
    peer_dir_gone(&d);
}

/* An operation over the seam of two extents. */
static void test_seam(gconstpointer kind)
{
    struct peer_dir d = peer_dir();
    struct folder f = folder_of(&d);
    const struct vmdk_options o = options_of(kind);
    const uint64_t at = 2 * GiB - 100000;
    g_autofree uint8_t *bytes = g_malloc(300000), *back = g_malloc(300000);
    memset(bytes, 0x5a, 300000);
    folder_create(&f, "vmdk", "a.vmdk", 5 * GiB, &o, NULL, NULL);
    AUTO(disk) b = folder_open(&f, "vmdk", "a.vmdk", false);
    g_assert_cmpint(block_pwrite(b, bytes, 300000, at), ==, 0);
    g_assert_cmpint(block_pwrite(b, bytes, 512, 5 * GiB - 512), ==, 0);
    g_assert_cmpint(block_zero(b, 2 * GiB - 512, 1024, 0), ==, 0);
    memset(bytes + 100000 - 512, 0, 1024);
    g_clear_pointer(&b, block_free);
    b = folder_open(&f, "vmdk", "a.vmdk", true);
    g_assert_cmpint(block_pread(b, back, 300000, at), ==, 0);
    g_assert_cmpmem(bytes, 300000, back, 300000);
    g_clear_pointer(&b, block_free);
    if (peer_has("qemu-io")) {
        peer_run("! qemu-io -r -f vmdk -c 'read -P 0x5a 2147383648 99488' -c 'read -P 0 2147483136 1024' "
                 "-c 'read -P 0x5a 5368708608 512' %s/a.vmdk | grep -qi fail",
                 d.path);
    }
    peer_dir_gone(&d);
}

/* --- what it says of itself --- */

static void test_info(void)
{
    struct peer_dir d = peer_dir();
    struct folder f = folder_of(&d);
    g_autofree char *path = peer_path(&d, "a.vmdk");
    if (peer_has("qemu-img"))
        for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++) {
            const struct vmdk_options o = options_of(kinds[i]);
            struct block_image_info info = {0};
            folder_create(&f, "vmdk", "a.vmdk", 3 * GiB, &o, NULL, NULL);
            AUTO(disk) b = folder_open(&f, "vmdk", "a.vmdk", true);
            g_assert_true(vmdk()->image->info(b, &info, NULL));
            g_clear_pointer(&b, block_free);
            g_autofree char *text = peer_output("qemu-img info -f vmdk --output json %s", path);
            json_t *whole = json_loads(text, 0, NULL);
            json_t *theirs = json_object_get(
                json_object_get(json_object_get(whole, "format-specific"), "data"), "extents");
            json_t *ours = json_object_get(info.specific, "extents");
            g_assert_cmpuint(json_array_size(theirs), ==, json_array_size(ours));
            for (size_t n = 0; n < json_array_size(ours); n++) { /* they say the whole path */
                json_object_del(json_array_get(theirs, n), "filename");
                json_object_del(json_array_get(ours, n), "filename");
            }
            g_assert_true(json_equal(theirs, ours));
            json_t *data = json_object_get(json_object_get(whole, "format-specific"), "data");
            json_object_del(data, "extents");
            json_object_del(info.specific, "extents");
            g_assert_true(json_equal(data, info.specific));
            json_decref(whole);
            block_image_info_clear(&info);
            peer_run("rm %s/a*.vmdk", d.path);
        }
    peer_dir_gone(&d);
}

/* --- ESX's extents, which nobody here writes: made by hand --- */

static void put(int fd, const void *bytes, size_t size, uint64_t at)
{
    g_assert_cmpint(pwrite(fd, bytes, size, (off_t)at), ==, (ssize_t)size);
}

/* A disk of 64 sectors in grains of 8, of which the second has 0x55 and the third, where the format says such
 * things, is zero. */
static void check_esx(struct folder *f, const char *type, const char *create, bool writable)
{
    uint8_t bytes[4096];
    g_autofree char *text = g_strdup_printf("# Disk DescriptorFile\nversion=1\nCID=00000001\n"
                                            "parentCID=ffffffff\ncreateType=\"%s\"\nRW 64 %s \"x\"\n",
                                            create, type);
    int fd = folder_fd(f->path, "esx.vmdk", O_RDWR | O_CREAT | O_TRUNC);
    put(fd, text, strlen(text), 0);
    close(fd);
    AUTO(disk) b = folder_open(f, "vmdk", "esx.vmdk", true);
    g_assert_cmpuint(b->facts.size, ==, 32768);
    for (uint64_t at = 0; at < 32768; at += 4096) {
        g_assert_cmpint(block_pread(b, bytes, 4096, at), ==, 0);
        for (unsigned i = 0; i < 4096; i++)
            g_assert_cmpuint(bytes[i], ==, at == 4096 ? 0x55 : 0);
    }
    folder_check(b, true);
    g_clear_pointer(&b, block_free);
    if (peer_has("qemu-img"))
        peer_run("cd %s && qemu-img convert -f vmdk -O raw esx.vmdk r1 && printf '%%4096s' '' >r2 && "
                 "tail -c +4097 r1 | head -c 4096 | tr U ' ' | cmp - r2",
                 f->path);
    g_autoptr(GError) error = NULL;
    b = folder_try(f, "vmdk", "esx.vmdk", false, BLOCK_OPEN_SHARED, &error);
    g_assert_true(writable == (b != NULL));
}

static void test_vmfs(void)
{
    struct peer_dir d = peer_dir();
    struct folder f = folder_of(&d);
    uint8_t bytes[32768] = {0};
    int fd = folder_fd(d.path, "x", O_RDWR | O_CREAT);
    memset(bytes + 4096, 0x55, 4096);
    put(fd, bytes, sizeof(bytes), 0);
    close(fd);
    check_esx(&f, "VMFS", "vmfs", true);
    peer_dir_gone(&d);
}

static void test_cowd(void)
{
    struct peer_dir d = peer_dir();
    struct folder f = folder_of(&d);
    uint8_t head[2048] = {0}, grain[4096];
    uint32_t entry = htole32(8), second = htole32(64);
    int fd = folder_fd(d.path, "x", O_RDWR | O_CREAT);
    const uint32_t numbers[] = {0x44574f43, 1, 3, 64, 8, 4, 1, 80};
    for (unsigned i = 0; i < ARRAY_SIZE(numbers); i++)
        st32le(head + i * 4, numbers[i]);
    memset(grain, 0x55, sizeof(grain));
    put(fd, head, sizeof(head), 0);
    put(fd, &entry, 4, 2048);      /* the directory: a table of 16 KiB at sector 8 */
    put(fd, &second, 4, 4096 + 4); /* its second entry */
    put(fd, grain, 4096, 64 * 512);
    close(fd);
    check_esx(&f, "VMFSSPARSE", "vmfsSparse", false);
    peer_dir_gone(&d);
}

static void test_sesparse(void)
{
    struct peer_dir d = peer_dir();
    struct folder f = folder_of(&d);
    uint8_t head[512] = {0}, now[512] = {0}, grain[4096];
    int fd = folder_fd(d.path, "x", O_RDWR | O_CREAT);
    const uint64_t numbers[] = {0xcafebabe, UINT64_C(0x200000001),
                                64,         8,
                                64,         0,
                                0,          0,
                                0,          0,
                                1,          1,
                                2,          2,
                                2048,       2048,
                                4096,       64,
                                4160,       64,
                                4224,       64,
                                4288,       64,
                                4352,       64};
    for (unsigned i = 0; i < ARRAY_SIZE(numbers); i++)
        st64le(head + i * 8, numbers[i]);
    st64le(now, 0xcafecafe);
    memset(grain, 0x55, sizeof(grain));
    put(fd, head, sizeof(head), 0);
    put(fd, now, sizeof(now), 512);
    const uint64_t directory = htole64(UINT64_C(0x1000000000000000));
    const uint64_t table[] = {0, htole64(UINT64_C(0x3000000000000000) | UINT64_C(3) << 48),
                              htole64(UINT64_C(0x2000000000000000))};
    const uint8_t last = 0;
    put(fd, &directory, 8, 4096 * 512);
    put(fd, table, sizeof(table), 4160 * 512);
    put(fd, grain, 4096, 4352 * 512 + 3 * 4096);
    put(fd, &last, 1, 4480 * 512);
    close(fd);
    check_esx(&f, "SESPARSE", "seSparse", false);
    peer_dir_gone(&d);
}

/* --- the rest --- */

static void test_threads(gconstpointer kind)
{
    struct peer_dir d = peer_dir();
    struct folder f = folder_of(&d);
    const uint64_t size = 8 * 1024 * FOLDER_PIECE / 16;
    const struct vmdk_options o = options_of(kind);
    folder_create(&f, "vmdk", "a.vmdk", size, &o, NULL, NULL);
    folder_threads(&f, "vmdk", "a.vmdk", size);
    peer_dir_gone(&d);
}

static void test_hostile(void)
{
    struct peer_dir d = peer_dir();
    struct folder f = folder_of(&d);
    const struct vmdk_options o = options_of("streamOptimized"), text = options_of("monolithicFlat");
    uint8_t byte = 1;
    folder_create(&f, "vmdk", "a.vmdk", 2 * MiB, NULL, NULL, NULL);
    AUTO(disk) b = folder_open(&f, "vmdk", "a.vmdk", false);
    g_assert_cmpint(block_pwrite(b, &byte, 1, 65536), ==, 0);
    g_clear_pointer(&b, block_free);
    folder_hostile(&f, "vmdk", "a.vmdk", 1024);
    folder_create(&f, "vmdk", "s.vmdk", 2 * MiB, &o, NULL, NULL);
    folder_hostile(&f, "vmdk", "s.vmdk", 80);
    folder_create(&f, "vmdk", "t.vmdk", 2 * MiB, &text, NULL, NULL);
    folder_hostile(&f, "vmdk", "t.vmdk", 256);
    peer_dir_gone(&d);
}

/* What is wrong is found, and mended. */
static void test_check(void)
{
    struct peer_dir d = peer_dir();
    struct folder f = folder_of(&d);
    g_autoptr(GError) error = NULL;
    g_autofree uint8_t *bytes = g_malloc0(4 * 65536);
    folder_create(&f, "vmdk", "a.vmdk", 2 * MiB, NULL, NULL, NULL);
    AUTO(disk) b = folder_open(&f, "vmdk", "a.vmdk", false);
    memset(bytes, 3, 4 * 65536);
    g_assert_cmpint(block_pwrite(b, bytes, 4 * 65536, 0), ==, 0);
    const uint64_t table = vmdk_of(b)->grains.extents[0].gd[0];
    g_clear_pointer(&b, block_free);
    int fd = folder_fd(d.path, "a.vmdk", O_RDWR);
    uint32_t entries[4];
    g_assert_cmpint(pread(fd, entries, 16, (off_t)table), ==, 16);
    entries[1] = entries[0];         /* two owners; and what was the second's is nobody's */
    entries[2] = htole32(0x7000000); /* far behind the end */
    put(fd, entries, 16, table);
    close(fd);
    b = folder_try(&f, "vmdk", "a.vmdk", false, BLOCK_OPEN_REPAIR, &error);
    g_assert_no_error(error);
    struct block_check check = {0};
    g_assert_true(vmdk()->image->check(b, BLOCK_FIX_LEAKS | BLOCK_FIX_ERRORS, &check, &error));
    g_assert_cmpuint(check.corruptions, ==, 2);
    g_assert_cmpuint(check.leaks, ==, 3); /* two grains, and the redundant table */
    g_assert_cmpuint(check.corruptions_fixed, ==, 1);
    g_clear_pointer(&b, block_free);
    peer_dir_gone(&d);
}

/* A directory that names one table over and over is not walked for as long as it would like. */
static void test_check_same_table(void)
{
    enum { TABLES = 64, CAPACITY = TABLES * 4096 * 8 };
    struct peer_dir d = peer_dir();
    struct folder f = folder_of(&d);
    g_autoptr(GError) error = NULL;
    uint8_t head[2048 + TABLES * 4] = {0};
    const uint32_t numbers[] = {0x44574f43, 1, 3, CAPACITY, 8, 4, TABLES, 80};
    for (unsigned i = 0; i < ARRAY_SIZE(numbers); i++)
        st32le(head + i * 4, numbers[i]);
    for (unsigned i = 0; i < TABLES; i++)
        st32le(head + 2048 + i * 4, 8);
    int fd = folder_fd(d.path, "a.vmdk", O_RDWR | O_CREAT);
    put(fd, head, sizeof(head), 0);
    g_assert_cmpint(ftruncate(fd, 4096 + 2 * 16384), ==, 0); /* room for two of them */
    close(fd);
    AUTO(disk) b = folder_open(&f, "vmdk", "a.vmdk", true);
    struct block_check check = {0};
    g_assert_true(vmdk()->image->check(b, 0, &check, &error));
    g_assert_cmpuint(check.corruptions, ==, 1);
    g_clear_pointer(&b, block_free);
    peer_dir_gone(&d);
}

/* The redundant directory is good for reading when the first one is damaged. */
static void test_second(void)
{
    struct peer_dir d = peer_dir();
    struct folder f = folder_of(&d);
    struct block_check check = {0};
    g_autofree uint8_t *bytes = g_malloc0(SIZE);
    memset(bytes + 70000, 6, 100000);
    folder_create(&f, "vmdk", "a.vmdk", SIZE, NULL, NULL, NULL);
    AUTO(disk) b = folder_open(&f, "vmdk", "a.vmdk", false);
    g_assert_cmpint(block_pwrite(b, bytes, SIZE, 0), ==, 0);
    const uint64_t at = vmdk_of(b)->grains.extents[0].gd_at;
    g_clear_pointer(&b, block_free);
    int fd = folder_fd(d.path, "a.vmdk", O_RDWR);
    put(fd, "\xff\xff\xff\xff", 4, at);
    close(fd);
    g_autoptr(GError) error = NULL;
    g_assert_null(folder_try(&f, "vmdk", "a.vmdk", false, 0, &error));
    b = folder_open(&f, "vmdk", "a.vmdk", true);
    peer_same(b, bytes, SIZE);
    g_assert_true(vmdk()->image->check(b, 0, &check, NULL));
    g_assert_cmpuint(check.corruptions, ==, 1);
    peer_dir_gone(&d);
}

/* A line is short, and what it names may be large: all of it together has a bound. */
static void test_many(void)
{
    struct peer_dir d = peer_dir();
    struct folder f = folder_of(&d);
    g_autoptr(GString) text =
        g_string_new("# Disk DescriptorFile\nCID=1\ncreateType=\"twoGbMaxExtentSparse\"\n");
    folder_create(&f, "vmdk", "x", UINT64_C(8) << 40, NULL, NULL, NULL);
    for (unsigned i = 0; i < 500; i++)
        g_string_append_printf(text, "RW %" G_GUINT64_FORMAT " SPARSE \"x\"\n", (UINT64_C(8) << 40) / 512);
    int fd = folder_fd(d.path, "a.vmdk", O_RDWR | O_CREAT);
    put(fd, text->str, text->len, 0);
    close(fd);
    g_autoptr(GError) error = NULL;
    g_assert_null(folder_try(&f, "vmdk", "a.vmdk", true, BLOCK_OPEN_SHARED, &error));
    g_assert_nonnull(strstr(error->message, "more grain tables"));
    peer_dir_gone(&d);
}

/* What is measured is what it takes. */
static void test_measure(void)
{
    static const char *const all[] = {"monolithicSparse", "streamOptimized"};
    struct peer_dir d = peer_dir();
    struct folder f = folder_of(&d);
    g_autofree uint8_t *bytes = g_malloc(200000);
    GRand *rand = g_rand_new_with_seed(1);
    for (unsigned i = 0; i < 200000; i++)
        bytes[i] = (uint8_t)g_rand_int(rand);
    for (unsigned i = 0; i < ARRAY_SIZE(all); i++) {
        const struct vmdk_options o = options_of(all[i]);
        struct block_measure m;
        folder_create(&f, "vmdk", all[i], SIZE, &o, NULL, NULL);
        AUTO(disk) source = folder_open(&f, "vmdk", all[0], false);
        AUTO(disk) target = i ? folder_open(&f, "vmdk", all[i], false) : NULL;
        struct disk *b = target ? target : source;
        const struct block_create c = {.name = "new", .size = SIZE, .options = &o};
        for (uint64_t at = 0; at < 196608; at += 65536) {
            g_assert_cmpint(block_pwrite(b, bytes, 65536, at + 131072), ==, 0);
            if (target)
                g_assert_cmpint(block_pwrite(source, bytes, 65536, at + 131072), ==, 0);
        }
        g_assert_cmpint(block_seal(b), ==, 0);
        g_assert_true(vmdk()->image->measure(&c, source, &m, NULL));
        const uint64_t size = b->below->facts.size;
        g_assert_cmpuint(size, <=, m.required);
        g_assert_cmpuint(m.required - size, <, 16384);
        g_assert_cmpuint(m.full, >=, m.required);
    }
    g_rand_free(rand);
    peer_dir_gone(&d);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++) {
        static const struct {
            const char *name;
            GTestDataFunc run;
        } tests[] = {{"ours", test_ours}, {"theirs", test_theirs}, {"threads", test_threads}};
        for (unsigned t = 0; t < ARRAY_SIZE(tests); t++) {
            g_autofree char *path = g_strdup_printf("/block/vmdk/%s/%s", kinds[i], tests[t].name);
            g_test_add_data_func(path, kinds[i], tests[t].run);
        }
    }
    g_test_add_data_func("/block/vmdk/seam/sparse", kinds[2], test_seam);
    g_test_add_data_func("/block/vmdk/seam/flat", kinds[3], test_seam);
    g_test_add_data_func("/block/vmdk/resize/sparse", kinds[0], test_resize);
    g_test_add_data_func("/block/vmdk/resize/flat", kinds[1], test_resize);
    g_test_add_func("/block/vmdk/stream", test_stream);
    g_test_add_func("/block/vmdk/stream/cut", test_stream_cut);
    g_test_add_func("/block/vmdk/backing", test_backing);
    g_test_add_func("/block/vmdk/alone", test_alone);
    g_test_add_func("/block/vmdk/info", test_info);
    g_test_add_func("/block/vmdk/vmfs", test_vmfs);
    g_test_add_func("/block/vmdk/cowd", test_cowd);
    g_test_add_func("/block/vmdk/sesparse", test_sesparse);
    g_test_add_func("/block/vmdk/check", test_check);
    g_test_add_func("/block/vmdk/check-same-table", test_check_same_table);
    g_test_add_func("/block/vmdk/hostile", test_hostile);
    g_test_add_func("/block/vmdk/many", test_many);
    g_test_add_func("/block/vmdk/measure", test_measure);
    g_test_add_func("/block/vmdk/second", test_second);
    return g_test_run();
}
