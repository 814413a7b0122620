/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Anything a driver may do to the power button, which is pressed meanwhile; it works after a reset. */
#include "device/virtio/input.h"
#include "virtio_steps.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct fuzz f;

static void press(int step G_GNUC_UNUSED, const uint8_t *p G_GNUC_UNUSED)
{
    virtio_input_press_power(f.t.d);
}

static void check_alive(struct drv *t)
{
    const struct drv_buffer b = {DRV_RAM + DRV_DATA, 8, true};
    unsigned id;
    uint32_t length;
    drv_start(t, VIRTIO_F_VERSION_1, ENTRIES);
    drv_add(t, 0, &b, 1, 0);
    drv_kick(t, 0);
    g_assert_true(virtio_input_press_power(t->d));
    bool used = drv_used(t, 0, &id, &length);
    g_assert_true(used);
    g_assert_cmpuint(length, ==, 8);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!f.t.d)
        drv_new(&f.t, device_type_find("virtio-input"));
    if (!size)
        return 0;
    fuzz_all(&f, data, size, 1, press);
    check_alive(&f.t);
    return 0;
}
