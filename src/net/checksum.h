/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The Internet checksum (RFC 1071). */
#ifndef HOSTEL_NET_CHECKSUM_H
#define HOSTEL_NET_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

/* The sum of size bytes as big-endian words, an odd one padded with zero, added to sum (which is such a sum,
 * or 0). Pieces but the last have an even size. */
uint32_t checksum_add(uint32_t sum, const void *bytes, size_t size);

/* The complement of the sum, as a number to be stored big-endian. */
uint16_t checksum_finish(uint32_t sum);

/* The checksum (as a number) after bytes that it covers changed: size is even and they begin at an even place
 * (RFC 1624, equation 3). */
uint16_t checksum_update(uint16_t checksum, const void *before, const void *after, size_t size);

#endif
