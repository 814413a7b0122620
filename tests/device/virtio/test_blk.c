/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* virtio-blk by register accesses: against a flat array of bytes, with storage that fails, with a driver that
 * breaks the rules, and reset while requests are under way. Numbers are written down anew from virtio 1.2,
 * section 5.2. */
#include <errno.h>

#include "blk_rig.h"

/* --- what it says --- */

static void test_facts(void)
{
    struct rig g;
    rig_new(&g, true, 3);
    uint64_t offered = drv_offered(&g.t);
    const uint8_t wanted[] = {F_SIZE_MAX, F_SEG_MAX, F_BLK_SIZE, F_FLUSH, F_TOPOLOGY,
                              F_WCE,      F_MQ,      F_DISCARD,  F_ZEROES};
    for (unsigned i = 0; i < sizeof(wanted); i++)
        g_assert_true(offered & FEATURE(wanted[i]));
    g_assert_false(offered & FEATURE(F_RO));
    g_assert_cmpuint(drv_read(&g.t, R_DEVICE_ID), ==, 2);
    g_assert_cmpuint(config(&g, 0, 8), ==, SECTORS);
    g_assert_cmpuint(config(&g, 8, 4), >=, 4096);
    g_assert_cmpuint(config(&g, 12, 4), >=, 64);
    g_assert_cmpuint(config(&g, 20, 4), ==, SECTOR);
    g_assert_cmpuint(config(&g, 24, 1), ==, 3); /* physical blocks of 4096 */
    g_assert_cmpuint(config(&g, 26, 2), ==, 8);
    g_assert_cmpuint(config(&g, 32, 1), ==, 1);
    g_assert_cmpuint(config(&g, 34, 2), ==, 3);
    g_assert_cmpuint(config(&g, 36, 4), >, 0);
    g_assert_cmpuint(config(&g, 40, 4), >, 0);
    g_assert_cmpuint(config(&g, 44, 4), ==, 1);
    g_assert_cmpuint(config(&g, 48, 4), >, 0);
    g_assert_cmpuint(config(&g, 52, 4), >, 0);
    g_assert_cmpuint(config(&g, 56, 1), ==, 1);
    drv_start(&g.t, EVERYTHING, 64);
    g_assert_cmpuint(ask(&g, GET_ID, 0, 20), ==, OK);
    g_assert_cmpuint(g.length[0], ==, 21);
    g_assert_cmpstr((const char *)slot_data(&g, 0), ==, "HOSTEL-0123456789");
    g_assert_cmpuint(ask(&g, GET_ID, 0, 5), ==, OK);
    g_assert_cmpmem(slot_data(&g, 0), 5, "HOSTE", 5);
    g_assert_cmpuint(ask(&g, GET_ID, 0, 64), ==, OK);
    g_assert_cmpuint(g.length[0], ==, 20); /* what is behind was not written */
    rig_free(&g);
}

static void test_readonly(void)
{
    struct rig g;
    rig_new(&g, true, 1);
    g.disk->facts.readonly = true;
    struct drv t;
    const struct device_wires wires = {.disk = g.disk};
    drv_new_wired(&t, device_type_find("virtio-blk"), &wires, NULL);
    uint64_t offered = drv_offered(&t);
    g_assert_true(offered & FEATURE(F_RO));
    g_assert_false(offered & (FEATURE(F_DISCARD) | FEATURE(F_ZEROES)));
    drv_free(&t);
    drv_start(&g.t, EVERYTHING, 64);
    g_assert_cmpuint(ask_write(&g, 0, 1), ==, IOERR);
    g_assert_cmpuint(ask_segment(&g, ZEROES, 0, 1, 0), ==, IOERR);
    g_assert_cmpuint(ask(&g, FLUSH, 0, 0), ==, OK);
    assert_sector(&g, 0, 0);
    rig_free(&g);
}

static void test_no_disk(void)
{
    struct rig g;
    rig_new(&g, false, 1);
    g_assert_cmpuint(config(&g, 0, 8), ==, 0);
    drv_start(&g.t, EVERYTHING, 64);
    const uint32_t types[] = {IN, OUT, FLUSH, DISCARD, ZEROES};
    for (unsigned i = 0; i < sizeof(types) / sizeof(types[0]); i++)
        g_assert_cmpuint(ask(&g, types[i], 0, 512), ==, IOERR);
    g_assert_cmpuint(ask(&g, GET_ID, 0, 20), ==, OK);
    rig_free(&g);
}

