/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Images that a running guest's process is given. */
#include "cli/guest_node.h"

bool guest_node_add(struct guest_call *call, json_t *node, int fd, GError **error)
{
    json_t *set = guest_call_fds(call, "add-fd", NULL, &fd, 1, NULL, NULL, error);
    if (!set) {
        json_decref(node);
        return false;
    }
    const json_int_t id = json_integer_value(json_object_get(set, "fdset-id"));
    json_decref(set);
    g_autofree char *name = g_strdup_printf("/dev/fdset/%" JSON_INTEGER_FORMAT, id);
    json_object_set_new(node, "file", json_pack("{s:s,s:s}", "driver", "file", "filename", name));
    const bool added = guest_call_do(call, "blockdev-add", node, error);
    guest_call_do(call, "remove-fd", json_pack("{s:I}", "fdset-id", id), NULL);
    return added;
}
