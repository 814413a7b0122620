/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Persistent bitmaps of qcow2: what was written is marked, stored, and the same to QEMU; crashes; damage. */
#include <errno.h>
#include <glib.h>
#include <pthread.h>
#include <string.h>

#include "base/bits.h"
#include "base/byteorder.h"
#include "qcow2_rig.h"

enum { SIZE = (5 << 20) + 512, GRAIN = 4096, GRAINS = SIZE / GRAIN + 1 };

struct model {
    struct peer_dir dir;
    char *path;
    struct disk *disk;
    bool marked[GRAINS]; /* what "one" must say */
    GRand *rand;
};

static const struct block_image *image(const struct model *m)
{
    return m->disk->driver->image;
}

static struct model begin(const char *options, guint32 seed)
{
    struct model m = {.dir = peer_dir(), .rand = g_rand_new_with_seed(seed)};
    m.path = peer_path(&m.dir, "a.qcow2");
    qcow2_make(m.path, SIZE, options);
    m.disk = qcow2_at(m.path, false, NULL);
    return m;
}

static void end(struct model *m)
{
    block_free(m->disk);
    peer_dir_gone(&m->dir);
    g_free(m->path);
    g_rand_free(m->rand);
}

static void reopen(struct model *m)
{
    block_free(m->disk);
    qcow2_clean(m->path);
    m->disk = qcow2_at(m->path, false, NULL);
}

#define OK(call)                                                                                             \
    do {                                                                                                     \
        g_autoptr(GError) error = NULL;                                                                      \
        (void)(call);                                                                                        \
        g_assert_no_error(error);                                                                            \
    } while (0)

static void do_change(struct model *m)
{
    static uint8_t bytes[65536];
    const uint64_t at = (uint64_t)g_rand_int_range(m->rand, 0, SIZE / 512) * 512;
    const uint64_t wish = (uint64_t)g_rand_int_range(m->rand, 1, 129) * 512;
    const uint64_t size = MIN(MIN(wish, sizeof(bytes)), SIZE - at);
    memset(bytes, (int)g_rand_int(m->rand), size);
    switch (g_rand_int_range(m->rand, 0, 4)) {
    case 0: g_assert_cmpint(block_zero(m->disk, at, size, BLOCK_MAY_UNMAP), ==, 0); break;
    default: g_assert_cmpint(block_pwrite(m->disk, bytes, size, at), ==, 0); break;
    }
    for (uint64_t i = at / GRAIN; i <= (at + size - 1) / GRAIN; i++)
        m->marked[i] = true;
}

/* The bitmap says what `marked` says, in pieces that cover the disk and are as long as they can be. */
static void check_bits(struct model *m, const char *name, const bool *marked)
{
    for (uint64_t at = 0, size; at < SIZE; at += size) {
        bool is;
        size = SIZE - at;
        OK(image(m)->bitmap_at(m->disk, name, at, &size, &is, &error));
        g_assert_cmpuint(size, >, 0);
        for (uint64_t i = at / GRAIN; i < (at + size + GRAIN - 1) / GRAIN; i++)
            if (is != marked[i])
                g_error("%s: grain %u is %s", name, (unsigned)i, is ? "marked" : "not marked");
        if (at + size < SIZE)
            g_assert_cmpint(marked[(at + size) / GRAIN], !=, is);
    }
}

static void test_model(gconstpointer options)
{
    struct model m = begin(options, (guint32)g_test_rand_int());
    OK(image(&m)->bitmap_add(m.disk, "one", GRAIN, true, &error));
    for (unsigned i = 0; i < 200; i++) {
        switch (g_rand_int_range(m.rand, 0, 12)) {
        case 0: reopen(&m); break;
        case 1: check_bits(&m, "one", m.marked); break;
        case 2:
            if (i % 3 == 0) {
                OK(image(&m)->bitmap_clear(m.disk, "one", &error));
                memset(m.marked, 0, sizeof(m.marked));
            }
            break;
        default: do_change(&m); break;
        }
    }
    reopen(&m);
    check_bits(&m, "one", m.marked);
    OK(image(&m)->bitmap_remove(m.disk, "one", &error));
    reopen(&m);
    g_autoptr(GPtrArray) none = image(&m)->bitmaps(m.disk, NULL);
    g_assert_cmpuint(none->len, ==, 0);
    end(&m);
}

