/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What holds for every row of devices.def. */
#include <string.h>

#include "base/error.h"
#include "bus/clock.h"
#include "fake.h"

struct bench {
    struct stream stream;
    struct clock *clock;
    struct mem *mem;
    struct pins pins;
    struct device *d;
};

static void up(struct bench *b, const struct device_type *type)
{
    struct irq_line lines[DEVICE_PINS_MAX];
    memset(b, 0, sizeof(*b));
    b->stream.room = SIZE_MAX;
    b->clock = clock_new(NULL);
    b->mem = mem_new();
    g_assert_nonnull(mem_add(b->mem, "ram", GPA(0), 1 << 20, false, NULL));
    pins_lines(&b->pins, lines, DEVICE_PINS_MAX);
    struct device_wires wires = {.name = "chip",
                                 .clock = b->clock,
                                 .mem = b->mem,
                                 .stream = &b->stream,
                                 .outputs = lines,
                                 .output_count = DEVICE_PINS_MAX};
    b->d = device_new(type, &wires, NULL, NULL);
    g_assert_nonnull(b->d);
}

static void down(struct bench *b)
{
    device_free(b->d);
    clock_free(b->clock);
    mem_free(b->mem);
}

/* Random accesses of all sizes the chip takes, mostly near the start of the blocks where registers are. */
static void hammer(struct device *d, GRand *rand, unsigned n)
{
    const struct bus_ops *ops = d->type->ops;
    uint64_t extent = d->type->extent(d);
    for (unsigned i = 0; i < n; i++) {
        unsigned size = ops->min_size;
        while (size < ops->max_size && g_rand_boolean(rand))
            size *= 2;
        uint64_t offset =
            (uint64_t)g_rand_int(rand) << 12 | g_rand_int_range(rand, 0, g_rand_boolean(rand) ? 4096 : 64);
        offset = offset % extent & ~(uint64_t)(size - 1);
        uint64_t value = (uint64_t)g_rand_int(rand) << 32 | g_rand_int(rand);
        value >>= g_rand_int_range(rand, 0, 64);
        if (size < 8)
            value &= (UINT64_C(1) << size * 8) - 1;
        if (g_rand_boolean(rand))
            wr(d, offset, size, value);
        else if (size < 8)
            g_assert_cmphex(rd(d, offset, size) >> size * 8, ==, 0); /* zero-extended */
        else
            rd(d, offset, size);
        if (d->type->input && g_rand_boolean(rand))
            d->type->input(d, g_rand_int_range(rand, 0, 128), g_rand_boolean(rand));
    }
}

static void test_row(gconstpointer data)
{
    const struct device_type *t = data;
    g_assert_true(device_type_find(t->name) == t);
    g_assert_nonnull(t->help);
    g_assert_nonnull(t->reset);
    g_assert_cmpuint(t->version, >=, 1);
    g_assert_cmpuint(t->ops->min_size, <=, t->ops->max_size);
    for (const struct device_option *o = t->options; o && o->name; o++) {
        g_assert_nonnull(o->help);
        g_assert_cmpuint(o->min, <=, o->value);
        g_assert_cmpuint(o->value, <=, o->max);
        g_assert_cmpuint(o->offset + state_type_size(o->type), <=, t->size);
    }
    for (const struct state_field *f = t->state; f && f->name; f++) {
        g_assert_cmpuint(f->offset, >=, sizeof(struct device));
        g_assert_cmpuint(f->offset + f->count * state_type_size(f->type), <=, t->size);
        g_assert_cmpuint(f->count, >=, 1);
        g_assert_true(f->since >= 1 && f->since <= t->version);
        for (const struct state_field *g = t->state; g < f; g++)
            g_assert_cmpstr(g->name, !=, f->name);
    }
}

