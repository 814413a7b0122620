/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The 16550A against its data sheet, by register access. */
#include "device/uart16550.h"
#include "fake.h"

enum { RBR = 0, THR = 0, IER = 1, IIR = 2, FCR = 2, LCR = 3, MCR = 4, LSR = 5, MSR = 6, SCR = 7 };

struct bench {
    struct stream stream;
    struct pins pins;
    struct device *uart;
};

static void up(struct bench *b)
{
    struct irq_line line;
    memset(b, 0, sizeof(*b));
    b->stream.room = SIZE_MAX;
    pins_lines(&b->pins, &line, 1);
    struct device_wires wires = {
        .name = "serial0", .stream = &b->stream, .outputs = &line, .output_count = 1};
    b->uart = device_new(&device_uart16550, &wires, NULL, NULL);
}

static size_t type(struct bench *b, const char *text)
{
    return b->stream.client->input(b->stream.opaque, (const uint8_t *)text, strlen(text));
}

static void check_output(struct bench *b, const char *text)
{
    g_assert_cmpmem(b->stream.out, b->stream.out_size, text, strlen(text));
}

static void test_reset_values(void)
{
    struct bench b;
    up(&b);
    g_assert_cmphex(rd(b.uart, IER, 1), ==, 0);
    g_assert_cmphex(rd(b.uart, IIR, 1), ==, 0x01);
    g_assert_cmphex(rd(b.uart, LSR, 1), ==, 0x60);
    g_assert_cmphex(rd(b.uart, MSR, 1), ==, 0xb0);
    wr(b.uart, SCR, 1, 0xa5);
    g_assert_cmphex(rd(b.uart, SCR, 1), ==, 0xa5);
    device_free(b.uart);
}

static void test_divisor_latch(void)
{
    struct bench b;
    up(&b);
    wr(b.uart, LCR, 1, 0x83);
    wr(b.uart, 0, 1, 0x34);
    wr(b.uart, 1, 1, 0x12);
    g_assert_cmphex(rd(b.uart, 0, 1), ==, 0x34);
    g_assert_cmphex(rd(b.uart, 1, 1), ==, 0x12);
    wr(b.uart, LCR, 1, 0x03);
    g_assert_cmphex(rd(b.uart, IER, 1), ==, 0);
    g_assert_cmpuint(b.stream.out_size, ==, 0);
    device_free(b.uart);
}

/* How drivers tell a 16550A: FIFO bits in IIR come and go with FCR. */
static void test_fifo_probe(void)
{
    struct bench b;
    up(&b);
    wr(b.uart, FCR, 1, 0x01);
    g_assert_cmphex(rd(b.uart, IIR, 1), ==, 0xc1);
    wr(b.uart, FCR, 1, 0xc0); /* without the enable bit nothing sticks */
    g_assert_cmphex(rd(b.uart, IIR, 1), ==, 0x01);
    device_free(b.uart);
}

static void test_transmit(void)
{
    struct bench b;
    up(&b);
    wr(b.uart, IER, 1, 0x02); /* enabling while empty is an event */
    g_assert_cmphex(b.pins.level, ==, 1);
    g_assert_cmphex(rd(b.uart, IIR, 1), ==, 0x02);
    g_assert_cmphex(b.pins.level, ==, 0); /* reading IIR took it */
    g_assert_cmphex(rd(b.uart, IIR, 1), ==, 0x01);
    wr(b.uart, THR, 1, 'h');
    g_assert_cmphex(b.pins.level, ==, 1);
    wr(b.uart, THR, 1, 'i');
    check_output(&b, "hi");
    g_assert_cmphex(rd(b.uart, LSR, 1), ==, 0x60);
    device_free(b.uart);
}

static void test_back_pressure(void)
{
    struct bench b;
    up(&b);
    wr(b.uart, FCR, 1, 0x01);
    wr(b.uart, IER, 1, 0x02);
    b.stream.room = 2;
    for (const char *c = "abcde"; *c; c++)
        wr(b.uart, THR, 1, (uint8_t)*c);
    check_output(&b, "ab");
    g_assert_cmphex(rd(b.uart, LSR, 1), ==, 0); /* not empty: a driver waits */
    g_assert_cmphex(b.pins.level, ==, 0);
    b.stream.room = 1;
    b.stream.client->writable(b.stream.opaque);
    g_assert_cmphex(rd(b.uart, LSR, 1), ==, 0);
    b.stream.room = SIZE_MAX;
    b.stream.client->writable(b.stream.opaque);
    check_output(&b, "abcde");
    g_assert_cmphex(rd(b.uart, LSR, 1), ==, 0x60);
    g_assert_cmphex(b.pins.level, ==, 1);
    device_free(b.uart);
}

