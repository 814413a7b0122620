/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Internal snapshots of qcow2: random work against a flat model, and both ways with qemu-img. */
#include <errno.h>
#include <glib.h>
#include <string.h>

#include "base/bits.h"
#include "base/byteorder.h"
#include "qcow2_rig.h"

enum { SIZE = 3 << 20, KEPT = 5 };

struct kept {
    char *name; /* NULL = none */
    uint8_t *bytes;
};

struct model {
    struct peer_dir dir;
    char *path;
    struct disk *disk;
    uint8_t *bytes;
    struct kept kept[KEPT];
    GRand *rand;
    unsigned names;
};

static const struct block_image *image(const struct model *m)
{
    return m->disk->driver->image;
}

static struct model begin(const char *options, guint32 seed)
{
    struct model m = {.dir = peer_dir(), .bytes = g_malloc0(SIZE), .rand = g_rand_new_with_seed(seed)};
    m.path = peer_path(&m.dir, "a.qcow2");
    qcow2_make(m.path, SIZE, options);
    m.disk = qcow2_at(m.path, false, NULL);
    if (strstr(options, "encrypt")) /* what was never written reads as anything there */
        g_assert_cmpint(block_pwrite(m.disk, m.bytes, SIZE, 0), ==, 0);
    return m;
}

static void end(struct model *m)
{
    block_free(m->disk);
    for (unsigned i = 0; i < KEPT; i++) {
        g_free(m->kept[i].name);
        g_free(m->kept[i].bytes);
    }
    peer_dir_gone(&m->dir);
    g_free(m->path);
    g_free(m->bytes);
    g_rand_free(m->rand);
}

static void do_write(struct model *m)
{
    const uint64_t at = (uint64_t)g_rand_int_range(m->rand, 0, SIZE / 512) * 512;
    const uint64_t wish = (uint64_t)g_rand_int_range(m->rand, 1, 400) * 512, size = MIN(wish, SIZE - at);
    if (g_rand_int_range(m->rand, 0, 6) == 0) {
        g_assert_cmpint(block_zero(m->disk, at, size, BLOCK_MAY_UNMAP), ==, 0);
        memset(m->bytes + at, 0, size);
        return;
    }
    for (uint64_t i = 0; i < size; i++)
        m->bytes[at + i] = (uint8_t)(g_rand_int(m->rand) >> (i & 7));
    g_assert_cmpint(block_pwrite(m->disk, m->bytes + at, size, at), ==, 0);
}

static struct kept *any(struct model *m, bool there)
{
    const unsigned from = (unsigned)g_rand_int_range(m->rand, 0, KEPT);
    for (unsigned i = 0; i < KEPT; i++)
        if (!!m->kept[(from + i) % KEPT].name == there)
            return &m->kept[(from + i) % KEPT];
    return NULL;
}

static void do_create(struct model *m)
{
    g_autoptr(GError) error = NULL;
    struct kept *k = any(m, false);
    if (!k)
        return;
    k->name = g_strdup_printf("snap-%u", m->names++);
    k->bytes = g_memdup2(m->bytes, SIZE);
    image(m)->snapshot_create(m->disk, k->name, &error);
    g_assert_no_error(error);
}

static void do_apply(struct model *m)
{
    g_autoptr(GError) error = NULL;
    const struct kept *k = any(m, true);
    if (!k)
        return;
    memcpy(m->bytes, k->bytes, SIZE);
    image(m)->snapshot_apply(m->disk, k->name, &error);
    g_assert_no_error(error);
}

static void do_delete(struct model *m)
{
    g_autoptr(GError) error = NULL;
    struct kept *k = any(m, true);
    if (!k)
        return;
    image(m)->snapshot_delete(m->disk, k->name, &error);
    g_assert_no_error(error);
    g_clear_pointer(&k->name, g_free);
    g_clear_pointer(&k->bytes, g_free);
}

