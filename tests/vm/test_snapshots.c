/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Internal snapshots of open disks with a guest's state in them: several disks at once, undone when one
 * fails; QEMU's tools list and check what is made. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "../block/rig.h"
#include "block/filter/fault.h"
#include "vm/nodes_int.h"

enum { SIZE = 8 << 20, DISKS = 3, STATE = 3 * 1000 * 1000 + 7 };

struct rig {
    struct vm_nodes *nodes;
    char *path[DISKS];
    struct disk *fault[DISKS], *root[DISKS];
    int dead; /* could not be written to at the end: counts more references than there are; -1 = none */
};

static void on_event(void *opaque, const char *name, json_t *data)
{
    (void)opaque;
    (void)name;
    json_decref(data);
}

static void on_stop(void *opaque)
{
    (void)opaque;
}

static void rig_open(struct rig *g, unsigned i)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *name = g_strdup_printf("node%u", i), *id = g_strdup_printf("disk%u", i);
    const struct block_driver *driver = block_driver_find("qcow2");
    struct block_config file = {.name = name, .fd = open(g->path[i], O_RDWR | O_CLOEXEC)};
    g->fault[i] = block_fault_new(block_open(block_driver_find("file"), &file, &error));
    struct block_config config = {.name = name, .fd = -1, .file = g->fault[i]};
    struct disk *disk = block_open(driver, &config, &error);
    g_assert_no_error(error);
    struct vm_node *node = vm_node_new(g->nodes, name, driver, disk, NULL, NULL);
    node->added = true;
    g->root[i] = vm_nodes_attach(g->nodes, id, name, NULL, NULL, &error);
    g_assert_no_error(error);
}

static void rig_new(struct rig *g)
{
    static const struct vm_nodes_ops ops = {.event = on_event, .stop = on_stop};
    g->dead = -1;
    g->nodes = vm_nodes_new(&ops, g);
    for (unsigned i = 0; i < DISKS; i++) {
        g->path[i] = g_build_filename(g_get_tmp_dir(), "hostel-snapshots-XXXXXX", NULL);
        int fd = g_mkstemp_full(g->path[i], O_RDWR | O_CLOEXEC, 0600);
        rig_create(block_driver_find("qcow2"), fd, SIZE);
        close(fd);
        rig_open(g, i);
    }
}

/* Closed, QEMU finds nothing wrong with them. */
static void rig_free(struct rig *g)
{
    g_autofree char *qemu_img = g_find_program_in_path("qemu-img");
    vm_nodes_free(g->nodes);
    for (unsigned i = 0; i < DISKS; i++) {
        g_autoptr(GError) error = NULL;
        char *argv[] = {qemu_img, (char *)(uintptr_t) "check", (char *)(uintptr_t) "-q", g->path[i], NULL};
        int status = 0;
        if (qemu_img && (int)i != g->dead)
            g_spawn_sync(NULL, argv, NULL, G_SPAWN_DEFAULT, NULL, NULL, NULL, NULL, &status, &error);
        g_assert_no_error(error);
        g_assert_cmpint(status, ==, 0); /* leaks would be 3 */
        unlink(g->path[i]);
        g_free(g->path[i]);
    }
}

static void fill(struct disk *b, int value)
{
    g_autofree uint8_t *bytes = g_malloc(SIZE);
    memset(bytes, value, SIZE);
    g_assert_cmpint(block_pwrite(b, bytes, SIZE, 0), ==, 0);
}

static void assert_filled(struct disk *b, int value)
{
    g_autofree uint8_t *bytes = g_malloc(SIZE);
    g_assert_cmpint(block_pread(b, bytes, SIZE, 0), ==, 0);
    for (unsigned i = 0; i < SIZE; i++)
        g_assert_cmpint(bytes[i], ==, value);
}

static void fill_all(struct rig *g, int value)
{
    for (unsigned i = 0; i < DISKS; i++)
        fill(g->root[i], value + (int)i);
}

static void assert_all(struct rig *g, int value)
{
    for (unsigned i = 0; i < DISKS; i++)
        assert_filled(g->root[i], value + (int)i);
}

static uint8_t state_byte(unsigned which, unsigned i)
{
    return (uint8_t)((i * 2654435761u + which) >> 13);
}

static void write_state(struct rig *g, unsigned which)
{
    g_autofree uint8_t *bytes = g_malloc(STATE);
    for (unsigned i = 0; i < STATE; i++)
        bytes[i] = state_byte(which, i);
    /* Not in order, not in round pieces. */
    const unsigned half = STATE / 2 + 1;
    g_assert_cmpint(vm_vmstate_write(g->nodes, "disk1", bytes + half, STATE - half, half), ==, 0);
    g_assert_cmpint(vm_vmstate_write(g->nodes, "disk1", bytes, half, 0), ==, 0);
}

static void assert_state(struct rig *g, const char *tag, unsigned which)
{
    g_autofree uint8_t *bytes = g_malloc(STATE);
    g_assert_cmpint(vm_vmstate_read(g->nodes, "disk1", tag, bytes, 1000, 77), ==, 0);
    for (unsigned i = 0; i < 1000; i++)
        g_assert_cmpint(bytes[i], ==, state_byte(which, i + 77));
    g_assert_cmpint(vm_vmstate_read(g->nodes, "disk1", tag, bytes, STATE, 0), ==, 0);
    for (unsigned i = 0; i < STATE; i++)
        g_assert_cmpint(bytes[i], ==, state_byte(which, i));
    g_assert_cmpint(vm_vmstate_read(g->nodes, "disk1", tag, bytes, 2, STATE - 1), ==, -EINVAL);
}

