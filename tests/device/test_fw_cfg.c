/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* fw_cfg by register access: files and their directory, DMA at the edges of memory. */
#include <sys/mman.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/byteorder.h"
#include "base/error.h"
#include "device/fw_cfg.h"
#include "fake.h"
#include "mem/mem.h"

#define RAM 0x80000000
#define RAM_SIZE (64 * KiB)
#define ROM 0x1000
enum { DATA = 0, SELECTOR = 8, DMA = 16 };
enum { ERROR = 1, READ = 2, SKIP = 4, SELECT = 8, WRITE = 16 };

struct bench {
    struct mem *mem;
    struct device *d;
};

static void up(struct bench *b)
{
    b->mem = mem_new();
    g_assert_nonnull(mem_add(b->mem, "ram", GPA(RAM), RAM_SIZE, false, NULL));
    g_assert_nonnull(mem_add(b->mem, "rom", GPA(ROM), MEM_PAGE_SIZE, true, NULL));
    struct device_wires wires = {.name = "fw_cfg", .mem = b->mem};
    b->d = device_new(device_type_find("fw-cfg"), &wires, NULL, NULL);
}

static void down(struct bench *b)
{
    device_free(b->d);
    mem_free(b->mem);
}

static void choose(struct bench *b, uint16_t key)
{
    wr(b->d, SELECTOR, 2, GUINT16_SWAP_LE_BE(key));
}

static void check_bytes(struct bench *b, uint16_t key, const void *bytes, size_t size)
{
    const uint8_t *want = bytes;
    choose(b, key);
    for (size_t i = 0; i < size; i++)
        g_assert_cmphex(rd(b->d, DATA, 1), ==, want[i]);
    g_assert_cmphex(rd(b->d, DATA, 8), ==, 0);
}

/* Puts a request at `at`, starts it, and gives its control word. */
static uint32_t dma_at(struct bench *b, uint64_t at, uint32_t control, uint32_t length, uint64_t address)
{
    uint8_t request[16];
    st32be(request, control);
    st32be(request + 4, length);
    st64be(request + 8, address);
    g_assert_cmpint(mem_write(b->mem, GPA(at), request, sizeof(request)), ==, 0);
    wr(b->d, DMA, 8, GUINT64_SWAP_LE_BE(at));
    g_assert_cmpint(mem_read(b->mem, GPA(at), request, sizeof(request)), ==, 0);
    return ld32be(request);
}

static uint32_t dma(struct bench *b, uint32_t control, uint32_t length, uint64_t address)
{
    return dma_at(b, RAM, control, length, address);
}

static void test_files(void)
{
    struct bench b;
    uint8_t entry[4 + 2 * 64] = {0};
    GError *error = NULL;
    int fd = memfd_create("file", MFD_CLOEXEC);
    g_assert_cmpint(write(fd, "from a file", 11), ==, 11);
    up(&b);
    g_assert_true(fw_cfg_add_file(b.d, "opt/one", "text", -1, 4, &error));
    g_assert_true(fw_cfg_add_file(b.d, "opt/two", NULL, fd, 11, &error));
    g_assert_no_error(error);
    st32be(entry, 2);
    st32be(entry + 4, 4);
    st16be(entry + 8, 0x20);
    strcpy((char *)entry + 12, "opt/one");
    st32be(entry + 68, 11);
    st16be(entry + 72, 0x21);
    strcpy((char *)entry + 76, "opt/two");
    check_bytes(&b, FW_CFG_FILE_DIR, entry, sizeof(entry));
    check_bytes(&b, 0x20, "text", 4);
    check_bytes(&b, 0x21, "from a file", 11);
    /* A file that became shorter has zeros. */
    g_assert_cmpint(ftruncate(fd, 4), ==, 0);
    check_bytes(&b, 0x21, "from\0\0\0\0\0\0\0", 11);
    down(&b);
    close(fd);
}

static void refused(struct device *d, const char *name, uint64_t size)
{
    GError *error = NULL;
    g_assert_false(fw_cfg_add_file(d, name, NULL, -1, size, &error));
    g_assert_error(error, HOSTEL_ERROR, HOSTEL_ERROR_USAGE);
    g_error_free(error);
}

static void test_refused_files(void)
{
    struct bench b;
    up(&b);
    g_autofree char *longest = g_strnfill(FW_CFG_NAME_MAX, 'x'),
                    *longer = g_strnfill(FW_CFG_NAME_MAX + 1, 'y');
    refused(b.d, "", 0);
    refused(b.d, "two words", 0);
    refused(b.d, "tab\t", 0);
    refused(b.d, longer, 0);
    refused(b.d, "large", UINT64_C(1) << 32);
    g_assert_true(fw_cfg_add_file(b.d, longest, "", -1, 0, NULL));
    refused(b.d, longest, 0);
    for (unsigned i = 1; i < FW_CFG_FILES_MAX; i++) {
        g_autofree char *name = g_strdup_printf("f%u", i);
        g_assert_true(fw_cfg_add_file(b.d, name, "", -1, 0, NULL));
    }
    refused(b.d, "more", 0);
    choose(&b, FW_CFG_FILE_DIR);
    g_assert_cmphex(rd(b.d, DATA, 4), ==, GUINT32_SWAP_LE_BE(FW_CFG_FILES_MAX));
    down(&b);
}

