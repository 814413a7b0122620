/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Virtqueues of both formats, with and without event indices and indirect descriptors, by a driver that keeps
 * the rules. */
#include "base/byteorder.h"
#include "driver.h"
#include "echo.h"

/* What the driver agrees to, as a test's data. */
struct features {
    const char *name;
    uint64_t bits;
};

#define V1 VIRTIO_F_VERSION_1
static const struct features combinations[] = {
    {"split", V1},
    {"split-event", V1 | VIRTIO_F_EVENT_IDX},
    {"split-indirect", V1 | VIRTIO_F_INDIRECT_DESC},
    {"split-both", V1 | VIRTIO_F_EVENT_IDX | VIRTIO_F_INDIRECT_DESC},
    {"packed", V1 | VIRTIO_F_RING_PACKED},
    {"packed-event", V1 | VIRTIO_F_RING_PACKED | VIRTIO_F_EVENT_IDX},
    {"packed-indirect", V1 | VIRTIO_F_RING_PACKED | VIRTIO_F_INDIRECT_DESC},
    {"packed-both", V1 | VIRTIO_F_RING_PACKED | VIRTIO_F_EVENT_IDX | VIRTIO_F_INDIRECT_DESC},
};

/* --- requests whose answers are checked --- */

enum { SLOT_BYTES = 4096, BUFFERS_MAX = 8 };

/* One request under way, by id. Its memory is a slot of its own. */
struct expected {
    uint32_t size; /* bytes to come back */
    uint64_t readable[BUFFERS_MAX], writable[BUFFERS_MAX];
    uint32_t len[BUFFERS_MAX];
    unsigned buffers;
    uint8_t seed;
};

static uint64_t slot_at(unsigned slot)
{
    return DRV_RAM + DRV_DATA + (uint64_t)slot * SLOT_BYTES;
}

static uint8_t pattern(uint8_t seed, uint32_t at)
{
    return (uint8_t)(seed + at * 7);
}

/* Adds an echo request of 1 to BUFFERS_MAX buffers each way; slot: where its memory is. */
static unsigned add_echo(struct drv *t, GRand *rand, unsigned slot, struct expected *all)
{
    struct drv_buffer b[2 * BUFFERS_MAX];
    struct expected x = {.buffers = (unsigned)g_rand_int_range(rand, 1, BUFFERS_MAX + 1),
                         .seed = (uint8_t)g_rand_int(rand)};
    uint64_t at = slot_at(slot);
    const uint64_t table = at;
    at += 2 * BUFFERS_MAX * 16;
    for (unsigned k = 0; k < x.buffers; k++) {
        x.len[k] = (uint32_t)g_rand_int_range(rand, 1, 100);
        x.readable[k] = at;
        b[k] = (struct drv_buffer){at, x.len[k], false};
        for (uint32_t i = 0; i < x.len[k]; i++)
            *drv_at(t, at + i) = pattern(x.seed, x.size + i);
        at += x.len[k];
        x.size += x.len[k];
    }
    for (unsigned k = 0; k < x.buffers; k++) {
        x.writable[k] = at;
        b[x.buffers + k] = (struct drv_buffer){at, x.len[k], true};
        memset(drv_at(t, at), 0, x.len[k]);
        at += x.len[k];
    }
    const bool indirect = t->features & VIRTIO_F_INDIRECT_DESC && g_rand_boolean(rand);
    unsigned id = drv_add(t, 0, b, 2 * x.buffers, indirect ? table : 0);
    all[id] = x;
    return id;
}

static void check_echo(struct drv *t, const struct expected *x, uint32_t len)
{
    uint32_t at = 0;
    g_assert_cmpuint(len, ==, x->size);
    for (unsigned k = 0; k < x->buffers; k++)
        for (uint32_t i = 0; i < x->len[k]; i++, at++)
            g_assert_cmphex(*drv_at(t, x->writable[k] + i), ==, (uint8_t)~pattern(x->seed, at));
}

/* Thousands of requests in bunches, round the ring many times; no kick and no interrupt is missed when each
 * side obeys the other's wishes. */
