/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* fw_cfg by registers and by DMA: common items and requests gone wrong, or two files of the command line. */
#include "lib/lib.h"

#define DATA 0x10100000ul
#define SELECTOR 0x10100008ul
#define DMA 0x10100010ul

enum { ERROR = 1, READ = 2, SKIP = 4, SELECT = 8, WRITE = 16 };
enum { FILE_DIR = 0x19 };

static u16 swap16(u16 v)
{
    return (u16)(v << 8 | v >> 8);
}

static u32 swap32(u32 v)
{
    return (u32)swap16((u16)v) << 16 | swap16((u16)(v >> 16));
}

static u64 swap64(u64 v)
{
    return (u64)swap32((u32)v) << 32 | swap32((u32)(v >> 32));
}

static void select(u16 key)
{
    *(volatile u16 *)SELECTOR = swap16(key);
}

static u8 next(void)
{
    return *(volatile u8 *)DATA;
}

static u32 next_be32(void)
{
    return swap32(mmio_r32(DATA));
}

static void items(void)
{
    static const u16 keys[] = {0, 1, 2, 4, 5, 0xe, 0x4000, 0x8005, 0x30ff, 0xffff};
    for (unsigned i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        select(keys[i]);
        print("key %x:", keys[i]);
        for (unsigned k = 0; k < 18; k++)
            print(" %02x", next());
        print("\n");
    }
    select(0);
    u64 two = *(volatile u16 *)DATA;
    print("width 2 then 1: %lx %x\n", two, next());
    select(0);
    print("width 4: %x\n", mmio_r32(DATA));
    select(0);
    print("width 8: %lx\n", mmio_r64(DATA));
    select(0);
    *(volatile u8 *)DATA = 0x55;
    print("after a write: %x\n", next());
    print("DMA register: %lx %x %x %x\n", mmio_r64(DMA), mmio_r32(DMA), mmio_r32(DMA + 4),
          *(volatile u8 *)(DMA + 3));
}

static bool starts(const char *name, const char *with)
{
    while (*with && *name == *with)
        name++, with++;
    return !*with;
}

/* The key of the file, or 0; its size. */
static u16 find(const char *wanted, u32 *size)
{
    select(FILE_DIR);
    for (u32 left = next_be32(); left; left--) {
        char name[56];
        *size = next_be32();
        u16 key = (u16)(next_be32() >> 16);
        for (unsigned i = 0; i < sizeof(name); i++)
            name[i] = (char)next();
        if (starts(name, wanted))
            return key;
    }
    *size = 0;
    return 0;
}

static struct {
    u32 control, length;
    u64 address;
} request __attribute__((aligned(16)));

static u32 dma(u32 control, u32 length, u64 address, bool halves)
{
    request.control = swap32(control);
    request.length = swap32(length);
    request.address = swap64(address);
    __asm__ volatile("fence" ::: "memory");
    u64 at = swap64((u64)&request);
    if (halves) {
        mmio_w32(DMA, (u32)at);
        mmio_w32(DMA + 4, (u32)(at >> 32));
    } else {
        mmio_w64(DMA, at);
    }
    __asm__ volatile("fence" ::: "memory");
    return swap32(*(volatile u32 *)&request.control);
}

static u8 buffer[64];

static void show_buffer(const char *what, u32 control)
{
    print("%s: control %x:", what, control);
    for (unsigned i = 0; i < 24; i++)
        print(" %02x", buffer[i]);
    print("\n");
}

static void clear(void)
{
    for (unsigned i = 0; i < sizeof(buffer); i++)
        buffer[i] = 0xee;
}

/* The file has these bytes, by register and by DMA, and nothing behind them. */
static void file(const char *name, const char *bytes, u32 size)
{
    u32 found, wrong = 0;
    u16 key = find(name, &found);
    expect("self fw_cfg file size", found, size);
    select(key);
    for (u32 i = 0; i < size; i++)
        wrong += next() != (u8)bytes[i];
    expect("self fw_cfg file ends", next(), 0);
    expect("self fw_cfg file by DMA", dma((u32)key << 16 | SELECT | READ, size + 2, (u64)buffer, false), 0);
    for (u32 i = 0; i < size + 2; i++)
        wrong += buffer[i] != (i < size ? (u8)bytes[i] : 0);
    expect("self fw_cfg file bytes", wrong, 0);
}

static void files(void)
{
    static const char counting[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19};
    u32 size;
    file("opt/test/string", "hello", 5);
    file("opt/test/file", counting, sizeof(counting));
    expect("self fw_cfg no file", find("opt/test/no", &size), 0);
}

static void requests(void)
{
    clear();
    show_buffer("halves", dma(SELECT | READ, 4, (u64)buffer, true));
    clear();
    show_buffer("select", dma(SELECT, 0, 0, false));
    show_buffer("skip", dma(SKIP, 2, 0, false));
    show_buffer("read on", dma(READ, 1, (u64)buffer, false));
    show_buffer("read beyond", dma(READ, 6, (u64)buffer + 4, false));
    clear();
    show_buffer("nothing there", dma(0x30ffu << 16 | SELECT | READ, 4, (u64)buffer, false));
    clear();
    show_buffer("write", dma(SELECT | WRITE, 4, (u64)buffer, false));
    show_buffer("unchanged", dma(SELECT | READ, 4, (u64)buffer, false));
    clear();
    show_buffer("no operation", dma(0, 4, (u64)buffer, false));
    expect("self fw_cfg DMA to nowhere", dma(SELECT | READ, 4, 0x40000000, false), ERROR);
    expect("self fw_cfg DMA to flash", dma(SELECT | READ, 4, 0x20000000, false), ERROR);
    print("to no RAM: control %x\n", dma(SELECT | READ, 4, RAM_END, false));
}

int main(u64 fdt)
{
    (void)fdt;
#ifdef FILES
    files();
    (void)items, (void)requests;
#else
    items();
    requests();
    (void)files;
#endif
    return 0;
}
