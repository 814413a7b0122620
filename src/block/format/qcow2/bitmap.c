/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Persistent bitmaps of a qcow2 image: which pieces of the disk have changed since somebody asked. */
/*
 * Theory of operation
 *
 * A bitmap that is enabled ("auto" in the file) notes every write. While the disk is open for writing its
 * bits are in memory; before the first change of the disk the file is told that it is in use, so that whoever
 * finds it after a crash knows that it has missed writes. Closing stores the bits and takes the flag away. A
 * disk that is opened for writing and not written to changes nothing.
 *
 * Bits, tables and the directory are always written to new places, and the header then turns to them
 * (bitmap_store.c); only the flag is set in place.
 *
 * Noting is what a write pays for: a look at words that mostly have the bits already.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/error.h"
#include "block/format/qcow2/bitmap_int.h"

/* --- the hooks --- */

/* The file learns that live bitmaps are in use. In place: flags are in one sector each, nothing else changes.
 */
static int tell_in_use(struct qcow2 *q, struct qcow2_bitmaps *s)
{
    uint64_t size, room;
    pthread_mutex_lock(&s->lock);
    int status = 0;
    if (!atomic_load(&s->noted)) {
        g_autofree uint8_t *bytes = qcow2_bitmaps_encode(q, s, true, &size, &room);
        status = block_pwrite(q->file, bytes, room, s->offset);
        if (!status)
            status = block_flush(q->file);
        atomic_store_explicit(&s->noted, !status, memory_order_release);
    }
    pthread_mutex_unlock(&s->lock);
    return status;
}

static int mark(struct qcow2 *q, uint64_t offset, uint64_t size)
{
    struct qcow2_bitmaps *s = q->bitmaps;
    if (!s->any)
        return 0;
    if (!atomic_load_explicit(&s->noted, memory_order_acquire)) {
        int status = tell_in_use(q, s);
        if (status)
            return status;
    }
    for (guint i = 0; i < s->all->len && size; i++) {
        struct qcow2_bitmap *m = s->all->pdata[i];
        if (m->live)
            qcow2_bitmap_mark(m, offset, size);
    }
    return 0;
}

static int store(struct qcow2 *q)
{
    struct qcow2_bitmaps *s = q->bitmaps;
    if (!atomic_load(&s->noted))
        return 0;
    for (guint i = 0; i < s->all->len; i++) {
        struct qcow2_bitmap *m = s->all->pdata[i];
        m->changed |= m->live;
        /* Those that should have noted what was written and could not. */
        if (!m->live && qcow2_bitmap_spoiled(m, true)) {
            m->flags |= QCOW2_BITMAP_IN_USE;
            m->usable = false;
        }
    }
    s->noted = false;
    return qcow2_bitmaps_commit(q, s, NULL);
}

static void free_all(struct qcow2 *q)
{
    qcow2_bitmaps_clear(STEAL(q->bitmaps));
}

void qcow2_bitmaps_hook(struct qcow2 *q)
{
    bool any = false;
    for (guint i = 0; i < q->bitmaps->all->len; i++)
        any |= (((const struct qcow2_bitmap *)q->bitmaps->all->pdata[i])->flags & QCOW2_BITMAP_AUTO) != 0;
    q->bitmaps->any = any;
    q->bitmaps_mark = mark;
    q->bitmaps_store = store;
    q->bitmaps_free = free_all;
}

static bool tell(struct qcow2 *q, const char *what, const char *name, int status, GError **error)
{
    return hostel_fail(error, status == -EILSEQ || status == -EFBIG ? HOSTEL_ERROR_INPUT : HOSTEL_ERROR_HOST,
                       "%s: cannot %s bitmap \"%s\": %s", q->disk.name, what, name,
                       status == -EILSEQ  ? "its table is damaged"
                       : status == -EFBIG ? "it is too large; remove it, or take a larger granularity"
                                          : g_strerror(-status));
}

