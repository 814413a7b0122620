/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What a new guest learns about itself at its first start: files in an archive that Linux unpacks together
 * with the initial file system (the kernel's Documentation/driver-api/early-userspace/buffer-format.rst:
 * archives may follow each other). */
#ifndef HOSTEL_CLI_SEED_H
#define HOSTEL_CLI_SEED_H

#include <glib.h>
#include <stdbool.h>

/* Begins an archive with the folder /seed; owned by the caller. */
GByteArray *seed_new(void);

/* Adds a file /seed/NAME, for root only. */
void seed_add(GByteArray *seed, const char *name, const void *bytes, size_t size);
void seed_add_text(GByteArray *seed, const char *name, const char *text);

/* Ends the archive; nothing can be added after that. */
void seed_end(GByteArray *seed);

/* A memory file with an initial file system and the archive behind it; its descriptor is owned by the caller.
 * -1 with *error. */
int seed_append(const char *initrd, const char *seed, GError **error);

#endif
