/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* A guest machine as data: what of it is saved beside its memory, and how it is loaded. */
/*
 * Theory of operation
 *
 * Sections (codec/saved.h) of a saved machine:
 *
 *     machine  board's name    version 1: u64 memory, u32 vCPUs, u32 zero, u64 guest clock in ns, u64
 * features of the CPUs (CRC-32C of their text) cpu      its number      the ISA's table (isa.h), behind a
 * byte that says whether it is online device   the chip's name the type's table (device.h), behind the type's
 * name in 32 bytes memory   the block's name
 *
 * Loading goes into a machine built from the same options. Everything that can be checked without changing
 * the machine is checked first: the kind of machine, all sections there and none besides, their sizes,
 * memory's places. What is left are values that no guest could have produced: these end the machine. The
 * order of loading: clock, memory, CPUs, chips in the machine's order. CPUs come before chips because chips'
 * outputs lead to their pins, and the clock comes before both because they set timers.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/byteorder.h"
#include "base/error.h"
#include "board/board.h"
#include "codec/crc32c.h"

enum { MACHINE_VERSION = 1 };
/* The section of the machine, offsets in bytes. */
enum { AT_MEMORY = 0, AT_VCPUS = 8, AT_CLOCK = 16, AT_FEATURES = 24, MACHINE_BYTES = 32 };
enum { TYPE_BYTES = 32 };
#define CLOCK_MAX (UINT64_C(1) << 62) /* 146 years */

static uint64_t features_sum(const struct machine *m)
{
    const char *text = m->config.cpu_features ? m->config.cpu_features : "";
    return crc32c(0, text, strlen(text));
}

/* --- saving --- */

static void save_cpu(struct machine *m, struct saved_writer *w, unsigned i)
{
    char name[16];
    const size_t size = 1 + state_size(m->isa->state, m->isa->version);
    g_autofree uint8_t *bytes = g_malloc(size);
    bytes[0] = vcpus_is_online(m->vcpus, i);
    state_save(m->isa->state, m->isa->version, vcpus_env(m->vcpus, i), bytes + 1);
    snprintf(name, sizeof(name), "%u", i);
    saved_add(w, "cpu", name, m->isa->version, bytes, size);
}

static void save_device(struct device *d, struct saved_writer *w)
{
    const size_t size = TYPE_BYTES + device_state_size(d->type);
    g_autofree uint8_t *bytes = g_malloc0(size);
    g_strlcpy((char *)bytes, d->type->name, TYPE_BYTES);
    device_state_save(d, bytes + TYPE_BYTES);
    saved_add(w, "device", d->wires.name, d->type->version, bytes, size);
}

void machine_save(struct machine *m, struct saved_writer *w)
{
    uint8_t bytes[MACHINE_BYTES] = {0};
    st64le(bytes + AT_MEMORY, m->config.memory);
    st32le(bytes + AT_VCPUS, vcpus_count(m->vcpus));
    st64le(bytes + AT_CLOCK, clock_now(m->clock));
    st64le(bytes + AT_FEATURES, features_sum(m));
    saved_add(w, "machine", m->board->name, MACHINE_VERSION, bytes, sizeof(bytes));
    /* What is under way in chips is finished first, which raises interrupts: so controllers, which stand
     * before those whose lines lead to them, are saved behind them, and CPUs last. */
    for (guint i = m->devices->len; i > 0; i--)
        save_device(m->devices->pdata[i - 1], w);
    for (unsigned i = 0; i < vcpus_count(m->vcpus); i++)
        save_cpu(m, w, i);
}

/* --- checking --- */

