/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Commands of the control socket: character devices, and where the console leads. */
#include <string.h>

#include "base/error.h"
#include "console/ringbuf.h"
#include "vm/chardevs.h"
#include "vm/vm.h"

/* What one answer carries: even if each byte becomes six characters of JSON, a client has room for it. */
enum { READ_MAX = 64 * 1024 };

static const char *text(json_t *args, const char *name)
{
    return json_string_value(json_object_get(args, name));
}

static json_t *query_chardev(void *opaque, json_t *args G_GNUC_UNUSED, GError **error G_GNUC_UNUSED)
{
    const struct vm *vm = opaque;
    json_t *list = json_array();
    for (unsigned i = 0; i < vm->chardevs->len; i++) {
        const struct vm_chardev *c = vm->chardevs->pdata[i];
        json_array_append_new(list, json_pack("{s:s,s:s,s:b}", "label", c->id, "filename", c->kind,
                                              "frontend-open", c->in_use));
    }
    return list;
}

static json_t *query_backends(void *opaque G_GNUC_UNUSED, json_t *args G_GNUC_UNUSED,
                              GError **error G_GNUC_UNUSED)
{
    return vm_chardev_kinds();
}

/* --- they come, change and go --- */

static bool open_backend(struct vm *vm, json_t *args, struct stream_end *end, const char **kind,
                         GError **error)
{
    struct control_fds *fds = qmp_request_fds(qmp_request(vm->control));
    return vm_chardev_open(fds, json_object_get(args, "backend"), end, kind, error);
}

static json_t *chardev_add(void *opaque, json_t *args, GError **error)
{
    struct stream_end end;
    const char *kind;
    if (!vm_chardev_may_add(opaque, text(args, "id"), error) ||
        !open_backend(opaque, args, &end, &kind, error))
        return NULL;
    vm_chardev_add(opaque, text(args, "id"), kind, &end);
    return qmp_done();
}

static json_t *chardev_change(void *opaque, json_t *args, GError **error)
{
    struct stream_end end;
    const char *kind;
    struct vm_chardev *c = vm_chardev_find(opaque, text(args, "id"), error);
    if (!c || !open_backend(opaque, args, &end, &kind, error))
        return NULL;
    stream_exchange(c->stream, &end);
    c->kind = kind;
    return qmp_done();
}

static json_t *chardev_remove(void *opaque, json_t *args, GError **error)
{
    return vm_chardev_remove(opaque, text(args, "id"), error) ? qmp_done() : NULL;
}

static json_t *send_break(void *opaque, json_t *args, GError **error)
{
    struct vm_chardev *c = vm_chardev_find(opaque, text(args, "id"), error);
    if (!c)
        return NULL;
    stream_break(c->stream);
    return qmp_done();
}

/* --- what ring buffers have kept --- */

static struct vm_chardev *find_memory(struct vm *vm, json_t *args, GError **error)
{
    struct vm_chardev *c = vm_chardev_find(vm, text(args, "device"), error);
    if (!c || !strcmp(c->kind, "ringbuf") || !strcmp(c->kind, "memory"))
        return c;
    hostel_fail(error, HOSTEL_ERROR_USAGE, "'%.40s' is no ringbuf: its backend is %s", c->id, c->kind);
    return NULL;
}

static bool wants_base64(json_t *args)
{
    const char *format = text(args, "format");
    return format && !strcmp(format, "base64");
}

static json_t *ringbuf_read_out(void *opaque, json_t *args, GError **error)
{
    struct vm_chardev *c = find_memory(opaque, args, error);
    if (!c)
        return NULL;
    json_int_t size = json_integer_value(json_object_get(args, "size"));
    if (size < 1) {
        hostel_fail(error, HOSTEL_ERROR_USAGE, "size is %" JSON_INTEGER_FORMAT "; it must be 1 or more",
                    size);
        return NULL;
    }
    bool base64 = wants_base64(args);
    g_autofree uint8_t *bytes = g_malloc(READ_MAX);
    size_t n = stream_recall(c->stream, bytes, (size_t)MIN(size, READ_MAX), !base64);
    g_autofree char *out =
        base64 ? g_base64_encode(bytes, n) : g_utf8_make_valid((const char *)bytes, (gssize)n);
    return json_string(out);
}

/* GLib's decoder skips what is no base64; QMP's does not. */
static bool is_base64(const char *data)
{
    size_t size = strlen(data), end = size;
    while (end && size - end < 2 && data[end - 1] == '=')
        end--;
    for (size_t i = 0; i < end; i++)
        if (!g_ascii_isalnum(data[i]) && data[i] != '+' && data[i] != '/')
            return false;
    return size % 4 == 0;
}

static json_t *ringbuf_write_in(void *opaque, json_t *args, GError **error)
{
    const char *data = text(args, "data");
    struct vm_chardev *c = find_memory(opaque, args, error);
    if (!c)
        return NULL;
    if (!wants_base64(args)) {
        stream_write(c->stream, data, strlen(data));
        return qmp_done();
    }
    if (!is_base64(data)) {
        hostel_fail(error, HOSTEL_ERROR_USAGE, "data is not in base64");
        return NULL;
    }
    size_t size;
    g_autofree guchar *bytes = g_base64_decode(data, &size);
    stream_write(c->stream, bytes, size);
    return qmp_done();
}

const struct qmp_command vm_chardev_commands[] = {
    {"query-chardev", NULL, "[ChardevInfo]", QMP_OOB | QMP_EARLY, query_chardev},
    {"query-chardev-backends", NULL, "[ChardevBackendInfo]", QMP_OOB | QMP_EARLY, query_backends},
    {"chardev-add", "id: str, backend: ChardevBackend", "ChardevReturn", 0, chardev_add},
    {"chardev-change", "id: str, backend: ChardevBackend", "ChardevReturn", 0, chardev_change},
    {"chardev-remove", "id: str", NULL, 0, chardev_remove},
    {"chardev-send-break", "id: str", NULL, 0, send_break},
    {"ringbuf-read", "device: str, size: int, ?format: DataFormat", "str", 0, ringbuf_read_out},
    {"ringbuf-write", "device: str, data: str, ?format: DataFormat", NULL, 0, ringbuf_write_in},
    {0},
};
