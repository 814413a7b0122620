/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The RISC-V machine's address map and what its files (riscv_virt, riscv_fdt, riscv_boot, sbi) know of each
 * other. */
#ifndef HOSTEL_BOARD_RISCV_VIRT_H
#define HOSTEL_BOARD_RISCV_VIRT_H

#include "base/bits.h"
#include "board/board.h"
#include "device/device.h"

/* The map of QEMU's `virt` machine, which kernels and firmware are built for. */
#define VIRT_ROM UINT64_C(0x1000)
#define VIRT_ROM_SIZE UINT64_C(0xf000)
#define VIRT_TEST UINT64_C(0x100000)
#define VIRT_RTC UINT64_C(0x101000)
#define VIRT_WATCHDOG UINT64_C(0x102000) /* these three are where QEMU has nothing */
#define VIRT_PANIC UINT64_C(0x103000)
#define VIRT_GENERATION UINT64_C(0x104000)
#define VIRT_ACLINT UINT64_C(0x2000000)
#define VIRT_PLIC UINT64_C(0xc000000)
#define VIRT_UART UINT64_C(0x10000000)
#define VIRT_VIRTIO UINT64_C(0x10001000)
#define VIRT_VIRTIO_STRIDE UINT64_C(0x1000)
#define VIRT_FW_CFG UINT64_C(0x10100000)
#define VIRT_FLASH UINT64_C(0x20000000) /* two banks of PFLASH_SIZE */
#define VIRT_PCI_IO UINT64_C(0x3000000)
#define VIRT_PCI_IO_SIZE UINT64_C(0x10000)
#define VIRT_PCI_ECAM UINT64_C(0x30000000)
#define VIRT_PCI_MEMORY UINT64_C(0x40000000)
#define VIRT_PCI_MEMORY_SIZE UINT64_C(0x40000000)
#define VIRT_PCI_HIGH_SIZE UINT64_C(0x400000000) /* above RAM, aligned to its size */
#define VIRT_DRAM UINT64_C(0x80000000)

enum {
    VIRT_VIRTIO_SLOTS = 8,
    VIRT_VIRTIO_IRQ = 1, /* of the first slot */
    VIRT_UART_IRQ = 10,
    VIRT_RTC_IRQ = 11,
    VIRT_WATCHDOG_IRQ = 12,
    VIRT_GENERATION_IRQ = 13, /* an edge */
    VIRT_PCI_BUSES = 32,
    VIRT_PCI_IRQ = 0x20, /* of INTA; three more follow */
    VIRT_UART_HZ = 3686400,
    VIRT_TIMEBASE_HZ = 10000000,
    VIRT_MAX_VCPUS = 16,
    VIRT_SEED_SIZE = 32,
};

struct riscv_virt {
    struct device *plic, *aclint, *uart, *rtc, *test, *fw_cfg, *watchdog, *panic, *generation;
    struct device *pci; /* NULL: none */
    struct device *flash[MACHINE_FLASH];
    struct device *virtio[VIRT_VIRTIO_SLOTS];
    uint8_t seed[VIRT_SEED_SIZE]; /* riscv_seed.c's */
};

static inline struct riscv_virt *riscv_virt(struct machine *m)
{
    return m->state;
}

/* Where PCI's 64-bit addresses begin. */
static inline uint64_t riscv_virt_pci_high(const struct machine *m)
{
    return align_up(VIRT_DRAM + m->config.memory, VIRT_PCI_HIGH_SIZE);
}

/* Does the machine answer SBI calls itself? */
bool riscv_virt_is_builtin(const struct machine *m);

/* Where the loader put things, for the device tree; sizes 0 = none. */
struct riscv_layout {
    uint64_t initrd, initrd_size;
};

/* riscv_fdt.c: the device tree of this boot, owned by the caller (g_free); NULL when the command line is
 * enormous. */
void *riscv_fdt(struct machine *m, const struct riscv_layout *layout, size_t *size);

/* riscv_seed.c: asks the host, at set-up; draws bytes that were never drawn before. */
bool riscv_seed_init(struct riscv_virt *v, GError **error);
void riscv_seed_draw(struct riscv_virt *v, uint8_t *out, size_t size);

/* riscv_boot.c: board.boot. */
bool riscv_boot(struct machine *m, GError **error);

/* sbi.c: vcpus_config.firmware_call; board is the struct machine. */
bool sbi_call(struct env *env, void *board);

#endif
