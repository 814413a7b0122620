/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Reads partition tables; see partition.h. */
#include "block/partition.h"

#include <inttypes.h>
#include <string.h>

#include "base/byteorder.h"
#include "base/checked.h"
#include "base/error.h"
#include "codec/crc32.h"

enum {
    MBR_TABLE = 446,
    MBR_ENTRY = 16,
    MBR_PRIMARY = 4,
    GPT_HEADER = 92,
    GPT_ENTRY = 128,
    TYPE_GPT = 0xee,
};

void block_partition_free(struct block_partition *p)
{
    if (!p)
        return;
    g_free(p->name);
    g_free(p);
}

static void free_partition(gpointer p)
{
    block_partition_free(p);
}

static bool read_at(struct disk *b, void *bytes, size_t size, uint64_t offset, GError **error)
{
    int status = range_inside(offset, size, 0, b->facts.size) ? block_pread(b, bytes, size, offset) : -ERANGE;
    return !status || hostel_fail(error, status == -ERANGE ? HOSTEL_ERROR_INPUT : HOSTEL_ERROR_HOST,
                                  "%s: cannot read its partition table at %" PRIu64 ": %s", b->name, offset,
                                  status == -ERANGE ? "that is behind the disk's end" : g_strerror(-status));
}

/* A partition of sectors; what lies outside of the disk is damage. type and name (taken) as in the struct. */
static bool add(struct disk *b, GPtrArray *list, unsigned number, uint64_t first, uint64_t sectors,
                const char *type, char *name, GError **error)
{
    g_autofree char *own = name;
    if (first > INT64_MAX / BLOCK_SECTOR || sectors > INT64_MAX / BLOCK_SECTOR || !sectors ||
        !range_inside(first * BLOCK_SECTOR, sectors * BLOCK_SECTOR, 0, b->facts.size))
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "%s: partition %u (%" PRIu64 " sectors at %" PRIu64
                           ") is not inside the disk of %" PRIu64 " sectors",
                           b->name, number, sectors, first, b->facts.size / BLOCK_SECTOR);
    struct block_partition *p = g_new0(struct block_partition, 1);
    p->number = number;
    p->offset = first * BLOCK_SECTOR;
    p->size = sectors * BLOCK_SECTOR;
    g_strlcpy(p->type, type, sizeof(p->type));
    p->name = g_steal_pointer(&own);
    g_ptr_array_add(list, p);
    return true;
}

/* --- MBR --- */

static bool is_extended(uint8_t type)
{
    return type == 0x05 || type == 0x0f || type == 0x85;
}

static bool add_mbr(struct disk *b, GPtrArray *list, unsigned number, const uint8_t *entry, uint64_t base,
                    GError **error)
{
    char type[8];
    g_snprintf(type, sizeof(type), "0x%02x", entry[4]);
    return add(b, list, number, base + ld32le(entry + 8), ld32le(entry + 12), type, g_strdup(""), error);
}

/* The chain of logical partitions: each link describes one, and says where the next link is. */
static bool read_logical(struct disk *b, GPtrArray *list, uint64_t extended, GError **error)
{
    uint64_t link = extended;
    for (unsigned number = MBR_PRIMARY + 1; number <= BLOCK_PARTITIONS_MAX; number++) {
        uint8_t sector[BLOCK_SECTOR];
        if (!read_at(b, sector, sizeof(sector), link * BLOCK_SECTOR, error))
            return false;
        const uint8_t *entry = sector + MBR_TABLE, *next = entry + MBR_ENTRY;
        if (ld16le(sector + 510) != 0xaa55)
            return hostel_fail(error, HOSTEL_ERROR_INPUT,
                               "%s: its chain of logical partitions is broken at sector %" PRIu64, b->name,
                               link);
        if (entry[4] && !add_mbr(b, list, number, entry, link, error))
            return false;
        if (!is_extended(next[4]))
            return true;
        link = extended + ld32le(next + 8);
    }
    return hostel_fail(error, HOSTEL_ERROR_INPUT, "%s: its chain of logical partitions does not end",
                       b->name);
}

static bool read_mbr(struct disk *b, GPtrArray *list, const uint8_t *sector, GError **error)
{
    uint64_t extended = 0;
    for (unsigned i = 0; i < MBR_PRIMARY; i++) {
        const uint8_t *entry = sector + MBR_TABLE + i * MBR_ENTRY;
        if (is_extended(entry[4]))
            extended = ld32le(entry + 8);
        else if (entry[4] && !add_mbr(b, list, i + 1, entry, 0, error))
            return false;
    }
    return !extended || read_logical(b, list, extended, error);
}

/* --- GPT --- */

