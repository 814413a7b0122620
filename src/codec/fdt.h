/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Writes a flattened device tree, node by node, over libfdt. */
/*
 * Calls follow the tree: dt_begin, the node's properties, its children, dt_end. The buffer grows as needed.
 * Errors stick: a failed call makes those after it do nothing, and dt_finish() returns NULL. Only a wrong
 * order of calls or an enormous tree can fail.
 */
#ifndef HOSTEL_CODEC_FDT_H
#define HOSTEL_CODEC_FDT_H

#include <glib.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"

struct dt;

/* With the root node begun. */
struct dt *dt_new(void);
void dt_free(struct dt *t); /* NULL is fine */
CLEANUP_DEFINE(dt, dt_free)

/* Node names as in the specification, "uart@10000000". */
void dt_begin(struct dt *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
void dt_end(struct dt *t);

void dt_flag(struct dt *t, const char *name); /* present, without value */
void dt_string(struct dt *t, const char *name, const char *value);
void dt_strings(struct dt *t, const char *name, const char *const *values); /* NULL-terminated */
void dt_bytes(struct dt *t, const char *name, const void *bytes, size_t size);
void dt_u32(struct dt *t, const char *name, uint32_t value);
void dt_u64(struct dt *t, const char *name, uint64_t value);
void dt_cells(struct dt *t, const char *name, const uint32_t *cells, unsigned count);
/* reg of one range with two address and two size cells. */
void dt_reg(struct dt *t, uint64_t base, uint64_t size);

/* Ends the root node. The finished blob in exact size, owned by the caller (g_free); or NULL. */
void *dt_finish(struct dt *t, size_t *size);

#endif
