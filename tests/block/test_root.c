/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The root of a guest's disk: its gate, what it counts, what becomes of errors, limits that change. */
#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "block/filter/fault.h"
#include "block/filter/root.h"

enum { SIZE = 1 << 20, WRITERS = 4 };

static struct disk *memory(const char *name, uint64_t size)
{
    struct block_config config = {.name = name, .fd = -1, .size = size};
    return block_open(block_driver_find("memory"), &config, NULL);
}

/* --- the gate --- */

struct writer {
    struct disk *root;
    _Atomic bool end;
    _Atomic unsigned done, threads;
};

static gpointer write_on(gpointer opaque)
{
    struct writer *w = opaque;
    const uint8_t bytes[512] = {1};
    const uint64_t own = atomic_fetch_add(&w->threads, 1) * sizeof(bytes);
    while (!atomic_load(&w->end)) {
        g_assert_cmpint(block_pwrite(w->root, bytes, sizeof(bytes), own), ==, 0);
        atomic_fetch_add(&w->done, 1);
    }
    return NULL;
}

/* While it is closed nothing reaches the disk, and afterwards everything goes to the other one. */
static void test_gate(void)
{
    struct disk *one = block_fault_new(memory("one", SIZE)), *other = block_fault_new(memory("other", SIZE));
    struct disk *const both[] = {one, other};
    AUTO(disk) root = block_root_new("root", one);
    struct writer w = {.root = root};
    GThread *threads[WRITERS];
    for (unsigned i = 0; i < WRITERS; i++)
        threads[i] = g_thread_new("writer", write_on, &w);
    for (unsigned i = 1; i < 200; i++) {
        const unsigned before = w.done;
        while (w.done == before)
            g_thread_yield();
        block_root_close(root);
        const unsigned n = block_fault_count(both[!(i % 2)], BLOCK_FAULT_WRITE);
        uint8_t byte;
        struct iovec iov = {&byte, 1};
        g_assert_cmpint(block_read(root, &iov, 1, 0, BLOCK_NOWAIT), ==, -EAGAIN);
        g_thread_yield();
        g_assert_cmpuint(block_fault_count(both[!(i % 2)], BLOCK_FAULT_WRITE), ==, n);
        block_root_turn(root, both[i % 2]);
        g_assert_true(block_root_target(root) == both[i % 2]);
        block_root_open(root);
    }
    w.end = true;
    for (unsigned i = 0; i < WRITERS; i++)
        g_thread_join(threads[i]);
    struct block_counts counts;
    block_root_counts(root, &counts);
    g_assert_cmpuint(counts.kind[BLOCK_COUNT_WRITE].operations, ==, w.done);
    g_assert_cmpuint(counts.kind[BLOCK_COUNT_WRITE].bytes, ==, 512ULL * w.done);
    g_assert_cmpuint(block_fault_count(one, BLOCK_FAULT_WRITE) + block_fault_count(other, BLOCK_FAULT_WRITE),
                     ==, w.done);
    block_free(STEAL(root));
    block_free(one);
    block_free(other);
}

/* --- what is counted, and what failed --- */

static void test_counts(void)
{
    struct disk *below = block_fault_new(memory("below", SIZE));
    AUTO(disk) root = block_root_new("root", below);
    uint8_t bytes[4096] = {0};
    struct block_counts c;
    block_fault_set(below, BLOCK_FAULT_READ, 1, 1, -EIO, 0);
    g_assert_cmpint(block_pread(root, bytes, 4096, 0), ==, 0);
    g_assert_cmpint(block_pread(root, bytes, 512, 0), ==, -EIO);
    g_assert_cmpint(block_pwrite(root, bytes, 4096, 8192), ==, 0);
    g_assert_cmpint(block_zero(root, 0, 8192, 0), ==, 0);
    g_assert_cmpint(block_discard(root, 4096, 4096), ==, 0);
    g_assert_cmpint(block_flush(root), ==, 0);
    block_root_counts(root, &c);
    g_assert_cmpuint(c.kind[BLOCK_COUNT_READ].operations, ==, 1);
    g_assert_cmpuint(c.kind[BLOCK_COUNT_READ].failed, ==, 1);
    g_assert_cmpuint(c.kind[BLOCK_COUNT_READ].bytes, ==, 4096);
    g_assert_cmpuint(c.kind[BLOCK_COUNT_READ].ns, >, 0);
    g_assert_cmpuint(c.kind[BLOCK_COUNT_WRITE].operations, ==, 2);
    g_assert_cmpuint(c.kind[BLOCK_COUNT_WRITE].bytes, ==, 12288);
    g_assert_cmpuint(c.kind[BLOCK_COUNT_UNMAP].operations, ==, 1);
    g_assert_cmpuint(c.kind[BLOCK_COUNT_FLUSH].operations, ==, 1);
    g_assert_cmpuint(c.highest, ==, 12288);
    block_free(STEAL(root));
    block_free(below);
}

