/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Disks and network cards into a guest that runs, and out of it. */
/*
 * What a disk or a card lies on is made first, with names made from the device's: the nodes "ID-image" and
 * "ID-base1", as those have that are there from the start, and the network back end "ID". So whoever takes
 * the device out later knows what there is to be taken away behind it.
 */
#include "cli/plug_live.h"

#include <string.h>

#include "base/error.h"
#include "cli/guest_node.h"
#include "cli/launch_disk.h"
#include "cli/launch_net.h"

enum { MTU_USER = 65520 };

/* --- in: disks --- */

static char *node_name(const char *id, const char *what)
{
    return g_strdup_printf("%s-%s", id, what);
}

static void delete_node(struct guest_call *call, const char *name)
{
    guest_call_do(call, "blockdev-del", json_pack("{s:s}", "node-name", name), NULL);
}

static bool add_nodes(struct guest_call *call, const struct disk_options *o, const char *image,
                      const char *base, GError **error)
{
    if (o->base.name &&
        !guest_node_add(
            call, json_pack("{s:s,s:s,s:b}", "driver", o->base_format, "node-name", base, "read-only", 1),
            o->base.fd, error))
        return false;
    json_t *node =
        json_pack("{s:s,s:s,s:b}", "driver", o->format, "node-name", image, "read-only", (int)o->readonly);
    if (o->base.name)
        json_object_set_new(node, "backing", json_string(base));
    if (guest_node_add(call, node, o->file.fd, error))
        return true;
    if (o->base.name)
        delete_node(call, base);
    return false;
}

static void remove_device(struct guest_call *call, const char *id)
{
    guest_call_do(call, "device_del", json_pack("{s:s}", "id", id), NULL);
}

static void set_text(json_t *out, const char *key, const char *value)
{
    if (value)
        json_object_set_new(out, key, json_string(value));
}

static json_t *device(const char *driver, const char *id, unsigned port)
{
    g_autofree char *bus = g_strdup_printf("port%u", port);
    return json_pack("{s:s,s:s,s:s}", "driver", driver, "id", id, "bus", bus);
}

static bool add_disk(struct guest_call *call, const struct disk_options *o, const char *image, GError **error)
{
    json_t *arguments = device("virtio-blk-pci", o->id, o->port);
    set_text(arguments, "drive", image);
    set_text(arguments, "serial", o->serial);
    set_text(arguments, "werror", o->werror);
    set_text(arguments, "rerror", o->rerror);
    return guest_call_do(call, "device_add", arguments, error);
}

static bool limit_disk(struct guest_call *call, const struct disk_options *o, GError **error)
{
    if (!(o->bps | o->bps_read | o->bps_write | o->iops | o->iops_read | o->iops_write))
        return true;
    return guest_call_do(call, "block_set_io_throttle",
                         json_pack("{s:s,s:I,s:I,s:I,s:I,s:I,s:I}", "id", o->id, "bps", (json_int_t)o->bps,
                                   "bps_rd", (json_int_t)o->bps_read, "bps_wr", (json_int_t)o->bps_write,
                                   "iops", (json_int_t)o->iops, "iops_rd", (json_int_t)o->iops_read,
                                   "iops_wr", (json_int_t)o->iops_write),
                         error);
}

bool plug_disk(struct guest_call *call, struct guest_options *options, GError **error)
{
    const struct disk_options *o = options->disks.items;
    const char *never = strcmp(o->follow, "off") != 0 ? "follow" : o->key.name ? "key" : NULL;
    g_autofree char *image = node_name(o->id, "image"), *base = node_name(o->id, "base1");
    if (never)
        return hostel_fail(error, HOSTEL_ERROR_UNSUPPORTED,
                           "--disk %s=: not for a guest that runs%s; stop it first", never,
                           *never == 'f' ? ", where base= may name what the image lies over" : "");
    plug_drop_disk(call, o->id, NULL); /* of one who was killed at it; in vain while there is such a disk */
    if (!launch_disk(options, 0, error) || !add_nodes(call, o, image, base, error))
        return false;
    const bool added = add_disk(call, o, image, error);
    if (added && limit_disk(call, o, error))
        return true;
    if (added)
        remove_device(call, o->id);
    plug_drop_disk(call, o->id, NULL);
    return false;
}