static void test_receive_single(void)
{
    struct bench b;
    up(&b);
    wr(b.uart, IER, 1, 0x01);
    g_assert_cmpuint(type(&b, "xy"), ==, 1); /* one place without FIFO */
    g_assert_cmphex(b.pins.level, ==, 1);
    g_assert_cmphex(rd(b.uart, IIR, 1), ==, 0x04);
    g_assert_cmphex(rd(b.uart, LSR, 1), ==, 0x61);
    g_assert_cmphex(rd(b.uart, RBR, 1), ==, 'x');
    g_assert_cmpuint(b.stream.more, ==, 1);
    g_assert_cmphex(b.pins.level, ==, 0);
    g_assert_cmpuint(type(&b, "y"), ==, 1);
    g_assert_cmphex(rd(b.uart, RBR, 1), ==, 'y');
    g_assert_cmpuint(b.stream.more, ==, 1);
    g_assert_cmphex(rd(b.uart, LSR, 1), ==, 0x60);
    device_free(b.uart);
}

static void test_receive_fifo(void)
{
    static const char text[] = "0123456789abcdefgh";
    struct bench b;
    up(&b);
    wr(b.uart, FCR, 1, 0x81); /* trigger at 8 */
    wr(b.uart, IER, 1, 0x01);
    g_assert_cmpuint(type(&b, "0123456"), ==, 7);
    g_assert_cmphex(rd(b.uart, IIR, 1), ==, 0xcc); /* below the trigger: timeout */
    g_assert_cmpuint(type(&b, text + 7), ==, 9);   /* 16 places */
    g_assert_cmphex(rd(b.uart, IIR, 1), ==, 0xc4);
    for (unsigned i = 0; i < 16; i++) {
        g_assert_cmpuint(b.stream.more, ==, 0);
        g_assert_cmphex(rd(b.uart, RBR, 1), ==, (uint8_t)text[i]);
    }
    g_assert_cmpuint(b.stream.more, ==, 1);
    g_assert_cmphex(rd(b.uart, IIR, 1), ==, 0xc1);
    type(&b, "zz");
    wr(b.uart, FCR, 1, 0x83); /* clear receiver */
    g_assert_cmphex(rd(b.uart, LSR, 1), ==, 0x60);
    g_assert_cmphex(b.pins.level, ==, 0);
    device_free(b.uart);
}

static void test_break(void)
{
    struct bench b;
    up(&b);
    wr(b.uart, FCR, 1, 0x01);
    wr(b.uart, IER, 1, 0x05);
    type(&b, "a");
    b.stream.client->brk(b.stream.opaque);
    g_assert_cmphex(rd(b.uart, LSR, 1), ==, 0xe1); /* an error in the FIFO, but not at its head */
    g_assert_cmphex(rd(b.uart, RBR, 1), ==, 'a');
    g_assert_cmphex(rd(b.uart, IIR, 1), ==, 0xc6); /* line status comes first */
    g_assert_cmphex(rd(b.uart, LSR, 1) & 0x11, ==, 0x11);
    g_assert_cmphex(rd(b.uart, IIR, 1), ==, 0xc4);
    g_assert_cmphex(rd(b.uart, RBR, 1), ==, 0);
    g_assert_cmphex(rd(b.uart, LSR, 1), ==, 0x60);
    device_free(b.uart);
}

static void test_loopback(void)
{
    struct bench b;
    up(&b);
    wr(b.uart, IER, 1, 0x01);
    wr(b.uart, MCR, 1, 0x1a); /* loop, OUT2, RTS: drivers probe with it */
    g_assert_cmphex(rd(b.uart, MSR, 1) & 0xf0, ==, 0x90);
    wr(b.uart, THR, 1, 'q');
    g_assert_cmpuint(b.stream.out_size, ==, 0);
    g_assert_cmpuint(type(&b, "outside"), ==, 0);
    g_assert_cmphex(rd(b.uart, LSR, 1), ==, 0x61);
    wr(b.uart, THR, 1, 'r'); /* no place: overrun */
    g_assert_cmphex(rd(b.uart, LSR, 1), ==, 0x63);
    g_assert_cmphex(rd(b.uart, LSR, 1), ==, 0x61); /* reading took the error */
    g_assert_cmphex(rd(b.uart, RBR, 1), ==, 'q');
    wr(b.uart, MCR, 1, 0x1c); /* OUT1 is RI in loopback; its rise is no event, its fall is */
    rd(b.uart, MSR, 1);
    wr(b.uart, MCR, 1, 0x18);
    g_assert_cmphex(rd(b.uart, MSR, 1), ==, 0x84);
    unsigned before = b.stream.more;
    wr(b.uart, MCR, 1, 0x0b);
    g_assert_cmpuint(b.stream.more, ==, before + 1);
    g_assert_cmphex(rd(b.uart, MSR, 1) & 0xf0, ==, 0xb0);
    device_free(b.uart);
}

