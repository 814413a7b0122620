/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The log of a VHDX file, read: finds what must be replayed, and does so ([MS-VHDX] 2.3). */
/*
 * Theory of operation
 *
 * The log is a ring of 4 KiB pages. An entry begins at any of them: a head, descriptors of what is to be
 * written where, then a page of data for each of those. Entries that follow each other with numbers that
 * do, too, are a sequence; its last entry, the head, says where the first one lies that was not yet applied
 * (the tail). Of all sequences that contain their tail the one with the highest number counts. An entry that
 * was cut off by a power failure has a wrong checksum, and is none.
 *
 * All of this may be made up. Each page is looked at once, and what that found is kept (struct page), so that
 * following sequences costs next to nothing; checksums are paid for from a budget that entries which do not
 * overlap never use up. What an entry would write is checked before anything is written: not the headers,
 * not the log, nothing behind the end that the entry itself gives the file.
 *
 * Who may not write keeps what the log would change in memory, and reads metadata through that.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/byteorder.h"
#include "base/checked.h"
#include "base/error.h"
#include "block/format/vhdx/vhdx.h"
#include "block/scratch.h"
#include "codec/crc32c.h"

/* What begins at a page of the log. */
struct page {
    enum { PAGE_NEW, PAGE_ENTRY, PAGE_NOTHING } what;
    uint32_t length, tail; /* pages */
    uint64_t sequence;
};

struct scan {
    struct vhdx *v;
    struct page *pages;
    uint32_t count;
    uint64_t budget; /* bytes that may still be summed up */
    uint8_t *entry;  /* room for the whole log */
    int status;
};

int vhdx_read_meta(struct vhdx *v, void *bytes, uint64_t size, uint64_t offset)
{
    const uint64_t end = v->disk.below->facts.size, there = offset < end ? MIN(size, end - offset) : 0;
    int status = there ? block_pread(v->disk.below, bytes, there, offset) : 0;
    memset((uint8_t *)bytes + there, 0, size - there);
    for (unsigned i = 0; v->patches && i < v->patches->len && !status; i++) {
        const struct vhdx_patch *p = &g_array_index(v->patches, struct vhdx_patch, i);
        if (!ranges_overlap(offset, size, p->offset, p->size))
            continue;
        const uint64_t from = MAX(offset, p->offset), to = MIN(offset + size, p->offset + p->size);
        if (p->bytes)
            memcpy((uint8_t *)bytes + (from - offset), p->bytes + (from - p->offset), to - from);
        else
            memset((uint8_t *)bytes + (from - offset), 0, to - from);
    }
    return status;
}

/* --- finding entries --- */

/* size bytes from a page of the log on, around its end. */
static int read_log(struct scan *s, uint32_t page, uint64_t size, uint8_t *bytes)
{
    const struct vhdx_range *log = &s->v->log;
    const uint64_t at = (uint64_t)page * VHDX_PAGE, first = MIN(size, log->length - at);
    int status = block_pread(s->v->disk.below, bytes, first, log->offset + at);
    return status || first == size ? status
                                   : block_pread(s->v->disk.below, bytes + first, size - first, log->offset);
}

static bool head_is_good(const struct scan *s, const struct vhdx_log_entry *e)
{
    const uint64_t length = le32toh(e->length), tail = le32toh(e->tail), all = s->v->log.length;
    const uint64_t heads = align_up(sizeof(*e) + (uint64_t)le32toh(e->count) * 32, VHDX_PAGE);
    return !memcmp(e->signature, "loge", 4) && vhdx_guid_is(&e->log, &s->v->header.log) && e->sequence &&
           length && length % VHDX_PAGE == 0 && length <= all && heads <= length && tail % VHDX_PAGE == 0 &&
           tail < all;
}

/* The descriptors and their data belong to this entry. */
static bool parts_are_good(const struct vhdx_log_entry *e)
{
    const uint8_t *base = (const uint8_t *)e;
    const uint32_t count = le32toh(e->count);
    uint64_t data = align_up(sizeof(*e) + (uint64_t)count * 32, VHDX_PAGE);
    const uint64_t sequence = le64toh(e->sequence), length = le32toh(e->length);
    for (uint32_t i = 0; i < count; i++) {
        const struct vhdx_log_descriptor *d =
            (const void *)(base + sizeof(*e) + (size_t)i * sizeof(struct vhdx_log_descriptor));
        if (le64toh(d->sequence) != sequence)
            return false;
        if (!memcmp(d->signature, "zero", 4))
            continue;
        const struct vhdx_log_data *page = (const void *)(base + data);
        if (memcmp(d->signature, "desc", 4) != 0 || data + VHDX_PAGE > length ||
            memcmp(page->signature, "data", 4) != 0 ||
            ((uint64_t)le32toh(page->sequence_high) << 32 | le32toh(page->sequence_low)) != sequence)
            return false;
        data += VHDX_PAGE;
    }
    return data == length;
}

