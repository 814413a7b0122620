/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Any text: the IR parser and verifier refuse it or accept it, and what they accept prints to its own equal.
 */

#include <glib.h>
#include <stdint.h>
#include <string.h>

#include "base/bits.h"
#include "engine/env.h"
#include "engine/ir.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t helper(struct env *env, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3)
{
    (void)env;
    return a0 + a1 + a2 + a3;
}

static const struct ir_reg regs[] = {
    {"a0", IR_I64, 1, 0, offsetof(struct env, reg[0])},
    {"a1", IR_I64, 2, 1, offsetof(struct env, reg[1])},
    {"f0", IR_F64, 0, 2, offsetof(struct env, reg[2])},
};
static const struct ir_helper helpers[] = {
    {"pure", helper, 4, 0},
    {"faulting", helper, 1, IR_HELPER_MAY_FAULT | IR_HELPER_SYNC},
};
static const struct ir_target target = {regs, helpers, ARRAY_SIZE(regs), ARRAY_SIZE(helpers)};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct ir_block first, second;
    struct ir_text_error error = {0};
    char message[160];
    g_autofree char *text = g_strndup((const char *)data, size);

    int status = ir_parse(&first, &target, text, &error);
    if (status) {
        g_assert_cmpuint(strlen(error.message), >, 0);
        return 0;
    }
    if (ir_verify(&first, message, sizeof(message)))
        return 0;

    g_autofree char *once = ir_print(&first);
    status = ir_parse(&second, &target, once, &error);
    if (status)
        g_error("line %u: %s\n%s", error.line, error.message, once);
    g_autofree char *twice = ir_print(&second);
    g_assert_cmpstr(once, ==, twice);
    return 0;
}
