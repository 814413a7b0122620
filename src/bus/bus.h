/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The wires between vCPUs and chips: the address space of device registers, and interrupt lines. */
#ifndef HOSTEL_BUS_BUS_H
#define HOSTEL_BUS_BUS_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "mem/addr.h"

/* --- device registers --- */

/* Register access of one chip. offset counts from the region's start; size is 1, 2, 4 or 8, offset is aligned
 * to it, and the access lies inside the region and within [min_size, max_size] (others are refused by the bus
 * and fault in the guest). Called on the vCPU's thread, several at once: the chip locks itself. value of a
 * read is zero-extended. */
struct bus_ops {
    uint64_t (*read)(void *chip, uint64_t offset, unsigned size);
    void (*write)(void *chip, uint64_t offset, unsigned size, uint64_t value);
    uint8_t min_size, max_size; /* bytes */
};

struct bus;

struct bus *bus_new(void);
void bus_free(struct bus *bus);
CLEANUP_DEFINE(bus, bus_free)

/* Set-up, before vCPUs run. name and ops are borrowed for the bus's life. False with *error on overlap or
 * wrap-around. */
bool bus_map(struct bus *bus, const char *name, struct gpa base, uint64_t size, const struct bus_ops *ops,
             void *chip, GError **error);

/* 0, or -ENXIO where nothing answers or the chip does not take this size. Any vCPU thread. */
int bus_read(const struct bus *bus, struct gpa addr, unsigned size, uint64_t *value);
int bus_write(const struct bus *bus, struct gpa addr, unsigned size, uint64_t value);

/* Is there a device region at addr? (Permission checks that do not access.) */
bool bus_at(const struct bus *bus, struct gpa addr);

/* --- interrupt lines --- */

/* One input pin of an interrupt controller or CPU. set() is called with no device lock held, from any thread;
 * level stays until changed. */
struct irq_line {
    void (*set)(void *sink, unsigned pin, bool level);
    void *sink;
    unsigned pin;
};

/* Drives the line; a line whose set is NULL is not connected. */
static inline void irq_set(const struct irq_line *line, bool level)
{
    if (line->set)
        line->set(line->sink, line->pin, level);
}

#endif
