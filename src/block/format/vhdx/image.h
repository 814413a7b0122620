/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What is done with VHDX images, between the two files of it. */
#ifndef HOSTEL_BLOCK_FORMAT_VHDX_IMAGE_H
#define HOSTEL_BLOCK_FORMAT_VHDX_IMAGE_H

#include "block/format/vhdx/vhdx.h"

bool vhdx_check(struct disk *b, unsigned fix, struct block_check *out, GError **error);

#endif
