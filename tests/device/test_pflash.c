/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* A bank of flash by register access: its commands against Intel's data sheet, its memory, its file. */
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/error.h"
#include "device/pflash.h"
#include "fake.h"

#define SECTOR (256 * KiB)
#define BASE 0x20000000
enum { BUFFER = 4096, READY = 0x800080 };

struct bench {
    struct mem *mem;
    struct device *d;
    int file; /* our own descriptor of the bank's file; -1 */
};

static void up_without_file(struct bench *b)
{
    struct device_wires wires = {.name = "flash0"};
    *b = (struct bench){.mem = mem_new(), .file = -1};
    b->d = device_new(device_type_find("pflash"), &wires, NULL, NULL);
    g_assert_true(pflash_place(b->d, b->mem, GPA(BASE), NULL));
}

/* With a file of these bytes; mode as in open(). */
static void up(struct bench *b, const void *bytes, size_t size, int mode)
{
    GError *error = NULL;
    up_without_file(b);
    b->file = memfd_create("flash", MFD_CLOEXEC);
    g_assert_cmpint(write(b->file, bytes, size), ==, size);
    g_autofree char *path = g_strdup_printf("/proc/self/fd/%d", b->file);
    g_assert_true(pflash_load(b->d, open(path, mode | O_CLOEXEC), mode == O_RDONLY, &error));
    g_assert_no_error(error);
}

static void down(struct bench *b)
{
    device_free(b->d);
    mem_free(b->mem);
    if (b->file >= 0)
        close(b->file);
}

static void command(struct bench *b, uint64_t at, uint32_t c)
{
    wr(b->d, at, 4, c | c << 16);
}

static uint64_t status(struct bench *b)
{
    command(b, 0, 0x70);
    return rd(b->d, 0, 4);
}

static void program(struct bench *b, uint64_t at, uint32_t value)
{
    command(b, at, 0x40);
    wr(b->d, at, 4, value);
}

static void erase(struct bench *b, uint64_t at)
{
    command(b, at, 0x20);
    command(b, at, 0xd0);
}

/* What a guest that loads finds: the memory's bytes, or nothing when the chip answers. */
static bool is_shown(const struct bench *b)
{
    return !mem_is_chip(mem_find(b->mem, GPA(BASE)), false);
}

static uint32_t shown(const struct bench *b, uint64_t at)
{
    uint32_t v = 0;
    g_assert_true(is_shown(b));
    g_assert_cmpint(mem_read(b->mem, GPA(BASE + at), &v, 4), ==, 0);
    return GUINT32_FROM_LE(v);
}

static uint64_t file_size(const struct bench *b)
{
    return (uint64_t)lseek(b->file, 0, SEEK_END);
}

static uint32_t filed(const struct bench *b, uint64_t at)
{
    uint32_t v = 0;
    g_assert_cmpint(pread(b->file, &v, 4, (off_t)at), ==, 4);
    return GUINT32_FROM_LE(v);
}

/* --- contents --- */

static void test_blank_is_untouched(void)
{
    struct bench b;
    unsigned char resident[2] = {1, 1};
    up_without_file(&b);
    g_assert_false(is_shown(&b));
    g_assert_cmphex(rd(b.d, 0, 8), ==, UINT64_MAX);
    g_assert_cmphex(rd(b.d, PFLASH_SIZE - 1, 1), ==, 0xff);
    erase(&b, 0);
    g_assert_cmphex(status(&b), ==, READY);
    command(&b, 0, 0xff);
    g_assert_false(is_shown(&b));
    const void *host = mem_find(b.mem, GPA(BASE))->host;
    g_assert_cmpint(mincore((void *)(uintptr_t)host, 8192, resident), ==, 0);
    g_assert_cmpint(resident[0] & 1, ==, 0);
    g_autofree uint8_t *dirty = g_malloc(PFLASH_SIZE / MEM_PAGE_SIZE / 8);
    mem_log_start(b.mem);
    program(&b, SECTOR, 0x12345678);
    mem_log_take(b.mem, mem_find(b.mem, GPA(BASE)), dirty);
    for (unsigned i = 0; i < PFLASH_SIZE / MEM_PAGE_SIZE / 8; i++)
        g_assert_cmphex(dirty[i], ==, 0xff); /* zeros became ones everywhere */
    command(&b, 0, 0xff);
    g_assert_cmphex(shown(&b, SECTOR), ==, 0x12345678);
    g_assert_cmphex(shown(&b, SECTOR - 4), ==, UINT32_MAX);
    device_reset(b.d);
    g_assert_cmphex(shown(&b, SECTOR), ==, 0x12345678);
    down(&b);
}

