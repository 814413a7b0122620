/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/*
 * Softfloat against A64 as qemu-aarch64 executes it, FPCR zero but for the rounding mode: tininess before
 * rounding, and Arm's propagation of NaNs.
 */
#include <glib.h>

#include "check.h"

static bool arm_knows(enum op op, enum sf_round round)
{
    switch (op) {
    case OP_f16_min: /* FMINNM is IEEE 754-2008's minNum: another answer to signaling NaNs */
    case OP_f16_max:
    case OP_f16_classify:
    case OP_f32_min:
    case OP_f32_max:
    case OP_f32_classify:
    case OP_f64_min:
    case OP_f64_max:
    case OP_f64_classify: return false;
    case OP_f16_to_i32: /* FCVTA: the one place of ties to the larger magnitude */
    case OP_f16_to_u32:
    case OP_f16_to_i64:
    case OP_f16_to_u64:
    case OP_f32_to_i32:
    case OP_f32_to_u32:
    case OP_f32_to_i64:
    case OP_f32_to_u64:
    case OP_f64_to_i32:
    case OP_f64_to_u32:
    case OP_f64_to_i64:
    case OP_f64_to_u64: return true;
    default: return round != SF_RMM;
    }
}

static const struct oracle arm = {
    .name = "aarch64",
    .ctx = {.nan = SF_NAN_ARM, .toint = SF_TOINT_ARM, .tininess_before = true},
    .random = 8000,
    .knows = arm_knows,
    .ask = check_probe_ask,
};

int main(int argc, char **argv)
{
    static const char *const emulator[] = {"qemu-aarch64", "-cpu", "max", NULL};
    const char *reason;
    int status;

    g_test_init(&argc, &argv, NULL);
    reason = check_probe_start("HOSTEL_SOFTFLOAT_PROBE_AARCH64", emulator);
    if (reason) {
        check_add_skip("aarch64", reason);
    } else {
        check_add_cases(&arm);
    }
    status = g_test_run();
    check_probe_stop();
    return status;
}
