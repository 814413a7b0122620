/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Anything a driver may do to the source of random numbers; it works after a reset. The smallest device, so
 * this is about queues and transport. */
#include "virtio_steps.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_alive(struct drv *t)
{
    const struct drv_buffer b = {DRV_RAM + DRV_DATA, 64, true};
    unsigned id;
    uint32_t length;
    drv_start(t, VIRTIO_F_VERSION_1, ENTRIES);
    drv_add(t, 0, &b, 1, 0);
    drv_kick(t, 0);
    bool used = drv_used(t, 0, &id, &length);
    g_assert_true(used);
    g_assert_cmpuint(length, ==, 64);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct fuzz f;
    if (!f.t.d)
        drv_new(&f.t, device_type_find("virtio-rng"));
    if (!size)
        return 0;
    fuzz_all(&f, data, size, 0, NULL);
    check_alive(&f.t);
    return 0;
}
