/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Opening a VMDK image: its descriptor, its extents, and the headers of the four kinds of sparse ones. */
#include <inttypes.h>
#include <string.h>

#include "base/byteorder.h"
#include "base/checked.h"
#include "base/error.h"
#include "block/format/vmdk/vmdk.h"

enum {
    TABLES_MAX = 1 << 21,
    ENTRIES_MAX = 4096,
    GRAIN_MAX = 64 * 1024 * 1024,
    PACKED_GRAIN_MAX = 4 * 1024 * 1024, /* those are held in memory */
    COWD_ENTRIES = 4096,
    EXTENT_BITS = 60, /* no disk is larger, nor does an offset in one overflow */
};

const uint8_t vmdk_newlines[4] = {'\n', ' ', '\r', '\n'};

/* The head of a COWD extent. Little-endian. */
struct cowd_header {
    uint32_t magic, version, flags, capacity, grain, gd, gd_n, next; /* sectors */
};
_Static_assert(sizeof(struct cowd_header) == 32, "no padding");

/* The head of a seSparse extent; all in sectors. Little-endian. */
struct sesparse_header {
    uint64_t magic, version, capacity, grain, table, flags, reserved[4];
    uint64_t volatile_at, volatile_size, journal_header_at, journal_header_size, journal_at, journal_size;
    uint64_t gd, gd_size, tables, tables_size, bitmap, bitmap_size, backmap, backmap_size, grains,
        grains_size;
    uint8_t pad[304];
};
_Static_assert(sizeof(struct sesparse_header) == 512, "one sector");

struct sesparse_volatile {
    uint64_t magic, free_table, next_transaction, replay;
};

#define SESPARSE_MAGIC UINT64_C(0xcafebabe)
#define SESPARSE_VOLATILE_MAGIC UINT64_C(0xcafecafe)
#define SESPARSE_VERSION UINT64_C(0x0000000200000001)

void vmdk_release(struct vmdk *v)
{
    grains_fini(&v->grains);
    vmdk_descriptor_clear(&v->descriptor);
}

static bool bad(const struct grains_extent *e, GError **error, const char *what)
{
    return hostel_fail(error, HOSTEL_ERROR_INPUT, "%s: its header is damaged: %s", e->name, what);
}

static bool read_at(const struct grains_extent *e, void *bytes, size_t size, uint64_t offset, GError **error)
{
    if (!range_inside(offset, size, 0, e->file->facts.size))
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "%s: is damaged or cut off: %zu bytes at %" PRIu64 " are wanted, it has %" PRIu64,
                           e->name, size, offset, e->file->facts.size);
    int status = block_pread(e->file, bytes, size, offset);
    return !status ||
           hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot read it: %s", e->name, g_strerror(-status));
}

/* --- directories --- */

/* Where a table is by the entry of its directory; UINT64_MAX when the entry makes no sense. */
static uint64_t table_place(const struct grains_extent *e, uint64_t entry, uint64_t tables)
{
    if (e->kind != GRAINS_SESPARSE || !entry)
        return entry * BLOCK_SECTOR;
    if (entry >> 32 != 0x10000000)
        return UINT64_MAX;
    return tables + (uint64_t)(uint32_t)entry * e->entries * e->entry_size;
}

/* tables: where seSparse ones begin, bytes. */
static bool read_directory(struct grains_extent *e, uint64_t at, uint64_t tables, uint64_t **out,
                           GError **error)
{
    const size_t size = (size_t)e->tables_n * e->entry_size;
    if (!range_inside(at, size, 0, e->file->facts.size))
        return bad(e, error, "its directory lies behind its end");
    g_autofree uint8_t *raw = g_try_malloc(size);
    *out = g_try_new(uint64_t, e->tables_n);
    if (!raw || !*out)
        return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: the host has not enough memory for its directory",
                           e->name);
    if (!read_at(e, raw, size, at, error))
        return false;
    for (uint32_t i = 0; i < e->tables_n; i++) {
        const uint64_t entry = e->entry_size == 8 ? ld64le(raw + (size_t)i * 8) : ld32le(raw + (size_t)i * 4);
        (*out)[i] = table_place(e, entry, tables);
        if ((*out)[i] &&
            !range_inside((*out)[i], (uint64_t)e->entries * e->entry_size, 0, e->file->facts.size))
            return hostel_fail(error, HOSTEL_ERROR_INPUT,
                               "%s: is damaged or cut off: grain table %" PRIu32 " lies behind its end",
                               e->name, i);
    }
    return true;
}

