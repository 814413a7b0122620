/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Random code and state for test_lift_exec. */
#ifndef HOSTEL_TESTS_LIFT_GEN_H
#define HOSTEL_TESTS_LIFT_GEN_H

#include <stdbool.h>
#include <stdint.h>

#include "isa/riscv/decode.h"
#include "lift_vector.h"

/* splitmix64 */
uint64_t lift_rng(uint64_t *state);

/* Does single code contain the operation, sooner or later? */
bool lift_gen_makes(enum riscv_op op);

/* Fills *v: registers, a seed for the data, and code for an emulator of user programs that knows RV64GC, Zba,
 * Zbb, Zbc and Zbs: one instruction (or two short ones) and nops, or a sequence. The code neither traps nor
 * leaves its bytes but at their end, and leaves tp alone. */
void lift_gen(struct vector *v, uint64_t *rng, bool sequence);

#endif
