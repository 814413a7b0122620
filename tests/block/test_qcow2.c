/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* qcow2's data path against a flat array and QEMU's programs: all shapes, several threads, growing tables. */
#include <errno.h>

#include "base/bits.h"
#include "base/byteorder.h"
#include "block/format/qcow2/qcow2_int.h"
#include "qcow2_rig.h"

enum { SIZE = 3 * 1024 * 1024 + 512, ROUNDS = 80, PIECE = 200 * 1024 };

static const char *const shapes[] = {
    "",
    "--compat=0.10",
    "--cluster_size=512",
    "--cluster_size=512 --refcount_bits=64",
    "--cluster_size=1K --refcount_bits=1",
    "--cluster_size=2K --refcount_bits=2",
    "--cluster_size=4K --refcount_bits=4",
    "--cluster_size=8K --refcount_bits=8",
    "--cluster_size=32K --refcount_bits=32",
    "--cluster_size=2M",
    "--cluster_size=4K --lazy_refcounts=on",
    "--cluster_size=16K --extended_l2=on",
    "--cluster_size=64K --extended_l2=on --compression_type=zstd",
    "--cluster_size=4K --compression_type=zstd",
    "--cluster_size=4K --preallocation=metadata",
    "--cluster_size=64K --preallocation=falloc",
    "--cluster_size=512 --preallocation=full",
    "--cluster_size=16K --extended_l2=on --preallocation=metadata",
};

struct model {
    struct disk *disk;
    uint8_t *bytes;
    GRand *rand;
};

static uint32_t number(struct model *m, uint32_t below)
{
    return (uint32_t)g_rand_int_range(m->rand, 0, (gint32)below);
}

static void write_some(struct model *m, uint64_t offset, uint64_t size)
{
    const uint8_t first = (uint8_t)number(m, 256);
    for (uint64_t i = 0; i < size; i++)
        m->bytes[offset + i] = (uint8_t)(first + i * 7 + (i >> 9));
    g_assert_cmpint(block_pwrite(m->disk, m->bytes + offset, size, offset), ==, 0);
}

/* One whole cluster; written plainly where there is something already. */
static void compress_one(struct model *m)
{
    const uint64_t cluster = m->disk->facts.cluster, n = (SIZE + cluster - 1) / cluster;
    const uint64_t offset = number(m, (uint32_t)n) * cluster, size = MIN(cluster, SIZE - offset);
    memset(m->bytes + offset, (int)number(m, 256), size);
    m->bytes[offset + size / 2] = (uint8_t)number(m, 256);
    g_assert_cmpint(block_write_compressed(m->disk, m->bytes + offset, offset, size), ==, 0);
}

static void one_step(struct model *m)
{
    const uint64_t offset = number(m, SIZE), wish = number(m, PIECE), size = MIN(wish, SIZE - offset);
    switch (number(m, 10)) {
    case 0: g_assert_cmpint(block_flush(m->disk), ==, 0); break;
    case 1: compress_one(m); break;
    case 2:
    case 3:
        g_assert_cmpint(block_zero(m->disk, offset, size, number(m, 2) ? BLOCK_MAY_UNMAP : 0), ==, 0);
        memset(m->bytes + offset, 0, size);
        break;
    case 4:
        g_assert_cmpint(block_discard(m->disk, offset, size), ==, 0);
        g_assert_cmpint(block_zero(m->disk, offset, size, BLOCK_MAY_UNMAP), ==, 0);
        memset(m->bytes + offset, 0, size);
        break;
    default: write_some(m, offset, size); break;
    }
}

/* qemu-img reads the same bytes. */
static void same_for_qemu(const struct peer_dir *d, const char *path, const uint8_t *bytes)
{
    if (!peer_has("qemu-img"))
        return;
    g_autofree char *raw = peer_path(d, "out.raw");
    peer_run("qemu-img convert -f qcow2 -O raw %s %s", path, raw);
    peer_same_file(raw, bytes, SIZE);
}

