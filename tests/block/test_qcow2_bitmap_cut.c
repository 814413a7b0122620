/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Persistent bitmaps when the power is cut at any moment, and when any operation of the host fails. */
/*
 * What must hold of any image that is left: it opens, nothing is wrong with it but leaks, and a bitmap that
 * is said to be right has marked everything in which the disk differs from what it was when the bitmap was
 * made.
 */
#include <errno.h>
#include <glib.h>
#include <string.h>

#include "base/bits.h"
#include "base/cleanup.h"
#include "block/filter/fault.h"
#include "block/filter/recorder.h"
#include "block/format/qcow2/qcow2_int.h"
#include "block/image.h"
#include "images.h"
#include "powercut/cut.h"
#include "store.h"

enum { SIZE = 256 << 10, GRAIN = 4096 };

static const struct image_setup setup = {
    .name = "bitmaps", .driver = "qcow2", .options = "cluster_size=4K", .size = SIZE};

struct script {
    struct store *store;
    struct disk *disk, *fault;
    GRand *rand;
};

/* What the disk held when the bitmaps were made. */
static void old_content(uint8_t *bytes)
{
    for (unsigned i = 0; i < SIZE; i++)
        bytes[i] = i < SIZE / 2 ? (uint8_t)(i / 512 + 1) : 0;
}

/* The filter outlives the disk, since closing does things to the file, too. */
static bool reopen(struct script *s)
{
    block_free(STEAL(s->disk));
    s->disk = image_open(&setup, qcow2_lend(s->fault), NULL, 0, false, NULL, NULL);
    return s->disk;
}

static void put_filters(struct script *s, struct block_record *record)
{
    struct disk *file = store_disk(s->store, false, true);
    block_free(STEAL(s->disk));
    block_free(STEAL(s->fault));
    s->fault = block_fault_new(record ? block_recorder_new(file, record) : file);
}

/* An image with a bitmap that is not enabled. What is done next is noted in record (or NULL). */
static struct script begin(struct block_record *record)
{
    struct script s = {.store = image_make(&setup), .rand = g_rand_new_with_seed(5)};
    g_autofree uint8_t *bytes = g_malloc(SIZE);
    old_content(bytes);
    put_filters(&s, NULL);
    g_assert_true(reopen(&s));
    g_assert_cmpint(block_pwrite(s.disk, bytes, SIZE / 2, 0), ==, 0);
    g_assert_true(s.disk->driver->image->bitmap_add(s.disk, "zeroth", GRAIN, false, NULL));
    put_filters(&s, record);
    return s;
}

static void end(struct script *s)
{
    block_free(s->disk);
    block_free(s->fault);
    store_free(s->store);
    g_rand_free(s->rand);
}

static void change(struct script *s)
{
    uint8_t bytes[6000];
    const uint64_t at = (uint64_t)g_rand_int_range(s->rand, 0, (SIZE - 6000) / 512) * 512;
    memset(bytes, g_rand_int_range(s->rand, 0, 256), sizeof(bytes));
    if (g_rand_int_range(s->rand, 0, 4) == 0)
        (void)block_zero(s->disk, at, 5632, BLOCK_MAY_UNMAP);
    else
        (void)block_pwrite(s->disk, bytes, 512 * (size_t)g_rand_int_range(s->rand, 1, 12), at);
}

/* All that is done with bitmaps, between writes. Some of it may fail. */
static void run(struct script *s)
{
    if (!reopen(s))
        return;
    const struct block_image *image = s->disk->driver->image;
    (void)image->bitmap_add(s->disk, "one", GRAIN, true, NULL);
    (void)image->bitmap_add(s->disk, "fine", 512, true, NULL);
    for (unsigned i = 0; i < 24 && s->disk; i++) {
        change(s);
        switch (i) {
        case 3:
        case 9:
        case 16: (void)reopen(s); break;
        case 5: (void)block_flush(s->disk); break;
        case 6: (void)image->bitmap_merge(s->disk, "zeroth", s->disk, "one", NULL); break;
        case 8: (void)image->bitmap_clear(s->disk, "zeroth", NULL); break;
        case 11: (void)image->bitmap_add(s->disk, "later", 65536, true, NULL); break;
        case 13: (void)image->bitmap_remove(s->disk, "fine", NULL); break;
        case 14: (void)image->snapshot_create(s->disk, "snap", NULL); break;
        case 18: (void)image->snapshot_delete(s->disk, "snap", NULL); break;
        case 20: (void)image->bitmap_remove(s->disk, "later", NULL); break;
        default: break;
        }
    }
    block_free(STEAL(s->disk));
}

