/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The list of character devices. */
#include "vm/chardevs.h"

#include <string.h>

#include "base/error.h"
#include "vm/vm.h"

static struct vm_chardev *chardev_at(const struct vm *vm, unsigned i)
{
    return vm->chardevs->pdata[i];
}

static void free_chardev(void *data)
{
    struct vm_chardev *c = data;
    if (!c->in_use)
        stream_free(c->stream);
    g_free(c->id);
    g_free(c);
}

static void append(struct vm *vm, const char *id, const char *kind, struct stream *stream, bool in_use)
{
    struct vm_chardev *c = g_new(struct vm_chardev, 1);
    *c = (struct vm_chardev){
        .id = g_utf8_make_valid(id, -1), .kind = kind, .stream = stream, .in_use = in_use};
    g_ptr_array_add(vm->chardevs, c);
}

void vm_chardevs_init(struct vm *vm, const char *console_kind)
{
    vm->chardevs = g_ptr_array_new_with_free_func(free_chardev);
    append(vm, "console", console_kind, vm->console, true);
    /* Descriptors of whoever started us: what they lead to is known there. */
    for (unsigned i = 0; vm->channels && i < vm->channels->len; i++)
        append(vm, vm->ports[i].name, "fd", vm->ports[i].stream, true);
}

void vm_chardevs_fini(struct vm *vm)
{
    if (vm->chardevs)
        g_ptr_array_unref(vm->chardevs);
    vm->chardevs = NULL;
}

static struct vm_chardev *look_up(const struct vm *vm, const char *id)
{
    for (unsigned i = 0; i < vm->chardevs->len; i++)
        if (!strcmp(chardev_at(vm, i)->id, id))
            return chardev_at(vm, i);
    return NULL;
}

struct vm_chardev *vm_chardev_find(const struct vm *vm, const char *id, GError **error)
{
    struct vm_chardev *c = look_up(vm, id);
    if (!c)
        hostel_fail(error, HOSTEL_ERROR_USAGE,
                    "there is no character device '%.40s'; query-chardev lists them", id);
    return c;
}

bool vm_chardev_may_add(const struct vm *vm, const char *id, GError **error)
{
    unsigned own = 0;
    bool good = g_ascii_isalpha(*id) && strlen(id) < 128;
    for (const char *c = id; *c && good; c++)
        good = g_ascii_isalnum(*c) || strchr("-._", *c);
    if (!good)
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "'%.40s' is no identifier: up to 127 letters, digits and -._, a letter first", id);
    if (look_up(vm, id))
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "there is a character device '%.40s' already", id);
    for (unsigned i = 0; i < vm->chardevs->len; i++)
        own += !chardev_at(vm, i)->in_use;
    return own < VM_CHARDEVS_MAX ||
           hostel_fail(error, HOSTEL_ERROR_USAGE,
                       "%d character devices have been added; remove one with chardev-remove",
                       VM_CHARDEVS_MAX);
}

void vm_chardev_add(struct vm *vm, const char *id, const char *kind, const struct stream_end *end)
{
    struct stream *s = stream_new_fd(NULL, -1, -1);
    stream_exchange(s, end);
    append(vm, id, kind, s, false);
}

bool vm_chardev_remove(struct vm *vm, const char *id, GError **error)
{
    struct vm_chardev *c = vm_chardev_find(vm, id, error);
    if (!c)
        return false;
    if (c->in_use)
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "the guest uses '%.40s'; chardev-change exchanges what it leads to", id);
    g_ptr_array_remove(vm->chardevs, c);
    return true;
}