/* --- against a model --- */

struct model {
    struct rig *g;
    uint8_t bytes[SIZE];
    bool any[SECTORS]; /* discarded: may read as anything */
    struct request r[SLOTS];
    unsigned n;
};

/* A range that no request of this round touches; false when none was found. */
static bool find_range(struct model *m, uint64_t *sector, uint64_t *sectors)
{
    GRand *rand = m->g->rand;
    *sectors = (uint64_t)g_rand_int_range(rand, 0, g_rand_boolean(rand) ? 9 : 150);
    *sector = (uint64_t)g_rand_int_range(rand, 0, (gint32)(SECTORS - *sectors));
    for (unsigned i = 0; i < m->n; i++) {
        uint64_t other = m->r[i].type == DISCARD || m->r[i].type == ZEROES
                             ? ld32le(slot_data(m->g, m->r[i].slot) + 8)
                             : m->r[i].size / SECTOR;
        if (m->r[i].sector < *sector + *sectors && *sector < m->r[i].sector + other)
            return false;
    }
    return true;
}

static void add_random(struct model *m)
{
    static const uint32_t types[] = {IN, IN, IN, OUT, OUT, OUT, OUT, FLUSH, DISCARD, ZEROES};
    struct rig *g = m->g;
    uint64_t sector, sectors;
    if (!find_range(m, &sector, &sectors))
        return;
    struct request *r = &m->r[m->n];
    *r = (struct request){.slot = m->n,
                          .queue = (unsigned)g_rand_int_range(g->rand, 0, 2),
                          .type = types[g_rand_int_range(g->rand, 0, 10)],
                          .sector = sector,
                          .size = sectors * SECTOR};
    uint8_t *data = slot_data(g, r->slot);
    memset(data, 0xcc, r->size);
    if (r->type == OUT)
        for (uint64_t i = 0; i < r->size; i++)
            data[i] = m->bytes[sector * SECTOR + i] = (uint8_t)g_rand_int(g->rand);
    if (r->type == FLUSH)
        r->size = 0;
    if (r->type == DISCARD || r->type == ZEROES) {
        st64le(data, sector);
        st32le(data + 8, (uint32_t)sectors);
        st32le(data + 12, r->type == ZEROES && g_rand_boolean(g->rand));
        r->size = 16;
    }
    if (r->type == ZEROES)
        memset(m->bytes + sector * SECTOR, 0, sectors * SECTOR);
    for (uint64_t i = sector; i < sector + sectors && r->type != IN && r->type != FLUSH; i++)
        m->any[i] = r->type == DISCARD;
    submit(g, r);
    m->n++;
}

static void check(struct model *m, const struct request *r)
{
    g_assert_cmpuint(wait_for(m->g, r), ==, OK);
    g_assert_cmpuint(m->g->length[r->slot], ==, fills(r->type) ? r->size + 1 : 1);
    for (uint64_t i = 0; r->type == IN && i < r->size; i++) {
        uint64_t at = r->sector * SECTOR + i;
        if (!m->any[at / SECTOR] && slot_data(m->g, r->slot)[i] != m->bytes[at])
            g_error("byte %u is %u, not %u", (unsigned)at, slot_data(m->g, r->slot)[i], m->bytes[at]);
    }
}

static void test_model(gconstpointer features)
{
    struct rig g;
    rig_new(&g, true, 2);
    g_autofree struct model *m = g_new0(struct model, 1);
    m->g = &g;
    drv_start(&g.t, GPOINTER_TO_SIZE(features) | VIRTIO_F_VERSION_1 | 0xffff, 128);
    for (unsigned round = 0; round < 400; round++) {
        m->n = 0;
        while (m->n < SLOTS && g_rand_int_range(g.rand, 0, 8))
            add_random(m);
        drv_kick(&g.t, 0);
        drv_kick(&g.t, 1);
        for (unsigned i = 0; i < m->n; i++)
            check(m, &m->r[i]);
    }
    rig_free(&g);
}

