/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The PLIC against its specification, by register access and input lines. */
#include "device/plic.h"
#include "fake.h"

enum { PENDING = 0x1000, ENABLE = 0x2000, THRESHOLD = 0x200000, CLAIM = 0x200004 };

struct bench {
    struct pins pins;
    struct device *plic;
};

static void up(struct bench *b)
{
    struct irq_line lines[4];
    memset(b, 0, sizeof(*b));
    pins_lines(&b->pins, lines, 4);
    struct device_wires wires = {.name = "plic", .outputs = lines, .output_count = 4};
    const struct device_value values[] = {{"contexts", 4}, {0}};
    b->plic = device_new(&device_plic, &wires, values, NULL);
}

static void drive(struct bench *b, unsigned source, bool level)
{
    struct irq_line line = device_input(b->plic, source);
    irq_set(&line, level);
}

static void enable(struct bench *b, unsigned context, unsigned source, unsigned priority)
{
    uint64_t at = ENABLE + 0x80 * context + source / 32 * 4;
    wr(b->plic, 4 * source, 4, priority);
    wr(b->plic, at, 4, rd(b->plic, at, 4) | 1u << source % 32);
}

static uint64_t claim(struct bench *b, unsigned context)
{
    return rd(b->plic, CLAIM + 0x1000 * context, 4);
}

static void complete(struct bench *b, unsigned context, unsigned source)
{
    wr(b->plic, CLAIM + 0x1000 * context, 4, source);
}

static void test_warl(void)
{
    struct bench b;
    up(&b);
    wr(b.plic, 0, 4, 7);
    g_assert_cmphex(rd(b.plic, 0, 4), ==, 0); /* source 0 does not exist */
    wr(b.plic, 4 * 96, 4, 0xffffffff);
    g_assert_cmphex(rd(b.plic, 4 * 96, 4), ==, 7);
    wr(b.plic, 4 * 97, 4, 7);
    g_assert_cmphex(rd(b.plic, 4 * 97, 4), ==, 0);
    for (unsigned w = 0; w < 5; w++)
        wr(b.plic, ENABLE + 0x80 * 3 + 4 * w, 4, 0xffffffff);
    g_assert_cmphex(rd(b.plic, ENABLE + 0x80 * 3, 4), ==, 0xfffffffe);
    g_assert_cmphex(rd(b.plic, ENABLE + 0x80 * 3 + 8, 4), ==, 0xffffffff);
    g_assert_cmphex(rd(b.plic, ENABLE + 0x80 * 3 + 12, 4), ==, 1);
    g_assert_cmphex(rd(b.plic, ENABLE + 0x80 * 3 + 16, 4), ==, 0);
    wr(b.plic, ENABLE + 0x80 * 4, 4, 0xffffffff); /* no such context */
    g_assert_cmphex(rd(b.plic, ENABLE + 0x80 * 4, 4), ==, 0);
    wr(b.plic, THRESHOLD + 0x3000, 4, 0xff);
    g_assert_cmphex(rd(b.plic, THRESHOLD + 0x3000, 4), ==, 7);
    wr(b.plic, PENDING, 4, 0xffffffff); /* read only */
    g_assert_cmphex(rd(b.plic, PENDING, 4), ==, 0);
    device_free(b.plic);
}

static void test_level(void)
{
    struct bench b;
    up(&b);
    enable(&b, 1, 10, 1);
    drive(&b, 10, true);
    g_assert_cmphex(b.pins.level, ==, 2);
    g_assert_cmphex(rd(b.plic, PENDING, 4), ==, 1 << 10);
    g_assert_cmpuint(claim(&b, 0), ==, 0); /* not enabled there */
    g_assert_cmpuint(claim(&b, 1), ==, 10);
    g_assert_cmphex(b.pins.level, ==, 0);
    g_assert_cmpuint(claim(&b, 1), ==, 0);
    drive(&b, 10, false);
    drive(&b, 10, true); /* in service: the gateway is closed */
    g_assert_cmphex(b.pins.level, ==, 0);
    complete(&b, 0, 10); /* from a context where it is not enabled: ignored */
    g_assert_cmphex(b.pins.level, ==, 0);
    complete(&b, 1, 10); /* still high: asks again */
    g_assert_cmphex(b.pins.level, ==, 2);
    g_assert_cmpuint(claim(&b, 1), ==, 10);
    drive(&b, 10, false);
    complete(&b, 1, 10);
    g_assert_cmphex(b.pins.level, ==, 0);
    device_free(b.plic);
}

/* A request that was made stays, even when the line falls before the claim. */
static void test_request_stays(void)
{
    struct bench b;
    up(&b);
    enable(&b, 0, 3, 1);
    drive(&b, 3, true);
    drive(&b, 3, false);
    g_assert_cmphex(b.pins.level, ==, 1);
    g_assert_cmpuint(claim(&b, 0), ==, 3);
    complete(&b, 0, 3);
    g_assert_cmphex(b.pins.level, ==, 0);
    device_free(b.plic);
}

