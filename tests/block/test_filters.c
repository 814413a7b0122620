/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Filters: what each of them promises beside what all disks do (test_conform.c). */
#include <errno.h>
#include <glib.h>
#include <string.h>

#include "base/bits.h"
#include "block/filter/bucket.h"
#include "block/filter/fault.h"
#include "block/filter/ranges.h"
#include "block/filter/recorder.h"
#include "rig.h"
#include "store.h"

enum { SIZE = 1 << 20 };

/* --- opening --- */

static struct disk *open_over(const char *driver, const void *options, struct disk **members, unsigned n,
                              GError **error)
{
    const struct block_driver *d = block_driver_find(driver);
    struct block_config config = {.name = "filter", .fd = -1, .options = options};
    if (d->members) {
        config.members = members;
        config.n_members = n;
    } else {
        config.file = members[0];
    }
    return block_open(d, &config, error);
}

static struct disk *must_open(const char *driver, const void *options, struct disk **members, unsigned n)
{
    g_autoptr(GError) error = NULL;
    struct disk *b = open_over(driver, options, members, n, &error);
    g_assert_no_error(error);
    return b;
}

static void assert_refused(const char *driver, const void *options, struct disk **members, unsigned n,
                           const char *word)
{
    g_autoptr(GError) error = NULL;
    g_assert_null(open_over(driver, options, members, n, &error));
    g_assert_nonnull(strstr(error->message, word));
}

static void put(struct disk *b, uint64_t offset, uint64_t size, int byte)
{
    g_autofree uint8_t *bytes = g_malloc(size);
    memset(bytes, byte, size);
    g_assert_cmpint(block_pwrite(b, bytes, size, offset), ==, 0);
}

/* Does the range hold that byte only? */
static bool holds(struct disk *b, uint64_t offset, uint64_t size, int byte)
{
    g_autofree uint8_t *bytes = g_malloc(size);
    g_assert_cmpint(block_pread(b, bytes, size, offset), ==, 0);
    for (uint64_t i = 0; i < size; i++)
        if (bytes[i] != byte)
            return false;
    return true;
}

/* --- limits --- */

static void test_limits(void)
{
    const struct {
        uint64_t offset, size;
    } part = {4096, 8192}, behind = {SIZE - 512, 1024}, odd = {100, 512}, rest = {SIZE - 512, 0},
      beyond = {SIZE + 512, 0};
    AUTO(store) s = store_new(SIZE);
    struct disk *below = store_disk(s, false, false);
    AUTO(disk) b = must_open("limits", &part, &below, 1);
    g_assert_cmpuint(b->facts.size, ==, 8192);
    g_assert_false(b->facts.growable);
    put(b, 0, 8192, 7);
    g_assert_true(holds(below, 4096, 8192, 7));
    g_assert_true(holds(below, 0, 4096, 0));
    g_assert_true(holds(below, 12288, 4096, 0));
    g_assert_cmpint(block_zero(b, 8192 - 512, 1024, 0), ==, -EINVAL);
    below = store_disk(s, false, false);
    AUTO(disk) last = must_open("limits", &rest, &below, 1);
    g_assert_cmpuint(last->facts.size, ==, 512);
    below = store_disk(s, false, false);
    assert_refused("limits", &behind, &below, 1, "no part of");
    below = store_disk(s, false, false);
    assert_refused("limits", &odd, &below, 1, "multiples of 512");
    below = store_disk(s, false, false);
    assert_refused("limits", &beyond, &below, 1, "no part of");
}

static void test_readonly(void)
{
    AUTO(store) s = store_new(SIZE);
    static const char *const names[] = {"limits", "throttle", "copy-on-read", "stripe", "mirror", "concat"};
    for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
        struct disk *members[2] = {store_disk(s, false, false), NULL};
        members[1] = block_driver_find(names[i])->members ? store_disk(s, true, false) : NULL;
        if (!members[1]) {
            block_free(members[0]);
            members[0] = store_disk(s, true, false);
        }
        AUTO(disk) b = must_open(names[i], NULL, members, 2);
        uint8_t bytes[512] = {0};
        g_assert_cmpint(block_pwrite(b, bytes, sizeof(bytes), 0), ==, -EROFS);
    }
}

/* --- throttle --- */

