/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The power button as Linux's virtio_input asks for it and hears of it; constants after virtio 1.2,
 * section 5.8, and Linux's input-event-codes.h. */
#include "base/byteorder.h"
#include "device/virtio/input.h"
#include "driver.h"

#define DATA (DRV_RAM + DRV_DATA)

enum { QUEUE = 64, EVENT = 8 };

static void start(struct drv *t)
{
    drv_new(t, device_type_find("virtio-input"));
    drv_start(t, VIRTIO_F_VERSION_1, QUEUE);
}

static uint8_t config_byte(struct drv *t, unsigned offset)
{
    return (uint8_t)rd(t->d, R_CONFIG + offset, 1);
}

/* What the device says to select and subsel, of the size returned. */
static unsigned ask(struct drv *t, unsigned select, unsigned subsel, uint8_t *to)
{
    wr(t->d, R_CONFIG, 1, select);
    wr(t->d, R_CONFIG + 1, 1, subsel);
    unsigned size = config_byte(t, 2);
    for (unsigned i = 0; i < 120; i++)
        to[i] = config_byte(t, 8 + i);
    return size;
}

static void test_config(void)
{
    struct drv t;
    uint8_t bytes[120];
    start(&t);
    g_assert_cmpuint(ask(&t, 1, 0, bytes), ==, strlen("Hostel power button"));
    g_assert_cmpstr((char *)bytes, ==, "Hostel power button");
    g_assert_cmpuint(ask(&t, 3, 0, bytes), ==, 8);
    g_assert_cmpuint(ld16le(bytes), ==, 6);
    g_assert_cmpuint(ask(&t, 0x11, 1, bytes), ==, 15);
    for (unsigned key = 0; key < 15 * 8; key++)
        g_assert_cmpuint(bytes[key / 8] >> key % 8 & 1, ==, key == 116);
    for (unsigned select = 0; select < 256; select++)
        for (unsigned subsel = 0; subsel < 256; subsel++) {
            bool known = (select == 0x11 && subsel == 1) || (!subsel && (select == 1 || select == 3));
            wr(t.d, R_CONFIG, 1, select);
            wr(t.d, R_CONFIG + 1, 1, subsel);
            g_assert_cmpint(config_byte(&t, 2) != 0, ==, known);
        }
    drv_free(&t);
}

/* Gives the driver's buffers count more. */
static void give(struct drv *t, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        struct drv_buffer b = {DATA + i * EVENT, EVENT, true};
        drv_add(t, 0, &b, 1, 0);
    }
    drv_kick(t, 0);
}

/* The next events are those of so many presses from step on (0 = the key goes down), count of them. */
static void expect(struct drv *t, unsigned step, unsigned count)
{
    static const uint16_t types[] = {1, 0, 1, 0}, codes[] = {116, 0, 116, 0}, values[] = {1, 0, 0, 0};
    unsigned id;
    uint32_t length;
    for (unsigned i = 0; i < count; i++, step = (step + 1) % 4) {
        g_assert_true(drv_used(t, 0, &id, &length));
        g_assert_cmpuint(length, ==, EVENT);
        const uint8_t *event = drv_at(t, DATA + i * EVENT);
        g_assert_cmpuint(ld16le(event), ==, types[step]);
        g_assert_cmpuint(ld16le(event + 2), ==, codes[step]);
        g_assert_cmpuint(ld32le(event + 4), ==, values[step]);
    }
    g_assert_false(drv_used(t, 0, &id, &length));
}

static void test_press(void)
{
    struct drv t;
    start(&t);
    give(&t, 8);
    for (unsigned i = 0; i < 2; i++)
        g_assert_true(virtio_input_press_power(t.d));
    g_assert_true(drv_pin(&t));
    expect(&t, 0, 8);
    drv_free(&t);
}

/* What finds no buffer comes as soon as there is one: a key that went down goes up. */
static void test_few_buffers(void)
{
    struct drv t;
    start(&t);
    give(&t, 1);
    g_assert_true(virtio_input_press_power(t.d));
    expect(&t, 0, 1);
    give(&t, 2);
    expect(&t, 1, 2);
    give(&t, 4);
    expect(&t, 3, 1);
    g_assert_true(virtio_input_press_power(t.d));
    drv_free(&t);
}

/* Nobody there; too many; the driver goes with presses waiting. */
static void test_nobody(void)
{
    struct drv t;
    drv_new(&t, device_type_find("virtio-input"));
    g_assert_false(virtio_input_press_power(t.d));
    drv_start(&t, VIRTIO_F_VERSION_1, QUEUE);
    unsigned presses = 0;
    while (virtio_input_press_power(t.d))
        presses++;
    g_assert_cmpuint(presses, ==, 8);
    drv_write(&t, R_STATUS, 0);
    g_assert_false(virtio_input_press_power(t.d));
    drv_start(&t, VIRTIO_F_VERSION_1, QUEUE);
    give(&t, 8);
    expect(&t, 0, 0);
    drv_free(&t);
}

/* Buffers that are too small, or for reading: nothing is written, and it goes on. */
static void test_wrong_buffers(void)
{
    struct drv t;
    unsigned id;
    uint32_t length;
    start(&t);
    const struct drv_buffer small = {DATA, EVENT - 1, true}, readable = {DATA, EVENT, false};
    drv_add(&t, 0, &small, 1, 0);
    drv_add(&t, 0, &readable, 1, 0);
    drv_kick(&t, 0);
    g_assert_true(virtio_input_press_power(t.d));
    for (unsigned i = 0; i < 2; i++) {
        g_assert_true(drv_used(&t, 0, &id, &length));
        g_assert_cmpuint(length, ==, 0);
    }
    /* LEDs and the like are taken and forgotten. */
    const struct drv_buffer led = {DATA, EVENT, false};
    drv_add(&t, 1, &led, 1, 0);
    drv_kick(&t, 1);
    g_assert_true(drv_used(&t, 1, &id, &length));
    drv_free(&t);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/virtio-input/config", test_config);
    g_test_add_func("/virtio-input/press", test_press);
    g_test_add_func("/virtio-input/few-buffers", test_few_buffers);
    g_test_add_func("/virtio-input/nobody", test_nobody);
    g_test_add_func("/virtio-input/wrong-buffers", test_wrong_buffers);
    return g_test_run();
}
