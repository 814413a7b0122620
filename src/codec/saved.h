/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The file of a saved guest: named pieces of state with checksums, and memory that can be mapped from it. */
/*
 * Theory of operation
 *
 *     0          head (64 bytes): magic, version, where the sections are, how long the file is, CRC
 *     4096       memory: each block of the guest's RAM at a place of its own, page by page as the guest sees
 *                it; pages of zeroes are holes
 *     (behind)   sections: kind, name, version, size, CRC-32C, bytes
 *
 * So a guest can run on at once with its memory mapped privately from the file, and pages come when they are
 * used. A page has one place: while a guest runs on as it is saved, pages that it has changed are simply
 * written again.
 *
 * The head is written last. A file whose writing was cut off has none and is refused. Everything that is
 * looked at when a guest is restored is covered by a CRC; memory's CRCs, one per SAVED_CHUNK, are looked at
 * by saved_verify() only, because that reads all of it.
 *
 * Numbers are little-endian. A section that the reader does not know makes the file unreadable; a new field
 * in a known one raises that section's version.
 */
#ifndef HOSTEL_CODEC_SAVED_H
#define HOSTEL_CODEC_SAVED_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/cleanup.h"

enum {
    SAVED_VERSION = 1,
    SAVED_PAGE = 4096,
    SAVED_CHUNK = 1 << 20,          /* bytes of memory under one CRC */
    SAVED_KIND_MAX = 15,            /* characters of a section's kind, */
    SAVED_NAME_MAX = 47,            /* of its name */
    SAVED_SECTIONS_MAX = 4096,      /* of one file */
    SAVED_SECTIONS_BYTES = 64 << 20 /* of all of them */
};

/* The kind of what is kept for people and programs beside the machine, which needs none of it. */
#define SAVED_ABOUT "about"

/* --- where it is kept, when that is no file of its own --- */

/* Places are in bytes. 0 or -errno; NULL: read and write: -EOPNOTSUPP. */
struct saved_ops {
    /* All of it; -ENODATA behind the end. What was never written, between other things, reads as zeroes. */
    int (*read)(void *opaque, void *bytes, size_t size, uint64_t at);
    int (*write)(void *opaque, const void *bytes, size_t size, uint64_t at);
    /* How long it is; for saved_open_io(), which needs it. */
    int (*size)(void *opaque, uint64_t *size);
    /* Nothing is behind this yet, and what is before it and was not written reads as zeroes. Optional. */
    int (*set_size)(void *opaque, uint64_t size);
    int (*sync)(void *opaque); /* all that was written is durable; optional */
    /* The first byte from `at` on of which anything may be other than zero, UINT64_MAX = none; optional. */
    uint64_t (*next_data)(void *opaque, uint64_t at);
};

struct saved_io {
    const struct saved_ops *ops; /* valid as long as the reader or writer */
    void *opaque;
};

/* --- writing --- */

struct saved_writer;

/* Writes to fd (borrowed: a regular file, empty, open for reading and writing). Never NULL. One thread at a
 * time, as all below. */
struct saved_writer *saved_writer_new(int fd);
/* The same for anything else, empty. It is read only when pages are written again, or not in order. */
struct saved_writer *saved_writer_new_io(struct saved_io io);
void saved_writer_free(struct saved_writer *w); /* NULL is fine */
CLEANUP_DEFINE(saved_writer, saved_writer_free)

/* Adds a section: bytes are copied. kind and name are short enough and together unlike any other's. */
void saved_add(struct saved_writer *w, const char *kind, const char *name, unsigned version,
               const void *bytes, size_t size);

/* Gives a block of memory its place in the file, and a section: where it begins. Before any page is written.
 */
uint64_t saved_add_memory(struct saved_writer *w, const char *name, uint64_t base, uint64_t size);

/* Writes whole pages of memory at their place in the file. A page of zeroes becomes a hole when the place has
 * not been written yet (first); otherwise it is written. 0 or -errno. */
int saved_write_pages(struct saved_writer *w, uint64_t place, const uint8_t *bytes, uint64_t size,
                      bool first);

/* Sums memory, writes the sections, then, behind a sync when durable, the head. Nothing more is added. */
bool saved_finish(struct saved_writer *w, bool durable, GError **error);

/* How long all of it is, once finished, in bytes. */
uint64_t saved_writer_size(const struct saved_writer *w);

/* --- reading --- */

struct saved_section {
    const char *kind, *name; /* zero-terminated */
    unsigned version;
    const uint8_t *bytes;
    uint32_t size;
    bool used; /* saved_find() has given it to somebody */
};

struct saved_memory {
    uint64_t base, size; /* bytes, whole pages */
    uint64_t place;      /* in the file */
};

struct saved;

/* Reads head and sections of fd (borrowed) and checks them: NULL with *error, which says where and why. */
struct saved *saved_open(int fd, GError **error);
struct saved *saved_open_io(struct saved_io io, GError **error);
void saved_free(struct saved *s); /* NULL is fine */
CLEANUP_DEFINE(saved, saved_free)

/* A section of this kind and name, and of a version from 1 to `newest`; NULL with *error when there is none,
 * or a newer one. Valid as long as s. */
const struct saved_section *saved_find(struct saved *s, const char *kind, const char *name, unsigned newest,
                                       GError **error);
/* The same, or NULL when there is none. */
const struct saved_section *saved_look(struct saved *s, const char *kind, const char *name);

/* All sections, in the order in which they were added. */
const struct saved_section *saved_sections(const struct saved *s, unsigned *count);

/* Was every section used? False with *error naming one that was not. */
bool saved_check_used(const struct saved *s, GError **error);

/* Where a block of memory is; checked against the file. */
bool saved_find_memory(struct saved *s, const char *name, struct saved_memory *out, GError **error);

/* Whole pages of memory, at so many bytes from the beginning of their block; 0, or -errno ends the reading
 * (-ECANCELED: it is not wanted any more). */
typedef int (*saved_put)(void *opaque, uint64_t at, const uint8_t *bytes, size_t size);

/* Gives put() all pages of a block that are not all zeroes, in their order. CRCs are compared, a chunk's when
 * its pages have been given: false with *error. */
bool saved_read_memory(struct saved *s, const char *name, saved_put put, void *opaque, GError **error);

/* Reads all memory and compares CRCs. */
bool saved_verify(struct saved *s, GError **error);

#endif
