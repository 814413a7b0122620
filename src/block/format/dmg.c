/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Format dmg, read only: Apple's disk images (UDIF), as macOS has for software. */
/*
 * Theory of operation
 *
 * The last 512 bytes of the file are a trailer ("koly", big-endian as all of it) that says where a property
 * list in XML is. That has, under the keys resource-fork and blkx, an array of tables ("mish"), one for each
 * partition, in base64. A table is a list of chunks: a run of sectors and how they are kept, as zeroes, as
 * they are, or compressed by one of several methods. Apple has published none of this; the layout is known
 * from the programs that read it.
 *
 * The property list is not read as XML but looked through for the few tags that matter, which needs no more
 * than the list itself as memory, and no entity is ever looked at. All chunks are checked and sorted when the
 * image is opened; then reading is a search in an array.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/param.h>

#include "base/bits.h"
#include "base/byteorder.h"
#include "base/checked.h"
#include "base/error.h"
#include "block/format/chunks.h"
#include "block/image.h"
#include "block/scratch.h"
#include "codec/compress.h"

enum { TRAILER = 512, TABLE_HEAD = 204, TABLE_CHUNK = 40 };
#define LIST_MAX (16 * MiB)  /* the property list; so there are no more than 320,000 chunks */
#define PIECE_MAX (64 * MiB) /* of a compressed chunk, on either side */
#define SECTORS_MAX (BIT(62) / BLOCK_SECTOR)

enum chunk_type {
    CHUNK_ZERO = 0,
    CHUNK_RAW = 1,
    CHUNK_IGNORE = 2, /* not in use: zeroes */
    CHUNK_ADC = 0x80000004,
    CHUNK_ZLIB = 0x80000005,
    CHUNK_BZIP2 = 0x80000006,
    CHUNK_LZFSE = 0x80000007,
    CHUNK_LZMA = 0x80000008,
    CHUNK_COMMENT = 0x7ffffffe,
    CHUNK_END = 0xffffffff,
};

struct chunk {
    uint64_t first, sectors;
    uint64_t place, size; /* in the file */
    uint32_t type;
};

struct dmg {
    struct disk disk;
    struct disk *file; /* disk.below */
    GArray *chunks;    /* of struct chunk, by their sectors */
    struct block_chunks *unpacked;
};

static struct dmg *dmg(struct disk *b)
{
    return (struct dmg *)(void *)b;
}

static const struct chunk *chunk_at(const struct dmg *d, uint64_t i)
{
    return &((const struct chunk *)(const void *)d->chunks->data)[i];
}

/* --- the property list --- */

/* What is left of the text. */
struct scan {
    const char *at, *end;
};

/* The next tag: its text, without the angle brackets. Comments, the document's type and the like are passed
 * over. */
static bool next_tag(struct scan *s, struct scan *tag)
{
    while ((s->at = memchr(s->at, '<', (size_t)(s->end - s->at)))) {
        const char *from = s->at + 1;
        const bool comment = s->end - from >= 3 && !memcmp(from, "!--", 3);
        const char *close = comment ? memmem(from + 3, (size_t)(s->end - from - 3), "-->", 3)
                                    : memchr(from, '>', (size_t)(s->end - from));
        if (!close)
            return false;
        s->at = close + (comment ? 3 : 1);
        if (!comment && *from != '!' && *from != '?') {
            *tag = (struct scan){from, close};
            return true;
        }
    }
    return false;
}

static bool tag_is(const struct scan *tag, const char *name)
{
    const size_t size = strlen(name);
    return (size_t)(tag->end - tag->at) == size && !memcmp(tag->at, name, size);
}

/* Does the text up to the next tag say so? Blanks around it do not count. */
static bool text_is(const struct scan *s, const char *want)
{
    const char *from = s->at, *end = memchr(from, '<', (size_t)(s->end - from));
    if (!end)
        return false;
    while (from < end && g_ascii_isspace(*from))
        from++;
    while (end > from && g_ascii_isspace(end[-1]))
        end--;
    const struct scan text = {from, end};
    return tag_is(&text, want);
}

/* Passes over everything up to behind `<key>name</key>`. */
static bool find_key(struct scan *s, const char *name)
{
    struct scan tag;
    while (next_tag(s, &tag))
        if (tag_is(&tag, "key") && text_is(s, name))
            return next_tag(s, &tag);
    return false;
}

