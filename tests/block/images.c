/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Images for tests; see images.h. */
#include "images.h"

#include <string.h>

#include "base/bits.h"
#include "rig.h"

/* Sizes are such that tables are many and small where the format lets them be. */
const struct image_setup image_setups[] = {
    {.name = "overlay", .driver = "overlay", .size = 1280 * KiB + 512, .base_size = 640 * KiB},
    {.name = "qcow2", .driver = "qcow2", .size = 4 * MiB, .qemu = "qcow2"},
    {.name = "qcow2-512",
     .driver = "qcow2",
     .options = "cluster_size=512",
     .size = 512 * KiB,
     .base_size = 256 * KiB,
     .qemu = "qcow2"},
    {.name = "qcow2-4k",
     .driver = "qcow2",
     .options = "cluster_size=4K",
     .size = 2 * MiB,
     .base_size = 1 * MiB,
     .qemu = "qcow2"},
    {.name = "qcow2-v2",
     .driver = "qcow2",
     .options = "compat=0.10,cluster_size=4K",
     .size = 2 * MiB,
     .qemu = "qcow2"},
    {.name = "qcow2-lazy",
     .driver = "qcow2",
     .options = "cluster_size=4K,lazy_refcounts=on",
     .size = 2 * MiB,
     .qemu = "qcow2",
     .settles = true},
    {.name = "qcow2-refcount1",
     .driver = "qcow2",
     .options = "cluster_size=1K,refcount_bits=1",
     .size = 1 * MiB,
     .base_size = 512 * KiB,
     .qemu = "qcow2"},
    {.name = "qcow2-refcount64",
     .driver = "qcow2",
     .options = "cluster_size=512,refcount_bits=64",
     .size = 512 * KiB,
     .qemu = "qcow2"},
    {.name = "qcow2-extended",
     .driver = "qcow2",
     .options = "cluster_size=16K,extended_l2=on",
     .size = 2 * MiB,
     .base_size = 1 * MiB,
     .qemu = "qcow2"},
    {.name = "qcow2-zstd",
     .driver = "qcow2",
     .options = "cluster_size=4K,compression_type=zstd",
     .size = 2 * MiB,
     .qemu = "qcow2"},
    {.name = "vhdx",
     .driver = "vhdx",
     .options = "block_size=1M",
     .size = 8 * MiB,
     .qemu = "vhdx",
     .settles = true},
    {.name = "vdi",
     .driver = "vdi",
     .size = 8 * MiB,
     .qemu = "vdi",
     .settles = true}, /* counts blocks twice */
    {.name = "vmdk", .driver = "vmdk", .size = 4 * MiB, .qemu = "vmdk", .appends = true},
    {.name = "vpc", .driver = "vpc", .options = "force_size=on", .size = 8 * MiB},
    {.name = "vmdk-zeroed",
     .driver = "vmdk",
     .options = "zeroed_grain=on",
     .size = 4 * MiB,
     .qemu = "vmdk",
     .appends = true},
    {.name = "qed-over",
     .driver = "qed",
     .options = "cluster_size=4K,table_size=2",
     .size = 2 * MiB,
     .base_size = 1 * MiB,
     .qemu = "qed",
     .settles = true,
     .appends = true},
    {.name = "qed", .driver = "qed", .size = 4 * MiB, .qemu = "qed", .settles = true, .appends = true},
    {.name = "parallels", .driver = "parallels", .size = 8 * MiB, .qemu = "parallels", .settles = true},
    {0},
};

bool image_can(const struct image_setup *setup)
{
    const struct block_driver *driver = block_driver_find(setup->driver);
    return driver && (driver->needs_base || (driver->image && driver->image->create));
}

void image_stamp(uint8_t bytes[BLOCK_SECTOR], uint32_t writer, uint64_t sector)
{
    uint64_t word = ((uint64_t)writer << 32 | (uint32_t)sector) + UINT64_C(0x9e3779b97f4a7c15);
    for (unsigned i = 0; i < BLOCK_SECTOR; i += sizeof(word)) {
        if (i == 0 || !(writer & 1)) { /* the finalizer of MurmurHash3 */
            word = (word ^ word >> 33) * UINT64_C(0xff51afd7ed558ccd);
            word = (word ^ word >> 33) * UINT64_C(0xc4ceb9fe1a85ec53);
            word ^= word >> 33;
        }
        memcpy(bytes + i, &word, sizeof(word));
    }
}

struct store *image_base(const struct image_setup *setup)
{
    uint8_t bytes[BLOCK_SECTOR];
    if (!setup->base_size)
        return NULL;
    struct store *s = store_new(setup->base_size);
    for (uint64_t sector = 0; sector < setup->base_size / BLOCK_SECTOR; sector++) {
        image_stamp(bytes, IMAGE_BASE, sector);
        store_write(s, bytes, BLOCK_SECTOR, sector * BLOCK_SECTOR);
    }
    return s;
}

/* An option whose keys are those of creating such an image. */
static void fill_rows(const struct block_image *image, struct option_row rows[2])
{
    rows[0] = (struct option_row){.name = "o",
                                  .arg = "OPTIONS",
                                  .type = OPTION_LIST,
                                  .who = OPTION_BOTH,
                                  .keys = image->create_options,
                                  .item_size = image->create_options_size};
    rows[1] = (struct option_row){0};
}

struct store *image_make(const struct image_setup *setup)
{
    struct store *s = store_new(0);
    g_autoptr(GError) error = NULL;
    const struct block_driver *driver = block_driver_find(setup->driver);
    if (driver->needs_base) {
        int fd = rig_overlay(setup->size, setup->base_size);
        store_load(s, fd);
        close(fd);
        return s;
    }
    struct option_row rows[2];
    struct option_list list = {0};
    fill_rows(driver->image, rows);
    char *const argv[] = {(char *)(uintptr_t) "--o", (char *)(uintptr_t)setup->options, NULL};
    if (setup->options) /* not OPTION_CLI alone: people's guard against sizes without unit is not for us */
        option_parse(rows, OPTION_BOTH, argv, &list, &error);
    g_assert_no_error(error);
    AUTO(disk) file = store_disk(s, false, false);
    const struct block_create create = {.name = setup->name,
                                        .file = file,
                                        .size = setup->size,
                                        .backing = setup->base_size ? "base.raw" : NULL,
                                        .backing_format = setup->base_size ? "raw" : NULL,
                                        .options = list.items};
    driver->image->create(&create, &error);
    g_assert_no_error(error);
    option_fini(rows, &list);
    return s;
}

struct disk *image_open(const struct image_setup *setup, struct disk *file, struct store *base,
                        unsigned flags, bool readonly, const char *snapshot, GError **error)
{
    struct block_config config = {.name = setup->name,
                                  .fd = -1,
                                  .file = file,
                                  .base = base ? store_disk(base, true, false) : NULL,
                                  .readonly = readonly,
                                  .flags = flags,
                                  .snapshot = snapshot};
    return block_open(block_driver_find(setup->driver), &config, error);
}
