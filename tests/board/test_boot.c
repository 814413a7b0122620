/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What riscv-virt's memory and harts are like when a machine has been built: files placed, device tree, reset
 * vector, errors. */
#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <libfdt.h>

#include "base/checked.h"
#include "base/error.h"
#include "bench.h"

/* --- looking --- */

struct span {
    uint64_t start, size;
};

static const void *tree(struct machine *m, uint64_t at)
{
    const void *fdt = mem_host_read(m->mem, GPA(at), 64);
    g_assert_nonnull(fdt);
    g_assert_cmpint(fdt_check_full(fdt, fdt_totalsize(fdt)), ==, 0);
    return fdt;
}

static const void *prop(const void *fdt, const char *path, const char *name, int *len)
{
    int node = fdt_path_offset(fdt, path);
    return node < 0 ? NULL : fdt_getprop(fdt, node, name, len);
}

static uint64_t prop64(const void *fdt, const char *path, const char *name)
{
    int len = 0;
    const void *p = prop(fdt, path, name, &len);
    g_assert_cmpint(len, >=, 8);
    return ld64be(p);
}

static void check_memory(struct machine *m, uint64_t at, const void *bytes, size_t size)
{
    const void *p = mem_host_read(m->mem, GPA(at), size);
    g_assert_nonnull(p);
    g_assert_cmpint(memcmp(p, bytes, size), ==, 0);
}

static uint64_t rom64(struct machine *m, unsigned index)
{
    uint64_t v;
    g_assert_cmpint(mem_read(m->mem, GPA(0x1018 + 8 * index), &v, 8), ==, 0);
    return GUINT64_FROM_LE(v);
}

/* --- placing --- */

static void test_image(void)
{
    g_autoptr(GByteArray) kernel = make_image(3 * MiB, 0x200000, 5 * MiB), initrd = make_bytes(1234567, 0x77);
    g_autoptr(GError) error = NULL;
    AUTO(machine)
    m = bench_machine(
        &(struct parts){.vcpus = 2, .kernel = kernel, .initrd = initrd, .append = "console=ttyS0 quiet"},
        &error);
    g_assert_no_error(error);
    check_memory(m, 0x80200000, kernel->data, kernel->len);
    const struct riscv_cpu *cpu = riscv_cpu(vcpus_env(m->vcpus, 0));
    g_assert_cmphex(cpu->env.pc, ==, 0x80200000);
    g_assert_cmpuint(cpu->priv, ==, RISCV_S);
    g_assert_cmphex(cpu->env.reg[10], ==, 0);
    g_assert_true(vcpus_is_online(m->vcpus, 0));
    g_assert_false(vcpus_is_online(m->vcpus, 1));
    int len;
    const void *fdt = tree(m, cpu->env.reg[11]);
    g_assert_cmpstr(prop(fdt, "/chosen", "bootargs", &len), ==, "console=ttyS0 quiet");
    uint64_t start = prop64(fdt, "/chosen", "linux,initrd-start"),
             end = prop64(fdt, "/chosen", "linux,initrd-end");
    g_assert_cmpuint(end - start, ==, initrd->len);
    check_memory(m, start, initrd->data, initrd->len);
    prop(fdt, "/chosen", "rng-seed", &len);
    g_assert_cmpint(len, ==, 64);
    g_assert_cmphex(prop64(fdt, "/memory@80000000", "reg"), ==, 0x80000000);
}

static void test_packed(void)
{
    g_autoptr(GByteArray) kernel = make_image(100000, 0x200000, 0), packed = make_gzip(kernel),
                          zboot = make_zboot(packed, "gzip");
    const GByteArray *const forms[] = {packed, zboot};
    for (unsigned i = 0; i < 2; i++) {
        g_autoptr(GError) error = NULL;
        AUTO(machine) m = bench_machine(&(struct parts){.kernel = forms[i]}, &error);
        g_assert_no_error(error);
        check_memory(m, 0x80200000, kernel->data, kernel->len);
    }
}

