/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The GError domain of the control path. */
#include "base/error.h"

G_DEFINE_QUARK(hostel-error-quark, hostel_error);

bool hostel_fail(GError **error, enum hostel_error code, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    if (error)
        *error = g_error_new_valist(HOSTEL_ERROR, (gint)code, format, ap);
    va_end(ap);
    return false;
}
