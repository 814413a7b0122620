/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Shared memory files: memory that can be mapped more than once and handed to other processes. */
#ifndef HOSTEL_OS_MEMFILE_H
#define HOSTEL_OS_MEMFILE_H

#include <stddef.h>
#include <stdint.h>

/* A sealed-against-resizing memory file of size bytes (a multiple of the page size), all zero and not yet
 * backed by memory. Returns a close-on-exec descriptor or -errno. Any thread. */
int memfile_create(const char *name, uint64_t size);

/* Maps the whole file for reading and writing, excluded from core dumps. NULL with errno. Unmap with
 * munmap(). */
void *memfile_map(int fd, size_t size);

#endif
