/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* A small riscv-virt machine that has one chip of each kind, and a guest that counts. */
#ifndef HOSTEL_TESTS_BOARD_FULL_H
#define HOSTEL_TESTS_BOARD_FULL_H

#include <sys/socket.h>

#include "bench.h"
#include "block/block.h"
#include "board/ports.h"
#include "codec/saved.h"
#include "net/net.h"

enum {
    FULL_VCPUS = 2,
    FULL_RAM = 2 << 20,
    FULL_CODE = 1 << 20, /* where the guest's program is in RAM, */
    FULL_DATA = 3 << 19, /* and where it writes */
    FULL_REG_A0 = RISCV_REG_X0 + 10
};

/* What is used until the test's end. */
static inline void *full_keep(void *pointer)
{
    static GPtrArray *kept;
    kept = kept ? kept : g_ptr_array_new();
    g_ptr_array_add(kept, pointer);
    return pointer;
}

/* It counts in a0 and in memory, and looks at a register of a chip each time round. */
static inline void full_put_program(struct machine *m)
{
    static const uint32_t loop[] = {
        0x00150513, /* addi a0, a0, 1 */
        0x00a13023, /* sd a0, 0(sp) */
        0x0005a603, /* lw a2, 0(a1) */
        0xff5ff06f, /* j back */
    };
    g_assert_cmpint(mem_write(m->mem, GPA(VIRT_DRAM + FULL_CODE), loop, sizeof(loop)), ==, 0);
    struct env *env = vcpus_env(m->vcpus, 0);
    env->pc = VIRT_DRAM + FULL_CODE;
    env->reg[RISCV_REG_X0 + 2] = VIRT_DRAM + FULL_DATA;
    env->reg[RISCV_REG_X0 + 11] = VIRT_VIRTIO;
    env->reg[FULL_REG_A0] = 0;
}

/* A card whose cable leads to a silent end that stays open. */
static inline struct net *full_net(void)
{
    int pair[2];
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), ==, 0);
    return full_keep(net_new(net_backend_find("user"), pair[0], NULL, NULL));
}

static inline struct disk *full_disk(void)
{
    struct block_config config = {.name = "full", .fd = -1, .size = 64 << 10};
    return full_keep(block_open(block_driver_find("memory"), &config, NULL));
}

/* Fills the slot for hot-plug. */
static inline void full_plug(struct machine *m)
{
    const struct machine_virtio plugged = {.type = "virtio-rng"};
    g_autoptr(GError) error = NULL;
    machine_plug(m, machine_port(m, 1), &plugged, true, &error);
    g_assert_no_error(error);
}

/* Its back ends live as long as the test. */
static inline struct machine *full_machine(bool incoming)
{
    g_autoptr(GByteArray) firmware = make_bytes(64, 0);
    st32le(firmware->data, 0x0000006f); /* 0: j 0b, for both after a reset */
    g_autoptr(GError) error = NULL;
    struct machine_config c =
        bench_config(&(struct parts){.firmware = firmware, .vcpus = FULL_VCPUS, .memory = FULL_RAM});
    const struct machine_virtio functions[] = {
        {.type = "virtio-blk", .wires = {.disk = full_disk(), .serial = "full"}},
        {.type = "virtio-net", .wires = {.net = full_net()}},
        {.type = "virtio-console", .wires = {.stream = full_keep(stream_new_null())}},
        {.type = "virtio-rng"},
        {.type = "virtio-balloon"},
        {.type = "virtio-input"},
    };
    c.virtio = functions;
    c.n_virtio = G_N_ELEMENTS(functions);
    c.console = full_keep(stream_new_null());
    c.ports = 1;
    c.incoming = incoming;
    struct machine *m = machine_new(board_find("riscv-virt", NULL), &c, &error);
    g_assert_no_error(error);
    full_plug(m);
    if (!incoming)
        full_put_program(m);
    return m;
}

/* For a while: until the first CPU has run a little, unless it does not run. */
static inline void full_run(struct machine *m)
{
    enum { LOOKS = 10, ENOUGH = 100 };
    const uint64_t from = vcpus_env(m->vcpus, 0)->icount;
    for (unsigned i = 0; i < LOOKS && vcpus_env(m->vcpus, 0)->icount - from < ENOUGH; i++) {
        machine_start(m);
        for (unsigned k = 0; k < 20 && g_main_context_iteration(NULL, FALSE); k++)
            continue;
        g_thread_yield();
        machine_pause(m);
    }
}

static inline int full_file(void)
{
    int fd = memfd_create("saved", MFD_CLOEXEC);
    g_assert_cmpint(fd, >=, 0);
    return fd;
}

/* All of it, while it stands. */
static inline int full_save(struct machine *m)
{
    unsigned count;
    int fd = full_file();
    g_autoptr(GError) error = NULL;
    AUTO(saved_writer) w = saved_writer_new(fd);
    const struct mem_block *blocks = mem_blocks(m->mem, &count);
    uint64_t places[MEM_MAX_BLOCKS], start, end;
    for (unsigned i = 0; i < count; i++)
        places[i] = saved_add_memory(w, blocks[i].name, blocks[i].base.v, blocks[i].size);
    machine_save(m, w); /* before memory: chips finish what is under way */
    for (unsigned i = 0; i < count; i++)
        for (uint64_t at = 0; mem_next_data(&blocks[i], at, &start, &end); at = end)
            g_assert_cmpint(
                saved_write_pages(w, places[i] + start, blocks[i].host + start, end - start, true), ==, 0);
    saved_finish(w, false, &error);
    g_assert_no_error(error);
    return fd;
}

/* Of what a machine has saved. */
static inline void full_load(struct machine *m, int fd)
{
    g_autoptr(GError) error = NULL;
    AUTO(saved) s = saved_open(fd, &error);
    g_assert_no_error(error);
    machine_load(m, s, fd, &error);
    g_assert_no_error(error);
}

#endif
