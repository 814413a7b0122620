/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Commands of the control socket: saving the guest. */
#include <fcntl.h>

#include "base/error.h"
#include "control/fds.h"
#include "vm/nodes.h"
#include "vm/vm.h"

static json_int_t ms(uint64_t ns)
{
    return (json_int_t)(ns / 1000000);
}

static json_t *query_migrate(void *opaque, json_t *args G_GNUC_UNUSED, GError **error G_GNUC_UNUSED)
{
    struct vm_save_progress p;
    vm_save_progress(opaque, &p);
    if (p.status == SAVE_NONE)
        return json_object();
    json_t *out = json_pack("{s:s,s:I,s:I,s:{s:I,s:I,s:I,s:I,s:I}}", "status", vm_save_status_name(p.status),
                            "total-time", ms(p.total_ns), "downtime", ms(p.down_ns), "ram", "total",
                            (json_int_t)p.total, "transferred", (json_int_t)p.written, "remaining",
                            (json_int_t)(p.total > p.written ? p.total - p.written : 0), "dirty-sync-count",
                            (json_int_t)p.rounds, "page-size", (json_int_t)MEM_PAGE_SIZE);
    static const char *const none[] = {"duplicate",         "skipped",
                                       "postcopy-requests", "dirty-pages-rate",
                                       "multifd-bytes",     "pages-per-second",
                                       "precopy-bytes",     "downtime-bytes",
                                       "postcopy-bytes",    "dirty-sync-missed-zero-copy"};
    json_t *ram = json_object_get(out, "ram"); /* clients expect all of its members */
    for (unsigned i = 0; i < G_N_ELEMENTS(none); i++)
        json_object_set_new(ram, none[i], json_integer(0));
    json_object_set_new(ram, "normal", json_integer((json_int_t)(p.written / MEM_PAGE_SIZE)));
    json_object_set_new(ram, "normal-bytes", json_integer((json_int_t)p.written));
    json_object_set_new(ram, "mbps",
                        json_real(p.total_ns ? (double)p.written * 8e3 / (double)p.total_ns : 0.0));
    if (p.error)
        json_object_set_new(out, "error-desc", json_string(p.error));
    return out;
}

static json_t *migrate(void *opaque, json_t *args, GError **error)
{
    struct vm *vm = opaque;
    const char *uri = json_string_value(json_object_get(args, "uri"));
    if (json_is_true(json_object_get(args, "blk")) || json_is_true(json_object_get(args, "inc")) ||
        json_is_true(json_object_get(args, "resume")))
        return qmp_fail(error, QMP_ERROR_GENERIC, "blk, inc and resume are not offered; leave them out");
    if (!g_str_has_prefix(uri, "fd:"))
        return qmp_fail(
            error, QMP_ERROR_GENERIC,
            "'%.40s': a guest is saved to a file that was handed in: getfd, then \"uri\": \"fd:NAME\"", uri);
    struct vm_save_request request = {
        .fd = control_fd_take(qmp_request_fds(qmp_request(vm->control)), uri + strlen("fd:"), error)};
    return request.fd >= 0 && vm_save_start(vm, &request, error) ? qmp_done() : NULL;
}

static json_t *migrate_cancel(void *opaque, json_t *args G_GNUC_UNUSED, GError **error G_GNUC_UNUSED)
{
    vm_save_cancel(opaque);
    return qmp_done();
}

/* --- with an answer when it is done --- */

struct call {
    struct vm *vm;
    struct qmp_request *request;     /* held */
    json_t *disks;                   /* that are to go on in overlays; NULL = none */
    struct vm_disk_switch *switches; /* their names are those in disks */
};

static void on_saved(void *opaque, const GError *error)
{
    struct call *c = opaque;
    qmp_request_finish(c->request, error ? NULL : query_migrate(c->vm, NULL, NULL),
                       error ? g_error_copy(error) : NULL);
    c->request = NULL;
}

static bool is_wanted(void *opaque)
{
    return !qmp_request_is_orphan(((const struct call *)opaque)->request);
}

/* The guest stands and its state was taken. */
static bool switch_disks(void *opaque, GError **error)
{
    const struct call *c = opaque;
    return vm_disks_switch(c->vm->nodes, c->switches, (unsigned)json_array_size(c->disks), error);
}

static void take_disks(struct call *c, json_t *disks)
{
    size_t i;
    json_t *row;
    c->disks = json_incref(disks);
    c->switches = g_new(struct vm_disk_switch, json_array_size(disks));
    json_array_foreach(disks, i, row)
    {
        c->switches[i] =
            (struct vm_disk_switch){.disk = json_string_value(json_object_get(row, "disk")),
                                    .overlay = json_string_value(json_object_get(row, "overlay"))};
    }
}

static void drop_call(void *opaque)
{
    struct call *c = opaque;
    if (c->request)
        qmp_request_finish(
            c->request, NULL,
            g_error_new_literal(HOSTEL_ERROR, HOSTEL_ERROR_HOST, "the guest ended before it was saved"));
    json_decref(c->disks);
    g_free(c->switches);
    g_free(c);
}

static json_t *x_save(void *opaque, json_t *args, GError **error)
{
    struct vm *vm = opaque;
    struct control_fds *fds = qmp_request_fds(qmp_request(vm->control));
    struct vm_save_request request = {
        .fd = control_fd_take(fds, json_string_value(json_object_get(args, "fdname")), error),
        .run_on = json_is_true(json_object_get(args, "run-on")),
        .fast = json_is_true(json_object_get(args, "fast")),
        .about = g_strdup(json_string_value(json_object_get(args, "about"))),
    };
    if (request.fd < 0 || !vm_save_can(vm, error)) {
        vm_save_request_fini(&request);
        return NULL;
    }
    struct call *c = g_new(struct call, 1);
    *c = (struct call){.vm = vm, .request = qmp_request_hold(vm->control)};
    request.wanted = is_wanted;
    request.done = on_saved;
    request.drop = drop_call;
    request.opaque = c;
    if (json_object_get(args, "disks")) {
        take_disks(c, json_object_get(args, "disks"));
        request.stopped = switch_disks;
    }
    vm_save_start(vm, &request, NULL);
    return NULL;
}

const struct qmp_command vm_save_commands[] = {
    {"migrate", "uri: str, ?blk: bool, ?inc: bool, ?detach: bool, ?resume: bool", NULL, 0, migrate},
    {"migrate_cancel", NULL, NULL, QMP_OOB, migrate_cancel},
    {"query-migrate", NULL, "MigrationInfo", QMP_OOB, query_migrate},
    {"x-save", "fdname: str, ?about: str, ?run-on: bool, ?fast: bool, ?disks: [XDiskSwitch]", "MigrationInfo",
     0, x_save},
    {0},
};
