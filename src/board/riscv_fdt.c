/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The device tree of riscv-virt: the machine as a kernel is told of it. */
#include "board/riscv_virt.h"

#include <string.h>

#include "codec/fdt.h"
#include "device/pflash.h"
#include "device/plic.h"
#include "isa/riscv/cpu.h"

/* Phandles: harts' interrupt controllers first, then the harts, then these. */
enum { PHANDLE_CPU = VIRT_MAX_VCPUS + 1, PHANDLE_PLIC = 2 * VIRT_MAX_VCPUS + 1, PHANDLE_TEST };

static uint32_t phandle_intc(unsigned hart)
{
    return hart + 1;
}

/* --- nodes --- */

static void add_seeds(struct machine *m, struct dt *t)
{
    uint8_t rng[64], kaslr[8];
    riscv_seed_draw(riscv_virt(m), rng, sizeof(rng));
    riscv_seed_draw(riscv_virt(m), kaslr, sizeof(kaslr));
    dt_bytes(t, "rng-seed", rng, sizeof(rng));
    dt_bytes(t, "kaslr-seed", kaslr, sizeof(kaslr));
}

static void add_chosen(struct machine *m, struct dt *t, const struct riscv_layout *layout)
{
    dt_begin(t, "chosen");
    dt_string(t, "stdout-path", "/soc/serial@10000000");
    if (*m->config.append)
        dt_string(t, "bootargs", m->config.append);
    if (layout->initrd_size) {
        dt_u64(t, "linux,initrd-start", layout->initrd);
        dt_u64(t, "linux,initrd-end", layout->initrd + layout->initrd_size);
    }
    add_seeds(m, t);
    dt_end(t);
}

/* The hart's extensions. A kernel that is told of both Svade and Svadu may rely on page faults to update A
 * and D until it asks the firmware for hardware updates. Built-in firmware begins so. A firmware of the
 * user's that knows nothing of it leaves the reset value, hardware updates: then Svadu alone is told of. */
static void add_extensions(struct machine *m, struct dt *t)
{
    const char *const *all = riscv_isa_extensions();
    g_autoptr(GPtrArray) told = g_ptr_array_new();
    g_autoptr(GString) isa = g_string_new("rv64");
    for (; *all; all++) {
        if (!riscv_virt_is_builtin(m) && !strcmp(*all, "svade"))
            continue;
        g_string_append_printf(isa, "%s%s", (*all)[1] ? "_" : "", *all);
        g_ptr_array_add(told, (char *)(uintptr_t)*all);
    }
    g_ptr_array_add(told, NULL);
    dt_string(t, "riscv,isa", isa->str);
    dt_string(t, "riscv,isa-base", "rv64i");
    dt_strings(t, "riscv,isa-extensions", (const char *const *)told->pdata);
}

static void add_cpu(struct machine *m, struct dt *t, unsigned hart)
{
    dt_begin(t, "cpu@%x", hart);
    dt_u32(t, "phandle", PHANDLE_CPU + hart);
    dt_string(t, "device_type", "cpu");
    dt_u32(t, "reg", hart);
    dt_string(t, "status", "okay");
    dt_string(t, "compatible", "riscv");
    add_extensions(m, t);
    dt_string(t, "mmu-type", "riscv,sv57");
    dt_u32(t, "riscv,cbom-block-size", 64);
    dt_u32(t, "riscv,cboz-block-size", 64);
    dt_begin(t, "interrupt-controller");
    dt_u32(t, "#address-cells", 0);
    dt_u32(t, "#interrupt-cells", 1);
    dt_flag(t, "interrupt-controller");
    dt_string(t, "compatible", "riscv,cpu-intc");
    dt_u32(t, "phandle", phandle_intc(hart));
    dt_end(t);
    dt_end(t);
}

static void add_cpus(struct machine *m, struct dt *t)
{
    dt_begin(t, "cpus");
    dt_u32(t, "#address-cells", 1);
    dt_u32(t, "#size-cells", 0);
    dt_u32(t, "timebase-frequency", VIRT_TIMEBASE_HZ);
    for (unsigned i = 0; i < m->config.vcpus; i++)
        add_cpu(m, t, i);
    dt_begin(t, "cpu-map");
    dt_begin(t, "cluster0");
    for (unsigned i = 0; i < m->config.vcpus; i++) {
        dt_begin(t, "core%u", i);
        dt_u32(t, "cpu", PHANDLE_CPU + i);
        dt_end(t);
    }
    dt_end(t);
    dt_end(t);
    dt_end(t);
}

/* interrupts-extended: per hart, one interrupt of each number in pins. */
static void add_hart_interrupts(struct machine *m, struct dt *t, uint32_t first, uint32_t second)
{
    uint32_t cells[4 * VIRT_MAX_VCPUS], n = 0;
    for (unsigned i = 0; i < m->config.vcpus; i++) {
        cells[n++] = phandle_intc(i);
        cells[n++] = first;
        cells[n++] = phandle_intc(i);
        cells[n++] = second;
    }
    dt_cells(t, "interrupts-extended", cells, n);
}

