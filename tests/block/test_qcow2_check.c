/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Damage of all sorts put into a qcow2 image: ours finds what qemu-img finds, repairs it, and stops writing
 * where that would do more of it. */
#include <errno.h>

#include "base/bits.h"
#include "base/byteorder.h"
#include "block/format/qcow2/qcow2_int.h"
#include "qcow2_rig.h"

/* Where things are in a new image of this size, with guest clusters 0 to 9 written in a row. */
enum {
    CLUSTER = 65536,
    SIZE = 4 << 20,
    WRITTEN = 10,
    REFTABLE = 1 * CLUSTER,
    BLOCK = 2 * CLUSTER,
    L1 = 3 * CLUSTER,
    L2 = 4 * CLUSTER,
    DATA = 5 * CLUSTER,
};

struct damage {
    const char *name;
    uint64_t offset, value;
    unsigned bytes;
    unsigned corruptions, leaks; /* at least; 0 = none */
    uint64_t lost;               /* a bit for each guest cluster whose contents may change */
};

static const struct damage damages[] = {
    {"leak", BLOCK + 2 * 30, 1, 2, 0, 1, 0},
    {"leak-in-use", BLOCK + 2 * 6, 3, 2, 0, 1, 0},
    {"refcount-zero", BLOCK + 2 * 6, 0, 2, 1, 0, 0},
    {"refcounts-zero", BLOCK, 0, 8, 4, 0, 0},
    {"two-owners", L2 + 8 * 3, QCOW2_COPIED | (DATA + 4 * CLUSTER), 8, 1, 1, BIT(3)},
    {"unaligned", L2 + 8 * 3, QCOW2_COPIED | (DATA + 512), 8, 1, 0, BIT(3)},
    {"behind-the-end", L2 + 8 * 3, QCOW2_COPIED | UINT64_C(1) << 40, 8, 1, 0, BIT(3)},
    {"not-copied", L2 + 8 * 3, DATA + 3 * CLUSTER, 8, 0, 1, 0},
    {"data-in-l1", L2 + 8 * 3, QCOW2_COPIED | L1, 8, 1, 0, BIT(3)},
    {"data-in-header", L2 + 8 * 3, QCOW2_COPIED | CLUSTER, 8, 1, 0, BIT(3)},
    {"l1-behind-the-end", L1, QCOW2_COPIED | UINT64_C(1) << 40, 8, 1, 0, UINT64_MAX},
    {"l1-reserved", L1, QCOW2_COPIED | L2 | 2, 8, 1, 0, UINT64_MAX},
    {"block-unaligned", REFTABLE, BLOCK + 512, 8, 1, 0, 0},
    {"block-behind-the-end", REFTABLE, UINT64_C(1) << 40, 8, 1, 0, 0},
    {"block-is-l2", REFTABLE, L2, 8, 1, 0, 0},
    {"no-block", REFTABLE, 0, 8, 5, 0, 0},
};

static void fill(uint8_t *bytes, unsigned cluster)
{
    for (unsigned i = 0; i < CLUSTER; i++)
        bytes[i] = (uint8_t)(cluster * 31 + 1 + i % 7 + (i >> 9));
}

static void make(const char *path, const char *options)
{
    g_autofree uint8_t *bytes = g_malloc(CLUSTER);
    qcow2_make(path, SIZE, options);
    struct disk *b = qcow2_at(path, false, NULL);
    for (unsigned i = 0; i < WRITTEN; i++) {
        fill(bytes, i);
        g_assert_cmpint(block_pwrite(b, bytes, CLUSTER, (uint64_t)i * CLUSTER), ==, 0);
    }
    block_free(b);
}