/* The numbers of a sparse extent, in sectors but for entries; checks them. */
static bool set_geometry(struct grains_extent *e, uint64_t capacity, uint64_t grain, uint64_t entries,
                         GError **error)
{
    if (!capacity || capacity >> (EXTENT_BITS - 9))
        return bad(e, error, "its capacity");
    if (!is_power_of_two(grain) || grain > GRAIN_MAX / BLOCK_SECTOR)
        return bad(e, error, "the size of grains is no power of two up to 64 MiB");
    if (!is_power_of_two(entries) || entries > ENTRIES_MAX)
        return bad(e, error, "the number of a table's entries is no power of two up to 4096");
    e->grain = (uint32_t)(grain * BLOCK_SECTOR);
    e->entries = (uint32_t)entries;
    const uint64_t covered = grain * entries, tables = (capacity + covered - 1) / covered;
    if (tables > TABLES_MAX)
        return bad(e, error, "it has more grain tables than this Hostel takes");
    e->tables_n = (uint32_t)tables;
    e->tables = g_try_new0(struct grains_table, e->tables_n);
    if (!e->tables)
        return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: the host has not enough memory for its tables",
                           e->name);
    if (e->size && e->size != capacity * BLOCK_SECTOR)
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "%s: has %" PRIu64 " sectors, the descriptor says %" PRIu64, e->name, capacity,
                           e->size / BLOCK_SECTOR);
    e->size = capacity * BLOCK_SECTOR;
    return true;
}

/* --- hosted sparse extents --- */

/* The header at the end of a stream, between a marker and the mark of its end. */
static bool read_footer(const struct grains_extent *e, struct vmdk_header *h, GError **error)
{
    struct {
        struct vmdk_marker marker;
        struct vmdk_header header;
        struct vmdk_marker end;
    } f;
    const uint64_t size = e->file->facts.size;
    if (size < sizeof(f) + VMDK_HEADER_SIZE || !read_at(e, &f, sizeof(f), size - sizeof(f), error))
        return bad(e, error, "it is a stream without its end; copy it again");
    if (f.marker.size || le32toh(f.marker.type) != VMDK_MARK_FOOTER || f.end.value || f.end.size ||
        f.end.type || le32toh(f.header.magic) != VMDK_MAGIC)
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "%s: is a stream whose footer is missing; it was not finished, copy it again",
                           e->name);
    *h = f.header;
    return true;
}

static bool check_header(struct grains_extent *e, const struct vmdk_header *h, bool readonly, GError **error)
{
    const uint32_t known = VMDK_NEWLINES | VMDK_REDUNDANT | VMDK_ZERO_GRAINS | VMDK_COMPRESSED | VMDK_MARKERS;
    const uint32_t version = le32toh(h->version), flags = le32toh(h->flags);
    if (!version || version > 3)
        return hostel_fail(error, HOSTEL_ERROR_UNSUPPORTED,
                           "%s: is of version %" PRIu32 ", this Hostel knows 1 to 3", e->name, version);
    if (version == 3 && !(flags & VMDK_COMPRESSED) && !readonly)
        return hostel_fail(error, HOSTEL_ERROR_UNSUPPORTED,
                           "%s: is of version 3 and can only be read; add readonly=on, or convert it",
                           e->name);
    if (flags & ~known && !readonly)
        return hostel_fail(error, HOSTEL_ERROR_UNSUPPORTED,
                           "%s: has flags that this Hostel does not know (%#" PRIx32
                           ") and can only be read; add readonly=on",
                           e->name, flags & ~known);
    if (flags & VMDK_NEWLINES && memcmp(h->check, vmdk_newlines, sizeof(h->check)) != 0)
        return bad(e, error, "its line ends were changed, as when it is sent as text; copy it again");
    if (flags & VMDK_COMPRESSED && le16toh(h->algorithm) != 1)
        return hostel_fail(error, HOSTEL_ERROR_UNSUPPORTED,
                           "%s: is compressed by method %u, this Hostel knows deflate (1)", e->name,
                           le16toh(h->algorithm));
    e->packed = flags & VMDK_COMPRESSED;
    e->marked = flags & VMDK_MARKERS;
    e->zero_entries = flags & VMDK_ZERO_GRAINS;
    return true;
}

