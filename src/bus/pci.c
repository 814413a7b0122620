/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The tree of PCI buses: who is reached by bus number or address, while the guest changes both. */
#include "bus/pci.h"

#include <pthread.h>
#include <string.h>

#include "base/bits.h"
#include "base/byteorder.h"
#include "base/checked.h"
#include "base/error.h"
#include "base/log.h"

enum { PCI_WINDOWS = 3, FUNCTION_SHIFT = 12, SLOT_SHIFT = 15, BUS_SHIFT = 20 };

/* Addresses, and the registers that answer there. */
struct pci_range {
    uint64_t base, last;
    bool io;
    struct pci_function *f;
    const struct pci_bar *bar;
};

/* Ascending by kind and address, without overlaps. */
struct pci_table {
    unsigned n;
    struct pci_range range[PCI_TABLE_MAX];
};

struct pci_window {
    struct pci *pci;
    bool io;
    uint64_t to; /* PCI's address of the window's first byte */
};

struct pci {
    pthread_mutex_t lock;
    struct pci_bus root;
    struct pci_window windows[PCI_WINDOWS];
    unsigned n_windows;
    unsigned bars; /* of all functions that are attached */
    _Atomic bool stale;

    struct pci_table tables[2];
    struct pci_table *_Atomic current;
    _Atomic unsigned epoch, inside[2];
    pthread_mutex_t wait_lock;
    pthread_cond_t left;
    _Atomic bool waiting;
};

/* --- looking at the table without a lock --- */

static unsigned enter(struct pci *p)
{
    const unsigned i = atomic_load(&p->epoch) & 1;
    atomic_fetch_add(&p->inside[i], 1);
    return i;
}

static void leave(struct pci *p, unsigned i)
{
    if (atomic_fetch_sub(&p->inside[i], 1) != 1 || !atomic_load(&p->waiting))
        return;
    pthread_mutex_lock(&p->wait_lock);
    pthread_cond_broadcast(&p->left);
    pthread_mutex_unlock(&p->wait_lock);
}

/* Returns when everybody is gone who entered before the call. Twice, because somebody may have read the epoch
 * and counted himself only after it was turned. */
static void wait_for_readers(struct pci *p)
{
    atomic_store(&p->waiting, true);
    pthread_mutex_lock(&p->wait_lock);
    for (unsigned round = 0; round < 2; round++) {
        const unsigned old = atomic_fetch_add(&p->epoch, 1) & 1;
        while (atomic_load(&p->inside[old]))
            pthread_cond_wait(&p->left, &p->wait_lock);
    }
    pthread_mutex_unlock(&p->wait_lock);
    atomic_store(&p->waiting, false);
}

/* --- making the table --- */

bool pci_bar_address(const struct pci_function *f, unsigned i, uint64_t *base)
{
    const struct pci_bar *bar = &f->bars[i];
    const uint8_t *bytes = f->config + PCI_BAR0 + 4 * i;
    const unsigned command = f->config[PCI_COMMAND];
    if (bar->kind == PCI_BAR_NONE)
        return false;
    *base = (bar->kind == PCI_BAR_MEMORY64 ? ld64le(bytes) : ld32le(bytes)) & ~(bar->size - 1);
    return command & (bar->kind == PCI_BAR_IO ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY);
}

static bool before(const struct pci_range *r, bool io, uint64_t addr)
{
    return r->io != io ? io : r->base <= addr;
}

