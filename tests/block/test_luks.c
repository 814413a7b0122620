/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* LUKS against published vectors, against QEMU both ways, with wrong passphrases and damaged headers. */
#include <errno.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <nettle/nettle-meta.h>
#include <pthread.h>
#include <string.h>

#include "base/bits.h"
#include "base/byteorder.h"
#include "block/format/luks_key.h"
#include "peer.h"
#include "rig.h"

enum { SIZE = 1 << 20, UNIT = SECTOR_CIPHER_UNIT };

static const uint8_t secret[] = {'a', 'b', 'c', ' ', '1'};
static const char qemu_secret[] = "--object secret,id=s,data='abc 1'";

/* --- vectors --- */

/* IEEE 1619-2007, vector 4: a data unit of 512 bytes with number 0. */
static void test_xts(void)
{
    static const uint8_t key[32] = {0x27, 0x18, 0x28, 0x18, 0x28, 0x45, 0x90, 0x45, 0x23, 0x53, 0x60,
                                    0x28, 0x74, 0x71, 0x35, 0x26, 0x31, 0x41, 0x59, 0x26, 0x53, 0x58,
                                    0x97, 0x93, 0x23, 0x84, 0x62, 0x64, 0x33, 0x83, 0x27, 0x95};
    static const uint8_t want[16] = {0x27, 0xa7, 0x47, 0x9b, 0xef, 0xa1, 0xd4, 0x76,
                                     0x48, 0x9f, 0x30, 0x8c, 0xd4, 0xcf, 0xa6, 0xe2};
    uint8_t bytes[UNIT];
    AUTO(sector_cipher) c = sector_cipher_new(SECTOR_XTS, SECTOR_IV_PLAIN64, key, sizeof(key));
    g_assert_nonnull(c);
    for (unsigned i = 0; i < UNIT; i++)
        bytes[i] = (uint8_t)i;
    sector_encrypt(c, 0, bytes, 1);
    g_assert_cmpmem(bytes, 16, want, 16);
    sector_decrypt(c, 0, bytes, 1);
    for (unsigned i = 0; i < UNIT; i++)
        g_assert_cmpuint(bytes[i], ==, (uint8_t)i);
}

/* Which keys go with which modes. */
static void test_keys(void)
{
    static const uint8_t key[65];
    for (size_t size = 0; size <= sizeof(key); size++) {
        AUTO(sector_cipher) cbc = sector_cipher_new(SECTOR_CBC, SECTOR_IV_PLAIN, key, size);
        AUTO(sector_cipher) xts = sector_cipher_new(SECTOR_XTS, SECTOR_IV_PLAIN, key, size);
        g_assert_cmpint(cbc != NULL, ==, size == 16 || size == 24 || size == 32);
        g_assert_cmpint(xts != NULL, ==, size == 32 || size == 64);
    }
}

/* RFC 6070; and the splitter there and back with sizes that hashes do not divide. */
static void test_derive(void)
{
    static const uint8_t want[20] = {0x4b, 0x00, 0x79, 0x01, 0xb7, 0x65, 0x48, 0x9a, 0xbe, 0xad,
                                     0x49, 0xd9, 0x26, 0xf7, 0x21, 0xd0, 0x65, 0xa4, 0x29, 0xc1};
    uint8_t out[20];
    luks_derive(luks_hash_find("sha1"), (const uint8_t *)"password", 8, (const uint8_t *)"salt", 4, 4096, out,
                sizeof(out));
    g_assert_cmpmem(out, 20, want, 20);
    static const char *const hashes[] = {"sha1", "sha256", "sha512", "ripemd160"};
    for (unsigned i = 0; i < ARRAY_SIZE(hashes); i++) {
        const struct nettle_hash *hash = luks_hash_find(hashes[i]);
        uint8_t spread[64 * 9], key[64], back[64];
        for (unsigned k = 0; k < sizeof(spread); k++)
            spread[k] = (uint8_t)g_test_rand_int();
        memcpy(key, spread, sizeof(key));
        luks_split(hash, spread, sizeof(key), 9, key);
        luks_merge(hash, spread, sizeof(key), 9, back);
        g_assert_cmpmem(key, sizeof(key), back, sizeof(back));
    }
    g_assert_null(luks_hash_find("md5"));
}