/* Where an offset of a header points to, bytes. */
static uint64_t sectors(uint64_t n)
{
    return n >> (EXTENT_BITS - 9) ? UINT64_MAX : n * BLOCK_SECTOR;
}

static bool open_sparse(struct vmdk *v, struct grains_extent *e, bool readonly, GError **error)
{
    struct vmdk_header h;
    if (!read_at(e, &h, sizeof(h), 0, error))
        return false;
    if (le32toh(h.magic) != VMDK_MAGIC)
        return hostel_fail(error, HOSTEL_ERROR_INPUT, "%s: is no sparse VMDK extent", e->name);
    v->at_end = le64toh(h.gd) == VMDK_GD_AT_END;
    if (v->at_end && !read_footer(e, &h, error))
        return false;
    v->unclean |= h.unclean;
    if (!check_header(e, &h, readonly, error) ||
        !set_geometry(e, le64toh(h.capacity), le64toh(h.grain), le32toh(h.entries), error))
        return false;
    if (e->packed && e->grain > PACKED_GRAIN_MAX)
        return bad(e, error, "its compressed grains are larger than 4 MiB");
    e->entry_size = 4;
    e->limit = UINT64_C(0xffffffff) * BLOCK_SECTOR;
    e->begin = sectors(le64toh(h.overhead));
    if (e->begin > e->file->facts.size && !(e->packed))
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "%s: is cut off: it has %" PRIu64 " bytes, its grains begin at %" PRIu64, e->name,
                           e->file->facts.size, e->begin);
    const bool redundant = le32toh(h.flags) & VMDK_REDUNDANT && !e->packed;
    e->gd_at = sectors(le64toh(h.gd));
    e->rgd_at = sectors(le64toh(h.rgd));
    if (!read_directory(e, e->gd_at, 0, &e->gd, redundant && readonly ? NULL : error)) {
        g_clear_pointer(&e->gd, g_free);
        v->second = redundant && readonly; /* what is there can be saved by it */
        return v->second && read_directory(e, e->rgd_at, 0, &e->gd, error);
    }
    if (!redundant)
        return true;
    if (read_directory(e, e->rgd_at, 0, &e->rgd, readonly ? NULL : error))
        return true;
    g_clear_pointer(&e->rgd, g_free); /* reading does without */
    return readonly;
}

/* --- extents of ESX, which are only read --- */

static bool only_read(const struct grains_extent *e, bool readonly, GError **error)
{
    return readonly ||
           hostel_fail(error, HOSTEL_ERROR_UNSUPPORTED,
                       "%s: ESX's sparse extents can only be read; add readonly=on, or convert it", e->name);
}

static bool open_cowd(struct grains_extent *e, bool readonly, GError **error)
{
    struct cowd_header h;
    if (!only_read(e, readonly, error) || !read_at(e, &h, sizeof(h), 0, error))
        return false;
    if (le32toh(h.magic) != VMDK_COWD_MAGIC)
        return hostel_fail(error, HOSTEL_ERROR_INPUT, "%s: is no VMFSSPARSE extent", e->name);
    if (le32toh(h.version) != 1)
        return hostel_fail(error, HOSTEL_ERROR_UNSUPPORTED,
                           "%s: is of version %" PRIu32 ", this Hostel knows 1", e->name, le32toh(h.version));
    if (!set_geometry(e, le32toh(h.capacity), le32toh(h.grain), COWD_ENTRIES, error))
        return false;
    if (le32toh(h.gd_n) < e->tables_n)
        return bad(e, error, "its directory is too small");
    e->entry_size = 4;
    return read_directory(e, sectors(le32toh(h.gd)), 0, &e->gd, error);
}

