/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* A virtqueue with several threads at it: vCPUs that kick at once, workers that complete, a guest that
 * changes what the device is looking at, resets in the middle. Meant for ThreadSanitizer, too. */
#include "driver.h"
#include "echo.h"

#define DATA (DRV_RAM + DRV_DATA)

enum { KICKERS = 4, WORKERS = 3, ROUND_MS = 150 };

struct scene {
    struct drv t;
    _Atomic bool over;
    _Atomic unsigned completed;
};

/* --- kick storm: each request is answered once --- */

static gpointer kick_on(gpointer data)
{
    struct scene *s = data;
    while (!s->over)
        drv_kick(&s->t, 0);
    return NULL;
}

static void one_request(struct drv *t, unsigned slot, bool kick)
{
    const uint64_t at = DATA + slot * 4096;
    const struct drv_buffer b[2] = {{at, 8, false}, {at + 64, 8, true}};
    uint64_t value = 0x0123456789abcdef + slot;
    __atomic_store_n((uint64_t *)(void *)drv_at(t, at), value, __ATOMIC_RELAXED);
    drv_add(t, 0, b, 2, 0);
    if (kick)
        drv_kick(t, 0);
}

static void check_answers(struct drv *t, unsigned *answered)
{
    unsigned id;
    uint32_t len;
    while (drv_used(t, 0, &id, &len)) {
        g_assert_cmpuint(len, ==, 8);
        ++*answered;
    }
}

static void test_storm(gconstpointer packed)
{
    struct scene s = {0};
    GThread *thread[KICKERS];
    drv_new(&s.t, &echo_type);
    drv_start(&s.t, VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX | (packed ? VIRTIO_F_RING_PACKED : 0), 64);
    for (unsigned i = 0; i < KICKERS; i++)
        thread[i] = g_thread_new("kick", kick_on, &s);
    unsigned added = 0, answered = 0;
    gint64 end = g_get_monotonic_time() + ROUND_MS * 1000;
    while (g_get_monotonic_time() < end) {
        while (drv_room(&s.t, 0, 2))
            one_request(&s.t, added++ % 64, false);
        check_answers(&s.t, &answered);
    }
    gint64 patience = g_get_monotonic_time() + 10 * G_USEC_PER_SEC;
    while (answered < added && g_get_monotonic_time() < patience)
        check_answers(&s.t, &answered);
    s.over = true;
    for (unsigned i = 0; i < KICKERS; i++)
        g_thread_join(thread[i]);
    g_assert_cmpuint(answered, ==, added);
    g_assert_cmpuint(added, >, 100);
    g_assert_cmphex(drv_read(&s.t, R_STATUS), ==, 15);
    drv_free(&s.t);
}

/* --- workers complete what one thread popped, in any order --- */

static gpointer work_on(gpointer data)
{
    struct scene *s = data;
    struct echo *e = echo_of(s->t.v);
    while (!s->over) {
        struct virtq_request *r = NULL;
        pthread_mutex_lock(&e->lock);
        if (e->n_held) {
            r = e->held[0];
            e->held[0] = e->held[--e->n_held];
        }
        pthread_mutex_unlock(&e->lock);
        if (!r) {
            g_thread_yield();
            continue;
        }
        echo_work(r);
        virtq_complete(r);
    }
    return NULL;
}

static void test_workers(gconstpointer packed)
{
    struct scene s = {0};
    GThread *thread[WORKERS];
    drv_new(&s.t, &echo_type);
    drv_start(&s.t, VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX | (packed ? VIRTIO_F_RING_PACKED : 0), 64);
    echo_of(s.t.v)->hold = true;
    for (unsigned i = 0; i < WORKERS; i++)
        thread[i] = g_thread_new("work", work_on, &s);
    unsigned added = 0, answered = 0;
    gint64 end = g_get_monotonic_time() + ROUND_MS * 1000;
    while (g_get_monotonic_time() < end) {
        while (drv_room(&s.t, 0, 2))
            one_request(&s.t, added++ % 64, true);
        /* No interrupt is lost: asking for one, then looking, then waiting for it, ends. */
        drv_interrupts(&s.t, 0, true);
        unsigned before = answered;
        check_answers(&s.t, &answered);
        for (gint64 since = g_get_monotonic_time(); answered == before && !drv_pin(&s.t);)
            g_assert_cmpint(g_get_monotonic_time() - since, <, 10 * G_USEC_PER_SEC);
        drv_acknowledge(&s.t);
    }
    gint64 patience = g_get_monotonic_time() + 10 * G_USEC_PER_SEC;
    while (answered < added && g_get_monotonic_time() < patience)
        check_answers(&s.t, &answered);
    s.over = true;
    for (unsigned i = 0; i < WORKERS; i++)
        g_thread_join(thread[i]);
    g_assert_cmpuint(answered, ==, added);
    drv_free(&s.t);
}

/* --- a guest that changes descriptors and rings under the device's eyes --- */