bool qcow2_bitmaps_open(struct qcow2 *q, GError **error)
{
    uint64_t bytes = 0;
    if (!qcow2_extension_find(&q->header, QCOW2_EXTENSION_BITMAPS))
        return true;
    g_autoptr(GError) why = NULL;
    if (!qcow2_bitmaps_get(q, &why)) {
        if (q->disk.facts.readonly)
            return true; /* whoever asks for bitmaps is told */
        g_propagate_error(error, g_steal_pointer(&why));
        return false;
    }
    for (guint i = 0; i < q->bitmaps->all->len && !q->disk.facts.readonly; i++) {
        struct qcow2_bitmap *m = q->bitmaps->all->pdata[i];
        bytes += m->live ? qcow2_bitmap_bytes(m) : 0;
        int status = !m->live                                ? 0
                     : bytes > 4ull * QCOW2_BITMAP_BYTES_MAX ? -EFBIG
                                                             : qcow2_bitmap_load(q, q->bitmaps, m);
        if (status) {
            tell(q, "load", m->name, status, error);
            return false;
        }
    }
    return true;
}

/* --- looking --- */

bool qcow2_bitmaps_places(struct qcow2 *q,
                          void (*place)(void *opaque, uint64_t offset, uint64_t size, const char *what),
                          void *opaque, GError **error)
{
    AUTO(qcow2_bitmaps) s = qcow2_bitmaps_read(q, error);
    if (!s)
        return false;
    if (s->size)
        place(opaque, s->offset, s->size, "directory of bitmaps");
    for (guint i = 0; i < s->all->len; i++) {
        const struct qcow2_bitmap *m = s->all->pdata[i];
        g_autofree uint64_t *table = NULL;
        int status = qcow2_bitmap_table(q, m, &table);
        if (status)
            return tell(q, "look at", m->name, status, error);
        if (m->table_size)
            place(opaque, m->table_offset, (uint64_t)m->table_size * 8, "table of a bitmap");
        for (uint32_t k = 0; k < m->table_size; k++)
            if (table[k] > 1)
                place(opaque, table[k], q->cluster, "data of a bitmap");
    }
    return true;
}

json_t *qcow2_bitmaps_info(struct qcow2 *q)
{
    struct qcow2_bitmaps *s = qcow2_bitmaps_get(q, NULL);
    if (!s || !s->all->len)
        return NULL;
    json_t *list = json_array();
    for (guint i = 0; i < s->all->len; i++) {
        const struct qcow2_bitmap *m = s->all->pdata[i];
        g_autofree char *name = g_utf8_make_valid(m->name, -1);
        json_t *flags = json_array();
        if (m->flags & QCOW2_BITMAP_IN_USE)
            json_array_append_new(flags, json_string("in-use"));
        if (m->flags & QCOW2_BITMAP_AUTO)
            json_array_append_new(flags, json_string("auto"));
        json_array_append_new(list, json_pack("{so ss sI}", "flags", flags, "name", name, "granularity",
                                              (json_int_t)BIT(m->granularity_bits)));
    }
    return list;
}

GPtrArray *qcow2_bitmaps(struct disk *b, GError **error)
{
    const struct qcow2_bitmaps *s = qcow2_bitmaps_get(qcow2(b), error);
    if (!s)
        return NULL;
    GPtrArray *out = g_ptr_array_new_with_free_func((GDestroyNotify)block_bitmap_free);
    for (guint i = 0; i < s->all->len; i++) {
        const struct qcow2_bitmap *m = s->all->pdata[i];
        struct block_bitmap *o = g_new(struct block_bitmap, 1);
        *o = (struct block_bitmap){.name = g_strdup(m->name),
                                   .granularity = UINT32_C(1) << m->granularity_bits,
                                   .in_use = m->flags & QCOW2_BITMAP_IN_USE,
                                   .enabled = m->flags & QCOW2_BITMAP_AUTO};
        g_ptr_array_add(out, o);
    }
    return out;
}

/* One of q's with its bits in memory. NULL with *error. */
static struct qcow2_bitmap *usable(struct qcow2 *q, const char *name, GError **error)
{
    struct qcow2_bitmaps *s = qcow2_bitmaps_get(q, error);
    struct qcow2_bitmap *m = s ? qcow2_bitmap_find(s, name) : NULL;
    if (s && !m)
        hostel_fail(error, HOSTEL_ERROR_INPUT, "%s: has no bitmap \"%s\" among its %u", q->disk.name, name,
                    s->all->len);
    if (m && !m->usable) {
        hostel_fail(
            error, HOSTEL_ERROR_INPUT,
            "%s: bitmap \"%s\" was not stored properly, or is of an unknown kind: it does not tell what has "
            "changed; remove it",
            q->disk.name, name);
        return NULL;
    }
    int status = m ? qcow2_bitmap_load(q, s, m) : 0;
    if (status)
        tell(q, "load", name, status, error);
    return status ? NULL : m;
}

