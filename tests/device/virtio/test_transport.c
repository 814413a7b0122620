/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The MMIO transport and a device's life: registers, negotiation, what is frozen when, reset, breaking. */
#include <unistd.h>

#include "driver.h"
#include "echo.h"

#define ALL_FEATURES UINT64_MAX

static void test_registers(void)
{
    struct drv t;
    drv_new(&t, &echo_type);
    g_assert_cmphex(drv_read(&t, R_MAGIC), ==, 0x74726976);
    g_assert_cmpuint(drv_read(&t, R_VERSION), ==, 2);
    g_assert_cmpuint(drv_read(&t, R_DEVICE_ID), ==, 63);
    g_assert_cmphex(rd(t.d, R_MAGIC, 1), ==, 0); /* registers are words */
    g_assert_cmphex(rd(t.d, R_MAGIC, 2), ==, 0);
    drv_write(&t, R_QUEUE_SEL, 1);
    g_assert_cmpuint(drv_read(&t, R_QUEUE_SIZE_MAX), ==, 256);
    drv_write(&t, R_QUEUE_SEL, 2);
    g_assert_cmpuint(drv_read(&t, R_QUEUE_SIZE_MAX), ==, 0);
    for (unsigned id = 0; id < 2; id++) {
        drv_write(&t, R_SHM_SEL, id);
        g_assert_cmphex(drv_read(&t, R_SHM_LEN), ==, UINT32_MAX);
        g_assert_cmphex(drv_read(&t, R_SHM_LEN + 4), ==, UINT32_MAX);
    }
    drv_write(&t, R_DEVICE_FEATURES_SEL, 2);
    g_assert_cmphex(drv_read(&t, R_DEVICE_FEATURES), ==, 0);
    drv_free(&t);
}

static void test_negotiation(void)
{
    struct drv t;
    drv_new(&t, &echo_type);
    g_assert_cmphex(drv_offered(&t), ==,
                    3 | VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX | VIRTIO_F_INDIRECT_DESC |
                        VIRTIO_F_RING_PACKED);
    g_assert_false(drv_negotiate(&t, 1));                      /* no VERSION_1 */
    g_assert_false(drv_negotiate(&t, VIRTIO_F_VERSION_1 | 2)); /* the function refuses */
    g_assert_true(drv_negotiate(&t, VIRTIO_F_VERSION_1 | 1));
    /* One that is not offered. */
    drv_write(&t, R_STATUS, 0);
    drv_write(&t, R_STATUS, 3);
    drv_write(&t, R_DRIVER_FEATURES_SEL, 1);
    drv_write(&t, R_DRIVER_FEATURES, 1 | 1u << 31);
    drv_write(&t, R_STATUS, 11);
    g_assert_cmphex(drv_read(&t, R_STATUS), ==, 3);
    /* No DRIVER_OK without agreement. */
    drv_write(&t, R_STATUS, 7);
    g_assert_cmphex(drv_read(&t, R_STATUS), ==, 3);
    g_assert_cmpuint(echo_of(t.v)->activated, ==, 0);
    /* What was agreed stays. */
    g_assert_true(drv_negotiate(&t, VIRTIO_F_VERSION_1));
    drv_write(&t, R_DRIVER_FEATURES_SEL, 0);
    drv_write(&t, R_DRIVER_FEATURES, 3);
    drv_go(&t);
    g_assert_cmphex(t.v->features, ==, VIRTIO_F_VERSION_1);
    drv_free(&t);
}

static void test_config(void)
{
    struct drv t;
    drv_new(&t, &echo_type);
    wr(t.d, R_CONFIG, 1, 42);
    wr(t.d, R_CONFIG + 1, 1, 43);
    wr(t.d, R_CONFIG, 1, 101);
    g_assert_cmphex(rd(t.d, R_CONFIG, 4), ==, 42);
    drv_start(&t, VIRTIO_F_VERSION_1, 8);
    uint32_t generation = drv_read(&t, R_GENERATION);
    virtio_config_set(t.v, 8, "\x11\x22\x33\x44", 4);
    g_assert_cmpuint(drv_read(&t, R_GENERATION), !=, generation);
    g_assert_true(drv_pin(&t));
    g_assert_cmpuint(drv_acknowledge(&t), ==, 2);
    g_assert_cmphex(rd(t.d, R_CONFIG + 8, 4), ==, 0x44332211);
    g_assert_cmphex(rd(t.d, R_CONFIG + 10, 2), ==, 0x4433);
    g_assert_cmphex(rd(t.d, R_CONFIG + 12, 4), ==, 0);
    g_assert_cmphex(rd(t.d, 0xffc, 4), ==, 0);
    drv_free(&t);
}

