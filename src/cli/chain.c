/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Which of a guest's layers its process has open, and in which order. */
#include "cli/chain.h"

#include <stdint.h>

#include "base/error.h"
#include "cli/devices.h"
#include "cli/layers.h"

static const char *text(const json_t *object, const char *name)
{
    return json_string_value(json_object_get(object, name));
}

void chain_fini(struct chain *c)
{
    json_decref(c->nodes);
    if (c->names)
        g_ptr_array_unref(c->names);
    if (c->files)
        g_ptr_array_unref(c->files);
}

static const json_t *find_node(const struct chain *c, const char *name)
{
    json_t *node;
    size_t i;
    json_array_foreach(c->nodes, i, node)
    {
        if (!g_strcmp0(text(node, "node-name"), name))
            return node;
    }
    return NULL;
}

static const char *backing_of(const json_t *node)
{
    json_t *child;
    size_t i;
    json_array_foreach(json_object_get(node, "children"), i, child)
    {
        if (!g_strcmp0(text(child, "child"), "backing"))
            return text(child, "node-name");
    }
    return NULL;
}

/* The name of the file that it was opened from, without its folder; owned. */
static char *place_name(const json_t *node)
{
    const char *place = text(node, "file");
    return place && *place ? g_path_get_basename(place) : NULL;
}

/* A layer's node is called like its file, or was opened from it when the guest was started. */
static const char *file_of(const json_t *node, const json_t *layers, size_t disk)
{
    const json_t *list = json_array_get(json_object_get(layers, "disks"), disk);
    g_autofree char *place = place_name(node);
    json_t *file;
    size_t i;
    json_array_foreach(list, i, file)
    {
        const char *name = json_string_value(file);
        if (!g_strcmp0(text(node, "node-name"), name) || !g_strcmp0(place, name))
            return name;
    }
    return NULL;
}

/* The chain that begins at a node. Does it have a layer of the disk? */
static bool follow(struct chain *c, const char *top, const json_t *layers, size_t disk)
{
    enum { DEPTH_MAX = 64 };
    bool found = false;
    g_ptr_array_set_size(c->names, 0);
    g_ptr_array_set_size(c->files, 0);
    for (const json_t *node; c->names->len < DEPTH_MAX && (node = find_node(c, top));
         top = backing_of(node)) {
        const char *file = file_of(node, layers, disk);
        g_ptr_array_add(c->names, (gpointer)(uintptr_t)text(node, "node-name"));
        g_ptr_array_add(c->files, (gpointer)(uintptr_t)file);
        found |= file != NULL;
    }
    return found;
}

/* What the disk is called in the guest; owned, NULL = the guest does not have it. */
static char *device_of(const struct named *guest, const json_t *layers, size_t disk)
{
    g_autofree char *image = layers_image(guest, layers, disk);
    g_autoptr(GPtrArray) devices = devices_of(guest);
    for (guint i = 0; image && i < devices->len; i++) {
        const struct device_row *row = devices->pdata[i];
        if (!row->net && !g_strcmp0(row->what, image))
            return g_strdup(row->id);
    }
    return NULL;
}

bool chain_find(const struct named *guest, struct guest_call *call, const json_t *layers, size_t disk,
                struct chain *c, GError **error)
{
    json_t *devices = guest_call(call, "query-block", NULL, error), *device;
    g_autofree char *id = device_of(guest, layers, disk);
    const char *own = NULL;
    bool found = false;
    size_t i;
    c->nodes = devices ? guest_call(call, "query-named-block-nodes", NULL, error) : NULL;
    c->names = g_ptr_array_new();
    c->files = g_ptr_array_new();
    json_array_foreach(devices, i, device)
    {
        const char *top = text(json_object_get(device, "inserted"), "node-name");
        found = found || (top && follow(c, top, layers, disk));
        if (id && !g_strcmp0(text(device, "device"), id))
            own = top;
    }
    if (c->nodes && !found)
        follow(c, own, layers, disk);
    json_decref(devices);
    return c->nodes;
}

guint chain_layer(const struct chain *c, const char *file)
{
    guint i = 0;
    while (i < c->files->len && g_strcmp0(c->files->pdata[i], file) != 0)
        i++;
    return i;
}

char *chain_place(const struct chain *c, guint i)
{
    return place_name(find_node(c, c->names->pdata[i]));
}

/* --- trimming --- */

/* Takes a node away that the guest does not write to. False: it is in use. */
static bool drop(const struct chain *c, struct guest_call *call, const char *file, GError **error)
{
    return !find_node(c, file) ||
           guest_call_do(call, "blockdev-del", json_pack("{s:s}", "node-name", file), error);
}

/* Is the topmost a layer, or, when no layer is left, the image? Another client may have brought others. */
static bool is_ours(const struct named *guest, const json_t *layers, size_t disk, const struct chain *c)
{
    for (guint i = 0; i < c->files->len; i++)
        if (c->files->pdata[i])
            return i == 0;
    g_autofree char *image = layers_image(guest, layers, disk);
    g_autofree char *name = image ? g_path_get_basename(image) : NULL, *place = chain_place(c, 0);
    return name && !g_strcmp0(name, place);
}

static bool trim(const struct named *guest, struct guest_call *call, json_t *layers, size_t disk,
                 GError **error)
{
    json_t *list = json_array_get(json_object_get(layers, "disks"), disk);
    AUTO_CHAIN c = {0};
    if (!chain_find(guest, call, layers, disk, &c, error))
        return false;
    if (!c.files->len || !json_array_size(list))
        return true;
    if (!is_ours(guest, layers, disk, &c))
        return hostel_fail(error, HOSTEL_ERROR_HOST,
                           "guest '%s': its process has other images under disk %zu than it should; stop and "
                           "start the guest first",
                           guest->name, disk + 1);
    for (size_t n; (n = json_array_size(list)) > 0; json_array_remove(list, n - 1)) {
        const char *file = json_string_value(json_array_get(list, n - 1));
        if (file == c.files->pdata[0])
            break;
        if (!drop(&c, call, file, error))
            return false;
    }
    return true;
}

bool chain_trim(const struct named *guest, struct guest_call *call, json_t *layers, GError **error)
{
    bool good = devices_agree(guest, call, error);
    for (size_t i = 0; good && i < json_array_size(json_object_get(layers, "disks")); i++)
        good = trim(guest, call, layers, i, error);
    return good;
}