bool qcow2_bitmap_at(struct disk *b, const char *name, uint64_t offset, uint64_t *size, bool *marked,
                     GError **error)
{
    struct qcow2_bitmap *m = usable(qcow2(b), name, error);
    if (!m)
        return false;
    const uint64_t first = offset >> m->granularity_bits, end = offset + *size;
    uint64_t i = first;
    if (first >= m->n_bits || !*size)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "%s: %" PRIu64 " is outside of the disk", b->name,
                           offset);
    *marked = m->bits[first / 64] >> first % 64 & 1;
    while (i < m->n_bits && i << m->granularity_bits < end) {
        const uint64_t word = m->bits[i / 64] ^ (*marked ? UINT64_MAX : 0);
        const uint64_t other = word & ~bits_mask(i % 64); /* bits that are not as the first */
        if (other) {
            i = i / 64 * 64 + (uint64_t)__builtin_ctzll(other);
            break;
        }
        i = (i / 64 + 1) * 64;
    }
    *size = MIN(end, i << m->granularity_bits) - offset;
    return true;
}

/* --- changing --- */

static struct qcow2_bitmaps *changeable(struct qcow2 *q, GError **error)
{
    if (q->disk.facts.readonly) {
        hostel_fail(error, HOSTEL_ERROR_USAGE, "%s: is open read-only", q->disk.name);
        return NULL;
    }
    return qcow2_bitmaps_get(q, error);
}

static bool commit(struct qcow2 *q, const char *what, const char *name, const struct qcow2_bitmap *gone,
                   GError **error)
{
    int status = qcow2_bitmaps_commit(q, q->bitmaps, gone);
    qcow2_bitmaps_hook(q);
    return !status || tell(q, what, name, status, error);
}

bool qcow2_bitmap_add(struct disk *b, const char *name, uint32_t granularity, bool enabled, GError **error)
{
    struct qcow2 *q = qcow2(b);
    struct qcow2_bitmaps *s = changeable(q, error);
    const unsigned bits = granularity ? (unsigned)__builtin_ctz(granularity) : QCOW2_BITMAP_BITS_DEFAULT;
    if (!s)
        return false;
    if (q->header.version < 3)
        return hostel_fail(error, HOSTEL_ERROR_UNSUPPORTED,
                           "%s: bitmaps need an image of compat level 1.1 (amend it)", b->name);
    if (granularity & (granularity - 1) || bits < QCOW2_BITMAP_BITS_MIN || bits > QCOW2_BITMAP_BITS_MAX)
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "%s: a bitmap's granularity is a power of two from 512 bytes to 2 GiB", b->name);
    if (!*name || strlen(name) > QCOW2_BITMAP_NAME_MAX)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "%s: a bitmap's name has 1 to %d bytes", b->name,
                           QCOW2_BITMAP_NAME_MAX);
    if (qcow2_bitmap_find(s, name) || s->all->len >= QCOW2_BITMAPS_MAX)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "%s: has a bitmap \"%s\" already, or too many", b->name,
                           name);
    AUTO(qcow2_bitmap) m = g_new0(struct qcow2_bitmap, 1);
    m->name = g_strdup(name);
    m->flags = enabled ? QCOW2_BITMAP_AUTO : 0;
    m->type = 1;
    m->granularity_bits = (uint8_t)bits;
    m->n_bits = qcow2_bitmap_bits_for(q->header.size, bits);
    m->usable = m->changed = true;
    m->live = enabled;
    const uint64_t bytes = qcow2_bitmap_bytes(m);
    m->bits = bytes > QCOW2_BITMAP_BYTES_MAX ? NULL : g_try_malloc0(align_up(bytes + 8, 8));
    if (!m->bits)
        return tell(q, "add", name, bytes > QCOW2_BITMAP_BYTES_MAX ? -EFBIG : -ENOMEM, error);
    g_ptr_array_add(s->all, STEAL(m));
    return commit(q, "add", name, NULL, error);
}

bool qcow2_bitmap_remove(struct disk *b, const char *name, GError **error)
{
    struct qcow2 *q = qcow2(b);
    struct qcow2_bitmaps *s = changeable(q, error);
    guint i;
    if (!s)
        return false;
    struct qcow2_bitmap *found = qcow2_bitmap_find(s, name);
    if (!found || !g_ptr_array_find(s->all, found, &i))
        return hostel_fail(error, HOSTEL_ERROR_INPUT, "%s: has no bitmap \"%s\" among its %u", b->name, name,
                           s->all->len);
    AUTO(qcow2_bitmap) m = g_ptr_array_steal_index(s->all, i);
    return commit(q, "remove", name, m, error);
}