static void patch(const char *path, const struct damage *d)
{
    uint8_t bytes[8];
    st64be(bytes, d->value);
    int fd = g_open(path, O_RDWR | O_CLOEXEC);
    g_assert_cmpint(pwrite(fd, bytes + 8 - d->bytes, d->bytes, (off_t)d->offset), ==, d->bytes);
    if (!strcmp(d->name, "leak")) /* a file that has such a cluster */
        g_assert_cmpint(ftruncate(fd, 31 * CLUSTER), ==, 0);
    close(fd);
}

static struct block_check check(const char *path, unsigned fix)
{
    g_autoptr(GError) error = NULL;
    struct block_check c = {0};
    struct disk *b = qcow2_try(path, !fix, NULL, fix ? BLOCK_OPEN_REPAIR : 0, &error);
    g_assert_no_error(error);
    b->driver->image->check(b, fix, &c, &error);
    g_assert_no_error(error);
    block_free(b);
    return c;
}

/* qemu-img finds something of the same kind. */
static void ask_qemu(const char *path, const struct damage *d)
{
    int status;
    g_autofree char *command = g_strdup_printf("qemu-img check -f qcow2 %s", path);
    if (!peer_has("qemu-img"))
        return;
    g_spawn_command_line_sync(command, NULL, NULL, &status, NULL);
    g_assert_true(WIFEXITED(status));
    g_assert_cmpint(WEXITSTATUS(status), !=, 0);
    if (!strcmp(d->name, "leak"))
        g_assert_cmpint(WEXITSTATUS(status), ==, 3);
}

static void read_rest(const char *path, uint64_t lost)
{
    g_autofree uint8_t *want = g_malloc(CLUSTER), *got = g_malloc(CLUSTER);
    struct disk *b = qcow2_at(path, true, NULL);
    for (unsigned i = 0; i < WRITTEN; i++) {
        fill(want, i);
        g_assert_cmpint(block_pread(b, got, CLUSTER, (uint64_t)i * CLUSTER), ==, 0);
        if (!(lost & BIT(i)))
            g_assert_cmpmem(got, CLUSTER, want, CLUSTER);
    }
    block_free(b);
}

static void test_damage(gconstpointer opaque)
{
    const struct damage *d = opaque;
    struct peer_dir dir = peer_dir();
    g_autofree char *path = peer_path(&dir, "disk.qcow2");
    g_autofree char *before = NULL, *after = NULL;
    gsize size, size_after;
    make(path, "");
    qcow2_clean(path);
    patch(path, d);
    ask_qemu(path, d);
    g_assert_true(g_file_get_contents(path, &before, &size, NULL));
    struct block_check c = check(path, 0);
    g_assert_cmpuint(c.corruptions, >=, d->corruptions);
    g_assert_cmpuint(!c.corruptions, ==, !d->corruptions);
    g_assert_cmpuint(c.leaks, >=, d->leaks);
    g_assert_true(g_file_get_contents(path, &after, &size_after, NULL)); /* looking changes nothing */
    g_assert_cmpmem(before, size, after, size_after);
    c = check(path, BLOCK_FIX_LEAKS | BLOCK_FIX_ERRORS);
    g_assert_cmpuint(c.corruptions, ==, c.corruptions_fixed);
    g_assert_cmpuint(c.leaks, ==, c.leaks_fixed);
    c = check(path, 0);
    g_assert_cmpuint(c.corruptions + c.leaks + c.errors, ==, 0);
    qcow2_clean(path);
    read_rest(path, d->lost);
    peer_dir_gone(&dir);
}

