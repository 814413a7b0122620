/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The CRC-32 of Ethernet, zip and partition tables. */
#ifndef HOSTEL_CODEC_CRC32_H
#define HOSTEL_CODEC_CRC32_H

#include <stddef.h>
#include <stdint.h>

/* Of bytes behind those whose CRC is `crc`; 0 = there are none. */
uint32_t crc32_ieee(uint32_t crc, const void *bytes, size_t size);

#endif
