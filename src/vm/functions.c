/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* From options to a guest's virtio functions. */
#include "vm/functions.h"

#include <string.h>

#include "base/error.h"

bool vm_functions_add(struct vm_functions *f, const char *type, const struct device_value *values,
                      const struct device_wires *back_ends, GError **error)
{
    static const struct device_wires none;
    if (f->count == VM_FUNCTIONS_MAX)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "more than %d virtio devices", VM_FUNCTIONS_MAX);
    f->row[f->count++] =
        (struct machine_virtio){.type = type, .values = values, .wires = back_ends ? *back_ends : none};
    return true;
}

bool vm_functions_collect(struct vm *vm, struct guest_options *o, struct vm_functions *f, GError **error)
{
    (void)vm;
    f->count = 0;
    return !o->rng || vm_functions_add(f, "virtio-rng", NULL, NULL, error);
}
