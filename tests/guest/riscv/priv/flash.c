/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The second bank of flash: what its registers say, and what erasing and programming leave behind. */
/*
 * Lines to compare hold what QEMU's chip does as the data sheets say. Where it does less (no locks, ones
 * programmed over zeros, errors that go unnoticed) the data sheet's answer is a self-check.
 */
#include "lib/lib.h"

#define BANK 0x22000000ul
#define SECTOR 0x40000ul
#define AT (BANK + 5 * SECTOR)
#define BUFFER 4096ul
#define BOTH(x) ((u32)(x) | (u32)(x) << 16)

static void command(u64 at, u32 c)
{
    mmio_w32(at, BOTH(c));
}

static u32 status(void)
{
    command(AT, 0x70);
    return mmio_r32(AT);
}

static void contents(void)
{
    command(AT, 0xff);
}

static u64 read(u64 at, unsigned size)
{
    switch (size) {
    case 1: return *(volatile u8 *)at;
    case 2: return *(volatile u16 *)at;
    case 4: return mmio_r32(at);
    default: return mmio_r64(at);
    }
}

static void show_widths(const char *what, u64 at)
{
    print("%s: %lx %lx %lx %lx\n", what, read(at, 1), read(at, 2), read(at, 4), read(at, 8));
}

static void erase(u64 at)
{
    command(at, 0x20);
    command(at, 0xd0);
}

static void program(u64 at, u32 value)
{
    command(at, 0x40);
    mmio_w32(at, value);
}

static void identify(void)
{
    command(BANK, 0x90);
    for (unsigned i = 0; i < 4; i++)
        print("identity %u: %x\n", i, mmio_r32(BANK + 4 * i));
    show_widths("identity", BANK);
    print("identity of a later sector: %x %x\n", mmio_r32(AT), mmio_r32(AT + 4));
    command(BANK, 0xff);
    command(BANK + 4 * 0x55, 0x98);
    for (unsigned i = 0; i < 0x54; i++)
        print("query %x: %x\n", i, mmio_r32(BANK + 4 * i));
    show_widths("query", BANK + 4 * 0x10);
    command(BANK, 0xff);
    command(BANK, 0x70);
    show_widths("status", BANK);
    show_widths("status elsewhere", AT + 8);
    command(BANK, 0xff);
}

static void erases(void)
{
    erase(AT - SECTOR);
    erase(AT);
    erase(AT + SECTOR);
    print("erased: status %x\n", mmio_r32(AT));
    contents();
    show_widths("erased", AT + 16);
    u32 all = ~0u;
    for (u64 at = AT - SECTOR; at < AT + 2 * SECTOR; at += 4)
        all &= mmio_r32(at);
    print("erased everywhere: %x\n", all);
    program(AT - 4, 0x11223344);
    program(AT + SECTOR, 0x55667788);
    program(AT, 0);
    program(AT + SECTOR - 4, 0);
    erase(AT + 0x1234);
    contents();
    print("neighbours: %x %x %x %x\n", mmio_r32(AT - 4), mmio_r32(AT), mmio_r32(AT + SECTOR - 4),
          mmio_r32(AT + SECTOR));
}

static void programs(void)
{
    static const u8 commands[] = {0x40, 0x10};
    for (unsigned i = 0; i < 2; i++) {
        u64 at = AT + 0x100 * (i + 1);
        command(at, commands[i]);
        *(volatile u8 *)(at + 1) = 0xab;
        print("programmed 1: status %x\n", mmio_r32(at));
        command(at, commands[i]);
        *(volatile u16 *)(at + 2) = 0xcdef;
        command(at, commands[i]);
        mmio_w32(at + 4, 0x01234567);
        print("programmed 4: status %x\n", status());
        contents();
        show_widths("programmed", at);
    }
    /* The reset commands of Intel and AMD, and a null. */
    static const u8 back[] = {0xff, 0xf0, 0x00};
    for (unsigned i = 0; i < 3; i++) {
        command(AT, 0x90);
        command(AT, back[i]);
        print("contents after %x: %x\n", back[i], mmio_r32(AT + 0x104));
    }
    command(AT, 0x40);
    command(AT, 0xffff);
    contents();
    print("ones leave it as it is: %x\n", mmio_r32(AT));
}