/* --- images --- */

static const struct luks_options kinds[] = {
    {"aes-256", "xts", "plain64", "sha256", "sha256", 1},
    {"aes-128", "xts", "plain", "sha256", "sha1", 1},
    {"aes-256", "cbc", "essiv", "sha256", "sha256", 1},
    {"aes-128", "cbc", "plain64", "sha256", "sha512", 1},
    {"aes-192", "cbc", "essiv", "sha256", "sha1", 1},
    {"aes-128", "xts", "essiv", "sha256", "sha512", 1},
};

static struct disk *open_image(const char *path, const void *key, size_t size, unsigned flags, GError **error)
{
    struct block_config config = {.name = "image",
                                  .fd = g_open(path, O_RDWR | O_CLOEXEC),
                                  .key = key,
                                  .key_size = size,
                                  .flags = flags};
    return block_open(block_driver_find("luks"), &config, error);
}

static struct disk *reopen(const char *path)
{
    g_autoptr(GError) error = NULL;
    struct disk *b = open_image(path, secret, sizeof(secret), 0, &error);
    g_assert_no_error(error);
    return b;
}

static void make_image(const char *path, const struct luks_options *o)
{
    g_autoptr(GError) error = NULL;
    struct block_config config = {.name = "new", .fd = g_open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600)};
    AUTO(disk) file = block_open(block_driver_find("file"), &config, &error);
    g_assert_no_error(error);
    const struct block_create create = {
        .name = "new", .file = file, .size = SIZE, .options = o, .key = secret, .key_size = sizeof(secret)};
    g_assert_true(block_driver_find("luks")->image->create(&create, &error));
    g_assert_no_error(error);
}

static uint8_t *noise(size_t size)
{
    uint8_t *bytes = g_malloc(size);
    for (size_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)g_test_rand_int();
    return bytes;
}

/* With a key of 24 bytes its material is no whole number of sectors, on which qemu-img 7.2 aborts. */
static bool qemu_can(const struct luks_options *o)
{
    return strcmp(o->cipher, "aes-192") != 0 && peer_has("qemu-img");
}

static void test_to_qemu(gconstpointer opaque)
{
    const struct luks_options *o = opaque;
    struct peer_dir d = peer_dir();
    g_autofree char *image = peer_path(&d, "a.luks"), *raw = peer_path(&d, "a.raw");
    g_autofree uint8_t *bytes = noise(SIZE);
    make_image(image, o);
    struct disk *b = reopen(image);
    g_assert_cmpuint(b->facts.size, ==, SIZE);
    g_assert_cmpint(block_pwrite(b, bytes, SIZE, 0), ==, 0);
    g_assert_cmpint(block_flush(b), ==, 0);
    block_free(b);
    b = reopen(image);
    peer_same(b, bytes, SIZE);
    block_free(b);
    if (qemu_can(o)) {
        peer_run("qemu-img convert %s --image-opts driver=luks,key-secret=s,file.filename=%s -O raw %s",
                 qemu_secret, image, raw);
        peer_same_file(raw, bytes, SIZE);
    }
    peer_dir_gone(&d);
}

