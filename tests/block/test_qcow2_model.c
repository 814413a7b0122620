/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* A million random operations on qcow2, and after each of them: no cluster has two owners, no refcount is
 * wrong. */
/*
 * HOSTEL_STEPS=N  operations in all, shared by the kinds of images (30,000)
 * HOSTEL_SEED=N   printed
 *
 * After each step the file's bytes are walked over by code of the test's own (qcow2_walk.h). Before a flush
 * the file may lag behind, and what lost its last owner may still be counted; when it is closed all must fit.
 * The disk and its snapshots are compared with flat copies now and then, and our own check looks, too.
 */
#include <malloc.h>
#include <string.h>

#include "base/bits.h"
#include "images.h"
#include "qcow2_walk.h"

enum { SNAPSHOTS = 4, COMPARE_EVERY = 97, CHECK_EVERY = 501 };

static const struct image_setup setups[] = {
    {.name = "512", .driver = "qcow2", .options = "cluster_size=512", .size = 160 * KiB},
    {.name = "512-v2", .driver = "qcow2", .options = "compat=0.10,cluster_size=512", .size = 160 * KiB},
    {.name = "1k-refcount8",
     .driver = "qcow2",
     .options = "cluster_size=1K,refcount_bits=8",
     .size = 300 * KiB},
    {.name = "4k-backed",
     .driver = "qcow2",
     .options = "cluster_size=4K",
     .size = 768 * KiB,
     .base_size = 512 * KiB},
    {.name = "16k-extended",
     .driver = "qcow2",
     .options = "cluster_size=16K,extended_l2=on",
     .size = 2 * MiB},
    {.name = "4k-lazy", .driver = "qcow2", .options = "cluster_size=4K,lazy_refcounts=on", .size = 768 * KiB},
};

static struct {
    unsigned steps; /* for each setup */
    uint32_t seed;
} plan;

struct flat {
    char *name;
    uint8_t *bytes;
    uint64_t size;
};

struct world {
    const struct image_setup *setup;
    GRand *rand;
    struct store *image, *base;
    struct disk *disk;
    struct flat now, snapshot[SNAPSHOTS]; /* name NULL: there is none */
    unsigned names, step, done[12];
    unsigned most_shared, most_compressed, most_leaked;
};

static uint32_t pick(struct world *w, uint32_t below)
{
    return g_rand_int(w->rand) % below;
}

static const struct block_image *image(void)
{
    return block_driver_find("qcow2")->image;
}

static G_GNUC_PRINTF(2, 3) void stop(const struct world *w, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *line = g_strdup_vprintf(format, args);
    va_end(args);
    g_error("%s, HOSTEL_SEED=%u, step %u: %s", w->setup->name, plan.seed, w->step, line);
}

static void must(struct world *w, int status, const char *what)
{
    if (status)
        stop(w, "%s: %s", what, g_strerror(-status));
}

static void must_tell(struct world *w, bool done, GError *error)
{
    if (!done)
        stop(w, "%s", error->message);
}

/* --- what must be --- */

static void open_disk(struct world *w)
{
    g_autoptr(GError) error = NULL;
    w->disk = image_open(w->setup, store_disk(w->image, false, true), w->base, 0, false, NULL, &error);
    must_tell(w, w->disk, error);
}

static void walk(struct world *w, bool settled)
{
    struct qcow2_walk found;
    g_autofree char *wrong = qcow2_walk(w->image, settled, &found);
    if (wrong)
        stop(w, "%s%s", wrong, settled ? "; it is closed" : "");
    w->most_shared = MAX(w->most_shared, (unsigned)found.shared);
    w->most_compressed = MAX(w->most_compressed, (unsigned)found.compressed);
    w->most_leaked = MAX(w->most_leaked, (unsigned)found.leaked);
}

static void compare(struct world *w, struct disk *b, const struct flat *flat)
{
    g_autofree uint8_t *bytes = g_malloc(flat->size);
    if (b->facts.size != flat->size)
        stop(w, "%s has %u bytes, not %u", flat->name, (unsigned)b->facts.size, (unsigned)flat->size);
    must(w, block_pread(b, bytes, flat->size, 0), "reading all");
    for (uint64_t i = 0; i < flat->size; i++)
        if (bytes[i] != flat->bytes[i])
            stop(w, "byte %u of %s is %u, not %u", (unsigned)i, flat->name, bytes[i], flat->bytes[i]);
}

