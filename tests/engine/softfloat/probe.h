/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/*
 * The body of a probe: batches of questions in, batches of answers out, until the end of input. The including
 * file brings syscall3() of its architecture and answer(). 63, 64 and 93 are read, write and exit on both
 * architectures.
 */
#ifndef HOSTEL_TESTS_SOFTFLOAT_PROBE_H
#define HOSTEL_TESTS_SOFTFLOAT_PROBE_H

#include "ops.h"

enum { SYS_read = 63, SYS_write = 64, SYS_exit = 93 };

static long syscall3(long number, long x, const void *y, long z);
static void answer(const struct question *q, struct answer *out);

static struct question questions[PROBE_BATCH];
static struct answer answers[PROBE_BATCH];

/* Move a whole array through a descriptor; anything else than success or the end of input is the end with 1.
 */
static void transfer(long number, long fd, void *array, uint64_t size)
{
    for (uint64_t done = 0; done < size;) {
        long n = syscall3(number, fd, (char *)array + done, (long)(size - done));

        if (n <= 0) {
            syscall3(SYS_exit, n != 0 || number != SYS_read || done != 0, 0, 0);
        }
        done += (uint64_t)n;
    }
}

__attribute__((noreturn, used)) static void probe_main(void)
{
    for (;;) {
        transfer(SYS_read, 0, questions, sizeof(questions));
        for (int i = 0; i < PROBE_BATCH; i++) {
            answer(&questions[i], &answers[i]);
        }
        transfer(SYS_write, 1, answers, sizeof(answers));
    }
}

#endif