/* Closed, it is clean; each snapshot, and the disk, hold what they should. */
static void do_reopen(struct model *m)
{
    g_assert_cmpint(block_flush(m->disk), ==, 0);
    block_free(m->disk);
    qcow2_clean(m->path);
    for (unsigned i = 0; i < KEPT; i++) {
        if (!m->kept[i].name)
            continue;
        AUTO(disk) s = qcow2_at(m->path, true, m->kept[i].name);
        g_assert_cmpuint(s->facts.size, ==, SIZE);
        peer_same(s, m->kept[i].bytes, SIZE);
    }
    m->disk = qcow2_at(m->path, false, NULL);
    peer_same(m->disk, m->bytes, SIZE);
}

static void test_model(gconstpointer options)
{
    struct model m = begin(options, (guint32)g_test_rand_int());
    for (unsigned i = 0; i < 120; i++) {
        switch (g_rand_int_range(m.rand, 0, 16)) {
        case 0:
        case 1: do_create(&m); break;
        case 2: do_apply(&m); break;
        case 3: do_delete(&m); break;
        case 4: do_reopen(&m); break;
        case 5: g_assert_cmpint(block_flush(m.disk), ==, 0); break;
        default: do_write(&m); break;
        }
        if (i % 8 == 0)
            peer_same(m.disk, m.bytes, SIZE);
    }
    do_reopen(&m);
    while (any(&m, true))
        do_delete(&m);
    do_reopen(&m);
    end(&m);
}

