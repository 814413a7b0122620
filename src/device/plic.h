/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What a board needs of the PLIC beside the device contract. */
#ifndef HOSTEL_DEVICE_PLIC_H
#define HOSTEL_DEVICE_PLIC_H

#include "device/device.h"

/* Interrupt sources including 0, which is none: source numbers are 1 .. PLIC_SOURCES - 1. */
enum { PLIC_SOURCES = 97 };

extern const struct device_type device_plic;

/* Makes the gateway of a source react to rising edges rather than to a level. Set-up. */
void plic_set_edge(struct device *d, unsigned source);

#endif
