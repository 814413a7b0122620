/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* virtio-console: its conversation with a driver, output that waits, input that waits, size of the terminal.
 */
#include "base/byteorder.h"
#include "device/virtio/console.h"
#include "driver.h"

enum { IN0, OUT0, CONTROL_IN, CONTROL_OUT, IN1, OUT1 };
enum { READY = 0, ADD = 1, PORT_READY = 3, CONSOLE = 4, RESIZE = 5, OPEN = 6, NAME = 7 };

#define F_SIZE UINT64_C(1)
#define F_MULTIPORT UINT64_C(2)

struct bench {
    struct drv t;
    struct stream second;
    struct device_port port;
    unsigned next; /* slot of memory */
};

static uint64_t slot(struct bench *b)
{
    b->next = (b->next + 1) % 256;
    return DRV_RAM + DRV_DATA + b->next * 4096;
}

static void up(struct bench *b, uint64_t features)
{
    static const struct device_value size[] = {{"columns", 132}, {"rows", 43}, {0}};
    memset(b, 0, sizeof(*b));
    b->second.room = SIZE_MAX;
    b->port = (struct device_port){.name = "org.example.agent", .stream = &b->second};
    const struct device_wires wires = {.ports = &b->port, .port_count = 1};
    drv_new_wired(&b->t, &device_virtio_console, &wires, size);
    drv_start(&b->t, VIRTIO_F_VERSION_1 | features, 16);
}

static void give(struct bench *b, unsigned queue, uint32_t size)
{
    drv_add(&b->t, queue, (struct drv_buffer[]){{slot(b), size, true}}, 1, 0);
    drv_kick(&b->t, queue);
}

static void say(struct bench *b, uint32_t port, uint16_t event, uint16_t value)
{
    uint64_t at = slot(b);
    unsigned id;
    uint32_t len;
    st32le(drv_at(&b->t, at), port);
    st16le(drv_at(&b->t, at) + 4, event);
    st16le(drv_at(&b->t, at) + 6, value);
    drv_add(&b->t, CONTROL_OUT, (struct drv_buffer[]){{at, 8, false}}, 1, 0);
    drv_kick(&b->t, CONTROL_OUT);
    g_assert_true(drv_used(&b->t, CONTROL_OUT, &id, &len));
}

/* The next control message must be this one; returns where its further bytes are. */
static const uint8_t *hear(struct bench *b, uint32_t port, uint16_t event, uint32_t size)
{
    unsigned id;
    uint32_t len;
    g_assert_true(drv_used(&b->t, CONTROL_IN, &id, &len));
    g_assert_cmpuint(len, ==, 8 + size);
    const uint8_t *m = drv_at(&b->t, ld64le(b->t.q[CONTROL_IN].desc + 16 * id));
    g_assert_cmpuint(ld32le(m), ==, port);
    g_assert_cmpuint(ld16le(m + 4), ==, event);
    g_assert_cmpuint(ld16le(m + 6), ==, 1);
    return m + 8;
}

static void test_handshake(void)
{
    struct bench b;
    unsigned id;
    uint32_t len;
    up(&b, F_SIZE | F_MULTIPORT);
    g_assert_cmphex(drv_read(&b.t, R_CONFIG), ==, 43 << 16 | 132);
    g_assert_cmpuint(drv_read(&b.t, R_CONFIG + 4), ==, 2);
    for (unsigned i = 0; i < 10; i++)
        give(&b, CONTROL_IN, 128);
    g_assert_false(drv_used(&b.t, CONTROL_IN, &id, &len));
    say(&b, 0, READY, 1);
    hear(&b, 0, ADD, 0);
    hear(&b, 1, ADD, 0);
    say(&b, 0, PORT_READY, 1);
    hear(&b, 0, CONSOLE, 0);
    const uint8_t *size = hear(&b, 0, RESIZE, 4);
    g_assert_cmpuint(ld16le(size), ==, 132);
    g_assert_cmpuint(ld16le(size + 2), ==, 43);
    hear(&b, 0, OPEN, 0);
    say(&b, 1, PORT_READY, 1);
    g_assert_cmpmem(hear(&b, 1, NAME, 17), 17, "org.example.agent", 17);
    hear(&b, 1, OPEN, 0);
    say(&b, 7, PORT_READY, 1); /* no such port */
    say(&b, UINT32_MAX, OPEN, 1);
    g_assert_false(drv_used(&b.t, CONTROL_IN, &id, &len));
    /* The terminal changes its size. */
    say(&b, 0, OPEN, 1);
    virtio_console_resize(b.t.d, 80, 24);
    g_assert_cmphex(drv_read(&b.t, R_CONFIG), ==, 24 << 16 | 80);
    size = hear(&b, 0, RESIZE, 4);
    g_assert_cmpuint(ld16le(size), ==, 80);
    drv_free(&b.t);
}

/* Messages wait for buffers, each once however often it is asked for. */
static void test_owed(void)
{
    struct bench b;
    unsigned id;
    uint32_t len;
    up(&b, F_MULTIPORT);
    for (unsigned i = 0; i < 1000; i++)
        say(&b, 0, READY, 1);
    for (unsigned i = 0; i < 2; i++) {
        give(&b, CONTROL_IN, 128);
        hear(&b, i, ADD, 0);
    }
    give(&b, CONTROL_IN, 128);
    g_assert_false(drv_used(&b.t, CONTROL_IN, &id, &len));
    drv_free(&b.t);
}

