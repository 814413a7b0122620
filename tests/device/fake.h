/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What stands around a chip under test: a stream that can refuse, and pins that remember their level. */
#ifndef HOSTEL_TESTS_DEVICE_FAKE_H
#define HOSTEL_TESTS_DEVICE_FAKE_H

#include <glib.h>
#include <stdatomic.h>
#include <string.h>

#include "device/device.h"

/* Implements console/stream.h for the chip; in the tests' own hands. */
struct stream {
    const struct stream_client *client;
    void *opaque;
    char out[256];
    size_t out_size, room; /* room: what stream_write() may still take */
    unsigned more;         /* calls of stream_more() */
};

struct pins {
    _Atomic uint64_t level;
};

static inline void pins_set(void *sink, unsigned pin, bool level)
{
    struct pins *p = sink;
    uint64_t bit = UINT64_C(1) << pin;
    if (level)
        atomic_fetch_or(&p->level, bit);
    else
        atomic_fetch_and(&p->level, ~bit);
}

static inline void pins_lines(struct pins *p, struct irq_line *lines, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        lines[i] = (struct irq_line){.set = pins_set, .sink = p, .pin = i};
}

static inline uint64_t rd(struct device *d, uint64_t offset, unsigned size)
{
    return d->type->ops->read(d, offset, size);
}

static inline void wr(struct device *d, uint64_t offset, unsigned size, uint64_t value)
{
    d->type->ops->write(d, offset, size, value);
}

#endif
