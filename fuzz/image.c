/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Any bytes as a disk image: read, described, checked, and a copy of it written and mended. */
/*
 * Theory of operation
 *
 * Images are large and mostly empty, so an input holds only what is not zero (little-endian):
 *
 *     16 bytes   what is done to the copy: a byte for each step, see write_some()
 *     u64        size of the image
 *     u32, u16   offset and size of a piece, and its bytes; again and again
 *
 * What must hold whatever the bytes are: no crash, no leak, no hang, little memory; one line says why an
 * image does not open; nothing that only reads changes the file; what is said to be zero reads as zeroes. And
 * if the format's own check finds an image sound, then its disk is one: what is written to it reads back, and
 * it is sound afterwards.
 */
#include "image.h"

#include <errno.h>
#include <glib.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/byteorder.h"
#include "base/checked.h"
#include "base/error.h"
#include "block/image.h"

enum {
    STEPS = 16,
    HEAD = STEPS + 8,
    PIECE_HEAD = 6,
    EXTENTS_MAX = 256,
    READ_MAX = 64 << 10,
    PLACES = 12,
    FILE_MAX = 64 << 20,
    BESIDE_SIZE = 256 << 10,
};

/* --- the image --- */

/* Nothing grows beyond what a test machine has; what tries gets an error. */
static void limit_files(void)
{
    const struct rlimit limit = {FILE_MAX, FILE_MAX};
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &limit);
}

static int make_file(const uint8_t *data, size_t size)
{
    int fd = memfd_create("image", MFD_CLOEXEC);
    g_assert_cmpint(fd, >=, 0);
    const uint64_t length = ld64le(data + STEPS) % FILE_MAX;
    g_assert_cmpint(ftruncate(fd, (off_t)length), ==, 0);
    for (size_t at = HEAD; size - at > PIECE_HEAD;) {
        const uint64_t offset = ld32le(data + at) % FILE_MAX;
        const size_t piece = MIN(ld16le(data + at + 4), size - at - PIECE_HEAD);
        if (offset < length)
            g_assert_cmpint(pwrite(fd, data + at + PIECE_HEAD, MIN(piece, length - offset), (off_t)offset),
                            >=, 0);
        at += PIECE_HEAD + piece;
    }
    return fd;
}

/* Backing files and files with data are disks of their own, whatever the image calls them. */
static struct disk *open_beside(struct block_refs *refs, enum block_ref what, const char *reference,
                                const char *format, bool readonly, GError **error)
{
    struct block_config config = {.name = "beside", .fd = -1, .size = BESIDE_SIZE, .readonly = readonly};
    (void)refs;
    (void)what;
    (void)format;
    g_assert_nonnull(reference);
    return block_open(block_driver_find("memory"), &config, error);
}

static struct disk *create_beside(struct block_refs *refs, const char *reference, GError **error)
{
    (void)refs;
    hostel_fail(error, HOSTEL_ERROR_HOST, "%s: not here", reference);
    return NULL;
}

/* For what is given the disk it lies over and does not name it. */
static struct disk *make_base(const struct block_driver *driver)
{
    struct block_config config = {.name = "base", .fd = -1, .size = BESIDE_SIZE};
    return driver->needs_base ? block_open(block_driver_find("memory"), &config, NULL) : NULL;
}

static bool say; /* once it is clear that something is wrong: what images and checks tell */

static struct disk *open_image(const struct block_driver *driver, int fd, bool readonly, unsigned flags)
{
    static struct block_refs refs = {.open = open_beside, .create = create_beside};
    g_autoptr(GError) error = NULL;
    struct block_config config = {.name = "image",
                                  .fd = dup(fd),
                                  .base = make_base(driver),
                                  .refs = &refs,
                                  .readonly = readonly,
                                  .flags = flags};
    struct disk *b = block_open(driver, &config, &error);
    g_assert_true(b ? !error : error && error->message[0] && !strchr(error->message, '\n'));
    if (say && error)
        g_printerr("%s\n", error->message);
    return b;
}

/* --- reading --- */

static void take_line(void *opaque, const char *line)
{
    (void)opaque;
    g_assert_true(line[0] && !strchr(line, '\n'));
    if (say)
        g_printerr("%s\n", line);
}

/* True when the check could look and finds nothing that is wrong. */
static bool check(struct disk *b, unsigned fix)
{
    const struct block_image *image = b->driver->image;
    g_autoptr(GError) error = NULL;
    struct block_check result = {.report = take_line};
    if (!image || !image->check || !image->check(b, fix, &result, &error)) {
        g_assert_true(!image || !image->check || error);
        if (say && error)
            g_printerr("%s\n", error->message);
        return false;
    }
    g_assert_no_error(error);
    if (say)
        g_printerr("corruptions %" PRIu64 ", errors %" PRIu64 "\n", result.corruptions, result.errors);
    return !result.corruptions && !result.errors;
}