/* --- storage that fails --- */

/* The write that fails has a status; all others are where they belong. At each index. */
static void test_each_write(void)
{
    enum { WRITES = 12 };
    for (unsigned at = 0; at < WRITES; at++) {
        struct rig g;
        rig_new(&g, true, 1);
        drv_start(&g.t, EVERYTHING, 64);
        block_fault_set(g.disk, BLOCK_FAULT_WRITE, at, 1, at % 2 ? -EFBIG : -EIO, 100);
        for (unsigned i = 0; i < WRITES; i++)
            g_assert_cmpuint(ask_write(&g, i * 3, (uint8_t)(i + 1)), ==, i == at ? IOERR : OK);
        g_assert_cmpuint(ask(&g, FLUSH, 0, 0), ==, OK);
        for (unsigned i = 0; i < WRITES; i++)
            if (i != at)
                assert_sector(&g, i * 3, (uint8_t)(i + 1));
        g_assert_cmpuint(ask_write(&g, at * 3, 99), ==, OK);
        assert_sector(&g, at * 3, 99);
        rig_free(&g);
    }
}

static void test_failed_reads(void)
{
    struct rig g;
    rig_new(&g, true, 1);
    drv_start(&g.t, EVERYTHING, 64);
    block_fault_set(g.disk, BLOCK_FAULT_READ, 0, UINT_MAX, -EIO, 0);
    g_assert_cmpuint(ask(&g, IN, 0, 4096), ==, IOERR);
    g_assert_cmpuint(g.length[0], ==, 0);
    block_fault_set(g.disk, BLOCK_FAULT_READ, 0, 0, 0, 0);
    assert_sector(&g, 0, 0);
    rig_free(&g);
}

/* What a failed flush may have lost is never acknowledged. */
static void test_failed_flush(void)
{
    struct rig g;
    rig_new(&g, true, 1);
    drv_start(&g.t, EVERYTHING, 64);
    g_assert_cmpuint(ask_write(&g, 1, 1), ==, OK);
    block_fault_set(g.disk, BLOCK_FAULT_FLUSH, 0, 1, -EIO, 0);
    g_assert_cmpuint(ask(&g, FLUSH, 0, 0), ==, IOERR);
    for (unsigned i = 0; i < 3; i++) {
        g_assert_cmpuint(ask(&g, FLUSH, 0, 0), ==, IOERR);
        g_assert_cmpuint(ask_write(&g, 2, 1), ==, IOERR);
        g_assert_cmpuint(ask_segment(&g, ZEROES, 1, 1, 0), ==, IOERR);
    }
    assert_sector(&g, 1, 1);
    drv_start(&g.t, EVERYTHING, 64); /* a reset of the device mends no storage */
    g_assert_cmpuint(ask(&g, FLUSH, 0, 0), ==, IOERR);
    rig_free(&g);
}

/* A driver that has no flush, or wants none, gets durable writes. */
static void test_write_through(void)
{
    struct rig g;
    rig_new(&g, true, 1);
    drv_start(&g.t, EVERYTHING, 64);
    g_assert_cmpuint(ask_write(&g, 0, 1), ==, OK);
    g_assert_cmpuint(block_fault_count(g.disk, BLOCK_FAULT_FLUSH), ==, 0);
    wr(g.t.d, R_CONFIG + 32, 1, 0);
    g_assert_cmpuint(config(&g, 32, 1), ==, 0);
    g_assert_cmpuint(ask_write(&g, 0, 2), ==, OK);
    g_assert_cmpuint(block_fault_count(g.disk, BLOCK_FAULT_FLUSH), ==, 1);
    g_assert_cmpuint(ask_segment(&g, ZEROES, 0, 1, 0), ==, OK);
    g_assert_cmpuint(block_fault_count(g.disk, BLOCK_FAULT_FLUSH), ==, 2);
    wr(g.t.d, R_CONFIG + 32, 1, 2); /* no such mode */
    wr(g.t.d, R_CONFIG, 1, 1);      /* no such register */
    g_assert_cmpuint(config(&g, 32, 1), ==, 0);
    g_assert_cmpuint(config(&g, 0, 8), ==, SECTORS);
    drv_start(&g.t, EVERYTHING & ~FEATURE(F_FLUSH), 64);
    g_assert_cmpuint(ask_write(&g, 0, 3), ==, OK);
    g_assert_cmpuint(block_fault_count(g.disk, BLOCK_FAULT_FLUSH), ==, 3);
    drv_start(&g.t, EVERYTHING, 64); /* a reset forgets the mode */
    g_assert_cmpuint(config(&g, 32, 1), ==, 1);
    g_assert_cmpuint(ask_write(&g, 0, 4), ==, OK);
    g_assert_cmpuint(block_fault_count(g.disk, BLOCK_FAULT_FLUSH), ==, 3);
    rig_free(&g);
}