/* The entry at this page, whole and right, in s->entry? */
static bool read_entry(struct scan *s, uint32_t page)
{
    const struct vhdx_log_entry *e = (const void *)s->entry;
    s->status = read_log(s, page, VHDX_PAGE, s->entry);
    if (s->status || !head_is_good(s, e))
        return false;
    const uint32_t length = le32toh(e->length);
    if (length > s->budget) {
        s->status = -EFBIG;
        return false;
    }
    s->budget -= length;
    s->status = read_log(s, page, length, s->entry);
    return !s->status && head_is_good(s, e) && le32toh(e->length) == length &&
           le32toh(e->checksum) == vhdx_checksum(s->entry, length) && parts_are_good(e);
}

static const struct page *look(struct scan *s, uint32_t page)
{
    struct page *p = &s->pages[page];
    const struct vhdx_log_entry *e = (const void *)s->entry;
    if (p->what != PAGE_NEW || s->status)
        return p;
    p->what = PAGE_NOTHING;
    if (read_entry(s, page))
        *p = (struct page){.what = PAGE_ENTRY,
                           .length = le32toh(e->length) / VHDX_PAGE,
                           .tail = le32toh(e->tail) / VHDX_PAGE,
                           .sequence = le64toh(e->sequence)};
    return p;
}

/* A sequence: from the page `first` on, entries up to the number `last`, which says `tail`. */
struct sequence {
    uint32_t tail, pages;
    uint64_t last;
    bool valid;
};

static struct sequence follow(struct scan *s, uint32_t first)
{
    struct sequence found = {0};
    uint32_t at = first, tail = 0;
    for (;;) {
        const struct page *p = look(s, at);
        if (p->what != PAGE_ENTRY || (found.pages && p->sequence != found.last + 1) ||
            p->length > s->count - found.pages)
            break;
        found.pages += p->length;
        found.last = p->sequence;
        tail = p->tail;
        at = (at + p->length) % s->count;
    }
    /* Is the tail the beginning of one of them? */
    at = first;
    found.tail = tail;
    for (uint32_t passed = 0; passed < found.pages && !found.valid;) {
        const uint32_t length = s->pages[at].length;
        found.valid = at == tail;
        passed += length;
        at = (at + length) % s->count;
    }
    return found;
}

/* The sequence that counts; not valid when there is none. */
static struct sequence find_sequence(struct scan *s)
{
    struct sequence best = {0};
    for (uint32_t at = 0; at < s->count && !s->status;) {
        const struct sequence one = follow(s, at);
        if (one.valid && (!best.valid || one.last > best.last))
            best = one;
        at += one.valid ? one.pages : 1;
    }
    return best;
}

/* --- applying them --- */

static bool target_is_good(const struct vhdx *v, const struct vhdx_log_entry *e,
                           const struct vhdx_log_descriptor *d)
{
    const bool zero = !memcmp(d->signature, "zero", 4);
    const uint64_t offset = le64toh(d->offset), size = zero ? le64toh(d->leading) : VHDX_PAGE;
    return offset % VHDX_PAGE == 0 && size % VHDX_PAGE == 0 && offset >= VHDX_REGIONS_AT &&
           range_inside(offset, size, 0, le64toh(e->last_size)) &&
           !ranges_overlap(offset, size, v->log.offset, v->log.length);
}

static void make_page(const struct vhdx_log_descriptor *d, const struct vhdx_log_data *data, uint8_t *page)
{
    memcpy(page, &d->leading, 8);
    memcpy(page + 8, data->bytes, VHDX_DATA_BYTES);
    memcpy(page + 8 + VHDX_DATA_BYTES, &d->trailing, 4);
}

static int apply_one(struct vhdx *v, const struct vhdx_log_descriptor *d, const struct vhdx_log_data *data)
{
    uint8_t page[VHDX_PAGE];
    const uint64_t offset = le64toh(d->offset);
    if (!data) /* what is behind the end of the file is zeroes anyway */
        return offset < v->disk.below->facts.size && d->leading
                   ? block_zero(v->disk.below, offset,
                                MIN(le64toh(d->leading), v->disk.below->facts.size - offset), 0)
                   : 0;
    make_page(d, data, page);
    return block_pwrite(v->disk.below, page, sizeof(page), offset);
}

