/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* A virtio driver for tests: both ring formats from the driver's side (virtio 1.2, sections 2.7 and 2.8). */
#include "driver.h"

#include "base/byteorder.h"
#include "device/virtio/pci.h"

void drv_new(struct drv *t, const struct device_type *type)
{
    static const struct device_wires none;
    drv_new_wired(t, type, &none, NULL);
}

/* The chip that carries the device over PCI; the wire from the device to it. */
static struct irq_line new_pci(struct drv *t, const struct irq_line *line)
{
    const struct device_wires wires = {.name = "transport", .outputs = line, .output_count = 1};
    t->pci = device_new(device_type_find("virtio-pci"), &wires, NULL, NULL);
    g_assert_nonnull(t->pci);
    return device_input(t->pci, 0);
}

void drv_new_wired(struct drv *t, const struct device_type *type, const struct device_wires *back_ends,
                   const struct device_value *values)
{
    struct irq_line line;
    memset(t, 0, sizeof(*t));
    t->stream.room = SIZE_MAX;
    t->mem = mem_new();
    t->clock = clock_new(NULL);
    g_assert_nonnull(mem_add(t->mem, "ram", GPA(DRV_RAM), DRV_RAM_SIZE, false, NULL));
    g_assert_nonnull(mem_add(t->mem, "rom", GPA(DRV_ROM), DRV_ROM_SIZE, true, NULL));
    t->ram = mem_find(t->mem, GPA(DRV_RAM))->host;
    t->rom = mem_find(t->mem, GPA(DRV_ROM))->host;
    pins_lines(&t->pins, &line, 1);
    if (!g_strcmp0(g_getenv("VIRTIO_TRANSPORT"), "pci"))
        line = new_pci(t, &line);
    struct device_wires wires = *back_ends;
    wires.name = "device";
    wires.clock = t->clock;
    wires.mem = t->mem;
    wires.stream = &t->stream;
    wires.outputs = &line;
    wires.output_count = 1;
    t->d = device_new(type, &wires, values, NULL);
    g_assert_nonnull(t->d);
    t->v = (struct virtio *)(void *)t->d;
    if (t->pci)
        virtio_pci_carry(t->pci, t->d);
}

void drv_free(struct drv *t)
{
    device_free(t->d);
    device_free(t->pci);
    clock_free(t->clock);
    mem_free(t->mem);
}

/* --- registers --- */

/* Where PCI's transport has a register (virtio 1.2, 4.1.4.3), and how wide; what it has no such register for
 * is at 0 with no width. */
static uint64_t pci_register_of(unsigned reg, unsigned *size)
{
    static const struct {
        uint16_t reg, offset, size;
    } map[] = {{R_DEVICE_FEATURES_SEL, 0x00, 4},
               {R_DEVICE_FEATURES, 0x04, 4},
               {R_DRIVER_FEATURES_SEL, 0x08, 4},
               {R_DRIVER_FEATURES, 0x0c, 4},
               {R_QUEUE_SEL, 0x16, 2},
               {R_QUEUE_SIZE_MAX, 0x18, 2},
               {R_QUEUE_SIZE, 0x18, 2},
               {R_QUEUE_READY, 0x1c, 2},
               {R_STATUS, 0x14, 1},
               {R_DESC, 0x20, 4},
               {R_DESC + 4, 0x24, 4},
               {R_DRIVER, 0x28, 4},
               {R_DRIVER + 4, 0x2c, 4},
               {R_DEVICE, 0x30, 4},
               {R_DEVICE + 4, 0x34, 4},
               {R_GENERATION, 0x15, 1},
               {R_INTERRUPT_STATUS, 0x1000, 1}};
    *size = 4;
    if (reg >= R_CONFIG)
        return PCI_CONFIG_EXTENT + 0x2000 + reg - R_CONFIG;
    for (unsigned i = 0; i < G_N_ELEMENTS(map); i++)
        if (map[i].reg == reg) {
            *size = map[i].size;
            return PCI_CONFIG_EXTENT + map[i].offset;
        }
    *size = 0;
    return 0;
}