static void test_shape(gconstpointer options)
{
    struct peer_dir d = peer_dir();
    g_autofree char *path = peer_path(&d, "disk.qcow2");
    g_autofree uint8_t *bytes = g_malloc0(SIZE);
    struct model m = {.bytes = bytes, .rand = g_rand_new_with_seed((guint32)g_test_rand_int())};
    qcow2_make(path, SIZE, options);
    qcow2_clean(path);
    for (unsigned round = 0; round < 2; round++) {
        m.disk = qcow2_at(path, false, NULL);
        peer_same(m.disk, bytes, SIZE);
        for (unsigned i = 0; i < ROUNDS; i++)
            one_step(&m);
        peer_same(m.disk, bytes, SIZE);
        block_free(m.disk);
        qcow2_clean(path);
        same_for_qemu(&d, path, bytes);
    }
    g_rand_free(m.rand);
    peer_dir_gone(&d);
}

/* --- several threads --- */

enum { THREADS = 6, SECTORS = SIZE / BLOCK_SECTOR, THREAD_ROUNDS = 400 };

struct writer {
    struct disk *disk;
    uint8_t *bytes;
    unsigned mine; /* this one of each THREADS sectors */
    guint32 seed;
    GThread *thread;
};

/* Sectors of all threads lie in every cluster, so they all want a place for it at once. */
static void *write_mine(void *opaque)
{
    struct writer *w = opaque;
    GRand *rand = g_rand_new_with_seed(w->seed);
    uint8_t back[BLOCK_SECTOR];
    for (unsigned i = 0; i < THREAD_ROUNDS; i++) {
        const unsigned most = SECTORS / THREADS,
                       sector = (unsigned)g_rand_int_range(rand, 0, most) * THREADS + w->mine;
        uint8_t *at = w->bytes + (size_t)sector * BLOCK_SECTOR;
        memset(at, (int)g_rand_int_range(rand, 1, 256), BLOCK_SECTOR);
        g_assert_cmpint(block_pwrite(w->disk, at, BLOCK_SECTOR, (uint64_t)sector * BLOCK_SECTOR), ==, 0);
        g_assert_cmpint(block_pread(w->disk, back, BLOCK_SECTOR, (uint64_t)sector * BLOCK_SECTOR), ==, 0);
        g_assert_cmpint(memcmp(back, at, BLOCK_SECTOR), ==, 0);
        if (i % 50 == 0)
            g_assert_cmpint(block_flush(w->disk), ==, 0);
    }
    g_rand_free(rand);
    return NULL;
}

static void test_threads(gconstpointer options)
{
    struct peer_dir d = peer_dir();
    g_autofree char *path = peer_path(&d, "disk.qcow2");
    g_autofree uint8_t *bytes = g_malloc0(SIZE);
    qcow2_make(path, SIZE, options);
    struct disk *b = qcow2_at(path, false, NULL);
    struct writer w[THREADS];
    for (unsigned i = 0; i < THREADS; i++) {
        w[i] = (struct writer){.disk = b, .bytes = bytes, .mine = i, .seed = (guint32)g_test_rand_int()};
        w[i].thread = g_thread_new("writer", write_mine, &w[i]);
    }
    for (unsigned i = 0; i < THREADS; i++)
        g_thread_join(w[i].thread);
    peer_same(b, bytes, SIZE);
    block_free(b);
    qcow2_clean(path);
    same_for_qemu(&d, path, bytes);
    peer_dir_gone(&d);
}

/* One thread writes and zeroes whole clusters, another flushes, so places go and come again while a third
 * reads: it must see what one of the writes left, never what is of another cluster. */
struct churn {
    struct disk *disk;
    _Atomic bool stop;
};

static void *flush_on(void *opaque)
{
    struct churn *c = opaque;
    while (!atomic_load(&c->stop))
        g_assert_cmpint(block_flush(c->disk), ==, 0);
    return NULL;
}

