/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* A PCI Express root port with a slot: how its user puts a device in, and asks the guest to let go of one. */
/*
 * A device's life in a slot:
 *
 *   empty --plug--> present --ask--> asked --the guest agrees--> REMOVED, unplug --> empty
 *                      ^               |
 *                      +---------------+ the guest declines: REFUSED; or says nothing for ever
 *
 * The guest agrees by switching the slot's power off and then its power indicator off, or by a reset.
 */
#ifndef HOSTEL_DEVICE_PCI_PORT_H
#define HOSTEL_DEVICE_PCI_PORT_H

#include "bus/pci.h"
#include "device/device.h"

enum pci_port_answer { PCI_PORT_SILENT, PCI_PORT_REMOVED, PCI_PORT_REFUSED };

/* The port itself, for pci_attach(). */
struct pci_function *pci_port_function(struct device *d);

/* Set-up: noted(opaque) is called when there is an answer to be asked for, on any thread, perhaps with locks
 * held: it only wakes somebody. */
void pci_port_watch(struct device *d, void (*noted)(void *opaque), void *opaque);

/* Main thread, as all below. Puts a device into the slot, where it stays until pci_port_unplug(). The guest
 * is told, if it wants to know. False with *error when there is one. */
bool pci_port_plug(struct device *d, struct pci_function *f, GError **error);

/* Takes the device out, at once. When it returns, nobody is inside its registers. */
void pci_port_unplug(struct device *d);

/* Presses the attention button. False with *error when the guest is busy with an earlier request. */
bool pci_port_ask(struct device *d, GError **error);

/* The machine is about to be reset: a guest that was asked agrees. (Not so when it goes back to a saved
 * state.) */
void pci_port_forget(struct device *d);

/* What the guest has said since the last time. After REMOVED it does not reach the device any more. */
enum pci_port_answer pci_port_answer(struct device *d);

#endif
