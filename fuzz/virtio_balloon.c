/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Anything a driver may do to the balloon, while the host wants other sizes and statistics; it works after a
 * reset. */
#include "device/virtio/balloon.h"
#include "virtio_steps.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { OWN_STEPS = 3, PAGE = 4096, TURNS = 4 };

static struct fuzz f;

static void own(int step, const uint8_t *p)
{
    struct balloon_state state;
    if (step == 0)
        virtio_balloon_set_target(f.t.d, ld32le(p + 3));
    else if (step == 1)
        virtio_balloon_ask(f.t.d);
    else /* what a kick left for later */
        for (unsigned i = 0; i < TURNS; i++)
            g_main_context_iteration(NULL, FALSE);
    virtio_balloon_get(f.t.d, &state);
}

static void check_alive(struct drv *t)
{
    const uint64_t list = DRV_RAM + DRV_DATA, page = list + 16 * PAGE;
    const struct drv_buffer b = {list, 4, false};
    unsigned id;
    uint32_t length;
    drv_start(t, VIRTIO_F_VERSION_1, ENTRIES);
    st32le(drv_at(t, list), (uint32_t)(page / PAGE));
    memset(drv_at(t, page), 0x5a, PAGE);
    drv_add(t, 0, &b, 1, 0);
    drv_kick(t, 0);
    bool used = drv_used(t, 0, &id, &length);
    g_assert_true(used);
    g_assert_cmphex(*drv_at(t, page) | *drv_at(t, page + PAGE - 1), ==, 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!f.t.d) {
        drv_new(&f.t, device_type_find("virtio-balloon"));
        clock_start(f.t.clock);
    }
    if (!size)
        return 0;
    fuzz_all(&f, data, size, OWN_STEPS, own);
    check_alive(&f.t);
    return 0;
}
