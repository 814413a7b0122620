/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What holds for every virtio function of devices.def, without a back end. */
#include "driver.h"

/* Bits 24 to 40 belong to queues and transport (virtio 1.2, chapter 6); the rest to the functions. */
#define TRANSPORT_BITS (((UINT64_C(1) << 41) - 1) & ~((UINT64_C(1) << 24) - 1))

static const uint64_t offers[] = {
    VIRTIO_F_VERSION_1,
    VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX,
    UINT64_MAX & ~VIRTIO_F_RING_PACKED,
    UINT64_MAX,
};

static void test_identity(gconstpointer type)
{
    struct drv t;
    drv_new(&t, type);
    if (!t.pci) {
        g_assert_cmphex(drv_read(&t, R_MAGIC), ==, 0x74726976);
        g_assert_cmpuint(drv_read(&t, R_VERSION), ==, 2);
    }
    g_assert_cmpuint(drv_read(&t, R_DEVICE_ID), >, 0);
    for (unsigned i = 0; device_types[i]; i++) /* no two functions of one kind */
        if (device_types[i] != type && device_types[i]->ops == &virtio_mmio_ops) {
            struct drv other;
            drv_new(&other, device_types[i]);
            g_assert_cmpuint(drv_read(&t, R_DEVICE_ID), !=, drv_read(&other, R_DEVICE_ID));
            drv_free(&other);
        }
    const uint64_t core =
        VIRTIO_F_VERSION_1 | VIRTIO_F_RING_PACKED | VIRTIO_F_EVENT_IDX | VIRTIO_F_INDIRECT_DESC;
    g_assert_cmphex(drv_offered(&t) & TRANSPORT_BITS, ==, core);
    g_assert_cmphex(t.v->setup.features & TRANSPORT_BITS, ==, 0);
    drv_free(&t);
}

/* Options that take features away. */
static void test_options(gconstpointer type)
{
    static const struct device_value without[] = {
        {"no-packed", 1}, {"no-event-idx", 1}, {"no-indirect", 1}, {0}};
    static const struct device_wires none;
    struct drv t;
    drv_new_wired(&t, type, &none, without);
    g_assert_cmphex(drv_offered(&t) & TRANSPORT_BITS, ==, VIRTIO_F_VERSION_1);
    drv_start(&t, UINT64_MAX, 8);
    drv_free(&t);
}

/* Up and down again with each set of features: by the driver, by the machine, by freeing it in use. */
static void test_life(gconstpointer type)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(offers); i++) {
        struct drv t;
        drv_new(&t, type);
        for (unsigned round = 0; round < 3; round++) {
            drv_start(&t, offers[i], 8u << round);
            for (unsigned q = 0; q < t.v->setup.queues; q++)
                drv_kick(&t, q); /* nothing there */
            g_assert_cmphex(drv_read(&t, R_STATUS), ==, 15);
            if (round == 1)
                device_reset(t.d);
        }
        g_assert_false(drv_pin(&t));
        drv_free(&t);
    }
}

/* A writable buffer in each queue: back, or kept, and the device is well. A readable one too short for any
 * header: back, or the device says what it thinks of it. */
static void test_lonely_buffers(gconstpointer type)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(offers); i++)
        for (unsigned write = 0; write < 2; write++) {
            struct drv t;
            drv_new(&t, type);
            for (unsigned q = 0; q < t.v->setup.queues; q++) {
                unsigned id;
                uint32_t len;
                drv_start(&t, offers[i], 8);
                drv_add(&t, q, (struct drv_buffer[]){{DRV_RAM + DRV_DATA, 1, write}}, 1, 0);
                drv_kick(&t, q);
                bool used = drv_used(&t, q, &id, &len);
                if (used)
                    g_assert_cmpuint(len, <=, write);
                g_assert_cmphex(drv_read(&t, R_STATUS) & ~(uint32_t)VIRTIO_NEEDS_RESET, ==, 15);
            }
            drv_free(&t);
        }
}

/* Configuration space: whatever is read or written, at any place and size. */
static void test_config(gconstpointer type)
{
    struct drv t;
    drv_new(&t, type);
    drv_start(&t, UINT64_MAX, 8);
    for (unsigned at = 0; at < 256; at++)
        for (unsigned size = 1; size <= 4; size *= 2) {
            if (at % size)
                continue;
            uint64_t value = rd(t.d, R_CONFIG + at, size);
            g_assert_cmphex(value >> 8 * size, ==, 0);
            if (at >= t.v->setup.config_size)
                g_assert_cmphex(value, ==, 0);
            wr(t.d, R_CONFIG + at, size, UINT64_MAX);
            wr(t.d, R_CONFIG + at, size, value);
        }
    g_assert_cmphex(drv_read(&t, R_STATUS), ==, 15);
    drv_free(&t);
}

/* A device in use, saved and loaded: the same state, still in use. */
static void test_state(gconstpointer data)
{
    const struct device_type *type = data;
    size_t size = device_state_size(type);
    g_autofree uint8_t *one = g_malloc(size), *two = g_malloc(size);
    for (unsigned i = 0; i < G_N_ELEMENTS(offers); i++) {
        struct drv a, b;
        drv_new(&a, type);
        drv_new(&b, type);
        drv_start(&a, offers[i], 16);
        device_state_save(a.d, one);
        memcpy(b.ram, a.ram, DRV_RAM_SIZE);
        g_assert_true(device_state_load(b.d, one));
        device_state_save(b.d, two);
        g_assert_cmpmem(one, size, two, size);
        g_assert_cmphex(drv_read(&b, R_STATUS), ==, 15);
        g_assert_cmphex(b.v->features, ==, a.v->features);
        drv_free(&a);
        drv_free(&b);
    }
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(gconstpointer);
    } tests[] = {{"identity", test_identity}, {"options", test_options},
                 {"life", test_life},         {"lonely-buffers", test_lonely_buffers},
                 {"config", test_config},     {"state", test_state}};
    g_test_init(&argc, &argv, NULL);
    for (unsigned i = 0; device_types[i]; i++)
        for (unsigned k = 0; k < G_N_ELEMENTS(tests) && device_types[i]->ops == &virtio_mmio_ops; k++) {
            g_autofree char *path = g_strdup_printf("/virtio/%s/%s", device_types[i]->name, tests[k].name);
            g_test_add_data_func(path, device_types[i], tests[k].run);
        }
    return g_test_run();
}
