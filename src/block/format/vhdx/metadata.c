/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The metadata of a VHDX file: what the disk is like, and whom it lies over ([MS-VHDX] 2.6). */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/byteorder.h"
#include "base/checked.h"
#include "base/error.h"
#include "block/format/vhdx/vhdx.h"
#include "block/scratch.h"

enum { LOCATOR_MAX = 64 * 1024, FLAG_LEAVE = 1, FLAG_PARENT = 2 };

/* The items that we know. */
enum known { FILE_PARAMETERS, DISK_SIZE, DISK_ID, LOGICAL, PHYSICAL, PARENT, KNOWN };

static const struct {
    const struct vhdx_guid *guid;
    const char *name;
    uint32_t length; /* 0 = any */
} known[KNOWN] = {
    [FILE_PARAMETERS] = {&vhdx_guid_file_parameters, "file parameters", 8},
    [DISK_SIZE] = {&vhdx_guid_disk_size, "disk size", 8},
    [DISK_ID] = {&vhdx_guid_disk_id, "disk identifier", 16},
    [LOGICAL] = {&vhdx_guid_logical, "logical sector size", 4},
    [PHYSICAL] = {&vhdx_guid_physical, "physical sector size", 4},
    [PARENT] = {&vhdx_guid_parent, "parent locator", 0},
};

/* --- the table --- */

static bool take_item(struct vhdx *v, const struct vhdx_item *item, struct vhdx_range items[KNOWN],
                      GError **error)
{
    const struct vhdx_range found = {le32toh(item->offset), le32toh(item->length)};
    const uint32_t flags = le32toh(item->flags);
    g_autofree char *name = vhdx_guid_text(&item->guid);
    unsigned i = 0;
    while (i < KNOWN && (flags & VHDX_ITEM_USER || !vhdx_guid_is(&item->guid, known[i].guid)))
        i++;
    if (i == KNOWN)
        return !(flags & VHDX_ITEM_REQUIRED) ||
               hostel_fail(error, HOSTEL_ERROR_UNSUPPORTED,
                           "%s: needs the metadata %s, which this Hostel does not know", v->disk.name, name);
    if (items[i].length)
        return hostel_fail(error, HOSTEL_ERROR_INPUT, "%s: has the metadata \"%s\" twice", v->disk.name,
                           known[i].name);
    if (found.offset < VHDX_TABLE || !found.length || (known[i].length && found.length != known[i].length) ||
        !range_inside(found.offset, found.length, 0, v->metadata.length))
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "%s: its metadata \"%s\" is damaged: %" PRIu64 " bytes at %" PRIu64, v->disk.name,
                           known[i].name, found.length, found.offset);
    items[i] = found;
    return true;
}

static bool take_items(struct vhdx *v, const struct vhdx_metadata_table *t, struct vhdx_range items[KNOWN],
                       GError **error)
{
    if (memcmp(t->signature, "metadata", 8) != 0 || le16toh(t->count) > VHDX_ENTRIES_MAX)
        return hostel_fail(error, HOSTEL_ERROR_INPUT, "%s: its table of metadata is damaged", v->disk.name);
    for (uint32_t i = 0; i < le16toh(t->count); i++)
        if (!take_item(v, &t->entries[i], items, error))
            return false;
    return true;
}

static bool find_items(struct vhdx *v, struct vhdx_range items[KNOWN], GError **error)
{
    struct vhdx_metadata_table *t = block_scratch_take(sizeof(*t));
    int status = t ? vhdx_read_meta(v, t, sizeof(*t), v->metadata.offset) : -ENOMEM;
    bool done = !status && take_items(v, t, items, error);
    block_scratch_give(t);
    if (status)
        return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot read its metadata: %s", v->disk.name,
                           g_strerror(-status));
    for (unsigned i = 0; done && i < PARENT; i++)
        if (!items[i].length && i != DISK_ID && i != PHYSICAL)
            done = hostel_fail(error, HOSTEL_ERROR_INPUT, "%s: lacks the metadata \"%s\"", v->disk.name,
                               known[i].name);
    return done;
}

/* --- the parent locator --- */

struct locator {
    const uint8_t *bytes;
    uint32_t size;
};

/* UTF-16 at that place of the locator, as UTF-8, owned; NULL when it is none. */
static char *locator_text(const struct locator *l, uint32_t offset, uint32_t length)
{
    if (length % 2 || !range_inside(offset, length, 0, l->size))
        return NULL;
    g_autofree gunichar2 *text = g_new(gunichar2, length / 2 + 1);
    for (uint32_t i = 0; i < length / 2; i++)
        text[i] = ld16le(l->bytes + offset + (size_t)i * 2);
    return g_utf16_to_utf8(text, (glong)(length / 2), NULL, NULL, NULL);
}

