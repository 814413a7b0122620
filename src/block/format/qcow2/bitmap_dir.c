/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The directory of a qcow2 image's persistent bitmaps: read and checked, and written. */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/byteorder.h"
#include "base/error.h"
#include "block/format/qcow2/bitmap_int.h"

enum {
    EXTENSION = 24, /* bytes: count, 0, size and offset of the directory */
    DIRECTORY_MAX = 64 << 20,
    TYPE_DIRTY = 1, /* the only type there is */
};

/* Fixed part of an entry; then extra data, name, padding to 8 bytes. Big-endian. */
struct entry {
    uint64_t table_offset;
    uint32_t table_size, flags;
    uint8_t type, granularity_bits;
    uint16_t name_size;
    uint32_t extra_size;
};
static_assert(sizeof(struct entry) == 24, "as on disk");

/* --- one --- */

void qcow2_bitmap_free(struct qcow2_bitmap *m)
{
    if (!m)
        return;
    g_free(m->name);
    g_free(m->extra);
    g_free((void *)(uintptr_t)m->bits);
    g_free(m);
}

uint64_t qcow2_bitmap_bits_for(uint64_t size, unsigned granularity_bits)
{
    return (size >> granularity_bits) + ((size & (BIT(granularity_bits) - 1)) != 0);
}

uint64_t qcow2_bitmap_bytes(const struct qcow2_bitmap *m)
{
    return (m->n_bits + 7) / 8;
}

struct qcow2_bitmap *qcow2_bitmap_find(const struct qcow2_bitmaps *s, const char *name)
{
    for (guint i = 0; i < s->all->len; i++) {
        struct qcow2_bitmap *m = s->all->pdata[i];
        if (!strcmp(m->name, name))
            return m;
    }
    return NULL;
}

/* One that was not stored properly stays so; one that should note writes and cannot is spoiled by the first.
 */
bool qcow2_bitmap_spoiled(const struct qcow2_bitmap *m, bool noted)
{
    return m->flags & QCOW2_BITMAP_IN_USE || (noted && m->flags & QCOW2_BITMAP_AUTO);
}

/* --- reading --- */

static bool damaged(struct qcow2 *q, const char *what, GError **error)
{
    return hostel_fail(error, HOSTEL_ERROR_INPUT,
                       "%s: qcow2: its directory of bitmaps: %s; the image is damaged", q->disk.name, what);
}

/* What can be said of an entry without its table. */
static bool check_entry(struct qcow2 *q, const struct qcow2_bitmap *m, GError **error)
{
    const uint64_t clusters = align_up(qcow2_bitmap_bytes(m), q->cluster) >> q->cluster_bits;
    if (m->flags & ~(QCOW2_BITMAP_IN_USE | QCOW2_BITMAP_AUTO | QCOW2_BITMAP_EXTRA_FINE))
        return damaged(q, "an unknown flag", error);
    if (m->granularity_bits < QCOW2_BITMAP_BITS_MIN || m->granularity_bits > QCOW2_BITMAP_BITS_MAX)
        return damaged(q, "a granularity that is not 512 bytes to 2 GiB", error);
    if (m->table_size > QCOW2_L1_BYTES_MAX / 8 || (m->table_size && !qcow2_offset_fits(q, m->table_offset)))
        return damaged(q, "a table that is nowhere", error);
    if (m->usable && m->table_size != clusters)
        return damaged(q, "a table that is not as large as the disk", error);
    return true;
}

/* The entry at *at, which moves on. NULL with *error. */
static struct qcow2_bitmap *read_entry(struct qcow2 *q, const uint8_t *bytes, uint64_t size, uint64_t *at,
                                       GError **error)
{
    struct entry e;
    if (size - *at < sizeof(e)) {
        damaged(q, "it is cut off", error);
        return NULL;
    }
    memcpy(&e, bytes + *at, sizeof(e));
    const uint64_t extra = be32toh(e.extra_size), name = be16toh(e.name_size), left = size - *at - sizeof(e);
    if (extra > left || name > left - extra || !name || name > QCOW2_BITMAP_NAME_MAX) {
        damaged(q, "a name or extra data that does not fit", error);
        return NULL;
    }
    AUTO(qcow2_bitmap) m = g_new0(struct qcow2_bitmap, 1);
    m->table_offset = be64toh(e.table_offset);
    m->table_size = be32toh(e.table_size);
    m->flags = be32toh(e.flags);
    m->type = e.type;
    m->granularity_bits = e.granularity_bits;
    m->extra_size = (uint32_t)extra;
    m->extra = g_memdup2(bytes + *at + sizeof(e), extra);
    m->name = g_strndup((const char *)bytes + *at + sizeof(e) + extra, name);
    m->usable = !(m->flags & QCOW2_BITMAP_IN_USE) && m->type == TYPE_DIRTY &&
                (!extra || m->flags & QCOW2_BITMAP_EXTRA_FINE);
    m->live = m->usable && m->flags & QCOW2_BITMAP_AUTO;
    m->n_bits = qcow2_bitmap_bits_for(q->header.size, MIN(m->granularity_bits, QCOW2_BITMAP_BITS_MAX));
    if (!check_entry(q, m, error))
        return NULL;
    *at = align_up(*at + sizeof(e) + extra + name, 8);
    return STEAL(m);
}

