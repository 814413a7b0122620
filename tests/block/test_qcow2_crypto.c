/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Encrypted qcow2 images, both ways with qemu-img: LUKS, and the AES of old images. */
#include <errno.h>
#include <glib.h>
#include <pthread.h>
#include <string.h>

#include "base/bits.h"
#include "qcow2_rig.h"

enum { SIZE = (2 << 20) + 1024 };

static const char secret[] = "--object secret,id=s,data='open sesame'";

static uint8_t *noise(size_t size)
{
    uint8_t *bytes = g_malloc(size);
    for (size_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)g_test_rand_int();
    return bytes;
}

/* Pieces of odd sizes, some of them twice. */
static void scatter(struct disk *b, uint8_t *model)
{
    g_autofree uint8_t *bytes = noise(256 * KiB);
    for (unsigned i = 0; i < 60; i++) {
        const uint64_t at = (uint64_t)g_test_rand_int_range(0, SIZE / 512) * 512;
        const uint64_t wish = (uint64_t)g_test_rand_int_range(1, 300) * 512, size = MIN(wish, SIZE - at);
        memcpy(model + at, bytes + i * 512, size);
        g_assert_cmpint(block_pwrite(b, bytes + i * 512, size, at), ==, 0);
    }
}

static void test_to_qemu(gconstpointer options)
{
    struct peer_dir d = peer_dir();
    g_autofree char *path = peer_path(&d, "a.qcow2"), *raw = peer_path(&d, "a.raw");
    g_autofree uint8_t *model = g_malloc0(SIZE);
    qcow2_make(path, SIZE, options);
    struct disk *b = qcow2_at(path, false, NULL);
    g_assert_cmpuint(b->facts.alignment, ==, 512);
    peer_same(b, model, SIZE); /* what was never written is zeroes */
    scatter(b, model);
    peer_same(b, model, SIZE);
    block_free(b);
    qcow2_clean(path);
    if (peer_has("qemu-img")) {
        g_autofree char *how = qcow2_qemu(path);
        peer_run("qemu-img convert %s -O raw %s", how, raw);
        peer_same_file(raw, model, SIZE);
    }
    peer_dir_gone(&d);
}

static void test_from_qemu(gconstpointer options)
{
    if (!peer_has("qemu-img"))
        return;
    struct peer_dir d = peer_dir();
    g_autofree char *path = peer_path(&d, "a.qcow2"), *raw = peer_path(&d, "a.raw");
    g_autofree uint8_t *model = noise(SIZE);
    g_file_set_contents(raw, (char *)model, SIZE, NULL);
    peer_run("for i in $(seq 50); do qemu-img convert %s -f raw -O qcow2 -o %s,encrypt.key-secret=s %s %s "
             "&& exit 0; done; exit 1",
             secret, (const char *)options, raw, path);
    const bool old = strstr(options, "aes");
    g_autoptr(GError) error = NULL;
    if (old) {
        g_assert_null(qcow2_try(path, false, NULL, 0, &error));
        g_assert_nonnull(strstr(error->message, "only read"));
    }
    struct disk *b = qcow2_at(path, old, NULL);
    peer_same(b, model, SIZE);
    if (!old)
        scatter(b, model);
    block_free(b);
    qcow2_clean(path);
    g_autofree char *how = qcow2_qemu(path);
    peer_run("qemu-img convert %s -O raw %s", how, raw);
    peer_same_file(raw, model, SIZE);
    peer_dir_gone(&d);
}

static struct disk *open_with(const char *path, const char *key, unsigned flags, GError **error)
{
    struct block_config config = {.name = "image",
                                  .fd = g_open(path, O_RDWR | O_CLOEXEC),
                                  .key = (const uint8_t *)key,
                                  .key_size = key ? strlen(key) : 0,
                                  .flags = flags};
    return block_open(block_driver_find("qcow2"), &config, error);
}

static void test_keys(void)
{
    struct peer_dir d = peer_dir();
    g_autofree char *path = peer_path(&d, "a.qcow2");
    g_autoptr(GError) error = NULL;
    uint8_t bytes[512] = {0};
    qcow2_make(path, SIZE, "--encrypt.format=luks --encrypt.iter-time=1");
    block_free(open_with(path, "open sesame", 0, &error));
    g_assert_no_error(error);
    g_assert_null(open_with(path, "open sesam", 0, &error));
    g_assert_nonnull(strstr(error->message, "passphrase"));
    g_clear_error(&error);
    g_assert_null(open_with(path, NULL, 0, &error));
    g_assert_nonnull(strstr(error->message, "encrypted"));
    g_clear_error(&error);
    AUTO(disk) b = open_with(path, NULL, BLOCK_OPEN_KEYLESS, &error);
    g_assert_no_error(error);
    g_assert_cmpint(block_pwrite(b, bytes, sizeof(bytes), 0), ==, -EACCES);
    g_assert_cmpint(block_pread(b, bytes, sizeof(bytes), 0), ==, 0); /* nothing is there */
    g_assert_true(b->driver->image->snapshot_create(b, "one", &error));
    peer_dir_gone(&d);
}

