/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* New VMDK images: one file or several, sparse or flat, or an empty stream. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/byteorder.h"
#include "base/error.h"
#include "block/format/vmdk/vmdk.h"

#define OPTION(field, text_, ...)                                                                            \
    {                                                                                                        \
        .name = #field, .help = text_, .who = OPTION_BOTH, .offset = offsetof(struct vmdk_options, field),   \
        __VA_ARGS__                                                                                          \
    }
const struct option_row vmdk_create_options[] = {
    OPTION(subformat, "how the disk is kept", .type = OPTION_TEXT, .arg = "TYPE", .value = "monolithicSparse",
           .choice = "monolithicSparse|monolithicFlat|twoGbMaxExtentSparse|twoGbMaxExtentFlat|"
                     "streamOptimized"),
    OPTION(adapter_type, "the controller that VMware gives the disk", .type = OPTION_TEXT, .arg = "TYPE",
           .value = "ide", .choice = "ide|buslogic|lsilogic|legacyESX"),
    OPTION(hwversion, "VMware's version of virtual hardware (4)", .type = OPTION_TEXT, .arg = "N"),
    OPTION(toolsversion, "VMware's version of guest tools", .type = OPTION_TEXT, .arg = "N",
           .value = "2147483647"),
    OPTION(zeroed_grain, "grains can be zero by their entry alone", .type = OPTION_SWITCH, .arg = "on|off",
           .value = "off"),
    OPTION(compat6, "for VMware 6 and later", .type = OPTION_SWITCH, .arg = "on|off", .value = "off"),
    {0},
};
#undef OPTION

enum { TABLE_SECTORS = VMDK_TABLE_ENTRIES * 4 / BLOCK_SECTOR };
#define TABLE_COVERS (UINT64_C(1) * VMDK_GRAIN_SECTORS * VMDK_TABLE_ENTRIES * BLOCK_SECTOR)
#define DISK_MAX (UINT64_C(64) << 40)

/* What kind of image is made. */
struct plan {
    struct vmdk_options options;
    bool flat, split, stream;
    uint32_t parent_cid;
};

static struct plan make_plan(const struct block_create *c)
{
    struct plan p = {.parent_cid = UINT32_MAX};
    if (c->options)
        p.options = *(const struct vmdk_options *)c->options;
    else
        option_init(vmdk_create_options, &p.options);
    const char *kind = p.options.subformat;
    p.flat = g_str_has_suffix(kind, "Flat");
    p.split = g_str_has_prefix(kind, "twoGb");
    p.stream = !strcmp(kind, "streamOptimized");
    return p;
}

/* --- sparse extents --- */

/* Where the parts of one are, sectors. */
struct layout {
    uint64_t descriptor, tables_n, directory, rgd, gd, begin;
};

static struct layout lay_out(uint64_t size, uint64_t descriptor, bool stream)
{
    struct layout l = {.descriptor = descriptor, .tables_n = (size + TABLE_COVERS - 1) / TABLE_COVERS};
    l.directory = align_up(l.tables_n * 4, BLOCK_SECTOR) / BLOCK_SECTOR;
    l.rgd = 1 + descriptor;
    l.gd = l.rgd + l.directory + l.tables_n * TABLE_SECTORS;
    l.begin = align_up(stream ? l.rgd : l.gd + l.directory + l.tables_n * TABLE_SECTORS, VMDK_GRAIN_SECTORS);
    return l;
}

static struct vmdk_header make_header(const struct plan *p, const struct layout *l, uint64_t size)
{
    const uint32_t flags = p->stream ? VMDK_NEWLINES | VMDK_COMPRESSED | VMDK_MARKERS
                                     : VMDK_NEWLINES | VMDK_REDUNDANT |
                                           (p->options.zeroed_grain ? (uint32_t)VMDK_ZERO_GRAINS : 0);
    struct vmdk_header h = {
        .magic = htole32(VMDK_MAGIC),
        .version = htole32(p->stream                 ? 3
                           : p->options.zeroed_grain ? 2
                                                     : 1),
        .flags = htole32(flags),
        .capacity = htole64(size / BLOCK_SECTOR),
        .grain = htole64(VMDK_GRAIN_SECTORS),
        .descriptor = htole64(l->descriptor ? 1 : 0),
        .descriptor_size = htole64(l->descriptor),
        .entries = htole32(VMDK_TABLE_ENTRIES),
        .rgd = htole64(p->stream ? 0 : l->rgd),
        .gd = htole64(p->stream ? VMDK_GD_AT_END : l->gd),
        .overhead = htole64(l->begin),
        .algorithm = htole16(p->stream ? 1 : 0),
    };
    memcpy(h.check, vmdk_newlines, sizeof(h.check));
    return h;
}

