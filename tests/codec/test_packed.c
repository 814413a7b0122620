/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Large files with holes: what is packed is read and unpacked, by others too, and nothing damaged is. */
#include "codec/packed.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/byteorder.h"
#include "base/error.h"
#include "codec/compress.h"

static const struct packed_work plain = {.threads = 3, .level = COMPRESS_LEVEL_DEFAULT};

static int new_file(const void *bytes, size_t size)
{
    const int fd = memfd_create("packed", MFD_CLOEXEC);
    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(pwrite(fd, bytes, size, 0), ==, (ssize_t)size);
    return fd;
}

static GByteArray *contents(int fd)
{
    struct stat status;
    g_assert_cmpint(fstat(fd, &status), ==, 0);
    GByteArray *bytes = g_byte_array_new();
    g_byte_array_set_size(bytes, (guint)status.st_size);
    g_assert_cmpint(pread(fd, bytes->data, bytes->len, 0), ==, bytes->len);
    return bytes;
}

/* Of `size` bytes, with data of all kinds and holes. */
static int new_original(uint64_t size)
{
    const int fd = new_file("", 0);
    uint8_t page[4096];
    g_assert_cmpint(ftruncate(fd, (off_t)size), ==, 0);
    for (uint64_t at = 0; at + sizeof(page) <= size; at += sizeof(page) * (1 + (at >> 12) % 89)) {
        for (unsigned i = 0; i < sizeof(page); i++)
            page[i] = (uint8_t)(at >> 14 & 1 ? g_random_int() : at >> 12);
        g_assert_cmpint(pwrite(fd, page, sizeof(page), (off_t)at), ==, sizeof(page));
    }
    if (size)
        g_assert_cmpint(pwrite(fd, "!", 1, (off_t)size - 1), ==, 1);
    return fd;
}

static int pack(int original)
{
    g_autoptr(GError) error = NULL;
    const int fd = new_file("", 0);
    packed_pack(original, fd, &plain, &error);
    g_assert_no_error(error);
    return fd;
}

