/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The platform-level interrupt controller ("sifive,plic-1.0.0"): many sources to the M and S mode of each
 * hart. */
/*
 * RISC-V PLIC specification 1.0.0:
 *     0x000000 + 4 * source            priority, 0 (never) to 7
 *     0x001000 + 4 * word              pending bits, read only
 *     0x002000 + 0x80 * context        enable bits
 *     0x200000 + 0x1000 * context      priority threshold
 *     0x200004 + 0x1000 * context      read: claim; write: complete
 * Input pins are sources, output pins are contexts.
 *
 * Gateways. A source that raises its line makes one request (pending), which a claim takes; until the
 * completion the gateway forwards no further one. A level-triggered source asks again at completion when its
 * line is still high; an edge-triggered one when an edge came meanwhile.
 */
#include "device/plic.h"

#include <string.h>

#include "base/bits.h"
#include "base/log.h"

enum { PLIC_CONTEXTS = DEVICE_PINS_MAX, PLIC_WORDS = (PLIC_SOURCES + 31) / 32, PLIC_PRIORITY_MASK = 7 };
enum {
    PLIC_PENDING = 0x1000,
    PLIC_ENABLE = 0x2000,
    PLIC_ENABLE_STRIDE = 0x80,
    PLIC_CONTEXT = 0x200000,
    PLIC_CONTEXT_STRIDE = 0x1000,
    PLIC_EXTENT = 0x600000, /* room for 1024 contexts, as the boards that drivers know have it */
};

struct plic {
    struct device dev;
    uint32_t contexts;
    uint8_t priority[PLIC_SOURCES];
    uint32_t pending[PLIC_WORDS];
    uint32_t level[PLIC_WORDS];   /* input lines */
    uint32_t again[PLIC_WORDS];   /* edge: another request waits for the completion */
    uint32_t claimed[PLIC_WORDS]; /* between claim and completion */
    uint32_t edge[PLIC_WORDS];    /* configuration: edge-triggered */
    uint32_t enable[PLIC_CONTEXTS][PLIC_WORDS];
    uint8_t threshold[PLIC_CONTEXTS];
};

static bool bit_get(const uint32_t *words, unsigned n)
{
    return words[n / 32] >> (n % 32) & 1;
}

static void bit_put(uint32_t *words, unsigned n, bool on)
{
    uint32_t bit = UINT32_C(1) << (n % 32);
    words[n / 32] = on ? words[n / 32] | bit : words[n / 32] & ~bit;
}

/* The pending and enabled source of the highest priority above floor, the lowest number among equals; 0 when
 * there is none. */
static unsigned best_locked(const struct plic *p, unsigned context, unsigned floor)
{
    unsigned best = 0, best_priority = floor;
    for (unsigned w = 0; w < PLIC_WORDS; w++)
        for (uint32_t bits = p->pending[w] & p->enable[context][w]; bits; bits &= bits - 1) {
            unsigned source = w * 32 + (unsigned)__builtin_ctz(bits);
            if (p->priority[source] > best_priority) {
                best = source;
                best_priority = p->priority[source];
            }
        }
    return best;
}

static void update_locked(struct plic *p)
{
    for (unsigned c = 0; c < p->contexts; c++)
        device_pin(&p->dev, c, best_locked(p, c, p->threshold[c]) != 0);
}

static void plic_input(void *device, unsigned pin, bool level)
{
    struct plic *p = device;
    if (!pin || pin >= PLIC_SOURCES)
        return;
    device_lock(&p->dev);
    bool rising = level && !bit_get(p->level, pin);
    if (log_on(LOG_IRQ))
        log_debug(LOG_IRQ, "plic: source %u %s", pin, level ? "high" : "low");
    bit_put(p->level, pin, level);
    if (rising) {
        if (!bit_get(p->claimed, pin))
            bit_put(p->pending, pin, true);
        else if (bit_get(p->edge, pin))
            bit_put(p->again, pin, true);
        update_locked(p);
    }
    device_release(&p->dev);
}

/* The threshold does not restrict a claim (section 9). */
static uint32_t claim_locked(struct plic *p, unsigned context)
{
    unsigned source = best_locked(p, context, 0);
    if (log_on(LOG_IRQ))
        log_debug(LOG_IRQ, "plic: context %u claims source %u", context, source);
    if (source) {
        bit_put(p->pending, source, false);
        bit_put(p->claimed, source, true);
        update_locked(p);
    }
    return source;
}

/* A number that is not enabled for the context is ignored (section 10). */
static void complete_locked(struct plic *p, unsigned context, uint64_t source)
{
    if (!source || source >= PLIC_SOURCES)
        return;
    unsigned s = (unsigned)source;
    if (!bit_get(p->enable[context], s) || !bit_get(p->claimed, s))
        return;
    bit_put(p->claimed, s, false);
    bit_put(p->pending, s, bit_get(bit_get(p->edge, s) ? p->again : p->level, s));
    bit_put(p->again, s, false);
    update_locked(p);
}

/* The enable word that offset names, or NULL. */
static uint32_t *enable_word(struct plic *p, uint64_t offset)
{
    uint64_t context = (offset - PLIC_ENABLE) / PLIC_ENABLE_STRIDE, word = offset % PLIC_ENABLE_STRIDE / 4;
    return context < p->contexts && word < PLIC_WORDS ? &p->enable[context][word] : NULL;
}

