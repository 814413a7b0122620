/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The table of internal snapshots of a qcow2 image: read and checked, and written. */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/byteorder.h"
#include "base/checked.h"
#include "base/error.h"
#include "block/format/qcow2/snapshot_int.h"

enum {
    EXTRA_STATE = 8,      /* bytes of extra data that have the VM state's size, */
    EXTRA_SIZE = 16,      /* the disk's, */
    EXTRA_ICOUNT = 24,    /* the instructions */
    EXTRA_MAX = 1024,     /* as QEMU has it */
    TABLE_MAX = 64 << 20, /* bytes, as QEMU has it */
    WINDOW = 64 * 1024,   /* of the file that is looked at at once */
};

/* Fixed part of a row; then extra data, id, name, padding to 8 bytes. Big-endian. */
struct row {
    uint64_t l1_offset;
    uint32_t l1_size;
    uint16_t id_size, name_size;
    uint32_t seconds, nanoseconds;
    uint64_t vm_clock;
    uint32_t vm_state_size, extra_size;
};
static_assert(sizeof(struct row) == 40, "as on disk");

void qcow2_snapshot_free(struct qcow2_snapshot *s)
{
    if (!s)
        return;
    g_free(s->id);
    g_free(s->name);
    g_free(s->extra);
    g_free(s);
}

/* --- reading --- */

/* The table's size is not said anywhere, so it is read in windows. */
struct reader {
    struct qcow2 *q;
    uint64_t at;     /* in the file */
    uint64_t start;  /* of the window */
    size_t size;     /* of it */
    uint8_t *window; /* WINDOW bytes */
};

static int take(struct reader *r, void *bytes, size_t size)
{
    uint8_t *out = bytes;
    while (size) {
        if (r->at < r->start || r->at >= r->start + r->size) {
            const uint64_t end = r->q->file->facts.size;
            r->start = align_down(r->at, BLOCK_SECTOR);
            r->size = r->start < end ? (size_t)MIN(end - r->start, WINDOW) : 0;
            if (r->at >= r->start + r->size)
                return -ENODATA;
            int status = block_pread(r->q->file, r->window, r->size, r->start);
            if (status)
                return status;
        }
        const size_t now = (size_t)MIN(size, r->start + r->size - r->at);
        memcpy(out, r->window + (r->at - r->start), now);
        out += now;
        size -= now;
        r->at += now;
    }
    return 0;
}

static int take_row(struct reader *r, struct qcow2_snapshot *s)
{
    struct row row;
    int status = take(r, &row, sizeof(row));
    if (status)
        return status;
    const uint16_t id_size = be16toh(row.id_size), name_size = be16toh(row.name_size);
    s->l1_offset = be64toh(row.l1_offset);
    s->l1_size = be32toh(row.l1_size);
    s->seconds = be32toh(row.seconds);
    s->nanoseconds = be32toh(row.nanoseconds);
    s->vm_clock = be64toh(row.vm_clock);
    s->vm_state_size = be32toh(row.vm_state_size);
    s->disk_size = r->q->header.size;
    s->icount = UINT64_MAX;
    s->extra_size = be32toh(row.extra_size);
    if (s->extra_size > EXTRA_MAX)
        return -EFBIG;
    s->extra = g_malloc0(MAX(s->extra_size, (uint32_t)EXTRA_ICOUNT));
    s->id = g_malloc0(id_size + 1u);
    s->name = g_malloc0(name_size + 1u);
    if ((status = take(r, s->extra, s->extra_size)) || (status = take(r, s->id, id_size)) ||
        (status = take(r, s->name, name_size)))
        return status;
    if (s->extra_size >= EXTRA_STATE)
        s->vm_state_size = ld64be(s->extra);
    if (s->extra_size >= EXTRA_SIZE)
        s->disk_size = ld64be(s->extra + 8);
    if (s->extra_size >= EXTRA_ICOUNT)
        s->icount = ld64be(s->extra + 16);
    r->at = align_up(r->at, 8);
    return 0;
}

static bool check_row(struct qcow2 *q, const struct qcow2_snapshot *s, unsigned i, GError **error)
{
    const unsigned shift = q->cluster_bits + q->l2_bits;
    const uint64_t need = (s->disk_size >> shift) + ((s->disk_size & (BIT(shift) - 1)) != 0);
    if (s->l1_size > QCOW2_L1_BYTES_MAX / 8 || s->disk_size > INT64_MAX || need > s->l1_size)
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "%s: qcow2: snapshot %u: an L1 table of %" PRIu32 " entries for a disk of %" PRIu64
                           " bytes; the image is damaged",
                           q->disk.name, i, s->l1_size, s->disk_size);
    if (s->l1_size && (!qcow2_offset_fits(q, s->l1_offset) || s->l1_offset & (q->cluster - 1)))
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "%s: qcow2: snapshot %u: its L1 table is at %" PRIu64
                           ", which is no cluster; the image is damaged",
                           q->disk.name, i, s->l1_offset);
    return true;
}