/* --- in: cards --- */

static bool add_back_end(struct guest_call *call, const struct net_options *n, GError **error)
{
    const char *key = !strcmp(n->backend, "tap") ? "fd" : "x-fd";
    return guest_call_give(call, n->id, n->link.fd, error) &&
           guest_call_do(call, "netdev_add",
                         json_pack("{s:s,s:s,s:s}", "type", n->backend, "id", n->id, key, n->id), error);
}

static bool add_card(struct guest_call *call, const struct net_options *n, GError **error)
{
    json_t *arguments = device("virtio-net-pci", n->id, n->port);
    /* As it would be in a guest that is started with it. */
    const unsigned mtu = n->mtu || strcmp(n->backend, "user") != 0 ? n->mtu : MTU_USER;
    set_text(arguments, "netdev", n->id);
    set_text(arguments, "mac", n->mac);
    if (mtu)
        json_object_set_new(arguments, "host_mtu", json_integer((json_int_t)mtu));
    return guest_call_do(call, "device_add", arguments, error);
}

static bool limit_card(struct guest_call *call, const struct net_options *n, GError **error)
{
    return !(n->rate_in | n->rate_out) ||
           guest_call_do(call, "x-net-set-rate",
                         json_pack("{s:s,s:I,s:I}", "id", n->id, "rx-bits", (json_int_t)n->rate_in, "tx-bits",
                                   (json_int_t)n->rate_out),
                         error);
}

bool plug_net(struct guest_call *call, struct guest_options *options, int log, GError **error)
{
    struct net_options *n = options->nets.items;
    pid_t helper;
    /* A helper ends when nobody has the other end of its link any more. */
    plug_drop_net(call, n->id); /* as with disks */
    if (!launch_network(n, log, true, &helper, error) || !add_back_end(call, n, error))
        return false;
    const bool added = add_card(call, n, error);
    if (added && limit_card(call, n, error))
        return true;
    if (added)
        remove_device(call, n->id);
    plug_drop_net(call, n->id);
    return false;
}

/* --- ports --- */

/* Calls look for each root port, with what is in it (NULL = nothing), until it returns true; which port that
 * was, 0 = none, -1 with *error. */
static int each_port(struct guest_call *call, bool (*look)(json_t *port, json_t *in, void *opaque),
                     void *opaque, GError **error)
{
    json_t *buses = guest_call(call, "query-pci", NULL, error), *port;
    if (!buses)
        return -1;
    int number = 0;
    size_t i;
    json_array_foreach(json_object_get(json_array_get(buses, 0), "devices"), i, port)
    {
        const char *name = json_string_value(json_object_get(port, "qdev_id"));
        json_t *in = json_array_get(json_object_get(json_object_get(port, "pci_bridge"), "devices"), 0);
        if (name && g_str_has_prefix(name, "port") && look(port, in, opaque)) {
            number = (int)g_ascii_strtoull(name + strlen("port"), NULL, 10);
            break;
        }
    }
    json_decref(buses);
    return number;
}

/* Counts the ports in *opaque. */
static bool is_empty(json_t *port G_GNUC_UNUSED, json_t *in, void *opaque)
{
    ++*(unsigned *)opaque;
    return !in;
}

unsigned plug_find_port(struct guest_call *call, const char *name, GError **error)
{
    unsigned ports = 0;
    const int number = each_port(call, is_empty, &ports, error);
    if (!number && !ports)
        hostel_fail(
            error, HOSTEL_ERROR_USAGE,
            "guest '%s' has no ports to put devices into; 'hostel set %s hotplug=4' gives it some from "
            "its next start on",
            name, name);
    else if (!number)
        hostel_fail(error, HOSTEL_ERROR_USAGE,
                    "guest '%s' has a device in each of its %u ports; 'hostel unplug' makes room", name,
                    ports);
    return number > 0 ? (unsigned)number : 0;
}