static void compare_all(struct world *w)
{
    must(w, block_flush(w->disk), "flush");
    compare(w, w->disk, &w->now);
    for (unsigned i = 0; i < SNAPSHOTS; i++) {
        g_autoptr(GError) error = NULL;
        if (!w->snapshot[i].name)
            continue;
        AUTO(disk)
        b = image_open(w->setup, store_disk(w->image, true, true), w->base, 0, true, w->snapshot[i].name,
                       &error);
        must_tell(w, b, error);
        compare(w, b, &w->snapshot[i]);
    }
}

static void check(struct world *w)
{
    g_autoptr(GError) error = NULL;
    struct block_check c = {0};
    if (!image()->check)
        return;
    const bool looked = image()->check(w->disk, 0, &c, &error);
    must_tell(w, looked, error);
    if (c.corruptions || c.errors)
        stop(w, "our check finds %u corruptions, %u errors", (unsigned)c.corruptions, (unsigned)c.errors);
}

/* --- operations --- */

static uint64_t range(struct world *w, uint64_t *size)
{
    const uint64_t cluster = w->disk->facts.cluster;
    uint64_t at = pick(w, (uint32_t)w->now.size);
    *size = 1 + pick(w, (uint32_t)(pick(w, 3) ? 2 * cluster : 20 * cluster));
    if (pick(w, 2)) {
        at -= at % cluster;
        *size += cluster - *size % cluster;
    }
    *size = MIN(*size, w->now.size - at);
    return at;
}

static void do_write(struct world *w)
{
    uint64_t size, at = range(w, &size);
    const uint32_t key = g_rand_int(w->rand);
    for (uint64_t i = 0; i < size; i++)
        w->now.bytes[at + i] = (uint8_t)(key >> i % 4 * 8);
    must(w, block_pwrite(w->disk, w->now.bytes + at, size, at), "write");
}

static void do_zero(struct world *w)
{
    uint64_t size, at = range(w, &size);
    memset(w->now.bytes + at, 0, size);
    must(w, block_zero(w->disk, at, size, pick(w, 2) ? BLOCK_MAY_UNMAP : 0), "zero");
}

/* Whatever is read then must stay so. */
static void do_discard(struct world *w)
{
    uint64_t size, at = range(w, &size);
    must(w, block_discard(w->disk, at, size), "discard");
    must(w, block_pread(w->disk, w->now.bytes + at, size, at), "read");
}

static void do_compressed(struct world *w)
{
    const uint64_t cluster = w->disk->facts.cluster,
                   at = pick(w, (uint32_t)(w->now.size / cluster)) * cluster;
    struct block_extent extent;
    must(w, block_extent(w->disk, at, cluster, &extent), "extent");
    if (extent.size < cluster || !extent.hole) /* it holds something */
        return;
    uint8_t *bytes = w->now.bytes + at;
    for (uint64_t i = 0; i < cluster; i++)
        bytes[i] = (uint8_t)pick(w, i < cluster / 4 ? 200 : 1);
    must(w, block_write_compressed(w->disk, bytes, at, cluster), "compressed");
}

static void do_resize(struct world *w)
{
    const uint64_t most = w->setup->size * 5 / 4, size = w->setup->size / 2 + pick(w, (uint32_t)(most / 2));
    const uint64_t whole = size - size % BLOCK_SECTOR, old = w->now.size;
    if (block_resize(w->disk, whole))
        return; /* shorter, or with snapshots */
    if (whole > old)
        memset(w->now.bytes + old, 0, whole - old);
    w->now.size = whole;
}

static struct flat *some(struct world *w, bool there)
{
    struct flat *f = &w->snapshot[pick(w, SNAPSHOTS)];
    return (f->name != NULL) == there ? f : NULL;
}

static void do_snapshot(struct world *w)
{
    g_autoptr(GError) error = NULL;
    struct flat *f = some(w, false);
    if (!f)
        return;
    f->name = g_strdup_printf("snapshot-%u", w->names++);
    f->bytes = g_memdup2(w->now.bytes, w->now.size);
    f->size = w->now.size;
    const bool made = image()->snapshot_create(w->disk, f->name, &error);
    must_tell(w, made, error);
}