static void describe(struct disk *b)
{
    const struct block_image *image = b->driver->image;
    struct block_image_info info = {0};
    if (image && image->info && image->info(b, &info, NULL))
        block_image_info_clear(&info);
    GPtrArray *list = image && image->snapshots ? image->snapshots(b, NULL) : NULL;
    if (list)
        g_ptr_array_unref(list);
    list = image && image->bitmaps ? image->bitmaps(b, NULL) : NULL;
    if (list)
        g_ptr_array_unref(list);
}

static void read_at(struct disk *b, uint64_t offset, uint64_t size, bool zero)
{
    static uint8_t bytes[READ_MAX];
    size = MIN(size, MIN(READ_MAX, b->facts.size - offset));
    if (!block_pread(b, bytes, (size_t)size, offset))
        for (uint64_t i = 0; zero && i < size; i++)
            g_assert_cmpuint(bytes[i], ==, 0);
}

/* A place that depends on i: the edges of the disk, and anywhere; whole sectors. */
static uint64_t place(const struct disk *b, unsigned i)
{
    const uint64_t sectors = b->facts.size / BLOCK_SECTOR;
    if (!sectors)
        return 0;
    switch (i % PLACES) {
    case 0: return 0;
    case 1: return (sectors - 1) * BLOCK_SECTOR;
    case 2: return sectors / 2 * BLOCK_SECTOR;
    default: return ((uint64_t)i * 0x9e3779b97f4a7c15 >> i % 40) % sectors * BLOCK_SECTOR;
    }
}

static void read_some(struct disk *b)
{
    const uint64_t end = b->facts.size;
    g_assert_true(is_power_of_two(b->facts.alignment) && b->facts.alignment <= BLOCK_SECTOR);
    for (unsigned i = 0; end && i < PLACES; i++)
        read_at(b, place(b, i), i % 3 ? 4096 : READ_MAX, false);
    uint64_t offset = 0;
    for (unsigned i = 0; i < EXTENTS_MAX && offset < end; i++) {
        struct block_extent extent;
        if (block_extent(b, offset, end - offset, &extent))
            break;
        g_assert_true(extent.size && extent.size <= end - offset);
        if (i < PLACES)
            read_at(b, offset, 512, extent.zero);
        offset += extent.size;
    }
}

/* FNV-1a of the file. */
static uint64_t hash_file(int fd)
{
    static uint8_t bytes[FILE_MAX / 64];
    uint64_t hash = 0xcbf29ce484222325;
    off_t at = 0;
    for (;;) { /* holes are passed over, or most time would go here */
        at = lseek(fd, at, SEEK_DATA);
        const off_t end = at < 0 ? -1 : lseek(fd, at, SEEK_HOLE);
        const ssize_t got = end < 0 ? 0 : pread(fd, bytes, MIN(sizeof(bytes), (size_t)(end - at)), at);
        if (got <= 0)
            return hash;
        for (ssize_t i = 0; i < got; i++)
            hash = (hash ^ bytes[i]) * 0x100000001b3;
        at += got;
    }
}

/* True when the image is sound. */
static bool only_read(const struct block_driver *driver, int fd)
{
    const off_t size = lseek(fd, 0, SEEK_END);
    const uint64_t before = hash_file(fd);
    struct disk *b = open_image(driver, fd, true, 0);
    bool sound = b;
    if (!b)
        b = open_image(driver, fd, true, BLOCK_OPEN_ALONE | BLOCK_OPEN_REPAIR);
    if (b) {
        describe(b);
        read_some(b);
        sound &= check(b, 0);
        block_free(b);
    }
    g_assert_cmpint(lseek(fd, 0, SEEK_END), ==, size);
    g_assert_cmpuint(hash_file(fd), ==, before);
    return sound;
}

/* --- writing --- */

static void write_at(struct disk *b, uint64_t offset, uint8_t byte, bool sound)
{
    static uint8_t bytes[READ_MAX], back[READ_MAX];
    const size_t size = (size_t)MIN(byte & 1 ? 512 : READ_MAX - 512, b->facts.size - offset);
    memset(bytes, byte, size);
    if (!block_pwrite(b, bytes, size, offset) && sound) {
        g_assert_cmpint(block_pread(b, back, size, offset), ==, 0);
        g_assert_true(!memcmp(back, bytes, size));
    }
}