static void test_stream(gconstpointer data)
{
    const struct features *f = data;
    struct drv t;
    drv_new(&t, &echo_type);
    drv_start(&t, f->bits, 64);
    GRand *rand = g_rand_new_with_seed(7);
    struct expected all[DRV_ENTRIES];
    unsigned slot = 0, done = 0, added = 0;
    while (done < 4000) {
        uint16_t old = t.q[0].added;
        bool old_wrap = t.q[0].added_wrap;
        drv_interrupts(&t, 0, true);
        for (unsigned n = (unsigned)g_rand_int_range(rand, 1, 5); n && drv_room(&t, 0, 2 * BUFFERS_MAX);
             n--, added++) {
            add_echo(&t, rand, slot, all);
            slot = (slot + 1) % 64;
        }
        if (drv_kick_wanted(&t, 0, old, old_wrap))
            drv_kick(&t, 0);
        g_assert_true(drv_pin(&t));
        g_assert_cmpuint(drv_acknowledge(&t), ==, 1);
        g_assert_false(drv_pin(&t));
        unsigned id;
        uint32_t len;
        while (drv_used(&t, 0, &id, &len)) {
            check_echo(&t, &all[id], len);
            done++;
        }
        g_assert_cmpuint(done, ==, added);
    }
    g_assert_cmphex(drv_read(&t, R_STATUS), ==, 15);
    g_rand_free(rand);
    drv_free(&t);
}

/* Requests completed in another order than they came, by hand, over many rounds of a small ring. */
static void test_out_of_order(gconstpointer data)
{
    const struct features *f = data;
    struct drv t;
    drv_new(&t, &echo_type);
    drv_start(&t, f->bits, 32);
    struct echo *e = echo_of(t.v);
    e->hold = true;
    GRand *rand = g_rand_new_with_seed(8);
    struct expected all[DRV_ENTRIES];
    unsigned slot = 0, id, done = 0;
    uint32_t len;
    while (done < 1000) {
        while (drv_room(&t, 0, 2 * BUFFERS_MAX)) {
            add_echo(&t, rand, slot, all);
            slot = (slot + 1) % 64;
        }
        drv_kick(&t, 0);
        g_assert_cmpuint(e->n_held, >, 0);
        unsigned which = (unsigned)g_rand_int_range(rand, 0, (int)e->n_held);
        struct virtq_request *r = e->held[which];
        e->held[which] = e->held[--e->n_held];
        echo_work(r);
        virtq_complete(r);
        g_assert_true(drv_used(&t, 0, &id, &len));
        check_echo(&t, &all[id], len);
        g_assert_false(drv_used(&t, 0, &id, &len));
        done++;
    }
    g_rand_free(rand);
    drv_free(&t);
}

/* The driver's wish about interrupts, and that a wish for the next one is about that one. */
static void test_interrupts(gconstpointer data)
{
    const struct features *f = data;
    struct drv t;
    drv_new(&t, &echo_type);
    drv_start(&t, f->bits, 16);
    const struct drv_buffer b[2] = {{slot_at(0), 8, false}, {slot_at(1), 8, true}};
    unsigned id;
    uint32_t len;
    for (unsigned round = 0; round < 100; round++) {
        drv_interrupts(&t, 0, false);
        drv_add(&t, 0, b, 2, 0);
        drv_kick(&t, 0);
        g_assert_false(drv_pin(&t));
        drv_interrupts(&t, 0, true); /* from the element it has not seen yet, which is there already */
        g_assert_true(drv_used(&t, 0, &id, &len));
        drv_interrupts(&t, 0, true);
        drv_add(&t, 0, b, 2, 0);
        drv_kick(&t, 0);
        g_assert_true(drv_pin(&t));
        drv_acknowledge(&t);
        g_assert_true(drv_used(&t, 0, &id, &len));
        g_assert_false(drv_pin(&t));
    }
    drv_free(&t);
}

/* With event indices: an interrupt for the third element from now, not for the first two. */
static void test_event_index(gconstpointer data)
{
    const struct features *f = data;
    struct drv t;
    drv_new(&t, &echo_type);
    drv_start(&t, f->bits, 16);
    const struct drv_buffer b = {slot_at(1), 8, true};
    for (unsigned round = 0; round < 50; round++) {
        struct drv_queue *q = &t.q[0];
        if (drv_packed(&t)) {
            unsigned at = q->seen + 2u;
            bool wrap = q->seen_wrap ^ (at >= q->size);
            st16le(q->driver, (uint16_t)(at % q->size | (wrap ? 1u << 15 : 0)));
            st16le(q->driver + 2, 2);
        } else {
            st16le(q->driver + 4 + 2 * q->size, (uint16_t)(q->seen + 2));
        }
        for (unsigned i = 0; i < 3; i++) {
            unsigned id;
            uint32_t len;
            drv_add(&t, 0, &b, 1, 0);
            drv_kick(&t, 0);
            g_assert_cmpint(drv_pin(&t), ==, i == 2);
            g_assert_true(drv_used(&t, 0, &id, &len));
        }
        drv_acknowledge(&t);
    }
    drv_free(&t);
}