static bool open_sesparse(struct grains_extent *e, bool readonly, GError **error)
{
    struct sesparse_header h;
    struct sesparse_volatile now;
    if (!only_read(e, readonly, error) || !read_at(e, &h, sizeof(h), 0, error))
        return false;
    if (le64toh(h.magic) != SESPARSE_MAGIC)
        return hostel_fail(error, HOSTEL_ERROR_INPUT, "%s: is no SESPARSE extent", e->name);
    if (le64toh(h.version) != SESPARSE_VERSION || h.flags)
        return hostel_fail(error, HOSTEL_ERROR_UNSUPPORTED,
                           "%s: is a seSparse extent of version %#" PRIx64 ", flags %#" PRIx64
                           "; this Hostel knows 2.1 without flags",
                           e->name, le64toh(h.version), le64toh(h.flags));
    if (!read_at(e, &now, sizeof(now), sectors(le64toh(h.volatile_at)), error))
        return false;
    if (le64toh(now.magic) != SESPARSE_VOLATILE_MAGIC)
        return bad(e, error, "its volatile header");
    if (now.replay)
        return hostel_fail(
            error, HOSTEL_ERROR_UNSUPPORTED,
            "%s: was not closed properly and has a journal to be replayed; open it on ESX once", e->name);
    const uint64_t table = le64toh(h.table);
    e->entry_size = 8;
    if (table > ENTRIES_MAX || le64toh(h.tables) >> 40 || le64toh(h.grains) >> 40)
        return bad(e, error, "its tables");
    if (!set_geometry(e, le64toh(h.capacity), le64toh(h.grain), table * BLOCK_SECTOR / 8, error))
        return false;
    if (sectors(le64toh(h.gd_size)) / 8 < e->tables_n)
        return bad(e, error, "its directory is too small");
    e->begin = sectors(le64toh(h.grains));
    return read_directory(e, sectors(le64toh(h.gd)), sectors(le64toh(h.tables)), &e->gd, error);
}

/* --- all extents --- */

static bool open_flat(struct grains_extent *e, GError **error)
{
    if (range_inside(e->flat, e->size, 0, e->file->facts.size))
        return true;
    return hostel_fail(error, HOSTEL_ERROR_INPUT,
                       "%s: is cut off: it has %" PRIu64 " bytes, the descriptor wants %" PRIu64
                       " from %" PRIu64,
                       e->name, e->file->facts.size, e->size, e->flat);
}

static bool find_end(struct grains_extent *e, GError **error)
{
    return grains_find_end(e) || hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot read its tables", e->name);
}

static bool open_kind(struct vmdk *v, struct grains_extent *e, bool readonly, GError **error)
{
    switch (e->kind) {
    case GRAINS_ZERO: return true;
    case GRAINS_FLAT: return open_flat(e, error);
    case GRAINS_SPARSE:
        return open_sparse(v, e, readonly, error) && (readonly || e->packed || find_end(e, error));
    case GRAINS_COWD: return open_cowd(e, readonly, error);
    case GRAINS_SESPARSE: return open_sesparse(e, readonly, error);
    case GRAINS_BYTES: break; /* no vmdk has such */
    }
    return false;
}

/* One that the descriptor lists. */
static bool open_listed(struct vmdk *v, struct grains_extent *e, const struct vmdk_line *l,
                        struct block_config *config, GError **error)
{
    const bool readonly = config->readonly;
    e->kind = l->kind;
    e->size = l->sectors * BLOCK_SECTOR;
    e->flat = l->offset * BLOCK_SECTOR;
    e->name = g_strdup(l->file ? l->file : "zeroes");
    if (!readonly && (l->readonly || l->kind == GRAINS_ZERO))
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "%s: has an extent that can only be read (%s); add readonly=on", v->disk.name,
                           e->name);
    if (l->kind == GRAINS_ZERO)
        return true;
    if (!config->refs)
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "%s: its bytes are in another file, %s, and an image opens no file by itself; "
                           "allow it",
                           v->disk.name, e->name);
    e->file = config->refs->open(config->refs, BLOCK_REF_DATA, l->file, NULL, readonly, error);
    e->owned = true;
    return e->file && open_kind(v, e, readonly, error);
}

/* The image's file is the only extent. */
static bool open_alone(struct vmdk *v, enum grains_kind kind, bool readonly, GError **error)
{
    v->grains.extents = g_new0(struct grains_extent, 1);
    v->grains.extents_n = 1;
    struct grains_extent *e = &v->grains.extents[0];
    e->kind = kind;
    e->file = v->disk.below;
    e->name = g_strdup(v->disk.name);
    if (!open_kind(v, e, readonly, error))
        return false;
    v->stream = e->packed;
    v->disk.facts.size = e->size;
    return true;
}

