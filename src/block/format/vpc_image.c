/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What is done with VHD images: making, describing, measuring, checking and mending. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/bits.h"
#include "base/byteorder.h"
#include "base/checked.h"
#include "base/error.h"
#include "block/format/vpc_int.h"
#include "block/scratch.h"

/* --- sizes --- */

uint64_t vpc_geometry(uint64_t sectors, uint16_t *cylinders, uint8_t *heads, uint8_t *per_track)
{
    const uint64_t total = MIN(sectors, VPC_GEOMETRY_MAX);
    uint64_t tracks, track = 255, head = 16;
    if (total >= UINT64_C(65535) * 16 * 63) {
        tracks = total / track;
    } else {
        track = 17;
        tracks = total / track;
        head = MAX((tracks + 1023) / 1024, UINT64_C(4));
        if (tracks >= head * 1024 || head > 16) {
            track = 31;
            head = 16;
            tracks = total / track;
        }
        if (tracks >= head * 1024) {
            track = 63;
            head = 16;
            tracks = total / track;
        }
    }
    *cylinders = (uint16_t)(tracks / head);
    *heads = (uint8_t)head;
    *per_track = (uint8_t)track;
    return tracks / head * head * track;
}

/* --- making --- */

struct create_options {
    const char *subformat;
    bool force_size;
};

static const struct option_row create_options[] = {
    {.name = "subformat",
     .arg = "KIND",
     .value = "dynamic",
     .choice = "dynamic|fixed",
     .help = "give room to blocks as they are written, or to all of the disk at once",
     .type = OPTION_TEXT,
     .who = OPTION_CLI,
     .offset = offsetof(struct create_options, subformat)},
    {.name = "force_size",
     .value = "off",
     .help = "exactly the size given, not rounded up to a geometry",
     .type = OPTION_SWITCH,
     .who = OPTION_CLI,
     .offset = offsetof(struct create_options, force_size)},
    {0},
};

/* The numbers of a new image. */
struct plan {
    struct vpc_footer footer;
    uint64_t size, entries, table, end; /* bytes; but for entries */
    bool fixed;
};

/* The size and the geometry that says it: the smallest one that is large enough, unless none is. */
static uint64_t round_size(uint64_t size, bool exact, struct vpc_footer *f)
{
    const uint64_t wanted = size / BLOCK_SECTOR;
    uint64_t sectors = 0;
    uint16_t cylinders = 0;
    for (uint64_t i = wanted; sectors < MIN(wanted, VPC_GEOMETRY_MAX); i++) {
        sectors = vpc_geometry(i, &cylinders, &f->heads, &f->sectors);
        if (exact)
            break;
    }
    f->cylinders = htobe16(cylinders);
    return exact || sectors >= VPC_GEOMETRY_MAX ? size : sectors * BLOCK_SECTOR;
}

static void make_footer(struct plan *plan, bool exact)
{
    struct vpc_footer *f = &plan->footer;
    const gint64 now = g_get_real_time() / G_USEC_PER_SEC - VPC_EPOCH;
    memcpy(f->cookie, "conectix", 8);
    memcpy(f->creator, exact ? "qem2" : "qemu", 4); /* the names that others know how to size by */
    memcpy(f->creator_os, "Wi2k", 4);
    f->features = htobe32(2); /* always set */
    f->version = htobe32(VPC_VERSION);
    f->creator_version = htobe32(VPC_VERSION);
    f->data_offset = htobe64(plan->fixed ? UINT64_MAX : sizeof(*f));
    f->timestamp = htobe32((uint32_t)CLAMP(now, 0, (gint64)UINT32_MAX));
    f->original_size = f->current_size = htobe64(plan->size);
    f->type = htobe32(plan->fixed ? VPC_FIXED : VPC_DYNAMIC);
}

static bool make_plan(const struct block_create *c, struct plan *plan, GError **error)
{
    struct create_options o;
    option_init(create_options, &o);
    if (c->options)
        o = *(const struct create_options *)c->options;
    *plan = (struct plan){.fixed = !strcmp(o.subformat, "fixed")};
    if (!c->size || c->size % BLOCK_SECTOR || c->size / BLOCK_SECTOR > VPC_SECTORS_MAX)
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "%s: a VHD of %" PRIu64
                           " bytes cannot be made; it must be a multiple of 512, and at most %" PRIu64,
                           c->name, c->size, VPC_SECTORS_MAX * BLOCK_SECTOR);
    if (c->backing)
        return hostel_fail(
            error, HOSTEL_ERROR_UNSUPPORTED,
            "%s: differencing VHDs can be used, but not made; use qcow2, or leave out the backing "
            "file",
            c->name);
    plan->size = round_size(c->size, o.force_size, &plan->footer);
    make_footer(plan, o.force_size);
    plan->entries = (plan->size + VPC_BLOCK - 1) / VPC_BLOCK;
    plan->table = sizeof(struct vpc_footer) + sizeof(struct vpc_header);
    plan->end = align_up(plan->table + plan->entries * 4, BLOCK_SECTOR);
    if (plan->fixed)
        plan->end = plan->size;
    return true;
}

