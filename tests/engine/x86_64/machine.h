/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Runs emitted instructions on this processor, between a known state and an observed one. */
#ifndef HOSTEL_TESTS_ENGINE_X86_64_MACHINE_H
#define HOSTEL_TESTS_ENGINE_X86_64_MACHINE_H

#include <glib.h>

#include "engine/x86_64/emit.h"
#include "engine/x86_64/features.h"

#define FLAG_CF 0x001u
#define FLAG_PF 0x004u
#define FLAG_AF 0x010u
#define FLAG_ZF 0x040u
#define FLAG_SF 0x080u
#define FLAG_OF 0x800u
#define FLAGS (FLAG_CF | FLAG_PF | FLAG_AF | FLAG_ZF | FLAG_SF | FLAG_OF)

/* RSP is the host's own, and so is the register that points here while instructions run. */
struct state {
    uint64_t gpr[16];
    uint64_t flags;
    uint64_t mem[4] __attribute__((aligned(16)));
    double xmm[16]; /* low halves */
};

struct machine {
    struct emit e;
    struct state s;
    enum host_reg pointer; /* to `s`, while instructions run */
    uint64_t entry;
};

/* Code memory mapped twice, writable and executable. Every run takes fresh addresses. */
void machine_init(struct machine *m, size_t size);
void machine_fini(struct machine *m);

/* Everything random, with a liking for edges. */
uint64_t machine_random(void);
void machine_randomize(struct machine *m);

/* A register that is not RSP and not in `used`, a mask; and the mask with it. */
enum host_reg machine_pick(unsigned *used);

/* Emit between the two what shall run on `s`; `used` holds the registers it names. */
void machine_begin(struct machine *m, unsigned used);
void machine_run(struct machine *m);

/* s.mem[i] as an operand, between the two. */
struct host_mem machine_mem(const struct machine *m, unsigned i);

#endif
