/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* virtio-blk's requests that failed and are tried again: later, when told, after saving and loading. */
#include <errno.h>

#include "blk_rig.h"

enum { KEPT_WRITES = 8, KEPT_DONE = 3 };

static unsigned n_done(struct rig *g)
{
    unsigned n = 0;
    collect(g, 0);
    for (unsigned i = 0; i < KEPT_WRITES; i++)
        n += g->done[i];
    return n;
}

/* Writes of which all but some find no room. Held: those wait. */
static void write_into_full(struct rig *g)
{
    const unsigned before = block_fault_count(g->disk, BLOCK_FAULT_WRITE);
    block_fault_set(g->disk, BLOCK_FAULT_WRITE, KEPT_DONE, 1 << 20, -ENOSPC, 0);
    for (unsigned i = 0; i < KEPT_WRITES; i++) {
        const struct request r = {.slot = i, .type = OUT, .sector = 2 * i, .size = SECTOR};
        memset(slot_data(g, i), (int)i + 1, SECTOR);
        submit(g, &r);
    }
    drv_kick(&g->t, 0);
    while (block_fault_count(g->disk, BLOCK_FAULT_WRITE) - before < KEPT_WRITES)
        usleep(100);
    block_root_hold(g->root);
    g_assert_cmpuint(n_done(g), ==, KEPT_DONE);
}

static void assert_all_written(struct rig *g)
{
    for (unsigned i = 0; i < KEPT_WRITES; i++) {
        const struct request r = {.slot = i, .size = SECTOR};
        g_assert_cmpuint(wait_for(g, &r), ==, OK);
    }
    g_assert_cmpuint(n_done(g), ==, KEPT_WRITES);
    for (unsigned i = 0; i < KEPT_WRITES; i++)
        assert_sector(g, 2 * i, (uint8_t)(i + 1));
}

/* A device is saved while writes wait for room. It goes on, and they are done; and what was saved goes on
 * from there, and they are done again, and none that had ended before. */
static void test_kept(gconstpointer features)
{
    struct rig g;
    rig_new(&g, true, 1);
    drv_start(&g.t, VIRTIO_F_VERSION_1 | GPOINTER_TO_SIZE(features), 64);
    for (unsigned i = 0; i < 5; i++)
        g_assert_cmpuint(ask_write(&g, 100, 1), ==, OK); /* the rings have moved on */
    write_into_full(&g);
    g_autofree uint8_t *state = g_malloc(device_state_size(g.t.d->type));
    device_state_save(g.t.d, state);
    g_autofree void *ram = g_memdup2(g.t.ram, DRV_RAM_SIZE);
    g_autofree struct rig *then = g_memdup2(&g, sizeof(g));
    usleep(1000);
    g_assert_cmpmem(ram, DRV_RAM_SIZE, g.t.ram, DRV_RAM_SIZE);
    block_fault_set(g.disk, BLOCK_FAULT_WRITE, 0, 0, 0, 0);
    block_root_release(g.root);
    assert_all_written(&g);

    device_reset(g.t.d);
    g_assert_cmpint(block_zero(g.disk, 0, SIZE, 0), ==, 0);
    for (unsigned i = 0; i < KEPT_WRITES; i++)
        if (then->done[i])
            g_assert_cmpint(
                block_pwrite(g.disk, (uint8_t *)ram + (slot_data(&g, i) - g.t.ram), SECTOR, 2 * i * SECTOR),
                ==, 0);
    memcpy(g.t.ram, ram, DRV_RAM_SIZE);
    memcpy(g.t.q, then->t.q, sizeof(g.t.q));
    memcpy(g.done, then->done, sizeof(g.done));
    memcpy(g.slot_of, then->slot_of, sizeof(g.slot_of));
    const unsigned writes = block_fault_count(g.disk, BLOCK_FAULT_WRITE);
    g_assert_true(device_state_load(g.t.d, state));
    usleep(1000);
    g_assert_cmpuint(n_done(&g), ==, KEPT_DONE); /* the guest stands as yet */
    block_root_again(g.root);
    assert_all_written(&g);
    g_assert_cmpuint(block_fault_count(g.disk, BLOCK_FAULT_WRITE), ==, writes + KEPT_WRITES - KEPT_DONE);
    rig_free(&g);
}

static void count_trouble(void *opaque, const struct block_trouble *t)
{
    g_assert_true(t->write && t->no_space);
    g_assert_cmpint(t->status, ==, -ENOSPC);
    g_assert_cmpint(t->verdict, ==, BLOCK_VERDICT_KEEP);
    atomic_fetch_add((_Atomic unsigned *)opaque, 1);
}