static void buffered(u64 at, unsigned words)
{
    command(at, 0xe8);
    u32 first = mmio_r32(at);
    command(at, words - 1);
    u32 second = mmio_r32(at);
    for (unsigned i = 0; i < words; i++)
        mmio_w32(at + 4 * i, 0x9e3779b9u * (i + 1));
    u32 third = mmio_r32(at);
    command(at, 0xd0);
    u32 last = status();
    contents();
    u32 sum = 0;
    for (unsigned i = 0; i < words; i++)
        sum = sum * 31 + mmio_r32(at + 4 * i);
    print("buffer of %u: status %x %x %x %x, sum %x, then %x\n", words, first, second, third, last, sum,
          mmio_r32(at + 4 * words));
}

/* li a0, value; ret */
static u64 run_from_flash(u64 at, u32 value)
{
    program(at, 0x00000513 | value << 20);
    program(at + 4, 0x00008067);
    contents();
    fence_i();
    return ((u64(*)(void))at)();
}

static void code(void)
{
    expect("self flash runs code", run_from_flash(AT + 0x3000, 42), 42);
    erase(AT);
    expect("self flash runs new code", run_from_flash(AT + 0x3000, 7), 7);
    expect("self flash is readable after a status", (status(), contents(), mmio_r32(AT + 0x3004)), 0x8067);
}

static void as_data_sheet(void)
{
    erase(AT);
    program(AT, 0xff00f0f0);
    program(AT, 0x0ff0ff00);
    contents();
    expect("self flash programming clears bits only", mmio_r32(AT), 0x0f00f000);
    command(AT, 0x60);
    command(AT, 0x01);
    command(AT, 0x90);
    expect("self flash shows a lock", mmio_r32(AT + 8), BOTH(1));
    contents();
    erase(AT);
    expect("self flash lock: erase", status(), BOTH(0xa2));
    command(AT, 0x50);
    expect("self flash status cleared", status(), BOTH(0x80));
    program(AT, 0);
    expect("self flash lock: program", status(), BOTH(0x92));
    command(AT, 0x50);
    contents();
    expect("self flash lock: contents", mmio_r32(AT), 0x0f00f000);
    command(AT, 0x60);
    command(AT, 0xd0);
    erase(AT);
    expect("self flash unlocked", status(), BOTH(0x80));
    command(AT, 0x20);
    command(AT, 0x40);
    expect("self flash wrong confirmation", status(), BOTH(0xb0));
    command(AT, 0x50);
    command(AT, 0xe8);
    command(AT, 1);
    mmio_w32(AT, 1);
    mmio_w32(AT + BUFFER, 2);
    expect("self flash data outside the buffer", status(), BOTH(0xb0));
    command(AT, 0x50);
    contents();
    expect("self flash nothing was programmed", mmio_r32(AT), ~0u);
}

/* What the others read while hart 0 switches the bank back and forth: a word of the contents or the status,
 * and with the bank back, the contents. */
#define WORD 0x600dda7au
static volatile u32 going, wrong, seen, readers;

void secondary_main(u64 hart)
{
    (void)hart;
    while (going == 0) {
    }
    __atomic_fetch_add(&readers, 1, __ATOMIC_SEQ_CST);
    while (going == 1) {
        u32 v = mmio_r32(AT + 0x800);
        if (v != WORD && v != BOTH(0x80))
            wrong = v;
        seen = v;
    }
    if (mmio_r32(AT + 0x800) != WORD)
        wrong = 1;
    __atomic_fetch_sub(&readers, 1, __ATOMIC_SEQ_CST);
}

static void shared(u64 count)
{
    erase(AT);
    program(AT + 0x800, WORD);
    contents();
    going = 1;
    while (count > 1 && (readers != count - 1 || seen != WORD)) {
    }
    /* Everybody gets to see both, however long they have read nothing else. */
    for (unsigned i = 0; count > 1 && i < 20; i++) {
        u32 awaited = i & 1 ? WORD : BOTH(0x80);
        command(AT, i & 1 ? 0xff : 0x70);
        for (u64 k = 0; k < count - 1; k++) {
            seen = 0;
            while (seen != awaited) {
            }
        }
    }
    for (unsigned i = 0; i < 3000; i++) {
        if (mmio_r32(AT + 0x800) != WORD)
            wrong = 2;
        command(AT, 0x70);
        if (mmio_r32(AT + 0x800) != BOTH(0x80))
            wrong = 3;
        contents();
    }
    __asm__ volatile("fence" ::: "memory");
    going = 2;
    while (readers) {
    }
    expect("self flash read by all", wrong, 0);
}

int main(u64 fdt)
{
    identify();
    erases();
    programs();
    buffered(AT + 0x1000, 1);
    buffered(AT + 0x1100, 16);
    buffered(AT + 0x2000, 1024);
    code();
    as_data_sheet();
    shared(fdt_count_harts(fdt));
    return 0;
}
