/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The text that describes a VMDK disk: its content's number, its parent, its extents. */
#ifndef HOSTEL_BLOCK_VMDK_DESCRIPTOR_H
#define HOSTEL_BLOCK_VMDK_DESCRIPTOR_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "block/format/grains.h"

enum { VMDK_EXTENTS_MAX = 4096, VMDK_TEXT_MAX = 1 << 20 };

/* "RW 4192256 SPARSE "test-s001.vmdk" 0" */
struct vmdk_line {
    bool readonly;
    uint64_t sectors, offset; /* offset: of a flat one in its file, sectors */
    enum grains_kind kind;
    char *type, *file; /* type: as it is written */
};

struct vmdk_descriptor {
    char *text;
    uint32_t cid, parent_cid; /* parent_cid: 0xffffffff = none */
    size_t cid_at;            /* of the digits of the CID in the text */
    unsigned cid_digits;      /* at most 8 */
    char *type, *parent;      /* createType, parentFileNameHint; NULL = not there */
    struct vmdk_line *lines;
    unsigned lines_n;
};

/* Reads text (taken, ends with NUL, at most VMDK_TEXT_MAX). False with *error, whose message begins with
 * name; vmdk_descriptor_clear() in both cases. */
bool vmdk_descriptor_parse(struct vmdk_descriptor *d, char *text, const char *name, GError **error);
void vmdk_descriptor_clear(struct vmdk_descriptor *d);

/* What a new image says of itself. */
struct vmdk_say {
    uint32_t cid, parent_cid;
    const char *type, *parent; /* parent: NULL = none */
    const char *extents;       /* the lines, each with its end */
    const char *adapter, *hardware, *tools;
    uint64_t size; /* of the disk, bytes */
};

/* The text; owned by the caller. */
char *vmdk_descriptor_make(const struct vmdk_say *say);

/* A number for contents that nobody has seen; never one that means something. */
uint32_t vmdk_fresh_cid(void);

#endif