static bool open_list(struct vmdk *v, struct block_config *config, GError **error)
{
    const struct vmdk_descriptor *d = &v->descriptor;
    uint64_t size = 0, tables = 0;
    if (!d->lines_n)
        return hostel_fail(error, HOSTEL_ERROR_INPUT, "%s: the descriptor lists no extent", v->disk.name);
    v->grains.extents = g_new0(struct grains_extent, d->lines_n);
    for (; v->grains.extents_n < d->lines_n;) {
        struct grains_extent *e = &v->grains.extents[v->grains.extents_n++];
        e->start = size;
        if (!open_listed(v, e, &d->lines[v->grains.extents_n - 1], config, error))
            return false;
        size += e->size;
        tables += e->tables_n;
        if (tables > TABLES_MAX)
            return hostel_fail(error, HOSTEL_ERROR_INPUT,
                               "%s: its extents have more grain tables than this Hostel takes", v->disk.name);
        if (size >> EXTENT_BITS)
            return hostel_fail(error, HOSTEL_ERROR_INPUT, "%s: its extents are too large", v->disk.name);
        if (e->packed && !config->readonly)
            return hostel_fail(error, HOSTEL_ERROR_UNSUPPORTED,
                               "%s: %s is compressed and can only be read; add readonly=on", v->disk.name,
                               e->name);
    }
    v->disk.facts.size = size;
    return true;
}

/* --- the descriptor --- */

static bool read_descriptor(struct vmdk *v, uint64_t at, uint64_t size, GError **error)
{
    struct disk *file = v->disk.below;
    if (!size || size > VMDK_TEXT_MAX || !range_inside(at, size, 0, file->facts.size))
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "%s: has no descriptor, or one of more than 1 MiB; is it another format?",
                           v->disk.name);
    char *text = g_malloc(size + 1);
    text[size] = 0;
    int status = block_pread(file, text, size, at);
    v->descriptor_at = at;
    v->descriptor_room = size;
    if (!status)
        return vmdk_descriptor_parse(&v->descriptor, text, v->disk.name, error);
    g_free(text);
    return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot read its descriptor: %s", v->disk.name,
                       g_strerror(-status));
}

/* One that is embedded behind a header. */
static bool open_embedded(struct vmdk *v, const struct vmdk_header *h, struct block_config *config,
                          GError **error)
{
    const uint64_t at = sectors(le64toh(h->descriptor)), size = sectors(le64toh(h->descriptor_size));
    if (at && !read_descriptor(v, at, size, error))
        return false;
    if (!at) /* an extent of several, opened by itself */
        v->descriptor = (struct vmdk_descriptor){.type = g_strdup("custom"), .parent_cid = UINT32_MAX};
    return h->capacity ? open_alone(v, GRAINS_SPARSE, config->readonly, error) : open_list(v, config, error);
}

bool vmdk_open_extents(struct vmdk *v, struct block_config *config, GError **error)
{
    static const char *const raw[] = {"fullDevice", "partitionedDevice", "vmfsRaw", "vmfsRawDeviceMap",
                                      "vmfsPassthroughRawDeviceMap"};
    struct disk *file = v->disk.below;
    struct vmdk_header h = {0};
    int status = block_pread(file, &h, MIN(sizeof(h), file->facts.size), 0);
    if (status)
        return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot read it: %s", v->disk.name,
                           g_strerror(-status));
    if (le32toh(h.magic) == VMDK_MAGIC)
        return open_embedded(v, &h, config, error);
    if (le32toh(h.magic) == VMDK_COWD_MAGIC) {
        v->descriptor = (struct vmdk_descriptor){.type = g_strdup("vmfsSparse"), .parent_cid = UINT32_MAX};
        return open_alone(v, GRAINS_COWD, config->readonly, error);
    }
    if (!read_descriptor(v, 0, file->facts.size, error))
        return false;
    for (unsigned i = 0; i < ARRAY_SIZE(raw); i++)
        if (!strcmp(v->descriptor.type, raw[i]))
            return hostel_fail(
                error, HOSTEL_ERROR_UNSUPPORTED,
                "%s: is a disk of type %s, which stands for a device of another host; give the "
                "device itself",
                v->disk.name, raw[i]);
    return open_list(v, config, error);
}
