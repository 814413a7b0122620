/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Copies that take no space of their own as long as they are equal. */
#ifndef HOSTEL_CLI_THIN_H
#define HOSTEL_CLI_THIN_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

/* The file once more, under another name, for reading only: a link; a copy where that cannot be. */
bool thin_share(const char *from, const char *to, GError **error);

/* A disk of size bytes that begins as the raw disk `base`, which is not longer and must stay as it is: an
 * overlay. */
bool thin_overlay(const char *base, const char *to, uint64_t size, GError **error);

#endif
