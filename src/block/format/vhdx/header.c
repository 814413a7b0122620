/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The beginning of a VHDX file: two headers that take turns, and where its regions lie ([MS-VHDX] 2.2). */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/byteorder.h"
#include "base/checked.h"
#include "base/error.h"
#include "block/format/vhdx/vhdx.h"
#include "block/scratch.h"
#include "codec/crc32c.h"

/* --- identifiers --- */

#define GUID(a, b, c, d0, d1, d2, d3, d4, d5, d6, d7)                                                        \
    {                                                                                                        \
        {                                                                                                    \
            (uint8_t)(a), (uint8_t)((a) >> 8), (uint8_t)((a) >> 16), (uint8_t)((a) >> 24), (uint8_t)(b),     \
                (uint8_t)((b) >> 8), (uint8_t)(c), (uint8_t)((c) >> 8), d0, d1, d2, d3, d4, d5, d6, d7       \
        }                                                                                                    \
    }

const struct vhdx_guid vhdx_guid_null;
const struct vhdx_guid vhdx_guid_bat =
    GUID(0x2dc27766, 0xf623, 0x4200, 0x9d, 0x64, 0x11, 0x5e, 0x9b, 0xfd, 0x4a, 0x08);
const struct vhdx_guid vhdx_guid_metadata =
    GUID(0x8b7ca206, 0x4790, 0x4b9a, 0xb8, 0xfe, 0x57, 0x5f, 0x05, 0x0f, 0x88, 0x6e);
const struct vhdx_guid vhdx_guid_file_parameters =
    GUID(0xcaa16737, 0xfa36, 0x4d43, 0xb3, 0xb6, 0x33, 0xf0, 0xaa, 0x44, 0xe7, 0x6b);
const struct vhdx_guid vhdx_guid_disk_size =
    GUID(0x2fa54224, 0xcd1b, 0x4876, 0xb2, 0x11, 0x5d, 0xbe, 0xd8, 0x3b, 0xf4, 0xb8);
const struct vhdx_guid vhdx_guid_disk_id =
    GUID(0xbeca12ab, 0xb2e6, 0x4523, 0x93, 0xef, 0xc3, 0x09, 0xe0, 0x00, 0xc7, 0x46);
const struct vhdx_guid vhdx_guid_logical =
    GUID(0x8141bf1d, 0xa96f, 0x4709, 0xba, 0x47, 0xf2, 0x33, 0xa8, 0xfa, 0xab, 0x5f);
const struct vhdx_guid vhdx_guid_physical =
    GUID(0xcda348c7, 0x445d, 0x4471, 0x9c, 0xc9, 0xe9, 0x88, 0x52, 0x51, 0xc5, 0x56);
const struct vhdx_guid vhdx_guid_parent =
    GUID(0xa8d35f2d, 0xb30b, 0x454d, 0xab, 0xf7, 0xd3, 0xd8, 0x48, 0x34, 0xab, 0x0c);
const struct vhdx_guid vhdx_guid_locator =
    GUID(0xb04aefb7, 0xd19e, 0x4a81, 0xb7, 0x89, 0x25, 0xb8, 0xe9, 0x44, 0x59, 0x13);

char *vhdx_guid_text(const struct vhdx_guid *guid)
{
    const uint8_t *b = guid->bytes;
    return g_strdup_printf("%08x-%04x-%04x-%02x%02x-%02x%02x%02x%02x%02x%02x", ld32le(b), ld16le(b + 4),
                           ld16le(b + 6), b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]);
}

bool vhdx_guid_make(struct vhdx_guid *guid)
{
    return block_image_id(guid->bytes);
}

uint32_t vhdx_checksum(const void *bytes, size_t size)
{
    static const uint8_t zero[4];
    const uint32_t crc = crc32c(crc32c(0, bytes, 4), zero, sizeof(zero));
    return crc32c(crc, (const uint8_t *)bytes + 8, size - 8);
}

/* --- headers --- */

static uint64_t header_at(unsigned which)
{
    return VHDX_HEADER_AT * (uint64_t)(which + 1);
}

static bool header_is_good(const struct vhdx_header *h)
{
    return !memcmp(h->signature, "head", 4) && le16toh(h->version) == 1 &&
           le32toh(h->checksum) == vhdx_checksum(h, sizeof(*h));
}

static bool check_log(struct vhdx *v, GError **error)
{
    struct disk *b = &v->disk;
    const struct vhdx_header *h = &v->header;
    v->log = (struct vhdx_range){le64toh(h->log_offset), le32toh(h->log_length)};
    if (!vhdx_guid_is(&h->log, &vhdx_guid_null) && le16toh(h->log_version))
        return hostel_fail(error, HOSTEL_ERROR_UNSUPPORTED,
                           "%s: has a log of version %u, this Hostel knows version 0", b->name,
                           le16toh(h->log_version));
    if (v->log.offset % VHDX_UNIT || v->log.length % VHDX_UNIT || v->log.offset < VHDX_UNIT ||
        !v->log.length || !range_inside(v->log.offset, v->log.length, 0, INT64_MAX))
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "%s: its header is damaged: a log of %" PRIu64 " bytes at %" PRIu64, b->name,
                           v->log.length, v->log.offset);
    return true;
}