/* A directory whose tables lie behind it. */
static int put_directory(struct disk *file, const struct layout *l, uint64_t at)
{
    uint8_t *raw = g_try_malloc0(l->directory * BLOCK_SECTOR);
    if (!raw)
        return -ENOMEM;
    for (uint64_t i = 0; i < l->tables_n; i++)
        st32le(raw + i * 4, (uint32_t)(at + l->directory + i * TABLE_SECTORS));
    int status = block_pwrite(file, raw, l->directory * BLOCK_SECTOR, at * BLOCK_SECTOR);
    g_free(raw);
    return status;
}

/* An empty stream has all its end, so that it can be opened. */
static int end_empty(struct disk *file, const struct layout *l, const struct vmdk_header *h)
{
    struct grains_extent e = {.file = file,
                              .next = l->begin * BLOCK_SECTOR,
                              .entries = VMDK_TABLE_ENTRIES,
                              .entry_size = 4,
                              .tables_n = (uint32_t)l->tables_n,
                              .gd = g_try_new0(uint64_t, l->tables_n)};
    int status = e.gd ? vmdk_end_stream(&e, h) : -ENOMEM;
    g_free(e.gd);
    return status;
}

/* text: of the descriptor when it is embedded, or NULL. */
static int put_sparse(const struct plan *p, struct disk *file, uint64_t size, const char *text)
{
    const uint64_t room = text ? align_up(strlen(text) + 1, BLOCK_SECTOR) / BLOCK_SECTOR : 0;
    const struct layout l = lay_out(size, text ? MAX(room, (uint64_t)VMDK_DESCRIPTOR_SECTORS) : 0, p->stream);
    const struct vmdk_header h = make_header(p, &l, size);
    const uint64_t begin = l.begin * BLOCK_SECTOR;
    int status = file->facts.growable       ? block_resize(file, begin)
                 : begin > file->facts.size ? -ENOSPC
                                            : block_zero(file, 0, begin, 0);
    if (!status && text)
        status = block_pwrite(file, text, strlen(text), BLOCK_SECTOR);
    if (!status && p->stream)
        status = end_empty(file, &l, &h);
    if (!status && !p->stream)
        status = put_directory(file, &l, l.rgd);
    if (!status && !p->stream)
        status = put_directory(file, &l, l.gd);
    if (!status)
        status = block_pwrite(file, &h, sizeof(h), 0);
    return status ? status : block_flush(file);
}

/* --- extents in files of their own --- */

static bool make_file(const struct block_create *c, const struct plan *p, const char *name, uint64_t size,
                      GError **error)
{
    AUTO(disk) file = c->refs->create(c->refs, name, error);
    if (!file)
        return false;
    int status = p->flat ? block_resize(file, size) : put_sparse(p, file, size, NULL);
    if (!status && p->flat)
        status = block_flush(file);
    return !status || hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot make its extent %s: %s", c->name,
                                  name, g_strerror(-status));
}

static bool make_files(const struct block_create *c, const struct plan *p, const char *stem, GString *lines,
                       GError **error)
{
    if (!c->refs || !c->refs->create)
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "%s: a disk of subformat %s needs more than one file, and only one may be made; "
                           "take monolithicSparse",
                           c->name, p->options.subformat);
    const uint64_t most = p->split ? VMDK_SPLIT : c->size;
    if (c->size / most >= VMDK_EXTENTS_MAX)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "%s: would have more than %d extents", c->name,
                           VMDK_EXTENTS_MAX);
    unsigned n = 1;
    for (uint64_t at = 0, now; at < c->size; at += now, n++) {
        now = MIN(most, c->size - at);
        g_autofree char *name = !p->split ? g_strdup_printf("%s-flat.vmdk", stem)
                                          : g_strdup_printf("%s-%c%03u.vmdk", stem, p->flat ? 'f' : 's', n);
        if (!make_file(c, p, name, now, error))
            return false;
        g_string_append_printf(lines, "RW %" PRIu64 " %s \"%s\"%s\n", now / BLOCK_SECTOR,
                               p->flat ? "FLAT" : "SPARSE", name, p->flat ? " 0" : "");
    }
    return true;
}

/* --- the image --- */

/* The number of the parent's contents, by which a child knows that nobody wrote to it. */
static bool find_parent(const struct block_create *c, struct plan *p, GError **error)
{
    if (!c->backing)
        return true;
    if (p->flat)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "%s: a flat disk has no backing file", c->name);
    if (c->backing_format && strcmp(c->backing_format, "vmdk") != 0)
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "%s: a vmdk lies over a vmdk only, and %s is said to be %s", c->name, c->backing,
                           c->backing_format);
    if (!c->refs)
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "%s: its backing file %s must be opened, for the number of its contents; allow it",
                           c->name, c->backing);
    AUTO(disk) base = c->refs->open(c->refs, BLOCK_REF_BACKING, c->backing, "vmdk", true, error);
    if (!base)
        return false;
    if (base->driver->image != &vmdk_image)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "%s: a vmdk lies over a vmdk only, and %s is none",
                           c->name, c->backing);
    p->parent_cid = vmdk_of(base)->descriptor.cid;
    return true;
}