/* vmlinux: linked high, loaded at 0: moved to where a kernel belongs. */
static void test_vmlinux(void)
{
    g_autoptr(GByteArray) kernel = make_elf(UINT64_C(0xffffffff80000000), 0, 5000, 9000);
    g_autoptr(GError) error = NULL;
    AUTO(machine) m = bench_machine(&(struct parts){.kernel = kernel}, &error);
    g_assert_no_error(error);
    g_assert_cmphex(vcpus_env(m->vcpus, 0)->pc, ==, 0x80200004);
    check_memory(m, 0x80200000, kernel->data + kernel->len - 5000, 5000);
}

static void check_firmware(struct machine *m, uint64_t entry, uint64_t next)
{
    static const uint32_t code[] = {0x00000297, 0x02828613, 0xf1402573, 0x0202b583, 0x0182b283, 0x00028067};
    check_memory(m, 0x1000, code, sizeof(code));
    g_assert_cmphex(rom64(m, 0), ==, entry);
    tree(m, rom64(m, 1));
    g_assert_cmphex(rom64(m, 2), ==, 0x4942534f); /* fw_dynamic: magic, version, next address, next mode S */
    g_assert_cmphex(rom64(m, 3), ==, 2);
    g_assert_cmphex(rom64(m, 4), ==, next);
    g_assert_cmphex(rom64(m, 5), ==, 1);
    for (unsigned i = 0; i < vcpus_count(m->vcpus); i++) {
        g_assert_cmphex(vcpus_env(m->vcpus, i)->pc, ==, 0x1000);
        g_assert_cmpuint(riscv_cpu(vcpus_env(m->vcpus, i))->priv, ==, RISCV_M);
        g_assert_true(vcpus_is_online(m->vcpus, i));
    }
}

static void test_firmware(void)
{
    g_autoptr(GByteArray) kernel = make_image(100000, 0x200000, 0), raw = make_bytes(300000, 0x13),
                          big = make_bytes(3 * MiB, 0x13), elf = make_elf(0x80001000, 0x80001000, 5000, 6000),
                          moved = make_elf(0, 0, 5000, 6000);
    st16le(moved->data + 16, ET_DYN);
    const struct {
        const GByteArray *firmware, *kernel;
        uint64_t entry, next;
    } cases[] = {{raw, kernel, 0x80000000, 0x80200000},
                 {raw, NULL, 0x80000000, 0},
                 {big, kernel, 0x80000000, 0x80400000},
                 {elf, kernel, 0x80001004, 0x80200000},
                 {moved, kernel, 0x80000004, 0x80200000}};
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        AUTO(machine)
        m = bench_machine(
            &(struct parts){.vcpus = 3, .kernel = cases[i].kernel, .firmware = cases[i].firmware}, &error);
        g_assert_no_error(error);
        check_firmware(m, cases[i].entry, cases[i].next);
        if (cases[i].kernel)
            check_memory(m, cases[i].next, kernel->data, kernel->len);
    }
}

static void no_overlap(const struct span *s, unsigned n, uint64_t memory)
{
    for (unsigned i = 0; i < n; i++) {
        g_assert_true(range_inside(s[i].start, s[i].size, 0x80000000, memory));
        for (unsigned k = 0; k < i; k++)
            g_assert_false(ranges_overlap(s[i].start, s[i].size, s[k].start, s[k].size));
    }
}

/* Whatever the sizes: it fits without overlap, or the error says how much memory would do, and with that much
 * it fits. */
static void test_sizes(void)
{
    static const unsigned memories[] = {2, 3, 4, 6, 8, 16, 64, 1024, 2048, 4096};
    static const unsigned kernels[] = {1, 4, 60}, initrds[] = {0, 1, 5};
    g_autoptr(GByteArray) kernel = make_image(8192, 0x200000, 0), initrd = make_bytes(5 * MiB, 1);
    for (unsigned i = 0; i < G_N_ELEMENTS(memories) * 9; i++) {
        uint64_t memory = memories[i / 9] * MiB, kernel_size = kernels[i / 3 % 3] * MiB;
        struct parts p = {.memory = memory, .kernel = kernel};
        GByteArray part = {.data = initrd->data, .len = (guint)(initrds[i % 3] * MiB)};
        p.initrd = part.len ? &part : NULL;
        st64le(kernel->data + 16, kernel_size);
        GError *error = NULL;
        struct machine *m = bench_machine(&p, &error);
        if (!m) {
            const char *at_least = strstr(error->message, "at least ");
            g_assert_nonnull(at_least);
            p.memory = (uint64_t)atoi(at_least + strlen("at least ")) * MiB;
            g_assert_cmpuint(p.memory, >, memory);
            g_clear_error(&error);
            m = bench_machine(&p, &error);
            g_assert_no_error(error);
        }
        const void *fdt = tree(m, bench_reg(m, 0, 11));
        struct span spans[3] = {{0x80200000, kernel_size}, {bench_reg(m, 0, 11), fdt_totalsize(fdt)}};
        if (part.len) {
            spans[2].start = prop64(fdt, "/chosen", "linux,initrd-start");
            spans[2].size = prop64(fdt, "/chosen", "linux,initrd-end") - spans[2].start;
        }
        g_assert_cmpuint(spans[2].size, ==, part.len);
        no_overlap(spans, part.len ? 3 : 2, p.memory);
        g_assert_cmphex(spans[1].start + spans[1].size, <=, UINT64_C(0xc0000000));
        machine_free(m);
    }
}

