/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* A guest's memory as its keepers see it: how much it uses, and how much it shall. */
#ifndef HOSTEL_VM_MEMORY_H
#define HOSTEL_VM_MEMORY_H

#include <jansson.h>

struct device;
struct vm;

/* The first chip of a type, NULL when the machine has none. Main thread, as all below. */
struct device *vm_find_chip(struct vm *vm, const char *type);

/* {"actual": bytes}: the memory that a guest with balloon d has. Owned by the caller. */
json_t *vm_balloon_json(struct vm *vm, struct device *d);

#endif
