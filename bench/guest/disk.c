/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Reads and writes of the disk /dev/vda, as programs do them and past the guest's page cache. */
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "suite.h"

#define DISK "/dev/vda"
#define MIB (1u << 20)
#define PAGE 4096u
#define DEPTH 16u /* requests at once */

/* What is used of the disk: the last quarter is for writes, which must not change what reads find. */
static struct {
    int fd;
    uint64_t readable, writable, at; /* bytes; the writable part is behind the readable one */
    uint8_t *buffer;                 /* of 1 MiB */
    uint64_t random;
    aio_context_t aio;
} disk;

static void open_disk(int flags)
{
    disk.fd = open(DISK, O_RDWR | O_CLOEXEC | flags);
    off_t size = disk.fd < 0 ? -1 : lseek(disk.fd, 0, SEEK_END);
    if (size < 0)
        suite_fail(DISK);
    disk.readable = (uint64_t)size / 4 * 3 / MIB * MIB;
    disk.writable = (uint64_t)size - disk.readable;
    disk.buffer = suite_memory(MIB);
}

static void begin_direct(void)
{
    open_disk(O_DIRECT);
}

static void begin_cached(void)
{
    open_disk(0);
}

static void begin_many(void)
{
    open_disk(O_DIRECT);
    disk.aio = 0;
    if (syscall(SYS_io_setup, DEPTH, &disk.aio))
        suite_fail("io_setup");
}

static void end(void)
{
    close(disk.fd);
}

static void end_many(void)
{
    syscall(SYS_io_destroy, disk.aio);
    close(disk.fd);
}

static uint64_t fold(uint64_t sum, const uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size; i += PAGE) {
        uint64_t word;
        memcpy(&word, bytes + i, sizeof(word));
        sum = mix(sum, word);
    }
    return sum;
}

static void read_at(uint64_t offset, size_t size)
{
    if (pread(disk.fd, disk.buffer, size, (off_t)offset) != (ssize_t)size)
        suite_fail("read " DISK);
}

/* One MiB after the other; a reader that comes to the end begins again, with nothing in the guest's memory.
 */
static uint64_t run_sequential(uint64_t steps)
{
    uint64_t sum = 0;
    for (uint64_t i = 0; i < steps; i++) {
        if (disk.at + MIB > disk.readable) {
            disk.at = 0;
            if (ioctl(disk.fd, BLKFLSBUF, 0))
                suite_fail("BLKFLSBUF");
        }
        read_at(disk.at, MIB);
        disk.at += MIB;
        sum = fold(sum, disk.buffer, MIB);
    }
    return sum;
}

static uint64_t run_first(uint64_t steps)
{
    if (steps == 2) { /* the check sum: from the beginning */
        disk.at = 0;
        ioctl(disk.fd, BLKFLSBUF, 0);
    }
    return run_sequential(steps);
}

static uint64_t random_page(void)
{
    return rng_next(&disk.random) % (disk.readable / PAGE) * PAGE;
}

static uint64_t run_random(uint64_t steps)
{
    uint64_t sum = 0;
    disk.random = steps == 2 ? 1 : disk.random;
    for (uint64_t i = 0; i < steps; i++) {
        read_at(random_page(), PAGE);
        sum = fold(sum, disk.buffer, PAGE);
    }
    return sum;
}

/* DEPTH at once, then all of them awaited. */
static uint64_t run_many(uint64_t steps)
{
    uint64_t sum = 0;
    disk.random = steps == 2 ? 1 : disk.random;
    for (uint64_t i = 0; i < steps; i++) {
        struct iocb requests[DEPTH], *list[DEPTH];
        struct io_event events[DEPTH];
        memset(requests, 0, sizeof(requests));
        for (unsigned k = 0; k < DEPTH; k++) {
            requests[k].aio_lio_opcode = IOCB_CMD_PREAD;
            requests[k].aio_fildes = (uint32_t)disk.fd;
            requests[k].aio_buf = (uint64_t)(uintptr_t)(disk.buffer + k * PAGE);
            requests[k].aio_nbytes = PAGE;
            requests[k].aio_offset = (int64_t)random_page();
            list[k] = &requests[k];
        }
        if (syscall(SYS_io_submit, disk.aio, DEPTH, list) != DEPTH ||
            syscall(SYS_io_getevents, disk.aio, DEPTH, DEPTH, events, NULL) != DEPTH)
            suite_fail("io_submit");
        sum = fold(sum, disk.buffer, (size_t)DEPTH * PAGE);
    }
    return sum;
}

static uint64_t run_write(uint64_t steps, size_t size)
{
    for (uint64_t i = 0; i < steps; i++) {
        if (disk.at + size > disk.writable)
            disk.at = 0;
        if (pwrite(disk.fd, disk.buffer, size, (off_t)(disk.readable + disk.at)) != (ssize_t)size)
            suite_fail("write " DISK);
        disk.at += size;
    }
    return steps;
}

static uint64_t run_write_sequential(uint64_t steps)
{
    return run_write(steps, MIB);
}

static uint64_t run_write_page(uint64_t steps)
{
    return run_write(steps, PAGE);
}

const struct program disk_programs[] = {
    {"disk/read", "MiB", 1, 0, begin_cached, run_first, end},
    {"disk/read_direct", "MiB", 1, 0, begin_direct, run_first, end},
    {"disk/read_4k", "read", 1, 0, begin_direct, run_random, end},
    {"disk/read_4k_16", "read", DEPTH, 0, begin_many, run_many, end_many},
    {"disk/write_direct", "MiB", 1, 0, begin_direct, run_write_sequential, end},
    {"disk/write_4k", "write", 1, 0, begin_direct, run_write_page, end},
    {0},
};