static void *read_on(void *opaque)
{
    struct churn *c = opaque;
    uint8_t bytes[4096];
    for (uint64_t i = 0; !atomic_load(&c->stop); i++) {
        const uint64_t cluster = i % 16;
        g_assert_cmpint(block_pread(c->disk, bytes, sizeof(bytes), cluster * 4096), ==, 0);
        for (unsigned at = 0; at < sizeof(bytes); at++)
            g_assert_true(bytes[at] == 0 || bytes[at] == cluster + 1);
    }
    return NULL;
}

static void test_churn(void)
{
    struct peer_dir d = peer_dir();
    g_autofree char *path = peer_path(&d, "disk.qcow2");
    qcow2_make(path, SIZE, "--cluster_size=4K");
    struct churn c = {.disk = qcow2_at(path, false, NULL)};
    GThread *flusher = g_thread_new("flusher", flush_on, &c), *reader = g_thread_new("reader", read_on, &c);
    for (unsigned i = 0; i < 3000; i++) {
        uint8_t bytes[4096];
        const uint64_t cluster = (uint64_t)(i * 7) % 16;
        memset(bytes, (int)cluster + 1, sizeof(bytes));
        if (i % 3)
            g_assert_cmpint(block_pwrite(c.disk, bytes, sizeof(bytes), cluster * 4096), ==, 0);
        else
            g_assert_cmpint(block_zero(c.disk, cluster * 4096, 4096, BLOCK_MAY_UNMAP), ==, 0);
        if (i % 20 == 0)
            g_assert_cmpint(block_flush(c.disk), ==, 0);
    }
    atomic_store(&c.stop, true);
    g_thread_join(flusher);
    g_thread_join(reader);
    g_assert_cmpuint(c.disk->below->facts.size, <, 2 * MiB); /* places were used again */
    block_free(c.disk);
    qcow2_clean(path);
    peer_dir_gone(&d);
}

/* --- the header --- */

static void patch(const char *path, uint64_t offset, const void *bytes, size_t size)
{
    int fd = g_open(path, O_RDWR | O_CLOEXEC);
    g_assert_cmpint(pwrite(fd, bytes, size, (off_t)offset), ==, (ssize_t)size);
    close(fd);
}

static void test_unknown_feature(void)
{
    struct peer_dir d = peer_dir();
    g_autofree char *path = peer_path(&d, "disk.qcow2");
    g_autoptr(GError) error = NULL;
    qcow2_make(path, SIZE, "");
    /* Bit 5, and its name in place of that of bit 0. */
    const uint8_t bits[8] = {0, 0, 0, 0, 0, 0, 0, 0x20};
    uint8_t row[16] = {0, 5, 't', 'i', 'm', 'e', ' ', 't', 'r', 'a', 'v', 'e', 'l', 0};
    patch(path, 72, bits, sizeof(bits));
    patch(path, 112 + 8, row, sizeof(row));
    g_assert_null(qcow2_try(path, true, NULL, 0, &error));
    g_assert_nonnull(strstr(error->message, "time travel"));
    peer_dir_gone(&d);
}

/* An extension nobody knows stays as it is, wherever the header is written anew. */
static void test_extension_kept(void)
{
    struct peer_dir d = peer_dir();
    g_autofree char *path = peer_path(&d, "disk.qcow2");
    g_autoptr(GError) error = NULL;
    qcow2_make(path, SIZE, "");
    struct disk *b = qcow2_at(path, false, NULL);
    qcow2_extension_set(&qcow2(b)->header, 0x12345678, "hello, world", 12);
    g_assert_true(b->driver->image->set_backing(b, "base.raw", "raw", &error));
    block_free(b);
    for (unsigned i = 0; i < 2; i++) {
        struct block_image_info info = {0};
        b = qcow2_try(path, false, NULL, BLOCK_OPEN_ALONE, &error);
        g_assert_no_error(error);
        g_assert_true(b->driver->image->info(b, &info, &error));
        g_assert_cmpstr(info.backing, ==, i ? "another, longer name.raw" : "base.raw");
        g_assert_cmpstr(info.backing_format, ==, "raw");
        block_image_info_clear(&info);
        struct qcow2_extension *e = qcow2_extension_find(&qcow2(b)->header, 0x12345678);
        g_assert_nonnull(e);
        g_assert_cmpmem(e->bytes, e->size, "hello, world", 12);
        g_assert_true(b->driver->image->set_backing(b, "another, longer name.raw", "raw", &error));
        block_free(b);
    }
    if (peer_has("qemu-img")) {
        g_autofree char *out = peer_output("qemu-img info -U %s", path);
        g_assert_nonnull(strstr(out, "another, longer name.raw"));
    }
    peer_dir_gone(&d);
}