static void test_bucket(void)
{
    const uint64_t s = 1000000000, start = 5 * s;
    struct block_bucket b = {.rate = 1000, .burst = s / 10}; /* 1000 a second, 100 at once */
    g_assert_cmpuint(block_bucket_take(&b, 100, start), ==, start);
    g_assert_true(block_bucket_ready(&b, start));
    g_assert_cmpuint(block_bucket_take(&b, 100, start), ==, start); /* at the limit */
    g_assert_false(block_bucket_ready(&b, start));
    g_assert_cmpuint(block_bucket_take(&b, 100, start), ==, start + s / 10);
    g_assert_cmpuint(block_bucket_take(&b, 1, start), ==, start + 2 * s / 10); /* in the order of asking */
    /* A long pause saves up a burst and no more. */
    g_assert_cmpuint(block_bucket_take(&b, 200, start + 100 * s), ==, start + 100 * s);
    g_assert_cmpuint(block_bucket_take(&b, 1, start + 100 * s), ==, start + 100 * s + s / 10);
    /* Over any long time it is the rate. */
    uint64_t now = start + 200 * s, when = now;
    for (unsigned i = 0; i < 10000; i++)
        now = when = block_bucket_take(&b, 7, now);
    g_assert_cmpuint(when, >=, start + 200 * s + 69 * s);
    g_assert_cmpuint(when, <=, start + 200 * s + 70 * s);
    /* Numbers that do not fit. */
    g_assert_cmpuint(block_bucket_take(&b, UINT64_MAX, now), >=, now);
    g_assert_cmpuint(block_bucket_take(&b, 1, now), <=, INT64_MAX);
    struct block_bucket unlimited = {0};
    g_assert_cmpuint(block_bucket_take(&unlimited, UINT64_MAX, 1), ==, 1);
}

/* What would have to wait says so; reads and writes are counted apart. */
static void test_throttle(void)
{
    const struct {
        uint64_t bps[2];
        unsigned iops[2], burst;
    } slow = {{512, 0}, {0, 0}, 1};
    AUTO(store) s = store_new(SIZE);
    struct disk *below = store_disk(s, false, false);
    AUTO(disk) b = must_open("throttle", &slow, &below, 1);
    uint8_t bytes[65536] = {0};
    const struct iovec iov = {bytes, sizeof(bytes)};
    g_assert_cmpint(block_read(b, &iov, 1, 0, BLOCK_NOWAIT), ==, 0);
    g_assert_cmpint(block_read(b, &iov, 1, 0, BLOCK_NOWAIT), ==, -EAGAIN); /* its turn is in two minutes */
    for (unsigned i = 0; i < 100; i++)
        g_assert_cmpint(block_write(b, &iov, 1, 0), ==, 0);
    g_assert_cmpint(block_flush(b), ==, 0);
}

/* --- copy-on-read --- */

static void test_copy_on_read(void)
{
    g_autoptr(GError) error = NULL;
    AUTO(store) lower = store_new(SIZE);
    AUTO(store) upper = store_new(0);
    int fd = rig_overlay(SIZE, SIZE);
    store_load(upper, fd);
    close(fd);
    uint8_t bytes[4096];
    memset(bytes, 9, sizeof(bytes));
    store_write(lower, bytes, sizeof(bytes), 65536);
    struct block_config config = {.name = "over",
                                  .fd = -1,
                                  .file = store_disk(upper, false, false),
                                  .base = store_disk(lower, true, false)};
    struct disk *over = block_open(block_driver_find("overlay"), &config, &error);
    g_assert_no_error(error);
    AUTO(disk) b = must_open("copy-on-read", NULL, &over, 1);
    struct block_extent extent;
    g_assert_cmpint(block_extent(b, 65536, 4096, &extent), ==, 0);
    g_assert_cmpuint(extent.depth, ==, 1);
    const struct iovec iov = {bytes, sizeof(bytes)};
    g_assert_cmpint(block_read(b, &iov, 1, 65536, BLOCK_NOWAIT), ==, -EAGAIN);
    g_assert_true(holds(b, 65536, 4096, 9));
    g_assert_cmpint(block_extent(b, 65536, 4096, &extent), ==, 0);
    g_assert_cmpuint(extent.depth, ==, 0);
    g_assert_cmpint(block_extent(b, 0, 4096, &extent), ==, 0);
    g_assert_cmpuint(extent.depth, ==, 1); /* was not read */
    store_fill(lower, 1, 4096, 65536);     /* it is not needed any more */
    g_assert_true(holds(b, 65536, 4096, 9));
    g_assert_cmpint(block_read(b, &iov, 1, 65536, BLOCK_NOWAIT), ==, 0);
}