static bool check_request(const struct block_create *c, const struct plan *p, const char *base,
                          GError **error)
{
    if (!c->size || c->size % BLOCK_SECTOR || c->size > DISK_MAX)
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "%s: a vmdk has a multiple of %d bytes, up to 64 TiB, not %" PRIu64, c->name,
                           BLOCK_SECTOR, c->size);
    if (p->flat && p->options.zeroed_grain)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "%s: a flat disk has no grains; leave out zeroed_grain",
                           c->name);
    if (p->options.compat6 && p->options.hwversion)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "%s: compat6 says hwversion, too; give one of them",
                           c->name);
    const char *texts[] = {base, c->backing, p->options.hwversion, p->options.toolsversion};
    for (unsigned i = 0; i < ARRAY_SIZE(texts); i++)
        if (texts[i] && strpbrk(texts[i], "\"\n\r"))
            return hostel_fail(error, HOSTEL_ERROR_USAGE,
                               "%s: a vmdk cannot have quotes or ends of lines in %s", c->name, texts[i]);
    return true;
}

static int put_text(struct disk *file, const char *text)
{
    int status = block_pwrite(file, text, strlen(text), 0);
    return status ? status : block_flush(file);
}

bool vmdk_create(const struct block_create *c, GError **error)
{
    struct plan p = make_plan(c);
    g_autofree char *base = g_path_get_basename(c->name);
    const char *hardware = p.options.hwversion ? p.options.hwversion : p.options.compat6 ? "6" : "4";
    if (!check_request(c, &p, base, error) || !find_parent(c, &p, error))
        return false;
    g_autoptr(GString) lines = g_string_new(NULL);
    g_autofree char *stem =
        g_strndup(base, strlen(base) - (g_str_has_suffix(base, ".vmdk") ? strlen(".vmdk") : 0));
    const bool one = !p.flat && !p.split;
    if (one)
        g_string_printf(lines, "RW %" PRIu64 " SPARSE \"%s\"\n", c->size / BLOCK_SECTOR, base);
    else if (!make_files(c, &p, stem, lines, error))
        return false;
    const struct vmdk_say say = {.cid = vmdk_fresh_cid(),
                                 .parent_cid = p.parent_cid,
                                 .type = p.options.subformat,
                                 .parent = c->backing,
                                 .extents = lines->str,
                                 .adapter = p.options.adapter_type,
                                 .hardware = hardware,
                                 .tools = p.options.toolsversion,
                                 .size = c->size};
    g_autofree char *text = vmdk_descriptor_make(&say);
    int status = one ? put_sparse(&p, c->file, c->size, text) : put_text(c->file, text);
    return !status ||
           hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot make it: %s", c->name, g_strerror(-status));
}

/* What sparse extents have beside grains, bytes. */
static uint64_t overhead(const struct plan *p, uint64_t size)
{
    uint64_t bytes = p->split ? 4 * KiB : 0;
    const uint64_t most = p->split ? VMDK_SPLIT : size;
    for (uint64_t at = 0, now; at < size; at += now) {
        now = MIN(most, size - at);
        bytes += lay_out(now, p->split ? 0 : VMDK_DESCRIPTOR_SECTORS, p->stream).begin * BLOCK_SECTOR;
    }
    return bytes;
}

bool vmdk_measure(const struct block_create *c, struct disk *source, struct block_measure *out,
                  GError **error)
{
    const struct plan p = make_plan(c);
    const uint32_t grain = VMDK_GRAIN_SECTORS * BLOCK_SECTOR;
    const uint64_t all = align_up(c->size, grain);
    uint64_t used = 0;
    int status = source ? block_image_used(source, grain, &used) : 0;
    if (status)
        return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot see how it is kept: %s", source->name,
                           g_strerror(-status));
    if (p.flat) {
        out->required = out->full = c->size;
        return true;
    }
    const uint64_t extra = overhead(&p, c->size);
    /* A stream's grains may take more than they hold: a sector for the marker; then tables, and the end. */
    const uint64_t factor = p.stream ? BLOCK_SECTOR : 0, tables = (all + TABLE_COVERS - 1) / TABLE_COVERS;
    const uint64_t end =
        p.stream ? tables * (TABLE_SECTORS + 1) * BLOCK_SECTOR + align_up(tables * 4, BLOCK_SECTOR) + 2 * KiB
                 : 0;
    out->required = extra + used + used / grain * factor + end;
    out->full = extra + all + all / grain * factor + end;
    return true;
}