/* A host without room makes the guest wait; then the same write is done, once. */
static void test_full(void)
{
    struct rig g;
    rig_new(&g, true, 1);
    drv_start(&g.t, EVERYTHING, 64);
    block_fault_set(g.disk, BLOCK_FAULT_WRITE, 0, 2, -ENOSPC, 100);
    g_assert_cmpuint(ask_write(&g, 5, 5), ==, OK);
    g_assert_cmpuint(block_fault_count(g.disk, BLOCK_FAULT_WRITE), ==, 3);
    block_fault_set(g.disk, BLOCK_FAULT_ZERO, 0, 1, -EDQUOT, 0);
    g_assert_cmpuint(ask_segment(&g, ZEROES, 6, 1, 0), ==, OK);
    assert_sector(&g, 5, 5);

    /* Nobody waits for a device that is reset. */
    block_fault_set(g.disk, BLOCK_FAULT_WRITE, 0, UINT_MAX, -ENOSPC, 0);
    for (unsigned i = 0; i < 8; i++) {
        const struct request r = {.slot = i, .type = OUT, .sector = i, .size = SECTOR};
        submit(&g, &r);
    }
    drv_kick(&g.t, 0);
    unsigned before = block_fault_count(g.disk, BLOCK_FAULT_WRITE);
    while (block_fault_count(g.disk, BLOCK_FAULT_WRITE) == before)
        usleep(100);
    drv_write(&g.t, R_STATUS, 0);
    block_fault_set(g.disk, BLOCK_FAULT_WRITE, 0, 0, 0, 0);
    drv_start(&g.t, EVERYTHING, 64);
    g_assert_cmpuint(ask_write(&g, 5, 6), ==, OK);
    rig_free(&g);
}

/* --- a driver that breaks the rules --- */

/* Requests that are well-formed chains, but make no sense: each has a status, and the next one works. */
static void test_nonsense(void)
{
    static const struct {
        uint32_t type;
        uint64_t sector, size;
        uint8_t status;
    } cases[] = {
        {IN, SECTORS, 512, IOERR},
        {IN, SECTORS - 1, 1024, IOERR},
        {IN, UINT64_MAX, 512, IOERR},
        {IN, UINT64_MAX / 512 + 1, 512, IOERR}, /* times 512 it is 0 */
        {IN, UINT64_MAX / 512 - 1, 1024, IOERR},
        {IN, UINT64_C(1) << 63, 512, IOERR},
        {IN, 0, 511, IOERR},
        {IN, 0, 513, IOERR},
        {IN, 0, 0, OK},
        {IN, SECTORS, 0, OK},
        {OUT, SECTORS, 512, IOERR},
        {OUT, SECTORS - 1, 1024, IOERR},
        {OUT, UINT64_MAX / 512 + 1, 512, IOERR},
        {OUT, 0, 100, IOERR},
        {OUT, 0, 0, OK},
        {2, 0, 512, UNSUPP},
        {10, 0, 512, UNSUPP},
        {14, 0, 512, UNSUPP},
        {UINT32_MAX, 0, 512, UNSUPP},
        {DISCARD, 0, 0, IOERR},
        {DISCARD, 0, 15, IOERR},
        {DISCARD, 0, 17, IOERR},
        {ZEROES, 0, 4096, IOERR}, /* more ranges than allowed */
    };
    struct rig g;
    rig_new(&g, true, 1);
    drv_start(&g.t, EVERYTHING, 64);
    g_assert_cmpuint(ask_write(&g, 0, 0x77), ==, OK);
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        memset(slot_data(&g, 0), 0x55, cases[i].size);
        g_assert_cmpuint(ask(&g, cases[i].type, cases[i].sector, cases[i].size), ==, cases[i].status);
        assert_sector(&g, 0, 0x77);
    }
    g_assert_cmpuint(drv_read(&g.t, R_STATUS) & VIRTIO_NEEDS_RESET, ==, 0);
    rig_free(&g);
}