static void test_hidden_unless_contents_are_read(void)
{
    static const uint8_t leave[] = {0x10, 0x20, 0x40, 0x60, 0x70, 0x90, 0x98, 0xe8};
    struct bench b;
    up(&b, "abcd", 4, O_RDWR);
    for (unsigned i = 0; i < G_N_ELEMENTS(leave); i++) {
        g_assert_cmphex(shown(&b, 0), ==, 0x64636261);
        command(&b, 0, leave[i]);
        g_assert_false(is_shown(&b));
        /* To 0x40 the first is a datum that programs nothing, to 0xe8 a count that is too large. */
        wr(b.d, 0, 4, UINT32_MAX);
        wr(b.d, 0, 4, UINT32_MAX);
    }
    g_assert_cmphex(shown(&b, 4), ==, UINT32_MAX);
    down(&b);
}

static void test_wide_access_is_two(void)
{
    struct bench b;
    up(&b, "", 0, O_RDWR);
    wr(b.d, 0x100, 8, UINT64_C(0x1122334400400040)); /* command and datum */
    command(&b, 0, 0xff);
    g_assert_cmphex(shown(&b, 0x104), ==, 0x11223344);
    g_assert_cmphex(rd(b.d, 0x100, 8), ==, UINT64_C(0x11223344ffffffff));
    down(&b);
}

/* --- the file --- */

static void test_file_follows(void)
{
    struct bench b;
    up(&b, "0123456789", 10, O_RDWR);
    program(&b, 2 * SECTOR, 0x0badcafe);
    g_assert_cmpuint(file_size(&b), ==, 2 * SECTOR + 4);
    g_assert_cmphex(filed(&b, 2 * SECTOR), ==, 0x0badcafe);
    g_assert_cmphex(filed(&b, 2 * SECTOR - 4), ==, UINT32_MAX);
    g_assert_cmphex(filed(&b, 0), ==, 0x33323130);
    g_assert_cmphex(filed(&b, 8), ==, 0xffff3938);
    g_assert_cmphex(status(&b), ==, READY);
    erase(&b, 0x1000);
    g_assert_cmphex(filed(&b, 0), ==, UINT32_MAX);
    g_assert_cmphex(filed(&b, 2 * SECTOR), ==, 0x0badcafe);
    down(&b);
}

static void test_readonly_file(void)
{
    struct bench b;
    up(&b, "0123", 4, O_RDONLY);
    program(&b, 0, 0);
    g_assert_cmphex(status(&b), ==, 0x920092);
    command(&b, 0, 0x50);
    erase(&b, 0);
    g_assert_cmphex(status(&b), ==, 0xa200a2);
    command(&b, 0, 0xff);
    g_assert_cmphex(shown(&b, 0), ==, 0x33323130);
    g_assert_cmpuint(file_size(&b), ==, 4);
    down(&b);
}

/* A host that fails is told of by the status. The guest goes on. */
static void test_host_fails(void)
{
    struct bench b;
    GError *error = NULL;
    up_without_file(&b);
    int fd = memfd_create("flash", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    g_assert_cmpint(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW), ==, 0);
    g_assert_true(pflash_load(b.d, fd, false, &error));
    g_assert_no_error(error);
    program(&b, 0, 0);
    g_assert_cmphex(status(&b), ==, 0x900090);
    command(&b, 0, 0x50);
    g_assert_cmphex(status(&b), ==, READY);
    erase(&b, 0);
    g_assert_cmphex(status(&b), ==, 0xa000a0);
    down(&b);
}

static void test_file_too_large(void)
{
    struct bench b;
    GError *error = NULL;
    up_without_file(&b);
    int fd = memfd_create("flash", MFD_CLOEXEC);
    g_assert_cmpint(ftruncate(fd, PFLASH_SIZE + 1), ==, 0);
    g_assert_false(pflash_load(b.d, fd, false, &error));
    g_assert_error(error, HOSTEL_ERROR, HOSTEL_ERROR_INPUT);
    g_clear_error(&error);
    down(&b);
}

/* --- commands --- */