bool vhdx_read_header(struct vhdx *v, GError **error)
{
    struct disk *b = &v->disk;
    struct vhdx_header h[2];
    char signature[8] = "";
    int status = vhdx_read_meta(v, signature, sizeof(signature), 0);
    for (unsigned i = 0; i < 2 && !status; i++)
        status = vhdx_read_meta(v, &h[i], sizeof(h[i]), header_at(i));
    if (status)
        return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot read its headers: %s", b->name,
                           g_strerror(-status));
    if (memcmp(signature, "vhdxfile", 8) != 0)
        return hostel_fail(error, HOSTEL_ERROR_INPUT, "%s: is no vhdx image; is it another format?", b->name);
    const bool good[2] = {header_is_good(&h[0]), header_is_good(&h[1])};
    if (!good[0] && !good[1])
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "%s: both of its headers are damaged, or of a version other than 1", b->name);
    v->current = !good[0] || (good[1] && le64toh(h[1].sequence) > le64toh(h[0].sequence));
    v->header = h[v->current];
    return check_log(v, error);
}

int vhdx_write_header(struct vhdx *v)
{
    struct vhdx_header *h = &v->header;
    h->sequence = htole64(le64toh(h->sequence) + 1);
    h->checksum = htole32(vhdx_checksum(h, sizeof(*h)));
    int status = block_pwrite(v->disk.below, h, sizeof(*h), header_at(!v->current));
    if (!status)
        status = block_flush(v->disk.below);
    if (!status) /* else the other one may be damaged, and this one is still needed */
        v->current = !v->current;
    return status;
}

/* --- regions --- */

static bool region_table_is_good(const struct vhdx_region_table *t)
{
    return !memcmp(t->signature, "regi", 4) && le32toh(t->count) <= VHDX_ENTRIES_MAX &&
           le32toh(t->checksum) == vhdx_checksum(t, sizeof(*t));
}

static bool take_region(struct vhdx *v, const struct vhdx_region *r, GError **error)
{
    struct vhdx_range *range = vhdx_guid_is(&r->guid, &vhdx_guid_bat)        ? &v->bat
                               : vhdx_guid_is(&r->guid, &vhdx_guid_metadata) ? &v->metadata
                                                                             : NULL;
    const struct vhdx_range found = {le64toh(r->offset), le32toh(r->length)};
    g_autofree char *name = vhdx_guid_text(&r->guid);
    if (found.offset % VHDX_UNIT || found.length % VHDX_UNIT || found.offset < VHDX_UNIT || !found.length ||
        !range_inside(found.offset, found.length, 0, INT64_MAX) ||
        ranges_overlap(found.offset, found.length, v->log.offset, v->log.length))
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "%s: its region %s lies at %" PRIu64 ", %" PRIu64
                           " bytes; that is in the header or the log, or no multiple of 1 MiB",
                           v->disk.name, name, found.offset, found.length);
    if (!range && le32toh(r->required) & 1)
        return hostel_fail(error, HOSTEL_ERROR_UNSUPPORTED,
                           "%s: needs the region %s, which this Hostel does not know", v->disk.name, name);
    if (range && range->length)
        return hostel_fail(error, HOSTEL_ERROR_INPUT, "%s: has the region %s twice", v->disk.name, name);
    if (range)
        *range = found;
    return true;
}

static bool take_regions(struct vhdx *v, const struct vhdx_region_table *t, GError **error)
{
    v->bat = v->metadata = (struct vhdx_range){0};
    for (uint32_t i = 0; i < le32toh(t->count); i++)
        if (!take_region(v, &t->entries[i], error))
            return false;
    if (!v->bat.length || !v->metadata.length ||
        ranges_overlap(v->bat.offset, v->bat.length, v->metadata.offset, v->metadata.length))
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "%s: its region table is damaged: the block table or the metadata are missing, or "
                           "overlap",
                           v->disk.name);
    return true;
}

bool vhdx_read_regions(struct vhdx *v, GError **error)
{
    struct vhdx_region_table *t = block_scratch_take(sizeof(*t));
    bool good = false;
    int status = t ? 0 : -ENOMEM;
    for (unsigned i = 0; i < 2 && !status && !good; i++) {
        status = vhdx_read_meta(v, t, sizeof(*t), VHDX_REGIONS_AT + i * (uint64_t)VHDX_TABLE);
        good = !status && region_table_is_good(t);
    }
    bool done = good && take_regions(v, t, error);
    if (status)
        hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot read its regions: %s", v->disk.name,
                    g_strerror(-status));
    else if (!good)
        hostel_fail(error, HOSTEL_ERROR_INPUT, "%s: both of its region tables are damaged", v->disk.name);
    block_scratch_give(t);
    return done;
}

int vhdx_move_bat(struct vhdx *v, const struct vhdx_range *bat, uint8_t *bytes)
{
    struct vhdx_region_table *t = (struct vhdx_region_table *)(void *)bytes;
    int status = vhdx_read_meta(v, t, sizeof(*t), VHDX_REGIONS_AT);
    if (!status && !region_table_is_good(t))
        status = vhdx_read_meta(v, t, sizeof(*t), VHDX_REGIONS_AT + VHDX_TABLE);
    if (status)
        return status;
    const uint32_t first_page = (VHDX_PAGE - 16) / sizeof(struct vhdx_region);
    for (uint32_t i = 0; i < MIN(le32toh(t->count), first_page); i++)
        if (vhdx_guid_is(&t->entries[i].guid, &vhdx_guid_bat)) {
            t->entries[i].offset = htole64(bat->offset);
            t->entries[i].length = htole32((uint32_t)bat->length);
            t->checksum = htole32(vhdx_checksum(t, sizeof(*t)));
            return 0;
        }
    return -EINVAL;
}
