/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* riscv-virt: a RISC-V machine with the chips and address map of QEMU's `virt`. */
#include "board/riscv_virt.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "base/bits.h"
#include "base/error.h"
#include "board/ports.h"
#include "device/fw_cfg.h"
#include "device/pci_host.h"
#include "device/pflash.h"
#include "device/plic.h"
#include "device/uart16550.h"
#include "device/vmgenid.h"
#include "isa/riscv/cpu.h"
#include "os/fd.h"

static void on_power(void *opaque, enum device_power what, int code)
{
    static const enum machine_power means[] = {[DEVICE_POWER_OFF] = MACHINE_OFF,
                                               [DEVICE_POWER_FAIL] = MACHINE_FAIL,
                                               [DEVICE_POWER_RESET] = MACHINE_RESET};
    struct machine *m = opaque;
    m->config.power(m->config.opaque, means[what], code);
}

static void on_notice(void *opaque, enum device_notice what)
{
    struct machine *m = opaque;
    if (m->config.notice)
        m->config.notice(m->config.opaque, what);
}

/* Builds a chip and maps it; the machine owns it. */
static struct device *add_chip(struct machine *m, const char *type, struct device_wires wires,
                               const struct device_value *values, uint64_t base, GError **error)
{
    wires.clock = m->clock;
    wires.mem = m->mem;
    wires.power = on_power;
    wires.notice = on_notice;
    wires.opaque = m;
    AUTO(device) d = device_new(device_type_find(type), &wires, values, error);
    if (!d || !device_map(d, m->bus, GPA(base), error))
        return NULL;
    g_ptr_array_add(m->devices, d);
    return STEAL(d);
}

/* The controllers, whose outputs are pins of the vCPUs. */
static bool add_controllers(struct machine *m, GError **error)
{
    struct riscv_virt *v = riscv_virt(m);
    unsigned n = m->config.vcpus;
    struct irq_line aclint[2 * VIRT_MAX_VCPUS], plic[2 * VIRT_MAX_VCPUS];
    for (unsigned i = 0; i < n; i++) {
        aclint[2 * i] = vcpus_irq(m->vcpus, i, RISCV_IRQ_MSI);
        aclint[2 * i + 1] = vcpus_irq(m->vcpus, i, RISCV_IRQ_MTI);
        plic[2 * i] = vcpus_irq(m->vcpus, i, RISCV_IRQ_MEI);
        plic[2 * i + 1] = vcpus_irq(m->vcpus, i, RISCV_IRQ_SEI);
    }
    const struct device_value harts[] = {{"harts", n}, {"frequency", VIRT_TIMEBASE_HZ}, {0}};
    const struct device_value contexts[] = {{"contexts", 2 * n}, {0}};
    const struct device_wires aclint_wires = {.name = "aclint", .outputs = aclint, .output_count = 2 * n};
    const struct device_wires plic_wires = {.name = "plic", .outputs = plic, .output_count = 2 * n};
    v->aclint = add_chip(m, "aclint", aclint_wires, harts, VIRT_ACLINT, error);
    if (!v->aclint)
        return false;
    v->plic = add_chip(m, "plic", plic_wires, contexts, VIRT_PLIC, error);
    if (v->plic)
        plic_set_edge(v->plic, VIRT_GENERATION_IRQ);
    return v->plic;
}

/* The virtio slots, filled from the first on; the rest stay empty. */
static bool add_virtio(struct machine *m, GError **error)
{
    static const char *const slot_names[VIRT_VIRTIO_SLOTS] = {"virtio0", "virtio1", "virtio2", "virtio3",
                                                              "virtio4", "virtio5", "virtio6", "virtio7"};
    static const struct machine_virtio empty = {.type = "virtio-mmio"};
    struct riscv_virt *v = riscv_virt(m);
    while (m->config.n_virtio > VIRT_VIRTIO_SLOTS && m->config.virtio[m->config.n_virtio - 1].optional)
        m->config.n_virtio--;
    if (m->config.n_virtio > VIRT_VIRTIO_SLOTS)
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "riscv-virt has room for %d virtio devices (disks, networks and the like), not %u",
                           VIRT_VIRTIO_SLOTS, m->config.n_virtio);
    for (unsigned i = 0; i < VIRT_VIRTIO_SLOTS; i++) {
        const struct machine_virtio *f = i < m->config.n_virtio ? &m->config.virtio[i] : &empty;
        struct irq_line line = device_input(v->plic, VIRT_VIRTIO_IRQ + i);
        struct device_wires wires = f->wires;
        wires.name = slot_names[i];
        wires.outputs = &line;
        wires.output_count = 1;
        v->virtio[i] = add_chip(m, f->type, wires, f->values, VIRT_VIRTIO + i * VIRT_VIRTIO_STRIDE, error);
        if (!v->virtio[i])
            return false;
    }
    return true;
}