GPtrArray *qcow2_snapshots_read(struct qcow2 *q, uint64_t *size, GError **error)
{
    g_autoptr(GPtrArray) all = g_ptr_array_new_with_free_func((GDestroyNotify)qcow2_snapshot_free);
    g_autofree uint8_t *window = g_malloc(WINDOW);
    struct reader r = {.q = q, .at = q->header.snapshots_offset, .window = window};
    for (uint32_t i = 0; i < q->header.n_snapshots; i++) {
        struct qcow2_snapshot *s = g_new0(struct qcow2_snapshot, 1);
        g_ptr_array_add(all, s);
        int status = take_row(&r, s);
        if (!status && r.at - q->header.snapshots_offset > TABLE_MAX)
            status = -EFBIG;
        if (status == -EFBIG || status == -ENODATA) {
            hostel_fail(error, HOSTEL_ERROR_INPUT,
                        "%s: qcow2: the table of snapshots is %s at its row %" PRIu32
                        "; the image is damaged",
                        q->disk.name, status == -EFBIG ? "too large" : "cut off", i);
            return NULL;
        }
        if (status) {
            hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot read its table of snapshots: %s", q->disk.name,
                        g_strerror(-status));
            return NULL;
        }
        if (!check_row(q, s, i, error))
            return NULL;
    }
    *size = q->header.n_snapshots ? r.at - q->header.snapshots_offset : 0;
    return g_steal_pointer(&all);
}

/* --- writing --- */

static void put_row(GByteArray *out, const struct qcow2_snapshot *s)
{
    static const uint8_t zeroes[8];
    const bool wide = s->vm_state_size > UINT32_MAX;
    const struct row row = {
        .l1_offset = htobe64(s->l1_offset),
        .l1_size = htobe32(s->l1_size),
        .id_size = htobe16((uint16_t)strlen(s->id)),
        .name_size = htobe16((uint16_t)strlen(s->name)),
        .seconds = htobe32(s->seconds),
        .nanoseconds = htobe32(s->nanoseconds),
        .vm_clock = htobe64(s->vm_clock),
        .vm_state_size = htobe32(wide ? 0 : (uint32_t)s->vm_state_size),
        .extra_size = htobe32(MAX(s->extra_size, (uint32_t)EXTRA_ICOUNT)),
    };
    uint8_t extra[EXTRA_ICOUNT];
    st64be(extra, s->vm_state_size);
    st64be(extra + 8, s->disk_size);
    st64be(extra + 16, s->icount);
    g_byte_array_append(out, (const uint8_t *)&row, sizeof(row));
    g_byte_array_append(out, extra, sizeof(extra));
    if (s->extra_size > EXTRA_ICOUNT)
        g_byte_array_append(out, s->extra + EXTRA_ICOUNT, s->extra_size - EXTRA_ICOUNT);
    g_byte_array_append(out, (const uint8_t *)s->id, (guint)strlen(s->id));
    g_byte_array_append(out, (const uint8_t *)s->name, (guint)strlen(s->name));
    g_byte_array_append(out, zeroes, (guint)(align_up(out->len, 8) - out->len));
}

int qcow2_snapshots_write(struct qcow2 *q, GPtrArray *all, uint64_t *offset, uint64_t *size)
{
    g_autoptr(GByteArray) bytes = g_byte_array_new();
    for (guint i = 0; i < all->len; i++)
        put_row(bytes, all->pdata[i]);
    *offset = 0;
    *size = bytes->len;
    if (!bytes->len)
        return 0;
    if (bytes->len > TABLE_MAX)
        return -EFBIG;
    int status = qcow2_space_take(q, bytes->len, offset);
    if (status)
        return status;
    /* Whole clusters: nothing of what was there before comes back. */
    g_byte_array_set_size(bytes, (guint)align_up(bytes->len, q->cluster));
    memset(bytes->data + *size, 0, bytes->len - *size);
    status = block_pwrite(q->file, bytes->data, bytes->len, *offset);
    if (status)
        qcow2_space_untake(q, *offset, *size);
    return status;
}