/* Those that are disabled keep what they have; merging is "or", also between granularities. */
static void test_several(void)
{
    struct model m = begin("--cluster_size=4K", 11);
    bool first[GRAINS], both[GRAINS];
    OK(image(&m)->bitmap_add(m.disk, "one", GRAIN, true, &error));
    OK(image(&m)->bitmap_add(m.disk, "fine", 512, false, &error));
    OK(image(&m)->bitmap_add(m.disk, "coarse", 65536, true, &error));
    for (unsigned i = 0; i < 5; i++)
        do_change(&m);
    OK(image(&m)->bitmap_enable(m.disk, "one", false, &error));
    memcpy(first, m.marked, sizeof(first));
    OK(image(&m)->bitmap_add(m.disk, "two", GRAIN, true, &error));
    memset(m.marked, 0, sizeof(m.marked));
    for (unsigned i = 0; i < 5; i++)
        do_change(&m);
    reopen(&m);
    check_bits(&m, "one", first);
    check_bits(&m, "two", m.marked);
    OK(image(&m)->bitmap_merge(m.disk, "two", m.disk, "one", &error));
    for (unsigned i = 0; i < GRAINS; i++)
        both[i] = first[i] || m.marked[i];
    check_bits(&m, "two", both);
    OK(image(&m)->bitmap_merge(m.disk, "fine", m.disk, "two", &error));
    check_bits(&m, "fine", both);
    reopen(&m);
    check_bits(&m, "fine", both);
    bool is;
    for (unsigned i = 0; i < GRAINS; i++) {
        OK(image(&m)->bitmap_at(m.disk, "coarse", (uint64_t)i * GRAIN, &(uint64_t){1}, &is, &error));
        g_assert_true(is || !both[i]);
    }
    g_autoptr(GPtrArray) all = image(&m)->bitmaps(m.disk, NULL);
    g_assert_cmpuint(all->len, ==, 4);
    const struct block_bitmap *b = all->pdata[0];
    g_assert_cmpstr(b->name, ==, "one");
    g_assert_cmpuint(b->granularity, ==, GRAIN);
    g_assert_false(b->enabled);
    g_assert_false(b->in_use);
    end(&m);
}

/* QEMU stores what we noted as it is, and we see what it noted. */
static void test_qemu(void)
{
    if (!peer_has("qemu-img") || !peer_has("qemu-io"))
        return;
    struct model m = begin("", 12);
    OK(image(&m)->bitmap_add(m.disk, "one", GRAIN, true, &error));
    for (unsigned i = 0; i < 8; i++)
        do_change(&m);
    block_free(m.disk);
    peer_run("qemu-img bitmap --add -g 4096 %s two && qemu-img bitmap --disable %s two && "
             "qemu-img bitmap --merge one %s two",
             m.path, m.path, m.path);
    peer_run("qemu-io -f qcow2 -c 'write -P 3 1M 100K' -c 'write -P 4 5242880 512' %s", m.path);
    qcow2_clean(m.path);
    m.disk = qcow2_at(m.path, false, NULL);
    check_bits(&m, "two", m.marked);
    for (unsigned i = MiB / GRAIN; i < (MiB + 100 * KiB) / GRAIN; i++)
        m.marked[i] = true;
    m.marked[GRAINS - 1] = true;
    check_bits(&m, "one", m.marked);
    /* What `info` tells is what QEMU tells. */
    struct block_image_info info = {0};
    if (image(&m)->info && image(&m)->info(m.disk, &info, NULL)) {
        block_free(m.disk);
        g_autofree char *text = peer_output("qemu-img info --output=json -f qcow2 %s", m.path);
        json_t *told = json_loads(text, 0, NULL);
        json_t *data = json_object_get(json_object_get(told, "format-specific"), "data");
        g_assert_true(
            json_equal(json_object_get(data, "bitmaps"), json_object_get(info.specific, "bitmaps")));
        json_decref(told);
        block_image_info_clear(&info);
        m.disk = qcow2_at(m.path, false, NULL);
    }
    end(&m);
}

/* A copy of the image as it is in the middle of work: its bitmap is known to be in use, and its disk is
 * right. */