static void pci_write(struct drv *t, unsigned reg, uint32_t value)
{
    unsigned size;
    const uint64_t at = pci_register_of(reg, &size);
    if (reg == R_QUEUE_NOTIFY)
        wr(t->pci, PCI_CONFIG_EXTENT + 0x3000 + 4 * (uint64_t)MIN(value, 1023), 2, value & 0xffff);
    else if (size)
        wr(t->pci, at, size, value);
}

static uint32_t pci_read(struct drv *t, unsigned reg)
{
    unsigned size;
    const uint64_t at = pci_register_of(reg, &size);
    if (reg == R_DEVICE_ID)
        return (uint32_t)rd(t->pci, PCI_DEVICE, 2) - 0x1040;
    return size ? (uint32_t)rd(t->pci, at, size) : 0;
}

uint32_t drv_read(struct drv *t, unsigned reg)
{
    if (t->pci)
        return pci_read(t, reg);
    return (uint32_t)rd(t->d, reg, 4);
}

void drv_write(struct drv *t, unsigned reg, uint32_t value)
{
    if (t->pci) {
        pci_write(t, reg, value);
        return;
    }
    wr(t->d, reg, 4, value);
}

void drv_write64(struct drv *t, unsigned reg, uint64_t value)
{
    drv_write(t, reg, (uint32_t)value);
    drv_write(t, reg + 4, (uint32_t)(value >> 32));
}

/* --- bringing it up --- */

uint64_t drv_offered(struct drv *t)
{
    drv_write(t, R_DEVICE_FEATURES_SEL, 1);
    uint64_t high = drv_read(t, R_DEVICE_FEATURES);
    drv_write(t, R_DEVICE_FEATURES_SEL, 0);
    return high << 32 | drv_read(t, R_DEVICE_FEATURES);
}

bool drv_negotiate(struct drv *t, uint64_t wanted)
{
    drv_write(t, R_STATUS, 0);
    g_assert_cmpuint(drv_read(t, R_STATUS), ==, 0);
    memset(t->q, 0, sizeof(t->q));
    drv_write(t, R_STATUS, VIRTIO_ACKNOWLEDGE);
    drv_write(t, R_STATUS, VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER);
    t->features = wanted & drv_offered(t);
    drv_write(t, R_DRIVER_FEATURES_SEL, 0);
    drv_write(t, R_DRIVER_FEATURES, (uint32_t)t->features);
    drv_write(t, R_DRIVER_FEATURES_SEL, 1);
    drv_write(t, R_DRIVER_FEATURES, (uint32_t)(t->features >> 32));
    drv_write(t, R_STATUS, VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER | VIRTIO_FEATURES_OK);
    return drv_read(t, R_STATUS) & VIRTIO_FEATURES_OK;
}

void drv_queue(struct drv *t, unsigned i, unsigned size)
{
    struct drv_queue *q = &t->q[i];
    const uint64_t base = DRV_RAM + i * DRV_RING_STRIDE;
    memset(drv_at(t, base), 0, DRV_RING_STRIDE);
    *q = (struct drv_queue){.size = size,
                            .desc = drv_at(t, base),
                            .driver = drv_at(t, base + DRV_DRIVER_AREA),
                            .device = drv_at(t, base + DRV_DEVICE_AREA),
                            .added_wrap = true,
                            .seen_wrap = true};
    drv_write(t, R_QUEUE_SEL, i);
    g_assert_cmpuint(drv_read(t, R_QUEUE_READY), ==, 0);
    g_assert_cmpuint(drv_read(t, R_QUEUE_SIZE_MAX), >=, size);
    drv_write(t, R_QUEUE_SIZE, size);
    drv_write64(t, R_DESC, base);
    drv_write64(t, R_DRIVER, base + DRV_DRIVER_AREA);
    drv_write64(t, R_DEVICE, base + DRV_DEVICE_AREA);
    drv_write(t, R_QUEUE_READY, 1);
    g_assert_cmpuint(drv_read(t, R_QUEUE_READY), ==, 1);
}

void drv_go(struct drv *t)
{
    drv_write(t, R_STATUS, drv_read(t, R_STATUS) | VIRTIO_DRIVER_OK);
    g_assert_true(drv_read(t, R_STATUS) & VIRTIO_DRIVER_OK);
}