/* Writing where metadata is: refused, and the image says from then on that it is damaged. */
static void test_overlap(gconstpointer opaque)
{
    const uint64_t place = *(const uint64_t *)opaque;
    struct peer_dir dir = peer_dir();
    g_autofree char *path = peer_path(&dir, "disk.qcow2");
    g_autofree char *before = NULL, *after = NULL;
    g_autoptr(GError) error = NULL;
    uint8_t bytes[512] = {1};
    gsize size, size_after;
    make(path, "");
    const struct damage d = {.name = "", .offset = L2 + 8 * 3, .value = QCOW2_COPIED | place, .bytes = 8};
    patch(path, &d);
    g_assert_true(g_file_get_contents(path, &before, &size, NULL));
    struct disk *b = qcow2_at(path, false, NULL);
    g_assert_cmpint(block_pwrite(b, bytes, sizeof(bytes), 3 * CLUSTER), ==, -EIO);
    g_assert_cmpint(block_pwrite(b, bytes, sizeof(bytes), 0), ==, -EIO); /* nothing any more */
    g_assert_cmpint(block_flush(b), !=, 0);
    block_free(b);
    g_assert_true(g_file_get_contents(path, &after, &size_after, NULL));
    g_assert_cmpmem(before + BLOCK_SECTOR, size - BLOCK_SECTOR, after + BLOCK_SECTOR,
                    size_after - BLOCK_SECTOR);
    g_assert_null(qcow2_try(path, false, NULL, 0, &error));
    g_assert_nonnull(strstr(error->message, "damaged"));
    read_rest(path, BIT(3));
    const struct block_check c = check(path, BLOCK_FIX_LEAKS | BLOCK_FIX_ERRORS);
    g_assert_cmpuint(c.corruptions, ==, c.corruptions_fixed);
    qcow2_clean(path);
    b = qcow2_at(path, false, NULL);
    g_assert_cmpint(block_pwrite(b, bytes, sizeof(bytes), 3 * CLUSTER), ==, 0);
    block_free(b);
    qcow2_clean(path);
    read_rest(path, BIT(3));
    peer_dir_gone(&dir);
}

/* --- giving back what is metadata --- */

static int do_discard(struct disk *b)
{
    return block_discard(b, 2 * CLUSTER, 4 * CLUSTER);
}

static int do_zero(struct disk *b)
{
    return block_zero(b, 3 * CLUSTER, CLUSTER, BLOCK_MAY_UNMAP);
}

static int do_write(struct disk *b)
{
    g_autofree uint8_t *bytes = g_malloc0(CLUSTER);
    return block_pwrite(b, bytes, CLUSTER, 3 * CLUSTER);
}

static int do_compress(struct disk *b)
{
    g_autofree uint8_t *bytes = g_malloc0(CLUSTER);
    return block_write_compressed(b, bytes, 3 * CLUSTER, CLUSTER);
}

static int do_shrink(struct disk *b)
{
    return block_resize(b, 2 * CLUSTER) ? -EIO : block_flush(b);
}

static int do_snapshot(struct disk *b)
{
    return b->driver->image->snapshot_create(b, "new", NULL) ? 0 : -EIO;
}

static int do_apply(struct disk *b)
{
    return b->driver->image->snapshot_apply(b, "old", NULL) ? 0 : -EIO;
}

static int do_delete(struct disk *b)
{
    return b->driver->image->snapshot_delete(b, "old", NULL) ? 0 : -EIO;
}

static const struct giving {
    const char *name;
    int (*run)(struct disk *b);
    bool resized; /* the header has the new size before anything is given back */
} givings[] = {
    {"discard", do_discard, false},   {"zero", do_zero, false},     {"write", do_write, false},
    {"compress", do_compress, false}, {"shrink", do_shrink, true},  {"snapshot", do_snapshot, false},
    {"apply", do_apply, false},       {"delete", do_delete, false},
};