/* --- sizes --- */

static void test_resize(gconstpointer options)
{
    struct peer_dir d = peer_dir();
    g_autofree char *path = peer_path(&d, "disk.qcow2");
    qcow2_make(path, 100 * KiB, options);
    struct disk *b = qcow2_at(path, false, NULL);
    struct model m = {.disk = b, .bytes = g_malloc0(SIZE), .rand = g_rand_new_with_seed(1)};
    write_some(&m, 0, 100 * KiB);
    g_assert_cmpint(block_resize(b, SIZE), ==, 0);
    peer_same(b, m.bytes, SIZE);
    write_some(&m, 90 * KiB, 2 * MiB);
    g_assert_cmpint(block_resize(b, 70 * KiB + 512), ==, 0);
    memset(m.bytes + 70 * KiB + 512, 0, SIZE - 70 * KiB - 512);
    if (!*(const char *)options) /* the end of the file was given back; small clusters have tables there */
        g_assert_cmpuint(b->below->facts.size, <, 1536 * KiB);
    g_assert_cmpint(block_resize(b, SIZE), ==, 0);
    peer_same(b, m.bytes, SIZE);
    block_free(b);
    qcow2_clean(path);
    b = qcow2_at(path, false, NULL);
    peer_same(b, m.bytes, SIZE);
    g_assert_cmpint(block_resize(b, UINT64_C(64) << 40), ==, *(const char *)options ? -EFBIG : 0);
    block_free(b);
    qcow2_clean(path);
    g_free(m.bytes);
    g_rand_free(m.rand);
    peer_dir_gone(&d);
}

/* The refcount table of 512-byte clusters is full again and again. */
static void test_growing_tables(void)
{
    enum { MUCH = 40 << 20, STEP = 1 << 20 };
    struct peer_dir d = peer_dir();
    g_autofree char *path = peer_path(&d, "disk.qcow2");
    g_autofree uint8_t *bytes = g_malloc(STEP);
    qcow2_make(path, MUCH, "--cluster_size=512 --refcount_bits=64");
    struct disk *b = qcow2_at(path, false, NULL);
    const uint64_t before = qcow2(b)->header.reftable_offset;
    for (uint64_t at = 0; at < MUCH; at += STEP) {
        memset(bytes, (int)(at >> 20) + 1, STEP);
        g_assert_cmpint(block_pwrite(b, bytes, STEP, at), ==, 0);
    }
    g_assert_cmpuint(qcow2(b)->header.reftable_offset, !=, before);
    block_free(b);
    qcow2_clean(path);
    b = qcow2_at(path, true, NULL);
    for (uint64_t at = 0; at < MUCH; at += STEP) {
        g_assert_cmpint(block_pread(b, bytes, STEP, at), ==, 0);
        g_assert_true(bytes[0] == (at >> 20) + 1 && !memcmp(bytes, bytes + 1, STEP - 1));
    }
    block_free(b);
    peer_dir_gone(&d);
}