/* QEMU makes, applies and deletes what we made and the other way round. */
static void test_qemu(void)
{
    if (!peer_has("qemu-img"))
        return;
    g_autoptr(GError) error = NULL;
    struct model m = begin("", 7);
    g_autofree char *raw = peer_path(&m.dir, "a.raw");
    for (unsigned i = 0; i < 20; i++)
        do_write(&m);
    do_create(&m); /* snap-0 */
    g_autofree uint8_t *first = g_memdup2(m.bytes, SIZE);
    for (unsigned i = 0; i < 5; i++)
        do_write(&m);
    block_free(m.disk);
    peer_run("qemu-img snapshot -c theirs %s", m.path);
    g_autofree uint8_t *second = g_memdup2(m.bytes, SIZE);
    qcow2_clean(m.path);
    m.disk = qcow2_at(m.path, false, NULL);
    for (unsigned i = 0; i < 5; i++)
        do_write(&m);
    g_autoptr(GPtrArray) list = image(&m)->snapshots(m.disk, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(list->len, ==, 2);
    const struct block_snapshot *one = list->pdata[0], *two = list->pdata[1];
    g_assert_cmpstr(one->id, ==, "1");
    g_assert_cmpstr(two->id, ==, "2");
    g_assert_cmpstr(two->name, ==, "theirs");
    g_assert_cmpuint(two->disk_size, ==, SIZE);
    block_free(m.disk);
    qcow2_clean(m.path);
    peer_run("qemu-img convert -f qcow2 -O raw -l snap-0 %s %s", m.path, raw);
    peer_same_file(raw, first, SIZE);
    peer_run("qemu-img snapshot -a snap-0 %s", m.path);
    m.disk = qcow2_at(m.path, false, NULL);
    peer_same(m.disk, first, SIZE);
    image(&m)->snapshot_apply(m.disk, "theirs", &error);
    g_assert_no_error(error);
    peer_same(m.disk, second, SIZE);
    image(&m)->snapshot_delete(m.disk, "2", &error);
    g_assert_no_error(error);
    block_free(m.disk);
    qcow2_clean(m.path);
    peer_run("qemu-img snapshot -d snap-0 %s", m.path);
    qcow2_clean(m.path);
    m.disk = qcow2_at(m.path, false, NULL);
    peer_same(m.disk, second, SIZE);
    g_free(m.kept[0].name);
    m.kept[0].name = NULL;
    end(&m);
}

static void test_refused(void)
{
    g_autoptr(GError) error = NULL;
    struct model m = begin("", 8);
    do_create(&m);
    g_assert_false(image(&m)->snapshot_create(m.disk, "", &error));
    g_clear_error(&error);
    g_assert_false(image(&m)->snapshot_create(m.disk, "snap-0", &error));
    g_assert_nonnull(strstr(error->message, "already"));
    g_clear_error(&error);
    g_assert_false(image(&m)->snapshot_apply(m.disk, "none", &error));
    g_assert_nonnull(strstr(error->message, "\"none\""));
    g_clear_error(&error);
    g_assert_false(image(&m)->snapshot_delete(m.disk, "none", NULL));
    block_free(m.disk);
    g_assert_null(qcow2_try(m.path, false, "snap-0", 0, &error));
    g_assert_nonnull(strstr(error->message, "read-only"));
    g_clear_error(&error);
    g_assert_null(qcow2_try(m.path, true, "none", 0, NULL));
    m.disk = qcow2_at(m.path, true, NULL);
    g_assert_false(image(&m)->snapshot_create(m.disk, "x", NULL));
    end(&m);
}

/* Refcounts of one bit count to one: nothing can be shared, and nothing is changed by trying. */
static void test_full_counts(void)
{
    g_autoptr(GError) error = NULL;
    struct model m = begin("--refcount_bits=1", 9);
    for (unsigned i = 0; i < 20; i++)
        do_write(&m);
    g_assert_false(image(&m)->snapshot_create(m.disk, "x", &error));
    g_assert_nonnull(strstr(error->message, "refcounts"));
    do_reopen(&m);
    do_write(&m);
    do_reopen(&m);
    end(&m);
}

/* A table with any number in it does no harm. */
static void test_damage(void)
{
    struct model m = begin("--cluster_size=4K", 10);
    for (unsigned i = 0; i < 10; i++)
        do_write(&m);
    do_create(&m);
    do_create(&m);
    g_clear_pointer(&m.disk, block_free);
    g_autofree char *whole = NULL;
    gsize size = 0;
    g_assert_true(g_file_get_contents(m.path, &whole, &size, NULL));
    const uint64_t table = ld64be(whole + 64);
    static const uint32_t values[] = {0, 1, 0x7fffffff, 0x80000000, UINT32_MAX, 0x10000};
    for (unsigned at = 0; at < 160; at += 2)
        for (unsigned v = 0; v < ARRAY_SIZE(values); v++) {
            g_autofree char *bad = g_memdup2(whole, size);
            st32be(bad + table + at, values[v]);
            g_assert_true(g_file_set_contents(m.path, bad, (gssize)size, NULL));
            m.disk = qcow2_at(m.path, false, NULL);
            g_clear_pointer(&(GPtrArray *){image(&m)->snapshots(m.disk, NULL)}, g_ptr_array_unref);
            (void)image(&m)->snapshot_apply(m.disk, "snap-1", NULL);
            (void)image(&m)->snapshot_delete(m.disk, "snap-0", NULL);
            g_clear_pointer(&m.disk, block_free);
        }
    end(&m);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    static const struct {
        const char *name, *options;
    } kinds[] = {
        {"plain", ""},
        {"old", "--compat=0.10"},
        {"small", "--cluster_size=1K"},
        {"wide", "--refcount_bits=64 --cluster_size=4K"},
        {"lazy", "--lazy_refcounts=on --cluster_size=4K"},
        {"extended", "--extended_l2=on --cluster_size=32K"},
        {"encrypted", "--encrypt.format=luks --encrypt.iter-time=1"},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++) {
        g_autofree char *path = g_strdup_printf("/qcow2-snapshot/model/%s", kinds[i].name);
        g_test_add_data_func(path, kinds[i].options, test_model);
    }
    g_test_add_func("/qcow2-snapshot/qemu", test_qemu);
    g_test_add_func("/qcow2-snapshot/refused", test_refused);
    g_test_add_func("/qcow2-snapshot/full-counts", test_full_counts);
    g_test_add_func("/qcow2-snapshot/damage", test_damage);
    return g_test_run();
}
