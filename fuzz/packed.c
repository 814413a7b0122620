/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Any compressed file of a saved guest: it is refused, or every way to read it gives the same bytes. */
/*
 * The first byte of the input says what follows: 0 a whole file; 1 a frame, behind 3 bytes of the size that
 * its table, which is then made for it, shall say.
 */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/byteorder.h"
#include "base/error.h"
#include "codec/packed.h"
#include "codec/saved.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { UNPACKED_MAX = 32 << 20, READS = 16 };

static int new_file(void)
{
    const int fd = memfd_create("packed", MFD_CLOEXEC);
    g_assert_cmpint(fd, >=, 0);
    return fd;
}

static void put(int fd, const void *bytes, size_t size)
{
    g_assert_cmpint(write(fd, bytes, size), ==, (ssize_t)size);
}

static void put_table(int fd, uint32_t packed, uint32_t size)
{
    uint8_t table[8 + 8 + 9] = {0};
    st32le(table, 0x184d2a5e);
    st32le(table + 4, sizeof(table) - 8);
    st32le(table + 8, packed);
    st32le(table + 12, size);
    st32le(table + 16, 1);
    st32le(table + 21, 0x8f92eab1);
    put(fd, table, sizeof(table));
}

static int read_packed(void *opaque, void *bytes, size_t size, uint64_t at)
{
    return packed_read(opaque, bytes, size, at);
}

static int size_of(void *opaque, uint64_t *size)
{
    *size = packed_size(opaque);
    return 0;
}

/* Reading pieces of it is no other than unpacking it; without, it fails somewhere. */
static void compare(struct packed *p, int out, bool good)
{
    const uint64_t size = packed_size(p);
    uint8_t some[777], other[777];
    bool failed = false;
    for (uint64_t i = 0; i < READS; i++) {
        const uint64_t at = size * (READS - 1 - i) / READS;
        const size_t here = (size_t)MIN(sizeof(some), size - at);
        const int status = packed_read(p, some, here, at);
        failed = failed || status;
        if (status || !good)
            continue;
        g_assert_cmpint(pread(out, other, here, (off_t)at), ==, (ssize_t)here);
        g_assert_cmpmem(some, here, other, here);
    }
    g_assert_false(failed && good);
}

static void check(int fd)
{
    static const struct saved_ops ops = {.read = read_packed, .size = size_of};
    static const struct packed_work work = {.threads = 2};
    g_autoptr(GError) error = NULL, another = NULL;
    AUTO(packed) p = packed_open(fd, &error);
    if (!p) {
        g_assert_nonnull(error);
        return;
    }
    if (packed_size(p) > UNPACKED_MAX)
        return;
    const int out = new_file();
    struct stat status;
    const bool good = packed_unpack(p, out, &work, &error);
    g_assert_true(good == !error);
    g_assert_cmpint(fstat(out, &status), ==, 0);
    g_assert_cmpuint((uint64_t)status.st_size, ==, packed_size(p));
    compare(p, out, good);
    AUTO(saved) s = saved_open_io((struct saved_io){&ops, p}, &another);
    g_assert_true((s != NULL) == !another);
    close(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const int fd = new_file();
    if (size > 4 && data[0] & 1) {
        put(fd, data + 4, size - 4);
        put_table(fd, (uint32_t)(size - 4), data[1] | (uint32_t)data[2] << 8 | (uint32_t)data[3] << 16);
    } else if (size) {
        put(fd, data + 1, size - 1);
    }
    check(fd);
    close(fd);
    return 0;
}
