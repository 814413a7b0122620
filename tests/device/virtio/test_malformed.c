/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Rings that no driver should make, against every virtio function: the guest breaks its own device and
 * nothing else. */
/*
 * A case is a few descriptors and what is done to the ring around them. It is put into each queue of each
 * function in both formats. What must hold: the kick returns soon; the device is as it was or says
 * DEVICE_NEEDS_RESET, never anything else; another device goes on working; after a reset this one works, too;
 * memory does not grow. For the function that takes everything out of its queues (echo), it is known which
 * cases break it.
 */
#include <stdio.h>
#include <unistd.h>

#include "driver.h"
#include "echo.h"

#define DATA (DRV_RAM + DRV_DATA)
#define TABLE (DRV_RAM + DRV_DATA + 0x10000)
#define RAM_END (DRV_RAM + DRV_RAM_SIZE)
#define HOLE UINT64_C(0x10001000)

enum { QUEUE = 16, CASE_DESCRIPTORS = 3, KICK_MS = 100 };

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SANITIZED = 1 };
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
enum { SANITIZED = 1 };
#else
enum { SANITIZED = 0 };
#endif
#else
enum { SANITIZED = 0 };
#endif

/* What the echo function makes of a case. */
enum outcome { BREAKS, WORKS, EITHER };

struct desc {
    uint64_t addr;
    uint32_t len;
    uint16_t flags, next; /* next: split only; packed has the ring's order */
};

struct malformed {
    struct desc d[CASE_DESCRIPTORS];
    unsigned n;
    enum { IN_RING, IN_TABLE, SPLIT_RING, PACKED_RING } where; /* the last two: one format only */
    uint16_t index_jump; /* split: added to the available index beyond the one chain */
    uint16_t head;       /* split */
    enum outcome outcome;
};

/* --- the corpus --- */

static void add(GArray *all, struct malformed m)
{
    g_array_append_val(all, m);
}

/* Places of a buffer by the place that is wrong, lengths, directions, positions in the chain. */
static void add_buffers(GArray *all)
{
    static const uint32_t lens[] = {0, 1, 16, 4096, 0x80000000, 0xffffffff};
    for (unsigned l = 0; l < G_N_ELEMENTS(lens); l++) {
        const uint64_t len = lens[l];
        const uint64_t places[] = {0,      8,          RAM_END - 1,          RAM_END - len + 1, RAM_END,
                                   HOLE,   UINT64_MAX, UINT64_MAX - len + 1, UINT64_C(1) << 63, DRV_RAM - 1,
                                   DRV_ROM};
        for (unsigned p = 0; p < G_N_ELEMENTS(places); p++)
            for (unsigned bits = 0; bits < 8; bits++) {
                const bool write = bits & 1, second = bits & 2, table = bits & 4;
                const uint16_t flag = write ? D_WRITE : 0;
                const bool fine = len == 0 || (places[p] == RAM_END - 1 && len == 1) ||
                                  (places[p] == DRV_ROM && !write && len <= DRV_ROM_SIZE);
                struct malformed m = {.n = 1, .d = {{places[p], lens[l], flag, 0}}};
                if (second)
                    m = (struct malformed){
                        .n = 2,
                        .d = {{DATA, 16, (uint16_t)(flag | D_NEXT), 1}, {places[p], lens[l], flag, 0}}};
                m.where = table ? IN_TABLE : IN_RING;
                m.outcome = fine ? WORKS : BREAKS;
                add(all, m);
            }
    }
}

static void add_chains(GArray *all)
{
    static const uint16_t beyond[] = {QUEUE, QUEUE + 1, 255, 256, 0x7fff, 0x8000, 0xffff};
    /* Loops of one, two, three; from the ring and from a table. */
    for (unsigned bits = 0; bits < 4; bits++)
        for (uint16_t n = 1; n <= 3; n++) {
            const bool table = bits & 1;
            struct malformed m = {.n = n, .where = table ? IN_TABLE : SPLIT_RING, .outcome = BREAKS};
            for (uint16_t i = 0; i < n; i++)
                m.d[i] = (struct desc){DATA, bits & 2 ? 4 : 0, D_NEXT, (uint16_t)((i + 1) % n)};
            if (table) /* in a packed table NEXT means nothing */
                m.outcome = EITHER;
            add(all, m);
        }
    for (unsigned i = 0; i < G_N_ELEMENTS(beyond); i++) {
        add(all, (struct malformed){
                     .n = 1, .d = {{DATA, 4, D_NEXT, beyond[i]}}, .where = SPLIT_RING, .outcome = BREAKS});
        add(all, (struct malformed){
                     .n = 1, .d = {{DATA, 4, D_NEXT, beyond[i]}}, .where = IN_TABLE, .outcome = EITHER});
        add(all,
            (struct malformed){
                .n = 1, .d = {{DATA, 4, 0, 0}}, .where = SPLIT_RING, .head = beyond[i], .outcome = BREAKS});
    }
    /* Readable behind writable; an empty one is none. */
    for (unsigned table = 0; table < 2; table++)
        for (uint32_t len = 0; len < 2; len++)
            add(all, (struct malformed){
                         .n = 3,
                         .d = {{DATA, 4, D_NEXT | D_WRITE, 1}, {DATA, len, D_NEXT, 2}, {DATA, 4, D_WRITE, 0}},
                         .where = table ? IN_TABLE : IN_RING,
                         .outcome = len ? BREAKS : WORKS});
}

