/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The counters of a run, for people and for programs. */
#include <inttypes.h>

#include "base/log.h"
#include "vm/vm.h"

/* "name 1, name 2", without those that are zero. */
static char *counts(const struct backend_count *count, unsigned n)
{
    GString *s = g_string_new(NULL);
    for (unsigned i = 0; i < n; i++)
        if (count[i].n)
            g_string_append_printf(s, "%s%s %" PRIu64, s->len ? ", " : "", count[i].name, count[i].n);
    return g_string_free(s, FALSE);
}

static void print_counts(const char *what, const char *const *names, const uint64_t *n, unsigned kinds)
{
    struct backend_count count[MAX((unsigned)ENGINE_STOPS, (unsigned)VCPUS_DROPS)];
    for (unsigned i = 0; i < kinds; i++)
        count[i] = (struct backend_count){.name = names[i], .n = n[i]};
    g_autofree char *text = counts(count, kinds);
    log_info(LOG_VM, "%s: %s", what, *text ? text : "none");
}

void stats_print(struct vcpus *vcpus)
{
    struct vcpus_stats s;
    vcpus_stats(vcpus, &s);
    double seconds = (double)s.cpu_ns / 1e9;
    log_info(LOG_VM, "instructions %" PRIu64 " in %.3f s of processor time: %.1f million a second",
             s.instructions, seconds, s.cpu_ns ? (double)s.instructions * 1e3 / (double)s.cpu_ns : 0.0);
    log_info(LOG_VM, "exceptions %" PRIu64 ", interrupts %" PRIu64 ", waits %" PRIu64, s.exceptions,
             s.interrupts, s.waits);
    log_info(LOG_VM,
             "blocks made %" PRIu64 ", freed %" PRIu64 ", linked %" PRIu64
             ", code %zu KiB, evictions %" PRIu64,
             s.blocks_made, s.blocks_freed, s.links, s.code_bytes / 1024, s.evictions);
    print_counts("invalidations", vcpus_drop_names, s.invalidated, VCPUS_DROPS);
    log_info(LOG_VM,
             "TLB misses %" PRIu64 ", device accesses %" PRIu64 ", page walks %" PRIu64 ", flushes %" PRIu64,
             s.tlb_misses, s.device_accesses, s.walks, s.flushes);
    log_info(LOG_VM, "jump-cache misses %" PRIu64 ", look-ups %" PRIu64, s.jump_misses, s.lookups);
    print_counts("returns to the dispatcher", vcpus_stop_names, s.stops, ENGINE_STOPS);
    g_autofree char *stepped = counts(s.stepped, s.n_stepped);
    if (*stepped)
        log_info(LOG_VM, "cells translated into calls of the interpreter: %s", stepped);
    if (s.checked)
        log_info(LOG_VM, "lockstep: %" PRIu64 " blocks compared, all equal", s.checked);
}

static json_t *number(uint64_t n)
{
    return json_integer((json_int_t)n);
}

static void append_count(json_t *list, const char *name, uint64_t n)
{
    json_array_append_new(list, json_pack("{s:s,s:o}", "name", name, "count", number(n)));
}

static json_t *list_counts(const char *const *names, const uint64_t *n, unsigned kinds)
{
    json_t *out = json_array();
    for (unsigned i = 0; i < kinds; i++)
        append_count(out, names[i], n[i]);
    return out;
}

json_t *stats_json(struct vcpus *vcpus)
{
    struct vcpus_stats s;
    vcpus_stats(vcpus, &s);
    json_t *out = json_object();
#define STAT(name, field) json_object_set_new(out, name, number(s.field))
    STAT("instructions", instructions);
    STAT("cpu-ns", cpu_ns);
    STAT("blocks-made", blocks_made);
    STAT("blocks-freed", blocks_freed);
    STAT("links", links);
    STAT("lookups", lookups);
    STAT("jump-misses", jump_misses);
    STAT("tlb-misses", tlb_misses);
    STAT("device-accesses", device_accesses);
    STAT("page-walks", walks);
    STAT("flushes", flushes);
    STAT("invalidations", invalidations);
    STAT("evictions", evictions);
    STAT("waits", waits);
    STAT("exceptions", exceptions);
    STAT("interrupts", interrupts);
    STAT("code-bytes", code_bytes);
#undef STAT
    json_object_set_new(out, "invalidated-by", list_counts(vcpus_drop_names, s.invalidated, VCPUS_DROPS));
    json_object_set_new(out, "returns", list_counts(vcpus_stop_names, s.stops, ENGINE_STOPS));
    json_t *stepped = json_array();
    for (unsigned i = 0; i < s.n_stepped; i++)
        append_count(stepped, s.stepped[i].name, s.stepped[i].n);
    json_object_set_new(out, "stepped-cells", stepped);
    return out;
}
