/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What is special about virtio-console: its terminal has a size that may change. */
#ifndef HOSTEL_DEVICE_VIRTIO_CONSOLE_H
#define HOSTEL_DEVICE_VIRTIO_CONSOLE_H

#include "device/device.h"

extern const struct device_type device_virtio_console;

/* The terminal at the other end of port 0 has this many characters now; d is a virtio-console. Main thread.
 */
void virtio_console_resize(struct device *d, unsigned columns, unsigned rows);

#endif
