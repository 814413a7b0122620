/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* A machine saved and loaded: the second is the first, and damage is refused before anything changes. */
#include <fcntl.h>
#include <sys/stat.h>

#include "base/error.h"
#include "codec/saved.h"
#include "full.h"

enum { NOP = 0x00000013, ADD_A0_A0_A1 = 0x00b50533, SD_A0_SP = 0x00a13023, JUMP_BACK_12 = 0xff5ff06f };
enum { REG_SP = RISCV_REG_X0 + 2, REG_A0 = RISCV_REG_X0 + 10, REG_A1 = RISCV_REG_X0 + 11 };

/* A guest that counts in a register and in memory, for ever. */
static struct machine *counter(unsigned vcpus, bool incoming)
{
    static const uint32_t loop[] = {NOP, ADD_A0_A0_A1, SD_A0_SP, JUMP_BACK_12};
    g_autoptr(GByteArray) kernel = make_image(8192, 0x200000, 0);
    g_autoptr(GError) error = NULL;
    struct machine_config c = bench_config(&(struct parts){.kernel = kernel, .vcpus = vcpus});
    c.incoming = incoming;
    struct machine *m = machine_new(board_find("riscv-virt", NULL), &c, &error);
    g_assert_no_error(error);
    if (incoming)
        return m;
    g_assert_cmpint(mem_write(m->mem, GPA(VIRT_DRAM + MiB), loop, sizeof(loop)), ==, 0);
    struct env *env = vcpus_env(m->vcpus, 0);
    env->pc = VIRT_DRAM + MiB;
    env->reg[REG_SP] = VIRT_DRAM + 2 * MiB;
    env->reg[REG_A0] = 0;
    env->reg[REG_A1] = 3;
    return m;
}

static void run_until(struct machine *m, uint64_t more)
{
    struct env *env = vcpus_env(m->vcpus, 0);
    const uint64_t from = env->icount;
    while (env->icount - from < more) {
        machine_start(m);
        g_thread_yield();
        machine_pause(m);
    }
}

static void load(struct machine *m, int fd)
{
    g_autoptr(GError) error = NULL;
    AUTO(saved) s = saved_open(fd, &error);
    g_assert_no_error(error);
    g_assert_true(saved_verify(s, &error));
    machine_load(m, s, fd, &error);
    g_assert_no_error(error);
}

/* Without mapping the file. */
static void load_by_reading(struct machine *m, int fd)
{
    g_autoptr(GError) error = NULL;
    const _Atomic bool stop = true;
    AUTO(saved) s = saved_open(fd, &error);
    g_assert_true(machine_can_load(m, s, &error));
    g_assert_false(machine_read_memory(m, s, false, &stop, NULL));
    g_assert_true(machine_read_memory(m, s, false, NULL, &error));
    g_assert_true(machine_read_memory(m, s, true, NULL, &error));
    g_assert_true(machine_load(m, s, -1, &error));
    g_assert_no_error(error);
}

static void assert_same(int a, int b)
{
    struct stat one, two;
    uint8_t left[65536], right[65536];
    g_assert_cmpint(fstat(a, &one), ==, 0);
    g_assert_cmpint(fstat(b, &two), ==, 0);
    g_assert_cmpint(one.st_size, ==, two.st_size);
    for (off_t at = 0; at < one.st_size; at += (off_t)sizeof(left)) {
        ssize_t n = pread(a, left, sizeof(left), at);
        g_assert_cmpint(pread(b, right, sizeof(right), at), ==, n);
        g_assert_cmpmem(left, (size_t)n, right, (size_t)n);
    }
}

/* What a loaded machine saves is what it was loaded from, byte for byte; and it goes on counting from there.
 */
