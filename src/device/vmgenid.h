/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What a board knows of the generation ID besides the contract of a chip: who says what it is. */
#ifndef HOSTEL_DEVICE_VMGENID_H
#define HOSTEL_DEVICE_VMGENID_H

#include "device/device.h"

enum { VMGENID_SIZE = 16 };

/* The number from now on, random bytes. The guest is not told. Set-up. */
void vmgenid_set(struct device *d, const uint8_t id[VMGENID_SIZE]);

/* The same for a guest that may be one of several from now on: it is told when it goes on. No vCPU runs. */
void vmgenid_renew(struct device *d, const uint8_t id[VMGENID_SIZE]);

#endif