/* --- the list of boards --- */

static void test_rows(void)
{
    for (unsigned i = 0; boards[i]; i++) {
        const struct board *b = boards[i];
        g_assert_true(board_find(b->name, NULL) == b);
        g_assert_true(board_find(b->name, b->isa) == b);
        g_assert_null(board_find(b->name, "no-such-isa"));
        g_assert_nonnull(board_find(NULL, b->isa));
        g_assert_nonnull(isa_find(b->isa));
        g_assert_nonnull(b->help);
        g_assert_true(b->max_vcpus >= 1 && b->max_vcpus <= VCPUS_MAX);
        g_assert_true(b->min_memory >= MEM_PAGE_SIZE && b->min_memory <= b->max_memory);
        g_assert_true(b->build && b->boot && b->destroy);
    }
    g_assert_null(board_find("no-such-board", NULL));
}

/* --- errors --- */

static void refused(const struct machine_config *c, const char *says)
{
    GError *error = NULL;
    g_assert_null(machine_new(board_find(NULL, "riscv64"), c, &error));
    g_test_message("%s", error->message);
    g_assert_true(error->domain == HOSTEL_ERROR);
    g_assert_nonnull(strstr(error->message, says));
    g_assert_null(strchr(error->message, '\n'));
    g_error_free(error);
}

static void test_refuses_config(void)
{
    g_autoptr(GByteArray) kernel = make_image(8192, 0x200000, 0);
    struct machine_config c = bench_config(&(struct parts){.kernel = kernel});
    c.vcpus = 17;
    refused(&c, "17 CPUs: 1 to 16");
    g_assert_cmpint(fcntl(c.kernel_fd, F_GETFD), ==, -1); /* taken in any case */
    c = bench_config(&(struct parts){.kernel = kernel});
    c.vcpus = 0;
    refused(&c, "0 CPUs");
    c = bench_config(&(struct parts){.memory = 1 * MiB, .kernel = kernel});
    refused(&c, "at least 2 MiB");
    c = bench_config(&(struct parts){.memory = 64 * MiB + 1, .kernel = kernel});
    refused(&c, "not a multiple");
    c = bench_config(&(struct parts){0});
    refused(&c, "nothing to run");
    c = bench_config(&(struct parts){.firmware = kernel, .initrd = kernel});
    refused(&c, "an initrd without a kernel");
    c = bench_config(&(struct parts){.kernel = kernel});
    c.cpu_features = "no-such-feature";
    refused(&c, "no-such-feature");
}

static void test_refuses_files(void)
{
    int ends[2];
    g_autoptr(GByteArray) text = make_bytes(100, 'x'), empty = g_byte_array_new(),
                          high = make_elf(0x90000000, 0x90000000, 64, 64),
                          low = make_elf(0x1000, 0x1000, 64, 64), kernel = make_image(8192, 0x200000, 0);
    struct machine_config c = bench_config(&(struct parts){.kernel = text});
    refused(&c, "Image is not a RISC-V kernel: it is text");
    c = bench_config(&(struct parts){.kernel = empty});
    refused(&c, "Image is empty");
    c = bench_config(&(struct parts){.firmware = high});
    refused(&c, "at least 259 MiB");
    c = bench_config(&(struct parts){.firmware = low});
    refused(&c, "where there is no memory");
    c = bench_config(&(struct parts){0});
    g_assert_cmpint(pipe(ends), ==, 0);
    c.kernel_fd = ends[0];
    refused(&c, "not a regular file");
    close(ends[1]);
    c = bench_config(&(struct parts){.kernel = kernel});
    g_autofree char *path = g_strdup_printf("/proc/self/fd/%d", c.kernel_fd);
    int fd = open(path, O_WRONLY);
    close(c.kernel_fd);
    c.kernel_fd = fd;
    refused(&c, "cannot be read");
}

