/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Unpacks LZFSE and LZVN, Apple's own compression, as disk images of macOS have it. */
#ifndef HOSTEL_CODEC_LZFSE_H
#define HOSTEL_CODEC_LZFSE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Bytes of memory that it works with; anything may be in them. */
size_t lzfse_work_size(void);

/* One stream, from its first block to the one that ends it. The size of what came out; -EILSEQ when it is
 * damaged or cut off, -ENOSPC when there is more than room bytes. */
ssize_t lzfse_unpack(void *work, const uint8_t *in, size_t size, uint8_t *out, size_t room);

#endif
