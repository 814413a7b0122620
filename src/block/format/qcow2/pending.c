/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Parts of the format that are not there yet: images that need them are refused. */
#include "base/error.h"
#include "block/format/qcow2/qcow2_int.h"

bool qcow2_rebuild(struct qcow2 *q, GError **error)
{
    return hostel_fail(error, HOSTEL_ERROR_UNSUPPORTED, "%s: qcow2: was not closed properly", q->disk.name);
}

int qcow2_preallocate(struct qcow2 *q, uint64_t from, uint64_t to, enum block_preallocation how)
{
    (void)q, (void)from, (void)to, (void)how;
    return -95;
}