/* An ELF kernel that wants the place of the firmware. */
static void test_refuses_overlap(void)
{
    g_autoptr(GByteArray) kernel = make_elf(0x80001000, 0x80001000, 64, 64),
                          firmware = make_bytes(100000, 0x13);
    struct machine_config c = bench_config(&(struct parts){.kernel = kernel, .firmware = firmware});
    refused(&c, "want the same memory");
}

/* --- reset --- */

static void test_reset(void)
{
    g_autoptr(GByteArray) kernel = make_elf(0x80200000, 0x80200000, 5000, 9000);
    g_autoptr(GError) error = NULL;
    AUTO(machine) m = bench_machine(&(struct parts){.vcpus = 2, .kernel = kernel}, &error);
    g_assert_no_error(error);
    int len;
    uint8_t seed[64], junk[9000];
    uint64_t value;
    memcpy(seed, prop(tree(m, bench_reg(m, 0, 11)), "/chosen", "rng-seed", &len), 64);
    memset(junk, 0xee, sizeof(junk));
    mem_write(m->mem, GPA(0x80200000), junk, sizeof(junk));
    bus_write(m->bus, GPA(0x10000007), 1, 0x55); /* the UART's scratch register */
    vcpus_env(m->vcpus, 0)->pc = 0;
    vcpus_online(m->vcpus, 1, NULL, NULL);
    g_assert_true(machine_reset(m, &error));
    check_memory(m, 0x80200000, kernel->data + kernel->len - 5000, 5000);
    memset(junk, 0, sizeof(junk));
    check_memory(m, 0x80200000 + 5000, junk, 4000); /* its bss is zero again */
    g_assert_cmphex(vcpus_env(m->vcpus, 0)->pc, ==, 0x80200004);
    g_assert_false(vcpus_is_online(m->vcpus, 1));
    bus_read(m->bus, GPA(0x10000007), 1, &value);
    g_assert_cmphex(value, ==, 0);
    const void *again = prop(tree(m, bench_reg(m, 0, 11)), "/chosen", "rng-seed", &len);
    g_assert_cmpint(memcmp(seed, again, 64), !=, 0);
}

static void test_map(void)
{
    g_autoptr(GByteArray) kernel = make_image(8192, 0x200000, 0);
    g_autoptr(GError) error = NULL;
    AUTO(machine) m = bench_machine(&(struct parts){.vcpus = 2, .kernel = kernel}, &error);
    g_assert_no_error(error);
    uint64_t v;
    g_assert_cmpint(bus_read(m->bus, GPA(0x10000005), 1, &v), ==, 0);
    g_assert_cmphex(v, ==, 0x60);
    for (unsigned i = 0; i < 8; i++) {
        g_assert_cmpint(bus_read(m->bus, GPA(0x10001000 + 0x1000 * i), 4, &v), ==, 0);
        g_assert_cmphex(v, ==, 0x74726976);
    }
    g_assert_cmpint(bus_read(m->bus, GPA(0x200bff8), 8, &v), ==, 0);
    g_assert_cmpint(bus_read(m->bus, GPA(0x101000), 4, &v), ==, 0);
    /* MSIP of hart 1; the UART through the PLIC to hart 1's S-mode: source 10, context 3 */
    struct env *env = vcpus_env(m->vcpus, 1);
    g_assert_cmpint(bus_write(m->bus, GPA(0x2000004), 4, 1), ==, 0);
    g_assert_cmphex(env->irq_lines, ==, BIT(RISCV_IRQ_MSI));
    bus_write(m->bus, GPA(0xc000000 + 4 * 10), 4, 1);
    bus_write(m->bus, GPA(0xc002000 + 0x80 * 3), 4, 1 << 10);
    bus_write(m->bus, GPA(0x10000001), 1, 2);
    g_assert_cmphex(env->irq_lines, ==, BIT(RISCV_IRQ_MSI) | BIT(RISCV_IRQ_SEI));
    bus_write(m->bus, GPA(0x100000), 4, 0x3333 | 5 << 16);
    g_assert_cmpint(bench_power.what, ==, MACHINE_FAIL);
    g_assert_cmpint(bench_power.code, ==, 5);
}

