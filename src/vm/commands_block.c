/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Commands of the control socket: the guest's disks. */
#include <fcntl.h>
#include <string.h>

#include "base/error.h"
#include "vm/node_jobs.h"
#include "vm/nodes_int.h"
#include "vm/vm.h"

static struct vm_nodes *nodes_of(void *opaque)
{
    return ((struct vm *)opaque)->nodes;
}

static const char *text(json_t *args, const char *name)
{
    return json_string_value(json_object_get(args, name));
}

static uint64_t number(json_t *args, const char *name)
{
    return (uint64_t)json_integer_value(json_object_get(args, name));
}

static json_t *answer(bool ok)
{
    return ok ? qmp_done() : NULL;
}

/* --- asking --- */

static json_t *query_block(void *opaque, json_t *args G_GNUC_UNUSED, GError **error G_GNUC_UNUSED)
{
    return vm_nodes_query_block(nodes_of(opaque));
}

static json_t *query_blockstats(void *opaque, json_t *args G_GNUC_UNUSED, GError **error G_GNUC_UNUSED)
{
    return vm_nodes_query_stats(nodes_of(opaque));
}

static json_t *query_named(void *opaque, json_t *args, GError **error G_GNUC_UNUSED)
{
    return vm_nodes_query_named(nodes_of(opaque), json_is_true(json_object_get(args, "flat")));
}

/* --- nodes --- */

static json_t *blockdev_add(void *opaque, json_t *args, GError **error)
{
    struct vm *vm = opaque;
    return answer(vm_node_add(vm->nodes, qmp_request_fds(qmp_request(vm->control)), args, error));
}

static json_t *blockdev_del(void *opaque, json_t *args, GError **error)
{
    return answer(vm_node_delete(nodes_of(opaque), text(args, "node-name"), error));
}

/* --- overlays --- */

static json_t *blockdev_snapshot(void *opaque, json_t *args, GError **error)
{
    const struct vm_disk_switch s = {.disk = text(args, "node"), .overlay = text(args, "overlay")};
    return answer(vm_disks_switch(nodes_of(opaque), &s, 1, error));
}

static json_t *transaction(void *opaque, json_t *args, GError **error)
{
    json_t *actions = json_object_get(args, "actions");
    const size_t count = json_array_size(actions);
    if (count > VM_NODES_MAX)
        return qmp_fail(error, QMP_ERROR_GENERIC, "%zu actions, at most %d are possible", count,
                        VM_NODES_MAX);
    g_autofree struct vm_disk_switch *s = g_new0(struct vm_disk_switch, count + 1);
    for (size_t i = 0; i < count; i++) {
        json_t *action = json_array_get(actions, i);
        if (!strcmp(text(action, "type"), "abort"))
            return qmp_fail(error, QMP_ERROR_GENERIC,
                            "the transaction was to be aborted, and changed nothing");
        json_t *data = json_object_get(action, "data");
        s[i] = (struct vm_disk_switch){.disk = text(data, "node"), .overlay = text(data, "overlay")};
    }
    return answer(vm_disks_switch(nodes_of(opaque), s, (unsigned)count, error));
}

/* --- size and speed --- */

/* Named by device or node-name, of which exactly one is given. */
static const char *which(json_t *args, const char *a, const char *b, GError **error)
{
    const char *first = text(args, a), *second = text(args, b);
    if (!first == !second)
        hostel_fail(error, HOSTEL_ERROR_USAGE, "give either %s or %s", a, b);
    return !first == !second ? NULL : first ? first : second;
}

static json_t *block_resize_now(void *opaque, json_t *args, GError **error)
{
    const char *id = which(args, "device", "node-name", error);
    return answer(id && vm_node_resize(nodes_of(opaque), id, number(args, "size"), error));
}

static bool take_limit(json_t *args, const char *name, struct block_limit *l, GError **error)
{
    g_autofree char *most = g_strdup_printf("%s_max", name);
    g_autofree char *length = g_strdup_printf("%s_max_length", name);
    l->rate = number(args, name);
    l->burst = number(args, most);
    l->burst_seconds = json_object_get(args, length) ? number(args, length) : 1;
    if (l->burst && l->burst < l->rate)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "%s: is less than %s; make it at least as much", most,
                           name);
    if ((l->burst && !l->rate) || !l->burst_seconds || (l->burst_seconds > 1 && !l->burst))
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "%s: without %s; give both", l->rate ? length : most,
                           l->rate ? most : name);
    return true;
}

static json_t *set_io_throttle(void *opaque, json_t *args, GError **error)
{
    static const char *const bytes[] = {"bps", "bps_rd", "bps_wr"},
                             *operations[] = {"iops", "iops_rd", "iops_wr"};
    const char *id = which(args, "device", "id", error);
    struct vm_device *d = id ? vm_device_find(nodes_of(opaque), id, error) : NULL;
    struct block_throttle t = {.operation_bytes = number(args, "iops_size")};
    if (!d)
        return NULL;
    for (unsigned i = 0; i < BLOCK_THROTTLES; i++)
        if (!take_limit(args, bytes[i], &t.bytes[i], error) ||
            !take_limit(args, operations[i], &t.operations[i], error))
            return NULL;
    if ((t.bytes[0].rate && (t.bytes[1].rate || t.bytes[2].rate)) ||
        (t.operations[0].rate && (t.operations[1].rate || t.operations[2].rate)))
        return qmp_fail(error, QMP_ERROR_GENERIC,
                        "a limit of all and one of reading or writing cannot both be set; leave one at 0");
    block_root_throttle(d->root, &t);
    return qmp_done();
}

