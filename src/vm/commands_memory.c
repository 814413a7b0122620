/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Commands about a guest's memory: the balloon, and the machine's size. */
#include <string.h>

#include "base/bits.h"
#include "device/virtio/balloon.h"
#include "vm/memory.h"
#include "vm/vm.h"

struct device *vm_find_chip(struct vm *vm, const char *type)
{
    GPtrArray *all = vm->machine->devices;
    for (guint i = 0; i < all->len; i++) {
        struct device *d = all->pdata[i];
        if (!strcmp(d->type->name, type))
            return d;
    }
    return NULL;
}

/* --- the balloon --- */

static uint64_t memory_pages(const struct vm *vm)
{
    return vm->machine->config.memory / BALLOON_PAGE_SIZE;
}

/* What the guest says of its balloon is believed as far as it can be. */
static json_int_t left_bytes(const struct vm *vm, uint32_t balloon)
{
    const uint64_t all = memory_pages(vm);
    return (json_int_t)((all - MIN(all, balloon)) * BALLOON_PAGE_SIZE);
}

json_t *vm_balloon_json(struct vm *vm, struct device *d)
{
    struct balloon_state s;
    virtio_balloon_get(d, &s);
    return json_pack("{s:I}", "actual", left_bytes(vm, s.actual));
}

/* The balloon of a guest whose driver is there. */
static struct device *balloon(struct vm *vm, struct balloon_state *s, GError **error)
{
    struct device *d = vm_find_chip(vm, "virtio-balloon");
    if (!d) {
        qmp_fail(error, QMP_ERROR_DEVICE_NOT_ACTIVE,
                 "the guest has no balloon; it was started with --balloon off, or "
                 "its slots were full");
        return NULL;
    }
    virtio_balloon_get(d, s);
    return d;
}

static json_t *set_balloon(void *opaque, json_t *args, GError **error)
{
    struct vm *vm = opaque;
    struct balloon_state s;
    const uint64_t size = (uint64_t)json_integer_value(json_object_get(args, "value"));
    struct device *d = balloon(vm, &s, error);
    if (!d)
        return NULL;
    if (!size)
        return qmp_fail(error, QMP_ERROR_GENERIC, "value is 0 bytes; a guest needs some memory");
    const uint64_t all = memory_pages(vm), keep = size / BALLOON_PAGE_SIZE + (size % BALLOON_PAGE_SIZE != 0);
    virtio_balloon_set_target(d, (uint32_t)MIN(all - MIN(all, keep), UINT32_MAX));
    return qmp_done();
}

static json_t *query_balloon(void *opaque, json_t *args G_GNUC_UNUSED, GError **error)
{
    struct balloon_state s;
    struct device *d = balloon(opaque, &s, error);
    return d ? vm_balloon_json(opaque, d) : NULL;
}

/* What the guest said last, and when it runs a question for the next time. */
static json_t *query_balloon_stats(void *opaque, json_t *args G_GNUC_UNUSED, GError **error)
{
    struct vm *vm = opaque;
    struct balloon_state s;
    struct device *d = balloon(vm, &s, error);
    if (!d)
        return NULL;
    json_t *stats = json_object();
    for (unsigned i = 0; i < BALLOON_STAT_COUNT; i++)
        if (s.stats_known & BIT(i))
            json_object_set_new(stats, balloon_stat_names[i],
                                json_integer((json_int_t)MIN(s.stats[i], INT64_MAX)));
    if (vm->state == VM_RUNNING) /* to ask is to write into its memory, which may be on its way into a file */
        virtio_balloon_ask(d);
    return json_pack("{s:b,s:I,s:I,s:I,s:I,s:o}", "driver", s.driven, "target", left_bytes(vm, s.target),
                     "actual", left_bytes(vm, s.actual), "given-back", (json_int_t)s.given_back,
                     "last-update", (json_int_t)s.stats_time, "stats", stats);
}

static json_t *query_memory_size(void *opaque, json_t *args G_GNUC_UNUSED, GError **error G_GNUC_UNUSED)
{
    struct vm *vm = opaque;
    return json_pack("{s:I}", "base-memory", (json_int_t)vm->machine->config.memory);
}

const struct qmp_command vm_memory_commands[] = {
    {"balloon", "value: size", NULL, 0, set_balloon},
    {"query-balloon", NULL, "BalloonInfo", QMP_OOB, query_balloon},
    {"x-query-balloon-stats", NULL, "XBalloonStats", QMP_OOB, query_balloon_stats},
    {"query-memory-size-summary", NULL, "MemoryInfo", QMP_OOB, query_memory_size},
    {0},
};