static void test_modem_interrupt(void)
{
    struct bench b;
    up(&b);
    wr(b.uart, IER, 1, 0x08);
    g_assert_cmphex(b.pins.level, ==, 0);
    wr(b.uart, MCR, 1, 0x10); /* into loopback with all outputs off: the lines fall */
    g_assert_cmphex(rd(b.uart, IIR, 1), ==, 0x00);
    g_assert_cmphex(b.pins.level, ==, 1);
    g_assert_cmphex(rd(b.uart, MSR, 1), ==, 0x0b);
    g_assert_cmphex(b.pins.level, ==, 0);
    device_free(b.uart);
}

/* Input waits outside until the guest listens, by interrupt or by polling; waiting for the transmitter is not
 * polling. */
static void test_listening(void)
{
    struct bench b;
    up(&b);
    g_assert_cmpuint(type(&b, "early"), ==, 0);
    b.stream.room = 0;
    wr(b.uart, THR, 1, 'x');
    for (unsigned i = 0; i < 10; i++)
        rd(b.uart, LSR, 1);
    b.stream.room = SIZE_MAX;
    b.stream.client->writable(b.stream.opaque);
    for (unsigned i = 0; i < 10; i++) { /* a driver that prints */
        rd(b.uart, LSR, 1);
        rd(b.uart, LSR, 1);
        wr(b.uart, THR, 1, 'x');
    }
    g_assert_cmpuint(b.stream.more, ==, 0);
    for (unsigned i = 0; i < 4; i++)
        rd(b.uart, LSR, 1);
    g_assert_cmpuint(b.stream.more, ==, 1);
    g_assert_cmpuint(type(&b, "early"), ==, 1);
    rd(b.uart, RBR, 1);
    wr(b.uart, IER, 1, 0x01);
    g_assert_cmpuint(type(&b, "a"), ==, 1);
    wr(b.uart, FCR, 1, 0x01);
    g_assert_cmphex(rd(b.uart, RBR, 1), ==, 'a'); /* survives the FIFO's coming */
    wr(b.uart, IER, 1, 0x00);
    g_assert_cmpuint(type(&b, "b"), ==, 0);
    unsigned before = b.stream.more;
    wr(b.uart, IER, 1, 0x01);
    g_assert_cmpuint(b.stream.more, ==, before + 1);
    device_free(b.uart);
}

static void test_take(void)
{
    struct bench b;
    uint8_t got[8];
    up(&b);
    wr(b.uart, FCR, 1, 0x01);
    g_assert_cmpuint(uart16550_take(b.uart, got, 8), ==, 0); /* looking is listening */
    type(&b, "hello");
    g_assert_cmpuint(uart16550_take(b.uart, got, 3), ==, 3);
    g_assert_cmpmem(got, 3, "hel", 3);
    g_assert_cmpuint(uart16550_take(b.uart, got, 8), ==, 2);
    g_assert_cmpuint(uart16550_take(b.uart, got, 8), ==, 0);
    device_free(b.uart);
}

static void test_restore(void)
{
    struct bench b, c;
    up(&b);
    up(&c);
    wr(b.uart, FCR, 1, 0x01);
    wr(b.uart, IER, 1, 0x03);
    type(&b, "pending");
    b.stream.room = 0;
    wr(b.uart, THR, 1, 'k');
    g_autofree uint8_t *state = g_malloc(device_state_size(&device_uart16550));
    device_state_save(b.uart, state);
    g_assert_true(device_state_load(c.uart, state));
    check_output(&c, "k"); /* what had not left yet leaves from the new one */
    g_assert_cmphex(c.pins.level, ==, 1);
    g_assert_cmphex(rd(c.uart, RBR, 1), ==, 'p');
    memset(state, 0xff, device_state_size(&device_uart16550));
    g_assert_false(device_state_load(c.uart, state));
    g_assert_cmphex(rd(c.uart, LSR, 1), ==, 0x60);
    device_free(b.uart);
    device_free(c.uart);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/uart/reset-values", test_reset_values);
    g_test_add_func("/uart/divisor-latch", test_divisor_latch);
    g_test_add_func("/uart/fifo-probe", test_fifo_probe);
    g_test_add_func("/uart/transmit", test_transmit);
    g_test_add_func("/uart/back-pressure", test_back_pressure);
    g_test_add_func("/uart/receive-single", test_receive_single);
    g_test_add_func("/uart/receive-fifo", test_receive_fifo);
    g_test_add_func("/uart/break", test_break);
    g_test_add_func("/uart/loopback", test_loopback);
    g_test_add_func("/uart/modem-interrupt", test_modem_interrupt);
    g_test_add_func("/uart/listening", test_listening);
    g_test_add_func("/uart/take", test_take);
    g_test_add_func("/uart/restore", test_restore);
    return g_test_run();
}
