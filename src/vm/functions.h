/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The virtio functions of a guest: which, and in which order they fill the board's slots. */
#ifndef HOSTEL_VM_FUNCTIONS_H
#define HOSTEL_VM_FUNCTIONS_H

#include "vm/vm.h"

enum { VM_FUNCTIONS_MAX = 32 };

struct vm_functions {
    struct machine_virtio row[VM_FUNCTIONS_MAX];
    unsigned count;
};

/* The next function: type row, options (borrowed; NULL = none), and wires with its back ends. False when
 * there are too many for any board. */
bool vm_functions_add(struct vm_functions *f, const char *type, const struct device_value *values,
                      const struct device_wires *back_ends, GError **error);

/* All that options ask for: disks, then networks, then the console, then the source of random numbers, so
 * that what a guest's files name by number (/dev/vda, eth0) depends on nothing else. Their back ends belong
 * to vm. Main thread, before the machine is built. */
bool vm_functions_collect(struct vm *vm, struct guest_options *o, struct vm_functions *f, GError **error);

/* Puts those for ports behind the others, without changing any order; how many the others are. */
unsigned vm_functions_split(struct vm_functions *f);

/* Of these, the disks (disks.c); and the networks (networks.c). */
bool vm_functions_add_disks(struct vm *vm, struct guest_options *o, struct vm_functions *f, GError **error);
bool vm_functions_add_networks(struct vm *vm, struct guest_options *o, struct vm_functions *f,
                               GError **error);

/* A card's address as people write it; the one it has when nobody says anything: the same at each start of a
 * guest with a name; and what an MTU may be. Messages speak of --net. */
bool vm_mac_parse(const char *text, uint64_t *mac, GError **error);
uint64_t vm_mac_default(const char *name, unsigned index);
bool vm_mtu_check(unsigned mtu, GError **error);

/* One of vm->nets: its card's name, its back end. */
struct vm_network;
const char *vm_network_id(const struct vm_network *n);
struct net *vm_network_net(const struct vm_network *n);
struct net *vm_network_find(const struct vm *vm, const char *id); /* NULL = there is no such card */
/* A card that came while the guest runs, whose back end is somebody else's; and the end of a card. */
void vm_network_add(struct vm *vm, const char *id, struct net *net);
void vm_network_remove(struct vm *vm, const char *id);

#endif