static void test_nonsense_ranges(void)
{
    struct rig g;
    rig_new(&g, true, 1);
    drv_start(&g.t, EVERYTHING, 64);
    const uint32_t types[] = {DISCARD, ZEROES};
    for (unsigned i = 0; i < 2; i++) {
        g_assert_cmpuint(ask_segment(&g, types[i], 0, SECTORS, 0), ==, OK);
        g_assert_cmpuint(ask_segment(&g, types[i], SECTORS, 0, 0), ==, OK);
        g_assert_cmpuint(ask_segment(&g, types[i], 1, SECTORS, 0), ==, IOERR);
        g_assert_cmpuint(ask_segment(&g, types[i], SECTORS, 1, 0), ==, IOERR);
        g_assert_cmpuint(ask_segment(&g, types[i], UINT64_MAX, 1, 0), ==, IOERR);
        g_assert_cmpuint(ask_segment(&g, types[i], UINT64_MAX / 512 + 1, 1, 0), ==, IOERR);
        g_assert_cmpuint(ask_segment(&g, types[i], 0, UINT32_MAX, 0), ==, IOERR);
        g_assert_cmpuint(ask_segment(&g, types[i], 0, 1, 2), ==, UNSUPP);
    }
    g_assert_cmpuint(ask_segment(&g, DISCARD, 0, 1, 1), ==, UNSUPP); /* unmap is for zeroes alone */
    drv_start(&g.t, VIRTIO_F_VERSION_1, 64);                         /* not agreed on */
    g_assert_cmpuint(ask_segment(&g, DISCARD, 0, 1, 0), ==, UNSUPP);
    g_assert_cmpuint(ask_segment(&g, ZEROES, 0, 1, 0), ==, UNSUPP);
    rig_free(&g);
}

/* Chains in which the header or the status has no place break the device, until it is reset. */
static void test_broken_chains(void)
{
    static const struct {
        struct drv_buffer b[3];
        unsigned n;
    } cases[] = {
        {{{0, 16, false}}, 1},                                   /* no status */
        {{{0, 16, false}, {512, 512, false}}, 2},                /* likewise */
        {{{0, 15, false}, {512, 1, true}}, 2},                   /* a short header */
        {{{512, 1, true}}, 1},                                   /* none */
        {{{0, 1, false}, {512, 512, true}, {2000, 1, true}}, 3}, /* one byte of it */
        {{{0, 16, true}, {512, 512, true}}, 2},                  /* it would be written to */
    };
    struct rig g;
    rig_new(&g, true, 1);
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct drv_buffer b[3];
        drv_start(&g.t, EVERYTHING, 64);
        memset(drv_at(&g.t, slot_addr(0)), 0, 4096);
        for (unsigned k = 0; k < cases[i].n; k++) {
            b[k] = cases[i].b[k];
            b[k].addr += slot_addr(0);
        }
        drv_add(&g.t, 0, b, cases[i].n, 0);
        drv_kick(&g.t, 0);
        g_assert_cmpuint(drv_read(&g.t, R_STATUS) & VIRTIO_NEEDS_RESET, ==, VIRTIO_NEEDS_RESET);
        drv_kick(&g.t, 0);
        drv_start(&g.t, EVERYTHING, 64);
        g_assert_cmpuint(ask_write(&g, 0, (uint8_t)i), ==, OK);
        assert_sector(&g, 0, (uint8_t)i);
    }
    rig_free(&g);
}

/* --- reset while requests are under way --- */

static gpointer open_later(gpointer disk)
{
    usleep(20000);
    block_fault_gate(disk, false);
    return NULL;
}