static bool check_machine(struct machine *m, struct saved *s, uint64_t *clock, GError **error)
{
    const struct saved_section *section = saved_find(s, "machine", m->board->name, MACHINE_VERSION, error);
    if (!section)
        return false;
    if (section->size != MACHINE_BYTES)
        return hostel_fail(error, HOSTEL_ERROR_INPUT, "the saved machine has %u bytes instead of %d",
                           section->size, MACHINE_BYTES);
    const uint64_t memory = ld64le(section->bytes + AT_MEMORY);
    const uint32_t vcpus = ld32le(section->bytes + AT_VCPUS);
    if (memory != m->config.memory)
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "the guest was saved with %" PRIu64 " bytes of memory and is given %" PRIu64,
                           memory, m->config.memory);
    if (vcpus != vcpus_count(m->vcpus))
        return hostel_fail(error, HOSTEL_ERROR_INPUT, "the guest was saved with %u CPUs and is given %u",
                           vcpus, vcpus_count(m->vcpus));
    if (ld64le(section->bytes + AT_FEATURES) != features_sum(m))
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "the guest was saved with other --cpu-features than it is given");
    *clock = ld64le(section->bytes + AT_CLOCK);
    return *clock <= CLOCK_MAX ||
           hostel_fail(error, HOSTEL_ERROR_INPUT, "the saved guest's clock is impossible: %" PRIu64 " ns",
                       *clock);
}

/* Is a section as long as its version's table? */
static bool check_size(const struct saved_section *section, size_t head, const struct state_field *state,
                       GError **error)
{
    const size_t size = head + state_size(state, section->version);
    return section->size == size ||
           hostel_fail(error, HOSTEL_ERROR_INPUT, "saved %s '%s' has %u bytes instead of %zu", section->kind,
                       section->name, section->size, size);
}

static const struct saved_section *find_cpu(struct machine *m, struct saved *s, unsigned i, GError **error)
{
    char name[16];
    snprintf(name, sizeof(name), "%u", i);
    const struct saved_section *section = saved_find(s, "cpu", name, m->isa->version, error);
    if (!section || !check_size(section, 1, m->isa->state, error))
        return NULL;
    if (section->bytes[0] > 1) {
        hostel_fail(error, HOSTEL_ERROR_INPUT, "saved cpu '%u' is neither online nor offline", i);
        return NULL;
    }
    return section;
}

static const struct saved_section *find_device(const struct device *d, struct saved *s, GError **error)
{
    const struct device_type *type = d->type;
    const struct saved_section *section = saved_find(s, "device", d->wires.name, type->version, error);
    if (!section || !check_size(section, TYPE_BYTES, type->state, error))
        return NULL;
    char saved_type[TYPE_BYTES + 1] = {0};
    memcpy(saved_type, section->bytes, TYPE_BYTES);
    if (!strcmp(saved_type, type->name))
        return section;
    g_autofree char *shown = g_strescape(saved_type, NULL);
    hostel_fail(error, HOSTEL_ERROR_INPUT, "the guest was saved with %s as %s and is given %s", shown,
                d->wires.name, type->name);
    return NULL;
}

static bool check_memory(struct machine *m, struct saved *s, GError **error)
{
    unsigned count;
    const struct mem_block *blocks = mem_blocks(m->mem, &count);
    for (unsigned i = 0; i < count; i++) {
        struct saved_memory memory;
        if (!saved_find_memory(s, blocks[i].name, &memory, error))
            return false;
        if (memory.base != blocks[i].base.v || memory.size != blocks[i].size)
            return hostel_fail(error, HOSTEL_ERROR_INPUT,
                               "memory '%s' was saved as %" PRIu64 " bytes at 0x%" PRIx64
                               " and is given as %" PRIu64 " at 0x%" PRIx64,
                               blocks[i].name, memory.size, memory.base, blocks[i].size, blocks[i].base.v);
    }
    return true;
}

/* Everything that can be checked before anything is changed; *clock is the guest's. */
static bool check(struct machine *m, struct saved *s, uint64_t *clock, GError **error)
{
    if (!check_machine(m, s, clock, error) || !check_memory(m, s, error))
        return false;
    for (unsigned i = 0; i < vcpus_count(m->vcpus); i++)
        if (!find_cpu(m, s, i, error))
            return false;
    for (guint i = 0; i < m->devices->len; i++)
        if (!find_device(m->devices->pdata[i], s, error))
            return false;
    return saved_check_used(s, error);
}