static void add_controllers(struct machine *m, struct dt *t)
{
    static const char *const plic[] = {"sifive,plic-1.0.0", "riscv,plic0", NULL};
    static const char *const clint[] = {"sifive,clint0", "riscv,clint0", NULL};
    const struct riscv_virt *v = riscv_virt(m);
    dt_begin(t, "plic@%x", (unsigned)VIRT_PLIC);
    dt_u32(t, "phandle", PHANDLE_PLIC);
    dt_strings(t, "compatible", plic);
    dt_reg(t, VIRT_PLIC, v->plic->type->extent(v->plic));
    dt_u32(t, "riscv,ndev", PLIC_SOURCES - 1);
    dt_flag(t, "interrupt-controller");
    dt_u32(t, "#interrupt-cells", 1);
    dt_u32(t, "#address-cells", 0);
    add_hart_interrupts(m, t, RISCV_IRQ_MEI, RISCV_IRQ_SEI);
    dt_end(t);
    dt_begin(t, "clint@%x", (unsigned)VIRT_ACLINT);
    dt_strings(t, "compatible", clint);
    dt_reg(t, VIRT_ACLINT, v->aclint->type->extent(v->aclint));
    add_hart_interrupts(m, t, RISCV_IRQ_MSI, RISCV_IRQ_MTI);
    dt_end(t);
}

/* A chip with registers and one interrupt of the PLIC (0 none); the node stays open. */
static void begin_chip(struct dt *t, const char *name, uint64_t base, const struct device *d, unsigned irq)
{
    dt_begin(t, "%s@%x", name, (unsigned)base);
    dt_reg(t, base, d->type->extent(d));
    if (irq) {
        dt_u32(t, "interrupt-parent", PHANDLE_PLIC);
        dt_u32(t, "interrupts", irq);
    }
}

/* "pci-host-ecam-generic": the binding of IEEE 1275's PCI bus supplement. An address has three cells, the
 * first of which says which space (1 I/O, 2 memory, 3 64-bit memory) or, of a device, which slot. */
static void add_pci(struct machine *m, struct dt *t)
{
    enum { SPACE_IO = 1 << 24, SPACE_MEMORY = 2 << 24, SPACE_MEMORY64 = 3 << 24, SLOT_SHIFT = 11, PINS = 4 };
    const struct riscv_virt *v = riscv_virt(m);
    const uint64_t high = riscv_virt_pci_high(m);
    const uint32_t buses[] = {0, VIRT_PCI_BUSES - 1};
    const uint32_t ranges[] = {SPACE_IO,
                               0,
                               0,
                               0,
                               (uint32_t)VIRT_PCI_IO,
                               0,
                               (uint32_t)VIRT_PCI_IO_SIZE,
                               SPACE_MEMORY,
                               0,
                               (uint32_t)VIRT_PCI_MEMORY,
                               0,
                               (uint32_t)VIRT_PCI_MEMORY,
                               0,
                               (uint32_t)VIRT_PCI_MEMORY_SIZE,
                               SPACE_MEMORY64,
                               (uint32_t)(high >> 32),
                               (uint32_t)high,
                               (uint32_t)(high >> 32),
                               (uint32_t)high,
                               (uint32_t)(VIRT_PCI_HIGH_SIZE >> 32),
                               (uint32_t)VIRT_PCI_HIGH_SIZE};
    const uint32_t mask[] = {(PINS - 1) << SLOT_SHIFT, 0, 0, 7};
    uint32_t map[PINS * PINS * 6], n = 0;
    for (uint32_t slot = 0; slot < PINS; slot++)
        for (uint32_t pin = 0; pin < PINS; pin++) {
            const uint32_t row[] = {
                slot << SLOT_SHIFT, 0, 0, pin + 1, PHANDLE_PLIC, VIRT_PCI_IRQ + (slot + pin) % PINS};
            memcpy(map + n, row, sizeof(row));
            n += ARRAY_SIZE(row);
        }
    dt_begin(t, "pci@%x", (unsigned)VIRT_PCI_ECAM);
    dt_string(t, "compatible", "pci-host-ecam-generic");
    dt_string(t, "device_type", "pci");
    dt_u32(t, "#address-cells", 3);
    dt_u32(t, "#size-cells", 2);
    dt_u32(t, "#interrupt-cells", 1);
    dt_u32(t, "linux,pci-domain", 0);
    dt_cells(t, "bus-range", buses, ARRAY_SIZE(buses));
    dt_flag(t, "dma-coherent");
    dt_reg(t, VIRT_PCI_ECAM, v->pci->type->extent(v->pci));
    dt_cells(t, "ranges", ranges, ARRAY_SIZE(ranges));
    dt_cells(t, "interrupt-map-mask", mask, ARRAY_SIZE(mask));
    dt_cells(t, "interrupt-map", map, n);
    dt_end(t);
}