/* --- volumes of several --- */

static void test_stripe(void)
{
    const uint64_t chunk = 4096;
    AUTO(store) first = store_new(5 * 4096);
    AUTO(store) second = store_new(3 * 4096 + 512);
    struct disk *members[2] = {store_disk(first, false, false), store_disk(second, false, false)};
    struct disk *const kept[2] = {members[0], members[1]};
    AUTO(disk) b = must_open("stripe", &chunk, members, 2);
    g_assert_cmpuint(b->facts.size, ==, 7 * 4096 + 512); /* then it would be the second one's turn */
    for (int i = 0; i < 7; i++)
        put(b, (uint64_t)i * 4096, 4096, i + 1);
    put(b, UINT64_C(7) * 4096, 512, 8);
    for (int i = 0; i < 4; i++)
        g_assert_true(holds(kept[0], (uint64_t)i * 4096, 4096, 2 * i + 1));
    for (int i = 0; i < 3; i++)
        g_assert_true(holds(kept[1], (uint64_t)i * 4096, 4096, 2 * i + 2));
    g_assert_true(holds(kept[1], 3 * 4096, 512, 8));
    g_assert_cmpint(block_zero(b, 4096 + 100, 4 * 4096, 0), ==, 0);
    g_assert_true(holds(b, 4096, 100, 2));
    g_assert_true(holds(b, 4096 + 100, 4 * 4096, 0));
    g_assert_true(holds(b, 5 * 4096 + 100, 4096 - 100, 6));
    const uint64_t odd = 1000;
    struct disk *again = store_disk(first, false, false);
    assert_refused("stripe", &odd, &again, 1, "multiple of 512");
}

static void test_concat(void)
{
    AUTO(store) first = store_new(1024);
    AUTO(store) second = store_new(4096);
    AUTO(store) third = store_new(100);
    struct disk *members[2] = {store_disk(first, false, false), store_disk(second, false, false)};
    struct disk *const kept[2] = {members[0], members[1]};
    AUTO(disk) b = must_open("concat", NULL, members, 2);
    g_assert_cmpuint(b->facts.size, ==, 5120);
    put(b, 512, 1024, 3);
    g_assert_true(holds(kept[0], 512, 512, 3));
    g_assert_true(holds(kept[1], 0, 512, 3));
    struct disk *odd = store_disk(third, false, false);
    assert_refused("concat", NULL, &odd, 1, "100 bytes");
    assert_refused("concat", NULL, NULL, 0, "several disks");
}

/* --- mirror --- */

struct pair {
    struct store *store[2];
    struct disk *fault[2], *disk;
};

static void pair_open(struct pair *p, const char *read)
{
    struct disk *members[2];
    for (unsigned i = 0; i < 2; i++) {
        p->store[i] = store_new(SIZE);
        members[i] = p->fault[i] = block_fault_new(store_disk(p->store[i], false, false));
    }
    p->disk = must_open("mirror", &read, members, 2);
}

static void pair_close(struct pair *p)
{
    block_free(p->disk);
    store_free(p->store[0]);
    store_free(p->store[1]);
}

static void test_mirror_write(void)
{
    struct pair p;
    pair_open(&p, "round-robin");
    put(p.disk, 0, 4096, 1);
    block_fault_set(p.fault[0], BLOCK_FAULT_WRITE, 0, 1, -EIO, 0);
    put(p.disk, 0, 4096, 2); /* one did it */
    for (unsigned i = 0; i < 4; i++)
        g_assert_true(holds(p.disk, 0, 4096, 2)); /* never the one that missed it */
    const unsigned asked = block_fault_count(p.fault[0], BLOCK_FAULT_READ);
    put(p.disk, 4096, 4096, 3);
    g_assert_cmpuint(block_fault_count(p.fault[0], BLOCK_FAULT_WRITE), ==, 2); /* nor written again */
    g_assert_true(holds(p.disk, 4096, 4096, 3));
    g_assert_cmpuint(block_fault_count(p.fault[0], BLOCK_FAULT_READ), ==, asked);
    /* The last one is not dropped: its errors are the disk's. */
    uint8_t bytes[512] = {0};
    block_fault_set(p.fault[1], BLOCK_FAULT_WRITE, 0, 1, -ENOSPC, 0);
    g_assert_cmpint(block_pwrite(p.disk, bytes, sizeof(bytes), 0), ==, -ENOSPC);
    g_assert_cmpint(block_pwrite(p.disk, bytes, sizeof(bytes), 0), ==, 0);
    pair_close(&p);
}