static void do_apply(struct world *w)
{
    g_autoptr(GError) error = NULL;
    struct flat *f = some(w, true);
    if (!f || !image()->snapshot_apply(w->disk, f->name, &error)) {
        if (f && f->size == w->now.size)
            stop(w, "%s", error->message);
        return;
    }
    memcpy(w->now.bytes, f->bytes, f->size);
    w->now.size = f->size;
}

static void do_delete(struct world *w)
{
    g_autoptr(GError) error = NULL;
    struct flat *f = some(w, true);
    if (!f)
        return;
    const bool deleted = image()->snapshot_delete(w->disk, f->name, &error);
    must_tell(w, deleted, error);
    g_free(f->bytes);
    g_free(f->name);
    *f = (struct flat){0};
}

static void do_reopen(struct world *w)
{
    must(w, block_flush(w->disk), "flush");
    block_free(w->disk);
    walk(w, true);
    open_disk(w);
}

static void do_flush(struct world *w)
{
    must(w, block_flush(w->disk), "flush");
}

static void step(struct world *w)
{
    static const struct {
        unsigned weight;
        void (*run)(struct world *w);
        bool snapshots;
    } kinds[] = {
        {30, do_write, false}, {10, do_zero, false}, {14, do_discard, false}, {10, do_compressed, false},
        {2, do_resize, false}, {5, do_flush, false}, {2, do_reopen, false},   {4, do_snapshot, true},
        {3, do_apply, true},   {4, do_delete, true},
    };
    unsigned at = pick(w, 84), i = 0;
    while (at >= kinds[i].weight)
        at -= kinds[i++].weight;
    if (kinds[i].snapshots && !image()->snapshot_create)
        return;
    kinds[i].run(w);
    w->done[i]++;
    if (pick(w, 4)) /* some states are left to grow */
        do_flush(w);
    walk(w, false);
}

static void test_setup(gconstpointer setup)
{
    struct world w = {.setup = setup, .rand = g_rand_new_with_seed(plan.seed)};
    w.base = image_base(setup);
    w.image = image_make(setup);
    w.now = (struct flat){g_strdup("the disk"), g_malloc0(w.setup->size * 2), w.setup->size};
    if (w.base)
        store_read(w.base, w.now.bytes, w.setup->base_size, 0);
    for (open_disk(&w); w.step < plan.steps; w.step++) {
        step(&w);
        if (w.step % COMPARE_EVERY == 0)
            compare_all(&w);
        if (w.step % CHECK_EVERY == 0)
            check(&w);
    }
    do_reopen(&w);
    compare_all(&w);
    g_test_message("%s: %u steps; at most %u clusters shared, %u with compressed data, %u not yet free; "
                   "%u writes, %u snapshots, %u applied, %u reopened",
                   w.setup->name, w.step, w.most_shared, w.most_compressed, w.most_leaked, w.done[0],
                   w.done[7], w.done[8], w.done[6]);
    block_free(w.disk);
    for (unsigned i = 0; i < SNAPSHOTS; i++) {
        g_free(w.snapshot[i].name);
        g_free(w.snapshot[i].bytes);
    }
    g_free(w.now.name);
    g_free(w.now.bytes);
    store_free(w.image);
    store_free(w.base);
    g_rand_free(w.rand);
}

static unsigned number(const char *name, unsigned otherwise)
{
    const char *text = g_getenv(name);
    return text && *text ? (unsigned)g_ascii_strtoull(text, NULL, 0) : otherwise;
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    mallopt(M_MMAP_THRESHOLD, 1 << 30);
    plan.steps = number("HOSTEL_STEPS", 30000) / ARRAY_SIZE(setups);
    plan.seed = number("HOSTEL_SEED", (unsigned)g_test_rand_int());
    g_test_message("HOSTEL_SEED=%u", plan.seed);
    for (unsigned i = 0; i < ARRAY_SIZE(setups); i++) {
        g_autofree char *path = g_strdup_printf("/block/qcow2-model/%s", setups[i].name);
        g_test_add_data_func(path, &setups[i], test_setup);
    }
    return g_test_run();
}