void drv_start(struct drv *t, uint64_t wanted, unsigned size)
{
    g_assert_true(drv_negotiate(t, wanted));
    for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++) {
        drv_write(t, R_QUEUE_SEL, i);
        unsigned max = drv_read(t, R_QUEUE_SIZE_MAX);
        if (max)
            drv_queue(t, i, MIN(size, max));
    }
    drv_go(t);
}

/* --- memory the device looks at, too --- */

static uint16_t get16(const uint8_t *p)
{
    return GUINT16_FROM_LE(__atomic_load_n((const uint16_t *)(const void *)p, __ATOMIC_SEQ_CST));
}

static uint32_t get32(const uint8_t *p)
{
    return GUINT32_FROM_LE(__atomic_load_n((const uint32_t *)(const void *)p, __ATOMIC_SEQ_CST));
}

static void put16(uint8_t *p, uint16_t v)
{
    __atomic_store_n((uint16_t *)(void *)p, GUINT16_TO_LE(v), __ATOMIC_SEQ_CST);
}

void drv_put_desc(uint8_t *at, uint64_t addr, uint32_t len, uint16_t third, uint16_t fourth)
{
    uint64_t high = len | (uint64_t)third << 32 | (uint64_t)fourth << 48;
    if ((uintptr_t)at & 7) {
        st64le(at, addr);
        st64le(at + 8, high);
        return;
    }
    __atomic_store_n((uint64_t *)(void *)at, GUINT64_TO_LE(addr), __ATOMIC_SEQ_CST);
    __atomic_store_n((uint64_t *)(void *)(at + 8), GUINT64_TO_LE(high), __ATOMIC_SEQ_CST);
}

/* --- chains --- */

bool drv_room(const struct drv *t, unsigned i, unsigned n)
{
    return t->q[i].outstanding + n <= t->q[i].size;
}

/* Descriptors are taken round and round, so one is free again only when all before it came back: an id is the
 * first place of its chain, and tests keep the number outstanding below the size. */
static unsigned add_split(struct drv_queue *q, const struct drv_buffer *b, unsigned n, uint64_t table)
{
    unsigned count = table ? 1 : n;
    /* Free descriptors may lie anywhere: look for each. */
    uint16_t at[DRV_ENTRIES];
    static uint8_t taken[DRV_ENTRIES];
    memset(taken, 0, sizeof(taken));
    for (unsigned head = 0; head < q->size; head++)
        for (unsigned k = 0, d = head; k < q->count[head]; k++) {
            taken[d] = 1;
            d = get16(q->desc + d * 16 + 14);
        }
    for (unsigned k = 0; k < count; k++) {
        while (taken[q->next])
            q->next = (uint16_t)((q->next + 1u) % q->size);
        at[k] = q->next;
        taken[q->next] = 1;
    }
    for (unsigned k = 0; k < count; k++) {
        bool last = k + 1 == count;
        if (table)
            drv_put_desc(q->desc + at[k] * 16, table, n * 16, D_INDIRECT, 0);
        else
            drv_put_desc(q->desc + at[k] * 16, b[k].addr, b[k].len,
                         (uint16_t)((b[k].write ? D_WRITE : 0) | (last ? 0 : D_NEXT)), last ? 0 : at[k + 1]);
    }
    q->count[at[0]] = (uint16_t)count;
    q->outstanding += count;
    put16(q->driver + 4 + 2 * (q->added % q->size), at[0]);
    q->added++;
    put16(q->driver + 2, q->added);
    return at[0];
}

static unsigned add_packed(struct drv_queue *q, const struct drv_buffer *b, unsigned n, uint64_t table)
{
    unsigned count = table ? 1 : n, id = 0;
    while (q->count[id])
        id++;
    q->count[id] = (uint16_t)count;
    q->outstanding += count;
    uint8_t *first = q->desc + q->added * 16;
    uint16_t first_flags = 0;
    for (unsigned k = 0; k < count; k++) {
        uint16_t flags = q->added_wrap ? D_AVAIL : D_USED;
        if (table)
            flags |= D_INDIRECT;
        else
            flags |= (uint16_t)((b[k].write ? D_WRITE : 0) | (k + 1 < count ? D_NEXT : 0));
        uint8_t *at = q->desc + q->added * 16;
        if (k == 0) { /* shown last, so not yet */
            first_flags = flags;
            flags = get16(at + 14);
        }
        drv_put_desc(at, table ? table : b[k].addr, table ? n * 16 : b[k].len, (uint16_t)id, flags);
        if (++q->added == q->size) {
            q->added = 0;
            q->added_wrap = !q->added_wrap;
        }
    }
    put16(first + 14, first_flags);
    return id;
}