static void test_round(void)
{
    struct machine *m = counter(2, false);
    for (unsigned round = 0; round < 5; round++) {
        run_until(m, 1000);
        int first = full_save(m);
        struct machine *copy = counter(2, true);
        load(copy, first);
        int second = full_save(copy);
        assert_same(first, second);
        uint64_t count = bench_reg(copy, 0, REG_A0), stored;
        run_until(copy, 1000);
        g_assert_cmpuint(bench_reg(copy, 0, REG_A0), >, count);
        g_assert_cmpint(mem_read(copy->mem, GPA(VIRT_DRAM + 2 * MiB), &stored, 8), ==, 0);
        g_assert_cmpuint(bench_reg(copy, 0, REG_A0) - stored, <=, 3);
        /* The file is as it was: the copy's pages are its own. */
        int third = full_save(m);
        assert_same(first, third);
        /* A copy of a copy, too. */
        int fourth = full_save(copy);
        struct machine *again = counter(2, true);
        load(again, fourth);
        int fifth = full_save(again);
        assert_same(fourth, fifth);
        machine_free(again);
        machine_free(m);
        m = copy;
        close(first);
        close(second);
        close(third);
        close(fourth);
        close(fifth);
    }
    machine_free(m);
}

/* A machine goes back to an earlier state of its own. data: by reading it, at times when its memory is
 * another file's. */
static void test_back(gconstpointer data)
{
    struct machine *m = counter(1, false);
    run_until(m, 1000);
    int fd = full_save(m);
    const uint64_t count = bench_reg(m, 0, REG_A0);
    for (unsigned i = 0; i < 3; i++) {
        run_until(m, 5000);
        g_assert_cmpuint(bench_reg(m, 0, REG_A0), >, count);
        const uint64_t more = 0x1234;
        mem_write(m->mem, GPA(VIRT_DRAM + 7 * MiB), &more, sizeof(more)); /* where there was nothing */
        (data && i != 1 ? load_by_reading : load)(m, fd);
        g_assert_cmpuint(bench_reg(m, 0, REG_A0), ==, count);
        int again = full_save(m);
        assert_same(fd, again);
        close(again);
    }
    close(fd);
    machine_free(m);
}

static void read_generation(struct machine *m, uint64_t id[2])
{
    for (unsigned i = 0; i < 2; i++)
        g_assert_cmpint(bus_read(m->bus, GPA(VIRT_GENERATION + 8 * i), 8, &id[i]), ==, 0);
}

/* Has the interrupt controller's gateway seen an edge? */
static bool generation_pending(struct machine *m)
{
    uint64_t pending;
    g_assert_cmpint(bus_read(m->bus, GPA(VIRT_PLIC + 0x1000), 4, &pending), ==, 0);
    return pending >> VIRT_GENERATION_IRQ & 1;
}

/* The generation ID: each machine's own; not changed by a reset; after loading, the saved one until it is
 * renewed; renewed, different in all that were loaded from one file, and each time. */
static void test_generation(void)
{
    enum { COPIES = 3 };
    struct machine *m = counter(1, false), *other = counter(1, false), *copy[COPIES];
    uint64_t first[2], seen[COPIES + 2][2] = {{0}}, id[2];
    read_generation(m, first);
    read_generation(other, id);
    g_assert_false(first[0] == id[0] || first[1] == id[1]);
    g_assert_true(machine_reset(m, NULL));
    read_generation(m, id);
    g_assert_cmpmem(id, sizeof(id), first, sizeof(first));
    g_assert_false(generation_pending(m));
    int fd = full_save(m);
    memcpy(seen[0], first, sizeof(first));
    for (unsigned i = 0; i < COPIES + 1; i++) {
        struct machine *c = i < COPIES ? (copy[i] = counter(1, true)) : copy[0];
        load(c, fd);
        read_generation(c, id);
        g_assert_cmpmem(id, sizeof(id), first, sizeof(first));
        g_assert_false(generation_pending(c));
        machine_renew(c);
        g_assert_true(generation_pending(c));
        read_generation(c, seen[i + 1]);
        for (unsigned k = 0; k <= i; k++)
            g_assert_false(seen[i + 1][0] == seen[k][0] || seen[i + 1][1] == seen[k][1]);
    }
    for (unsigned i = 0; i < COPIES; i++)
        machine_free(copy[i]);
    machine_free(m);
    machine_free(other);
    close(fd);
}