/* After a change that failed on all it is read from one only. */
static void test_mirror_all_fail(void)
{
    struct pair p;
    pair_open(&p, "round-robin");
    uint8_t bytes[4096];
    memset(bytes, 5, sizeof(bytes));
    block_fault_set(p.fault[0], BLOCK_FAULT_WRITE, 0, 1, -ENOSPC, 512);
    block_fault_set(p.fault[1], BLOCK_FAULT_WRITE, 0, 1, -EIO, 1024);
    g_assert_cmpint(block_pwrite(p.disk, bytes, sizeof(bytes), 0), ==, -ENOSPC);
    for (unsigned i = 0; i < 4; i++) {
        g_assert_true(holds(p.disk, 0, 512, 5));
        g_assert_true(holds(p.disk, 512, 512, 0));
    }
    pair_close(&p);
}

static void test_mirror_read(void)
{
    struct pair p;
    pair_open(&p, "first");
    put(p.disk, 0, 4096, 1);
    block_fault_set(p.fault[0], BLOCK_FAULT_READ, 0, 1, -EIO, 0);
    g_assert_true(holds(p.disk, 0, 4096, 1));
    g_assert_cmpuint(block_fault_count(p.fault[1], BLOCK_FAULT_READ), ==, 1);
    g_assert_true(holds(p.disk, 0, 4096, 1));
    g_assert_cmpuint(block_fault_count(p.fault[0], BLOCK_FAULT_READ), ==, 1);
    pair_close(&p);
}

static void test_mirror_flush(void)
{
    struct pair p;
    pair_open(&p, "first");
    block_fault_set(p.fault[0], BLOCK_FAULT_FLUSH, 0, 1, -EIO, 0);
    g_assert_cmpint(block_flush(p.disk), ==, 0);
    g_assert_cmpint(block_flush(p.disk), ==, 0);
    g_assert_cmpuint(block_fault_count(p.fault[0], BLOCK_FAULT_FLUSH), ==, 1);
    block_fault_set(p.fault[1], BLOCK_FAULT_FLUSH, 0, 1, -EIO, 0);
    g_assert_cmpint(block_flush(p.disk), ==, -EIO);
    g_assert_cmpint(block_flush(p.disk), ==, -EIO);
    pair_close(&p);
}

/* A flush that fails, and before it does there is a write to the disk that is flushed. */
static struct disk *late_for;

static int late_read(struct disk *b, const struct iovec *iov, unsigned n, uint64_t offset, unsigned flags)
{
    return block_read(b->below, iov, n, offset, flags);
}

static int late_write(struct disk *b, const struct iovec *iov, unsigned n, uint64_t offset)
{
    return block_write(b->below, iov, n, offset);
}

static int late_flush(struct disk *b)
{
    (void)b;
    put(late_for, 0, 512, 9);
    return -EIO;
}

/* The member that was flushed misses a write meanwhile, and goes; the one that is left was not flushed. */
static void test_mirror_crossed(void)
{
    static const struct block_driver late = {
        .name = "late",
        .kind = BLOCK_FILTER,
        .size = sizeof(struct disk),
        .read = late_read,
        .write = late_write,
        .flush = late_flush,
    };
    AUTO(store) first = store_new(SIZE);
    AUTO(store) second = store_new(SIZE);
    struct disk *members[2] = {block_fault_new(store_disk(first, false, false)),
                               block_filter_new(&late, store_disk(second, false, false))};
    struct disk *missing = members[0];
    AUTO(disk) b = late_for = must_open("mirror", NULL, members, 2);
    block_fault_set(missing, BLOCK_FAULT_WRITE, 0, 1, -EIO, 0);
    g_assert_cmpint(block_flush(b), ==, -EIO);
    g_assert_true(holds(b, 0, 512, 9));
}

static void test_mirror_sizes(void)
{
    AUTO(store) first = store_new(1024);
    AUTO(store) second = store_new(4096);
    struct disk *members[2] = {store_disk(first, false, false), store_disk(second, false, false)};
    assert_refused("mirror", NULL, members, 2, "equally long");
}

/* Threads that write the same sectors at the same time: whoever was last was so on both members. */
enum { THREADS = 4, ROUNDS = 3000, AT_ONCE = 8 * 512 };

struct race {
    struct pair pair;
    pthread_barrier_t line;
};