static void one_echo(struct drv *t)
{
    const uint64_t at = DRV_RAM + DRV_DATA;
    const struct drv_buffer b[2] = {{at, 4, false}, {at + 64, 4, true}};
    unsigned id;
    uint32_t len;
    memcpy(drv_at(t, at), "\x01\x02\x03\x04", 4);
    drv_add(t, 1, b, 2, 0);
    drv_kick(t, 1);
    g_assert_true(drv_used(t, 1, &id, &len));
    g_assert_cmpuint(len, ==, 4);
    g_assert_cmpmem(drv_at(t, at + 64), 4, "\xfe\xfd\xfc\xfb", 4);
}

/* Rings stay where they were when the device was started, with the size they had. */
static void test_frozen(void)
{
    for (unsigned packed = 0; packed < 2; packed++) {
        struct drv t;
        drv_new(&t, &echo_type);
        drv_start(&t, VIRTIO_F_VERSION_1 | (packed ? VIRTIO_F_RING_PACKED : 0), 16);
        drv_write(&t, R_QUEUE_SEL, 1);
        for (unsigned k = 0; k < 2; k++) {
            drv_write(&t, R_QUEUE_SIZE, 4);
            drv_write64(&t, R_DESC, 0);
            drv_write64(&t, R_DRIVER, DRV_ROM);
            drv_write64(&t, R_DEVICE, DRV_ROM);
            drv_write(&t, R_QUEUE_READY, k);
            g_assert_cmpuint(drv_read(&t, R_QUEUE_READY), ==, 1);
            for (unsigned i = 0; i < 20; i++)
                one_echo(&t);
            /* Nor is anything of it saved. */
            g_autofree uint8_t *state = g_malloc(device_state_size(&echo_type));
            device_state_save(t.d, state);
            g_assert_true(device_state_load(t.d, state));
            for (unsigned i = 0; i < 20; i++)
                one_echo(&t);
        }
        drv_free(&t);
    }
}

/* Before DRIVER_OK nothing is touched; what was put in earlier is served then. */
static void test_early(void)
{
    struct drv t;
    unsigned id;
    uint32_t len;
    drv_new(&t, &echo_type);
    drv_write(&t, R_QUEUE_NOTIFY, 0);
    g_assert_true(drv_negotiate(&t, VIRTIO_F_VERSION_1));
    drv_queue(&t, 0, 8);
    drv_add(&t, 0, (struct drv_buffer[]){{DRV_RAM + DRV_DATA, 4, true}}, 1, 0);
    drv_kick(&t, 0);
    g_assert_cmpuint(echo_of(t.v)->kicks, ==, 0);
    g_assert_false(drv_used(&t, 0, &id, &len));
    drv_go(&t);
    g_assert_true(drv_used(&t, 0, &id, &len));
    drv_kick(&t, 1); /* a queue that was never set up */
    drv_kick(&t, 77);
    drv_free(&t);
}

