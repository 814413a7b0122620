/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Copies by several threads: equal to the source whatever is zero, and honest about what fails. */
#include "block/copy.h"

#include <errno.h>

#include "base/bits.h"
#include "block/filter/fault.h"
#include "rig.h"

enum { SIZE = 9 * 1024 * 1024 + 1536 };

static struct disk *memory(uint64_t size)
{
    struct block_config config = {.name = "memory", .fd = -1, .size = size};
    return block_open(block_driver_find("memory"), &config, NULL);
}

static struct disk *file(uint64_t size)
{
    struct block_config config = {.name = "file", .fd = rig_file(size)};
    return block_open(block_driver_find("file"), &config, NULL);
}

/* Runs of bytes and of zeroes, from one byte to 300 KiB long. */
static void scribble(struct disk *b, uint64_t size, bool holes)
{
    g_autofree uint8_t *bytes = g_malloc(512 * KiB);
    for (uint64_t at = 0; at < size;) {
        const uint64_t length = (uint64_t)g_test_rand_int_range(1, 300 * 1024), now = MIN(size - at, length);
        const bool zero = g_test_rand_bit();
        for (uint64_t i = 0; i < now; i++)
            bytes[i] = zero ? 0 : (uint8_t)g_test_rand_int_range(1, 256);
        if (!zero || !holes)
            g_assert_cmpint(block_pwrite(b, bytes, now, at), ==, 0);
        at += now;
    }
}

static uint8_t *contents(struct disk *b, uint64_t at, uint64_t size)
{
    uint8_t *bytes = g_malloc(size);
    g_assert_cmpint(block_pread(b, bytes, size, at), ==, 0);
    return bytes;
}

static void assert_same(struct disk *a, uint64_t from, struct disk *b, uint64_t to, uint64_t size)
{
    g_autofree uint8_t *one = contents(a, from, size), *two = contents(b, to, size);
    g_assert_cmpmem(one, size, two, size);
}

static void test_zero(void)
{
    static uint8_t bytes[3000];
    g_assert_true(block_is_zero(bytes, 0));
    for (size_t start = 0; start < 70; start++) {
        g_assert_true(block_is_zero(bytes + start, sizeof(bytes) - start));
        for (size_t at = start; at < sizeof(bytes); at += 97) {
            bytes[at] = 0x80;
            g_assert_false(block_is_zero(bytes + start, sizeof(bytes) - start));
            g_assert_true(block_is_zero(bytes + start, at - start));
            bytes[at] = 0;
        }
    }
}

/* Onto a disk full of other bytes; and onto an empty one, which is left alone where zeroes are. */
static void test_equal(void)
{
    for (unsigned round = 0; round < 8; round++) {
        AUTO(disk) source = round & 1 ? file(SIZE) : memory(SIZE);
        AUTO(disk) target = round & 2 ? file(SIZE) : memory(SIZE);
        scribble(source, SIZE, round & 1);
        if (!(round & 4))
            scribble(target, SIZE, false);
        struct block_copy copy = {
            .source = source,
            .target = target,
            .size = SIZE,
            .threads = round + 1,
            .sparse = round == 3 ? 0 : BLOCK_COPY_SPARSE,
            .target_zero = round & 4,
        };
        g_assert_cmpint(block_copy(&copy), ==, 0);
        assert_same(source, 0, target, 0, SIZE);
        g_assert_cmpuint(copy.written, >, 0);
        g_assert_cmpuint(copy.written, <=, SIZE);
    }
}

/* A part, to another place; what is around it stays. */
static void test_part(void)
{
    AUTO(disk) source = memory(SIZE);
    AUTO(disk) target = memory(SIZE);
    scribble(source, SIZE, false);
    scribble(target, SIZE, false);
    const uint64_t from = 1234567, to = 256 * KiB, size = 3 * MiB + 777;
    g_autofree uint8_t *before = contents(target, 0, SIZE);
    struct block_copy copy = {.source = source,
                              .target = target,
                              .from = from,
                              .to = to,
                              .size = size,
                              .sparse = BLOCK_COPY_SPARSE};
    g_assert_cmpint(block_copy(&copy), ==, 0);
    assert_same(source, from, target, to, size);
    g_autofree uint8_t *after = contents(target, 0, SIZE);
    g_assert_cmpmem(before, to, after, to);
    g_assert_cmpmem(before + to + size, SIZE - to - size, after + to + size, SIZE - to - size);
}

/* Zeroes take no room of the target's, written ones no more than holes. */
static void test_sparse(void)
{
    AUTO(disk) source = memory(SIZE);
    AUTO(disk) target = file(SIZE);
    static const uint8_t word[] = "word";
    g_assert_cmpint(block_pwrite(source, word, sizeof(word), 5 * MiB), ==, 0);
    struct block_copy copy = {
        .source = source, .target = target, .size = SIZE, .sparse = BLOCK_COPY_SPARSE, .target_zero = true};
    g_assert_cmpint(block_copy(&copy), ==, 0);
    g_assert_cmpuint(copy.written, ==, BLOCK_COPY_SPARSE);
    copy.sparse = 0;
    g_assert_cmpint(block_copy(&copy), ==, 0);
    g_assert_cmpuint(copy.written, ==, SIZE);
}

