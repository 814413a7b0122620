/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* CRC-32 by libdeflate. */
#include "codec/crc32.h"

#include <libdeflate.h>

uint32_t crc32_ieee(uint32_t crc, const void *bytes, size_t size)
{
    return libdeflate_crc32(crc, bytes, size);
}