/* What does not fit is refused, and the machine is as before. */
static void test_refused(void)
{
    struct machine *m = counter(1, false), *two = counter(2, false);
    g_autoptr(GError) error = NULL;
    int fd = full_save(two), before = full_save(m);
    AUTO(saved) s = saved_open(fd, &error);
    g_assert_false(machine_can_load(m, s, &error));
    g_assert_error(error, HOSTEL_ERROR, HOSTEL_ERROR_INPUT);
    g_assert_nonnull(strstr(error->message, "2 CPUs"));
    g_clear_error(&error);
    g_assert_false(machine_load(m, s, fd, &error));
    int after = full_save(m);
    assert_same(before, after);
    close(fd);
    close(before);
    close(after);
    machine_free(m);
    machine_free(two);
}

/* Sections with one piece changed and a true checksum: left out, of another size or version, or any byte of
 * the state. Loaded or refused; when refused by machine_can_load(), nothing has changed. */
static void test_wild(void)
{
    struct machine *m = counter(1, false);
    run_until(m, 1000);
    int fd = full_save(m), before = full_save(m);
    GRand *rand = g_rand_new_with_seed(3);
    AUTO(saved) original = saved_open(fd, NULL);
    unsigned count, loaded = 0, refused = 0;
    const struct saved_section *sections = saved_sections(original, &count);
    for (unsigned round = 0; round < 400; round++) {
        const unsigned victim = (unsigned)g_rand_int_range(rand, 0, (gint32)count);
        const unsigned how = (unsigned)g_rand_int_range(rand, 0, 5);
        int wild = full_file();
        AUTO(saved_writer) w = saved_writer_new(wild);
        struct saved_memory ram;
        g_assert_true(saved_find_memory(original, "ram", &ram, NULL));
        saved_add_memory(w, "room", 0, align_up(ram.place + ram.size, 4 * MiB));
        for (unsigned i = 0; i < count; i++) {
            g_autofree uint8_t *bytes = g_malloc0(sections[i].size + 8);
            size_t size = sections[i].size;
            memcpy(bytes, sections[i].bytes, size);
            if (i == victim && how == 0)
                continue;
            if (i == victim && how == 1)
                size = size ? size - 1 : size + 1;
            for (unsigned k = 0; i == victim && how >= 3 && size && k < 1 + how * 2; k++)
                bytes[g_rand_int_range(rand, 0, (gint32)size)] = (uint8_t)g_rand_int(rand);
            saved_add(w, sections[i].kind, sections[i].name,
                      i == victim && how == 2 ? sections[i].version + 1 : sections[i].version, bytes, size);
        }
        g_assert_true(saved_finish(w, false, NULL));
        AUTO(saved) s = saved_open(wild, NULL);
        saved_look(s, "memory", "room");
        g_autoptr(GError) error = NULL;
        if (!machine_can_load(m, s, &error)) {
            g_assert_nonnull(error);
            refused++;
            if (how < 3 && refused % 8 == 0) {
                int after = full_save(m);
                assert_same(before, after);
                close(after);
            }
        } else if (machine_load(m, s, wild, &error)) {
            loaded++;
            machine_start(m);
            machine_pause(m);
        } else {
            refused++;
        }
        close(wild);
        load(m, fd);
    }
    g_test_message("%u loaded, %u refused", loaded, refused);
    g_assert_cmpuint(loaded, >, 20);
    g_assert_cmpuint(refused, >, 100);
    g_rand_free(rand);
    close(fd);
    close(before);
    machine_free(m);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/saved/round", test_round);
    g_test_add_data_func("/saved/back", NULL, test_back);
    g_test_add_data_func("/saved/back-by-reading", GINT_TO_POINTER(1), test_back);
    g_test_add_func("/saved/generation", test_generation);
    g_test_add_func("/saved/refused", test_refused);
    g_test_add_func("/saved/wild", test_wild);
    return g_test_run();
}