/* Configuration space is cut to the buses there can be: the root's and one behind each port. Its size costs a
 * guest time and page tables. */
static bool add_pci(struct machine *m, GError **error)
{
    struct riscv_virt *v = riscv_virt(m);
    struct irq_line lines[PCI_HOST_LINES];
    for (unsigned i = 0; i < PCI_HOST_LINES; i++)
        lines[i] = device_input(v->plic, VIRT_PCI_IRQ + i);
    const struct device_wires wires = {.name = "pci", .outputs = lines, .output_count = PCI_HOST_LINES};
    const struct device_value values[] = {{"buses", VIRT_PCI_BUSES}, {0}};
    v->pci = add_chip(m, "pci-host", wires, values, VIRT_PCI_ECAM, error);
    if (!v->pci)
        return false;
    struct pci *p = pci_host_tree(v->pci);
    return pci_map_io(p, m->bus, "pci-io", GPA(VIRT_PCI_IO), VIRT_PCI_IO_SIZE, 0, error) &&
           pci_map_memory(p, m->bus, "pci-memory", GPA(VIRT_PCI_MEMORY), VIRT_PCI_MEMORY_SIZE, error) &&
           pci_map_memory(p, m->bus, "pci-high", GPA(riscv_virt_pci_high(m)), VIRT_PCI_HIGH_SIZE, error) &&
           machine_add_ports(m, v->pci, m->config.ports, error);
}

static void begin_generation(struct machine *m, void (*begin)(struct device *, const uint8_t *))
{
    uint8_t id[VMGENID_SIZE];
    riscv_seed_draw(riscv_virt(m), id, sizeof(id));
    begin(riscv_virt(m)->generation, id);
}

static void renew(struct machine *m)
{
    begin_generation(m, vmgenid_renew);
}

/* The rest, whose outputs are pins of the PLIC. */
static bool add_chips(struct machine *m, GError **error)
{
    struct riscv_virt *v = riscv_virt(m);
    struct irq_line rtc = device_input(v->plic, VIRT_RTC_IRQ), uart = device_input(v->plic, VIRT_UART_IRQ),
                    watchdog = device_input(v->plic, VIRT_WATCHDOG_IRQ),
                    generation = device_input(v->plic, VIRT_GENERATION_IRQ);
    const struct device_wires test_wires = {.name = "test"};
    const struct device_wires rtc_wires = {.name = "rtc", .outputs = &rtc, .output_count = 1};
    const struct device_wires uart_wires = {
        .name = "uart", .stream = m->config.console, .outputs = &uart, .output_count = 1};
    const struct device_wires watchdog_wires = {.name = "watchdog", .outputs = &watchdog, .output_count = 1};
    const struct device_wires panic_wires = {.name = "panic"};
    const struct device_wires generation_wires = {
        .name = "generation", .outputs = &generation, .output_count = 1};
    if (!(v->test = add_chip(m, "finisher", test_wires, NULL, VIRT_TEST, error)) ||
        !(v->rtc = add_chip(m, "goldfish-rtc", rtc_wires, NULL, VIRT_RTC, error)) ||
        !(v->uart = add_chip(m, "uart16550", uart_wires, NULL, VIRT_UART, error)) ||
        !(v->watchdog = add_chip(m, "sunxi-wdt", watchdog_wires, NULL, VIRT_WATCHDOG, error)) ||
        !(v->panic = add_chip(m, "pvpanic", panic_wires, NULL, VIRT_PANIC, error)) ||
        !(v->generation = add_chip(m, "vmgenid", generation_wires, NULL, VIRT_GENERATION, error)))
        return false;
    begin_generation(m, vmgenid_set);
    return add_virtio(m, error) && (!m->config.ports || add_pci(m, error));
}

/* --- flash, and what firmware asks for --- */

/* Before the vCPUs are made, as all memory. */
static bool add_flash(struct machine *m, GError **error)
{
    static const char *const names[MACHINE_FLASH] = {"flash0", "flash1"};
    struct riscv_virt *v = riscv_virt(m);
    for (unsigned i = 0; i < MACHINE_FLASH; i++) {
        struct machine_flash *flash = &m->config.flash[i];
        const uint64_t base = VIRT_FLASH + i * PFLASH_SIZE;
        const struct device_wires wires = {.name = names[i]};
        v->flash[i] = add_chip(m, "pflash", wires, NULL, base, error);
        if (!v->flash[i] || !pflash_place(v->flash[i], m->mem, GPA(base), error) ||
            (flash->given && !pflash_load(v->flash[i], fd_steal(&flash->fd), flash->readonly, error)))
            return false;
    }
    return true;
}