/* The mixed byte order of UEFI's appendix A. */
static void format_guid(const uint8_t *g, char *out, size_t size)
{
    g_snprintf(out, size, "%08" PRIx32 "-%04x-%04x-%02x%02x-%02x%02x%02x%02x%02x%02x", ld32le(g),
               ld16le(g + 4), ld16le(g + 6), g[8], g[9], g[10], g[11], g[12], g[13], g[14], g[15]);
}

static char *entry_name(const uint8_t *entry)
{
    enum { NAME = 56, LETTERS = 36 };
    gunichar2 letters[LETTERS];
    for (unsigned i = 0; i < LETTERS; i++)
        letters[i] = ld16le(entry + NAME + 2 * i);
    char *name = g_utf16_to_utf8(letters, LETTERS, NULL, NULL, NULL);
    return name ? name : g_strdup("");
}

static bool read_array(struct disk *b, GPtrArray *list, const uint8_t *array, uint32_t count, uint32_t each,
                       GError **error)
{
    static const uint8_t unused[16];
    for (uint32_t i = 0; i < count && i < BLOCK_PARTITIONS_MAX; i++) {
        const uint8_t *entry = array + (size_t)i * each;
        const uint64_t first = ld64le(entry + 32), last = ld64le(entry + 40);
        char type[37];
        if (!memcmp(entry, unused, sizeof(unused)))
            continue;
        format_guid(entry, type, sizeof(type));
        if (!add(b, list, i + 1, first, last >= first ? last - first + 1 : 0, type, entry_name(entry), error))
            return false;
    }
    return true;
}

/* The header at `lba`, with its array. */
static bool read_gpt_at(struct disk *b, GPtrArray *list, uint64_t lba, GError **error)
{
    enum { ARRAY_MAX = 1 << 20 };
    uint8_t h[BLOCK_SECTOR];
    if (!read_at(b, h, sizeof(h), lba * BLOCK_SECTOR, error))
        return false;
    const uint32_t size = ld32le(h + 12), crc = ld32le(h + 16), count = ld32le(h + 80), each = ld32le(h + 84);
    const uint32_t array_crc = ld32le(h + 88);
    const uint64_t place = ld64le(h + 72);
    memset(h + 16, 0, 4);
    if (memcmp(h, "EFI PART", 8) != 0 || size < GPT_HEADER || size > sizeof(h) ||
        crc32_ieee(0, h, size) != crc)
        return hostel_fail(error, HOSTEL_ERROR_INPUT, "%s: its GPT header at sector %" PRIu64 " is damaged",
                           b->name, lba);
    const uint64_t bytes = (uint64_t)count * each;
    if (each < GPT_ENTRY || !bytes || bytes > ARRAY_MAX || place > INT64_MAX / BLOCK_SECTOR)
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "%s: its GPT has %" PRIu32 " entries of %" PRIu32
                           " bytes; up to 1 MiB of them are read",
                           b->name, count, each);
    g_autofree uint8_t *array = g_malloc((gsize)bytes);
    if (!read_at(b, array, (size_t)bytes, place * BLOCK_SECTOR, error))
        return false;
    if (crc32_ieee(0, array, (size_t)bytes) != array_crc)
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "%s: the entries of its GPT at sector %" PRIu64 " are damaged", b->name, place);
    return read_array(b, list, array, count, each, error);
}

/* The header in front; when it is damaged, the one at the disk's end. */
static bool read_gpt(struct disk *b, GPtrArray *list, GError **error)
{
    g_autoptr(GError) first = NULL;
    if (read_gpt_at(b, list, 1, &first))
        return true;
    g_ptr_array_set_size(list, 0);
    if (read_gpt_at(b, list, b->facts.size / BLOCK_SECTOR - 1, NULL))
        return true;
    g_propagate_error(error, g_steal_pointer(&first));
    return false;
}

GPtrArray *block_partitions(struct disk *b, GError **error)
{
    g_autoptr(GPtrArray) list = g_ptr_array_new_with_free_func(free_partition);
    uint8_t sector[BLOCK_SECTOR];
    if (b->facts.size < 2 * BLOCK_SECTOR)
        return g_steal_pointer(&list);
    if (!read_at(b, sector, sizeof(sector), 0, error))
        return NULL;
    if (ld16le(sector + 510) != 0xaa55)
        return g_steal_pointer(&list);
    bool gpt = false;
    for (unsigned i = 0; i < MBR_PRIMARY; i++)
        gpt |= sector[MBR_TABLE + i * MBR_ENTRY + 4] == TYPE_GPT;
    /* A file system of FAT's family has the same end of sector; its table's bytes make no partitions then. */
    if (gpt ? !read_gpt(b, list, error) : !read_mbr(b, list, sector, error))
        return NULL;
    return g_steal_pointer(&list);
}
