/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* CRC-32C: Castagnoli's polynomial, as iSCSI (RFC 3720, B.4), ext4 and VHDX use it. */
#ifndef HOSTEL_CODEC_CRC32C_H
#define HOSTEL_CODEC_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Goes on from crc, which is 0 at the beginning. Any thread. */
uint32_t crc32c(uint32_t crc, const void *bytes, size_t size);

#endif
