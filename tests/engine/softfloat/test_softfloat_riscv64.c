/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Softfloat against RISC-V's F, D and Zfh as qemu-riscv64 executes them, in all five rounding modes. */
#include <glib.h>

#include "check.h"

/* fround needs Zfa, which the emulators at hand lack. */
static bool riscv_knows(enum op op, enum sf_round round)
{
    (void)round;
    return op != OP_f16_round_to_int && op != OP_f32_round_to_int && op != OP_f64_round_to_int;
}

static const struct oracle riscv = {
    .name = "riscv64",
    .ctx = {.nan = SF_NAN_CANONICAL, .toint = SF_TOINT_RISCV},
    .random = 8000,
    .knows = riscv_knows,
    .ask = check_probe_ask,
};

int main(int argc, char **argv)
{
    static const char *const emulator[] = {"qemu-riscv64", "-cpu", "rv64,Zfh=true", NULL};
    const char *reason;
    int status;

    g_test_init(&argc, &argv, NULL);
    reason = check_probe_start("HOSTEL_SOFTFLOAT_PROBE_RISCV64", emulator);
    if (reason) {
        check_add_skip("riscv64", reason);
    } else {
        check_add_cases(&riscv);
    }
    status = g_test_run();
    check_probe_stop();
    return status;
}
