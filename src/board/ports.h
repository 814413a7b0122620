/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The PCI Express ports of a machine, whichever board: built with it, filled and emptied while it runs. */
#ifndef HOSTEL_BOARD_PORTS_H
#define HOSTEL_BOARD_PORTS_H

#include "block/pool.h"
#include "board/board.h"
#include "bus/pci.h"

enum { MACHINE_PORTS_MAX = 16 };

/* A root port, and the virtio device in its slot: its transport and its function. */
struct machine_port {
    char name[16], transport_name[24], function_name[24]; /* "port1", "port1.pci", "port1.virtio" */
    struct device *port;
    struct block_pool *pool; /* threads for a disk: a process that has locked itself down makes none */
    struct device *transport, *function; /* NULL: the slot is empty */
};

/* For boards: adds root ports 1 to n to the host bridge's root bus. */
bool machine_add_ports(struct machine *m, struct device *host, unsigned n, GError **error);

/* The port numbered from 1 on; NULL when there is none. */
struct machine_port *machine_port(struct machine *m, unsigned number);

/* The number of the port that f is; 0: it is none. */
unsigned machine_port_number(struct machine *m, const struct pci_function *f);

/* The tree they are in; there is a port. */
struct pci *machine_pci(struct machine *m);

/* Builds a virtio device and puts it into the port's slot, which is empty. A machine that runs tells its
 * guest; in one that is being built (cold) it is there from the beginning. False with *error. Main thread. */
bool machine_plug(struct machine *m, struct machine_port *p, const struct machine_virtio *f, bool cold,
                  GError **error);

/* Takes it out and frees it, whatever the guest is about to do with it; back ends are not used any more when
 * it returns. Main thread. */
void machine_unplug(struct machine *m, struct machine_port *p);

/* The machine's reset comes next; no vCPU runs. */
void machine_reset_ports(struct machine *m);

void machine_free_ports(struct machine *m);

#endif
