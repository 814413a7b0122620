/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What built-in firmware needs of the console UART beside the device contract. */
#ifndef HOSTEL_DEVICE_UART16550_H
#define HOSTEL_DEVICE_UART16550_H

#include "device/device.h"

extern const struct device_type device_uart16550;

/* Takes up to size received characters out of the UART, as reads of its receive register would. Any thread.
 */
size_t uart16550_take(struct device *d, uint8_t *bytes, size_t size);

#endif
