/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Loads the state, runs the instructions, stores the state: a function made for each case. */
#include "machine.h"

#include <stddef.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bits.h"
#include "engine/x86_64/emit_sse.h"

#define CASE_ROOM 1024 /* bytes of code a case may take */

static const enum host_reg saved[] = {HOST_RBX, HOST_RBP, HOST_R12, HOST_R13, HOST_R14, HOST_R15};

void machine_init(struct machine *m, size_t size)
{
    int fd = memfd_create("hostel-test-code", MFD_CLOEXEC);
    void *rw, *rx;

    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(ftruncate(fd, (off_t)size), ==, 0);
    rw = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    rx = mmap(NULL, size, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
    g_assert_true(rw != MAP_FAILED && rx != MAP_FAILED);
    close(fd);
    *m = (struct machine){0};
    emit_init(&m->e, rw, size, (uintptr_t)rx, host_features_get()->avx);
}

void machine_fini(struct machine *m)
{
    size_t size = (size_t)(m->e.end - m->e.start);

    munmap((void *)(uintptr_t)emit_rx_of(&m->e, m->e.start), size);
    munmap(m->e.start, size);
}

uint64_t machine_random(void)
{
    static const uint64_t edges[] = {0,          1,         0x7f,    0x80,       0xff,
                                     0x7fff,     0x8000,    0xffff,  0x7fffffff, 0x80000000,
                                     UINT32_MAX, INT64_MAX, BIT(63), UINT64_MAX};
    uint64_t v = (uint64_t)(uint32_t)g_test_rand_int() << 32 | (uint32_t)g_test_rand_int();

    if (g_test_rand_int_range(0, 4) == 0)
        return edges[v % ARRAY_SIZE(edges)];
    return v >> (g_test_rand_int_range(0, 2) ? g_test_rand_int_range(0, 64) : 0);
}

void machine_randomize(struct machine *m)
{
    for (unsigned i = 0; i < 16; i++) {
        m->s.gpr[i] = machine_random();
        m->s.xmm[i] = g_test_rand_double_range(-1e6, 1e6);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(m->s.mem); i++)
        m->s.mem[i] = machine_random();
    m->s.flags = (uint32_t)g_test_rand_int() & FLAGS;
}

enum host_reg machine_pick(unsigned *used)
{
    unsigned r;

    do
        r = (unsigned)g_test_rand_int_range(0, 16);
    while (r == HOST_RSP || (*used >> r & 1));
    *used |= 1u << r;
    return (enum host_reg)r;
}

static struct host_mem field(const struct machine *m, size_t offset)
{
    return host_mem(m->pointer, (int32_t)offset);
}

struct host_mem machine_mem(const struct machine *m, unsigned i)
{
    return field(m, offsetof(struct state, mem) + 8 * i);
}

void machine_begin(struct machine *m, unsigned used)
{
    struct emit *e = &m->e;

    g_assert_cmpuint((size_t)(e->end - e->at), >, CASE_ROOM);
    emit_align(e, 16);
    m->entry = emit_rx(e);
    m->pointer = machine_pick(&used);
    for (unsigned i = 0; i < ARRAY_SIZE(saved); i++)
        emit_push_r(e, saved[i]);
    emit_mov_rr(e, 64, m->pointer, HOST_RDI);
    for (unsigned x = 0; x < 16; x++)
        emit_movsd_xm(e, (enum host_xmm)x, field(m, offsetof(struct state, xmm) + 8 * x));
    emit_push_m(e, field(m, offsetof(struct state, flags)));
    emit_popfq(e);
    for (unsigned r = 0; r < 16; r++) {
        if (r != HOST_RSP && r != m->pointer)
            emit_mov_rm(e, 64, (enum host_reg)r, field(m, 8 * r));
    }
}

void machine_run(struct machine *m)
{
    struct emit *e = &m->e;

    emit_pushfq(e);
    emit_pop_m(e, field(m, offsetof(struct state, flags)));
    for (unsigned r = 0; r < 16; r++) {
        if (r != HOST_RSP && r != m->pointer)
            emit_mov_mr(e, 64, field(m, 8 * r), (enum host_reg)r);
    }
    for (unsigned x = 0; x < 16; x++)
        emit_movsd_mx(e, field(m, offsetof(struct state, xmm) + 8 * x), (enum host_xmm)x);
    for (unsigned i = ARRAY_SIZE(saved); i-- > 0;)
        emit_pop_r(e, saved[i]);
    emit_ret(e);
    g_assert_true(emit_ok(e));
    ((void (*)(struct state *))(uintptr_t)m->entry)(&m->s);
    m->s.flags &= FLAGS;
}