/* Queues that cannot be: the device breaks, says so, and works again after a reset. */
static void test_impossible(void)
{
    static const struct {
        unsigned size;
        uint64_t desc, driver, device;
        bool packed;
    } cases[] = {
        {0, DRV_RAM, DRV_RAM, DRV_RAM, false},
        {3, DRV_RAM, DRV_RAM, DRV_RAM, false},
        {512, DRV_RAM, DRV_RAM, DRV_RAM, false},
        {65535, DRV_RAM, DRV_RAM, DRV_RAM, false},
        {65536, DRV_RAM, DRV_RAM, DRV_RAM, false},
        {UINT32_MAX, DRV_RAM, DRV_RAM, DRV_RAM, true},
        {0, DRV_RAM, DRV_RAM, DRV_RAM, true},
        {8, DRV_RAM + 8, DRV_RAM, DRV_RAM, false},
        {8, DRV_RAM, DRV_RAM + 1, DRV_RAM, false},
        {8, DRV_RAM, DRV_RAM, DRV_RAM + 2, false},
        {8, 0, DRV_RAM, DRV_RAM, false},
        {8, DRV_RAM, 0x10001000, DRV_RAM, false},
        {8, DRV_RAM, DRV_RAM, UINT64_MAX - 3, false},
        {8, UINT64_MAX - 15, DRV_RAM, DRV_RAM, false},
        {8, DRV_RAM + DRV_RAM_SIZE - 16, DRV_RAM, DRV_RAM, false},
        {8, DRV_RAM, DRV_RAM, DRV_ROM, false},
        {8, DRV_ROM, DRV_RAM, DRV_RAM, true},
        {8, DRV_RAM, DRV_RAM, DRV_ROM, true},
        {256, DRV_RAM + DRV_RAM_SIZE - 4080, DRV_RAM, DRV_RAM, true},
    };
    struct drv t;
    drv_new(&t, &echo_type);
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_assert_true(drv_negotiate(&t, VIRTIO_F_VERSION_1 | (cases[i].packed ? VIRTIO_F_RING_PACKED : 0)));
        drv_write(&t, R_QUEUE_SEL, 0);
        drv_write(&t, R_QUEUE_SIZE, cases[i].size);
        drv_write64(&t, R_DESC, cases[i].desc);
        drv_write64(&t, R_DRIVER, cases[i].driver);
        drv_write64(&t, R_DEVICE, cases[i].device);
        drv_write(&t, R_QUEUE_READY, 1);
        g_assert_cmpuint(drv_read(&t, R_QUEUE_READY), ==, 0);
        g_assert_true(drv_read(&t, R_STATUS) & VIRTIO_NEEDS_RESET);
        drv_write(&t, R_STATUS, 15);
        g_assert_false(drv_read(&t, R_STATUS) & VIRTIO_DRIVER_OK);
        drv_start(&t, cases[i].packed ? ALL_FEATURES & ~UINT64_C(2) : VIRTIO_F_VERSION_1, 8);
        one_echo(&t);
    }
    drv_free(&t);
}

static void test_break(void)
{
    struct drv t;
    unsigned id;
    uint32_t len;
    drv_new(&t, &echo_type);
    drv_start(&t, VIRTIO_F_VERSION_1, 8);
    echo_of(t.v)->hold = true;
    drv_add(&t, 0, (struct drv_buffer[]){{DRV_RAM + DRV_DATA, 4, true}}, 1, 0);
    drv_kick(&t, 0);
    struct virtq_request *r = echo_of(t.v)->held[0];
    virtio_break(t.v, "a test");
    g_assert_cmphex(drv_read(&t, R_STATUS), ==, 15 | VIRTIO_NEEDS_RESET);
    g_assert_true(drv_pin(&t));
    g_assert_cmpuint(drv_acknowledge(&t), ==, 2);
    /* Quiet: no result, no interrupt, no kick. */
    virtq_complete(r);
    g_assert_false(drv_used(&t, 0, &id, &len));
    drv_add(&t, 1, (struct drv_buffer[]){{DRV_RAM + DRV_DATA, 4, true}}, 1, 0);
    unsigned kicks = echo_of(t.v)->kicks;
    drv_kick(&t, 1);
    g_assert_cmpuint(echo_of(t.v)->kicks, ==, kicks);
    g_assert_false(drv_pin(&t));
    echo_of(t.v)->hold = false;
    drv_start(&t, VIRTIO_F_VERSION_1, 8);
    one_echo(&t);
    drv_free(&t);
}

/* --- reset while requests are under way on another thread --- */

struct slow {
    struct drv *t;
    _Atomic bool go;
    bool done;
};

static gpointer complete_slowly(gpointer data)
{
    struct slow *s = data;
    struct echo *e = echo_of(s->t->v);
    while (!s->go)
        g_usleep(100);
    g_usleep(20000);
    for (unsigned i = 0; i < e->n_held; i++) {
        echo_work(e->held[i]);
        virtq_complete(e->held[i]);
    }
    s->done = true;
    return NULL;
}

static GThread *slow_thread;
static struct slow slow;

static void wait_for_slow(struct echo *e)
{
    (void)e;
    slow.go = true;
    g_thread_join(slow_thread);
}