static void test_edge(void)
{
    struct bench b;
    up(&b);
    plic_set_edge(b.plic, 5);
    enable(&b, 0, 5, 1);
    drive(&b, 5, true);
    g_assert_cmpuint(claim(&b, 0), ==, 5);
    complete(&b, 0, 5); /* the line is high, but no new edge came */
    g_assert_cmphex(b.pins.level, ==, 0);
    drive(&b, 5, false);
    drive(&b, 5, true);
    g_assert_cmpuint(claim(&b, 0), ==, 5);
    drive(&b, 5, false);
    drive(&b, 5, true); /* an edge during service is kept */
    complete(&b, 0, 5);
    g_assert_cmpuint(claim(&b, 0), ==, 5);
    complete(&b, 0, 5);
    g_assert_cmpuint(claim(&b, 0), ==, 0);
    device_free(b.plic);
}

static void test_priorities(void)
{
    struct bench b;
    up(&b);
    enable(&b, 2, 40, 3);
    enable(&b, 2, 7, 3);
    enable(&b, 2, 96, 5);
    enable(&b, 2, 8, 0); /* priority 0: never */
    drive(&b, 8, true);
    g_assert_cmphex(b.pins.level, ==, 0);
    drive(&b, 40, true);
    drive(&b, 7, true);
    drive(&b, 96, true);
    wr(b.plic, THRESHOLD + 0x2000, 4, 5);
    g_assert_cmphex(b.pins.level, ==, 0);
    wr(b.plic, THRESHOLD + 0x2000, 4, 4);
    g_assert_cmphex(b.pins.level, ==, 4);
    g_assert_cmpuint(claim(&b, 2), ==, 96);
    g_assert_cmphex(b.pins.level, ==, 0);
    g_assert_cmpuint(claim(&b, 2), ==,
                     7); /* a claim does not look at the threshold; equals: the lower number */
    g_assert_cmpuint(claim(&b, 2), ==, 40);
    g_assert_cmpuint(claim(&b, 2), ==, 0);
    device_free(b.plic);
}

/* One request, two contexts: both are told, the first claim gets it. */
static void test_two_contexts(void)
{
    struct bench b;
    up(&b);
    enable(&b, 1, 10, 1);
    enable(&b, 3, 10, 1);
    drive(&b, 10, true);
    g_assert_cmphex(b.pins.level, ==, 0xa);
    g_assert_cmpuint(claim(&b, 3), ==, 10);
    g_assert_cmphex(b.pins.level, ==, 0);
    g_assert_cmpuint(claim(&b, 1), ==, 0);
    device_free(b.plic);
}

static void test_reset(void)
{
    struct bench b;
    up(&b);
    enable(&b, 0, 10, 1);
    drive(&b, 10, true);
    device_reset(b.plic);
    g_assert_cmphex(b.pins.level, ==, 0);
    enable(&b, 0, 10, 1); /* the line is still high */
    g_assert_cmphex(b.pins.level, ==, 1);
    device_free(b.plic);
}

/* Two threads drive sources of two contexts; whatever the order, the pins end as the registers say. */
static void *hammer(void *opaque)
{
    struct bench *b = opaque;
    for (unsigned i = 0; i < 20000; i++) {
        drive(b, 10, true);
        uint64_t got = claim(b, 0);
        drive(b, 10, false);
        if (got)
            complete(b, 0, (unsigned)got);
    }
    return NULL;
}

static void test_race(void)
{
    struct bench b;
    up(&b);
    enable(&b, 0, 10, 1);
    GThread *other = g_thread_new("hammer", hammer, &b);
    hammer(&b);
    g_thread_join(other);
    /* Take and complete what is left over: the pin must agree each time. */
    for (unsigned i = 0; i < 4; i++) {
        g_assert_cmphex(b.pins.level, ==, rd(b.plic, PENDING, 4) ? 1 : 0);
        uint64_t got = claim(&b, 0);
        complete(&b, 0, got ? (unsigned)got : 10);
    }
    g_assert_cmphex(b.pins.level, ==, 0);
    device_free(b.plic);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/plic/warl", test_warl);
    g_test_add_func("/plic/level", test_level);
    g_test_add_func("/plic/request-stays", test_request_stays);
    g_test_add_func("/plic/edge", test_edge);
    g_test_add_func("/plic/priorities", test_priorities);
    g_test_add_func("/plic/two-contexts", test_two_contexts);
    g_test_add_func("/plic/reset", test_reset);
    g_test_add_func("/plic/race", test_race);
    return g_test_run();
}
