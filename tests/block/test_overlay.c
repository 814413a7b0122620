/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Overlays: what the base has shows through and stays as it is; what a flush makes durable, and in which
 * order; damaged headers. */
#include <errno.h>
#include <glib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/bits.h"
#include "os/fd.h"
#include "rig.h"

enum { CLUSTER = 4096, BASE = 40 * CLUSTER + 512, SIZE = 64 * CLUSTER };

static const struct block_driver *driver(void)
{
    return block_driver_find("overlay");
}

/* Byte i of the base. */
static uint8_t pattern(uint64_t i)
{
    return i < BASE ? (uint8_t)(i * 7 + i / 251 + 1) : 0;
}

static int make_base(void)
{
    int fd = rig_file(0);
    for (uint64_t i = 0; i < BASE;) {
        uint8_t bytes[512];
        for (unsigned j = 0; j < sizeof(bytes); j++)
            bytes[j] = pattern(i + j);
        g_assert_cmpint(pwrite(fd, bytes, sizeof(bytes), (off_t)i), ==, sizeof(bytes));
        i += sizeof(bytes);
    }
    return fd;
}

static struct disk *open_overlay(int file, int base, GError **error)
{
    struct block_config below = {.name = "base", .fd = dup(base), .readonly = true};
    struct block_config config = {
        .name = "overlay", .fd = dup(file), .base = block_open(block_driver_find("raw"), &below, error)};
    return block_open(driver(), &config, error);
}

static struct disk *open_good(int file, int base)
{
    g_autoptr(GError) error = NULL;
    struct disk *b = open_overlay(file, base, &error);
    g_assert_no_error(error);
    return b;
}

static void put(struct disk *b, uint64_t offset, uint8_t value, size_t size)
{
    g_autofree uint8_t *bytes = g_malloc(size);
    const struct iovec iov = {bytes, size};
    memset(bytes, value, size);
    g_assert_cmpint(block_write(b, &iov, 1, offset), ==, 0);
}

static uint8_t get(struct disk *b, uint64_t offset)
{
    uint8_t byte;
    const struct iovec iov = {&byte, 1};
    g_assert_cmpint(block_read(b, &iov, 1, offset, 0), ==, 0);
    return byte;
}

/* All but [from, to) is what the base has, and zeroes behind it. */
static void check_around(struct disk *b, uint64_t from, uint64_t to)
{
    g_autofree uint8_t *bytes = g_malloc(SIZE);
    const struct iovec iov[2] = {{bytes, 1000}, {bytes + 1000, SIZE - 1000}};
    g_assert_cmpint(block_read(b, iov, 2, 0, 0), ==, 0);
    for (uint64_t i = 0; i < SIZE; i++)
        if ((i < from || i >= to) && bytes[i] != pattern(i))
            g_error("byte %u is %u, not %u", (unsigned)i, bytes[i], pattern(i));
}

static void test_shows_base(void)
{
    AUTO_FD base = make_base(), file = rig_overlay(SIZE, BASE);
    AUTO(disk) b = open_good(file, base);
    g_assert_cmpuint(b->facts.size, ==, SIZE);
    check_around(b, 0, 0);
}

static void test_edges(void)
{
    static const struct {
        uint64_t offset, size;
    } writes[] = {
        {0, 1},
        {CLUSTER - 1, 2},
        {3 * CLUSTER, CLUSTER},
        {5 * CLUSTER + 100, 3 * CLUSTER},
        {BASE - 300, 600},
        {BASE + CLUSTER, 10},
        {SIZE - 1, 1},
    };
    AUTO_FD base = make_base();
    for (unsigned i = 0; i < ARRAY_SIZE(writes); i++) {
        AUTO_FD file = rig_overlay(SIZE, BASE);
        uint64_t from = writes[i].offset, to = from + writes[i].size;
        {
            AUTO(disk) b = open_good(file, base);
            put(b, from, 0xa5, writes[i].size);
            g_assert_cmpuint(get(b, from), ==, 0xa5);
            g_assert_cmpuint(get(b, to - 1), ==, 0xa5);
            check_around(b, from, to);
        }
        AUTO(disk) again = open_good(file, base);
        g_assert_cmpuint(get(again, to - 1), ==, 0xa5);
        check_around(again, from, to);
    }
    AUTO_FD empty = rig_overlay(SIZE, BASE);
    AUTO(disk) other = open_good(empty, base); /* the base is as it was */
    check_around(other, 0, 0);
}

static void test_takes_no_space(void)
{
    struct stat status;
    AUTO_FD file = rig_overlay(UINT64_C(1) << 35, 0);
    g_assert_cmpint(fstat(file, &status), ==, 0);
    g_assert_cmpint(status.st_blocks * 512, <=, 64 * 1024);
}

/* A copy of the file's bytes, as after a loss of power that kept everything written so far. */
static int copy_file(int file)
{
    struct stat status;
    g_assert_cmpint(fstat(file, &status), ==, 0);
    g_autofree uint8_t *bytes = g_malloc((size_t)status.st_size);
    int copy = rig_file(0);
    g_assert_cmpint(pread(file, bytes, (size_t)status.st_size, 0), ==, status.st_size);
    g_assert_cmpint(pwrite(copy, bytes, (size_t)status.st_size, 0), ==, status.st_size);
    return copy;
}