/* A file of the host as an item, with another item for its size. */
static bool put_file(struct device *d, enum fw_cfg_key size_key, enum fw_cfg_key key, int fd,
                     const char *name, GError **error)
{
    struct stat status;
    if (fd < 0) {
        fw_cfg_put_number(d, size_key, 0, 4);
        return true;
    }
    if (fstat(fd, &status) || status.st_size > UINT32_MAX)
        return hostel_fail(error, HOSTEL_ERROR_INPUT, "%s: is not a file of less than 4 GiB", name);
    fw_cfg_put_number(d, size_key, (uint64_t)status.st_size, 4);
    fw_cfg_put_fd(d, key, fd, (uint64_t)status.st_size);
    return true;
}

static bool add_fw_files(struct machine *m, GError **error)
{
    const struct machine_fw_file *files = m->config.fw_files;
    struct device *d = riscv_virt(m)->fw_cfg;
    for (unsigned i = 0; i < MACHINE_FW_FILES && files[i].name; i++) {
        struct stat status = {.st_size = 0};
        uint64_t size = files[i].string ? strlen(files[i].string) : 0;
        if (!files[i].string && fstat(files[i].fd, &status))
            return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: its file cannot be examined: %s", files[i].name,
                               g_strerror(errno));
        size = MAX(size, (uint64_t)status.st_size);
        if (!fw_cfg_add_file(d, files[i].name, files[i].string, files[i].fd, size, error))
            return false;
    }
    return true;
}

static bool add_fw_cfg(struct machine *m, GError **error)
{
    static const uint8_t no_uuid[16];
    const struct machine_config *c = &m->config;
    const struct device_wires wires = {.name = "fw_cfg"};
    struct device *d = riscv_virt(m)->fw_cfg = add_chip(m, "fw-cfg", wires, NULL, VIRT_FW_CFG, error);
    if (!d)
        return false;
    fw_cfg_put(d, FW_CFG_UUID, no_uuid, sizeof(no_uuid));
    fw_cfg_put_number(d, FW_CFG_NOGRAPHIC, 1, 2);
    fw_cfg_put_number(d, FW_CFG_NB_CPUS, c->vcpus, 2);
    fw_cfg_put_number(d, FW_CFG_BOOT_MENU, 0, 2);
    fw_cfg_put_number(d, FW_CFG_CMDLINE_SIZE, *c->append ? strlen(c->append) + 1 : 0, 4);
    fw_cfg_put(d, FW_CFG_CMDLINE_DATA, c->append, *c->append ? strlen(c->append) + 1 : 0);
    return put_file(d, FW_CFG_KERNEL_SIZE, FW_CFG_KERNEL_DATA, c->kernel_fd, c->kernel_name, error) &&
           put_file(d, FW_CFG_INITRD_SIZE, FW_CFG_INITRD_DATA, c->initrd_fd, c->initrd_name, error) &&
           add_fw_files(m, error);
}

bool riscv_virt_is_builtin(const struct machine *m)
{
    unsigned bank;
    return m->config.firmware_fd < 0 && machine_flash_start(&m->config, &bank) != MACHINE_START_MACHINE;
}

static bool build(struct machine *m, GError **error)
{
    struct riscv_virt *v = g_new0(struct riscv_virt, 1);
    m->state = v;
    if (!riscv_seed_init(v, error) ||
        !mem_add(m->mem, "ram", GPA(VIRT_DRAM), m->config.memory, false, error) ||
        !mem_add(m->mem, "rom", GPA(VIRT_ROM), VIRT_ROM_SIZE, true, error) || !add_flash(m, error))
        return false;
    const bool builtin = riscv_virt_is_builtin(m);
    struct vcpus_config config = {
        .isa = m->isa,
        .cpu = {.features = m->config.cpu_features,
                .vcpus = m->config.vcpus,
                .timebase_hz = VIRT_TIMEBASE_HZ,
                .builtin_firmware = builtin},
        .count = m->config.vcpus,
        .mem = m->mem,
        .bus = m->bus,
        .clock = m->clock,
        .firmware_call = builtin ? sbi_call : NULL,
        .board = m,
    };
    m->vcpus =
        vcpus_tune(&config, m->config.tuning, error) ? vcpus_new(m->config.accel, &config, error) : NULL;
    return m->vcpus && add_controllers(m, error) && add_chips(m, error) && add_fw_cfg(m, error);
}

/* The chips are the machine's. */
static void destroy(struct machine *m)
{
    g_free(m->state);
}

const struct board board_riscv_virt = {
    .name = "riscv-virt",
    .help = "RISC-V machine with QEMU virt's address map: 16550 UART, PLIC, ACLINT, RTC, flash, fw_cfg, "
            "eight virtio slots",
    .isa = "riscv64",
    .max_vcpus = VIRT_MAX_VCPUS,
    .min_memory = 2 * MiB,
    .max_memory = 512 * GiB,
    .build = build,
    .boot = riscv_boot,
    .renew = renew,
    .destroy = destroy,
};