/* The next `<data>` that belongs to a key `Data`, before the array ends. */
static bool next_data(struct scan *s, struct scan *data)
{
    struct scan tag;
    bool wanted = false;
    while (next_tag(s, &tag) && !tag_is(&tag, "/array")) {
        if (tag_is(&tag, "key")) {
            wanted = text_is(s, "Data");
        } else if (wanted && tag_is(&tag, "data")) {
            const char *end = memchr(s->at, '<', (size_t)(s->end - s->at));
            *data = (struct scan){s->at, end ? end : s->end};
            s->at = data->end;
            return true;
        }
    }
    return false;
}

/* --- the tables --- */

static bool is_packed(uint32_t type)
{
    return type == CHUNK_ZLIB || type == CHUNK_BZIP2 || type == CHUNK_LZMA || type == CHUNK_LZFSE ||
           type == CHUNK_ADC;
}

static bool check_chunk(const struct dmg *d, const struct chunk *c, GError **error)
{
    const char *name = d->disk.name;
    const bool packed = is_packed(c->type), kept = packed || c->type == CHUNK_RAW;
    if (!range_inside(c->first, c->sectors, 0, SECTORS_MAX))
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "%s: a chunk of %" PRIu64 " sectors at sector %" PRIu64
                           " ends behind the largest disk there can be; the image is damaged",
                           name, c->sectors, c->first);
    if (kept && !range_inside(c->place, c->size, 0, d->file->facts.size))
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "%s: the chunk of sector %" PRIu64 " (%" PRIu64 " bytes at %" PRIu64
                           ") is not inside the file; is its end missing?",
                           name, c->first, c->size, c->place);
    if (packed && (c->size > PIECE_MAX || c->sectors > PIECE_MAX / BLOCK_SECTOR))
        return hostel_fail(error, HOSTEL_ERROR_UNSUPPORTED,
                           "%s: the chunk of sector %" PRIu64 " has %" PRIu64 " sectors in %" PRIu64
                           " bytes; up to 64 MiB are read",
                           name, c->first, c->sectors, c->size);
    if (c->type == CHUNK_RAW && c->size / BLOCK_SECTOR < c->sectors)
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "%s: the chunk of sector %" PRIu64 " has %" PRIu64 " sectors in only %" PRIu64
                           " bytes; the image is damaged",
                           name, c->first, c->sectors, c->size);
    if (!kept && c->type != CHUNK_ZERO && c->type != CHUNK_IGNORE)
        return hostel_fail(error, HOSTEL_ERROR_UNSUPPORTED,
                           "%s: the chunk of sector %" PRIu64 " is of the unknown kind 0x%" PRIx32, name,
                           c->first, c->type);
    return true;
}

/* One table. fork: where the data begins that places count from. */
static bool read_table(struct dmg *d, const uint8_t *table, size_t size, uint64_t fork, GError **error)
{
    if (size < TABLE_HEAD || memcmp(table, "mish", 4) != 0)
        return hostel_fail(error, HOSTEL_ERROR_INPUT, "%s: one of its tables of chunks is none",
                           d->disk.name);
    const uint32_t count = ld32be(table + 200);
    if (count > (size - TABLE_HEAD) / TABLE_CHUNK)
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "%s: a table of %" PRIu32 " chunks has only %zu bytes; the image is damaged",
                           d->disk.name, count, size);
    const uint64_t first = ld64be(table + 8), begin = ld64be(table + 24);
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *at = table + TABLE_HEAD + (size_t)i * TABLE_CHUNK;
        struct chunk c = {.type = ld32be(at), .sectors = ld64be(at + 16), .size = ld64be(at + 32)};
        if (c.type == CHUNK_COMMENT || !c.sectors)
            continue;
        if (c.type == CHUNK_END)
            break;
        if (ckd_add(&c.first, first, ld64be(at + 8)) || ckd_add(&c.place, begin, ld64be(at + 24)) ||
            ckd_add(&c.place, c.place, fork))
            return hostel_fail(error, HOSTEL_ERROR_INPUT,
                               "%s: chunk %" PRIu32 " of a table is nowhere; the image is damaged",
                               d->disk.name, i);
        if (!check_chunk(d, &c, error))
            return false;
        g_array_append_val(d->chunks, c);
    }
    return true;
}

static int by_sector(const void *a, const void *b)
{
    const struct chunk *x = a, *y = b;
    return x->first < y->first ? -1 : x->first > y->first;
}