static void test_from_qemu(gconstpointer opaque)
{
    const struct luks_options *o = opaque;
    if (!qemu_can(o))
        return;
    struct peer_dir d = peer_dir();
    g_autofree char *image = peer_path(&d, "a.luks"), *raw = peer_path(&d, "a.raw");
    g_autofree uint8_t *bytes = noise(SIZE);
    g_file_set_contents(raw, (char *)bytes, SIZE, NULL);
    /* It gives up when its clock has not moved while it measured how fast it is. */
    peer_run("for i in $(seq 50); do qemu-img convert %s -f raw -O luks -o "
             "key-secret=s,iter-time=100,cipher-alg=%s,cipher-mode=%s,"
             "ivgen-alg=%s,hash-alg=%s%s %s %s && exit 0; done; exit 1",
             qemu_secret, o->cipher, o->mode, o->ivgen, o->hash,
             !strcmp(o->ivgen, "essiv") ? ",ivgen-hash-alg=sha256" : "", raw, image);
    struct disk *b = reopen(image);
    g_assert_cmpuint(b->facts.size, ==, SIZE);
    peer_same(b, bytes, SIZE);
    /* What we then change is seen over there. */
    g_assert_cmpint(block_pwrite(b, bytes, 4096 + 512, 70 * 512), ==, 0);
    memmove(bytes + 70 * 512, bytes, 4096 + 512);
    block_free(b);
    peer_run("qemu-img convert %s --image-opts driver=luks,key-secret=s,file.filename=%s -O raw %s",
             qemu_secret, image, raw);
    peer_same_file(raw, bytes, SIZE);
    peer_dir_gone(&d);
}

/* What `info` tells is what QEMU tells. */
static void test_info(void)
{
    if (!peer_has("qemu-img"))
        return;
    struct peer_dir d = peer_dir();
    g_autofree char *image = peer_path(&d, "a.luks");
    make_image(image, &kinds[2]);
    AUTO(disk) b = reopen(image);
    struct block_image_info info = {0};
    g_assert_true(b->driver->image->info(b, &info, NULL));
    g_autofree char *text = peer_output("qemu-img info --output=json -f luks %s", image);
    json_t *told = json_loads(text, 0, NULL);
    json_t *data = json_object_get(json_object_get(told, "format-specific"), "data");
    g_assert_nonnull(data);
    g_assert_true(json_equal(data, info.specific));
    g_assert_true(info.encrypted);
    json_decref(told);
    block_image_info_clear(&info);
    peer_dir_gone(&d);
}

static void test_passphrase(void)
{
    struct peer_dir d = peer_dir();
    g_autofree char *image = peer_path(&d, "a.luks");
    make_image(image, &kinds[0]);
    static const uint8_t wrong[] = "abc 2";
    g_autoptr(GError) error = NULL;
    g_assert_null(open_image(image, wrong, 5, 0, &error));
    g_assert_nonnull(strstr(error->message, "passphrase"));
    g_clear_error(&error);
    g_assert_null(open_image(image, secret, sizeof(secret) - 1, 0, NULL));
    g_assert_null(open_image(image, NULL, 0, 0, &error));
    g_assert_nonnull(strstr(error->message, "encrypted"));
    g_clear_error(&error);
    /* Described, but not read, without one. */
    AUTO(disk) b = open_image(image, NULL, 0, BLOCK_OPEN_KEYLESS | BLOCK_OPEN_SHARED, &error);
    g_assert_no_error(error);
    uint8_t bytes[512] = {0};
    g_assert_cmpint(block_pread(b, bytes, 512, 0), ==, -EACCES);
    g_assert_cmpint(block_pwrite(b, bytes, 512, 0), ==, -EACCES);
    peer_dir_gone(&d);
}

/* The slot that has the key may be any of the eight. */
static void test_slots(void)
{
    struct peer_dir d = peer_dir();
    g_autofree char *image = peer_path(&d, "a.luks");
    make_image(image, &kinds[1]);
    int fd = g_open(image, O_RDWR | O_CLOEXEC);
    struct luks_header h;
    for (unsigned i = 0; i + 1 < LUKS_SLOTS; i++) {
        g_assert_cmpint(pread(fd, &h, sizeof(h), 0), ==, sizeof(h));
        const struct luks_slot one = h.slots[i];
        h.slots[i] = h.slots[i + 1];
        h.slots[i + 1] = one;
        g_assert_cmpint(pwrite(fd, &h, sizeof(h), 0), ==, sizeof(h));
        block_free(reopen(image));
    }
    close(fd);
    peer_dir_gone(&d);
}