static gpointer scribble_on(gpointer data)
{
    struct scene *s = data;
    GRand *rand = g_rand_new_with_seed(11);
    static const uint64_t good[] = {DATA, DATA + 64, DATA + 4096, 0, UINT64_MAX, DRV_RAM + DRV_RAM_SIZE - 4};
    while (!s->over) {
        uint8_t *entry = s->t.ram + 16 * g_rand_int_range(rand, 0, 16);
        uint64_t addr = good[g_rand_int_range(rand, 0, G_N_ELEMENTS(good))];
        uint16_t flags = (uint16_t)g_rand_int(rand) & (D_NEXT | D_WRITE | D_INDIRECT | D_AVAIL | D_USED);
        uint16_t link = (uint16_t)g_rand_int_range(rand, 0, 18);
        uint64_t words = drv_packed(&s->t) ? link | (uint64_t)flags << 16 : flags | (uint64_t)link << 16;
        uint64_t rest = words << 32 | g_rand_int(rand) >> 20;
        __atomic_store_n((uint64_t *)(void *)entry, addr, __ATOMIC_RELAXED);
        __atomic_store_n((uint64_t *)(void *)(entry + 8), rest, __ATOMIC_RELAXED);
        uint16_t *index = (uint16_t *)(void *)(s->t.ram + DRV_DRIVER_AREA + 2);
        __atomic_fetch_add(index, (uint16_t)g_rand_int_range(rand, 0, 3), __ATOMIC_RELAXED);
        uint16_t *head = index + 1 + g_rand_int_range(rand, 0, 16);
        __atomic_store_n(head, (uint16_t)g_rand_int_range(rand, 0, 18), __ATOMIC_RELAXED);
    }
    g_rand_free(rand);
    return NULL;
}

static void test_scribble(gconstpointer packed)
{
    struct scene s = {0};
    GThread *thread[3];
    const uint64_t features = VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX |
                              (packed ? VIRTIO_F_RING_PACKED : 0);
    drv_new(&s.t, &echo_type);
    drv_start(&s.t, features, 16);
    thread[0] = g_thread_new("scribble", scribble_on, &s);
    thread[1] = g_thread_new("kick", kick_on, &s);
    thread[2] = g_thread_new("kick", kick_on, &s);
    gint64 end = g_get_monotonic_time() + ROUND_MS * 1000, limit = end + 60 * G_USEC_PER_SEC;
    unsigned resets = 0;
    while (g_get_monotonic_time() < (resets ? end : limit)) { /* a busy host is waited for */
        drv_kick(&s.t, 0);
        if (!(drv_read(&s.t, R_STATUS) & VIRTIO_NEEDS_RESET))
            continue;
        /* As drv_start(), without looking at what the other threads change meanwhile. */
        for (unsigned step = 0; step < 4; step++)
            drv_write(&s.t, R_STATUS, (const uint32_t[]){0, 1, 3, 3}[step]);
        drv_write(&s.t, R_DRIVER_FEATURES_SEL, 0);
        drv_write(&s.t, R_DRIVER_FEATURES, (uint32_t)features);
        drv_write(&s.t, R_DRIVER_FEATURES_SEL, 1);
        drv_write(&s.t, R_DRIVER_FEATURES, (uint32_t)(features >> 32));
        drv_write(&s.t, R_STATUS, 11);
        drv_write(&s.t, R_QUEUE_SEL, 0);
        drv_write(&s.t, R_QUEUE_SIZE, 16);
        drv_write64(&s.t, R_DESC, DRV_RAM);
        drv_write64(&s.t, R_DRIVER, DRV_RAM + DRV_DRIVER_AREA);
        drv_write64(&s.t, R_DEVICE, DRV_RAM + DRV_DEVICE_AREA);
        drv_write(&s.t, R_QUEUE_READY, 1);
        drv_write(&s.t, R_STATUS, 15);
        resets++;
    }
    s.over = true;
    for (unsigned i = 0; i < G_N_ELEMENTS(thread); i++)
        g_thread_join(thread[i]);
    g_test_message("%u resets", resets);
    g_assert_cmpuint(resets, >, 0);
    unsigned answered = 0;
    drv_start(&s.t, features, 16);
    one_request(&s.t, 0, true);
    check_answers(&s.t, &answered);
    g_assert_cmpuint(answered, ==, 1);
    drv_free(&s.t);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_data_func("/virtio/race/storm-split", NULL, test_storm);
    g_test_add_data_func("/virtio/race/storm-packed", "packed", test_storm);
    g_test_add_data_func("/virtio/race/workers-split", NULL, test_workers);
    g_test_add_data_func("/virtio/race/workers-packed", "packed", test_workers);
    g_test_add_data_func("/virtio/race/scribble-split", NULL, test_scribble);
    g_test_add_data_func("/virtio/race/scribble-packed", "packed", test_scribble);
    return g_test_run();
}