/* The value with this name, owned; NULL = there is none. */
static char *locator_find(const struct locator *l, const char *name)
{
    const uint32_t count = ld16le(l->bytes + 18);
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *entry = l->bytes + 20 + (size_t)i * 12;
        if (20 + (i + 1) * 12 > l->size)
            break;
        g_autofree char *key = locator_text(l, ld32le(entry), ld16le(entry + 8));
        if (key && !strcmp(key, name))
            return locator_text(l, ld32le(entry + 4), ld16le(entry + 10));
    }
    return NULL;
}

static char *as_path(char *path)
{
    if (!path)
        return NULL;
    g_strdelimit(path, "\\", '/');
    if (g_str_has_prefix(path, "./"))
        memmove(path, path + 2, strlen(path + 2) + 1);
    return path;
}

static bool parse_locator(struct vhdx *v, const struct locator *l, GError **error)
{
    if (l->size < 20 || memcmp(l->bytes, &vhdx_guid_locator, sizeof(vhdx_guid_locator)) != 0)
        return hostel_fail(error, HOSTEL_ERROR_UNSUPPORTED,
                           "%s: names its parent in a way this Hostel does not know", v->disk.name);
    v->parent = as_path(locator_find(l, "relative_path"));
    if (!v->parent)
        v->parent = as_path(locator_find(l, "absolute_win32_path"));
    v->linkage = locator_find(l, "parent_linkage");
    return true;
}

static bool read_locator(struct vhdx *v, const struct vhdx_range *item, GError **error)
{
    if (!item->length || item->length > LOCATOR_MAX)
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "%s: lies over a parent, but does not say which, or in more than 64 KiB",
                           v->disk.name);
    g_autofree uint8_t *bytes = g_malloc(item->length);
    int status = vhdx_read_meta(v, bytes, item->length, v->metadata.offset + item->offset);
    if (status)
        return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot read its metadata: %s", v->disk.name,
                           g_strerror(-status));
    return parse_locator(v, &(struct locator){bytes, (uint32_t)item->length}, error);
}

/* --- all of it --- */

static bool check_values(struct vhdx *v, uint32_t block, uint64_t size, GError **error)
{
    struct disk *b = &v->disk;
    if (!is_power_of_two(block) || block < VHDX_UNIT || block > 256 * VHDX_UNIT)
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "%s: has blocks of %u bytes; expected a power of two from 1 to 256 MiB", b->name,
                           block);
    if ((v->sector != 512 && v->sector != 4096) || (v->physical != 512 && v->physical != 4096))
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "%s: has sectors of %u bytes, physically %u; expected 512 or 4096", b->name,
                           v->sector, v->physical);
    if (!size || size % v->sector || size > VHDX_SIZE_MAX)
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "%s: is a disk of %" PRIu64 " bytes; expected whole sectors, up to 64 TiB",
                           b->name, size);
    const uint64_t blocks = (size + block - 1) / block;
    const uint64_t entries = vhdx_bat_entries(blocks, vhdx_ratio(v->sector, block), v->difference);
    if (blocks > VHDX_BLOCKS_MAX || entries * 8 > v->bat.length)
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "%s: has %" PRIu64 " blocks, and a table of %" PRIu64
                           " bytes for them; expected at most %d blocks, and 8 bytes for each",
                           b->name, blocks, v->bat.length, VHDX_BLOCKS_MAX);
    return true;
}

bool vhdx_read_metadata(struct vhdx *v, GError **error)
{
    struct vhdx_range items[KNOWN] = {0};
    uint8_t value[KNOWN][8] = {0};
    int status = 0;
    if (!find_items(v, items, error))
        return false;
    st32le(value[PHYSICAL], 4096);
    for (unsigned i = 0; i < KNOWN && !status; i++)
        if (known[i].length && known[i].length <= 8 && items[i].length)
            status = vhdx_read_meta(v, value[i], known[i].length, v->metadata.offset + items[i].offset);
    if (status)
        return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot read its metadata: %s", v->disk.name,
                           g_strerror(-status));
    const uint32_t flags = ld32le(value[FILE_PARAMETERS] + 4);
    v->leave_allocated = flags & FLAG_LEAVE;
    v->difference = flags & FLAG_PARENT;
    v->sector = ld32le(value[LOGICAL]);
    v->physical = ld32le(value[PHYSICAL]);
    v->size_at = (uint32_t)items[DISK_SIZE].offset;
    v->disk.facts.size = ld64le(value[DISK_SIZE]);
    v->places.block = ld32le(value[FILE_PARAMETERS]);
    return check_values(v, v->places.block, v->disk.facts.size, error) &&
           (!v->difference || read_locator(v, &items[PARENT], error));
}