bool qcow2_bitmap_clear(struct disk *b, const char *name, GError **error)
{
    struct qcow2 *q = qcow2(b);
    struct qcow2_bitmap *m = changeable(q, error) ? usable(q, name, error) : NULL;
    if (!m)
        return false;
    for (uint64_t i = 0; i < (m->n_bits + 63) / 64; i++)
        atomic_store(&m->bits[i], 0);
    m->changed = true;
    return commit(q, "clear", name, NULL, error);
}

bool qcow2_bitmap_enable(struct disk *b, const char *name, bool enabled, GError **error)
{
    struct qcow2 *q = qcow2(b);
    struct qcow2_bitmap *m = changeable(q, error) ? usable(q, name, error) : NULL;
    if (!m)
        return false;
    m->changed |= m->live; /* what it has noted, from now on kept as it is */
    m->live = enabled;
    m->flags = enabled ? m->flags | QCOW2_BITMAP_AUTO : m->flags & ~QCOW2_BITMAP_AUTO;
    return commit(q, enabled ? "enable" : "disable", name, NULL, error);
}

bool qcow2_bitmap_merge(struct disk *b, const char *to, struct disk *from, const char *name, GError **error)
{
    struct qcow2 *q = qcow2(b);
    if (from->driver != b->driver)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "%s: is no qcow2 image: its bitmaps cannot be merged",
                           from->name);
    struct qcow2_bitmap *t = changeable(q, error) ? usable(q, to, error) : NULL;
    const struct qcow2_bitmap *f = t ? usable(qcow2(from), name, error) : NULL;
    if (!f)
        return false;
    if (from->facts.size != b->facts.size)
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "%s and %s are not of one size: a bitmap of one says nothing "
                           "about the other",
                           b->name, from->name);
    for (uint64_t i = 0; i < f->n_bits; i++) {
        if (!f->bits[i / 64])
            i |= 63;
        else if (f->bits[i / 64] >> i % 64 & 1)
            qcow2_bitmap_mark(t, i << f->granularity_bits, BIT(f->granularity_bits));
    }
    /* The last piece may reach over the disk's end. */
    if (t->n_bits % 64)
        t->bits[t->n_bits / 64] &= bits_mask(t->n_bits % 64);
    t->changed = true;
    return commit(q, "merge into", to, NULL, error);
}

/* --- the disk's size changes --- */

static int refit(struct qcow2 *q, struct qcow2_bitmap *m, uint64_t size)
{
    const uint64_t n = qcow2_bitmap_bits_for(size, m->granularity_bits), words = (n + 63) / 64;
    if (words * 8 > QCOW2_BITMAP_BYTES_MAX)
        return -EFBIG;
    int status = qcow2_bitmap_load(q, q->bitmaps, m);
    if (status)
        return status;
    _Atomic uint64_t *bits = g_try_malloc0((words + 1) * 8);
    if (!bits)
        return -ENOMEM;
    for (uint64_t i = 0; i < MIN(words, (m->n_bits + 63) / 64); i++)
        atomic_init(&bits[i], m->bits[i]);
    if (n % 64)
        bits[n / 64] &= bits_mask(n % 64);
    g_free((void *)(uintptr_t)m->bits);
    m->bits = bits;
    m->n_bits = n;
    m->changed = true;
    return 0;
}

int qcow2_bitmaps_resize(struct qcow2 *q, uint64_t size)
{
    struct qcow2_bitmaps *s = qcow2_bitmaps_get(q, NULL);
    if (!s)
        return -EIO;
    if (!s->all->len)
        return 0;
    for (guint i = 0; i < s->all->len; i++) {
        const struct qcow2_bitmap *m = s->all->pdata[i];
        if (!m->usable && !(m->flags & QCOW2_BITMAP_IN_USE))
            return -EOPNOTSUPP;
    }
    for (guint i = 0; i < s->all->len; i++) {
        struct qcow2_bitmap *m = s->all->pdata[i];
        int status = m->usable ? refit(q, m, size) : 0;
        if (status)
            return status;
    }
    return qcow2_bitmaps_commit(q, s, NULL);
}