/* All tables of the list, whose text is made bytes in its own place. */
static bool read_list(struct dmg *d, char *list, size_t size, uint64_t fork, GError **error)
{
    struct scan s = {list, list + size}, data;
    if (!find_key(&s, "resource-fork") || !find_key(&s, "blkx"))
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "%s: its property list has no tables of chunks (resource-fork, blkx)",
                           d->disk.name);
    while (next_data(&s, &data)) {
        char *text = list + (data.at - list); /* the same place, to be written to */
        gint state = 0;
        guint save = 0;
        const gsize got =
            g_base64_decode_step(text, (gsize)(data.end - data.at), (guchar *)text, &state, &save);
        if (!read_table(d, (const uint8_t *)text, got, fork, error))
            return false;
    }
    return true;
}

static int load(void *opaque, uint64_t index, uint8_t *bytes, size_t size);

/* The order, what overlaps, and what follows from it: the size of the disk, and of the largest piece. */
static bool finish(struct dmg *d, GError **error)
{
    struct disk *b = &d->disk;
    uint64_t end = 0, largest = 0;
    if (!d->chunks->len)
        return hostel_fail(error, HOSTEL_ERROR_INPUT, "%s: has no chunk with any sector", b->name);
    qsort(d->chunks->data, d->chunks->len, sizeof(struct chunk), by_sector);
    for (guint i = 0; i < d->chunks->len; i++) {
        const struct chunk *c = chunk_at(d, i);
        if (c->first < end)
            return hostel_fail(error, HOSTEL_ERROR_INPUT,
                               "%s: sector %" PRIu64 " is in two chunks; the image is damaged", b->name,
                               c->first);
        end = c->first + c->sectors;
        if (is_packed(c->type))
            largest = MAX(largest, c->sectors);
    }
    b->facts.size = end * BLOCK_SECTOR;
    if (largest)
        d->unpacked = block_chunks_new((size_t)largest * BLOCK_SECTOR, load, d);
    return true;
}

/* --- opening --- */

static bool read_text(struct dmg *d, uint64_t at, uint64_t size, char **text, GError **error)
{
    struct disk *b = &d->disk;
    if (!size || size > LIST_MAX || !range_inside(at, size, 0, d->file->facts.size))
        return hostel_fail(error, size ? HOSTEL_ERROR_INPUT : HOSTEL_ERROR_UNSUPPORTED,
                           "%s: its property list (%" PRIu64 " bytes at %" PRIu64
                           ") is not inside the file, or larger than 16 MiB, or missing as in images before "
                           "Mac OS X 10.2",
                           b->name, size, at);
    *text = g_try_malloc((gsize)size);
    if (!*text)
        return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: the host has not enough memory for its list",
                           b->name);
    int status = block_pread(d->file, *text, (size_t)size, at);
    return !status || hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot read its property list: %s", b->name,
                                  g_strerror(-status));
}

static bool open_inner(struct dmg *d, struct block_config *config, GError **error)
{
    struct disk *b = &d->disk;
    uint8_t koly[TRAILER] = {0};
    g_autofree char *list = NULL;
    if (!block_chunks_take_file(b, config, error))
        return false;
    d->file = b->below;
    const uint64_t end = d->file->facts.size;
    int status = end < TRAILER ? 0 : block_pread(d->file, koly, sizeof(koly), end - TRAILER);
    if (status)
        return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot read its trailer: %s", b->name,
                           g_strerror(-status));
    if (memcmp(koly, "koly", 4) != 0)
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "%s: does not end as a dmg image does (koly); is it another format, or cut off?",
                           b->name);
    const uint64_t fork = ld64be(koly + 24), size = ld64be(koly + 224);
    d->chunks = g_array_new(FALSE, FALSE, sizeof(struct chunk));
    return read_text(d, ld64be(koly + 216), size, &list, error) &&
           read_list(d, list, (size_t)size, fork, error) && finish(d, error);
}

static void dmg_release(struct disk *b)
{
    struct dmg *d = dmg(b);
    block_chunks_free(d->unpacked);
    if (d->chunks)
        g_array_free(d->chunks, TRUE);
}

static bool dmg_open(struct disk *b, struct block_config *config, GError **error)
{
    if (open_inner(dmg(b), config, error))
        return true;
    dmg_release(b);
    return false;
}

/* --- reading --- */