/* --- the tree, by others --- */

static bool run(const char *const *argv, char **output)
{
    g_autofree char *out = NULL;
    g_autofree char *err = NULL;
    int status;
    g_autoptr(GError) error = NULL;
    if (!g_spawn_sync(NULL, (char **)(uintptr_t)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, &out, &err,
                      &status, &error))
        return false;
    if (output)
        *output = g_strdup(err);
    return status == 0;
}

static void test_dtc(void)
{
    g_autofree char *dtc = g_find_program_in_path("dtc");
    if (!dtc) {
        g_test_skip("dtc is not installed");
        return;
    }
    g_autoptr(GByteArray) kernel = make_image(8192, 0x200000, 0);
    g_autoptr(GError) error = NULL;
    AUTO(machine) m = bench_machine(&(struct parts){.vcpus = 16, .kernel = kernel, .initrd = kernel}, &error);
    g_assert_no_error(error);
    const void *fdt = tree(m, bench_reg(m, 0, 11));
    g_autofree char *path = g_strdup_printf("%s/hostel-test-%d.dtb", g_get_tmp_dir(), (int)getpid());
    g_assert_true(g_file_set_contents(path, fdt, fdt_totalsize(fdt), &error));
    g_autofree char *said = NULL;
    bool ok = run((const char *[]){dtc, "-I", "dtb", "-O", "dts", "-o", "/dev/null", path, NULL}, &said);
    g_unlink(path);
    g_assert_true(ok);
    g_assert_cmpstr(said, ==, "");
}

/* Where both describe the same thing, ours equals QEMU's. */
static void test_like_qemu(void)
{
    static const struct {
        const char *path, *name;
    } same[] = {
        {"/", "#address-cells"},
        {"/", "#size-cells"},
        {"/", "compatible"},
        {"/chosen", "stdout-path"},
        {"/memory@80000000", "device_type"},
        {"/memory@80000000", "reg"},
        {"/cpus", "#address-cells"},
        {"/cpus", "#size-cells"},
        {"/cpus", "timebase-frequency"},
        {"/cpus/cpu@1", "device_type"},
        {"/cpus/cpu@1", "reg"},
        {"/cpus/cpu@1", "status"},
        {"/cpus/cpu@1", "compatible"},
        {"/cpus/cpu@1/interrupt-controller", "#interrupt-cells"},
        {"/cpus/cpu@1/interrupt-controller", "interrupt-controller"},
        {"/cpus/cpu@1/interrupt-controller", "compatible"},
        {"/flash@20000000", "compatible"},
        {"/flash@20000000", "reg"},
        {"/flash@20000000", "bank-width"},
        {"/fw-cfg@10100000", "compatible"},
        {"/fw-cfg@10100000", "reg"},
        {"/fw-cfg@10100000", "dma-coherent"},
        {"/soc", "compatible"},
        {"/soc", "ranges"},
        {"/soc", "#address-cells"},
        {"/soc", "#size-cells"},
        {"/soc/test@100000", "compatible"},
        {"/soc/test@100000", "reg"},
        {"/soc/rtc@101000", "compatible"},
        {"/soc/rtc@101000", "reg"},
        {"/soc/rtc@101000", "interrupts"},
        {"/soc/serial@10000000", "compatible"},
        {"/soc/serial@10000000", "reg"},
        {"/soc/serial@10000000", "interrupts"},
        {"/soc/serial@10000000", "clock-frequency"},
        {"/soc/virtio_mmio@10001000", "compatible"},
        {"/soc/virtio_mmio@10001000", "reg"},
        {"/soc/virtio_mmio@10001000", "interrupts"},
        {"/soc/virtio_mmio@10008000", "reg"},
        {"/soc/virtio_mmio@10008000", "interrupts"},
        {"/soc/plic@c000000", "compatible"},
        {"/soc/plic@c000000", "reg"},
        {"/soc/plic@c000000", "interrupt-controller"},
        {"/soc/plic@c000000", "#interrupt-cells"},
        {"/soc/plic@c000000", "#address-cells"},
        {"/soc/clint@2000000", "compatible"},
        {"/soc/clint@2000000", "reg"},
        {"/poweroff", "compatible"},
        {"/poweroff", "value"},
        {"/poweroff", "offset"},
        {"/reboot", "compatible"},
        {"/reboot", "value"},
    };
    g_autofree char *qemu = g_find_program_in_path("qemu-system-riscv64");
    g_autofree char *path = g_strdup_printf("%s/hostel-test-qemu-%d.dtb", g_get_tmp_dir(), (int)getpid());
    g_autofree char *machine = g_strdup_printf("virt,dumpdtb=%s", path);
    g_autofree char *blob = NULL;
    if (!qemu ||
        !run((const char *[]){qemu, "-machine", machine, "-smp", "2", "-m", "64M", "-bios", "none",
                              "-display", "none", NULL},
             NULL) ||
        !g_file_get_contents(path, &blob, NULL, NULL)) {
        g_test_skip("qemu-system-riscv64 is not installed");
        return;
    }
    g_unlink(path);
    g_autoptr(GByteArray) kernel = make_image(8192, 0x200000, 0);
    g_autoptr(GError) error = NULL;
    AUTO(machine) m = bench_machine(&(struct parts){.vcpus = 2, .kernel = kernel}, &error);
    g_assert_no_error(error);
    const void *ours = tree(m, bench_reg(m, 0, 11));
    for (unsigned i = 0; i < G_N_ELEMENTS(same); i++) {
        int a_len = -1, b_len = -1;
        const void *a = prop(ours, same[i].path, same[i].name, &a_len),
                   *b = prop(blob, same[i].path, same[i].name, &b_len);
        if (!a || !b || a_len != b_len || memcmp(a, b, (size_t)a_len))
            g_error("%s %s: %d and %d bytes, or different", same[i].path, same[i].name, a_len, b_len);
    }
}