static void test_flush(void)
{
    AUTO_FD base = make_base(), file = rig_overlay(SIZE, BASE);
    AUTO(disk) b = open_good(file, base);
    put(b, 0, 0xa5, CLUSTER);
    AUTO_FD before = copy_file(file);
    g_assert_cmpint(block_flush(b), ==, 0);
    put(b, 2 * CLUSTER, 0x5a, CLUSTER);
    AUTO_FD after = copy_file(file);
    AUTO(disk) lost = open_good(before, base);
    AUTO(disk) kept = open_good(after, base);
    check_around(lost, 0, 0); /* the table never says what a flush has not made true */
    g_assert_cmpuint(get(kept, 0), ==, 0xa5);
    check_around(kept, 0, CLUSTER);
    /* What a lost write left in the file is not seen by a later, smaller one. */
    put(kept, 2 * CLUSTER + 8, 0x11, 1);
    g_assert_cmpuint(get(kept, 2 * CLUSTER), ==, pattern(2 * CLUSTER));
    g_assert_cmpint(block_zero(kept, 3 * CLUSTER, CLUSTER, BLOCK_MAY_UNMAP), ==, 0);
    g_assert_cmpuint(get(kept, 3 * CLUSTER + 5), ==, 0);
}

/* Each hole is said to be as deep as the last image, be it behind the base's end. */
static void test_extents(void)
{
    AUTO_FD base = make_base(), file = rig_overlay(SIZE, BASE);
    AUTO(disk) b = open_good(file, base);
    struct block_extent e;
    put(b, 0, 1, CLUSTER);
    g_assert_cmpint(block_extent(b, 0, SIZE, &e), ==, 0);
    g_assert_cmpuint(e.depth, ==, 0);
    g_assert_cmpuint(e.size, ==, CLUSTER);
    g_assert_cmpint(block_extent(b, CLUSTER, SIZE - CLUSTER, &e), ==, 0);
    g_assert_cmpuint(e.depth, ==, 1);
    g_assert_cmpint(block_extent(b, BASE, SIZE - BASE, &e), ==, 0);
    g_assert_true(e.hole && e.zero);
    g_assert_cmpuint(e.depth, ==, 1);
    g_assert_true(e.place == BLOCK_NO_PLACE);
}

static void refuse(int file, int base, const char *because)
{
    g_autoptr(GError) error = NULL;
    g_assert_null(open_overlay(file, base, &error));
    g_assert_nonnull(error);
    if (!strstr(error->message, because))
        g_error("'%s' does not say '%s'", error->message, because);
}

static void test_damaged(void)
{
    static const struct {
        off_t at;
        const char *because;
    } damages[] = {
        {0, "no overlay"}, {8, "version"}, {12, "version"}, {16, "damaged"}, {17, "damaged"},
        {22, "damaged"},   {24, "base"},   {32, "damaged"}, {40, "damaged"}, {46, "damaged"},
    };
    AUTO_FD base = make_base(), small = rig_file(512);
    for (unsigned i = 0; i < ARRAY_SIZE(damages); i++) {
        AUTO_FD file = rig_overlay(SIZE, BASE);
        uint8_t byte;
        g_assert_cmpint(pread(file, &byte, 1, damages[i].at), ==, 1);
        byte ^= 0x81;
        g_assert_cmpint(pwrite(file, &byte, 1, damages[i].at), ==, 1);
        refuse(file, base, damages[i].because);
    }
    AUTO_FD file = rig_overlay(SIZE, BASE);
    refuse(file, small, "base");
    refuse(small, base, "no overlay");
    g_assert_cmpint(ftruncate(file, SIZE), ==, 0);
    refuse(file, base, "missing");
}

static void test_needs_base(void)
{
    g_autoptr(GError) error = NULL;
    struct block_config config = {.name = "overlay", .fd = rig_overlay(SIZE, BASE)};
    g_assert_null(block_open(driver(), &config, &error));
    g_assert_nonnull(strstr(error->message, "base="));
    g_clear_error(&error);
    struct block_config base = {.name = "base", .fd = make_base()};
    struct block_config raw = {.name = "raw", .fd = rig_file(SIZE)};
    raw.base = block_open(block_driver_find("raw"), &base, &error);
    g_assert_no_error(error);
    g_assert_null(block_open(block_driver_find("raw"), &raw, &error));
    g_assert_nonnull(strstr(error->message, "base="));
    g_assert_cmpint(raw.fd, ==, -1);
    g_assert_null(raw.base);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/overlay/shows-base", test_shows_base);
    g_test_add_func("/overlay/edges", test_edges);
    g_test_add_func("/overlay/takes-no-space", test_takes_no_space);
    g_test_add_func("/overlay/flush", test_flush);
    g_test_add_func("/overlay/extents", test_extents);
    g_test_add_func("/overlay/damaged", test_damaged);
    g_test_add_func("/overlay/needs-base", test_needs_base);
    return g_test_run();
}
