/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The commands of a guest's control socket: QMP's own where the meaning is the same, x- ones besides. */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "device/virtio/input.h"
#include "vm/dump.h"
#include "vm/memory.h"
#include "vm/snapshot.h"
#include "vm/vm.h"

static json_t *query_status(void *opaque, json_t *args G_GNUC_UNUSED, GError **error G_GNUC_UNUSED)
{
    static const char *const names[] = {[VM_STARTING] = "prelaunch",
                                        [VM_RUNNING] = "running",
                                        [VM_PAUSED] = "paused",
                                        [VM_SAVED] = "postmigrate",
                                        [VM_ENDED] = "shutdown"};
    struct vm *vm = opaque;
    return json_pack("{s:b,s:b,s:s}", "running", vm->state == VM_RUNNING, "singlestep", 0, "status",
                     vm->state == VM_PAUSED && vm->paused_as ? vm->paused_as : names[vm->state]);
}

static json_t *query_name(void *opaque, json_t *args G_GNUC_UNUSED, GError **error G_GNUC_UNUSED)
{
    struct vm *vm = opaque;
    if (!vm->options->name)
        return json_object();
    g_autofree char *name = g_utf8_make_valid(vm->options->name, -1);
    return json_pack("{s:s}", "name", name);
}

static json_t *query_cpus(void *opaque, json_t *args G_GNUC_UNUSED, GError **error G_GNUC_UNUSED)
{
    struct vm *vm = opaque;
    json_t *list = json_array();
    for (unsigned i = 0; i < vcpus_count(vm->machine->vcpus); i++) {
        g_autofree char *path = g_strdup_printf("/machine/cpu[%u]", i);
        json_array_append_new(list, json_pack("{s:i,s:s,s:i,s:s,s:{}}", "cpu-index", (int)i, "qom-path", path,
                                              "thread-id", (int)vcpus_thread(vm->machine->vcpus, i), "target",
                                              vm->machine->isa->name, "props"));
    }
    return list;
}

static json_t *stop(void *opaque, json_t *args G_GNUC_UNUSED, GError **error G_GNUC_UNUSED)
{
    vm_pause(opaque);
    return qmp_done();
}

static json_t *cont(void *opaque, json_t *args G_GNUC_UNUSED, GError **error)
{
    if (!vm_can_run(opaque, error))
        return NULL;
    vm_resume(opaque);
    return qmp_done();
}

static json_t *system_reset(void *opaque, json_t *args G_GNUC_UNUSED, GError **error)
{
    if (!vm_dump_idle(opaque, error) || !vm_snapshot_idle(opaque, error))
        return NULL;
    vm_reset(opaque, false);
    return qmp_done();
}

static json_t *system_powerdown(void *opaque, json_t *args G_GNUC_UNUSED, GError **error)
{
    struct vm *vm = opaque;
    struct device *button = vm_find_chip(vm, "virtio-input");
    if (!button)
        return qmp_fail(error, QMP_ERROR_DEVICE_NOT_FOUND,
                        "this guest has no power button; use quit, or power off inside the guest");
    if (vm->state != VM_RUNNING) /* its memory must not change now */
        return qmp_fail(error, QMP_ERROR_GENERIC,
                        "a guest that stands still hears nothing; let it go on first, with cont");
    if (!virtio_input_press_power(button))
        return qmp_fail(error, QMP_ERROR_DEVICE_NOT_ACTIVE,
                        "nobody in the guest listens to the power button (Linux: virtio_input); use quit, "
                        "or power off inside the guest");
    vm_event(vm, "POWERDOWN", NULL);
    return qmp_done();
}

static json_t *quit(void *opaque, json_t *args G_GNUC_UNUSED, GError **error G_GNUC_UNUSED)
{
    vm_end(opaque, false, "host-qmp-quit", VM_EXIT_OK);
    return qmp_done();
}

/* "132x43", in characters. */
static json_t *console_resize(void *opaque, json_t *args, GError **error)
{
    struct vm *vm = opaque;
    const char *size = json_string_value(json_object_get(args, "size"));
    unsigned columns, rows;
    char behind;
    if (sscanf(size, "%5ux%5u%c", &columns, &rows, &behind) != 2 || columns > UINT16_MAX ||
        rows > UINT16_MAX) {
        hostel_fail(error, HOSTEL_ERROR_USAGE,
                    "the size '%.40s' is not COLUMNSxROWS with numbers up to 65535", size);
        return NULL;
    }
    stream_resize(vm->console, columns, rows);
    return qmp_done();
}

static json_t *query_stats(void *opaque, json_t *args G_GNUC_UNUSED, GError **error G_GNUC_UNUSED)
{
    struct vm *vm = opaque;
    return stats_json(vm->machine->vcpus);
}

static json_t *query_sandbox(void *opaque, json_t *args G_GNUC_UNUSED, GError **error G_GNUC_UNUSED)
{
    const struct sandbox *s = ((struct vm *)opaque)->sandbox;
    bool full = s->no_capabilities && s->landlock_abi && s->seccomp;
    json_t *out = json_pack("{s:s,s:b,s:b,s:b,s:i,s:b,s:b,s:i}", "state", full ? "full" : "reduced",
                            "no-new-privileges", s->no_new_privileges, "no-capabilities", s->no_capabilities,
                            "not-dumpable", s->not_dumpable, "landlock-abi", s->landlock_abi,
                            "no-new-executable-memory", s->mdwe || s->seccomp, "seccomp", s->seccomp,
                            "system-calls", (int)s->syscalls);
    if (s->missing)
        json_object_set_new(out, "seccomp-missing", json_string(s->missing));
    return out;
}

const struct qmp_command vm_commands[] = {
    {"query-status", NULL, "StatusInfo", QMP_OOB | QMP_EARLY, query_status},
    {"query-name", NULL, "NameInfo", QMP_OOB | QMP_EARLY, query_name},
    {"query-cpus-fast", NULL, "[CpuInfoFast]", QMP_OOB, query_cpus},
    {"stop", NULL, NULL, 0, stop},
    {"cont", NULL, NULL, 0, cont},
    {"system_reset", NULL, NULL, 0, system_reset},
    {"system_powerdown", NULL, NULL, 0, system_powerdown},
    {"quit", NULL, NULL, QMP_EARLY, quit},
    {"x-console-resize", "size: str", NULL, 0, console_resize},
    {"x-query-stats", NULL, "XStats", QMP_OOB, query_stats},
    {"x-query-sandbox", NULL, "XSandbox", QMP_OOB | QMP_EARLY, query_sandbox},
    {0},
};

/* Each area of the machine has a table of its own, in commands_<area>.c; vm.h declares them. */
/* clang-format off */
const struct qmp_command *const vm_command_tables[] = {
    vm_commands,
    vm_about_commands,
    vm_job_commands,
    vm_action_commands,
    vm_chardev_commands,
    vm_dump_commands,
    vm_device_commands,
    vm_memory_commands,
    vm_net_commands,
    vm_piece_commands,
    vm_qom_commands,
    vm_save_commands,
    vm_snapshot_commands,
    vm_block_commands,
    NULL,
};
/* clang-format on */