/* One entry points to a table: what would give that back, or share it, stops, and every table stays. */
static void give_back(const struct giving *g, uint64_t entry)
{
    struct peer_dir dir = peer_dir();
    g_autofree char *path = peer_path(&dir, "disk.qcow2");
    g_autofree char *before = NULL, *after = NULL;
    g_autoptr(GError) error = NULL;
    gsize size, size_after;
    make(path, "");
    struct disk *b = qcow2_at(path, false, NULL);
    if (g->run == do_apply || g->run == do_delete)
        g_assert_true(b->driver->image->snapshot_create(b, "old", NULL));
    block_free(b);
    const struct damage d = {.name = "", .offset = L2 + 8 * 3, .value = entry, .bytes = 8};
    patch(path, &d);
    g_assert_true(g_file_get_contents(path, &before, &size, NULL));
    b = qcow2_at(path, false, NULL);
    const int status = g->run(b);
    if (g->resized) /* it is shorter; giving back stopped */
        g_assert_cmpint(block_flush(b), !=, 0);
    else
        g_assert_cmpint(status, ==, -EIO);
    block_free(b);
    g_assert_true(g_file_get_contents(path, &after, &size_after, NULL));
    g_assert_cmpmem(before + BLOCK_SECTOR, size - BLOCK_SECTOR, after + BLOCK_SECTOR,
                    MIN(size, size_after) - BLOCK_SECTOR);
    g_assert_null(qcow2_try(path, false, NULL, 0, &error));
    g_assert_nonnull(strstr(error->message, "damaged"));
    if (!(entry & QCOW2_COMPRESSED)) { /* such a one may stay, and holds no compressed data */
        check(path, BLOCK_FIX_LEAKS | BLOCK_FIX_ERRORS);
        qcow2_clean(path);
        if (!g->resized)
            read_rest(path, BIT(3));
    }
    peer_dir_gone(&dir);
}

static void test_give_back(gconstpointer opaque)
{
    static const uint64_t entries[] = {
        QCOW2_COPIED | REFTABLE, QCOW2_COPIED | BLOCK,        QCOW2_COPIED | L1, QCOW2_COPIED | L2, BLOCK, L2,
        QCOW2_COMPRESSED,        QCOW2_COMPRESSED | L1 | 512,
    };
    const struct giving *g = opaque;
    for (unsigned i = 0; i < ARRAY_SIZE(entries); i++)
        if ((entries[i] & QCOW2_OFFSET_MASK) != L2 || (g->run != do_apply && g->run != do_delete))
            give_back(g, entries[i]); /* else the table has another reference, the snapshot's, which stays */
}

/* An L1 entry that points to another table, and a snapshot's L1 that is another one. */
static void test_two_roles(void)
{
    static const uint64_t places[] = {REFTABLE, BLOCK, L1};
    for (unsigned i = 0; i < ARRAY_SIZE(places); i++) {
        struct peer_dir dir = peer_dir();
        g_autofree char *path = peer_path(&dir, "disk.qcow2");
        g_autofree char *before = NULL, *after = NULL;
        g_autoptr(GError) error = NULL;
        gsize size, size_after;
        make(path, "");
        const struct damage d = {.name = "", .offset = L1, .value = QCOW2_COPIED | places[i], .bytes = 8};
        patch(path, &d);
        g_assert_true(g_file_get_contents(path, &before, &size, NULL));
        g_assert_null(qcow2_try(path, false, NULL, 0, &error));
        g_assert_nonnull(strstr(error->message, "damaged"));
        g_assert_true(g_file_get_contents(path, &after, &size_after, NULL));
        g_assert_cmpmem(before, size, after, size_after);
        check(path, BLOCK_FIX_LEAKS | BLOCK_FIX_ERRORS);
        qcow2_clean(path);
        peer_dir_gone(&dir);
    }
}

