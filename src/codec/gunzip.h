/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Unpacks gzip data in memory, with a cap on what comes out. */
#ifndef HOSTEL_CODEC_GUNZIP_H
#define HOSTEL_CODEC_GUNZIP_H

#include <stddef.h>
#include <stdint.h>

/* Unpacks the first gzip member of [in, in + in_size), ignoring what follows it. 0 with *out (owned by the
 * caller, g_free) and *out_size; or -EINVAL not gzip or damaged, -ENODATA cut off, -EFBIG more than cap
 * bytes, -ENOMEM. */
int codec_gunzip(const uint8_t *in, size_t in_size, size_t cap, uint8_t **out, size_t *out_size);

#endif