static void test_dma_at_the_edges(void)
{
    struct bench b;
    uint8_t bytes[8];
    up(&b);
    g_autofree uint8_t *large = g_malloc(3 * RAM_SIZE);
    memset(large, 0x5a, 3 * RAM_SIZE);
    fw_cfg_put(b.d, FW_CFG_KERNEL_DATA, large, 3 * RAM_SIZE);
    const uint32_t read = FW_CFG_KERNEL_DATA << 16 | SELECT | READ;
    /* The last bytes of memory, one more, and all around the end of addresses. */
    g_assert_cmphex(dma(&b, read, 8, RAM + RAM_SIZE - 8), ==, 0);
    g_assert_cmpint(mem_read(b.mem, GPA(RAM + RAM_SIZE - 8), bytes, 8), ==, 0);
    g_assert_cmpmem(bytes, 8, large, 8);
    g_assert_cmphex(dma(&b, read, 8, RAM + RAM_SIZE - 7), ==, ERROR);
    g_assert_cmphex(dma(&b, read, RAM_SIZE + 1, RAM), ==, ERROR);
    g_assert_cmphex(dma(&b, read, UINT32_MAX, RAM + 16), ==, ERROR);
    g_assert_cmphex(dma(&b, read, 8, UINT64_MAX - 3), ==, ERROR);
    g_assert_cmphex(dma(&b, read, 8, 0), ==, ERROR);
    g_assert_cmphex(dma(&b, read, 8, ROM), ==, ERROR);
    /* More than a chunk, over the request itself: what was read of it before counts, the answer is last. */
    g_assert_cmphex(dma(&b, read, RAM_SIZE, RAM), ==, 0);
    g_assert_cmpint(mem_read(b.mem, GPA(RAM), bytes, 8), ==, 0);
    g_assert_cmphex(ld32be(bytes), ==, 0);
    g_assert_cmphex(ld32be(bytes + 4), ==, 0x5a5a5a5a);
    /* Nothing can be written. */
    g_assert_cmphex(dma(&b, FW_CFG_KERNEL_DATA << 16 | SELECT | WRITE, 4, RAM + 64), ==, ERROR);
    check_bytes(&b, FW_CFG_SIGNATURE, "QEMU", 4);
    down(&b);
}

static void test_requests_outside_memory(void)
{
    struct bench b;
    uint8_t rom[16];
    up(&b);
    static const uint64_t places[] = {0, RAM - 8, RAM + RAM_SIZE - 15, RAM + RAM_SIZE, UINT64_MAX - 7};
    for (unsigned i = 0; i < G_N_ELEMENTS(places); i++)
        wr(b.d, DMA, 8, GUINT64_SWAP_LE_BE(places[i]));
    memset(rom, 0xff, sizeof(rom));
    g_assert_cmpint(mem_write(b.mem, GPA(ROM), rom, sizeof(rom)), ==, 0);
    wr(b.d, DMA, 8, GUINT64_SWAP_LE_BE((uint64_t)ROM));
    g_assert_cmpint(mem_read(b.mem, GPA(ROM), rom, sizeof(rom)), ==, 0);
    for (unsigned i = 0; i < sizeof(rom); i++)
        g_assert_cmphex(rom[i], ==, 0xff);
    /* The last place there is. */
    g_assert_cmphex(dma_at(&b, RAM + RAM_SIZE - 16, SELECT | READ, 4, RAM), ==, 0);
    down(&b);
}

static void test_skip_stays_inside(void)
{
    struct bench b;
    up(&b);
    g_assert_cmphex(dma(&b, SELECT | SKIP, 3, 0), ==, 0);
    g_assert_cmphex(rd(b.d, DATA, 1), ==, 'U');
    g_assert_cmphex(dma(&b, SKIP, UINT32_MAX, 0), ==, 0);
    g_assert_cmphex(rd(b.d, DATA, 1), ==, 0);
    down(&b);
}

static void test_no_memory_no_dma(void)
{
    struct device_wires wires = {.name = "fw_cfg"};
    struct device *d = device_new(device_type_find("fw-cfg"), &wires, NULL, NULL);
    struct bench b = {.d = d};
    check_bytes(&b, FW_CFG_ID, "\1\0\0\0", 4);
    wr(d, DMA, 8, 0);
    device_free(d);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/fw_cfg/files", test_files);
    g_test_add_func("/fw_cfg/refused", test_refused_files);
    g_test_add_func("/fw_cfg/dma-edges", test_dma_at_the_edges);
    g_test_add_func("/fw_cfg/requests-outside", test_requests_outside_memory);
    g_test_add_func("/fw_cfg/skip", test_skip_stays_inside);
    g_test_add_func("/fw_cfg/no-memory", test_no_memory_no_dma);
    return g_test_run();
}