static void test_snapshot_in_table(void)
{
    static const uint64_t places[] = {REFTABLE, BLOCK, L1, L2};
    for (unsigned i = 0; i < ARRAY_SIZE(places); i++) {
        struct peer_dir dir = peer_dir();
        g_autofree char *path = peer_path(&dir, "disk.qcow2");
        g_autofree char *before = NULL, *after = NULL;
        gsize size, size_after;
        make(path, "");
        struct disk *b = qcow2_at(path, false, NULL);
        g_assert_true(b->driver->image->snapshot_create(b, "old", NULL));
        block_free(b);
        g_assert_true(g_file_get_contents(path, &before, &size, NULL));
        const struct damage d = {.name = "", .offset = ld64be(before + 64), .value = places[i], .bytes = 8};
        g_free(before);
        patch(path, &d);
        g_assert_true(g_file_get_contents(path, &before, &size, NULL));
        b = qcow2_at(path, false, NULL);
        g_assert_cmpint(do_delete(b), ==, -EIO);
        block_free(b);
        g_assert_true(g_file_get_contents(path, &after, &size_after, NULL));
        g_assert_cmpmem(before + BLOCK_SECTOR, size - BLOCK_SECTOR, after + BLOCK_SECTOR,
                        size_after - BLOCK_SECTOR);
        read_rest(path, 0);
        peer_dir_gone(&dir);
    }
}

/* Free clusters that are none: giving one out would overwrite a table. */
static void test_false_free(void)
{
    struct peer_dir dir = peer_dir();
    g_autofree char *path = peer_path(&dir, "disk.qcow2");
    uint8_t bytes[512] = {1};
    make(path, "");
    const struct damage d = {
        .name = "", .offset = BLOCK + 2 * 4, .value = 0, .bytes = 2}; /* of the L2 table */
    patch(path, &d);
    struct disk *b = qcow2_at(path, false, NULL);
    g_assert_cmpint(block_pwrite(b, bytes, sizeof(bytes), 40 * CLUSTER), ==, -EIO);
    block_free(b);
    read_rest(path, 0);
    check(path, BLOCK_FIX_LEAKS | BLOCK_FIX_ERRORS);
    qcow2_clean(path);
    peer_dir_gone(&dir);
}

/* An image with lazy refcounts that was not closed: they are made when it is opened for writing. */
static void test_dirty(void)
{
    struct peer_dir dir = peer_dir();
    g_autofree char *path = peer_path(&dir, "disk.qcow2"), *copy = peer_path(&dir, "copy.qcow2");
    g_autofree char *now = NULL;
    g_autofree uint8_t *bytes = g_malloc(CLUSTER);
    gsize size;
    make(path, "--lazy_refcounts=on");
    struct disk *b = qcow2_at(path, false, NULL);
    fill(bytes, 20);
    g_assert_cmpint(block_pwrite(b, bytes, CLUSTER, 20 * CLUSTER), ==, 0);
    g_assert_cmpint(block_flush(b), ==, 0);
    g_assert_true(g_file_get_contents(path, &now, &size, NULL)); /* as a crash leaves it */
    g_assert_true(g_file_set_contents(copy, now, (gssize)size, NULL));
    g_assert_cmpuint((uint8_t)now[79] & 1, ==, 1);
    block_free(b);
    b = qcow2_at(copy, false, NULL);
    g_autofree uint8_t *got = g_malloc(CLUSTER);
    g_assert_cmpint(block_pread(b, got, CLUSTER, 20 * CLUSTER), ==, 0);
    g_assert_cmpmem(got, CLUSTER, bytes, CLUSTER);
    block_free(b);
    qcow2_clean(copy);
    read_rest(copy, 0);
    peer_dir_gone(&dir);
}

/* A device that ends where the refcount table would have to grow: it is full, and that is all. */
static void test_full_device(void)
{
    enum { COVERED = 64 * 256 * 512 /* by a table of one cluster of 512 bytes */, PIECE = 65536 };
    struct peer_dir dir = peer_dir();
    g_autofree char *path = peer_path(&dir, "disk.qcow2");
    g_autofree uint8_t *bytes = g_malloc0(PIECE);
    g_autoptr(GError) error = NULL;
    qcow2_make(path, 2 * COVERED, "--cluster_size=512");
    int fd = g_open(path, O_RDWR | O_CLOEXEC);
    g_assert_cmpint(ftruncate(fd, COVERED + 1024), ==, 0);
    struct block_config on = {.name = "device", .fd = fd};
    struct block_config config = {.name = "image", .fd = -1};
    config.file = block_open(block_driver_find("file"), &on, &error);
    g_assert_no_error(error);
    config.file->facts.growable = false;
    struct disk *b = block_open(&block_driver_qcow2, &config, &error);
    g_assert_no_error(error);
    int status = 0;
    for (uint64_t at = 0; at < 2 * COVERED && !status; at += PIECE)
        status = block_pwrite(b, bytes, PIECE, at);
    g_assert_cmpint(status, ==, -ENOSPC);
    g_assert_cmpint(block_pwrite(b, bytes, PIECE, 0), ==, 0);
    g_assert_cmpint(block_flush(b), ==, 0);
    block_free(b);
    peer_dir_gone(&dir);
}