static void assert_unpacks(int fd, const GByteArray *original)
{
    g_autoptr(GError) error = NULL;
    g_assert_true(packed_is(fd));
    AUTO(packed) p = packed_open(fd, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(packed_size(p), ==, original->len);
    const int out = new_file("", 0);
    g_assert_true(packed_unpack(p, out, &plain, &error));
    g_autoptr(GByteArray) got = contents(out);
    g_assert_cmpmem(got->data, got->len, original->data, original->len);
    close(out);
}

static void test_round(void)
{
    static const uint64_t sizes[] = {
        1, 4096, PACKED_CHUNK - 1, PACKED_CHUNK, PACKED_CHUNK + 1, 9 * PACKED_CHUNK + 77};
    for (unsigned i = 0; i < G_N_ELEMENTS(sizes); i++) {
        const int original = new_original(sizes[i]), fd = pack(original);
        g_autoptr(GByteArray) bytes = contents(original);
        assert_unpacks(fd, bytes);
        close(original);
        close(fd);
    }
}

/* A file that is mostly hole takes next to nothing, packed and unpacked. */
static void test_holes(void)
{
    const uint64_t size = UINT64_C(3) << 30;
    const int original = new_file("", 0), out = new_file("", 0);
    g_assert_cmpint(ftruncate(original, (off_t)size), ==, 0);
    g_assert_cmpint(pwrite(original, "x", 1, (off_t)size / 2), ==, 1);
    const int fd = pack(original);
    struct stat status;
    g_assert_cmpint(fstat(fd, &status), ==, 0);
    g_assert_cmpint(status.st_size, <, 1 << 18);
    AUTO(packed) p = packed_open(fd, NULL);
    g_assert_true(packed_unpack(p, out, &plain, NULL));
    g_assert_cmpint(fstat(out, &status), ==, 0);
    g_assert_cmpuint((uint64_t)status.st_size, ==, size);
    g_assert_cmpint(status.st_blocks * 512, <, 1 << 16);
    close(original);
    close(out);
    close(fd);
}

static void test_read(void)
{
    const int original = new_original(5 * PACKED_CHUNK + 99), fd = pack(original);
    g_autoptr(GByteArray) bytes = contents(original);
    AUTO(packed) p = packed_open(fd, NULL);
    g_autofree uint8_t *got = g_malloc(bytes->len + 1);
    for (unsigned i = 0; i < 200; i++) {
        const uint32_t at = g_random_int_range(0, (gint32)bytes->len);
        const uint32_t size =
            g_random_int_range(0, (gint32)MIN(bytes->len - at, i % 20 ? 5000 : UINT32_MAX / 2) + 1);
        g_assert_cmpint(packed_read(p, got, size, at), ==, 0);
        g_assert_cmpmem(got, size, bytes->data + at, size);
    }
    g_assert_cmpint(packed_read(p, got, 0, bytes->len), ==, 0);
    g_assert_cmpint(packed_read(p, got, 1, bytes->len), ==, -ENODATA);
    g_assert_cmpint(packed_read(p, got, 2, UINT64_MAX), ==, -ENODATA);
    close(original);
    close(fd);
}

/* Debian's zstd makes the original of it. */
static void test_others_read_it(void)
{
    g_autofree char *zstd = g_find_program_in_path("zstd");
    if (!zstd) {
        g_test_skip("zstd is not installed");
        return;
    }
    g_autofree char *path = NULL;
    const int original = new_original(3 * PACKED_CHUNK + 5), fd = pack(original);
    g_autoptr(GByteArray) bytes = contents(original), packed = contents(fd);
    close(g_file_open_tmp("packed-XXXXXX", &path, NULL));
    g_assert_true(g_file_set_contents(path, (const char *)packed->data, packed->len, NULL));
    const char *const argv[] = {zstd, "-dqc", path, NULL};
    g_autofree char *out = NULL;
    int status;
    g_assert_true(
        g_spawn_sync(NULL, (char **)(uintptr_t)argv, NULL, 0, NULL, NULL, &out, NULL, &status, NULL));
    g_assert_cmpint(status, ==, 0);
    /* g_spawn_sync() adds a zero behind what it read, which may have zeroes in it: lengths come from the
     * test. */
    g_assert_cmpint(memcmp(out, bytes->data, bytes->len), ==, 0);
    unlink(path);
    close(original);
    close(fd);
}

static bool opens_and_unpacks(int fd, const GByteArray *original)
{
    g_autoptr(GError) error = NULL;
    AUTO(packed) p = packed_open(fd, &error);
    if (!p) {
        g_assert_nonnull(error);
        return false;
    }
    g_assert_cmpuint(packed_size(p), <=, 16u << 20); /* no more than a table of this size can say */
    const int out = new_file("", 0);
    const bool good = packed_unpack(p, out, &plain, &error);
    g_assert_true(good == !error);
    if (good) {
        g_autoptr(GByteArray) got = contents(out);
        g_assert_cmpmem(got->data, got->len, original->data, original->len);
    }
    close(out);
    return good;
}

/* Each bit of a small file, and each length: refused, or the original. */
static void test_damage(void)
{
    uint8_t data[300];
    for (unsigned i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)(i * i >> 3);
    const int original = new_file(data, sizeof(data)), fd = pack(original);
    g_autoptr(GByteArray) bytes = contents(original), packed = contents(fd);
    unsigned good = 0;
    for (unsigned i = 0; i < packed->len * 8; i++) {
        packed->data[i / 8] ^= (uint8_t)(1 << i % 8);
        const int damaged = new_file(packed->data, packed->len);
        good += opens_and_unpacks(damaged, bytes);
        close(damaged);
        packed->data[i / 8] ^= (uint8_t)(1 << i % 8);
    }
    g_assert_cmpuint(good, <, 20); /* bits that mean nothing */
    for (unsigned size = 0; size < packed->len; size++) {
        const int cut = new_file(packed->data, size);
        g_assert_false(opens_and_unpacks(cut, bytes));
        close(cut);
    }
    g_byte_array_append(packed, data, 1);
    const int longer = new_file(packed->data, packed->len);
    g_assert_false(opens_and_unpacks(longer, bytes));
    close(longer);
    close(original);
    close(fd);
}

/* A table that says more than is there, or less, changes nothing but the error. */
static void test_table_lies(void)
{
    const int original = new_original(2 * PACKED_CHUNK), fd = pack(original);
    g_autoptr(GByteArray) bytes = contents(original), packed = contents(fd);
    static const uint32_t sizes[] = {
        0, 1, PACKED_CHUNK - 1, PACKED_CHUNK + 1, PACKED_CHUNK_MAX, PACKED_CHUNK_MAX + 1, UINT32_MAX};
    uint8_t *row = packed->data + packed->len - 9 - 16;
    for (unsigned field = 0; field < 16; field += 4)
        for (unsigned i = 0; i < G_N_ELEMENTS(sizes); i++) {
            const uint32_t before = ld32le(row + field);
            st32le(row + field, sizes[i]);
            const int lie = new_file(packed->data, packed->len);
            g_assert_false(opens_and_unpacks(lie, bytes));
            close(lie);
            st32le(row + field, before);
        }
    close(original);
    close(fd);
}

static void test_says_where(void)
{
    const int original = new_original(3 * PACKED_CHUNK), fd = pack(original);
    g_autoptr(GError) error = NULL, again = NULL;
    AUTO(packed) p = packed_open(fd, NULL);
    uint8_t byte;
    struct stat status;
    g_assert_cmpint(fstat(fd, &status), ==, 0);
    g_assert_cmpint(pread(fd, &byte, 1, status.st_size / 2), ==, 1);
    byte ^= 0x10;
    g_assert_cmpint(pwrite(fd, &byte, 1, status.st_size / 2), ==, 1);
    const int out = new_file("", 0);
    g_assert_false(packed_unpack(p, out, &plain, &error));
    g_assert_nonnull(strstr(error->message, "frame 1 of the compressed file is damaged, between bytes "));
    g_assert_cmpint(packed_read(p, &byte, 1, 0), ==, 0);
    g_assert_cmpint(packed_read(p, &byte, 1, PACKED_CHUNK), ==, -EILSEQ);
    g_assert_false(packed_fail(p, &again));
    g_assert_cmpstr(again->message, ==, error->message);
    close(original);
    close(out);
    close(fd);
}

static void test_stopped(void)
{
    static _Atomic bool stop = true;
    const struct packed_work stopped = {.threads = 4, .level = COMPRESS_LEVEL_DEFAULT, .stop = &stop};
    const int original = new_original(5 * PACKED_CHUNK), out = new_file("", 0);
    g_autoptr(GError) error = NULL;
    g_assert_false(packed_pack(original, out, &stopped, &error));
    g_assert_nonnull(strstr(error->message, "cancelled"));
    close(original);
    close(out);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    if (!packed_available()) {
        puts("1..0 # SKIP this Hostel was built without zstd");
        return 0;
    }
    g_test_add_func("/packed/round", test_round);
    g_test_add_func("/packed/holes", test_holes);
    g_test_add_func("/packed/read", test_read);
    g_test_add_func("/packed/others-read-it", test_others_read_it);
    g_test_add_func("/packed/damage", test_damage);
    g_test_add_func("/packed/table-lies", test_table_lies);
    g_test_add_func("/packed/says-where", test_says_where);
    g_test_add_func("/packed/stopped", test_stopped);
    return g_test_run();
}
