/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Between the parts of the sandbox. */
#ifndef HOSTEL_OS_SANDBOX_INT_H
#define HOSTEL_OS_SANDBOX_INT_H

/* A sanitizer reads /proc and stops its own threads when it looks for leaks, and makes system calls that we
 * do not know. */
#ifdef HOSTEL_SANITIZED
enum { SANITIZED = 1 };
#else
enum { SANITIZED = 0 };
#endif

#endif
