/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What a board knows of a flash bank besides the contract of a chip: its size, and the file behind it. */
#ifndef HOSTEL_DEVICE_PFLASH_H
#define HOSTEL_DEVICE_PFLASH_H

#include "base/bits.h"
#include "device/device.h"
#include "mem/mem.h"

#define PFLASH_SIZE (32 * MiB)

/* Gives the bank, erased and mapped at base, memory of m (borrowed) to keep its contents in and to show them
 * from. Set-up. */
bool pflash_place(struct device *d, struct mem *m, struct gpa base, GError **error);

/* Gives it the contents of a file of at most PFLASH_SIZE bytes; what is missing is erased. fd, owned by the
 * chip from now on in any case, is open for writing, too, unless readonly. Set-up. */
bool pflash_load(struct device *d, int fd, bool readonly, GError **error);

#endif
