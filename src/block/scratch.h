/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Room for bytes on their way, for the length of one operation. */
/*
 * Each thread keeps what it once needed, so operations that come again and again allocate nothing. Room is
 * given back in the opposite order of taking, as with a stack; a driver that calls another one meanwhile
 * (its file, its base) need not care whether that takes some, too.
 */
#ifndef HOSTEL_BLOCK_SCRATCH_H
#define HOSTEL_BLOCK_SCRATCH_H

#include <stddef.h>
#include <stdint.h>

enum { BLOCK_SCRATCH_DEPTH = 32 /* how many one thread can have taken at once */ };

/* size bytes, aligned to 4096, with anything in them. NULL: the host has not enough memory. */
void *block_scratch_take(size_t size);

/* Gives back the last one taken. NULL is fine. */
void block_scratch_give(void *bytes);

/* BLOCK_ZEROES bytes that are zero, aligned to 4096. They take no room in the program's file, nor in memory
 * as long as they are only read: the kernel has one page of zeroes for all. */
enum { BLOCK_ZEROES = 256 << 10 };
const uint8_t *block_zeroes(void);

#endif