/* No byte that was written is in the file. */
static void test_hidden(void)
{
    struct peer_dir d = peer_dir();
    g_autofree char *path = peer_path(&d, "a.qcow2"), *file = NULL;
    uint8_t bytes[4096];
    gsize size = 0;
    memset(bytes, 'S', sizeof(bytes));
    qcow2_make(path, SIZE, "--encrypt.format=luks --encrypt.iter-time=1");
    struct disk *b = qcow2_at(path, false, NULL);
    for (unsigned i = 0; i < 20; i++)
        g_assert_cmpint(block_pwrite(b, bytes, 512 + i * 128 / 512 * 512, i * 9 * 4096), ==, 0);
    block_free(b);
    g_assert_true(g_file_get_contents(path, &file, &size, NULL));
    g_assert_null(memmem(file, size, bytes, 16));
    peer_dir_gone(&d);
}

/* What `info` tells is what QEMU tells. */
static void test_info(void)
{
    struct peer_dir d = peer_dir();
    g_autofree char *path = peer_path(&d, "a.qcow2");
    qcow2_make(path, SIZE, "--encrypt.format=luks --encrypt.iter-time=1");
    AUTO(disk) b = qcow2_at(path, true, NULL);
    struct block_image_info info = {0};
    if (b->driver->image->info && peer_has("qemu-img")) {
        g_assert_true(b->driver->image->info(b, &info, NULL));
        block_free(STEAL(b));
        g_autofree char *text = peer_output("qemu-img info --output=json -f qcow2 %s", path);
        json_t *told = json_loads(text, 0, NULL);
        json_t *data = json_object_get(json_object_get(told, "format-specific"), "data");
        g_assert_nonnull(json_object_get(data, "encrypt"));
        g_assert_true(
            json_equal(json_object_get(data, "encrypt"), json_object_get(info.specific, "encrypt")));
        g_assert_true(info.encrypted);
        json_decref(told);
        block_image_info_clear(&info);
    }
    peer_dir_gone(&d);
}

/* Each number of the extension, and of the LUKS header behind it. */
static void test_damage(void)
{
    static const uint32_t values[] = {0, 1, 0x10000, 0x7fffffff, 0x80000000, UINT32_MAX};
    struct peer_dir d = peer_dir();
    g_autofree char *path = peer_path(&d, "a.qcow2"), *whole = NULL;
    gsize size = 0;
    qcow2_make(path, SIZE, "--encrypt.format=luks --encrypt.iter-time=1 --encrypt.cipher-alg=aes-128");
    if (!g_file_get_contents(path, &whole, &size, NULL) || !whole || size < 4096)
        g_error("%s is not there", path);
    const char mark[] = {0x05, 0x37, (char)0xbe, 0x77, 0, 0, 0, 16};
    const char *extension = memmem(whole, MIN(size, 4096), mark, sizeof(mark));
    const char *header = memmem(whole, size, "LUKS\xba\xbe", 6);
    g_assert_true(extension && header);
    const size_t places[] = {(size_t)(extension - whole) + 8,  (size_t)(extension - whole) + 12,
                             (size_t)(extension - whole) + 16, (size_t)(extension - whole) + 20,
                             (size_t)(extension - whole) + 4,  (size_t)(header - whole) + 104,
                             (size_t)(header - whole) + 108,   (size_t)(header - whole) + 208};
    int fd = g_open(path, O_RDWR | O_CLOEXEC);
    for (unsigned p = 0; p < ARRAY_SIZE(places); p++)
        for (unsigned v = 0; v < ARRAY_SIZE(values); v++) {
            const uint32_t value = GUINT32_TO_BE(values[v]);
            g_assert_cmpint(pwrite(fd, &value, 4, (off_t)places[p]), ==, 4);
            AUTO(disk) b = qcow2_try(path, false, NULL, 0, NULL);
            block_free(STEAL(b));
            g_assert_cmpint(pwrite(fd, whole + places[p], 4, (off_t)places[p]), ==, 4);
        }
    close(fd);
    block_free(qcow2_at(path, false, NULL));
    peer_dir_gone(&d);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    static const struct {
        const char *name, *ours, *theirs;
    } kinds[] = {
        {"xts", "--encrypt.format=luks --encrypt.iter-time=1", "encrypt.format=luks,encrypt.iter-time=100"},
        {"cbc",
         "--encrypt.format=luks --encrypt.iter-time=1 --encrypt.cipher-mode=cbc --encrypt.ivgen-alg=essiv "
         "--encrypt.cipher-alg=aes-128 --cluster_size=4K",
         NULL},
        {"extended", "--encrypt.format=luks --encrypt.iter-time=1 --extended_l2=on", NULL},
        {"old", NULL, "encrypt.format=aes"},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++) {
        g_autofree char *to = g_strdup_printf("/qcow2-crypto/to-qemu/%s", kinds[i].name);
        g_autofree char *from = g_strdup_printf("/qcow2-crypto/from-qemu/%s", kinds[i].name);
        if (kinds[i].ours)
            g_test_add_data_func(to, kinds[i].ours, test_to_qemu);
        if (kinds[i].theirs)
            g_test_add_data_func(from, kinds[i].theirs, test_from_qemu);
    }
    g_test_add_func("/qcow2-crypto/keys", test_keys);
    g_test_add_func("/qcow2-crypto/hidden", test_hidden);
    g_test_add_func("/qcow2-crypto/info", test_info);
    g_test_add_func("/qcow2-crypto/damage", test_damage);
    return g_test_run();
}