static int remember_one(struct vhdx *v, const struct vhdx_log_descriptor *d, const struct vhdx_log_data *data)
{
    struct vhdx_patch patch = {le64toh(d->offset), data ? VHDX_PAGE : le64toh(d->leading), NULL};
    if (v->patches->len >= VHDX_PATCHES_MAX)
        return -EFBIG;
    if (data && !(patch.bytes = g_try_malloc(VHDX_PAGE)))
        return -ENOMEM;
    if (data)
        make_page(d, data, patch.bytes);
    g_array_append_val(v->patches, patch);
    return 0;
}

/* The entry in s->entry. */
static int apply_entry(struct scan *s)
{
    struct vhdx *v = s->v;
    const struct vhdx_log_entry *e = (const void *)s->entry;
    const uint32_t count = le32toh(e->count);
    size_t data = align_up(sizeof(*e) + (uint64_t)count * 32, VHDX_PAGE);
    int status = 0;
    for (uint32_t i = 0; i < count && !status; i++) {
        const struct vhdx_log_descriptor *d = (const void *)(s->entry + sizeof(*e) + (size_t)i * sizeof(*d));
        const struct vhdx_log_data *page = NULL;
        if (!target_is_good(v, e, d))
            return -EILSEQ;
        if (!memcmp(d->signature, "desc", 4)) {
            page = (const void *)(s->entry + data);
            data += VHDX_PAGE;
        }
        status = v->patches ? remember_one(v, d, page) : apply_one(v, d, page);
    }
    return status;
}

/* Two rounds when writing, so that nothing is written before all of it was found right. */
static int check_entry(struct scan *s)
{
    const struct vhdx_log_entry *e = (const void *)s->entry;
    for (uint32_t i = 0; i < le32toh(e->count); i++)
        if (!target_is_good(s->v, e, (const void *)(s->entry + sizeof(*e) + (size_t)i * 32)))
            return -EILSEQ;
    s->v->file_size = MAX(s->v->file_size, le64toh(e->last_size));
    return s->v->disk.below->facts.size < le64toh(e->flushed_size) ? -ENODATA : 0;
}

static int each_entry(struct scan *s, const struct sequence *q, int (*what)(struct scan *s))
{
    int status = 0;
    for (uint32_t at = q->tail; !status;) {
        const struct page p = s->pages[at];
        s->budget = UINT64_MAX; /* each is read once more, that is all */
        if (p.what != PAGE_ENTRY || !read_entry(s, at))
            return s->status ? s->status : -EILSEQ;
        status = what(s);
        if (p.sequence == q->last)
            break;
        at = (at + p.length) % s->count;
    }
    return status;
}

static int finish(struct vhdx *v)
{
    if (v->patches)
        return 0;
    int status = block_flush(v->disk.below);
    if (status)
        return status;
    v->header.log = vhdx_guid_null;
    return vhdx_write_header(v);
}

static int replay(struct scan *s)
{
    struct vhdx *v = s->v;
    const struct sequence q = find_sequence(s);
    if (s->status)
        return s->status;
    if (!q.valid)
        return -EILSEQ;
    int status = each_entry(s, &q, check_entry);
    if (status)
        return status;
    if (v->disk.facts.readonly)
        v->patches = g_array_new(false, false, sizeof(struct vhdx_patch));
    else if (v->file_size > v->disk.below->facts.size)
        status = block_resize(v->disk.below, v->file_size);
    if (!status)
        status = each_entry(s, &q, apply_entry);
    return status ? status : finish(v);
}

bool vhdx_replay(struct vhdx *v, GError **error)
{
    struct disk *b = &v->disk;
    if (vhdx_guid_is(&v->header.log, &vhdx_guid_null))
        return true;
    if (v->log.length > VHDX_LOG_MAX || !range_inside(v->log.offset, v->log.length, 0, b->below->facts.size))
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "%s: its log of %" PRIu64
                           " bytes must be replayed, but is over 64 MiB, or not in the "
                           "file",
                           b->name, v->log.length);
    struct scan s = {.v = v, .count = (uint32_t)(v->log.length / VHDX_PAGE), .budget = 4 * v->log.length};
    s.pages = g_try_malloc0_n(s.count, sizeof(*s.pages));
    s.entry = g_try_malloc(v->log.length);
    int status = s.pages && s.entry ? replay(&s) : -ENOMEM;
    g_free(s.pages);
    g_free(s.entry);
    if (status == -EILSEQ || status == -EFBIG)
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "%s: its log must be replayed, but no part of it is whole and right", b->name);
    if (status == -ENODATA)
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "%s: has %" PRIu64 " bytes, fewer than its log says; its end is missing", b->name,
                           (uint64_t)b->below->facts.size);
    return !status || hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot replay its log: %s", b->name,
                                  g_strerror(-status));
}
