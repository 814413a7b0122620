/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Commands that write a guest's memory to a file for debuggers. */
#include <fcntl.h>
#include <string.h>

#include "base/error.h"
#include "control/fds.h"
#include "vm/dump.h"
#include "vm/vm.h"

json_t *vm_dump_json(const struct vm *vm)
{
    static const char *const names[] = {[DUMP_NONE] = "none",
                                        [DUMP_ACTIVE] = "active",
                                        [DUMP_COMPLETED] = "completed",
                                        [DUMP_FAILED] = "failed"};
    struct vm_dump_progress p;
    vm_dump_progress(vm, &p);
    return json_pack("{s:s,s:I,s:I}", "status", names[p.status], "completed", (json_int_t)p.completed,
                     "total", (json_int_t)p.total);
}

/* A client that waits for the end. */
struct call {
    struct qmp_request *request; /* held */
};

static void on_done(void *opaque, const GError *error)
{
    struct call *c = opaque;
    qmp_request_finish(c->request, error ? NULL : qmp_done(), error ? g_error_copy(error) : NULL);
    c->request = NULL;
}

static void drop_call(void *opaque)
{
    struct call *c = opaque;
    if (c->request)
        qmp_request_finish(c->request, NULL,
                           g_error_new_literal(HOSTEL_ERROR, HOSTEL_ERROR_HOST,
                                               "the guest ended before its memory was dumped"));
    g_free(c);
}

/* Which part is wanted. False with *error. */
static bool take_part(json_t *args, struct vm_dump_request *r, GError **error)
{
    const json_t *begin = json_object_get(args, "begin"), *length = json_object_get(args, "length");
    if (!begin && !length)
        return true;
    const json_int_t first = json_integer_value(begin), bytes = json_integer_value(length);
    if (!begin || !length || first < 0 || bytes <= 0)
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "begin and length: give both, an address and how many bytes, or neither");
    r->part = true;
    r->begin = (uint64_t)first;
    r->bytes = (uint64_t)bytes; /* both are less than 2^63 */
    return true;
}

static json_t *dump_guest_memory(void *opaque, json_t *args, GError **error)
{
    struct vm *vm = opaque;
    struct vm_dump_request r = {.fd = -1};
    const char *protocol = json_string_value(json_object_get(args, "protocol"));
    const char *path = g_str_has_prefix(protocol, "file:") ? protocol + strlen("file:") : protocol;
    if (json_is_true(json_object_get(args, "paging")))
        return qmp_fail(error, QMP_ERROR_GENERIC,
                        "paging: memory is dumped by physical addresses only; give false");
    if (!take_part(args, &r, error))
        return NULL;
    r.fd = control_fd_open(qmp_request_fds(qmp_request(vm->control)), path, O_WRONLY, error);
    if (r.fd < 0)
        return NULL;
    struct call *c = NULL;
    if (!json_is_true(json_object_get(args, "detach"))) {
        c = g_new0(struct call, 1);
        r.done = on_done;
        r.drop = drop_call;
        r.opaque = c;
    }
    if (!vm_dump_start(vm, &r, error)) {
        g_free(c);
        return NULL;
    }
    if (!c)
        return qmp_done();
    c->request = qmp_request_hold(vm->control);
    return NULL;
}

static json_t *query_dump(void *opaque, json_t *args G_GNUC_UNUSED, GError **error G_GNUC_UNUSED)
{
    return vm_dump_json(opaque);
}

static json_t *query_capability(void *opaque G_GNUC_UNUSED, json_t *args G_GNUC_UNUSED,
                                GError **error G_GNUC_UNUSED)
{
    return json_pack("{s:[s]}", "formats", "elf");
}

const struct qmp_command vm_dump_commands[] = {
    {"dump-guest-memory",
     "paging: bool, protocol: str, ?detach: bool, ?begin: int, ?length: int, ?format: DumpGuestMemoryFormat",
     NULL, 0, dump_guest_memory},
    {"query-dump", NULL, "DumpQueryResult", QMP_OOB, query_dump},
    {"query-dump-guest-memory-capability", NULL, "DumpGuestMemoryCapability", QMP_OOB, query_capability},
    {0},
};
