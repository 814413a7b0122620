/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The disassembler of host code for traces: Capstone, if it was there at build time and is there now. */
#ifndef HOSTEL_ACCEL_HOSTDIS_H
#define HOSTEL_ACCEL_HOSTDIS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Loads the library. It takes some MiB and opens files, so only when there will be something to print, and
 * before the process locks itself down. False when there is none: bytes are printed then. Once, during
 * set-up. */
bool hostdis_open(void);

/* Prints the instruction at bytes (at least 1 is there), as if it ran at address; returns its length. Not for
 * two threads at once. */
unsigned hostdis_print(const uint8_t *bytes, size_t avail, uint64_t address, char *text, size_t size);

#endif
