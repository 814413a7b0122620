/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Every table of two descriptors over a small alphabet, against a model of what the specification allows. */
/*
 * 5 addresses x 4 lengths x 8 flags x 6 links = 960 values of a descriptor, 921,600 tables; each in a split
 * and in a packed ring, and as an indirect table in both. By default a sample of them; all with `-m slow`.
 */
#include <inttypes.h>

#include "device/virtio/virtqueue_int.h"
#include "driver.h"
#include "echo.h"

#define DATA (DRV_RAM + DRV_DATA)
#define TABLE (DATA + 0x1000)

enum { TABLE_SIZE = 2, ADDRS = 5, LENS = 4, FLAGS = 8, LINKS = 6, VALUES = ADDRS * LENS * FLAGS * LINKS };
/* A prime to VALUES squared, so that the sample is spread over all values. */
enum { SAMPLE = 7 };

static const uint64_t addrs[ADDRS] = {0, DATA, DRV_RAM + DRV_RAM_SIZE - 8, UINT64_MAX - 7, TABLE};
static const uint32_t lens[LENS] = {0, 8, 32, 0xffffffff};
static const uint16_t links[LINKS] = {0, 1, 2, 3, 0x7fff, 0xffff};

struct value {
    uint64_t addr;
    uint32_t len;
    uint16_t flags, next;
};

static struct value value_of(unsigned n)
{
    return (struct value){addrs[n % ADDRS], lens[n / ADDRS % LENS], (uint16_t)(n / ADDRS / LENS % FLAGS),
                          links[n / ADDRS / LENS / FLAGS]};
}

/* What the queue should find: the sizes of the chain's two sides, or that it is broken. */
struct found {
    bool broken;
    unsigned readable, writable;
    uint64_t bytes;
};

static bool in_ram(uint64_t addr, uint32_t len)
{
    return addr >= DRV_RAM && addr < DRV_RAM + DRV_RAM_SIZE && len <= DRV_RAM + DRV_RAM_SIZE - addr;
}

static void model_buffer(struct found *f, const struct value *v)
{
    if (!v->len)
        return;
    if ((!(v->flags & D_WRITE) && f->writable) || !in_ram(v->addr, v->len)) {
        f->broken = true;
        return;
    }
    *(v->flags & D_WRITE ? &f->writable : &f->readable) += 1;
    f->bytes += v->len;
}

static void model_split(struct found *f, const struct value *table, unsigned n, bool indirect);

/* A table that an enumerated descriptor points to. The only one in RAM is that at TABLE; the test keeps two
 * plain writable descriptors there, of 8 bytes each. */
static void model_table(struct found *f, const struct value *v, bool packed)
{
    static const struct value there[2] = {{DATA, 8, D_WRITE | D_NEXT, 1}, {DATA, 8, D_WRITE, 0}};
    if (!v->len || v->len % 16 || v->len > 16 * 256 || !in_ram(v->addr, v->len)) {
        f->broken = true;
        return;
    }
    if (v->addr != TABLE) { /* RAM full of zeroes: empty readable buffers, which end a split chain at once */
        struct value zero = {0};
        for (unsigned i = 0; i < (packed ? v->len / 16 : 1); i++)
            model_buffer(f, &zero);
        return;
    }
    if (packed)
        for (unsigned i = 0; i < v->len / 16; i++)
            model_buffer(f, &there[i]);
    else
        model_split(f, there, v->len / 16, true);
}

static void model_split(struct found *f, const struct value *table, unsigned n, bool indirect)
{
    bool seen[TABLE_SIZE] = {0};
    for (unsigned at = 0; !f->broken;) {
        if (at >= n || seen[at]) {
            f->broken = true;
            return;
        }
        seen[at] = true;
        const struct value *v = &table[at];
        if (v->flags & D_INDIRECT) {
            if (indirect || v->flags & D_NEXT)
                f->broken = true;
            else
                model_table(f, v, false);
            return;
        }
        model_buffer(f, v);
        if (!(v->flags & D_NEXT))
            return;
        at = v->next;
    }
}

static void model_packed(struct found *f, const struct value *ring)
{
    for (unsigned at = 0; at < TABLE_SIZE && !f->broken; at++) {
        const struct value *v = &ring[at];
        if (v->flags & D_INDIRECT && v->flags & D_NEXT)
            f->broken = true;
        else if (v->flags & D_INDIRECT)
            model_table(f, v, true);
        else
            model_buffer(f, v);
        if (!(v->flags & D_NEXT))
            return;
    }
    f->broken = true;
}

