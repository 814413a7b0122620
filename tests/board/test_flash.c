/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* riscv-virt started from flash, payloads of a firmware, and what fw_cfg then has. */
#include <errno.h>
#include <libfdt.h>

#include "base/error.h"
#include "bench.h"

#define FLASH 0x20000000
#define FW_CFG 0x10100000

static struct machine *make(const struct parts *p, const GByteArray *flash, unsigned bank,
                            enum machine_start start)
{
    GError *error = NULL;
    struct machine_config c = bench_config(p);
    c.flash[bank] = (struct machine_flash){.given = true, .fd = make_file(flash), .start = start};
    struct machine *m = machine_new(board_find("riscv-virt", NULL), &c, &error);
    g_assert_no_error(error);
    return m;
}

static uint64_t rom64(struct machine *m, unsigned index)
{
    uint64_t v;
    g_assert_cmpint(mem_read(m->mem, GPA(0x1018 + 8 * index), &v, 8), ==, 0);
    return GUINT64_FROM_LE(v);
}

/* The number that fw_cfg has under the key, and then the first bytes of another item. */
static void check_item(struct machine *m, uint16_t size_key, uint16_t key, const GByteArray *bytes)
{
    uint64_t v;
    g_assert_cmpint(bus_write(m->bus, GPA(FW_CFG + 8), 2, GUINT16_SWAP_LE_BE(size_key)), ==, 0);
    g_assert_cmpint(bus_read(m->bus, GPA(FW_CFG), 4, &v), ==, 0);
    g_assert_cmpuint(v, ==, bytes ? bytes->len : 0);
    g_assert_cmpint(bus_write(m->bus, GPA(FW_CFG + 8), 2, GUINT16_SWAP_LE_BE(key)), ==, 0);
    for (unsigned i = 0; bytes && i < bytes->len; i++) {
        g_assert_cmpint(bus_read(m->bus, GPA(FW_CFG), 1, &v), ==, 0);
        g_assert_cmphex(v, ==, bytes->data[i]);
    }
}

static void test_supervisor(void)
{
    g_autoptr(GByteArray) flash = make_bytes(5000, 0x13);
    AUTO(machine) m = make(&(struct parts){.vcpus = 2}, flash, 0, MACHINE_START_SUPERVISOR);
    const struct riscv_cpu *cpu = riscv_cpu(vcpus_env(m->vcpus, 0));
    g_assert_cmphex(cpu->env.pc, ==, FLASH);
    g_assert_cmpuint(cpu->priv, ==, RISCV_S);
    g_assert_cmphex(ld32be(mem_host_read(m->mem, GPA(bench_reg(m, 0, 11)), 4)), ==, 0xd00dfeed);
    g_assert_false(vcpus_is_online(m->vcpus, 1));
    check_item(m, 0x08, 0x11, NULL);
}

static void test_machine(void)
{
    g_autoptr(GByteArray) flash = make_bytes(5000, 0x13);
    AUTO(machine) m = make(&(struct parts){.vcpus = 2}, flash, 1, MACHINE_START_MACHINE);
    for (unsigned i = 0; i < 2; i++) {
        const struct riscv_cpu *cpu = riscv_cpu(vcpus_env(m->vcpus, i));
        g_assert_cmphex(cpu->env.pc, ==, 0x1000);
        g_assert_cmpuint(cpu->priv, ==, RISCV_M);
        g_assert_true(vcpus_is_online(m->vcpus, i));
    }
    g_assert_cmphex(rom64(m, 0), ==, FLASH + 0x2000000);
}

/* Firmware hands over to flash, which finds the kernel in fw_cfg; not in memory. */
static void test_kernel_is_offered(void)
{
    g_autoptr(GByteArray) flash = make_bytes(5000, 0x13), firmware = make_bytes(100000, 0x13),
                          kernel = make_bytes(70000, 'x'), initrd = make_bytes(3000, 'y');
    AUTO(machine)
    m = make(&(struct parts){.firmware = firmware, .kernel = kernel, .initrd = initrd, .append = "quiet"},
             flash, 0, MACHINE_START_SUPERVISOR);
    g_assert_cmphex(rom64(m, 0), ==, 0x80000000);
    g_assert_cmphex(rom64(m, 4), ==, FLASH);
    check_item(m, 0x08, 0x11, kernel);
    check_item(m, 0x0b, 0x12, initrd);
    g_autoptr(GByteArray) line = g_byte_array_append(g_byte_array_new(), (const uint8_t *)"quiet", 6);
    check_item(m, 0x14, 0x15, line);
    g_assert_cmphex(*(const uint8_t *)mem_host_read(m->mem, GPA(0x80200000), 1), ==, 0);
}

