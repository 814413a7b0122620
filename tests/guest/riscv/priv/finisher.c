/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The ends of a run: a failure code that becomes the exit status, and a reset that starts over. */
#include "lib/lib.h"

/* Beyond the image, so loading it again does not touch the cell. */
#define CELL (RAM_BASE + 0x7000000)

int main(u64 fdt)
{
    (void)fdt;
    volatile u64 *cell = (volatile u64 *)CELL;
    if (*cell != 0x5245534554ul) {
        *cell = 0x5245534554ul;
        print("before the reset\n");
        mmio_w32(FINISHER_BASE, 0x7777);
        for (;;) {
            __asm__ volatile("wfi");
        }
    }
    print("after the reset, mstatus 0x%lx mie 0x%lx satp 0x%lx\n", csr_read(mstatus) & 0x7e19aa,
          csr_read(mie), csr_read(satp));
    return 42;
}