static void *write_much(void *opaque)
{
    struct race *r = opaque;
    uint8_t bytes[AT_ONCE];
    for (unsigned i = 0; i < ROUNDS; i++) {
        pthread_barrier_wait(&r->line);
        for (unsigned k = 0; k < 3; k++) {
            memset(bytes, (int)((uintptr_t)g_thread_self() >> 6 ^ i * 3 ^ k), sizeof(bytes));
            g_assert_cmpint(block_pwrite(r->pair.disk, bytes, sizeof(bytes), 0), ==, 0);
        }
        pthread_barrier_wait(&r->line);
    }
    return NULL;
}

static void test_mirror_threads(void)
{
    struct race r;
    GThread *threads[THREADS];
    uint8_t first[AT_ONCE], second[AT_ONCE];
    pair_open(&r.pair, "first");
    pthread_barrier_init(&r.line, NULL, THREADS + 1);
    for (unsigned i = 0; i < THREADS; i++)
        threads[i] = g_thread_new("writer", write_much, &r);
    for (unsigned i = 0; i < ROUNDS; i++) {
        pthread_barrier_wait(&r.line);
        pthread_barrier_wait(&r.line);
        store_read(r.pair.store[0], first, sizeof(first), 0);
        store_read(r.pair.store[1], second, sizeof(second), 0);
        g_assert_cmpmem(first, sizeof(first), second, sizeof(second));
    }
    for (unsigned i = 0; i < THREADS; i++)
        g_thread_join(threads[i]);
    pthread_barrier_destroy(&r.line);
    pair_close(&r.pair);
}

/* --- recorder --- */

/* What was noted makes the same file of the same beginning, also when the notes went through a file. */
static void test_recorder(void)
{
    g_autoptr(GError) error = NULL;
    AUTO(store) live = store_new(SIZE);
    AUTO(store) again = store_copy(live);
    AUTO(block_record) record = block_record_new();
    AUTO(disk) b = block_recorder_new(store_disk(live, false, false), record);
    put(b, 1000, 3000, 1);
    g_assert_cmpint(block_zero(b, 2000, 100, 0), ==, 0);
    g_assert_cmpint(block_flush(b), ==, 0);
    g_assert_cmpint(block_discard(b, 4096, 8192), ==, 0);
    put(b, SIZE, 100, 2);
    g_assert_cmpint(block_resize(b, SIZE + 4096), ==, 0);
    g_assert_cmpuint(block_record_count(record), ==, 6);
    g_assert_true(block_record_durable(record, 0, 3));
    g_assert_false(block_record_durable(record, 0, 2));
    g_assert_false(block_record_durable(record, 3, 6));
    int fd = rig_file(0);
    g_assert_true(block_record_save(record, fd, &error));
    g_assert_cmpint(lseek(fd, 0, SEEK_SET), ==, 0);
    AUTO(block_record) loaded = block_record_load(fd, &error);
    g_assert_no_error(error);
    AUTO(disk) onto = store_disk(again, false, false);
    g_assert_cmpint(block_record_replay(loaded, 0, block_record_count(loaded), onto), ==, 0);
    g_assert_cmpuint(store_hash(live), ==, store_hash(again));
    g_assert_cmpint(ftruncate(fd, 100), ==, 0);
    g_assert_cmpint(lseek(fd, 0, SEEK_SET), ==, 0);
    g_assert_null(block_record_load(fd, &error));
    g_assert_nonnull(strstr(error->message, "record"));
    close(fd);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/block/filters/limits", test_limits);
    g_test_add_func("/block/filters/readonly", test_readonly);
    g_test_add_func("/block/filters/bucket", test_bucket);
    g_test_add_func("/block/filters/throttle", test_throttle);
    g_test_add_func("/block/filters/copy-on-read", test_copy_on_read);
    g_test_add_func("/block/filters/stripe", test_stripe);
    g_test_add_func("/block/filters/concat", test_concat);
    g_test_add_func("/block/filters/mirror-write", test_mirror_write);
    g_test_add_func("/block/filters/mirror-all-fail", test_mirror_all_fail);
    g_test_add_func("/block/filters/mirror-read", test_mirror_read);
    g_test_add_func("/block/filters/mirror-flush", test_mirror_flush);
    g_test_add_func("/block/filters/mirror-crossed", test_mirror_crossed);
    g_test_add_func("/block/filters/mirror-sizes", test_mirror_sizes);
    g_test_add_func("/block/filters/mirror-threads", test_mirror_threads);
    g_test_add_func("/block/filters/recorder", test_recorder);
    return g_test_run();
}
