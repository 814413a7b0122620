/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The address space of device registers: a sorted table, fixed once vCPUs run. */
#include "bus/bus.h"

#include <errno.h>
#include <inttypes.h>

#include "base/checked.h"
#include "base/error.h"
#include "base/log.h"

enum { BUS_MAX_REGIONS = 64 };

struct bus_region {
    const char *name;
    uint64_t base, size;
    const struct bus_ops *ops;
    void *chip;
};

struct bus {
    struct bus_region regions[BUS_MAX_REGIONS]; /* ascending by base */
    unsigned n;
};

struct bus *bus_new(void)
{
    return g_new0(struct bus, 1);
}

void bus_free(struct bus *bus)
{
    g_free(bus);
}

bool bus_map(struct bus *bus, const char *name, struct gpa base, uint64_t size, const struct bus_ops *ops,
             void *chip, GError **error)
{
    uint64_t last;
    if (!size || ckd_add(&last, base.v, size - 1))
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "%s: no room for 0x%" PRIx64 " bytes at 0x%" PRIx64,
                           name, size, base.v);
    if (bus->n == BUS_MAX_REGIONS)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "%s: more than %d device regions", name,
                           BUS_MAX_REGIONS);
    for (unsigned i = 0; i < bus->n; i++)
        if (ranges_overlap(base.v, size, bus->regions[i].base, bus->regions[i].size))
            return hostel_fail(error, HOSTEL_ERROR_USAGE, "%s at 0x%" PRIx64 " overlaps %s", name, base.v,
                               bus->regions[i].name);
    unsigned at = bus->n++;
    while (at && bus->regions[at - 1].base > base.v) {
        bus->regions[at] = bus->regions[at - 1];
        at--;
    }
    bus->regions[at] =
        (struct bus_region){.name = name, .base = base.v, .size = size, .ops = ops, .chip = chip};
    return true;
}

static const struct bus_region *find(const struct bus *bus, uint64_t addr)
{
    unsigned lo = 0, hi = bus->n;
    while (lo < hi) {
        unsigned mid = (lo + hi) / 2;
        if (bus->regions[mid].base <= addr)
            lo = mid + 1;
        else
            hi = mid;
    }
    const struct bus_region *r = lo ? &bus->regions[lo - 1] : NULL;
    return r && addr - r->base < r->size ? r : NULL;
}

/* The region when it takes an aligned access of this size at addr, else NULL. */
static const struct bus_region *find_for(const struct bus *bus, uint64_t addr, unsigned size)
{
    const struct bus_region *r = find(bus, addr);
    if (!r || size < r->ops->min_size || size > r->ops->max_size || addr & (size - 1) ||
        r->size - (addr - r->base) < size)
        return NULL;
    return r;
}

int bus_read(const struct bus *bus, struct gpa addr, unsigned size, uint64_t *value)
{
    const struct bus_region *r = find_for(bus, addr.v, size);
    if (!r)
        return -ENXIO;
    *value = r->ops->read(r->chip, addr.v - r->base, size);
    if (log_on(LOG_DEVICE))
        log_debug(LOG_DEVICE, "%s: read %u at 0x%" PRIx64 ": 0x%" PRIx64, r->name, size, addr.v - r->base,
                  *value);
    return 0;
}

int bus_write(const struct bus *bus, struct gpa addr, unsigned size, uint64_t value)
{
    const struct bus_region *r = find_for(bus, addr.v, size);
    if (!r)
        return -ENXIO;
    if (log_on(LOG_DEVICE))
        log_debug(LOG_DEVICE, "%s: write %u at 0x%" PRIx64 ": 0x%" PRIx64, r->name, size, addr.v - r->base,
                  value);
    r->ops->write(r->chip, addr.v - r->base, size, value);
    return 0;
}

bool bus_at(const struct bus *bus, struct gpa addr)
{
    return find(bus, addr.v);
}
