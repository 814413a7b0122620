/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Between the parts of the sandbox. */
#ifndef HOSTEL_OS_SANDBOX_INT_H
#define HOSTEL_OS_SANDBOX_INT_H

#include "os/sandbox.h"

/* Installs the list of system calls over all threads. */
bool seccomp_lock(struct sandbox *s, GError **error);

#endif
