/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What tests of disks share: files that are gone afterwards, and disks of every driver. */
#ifndef HOSTEL_TESTS_BLOCK_RIG_H
#define HOSTEL_TESTS_BLOCK_RIG_H

#include <fcntl.h>
#include <glib.h>
#include <stdlib.h>
#include <unistd.h>

#include "block/block.h"
#include "block/overlay.h"

/* A file of size bytes, all a hole, without a name; open for reading and writing. */
static inline int rig_file(uint64_t size)
{
    g_autofree char *path = g_build_filename(g_get_tmp_dir(), "hostel-disk-XXXXXX", NULL);
    int fd = g_mkstemp_full(path, O_RDWR | O_CLOEXEC, 0600);
    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(unlink(path), ==, 0);
    g_assert_cmpint(ftruncate(fd, (off_t)size), ==, 0);
    return fd;
}

/* The file of an overlay of size bytes over base_size. */
static inline int rig_overlay(uint64_t size, uint64_t base_size)
{
    g_autoptr(GError) error = NULL;
    int fd = rig_file(0);
    block_overlay_create(fd, "overlay", size, base_size, &error);
    g_assert_no_error(error);
    return fd;
}

/* A disk of size bytes, all zero. */
static inline struct disk *rig_disk(const struct block_driver *driver, uint64_t size)
{
    g_autoptr(GError) error = NULL;
    struct block_config config = {
        .name = "test", .fd = driver->needs_file ? rig_file(size) : -1, .size = size};
    struct block_config base = {.name = "base", .fd = -1};
    if (driver->needs_base) { /* half of it over a base, half of it not */
        const uint64_t base_size = size / 2 / BLOCK_SECTOR * BLOCK_SECTOR;
        close(config.fd);
        base.fd = rig_file(base_size);
        config.fd = rig_overlay(size, base_size);
        config.base = &base;
    }
    struct disk *b = block_open(driver, &config, &error);
    g_assert_no_error(error);
    return b;
}

#endif
