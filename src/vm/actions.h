/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What is done when a guest panics, does not feed its watchdog, resets or powers off. */
#ifndef HOSTEL_VM_ACTIONS_H
#define HOSTEL_VM_ACTIONS_H

#include <glib.h>
#include <stdbool.h>

struct guest_options;
struct vm;

enum vm_action {
    VM_ACTION_NONE,
    VM_ACTION_RESET,
    VM_ACTION_PAUSE,
    VM_ACTION_POWEROFF, /* the guest ends as if it had powered off itself, */
    VM_ACTION_FAIL,     /* or as a failure */
    VM_ACTION_DUMP,     /* its memory is written to the file of --dump-file, then it is reset */
};

struct vm_actions {
    enum vm_action panic, watchdog;
    bool reset_ends;      /* a guest that resets itself ends */
    bool shutdown_pauses; /* one that powers off stays, standing */
    int dump_fd;          /* the file of --dump-file; -1 = none */
};

/* From options, whose descriptor is taken. False with *error. Main thread, as all below. */
bool vm_actions_init(struct vm *vm, struct guest_options *o, GError **error);
void vm_actions_fini(struct vm *vm);

/* It has happened: tells the control socket's clients and acts. What the guest did besides, since it was
 * looked at last, is forgotten when it does not simply go on. */
void vm_panicked(struct vm *vm);
void vm_crash_loaded(struct vm *vm);
void vm_watchdog_bit(struct vm *vm);

#endif