/* Reads and writes that fail at every index: told, with the place; and nothing goes on behind it for long. */
static void test_faults(void)
{
    for (unsigned kind = 0; kind < 2; kind++) {
        for (unsigned index = 0; index < 9; index++) {
            struct disk *under_source = memory(SIZE), *under_target = memory(SIZE);
            scribble(under_source, SIZE, false);
            AUTO(disk) source = block_fault_new(under_source);
            AUTO(disk) target = block_fault_new(under_target);
            block_fault_set(kind ? target : source, kind ? BLOCK_FAULT_WRITE : BLOCK_FAULT_READ, index, 1,
                            -ENOSPC, 0);
            struct block_copy copy = {.source = source, .target = target, .size = SIZE, .threads = 3};
            g_assert_cmpint(block_copy(&copy), ==, -ENOSPC);
            g_assert_cmpint(copy.failed_reading, ==, !kind);
            g_assert_cmpuint(copy.failed_at, <, SIZE);
        }
    }
}

/* What cannot be read is zero with salvage, and only that. */
static void test_salvage(void)
{
    struct disk *under = memory(SIZE);
    AUTO(disk) target = memory(SIZE);
    scribble(under, SIZE, false);
    g_autofree uint8_t *want = contents(under, 0, SIZE);
    AUTO(disk) source = block_fault_new(under);
    /* The first chunk, then two of its sectors. */
    block_fault_set(source, BLOCK_FAULT_READ, 0, 3, -EIO, 0);
    struct block_copy copy = {
        .source = source, .target = target, .size = SIZE, .threads = 1, .salvage = true};
    g_assert_cmpint(block_copy(&copy), ==, 0);
    g_assert_cmpuint(copy.unread, ==, 2 * BLOCK_SECTOR);
    memset(want, 0, 2 * BLOCK_SECTOR);
    g_autofree uint8_t *have = contents(target, 0, SIZE);
    g_assert_cmpmem(have, SIZE, want, SIZE);
}

/* Not faster than it may: a lower bound on the time, whatever the host does meanwhile. */
static void test_rate(void)
{
    AUTO(disk) source = memory(SIZE);
    AUTO(disk) target = memory(SIZE);
    scribble(source, SIZE, false);
    const int64_t began = g_get_monotonic_time();
    struct block_copy copy = {
        .source = source, .target = target, .size = SIZE, .threads = 4, .rate = 36 * MiB};
    g_assert_cmpint(block_copy(&copy), ==, 0);
    assert_same(source, 0, target, 0, SIZE);
    g_assert_cmpint(g_get_monotonic_time() - began, >, 100000);
}

static void stop_soon(void *opaque, uint64_t done)
{
    (void)done;
    atomic_store((_Atomic bool *)opaque, true);
}

static void test_stop(void)
{
    AUTO(disk) source = memory(SIZE);
    AUTO(disk) target = memory(SIZE);
    _Atomic bool stop = true;
    struct block_copy copy = {.source = source, .target = target, .size = SIZE, .stop = &stop};
    g_assert_cmpint(block_copy(&copy), ==, -ECANCELED);

    /* While reads wait, the one who watches is called, and says stop. */
    stop = false;
    AUTO(disk) gated = block_fault_new(STEAL(source));
    block_fault_gate(gated, true);
    copy = (struct block_copy){.source = gated,
                               .target = target,
                               .size = SIZE,
                               .stop = &stop,
                               .progress = stop_soon,
                               .opaque = &stop};
    block_fault_gate(gated, false);
    g_assert_cmpint(block_copy(&copy), <=, 0);
    g_assert_true(stop);
}

/* Onto and from an image of a format, compressed where it can. */
static void to_format(gconstpointer name)
{
    const struct block_driver *driver = block_driver_find(name);
    for (unsigned compress = 0; compress < (driver->write_compressed ? 2 : 1); compress++) {
        const uint64_t size = 4 * MiB + 512;
        AUTO(disk) source = memory(size);
        scribble(source, size, false);
        int fd = rig_file(0);
        rig_create(driver, fd, size);
        struct block_config config = {.name = name, .fd = fd, .key = rig_key, .key_size = sizeof(rig_key)};
        g_autoptr(GError) error = NULL;
        AUTO(disk) target = block_open(driver, &config, &error);
        g_assert_no_error(error);
        struct block_copy copy = {.source = source,
                                  .target = target,
                                  .size = size,
                                  .threads = 4,
                                  .sparse = BLOCK_COPY_SPARSE,
                                  .target_zero = true,
                                  .compress = compress};
        int status = block_copy(&copy);
        if (compress && status == -EOPNOTSUPP) /* vmdk: only its streams are compressed */
            continue;
        g_assert_cmpint(status, ==, 0);
        g_assert_cmpint(block_seal(target), ==, 0);
        g_assert_cmpint(block_flush(target), ==, 0);
        assert_same(source, 0, target, 0, size);
        AUTO(disk) back = memory(size);
        copy = (struct block_copy){
            .source = target, .target = back, .size = size, .threads = 4, .sparse = 65536};
        g_assert_cmpint(block_copy(&copy), ==, 0);
        assert_same(source, 0, back, 0, size);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/copy/zero", test_zero);
    g_test_add_func("/copy/equal", test_equal);
    g_test_add_func("/copy/part", test_part);
    g_test_add_func("/copy/sparse", test_sparse);
    g_test_add_func("/copy/faults", test_faults);
    g_test_add_func("/copy/salvage", test_salvage);
    g_test_add_func("/copy/rate", test_rate);
    g_test_add_func("/copy/stop", test_stop);
    static const char *const formats[] = {"qcow2", "vdi", "vmdk", "vhdx", "parallels", "qed"};
    for (unsigned i = 0; i < ARRAY_SIZE(formats); i++) {
        if (!block_driver_find(formats[i]))
            continue;
        g_autofree char *path = g_strdup_printf("/copy/format/%s", formats[i]);
        g_test_add_data_func(path, formats[i], to_format);
    }
    return g_test_run();
}
