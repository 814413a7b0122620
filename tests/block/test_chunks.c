/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Compressed pieces that several threads read at once, more of them than are kept; and damaged ones. */
#include <errno.h>

#include "base/byteorder.h"
#include "codec/compress.h"
#include "rig.h"

enum { BLOCK = 4096, BLOCKS = 40, HEAD = 128, TABLE = HEAD + 8, SIZE = BLOCK * BLOCKS, BAD = 17 };

static void fill(uint8_t *bytes, unsigned block)
{
    for (unsigned i = 0; i < BLOCK; i++)
        bytes[i] = (uint8_t)(i / 9 * (block + 1) + block);
}

/* A cloop image; one block's bytes are none when it is to be damaged. */
static struct disk *make(bool damaged)
{
    g_autoptr(GError) error = NULL;
    uint8_t table[TABLE + (BLOCKS + 1) * 8] = {0}, bytes[BLOCK], packed[BLOCK * 2];
    int fd = rig_file(0);
    uint64_t at = sizeof(table);
    strcpy((char *)table,
           "#!/bin/sh\n#V2.0 Format\nmodprobe cloop file=$0 && mount -r -t iso9660 /dev/cloop $1\n");
    st32be(table + HEAD, BLOCK);
    st32be(table + HEAD + 4, BLOCKS);
    for (unsigned i = 0; i < BLOCKS; i++) {
        fill(bytes, i);
        const ssize_t got =
            compress_pack(COMPRESS_ZLIB, COMPRESS_LEVEL_DEFAULT, bytes, BLOCK, packed, sizeof(packed));
        g_assert_cmpint(got, >, 0);
        if (damaged && i == BAD)
            memset(packed, 0xff, (size_t)got);
        g_assert_cmpint(pwrite(fd, packed, (size_t)got, (off_t)at), ==, got);
        st64be(table + TABLE + (size_t)i * 8, at);
        at += (uint64_t)got;
    }
    st64be(table + TABLE + BLOCKS * 8, at);
    g_assert_cmpint(pwrite(fd, table, sizeof(table), 0), ==, sizeof(table));
    struct block_config config = {.name = "test", .fd = fd, .readonly = true};
    struct disk *b = block_open(block_driver_find("cloop"), &config, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(b->facts.size, ==, SIZE);
    return b;
}

struct reader {
    struct disk *disk;
    const uint8_t *want;
    unsigned seed;
    bool damaged;
};

static gpointer read_much(gpointer data)
{
    const struct reader *r = data;
    g_autoptr(GRand) rand = g_rand_new_with_seed(r->seed);
    for (unsigned i = 0; i < 4000; i++) {
        uint8_t bytes[3 * BLOCK];
        const uint32_t size = (uint32_t)g_rand_int_range(rand, 1, sizeof(bytes));
        const uint32_t at = (uint32_t)g_rand_int_range(rand, 0, SIZE - (gint32)size);
        const bool bad = r->damaged && at < (BAD + 1) * BLOCK && at + size > BAD * BLOCK;
        g_assert_cmpint(block_pread(r->disk, bytes, size, at), ==, bad ? -EIO : 0);
        g_assert_true(bad || !memcmp(bytes, r->want + at, size));
    }
    return NULL;
}

static void test_threads(gconstpointer damaged)
{
    AUTO(disk) b = make(damaged != NULL);
    g_autofree uint8_t *want = g_malloc(SIZE);
    struct reader readers[4];
    GThread *threads[4];
    for (unsigned i = 0; i < BLOCKS; i++)
        fill(want + (size_t)i * BLOCK, i);
    for (unsigned i = 0; i < 4; i++) {
        readers[i] = (struct reader){b, want, i, damaged != NULL};
        threads[i] = g_thread_new("reader", read_much, &readers[i]);
    }
    for (unsigned i = 0; i < 4; i++)
        g_thread_join(threads[i]);
}

static void test_nowait(void)
{
    AUTO(disk) b = make(false);
    uint8_t bytes[512];
    const struct iovec iov = {bytes, sizeof(bytes)};
    g_assert_cmpint(block_read(b, &iov, 1, 0, BLOCK_NOWAIT), ==, -EAGAIN);
    g_assert_cmpint(block_pwrite(b, bytes, sizeof(bytes), 0), ==, -EROFS);
    g_assert_cmpint(block_flush(b), ==, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_data_func("/chunks/threads", NULL, test_threads);
    g_test_add_data_func("/chunks/damaged", "damaged", test_threads);
    g_test_add_func("/chunks/nowait", test_nowait);
    return g_test_run();
}