bool machine_can_load(struct machine *m, struct saved *s, GError **error)
{
    uint64_t clock;
    return check(m, s, &clock, error);
}

/* --- loading --- */

static bool load_memory(struct machine *m, struct saved *s, int fd, GError **error)
{
    unsigned count;
    const struct mem_block *blocks = mem_blocks(m->mem, &count);
    for (unsigned i = 0; i < count; i++) {
        struct saved_memory memory;
        if (!saved_find_memory(s, blocks[i].name, &memory, error))
            return false;
        const int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
        const int status = own < 0 ? -errno : mem_restore(m->mem, &blocks[i], own, memory.place);
        if (status)
            return hostel_fail(error, HOSTEL_ERROR_HOST,
                               "memory '%s' of the saved guest cannot be mapped: %s", blocks[i].name,
                               g_strerror(-status));
    }
    return true;
}

/* A block that is being read. */
struct reading {
    struct mem *mem;
    const struct mem_block *block;
    bool fill;
    const _Atomic bool *stop;
};

static int put_pages(void *opaque, uint64_t at, const uint8_t *bytes, size_t size)
{
    const struct reading *r = opaque;
    if (r->stop && atomic_load(r->stop))
        return -ECANCELED;
    return r->fill ? mem_write(r->mem, GPA(r->block->base.v + at), bytes, size) : 0;
}

bool machine_read_memory(struct machine *m, struct saved *s, bool fill, const _Atomic bool *stop,
                         GError **error)
{
    unsigned count;
    const struct mem_block *blocks = mem_blocks(m->mem, &count);
    for (unsigned i = 0; i < count; i++) {
        struct reading r = {.mem = m->mem, .block = &blocks[i], .fill = fill, .stop = stop};
        const int status = fill ? mem_clear(m->mem, &blocks[i]) : 0;
        if (status)
            return hostel_fail(error, HOSTEL_ERROR_HOST, "memory '%s' cannot be emptied: %s", blocks[i].name,
                               g_strerror(-status));
        if (!saved_read_memory(s, blocks[i].name, put_pages, &r, error))
            return false;
    }
    return true;
}

static bool load_cpu(struct machine *m, struct saved *s, unsigned i, GError **error)
{
    const struct saved_section *section = find_cpu(m, s, i, error);
    if (!section)
        return false;
    struct env *env = vcpus_env(m->vcpus, i);
    m->isa->reset(env);
    if (!state_load(m->isa->state, section->version, env, section->bytes + 1) || !m->isa->loaded(env))
        return hostel_fail(error, HOSTEL_ERROR_INPUT, "saved cpu '%u' is in a state that no CPU can be in",
                           i);
    if (section->bytes[0])
        vcpus_online(m->vcpus, i, NULL, NULL);
    else
        vcpus_offline(m->vcpus, i);
    return true;
}

static bool load_device(struct device *d, struct saved *s, GError **error)
{
    const struct saved_section *section = find_device(d, s, error);
    if (!section)
        return false;
    return device_state_load_version(d, section->version, section->bytes + TYPE_BYTES) ||
           hostel_fail(error, HOSTEL_ERROR_INPUT, "saved device '%s' is in a state that no %s can be in",
                       d->wires.name, d->type->name);
}

bool machine_load(struct machine *m, struct saved *s, int fd, GError **error)
{
    uint64_t clock;
    if (!check(m, s, &clock, error))
        return false;
    vcpus_flush_all(m->vcpus);
    clock_set(m->clock, clock);
    if (fd >= 0 && !load_memory(m, s, fd, error))
        return false;
    for (unsigned i = 0; i < vcpus_count(m->vcpus); i++)
        if (!load_cpu(m, s, i, error))
            return false;
    for (guint i = 0; i < m->devices->len; i++)
        if (!load_device(m->devices->pdata[i], s, error))
            return false;
    m->booted = true;
    return true;
}

void machine_renew(struct machine *m)
{
    m->board->renew(m);
}