static void print(struct bench *b, unsigned queue, const char *text)
{
    uint64_t at = slot(b);
    size_t size = strlen(text), first = size / 2;
    memcpy(drv_at(&b->t, at), text, size);
    const struct drv_buffer parts[] = {{at, (uint32_t)first, false},
                                       {at + first, (uint32_t)(size - first), false}};
    drv_add(&b->t, queue, parts, 2, 0);
    drv_kick(&b->t, queue);
}

static void test_output(gconstpointer data)
{
    struct bench b;
    unsigned id;
    uint32_t len;
    up(&b, data ? F_MULTIPORT | VIRTIO_F_RING_PACKED : 0);
    print(&b, OUT0, "hello ");
    g_assert_true(drv_used(&b.t, OUT0, &id, &len));
    g_assert_cmpuint(len, ==, 0);
    b.t.stream.room = 3;
    print(&b, OUT0, "world");
    print(&b, OUT0, "!");
    g_assert_false(drv_used(&b.t, OUT0, &id, &len));
    g_assert_cmpmem(b.t.stream.out, b.t.stream.out_size, "hello wor", 9);
    b.t.stream.room = 1;
    b.t.stream.client->writable(b.t.stream.opaque);
    g_assert_false(drv_used(&b.t, OUT0, &id, &len));
    b.t.stream.room = SIZE_MAX;
    b.t.stream.client->writable(b.t.stream.opaque);
    g_assert_true(drv_used(&b.t, OUT0, &id, &len));
    g_assert_true(drv_used(&b.t, OUT0, &id, &len));
    g_assert_cmpmem(b.t.stream.out, b.t.stream.out_size, "hello world!", 12);
    if (data) {
        print(&b, OUT1, "to the agent");
        g_assert_cmpmem(b.second.out, b.second.out_size, "to the agent", 12);
    }
    drv_free(&b.t);
}

/* A request of which a part was written: saved, loaded elsewhere, ended there. */
static void test_output_saved(void)
{
    struct bench a, b;
    size_t size = device_state_size(&device_virtio_console);
    g_autofree uint8_t *bytes = g_malloc(size);
    up(&a, F_MULTIPORT);
    up(&b, F_MULTIPORT);
    a.t.stream.room = 4;
    print(&a, OUT0, "halfway");
    device_state_save(a.t.d, bytes);
    memcpy(b.t.ram, a.t.ram, DRV_RAM_SIZE);
    g_assert_true(device_state_load(b.t.d, bytes));
    g_assert_cmpuint(b.t.stream.out_size, ==, 0); /* it stands still */
    clock_start(b.t.clock);
    while (b.t.stream.out_size < strlen("way"))
        g_main_context_iteration(NULL, TRUE);
    g_assert_cmpmem(b.t.stream.out, b.t.stream.out_size, "way", 3);
    /* The one that was saved goes on as well. */
    a.t.stream.room = SIZE_MAX;
    a.t.stream.client->writable(a.t.stream.opaque);
    g_assert_cmpmem(a.t.stream.out, a.t.stream.out_size, "halfway", 7);
    drv_free(&a.t);
    drv_free(&b.t);
}

static size_t type(struct bench *b, const char *text)
{
    return b->t.stream.client->input(b->t.stream.opaque, (const uint8_t *)text, strlen(text));
}

static void test_input(void)
{
    struct bench b;
    unsigned id;
    uint32_t len;
    up(&b, F_MULTIPORT);
    g_assert_cmpuint(type(&b, "x"), ==, 0); /* not open */
    unsigned more = b.t.stream.more;
    say(&b, 0, OPEN, 1);
    g_assert_cmpuint(b.t.stream.more, ==, more + 1);
    g_assert_cmpuint(type(&b, "x"), ==, 0); /* no buffer */
    give(&b, IN0, 4);
    g_assert_cmpuint(b.t.stream.more, ==, more + 2);
    give(&b, IN0, 4);
    g_assert_cmpuint(b.t.stream.more, ==, more + 2);
    g_assert_cmpuint(type(&b, "123456789"), ==, 8);
    g_assert_true(drv_pin(&b.t));
    g_assert_true(drv_used(&b.t, IN0, &id, &len));
    g_assert_cmpuint(len, ==, 4);
    g_assert_true(drv_used(&b.t, IN0, &id, &len));
    g_assert_cmpmem(drv_at(&b.t, ld64le(b.t.q[IN0].desc + 16 * id)), 4, "5678", 4);
    give(&b, IN0, 4);
    g_assert_cmpuint(b.t.stream.more, ==, more + 3);
    say(&b, 0, OPEN, 0);
    g_assert_cmpuint(type(&b, "9"), ==, 0);
    drv_free(&b.t);
}

/* A request larger than any driver's breaks the device. */
static void test_huge(void)
{
    struct bench b;
    up(&b, 0);
    drv_add(&b.t, OUT0, (struct drv_buffer[]){{DRV_RAM, (1 << 20) + 1, false}}, 1, 0);
    drv_kick(&b.t, OUT0);
    g_assert_true(drv_read(&b.t, R_STATUS) & VIRTIO_NEEDS_RESET);
    drv_start(&b.t, VIRTIO_F_VERSION_1, 16);
    print(&b, OUT0, "again");
    g_assert_cmpmem(b.t.stream.out, b.t.stream.out_size, "again", 5);
    drv_free(&b.t);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/virtio/console/handshake", test_handshake);
    g_test_add_func("/virtio/console/owed", test_owed);
    g_test_add_data_func("/virtio/console/output", NULL, test_output);
    g_test_add_data_func("/virtio/console/output-packed", "packed", test_output);
    g_test_add_func("/virtio/console/output-saved", test_output_saved);
    g_test_add_func("/virtio/console/input", test_input);
    g_test_add_func("/virtio/console/huge", test_huge);
    return g_test_run();
}