static int unpack(uint32_t type, const uint8_t *in, size_t packed, uint8_t *bytes, size_t size)
{
    enum compress_method method;
    switch (type) {
    case CHUNK_ZLIB: method = COMPRESS_ZLIB; break;
    case CHUNK_BZIP2: method = COMPRESS_BZIP2; break;
    case CHUNK_LZMA: method = COMPRESS_XZ; break;
    case CHUNK_LZFSE: method = COMPRESS_LZFSE; break;
    default: return -EOPNOTSUPP;
    }
    const ssize_t got = compress_unpack(method, in, packed, bytes, size);
    if (got == (ssize_t)size)
        return 0;
    return got == -ENOMEM || got == -EOPNOTSUPP ? (int)got : -EIO;
}

/* A compressed chunk. */
static int load(void *opaque, uint64_t index, uint8_t *bytes, size_t size)
{
    struct dmg *d = opaque;
    const struct chunk *c = chunk_at(d, index);
    uint8_t *in = block_scratch_take((size_t)c->size);
    if (!in)
        return -ENOMEM;
    int status = block_pread(d->file, in, (size_t)c->size, c->place);
    if (!status)
        status = unpack(c->type, in, (size_t)c->size, bytes, size);
    block_scratch_give(in);
    return status;
}

/* The chunk of a sector; false when there is none. */
static bool find(const struct dmg *d, uint64_t sector, uint64_t *index)
{
    uint64_t low = 0, high = d->chunks->len; /* the last one that begins at the sector or before */
    while (low < high) {
        const uint64_t middle = (low + high) / 2;
        if (chunk_at(d, middle)->first <= sector)
            low = middle + 1;
        else
            high = middle;
    }
    *index = low - 1;
    return low && sector - chunk_at(d, low - 1)->first < chunk_at(d, low - 1)->sectors;
}

static int dmg_read(struct disk *b, const struct iovec *iov, unsigned n, uint64_t offset, unsigned flags)
{
    struct dmg *d = dmg(b);
    struct block_cursor cursor = {.iov = iov};
    for (uint64_t size = block_iov_size(iov, n), now, index; size; offset += now, size -= now) {
        if (!find(d, offset / BLOCK_SECTOR, &index))
            return -EIO;
        const struct chunk *c = chunk_at(d, index);
        const uint64_t inside = offset - c->first * BLOCK_SECTOR, whole = c->sectors * BLOCK_SECTOR;
        int status = 0;
        now = MIN(size, whole - inside);
        if (is_packed(c->type))
            status = block_chunks_read(d->unpacked, index, (size_t)whole, (size_t)inside, (size_t)now,
                                       &cursor, flags);
        else if (c->type == CHUNK_RAW)
            status = block_chunks_read_file(d->file, &cursor, c->place + inside, now, flags);
        else
            block_cursor_zero(&cursor, now);
        if (status)
            return status;
    }
    return 0;
}

static int dmg_extent(struct disk *b, uint64_t offset, uint64_t size, struct block_extent *extent)
{
    struct dmg *d = dmg(b);
    uint64_t index;
    if (!find(d, offset / BLOCK_SECTOR, &index))
        return -EOPNOTSUPP; /* reading says what is wrong */
    const struct chunk *c = chunk_at(d, index);
    const uint64_t inside = offset - c->first * BLOCK_SECTOR;
    const bool packed = is_packed(c->type), zero = !packed && c->type != CHUNK_RAW;
    *extent = (struct block_extent){.size = MIN(size, c->sectors * BLOCK_SECTOR - inside),
                                    .hole = zero,
                                    .zero = zero,
                                    .compressed = packed,
                                    .place = packed || zero ? BLOCK_NO_PLACE : c->place + inside};
    return 0;
}

/* --- as an image --- */

/* No looks_like: what tells a dmg is at the file's end, and only the beginning is looked at. */
static bool info(struct disk *b, struct block_image_info *out, GError **error)
{
    (void)error;
    *out = (struct block_image_info){.cluster = b->facts.cluster, .compressed = dmg(b)->unpacked != NULL};
    return true;
}

static const struct block_image image = {.info = info};

const struct block_driver block_driver_dmg = {
    .name = "dmg",
    .help = "Apple's disk images; only read",
    .kind = BLOCK_FORMAT,
    .needs_file = true,
    .size = sizeof(struct dmg),
    .open = dmg_open,
    .close = dmg_release,
    .read = dmg_read,
    .extent = dmg_extent,
    .image = &image,
};