/* Flash that is not started is only there. */
static void test_storage(void)
{
    g_autoptr(GByteArray) flash = make_bytes(5000, 0x77), kernel = make_image(8192, 0x200000, 0);
    AUTO(machine) m = make(&(struct parts){.kernel = kernel}, flash, 0, MACHINE_START_OFF);
    g_assert_cmphex(vcpus_env(m->vcpus, 0)->pc, ==, 0x80200000);
    check_item(m, 0x08, 0x11, kernel);
    uint64_t v;
    g_assert_cmpint(bus_read(m->bus, GPA(FLASH + 4996), 8, &v), ==,
                    -ENXIO); /* misaligned: memory's business */
    g_assert_cmpint(bus_read(m->bus, GPA(FLASH + 4992), 8, &v), ==, 0);
    g_assert_cmphex(v, ==, 0x7777777777777777);
    g_assert_cmpint(bus_write(m->bus, GPA(FLASH), 1, 0x90), ==, 0);
    g_assert_cmpint(bus_read(m->bus, GPA(FLASH), 4, &v), ==, 0);
    g_assert_cmphex(v, ==, 0x890089);
    g_assert_true(machine_reset(m, NULL));
    g_assert_cmpint(bus_read(m->bus, GPA(FLASH), 4, &v), ==, 0);
    g_assert_cmphex(v, ==, 0x77777777);
}

static void test_raw_payload(void)
{
    g_autoptr(GByteArray) firmware = make_bytes(0x2fffff, 0x13), kernel = make_bytes(7000, 0xfd);
    g_autoptr(GError) error = NULL;
    AUTO(machine) m = bench_machine(&(struct parts){.firmware = firmware, .kernel = kernel}, &error);
    g_assert_no_error(error);
    g_assert_cmphex(rom64(m, 4), ==, 0x80400000); /* the next 2 MiB behind it */
    const void *p = mem_host_read(m->mem, GPA(0x80400000), kernel->len);
    g_assert_cmpmem(p, kernel->len, kernel->data, kernel->len);
}

static const char *isa(struct machine *m)
{
    /* Where hart 0 or its firmware finds the tree. */
    uint64_t at = riscv_virt_is_builtin(m) ? bench_reg(m, 0, 11) : rom64(m, 1);
    const void *fdt = mem_host_read(m->mem, GPA(at), 64);
    return fdt_getprop(fdt, fdt_path_offset(fdt, "/cpus/cpu@0"), "riscv,isa", NULL);
}

/* Told of both, a kernel relies on Svade; a firmware that knows neither leaves Svadu on. */
static void test_svade_is_told_when_it_is_so(void)
{
    g_autoptr(GByteArray) firmware = make_bytes(100, 0x13), kernel = make_image(8192, 0x200000, 0);
    g_autoptr(GError) error = NULL;
    AUTO(machine) a = bench_machine(&(struct parts){.kernel = kernel}, &error);
    AUTO(machine) b = bench_machine(&(struct parts){.firmware = firmware, .kernel = kernel}, &error);
    g_assert_no_error(error);
    const uint64_t adue = UINT64_C(1) << 61;
    g_assert_nonnull(strstr(isa(a), "_svade_svadu_"));
    g_assert_cmphex(riscv_cpu(vcpus_env(a->vcpus, 0))->menvcfg & adue, ==, 0);
    g_assert_nonnull(strstr(isa(b), "_sstc_svadu_"));
    g_assert_cmphex(riscv_cpu(vcpus_env(b->vcpus, 0))->menvcfg & adue, ==, adue);
    g_assert_true(g_str_has_prefix(isa(b), "rv64imafdc_z"));
}

static void refused(struct machine_config *c, const char *says)
{
    GError *error = NULL;
    g_assert_null(machine_new(board_find("riscv-virt", NULL), c, &error));
    g_assert_nonnull(strstr(error->message, says));
    g_error_free(error);
}

static void test_refused(void)
{
    g_autoptr(GByteArray) flash = make_bytes(100, 0x13), script = make_bytes(100, '#');
    const struct machine_flash machine = {.given = true, .start = MACHINE_START_MACHINE};
    struct machine_config c = bench_config(&(struct parts){0});
    c.flash[0] = c.flash[1] = machine;
    c.flash[0].fd = make_file(flash);
    c.flash[1].fd = make_file(flash);
    refused(&c, "only one bank");
    c = bench_config(&(struct parts){.firmware = flash});
    c.flash[1] = machine;
    c.flash[1].fd = make_file(flash);
    refused(&c, "leave one out");
    c = bench_config(&(struct parts){.firmware = flash, .kernel = script});
    refused(&c, "nothing that firmware could start: it is text");
    c = bench_config(&(struct parts){.firmware = flash});
    c.fw_files[0] = (struct machine_fw_file){.name = "no blanks", .string = ""};
    refused(&c, "printable characters");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/flash/supervisor", test_supervisor);
    g_test_add_func("/flash/machine", test_machine);
    g_test_add_func("/flash/kernel-is-offered", test_kernel_is_offered);
    g_test_add_func("/flash/storage", test_storage);
    g_test_add_func("/flash/raw-payload", test_raw_payload);
    g_test_add_func("/flash/svade", test_svade_is_told_when_it_is_so);
    g_test_add_func("/flash/refused", test_refused);
    return g_test_run();
}