/* Kicks: asked for, then not, then again, and what came meanwhile is told. */
static void test_kicks(gconstpointer data)
{
    const struct features *f = data;
    struct drv t;
    drv_new(&t, &echo_type);
    drv_start(&t, f->bits, 16);
    struct echo *e = echo_of(t.v);
    struct virtq *vq = t.v->queue[0];
    const struct drv_buffer b = {slot_at(1), 8, true};
    e->hold = true;
    for (unsigned round = 0; round < 40; round++) {
        uint16_t old = t.q[0].added;
        bool wrap = t.q[0].added_wrap;
        g_assert_false(virtq_waiting(vq));
        virtq_kicks_off(vq);
        /* With event indices in a split ring "off" is the absence of news: the one wish outstanding stays. */
        drv_add(&t, 0, &b, 1, 0);
        if (drv_packed(&t) || !(f->bits & VIRTIO_F_EVENT_IDX))
            g_assert_false(drv_kick_wanted(&t, 0, old, wrap));
        g_assert_true(virtq_waiting(vq));
        g_assert_true(virtq_kicks_on(vq));
        unsigned n = virtq_pop(vq, e->held, 4);
        g_assert_cmpuint(n, ==, 1);
        g_assert_false(virtq_kicks_on(vq));
        old = t.q[0].added;
        wrap = t.q[0].added_wrap;
        virtq_complete(e->held[0]);
        drv_add(&t, 0, &b, 1, 0);
        g_assert_true(drv_kick_wanted(&t, 0, old, wrap));
        n = virtq_pop(vq, e->held, 4);
        g_assert_cmpuint(n, ==, 1);
        virtq_complete(e->held[0]);
        unsigned id;
        uint32_t len;
        while (drv_used(&t, 0, &id, &len))
            g_assert_cmpuint(len, ==, 0);
    }
    drv_free(&t);
}

/* Requests given back are found again, the same. */
static void test_unpop(gconstpointer data)
{
    const struct features *f = data;
    struct drv t;
    drv_new(&t, &echo_type);
    drv_start(&t, f->bits, 8);
    struct echo *e = echo_of(t.v);
    struct virtq *vq = t.v->queue[0];
    e->hold = true;
    for (unsigned round = 0; round < 50; round++) {
        struct virtq_request *r[4];
        unsigned ids[3], id;
        uint32_t len;
        for (unsigned i = 0; i < 3; i++) {
            const struct drv_buffer b[2] = {{slot_at(i), 8 + i, true}, {slot_at(3), 1, true}};
            ids[i] = drv_add(&t, 0, b, 1 + i % 2, 0);
        }
        g_assert_cmpuint(virtq_pop(vq, r, 4), ==, 3);
        virtq_unpop(vq, r + 1, 2);
        g_assert_cmpuint(virtq_pop(vq, r + 1, 3), ==, 2);
        for (unsigned i = 0; i < 3; i++)
            g_assert_cmpuint(r[i]->writable[0].iov_len, ==, 8 + i);
        virtq_push(vq, r, 3);
        for (unsigned i = 0; i < 3; i++) {
            g_assert_true(drv_used(&t, 0, &id, &len));
            g_assert_cmpuint(id, ==, ids[i]);
        }
    }
    drv_free(&t);
}

/* Header, data, status: what is cut off, and which pages count as written. */
static void test_bytes(gconstpointer data)
{
    const struct features *f = data;
    struct drv t;
    drv_new(&t, &echo_type);
    drv_start(&t, f->bits, 8);
    struct echo *e = echo_of(t.v);
    e->hold = true;
    memset(drv_at(&t, slot_at(0)), 'h', 10);
    const struct drv_buffer b[] = {{slot_at(0), 4, false},
                                   {slot_at(0) + 4, 6, false},
                                   {slot_at(10), 3 * SLOT_BYTES, true},
                                   {slot_at(20), 1, true}};
    drv_add(&t, 0, b, 4, 0);
    drv_kick(&t, 0);
    g_assert_cmpuint(e->n_held, ==, 1);
    struct virtq_request *r = e->held[0];
    e->n_held = 0;
    char head[9] = "";
    g_assert_false(virtq_get(r, 3, head, 8));
    g_assert_true(virtq_get(r, 0, head, 8));
    g_assert_cmpstr(head, ==, "hhhhhhhh");
    g_assert_false(virtq_cut_header(r, 11));
    g_assert_true(virtq_cut_header(r, 5));
    g_assert_cmpuint(r->n_readable, ==, 1);
    g_assert_cmpuint(r->readable_size, ==, 5);
    g_assert_cmpuint(r->readable[0].iov_len, ==, 5);
    uint8_t *status = virtq_cut_status(r);
    g_assert_true(status == drv_at(&t, slot_at(20)));
    g_assert_null(virtq_cut_status(r));
    g_assert_cmpuint(r->n_writable, ==, 1);
    g_assert_cmpuint(r->writable_size, ==, 3 * SLOT_BYTES);
    g_assert_false(virtq_put(r, 3 * SLOT_BYTES, "x", 1));

    const struct mem_block *ram = mem_find(t.mem, GPA(DRV_RAM));
    uint8_t bitmap[DRV_RAM_SIZE / 4096 / 8];
    mem_log_start(t.mem);
    memset(r->writable[0].iov_base, 'd', SLOT_BYTES + 1); /* as a system call would */
    *status = 1;
    r->written = SLOT_BYTES + 1;
    virtq_complete(r);
    mem_log_take(t.mem, ram, bitmap);
    for (unsigned page = 0; page < DRV_RAM_SIZE / 4096; page++) {
        const unsigned data_page = DRV_DATA / 4096;
        bool ring = page < DRV_RING_STRIDE / 4096;
        bool dirty = page == data_page + 10 || page == data_page + 11 || page == data_page + 20;
        if (!ring)
            g_assert_cmpint(bitmap[page / 8] >> (page % 8) & 1, ==, dirty);
    }
    unsigned ring_page = drv_packed(&t) ? 0 : DRV_DEVICE_AREA / 4096;
    g_assert_true(bitmap[ring_page / 8] >> (ring_page % 8) & 1);
    drv_free(&t);
}