static void add_indirect(GArray *all)
{
    static const uint32_t lens[] = {0, 1, 15, 17, 16 * 257, 16 * 1025, 16 * 65536, 0xfffffff0, 0xffffffff};
    static const uint64_t places[] = {0, 8, HOLE, RAM_END - 8, RAM_END, UINT64_MAX - 7, UINT64_C(1) << 63};
    for (unsigned i = 0; i < G_N_ELEMENTS(lens); i++)
        for (unsigned second = 0; second < 2; second++) {
            const struct desc d = {TABLE, lens[i], D_INDIRECT, 0};
            struct malformed m = {.n = 1, .d = {d}, .outcome = BREAKS};
            if (second)
                m = (struct malformed){.n = 2, .d = {{DATA, 4, D_NEXT, 1}, d}, .outcome = BREAKS};
            add(all, m);
        }
    for (unsigned i = 0; i < G_N_ELEMENTS(places); i++)
        for (unsigned write = 0; write < 2; write++)
            add(all,
                (struct malformed){.n = 1,
                                   .d = {{places[i], 32, (uint16_t)(D_INDIRECT | (write ? D_WRITE : 0)), 0}},
                                   .outcome = BREAKS});
    /* Together with NEXT; inside a table; a table that is the ring itself. */
    add(all, (struct malformed){
                 .n = 2, .d = {{TABLE, 16, D_INDIRECT | D_NEXT, 1}, {DATA, 4, 0, 0}}, .outcome = BREAKS});
    for (unsigned next = 0; next < 2; next++)
        add(all, (struct malformed){.n = 1,
                                    .d = {{TABLE, 16, (uint16_t)(D_INDIRECT | (next ? D_NEXT : 0)), 0}},
                                    .where = IN_TABLE,
                                    .outcome = BREAKS});
    add(all, (struct malformed){.n = 1, .d = {{DRV_RAM, 16, D_INDIRECT, 0}}, .outcome = BREAKS});
}

static void add_rings(GArray *all)
{
    static const uint16_t jumps[] = {QUEUE, QUEUE + 1, 100, 0x7fff, 0x8000, 0xfffe, 0xffff};
    static const uint64_t own[] = {DRV_RAM, DRV_RAM + 8, DRV_RAM + DRV_DRIVER_AREA, DRV_RAM + DRV_DEVICE_AREA,
                                   DRV_RAM + DRV_DEVICE_AREA + 2};
    static const uint16_t odd[] = {8, 0x10, 0x40, 0x80, 0x100, 0x8000, 0xfff8};
    for (unsigned i = 0; i < G_N_ELEMENTS(jumps); i++)
        add(all, (struct malformed){.n = 1,
                                    .d = {{DATA, 4, 0, 0}},
                                    .where = SPLIT_RING,
                                    .index_jump = jumps[i],
                                    .outcome = jumps[i] == 0xffff ? WORKS /* nothing new */ : BREAKS});
    /* Buffers that are the rings. */
    for (unsigned i = 0; i < G_N_ELEMENTS(own); i++)
        for (unsigned write = 0; write < 2; write++)
            for (uint32_t len = 2; len <= 4096; len *= 8)
                add(all,
                    (struct malformed){.n = 2,
                                       .d = {{DATA, 64, D_NEXT, 1}, {own[i], len, write ? D_WRITE : 0, 0}},
                                       .outcome = EITHER});
    /* Flags without a meaning. */
    for (unsigned i = 0; i < G_N_ELEMENTS(odd); i++)
        add(all,
            (struct malformed){.n = 1, .d = {{DATA, 4, odd[i], 0}}, .where = SPLIT_RING, .outcome = WORKS});
    /* Requests too short for any header, and without a byte for a status. */
    for (uint32_t len = 0; len < 20; len++)
        for (unsigned write = 0; write < 2; write++)
            add(all,
                (struct malformed){.n = 1, .d = {{DATA, len, write ? D_WRITE : 0, 0}}, .outcome = WORKS});
}

static GArray *corpus(void)
{
    GArray *all = g_array_new(FALSE, FALSE, sizeof(struct malformed));
    add_buffers(all);
    add_chains(all);
    add_indirect(all);
    add_rings(all);
    return all;
}

/* --- one case --- */

