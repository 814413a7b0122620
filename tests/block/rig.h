/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What tests of disks share: files that are gone afterwards, and disks of every driver. */
#ifndef HOSTEL_TESTS_BLOCK_RIG_H
#define HOSTEL_TESTS_BLOCK_RIG_H

#include <fcntl.h>
#include <glib.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "block/block.h"
#include "block/format/luks.h"
#include "block/format/overlay.h"
#include "block/image.h"

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

/* The passphrase of those that are encrypted. */
static const uint8_t rig_key[] = "open sesame";

/* Makes the file an image of size bytes, with the format's defaults; but no time is spent on passphrases. */
static inline void rig_create(const struct block_driver *driver, int fd, uint64_t size)
{
    g_autoptr(GError) error = NULL;
    struct block_config config = {.name = "new", .fd = dup(fd)};
    AUTO(disk) file = block_open(block_driver_find("file"), &config, &error);
    g_assert_no_error(error);
    static const struct luks_options quick = {"aes-256", "xts", "plain64", "sha256", "sha256", 1};
    const struct block_create create = {.name = "new",
                                        .file = file,
                                        .size = size,
                                        .options = strcmp(driver->name, "luks") ? NULL : &quick,
                                        .key = rig_key,
                                        .key_size = sizeof(rig_key)};
    driver->image->create(&create, &error);
    g_assert_no_error(error);
}

static inline struct disk *rig_disk(const struct block_driver *driver, uint64_t size);

/* A filter over disks of files. Its disk has size bytes. */
static inline struct disk *rig_filter(const struct block_driver *driver, uint64_t size)
{
    enum { LEFT_OUT = 8192, CHUNK = 64 * 1024 }; /* stripe's default */
    g_autoptr(GError) error = NULL;
    struct disk *members[3] = {NULL};
    struct block_config config = {.name = "test", .fd = -1, .members = members};
    const struct block_driver *file = block_driver_find("file");
    const struct {
        uint64_t offset, length;
    } window = {LEFT_OUT, size}; /* the options of limits */
    const uint64_t rest = size % (3 * CHUNK), whole = size - rest;
    if (!driver->members) {
        const bool window_only = !strcmp(driver->name, "limits");
        config.file = rig_disk(strcmp(driver->name, "copy-on-read") ? file : block_driver_find("overlay"),
                               window_only ? size + 2 * LEFT_OUT : size);
        config.options = window_only ? &window : NULL;
    }
    for (unsigned i = 0; driver->members && i < G_N_ELEMENTS(members); i++) {
        const uint64_t mine = rest > i * CHUNK ? MIN(rest - i * CHUNK, CHUNK) : 0;
        members[i] = rig_disk(file, !strcmp(driver->name, "mirror")   ? size
                                    : !strcmp(driver->name, "stripe") ? whole / 3 + mine
                                    : i < 2                           ? size / 4 / BLOCK_SECTOR * BLOCK_SECTOR
                                            : size - 2 * (size / 4 / BLOCK_SECTOR * BLOCK_SECTOR));
    }
    config.n_members = driver->members ? G_N_ELEMENTS(members) : 0;
    struct disk *b = block_open(driver, &config, &error);
    g_assert_no_error(error);
    return b;
}

/* Can rig_disk() make one? Not what is on servers, and what is only read. */
static inline bool rig_can(const struct block_driver *driver)
{
    return driver->kind == BLOCK_FORMAT ? !driver->image || driver->image->create
           : driver->kind == BLOCK_FILTER
               ? true
               : driver->needs_file || !strcmp(driver->name, "memory") || !strcmp(driver->name, "null");
}

/* A disk of size bytes, all zero. */
static inline struct disk *rig_disk(const struct block_driver *driver, uint64_t size)
{
    g_autoptr(GError) error = NULL;
    const bool made = driver->image && driver->image->create && !driver->accept;
    if (driver->kind == BLOCK_FILTER)
        return rig_filter(driver, size);
    struct block_config config = {.name = "test",
                                  .fd = driver->needs_file ? rig_file(made ? 0 : size) : -1,
                                  .size = size,
                                  .key = rig_key,
                                  .key_size = sizeof(rig_key)};
    if (made)
        rig_create(driver, config.fd, size);
    if (driver->needs_base) { /* half of it over a base, half of it not */
        const uint64_t base_size = size / 2 / BLOCK_SECTOR * BLOCK_SECTOR;
        struct block_config base = {.name = "base", .fd = rig_file(base_size), .readonly = true};
        close(config.fd);
        config.fd = rig_overlay(size, base_size);
        config.base = block_open(block_driver_find("raw"), &base, &error);
        g_assert_no_error(error);
    }
    struct disk *b = block_open(driver, &config, &error);
    g_assert_no_error(error);
    if (!strcmp(driver->name, "luks")) /* zeroes of the file are something else to it */
        g_assert_cmpint(block_zero(b, 0, size, 0), ==, 0);
    return b;
}

#endif