static void test_policies(void)
{
    static const struct {
        const char *name;
        enum block_verdict full, broken;
    } rows[] = {{"wait", BLOCK_VERDICT_RETRY, BLOCK_VERDICT_REPORT},
                {"enospc", BLOCK_VERDICT_KEEP, BLOCK_VERDICT_REPORT},
                {"stop", BLOCK_VERDICT_KEEP, BLOCK_VERDICT_KEEP},
                {"report", BLOCK_VERDICT_REPORT, BLOCK_VERDICT_REPORT},
                {"ignore", BLOCK_VERDICT_IGNORE, BLOCK_VERDICT_IGNORE}};
    struct disk *below = memory("below", SIZE);
    AUTO(disk) root = block_root_new("root", below);
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        enum block_policy policy;
        g_assert_true(block_policy_find(rows[i].name, &policy));
        block_root_policy(root, BLOCK_REPORT, policy, NULL, NULL);
        g_assert_cmpint(block_root_judge(root, true, -ENOSPC).verdict, ==, rows[i].full);
        g_assert_cmpint(block_root_judge(root, true, -EDQUOT).verdict, ==, rows[i].full);
        g_assert_cmpint(block_root_judge(root, true, -EIO).verdict, ==, rows[i].broken);
        g_assert_cmpint(block_root_judge(root, false, -EIO).verdict, ==, BLOCK_VERDICT_REPORT);
        g_assert_cmpint(block_root_judge(root, true, -EOPNOTSUPP).verdict, ==, BLOCK_VERDICT_REPORT);
    }
    g_assert_cmpint(block_root_judge(below, true, -ENOSPC).verdict, ==,
                    BLOCK_VERDICT_RETRY); /* has no root */
    g_assert_false(block_policy_find("perhaps", &(enum block_policy){0}));
    block_free(STEAL(root));
    block_free(below);
}

/* --- limits --- */

static const struct block_throttle none, crawl = {.bytes = {{.rate = 1}}};

/* A write that would take a day goes on when limits are changed, or the gate is closed. */
static void test_limits_change(void)
{
    struct disk *below = block_fault_new(memory("below", SIZE));
    AUTO(disk) root = block_root_new("root", below);
    for (unsigned how = 0; how < 2; how++) {
        struct writer w = {.root = root, .end = false};
        block_root_throttle(root, &crawl);
        g_assert_cmpuint(block_root_limits(root)->bytes[BLOCK_THROTTLE_ALL].rate, ==, 1);
        GThread *thread = g_thread_new("writer", write_on, &w);
        usleep(20000); /* the first goes at once, perhaps, and the second waits; if not, nothing is lost */
        g_assert_cmpuint(w.done, <=, 1);
        w.end = true;
        if (!how) {
            block_root_close(root); /* which waits for the one that waits */
            block_root_open(root);
        }
        block_root_throttle(root, &none);
        g_thread_join(thread);
        g_assert_cmpuint(w.done, <=, 2);
    }
    block_root_throttle(root, &none);
    struct block_counts before, after;
    const uint8_t bytes[512] = {0};
    block_root_counts(root, &before);
    for (unsigned i = 0; i < 100; i++)
        g_assert_cmpint(block_pwrite(root, bytes, sizeof(bytes), 0), ==, 0);
    block_root_counts(root, &after);
    g_assert_cmpuint(after.kind[BLOCK_COUNT_WRITE].operations - before.kind[BLOCK_COUNT_WRITE].operations, ==,
                     100);
    block_free(STEAL(root));
    block_free(below);
}

/* A burst goes at once, what is beyond it does not. */
static void test_burst(void)
{
    struct disk *below = memory("below", SIZE);
    AUTO(disk) root = block_root_new("root", below);
    const struct block_throttle limits = {
        .operations = {[BLOCK_THROTTLE_READ] = {.rate = 1, .burst = 50, .burst_seconds = 1}}};
    uint8_t byte;
    struct iovec iov = {&byte, 1};
    block_root_throttle(root, &limits);
    unsigned n = 0;
    while (n < 1000 && !block_read(root, &iov, 1, 0, BLOCK_NOWAIT))
        n++;
    g_assert_cmpuint(n, >=, 50);
    g_assert_cmpuint(n, <, 100);                             /* or it took this host a minute to get here */
    g_assert_cmpint(block_pwrite(root, &byte, 1, 0), ==, 0); /* is another limit's */
    block_free(STEAL(root));
    block_free(below);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/disk-root/gate", test_gate);
    g_test_add_func("/disk-root/counts", test_counts);
    g_test_add_func("/disk-root/policies", test_policies);
    g_test_add_func("/disk-root/limits-change", test_limits_change);
    g_test_add_func("/disk-root/burst", test_burst);
    return g_test_run();
}