/* --- any damage --- */

enum { FLIPS = 100, FLIP_SIZE = 300 * 1024 };

/* Numbers of the header's fixed part, or of tables, become something else. */
static void flip(GRand *rand, char *bytes, gsize size)
{
    static const uint64_t values[] = {0,       1,      511, 512, 4096, 65536, UINT32_MAX, UINT64_C(1) << 40,
                                      BIT(62), BIT(63)};
    const unsigned n = 1 + (unsigned)g_rand_int_range(rand, 0, 4);
    for (unsigned i = 0; i < n; i++) {
        const gsize most = g_rand_int_range(rand, 0, 4) ? size : 128;
        const gsize at = (gsize)g_rand_int_range(rand, 0, (gint32)(most / 8)) * 8;
        if (g_rand_boolean(rand))
            st64be(bytes + at, values[g_rand_int_range(rand, 0, ARRAY_SIZE(values))] ^
                                   (g_rand_boolean(rand) ? ld64be(bytes + at) : 0));
        else
            bytes[at + (gsize)g_rand_int_range(rand, 0, 8)] ^= (char)(1 << g_rand_int_range(rand, 0, 8));
    }
}

/* qemu-img finds nothing wrong with an image that it opens. */
static void agree(const char *path)
{
    int status;
    g_autofree char *command =
        g_strdup_printf("qemu-img check --image-opts driver=qcow2,file.filename=%s", path);
    if (!peer_has("qemu-img"))
        return;
    g_autofree char *out = NULL, *err = NULL;
    g_assert_true(g_spawn_command_line_sync(command, &out, &err, &status, NULL));
    g_assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) > 1)
        g_error("%s: %s%s", command, out, err);
}

/* What the image says may be anything; it is read as far as it goes. */
static void look(const char *path)
{
    g_autofree uint8_t *bytes = g_malloc(FLIP_SIZE);
    struct disk *b = qcow2_try(path, true, NULL, BLOCK_OPEN_ALONE, NULL);
    if (!b)
        return;
    (void)block_pread(b, bytes, MIN(b->facts.size, FLIP_SIZE), 0);
    struct block_extent e;
    for (uint64_t at = 0; at < MIN(b->facts.size, FLIP_SIZE) && !block_extent(b, at, b->facts.size - at, &e);
         at += e.size)
        ;
    block_free(b);
}

/* True when nothing is wrong any more. */
static bool mend(const char *path)
{
    g_autoptr(GError) error = NULL;
    struct block_check c = {0}, again = {0};
    struct disk *b = qcow2_try(path, false, NULL, BLOCK_OPEN_REPAIR | BLOCK_OPEN_ALONE, NULL);
    if (!b)
        return false;
    const bool looked = b->driver->image->check(b, BLOCK_FIX_LEAKS | BLOCK_FIX_ERRORS, &c, &error);
    block_free(b);
    if (!looked || c.errors || c.corruptions != c.corruptions_fixed || c.leaks != c.leaks_fixed)
        return false;
    b = qcow2_try(path, true, NULL, BLOCK_OPEN_ALONE, NULL);
    g_assert_nonnull(b);
    g_assert_true(b->driver->image->check(b, 0, &again, NULL));
    g_assert_cmpuint(again.corruptions + again.leaks + again.errors, ==, 0);
    block_free(b);
    return true;
}