/* Debian's kernel, where it was fetched. */
static void test_debian(void)
{
    const char *root = g_getenv("HOSTEL_SOURCE");
    g_autofree char *tool = g_build_filename(root ? root : ".", "tools", "debian-guest", NULL);
    g_autofree char *folder = NULL;
    if (!g_spawn_sync(NULL, (char *[]){tool, "path", NULL}, NULL, G_SPAWN_STDERR_TO_DEV_NULL, NULL, NULL,
                      &folder, NULL, NULL, NULL) ||
        !g_file_test(g_strstrip(folder), G_FILE_TEST_IS_DIR)) {
        g_test_skip("Debian's guest files are not there (tools/debian-guest fetch)");
        return;
    }
    g_autofree char *path = g_build_filename(folder, "kernel", NULL);
    struct machine_config c = bench_config(&(struct parts){.memory = 256 * MiB});
    g_autoptr(GError) error = NULL;
    c.kernel_fd = open(path, O_RDONLY | O_CLOEXEC);
    AUTO(machine) m = machine_new(board_find(NULL, "riscv64"), &c, &error);
    g_assert_no_error(error);
    g_assert_cmphex(vcpus_env(m->vcpus, 0)->pc, ==, 0x80200000);
    check_memory(m, 0x80200000 + 0x38, "RSC\x05", 4);
    c.memory = 16 * MiB;
    c.kernel_fd = open(path, O_RDONLY | O_CLOEXEC);
    refused(&c, "at least");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/boot/rows", test_rows);
    g_test_add_func("/boot/image", test_image);
    g_test_add_func("/boot/packed", test_packed);
    g_test_add_func("/boot/vmlinux", test_vmlinux);
    g_test_add_func("/boot/firmware", test_firmware);
    g_test_add_func("/boot/sizes", test_sizes);
    g_test_add_func("/boot/refuses-config", test_refuses_config);
    g_test_add_func("/boot/refuses-files", test_refuses_files);
    g_test_add_func("/boot/refuses-overlap", test_refuses_overlap);
    g_test_add_func("/boot/reset", test_reset);
    g_test_add_func("/boot/map", test_map);
    g_test_add_func("/boot/dtc", test_dtc);
    g_test_add_func("/boot/like-qemu", test_like_qemu);
    g_test_add_func("/boot/debian", test_debian);
    return g_test_run();
}
