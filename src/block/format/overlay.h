/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Making the file of an overlay: what a disk differs in from another one that it lies over. */
#ifndef HOSTEL_BLOCK_OVERLAY_H
#define HOSTEL_BLOCK_OVERLAY_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

/* Makes the empty regular file fd an overlay: a disk of size bytes, a multiple of 512 and not less than
 * base_size, that reads as a base of base_size bytes with zeroes behind it. It takes no space but for its
 * table. name is for messages. False with *error. */
bool block_overlay_create(int fd, const char *name, uint64_t size, uint64_t base_size, GError **error);

#endif