static void use(const char *path)
{
    uint8_t bytes[3000] = {1};
    struct disk *b = qcow2_try(path, false, NULL, BLOCK_OPEN_ALONE, NULL);
    if (!b)
        return;
    for (uint64_t at = 0; at + sizeof(bytes) <= MIN(b->facts.size, FLIP_SIZE); at += 17 * 512)
        (void)block_write(b, &(struct iovec){bytes, 512}, 1, at);
    (void)block_flush(b);
    block_free(b);
}

static void test_flips(gconstpointer options)
{
    struct peer_dir dir = peer_dir();
    g_autofree char *path = peer_path(&dir, "disk.qcow2");
    g_autofree char *whole = NULL;
    g_autofree uint8_t *bytes = g_malloc(FLIP_SIZE);
    gsize size;
    unsigned mended = 0;
    GRand *rand = g_rand_new_with_seed((guint32)g_test_rand_int());
    qcow2_make(path, FLIP_SIZE, options);
    struct disk *b = qcow2_at(path, false, NULL);
    memset(bytes, 7, FLIP_SIZE);
    g_assert_cmpint(block_pwrite(b, bytes, FLIP_SIZE / 2, 0), ==, 0);
    g_assert_cmpint(block_write_compressed(b, bytes, FLIP_SIZE / 2 / b->facts.cluster * b->facts.cluster,
                                           b->facts.cluster),
                    ==, 0);
    block_free(b);
    g_assert_true(g_file_get_contents(path, &whole, &size, NULL));
    for (unsigned i = 0; i < FLIPS; i++) {
        g_autofree char *damaged = g_memdup2(whole, size);
        flip(rand, damaged, MIN(size, 64 * KiB));
        g_assert_true(g_file_set_contents(path, damaged, (gssize)size, NULL));
        look(path);
        if (mend(path) && mended++ % 8 == 0)
            agree(path);
        use(path);
        look(path);
        g_assert_true(g_file_set_contents(path, damaged, (gssize)size, NULL));
        use(path);
    }
    g_assert_cmpuint(mended, >, FLIPS / 8);
    g_rand_free(rand);
    peer_dir_gone(&dir);
}

int main(int argc, char **argv)
{
    static const uint64_t tables[] = {CLUSTER, BLOCK, L1, L2, L2 | QCOW2_ZERO};
    g_test_init(&argc, &argv, NULL);
    for (unsigned i = 0; i < ARRAY_SIZE(damages); i++) {
        g_autofree char *name = g_strdup_printf("/qcow2/damage/%s", damages[i].name);
        g_test_add_data_func(name, &damages[i], test_damage);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(tables); i++) {
        g_autofree char *name = g_strdup_printf("/qcow2/overlap/%u", i);
        g_test_add_data_func(name, &tables[i], test_overlap);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(givings); i++) {
        g_autofree char *name = g_strdup_printf("/qcow2/give-back/%s", givings[i].name);
        g_test_add_data_func(name, &givings[i], test_give_back);
    }
    g_test_add_func("/qcow2/two-roles", test_two_roles);
    g_test_add_func("/qcow2/snapshot-in-table", test_snapshot_in_table);
    g_test_add_func("/qcow2/full-device", test_full_device);
    g_test_add_func("/qcow2/false-free", test_false_free);
    g_test_add_func("/qcow2/dirty", test_dirty);
    g_test_add_data_func("/qcow2/flips/512", "--cluster_size=512", test_flips);
    g_test_add_data_func("/qcow2/flips/4K", "--cluster_size=4K", test_flips);
    g_test_add_data_func("/qcow2/flips/extended", "--cluster_size=16K --extended_l2=on", test_flips);
    return g_test_run();
}