static uint64_t plic_read(void *chip, uint64_t offset, unsigned size)
{
    struct plic *p = chip;
    uint64_t value = 0;
    (void)size;
    device_lock(&p->dev);
    if (offset >= PLIC_CONTEXT) {
        uint64_t c = (offset - PLIC_CONTEXT) / PLIC_CONTEXT_STRIDE, reg = offset % PLIC_CONTEXT_STRIDE;
        if (c < p->contexts && reg == 0)
            value = p->threshold[c];
        else if (c < p->contexts && reg == 4)
            value = claim_locked(p, (unsigned)c);
    } else if (offset >= PLIC_ENABLE) {
        const uint32_t *word = enable_word(p, offset);
        value = word ? *word : 0;
    } else if (offset >= PLIC_PENDING) {
        value = (offset - PLIC_PENDING) / 4 < PLIC_WORDS ? p->pending[(offset - PLIC_PENDING) / 4] : 0;
    } else if (offset / 4 < PLIC_SOURCES) {
        value = p->priority[offset / 4];
    }
    device_release(&p->dev);
    return value;
}

/* The bits of an enable word that stand for sources: not 0, not beyond the last. */
static uint32_t sources_mask(uint64_t word)
{
    uint64_t left = PLIC_SOURCES - word * 32;
    return (uint32_t)bits_mask(left > 32 ? 32 : (unsigned)left) & ~(word ? 0 : UINT32_C(1));
}

static void plic_write(void *chip, uint64_t offset, unsigned size, uint64_t value)
{
    struct plic *p = chip;
    (void)size;
    device_lock(&p->dev);
    if (offset >= PLIC_CONTEXT) {
        uint64_t c = (offset - PLIC_CONTEXT) / PLIC_CONTEXT_STRIDE, reg = offset % PLIC_CONTEXT_STRIDE;
        if (c < p->contexts && reg == 0) {
            p->threshold[c] = value & PLIC_PRIORITY_MASK;
            update_locked(p);
        } else if (c < p->contexts && reg == 4) {
            complete_locked(p, (unsigned)c, value);
        }
    } else if (offset >= PLIC_ENABLE) {
        uint32_t *word = enable_word(p, offset);
        if (word) {
            *word = (uint32_t)value & sources_mask(offset % PLIC_ENABLE_STRIDE / 4);
            update_locked(p);
        }
    } else if (offset < PLIC_PENDING && offset / 4 < PLIC_SOURCES && offset) {
        p->priority[offset / 4] = value & PLIC_PRIORITY_MASK;
        update_locked(p);
    }
    device_release(&p->dev);
}

static const struct bus_ops plic_ops = {plic_read, plic_write, .min_size = 4, .max_size = 4};

void plic_set_edge(struct device *d, unsigned source)
{
    struct plic *p = (struct plic *)(void *)d;
    g_assert(d->type == &device_plic && source && source < PLIC_SOURCES);
    bit_put(p->edge, source, true);
}

static uint64_t plic_extent(const struct device *d)
{
    (void)d;
    return PLIC_EXTENT;
}

/* Input lines are what other chips say: they survive, and those that are high ask at once. */
static void plic_reset(struct device *d)
{
    struct plic *p = (struct plic *)(void *)d;
    memset(p->priority, 0, sizeof(p->priority));
    memset(p->again, 0, sizeof(p->again));
    memset(p->claimed, 0, sizeof(p->claimed));
    memset(p->enable, 0, sizeof(p->enable));
    memset(p->threshold, 0, sizeof(p->threshold));
    for (unsigned w = 0; w < PLIC_WORDS; w++)
        p->pending[w] = p->level[w] & ~p->edge[w];
}

static bool plic_post_load(struct device *d)
{
    struct plic *p = (struct plic *)(void *)d;
    for (unsigned i = 0; i < PLIC_SOURCES; i++)
        if (p->priority[i] > PLIC_PRIORITY_MASK)
            return false;
    for (unsigned w = 0; w < PLIC_WORDS; w++) {
        uint32_t beyond = ~sources_mask(w), any = p->pending[w] | p->level[w] | p->again[w] | p->claimed[w];
        for (unsigned c = 0; c < PLIC_CONTEXTS; c++)
            any |= p->enable[c][w];
        if (any & beyond)
            return false;
    }
    for (unsigned c = 0; c < PLIC_CONTEXTS; c++)
        if (p->threshold[c] > PLIC_PRIORITY_MASK)
            return false;
    update_locked(p);
    return true;
}

static const struct device_option plic_options[] = {
    {"contexts", "output pins: two per hart, M mode first", STATE_U32, offsetof(struct plic, contexts), 2, 1,
     PLIC_CONTEXTS},
    {0},
};

static const struct state_field plic_state[] = {
    STATE_FIELD(plic, priority, STATE_U8, 1),  STATE_FIELD(plic, pending, STATE_U32, 1),
    STATE_FIELD(plic, level, STATE_U32, 1),    STATE_FIELD(plic, again, STATE_U32, 1),
    STATE_FIELD(plic, claimed, STATE_U32, 1),  STATE_FIELD(plic, enable, STATE_U32, 1),
    STATE_FIELD(plic, threshold, STATE_U8, 1), {0},
};

const struct device_type device_plic = {
    .name = "plic",
    .help = "RISC-V platform-level interrupt controller, 96 sources",
    .size = sizeof(struct plic),
    .options = plic_options,
    .state = plic_state,
    .version = 1,
    .ops = &plic_ops,
    .extent = plic_extent,
    .reset = plic_reset,
    .input = plic_input,
    .post_load = plic_post_load,
};
