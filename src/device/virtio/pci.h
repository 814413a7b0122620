/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What a board needs of virtio over PCI beside the device contract. */
#ifndef HOSTEL_DEVICE_VIRTIO_PCI_H
#define HOSTEL_DEVICE_VIRTIO_PCI_H

#include "bus/pci.h"
#include "device/device.h"

/* Set-up: the virtio function (borrowed; freed after d is reached no more) that d carries from now on. Its
 * pin 0 is wired to device_input(d, 0). */
void virtio_pci_carry(struct device *d, struct device *function);

/* Does a driver use it, as far as can be seen from outside? Any thread. */
bool virtio_pci_in_use(struct device *d);

/* For pci_attach() or pci_port_plug(). */
struct pci_function *virtio_pci_function(struct device *d);

#endif
