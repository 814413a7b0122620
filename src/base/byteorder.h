/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Unaligned loads and stores of little- and big-endian numbers: ld16le(p), st32be(p, v), ... */
#ifndef HOSTEL_BASE_BYTEORDER_H
#define HOSTEL_BASE_BYTEORDER_H

#include <endian.h>
#include <stdint.h>
#include <string.h>

#define BYTEORDER_ACCESSORS(bits, order)                                                                     \
    static inline uint##bits##_t ld##bits##order(const void *p)                                              \
    {                                                                                                        \
        uint##bits##_t v;                                                                                    \
        memcpy(&v, p, sizeof(v));                                                                            \
        return order##bits##toh(v);                                                                          \
    }                                                                                                        \
    static inline void st##bits##order(void *p, uint##bits##_t v)                                            \
    {                                                                                                        \
        v = hto##order##bits(v);                                                                             \
        memcpy(p, &v, sizeof(v));                                                                            \
    }

BYTEORDER_ACCESSORS(16, le)
BYTEORDER_ACCESSORS(32, le)
BYTEORDER_ACCESSORS(64, le)
BYTEORDER_ACCESSORS(16, be)
BYTEORDER_ACCESSORS(32, be)
BYTEORDER_ACCESSORS(64, be)

#undef BYTEORDER_ACCESSORS

#endif
