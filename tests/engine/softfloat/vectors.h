/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Operands that hurt: edge values of a format, and random operands shaped so that rounding has work to do. */
#ifndef HOSTEL_TESTS_SOFTFLOAT_VECTORS_H
#define HOSTEL_TESTS_SOFTFLOAT_VECTORS_H

#include <stdint.h>

#include "ops.h"

/* A generator; the same seed gives the same operands everywhere. */
struct vectors {
    uint64_t state;
};

/* The edge values of a width (16, 32, 64), both signs: returns their number and points *values at them. */
unsigned vectors_edges(unsigned width, const uint64_t **values);

/* Edge integers, to be cut to 32 bits where need be. */
unsigned vectors_integer_edges(const uint64_t **values);

/* 64 random bits. */
uint64_t vectors_bits(struct vectors *v);

/* Fill a, b and c of *q as an operation of this width with these operands wants them. */
void vectors_fill(struct vectors *v, unsigned width, enum operands operands, struct question *q);

#endif