static struct vpc_header make_header(const struct plan *plan)
{
    struct vpc_header h = {
        .data_offset = UINT64_MAX,
        .table_offset = htobe64(plan->table),
        .version = htobe32(VPC_VERSION),
        .entries = htobe32((uint32_t)plan->entries),
        .block_size = htobe32(VPC_BLOCK),
    };
    memcpy(h.cookie, "cxsparse", 8);
    h.checksum = htobe32(vpc_checksum(&h, sizeof(h), offsetof(struct vpc_header, checksum)));
    return h;
}

/* All free, up to the end of the last sector. */
static int write_table(struct disk *file, const struct plan *plan)
{
    enum { PIECE = 64 * 1024 };
    const uint64_t size = align_up(plan->entries * 4, BLOCK_SECTOR);
    uint8_t *bytes = block_scratch_take(PIECE);
    int status = bytes ? 0 : -ENOMEM;
    if (bytes)
        memset(bytes, 0xff, PIECE);
    for (uint64_t at = 0, now; at < size && !status; at += now) {
        now = MIN(size - at, (uint64_t)PIECE);
        status = block_pwrite(file, bytes, now, plan->table + at);
    }
    block_scratch_give(bytes);
    return status;
}

static int write_image(struct disk *file, const struct plan *plan)
{
    int status = 0;
    if (plan->fixed && file->facts.size)
        status = block_zero(file, 0, MIN(plan->end, (uint64_t)file->facts.size), BLOCK_MAY_UNMAP);
    if (!plan->fixed) {
        const struct vpc_header h = make_header(plan);
        status = write_table(file, plan);
        if (!status)
            status = block_pwrite(file, &h, sizeof(h), sizeof(plan->footer));
        if (!status)
            status = block_pwrite(file, &plan->footer, sizeof(plan->footer), 0);
    }
    if (!status)
        status = block_pwrite(file, &plan->footer, sizeof(plan->footer), plan->end);
    return status ? status : block_flush(file);
}

static bool create(const struct block_create *c, GError **error)
{
    struct plan plan;
    if (!make_plan(c, &plan, error))
        return false;
    struct vpc_footer *f = &plan.footer;
    if (getrandom(f->id, sizeof(f->id), 0) != sizeof(f->id))
        return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: the host has no random numbers", c->name);
    f->checksum = htobe32(vpc_checksum(f, sizeof(*f), offsetof(struct vpc_footer, checksum)));
    if (!c->file->facts.growable && c->file->facts.size != plan.end + sizeof(*f) && plan.fixed)
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "%s: has %" PRIu64
                           " bytes, but a fixed VHD has its footer at its end; it needs %" PRIu64,
                           c->name, (uint64_t)c->file->facts.size, plan.end + sizeof(*f));
    int status = write_image(c->file, &plan);
    return !status ||
           hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot write it: %s", c->name, g_strerror(-status));
}

static bool measure(const struct block_create *c, struct disk *source, struct block_measure *out,
                    GError **error)
{
    struct plan plan;
    uint64_t used = 0;
    if (!make_plan(c, &plan, error))
        return false;
    int status = source ? block_image_used(source, VPC_BLOCK, &used) : 0;
    const uint64_t step = align_up(vpc_bitmap_size(VPC_BLOCK) + (uint64_t)VPC_BLOCK, 4096);
    const uint64_t least = plan.end + sizeof(plan.footer) + (plan.fixed ? 0 : 4096); /* with what aligns */
    out->full = least + (plan.fixed ? 0 : plan.entries * step);
    out->required = least + (plan.fixed ? 0 : used / VPC_BLOCK * step);
    return !status || hostel_fail(error, HOSTEL_ERROR_HOST, "%s: %s", source->name, g_strerror(-status));
}

/* --- describing --- */

static bool looks_like(const uint8_t *head, size_t size)
{
    return size >= 8 && !memcmp(head, "conectix", 8);
}

/* UTF-16 as it stands in the image, to UTF-8 with slashes. NULL when it is none, or empty. */
static char *make_path(uint8_t *bytes, size_t size, bool big)
{
    gunichar2 *text = (gunichar2 *)(void *)bytes;
    const size_t n = size / 2;
    for (size_t i = 0; i < n; i++)
        text[i] = big ? ld16be(bytes + i * 2) : ld16le(bytes + i * 2);
    char *path = g_utf16_to_utf8(text, (glong)n, NULL, NULL, NULL);
    if (!path || !*path) {
        g_free(path);
        return NULL;
    }
    g_strdelimit(path, "\\", '/');
    if (g_str_has_prefix(path, "./"))
        memmove(path, path + 2, strlen(path + 2) + 1);
    return path;
}

static char *read_locator(struct vpc *v, const char platform[4])
{
    enum { LENGTH_MAX = 64 * 1024 };
    for (unsigned i = 0; i < VPC_LOCATORS; i++) {
        const struct vpc_locator *l = &v->header.locators[i];
        const uint32_t length = be32toh(l->length);
        const uint64_t at = be64toh(l->offset);
        if (memcmp(&l->platform, platform, 4) != 0 || !length || length > LENGTH_MAX ||
            !range_inside(at, length, 0, v->disk.below->facts.size))
            continue;
        g_autofree uint8_t *bytes = g_try_malloc0(length + 2);
        char *path = NULL;
        if (bytes && !block_pread(v->disk.below, bytes, length, at))
            path = make_path(bytes, length, false);
        if (path)
            return path;
    }
    return NULL;
}