unsigned drv_add(struct drv *t, unsigned i, const struct drv_buffer *b, unsigned n, uint64_t table)
{
    g_assert_true(drv_room(t, i, table ? 1 : n));
    for (unsigned k = 0; table && k < n; k++) {
        uint16_t write = b[k].write ? D_WRITE : 0, next = k + 1 < n ? D_NEXT : 0;
        if (drv_packed(t))
            drv_put_desc(drv_at(t, table) + 16 * k, b[k].addr, b[k].len, 0, write);
        else
            drv_put_desc(drv_at(t, table) + 16 * k, b[k].addr, b[k].len, write | next, (uint16_t)(k + 1));
    }
    return drv_packed(t) ? add_packed(&t->q[i], b, n, table) : add_split(&t->q[i], b, n, table);
}

void drv_kick(struct drv *t, unsigned i)
{
    drv_write(t, R_QUEUE_NOTIFY, i);
}

bool drv_kick_wanted(struct drv *t, unsigned i, uint16_t old, bool old_wrap)
{
    struct drv_queue *q = &t->q[i];
    const bool event_idx = t->features & VIRTIO_F_EVENT_IDX;
    if (!drv_packed(t)) {
        if (!event_idx)
            return !(get16(q->device) & 1);
        uint16_t event = get16(q->device + 4 + 8 * q->size);
        return (uint16_t)(q->added - event - 1) < (uint16_t)(q->added - old);
    }
    unsigned how = get16(q->device + 2);
    if (how != 2)
        return how == 0;
    /* The event lies among the places filled since old, going round. */
    uint16_t event = get16(q->device);
    bool wrap = event >> 15;
    event &= 0x7fff;
    for (unsigned at = old; at != q->added || old_wrap != q->added_wrap;) {
        if (at == event && old_wrap == wrap)
            return true;
        if (++at == q->size) {
            at = 0;
            old_wrap = !old_wrap;
        }
    }
    return false;
}

bool drv_used(struct drv *t, unsigned i, unsigned *id, uint32_t *len)
{
    struct drv_queue *q = &t->q[i];
    if (!drv_packed(t)) {
        if (get16(q->device + 2) == q->seen)
            return false;
        const uint8_t *element = q->device + 4 + 8 * (q->seen % q->size);
        *id = get32(element);
        *len = get32(element + 4);
        q->seen++;
    } else {
        const uint8_t *element = q->desc + 16 * q->seen;
        unsigned flags = get16(element + 14);
        if (!!(flags & D_AVAIL) != q->seen_wrap || !!(flags & D_USED) != q->seen_wrap)
            return false;
        *id = get16(element + 12);
        *len = get32(element + 8);
    }
    g_assert_cmpuint(*id, <, q->size);
    g_assert_cmpuint(q->count[*id], >, 0);
    if (drv_packed(t)) {
        unsigned at = q->seen + q->count[*id];
        if (at >= q->size) {
            at -= q->size;
            q->seen_wrap = !q->seen_wrap;
        }
        q->seen = (uint16_t)at;
    }
    q->outstanding -= q->count[*id];
    q->count[*id] = 0;
    return true;
}

void drv_interrupts(struct drv *t, unsigned i, bool on)
{
    struct drv_queue *q = &t->q[i];
    const bool event_idx = t->features & VIRTIO_F_EVENT_IDX;
    if (!drv_packed(t)) {
        put16(q->driver, !on && !event_idx);
        if (event_idx)
            put16(q->driver + 4 + 2 * q->size, on ? q->seen : (uint16_t)(q->seen - 1));
        return;
    }
    put16(q->driver, (uint16_t)(q->seen | (q->seen_wrap ? 1u << 15 : 0)));
    put16(q->driver + 2, !on ? 1 : event_idx ? 2 : 0);
}

uint32_t drv_acknowledge(struct drv *t)
{
    uint32_t causes = drv_read(t, R_INTERRUPT_STATUS);
    drv_write(t, R_INTERRUPT_ACK, causes);
    return causes;
}