static void zero_at(struct disk *b, uint64_t offset, uint8_t byte, bool sound)
{
    const uint64_t size = MIN(byte & 1 ? 512 : b->facts.size / 3, b->facts.size - offset) / 512 * 512;
    if (!block_zero(b, offset, size, byte & 2 ? BLOCK_MAY_UNMAP : 0) && sound && size)
        read_at(b, offset, size, true);
}

static void compressed_at(struct disk *b, uint64_t offset)
{
    const uint32_t cluster = b->facts.cluster;
    if (!b->driver->write_compressed || !cluster || cluster > FILE_MAX / 8)
        return;
    offset = offset / cluster * cluster;
    const size_t size = (size_t)MIN(cluster, b->facts.size - offset);
    struct block_extent extent;
    if (block_extent(b, offset, size, &extent) || !extent.hole || extent.size < size)
        return;
    g_autofree uint8_t *bytes = g_malloc0(size);
    bytes[size / 2] = 1;
    block_write_compressed(b, bytes, offset, size);
}

static void snapshot(struct disk *b, unsigned what)
{
    const struct block_image *image = b->driver->image;
    if (image && image->snapshot_create && what == 0)
        image->snapshot_create(b, "fuzz", NULL);
    if (image && image->snapshot_apply && what == 1)
        image->snapshot_apply(b, "fuzz", NULL);
    if (image && image->snapshot_delete && what == 2)
        image->snapshot_delete(b, "1", NULL);
}

/* Resizing says what it cannot do; a disk of sane size is asked for. */
static void resize(struct disk *b, uint8_t byte)
{
    const struct block_image *image = b->driver->image;
    const uint64_t size =
        MIN(b->facts.size, (uint64_t)FILE_MAX * 16) / 512 * 512 * (byte & 3) / 2 + 512 * (byte >> 4);
    if (image && image->resize && size)
        image->resize(b, size / 512 * 512, BLOCK_PREALLOC_OFF, NULL);
    else if (size)
        block_resize(b, size / 512 * 512);
}

/* What the bytes say. sound: the check found nothing wrong before. */
static void write_some(struct disk *b, const uint8_t *steps, bool sound)
{
    for (unsigned i = 0; i < STEPS && b->facts.size >= BLOCK_SECTOR; i++) {
        const uint8_t byte = steps[i];
        const uint64_t at = place(b, byte * 5u + i);
        switch (byte >> 2 & 15) {
        case 0:
        case 1:
        case 2:
        case 3:
        case 4: write_at(b, at, byte, sound); break;
        case 5: zero_at(b, at, byte, sound); break;
        case 6: block_discard(b, at, (b->facts.size - at) / 2 / 512 * 512); break;
        case 7: block_flush(b); break;
        case 8: compressed_at(b, at); break;
        case 9: resize(b, byte); break;
        case 10:
        case 11:
        case 12: snapshot(b, (byte >> 2 & 15) - 10); break;
        case 13: check(b, 0); break;
        default: read_at(b, at, READ_MAX, false); break;
        }
    }
}

static void check_sound(const struct block_driver *driver, int fd)
{
    for (;; say = true) {
        struct disk *b = open_image(driver, fd, true, 0);
        const bool sound = b && check(b, 0);
        block_free(b);
        if (sound)
            return;
        if (say)
            break;
    }
    g_printerr("%s: was sound, and is not after it was written to\n", driver->name);
    abort();
}

static void written(const struct block_driver *driver, const uint8_t *data, size_t size, bool sound)
{
    int fd = make_file(data, size);
    struct disk *b = open_image(driver, fd, false, 0);
    if (b) {
        write_some(b, data, sound);
        int status = block_flush(b);
        if (!status)
            block_seal(b);
        block_free(b);
        if (sound)
            check_sound(driver, fd);
    }
    close(fd);
}

static void mended(const struct block_driver *driver, const uint8_t *data, size_t size)
{
    int fd = make_file(data, size);
    struct disk *b = open_image(driver, fd, false, BLOCK_OPEN_REPAIR | BLOCK_OPEN_ALONE);
    if (b) {
        check(b, BLOCK_FIX_LEAKS | BLOCK_FIX_ERRORS);
        read_some(b);
        block_free(b);
    }
    close(fd);
}

int fuzz_image(const char *format, const uint8_t *data, size_t size)
{
    static bool limited;
    if (!limited)
        limit_files();
    limited = true;
    const struct block_driver *driver = block_driver_find(format);
    g_assert_nonnull(driver);
    if (size < HEAD)
        return 0;
    if (driver->image && driver->image->looks_like)
        driver->image->looks_like(data + HEAD, size - HEAD);
    int fd = make_file(data, size);
    const bool sound = only_read(driver, fd);
    close(fd);
    if (driver->write) {
        written(driver, data, size, sound);
        mended(driver, data, size);
    }
    return 0;
}