/* A guest that is to be stopped: nothing is tried again until somebody says so, then all of it is. */
static void test_kept_until_told(void)
{
    struct rig g;
    _Atomic unsigned troubles = 0;
    rig_new(&g, true, 1);
    block_root_policy(g.root, BLOCK_REPORT, BLOCK_ENOSPC, count_trouble, &troubles);
    drv_start(&g.t, EVERYTHING, 64);
    write_into_full(&g);
    g_assert_cmpuint(troubles, ==, KEPT_WRITES - KEPT_DONE);
    block_root_again(g.root); /* held: not yet */
    block_root_release(g.root);
    while (troubles < 2 * (KEPT_WRITES - KEPT_DONE))
        usleep(100);
    block_root_hold(g.root);
    block_root_release(g.root);
    g_assert_cmpuint(troubles, ==, 2 * (KEPT_WRITES - KEPT_DONE));
    block_fault_set(g.disk, BLOCK_FAULT_WRITE, 0, 0, 0, 0);
    g_assert_cmpuint(n_done(&g), ==, KEPT_DONE);
    block_root_again(g.root);
    assert_all_written(&g);
    write_into_full(&g);
    block_root_release(g.root);
    drv_start(&g.t, EVERYTHING, 64); /* a reset forgets them */
    block_fault_set(g.disk, BLOCK_FAULT_WRITE, 0, 0, 0, 0);
    block_root_again(g.root);
    g_assert_cmpuint(ask_write(&g, 0, 77), ==, OK);
    rig_free(&g);
}

static void make_room(void *opaque, const struct block_trouble *t)
{
    struct rig *g = opaque;
    g_assert_cmpint(t->verdict, ==, BLOCK_VERDICT_KEEP);
    block_fault_set(g->disk, BLOCK_FAULT_WRITE, 0, 0, 0, 0);
    block_root_again(g->root);
}

/* Whoever is told of a request that failed may let the guest go on before its thread has done anything else.
 */
static void test_kept_told_at_once(void)
{
    struct rig g;
    rig_new(&g, true, 1);
    block_root_policy(g.root, BLOCK_REPORT, BLOCK_ENOSPC, make_room, &g);
    drv_start(&g.t, EVERYTHING, 64);
    block_fault_set(g.disk, BLOCK_FAULT_WRITE, 0, 1, -ENOSPC, 0);
    g_assert_cmpuint(ask_write(&g, 7, 3), ==, OK);
    assert_sector(&g, 7, 3);
    rig_free(&g);
}

/* State that somebody made up is refused, or breaks the device; never more. */
static void test_kept_hostile(gconstpointer features)
{
    struct rig g;
    rig_new(&g, true, 2);
    drv_start(&g.t, VIRTIO_F_VERSION_1 | GPOINTER_TO_SIZE(features), 64);
    const size_t size = device_state_size(g.t.d->type), own = state_size(virtio_state, 1);
    write_into_full(&g);
    g_autofree uint8_t *state = g_malloc(size), *bad = g_malloc(size);
    device_state_save(g.t.d, state);
    block_fault_set(g.disk, BLOCK_FAULT_WRITE, 0, 0, 0, 0);
    block_root_release(g.root);
    unsigned refused = 0;
    for (unsigned i = 0; i < 300; i++) {
        memcpy(bad, state, size);
        for (unsigned k = 0; k < 4; k++) /* the first entries of an array, mostly */
            bad[own + (unsigned)g_rand_int_range(g.rand, 0, k ? (gint32)(size - own) : 8)] =
                (uint8_t)g_rand_int(g.rand);
        refused += !device_state_load(g.t.d, bad);
    }
    g_assert_cmpuint(refused, >, 0);
    drv_start(&g.t, EVERYTHING, 64);
    g_assert_cmpuint(ask_write(&g, 0, 1), ==, OK);
    rig_free(&g);
}

/* The disk becomes larger: the driver is told. */
static void test_resized(void)
{
    struct rig g;
    rig_new(&g, true, 1);
    drv_start(&g.t, EVERYTHING, 64);
    struct block_config twice = {.name = "larger", .fd = -1, .size = 2 * SIZE};
    AUTO(disk) larger = block_open(block_driver_find("memory"), &twice, NULL);
    drv_acknowledge(&g.t);
    block_root_close(g.root);
    block_root_turn(g.root, larger);
    block_root_open(g.root);
    g_assert_cmpuint(drv_acknowledge(&g.t) & 2, ==, 2);
    g_assert_cmpuint(config(&g, 0, 8), ==, 2 * SECTORS);
    g_assert_cmpuint(ask_write(&g, 2 * SECTORS - 1, 5), ==, OK);
    block_root_close(g.root);
    block_root_turn(g.root, g.disk);
    block_root_open(g.root);
    g_assert_cmpuint(ask_write(&g, 2 * SECTORS - 1, 5), ==, IOERR);
    rig_free(&g);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_data_func("/blk/kept/split", GSIZE_TO_POINTER(0), test_kept);
    g_test_add_data_func("/blk/kept/packed", GSIZE_TO_POINTER(VIRTIO_F_RING_PACKED), test_kept);
    g_test_add_data_func("/blk/kept/indirect",
                         GSIZE_TO_POINTER(VIRTIO_F_INDIRECT_DESC | VIRTIO_F_RING_PACKED), test_kept);
    g_test_add_func("/blk/kept/until-told", test_kept_until_told);
    g_test_add_func("/blk/kept/told-at-once", test_kept_told_at_once);
    g_test_add_data_func("/blk/kept/hostile/split", GSIZE_TO_POINTER(0), test_kept_hostile);
    g_test_add_data_func("/blk/kept/hostile/packed", GSIZE_TO_POINTER(VIRTIO_F_RING_PACKED),
                         test_kept_hostile);
    g_test_add_func("/blk/resized", test_resized);
    return g_test_run();
}