/* Each number of a header at values that make no sense: refused, or the disk is as it was. */
static void test_damage(void)
{
    struct peer_dir d = peer_dir();
    g_autofree char *image = peer_path(&d, "a.luks");
    make_image(image, &kinds[1]);
    int fd = g_open(image, O_RDWR | O_CLOEXEC);
    struct luks_header h;
    g_assert_cmpint(pread(fd, &h, sizeof(h), 0), ==, sizeof(h));
    static const size_t fields[] = {0, 4, 6, 8, 40, 72, 104, 108, 164, 208, 212, 248, 252, 256, 296, 300};
    static const uint32_t values[] = {0, 1, 0x7fffffff, 0x80000000, UINT32_MAX, 0x00ac71f3, 8, 4001};
    unsigned refused = 0;
    for (unsigned i = 0; i < ARRAY_SIZE(fields); i++)
        for (unsigned k = 0; k < ARRAY_SIZE(values); k++) {
            struct luks_header bad = h;
            st32be((uint8_t *)&bad + fields[i], values[k]);
            g_assert_cmpint(pwrite(fd, &bad, sizeof(bad), 0), ==, sizeof(bad));
            AUTO(disk) b = open_image(image, secret, sizeof(secret), 0, NULL);
            refused += !b;
        }
    g_assert_cmpuint(refused, >, 100);
    for (unsigned cut = 1; cut < 2048; cut += 100) { /* sectors */
        g_assert_cmpint(pwrite(fd, &h, sizeof(h), 0), ==, sizeof(h));
        g_assert_cmpint(ftruncate(fd, cut * UNIT), ==, 0);
        g_assert_null(open_image(image, secret, sizeof(secret), 0, NULL));
    }
    close(fd);
    peer_dir_gone(&d);
}

struct share {
    struct disk *b;
    unsigned number;
};

static void *worker(void *opaque)
{
    const struct share *s = opaque;
    uint8_t bytes[3 * UNIT], back[3 * UNIT];
    for (unsigned i = 0; i < 200; i++) {
        const uint64_t at = (s->number * 200 + i) * sizeof(bytes);
        memset(bytes, (int)(i + s->number), sizeof(bytes));
        g_assert_cmpint(block_pwrite(s->b, bytes, sizeof(bytes), at), ==, 0);
        g_assert_cmpint(block_pread(s->b, back, sizeof(back), at), ==, 0);
        g_assert_cmpmem(bytes, sizeof(bytes), back, sizeof(back));
    }
    return NULL;
}

static void test_threads(void)
{
    struct peer_dir d = peer_dir();
    g_autofree char *image = peer_path(&d, "a.luks");
    make_image(image, &kinds[0]);
    AUTO(disk) b = reopen(image);
    pthread_t threads[3];
    struct share shares[3];
    for (unsigned i = 0; i < 3; i++) {
        shares[i] = (struct share){b, i};
        g_assert_false(pthread_create(&threads[i], NULL, worker, &shares[i]));
    }
    for (unsigned i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    peer_dir_gone(&d);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/luks/xts", test_xts);
    g_test_add_func("/luks/keys", test_keys);
    g_test_add_func("/luks/derive", test_derive);
    for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++) {
        g_autofree char *to = g_strdup_printf("/luks/to-qemu/%u", i);
        g_autofree char *from = g_strdup_printf("/luks/from-qemu/%u", i);
        g_test_add_data_func(to, &kinds[i], test_to_qemu);
        if (i % 2 == 0 || g_test_slow()) /* making one takes it seconds */
            g_test_add_data_func(from, &kinds[i], test_from_qemu);
    }
    g_test_add_func("/luks/info", test_info);
    g_test_add_func("/luks/passphrase", test_passphrase);
    g_test_add_func("/luks/slots", test_slots);
    g_test_add_func("/luks/damage", test_damage);
    g_test_add_func("/luks/threads", test_threads);
    return g_test_run();
}