char *vpc_parent_name(struct vpc *v)
{
    char *path = read_locator(v, "W2ru");
    if (!path)
        path = read_locator(v, "W2ku");
    if (path)
        return path;
    gunichar2 name[sizeof(v->header.parent_name) / 2];
    memcpy(name, v->header.parent_name, sizeof(name));
    return make_path((uint8_t *)name, sizeof(name), true);
}

static bool info(struct disk *b, struct block_image_info *out, GError **error)
{
    struct vpc *v = vpc_of(b);
    (void)error;
    out->cluster = v->fixed ? 0 : v->places.block;
    if (v->difference && v->parent) {
        out->backing = g_strdup((const char *)v->parent);
        out->backing_format = g_strdup("vpc");
    }
    return true;
}

/* --- checking --- */

struct piece {
    uint64_t place, block;
};

static int by_place(const void *a, const void *b)
{
    const struct piece *l = a, *r = b;
    return l->place < r->place ? -1 : l->place > r->place;
}

/* Entries that make no sense; the others are put into pieces, while there is room: *count. */
static void check_entries(struct vpc *v, unsigned fix, struct block_check *out, struct piece *pieces,
                          uint64_t *count)
{
    struct places *p = &v->places;
    const uint64_t room = *count;
    uint64_t last = 0;
    *count = 0;
    for (uint64_t i = 0; i < p->count; i++) {
        const uint64_t entry = places_get(p, i), place = entry & ~(uint64_t)PLACES_STATES;
        if (entry & PLACES_BAD) {
            out->corruptions++;
            block_check_say(out, "block %" PRIu64 ": sector %u is not inside the file, or is the image's own",
                            i, vpc_entry(v, entry));
            if (fix & BLOCK_FIX_ERRORS) {
                places_set(p, i, PLACES_NONE);
                out->corruptions_fixed++;
            }
        } else if (place) {
            if (*count < room) {
                pieces[(*count)++] = (struct piece){place, i};
            } else {
                out->corruptions++;
                block_check_say(
                    out, "block %" PRIu64 ": the file has no room for so many, it shares another's", i);
            }
            out->allocated++;
            out->fragmented += last && place != last + p->step;
            last = place;
        }
    }
}

static void check_overlaps(struct vpc *v, struct block_check *out, struct piece *pieces, uint64_t count)
{
    qsort(pieces, count, sizeof(*pieces), by_place);
    for (uint64_t i = 1; i < count; i++)
        if (pieces[i].place - v->bitmap < pieces[i - 1].place + v->places.block) {
            out->corruptions++;
            block_check_say(out,
                            "blocks %" PRIu64 " and %" PRIu64 " share room at %" PRIu64
                            "; only what one of them has can be right",
                            pieces[i - 1].block, pieces[i].block, pieces[i].place);
        }
}

/* The footer at the end, which the copy stands in for. */
static int check_end(struct vpc *v, unsigned fix, struct block_check *out)
{
    struct disk *file = v->disk.below;
    struct vpc_footer f = {0};
    const uint64_t end = file->facts.size;
    int status = end < sizeof(f) ? 0 : block_pread(file, &f, sizeof(f), end - sizeof(f));
    if (status || !memcmp(&f, &v->footer, sizeof(f)))
        return status;
    out->leaks++;
    block_check_say(out, "the footer at the end of the file is missing");
    if (fix & BLOCK_FIX_LEAKS) {
        status = places_begin(&v->places);
        if (!status)
            status = block_flush(file);
        out->leaks_fixed += !status;
    }
    return status;
}

static int check_places(struct vpc *v, unsigned fix, struct block_check *out)
{
    /* More blocks than the file can hold share room in any case, and a table of them is not worth the memory.
     */
    uint64_t count = MIN(v->places.count, v->disk.below->facts.size / v->places.block + 2);
    g_autofree struct piece *pieces = g_try_malloc_n(count, sizeof(*pieces));
    if (!pieces)
        return -ENOMEM;
    check_entries(v, fix, out, pieces, &count);
    check_overlaps(v, out, pieces, count);
    int status = check_end(v, fix, out);
    out->clusters = v->places.count;
    return status || !fix ? status : places_flush(&v->places);
}

static bool check(struct disk *b, unsigned fix, struct block_check *out, GError **error)
{
    struct vpc *v = vpc_of(b);
    int status = v->fixed ? 0 : check_places(v, fix, out);
    out->end = v->fixed ? b->facts.size + sizeof(v->footer) : v->tail + sizeof(v->footer);
    return !status ||
           hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot check it: %s", b->name, g_strerror(-status));
}

const struct block_image vpc_image = {
    .create_options = create_options,
    .create_options_size = sizeof(struct create_options),
    .looks_like = looks_like,
    .create = create,
    .measure = measure,
    .info = info,
    .check = check,
};