static void take(struct rig *g, const char *tag, unsigned which)
{
    g_autoptr(GError) error = NULL;
    const struct vm_snapshot s = {.tag = tag, .vmstate = "disk1", .vmstate_size = STATE, .vm_clock = 12345};
    vm_disks_hold(g->nodes);
    write_state(g, which);
    vm_snapshots_take(g->nodes, &s, &error);
    g_assert_no_error(error);
    vm_disks_release(g->nodes);
}

static void test_several(void)
{
    struct rig g;
    g_autoptr(GError) error = NULL;
    rig_new(&g);
    fill_all(&g, 1);
    take(&g, "first", 1);
    fill_all(&g, 11);
    take(&g, "second", 2);
    fill_all(&g, 21);
    assert_state(&g, "first", 1);
    assert_state(&g, "second", 2);
    assert_all(&g, 21);
    struct block_snapshot *found = vm_snapshots_find(g.nodes, "disk1", "second", &error);
    g_assert_cmpuint(found->vm_state_size, ==, STATE);
    g_assert_cmpuint(found->vm_clock, ==, 12345);
    block_snapshot_free(found);

    const struct vm_snapshot first = {.tag = "first", .vmstate = "disk1"}, none = {.tag = "none"};
    g_assert_true(vm_snapshots_apply(g.nodes, &first, NULL, &error));
    assert_all(&g, 1);
    assert_state(&g, "second", 2);
    fill_all(&g, 31);
    g_assert_true(vm_snapshots_remove(g.nodes, &first, &error));
    assert_all(&g, 31);
    assert_state(&g, "second", 2);
    char byte;
    g_assert_cmpint(vm_vmstate_read(g.nodes, "disk1", "first", &byte, 1, 0), ==, -ENOENT);
    g_assert_false(vm_snapshots_apply(g.nodes, &first, NULL, &error));
    g_clear_error(&error);
    g_assert_true(vm_snapshots_remove(g.nodes, &none, &error)); /* as with QEMU */
    const struct vm_snapshot again = {.tag = "second"};
    g_assert_false(vm_snapshots_take(g.nodes, &again, &error));
    g_assert_true(strstr(error->message, "already") != NULL);
    rig_free(&g);
}

/* What QEMU's tool lists. */
static void test_listed(void)
{
    struct rig g;
    g_autoptr(GError) error = NULL;
    g_autofree char *qemu_img = g_find_program_in_path("qemu-img"), *out = NULL;
    if (!qemu_img) {
        g_test_skip("needs qemu-img");
        return;
    }
    rig_new(&g);
    fill_all(&g, 1);
    take(&g, "with state", 1);
    char *argv[] = {qemu_img, (char *)(uintptr_t) "snapshot", (char *)(uintptr_t) "-l", g.path[1], NULL};
    vm_nodes_free(STEAL(g.nodes)); /* QEMU opens no image that is in use */
    g_spawn_sync(NULL, argv, NULL, G_SPAWN_DEFAULT, NULL, NULL, &out, NULL, NULL, &error);
    g_assert_no_error(error);
    g_assert_true(strstr(out, "with state") && strstr(out, "2.86 MiB"));
    rig_free(&g);
}

/* One of several fails, at taking or applying: all are as they were. */
static void test_one_fails(gconstpointer data)
{
    const bool applies = data != NULL;
    for (unsigned at = 0; at < DISKS; at++) {
        g_autoptr(GError) error = NULL;
        const struct vm_snapshot new = {.tag = "new", .vmstate = "disk1", .vmstate_size = STATE};
        const struct vm_snapshot old = {.tag = "there"};
        struct rig g;
        rig_new(&g);
        fill_all(&g, 1);
        take(&g, "there", 1);
        fill_all(&g, 11);
        vm_disks_hold(g.nodes);
        if (!applies)
            write_state(&g, 5);
        block_fault_set(g.fault[at], BLOCK_FAULT_WRITE, 5, 1 << 20, -EIO, 0);
        bool lost = false;
        g_assert_false(applies ? vm_snapshots_apply(g.nodes, &old, &lost, &error)
                               : vm_snapshots_take(g.nodes, &new, &error));
        g_assert_false(lost);
        g_assert_nonnull(error);
        block_fault_set(g.fault[at], BLOCK_FAULT_WRITE, 0, 0, 0, 0);
        vm_disks_release(g.nodes);
        assert_all(&g, 11);
        for (unsigned i = 0; i < DISKS; i++) {
            g_autofree char *id = g_strdup_printf("disk%u", i);
            g_assert_null(vm_snapshots_find(g.nodes, id, "new", NULL));
        }
        g.dead = (int)at;
        rig_free(&g);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/snapshots/several", test_several);
    g_test_add_func("/snapshots/listed", test_listed);
    g_test_add_data_func("/snapshots/taking-fails", NULL, test_one_fails);
    g_test_add_data_func("/snapshots/applying-fails", GINT_TO_POINTER(1), test_one_fails);
    return g_test_run();
}
