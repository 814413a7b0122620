/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The GError domain of the control path. A message says what was found, what was expected, what to do. */
#ifndef HOSTEL_BASE_ERROR_H
#define HOSTEL_BASE_ERROR_H

#include <glib.h>
#include <stdbool.h>

enum hostel_error {
    HOSTEL_ERROR_USAGE, /* the request itself is wrong: option, value, combination */
    HOSTEL_ERROR_INPUT, /* a file or message is malformed */
    HOSTEL_ERROR_HOST,  /* the host refused: open, memory, permission */
    HOSTEL_ERROR_UNSUPPORTED,
};

#define HOSTEL_ERROR hostel_error_quark()
GQuark hostel_error_quark(void);

/* Sets *error (when error is not NULL) and returns false, so that a check reads
 * `return hostel_fail(error, HOSTEL_ERROR_INPUT, "...")`. Any thread. */
bool hostel_fail(GError **error, enum hostel_error code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
