/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Commands of the control socket: objects with properties, as far as managers of guests look for them. */
/*
 * QEMU's objects are its own inside. What others rely on is little: that a device is at
 * /machine/peripheral/ID, and two properties of the balloon, from which they read how a guest uses its
 * memory. That much is here:
 *
 *   /machine                        cpu[0], cpu[1], ...
 *   /machine/peripheral             balloon0, and what is in ports by the id that device_add gave
 *   /machine/peripheral/balloon0    guest-stats, guest-stats-polling-interval
 */
#include <stdio.h>
#include <string.h>

#include "base/bits.h"
#include "board/ports.h"
#include "device/virtio/balloon.h"
#include "vm/hotplug.h"
#include "vm/memory.h"
#include "vm/vm.h"

enum { POLL_SECONDS_MAX = G_MAXINT / 1000, QEMU_STATS = 10 };

static const char peripheral[] = "/machine/peripheral", balloon_id[] = "balloon0";

/* --- the balloon --- */

/* Those that QEMU 7.2 has are always there; -1 = the guest has not told. */
static json_t *guest_stats(struct vm *vm G_GNUC_UNUSED, struct device *d)
{
    struct balloon_state s;
    json_t *stats = json_object();
    virtio_balloon_get(d, &s);
    for (unsigned i = 0; i < BALLOON_STAT_COUNT; i++) {
        const bool known = s.stats_known & BIT(i);
        if (known || i < QEMU_STATS)
            json_object_set_new(stats, balloon_stat_names[i],
                                json_integer(known ? (json_int_t)MIN(s.stats[i], INT64_MAX) : -1));
    }
    return json_pack("{s:o,s:I}", "stats", stats, "last-update", (json_int_t)s.stats_time);
}

static gboolean poll_stats(gpointer opaque)
{
    struct vm *vm = opaque;
    struct device *d = vm_find_chip(vm, "virtio-balloon");
    if (d && vm->state == VM_RUNNING) /* to ask is to write into its memory */
        virtio_balloon_ask(d);
    return G_SOURCE_CONTINUE;
}

static void poll_balloon(struct vm *vm, unsigned seconds)
{
    if (vm->stats_source) {
        g_source_destroy(vm->stats_source);
        g_source_unref(vm->stats_source);
        vm->stats_source = NULL;
    }
    vm->stats_seconds = seconds;
    if (!seconds)
        return;
    vm->stats_source = g_timeout_source_new(seconds * 1000);
    g_source_set_callback(vm->stats_source, poll_stats, vm, NULL);
    g_source_attach(vm->stats_source, NULL);
    poll_stats(vm);
}

static json_t *polling_interval(struct vm *vm, struct device *d G_GNUC_UNUSED)
{
    return json_integer((json_int_t)vm->stats_seconds);
}

static bool set_polling_interval(struct vm *vm, const json_t *value, GError **error)
{
    const json_int_t seconds = json_integer_value(value);
    if (!json_is_integer(value) || seconds < 0 || seconds > POLL_SECONDS_MAX) {
        qmp_fail(error, QMP_ERROR_GENERIC, "the value must be a number of seconds from 0 to %d",
                 POLL_SECONDS_MAX);
        return false;
    }
    poll_balloon(vm, (unsigned)seconds);
    return true;
}

/* --- objects --- */

static const struct property {
    const char *name, *type;
    json_t *(*get)(struct vm *vm, struct device *d);
    bool (*set)(struct vm *vm, const json_t *value, GError **error); /* NULL = it cannot be */
} balloon_properties[] = {
    {"guest-stats", "guest statistics", guest_stats, NULL},
    {"guest-stats-polling-interval", "int", polling_interval, set_polling_interval},
};

/* What there is at a path. */
struct object {
    json_t *rows;        /* ObjectPropertyInfo of its children, owned */
    const char *type;    /* "container", or of a device; NULL = there is nothing */
    char text[32];       /* where that may be */
    struct device *chip; /* of the balloon */
};

static void add_row(json_t *rows, const char *name, const char *type)
{
    json_array_append_new(rows, json_pack("{s:s,s:s}", "name", name, "type", type));
}

static void add_child(json_t *rows, const char *name, const char *type)
{
    g_autofree char *child = g_strdup_printf("child<%s>", type);
    add_row(rows, name, child);
}

/* "virtio-blk-pci" for what is in the port; false: nothing. */
static bool type_in_port(struct vm *vm, unsigned number, char *text, size_t size)
{
    const struct machine_port *p = machine_port(vm->machine, number);
    return p->function && snprintf(text, size, "%s-pci", p->function->type->name) < (int)size;
}

static void list_machine(struct vm *vm, struct object *o)
{
    o->type = "machine";
    add_child(o->rows, "peripheral", "container");
    for (unsigned i = 0; i < vcpus_count(vm->machine->vcpus); i++) {
        g_autofree char *name = g_strdup_printf("cpu[%u]", i);
        add_child(o->rows, name, "cpu");
    }
}