static bool read_directory(struct qcow2 *q, struct qcow2_bitmaps *s, uint32_t count, GError **error)
{
    g_autofree uint8_t *bytes = g_try_malloc(MAX(s->size, 1));
    int status = bytes ? block_pread(q->file, bytes, s->size, s->offset) : -ENOMEM;
    if (status)
        return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot read its directory of bitmaps: %s",
                           q->disk.name, g_strerror(-status));
    uint64_t at = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (at > s->size)
            return damaged(q, "it is cut off", error);
        struct qcow2_bitmap *m = read_entry(q, bytes, s->size, &at, error);
        if (!m)
            return false;
        if (qcow2_bitmap_find(s, m->name)) {
            qcow2_bitmap_free(m);
            return damaged(q, "two with one name", error);
        }
        g_ptr_array_add(s->all, m);
    }
    return true;
}

static struct qcow2_bitmaps *empty(void)
{
    struct qcow2_bitmaps *s = g_new0(struct qcow2_bitmaps, 1);
    pthread_mutex_init(&s->lock, NULL);
    s->all = g_ptr_array_new_with_free_func((GDestroyNotify)qcow2_bitmap_free);
    return s;
}

void qcow2_bitmaps_clear(struct qcow2_bitmaps *s)
{
    if (!s)
        return;
    g_ptr_array_unref(s->all);
    pthread_mutex_destroy(&s->lock);
    g_free(s);
}

struct qcow2_bitmaps *qcow2_bitmaps_read(struct qcow2 *q, GError **error)
{
    const struct qcow2_extension *e = qcow2_extension_find(&q->header, QCOW2_EXTENSION_BITMAPS);
    AUTO(qcow2_bitmaps) s = empty();
    /* Without the bit somebody wrote to the image who does not know of bitmaps: what there is is no more
     * true. */
    if (!e || !(q->header.autoclear & QCOW2_AUTOCLEAR_BITMAPS))
        return STEAL(s);
    if (e->size < EXTENSION) {
        damaged(q, "the header extension is too short", error);
        return NULL;
    }
    const uint32_t count = ld32be(e->bytes);
    s->size = ld64be(e->bytes + 8);
    s->offset = ld64be(e->bytes + 16);
    if (count > QCOW2_BITMAPS_MAX || s->size > DIRECTORY_MAX || !qcow2_offset_fits(q, s->offset)) {
        damaged(q, "too many, too large, or no cluster", error);
        return NULL;
    }
    return read_directory(q, s, count, error) ? STEAL(s) : NULL;
}

struct qcow2_bitmaps *qcow2_bitmaps_get(struct qcow2 *q, GError **error)
{
    if (!q->bitmaps)
        q->bitmaps = qcow2_bitmaps_read(q, error);
    if (q->bitmaps)
        qcow2_bitmaps_hook(q);
    return q->bitmaps;
}

/* --- writing --- */

uint8_t *qcow2_bitmaps_encode(struct qcow2 *q, const struct qcow2_bitmaps *s, bool noted, uint64_t *size,
                              uint64_t *room)
{
    g_autoptr(GByteArray) out = g_byte_array_new();
    static const uint8_t zeroes[8];
    for (guint i = 0; i < s->all->len; i++) {
        const struct qcow2_bitmap *m = s->all->pdata[i];
        const uint32_t in_use = qcow2_bitmap_spoiled(m, noted) ? QCOW2_BITMAP_IN_USE : 0;
        const struct entry e = {.table_offset = htobe64(m->table_offset),
                                .table_size = htobe32(m->table_size),
                                .flags = htobe32(m->flags | in_use),
                                .type = m->type,
                                .granularity_bits = m->granularity_bits,
                                .name_size = htobe16((uint16_t)strlen(m->name)),
                                .extra_size = htobe32(m->extra_size)};
        g_byte_array_append(out, (const uint8_t *)&e, sizeof(e));
        if (m->extra_size)
            g_byte_array_append(out, m->extra, m->extra_size);
        g_byte_array_append(out, (const uint8_t *)m->name, (guint)strlen(m->name));
        g_byte_array_append(out, zeroes, (guint)(align_up(out->len, 8) - out->len));
    }
    *size = out->len;
    *room = align_up(out->len, q->cluster);
    g_byte_array_set_size(out, (guint)*room);
    if (*room > *size)
        memset(out->data + *size, 0, *room - *size);
    return g_byte_array_free(g_steal_pointer(&out), FALSE);
}