static void add_soc(struct machine *m, struct dt *t)
{
    static const char *const test[] = {"sifive,test1", "sifive,test0", "syscon", NULL};
    const struct riscv_virt *v = riscv_virt(m);
    dt_begin(t, "soc");
    dt_u32(t, "#address-cells", 2);
    dt_u32(t, "#size-cells", 2);
    dt_string(t, "compatible", "simple-bus");
    dt_flag(t, "ranges");
    begin_chip(t, "test", VIRT_TEST, v->test, 0);
    dt_u32(t, "phandle", PHANDLE_TEST);
    dt_strings(t, "compatible", test);
    dt_end(t);
    begin_chip(t, "rtc", VIRT_RTC, v->rtc, VIRT_RTC_IRQ);
    dt_string(t, "compatible", "google,goldfish-rtc");
    dt_end(t);
    begin_chip(t, "watchdog", VIRT_WATCHDOG, v->watchdog, VIRT_WATCHDOG_IRQ);
    dt_string(t, "compatible", "allwinner,sun6i-a31-wdt");
    dt_end(t);
    begin_chip(t, "pvpanic", VIRT_PANIC, v->panic, 0);
    dt_string(t, "compatible", "qemu,pvpanic-mmio");
    dt_end(t);
    begin_chip(t, "rng", VIRT_GENERATION, v->generation, VIRT_GENERATION_IRQ);
    dt_string(t, "compatible", "microsoft,vmgenid");
    dt_end(t);
    begin_chip(t, "serial", VIRT_UART, v->uart, VIRT_UART_IRQ);
    dt_string(t, "compatible", "ns16550a");
    dt_u32(t, "clock-frequency", VIRT_UART_HZ);
    dt_end(t);
    for (unsigned i = 0; i < VIRT_VIRTIO_SLOTS; i++) {
        begin_chip(t, "virtio_mmio", VIRT_VIRTIO + i * VIRT_VIRTIO_STRIDE, v->virtio[i], VIRT_VIRTIO_IRQ + i);
        dt_string(t, "compatible", "virtio,mmio");
        dt_end(t);
    }
    if (v->pci)
        add_pci(m, t);
    add_controllers(m, t);
    dt_end(t);
}

/* Both banks are one memory for drivers. */
static void add_flash(struct dt *t)
{
    const uint32_t reg[] = {0, (uint32_t)VIRT_FLASH, 0, PFLASH_SIZE, 0, (uint32_t)(VIRT_FLASH + PFLASH_SIZE),
                            0, PFLASH_SIZE};
    dt_begin(t, "flash@%x", (unsigned)VIRT_FLASH);
    dt_string(t, "compatible", "cfi-flash");
    dt_cells(t, "reg", reg, ARRAY_SIZE(reg));
    dt_u32(t, "bank-width", 4);
    dt_end(t);
}

static void add_fw_cfg(struct machine *m, struct dt *t)
{
    struct device *d = riscv_virt(m)->fw_cfg;
    dt_begin(t, "fw-cfg@%x", (unsigned)VIRT_FW_CFG);
    dt_string(t, "compatible", "qemu,fw-cfg-mmio");
    dt_reg(t, VIRT_FW_CFG, d->type->extent(d));
    dt_flag(t, "dma-coherent");
    dt_end(t);
}

/* Power off and reset by a word written to the test finisher, for kernels that do not use the firmware for
 * it. */
static void add_power(struct dt *t, const char *name, const char *compatible, uint32_t value)
{
    dt_begin(t, "%s", name);
    dt_string(t, "compatible", compatible);
    dt_u32(t, "regmap", PHANDLE_TEST);
    dt_u32(t, "offset", 0);
    dt_u32(t, "value", value);
    dt_end(t);
}

void *riscv_fdt(struct machine *m, const struct riscv_layout *layout, size_t *size)
{
    AUTO(dt) t = dt_new();
    dt_u32(t, "#address-cells", 2);
    dt_u32(t, "#size-cells", 2);
    dt_string(t, "compatible", "riscv-virtio");
    dt_string(t, "model", "riscv-virtio,hostel");
    add_chosen(m, t, layout);
    dt_begin(t, "memory@%x", (unsigned)VIRT_DRAM);
    dt_string(t, "device_type", "memory");
    dt_reg(t, VIRT_DRAM, m->config.memory);
    dt_end(t);
    add_cpus(m, t);
    add_flash(t);
    add_fw_cfg(m, t);
    add_soc(m, t);
    add_power(t, "poweroff", "syscon-poweroff", 0x5555);
    add_power(t, "reboot", "syscon-reboot", 0x7777);
    return dt_finish(t, size);
}
