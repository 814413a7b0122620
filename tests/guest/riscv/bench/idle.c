/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* An idle guest: waits for ever, or (TICK_US) takes a timer interrupt every so often; TICKS ends it after
 * that many. */
#include "lib/lib.h"
#include "lib/stub.h"

#ifndef TICK_US
#define TICK_US 0
#endif
#ifndef TICKS
#define TICKS 0
#endif

static const u64 ticks_wanted = TICKS ? TICKS : ~0ul;

STUB(idle_wait, "1: wfi\nj 1b");

int main(u64 fdt)
{
    (void)fdt;
    clint_mtimecmp(0, ~0ul);
    csr_write(mie, TICK_US ? 1 << IRQ_MTI : 0);
    print("idle\n");
    u64 next = clint_mtime();
    for (u64 n = 0; n < ticks_wanted; n++) {
        next += TICK_US * 10ul;
        clint_mtimecmp(0, TICK_US ? next : ~0ul);
        struct hart *h = try_call(MODE_M, (u64)idle_wait, 0, 0, MSTATUS_MPIE);
        if (h->cause != (IRQ_BIT | IRQ_MTI)) {
            print("idle: cause 0x%lx\n", h->cause);
            return 1;
        }
        if (clint_mtime() < next) {
            print("idle: a tick came too early\n");
            return 1;
        }
    }
    print("idle: %d ticks\n", TICKS);
    return 0;
}
