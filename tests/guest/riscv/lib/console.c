/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Console output over the 16550, and the end of a run through the test finisher. */
#include "lib/lib.h"

void put_char(char c)
{
    while (!(*(volatile u8 *)(UART_BASE + 5) & 0x20)) {
    }
    *(volatile u8 *)UART_BASE = (u8)c;
}

static void put_number(u64 v, unsigned base, int width, char pad)
{
    char digits[24];
    int n = 0;
    do {
        digits[n++] = "0123456789abcdef"[v % base];
        v /= base;
    } while (v);
    for (; width > n; width--) {
        put_char(pad);
    }
    while (n) {
        put_char(digits[--n]);
    }
}

static void put_string(const char *s)
{
    while (*s) {
        put_char(*s++);
    }
}

static void put_signed(s64 v, int width, char pad)
{
    if (v < 0) {
        put_char('-');
        v = -v;
    }
    put_number((u64)v, 10, width, pad);
}

void print(const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    for (const char *p = format; *p; p++) {
        if (*p != '%') {
            put_char(*p);
            continue;
        }
        p++;
        char pad = *p == '0' ? '0' : ' ';
        int width = 0;
        for (; *p >= '0' && *p <= '9'; p++) {
            width = width * 10 + *p - '0';
        }
        bool wide = false;
        for (; *p == 'l'; p++) {
            wide = true;
        }
        switch (*p) {
        case 'd': put_signed(wide ? va_arg(ap, s64) : va_arg(ap, int), width, pad); break;
        case 'u': put_number(wide ? va_arg(ap, u64) : va_arg(ap, unsigned), 10, width, pad); break;
        case 'x': put_number(wide ? va_arg(ap, u64) : va_arg(ap, unsigned), 16, width, pad); break;
        case 's': put_string(va_arg(ap, const char *)); break;
        case 'c': put_char((char)va_arg(ap, int)); break;
        default: put_char(*p); break;
        }
    }
    va_end(ap);
}

void power_off(u32 status)
{
    mmio_w32(FINISHER_BASE, status ? 0x3333u | status << 16 : 0x5555u);
    for (;;) {
        __asm__ volatile("wfi");
    }
}

void expect(const char *name, u64 got, u64 want)
{
    if (got == want) {
        print("%s: ok\n", name);
    } else {
        print("%s: FAIL got 0x%lx want 0x%lx\n", name, got, want);
    }
}