static void put(struct drv *t, unsigned i, const struct malformed *m)
{
    struct drv_queue *q = &t->q[i];
    const bool table = m->where == IN_TABLE, packed = drv_packed(t);
    const unsigned n = table ? 1 : m->n;
    uint8_t *at = table ? drv_at(t, TABLE) : q->desc;
    const uint16_t shown = packed && !table ? D_AVAIL : 0;
    memset(drv_at(t, TABLE), 0, 16 * CASE_DESCRIPTORS); /* what the case before left there */
    for (unsigned k = 0; k < m->n; k++) {
        /* A case for the ring of one queue is moved to that of this one. */
        uint64_t addr = m->d[k].addr;
        if (addr >= DRV_RAM && addr < DRV_RAM + DRV_RING_STRIDE)
            addr += i * DRV_RING_STRIDE;
        if (packed)
            drv_put_desc(at + 16 * k, addr, m->d[k].len, 7, m->d[k].flags | shown);
        else
            drv_put_desc(at + 16 * k, addr, m->d[k].len, m->d[k].flags, m->d[k].next);
    }
    if (table)
        drv_put_desc(q->desc, TABLE, 16 * m->n, packed ? 7 : D_INDIRECT, packed ? D_INDIRECT | D_AVAIL : 0);
    if (packed) {
        q->count[7] = (uint16_t)n;
        return;
    }
    q->count[m->head % QUEUE] = (uint16_t)n;
    *(uint16_t *)(void *)(q->driver + 4) = m->head;
    *(uint16_t *)(void *)(q->driver + 2) = (uint16_t)(1 + m->index_jump);
}

/* Some good use of a device: the echo function answers, another one is quiet. */
static void check_usable(struct drv *t, uint64_t features)
{
    const struct drv_buffer b[2] = {{DATA, 4, false}, {DATA + 64, 4, true}};
    unsigned id;
    uint32_t len;
    drv_start(t, features, QUEUE);
    g_assert_cmphex(drv_read(t, R_STATUS), ==, 15);
    if (t->d->type != &echo_type)
        return;
    memcpy(drv_at(t, DATA), "\x01\x02\x03\x04", 4);
    drv_add(t, 0, b, 2, 0);
    drv_kick(t, 0);
    g_assert_true(drv_used(t, 0, &id, &len));
    g_assert_cmpmem(drv_at(t, DATA + 64), 4, "\xfe\xfd\xfc\xfb", 4);
}

static void run_case(struct drv *t, unsigned queue, uint64_t features, const struct malformed *m)
{
    drv_start(t, features, QUEUE);
    put(t, queue, m);
    gint64 before = g_get_monotonic_time();
    drv_kick(t, queue);
    gint64 took = g_get_monotonic_time() - before;
    uint32_t status = drv_read(t, R_STATUS);
    g_assert_cmphex(status & ~(uint32_t)VIRTIO_NEEDS_RESET, ==, 15);
    if (t->d->type == &echo_type && m->outcome != EITHER)
        g_assert_cmpint(!!(status & VIRTIO_NEEDS_RESET), ==, m->outcome == BREAKS);
    if (status & VIRTIO_NEEDS_RESET)
        g_assert_true(drv_pin(t)); /* and tells */
    g_assert_cmpint(took, <, KICK_MS * 1000 * (SANITIZED ? 20 : 1));
}

static void run_all(const struct device_type *type)
{
    g_autoptr(GArray) all = corpus();
    g_assert_cmpuint(all->len, >=, 300);
    struct drv t, other;
    unsigned cases = 0;
    drv_new(&t, type);
    drv_new(&other, &echo_type);
    for (unsigned packed = 0; packed < 2; packed++) {
        const uint64_t features = VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX |
                                  (packed ? VIRTIO_F_RING_PACKED : 0);
        check_usable(&other, features);
        for (unsigned queue = 0; queue < MIN(t.v->setup.queues, 4); queue++)
            for (unsigned i = 0; i < all->len; i++) {
                const struct malformed *m = &g_array_index(all, struct malformed, i);
                if ((m->where == SPLIT_RING && packed) || (m->where == PACKED_RING && !packed))
                    continue;
                if (g_test_verbose())
                    printf("# %s queue %u case %u\n", packed ? "packed" : "split", queue, i);
                run_case(&t, queue, features, m);
                cases++;
                if (i % 16 == 0)
                    check_usable(&other, features);
            }
        check_usable(&t, features);
    }
    g_test_message("%u cases, run %u times over queues and formats", all->len, cases);
    drv_free(&t);
    drv_free(&other);
}

/* Pages of this process in memory. */
static long resident(void)
{
    g_autofree char *text = NULL;
    long size = 0, pages = 0;
    g_assert_true(g_file_get_contents("/proc/self/statm", &text, NULL, NULL));
    g_assert_cmpint(sscanf(text, "%ld %ld", &size, &pages), ==, 2);
    return pages;
}

static void test_corpus(gconstpointer type)
{
    run_all(type);
    long before = resident();
    run_all(type);
    long grown = (resident() - before) * 4096;
    if (!SANITIZED)
        g_assert_cmpint(grown, <=, 16 << 20);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_data_func("/virtio/malformed/echo", &echo_type, test_corpus);
    for (unsigned i = 0; device_types[i]; i++) {
        if (device_types[i]->ops != &virtio_mmio_ops)
            continue;
        g_autofree char *path = g_strdup_printf("/virtio/malformed/%s", device_types[i]->name);
        g_test_add_data_func(path, device_types[i], test_corpus);
    }
    return g_test_run();
}