static void test_crash(void)
{
    struct model m = begin("", 13);
    g_autofree char *copy = peer_path(&m.dir, "copy.qcow2");
    OK(image(&m)->bitmap_add(m.disk, "one", GRAIN, true, &error));
    OK(image(&m)->bitmap_add(m.disk, "kept", GRAIN, false, &error));
    for (unsigned written = 0; written < 2; written++) {
        g_autofree char *bytes = NULL;
        gsize size = 0;
        g_assert_true(g_file_get_contents(m.path, &bytes, &size, NULL));
        g_assert_true(g_file_set_contents(copy, bytes, (gssize)size, NULL));
        AUTO(disk) c = qcow2_at(copy, false, NULL);
        g_autoptr(GPtrArray) all = c->driver->image->bitmaps(c, NULL);
        const struct block_bitmap *one = all->pdata[0], *kept = all->pdata[1];
        g_assert_cmpint(one->in_use, ==, written);
        g_assert_false(kept->in_use);
        bool is;
        uint64_t range = SIZE;
        g_assert_cmpint(c->driver->image->bitmap_at(c, "one", 0, &range, &is, NULL), ==, !written);
        g_assert_cmpint(c->driver->image->bitmap_clear(c, "one", NULL), ==, !written);
        g_assert_true(c->driver->image->bitmap_remove(c, "one", NULL));
        block_free(STEAL(c));
        qcow2_clean(copy);
        do_change(&m);
        g_assert_cmpint(block_flush(m.disk), ==, 0);
    }
    end(&m);
}

/* Who does not know of bitmaps clears the bit: they are no longer true, and nothing of them is believed. */
static void test_autoclear(void)
{
    struct model m = begin("", 14);
    OK(image(&m)->bitmap_add(m.disk, "one", GRAIN, true, &error));
    g_clear_pointer(&m.disk, block_free);
    int fd = g_open(m.path, O_RDWR | O_CLOEXEC);
    uint8_t zeroes[8] = {0};
    g_assert_cmpint(pwrite(fd, zeroes, 8, 88), ==, 8);
    close(fd);
    m.disk = qcow2_at(m.path, false, NULL);
    g_autoptr(GPtrArray) all = image(&m)->bitmaps(m.disk, NULL);
    g_assert_cmpuint(all->len, ==, 0);
    OK(image(&m)->bitmap_add(m.disk, "new", GRAIN, true, &error));
    do_change(&m);
    block_free(m.disk);
    m.disk = qcow2_at(m.path, false, NULL);
    check_bits(&m, "new", m.marked);
    end(&m);
}

static void test_resize(void)
{
    struct model m = begin("", 15);
    if (!image(&m)->resize) {
        g_test_skip("no resizing yet");
        end(&m);
        return;
    }
    OK(image(&m)->bitmap_add(m.disk, "one", GRAIN, true, &error));
    OK(image(&m)->bitmap_add(m.disk, "kept", GRAIN, false, &error));
    for (unsigned i = 0; i < 5; i++)
        do_change(&m);
    static const uint64_t sizes[] = {SIZE * 40ull / 512 * 512, SIZE, 3 * MiB, SIZE};
    bool is;
    for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
        g_assert_cmpint(block_resize(m.disk, sizes[i]), ==, 0);
        reopen(&m);
        uint64_t one = 1;
        OK(image(&m)->bitmap_at(m.disk, "kept", sizes[i] - 1, &one, &is, &error));
        g_assert_false(is);
        if (sizes[i] == 3 * MiB)
            memset(m.marked + 3 * MiB / GRAIN, 0, GRAINS - 3 * MiB / GRAIN);
    }
    /* Whether a grain that is cut and comes back counts as written is not said; it may. */
    for (unsigned i = 0; i < 3 * MiB / GRAIN; i++) {
        OK(image(&m)->bitmap_at(m.disk, "one", (uint64_t)i * GRAIN, &(uint64_t){1}, &is, &error));
        g_assert_cmpint(is, ==, m.marked[i]);
    }
    end(&m);
}

static void test_refused(void)
{
    struct model m = begin("--compat=0.10", 16);
    g_autoptr(GError) why = NULL;
    g_assert_false(image(&m)->bitmap_add(m.disk, "one", GRAIN, true, &why));
    g_assert_nonnull(strstr(why->message, "1.1"));
    end(&m);
    m = begin("", 17);
    g_assert_false(image(&m)->bitmap_add(m.disk, "one", 1000, true, NULL));
    g_assert_false(image(&m)->bitmap_add(m.disk, "one", 256, true, NULL));
    g_assert_false(image(&m)->bitmap_add(m.disk, "", GRAIN, true, NULL));
    g_assert_false(image(&m)->bitmap_remove(m.disk, "one", NULL));
    g_assert_false(image(&m)->bitmap_enable(m.disk, "one", true, NULL));
    OK(image(&m)->bitmap_add(m.disk, "one", 0, true, &error));
    g_assert_false(image(&m)->bitmap_add(m.disk, "one", GRAIN, true, NULL));
    block_free(m.disk);
    m.disk = qcow2_at(m.path, true, NULL);
    g_assert_false(image(&m)->bitmap_add(m.disk, "two", GRAIN, true, NULL));
    end(&m);
}

