/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Is an image what it may be after a power cut? */
#ifndef HOSTEL_TESTS_POWERCUT_VERIFY_H
#define HOSTEL_TESTS_POWERCUT_VERIFY_H

#include "script.h"

struct verdict {
    const struct script *script;
    struct moment at;
    GRand *rand;
    const char *folder; /* for files that qemu-img looks at */
    bool qemu;          /* it shall */
};

/* Opens the image for writing, checks it, compares all that is in it, and writes to it. The store is
 * changed. NULL, or what is wrong; owned. */
char *verify(const struct verdict *v, struct store *image);

/* As a session that mends it would: opens it for writing, repairs it if the format can, and closes it. */
char *verify_repair(const struct verdict *v, struct store *image, struct block_record *record);

#endif