/* --- merging --- */

/* Begins a merge of either kind. */
static json_t *begin_merge(struct vm *vm, json_t *args,
                           bool (*begin)(struct vm_nodes *n, struct jobs *jobs,
                                         const struct vm_merge_request *r, GError **error),
                           GError **error)
{
    const char *file = text(args, "x-file");
    const struct vm_merge_request r = {
        .id = text(args, "job-id"),
        .device = text(args, "device"),
        .top = text(args, "top-node"),
        .base = text(args, "base-node"),
        .backing_file = text(args, "backing-file"),
        .fd = file ? control_fd_open(qmp_request_fds(qmp_request(vm->control)), file, O_RDWR, error) : -1,
        .speed = number(args, "speed"),
        .keep = json_is_false(json_object_get(args, "auto-dismiss")),
    };
    return answer((!file || r.fd >= 0) && begin(vm->nodes, vm->jobs, &r, error));
}

static json_t *block_commit(void *opaque, json_t *args, GError **error)
{
    return begin_merge(opaque, args, vm_node_commit, error);
}

static json_t *block_stream(void *opaque, json_t *args, GError **error)
{
    return begin_merge(opaque, args, vm_node_stream, error);
}

static json_t *query_block_jobs(void *opaque, json_t *args G_GNUC_UNUSED, GError **error G_GNUC_UNUSED)
{
    struct vm *vm = opaque;
    return vm_node_jobs_json(vm->nodes, vm->jobs);
}

static json_t *set_speed(void *opaque, json_t *args, GError **error)
{
    return answer(vm_node_job_speed(nodes_of(opaque), text(args, "device"), number(args, "speed"), error));
}

static json_t *with_job(void *opaque, json_t *args, bool (*what)(struct job *job, GError **error),
                        GError **error)
{
    struct job *job = jobs_find(((struct vm *)opaque)->jobs, text(args, "device"), NULL);
    if (!job)
        return qmp_fail(error, QMP_ERROR_DEVICE_NOT_ACTIVE,
                        "there is no job '%s'; query-block-jobs lists them", text(args, "device"));
    return answer(what(job, error));
}

static json_t *cancel_job(void *opaque, json_t *args, GError **error)
{
    return with_job(opaque, args, job_cancel, error);
}

static json_t *complete_job(void *opaque, json_t *args, GError **error)
{
    return with_job(opaque, args, job_complete, error);
}

static json_t *pause_job(void *opaque, json_t *args, GError **error)
{
    return with_job(opaque, args, job_pause, error);
}

static json_t *resume_job(void *opaque, json_t *args, GError **error)
{
    return with_job(opaque, args, job_resume, error);
}

#define LIMIT_ARGS(name) ", ?" name "_max: uint64, ?" name "_max_length: uint64"

const struct qmp_command vm_block_commands[] = {
    {"query-block", NULL, "[BlockInfo]", 0, query_block},
    {"query-blockstats", "?query-nodes: bool", "[BlockStats]", 0, query_blockstats},
    {"query-named-block-nodes", "?flat: bool", "[BlockDeviceInfo]", 0, query_named},
    {"blockdev-add", "BlockdevOptions", NULL, 0, blockdev_add},
    {"blockdev-del", "node-name: str", NULL, 0, blockdev_del},
    {"blockdev-snapshot", "BlockdevSnapshot", NULL, 0, blockdev_snapshot},
    {"transaction", "actions: [TransactionAction]", NULL, 0, transaction},
    {"block-commit",
     "?job-id: str, device: str, ?top-node: str, ?base-node: str, ?backing-file: str, ?x-file: str, "
     "?speed: uint64, ?auto-dismiss: bool",
     NULL, 0, block_commit},
    {"block-stream",
     "?job-id: str, device: str, ?base-node: str, ?backing-file: str, ?x-file: str, ?speed: uint64, "
     "?auto-dismiss: bool",
     NULL, 0, block_stream},
    {"query-block-jobs", NULL, "[BlockJobInfo]", 0, query_block_jobs},
    {"block-job-set-speed", "device: str, speed: uint64", NULL, 0, set_speed},
    {"block-job-cancel", "device: str, ?force: bool", NULL, 0, cancel_job},
    {"block-job-complete", "device: str", NULL, 0, complete_job},
    {"block-job-pause", "device: str", NULL, 0, pause_job},
    {"block-job-resume", "device: str", NULL, 0, resume_job},
    {"block_resize", "?device: str, ?node-name: str, size: size", NULL, 0, block_resize_now},
    {"block_set_io_throttle",
     "?device: str, ?id: str, bps: uint64, bps_rd: uint64, bps_wr: uint64, iops: uint64, iops_rd: uint64, "
     "iops_wr: uint64" LIMIT_ARGS("bps") LIMIT_ARGS("bps_rd") LIMIT_ARGS("bps_wr") LIMIT_ARGS("iops")
         LIMIT_ARGS("iops_rd") LIMIT_ARGS("iops_wr") ", ?iops_size: uint64",
     NULL, 0, set_io_throttle},
    {0},
};