/* A disk of a whole terabyte costs next to nothing until it is written. */
static void test_large(void)
{
    struct peer_dir d = peer_dir();
    g_autofree char *path = peer_path(&d, "disk.qcow2");
    uint8_t bytes[4096];
    qcow2_make(path, UINT64_C(1) << 40, "");
    struct disk *b = qcow2_at(path, false, NULL);
    g_assert_cmpuint(b->below->facts.size, <, 1 * MiB);
    for (uint64_t i = 0; i < 1200; i++) { /* more L2 tables than stay in memory */
        memset(bytes, (int)(i % 255) + 1, sizeof(bytes));
        g_assert_cmpint(block_pwrite(b, bytes, sizeof(bytes), i * 800 * MiB), ==, 0);
    }
    g_assert_cmpuint(qcow2(b)->l2.count, <, 700);
    for (uint64_t i = 0; i < 1200; i++) {
        g_assert_cmpint(block_pread(b, bytes, sizeof(bytes), i * 800 * MiB), ==, 0);
        g_assert_true(bytes[7] == i % 255 + 1);
    }
    block_free(b);
    qcow2_clean(path);
    peer_dir_gone(&d);
}

/* Room that was taken ahead reads as zeroes until something is in it; qemu-img says the same of it. */
static void test_room_ahead(void)
{
    enum { AT = 1 << 20, WROTE = 65536 };
    struct peer_dir dir = peer_dir();
    g_autofree char *path = peer_path(&dir, "disk.qcow2");
    g_autofree uint8_t *bytes = g_malloc(WROTE);
    memset(bytes, 7, WROTE);
    qcow2_make(path, 4 << 20, "--preallocation=metadata");
    AUTO(disk) b = qcow2_at(path, false, NULL);
    g_assert_cmpint(block_pwrite(b, bytes, WROTE, AT), ==, 0);
    g_clear_pointer(&b, block_free);
    g_autofree char *map = NULL;
    if (peer_has("qemu-img"))
        map = peer_output("qemu-img map --output=json -f qcow2 %s", path);
    b = qcow2_at(path, true, NULL);
    const struct {
        uint64_t at, size;
        bool zero;
    } wanted[] = {{0, AT, true}, {AT, WROTE, false}, {AT + WROTE, (4 << 20) - AT - WROTE, true}};
    for (unsigned i = 0; i < ARRAY_SIZE(wanted); i++) {
        struct block_extent e;
        g_assert_cmpint(block_extent(b, wanted[i].at, b->facts.size - wanted[i].at, &e), ==, 0);
        g_assert_cmpuint(e.size, ==, wanted[i].size);
        g_assert_cmpint(e.zero, ==, wanted[i].zero);
        g_assert_false(e.hole);
        g_assert_true(e.place != BLOCK_NO_PLACE);
        g_autofree char *line = g_strdup_printf(
            "\"start\": %u, \"length\": %u, \"depth\": 0, \"present\": true, \"zero\": %s, \"data\": true, "
            "\"offset\": %u",
            (unsigned)wanted[i].at, (unsigned)e.size, e.zero ? "true" : "false", (unsigned)e.place);
        if (map && !strstr(map, line))
            g_error("%s: not in %s", line, map);
    }
    g_clear_pointer(&b, block_free);
    peer_dir_gone(&dir);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (unsigned i = 0; i < ARRAY_SIZE(shapes); i++) {
        g_autofree char *name = g_strdup_printf("/qcow2/shape/%u", i);
        g_test_add_data_func(name, shapes[i], test_shape);
    }
    g_test_add_data_func("/qcow2/threads/64K", "", test_threads);
    g_test_add_data_func("/qcow2/threads/512", "--cluster_size=512", test_threads);
    g_test_add_data_func("/qcow2/threads/extended", "--cluster_size=16K --extended_l2=on", test_threads);
    g_test_add_func("/qcow2/churn", test_churn);
    g_test_add_func("/qcow2/unknown-feature", test_unknown_feature);
    g_test_add_func("/qcow2/extension-kept", test_extension_kept);
    g_test_add_data_func("/qcow2/resize/64K", "", test_resize);
    g_test_add_data_func("/qcow2/resize/512", "--cluster_size=512", test_resize);
    g_test_add_func("/qcow2/growing-tables", test_growing_tables);
    g_test_add_func("/qcow2/large", test_large);
    g_test_add_func("/qcow2/room-ahead", test_room_ahead);
    return g_test_run();
}