static void test_buffer(void)
{
    struct bench b;
    up(&b, "", 0, O_RDWR);
    command(&b, 2 * BUFFER, 0xe8);
    g_assert_cmphex(rd(b.d, 0, 4), ==, READY);
    command(&b, 2 * BUFFER, 1);
    wr(b.d, 2 * BUFFER + 8, 4, 0x01020304); /* any order */
    wr(b.d, 2 * BUFFER, 4, 0x05060708);
    g_assert_cmpuint(file_size(&b), ==, 0); /* nothing before the confirmation */
    command(&b, 2 * BUFFER, 0xd0);
    g_assert_cmphex(status(&b), ==, READY);
    command(&b, 0, 0xff);
    g_assert_cmphex(shown(&b, 2 * BUFFER), ==, 0x05060708);
    g_assert_cmphex(shown(&b, 2 * BUFFER + 4), ==, UINT32_MAX);
    g_assert_cmphex(shown(&b, 2 * BUFFER + 8), ==, 0x01020304);
    /* One datum more than a buffer holds. */
    command(&b, 0, 0xe8);
    command(&b, 0, BUFFER / 4);
    g_assert_cmphex(status(&b), ==, 0xb000b0);
    command(&b, 0, 0x50);
    /* Left without a confirmation: nothing is programmed. */
    command(&b, 0, 0xe8);
    command(&b, 0, 0);
    wr(b.d, 0, 4, 0);
    command(&b, 0, 0xff);
    g_assert_cmphex(shown(&b, 0), ==, UINT32_MAX);
    down(&b);
}

static void test_narrow_bus(void)
{
    struct bench b;
    up(&b, "", 0, O_RDWR);
    wr(b.d, 2, 2, 0x40); /* as a driver that thinks of one chip */
    wr(b.d, 2, 2, 0xabcd);
    wr(b.d, 0, 1, 0x40);
    wr(b.d, 1, 1, 0x12);
    g_assert_cmphex(rd(b.d, 7, 1), ==, 0x80);
    g_assert_cmphex(rd(b.d, 6, 2), ==, 0x80);
    wr(b.d, 0, 1, 0xff);
    g_assert_cmphex(shown(&b, 0), ==, 0xabcd12ff);
    down(&b);
}

static void test_locks_go_with_the_power(void)
{
    struct bench b;
    up(&b, "", 0, O_RDWR);
    command(&b, 5 * SECTOR, 0x60);
    command(&b, 5 * SECTOR, 0x01);
    command(&b, 0, 0x90);
    g_assert_cmphex(rd(b.d, 5 * SECTOR + 8, 4), ==, 0x10001);
    g_assert_cmphex(rd(b.d, 4 * SECTOR + 8, 4), ==, 0);
    program(&b, 5 * SECTOR, 0);
    g_assert_cmphex(rd(b.d, 0, 4), ==, 0x920092);
    device_reset(b.d);
    program(&b, 5 * SECTOR, 0);
    g_assert_cmphex(rd(b.d, 0, 4), ==, READY);
    down(&b);
}

/* State of a bank in the middle of something, taken over by another one. */
static void test_state_goes_on(void)
{
    struct bench a, b;
    up(&a, "", 0, O_RDWR);
    up(&b, "", 0, O_RDWR);
    command(&a, 0, 0xe8);
    command(&a, 0, 1);
    wr(a.d, 0, 4, 0x11111111);
    g_autofree uint8_t *state = g_malloc(device_state_size(a.d->type));
    device_state_save(a.d, state);
    g_assert_true(device_state_load(b.d, state));
    g_assert_false(is_shown(&b));
    wr(b.d, 4, 4, 0x22222222);
    command(&b, 0, 0xd0);
    command(&b, 0, 0xff);
    g_assert_cmphex(shown(&b, 0), ==, 0x11111111);
    g_assert_cmphex(shown(&b, 4), ==, 0x22222222);
    down(&a);
    down(&b);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/pflash/blank-is-untouched", test_blank_is_untouched);
    g_test_add_func("/pflash/hidden", test_hidden_unless_contents_are_read);
    g_test_add_func("/pflash/wide", test_wide_access_is_two);
    g_test_add_func("/pflash/file", test_file_follows);
    g_test_add_func("/pflash/readonly", test_readonly_file);
    g_test_add_func("/pflash/host-fails", test_host_fails);
    g_test_add_func("/pflash/too-large", test_file_too_large);
    g_test_add_func("/pflash/buffer", test_buffer);
    g_test_add_func("/pflash/narrow", test_narrow_bus);
    g_test_add_func("/pflash/locks", test_locks_go_with_the_power);
    g_test_add_func("/pflash/state", test_state_goes_on);
    return g_test_run();
}
