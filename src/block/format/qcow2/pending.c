/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Parts of the format that are not there yet: images that need them are refused. */
#include "base/error.h"
#include "block/format/qcow2/qcow2_int.h"

bool qcow2_crypto_open(struct qcow2 *q, const struct block_config *config, GError **error)
{
    (void)config;
    return !q->header.crypt_method ||
           hostel_fail(error, HOSTEL_ERROR_UNSUPPORTED, "%s: qcow2: encrypted images are not supported yet",
                       q->disk.name);
}

bool qcow2_snapshot_enter(struct qcow2 *q, const char *which, GError **error)
{
    return hostel_fail(error, HOSTEL_ERROR_UNSUPPORTED, "%s: qcow2: snapshot %s cannot be read yet",
                       q->disk.name, which);
}

bool qcow2_bitmaps_open(struct qcow2 *q, GError **error)
{
    (void)error;
    q->header.autoclear &= ~QCOW2_AUTOCLEAR_BITMAPS;
    return true;
}

bool qcow2_rebuild(struct qcow2 *q, GError **error)
{
    return hostel_fail(error, HOSTEL_ERROR_UNSUPPORTED, "%s: qcow2: was not closed properly", q->disk.name);
}

int qcow2_preallocate(struct qcow2 *q, uint64_t from, uint64_t to, enum block_preallocation how)
{
    (void)q, (void)from, (void)to, (void)how;
    return -95;
}
