/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/*
 * Softfloat against an oracle: all edge operands crossed, then shaped random ones, in every rounding mode the
 * oracle has; results and flags must be the same. A GTest case per operation,
 * "/softfloat/<oracle>/<operation>".
 *
 * HOSTEL_TEST_SEED changes the seed (printed), HOSTEL_TEST_SCALE multiplies the number of random operands.
 */
#ifndef HOSTEL_TESTS_SOFTFLOAT_CHECK_H
#define HOSTEL_TESTS_SOFTFLOAT_CHECK_H

#include <stdbool.h>

#include "engine/softfloat.h"
#include "ops.h"

struct oracle {
    const char *name;
    struct sf_ctx ctx; /* what softfloat must be told to agree */
    unsigned random;   /* random operands per operation and rounding mode */
    /* May this operation be asked, in this rounding mode? */
    bool (*knows)(enum op op, enum sf_round round);
    /* Answer n <= PROBE_BATCH questions. Failing to is a failed assertion. */
    void (*ask)(const struct question *questions, struct answer *answers, unsigned n);
};

/* Softfloat's own answer. */
struct answer check_softfloat(struct sf_ctx ctx, const struct question *q);

const char *check_op_name(enum op op);
unsigned check_op_width(enum op op);

/* Add the cases of all operations the oracle knows. The oracle stays borrowed until g_test_run() returns. */
void check_add_cases(const struct oracle *oracle);

/*
 * An oracle behind a pair of pipes: start `emulator` (NULL-terminated arguments, up to three) on the probe
 * whose path is in the environment variable. Returns NULL, or why it cannot be had (a constant text).
 */
const char *check_probe_start(const char *variable, const char *const *emulator);
void check_probe_ask(const struct question *questions, struct answer *answers, unsigned n);
void check_probe_stop(void);

/* Stand in for the cases of an oracle that is not there: one case, skipped with the reason. */
void check_add_skip(const char *oracle, const char *reason);

#endif