static void test_reset(void)
{
    for (unsigned n = 1; n <= 8; n++) {
        struct rig g;
        rig_new(&g, true, 1);
        drv_start(&g.t, EVERYTHING, 64);
        block_fault_gate(g.disk, true);
        for (unsigned i = 0; i < n; i++) {
            const struct request r = {
                .slot = i, .type = i % 2 ? IN : OUT, .sector = 10 * i, .size = 10 * SECTOR};
            memset(slot_data(&g, i), (int)i + 1, r.size);
            submit(&g, &r);
        }
        drv_kick(&g.t, 0);
        collect(&g, 0);
        g_assert_false(g.done[0]);
        GThread *thread = g_thread_new(NULL, open_later, g.disk);
        drv_write(&g.t, R_STATUS, 0); /* waits for what is under way */
        g_autofree void *after = g_memdup2(g.t.ram, DRV_RAM_SIZE);
        g_thread_join(thread);
        usleep(5000);
        g_assert_cmpmem(after, DRV_RAM_SIZE, g.t.ram, DRV_RAM_SIZE);
        drv_start(&g.t, EVERYTHING, 64);
        for (unsigned i = 0; i < n; i += 2)
            assert_sector(&g, 10 * i, (uint8_t)(i + 1));
        rig_free(&g);
    }
}

/* The device goes away with requests under way. */
static void test_freed(void)
{
    struct rig g;
    rig_new(&g, true, 1);
    drv_start(&g.t, EVERYTHING, 64);
    block_fault_gate(g.disk, true);
    const struct request r = {.type = OUT, .size = SECTOR};
    submit(&g, &r);
    drv_kick(&g.t, 0);
    GThread *thread = g_thread_new(NULL, open_later, g.disk);
    drv_free(&g.t);
    g_thread_join(thread);
    block_free(g.root);
    block_free(g.disk);
    g_rand_free(g.rand);
}

/* Saved and loaded, it goes on where it was. */
static void test_state(void)
{
    struct rig g;
    rig_new(&g, true, 1);
    drv_start(&g.t, EVERYTHING, 64);
    g_assert_cmpuint(ask_write(&g, 3, 3), ==, OK);
    wr(g.t.d, R_CONFIG + 32, 1, 0);
    g_autofree uint8_t *state = g_malloc(device_state_size(g.t.d->type));
    device_state_save(g.t.d, state);
    device_reset(g.t.d);
    g_assert_true(device_state_load(g.t.d, state));
    assert_sector(&g, 3, 3);
    g_assert_cmpuint(ask_write(&g, 4, 4), ==, OK);
    g_assert_cmpuint(block_fault_count(g.disk, BLOCK_FAULT_FLUSH), ==, 1); /* still writing through */
    rig_free(&g);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/blk/facts", test_facts);
    g_test_add_func("/blk/readonly", test_readonly);
    g_test_add_func("/blk/no-disk", test_no_disk);
    g_test_add_data_func("/blk/model/split", GSIZE_TO_POINTER(0), test_model);
    g_test_add_data_func("/blk/model/packed", GSIZE_TO_POINTER(VIRTIO_F_RING_PACKED), test_model);
    g_test_add_data_func("/blk/model/indirect", GSIZE_TO_POINTER(VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX),
                         test_model);
    g_test_add_data_func("/blk/model/everything",
                         GSIZE_TO_POINTER(VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX | VIRTIO_F_RING_PACKED),
                         test_model);
    g_test_add_func("/blk/each-write", test_each_write);
    g_test_add_func("/blk/full", test_full);
    g_test_add_func("/blk/failed-reads", test_failed_reads);
    g_test_add_func("/blk/failed-flush", test_failed_flush);
    g_test_add_func("/blk/write-through", test_write_through);
    g_test_add_func("/blk/nonsense", test_nonsense);
    g_test_add_func("/blk/nonsense-ranges", test_nonsense_ranges);
    g_test_add_func("/blk/broken-chains", test_broken_chains);
    g_test_add_func("/blk/reset", test_reset);
    g_test_add_func("/blk/freed", test_freed);
    g_test_add_func("/blk/state", test_state);
    return g_test_run();
}
