/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The power button: a virtio input device with one key. */
#ifndef HOSTEL_DEVICE_VIRTIO_INPUT_H
#define HOSTEL_DEVICE_VIRTIO_INPUT_H

#include <stdbool.h>

struct device;

/* Presses the button of a virtio-input and lets it go. False: nobody is there to notice, no driver or one
 * that has many presses before it. Any thread that holds no lock of a device. */
bool virtio_input_press_power(struct device *d);

#endif
