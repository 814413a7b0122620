/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Amending qcow2 images: between versions, with what one of them cannot say, lazy refcounts on and off. */
#include <errno.h>
#include <glib.h>
#include <string.h>

#include "base/bits.h"
#include "base/byteorder.h"
#include "qcow2_rig.h"

enum { SIZE = 3 << 20 };

static void amend(const char *path, const char *compat, const char *lazy)
{
    g_autoptr(GError) error = NULL;
    AUTO(disk) b = qcow2_at(path, false, NULL);
    const char *const values[2] = {compat, lazy};
    g_assert_cmpuint(b->driver->image->amend_options_size, ==, sizeof(values));
    b->driver->image->amend(b, values, &error);
    g_assert_no_error(error);
}

static bool refused(const char *path, const char *compat, const char *lazy, const char *word)
{
    g_autoptr(GError) error = NULL;
    AUTO(disk) b = qcow2_at(path, false, NULL);
    const char *const values[2] = {compat, lazy};
    return !b->driver->image->amend(b, values, &error) && strstr(error->message, word);
}

static void check(const char *path, unsigned version, bool lazy, const uint8_t *bytes)
{
    uint8_t head[104] = {0};
    int fd = g_open(path, O_RDONLY | O_CLOEXEC);
    g_assert_cmpint(read(fd, head, sizeof(head)), ==, sizeof(head));
    close(fd);
    g_assert_cmpuint(ld32be(head + 4), ==, version);
    if (version == 3)
        g_assert_cmpuint(ld64be(head + 80) & 1, ==, lazy);
    qcow2_clean(path);
    AUTO(disk) b = qcow2_at(path, false, NULL);
    peer_same(b, bytes, SIZE);
}

static void test_versions(gconstpointer options)
{
    struct peer_dir d = peer_dir();
    g_autofree char *path = peer_path(&d, "a.qcow2");
    g_autofree uint8_t *bytes = g_malloc0(SIZE);
    qcow2_make(path, SIZE, options);
    struct disk *b = qcow2_at(path, false, NULL);
    for (unsigned i = 0; i < 2 * MiB; i++)
        bytes[i] = (uint8_t)(i / 100);
    g_assert_cmpint(block_pwrite(b, bytes, 2 * MiB, 0), ==, 0);
    block_free(b);
    check(path, 2, false, bytes);
    g_assert_true(refused(path, NULL, "on", "compat=1.1"));
    amend(path, "1.1", "on");
    check(path, 3, true, bytes);
    b = qcow2_at(path, false, NULL);
    g_assert_cmpint(block_zero(b, 100 * KiB, MiB, 0), ==, 0);
    g_assert_cmpint(block_zero(b, 2 * MiB + 512, 512 * KiB, 0), ==, 0);
    memset(bytes + 100 * KiB, 0, MiB);
    block_free(b);
    check(path, 3, true, bytes);
    amend(path, NULL, "off");
    check(path, 3, false, bytes);
    amend(path, "v3", NULL);
    amend(path, NULL, "on");
    amend(path, "0.10", NULL);
    check(path, 2, false, bytes);
    amend(path, "v2", "off");
    check(path, 2, false, bytes);
    peer_dir_gone(&d);
}

/* Zero clusters over a backing file hide what it has, also as version 2. */
static void test_backing(void)
{
    if (!peer_has("qemu-img"))
        return;
    struct peer_dir d = peer_dir();
    g_autofree char *path = peer_path(&d, "a.qcow2"), *base = peer_path(&d, "base.raw"),
                    *raw = peer_path(&d, "a.raw");
    g_autofree uint8_t *bytes = g_malloc(SIZE);
    memset(bytes, 0x55, SIZE);
    g_assert_true(g_file_set_contents(base, (char *)bytes, SIZE, NULL));
    peer_run("qemu-img create -q -f qcow2 -F raw -b %s %s && qemu-io -f qcow2 -c 'write -z 64K 256K' %s",
             base, path, path);
    memset(bytes + 64 * KiB, 0, 256 * KiB);
    struct block_config lower = {.name = "base", .fd = g_open(base, O_RDONLY | O_CLOEXEC), .readonly = true};
    struct block_config config = {.name = "image",
                                  .fd = g_open(path, O_RDWR | O_CLOEXEC),
                                  .base = block_open(block_driver_find("raw"), &lower, NULL)};
    AUTO(disk) b = block_open(block_driver_find("qcow2"), &config, NULL);
    g_assert_nonnull(b);
    const char *const values[2] = {"0.10", NULL};
    g_assert_true(b->driver->image->amend(b, values, NULL));
    peer_same(b, bytes, SIZE);
    block_free(STEAL(b));
    qcow2_clean(path);
    peer_run("qemu-img convert -f qcow2 -O raw %s %s", path, raw);
    peer_same_file(raw, bytes, SIZE);
    peer_dir_gone(&d);
}

static void test_refused(void)
{
    static const struct {
        const char *options, *word;
    } cases[] = {
        {"--refcount_bits=1", "16 bits"},
        {"--extended_l2=on", "extended L2"},
        {"--compression_type=zstd", "zstd"},
    };
    struct peer_dir d = peer_dir();
    g_autofree char *path = peer_path(&d, "a.qcow2");
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        qcow2_make(path, SIZE, cases[i].options);
        g_assert_true(refused(path, "0.10", NULL, cases[i].word));
    }
    qcow2_make(path, SIZE, "");
    struct disk *b = qcow2_at(path, false, NULL);
    g_assert_true(b->driver->image->bitmap_add(b, "one", 0, true, NULL));
    block_free(b);
    g_assert_true(refused(path, "0.10", NULL, "bitmaps"));
    b = qcow2_at(path, false, NULL);
    g_assert_true(b->driver->image->bitmap_remove(b, "one", NULL));
    g_assert_true(b->driver->image->snapshot_create(b, "one", NULL));
    block_free(b);
    g_assert_true(refused(path, "0.10", NULL, "snapshots"));
    qcow2_clean(path);
    peer_dir_gone(&d);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_data_func("/qcow2-amend/versions/plain", "--compat=0.10", test_versions);
    g_test_add_data_func("/qcow2-amend/versions/small", "--compat=0.10 --cluster_size=4K", test_versions);
    g_test_add_func("/qcow2-amend/backing", test_backing);
    g_test_add_func("/qcow2-amend/refused", test_refused);
    return g_test_run();
}