static void test_reset(gconstpointer how)
{
    struct drv t;
    unsigned id;
    uint32_t len;
    drv_new(&t, &echo_type);
    drv_start(&t, ALL_FEATURES & ~UINT64_C(2) & ~VIRTIO_F_RING_PACKED, 8);
    struct echo *e = echo_of(t.v);
    e->hold = true;
    e->on_stop = wait_for_slow;
    for (unsigned i = 0; i < 3; i++)
        drv_add(&t, 0, (struct drv_buffer[]){{DRV_RAM + DRV_DATA, 4, true}}, 1, 0);
    drv_kick(&t, 0);
    g_assert_cmpuint(e->n_held, ==, 3);
    slow = (struct slow){.t = &t};
    slow_thread = g_thread_new("slow", complete_slowly, &slow);
    if (how)
        device_reset(t.d);
    else
        drv_write(&t, R_STATUS, 0);
    g_assert_true(slow.done);                   /* the reset waited */
    g_assert_false(drv_used(&t, 0, &id, &len)); /* and dropped the results */
    g_assert_cmpuint(drv_read(&t, R_STATUS), ==, 0);
    g_assert_false(drv_pin(&t));
    e->hold = false;
    e->on_stop = NULL;
    drv_start(&t, VIRTIO_F_VERSION_1, 8);
    one_echo(&t);
    g_assert_cmpuint(e->activated, ==, 2);
    g_assert_cmpuint(e->stopped, ==, 1);
    drv_free(&t);
}

/* --- reset while another thread is in the middle of a kick --- */

static void dawdle(struct echo *e)
{
    (void)e;
    g_usleep(20000);
}

static gpointer kick_once(gpointer data)
{
    drv_kick(data, 0);
    return NULL;
}

/* The echo function's stop() complains when a kick is under way. */
static void test_reset_in_kick(void)
{
    struct drv t;
    unsigned id;
    uint32_t len;
    drv_new(&t, &echo_type);
    drv_start(&t, VIRTIO_F_VERSION_1, 8);
    struct echo *e = echo_of(t.v);
    e->on_kick = dawdle;
    drv_add(&t, 0, (struct drv_buffer[]){{DRV_RAM + DRV_DATA, 4, true}}, 1, 0);
    GThread *other = g_thread_new("kick", kick_once, &t);
    while (!e->in_kick)
        g_usleep(100);
    drv_write(&t, R_STATUS, 0);
    g_thread_join(other);
    g_assert_cmpuint(e->stopped, ==, 1);
    g_assert_false(drv_used(&t, 0, &id, &len));
    e->on_kick = NULL;
    drv_start(&t, VIRTIO_F_VERSION_1, 8);
    one_echo(&t);
    drv_free(&t);
}

/* A device that is in use takes over another state: what was under way ends first. */
static void test_load_in_use(void)
{
    struct drv t;
    drv_new(&t, &echo_type);
    struct echo *e = (struct echo *)(void *)t.d;
    drv_start(&t, VIRTIO_F_VERSION_1, 8);
    one_echo(&t);
    g_autofree uint8_t *state = g_malloc(device_state_size(t.d->type));
    device_state_save(t.d, state);
    unsigned stopped = e->stopped;
    g_assert_true(device_state_load(t.d, state));
    g_assert_cmpuint(e->stopped, ==, stopped + 1);
    one_echo(&t);
    drv_free(&t);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/virtio/transport/registers", test_registers);
    g_test_add_func("/virtio/transport/negotiation", test_negotiation);
    g_test_add_func("/virtio/transport/config", test_config);
    g_test_add_func("/virtio/transport/frozen", test_frozen);
    g_test_add_func("/virtio/transport/early", test_early);
    g_test_add_func("/virtio/transport/impossible", test_impossible);
    g_test_add_func("/virtio/transport/break", test_break);
    g_test_add_data_func("/virtio/transport/reset-by-driver", NULL, test_reset);
    g_test_add_data_func("/virtio/transport/reset-of-machine", "machine", test_reset);
    g_test_add_func("/virtio/transport/reset-in-kick", test_reset_in_kick);
    g_test_add_func("/virtio/transport/load-in-use", test_load_in_use);
    return g_test_run();
}
