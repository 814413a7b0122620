/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Commands of the control socket: what the machine is and has, and what it cannot do. */
#include "vm/vm.h"

/* --- what there is --- */

/* None is given to a guest; QMP says so by zeroes. */
static json_t *query_uuid(void *opaque G_GNUC_UNUSED, json_t *args G_GNUC_UNUSED,
                          GError **error G_GNUC_UNUSED)
{
    return json_pack("{s:s}", "UUID", "00000000-0000-0000-0000-000000000000");
}

static json_t *query_target(void *opaque, json_t *args G_GNUC_UNUSED, GError **error G_GNUC_UNUSED)
{
    return json_pack("{s:s}", "arch", ((struct vm *)opaque)->machine->isa->name);
}

static json_t *query_kvm(void *opaque, json_t *args G_GNUC_UNUSED, GError **error G_GNUC_UNUSED)
{
    const struct vm *vm = opaque;
    bool enabled = !strcmp(vm->machine->config.accel->name, "hardware");
    return json_pack("{s:b,s:b}", "enabled", enabled, "present", accel_find("hardware") != NULL);
}

static json_t *query_machines(void *opaque, json_t *args G_GNUC_UNUSED, GError **error G_GNUC_UNUSED)
{
    const struct vm *vm = opaque;
    const char *isa = vm->machine->isa->name;
    json_t *list = json_array();
    for (unsigned i = 0; boards[i]; i++) {
        if (strcmp(boards[i]->isa, isa) != 0)
            continue;
        json_t *row = json_pack("{s:s,s:I,s:b,s:b,s:b}", "name", boards[i]->name, "cpu-max",
                                (json_int_t)boards[i]->max_vcpus, "hotpluggable-cpus", 0,
                                "numa-mem-supported", 0, "deprecated", 0);
        if (boards[i] == board_find(NULL, isa))
            json_object_set_new(row, "is-default", json_true());
        json_array_append_new(list, row);
    }
    return list;
}

static json_t *query_iothreads(void *opaque G_GNUC_UNUSED, json_t *args G_GNUC_UNUSED,
                               GError **error G_GNUC_UNUSED)
{
    return json_array(); /* disks have threads of their own, which nobody assigns */
}

static json_t *inject_nmi(void *opaque G_GNUC_UNUSED, json_t *args G_GNUC_UNUSED, GError **error)
{
    return qmp_fail(error, QMP_ERROR_GENERIC, "this machine has no non-maskable interrupt");
}

const struct qmp_command vm_about_commands[] = {
    {"query-uuid", NULL, "UuidInfo", QMP_OOB | QMP_EARLY, query_uuid},
    {"query-target", NULL, "TargetInfo", QMP_OOB | QMP_EARLY, query_target},
    {"query-kvm", NULL, "KvmInfo", QMP_OOB | QMP_EARLY, query_kvm},
    {"query-machines", NULL, "[MachineInfo]", QMP_OOB | QMP_EARLY, query_machines},
    {"query-iothreads", NULL, "[IOThreadInfo]", QMP_OOB | QMP_EARLY, query_iothreads},
    {"inject-nmi", NULL, NULL, 0, inject_nmi},
    {0},
};