/* --- out --- */

static bool is_listed(struct guest_call *call, const char *command, const char *key, const char *id)
{
    json_t *list = guest_call(call, command, NULL, NULL), *item;
    bool found = false;
    size_t i;
    json_array_foreach(list, i, item)
    {
        found |= !g_strcmp0(json_string_value(json_object_get(item, key)), id);
    }
    json_decref(list);
    return found;
}

bool plug_is_in(struct guest_call *call, const char *id)
{
    return is_listed(call, "query-block", "device", id) || is_listed(call, "x-query-net", "id", id);
}

/* Waits for what the guest says of the device. */
static bool await_answer(struct guest_call *call, const char *id, double seconds, bool *refused)
{
    static const char *const names[] = {"DEVICE_DELETED", "DEVICE_UNPLUG_GUEST_ERROR", NULL};
    const gint64 end = g_get_monotonic_time() + (gint64)(seconds * G_USEC_PER_SEC);
    bool answered = false;
    for (gint64 left; !answered && (left = end - g_get_monotonic_time()) > 0;) {
        guest_call_set_timeout(call, (int)MIN(left / 1000 + 1, G_MAXINT));
        json_t *event = guest_call_event(call, names, NULL);
        if (!event)
            break;
        const char *about = json_string_value(json_object_get(json_object_get(event, "data"), "device"));
        answered = !g_strcmp0(about, id);
        *refused = answered && strcmp(json_string_value(json_object_get(event, "event")), names[0]) != 0;
        json_decref(event);
    }
    guest_call_set_timeout(call, GUEST_CALL_MS);
    return answered;
}

/* A device, and where the guest has it. */
struct place {
    const char *id;
    char text[16];
};

static bool is_place(json_t *port G_GNUC_UNUSED, json_t *in, void *opaque)
{
    struct place *place = opaque;
    if (!in || g_strcmp0(json_string_value(json_object_get(in, "qdev_id")), place->id) != 0)
        return false;
    g_snprintf(place->text, sizeof(place->text), "0000:%02x:%02x.0",
               (unsigned)json_integer_value(json_object_get(in, "bus")) & 0xff,
               (unsigned)json_integer_value(json_object_get(in, "slot")) & 0x1f);
    return true;
}

bool plug_ask_out(struct guest_call *call, const char *name, const char *id, double seconds, GError **error)
{
    struct place place = {.id = id};
    bool refused = false;
    each_port(call, is_place, &place, NULL);
    if (!guest_call_do(call, "device_del", json_pack("{s:s}", "id", id), error))
        return false;
    if (await_answer(call, id, seconds, &refused)) {
        return !refused || hostel_fail(error, HOSTEL_ERROR_HOST,
                                       "guest '%s' does not want to let go of '%s', and keeps it", name, id);
    }
    if (!plug_is_in(call, id)) /* or it does not answer at all */
        return guest_call_do(call, "query-status", NULL, error);
    return hostel_fail(
        error, HOSTEL_ERROR_HOST,
        "guest '%s' was asked to let go of '%s' and has not done so in %g s, so it keeps it; when "
        "its kernel has no driver for such slots, say in the guest: echo 1 > "
        "/sys/bus/pci/devices/%s/remove; and then unplug it again",
        name, id, seconds, *place.text ? place.text : "ADDRESS");
}

void plug_drop_disk(struct guest_call *call, const char *id, const json_t *layers)
{
    g_autofree char *image = node_name(id, "image"), *base = node_name(id, "base1");
    for (size_t i = json_array_size(layers); i-- > 0;)
        delete_node(call, json_string_value(json_array_get(layers, i)));
    delete_node(call, image);
    delete_node(call, base);
}

void plug_drop_net(struct guest_call *call, const char *id)
{
    guest_call_do(call, "netdev_del", json_pack("{s:s}", "id", id), NULL);
}
