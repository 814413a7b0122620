/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Format raw: the bytes of the file are the disk's. */
#include <inttypes.h>

#include "base/error.h"
#include "block/block.h"

static bool raw_accept(const struct disk *file, GError **error)
{
    const uint64_t size = file->facts.size, rest = size % BLOCK_SECTOR;
    if (!size)
        return hostel_fail(error, HOSTEL_ERROR_INPUT, "%s: is empty; give it a size: truncate -s 4G %s",
                           file->name, file->name);
    if (rest)
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "%s: has %" PRIu64
                           " bytes, which is not a multiple of %d; if it is a raw image, make "
                           "it whole: truncate -s %" PRIu64 " %s",
                           file->name, size, BLOCK_SECTOR, size - rest + BLOCK_SECTOR, file->name);
    return true;
}

const struct block_driver block_driver_raw = {
    .name = "raw",
    .help = "the file's bytes are the disk's",
    .kind = BLOCK_FORMAT,
    .needs_file = true,
    .accept = raw_accept,
};