/* Any number in the extension, the directory, a table: refused, or harmless. */
static void test_damage(void)
{
    static const uint32_t values[] = {0, 1, 8, 0x7fffffff, 0x80000000, UINT32_MAX, 0x10000};
    struct model m = begin("--cluster_size=4K", 18);
    OK(image(&m)->bitmap_add(m.disk, "one", GRAIN, true, &error));
    OK(image(&m)->bitmap_add(m.disk, "two", 512, false, &error));
    do_change(&m);
    g_clear_pointer(&m.disk, block_free);
    g_autofree char *whole = NULL;
    gsize size = 0;
    g_assert_true(g_file_get_contents(m.path, &whole, &size, NULL));
    uint64_t extension = 112;
    while (ld32be(whole + extension) != 0x23852875)
        extension += 8 + align_up(ld32be(whole + extension + 4), 8);
    const uint64_t directory = ld64be(whole + extension + 24), table = ld64be(whole + directory);
    const struct {
        uint64_t at, size;
    } parts[] = {{extension, 32}, {directory, 80}, {table, 16}};
    for (unsigned p = 0; p < ARRAY_SIZE(parts); p++)
        for (uint64_t at = parts[p].at; at < parts[p].at + parts[p].size; at += 2)
            for (unsigned v = 0; v < ARRAY_SIZE(values); v++) {
                g_autofree char *bad = g_memdup2(whole, size);
                st32be(bad + at, values[v]);
                g_assert_true(g_file_set_contents(m.path, bad, (gssize)size, NULL));
                AUTO(disk) r = qcow2_try(m.path, true, NULL, 0, NULL);
                if (r) {
                    g_clear_pointer(&(GPtrArray *){r->driver->image->bitmaps(r, NULL)}, g_ptr_array_unref);
                    bool is;
                    (void)r->driver->image->bitmap_at(r, "two", 0, &(uint64_t){SIZE}, &is, NULL);
                }
                block_free(STEAL(r));
                AUTO(disk) w = qcow2_try(m.path, false, NULL, 0, NULL);
                if (w) {
                    uint8_t bytes[512] = {1};
                    (void)block_pwrite(w, bytes, sizeof(bytes), 0);
                    (void)w->driver->image->bitmap_clear(w, "two", NULL);
                    (void)w->driver->image->bitmap_remove(w, "one", NULL);
                }
            }
    end(&m);
}

static void *worker(void *opaque)
{
    struct disk *b = opaque;
    uint8_t bytes[512] = {7};
    for (unsigned i = 0; i < 300; i++)
        g_assert_cmpint(block_pwrite(b, bytes, sizeof(bytes), (uint64_t)i * 2 * GRAIN), ==, 0);
    return NULL;
}

static void test_threads(void)
{
    struct model m = begin("", 19);
    OK(image(&m)->bitmap_add(m.disk, "one", GRAIN, true, &error));
    reopen(&m);
    pthread_t threads[4];
    for (unsigned i = 0; i < ARRAY_SIZE(threads); i++)
        g_assert_false(pthread_create(&threads[i], NULL, worker, m.disk));
    for (unsigned i = 0; i < ARRAY_SIZE(threads); i++)
        pthread_join(threads[i], NULL);
    for (unsigned i = 0; i < 300; i++)
        m.marked[i * 2] = true;
    check_bits(&m, "one", m.marked);
    reopen(&m);
    check_bits(&m, "one", m.marked);
    end(&m);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_data_func("/qcow2-bitmap/model/plain", "", test_model);
    g_test_add_data_func("/qcow2-bitmap/model/small", "--cluster_size=1K", test_model);
    g_test_add_data_func("/qcow2-bitmap/model/extended", "--extended_l2=on", test_model);
    g_test_add_func("/qcow2-bitmap/several", test_several);
    g_test_add_func("/qcow2-bitmap/qemu", test_qemu);
    g_test_add_func("/qcow2-bitmap/crash", test_crash);
    g_test_add_func("/qcow2-bitmap/autoclear", test_autoclear);
    g_test_add_func("/qcow2-bitmap/resize", test_resize);
    g_test_add_func("/qcow2-bitmap/refused", test_refused);
    g_test_add_func("/qcow2-bitmap/damage", test_damage);
    g_test_add_func("/qcow2-bitmap/threads", test_threads);
    return g_test_run();
}