/* A device saved in the middle of its work and loaded into another one goes on there. */
static void test_state(gconstpointer data)
{
    const struct features *f = data;
    struct drv a, b;
    drv_new(&a, &echo_type);
    drv_new(&b, &echo_type);
    drv_start(&a, f->bits, 8);
    GRand *rand = g_rand_new_with_seed(9);
    struct expected all[DRV_ENTRIES];
    size_t size = device_state_size(&echo_type);
    g_autofree uint8_t *bytes = g_malloc(size);
    unsigned id;
    uint32_t len;
    for (unsigned round = 0; round < 60; round++) {
        struct drv_buffer one[2] = {{slot_at(round), 5, false}, {slot_at(round) + 100, 5, true}};
        drv_add(&a, 0, one, 2, 0);
        if (round == 37) { /* saved with a request that was added but not kicked */
            device_state_save(a.d, bytes);
            memcpy(b.ram, a.ram, DRV_RAM_SIZE);
            memcpy(b.q, a.q, sizeof(b.q));
            for (unsigned i = 0; i < a.v->setup.queues; i++) {
                b.q[i].desc = b.ram + (a.q[i].desc - a.ram);
                b.q[i].driver = b.ram + (a.q[i].driver - a.ram);
                b.q[i].device = b.ram + (a.q[i].device - a.ram);
            }
            b.features = a.features;
            g_assert_true(device_state_load(b.d, bytes));
            /* Whatever is in the queue is served when the guest goes on, and not before. */
            g_assert_false(drv_used(&b, 0, &id, &len));
            clock_start(b.clock);
            while (!drv_used(&b, 0, &id, &len))
                g_main_context_iteration(NULL, TRUE);
            break;
        }
        drv_kick(&a, 0);
        g_assert_true(drv_used(&a, 0, &id, &len));
    }
    for (unsigned round = 0; round < 100; round++) {
        if (drv_room(&b, 0, 2))
            drv_add(&b, 0, (struct drv_buffer[]){{slot_at(1), 9, false}, {slot_at(2), 9, true}}, 2, 0);
        drv_kick(&b, 0);
        g_assert_true(drv_used(&b, 0, &id, &len));
        g_assert_cmpuint(len, ==, 9);
    }
    g_assert_cmphex(drv_read(&b, R_STATUS), ==, 15);
    (void)all;
    g_rand_free(rand);
    drv_free(&a);
    drv_free(&b);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(gconstpointer);
        bool event_idx; /* only with event indices */
    } tests[] = {
        {"stream", test_stream, false},         {"out-of-order", test_out_of_order, false},
        {"interrupts", test_interrupts, false}, {"event-index", test_event_index, true},
        {"kicks", test_kicks, false},           {"unpop", test_unpop, false},
        {"bytes", test_bytes, false},           {"state", test_state, false},
    };
    g_test_init(&argc, &argv, NULL);
    for (unsigned i = 0; i < G_N_ELEMENTS(combinations); i++)
        for (unsigned k = 0; k < G_N_ELEMENTS(tests); k++) {
            const struct features *f = &combinations[i];
            if (tests[k].event_idx && !(f->bits & VIRTIO_F_EVENT_IDX))
                continue;
            g_autofree char *path = g_strdup_printf("/virtio/queue/%s/%s", f->name, tests[k].name);
            g_test_add_data_func(path, f, tests[k].run);
        }
    return g_test_run();
}
