/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What the two files of format vdi share: the header as it is on disk, and an open image. */
#ifndef HOSTEL_BLOCK_FORMAT_VDI_INT_H
#define HOSTEL_BLOCK_FORMAT_VDI_INT_H

#include "block/format/places.h"

enum {
    VDI_VERSION = 0x00010001,
    VDI_DYNAMIC = 1,
    VDI_FIXED = 2,
    VDI_BLOCK_MIN = 4096,
    VDI_BLOCK_DEFAULT = 1 << 20, /* the only size that all others open */
    VDI_BLOCK_MAX = 1 << 28,
    VDI_BLOCKS_MAX = 1 << 24, /* a map of 64 MiB */
};
#define VDI_SIGNATURE UINT32_C(0xbeda107f)
#define VDI_FREE UINT32_MAX
#define VDI_ZERO (UINT32_MAX - 1)

/* Little-endian. */
struct vdi_header {
    char text[64];
    uint32_t signature, version;
    uint32_t header_size, type, flags;
    char description[256];
    uint32_t map_offset, data_offset;
    uint32_t cylinders, heads, sectors, sector_size;
    uint32_t unused;
    uint64_t disk_size;
    uint32_t block_size, block_extra, blocks, allocated;
    uint8_t id[16], last_snapshot[16], link[16], parent[16];
    uint8_t rest[56];
} __attribute__((packed));

struct vdi {
    struct disk disk;
    struct places places;
    struct vdi_header header; /* as the file has it; guarded by places.lock */
    uint64_t data;            /* of slot 0 */
    uint64_t slots_max;
};

struct vdi *vdi_of(struct disk *b);

/* The entry of the map for what places has. */
uint32_t vdi_entry(const struct vdi *v, uint64_t place);
int vdi_write_header(struct vdi *v);

enum vdi_damage { VDI_FINE, VDI_NO_SLOT, VDI_BEHIND_END, VDI_TWICE };

/* Calls seen for each block of the file's map that is not free. used: a bit for each slot, all 0. */
typedef void vdi_seen(struct vdi *v, uint64_t block, uint64_t place, enum vdi_damage damage, void *opaque);
int vdi_examine(struct vdi *v, uint8_t *used, vdi_seen *seen, void *opaque);

/* Slots that are nobody's are filled with the last blocks, and the file ends behind those. Nothing else is
 * under way; a crash leaves what was, or leaks. */
int vdi_compact(struct vdi *v);

/* Fills places from the file's map. */
int vdi_load(struct vdi *v, uint64_t *damaged);

int vdi_resize(struct disk *b, uint64_t size);
extern const struct block_image vdi_image;

#endif
