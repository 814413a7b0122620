/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Passwords from files. */
#ifndef HOSTEL_BLOCK_PROTOCOL_SECRET_H
#define HOSTEL_BLOCK_PROTOCOL_SECRET_H

#include <glib.h>
#include <stdbool.h>

/* The first line of a file that only its owner may read; *text is owned, to be given to secret_free(). What
 * is too long for a password, or open to others, is refused. */
bool secret_read(const char *path, char **text, GError **error);

/* Overwrites it first. NULL is fine. */
void secret_free(char *text);

#endif
