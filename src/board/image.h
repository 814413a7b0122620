/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What a kernel or firmware file is: recognizes, unpacks and measures it, and says clearly what it is when it
 * is something else. */
/*
 * Everything here works on untrusted bytes in memory and touches no guest. Offsets in the results lie inside
 * the bytes given.
 */
#ifndef HOSTEL_BOARD_IMAGE_H
#define HOSTEL_BOARD_IMAGE_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { IMAGE_MAX_SEGMENTS = 16 };

struct image_segment {
    uint64_t offset, file_size; /* in the bytes */
    uint64_t address;           /* physical, as the file wants it */
    uint64_t mem_size;          /* >= file_size; the rest is zero; address + mem_size does not wrap */
};

struct image {
    bool position_free; /* a Linux Image: one segment, address is an offset from the start of RAM */
    bool relocates;     /* an ELF file that may be moved as a whole (position-independent) */
    uint64_t entry;     /* physical, as the segments' addresses (position_free: likewise an offset) */
    unsigned count;     /* 1 .. IMAGE_MAX_SEGMENTS */
    struct image_segment segment[IMAGE_MAX_SEGMENTS];
};

/* In words for a message: "an x86 kernel (bzImage)". Static or in buffer. */
const char *image_describe(const uint8_t *bytes, size_t size, char *buffer, size_t buffer_size);

bool image_is_elf(const uint8_t *bytes, size_t size);

/* Unpacks gzip and EFI zboot wrappings, at most cap bytes. On success *out is owned by the caller (g_free),
 * or NULL when nothing was packed. name is for messages. */
bool image_unpack(const char *name, const uint8_t *bytes, size_t size, size_t cap, uint8_t **out,
                  size_t *out_size, GError **error);

/* An ELF64 file for RISC-V with something to load. */
bool image_parse_elf(const char *name, const uint8_t *bytes, size_t size, struct image *out, GError **error);

/* What a firmware hands over to: a kernel, or bytes that are no other kind of file, to be started at their
 * beginning. */
bool image_parse_payload(const char *name, const uint8_t *bytes, size_t size, struct image *out,
                         GError **error);

/* A RISC-V kernel: Image (EFI stub or not) or ELF. */
bool image_parse_kernel(const char *name, const uint8_t *bytes, size_t size, struct image *out,
                        GError **error);

#endif