static void model_packed_table(struct found *f, const struct value *table)
{
    for (unsigned at = 0; at < TABLE_SIZE && !f->broken; at++) {
        if (table[at].flags & D_INDIRECT)
            f->broken = true;
        else
            model_buffer(f, &table[at]);
    }
}

/* --- what the queue does --- */

struct way {
    const char *name;
    bool packed, table;
};

/* A queue of two entries, fresh for each table. */
static void fresh(struct drv *t, bool packed)
{
    struct virtq *q = t->v->queue[0];
    const struct virtq_place place = {.area = {DRV_RAM, DRV_RAM + DRV_DRIVER_AREA, DRV_RAM + DRV_DEVICE_AREA},
                                      .size = TABLE_SIZE,
                                      .taken = {.wrap = packed},
                                      .given = {.wrap = packed}};
    virtq_disable(q);
    const char *fault = virtq_enable(
        q, &place, VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC | (packed ? VIRTIO_F_RING_PACKED : 0));
    g_assert_null(fault);
    virtq_set_live(q, true);
    atomic_store(&t->v->broken, false);
}

static void put_two(const struct way *w, uint8_t *at, const struct value *v, uint16_t shown)
{
    for (unsigned i = 0; i < TABLE_SIZE; i++)
        if (w->packed)
            drv_put_desc(at + 16 * i, v[i].addr, v[i].len, 5, v[i].flags | shown);
        else
            drv_put_desc(at + 16 * i, v[i].addr, v[i].len, v[i].flags, v[i].next);
}

static void check(struct drv *t, const struct way *w, const struct value *v)
{
    const uint64_t elsewhere = DATA + 0x2000;
    struct found f = {0};
    fresh(t, w->packed);
    if (w->table) {
        put_two(w, drv_at(t, elsewhere), v, 0);
        if (w->packed)
            drv_put_desc(t->ram, elsewhere, 32, 5, D_INDIRECT | D_AVAIL);
        else
            drv_put_desc(t->ram, elsewhere, 32, D_INDIRECT, 0);
    } else {
        put_two(w, t->ram, v, D_AVAIL);
    }
    if (w->packed && w->table)
        model_packed_table(&f, v);
    else if (w->packed)
        model_packed(&f, v);
    else
        model_split(&f, v, TABLE_SIZE, w->table);

    struct virtq_request *r;
    unsigned n = virtq_pop(t->v->queue[0], &r, 1);
    if (atomic_load(&t->v->broken) != f.broken)
        for (unsigned i = 0; i < TABLE_SIZE; i++)
            g_test_message("entry %u: addr 0x%" PRIx64 ", len %u, flags %u, next %u", i, v[i].addr, v[i].len,
                           v[i].flags, v[i].next);
    g_assert_cmpint(atomic_load(&t->v->broken), ==, f.broken);
    g_assert_cmpuint(n, ==, f.broken ? 0 : 1);
    if (f.broken)
        return;
    g_assert_cmpuint(r->n_readable, ==, f.readable);
    g_assert_cmpuint(r->n_writable, ==, f.writable);
    g_assert_cmpuint(r->readable_size + r->writable_size, ==, f.bytes);
    virtq_push(t->v->queue[0], &r, 1);
}

static void test_all(gconstpointer data)
{
    const struct way *w = data;
    struct drv t;
    drv_new(&t, &echo_type);
    drv_write(&t, R_STATUS, 0);
    drv_put_desc(drv_at(&t, TABLE), DATA, 8, w->packed ? 0 : D_WRITE | D_NEXT, w->packed ? D_WRITE : 1);
    drv_put_desc(drv_at(&t, TABLE) + 16, DATA, 8, w->packed ? 0 : D_WRITE, w->packed ? D_WRITE : 0);
    uint8_t *available = drv_at(&t, DRV_RAM + DRV_DRIVER_AREA);
    available[2] = !w->packed; /* one chain, from entry 0 */
    const unsigned step = g_test_slow() ? 1 : SAMPLE;
    for (unsigned n = 0; n < VALUES * VALUES; n += step) {
        const struct value v[TABLE_SIZE] = {value_of(n % VALUES), value_of(n / VALUES)};
        check(&t, w, v);
    }
    drv_free(&t);
}

int main(int argc, char **argv)
{
    static const struct way ways[] = {{"split", false, false},
                                      {"split-table", false, true},
                                      {"packed", true, false},
                                      {"packed-table", true, true}};
    g_test_init(&argc, &argv, NULL);
    for (unsigned i = 0; i < G_N_ELEMENTS(ways); i++) {
        g_autofree char *path = g_strdup_printf("/virtio/small/%s", ways[i].name);
        g_test_add_data_func(path, &ways[i], test_all);
    }
    return g_test_run();
}
