/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Runs in a guest: threads that write, read, zero and discard a disk at random, each in a part of its own,
 * and check every byte they read. */
/*
 *     diskload DISK TABLE THREADS OPERATIONS SEED
 *
 * Each block of 4 KiB holds its number and how often it was written, over and over, or zeroes. In the end the
 * table, a number for each block, is written to TABLE, for whoever looks at the disk from outside.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { BLOCK = 4096, MOST = 48 /* blocks in one operation */, ZERO = 0, ANYTHING = -1 };

static const char *disk;
static int32_t *table; /* times written, ZERO or ANYTHING */
static uint64_t blocks, threads, operations, seed;

static void fail(const char *what)
{
    printf("diskload: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint64_t next(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static uint64_t word_of(uint64_t block)
{
    return table[block] == ZERO ? 0 : (uint64_t)block << 32 | (uint32_t)table[block];
}

static void fill(uint64_t *bytes, uint64_t first, uint64_t n)
{
    for (uint64_t b = 0; b < n; b++)
        for (uint64_t i = 0; i < BLOCK / 8; i++)
            *bytes++ = word_of(first + b);
}

static void check(const uint64_t *bytes, uint64_t first, uint64_t n)
{
    for (uint64_t b = 0; b < n; b++, bytes += BLOCK / 8)
        for (uint64_t i = 0; i < BLOCK / 8 && table[first + b] != ANYTHING; i++)
            if (bytes[i] != word_of(first + b)) {
                printf("diskload: block %llu word %llu is %016llx, not %016llx\n",
                       (unsigned long long)(first + b), (unsigned long long)i, (unsigned long long)bytes[i],
                       (unsigned long long)word_of(first + b));
                exit(1);
            }
}

static void change(int fd, unsigned long request, uint64_t first, uint64_t n, int32_t value)
{
    uint64_t range[2] = {first * BLOCK, n * BLOCK};
    if (ioctl(fd, request, range))
        fail(request == BLKDISCARD ? "discard" : "zero");
    for (uint64_t b = 0; b < n; b++)
        table[first + b] = value;
}

static void operate(int fd, uint64_t *state, uint64_t *bytes, uint64_t start, uint64_t room)
{
    const uint64_t n = 1 + next(state) % (next(state) % 2 ? MOST : 4),
                   first = start + next(state) % (room - n);
    switch (next(state) % 16) {
    case 0: change(fd, BLKDISCARD, first, n, ANYTHING); break;
    case 1: change(fd, BLKZEROOUT, first, n, ZERO); break;
    case 2:
        if (fdatasync(fd))
            fail("fdatasync");
        break;
    case 3:
    case 4:
    case 5:
    case 6:
    case 7:
    case 8:
        for (uint64_t b = 0; b < n; b++)
            table[first + b] = table[first + b] == ANYTHING ? 1 : table[first + b] + 1;
        fill(bytes, first, n);
        if (pwrite(fd, bytes, n * BLOCK, (off_t)(first * BLOCK)) != (ssize_t)(n * BLOCK))
            fail("write");
        break;
    default:
        if (pread(fd, bytes, n * BLOCK, (off_t)(first * BLOCK)) != (ssize_t)(n * BLOCK))
            fail("read");
        check(bytes, first, n);
    }
}

static void *work(void *number)
{
    const uint64_t room = blocks / threads, start = (uint64_t)(uintptr_t)number * room;
    uint64_t state = seed * 1000 + (uint64_t)(uintptr_t)number + 1;
    uint64_t *bytes = aligned_alloc(BLOCK, MOST * BLOCK);
    int fd = open(disk, O_RDWR | O_DIRECT);
    if (fd < 0 || !bytes)
        fail(disk);
    for (uint64_t i = 0; i < operations; i++)
        operate(fd, &state, bytes, start, room);
    if (fsync(fd))
        fail("fsync");
    close(fd);
    free(bytes);
    return NULL;
}

/* Read back through the page cache. */
static void check_all(int fd)
{
    static uint64_t bytes[BLOCK / 8];
    for (uint64_t b = 0; b < blocks; b++) {
        if (pread(fd, bytes, BLOCK, (off_t)(b * BLOCK)) != BLOCK)
            fail("read");
        check(bytes, b, 1);
    }
}

int main(int argc, char **argv)
{
    pthread_t thread[64];
    if (argc != 6)
        return 2;
    disk = argv[1];
    threads = strtoull(argv[3], NULL, 10);
    operations = strtoull(argv[4], NULL, 10);
    seed = strtoull(argv[5], NULL, 10);
    int fd = open(disk, O_RDWR), out = open(argv[2], O_WRONLY);
    if (fd < 0 || out < 0)
        fail("open");
    blocks = (uint64_t)lseek(fd, 0, SEEK_END) / BLOCK;
    table = calloc(blocks, sizeof(*table));
    for (uint64_t i = 0; i < threads; i++)
        if (pthread_create(&thread[i], NULL, work, (void *)(uintptr_t)i))
            fail("pthread_create");
    for (uint64_t i = 0; i < threads; i++)
        pthread_join(thread[i], NULL);
    check_all(fd);
    if (write(out, table, blocks * sizeof(*table)) != (ssize_t)(blocks * sizeof(*table)) || fsync(out))
        fail("table");
    puts("diskload: all is as it should be");
    return 0;
}
