/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Constants shared by C and assembly: sizes, and offsets into struct hart (checked in trap.c). */
#ifndef GUEST_LAYOUT_H
#define GUEST_LAYOUT_H

#define MAX_HARTS 16
#define STACK_SHIFT 14

#define H_REGS 0
#define H_SAVE 256
#define H_CAUSE 384
#define H_EPC 392
#define H_TVAL 400
#define H_STATUS 408
#define H_ARMED 416
#define H_RET 424
#define H_VECTOR 432
#define H_SCRATCH 440
#define H_ID 448
#define HART_SIZE 512

/* Marks a trap that supervisor mode took first (in s6). */
#define S_MAGIC 0x5ade

#endif
