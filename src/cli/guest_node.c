/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Images that a running guest's process is given. */
#include "cli/guest_node.h"

/* By a name that is used up, not by a set: when we are killed, nothing holds the file, and its lock, but the
 * node. */
bool guest_node_add(struct guest_call *call, json_t *node, int fd, GError **error)
{
    if (!guest_call_give(call, "node", fd, error)) {
        json_decref(node);
        return false;
    }
    json_object_set_new(node, "file", json_pack("{s:s,s:s}", "driver", "file", "filename", "fd:node"));
    if (guest_call_do(call, "blockdev-add", node, error))
        return true;
    guest_call_do(call, "closefd", json_pack("{s:s}", "fdname", "node"), NULL);
    return false;
}