static void test_options(gconstpointer data)
{
    const struct device_type *t = data;
    const struct device_value unknown[] = {{"no-such-option", 1}, {0}};
    struct device_wires wires = {.name = "chip"};
    GError *error = NULL;
    g_assert_null(device_new(t, &wires, unknown, &error));
    g_assert_error(error, HOSTEL_ERROR, HOSTEL_ERROR_USAGE);
    g_clear_error(&error);
    for (const struct device_option *o = t->options; o && o->name; o++) {
        const struct device_value beyond[] = {{o->name, o->max + 1}, {0}};
        g_assert_null(device_new(t, &wires, beyond, &error));
        g_assert_error(error, HOSTEL_ERROR, HOSTEL_ERROR_USAGE);
        g_clear_error(&error);
    }
}

/* Whatever a guest wrote, reset leads back to the first state, and pins to rest. */
static void test_reset(gconstpointer data)
{
    const struct device_type *t = data;
    struct bench b;
    up(&b, t);
    size_t size = device_state_size(t);
    g_autofree uint8_t *first = g_malloc0(size + 1), *later = g_malloc0(size + 1);
    device_state_save(b.d, first);
    uint64_t pins = b.pins.level;
    GRand *rand = g_rand_new_with_seed(1);
    hammer(b.d, rand, 5000);
    for (unsigned pin = 0; t->input && pin < 128; pin++)
        t->input(b.d, pin, false);
    device_reset(b.d);
    device_state_save(b.d, later);
    /* The clock keeps its time, flash what was programmed. */
    if (strcmp(t->name, "goldfish-rtc") != 0 && strcmp(t->name, "pflash") != 0)
        g_assert_cmpmem(first, size, later, size);
    g_assert_cmphex(b.pins.level, ==, pins);
    g_rand_free(rand);
    down(&b);
}

/* State saved from one chip makes another one equal: state, pins and the answers to what follows. */
static void test_state(gconstpointer data)
{
    const struct device_type *t = data;
    GRand *rand = g_rand_new_with_seed(2);
    size_t size = device_state_size(t);
    g_autofree uint8_t *one = g_malloc0(size + 1), *two = g_malloc0(size + 1);
    for (unsigned round = 0; round < 20; round++) {
        struct bench a, b;
        up(&a, t);
        up(&b, t);
        hammer(a.d, rand, 1 + round * 20);
        device_state_save(a.d, one);
        g_assert_true(device_state_load(b.d, one));
        device_state_save(b.d, two);
        g_assert_cmpmem(one, size, two, size);
        g_assert_cmphex(a.pins.level, ==, b.pins.level);
        down(&a);
        down(&b);
    }
    g_rand_free(rand);
}

/* Any bytes as state: taken or refused, and afterwards the chip works. */
static void test_wild_state(gconstpointer data)
{
    const struct device_type *t = data;
    GRand *rand = g_rand_new_with_seed(3);
    size_t size = device_state_size(t);
    g_autofree uint8_t *bytes = g_malloc0(size + 1);
    struct bench b;
    up(&b, t);
    for (unsigned round = 0; round < 200; round++) {
        for (size_t i = 0; i < size; i++)
            bytes[i] =
                (uint8_t)(g_rand_boolean(rand) ? g_rand_int(rand) : (guint32)g_rand_int_range(rand, 0, 4));
        device_state_load(b.d, bytes);
        hammer(b.d, rand, 100);
    }
    g_rand_free(rand);
    down(&b);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(gconstpointer);
    } tests[] = {{"row", test_row},
                 {"options", test_options},
                 {"reset", test_reset},
                 {"state", test_state},
                 {"wild-state", test_wild_state}};
    g_test_init(&argc, &argv, NULL);
    for (unsigned i = 0; device_types[i]; i++)
        for (unsigned k = 0; k < G_N_ELEMENTS(tests); k++) {
            g_autofree char *path = g_strdup_printf("/device/%s/%s", device_types[i]->name, tests[k].name);
            g_test_add_data_func(path, device_types[i], tests[k].run);
        }
    return g_test_run();
}