/* How many ranges begin at or before the address. */
static unsigned position(const struct pci_table *t, bool io, uint64_t addr)
{
    unsigned lo = 0, hi = t->n;
    while (lo < hi) {
        unsigned mid = (lo + hi) / 2;
        if (before(&t->range[mid], io, addr))
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

/* Where two would answer, the one found first does. */
static void insert(struct pci_table *t, const struct pci_range *r)
{
    const unsigned at = position(t, r->io, r->base);
    if (t->n == PCI_TABLE_MAX)
        return;
    if ((at && t->range[at - 1].io == r->io && t->range[at - 1].last >= r->base) ||
        (at < t->n && t->range[at].io == r->io && t->range[at].base <= r->last)) {
        log_guest(LOG_DEVICE, "pci: registers at 0x%" G_GINT64_MODIFIER "x overlap others", r->base);
        return;
    }
    memmove(&t->range[at + 1], &t->range[at], (t->n - at) * sizeof(t->range[0]));
    t->range[at] = *r;
    t->n++;
}

/* Does the bridge pass [base, last] of memory down? */
static bool passes(const struct pci_function *bridge, uint64_t base, uint64_t last)
{
    const uint8_t *c = bridge->config;
    const uint64_t mask = 0xfff0, low = 0xfffff;
    if (!(c[PCI_COMMAND] & PCI_COMMAND_MEMORY))
        return false;
    uint64_t from = (ld16le(c + PCI_MEMORY_BASE) & mask) << 16;
    uint64_t to = (ld16le(c + PCI_MEMORY_LIMIT) & mask) << 16 | low;
    if (from <= base && last <= to)
        return true;
    from = (uint64_t)ld32le(c + PCI_PREFETCH_BASE_HIGH) << 32 | (ld16le(c + PCI_PREFETCH_BASE) & mask) << 16;
    to = (uint64_t)ld32le(c + PCI_PREFETCH_LIMIT_HIGH) << 32 | (ld16le(c + PCI_PREFETCH_LIMIT) & mask) << 16 |
         low;
    return from <= base && last <= to;
}

/* Is what a function on the bus decodes there let through by all bridges above? */
static bool reaches(const struct pci_bus *bus, bool io, uint64_t base, uint64_t last)
{
    for (; bus->bridge; bus = bus->bridge->on)
        if (io || !passes(bus->bridge, base, last))
            return false;
    return true;
}

static void add_function(struct pci_table *t, struct pci_function *f)
{
    for (unsigned i = 0; i < PCI_BARS; i++) {
        const struct pci_bar *bar = &f->bars[i];
        struct pci_range r = {.io = bar->kind == PCI_BAR_IO, .f = f, .bar = bar};
        if (!pci_bar_address(f, i, &r.base) || ckd_add(&r.last, r.base, bar->size - 1))
            continue;
        if (reaches(f->on, r.io, r.base, r.last))
            insert(t, &r);
    }
}

/* Calls see() for all functions of the tree, or only for those on buses that are up. */
static void walk(struct pci *p, bool all, void (*see)(void *opaque, struct pci_function *f), void *opaque)
{
    struct {
        struct pci_bus *bus;
        unsigned slot;
    } stack[PCI_DEPTH_MAX + 1] = {{&p->root, 0}};
    for (unsigned depth = 1; depth;) {
        struct pci_bus *bus = stack[depth - 1].bus;
        if (stack[depth - 1].slot == PCI_SLOTS) {
            depth--;
            continue;
        }
        struct pci_function *f = bus->functions[stack[depth - 1].slot++];
        if (!f)
            continue;
        see(opaque, f);
        if (f->below && (all || atomic_load(&f->below->up))) {
            stack[depth].bus = f->below;
            stack[depth++].slot = 0;
        }
    }
}

static void see_for_table(void *opaque, struct pci_function *f)
{
    add_function(opaque, f);
}

static void see_for_reset(void *opaque G_GNUC_UNUSED, struct pci_function *f)
{
    if (!f->on->bridge || !atomic_load(&f->on->reset_wanted))
        return;
    if (f->below)
        atomic_store(&f->below->reset_wanted, true); /* it comes later in the walk */
    f->reset(f->chip);
}

static void see_for_rest(void *opaque G_GNUC_UNUSED, struct pci_function *f)
{
    if (f->below)
        atomic_store(&f->below->reset_wanted, false);
}

/* Makes the table say what the registers say. The lock is held. */
static void settle_locked(struct pci *p)
{
    while (atomic_exchange(&p->stale, false)) {
        struct pci_table *next = &p->tables[atomic_load(&p->current) == &p->tables[0]];
        walk(p, true, see_for_reset, NULL);
        walk(p, true, see_for_rest, NULL);
        next->n = 0;
        walk(p, false, see_for_table, next);
        atomic_store(&p->current, next);
        wait_for_readers(p);
    }
}

static void settle(struct pci *p)
{
    pthread_mutex_lock(&p->lock);
    settle_locked(p);
    pthread_mutex_unlock(&p->lock);
}

void pci_changed(struct pci *p)
{
    if (p)
        atomic_store(&p->stale, true);
}

void pci_bus_up(struct pci_bus *bus, bool up)
{
    if (atomic_exchange(&bus->up, up) != up)
        pci_changed(bus->pci);
}

void pci_bus_reset(struct pci_bus *bus)
{
    atomic_store(&bus->reset_wanted, true);
    pci_changed(bus->pci);
}

/* --- windows --- */

static const struct pci_range *find(const struct pci_table *t, bool io, uint64_t addr)
{
    const unsigned at = position(t, io, addr);
    const struct pci_range *r = at ? &t->range[at - 1] : NULL;
    return r && r->io == io && addr <= r->last ? r : NULL;
}

static uint64_t ones(unsigned size)
{
    return bits_mask(8 * size);
}

/* An access in the pieces that the chip takes. */
static uint64_t chip_read(const struct pci_function *f, uint64_t at, unsigned size)
{
    const struct bus_ops *ops = f->ops;
    uint64_t value = 0;
    if (size < ops->min_size)
        return ones(size);
    const unsigned piece = MIN(size, ops->max_size);
    for (unsigned done = 0; done < size; done += piece)
        value |= ops->read(f->chip, at + done, piece) << 8 * done;
    return value;
}

static void chip_write(const struct pci_function *f, uint64_t at, unsigned size, uint64_t value)
{
    const struct bus_ops *ops = f->ops;
    if (size < ops->min_size)
        return;
    const unsigned piece = MIN(size, ops->max_size);
    for (unsigned done = 0; done < size; done += piece)
        ops->write(f->chip, at + done, piece, value >> 8 * done & ones(piece));
}

static uint64_t window_read(void *chip, uint64_t offset, unsigned size)
{
    const struct pci_window *w = chip;
    struct pci *p = w->pci;
    uint64_t value = ones(size);
    if (atomic_load_explicit(&p->stale, memory_order_relaxed))
        settle(p);
    const unsigned i = enter(p);
    const struct pci_range *r = find(atomic_load(&p->current), w->io, w->to + offset);
    if (r)
        value = chip_read(r->f, r->bar->at + (w->to + offset - r->base), size);
    leave(p, i);
    return value;
}

static void window_write(void *chip, uint64_t offset, unsigned size, uint64_t value)
{
    const struct pci_window *w = chip;
    struct pci *p = w->pci;
    if (atomic_load_explicit(&p->stale, memory_order_relaxed))
        settle(p);
    const unsigned i = enter(p);
    const struct pci_range *r = find(atomic_load(&p->current), w->io, w->to + offset);
    if (r)
        chip_write(r->f, r->bar->at + (w->to + offset - r->base), size, value);
    leave(p, i);
}

static const struct bus_ops window_ops = {window_read, window_write, .min_size = 1, .max_size = 8};

static bool map_window(struct pci *p, struct bus *bus, const char *name, struct gpa base, uint64_t size,
                       const struct pci_window *window, GError **error)
{
    g_assert(p->n_windows < PCI_WINDOWS);
    struct pci_window *w = &p->windows[p->n_windows++];
    *w = *window;
    return bus_map(bus, name, base, size, &window_ops, w, error);
}

bool pci_map_io(struct pci *p, struct bus *bus, const char *name, struct gpa base, uint64_t size, uint64_t to,
                GError **error)
{
    const struct pci_window w = {.pci = p, .io = true, .to = to};
    return map_window(p, bus, name, base, size, &w, error);
}

bool pci_map_memory(struct pci *p, struct bus *bus, const char *name, struct gpa base, uint64_t size,
                    GError **error)
{
    const struct pci_window w = {.pci = p, .to = base.v};
    return map_window(p, bus, name, base, size, &w, error);
}

/* --- configuration space --- */

/* The bus with this number as the bridges have it now; NULL when there is none. */
static struct pci_bus *find_bus(struct pci *p, unsigned number)
{
    struct pci_bus *bus = &p->root;
    unsigned here = 0;
    for (unsigned depth = 0; depth <= PCI_DEPTH_MAX && bus && here != number; depth++) {
        struct pci_bus *next = NULL;
        for (unsigned i = 0; i < PCI_SLOTS && !next; i++) {
            const struct pci_function *f = bus->functions[i];
            if (!f || !f->below || !atomic_load(&f->below->up))
                continue;
            here = f->config[PCI_BUS_SECONDARY];
            if (here && here <= number && number <= f->config[PCI_BUS_SUBORDINATE])
                next = f->below;
        }
        bus = next;
    }
    return here == number ? bus : NULL;
}

static struct pci_function *find_function(struct pci *p, uint64_t offset)
{
    struct pci_bus *bus = find_bus(p, offset >> BUS_SHIFT & 0xff);
    const bool first = !(offset >> FUNCTION_SHIFT & 7);
    return bus && first ? bus->functions[offset >> SLOT_SHIFT & (PCI_SLOTS - 1)] : NULL;
}

uint64_t pci_ecam_read(struct pci *p, uint64_t offset, unsigned size)
{
    uint64_t value = ones(size);
    pthread_mutex_lock(&p->lock);
    settle_locked(p);
    const struct pci_function *f = find_function(p, offset);
    if (f)
        value = chip_read(f, offset & (PCI_CONFIG_EXTENT - 1), size);
    settle_locked(p);
    pthread_mutex_unlock(&p->lock);
    return value;
}

void pci_ecam_write(struct pci *p, uint64_t offset, unsigned size, uint64_t value)
{
    pthread_mutex_lock(&p->lock);
    settle_locked(p);
    const struct pci_function *f = find_function(p, offset);
    if (f)
        chip_write(f, offset & (PCI_CONFIG_EXTENT - 1), size, value);
    settle_locked(p);
    pthread_mutex_unlock(&p->lock);
}

/* --- who is there --- */

static unsigned bars_of(const struct pci_function *f)
{
    unsigned n = 0;
    for (unsigned i = 0; i < PCI_BARS; i++)
        n += f->bars[i].kind != PCI_BAR_NONE;
    return n;
}

static unsigned depth_of(const struct pci_bus *bus)
{
    unsigned n = 0;
    for (; bus->bridge; bus = bus->bridge->on)
        n++;
    return n;
}

bool pci_attach(struct pci_bus *bus, unsigned slot, struct pci_function *f, GError **error)
{
    struct pci *p = bus->pci;
    g_assert(p && slot < PCI_SLOTS && !f->on);
    g_assert(depth_of(bus) + (f->below != NULL) <= PCI_DEPTH_MAX);
    bool ok = false;
    pthread_mutex_lock(&p->lock);
    if (bus->functions[slot]) {
        hostel_fail(error, HOSTEL_ERROR_USAGE, "slot %u of the PCI bus is taken", slot);
    } else if (p->bars + bars_of(f) > PCI_TABLE_MAX) {
        hostel_fail(error, HOSTEL_ERROR_USAGE, "more PCI devices than there is room for");
    } else {
        p->bars += bars_of(f);
        f->on = bus;
        f->slot = (uint8_t)slot;
        if (f->below)
            f->below->pci = p;
        bus->functions[slot] = f;
        pci_changed(p);
        settle_locked(p);
        ok = true;
    }
    pthread_mutex_unlock(&p->lock);
    return ok;
}

void pci_detach(struct pci_function *f)
{
    struct pci *p = f->on->pci;
    pthread_mutex_lock(&p->lock);
    f->on->functions[f->slot] = NULL;
    p->bars -= bars_of(f);
    if (f->below)
        f->below->pci = NULL;
    pci_changed(p);
    settle_locked(p);
    f->on = NULL;
    pthread_mutex_unlock(&p->lock);
}

struct visit {
    void (*see)(void *opaque, struct pci_function *f, unsigned bus);
    void *opaque;
};

static void see_numbered(void *opaque, struct pci_function *f)
{
    const struct visit *v = opaque;
    const struct pci_function *bridge = f->on->bridge;
    v->see(v->opaque, f, bridge ? bridge->config[PCI_BUS_SECONDARY] : 0);
}

void pci_each(struct pci *p, void (*see)(void *opaque, struct pci_function *f, unsigned bus), void *opaque)
{
    struct visit v = {see, opaque};
    pthread_mutex_lock(&p->lock);
    walk(p, false, see_numbered, &v);
    pthread_mutex_unlock(&p->lock);
}

struct pci *pci_new(void)
{
    struct pci *p = g_new0(struct pci, 1);
    pthread_mutex_init(&p->lock, NULL);
    pthread_mutex_init(&p->wait_lock, NULL);
    pthread_cond_init(&p->left, NULL);
    p->root.pci = p;
    atomic_store(&p->root.up, true);
    atomic_store(&p->current, &p->tables[0]);
    return p;
}

struct pci_bus *pci_root(struct pci *p)
{
    return &p->root;
}

void pci_free(struct pci *p)
{
    if (!p)
        return;
    pthread_cond_destroy(&p->left);
    pthread_mutex_destroy(&p->wait_lock);
    pthread_mutex_destroy(&p->lock);
    g_free(p);
}