static void list_peripheral(struct vm *vm, struct object *o)
{
    o->type = "container";
    if (vm_find_chip(vm, "virtio-balloon"))
        add_child(o->rows, balloon_id, "virtio-balloon-device");
    for (unsigned n = 1; machine_port(vm->machine, n); n++)
        if (type_in_port(vm, n, o->text, sizeof(o->text)))
            add_child(o->rows, vm_hotplug_id(vm->hotplug, n), o->text);
}

static void find_peripheral(struct vm *vm, const char *id, struct object *o)
{
    for (unsigned n = 1; !o->type && machine_port(vm->machine, n); n++)
        if (!g_strcmp0(vm_hotplug_id(vm->hotplug, n), id) && type_in_port(vm, n, o->text, sizeof(o->text)))
            o->type = o->text;
    if (o->type || strcmp(id, balloon_id) != 0 || !(o->chip = vm_find_chip(vm, "virtio-balloon")))
        return;
    o->type = "virtio-balloon-device";
    for (unsigned i = 0; i < G_N_ELEMENTS(balloon_properties); i++)
        add_row(o->rows, balloon_properties[i].name, balloon_properties[i].type);
}

/* False with *error when there is nothing. rows is the caller's in any case. */
static bool find(struct vm *vm, const char *path, struct object *o, GError **error)
{
    unsigned cpu;
    char behind;
    *o = (struct object){.rows = json_array()};
    add_row(o->rows, "type", "string");
    if (!strcmp(path, "/")) {
        o->type = "container";
        add_child(o->rows, "machine", "machine");
    } else if (!strcmp(path, "/machine")) {
        list_machine(vm, o);
    } else if (!strcmp(path, peripheral)) {
        list_peripheral(vm, o);
    } else if (g_str_has_prefix(path, "/machine/peripheral/")) {
        find_peripheral(vm, path + strlen("/machine/peripheral/"), o);
    } else if (sscanf(path, "/machine/cpu[%5u]%c", &cpu, &behind) == 1 &&
               cpu < vcpus_count(vm->machine->vcpus)) {
        o->type = "cpu";
    }
    if (!o->type)
        qmp_fail(error, QMP_ERROR_DEVICE_NOT_FOUND,
                 "there is nothing at '%.80s'; qom-list lists what there is, beginning with /", path);
    return o->type;
}

static const char *text(json_t *args, const char *name)
{
    return json_string_value(json_object_get(args, name));
}

static json_t *qom_list(void *opaque, json_t *args, GError **error)
{
    struct object o;
    if (find(opaque, text(args, "path"), &o, error))
        return o.rows;
    json_decref(o.rows);
    return NULL;
}

/* NULL with *error. */
static const struct property *find_property(const struct object *o, json_t *args, GError **error)
{
    const char *name = text(args, "property");
    for (unsigned i = 0; o->chip && i < G_N_ELEMENTS(balloon_properties); i++)
        if (!strcmp(balloon_properties[i].name, name))
            return &balloon_properties[i];
    qmp_fail(error, QMP_ERROR_GENERIC, "Property '%s.%.80s' not found", o->type, name);
    return NULL;
}

static json_t *get(struct vm *vm, const struct object *o, json_t *args, GError **error)
{
    if (!strcmp(text(args, "property"), "type"))
        return json_string(o->type);
    const struct property *p = find_property(o, args, error);
    return p ? p->get(vm, o->chip) : NULL;
}

static json_t *qom_get(void *opaque, json_t *args, GError **error)
{
    struct object o;
    json_t *value = find(opaque, text(args, "path"), &o, error) ? get(opaque, &o, args, error) : NULL;
    json_decref(o.rows);
    return value;
}

static bool set(struct vm *vm, const struct object *o, json_t *args, GError **error)
{
    const struct property *p = find_property(o, args, error);
    if (p && !p->set)
        qmp_fail(error, QMP_ERROR_GENERIC, "'%s' can be read only", p->name);
    return p && p->set && p->set(vm, json_object_get(args, "value"), error);
}

static json_t *qom_set(void *opaque, json_t *args, GError **error)
{
    struct object o;
    const bool done = find(opaque, text(args, "path"), &o, error) && set(opaque, &o, args, error);
    json_decref(o.rows);
    return done ? qmp_done() : NULL;
}

const struct qmp_command vm_qom_commands[] = {
    {"qom-list", "path: str", "[ObjectPropertyInfo]", QMP_OOB, qom_list},
    {"qom-get", "path: str, property: str", "any", QMP_OOB, qom_get},
    {"qom-set", "path: str, property: str, value: any", NULL, 0, qom_set},
    {0},
};
