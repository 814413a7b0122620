/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What chips let a guest's keepers know. */
/*
 * Chips note things on any thread, as bits of a word. The main loop looks at them soon: before the guest's
 * next power event is served, so a guest that panics and then resets itself has panicked first.
 */
#include "vm/notices.h"

#include "base/bits.h"
#include "device/virtio/balloon.h"
#include "vm/memory.h"
#include "vm/vm.h"

/* A balloon changes its size in small steps: its event comes once in this time, us. */
enum { BALLOON_EVENT_US = G_USEC_PER_SEC };

struct vm_notices {
    struct vm *vm;
    GSource *source;
    _Atomic unsigned pending; /* a bit for each enum device_notice */
    gint64 balloon_told;      /* monotonic time, us */
};

struct notices_source {
    GSource base;
    struct vm_notices *notices;
};

static gboolean dispatch(GSource *base, GSourceFunc callback G_GNUC_UNUSED, gpointer data G_GNUC_UNUSED)
{
    g_source_set_ready_time(base, -1); /* first: who notes something from here on wakes us again */
    vm_notices_serve(((struct notices_source *)(void *)base)->notices);
    return G_SOURCE_CONTINUE;
}

static GSourceFuncs source_funcs = {.dispatch = dispatch};

struct vm_notices *vm_notices_new(struct vm *vm)
{
    struct vm_notices *n = g_new0(struct vm_notices, 1);
    n->vm = vm;
    n->source = g_source_new(&source_funcs, sizeof(struct notices_source));
    ((struct notices_source *)(void *)n->source)->notices = n;
    g_source_set_static_name(n->source, "notices");
    g_source_attach(n->source, NULL);
    return n;
}

void vm_notices_free(struct vm_notices *n)
{
    if (!n)
        return;
    g_source_destroy(n->source);
    g_source_unref(n->source);
    g_free(n);
}

void vm_note(void *opaque, enum device_notice what)
{
    struct vm_notices *n = ((struct vm *)opaque)->notices;
    if (!(atomic_fetch_or(&n->pending, (unsigned)BIT(what)) & BIT(what)))
        g_source_set_ready_time(n->source, 0);
}

/* --- the balloon --- */

static void balloon_changed(struct vm_notices *n)
{
    const gint64 next = n->balloon_told + BALLOON_EVENT_US, now = g_get_monotonic_time();
    if (n->balloon_told && now < next) { /* the size of that moment is what will be told */
        atomic_fetch_or(&n->pending, (unsigned)BIT(DEVICE_NOTICE_BALLOON));
        g_source_set_ready_time(n->source, next);
        return;
    }
    n->balloon_told = now;
    struct device *d = vm_find_chip(n->vm, "virtio-balloon");
    if (d)
        vm_event(n->vm, "BALLOON_CHANGE", vm_balloon_json(n->vm, d));
}

/* --- all --- */

void vm_notices_again(struct vm_notices *n)
{
    if (atomic_load(&n->pending))
        g_source_set_ready_time(n->source, 0);
}

void vm_notices_forget(struct vm_notices *n)
{
    atomic_store(&n->pending, 0);
}

void vm_notices_serve(struct vm_notices *n)
{
    if (n->vm->snapshot)
        return; /* until its end: vm_notices_again() */
    const unsigned pending = atomic_exchange(&n->pending, 0);
    if (n->vm->state == VM_SAVED || n->vm->state == VM_ENDED) /* what it said is past, or goes on elsewhere */
        return;
    if (pending & BIT(DEVICE_NOTICE_BALLOON))
        balloon_changed(n);
    if (pending & BIT(DEVICE_NOTICE_CRASH_LOADED))
        vm_crash_loaded(n->vm);
    if (pending & BIT(DEVICE_NOTICE_PANICKED))
        vm_panicked(n->vm);
    else if (pending & BIT(DEVICE_NOTICE_WATCHDOG))
        vm_watchdog_bit(n->vm);
}
