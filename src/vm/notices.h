/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What chips let a guest's keepers know (device.h, enum device_notice), and what is done about it. */
#ifndef HOSTEL_VM_NOTICES_H
#define HOSTEL_VM_NOTICES_H

#include "device/device.h"

struct vm;
struct vm_notices;

/* Main thread, as all below. */
struct vm_notices *vm_notices_new(struct vm *vm);
void vm_notices_free(struct vm_notices *n); /* NULL is fine */

/* machine_config.notice; opaque is the struct vm. Any thread. */
void vm_note(void *opaque, enum device_notice what);

/* Does what there is to be done now. */
void vm_notices_serve(struct vm_notices *n);
/* Behind a snapshot, while which nothing is served: what has come is; or it is forgotten. */
void vm_notices_again(struct vm_notices *n);
void vm_notices_forget(struct vm_notices *n);

#endif
