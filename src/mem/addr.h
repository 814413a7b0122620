/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Guest addresses as types of their own, so that the compiler catches a virtual one passed for a physical
 * one. */
#ifndef HOSTEL_MEM_ADDR_H
#define HOSTEL_MEM_ADDR_H

#include <stdint.h>

/* Guest physical and guest virtual address. */
struct gpa {
    uint64_t v;
};
struct gva {
    uint64_t v;
};

#define GPA(x) ((struct gpa){(x)})
#define GVA(x) ((struct gva){(x)})

#endif