/* What is said about the file, and whose it is, for messages. */
static void say(void *opaque, const char *line)
{
    g_string_append_printf(opaque, "%s\n", line);
}

/* Has it marked all that differs? grain: of the bitmap. */
static void check_bitmap(struct disk *b, const char *name, uint32_t grain, const uint8_t *old,
                         const char *how)
{
    g_autofree uint8_t *now = g_malloc(SIZE);
    g_assert_cmpint(block_pread(b, now, SIZE, 0), ==, 0);
    for (uint64_t at = 0; at < SIZE; at += grain) {
        bool marked = false;
        if (!memcmp(now + at, old + at, grain))
            continue;
        if (!b->driver->image->bitmap_at(b, name, at, &(uint64_t){1}, &marked, NULL) || !marked)
            g_error("%s: bitmap %s does not say that %u has changed", how, name, (unsigned)at);
    }
}

static void check_bitmaps(struct disk *b, const uint8_t *old, const char *how)
{
    g_autoptr(GPtrArray) all = b->driver->image->bitmaps(b, NULL);
    if (!all)
        g_error("%s: no list of bitmaps", how);
    for (guint i = 0; i < all->len; i++) {
        const struct block_bitmap *m = all->pdata[i];
        if (!m->in_use && (!strcmp(m->name, "one") || !strcmp(m->name, "fine")))
            check_bitmap(b, m->name, m->granularity, old, how);
    }
}

static void check(struct store *store, const char *how)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GString) said = g_string_new(NULL);
    g_autofree uint8_t *old = g_malloc(SIZE);
    struct block_check result = {.report = say, .opaque = said};
    old_content(old);
    AUTO(disk) b = image_open(&setup, store_disk(store, false, true), NULL, 0, false, NULL, &error);
    if (!b)
        g_error("%s: %s", how, error->message);
    if (!b->driver->image->check(b, 0, &result, &error))
        g_error("%s: %s", how, error->message);
    if (result.corruptions || result.errors)
        g_error("%s: %s", how, said->str);
    check_bitmaps(b, old, how);
}

static void test_cut(void)
{
    AUTO(block_record) record = block_record_new();
    struct script s = begin(record);
    AUTO(store) first = store_copy(s.store);
    struct cutter c;
    run(&s);
    cutter_init(&c, record, first, true, (guint32)g_test_rand_int());
    unsigned tried = 0;
    do {
        for (unsigned i = 0; i < 4; i++) {
            g_autofree char *how = NULL;
            AUTO(store) left = i ? cutter_subset(&c, &how) : cutter_prefix(&c, &how);
            check(left, how);
            tried++;
        }
    } while (cutter_step(&c));
    g_test_message("%u images", tried);
    g_assert_cmpuint(tried, >, 200);
    cutter_fini(&c);
    end(&s);
}

static void test_faults(void)
{
    static const enum block_fault_kind kinds[] = {BLOCK_FAULT_WRITE, BLOCK_FAULT_FLUSH, BLOCK_FAULT_READ};
    for (unsigned k = 0; k < ARRAY_SIZE(kinds); k++)
        for (unsigned i = 0, all = 1; i < all; i++) {
            struct script s = begin(NULL);
            block_fault_set(s.fault, kinds[k], i, 1, -EIO, 0);
            run(&s);
            if (!i) { /* the first one fails early: how many there are is known when none does */
                struct script whole = begin(NULL);
                run(&whole);
                all = block_fault_count(whole.fault, kinds[k]);
                end(&whole);
            }
            g_autofree char *how = g_strdup_printf("operation %u of %u of kind %u fails", i, all, kinds[k]);
            check(s.store, how);
            end(&s);
        }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/qcow2-bitmap-cut/cut", test_cut);
    g_test_add_func("/qcow2-bitmap-cut/faults", test_faults);
    return g_test_run();
}
