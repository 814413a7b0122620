/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What a board needs of the PCI host bridge beside the device contract. */
#ifndef HOSTEL_DEVICE_PCI_HOST_H
#define HOSTEL_DEVICE_PCI_HOST_H

#include "bus/pci.h"
#include "device/device.h"

/* Interrupt lines INTA to INTD: output pins of the bridge. */
enum { PCI_HOST_LINES = 4 };

/* The tree behind the bridge; lives as long. */
struct pci *pci_host_tree(struct device *d);

/* Where an interrupt pin (1 INTA# to 4 INTD#) is wired to: of the device in a slot of the root bus, or of the
 * one behind the root port there. */
struct irq_line pci_host_line(struct device *d, unsigned slot, bool behind, unsigned pin);

#endif
